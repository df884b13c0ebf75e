//! A node without `GET /events`, looked at again and again: its tip, its peers, its sync. What changed between two looks
//! is told as the events would tell it. Blocks are read one by one, so none of the chain is left out, and a change below
//! the last block that was told is a reorg.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Happening, MAX_SHOWN, Place};
use crate::cli::blocks;
use crate::client::{Client, ClientError};
use crate::exit::Failure;

/// Hashes below the tip that are remembered, to say how deep a reorg was.
const REMEMBERED: usize = 2_000;

pub struct Poller<'a> {
    client: &'a Client,
    interval: Duration,
    /// Told, and not yet taken.
    told: VecDeque<Happening>,
    /// Hashes of blocks that were told, by index; never empty.
    hashes: BTreeMap<u64, String>,
    /// Peers by their number.
    peers: BTreeMap<u64, Value>,
    sync: Value,
    away: bool,
    looked: bool,
}

impl<'a> Poller<'a> {
    /// Tells what happens after a block.
    pub fn new(client: &'a Client, after: Place, interval: Duration) -> Self {
        Self {
            client,
            interval,
            told: VecDeque::new(),
            hashes: BTreeMap::from([(after.index, after.hash)]),
            peers: BTreeMap::new(),
            sync: Value::Null,
            away: false,
            looked: false,
        }
    }

    /// The next thing that happens; waits for it, however long.
    pub async fn next(&mut self) -> Result<Happening, Failure> {
        loop {
            if let Some(happening) = self.told.pop_front() {
                return Ok(happening);
            }
            if std::mem::replace(&mut self.looked, true) {
                tokio::time::sleep(self.interval).await;
            }
            match self.look().await {
                Ok(()) if self.away => {
                    self.away = false;
                    self.told.push_front(Happening::Back);
                }
                Ok(()) => {}
                Err(error @ ClientError::Url { .. }) => return Err(error.into()),
                Err(error) if !self.away => {
                    self.away = true;
                    self.told.push_back(Happening::Away(error));
                }
                Err(_) => {}
            }
        }
    }

    fn tell(&mut self, kind: &str, data: Value) {
        self.told.push_back(Happening::Event(kind.to_owned(), data));
    }

    async fn look(&mut self) -> Result<(), ClientError> {
        let status = self.client.get_json("/status").await?;
        let sync = status["sync"].clone();
        if self.sync != sync {
            self.sync = sync.clone();
            self.tell("sync", sync);
        }
        let rows = self.client.get_json("/peers").await?;
        self.look_at_peers(&rows);
        self.look_at_blocks(&Place::of(&status["tip"])).await
    }

    fn look_at_peers(&mut self, rows: &Value) {
        let linked = rows.as_array().into_iter().flatten();
        let now: BTreeMap<u64, Value> = linked.filter_map(|row| Some((row["id"].as_u64()?, row.clone()))).collect();
        let before = std::mem::replace(&mut self.peers, now.clone());
        for (id, peer) in &now {
            let change = if before.contains_key(id) { "changed" } else { "linked" };
            self.tell("peer", json!({ "change": change, "peer": peer }));
        }
        for (_, peer) in before.into_iter().filter(|(id, _)| !now.contains_key(id)) {
            self.tell("peer", json!({ "change": "closed", "peer": peer }));
        }
    }

    async fn look_at_blocks(&mut self, tip: &Place) -> Result<(), ClientError> {
        let mut at = self.look_below(tip).await?;
        if tip.index - at.min(tip.index) > MAX_SHOWN {
            let to = tip.index - MAX_SHOWN;
            // A reorg may have made the chain shorter for a moment: the next look sees it.
            let Some(hash) = blocks::hash_at(self.client, to).await? else { return Ok(()) };
            self.tell("skipped", json!({ "from": { "index": at }, "to": { "index": to, "hash": hash } }));
            self.hashes = BTreeMap::from([(to, hash)]);
            at = to;
        }
        for index in at + 1..=tip.index {
            let Some(hash) = blocks::hash_at(self.client, index).await? else { return Ok(()) };
            let block = self.client.get_json(&format!("/blocks/{hash}")).await?;
            self.tell("block", json!({ "hash": hash, "block": block }));
            self.hashes.insert(index, hash);
            while self.hashes.len() > REMEMBERED {
                self.hashes.pop_first();
            }
        }
        Ok(())
    }

    /// The index of the last block that was told and is still on the chain; if others were, tells that they left.
    async fn look_below(&mut self, tip: &Place) -> Result<u64, ClientError> {
        let Some((&last, old)) = self.hashes.last_key_value() else { return Ok(tip.index) };
        let (old, mut left, mut fork) = (old.clone(), 0, last);
        while let Some(hash) = self.hashes.get(&fork) {
            let now = if fork > tip.index { None } else { blocks::hash_at(self.client, fork).await? };
            if now.as_ref() == Some(hash) {
                break;
            }
            left += 1;
            let Some(below) = fork.checked_sub(1) else { break };
            fork = below;
        }
        if left == 0 {
            return Ok(last);
        }
        self.hashes.split_off(&(fork + 1));
        // When none of the remembered blocks is left, it was at least so many.
        let hash = self.hashes.get(&fork).cloned();
        let reorg = json!({
            "old": { "index": last, "hash": old },
            "fork": { "index": fork, "hash": hash },
            "new": { "index": tip.index, "hash": tip.hash },
            "depth": left,
            "length": tip.index.saturating_sub(fork),
        });
        self.tell("reorg", reorg);
        if hash.is_none()
            && let Some(hash) = blocks::hash_at(self.client, fork).await?
        {
            self.hashes.insert(fork, hash);
        }
        Ok(fork)
    }
}
