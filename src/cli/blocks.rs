//! `dolmen blocks`: one block, or a part of the chain, as JSON or as a table.

use awc::ClientResponse;
use clap::Args;

use super::ClientArgs;
use super::chain::{self, Part};
use super::forks::path_part;
use super::output::{Out, count, utc, visible};
use super::progress::{self, Unit};
use crate::client::{Client, ClientError};
use crate::exit::{FAILURE, Failure};
use crate::ledger::{CheckedBlock, json, rules};

/// Columns before the entry in a table: index, time, hash, number of entries.
const BEFORE_ENTRY: usize = 10 + 21 + 14 + 9;

#[derive(Debug, Args)]
pub struct BlocksArgs {
    /// Index, hash or `tip`; all without
    block: Option<String>,
    /// First index
    #[arg(long, conflicts_with = "block")]
    from: Option<u64>,
    /// Number of blocks
    #[arg(long, conflicts_with = "block")]
    limit: Option<u64>,
    #[command(flatten)]
    client: ClientArgs,
}

impl BlocksArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| match &self.block {
            Some(name) => one(client, name, out).await,
            None => {
                let part = Part { from: self.from.unwrap_or(0), limit: self.limit.unwrap_or(u64::MAX), after: None };
                many(client, part, out).await
            }
        })
    }
}

async fn one(client: &Client, name: &str, out: &mut Out) -> Result<(), Failure> {
    let answer = client.get(&format!("/blocks/{}", path_part(name))).await?;
    let hash = hash_of(&answer);
    let confirmations = answer.headers().get("Confirmations").and_then(|value| value.to_str().ok()?.parse().ok());
    let text = client.json_of(answer).await?.to_string();
    if !out.is_table() {
        return out.line(&text);
    }
    let block = json::parse_block(&text).map_err(|error| Failure::new(FAILURE, error))?;
    let place = match confirmations.unwrap_or(0u64) {
        0 => out.style.warn("off the best chain"),
        number => count(number, "confirmation", "confirmations"),
    };
    let style = out.style;
    out.line(&format!("{}  {place}", style.bold(&format!("block {}", block.header.index))))?;
    for (name, value) in [
        ("hash", hash.unwrap_or_default()),
        ("previous", block.header.previous_hash.to_string()),
        ("merkleRoot", block.header.merkle_root.to_string()),
        ("time", format!("{} UTC ({})", utc(block.header.time.0), block.header.time)),
        ("version", block.header.version.as_str().to_owned()),
    ] {
        out.line(&format!("{}  {}", style.dim(&format!("{name:<10}")), visible(&value, 100)))?;
    }
    for (place, entry) in block.body.iter().enumerate() {
        out.line(&format!("{}  {}", style.dim(&format!("{place:>10}")), visible(entry, out.width.saturating_sub(12))))?;
    }
    Ok(())
}

async fn many(client: &Client, part: Part, out: &mut Out) -> Result<(), Failure> {
    let total = chain::length(client, part).await.ok();
    // A bar between the lines of a table would be in their way.
    let bar = progress::bar("reading", Unit::Blocks, total, out.terminal);
    if out.is_table() {
        let head = format!("{:>8}  {:<19}  {:<12}  {:>7}  FIRST ENTRY", "INDEX", "TIME (UTC)", "HASH", "ENTRIES");
        out.line(&out.style.dim(&head))?;
        chain::read(client, part, |block, _| {
            bar.inc(1);
            out.line(&row(block, out.width))
        })
        .await?;
        return Ok(());
    }
    // Nothing is written before the node has answered.
    let mut before: &[u8] = b"[";
    chain::read(client, part, |_, text| {
        bar.inc(1);
        out.bytes(std::mem::replace(&mut before, b","))?;
        out.bytes(text)
    })
    .await?;
    bar.finish_and_clear();
    if before == b"[" {
        out.bytes(before)?;
    }
    out.bytes(b"]\n")
}

/// The hash of the block at an index, as the node says it; `None` above its tip.
pub async fn hash_at(client: &Client, index: u64) -> Result<Option<String>, ClientError> {
    match client.get(&format!("/blocks/{index}")).await {
        Ok(answer) => Ok(hash_of(&answer)),
        Err(ClientError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The hash that the node writes beside a block; a node of the tutorial does not.
pub fn hash_of(answer: &ClientResponse) -> Option<String> {
    Some(answer.headers().get("Block-Hash")?.to_str().ok()?.to_owned())
}

/// A block as a line of a table.
pub fn row(block: &CheckedBlock, width: usize) -> String {
    format!(
        "{:>8}  {}  {}  {:>7}  {}",
        block.height(),
        utc(block.header().time.0),
        &block.hash().to_hex().as_str()[..12],
        block.body().len(),
        visible(block.body().first().map_or("", String::as_str), width.saturating_sub(BEFORE_ENTRY))
    )
}

/// A node's block in JSON, judged alone.
pub fn parse(text: &str) -> Result<CheckedBlock, Failure> {
    let block = json::parse_block(text).map_err(|error| Failure::new(FAILURE, error))?;
    let time = block.header.time;
    rules::check_alone(block, time).map_err(|error| Failure::new(FAILURE, error))
}
