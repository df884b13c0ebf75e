//! `GET /search?text=`: blocks with an entry that contains a text, newest first, a bounded part of the chain at a time.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::problem::Problem;
use super::schema;
use crate::ledger::storage::StorageError;
use crate::ledger::{Height, SharedBlock};
use crate::store::Snapshot;

/// Blocks that one request looks through: some tens of milliseconds.
const MAX_LOOKED: u64 = 20_000;

/// Bytes of entries after which a request looks no further.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Entries that one request finds: more than a person reads.
const MAX_FOUND: usize = 50;

/// Bytes of a text to look for.
const MAX_TEXT: usize = 256;

/// Blocks read at once, at most and at first; fewer where they are large, so that memory stays bounded.
const AT_ONCE: u64 = 1_000;

/// Bytes to be read at once, as far as the blocks before tell.
const BYTES_AT_ONCE: usize = 256 * 1024;

/// Characters of an entry that are shown before and after the place that was found.
const AROUND: usize = 60;

/// What is looked for, and where to go on.
#[derive(Deserialize)]
pub struct Query {
    text: Option<String>,
    before: Option<String>,
}

/// Entries that contain a text, in any case of letters, in blocks below `before` or from the tip down. Says how far it
/// looked: `to` is the lowest block, and `next` is `before` for going on, or `null` at genesis.
#[utoipa::path(
    get,
    path = "/search",
    tag = "chain",
    params(
        ("text" = String, Query, min_length = 1, max_length = 256, description = "What to look for, in any case of letters; at most 256 bytes", example = "hello"),
        ("before" = Option<u64>, Query, format = "uint64", description = "Looks at blocks below this index only"),
    ),
    responses((status = 200, description = "What was found, and how far down", body = schema::Found)),
)]
pub async fn search(app: web::Data<App>, query: web::Query<Query>) -> Result<HttpResponse, Problem> {
    let example = "for example /search?text=hello";
    let text = query.text.as_deref().unwrap_or_default().to_lowercase();
    if text.is_empty() || text.len() > MAX_TEXT {
        return Err(Problem::bad_request(format!("text has 1 to {MAX_TEXT} bytes; {example}")));
    }
    let before = match query.before.as_deref() {
        None => None,
        Some(number) => {
            let digits = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
            let before = number.parse::<u64>().ok().filter(|_| digits);
            let bad = || Problem::bad_request(format!("before is a block's index; {example}&before=1000"));
            Some(before.ok_or_else(bad)?)
        }
    };
    let snapshot = app.reader.snapshot();
    let end = snapshot.tip().height.0.saturating_add(1);
    let end = before.map_or(end, |before| before.min(end));
    let found = app.reads.read(move || look(&snapshot, &text, end)).await?;
    Ok(HttpResponse::Ok().json(json!({
        "found": found.rows,
        "from": end.checked_sub(1),
        "to": found.to,
        "next": (found.to > 0).then_some(found.to),
    })))
}

struct Found {
    rows: Vec<Value>,
    /// The lowest block that was looked at.
    to: u64,
}

/// Looks from below `end` down.
fn look(snapshot: &Snapshot, text: &str, end: u64) -> Result<Found, StorageError> {
    let mut found = Found { rows: Vec::new(), to: end };
    let mut at_once = AT_ONCE;
    let mut bytes = 0;
    while found.to > 0 && end - found.to < MAX_LOOKED && bytes < MAX_BYTES && found.rows.len() < MAX_FOUND {
        let from = found.to.saturating_sub(at_once);
        let blocks = run(snapshot, from, found.to)?;
        let read: usize = blocks.iter().map(|block| block.block().body_bytes()).sum();
        for block in blocks.iter().rev() {
            found.rows.extend(rows(block, text));
            found.to = block.height().0;
            if found.rows.len() >= MAX_FOUND {
                break;
            }
        }
        bytes += read;
        // Each run tells how large blocks are here: the next one reads about as much as is wanted.
        let blocks_read = blocks.len() as u64;
        at_once = (blocks_read * BYTES_AT_ONCE as u64 / (read as u64).max(1)).clamp(1, AT_ONCE);
    }
    Ok(found)
}

/// All blocks from one index to below another.
fn run(snapshot: &Snapshot, from: u64, end: u64) -> Result<Vec<SharedBlock>, StorageError> {
    let mut blocks: Vec<SharedBlock> = Vec::new();
    while (blocks.len() as u64) < end - from {
        let next = from + blocks.len() as u64;
        // A difference of at most AT_ONCE.
        let more = snapshot.blocks(Height(next), (end - next) as usize, MAX_BYTES)?;
        if more.is_empty() {
            return Err(StorageError::Damaged(format!("block {next} cannot be read").into()));
        }
        blocks.extend(more);
    }
    Ok(blocks)
}

fn rows<'a>(block: &'a SharedBlock, text: &'a str) -> impl Iterator<Item = Value> + 'a {
    let places = block.block().body.iter().enumerate().filter_map(move |(position, entry)| {
        let around = around(entry, text)?;
        Some(json!({
            "index": block.height(), "hash": block.hash().to_string(), "position": position, "entry": around,
        }))
    });
    places.take(MAX_FOUND)
}

/// The part of an entry around a text in lower case; `None` if it is not in it.
fn around(entry: &str, text: &str) -> Option<String> {
    let lower = entry.to_lowercase();
    let at = lower.find(text)?;
    // Lower case may have other lengths than the entry: characters are counted, which is near enough for an excerpt.
    let begin = lower[..at].chars().count();
    let skip = begin.saturating_sub(AROUND);
    let mut part: String = entry.chars().skip(skip).take(begin - skip + text.chars().count() + AROUND).collect();
    if skip > 0 {
        part.insert(0, '…');
    }
    if entry.chars().nth(begin + text.chars().count() + AROUND).is_some() {
        part.push('…');
    }
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_stands_around_the_place() {
        assert_eq!(around("Hello World", "o w").as_deref(), Some("Hello World"));
        assert_eq!(around("Hello World", "x"), None);
        let long = format!("{}돌 Needle{}", "한".repeat(100), "글".repeat(100));
        let part = around(&long, "needle").expect("it is there");
        assert_eq!(part, format!("…{}돌 Needle{}…", "한".repeat(58), "글".repeat(60)));
    }
}
