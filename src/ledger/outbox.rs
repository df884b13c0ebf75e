//! The outbox: what this node has acknowledged and must get back onto the best chain.
//!
//! Owns the set of submissions that wait, and when they are mined again. Only the node that acknowledged an entry ever
//! mines it again. Exactly once by construction: a submission waits only while none of its placements is on the best
//! chain, so a new placement is only made on a branch that holds no older one, and an older block cannot descend from a
//! newer. Placements are never deleted. Refuses to know blocks: what is placed where comes from [`Storage`].

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use rand::{Rng, RngExt};

use super::hash::BlockHash;
use super::storage::{Placed, Storage, StorageError, SubmissionId};

/// Milliseconds of some clock that does not go back.
pub type Millis = u64;

/// How long a submission waits before it is mined again: random, else two nodes that collided once collide for ever; long
/// enough for the winner's block to arrive, short enough for a person who watches.
pub const RETRY_DELAY: RangeInclusive<Millis> = 50..=400;

/// The submissions that wait to be mined again.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: BTreeSet<SubmissionId>,
    /// Where those that wait were placed, as far as it was asked: this does not change while they wait, and reading it
    /// again at every change of tip would let a long outbox fall behind the chain for ever.
    placed: HashMap<SubmissionId, Vec<BlockHash>>,
    /// When they are mined again; `None` when nothing waits or no delay was drawn yet.
    due: Option<Millis>,
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
        Self { waiting: waiting.into_iter().collect(), ..Self::default() }
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
        self.waiting.contains(submission)
    }

    /// The submissions that wait, in a fixed order.
    pub fn waiting(&self) -> impl Iterator<Item = &SubmissionId> {
        self.waiting.iter()
    }

    /// Says what a change of tip would do: `left` are the submissions placed in the blocks that leave, `on_new_chain` tells
    /// whether a block will be on the best chain.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn judge<S: Storage>(
        &mut self,
        left: &[Placed],
        storage: &S,
        on_new_chain: impl Fn(&BlockHash) -> Result<bool, StorageError>,
    ) -> Result<Effect, StorageError> {
        let mut blocks_judged: HashMap<BlockHash, bool> = HashMap::new();
        let mut any_on_new_chain = |blocks: &[BlockHash]| -> Result<bool, StorageError> {
            for block in blocks {
                let on = match blocks_judged.get(block) {
                    Some(on) => *on,
                    None => *blocks_judged.entry(*block).or_insert(on_new_chain(block)?),
                };
                if on {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let blocks_of = |submission: &SubmissionId| -> Result<Vec<BlockHash>, StorageError> {
            Ok(storage.placements_of(submission)?.into_iter().map(|(block, _)| block).collect())
        };
        let mut effect = Effect::default();
        for submission in &self.waiting {
            let blocks = match self.placed.entry(*submission) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(blocks_of(submission)?),
            };
            if any_on_new_chain(blocks)? {
                effect.satisfied.push(*submission);
            }
        }
        let mut judged = BTreeSet::new();
        for Placed { submission, .. } in left {
            let new = !self.waiting.contains(submission) && judged.insert(submission);
            if new && !any_on_new_chain(&blocks_of(submission)?)? {
                effect.lost.push(*submission);
            }
        }
        Ok(effect)
    }

    /// Takes over what has become durable.
    pub fn note(&mut self, effect: &Effect) {
        self.waiting.extend(&effect.lost);
        for submission in &effect.satisfied {
            self.waiting.remove(submission);
            self.placed.remove(submission);
        }
        if self.waiting.is_empty() {
            self.due = None;
        }
    }

    /// When the waiting submissions are to be mined again; draws the delay if none is running. `None` when nothing waits.
    pub fn due(&mut self, now: Millis, rng: &mut impl Rng) -> Option<Millis> {
        if self.waiting.is_empty() {
            return None;
        }
        Some(*self.due.get_or_insert_with(|| now + rng.random_range(RETRY_DELAY)))
    }

    /// Ends the running delay: the waiting submissions are being mined, or could not be and wait anew.
    pub fn restart(&mut self) {
        self.due = None;
    }
}
