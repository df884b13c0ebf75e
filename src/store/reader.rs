//! Reading beside the writer: snapshots of the best chain that stay as they are while the writer goes on.
//!
//! Owns nothing but a handle on what is shared; many readers on many threads cost the writer nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use super::epoch::View;
use super::error::damaged;
use super::shared::Shared;
use crate::ledger::block::{BlockView, Height, SharedBlock, Tip};
use crate::ledger::feed;
use crate::ledger::hash::BlockHash;
use crate::ledger::rules;
use crate::ledger::storage::{Placed, StorageError, SubmissionId};

/// Takes snapshots; can be given to any thread.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Shared>);

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The best chain as of the last commit.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { shared: Arc::clone(&self.0), view: self.0.view() }
    }

    /// The end of the best chain as of the last commit.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.0.tip()
    }

    /// Heights of the best chain at which somebody met a block that cannot be read, since the last call.
    #[must_use]
    pub fn take_broken(&self) -> BTreeSet<Height> {
        std::mem::take(&mut *self.0.broken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What came of judging a part of the chain again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scrubbed {
    /// Where to go on; `None` at the end of the chain.
    pub next: Option<Height>,
    /// Heights whose blocks cannot be served, and why.
    pub broken: Vec<(Height, String)>,
    /// Bytes of the blocks that were read.
    pub bytes: u64,
}

/// Bytes that are judged at once: a run of damaged blocks is then gone through one by one.
const SCRUBBED_AT_ONCE: usize = 256 * 1024;

fn judge(block: &SharedBlock, parent: Option<BlockHash>) -> Result<(), String> {
    if parent.is_some_and(|parent| block.height() > Height::GENESIS && block.parent() != parent) {
        return Err(format!("block {} does not follow the one before", block.height()));
    }
    // Its own time as the clock: what was accepted once was not ahead then.
    match rules::check_alone(block.block().clone(), block.header().time) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The best chain as it was after one commit. Cheap to make and to clone; one that is kept for long keeps the places of
/// the blocks that left the best chain since, 48 bytes each, in memory.
///
/// All answers are of that chain, only side blocks are those of now. When the store is closed they end with
/// [`StorageError::Failed`].
#[derive(Clone, Debug)]
pub struct Snapshot {
    shared: Arc<Shared>,
    view: View,
}

impl Snapshot {
    /// The end of the chain.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.view.tip
    }

    /// The block at a height; `None` above the tip.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn block_at(&self, height: Height) -> Result<Option<SharedBlock>, StorageError> {
        let read = match self.shared.entry(&self.view, height) {
            Ok(Some(entry)) => self.shared.block_of(entry, height).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        self.noted(height, read)
    }

    /// The hash that the block at a height has to have, also where the block itself is broken; `None` above the tip, and
    /// where nothing is left that could tell.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn wanted_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError> {
        self.shared.wanted_at(&self.view, height)
    }

    /// Remembers a height whose block turned out to be broken.
    fn noted<T>(&self, height: Height, read: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(StorageError::Damaged(_)) = read {
            self.shared.note_broken(height);
        }
        read
    }

    /// The hash at a height; `None` above the tip.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError> {
        self.noted(height, self.shared.hash_at(&self.view, height))
    }

    /// The height of a block of the chain; `None` if it is not on it.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn height_of(&self, hash: &BlockHash) -> Result<Option<Height>, StorageError> {
        self.shared.height_of(&self.view, hash)
    }

    /// A block of the chain with its height, or a block that is kept beside the chain now.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn block(&self, hash: &BlockHash) -> Result<Option<(SharedBlock, Option<Height>)>, StorageError> {
        let found = self.shared.block(&self.view, hash);
        match (&found, self.shared.height_of(&self.view, hash)) {
            (Err(_), Ok(Some(height))) => self.noted(height, found),
            _ => found,
        }
    }

    /// Blocks in sequence: at most `max_blocks` and about `max_bytes` bytes, but one if there is one; empty above the tip.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn blocks(&self, from: Height, max_blocks: usize, max_bytes: usize) -> Result<Vec<SharedBlock>, StorageError> {
        let read = self.shared.blocks(&self.view, from, max_blocks, max_bytes);
        self.noted_run(from, max_blocks, read)
    }

    /// Remembers the first broken height of a run; which it is is found one by one.
    fn noted_run<T>(&self, from: Height, max_blocks: usize, read: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(StorageError::Damaged(_)) = read {
            let mut one_by_one = (from.0..).map(Height).take(max_blocks).map(|height| self.block_at(height));
            let _ = one_by_one.find(|block| !matches!(block, Ok(Some(_))));
        }
        read
    }

    /// As [`blocks`](Self::blocks), but the blocks are only shown, with their hashes: nothing is copied, and nothing is hashed.
    /// Checksums, heights and parents are checked. For whoever passes the blocks on to somebody who judges them.
    ///
    /// # Errors
    /// Unreadable or damaged storage; some blocks may have been shown by then.
    pub fn views(
        &self,
        from: Height,
        max_blocks: usize,
        max_bytes: usize,
        show: &mut dyn FnMut(BlockHash, BlockView<'_>),
    ) -> Result<(), StorageError> {
        let shown = self.shared.views(&self.view, from, max_blocks, max_bytes, show);
        self.noted_run(from, max_blocks, shown)
    }

    /// Hashes in sequence, at most `count`; empty above the tip.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn hashes(&self, from: Height, count: usize) -> Result<Vec<BlockHash>, StorageError> {
        let entries = self.shared.entries(&self.view, from, count)?;
        let hash = |(entry, height): (Option<super::positions::Entry>, u64)| match entry {
            Some(entry) if entry.hash != BlockHash::ZERO || Height(height) == self.view.tip.height => Ok(entry.hash),
            _ => Err(damaged(format!("the hash of block {height} cannot be read"))),
        };
        entries.into_iter().zip(from.0..).map(hash).collect()
    }

    /// Reads blocks of the chain again and judges them again: every rule that needs no clock, and that each follows the one
    /// before. At most `count` from a height on, and not many more bytes than `max_bytes`; for whoever goes over the whole
    /// chain in small steps.
    ///
    /// # Errors
    /// The disk fails. What is broken is not an error but the answer.
    pub fn scrub(&self, from: Height, count: u64, max_bytes: u64) -> Result<Scrubbed, StorageError> {
        let end = Height(from.0.saturating_add(count).min(self.view.tip.height.next().0));
        let mut scrubbed = Scrubbed { next: None, broken: Vec::new(), bytes: 0 };
        let mut parent = match from.0.checked_sub(1) {
            Some(below) => self.hash_at(Height(below)).ok().flatten(),
            None => None,
        };
        let mut at = from;
        while at < end && scrubbed.bytes <= max_bytes {
            let wanted = usize::try_from(end.0 - at.0).unwrap_or(usize::MAX);
            let blocks = match self.blocks(at, wanted, SCRUBBED_AT_ONCE) {
                Err(StorageError::Damaged(_)) => match self.block_at(at) {
                    Ok(block) => block.into_iter().collect(),
                    Err(StorageError::Damaged(what)) => {
                        scrubbed.broken.push((at, what.to_string()));
                        scrubbed.bytes += 1;
                        parent = self.hash_at(at).ok().flatten();
                        at = at.next();
                        continue;
                    }
                    Err(error) => return Err(error),
                },
                blocks => blocks?,
            };
            for block in blocks {
                scrubbed.bytes += block.block().compact_bytes() as u64;
                if let Err(error) = judge(&block, parent) {
                    self.shared.note_broken(block.height());
                    scrubbed.broken.push((block.height(), error));
                }
                parent = Some(block.hash());
                at = block.height().next();
            }
        }
        scrubbed.next = (at <= self.view.tip.height).then_some(at);
        Ok(scrubbed)
    }

    /// The submissions that this node placed in a block.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn placed_in(&self, block: &BlockHash) -> Result<Vec<Placed>, StorageError> {
        self.shared.placed_in(&self.view, block)
    }

    /// Every block that a submission was placed in, oldest first; empty if no submission has this name.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn placements_of(&self, submission: &SubmissionId) -> Result<Vec<(BlockHash, Placed)>, StorageError> {
        self.shared.placements_of(&self.view, submission)
    }
}

impl feed::View for Snapshot {
    fn tip(&self) -> Tip {
        Self::tip(self)
    }

    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError> {
        Self::hash_at(self, height)
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<(SharedBlock, Option<Height>)>, StorageError> {
        Self::block(self, hash)
    }

    fn blocks(&self, from: Height, max_blocks: usize, max_bytes: usize) -> Result<Vec<SharedBlock>, StorageError> {
        Self::blocks(self, from, max_blocks, max_bytes)
    }

    fn waiting_of(&self, block: &BlockHash) -> Result<Vec<SubmissionId>, StorageError> {
        let mut waiting = Vec::new();
        for placed in self.placed_in(block)? {
            let mut on_chain = false;
            for (place, _) in self.placements_of(&placed.submission)? {
                on_chain |= self.height_of(&place)?.is_some();
            }
            if !on_chain {
                waiting.push(placed.submission);
            }
        }
        Ok(waiting)
    }
}
