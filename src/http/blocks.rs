//! `GET /blocks` and `GET /blocks/{index|hash|tip}`: the chain as the tutorial prints it, streamed from a snapshot.

use std::net::SocketAddr;
use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::info;

use super::App;
use super::problem::Problem;
use super::reads::Reads;
use super::schema;
use crate::ledger::{BlockHash, Height, SharedBlock, json};
use crate::server::taking::STALL;
use crate::store::Snapshot;

/// Blocks read at once: a chunk of a few hundred kilobytes of JSON.
const CHUNK_BLOCKS: usize = 1_000;

/// Bytes of entries read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Blocks of which anybody may read a part at any time, as the explorer does: one small chunk.
const SHORT: u64 = 100;

/// Part of the chain that is asked for.
#[derive(Deserialize)]
pub struct Part {
    from: Option<String>,
    limit: Option<String>,
}

/// The whole chain, or `limit` blocks from index `from` on, as a JSON array.
#[utoipa::path(
    get,
    path = "/blocks",
    tag = "chain",
    params(
        ("from" = Option<u64>, Query, format = "uint64", description = "Index of the first block"),
        ("limit" = Option<u64>, Query, format = "uint64", description = "Number of blocks"),
    ),
    responses((status = 200, description = "The blocks, streamed", body = [schema::Block])),
)]
pub async fn list(app: web::Data<App>, request: HttpRequest, part: web::Query<Part>) -> Result<HttpResponse, Problem> {
    let from = number("from", part.from.as_deref())?.unwrap_or(0);
    let limit = number("limit", part.limit.as_deref())?.unwrap_or(u64::MAX);
    let end = |snapshot: &Snapshot| snapshot.tip().height.0.saturating_add(1).min(from.saturating_add(limit));
    let long = end(&app.reader.snapshot()).saturating_sub(from) > SHORT;
    let seat = if long { Some(app.reads.seat().await?) } else { None };
    // As it is once there is a seat.
    let snapshot = app.reader.snapshot();
    let end = end(&snapshot);
    let cursor = Cursor { snapshot, next: from, end, begun: false, ended: false };
    let (chunks, mut body) = mpsc::channel(1);
    actix_web::rt::spawn(tell(cursor, app.reads.clone(), request.peer_addr(), seat, chunks));
    let body = stream::poll_fn(move |context| body.poll_recv(context));
    Ok(HttpResponse::Ok().content_type("application/json; charset=utf-8").streaming(body))
}

fn number(name: &str, text: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(Some(number)),
        _ => Err(Problem::bad_request(format!(
            "{name}={text} is not a whole number; for example /blocks?from=0&limit=10"
        ))),
    }
}

/// Where the stream is.
struct Cursor {
    snapshot: Snapshot,
    next: u64,
    end: u64,
    begun: bool,
    ended: bool,
}

/// Hands on the text of the array, chunk by chunk: memory is that of two chunks, whatever the chain's length, one that is
/// being sent and the next. A block that cannot be read breaks the stream off, so that nobody takes a part for the whole.
/// `_seat` is the reader's among those of more than [`SHORT`].
async fn tell(
    mut cursor: Cursor,
    reads: Reads,
    remote: Option<SocketAddr>,
    _seat: Option<OwnedSemaphorePermit>,
    chunks: mpsc::Sender<Result<Bytes, Problem>>,
) {
    loop {
        let begun = Instant::now();
        // Without a place the reader went away, or was cut off by its connection.
        let Ok(place) = chunks.reserve().await else {
            if begun.elapsed() >= STALL / 2 {
                info!(?remote, "reader of the chain dropped: it does not read");
            }
            return;
        };
        if cursor.ended {
            return;
        }
        match reads.read(move || chunk(cursor)).await {
            Ok((text, next)) => {
                place.send(Ok(text));
                cursor = next;
            }
            Err(problem) => return place.send(Err(problem)),
        }
    }
}

/// The next chunk of the array.
fn chunk(mut cursor: Cursor) -> Result<(Bytes, Cursor), Problem> {
    let mut text = Vec::with_capacity(CHUNK_BYTES * 2);
    if !cursor.begun {
        text.push(b'[');
    }
    if cursor.next < cursor.end {
        let wanted = usize::try_from(cursor.end - cursor.next).unwrap_or(usize::MAX).min(CHUNK_BLOCKS);
        let from = cursor.next;
        cursor.snapshot.views(Height(from), wanted, CHUNK_BYTES, &mut |_, block| {
            if cursor.begun {
                text.push(b',');
            }
            cursor.begun = true;
            json::write_view(&block, &mut text);
            cursor.next += 1;
        })?;
        if cursor.next == from {
            return Err(Problem::new(500, format!("block {from} cannot be read")));
        }
    }
    if cursor.next >= cursor.end {
        text.push(b']');
        cursor.ended = true;
    }
    cursor.begun = true;
    Ok((text.into(), cursor))
}

/// How a block is named in a path.
enum Name {
    Tip,
    Index(Height),
    Hash(BlockHash),
}

impl Name {
    fn parse(text: &str) -> Result<Self, Problem> {
        if text == "tip" {
            return Ok(Self::Tip);
        }
        if let Some(hash) = BlockHash::from_hex(&text.to_ascii_lowercase()) {
            return Ok(Self::Hash(hash));
        }
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        match text.parse() {
            Ok(index) if digits => Ok(Self::Index(Height(index))),
            _ => Err(Problem::bad_request(format!(
                "{:?} names no block; use an index, a hash of 64 hex characters, or tip",
                text.chars().take(80).collect::<String>()
            ))),
        }
    }
}

/// One block, with its hash and its confirmations in headers: blocks from it to the tip, itself included, and 0 for one that
/// is not on the best chain.
#[utoipa::path(
    get,
    path = "/blocks/{name}",
    tag = "chain",
    params(("name" = String, Path, description = "An index, a hash of 64 hex characters, or `tip`", pattern = "^(tip|[0-9]{1,16}|[0-9a-fA-F]{64})$", example = "tip")),
    responses(
        (status = 200, description = "The block", body = schema::Block, headers(
            ("Block-Hash" = String, description = "Its hash"),
            ("Confirmations" = u64, description = "Blocks from it to the tip, 0 off the best chain"),
        )),
        (status = 404, description = "There is no such block", body = schema::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn one(app: web::Data<App>, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let name = Name::parse(&name)?;
    let snapshot = app.reader.snapshot();
    // Read here and not on another thread: that takes microseconds, and the way there and back more.
    let (block, confirmations) = find(&snapshot, name)?;
    Ok(HttpResponse::Ok()
        .content_type("application/json; charset=utf-8")
        .insert_header(("Block-Hash", block.hash().to_string()))
        .insert_header(("Confirmations", confirmations.to_string()))
        .body(json::to_string(block.block())))
}

fn find(snapshot: &Snapshot, name: Name) -> Result<(SharedBlock, u64), Problem> {
    let tip = snapshot.tip().height;
    let on_best = |block: SharedBlock| {
        let confirmations = tip.0 - block.height().0 + 1;
        (block, confirmations)
    };
    let height = match name {
        Name::Tip => tip,
        Name::Index(height) => height,
        Name::Hash(hash) => {
            return match snapshot.block(&hash)? {
                Some((block, Some(_))) => Ok(on_best(block)),
                Some((block, None)) => Ok((block, 0)),
                None => Err(Problem::not_found(format!("no block has the hash {hash}"))),
            };
        }
    };
    let missing = || Problem::not_found(format!("there is no block {height} yet; the tip is block {tip}"));
    snapshot.block_at(height)?.map(on_best).ok_or_else(missing)
}
