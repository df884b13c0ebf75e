//! From a whole message to something that was understood and judged.
//!
//! All work on a peer's bytes that needs no knowledge of our chain is done here, so that it can be done away from the
//! threads that hold the chain and the links.

use thiserror::Error;

use super::assembly::Message;
use super::message::{self, Hello, MessageError, Text};
use super::native::{self, Frame, FrameError};
use crate::ledger::rules::{self, RuleError};
use crate::ledger::{SharedBlock, UnixTime, json};

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
    /// Whether only a broken or hostile peer can have sent it.
    #[must_use]
    pub fn sender_at_fault(&self) -> bool {
        match self {
            Self::Text(MessageError::Form(_) | MessageError::BlocksForm(_) | MessageError::HelloForm(_))
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
            Text::Unknown(kind) => Incoming::Unknown(kind),
            Text::Blocks(array) => {
                drop(text);
                Incoming::Blocks(blocks(&array, now)?)
            }
        }),
    }
}

fn blocks(array: &str, now: UnixTime) -> Result<Vec<SharedBlock>, RuleError> {
    let blocks = json::parse_blocks_with(array, |block| rules::check_alone(block, now).map(SharedBlock::new))?;
    if blocks.is_empty() { Err(RuleError::NoBlocks) } else { Ok(blocks) }
}
