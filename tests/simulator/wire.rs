//! What travels: real frames on links that behave like TCP.
//!
//! On one link messages arrive in order or not at all. A link that loses something is broken: whatever was under way is
//! gone, and each end notices in its own time. A partition either breaks a link or makes it wait.

use std::collections::VecDeque;

use dolmen::ledger::outbox::Millis;

/// Names a connection, never used twice.
pub type ConnId = usize;

/// A message as a session hands it to its socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary(Vec<u8>),
    /// A WebSocket ping.
    Ping,
    /// The answer to one.
    Pong,
    /// A WebSocket close: nothing follows.
    Close,
}

impl Out {
    /// Bytes of content.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Ping | Self::Pong | Self::Close => 0,
        }
    }

    /// Whether it counts as a message of the protocol.
    pub fn is_message(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Binary(_))
    }
}

/// One end of a connection: which process holds it, and what is on its way to it.
#[derive(Debug)]
pub struct End {
    /// Whose end.
    pub slot: usize,
    /// Which life of that node.
    pub life: u64,
    /// The process knows of the connection and holds it for open.
    pub open: bool,
    /// On its way here, oldest first.
    pub coming: VecDeque<Out>,
    /// When the last of these arrives.
    pub last_arrival: Millis,
}

/// A connection.
#[derive(Debug)]
pub struct Conn {
    /// The dialler's end, then the other.
    pub ends: [End; 2],
    /// Whether anything still travels.
    pub whole: bool,
    /// Milliseconds from end to end, without jitter.
    pub latency: Millis,
}

impl Conn {
    /// The index of a node's end.
    pub fn end_of(&self, slot: usize) -> usize {
        usize::from(self.ends[0].slot != slot)
    }
}
