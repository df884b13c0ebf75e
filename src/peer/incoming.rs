//! From a whole message to something that was understood and judged.
//!
//! All work on a peer's bytes that needs no knowledge of our chain is done here, so that it can be done away from the
//! threads that hold the chain and the links.

use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread;

use thiserror::Error;

use super::assembly::Message;
use super::message::{self, Hello, MessageError, Proof, Text};
use super::native::{self, Frame, FrameError};
use crate::ledger::rules::{self, RuleError};
use crate::ledger::{Block, SharedBlock, UnixTime, json};

/// Characters of a list of blocks from which on a second thread is worth its start.
const LONG: usize = 256 * 1024;

/// Blocks that are handed to that thread at once.
const GROUP: usize = 256;

/// Groups that may wait for it.
const GROUPS: usize = 4;

/// A message that was understood. Its blocks obey every rule that needs no parent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// QUERY_LAST.
    QueryLast,
    /// QUERY_ALL.
    QueryAll,
    /// RESPONSE_BLOCK: at least one block.
    Blocks(Vec<SharedBlock>),
    /// HELLO.
    Hello(Hello),
    /// PROOF.
    Proof(Proof),
    /// A native frame.
    Frame(Frame),
    /// A text message of a type that we do not know.
    Unknown(u64),
}

/// Why a message was not understood.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReadError {
    /// A text message that is none.
    #[error(transparent)]
    Text(#[from] MessageError),
    /// A binary message that is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A block in a RESPONSE_BLOCK breaks a rule.
    #[error("a block breaks a rule: {0}")]
    Rule(#[from] RuleError),
}

impl ReadError {
    /// The acceptance rule that a block in the message breaks, if that is why.
    #[must_use]
    pub fn rule(&self) -> Option<&RuleError> {
        match self {
            Self::Frame(FrameError::Rule { rule, .. }) | Self::Rule(rule) => Some(rule),
            Self::Text(_) | Self::Frame(FrameError::Form(_) | FrameError::Bounds(_) | FrameError::LastHash { .. }) => {
                None
            }
        }
    }

    /// Whether only a broken or hostile peer can have sent it.
    #[must_use]
    pub fn sender_at_fault(&self) -> bool {
        match self {
            Self::Text(
                MessageError::Form(_)
                | MessageError::BlocksForm(_)
                | MessageError::HelloForm(_)
                | MessageError::ProofForm(_),
            )
            | Self::Frame(FrameError::Form(_) | FrameError::Bounds(_) | FrameError::LastHash { .. }) => true,
            Self::Frame(FrameError::Rule { rule, .. }) | Self::Rule(rule) => rule.sender_at_fault(),
        }
    }
}

/// Reads a message.
///
/// # Errors
/// It is not one of the protocol, or a block in it breaks a rule.
pub fn read(message: Message, now: UnixTime) -> Result<Incoming, ReadError> {
    match message {
        Message::Binary(bytes) => Ok(Incoming::Frame(native::decode(&bytes, now)?)),
        Message::Text(text) => Ok(match message::parse(&text)? {
            Text::QueryLast => Incoming::QueryLast,
            Text::QueryAll => Incoming::QueryAll,
            Text::Hello(hello) => Incoming::Hello(hello),
            Text::Proof(proof) => Incoming::Proof(proof),
            Text::Unknown(kind) => Incoming::Unknown(kind),
            Text::Blocks(array) => {
                drop(text);
                Incoming::Blocks(blocks(&array, now)?)
            }
        }),
    }
}

fn blocks(array: &str, now: UnixTime) -> Result<Vec<SharedBlock>, RuleError> {
    let blocks = if array.len() < LONG { judged_here(array, now) } else { judged_beside(array, now) }?;
    if blocks.is_empty() { Err(RuleError::NoBlocks) } else { Ok(blocks) }
}

fn judged_here(array: &str, now: UnixTime) -> Result<Vec<SharedBlock>, RuleError> {
    json::parse_blocks_with(array, |block| rules::check_alone(block, now).map(SharedBlock::new))
}

/// As [`judged_here`], with the blocks judged on a second thread while further ones are read.
fn judged_beside(array: &str, now: UnixTime) -> Result<Vec<SharedBlock>, RuleError> {
    thread::scope(|scope| {
        let (give, take) = mpsc::sync_channel::<Vec<Block>>(GROUPS);
        let judging = scope.spawn(move || {
            let blocks = take.into_iter().flatten();
            blocks.map(|block| rules::check_alone(block, now).map(SharedBlock::new)).collect::<Result<Vec<_>, _>>()
        });
        let mut group = Vec::with_capacity(GROUP);
        let read = json::parse_blocks_with(array, |block| {
            group.push(block);
            if group.len() == GROUP {
                // Nobody takes it once a block was refused: the rest is read only to see that it is JSON.
                let _ = give.send(std::mem::replace(&mut group, Vec::with_capacity(GROUP)));
            }
            Ok(())
        });
        let _ = give.send(group);
        drop(give);
        let judged = judging.join().unwrap_or_else(|panic| resume_unwind(panic));
        match read {
            Err(error @ RuleError::NotABlock { .. }) => Err(error),
            // Whatever was judged stands before the block of a wrong shape.
            Err(shape) => judged.and(Err(shape)),
            Ok(_) => judged,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::block::{Header, Version};
    use crate::ledger::merkle;
    use crate::ledger::{BlockHash, Height};

    const NOW: UnixTime = UnixTime(1_700_000_000);

    fn block(index: usize) -> String {
        let body = vec![format!("entry {index}")];
        let header = Header {
            version: Version::mined(),
            index: Height(index as u64),
            previous_hash: BlockHash::ZERO,
            time: NOW,
            merkle_root: merkle::root(&body).expect("an entry"),
        };
        json::to_string(&Block { header, body })
    }

    #[test]
    fn it_makes_no_difference_where_blocks_are_judged() {
        let good: Vec<String> = (0..3 * GROUP + 1).map(block).collect();
        let with = |changes: &[(usize, &str, &str)]| {
            let mut blocks = good.clone();
            for (at, from, to) in changes {
                blocks[*at] = blocks[*at].replacen(from, to, 1);
            }
            format!("[{}]", blocks.join(","))
        };
        let (rule, shape, form) = (("entry", "other"), ("1.0.0", "1.0"), ("header", "h"));
        let mut arrays = vec!["[]".to_owned(), with(&[])];
        for at in [0, GROUP - 1, GROUP, 3 * GROUP] {
            for (from, to) in [rule, shape, form] {
                arrays.push(with(&[(at, from, to)]));
            }
        }
        let (early, late) = (5, 2 * GROUP);
        for (first, second) in [(rule, shape), (shape, rule), (rule, form), (shape, form)] {
            arrays.push(with(&[(early, first.0, first.1), (late, second.0, second.1)]));
        }
        for array in arrays {
            let (here, beside) = (judged_here(&array, NOW), judged_beside(&array, NOW));
            assert_eq!(here, beside, "{:.80}", array);
            let error = here.as_ref().err().map(RuleError::name);
            let formless = array.contains(r#"{"h":"#);
            assert_eq!(error == Some("not-a-block"), formless, "{error:?}");
        }
    }
}
