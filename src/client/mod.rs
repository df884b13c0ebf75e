//! A running node, asked over HTTP: what the client commands are made of.
//!
//! Owns the connection and what a failure means; prints nothing. [`events`] follows what happens on the node.

pub mod events;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use awc::ClientResponse;
use awc::error::{ConnectError, SendRequestError};
use awc::http::header::RETRY_AFTER;
use awc::http::{Method, StatusCode};
use futures_util::StreamExt;
use rustls::ClientConfig;
use serde_json::Value;
use thiserror::Error;

use crate::exit::{FAILURE, Failure, UNREACHABLE, USAGE};
use crate::tls::{self, TlsError};

/// How long a node may take to begin its answer: longer than the node itself gives a request.
const PATIENCE: Duration = Duration::from_secs(35);

/// Bytes of a problem that are read.
const MAX_PROBLEM: usize = 64 * 1024;

/// Bytes of an answer that is read whole: a block of 1 MiB, each byte escaped as six, and its header.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why there is no answer to go on with.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The address cannot be used.
    #[error("--url {url}: {why}")]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// No node is there, or the way to it broke.
    #[error("no node answers at {url}: {why}")]
    Unreachable {
        /// The address.
        url: String,
        /// What the system says.
        why: String,
    },
    /// Somebody is there whose certificate is not to be trusted.
    #[error("no node to be trusted answers at {url}: {why}")]
    Untrusted {
        /// The address.
        url: String,
        /// What is wrong with the certificate.
        why: String,
    },
    /// The node answered with a problem.
    #[error("{sentence}")]
    Refused {
        /// HTTP's number for it.
        status: u16,
        /// What the node says.
        sentence: String,
        /// When it may go better.
        retry_after: Option<Duration>,
    },
    /// The answer broke off, or is not what the route answers.
    #[error("the answer of {url} {why}")]
    Answer {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Url { .. } => USAGE,
            ClientError::Unreachable { .. } | ClientError::Untrusted { .. } => UNREACHABLE,
            ClientError::Refused { .. } | ClientError::Answer { .. } => FAILURE,
        };
        Self::new(code, error)
    }
}

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

    /// The node's address, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `GET path`, if the node answers with success.
    ///
    /// # Errors
    /// The node cannot be reached, or answers with a problem.
    pub async fn get(&self, path: &str) -> Result<ClientResponse, ClientError> {
        self.send(Method::GET, path, None, None).await
    }

    /// `GET path` as JSON.
    ///
    /// # Errors
    /// As [`Client::get`], or the answer is no JSON.
    pub async fn get_json(&self, path: &str) -> Result<Value, ClientError> {
        let answer = self.get(path).await?;
        self.json_of(answer).await
    }

    /// `POST path` with JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<ClientResponse, ClientError> {
        self.send(Method::POST, path, Some(body), None).await
    }

    /// `POST path` with JSON, named so that a repetition does nothing twice.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post_once(&self, path: &str, body: &Value, key: &str) -> Result<ClientResponse, ClientError> {
        self.send(Method::POST, path, Some(body), Some(key)).await
    }

    /// `DELETE path`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete(&self, path: &str) -> Result<ClientResponse, ClientError> {
        self.send(Method::DELETE, path, None, None).await
    }

    /// A whole answer as JSON.
    ///
    /// # Errors
    /// It broke off, is too long, or is no JSON.
    pub async fn json_of(&self, answer: ClientResponse) -> Result<Value, ClientError> {
        let text = answer.timeout(PATIENCE).body().limit(MAX_ANSWER).await.map_err(|error| self.broken(error))?;
        serde_json::from_slice(&text)
            .map_err(|error| ClientError::Answer { url: self.url.clone(), why: format!("is no JSON: {error}") })
    }

    /// The next piece of an answer; `None` at its end.
    ///
    /// # Errors
    /// It broke off, or nothing came for too long.
    pub async fn chunk_of(&self, answer: &mut ClientResponse) -> Result<Option<bytes::Bytes>, ClientError> {
        match tokio::time::timeout(PATIENCE, answer.next()).await {
            Ok(chunk) => chunk.transpose().map_err(|error| self.broken(error)),
            Err(_) => Err(self.broken(format!("nothing came for {} s", PATIENCE.as_secs()))),
        }
    }

    fn broken(&self, why: impl ToString) -> ClientError {
        ClientError::Answer { url: self.url.clone(), why: format!("broke off: {}", why.to_string()) }
    }

    /// Sends a request and answers with the response if it is a success.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<ClientResponse, ClientError> {
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
        if let Some(key) = key {
            request = request.insert_header(("Idempotency-Key", key));
        }
        let sent = match body {
            Some(body) => request.send_json(body).await,
            None => request.send().await,
        };
        let url = || self.url.clone();
        let mut response = sent.map_err(|error| match error {
            SendRequestError::Url(error) => ClientError::Url { url: url(), why: error.to_string() },
            SendRequestError::Http(error) => ClientError::Url { url: url(), why: error.to_string() },
            SendRequestError::Connect(ConnectError::Io(error)) if tls::explain(&error).is_some() => {
                ClientError::Untrusted { url: url(), why: tls::explain(&error).unwrap_or_default() }
            }
            error => ClientError::Unreachable { url: url(), why: error.to_string() },
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.body().limit(MAX_PROBLEM).await.unwrap_or_default();
        Err(ClientError::Refused {
            status: response.status().as_u16(),
            sentence: sentence(response.status(), &text),
            retry_after: retry_after.map(Duration::from_secs),
        })
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
