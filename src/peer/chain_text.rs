//! A whole chain as one RESPONSE_BLOCK, for a tutorial peer.
//!
//! Built block by block, so that a chain that does not fit is noticed before it is held.

use super::limits::MAX_CHAIN_MESSAGE;
use crate::ledger::{SharedBlock, json};

/// Builds the message.
#[derive(Debug)]
pub struct ChainText {
    text: Vec<u8>,
    /// One block, before it is escaped.
    scratch: Vec<u8>,
    empty: bool,
}

/// The chain is longer than a tutorial peer accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

/// What stands before the blocks: a string begins that holds an array.
const BEFORE: &[u8] = br#"{"type":2,"data":"["#;

/// What stands after them.
const AFTER: &[u8] = br#"]"}"#;

impl Default for ChainText {
    fn default() -> Self {
        Self { text: BEFORE.to_vec(), scratch: Vec::new(), empty: true }
    }
}

impl ChainText {
    /// Adds the next block.
    ///
    /// # Errors
    /// The message would be longer than the tutorial's WebSocket library accepts.
    pub fn push(&mut self, block: &SharedBlock) -> Result<(), TooLong> {
        self.scratch.clear();
        json::write(block.block(), &mut self.scratch);
        // JSON is UTF-8, so the fallback is never taken.
        let text = std::str::from_utf8(&self.scratch).unwrap_or_default();
        if !self.empty {
            self.text.push(b',');
        }
        self.empty = false;
        let quote = self.text.len();
        // Writing into memory cannot fail.
        let _ = serde_json::to_writer(&mut self.text, text);
        // The string's own quotes go: this is the middle of a longer one.
        self.text.pop();
        self.text.remove(quote);
        if self.text.len() + AFTER.len() > MAX_CHAIN_MESSAGE { Err(TooLong) } else { Ok(()) }
    }

    /// The message; `None` without a block, which would crash a tutorial peer.
    #[must_use]
    pub fn finish(mut self) -> Option<Vec<u8>> {
        self.text.extend_from_slice(AFTER);
        (!self.empty).then_some(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::genesis;
    use crate::peer::message;

    #[test]
    fn it_is_the_message_that_would_be_built_at_once() {
        let block = genesis::block();
        let mut text = ChainText::default();
        assert_eq!(ChainText::default().finish(), None);
        for _ in 0..3 {
            text.push(&block).expect("short");
        }
        let at_once = message::response_text(&json::array_to_string([block.block(); 3]));
        assert_eq!(String::from_utf8(text.finish().expect("blocks")).expect("UTF-8"), at_once);
    }
}
