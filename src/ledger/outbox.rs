//! The outbox: what this node has acknowledged and must get back onto the best chain.
//!
//! Owns the submissions that wait, with their entries where there is room, and when they are mined again. Only the node that
//! acknowledged an entry ever mines it again. Exactly once by construction: a submission waits only while none of its
//! placements is on the best chain, so a new placement is only made on a branch that holds no older one, and an older block
//! cannot descend from a newer. Placements are never deleted. Refuses to know blocks: what is placed where comes from
//! [`Storage`](super::storage::Storage).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use rand::{Rng, RngExt};

use super::storage::{Placed, SubmissionId};

/// Milliseconds of some clock that does not go back.
pub type Millis = u64;

/// How long a submission waits before it is mined again: random, else two nodes that collided once collide for ever; long
/// enough for the winner's block to arrive, short enough for a person who watches.
pub const RETRY_DELAY: RangeInclusive<Millis> = 50..=400;

/// Bytes of entries that are kept at hand, what keeping them takes included: thirty thousand short ones. Who is about to mine
/// them need not read each from the disk while callers wait.
pub const MAX_AT_HAND: usize = 4 << 20;

/// What an entry in memory takes beside its text, and a submission beside its entries: about what the allocator has of it.
const BESIDE: usize = 48;

/// The submissions that wait to be mined again.
#[derive(Debug, Default)]
pub struct Outbox {
    /// With their entries, if they are at hand.
    waiting: BTreeMap<SubmissionId, Option<Vec<String>>>,
    /// Bytes that the entries at hand take.
    at_hand: usize,
    retry: Retry,
}

/// When the waiting submissions are mined again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Retry {
    /// Nothing waits, or no delay was drawn yet.
    #[default]
    Undrawn,
    At(Millis),
    /// Some were, and the others follow.
    Begun,
}

/// What a change of tip does to the outbox.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effect {
    /// Submissions that lost their place on the best chain.
    pub lost: Vec<SubmissionId>,
    /// Submissions that have a place on the best chain again.
    pub satisfied: Vec<SubmissionId>,
}

impl Outbox {
    /// The outbox as it was made durable.
    #[must_use]
    pub fn new(waiting: Vec<SubmissionId>) -> Self {
        Self { waiting: waiting.into_iter().map(|submission| (submission, None)).collect(), ..Self::default() }
    }

    /// Number of submissions that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether this submission waits.
    #[must_use]
    pub fn waits(&self, submission: &SubmissionId) -> bool {
        self.waiting.contains_key(submission)
    }

    /// The submissions that wait, in a fixed order.
    pub fn waiting(&self) -> impl Iterator<Item = &SubmissionId> {
        self.waiting.keys()
    }

    /// Bytes of entries that can still be kept at hand.
    #[must_use]
    pub fn room(&self) -> usize {
        MAX_AT_HAND - self.at_hand
    }

    /// Keeps the entries of a submission at hand, if it waits and there is room.
    pub fn keep(&mut self, submission: &SubmissionId, entries: &[String]) {
        let (bytes, room) = (bytes_at_hand(entries), self.room());
        if let Some(kept @ None) = self.waiting.get_mut(submission)
            && bytes <= room
        {
            *kept = Some(entries.to_vec());
            self.at_hand += bytes;
        }
    }

    /// The entries of a submission that waits, if they are at hand.
    #[must_use]
    pub fn entries(&self, submission: &SubmissionId) -> Option<&[String]> {
        self.waiting.get(submission)?.as_deref()
    }

    /// Says what a change of tip does: `left` are the submissions placed in the blocks that leave, `entered` those placed in
    /// the blocks that enter.
    ///
    /// Nothing else has to be looked at, however often a submission was placed: the blocks that stay hold none that waits,
    /// and none that a block above them holds.
    #[must_use]
    pub fn judge(&self, left: &[Placed], entered: &[Placed]) -> Effect {
        let back: BTreeSet<SubmissionId> = entered.iter().map(|placed| placed.submission).collect();
        let left: BTreeSet<SubmissionId> = left.iter().map(|placed| placed.submission).collect();
        let is_lost = |submission: &SubmissionId| !self.waits(submission) && !back.contains(submission);
        Effect {
            lost: left.into_iter().filter(is_lost).collect(),
            satisfied: back.iter().filter(|submission| self.waits(submission)).copied().collect(),
        }
    }

    /// Takes over what has become durable.
    pub fn note(&mut self, effect: &Effect) {
        for submission in &effect.lost {
            self.waiting.entry(*submission).or_default();
        }
        for submission in &effect.satisfied {
            if let Some(Some(entries)) = self.waiting.remove(submission) {
                self.at_hand -= bytes_at_hand(&entries);
            }
        }
        // Who loses against others while it goes on waits as who lost before.
        if self.waiting.is_empty() || (self.retry == Retry::Begun && !effect.lost.is_empty()) {
            self.retry = Retry::Undrawn;
        }
    }

    /// When the waiting submissions are to be mined again; draws the delay if none is running. `None` when nothing waits.
    pub fn due(&mut self, now: Millis, rng: &mut impl Rng) -> Option<Millis> {
        if self.waiting.is_empty() {
            return None;
        }
        let due = match self.retry {
            Retry::Undrawn => now + rng.random_range(RETRY_DELAY),
            Retry::At(due) => due,
            Retry::Begun => return Some(now),
        };
        self.retry = Retry::At(due);
        Some(due)
    }

    /// Some of the waiting submissions were mined: the others, if there are any, are next.
    pub fn go_on(&mut self) {
        self.retry = if self.waiting.is_empty() { Retry::Undrawn } else { Retry::Begun };
    }

    /// The waiting submissions could not be mined and wait anew.
    pub fn restart(&mut self) {
        self.retry = Retry::Undrawn;
    }
}

/// Bytes that a submission's entries take when they are kept at hand.
#[must_use]
pub fn bytes_at_hand(entries: &[String]) -> usize {
    entries.iter().map(|entry| entry.len() + BESIDE).sum::<usize>() + BESIDE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::hash::BlockHash;

    fn submission(number: u8) -> SubmissionId {
        SubmissionId { block: BlockHash([number; 32]), position: 0 }
    }

    fn placed(numbers: &[u8]) -> Vec<Placed> {
        let placed = |number: &u8| Placed { submission: submission(*number), position: 0, entries: 1, key: None };
        numbers.iter().map(placed).collect()
    }

    #[test]
    fn what_leaves_waits_until_it_comes_back() {
        for (waiting, left, entered, lost, satisfied, why) in [
            (&[][..], &[][..], &[][..], &[][..], &[][..], "nothing happens"),
            (&[], &[2, 1], &[], &[1, 2], &[], "blocks leave, and others enter"),
            (&[], &[1, 2, 1], &[2], &[1], &[], "an older placement comes in with the new blocks"),
            (&[1, 3], &[], &[3, 3, 4], &[], &[3], "a block that left comes back"),
            (&[1], &[1], &[], &[], &[], "what waits is not lost again"),
            (&[1], &[1], &[1], &[], &[1], "another of its blocks takes the place of one"),
        ] {
            let ids = |numbers: &[u8]| numbers.iter().map(|number| submission(*number)).collect::<Vec<_>>();
            let mut outbox = Outbox::new(ids(waiting));
            let effect = outbox.judge(&placed(left), &placed(entered));
            assert_eq!(effect, Effect { lost: ids(lost), satisfied: ids(satisfied) }, "{why}");
            outbox.note(&effect);
            assert!(lost.iter().all(|number| outbox.waits(&submission(*number))), "{why}");
            assert_eq!(outbox.len(), waiting.len() + lost.len() - satisfied.len(), "{why}");
        }
    }
}
