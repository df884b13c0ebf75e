//! Client commands: HTTP to a running node. Answers go to stdout as they come, errors become a sentence and an exit code.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use awc::error::{ConnectError, SendRequestError};
use awc::http::{Method, StatusCode};
use futures_util::StreamExt;
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::exit::{FAILURE, Failure, UNREACHABLE, USAGE, in_system};
use crate::text::JsonOut;
use crate::tls::{self, TlsError};

/// How long a node may take to begin its answer.
const PATIENCE: Duration = Duration::from_secs(35);

/// Bytes of a problem that are read.
const MAX_PROBLEM: usize = 64 * 1024;

/// A running node, and how to talk to it.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    token: Option<Arc<str>>,
    /// Whom to trust behind `https://`.
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    /// A node at this address, which may want a token. Behind `https://` it shows a certificate that is signed by one in
    /// the file `ca`.
    ///
    /// # Errors
    /// The file cannot be used, or is needed and missing.
    pub fn new(url: &str, token: Option<Arc<str>>, ca: Option<&Path>) -> Result<Self, TlsError> {
        let secure = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        let tls = match ca {
            Some(ca) if secure => Some(tls::client(ca)?),
            None if secure => return Err(TlsError::NoAuthority { address: url.to_owned() }),
            Some(_) | None => None,
        };
        Ok(Self { url: url.trim_end_matches('/').to_owned(), token, tls })
    }

    /// Prints what a route answers.
    ///
    /// # Errors
    /// The node cannot be reached, or answers with a problem.
    pub fn get(&self, path: &str) -> Result<(), Failure> {
        in_system(async { print(self.request(Method::GET, path, None).await?).await })
    }

    /// Mines entries into one block and prints it.
    ///
    /// # Errors
    /// The node cannot be reached, or refuses the entries.
    pub fn mine(&self, entries: &[String]) -> Result<(), Failure> {
        self.post("/mineBlock", &json!({ "data": entries }))
    }

    /// Links a node with peers and prints the rows.
    ///
    /// # Errors
    /// The node cannot be reached, or refuses an address.
    pub fn add_peers(&self, peers: &[String]) -> Result<(), Failure> {
        self.post("/addPeers", &json!({ "peers": peers }))
    }

    /// Has a node take a kept branch over and prints what changed.
    ///
    /// # Errors
    /// The node cannot be reached, or keeps no such branch.
    pub fn adopt(&self, hash: &str) -> Result<(), Failure> {
        self.post(&format!("/forks/{hash}/adopt"), &json!({}))
    }

    /// Has a node mine another node's side blocks again and prints the receipts.
    ///
    /// # Errors
    /// The node cannot be reached, or keeps no such block.
    pub fn requeue(&self, hash: &str) -> Result<(), Failure> {
        self.post(&format!("/forks/{hash}/requeue"), &json!({}))
    }

    /// Has a node refuse links from an address and prints until when.
    ///
    /// # Errors
    /// The node cannot be reached, or it is no address.
    pub fn ban(&self, address: &str, seconds: Option<u64>) -> Result<(), Failure> {
        self.post("/bans", &json!({ "address": address, "seconds": seconds }))
    }

    /// Has a node forget a ban.
    ///
    /// # Errors
    /// The node cannot be reached, or knows nothing against the address.
    pub fn unban(&self, address: &str) -> Result<(), Failure> {
        let path = format!("/bans/{address}");
        in_system(async { self.request(Method::DELETE, &path, None).await.map(drop) })
    }

    /// Prints blocks.
    ///
    /// # Errors
    /// The node cannot be reached, or has no such block.
    pub fn blocks(&self, block: Option<&str>, from: Option<u64>, limit: Option<u64>) -> Result<(), Failure> {
        let path = match block {
            Some(block) => format!("/blocks/{block}"),
            None => {
                let part = |name: &str, value: Option<u64>| value.map(|value| format!("{name}={value}"));
                let parts: Vec<String> = [part("from", from), part("limit", limit)].into_iter().flatten().collect();
                format!("/blocks?{}", parts.join("&"))
            }
        };
        self.get(&path)
    }

    /// Succeeds if the node is ready.
    ///
    /// # Errors
    /// The node cannot be reached, or says why it is not ready.
    pub fn health(&self) -> Result<(), Failure> {
        in_system(async { self.request(Method::GET, "/readyz", None).await.map(drop) })
    }

    fn post(&self, path: &str, body: &Value) -> Result<(), Failure> {
        in_system(async { print(self.request(Method::POST, path, Some(body)).await?).await })
    }

    /// Sends a request and answers with the response if it is a success.
    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<awc::ClientResponse, Failure> {
        tls::install();
        let builder = awc::Client::builder().timeout(PATIENCE).disable_redirects();
        let client = match &self.tls {
            Some(tls) => builder.connector(awc::Connector::new().rustls_0_23(Arc::clone(tls))).finish(),
            None => builder.finish(),
        };
        let mut request = client.request(method, format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let sent = match body {
            Some(body) => request.send_json(body).await,
            None => request.send().await,
        };
        let mut response = sent.map_err(|error| match error {
            SendRequestError::Url(error) => Failure::new(USAGE, format!("--url {}: {error}", self.url)),
            SendRequestError::Http(error) => Failure::new(USAGE, format!("--url {}: {error}", self.url)),
            SendRequestError::Connect(ConnectError::Io(error)) if tls::explain(&error).is_some() => {
                let why = tls::explain(&error).unwrap_or_default();
                Failure::new(UNREACHABLE, format!("no node to be trusted answers at {}: {why}", self.url))
            }
            error => Failure::new(UNREACHABLE, format!("no node answers at {}: {error}", self.url)),
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let text = response.body().limit(MAX_PROBLEM).await.unwrap_or_default();
        Err(Failure::new(FAILURE, sentence(response.status(), &text)))
    }
}

/// What an error's answer says.
fn sentence(status: StatusCode, body: &[u8]) -> String {
    let problem: Option<Value> = serde_json::from_slice(body).ok();
    match problem.as_ref().and_then(|problem| problem["detail"].as_str()) {
        Some(detail) => detail.to_owned(),
        None => format!("the node answered {status}"),
    }
}

/// Writes an answer to stdout as it arrives.
async fn print(mut response: awc::ClientResponse) -> Result<(), Failure> {
    let stdout = std::io::stdout();
    // Files and programs get every byte as it is.
    let mut out: Box<dyn Write> = if stdout.is_terminal() { Box::new(JsonOut::new(stdout)) } else { Box::new(stdout) };
    while let Some(chunk) = response.next().await {
        let chunk = chunk.map_err(|error| Failure::new(FAILURE, format!("the answer broke off: {error}")))?;
        if out.write_all(&chunk).is_err() {
            // The reader has seen enough.
            return Ok(());
        }
    }
    let _ = writeln!(out);
    Ok(())
}
