//! `POST /mineBlock` and `GET /receipts/{id}`: entries in, and where they are now.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::bodies::{self, Entries};
use super::problem::Problem;
use super::schema;
use super::{App, MAX_REQUEST_BODY};
use crate::actors::chain::{Mine, Whereabouts};
use crate::actors::peers::CountHolders;
use crate::actors::replication::{Replication, replicated};
use crate::ledger::keeper::{MineRequest, Mined, Whereabouts as Place};
use crate::ledger::storage::SubmissionId;
use crate::ledger::{BlockHash, Tip, json, rules};

/// Characters of an idempotency key.
const MAX_KEY: usize = 255;

/// What a caller wants to wait for.
#[derive(Deserialize)]
pub struct Patience {
    wait: Option<String>,
    timeout: Option<String>,
}

/// How long a caller waits for other nodes unless it says.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest a caller may wait: a whole request has 30 s.
const MAX_TIMEOUT: Duration = Duration::from_secs(25);

impl Patience {
    /// How many peers are to hold the block, and how long to wait for that.
    fn parse(&self) -> Result<Option<(usize, Duration)>, Problem> {
        let bad = || Problem::bad_request("wait for other nodes with ?wait=replicated:2&timeout=5s; at most 25s");
        let timeout = match &self.timeout {
            None => DEFAULT_TIMEOUT,
            Some(text) => {
                let (number, unit) = match text.strip_suffix("ms") {
                    Some(number) => (number, 1),
                    None => (text.strip_suffix('s').unwrap_or(text), 1000),
                };
                let digits = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
                let number: u64 = number.parse().ok().filter(|_| digits).ok_or_else(bad)?;
                Duration::from_millis(number.saturating_mul(unit))
            }
        };
        if timeout > MAX_TIMEOUT {
            return Err(bad());
        }
        let Some(wait) = &self.wait else {
            return if self.timeout.is_none() { Ok(None) } else { Err(bad()) };
        };
        let peers = wait.strip_prefix("replicated:").ok_or_else(bad)?;
        let digits = !peers.is_empty() && peers.bytes().all(|c| c.is_ascii_digit());
        let peers = peers.parse().ok().filter(|_| digits).ok_or_else(bad)?;
        Ok(Some((peers, timeout)))
    }
}

/// Mines the entries into one block and answers with it once it is durable, and held by other nodes if the caller asks for
/// that; 202 if time runs out first.
#[utoipa::path(
    post,
    path = "/mineBlock",
    tag = "chain",
    params(
        ("wait" = Option<String>, Query, pattern = "^replicated:[0-9]{1,9}$", description = "`replicated:K`: answer once K native peers hold the block"),
        ("timeout" = Option<String>, Query, pattern = "^([0-9]{1,4}ms|(1?[0-9]|2[0-5])s?)$", description = "How long to wait for that, like `5s` or `500ms`; at most 25s"),
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "A repeated request with this key mines nothing twice"),
    ),
    request_body = schema::Entries,
    responses(
        (status = 200, description = "The block, durable", body = schema::Block, headers(
            ("Location" = String, description = "Where the receipt is"),
            ("Receipt-Id" = String, description = "The receipt's id"),
            ("Block-Hash" = String, description = "The block's hash"),
        )),
        (status = 202, description = "The block, durable here; time ran out before enough peers held it", body = schema::Block),
        (status = 413, description = "An entry, the body or the request is too large", body = schema::Problem, content_type = "application/problem+json"),
        (status = 422, description = "An entry breaks a rule, or the key came with other entries", body = schema::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn mine(
    app: web::Data<App>,
    request: HttpRequest,
    patience: web::Query<Patience>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let patience = patience.parse()?;
    let Entries { data } = body_of(&app, body, r#"{"data":["Hello"]}"#).await?;
    let key = idempotency_key(&request)?;
    // Whoever mines judges it too; of what is refused here that thread hears nothing.
    if let Err(rule) = rules::check_body(&data) {
        app.metrics.refused(rule.name());
        return Err(rule.into());
    }
    let mined = app.chain.send(Mine(MineRequest { entries: data, key })).await??;
    let replication = match patience {
        None => Replication::Held,
        Some((peers, timeout)) => replicated(&app.chain, &app.peers, mined.submission, peers, timeout).await,
    };
    let mut response = match replication {
        Replication::Held => HttpResponse::Ok(),
        Replication::TimedOut => HttpResponse::Accepted(),
    };
    Ok(acknowledged(&mut response, &mined))
}

fn acknowledged(response: &mut HttpResponseBuilder, mined: &Mined) -> HttpResponse {
    let receipt = receipt_id(&mined.submission);
    response
        .content_type("application/json; charset=utf-8")
        .insert_header(("Location", format!("/receipts/{receipt}")))
        .insert_header(("Receipt-Id", receipt))
        .insert_header(("Block-Hash", mined.block.hash().to_string()))
        .body(json::to_string(mined.block.block()))
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let Some(value) = request.headers().get("Idempotency-Key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= MAX_KEY => Ok(Some(key.to_owned())),
        _ => Err(Problem::bad_request(format!("an Idempotency-Key has 1 to {MAX_KEY} visible ASCII characters"))),
    }
}

/// A request's whole body, or why it could not be read.
pub type Body = Result<web::Bytes, actix_web::Error>;

/// Bytes of a body that are read at once where the request is answered: what takes longer than the way to another thread.
const READ_HERE: usize = 32 * 1024;

/// A request's body as JSON of a type.
///
/// # Errors
/// 413 for a body that is too large, 400 for one that does not fit, with an example of one that does.
pub async fn body_of<T>(app: &App, body: Body, example: &'static str) -> Result<T, Problem>
where
    T: DeserializeOwned + Send + 'static,
{
    let body = body.map_err(|error| match error.as_response_error().status_code() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(413, format!("the body has more than {MAX_REQUEST_BODY} bytes; send less at once"))
        }
        _ => Problem::bad_request(format!("the body could not be read: {error}")),
    })?;
    let (short, read) = (body.len() <= READ_HERE, move || {
        let unfit =
            |error| Problem::bad_request(format!("the body does not fit: {error}; it should look like {example}"));
        bodies::read(&body).map_err(unfit)
    });
    if short { read() } else { app.reads.read(read).await }
}

/// A receipt's id in text: the first block's hash, a dash, the place in its body.
pub(super) fn receipt_id(submission: &SubmissionId) -> String {
    format!("{}-{}", submission.block, submission.position)
}

fn parse_receipt_id(text: &str) -> Option<SubmissionId> {
    let (hash, position) = text.split_once('-')?;
    let digits = !position.is_empty() && position.bytes().all(|c| c.is_ascii_digit());
    let position = position.parse().ok().filter(|_| digits)?;
    Some(SubmissionId { block: BlockHash::from_hex(hash)?, position })
}

/// Where a submission is now.
#[utoipa::path(
    get,
    path = "/receipts/{id}",
    tag = "chain",
    params(("id" = String, Path, description = "As `Receipt-Id` gives it", pattern = "^[0-9a-f]{64}-[0-9]{1,9}$")),
    responses(
        (status = 200, description = "Where the submission is", body = schema::Receipt),
        (status = 404, description = "This node acknowledged no such submission", body = schema::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn receipt(app: web::Data<App>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let Some(submission) = parse_receipt_id(&id) else {
        return Err(Problem::bad_request(
            "a receipt's id is a block hash, a dash and a number, as Receipt-Id gives it",
        ));
    };
    let unknown = || Problem::not_found("this node has acknowledged nothing under that id");
    let place = app.chain.send(Whereabouts(submission)).await??.ok_or_else(unknown)?;
    let id = receipt_id(&submission);
    Ok(HttpResponse::Ok().json(match place {
        Place::Included { block, height, position, depth } => {
            let peers = app.peers.send(CountHolders(Tip { height, hash: block })).await?;
            json!({
                "id": id, "status": "included", "block": block.to_string(), "index": height, "position": position,
                "depth": depth, "peers": peers,
            })
        }
        Place::Orphaned { block } => json!({ "id": id, "status": "orphaned", "block": block.to_string() }),
    }))
}
