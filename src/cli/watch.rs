//! `dolmen watch`: what happens on a node, line by line, until Ctrl-C.
//!
//! Looks at the node again and again: its tip, its peers, its sync. What is shown is what changed between two looks; blocks
//! are read one by one, so none of the chain is left out, and a change below the last block shown is a reorg.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::{Value, json};

use super::output::{Out, count, utc, visible};
use super::status::progress;
use super::{ClientArgs, blocks};
use crate::client::{Client, ClientError};
use crate::exit::{FAILURE, Failure};
use crate::ledger::{CheckedBlock, Tip, json as text};
use crate::signals::Signals;

/// Blocks that are shown at once; of more only how many they were.
const MAX_SHOWN: u64 = 200;

/// Hashes below the tip that are remembered, to say how deep a reorg was.
const REMEMBERED: usize = 2_000;

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Milliseconds between two looks
    #[arg(long, value_name = "MILLIS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    interval: u64,
    /// Begin with the block at this index instead of the next one
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    #[command(flatten)]
    client: ClientArgs,
}

impl WatchArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| {
            let mut signals = Signals::listen().map_err(|error| Failure::new(FAILURE, error))?;
            let mut watcher = Watcher::begin(client, out, self.from).await?;
            loop {
                let look = async {
                    watcher.look().await?;
                    watcher.out.flush()?;
                    tokio::time::sleep(Duration::from_millis(self.interval)).await;
                    Ok::<(), Failure>(())
                };
                tokio::select! {
                    looked = look => looked?,
                    () = signals.first() => return Ok(()),
                }
            }
        })
    }
}

/// What was seen of a peer.
type Seen = BTreeMap<u64, String>;

struct Watcher<'a> {
    client: &'a Client,
    out: &'a mut Out,
    /// Index of the next block to show.
    next: u64,
    /// Hashes of blocks that were seen, by index.
    hashes: BTreeMap<u64, String>,
    peers: Seen,
    sync: Value,
    away: bool,
}

impl<'a> Watcher<'a> {
    async fn begin(client: &'a Client, out: &'a mut Out, from: Option<u64>) -> Result<Self, Failure> {
        let status = client.get_json("/status").await?;
        let (index, hash) = tip_of(&status);
        let mut watcher = Self {
            client,
            out,
            next: from.unwrap_or(index + 1),
            hashes: BTreeMap::new(),
            peers: Seen::new(),
            sync: Value::Null,
            away: false,
        };
        if from.is_none() {
            watcher.hashes.insert(index, hash.clone());
        }
        let sentence = format!("watching {} from block {}; Ctrl-C ends", client.url(), watcher.next);
        watcher.say("watching", json!({ "url": client.url(), "index": index, "hash": hash }), &sentence)?;
        Ok(watcher)
    }

    /// Shows what changed since the last look.
    async fn look(&mut self) -> Result<(), Failure> {
        match self.try_look().await {
            Ok(()) if self.away => {
                self.away = false;
                self.say("back", json!({}), "the node is back")
            }
            Ok(()) => Ok(()),
            Err(Looked::Away(error)) if self.away => {
                drop(error);
                Ok(())
            }
            Err(Looked::Away(error)) => {
                self.away = true;
                self.say("away", json!({ "why": error.to_string() }), &format!("{error}; trying again"))
            }
            Err(Looked::Ends(failure)) => Err(failure),
        }
    }

    async fn try_look(&mut self) -> Result<(), Looked> {
        let status = self.client.get_json("/status").await?;
        self.show_sync(&status["sync"])?;
        let rows = self.client.get_json("/peers").await?;
        self.show_peers(&rows)?;
        self.show_blocks(&status).await
    }

    fn show_sync(&mut self, sync: &Value) -> Result<(), Failure> {
        let before = std::mem::replace(&mut self.sync, sync.clone());
        if before == *sync {
            return Ok(());
        }
        match progress(sync) {
            Some(line) => self.say("sync", sync.clone(), &format!("sync  {line}")),
            None => self.say("sync", Value::Null, "sync  done"),
        }
    }

    fn show_peers(&mut self, rows: &Value) -> Result<(), Failure> {
        let linked = rows.as_array().into_iter().flatten().filter_map(|row| {
            let words = ["kind", "direction", "address"].map(|name| super::peers::text(&row[name]));
            Some((row["id"].as_u64()?, words.join(" ")))
        });
        let now: Seen = linked.collect();
        let before = std::mem::replace(&mut self.peers, now.clone());
        for (id, what) in now.iter().filter(|(id, what)| before.get(id) != Some(what)) {
            let event = json!({ "id": id, "state": "linked", "peer": what });
            self.say("peer", event, &format!("peer  {id} linked: {what}"))?;
        }
        for (id, what) in before.iter().filter(|(id, _)| !now.contains_key(id)) {
            let event = json!({ "id": id, "state": "gone", "peer": what });
            self.say("peer", event, &format!("peer  {id} gone: {what}"))?;
        }
        Ok(())
    }

    async fn show_blocks(&mut self, status: &Value) -> Result<(), Looked> {
        let (tip, _) = tip_of(status);
        self.show_reorg(tip).await?;
        if tip >= self.next.saturating_add(MAX_SHOWN) {
            let skipped = tip + 1 - MAX_SHOWN - self.next;
            let line = format!("block {} to {} are not shown one by one", self.next, self.next + skipped - 1);
            self.say("skipped", json!({ "from": self.next, "blocks": skipped }), &line)?;
            self.next += skipped;
        }
        while self.next <= tip {
            let block = self.block(&self.next.to_string()).await?;
            let Some(block) = block else { return Ok(()) };
            self.show_block(&block)?;
        }
        Ok(())
    }

    /// Whether the blocks that were shown are still on the chain, and which are not.
    async fn show_reorg(&mut self, tip: u64) -> Result<(), Looked> {
        let Some((&last, _)) = self.hashes.last_key_value() else { return Ok(()) };
        let mut at = last;
        let mut left = 0u64;
        while let Some(hash) = self.hashes.get(&at) {
            let now = if at > tip { None } else { self.block(&at.to_string()).await? };
            if now.is_some_and(|block| block.hash().to_string() == *hash) {
                break;
            }
            self.hashes.remove(&at);
            left += 1;
            let Some(below) = at.checked_sub(1) else { break };
            at = below;
        }
        if left == 0 {
            return Ok(());
        }
        // When none of the remembered blocks is left, it was at least so many.
        let (fork, known) = (at, self.hashes.contains_key(&at));
        let bound = if known { "" } else { "at least " };
        let line = format!("reorg {bound}{} left the chain above block {fork}", count(left, "block", "blocks"));
        self.next = fork + 1;
        self.say("reorg", json!({ "fork": fork, "left": left, "exact": known }), &self.out.style.warn(&line))?;
        Ok(())
    }

    async fn block(&self, name: &str) -> Result<Option<CheckedBlock>, Looked> {
        match self.client.get_json(&format!("/blocks/{name}")).await {
            Ok(value) => Ok(Some(blocks::parse(&value.to_string())?)),
            // A reorg made the chain shorter for a moment: the next look sees it.
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn show_block(&mut self, block: &CheckedBlock) -> Result<(), Failure> {
        let Tip { height, hash } = block.tip();
        self.hashes.insert(height.0, hash.to_string());
        while self.hashes.len() > REMEMBERED {
            self.hashes.pop_first();
        }
        self.next = height.0 + 1;
        let first = block.body().first().map_or("", String::as_str);
        let start =
            format!("block {height}  {}  {}  ", hash.short(), count(block.body().len() as u64, "entry", "entries"));
        let room = self.out.width.saturating_sub(start.len() + 12);
        let line = format!("{start}{}", visible(first, room));
        // The block's own text: the same form as everywhere.
        let block: Value = serde_json::from_str(&text::to_string(block.block())).unwrap_or_default();
        self.say("block", json!({ "index": height, "hash": hash.to_string(), "block": block }), &line)
    }

    /// One event: a sentence with the time of day, or an object on a line.
    fn say(&mut self, kind: &str, event: Value, sentence: &str) -> Result<(), Failure> {
        if self.out.is_table() {
            let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
            let clock = utc(now).split_off(11);
            return self.out.line(&format!("{}  {sentence}", self.out.style.dim(&clock)));
        }
        let mut line = json!({ "event": kind });
        if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), event) {
            line.extend(fields);
        }
        self.out.line(&line.to_string())
    }
}

fn tip_of(status: &Value) -> (u64, String) {
    let hash = status["tip"]["hash"].as_str().unwrap_or_default();
    (status["tip"]["index"].as_u64().unwrap_or_default(), hash.to_owned())
}

/// Why a look ended early.
enum Looked {
    /// The node is not there for now.
    Away(ClientError),
    Ends(Failure),
}

impl From<ClientError> for Looked {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Url { .. } => Self::Ends(error.into()),
            error => Self::Away(error),
        }
    }
}

impl From<Failure> for Looked {
    fn from(failure: Failure) -> Self {
        Self::Ends(failure)
    }
}
