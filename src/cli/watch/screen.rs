//! What is shown of a node that is watched: a line for everything that happens, and on a terminal below them one that is
//! drawn again as time goes on.

use std::collections::BTreeMap;
use std::time::SystemTime;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::Happening;
use crate::cli::output::{Out, count, span, utc, visible};
use crate::cli::peers::{short, text};
use crate::cli::status::progress;
use crate::cli::{blocks, progress as bars};
use crate::client::Client;
use crate::exit::Failure;
use crate::ledger::{BlockHash, CheckedBlock, Tip, json as block_json};

pub struct Screen<'a> {
    url: String,
    out: &'a mut Out,
    /// The line that is drawn again; hidden unless people look at both streams.
    bar: ProgressBar,
    /// Index of the first block to show.
    from: u64,
    /// The last block's index and hash, and the time at which it was mined, as far as it is known.
    tip: (u64, String, Option<u64>),
    /// What was shown of each peer.
    peers: BTreeMap<u64, String>,
    /// Peers of before a break that were not told of again so far.
    unheard: Option<BTreeMap<u64, String>>,
    sync: Value,
    away: bool,
}

impl<'a> Screen<'a> {
    pub fn new(client: &Client, out: &'a mut Out, from: u64) -> Self {
        let bar = bars::line(!(out.terminal && out.is_table()));
        Self {
            url: client.url().to_owned(),
            out,
            bar,
            from,
            tip: (0, String::new(), None),
            peers: BTreeMap::new(),
            unheard: None,
            sync: Value::Null,
            away: false,
        }
    }

    /// The first line.
    pub fn begin(&mut self, index: u64, hash: &str) -> Result<(), Failure> {
        self.tip = (index, short(&json!(hash)), None);
        let sentence = format!("watching {} from block {}; Ctrl-C ends", self.url, self.from);
        self.say("watching", json!({ "url": self.url, "index": index, "hash": hash }), &sentence)
    }

    /// Shows what happened.
    pub fn show(&mut self, happening: Happening) -> Result<(), Failure> {
        match happening {
            Happening::Event(kind, data) => match kind.as_str() {
                "block" => self.block(&data)?,
                "reorg" => self.reorg(data)?,
                "peer" => self.peer(data)?,
                "sync" => self.sync(data)?,
                "skipped" => self.skipped(data)?,
                "reset" => self.reset(data)?,
                // A newer node may tell more.
                _ => {}
            },
            Happening::Away(error) => {
                self.away = true;
                self.say("away", json!({ "why": error.to_string() }), &format!("{error}; trying again"))?;
            }
            Happening::Back => {
                self.unheard = Some(self.peers.clone());
                if std::mem::take(&mut self.away) {
                    self.say("back", json!({}), "the node is back")?;
                }
            }
            Happening::Polling => {
                let sentence = "this node has no /events: looking again and again instead";
                self.say("polling", json!({}), sentence)?;
            }
        }
        self.tick();
        Ok(())
    }

    /// Draws the last line again.
    pub fn tick(&self) {
        if self.bar.is_hidden() {
            return;
        }
        let (index, hash, time) = &self.tip;
        let age = time.map(|time| format!("  mined {} ago", span(now().saturating_sub(time))));
        let links = count(self.peers.len() as u64, "link", "links");
        let state = if self.away { "away".to_owned() } else { progress(&self.sync).unwrap_or(links) };
        self.bar.set_message(format!("block {index} {hash}{}  {state}", age.unwrap_or_default()));
        self.bar.tick();
    }

    fn block(&mut self, data: &Value) -> Result<(), Failure> {
        let block = blocks::parse(&data["block"].to_string())?;
        let Tip { height, hash } = block.tip();
        self.tip = (height.0, short_hash(hash), Some(block.header().time.0));
        if height.0 < self.from {
            return Ok(());
        }
        let line = self.block_line(&block);
        // The block's own text: the same form as everywhere.
        let block: Value = serde_json::from_str(&block_json::to_string(block.block())).unwrap_or_default();
        self.say("block", json!({ "index": height, "hash": hash.to_string(), "block": block }), &line)
    }

    fn block_line(&self, block: &CheckedBlock) -> String {
        let entries = count(block.body().len() as u64, "entry", "entries");
        let start = format!("block {}  {}  {entries}  ", block.height(), short_hash(block.hash()));
        let room = self.out.width.saturating_sub(start.len() + 10);
        format!("{start}{}", visible(block.body().first().map_or("", String::as_str), room))
    }

    fn reorg(&mut self, data: Value) -> Result<(), Failure> {
        let number = |name: &str| data[name].as_u64().unwrap_or_default();
        let fork = data["fork"]["index"].as_u64().unwrap_or_default();
        let bound = if data["fork"]["hash"].is_string() { "" } else { "at least " };
        let again = match data["requeued"].as_array().map_or(0, Vec::len) as u64 {
            0 => String::new(),
            some => format!("; {} mined again", count(some, "submission is", "submissions are")),
        };
        let line = format!(
            "reorg {bound}{} left the chain above block {fork}, {}{again}",
            count(number("depth"), "block", "blocks"),
            count(number("length"), "enters", "enter"),
        );
        self.from = self.from.min(fork + 1);
        let line = self.out.style.warn(&line);
        self.say("reorg", data, &line)
    }

    /// Links that come and go, and what becomes known of them. Their tips and latencies move all the time: they are not
    /// shown.
    fn peer(&mut self, data: Value) -> Result<(), Failure> {
        let peer = &data["peer"];
        let Some(id) = peer["id"].as_u64() else { return Ok(()) };
        let words = ["kind", "direction", "address"].map(|name| text(&peer[name])).join(" ");
        if let Some(unheard) = &mut self.unheard {
            unheard.remove(&id);
        }
        if data["change"] == "closed" {
            self.peers.remove(&id);
            return self.say("peer", data, &format!("peer  {id} gone: {words}"));
        }
        let line = format!("peer  {id} linked: {words}");
        if self.peers.insert(id, words.clone()) == Some(words) { Ok(()) } else { self.say("peer", data, &line) }
    }

    fn sync(&mut self, data: Value) -> Result<(), Failure> {
        // Behind a break it follows the peers: those that were not among them are gone.
        for (id, words) in self.unheard.take().unwrap_or_default() {
            self.peers.remove(&id);
            let gone = json!({ "change": "closed", "peer": { "id": id } });
            self.say("peer", gone, &format!("peer  {id} gone: {words}"))?;
        }
        let before = std::mem::replace(&mut self.sync, data.clone());
        if before == data {
            return Ok(());
        }
        let line = match progress(&data) {
            // The last line shows how it goes on.
            Some(_) if self.out.is_table() && !before.is_null() && !self.bar.is_hidden() => return Ok(()),
            Some(line) => format!("sync  {line}"),
            None => "sync  done".to_owned(),
        };
        self.say("sync", json!({ "sync": data }), &line)
    }

    fn skipped(&mut self, data: Value) -> Result<(), Failure> {
        let index = |place: &Value| place["index"].as_u64().unwrap_or_default();
        let line = format!("block {} to {} are not shown one by one", index(&data["from"]) + 1, index(&data["to"]));
        self.say("skipped", data, &line)
    }

    fn reset(&mut self, data: Value) -> Result<(), Failure> {
        let (unknown, tip) = (&data["unknown"], &data["tip"]);
        let line = format!(
            "the node does not know block {} {}; going on from its tip, block {} {}",
            unknown["index"],
            short(&unknown["hash"]),
            tip["index"],
            short(&tip["hash"]),
        );
        let line = self.out.style.warn(&line);
        self.from = 0;
        self.say("reset", data, &line)
    }

    /// One event: a sentence with the time of day, or an object on a line.
    fn say(&mut self, kind: &str, event: Value, sentence: &str) -> Result<(), Failure> {
        let line = if self.out.is_table() {
            let clock = utc(now()).split_off(11);
            format!("{}  {sentence}", self.out.style.dim(&clock))
        } else {
            let mut line = json!({ "event": kind });
            if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), event) {
                line.extend(fields);
            }
            line.to_string()
        };
        let Self { bar, out, .. } = self;
        bar.suspend(|| {
            out.line(&line)?;
            out.flush()
        })
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn short_hash(hash: BlockHash) -> String {
    short(&json!(hash.to_string()))
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}
