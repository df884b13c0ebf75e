//! A node of the tutorial as the simulator models it: one chain, strictly longer wins, one to three rounds of verification,
//! a coin, and an end at every frame that its program does not survive.

use dolmen::ledger::block::{Block, Header, Height, SharedBlock, UnixTime, Version};
use dolmen::ledger::{genesis, json, merkle, rules};
use dolmen::peer::message::{self, Text};
use rand::RngExt;
use rand::rngs::StdRng;

use super::wire::{ConnId, Out};

/// One tutorial node. Its chain is in memory, so it is never restarted.
#[derive(Debug)]
pub struct Tutorial {
    chain: Vec<SharedBlock>,
    conns: Vec<ConnId>,
    rng: StdRng,
    /// Why it crashed: nobody may ever see a reason here.
    pub crash: Option<String>,
}

impl Tutorial {
    /// A node at genesis.
    pub fn new(rng: StdRng) -> Self {
        Self { chain: vec![genesis::block()], conns: Vec::new(), rng, crash: None }
    }

    /// Its last block.
    pub fn last(&self) -> &SharedBlock {
        self.chain.last().expect("a chain has its genesis")
    }

    /// A link is open.
    pub fn opened(&mut self, conn: ConnId, out: &mut Vec<(ConnId, Out)>) {
        self.conns.push(conn);
        out.push((conn, Out::Text(message::query_last())));
    }

    /// A link is gone.
    pub fn closed(&mut self, conn: ConnId) {
        self.conns.retain(|other| *other != conn);
    }

    /// Its user mines a block. Returns it.
    pub fn mine(&mut self, entries: Vec<String>, now: UnixTime, out: &mut Vec<(ConnId, Out)>) -> SharedBlock {
        let last = self.last().tip();
        let header = Header {
            version: Version::mined(),
            index: last.height.next(),
            previous_hash: last.hash,
            time: now,
            merkle_root: merkle::root(&entries).expect("there is an entry"),
        };
        let block = rules::check_alone(Block { header, body: entries }, now).expect("an honest block");
        let block = SharedBlock::new(block);
        self.chain.push(block.clone());
        self.broadcast_last(out);
        block
    }

    /// A message has come.
    pub fn received(&mut self, from: ConnId, message: &Out, out: &mut Vec<(ConnId, Out)>) {
        let text = match message {
            Out::Text(text) => text,
            Out::Binary(bytes) => {
                self.crash = Some(format!("JSON.parse of a binary frame of {} bytes", bytes.len()));
                return;
            }
            Out::Ping | Out::Pong | Out::Close => return,
        };
        match message::parse(text) {
            Ok(Text::QueryLast) => self.send_last(from, out),
            Ok(Text::QueryAll) => {
                let array = json::array_to_string(self.chain.iter().map(|block| block.block()));
                out.push((from, Out::Text(message::response_text(&array))));
            }
            Ok(Text::Blocks(array)) => self.blocks(&array, out),
            Ok(Text::Hello(_) | Text::Proof(_) | Text::Unknown(_)) => {}
            Err(error) => self.crash = Some(error.to_string()),
        }
    }

    fn blocks(&mut self, array: &str, out: &mut Vec<(ConnId, Out)>) {
        let far = UnixTime(u64::MAX / 2);
        let received = json::parse_blocks(array).and_then(|blocks| {
            blocks.into_iter().map(|block| rules::check_alone(block, far).map(SharedBlock::new)).collect()
        });
        let received: Vec<SharedBlock> = match received {
            Ok(blocks) => blocks,
            Err(error) => {
                self.crash = Some(format!("blocks that no honest node sends: {error}"));
                return;
            }
        };
        let Some(last) = received.last() else {
            self.crash = Some("the last of no blocks has no header".to_owned());
            return;
        };
        let held = self.last();
        if last.height() <= held.height() {
            return;
        }
        if last.parent() == held.hash() {
            if last.height() == held.height().next() {
                self.chain.push(last.clone());
                self.broadcast_last(out);
            }
        } else if received.len() == 1 {
            for conn in &self.conns {
                out.push((*conn, Out::Text(message::query_all())));
            }
        } else {
            self.replace(received, out);
        }
    }

    fn replace(&mut self, received: Vec<SharedBlock>, out: &mut Vec<(ConnId, Out)>) {
        let rounds = self.rng.random_range(1..=3);
        let valid = (0..rounds).all(|_| {
            received[0].height() == Height::GENESIS
                && received[0].hash() == genesis::tip().hash
                && rules::check_run(received[1..].iter().map(AsRef::as_ref), genesis::tip()).is_ok()
        });
        if valid && received.len() > self.chain.len() && self.rng.random_bool(0.5) {
            self.chain = received;
            self.broadcast_last(out);
        }
    }

    fn send_last(&self, to: ConnId, out: &mut Vec<(ConnId, Out)>) {
        out.push((to, Out::Text(message::response_block(self.last().block()))));
    }

    fn broadcast_last(&self, out: &mut Vec<(ConnId, Out)>) {
        for conn in &self.conns {
            self.send_last(*conn, out);
        }
    }
}
