//! Chains as they were: what lets a reader look at one chain while the writer goes over to another.
//!
//! A view is a tip and an *epoch*, which ends when blocks leave the best chain. Before the writer overwrites entries of
//! `heights`, it hangs the old ones on the epoch that ends; whoever still looks at an older chain walks from its own epoch
//! forward, and the first reorg that took its height away has its entry. Epochs that nobody looks at any more are freed.

use std::sync::{Arc, OnceLock};

use super::positions::Entry;
use crate::ledger::block::Tip;

/// What left the best chain in one step.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) fork: u64,
    /// The entries above the fork, as they stood.
    pub(super) left: Vec<Entry>,
}

/// A time in which no block left the best chain.
#[derive(Debug, Default)]
pub(super) struct Epoch {
    /// How it ended, and the next one.
    end: OnceLock<(Departure, Arc<Epoch>)>,
}

impl Epoch {
    /// Ends this epoch; the next one.
    pub(super) fn end(&self, departure: Departure) -> Arc<Self> {
        let next = Arc::new(Self::default());
        // Only the writer ends epochs, each once; a second end would change nothing.
        let _ = self.end.set((departure, Arc::clone(&next)));
        next
    }

    /// What left by the end of this epoch, of the next, and so on.
    pub(super) fn departures(&self) -> Vec<(u64, Vec<Entry>)> {
        let mut departures = Vec::new();
        let mut epoch = self;
        while let Some((departure, next)) = epoch.end.get() {
            departures.push((departure.fork, departure.left.clone()));
            epoch = next;
        }
        departures
    }

    /// The entry that a height had in this epoch, if it has lost it since.
    pub(super) fn lost_since(&self, height: u64) -> Option<Entry> {
        let mut epoch = self;
        while let Some((departure, next)) = epoch.end.get() {
            let above = height.checked_sub(departure.fork + 1);
            if let Some(entry) = above.and_then(|above| departure.left.get(usize::try_from(above).ok()?)) {
                return Some(*entry);
            }
            epoch = next;
        }
        None
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        // One after the other: a chain of epochs that are freed together must not use the stack for each.
        let mut next = self.end.take().map(|(_, next)| next);
        while let Some(epoch) = next {
            next = Arc::into_inner(epoch).and_then(|mut epoch| epoch.end.take()).map(|(_, next)| next);
        }
    }
}

/// A chain as it was after some commit.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) tip: Tip,
    pub(super) epoch: Arc<Epoch>,
}

#[cfg(test)]
mod tests {
    use super::super::positions::Place;
    use super::*;
    use crate::ledger::hash::BlockHash;

    fn entry(number: u8) -> Entry {
        Entry { hash: BlockHash([number; 32]), place: Place { segment: 1, offset: number.into(), len: 1 } }
    }

    #[test]
    fn an_epoch_knows_what_was_lost_since_first() {
        let first: Arc<Epoch> = Arc::default();
        assert_eq!(first.lost_since(5), None);
        let second = first.end(Departure { fork: 4, left: vec![entry(5), entry(6)] });
        let third = second.end(Departure { fork: 3, left: vec![entry(14), entry(15), entry(16), entry(17)] });
        for (height, from_first, from_second) in [
            (3, None, None),
            (4, Some(14), Some(14)),
            (5, Some(5), Some(15)),
            (6, Some(6), Some(16)),
            (7, Some(17), Some(17)),
        ] {
            assert_eq!(first.lost_since(height), from_first.map(entry), "{height}");
            assert_eq!(second.lost_since(height), from_second.map(entry), "{height}");
            assert_eq!(third.lost_since(height), None, "{height}");
        }
        assert_eq!(first.lost_since(u64::MAX), None);
    }

    #[test]
    fn a_long_chain_of_epochs_is_freed_without_a_deep_stack() {
        let first: Arc<Epoch> = Arc::default();
        let mut last = Arc::clone(&first);
        for _ in 0..200_000 {
            last = last.end(Departure { fork: 0, left: Vec::new() });
        }
        drop(first);
        assert_eq!(last.lost_since(1), None);
    }
}
