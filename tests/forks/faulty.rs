//! A storage that does as the plain one does until it is told to fail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use dolmen::ledger::block::{Height, SharedBlock, Tip};
use dolmen::ledger::hash::BlockHash;
use dolmen::ledger::storage::{Batch, KeyDigest, Placed, SideBlock, Storage, StorageError, SubmissionId};

use super::memory_storage::{MemoryStaging, MemoryStorage};

/// What goes wrong; shared with the test.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Every commit and every adoption fails.
    pub full: Rc<Cell<bool>>,
    /// The staged block at this place comes back as another.
    pub spoilt: Rc<Cell<Option<u64>>>,
    /// Submissions whose entries were asked for; no fault.
    pub asked: Rc<RefCell<BTreeSet<SubmissionId>>>,
}

#[derive(Debug)]
pub struct Faulty {
    inner: MemoryStorage,
    faults: Faults,
}

impl Faulty {
    pub fn new(faults: &Faults) -> Self {
        Self { inner: MemoryStorage::new(), faults: faults.clone() }
    }

    pub fn inner(&self) -> &MemoryStorage {
        &self.inner
    }

    fn room(&self) -> Result<(), StorageError> {
        if self.faults.full.get() { Err(StorageError::Full("told to".into())) } else { Ok(()) }
    }
}

impl Storage for Faulty {
    type Staging = MemoryStaging;

    fn tip(&self) -> Tip {
        self.inner.tip()
    }

    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError> {
        self.inner.hash_at(height)
    }

    fn height_of(&self, hash: &BlockHash) -> Result<Option<Height>, StorageError> {
        self.inner.height_of(hash)
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<SharedBlock>, StorageError> {
        self.inner.block(hash)
    }

    fn side_blocks(&self) -> Result<Vec<SideBlock>, StorageError> {
        self.inner.side_blocks()
    }

    fn pending(&self) -> Result<Vec<SubmissionId>, StorageError> {
        self.inner.pending()
    }

    fn placed_in(&self, block: &BlockHash) -> Result<Vec<Placed>, StorageError> {
        self.inner.placed_in(block)
    }

    fn placements_of(&self, submission: &SubmissionId) -> Result<Vec<(BlockHash, Placed)>, StorageError> {
        self.inner.placements_of(submission)
    }

    fn entries_of(&self, submission: &SubmissionId) -> Result<Option<Vec<String>>, StorageError> {
        self.faults.asked.borrow_mut().insert(*submission);
        self.inner.entries_of(submission)
    }

    fn submission_by_key(&self, key: &KeyDigest) -> Result<Option<SubmissionId>, StorageError> {
        self.inner.submission_by_key(key)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.room()?;
        self.inner.commit(batch)
    }

    fn stage(&mut self, fork: Tip) -> Result<MemoryStaging, StorageError> {
        self.inner.stage(fork)
    }

    fn stage_append(&mut self, staging: &mut MemoryStaging, blocks: &[SharedBlock]) -> Result<(), StorageError> {
        self.inner.stage_append(staging, blocks)
    }

    fn staged_block(&self, staging: &MemoryStaging, place: u64) -> Result<Option<SharedBlock>, StorageError> {
        let block = self.inner.staged_block(staging, place)?;
        if self.faults.spoilt.get() != Some(place) {
            return Ok(block);
        }
        // Good by itself, and of the same height and parent: only its neighbours and its hash give it away.
        Ok(block.map(|block| {
            let parent = Tip { height: Height(block.height().0 - 1), hash: block.parent() };
            super::block_at(parent, block.header().time.0 - 1, &["another"])
        }))
    }

    fn adopt(&mut self, staging: MemoryStaging, batch: &Batch) -> Result<(), StorageError> {
        self.room()?;
        self.inner.adopt(staging, batch)
    }

    fn discard(&mut self, staging: MemoryStaging) {
        self.inner.discard(staging);
    }
}
