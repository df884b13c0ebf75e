//! Binary frames between dolmen nodes, after both have said HELLO.
//!
//! A frame is one byte of kind and a postcard body (little-endian base-128 integers, length-prefixed strings and lists):
//!
//! | kind | name | fields |
//! | --- | --- | --- |
//! | 0 | Tip | height, hash: where the sender's best chain ends |
//! | 1 | Push | height and hash of a parent, list of blocks above it, hash of the last: new on the sender's best chain |
//! | 2 | Locate | list of (height, hash), highest first: where the asker's chain has been |
//! | 3 | Located | the first of these that is on the sender's best chain, and its tip; nothing if none is |
//! | 4 | Fetch | first height wanted, the tip (height, hash) of the chain that is meant, number of batches that may come |
//! | 5 | More | number of further batches that may come |
//! | 6 | Batch | as Push, from the chain that was asked for |
//! | 7 | Gone | the chain that was asked for is no longer the sender's best |
//! | 8 | Addresses | list of `ws://` addresses |
//!
//! A block travels as version (absent for `1.0.0`), time and entries. Index, parent's hash and Merkle root are derived by
//! the receiver, who has to compute them anyway; the hash of the last block says whether both mean the same.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::limits::{MAX_ADDRESSES, MAX_BATCH_BLOCKS, MAX_LOCATOR, MAX_NATIVE_FRAME};
use crate::ledger::block::{Block, BlockView, Header, SharedBlock, Tip, UnixTime, Version, is_safe_integer};
use crate::ledger::hash::BlockHash;
use crate::ledger::rules::{self, RuleError};
use crate::ledger::{Height, merkle};

/// What dolmen nodes say to each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Where the sender's best chain ends.
    Tip(Tip),
    /// New blocks at the end of the sender's best chain.
    Push(Blocks),
    /// Where the asker's chain has been, highest first.
    Locate(Vec<Tip>),
    /// Answer to [`Frame::Locate`].
    Located {
        /// The first of the asker's places that is on the sender's best chain.
        common: Option<Tip>,
        /// The sender's tip.
        tip: Tip,
    },
    /// Asks for the blocks of the chain that ends in `upto`.
    Fetch {
        /// First height that is wanted.
        from: Height,
        /// The chain that is meant.
        upto: Tip,
        /// Batches that may come before the asker says [`Frame::More`].
        batches: u32,
    },
    /// Further batches that may come.
    More {
        /// How many.
        batches: u32,
    },
    /// The next blocks of the chain that was asked for.
    Batch(Blocks),
    /// The chain that was asked for is no longer the sender's best.
    Gone,
    /// Addresses of nodes that the sender has been linked with.
    Addresses(Vec<String>),
}

/// A run of blocks above a parent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blocks {
    /// The parent of the first block.
    pub after: Tip,
    /// The blocks, lowest first, at least one, each judged alone.
    pub blocks: Vec<SharedBlock>,
}

impl Blocks {
    /// The last block as a tip.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.blocks.last().map_or(self.after, |block| block.tip())
    }
}

/// Why a frame could not be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// The bytes are no frame.
    #[error("not a frame: {0}")]
    Form(String),
    /// A list in the frame is empty or too long, or the frame is.
    #[error("frame out of bounds: {0}")]
    Bounds(&'static str),
    /// A block breaks a rule.
    #[error("block {height}: {rule}")]
    Rule {
        /// The block's height.
        height: Height,
        /// The rule that it breaks.
        rule: RuleError,
    },
    /// The blocks do not give the hash that the sender said they would.
    #[error("the last block's hash is {got}, but the sender announced {wanted}")]
    LastHash {
        /// What the blocks give.
        got: BlockHash,
        /// What was announced.
        wanted: BlockHash,
    },
}

#[derive(Serialize, Deserialize)]
enum Wire<'a> {
    Tip(Tip),
    #[serde(borrow)]
    Push(WireBlocks<'a>),
    Locate(Vec<Tip>),
    Located(Option<Tip>, Tip),
    Fetch(Height, Tip, u32),
    More(u32),
    #[serde(borrow)]
    Batch(WireBlocks<'a>),
    Gone,
    Addresses(Vec<String>),
}

#[derive(Serialize, Deserialize)]
struct WireBlocks<'a> {
    after: Tip,
    last: BlockHash,
    #[serde(borrow, deserialize_with = "few_blocks")]
    blocks: Vec<WireBlock<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WireBlock<'a> {
    version: Option<&'a str>,
    time: u64,
    #[serde(borrow)]
    body: Vec<&'a str>,
}

/// Reads no more blocks than tell that they are too many: an empty one takes three bytes in a frame, and twenty times that
/// in memory.
fn few_blocks<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WireBlock<'a>>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = Vec<WireBlock<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("blocks")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut blocks = Vec::new();
            while blocks.len() <= MAX_BATCH_BLOCKS
                && let Some(block) = seq.next_element()?
            {
                blocks.push(block);
            }
            Ok(blocks)
        }
    }

    deserializer.deserialize_seq(Few)
}

/// The bytes of a frame.
#[must_use]
pub fn encode(frame: &Frame) -> Vec<u8> {
    let wire = match frame {
        Frame::Tip(tip) => Wire::Tip(*tip),
        Frame::Push(blocks) => Wire::Push(wire_blocks(blocks)),
        Frame::Locate(places) => Wire::Locate(places.clone()),
        Frame::Located { common, tip } => Wire::Located(*common, *tip),
        Frame::Fetch { from, upto, batches } => Wire::Fetch(*from, *upto, *batches),
        Frame::More { batches } => Wire::More(*batches),
        Frame::Batch(blocks) => Wire::Batch(wire_blocks(blocks)),
        Frame::Gone => Wire::Gone,
        Frame::Addresses(list) => Wire::Addresses(list.clone()),
    };
    // Writing plain data into a vector cannot fail.
    postcard::to_stdvec(&wire).unwrap_or_default()
}

fn wire_blocks(run: &Blocks) -> WireBlocks<'_> {
    let blocks = run.blocks.iter().map(|block| {
        let header = block.header();
        let version = header.version.as_str();
        WireBlock {
            version: (version != Version::MINED).then_some(version),
            time: header.time.0,
            body: block.body().iter().map(String::as_str).collect(),
        }
    });
    WireBlocks { after: run.after, last: run.tip().hash, blocks: blocks.collect() }
}

/// Puts a [`Frame::Batch`] together from blocks that are only looked at: the same bytes as [`encode`] makes.
#[derive(Debug)]
pub struct BatchEncoder {
    after: Tip,
    tip: Tip,
    count: usize,
    blocks: Vec<u8>,
}

#[derive(Serialize)]
struct WireBlockView<'a> {
    version: Option<&'a str>,
    time: u64,
    body: &'a [&'a str],
}

impl BatchEncoder {
    /// A batch of blocks above a parent.
    #[must_use]
    pub fn after(parent: Tip) -> Self {
        Self { after: parent, tip: parent, count: 0, blocks: Vec::new() }
    }

    /// Adds the next block, which has this hash.
    pub fn push(&mut self, hash: BlockHash, block: &BlockView<'_>) {
        let version = block.header.version.as_str();
        let version = (version != Version::MINED).then_some(version);
        let wire = WireBlockView { version, time: block.header.time.0, body: &block.body };
        // Writing plain data into a vector cannot fail.
        self.blocks = postcard::to_extend(&wire, std::mem::take(&mut self.blocks)).unwrap_or_default();
        self.tip = Tip { height: block.header.index, hash };
        self.count += 1;
    }

    /// The frame, and the last block's tip; `None` without a block.
    #[must_use]
    pub fn finish(self) -> Option<(Vec<u8>, Tip)> {
        if self.count == 0 {
            return None;
        }
        let empty = WireBlocks { after: self.after, last: self.tip.hash, blocks: Vec::new() };
        // Writing plain data into a vector cannot fail.
        let mut frame = postcard::to_stdvec(&Wire::Batch(empty)).unwrap_or_default();
        // The frame ends in the number of its blocks, none, which takes one byte.
        frame.pop();
        frame = postcard::to_extend(&self.count, frame).unwrap_or_default();
        frame.extend_from_slice(&self.blocks);
        Some((frame, self.tip))
    }
}

/// Reads a frame and judges its blocks, each alone and with the one before.
///
/// # Errors
/// The bytes are no frame, or a block breaks a rule.
pub fn decode(bytes: &[u8], now: UnixTime) -> Result<Frame, FrameError> {
    if bytes.len() > MAX_NATIVE_FRAME {
        return Err(FrameError::Bounds("the frame is too long"));
    }
    let (wire, rest): (Wire<'_>, _) =
        postcard::take_from_bytes(bytes).map_err(|error| FrameError::Form(error.to_string()))?;
    if !rest.is_empty() {
        return Err(FrameError::Bounds("bytes follow the frame"));
    }
    if !heights(&wire).all(is_safe_integer) {
        return Err(FrameError::Bounds("a height is above 2^53 - 1"));
    }
    Ok(match wire {
        Wire::Tip(tip) => Frame::Tip(tip),
        Wire::Push(blocks) => Frame::Push(judged(blocks, now)?),
        Wire::Locate(places) if places.len() > MAX_LOCATOR => {
            return Err(FrameError::Bounds("the locator has too many places"));
        }
        Wire::Locate(places) => Frame::Locate(places),
        Wire::Located(common, tip) => Frame::Located { common, tip },
        Wire::Fetch(from, upto, batches) => Frame::Fetch { from, upto, batches },
        Wire::More(batches) => Frame::More { batches },
        Wire::Batch(blocks) => Frame::Batch(judged(blocks, now)?),
        Wire::Gone => Frame::Gone,
        Wire::Addresses(list) if list.len() > MAX_ADDRESSES => {
            return Err(FrameError::Bounds("there are too many addresses"));
        }
        Wire::Addresses(list) => Frame::Addresses(list),
    })
}

/// Every height that a frame names.
fn heights<'w>(wire: &'w Wire<'_>) -> impl Iterator<Item = u64> + 'w {
    let (fixed, listed): ([Option<Height>; 2], &[Tip]) = match wire {
        Wire::Tip(tip) => ([Some(tip.height), None], &[]),
        Wire::Push(run) | Wire::Batch(run) => ([Some(run.after.height), None], &[]),
        Wire::Locate(places) => ([None, None], places),
        Wire::Located(common, tip) => ([common.map(|tip| tip.height), Some(tip.height)], &[]),
        Wire::Fetch(from, upto, _) => ([Some(*from), Some(upto.height)], &[]),
        Wire::More(_) | Wire::Gone | Wire::Addresses(_) => ([None, None], &[]),
    };
    fixed.into_iter().flatten().chain(listed.iter().map(|tip| tip.height)).map(|height| height.0)
}

/// Derives what did not travel.
fn judged(run: WireBlocks<'_>, now: UnixTime) -> Result<Blocks, FrameError> {
    if run.blocks.is_empty() || run.blocks.len() > MAX_BATCH_BLOCKS {
        return Err(FrameError::Bounds("a list of blocks is empty or too long"));
    }
    let mut tip = run.after;
    let mut blocks = Vec::with_capacity(run.blocks.len());
    for wire in run.blocks {
        let block = judge(wire, tip, now).map_err(|rule| FrameError::Rule { height: tip.height.next(), rule })?;
        tip = block.tip();
        blocks.push(block);
    }
    if tip.hash != run.last {
        return Err(FrameError::LastHash { got: tip.hash, wanted: run.last });
    }
    Ok(Blocks { after: run.after, blocks })
}

fn judge(wire: WireBlock<'_>, parent: Tip, now: UnixTime) -> Result<SharedBlock, RuleError> {
    let body: Vec<String> = wire.body.into_iter().map(str::to_owned).collect();
    let version = match wire.version {
        None => Version::mined(),
        Some(text) => {
            Version::parse(text).ok_or_else(|| RuleError::VersionForm { got: text.chars().take(64).collect() })?
        }
    };
    rules::check_body(&body)?;
    rules::check_numbers(parent.height.next().0, wire.time)?;
    let merkle_root = merkle::root(&body).ok_or(RuleError::BodyEmpty)?;
    let header = Header {
        version,
        index: parent.height.next(),
        previous_hash: parent.hash,
        time: UnixTime(wire.time),
        merkle_root,
    };
    Ok(rules::check_derived(Block { header, body }, now)?.into())
}
