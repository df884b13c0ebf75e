//! A node's chain over HTTP, block by block: memory is that of a few blocks, however long the chain is.
//!
//! What [`read`] brings is a chain: every block is judged by all rules and against the one before. What [`texts`] brings is
//! for others to judge. A connection that breaks is taken up again where it broke.

use std::time::Duration;

use super::elements::Elements;
use crate::actors::clock;
use crate::client::{Client, ClientError};
use crate::exit::{FAILURE, Failure, UNVERIFIED};
use crate::ledger::{CheckedBlock, Height, Tip, json, rules};

/// Blocks asked for at once: long enough that asking costs nothing, short enough that a reorg meets few of them.
const PAGE: u64 = 5_000;

/// Times in a row that a broken connection is taken up again.
const TRIES: u32 = 10;

/// Time between them.
const PAUSE: Duration = Duration::from_millis(500);

/// A part of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Index of the first block.
    pub from: u64,
    /// Blocks at most.
    pub limit: u64,
    /// The block before the first, where it is known.
    pub after: Option<Tip>,
}

/// How many blocks a part has now.
pub async fn length(client: &Client, part: Part) -> Result<u64, Failure> {
    let status = client.get_json("/status").await?;
    let blocks = status["blocks"].as_u64().unwrap_or_default();
    Ok(blocks.saturating_sub(part.from).min(part.limit))
}

/// Reads a part of a node's chain; `each` gets every block with its text as the node wrote it. Returns the last block.
pub async fn read(
    client: &Client,
    part: Part,
    mut each: impl FnMut(&CheckedBlock, &[u8]) -> Result<(), Failure>,
) -> Result<Option<Tip>, Failure> {
    let mut last = part.after;
    let next = texts(client, part.from, part.limit, |index, text| {
        let block = judge(text, index, last)?;
        each(&block, text)?;
        last = Some(block.tip());
        Ok(())
    });
    let next = next.await?;
    Ok(last.filter(|_| next > part.from))
}

/// Reads a part of a node's chain as it is; `each` gets the index and the text of what should be a block. Returns the index
/// after the last.
pub async fn texts(
    client: &Client,
    from: u64,
    limit: u64,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let end = from.saturating_add(limit);
    let mut next = from;
    let mut failures = 0;
    while next < end {
        let wanted = PAGE.min(end - next);
        let begun = next;
        let outcome = page(client, &mut next, wanted, &mut each).await;
        match outcome {
            // Fewer than were asked for: that was the tip. More: a node of the tutorial, which always sends all.
            Ok(()) if next - begun != wanted => break,
            Ok(()) => failures = 0,
            Err(Broken::Ends(failure)) => return Err(failure),
            Err(Broken::Link(error)) => {
                failures = if next > begun { 1 } else { failures + 1 };
                if next == from || failures > TRIES {
                    return Err(error.into());
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(next)
}

/// Why a page ended early.
enum Broken {
    /// The way to the node: it may work again.
    Link(ClientError),
    /// Anything else.
    Ends(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Ends(failure)
    }
}

async fn page(
    client: &Client,
    next: &mut u64,
    wanted: u64,
    each: &mut impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Broken> {
    let path = format!("/blocks?from={next}&limit={wanted}");
    let mut answer = client.get(&path).await.map_err(|error| match error {
        ClientError::Unreachable { .. } => Broken::Link(error),
        error => Broken::Ends(error.into()),
    })?;
    let mut elements = Elements::default();
    while let Some(chunk) = client.chunk_of(&mut answer).await.map_err(Broken::Link)? {
        elements.push(&chunk);
        loop {
            let text = elements.next().map_err(|error| Failure::new(FAILURE, format!("{}: {error}", client.url())))?;
            let Some(text) = text else { break };
            each(*next, text)?;
            *next += 1;
        }
    }
    let broke = |_| ClientError::Answer { url: client.url().to_owned(), why: "broke off".to_owned() };
    elements.finish().map(drop).map_err(|error| Broken::Link(broke(error)))
}

/// A block that obeys every rule, has this index, and follows the last.
fn judge(text: &[u8], index: u64, last: Option<Tip>) -> Result<CheckedBlock, Failure> {
    let bad = |why: String| Failure::new(UNVERIFIED, format!("block {index} of the node is not good: {why}"));
    let text = std::str::from_utf8(text).map_err(|error| bad(error.to_string()))?;
    let block = json::parse_block(text).map_err(|error| bad(error.to_string()))?;
    let block = rules::check_alone(block, clock::unix_time()).map_err(|error| bad(error.to_string()))?;
    match last {
        Some(last) if last.height.next() == block.height() && block.parent() != last.hash => Err(Failure::new(
            FAILURE,
            format!("the node's chain changed below block {index} while it was read; try again"),
        )),
        Some(last) => rules::check_with_parent(&block, last).map(|()| block).map_err(|error| bad(error.to_string())),
        None if index == 0 => rules::is_genesis(&block).map(|()| block).map_err(|error| bad(error.to_string())),
        None if block.height() == Height(index) => Ok(block),
        None => Err(bad(format!("it has the index {}", block.height()))),
    }
}
