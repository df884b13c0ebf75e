//! A disk that can die: what was written in one step is there after a crash, and nothing else is.
//!
//! The durable truth is a list of groups. Everything that [`SimStorage`] answers from is derived and dies with the process;
//! opening replays the groups. A commit is one step: the disk can die before it (nothing happened) or after it (all of it
//! happened, and nobody was told).

use std::cell::RefCell;
use std::rc::Rc;

use dolmen::ledger::block::{Height, SharedBlock, Tip};
use dolmen::ledger::hash::BlockHash;
use dolmen::ledger::storage::{Batch, KeyDigest, Placed, SideBlock, Storage, StorageError, SubmissionId};

use super::memory_storage::{MemoryStaging, MemoryStorage};

/// What became durable in one step.
#[derive(Clone, Debug)]
enum Group {
    Commit(Batch),
    Adopt { fork: Tip, blocks: Vec<SharedBlock>, batch: Batch },
}

/// When a process dies at its next write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// Nothing of the write survives.
    BeforeWrite,
    /// The write is durable, and nobody heard of it.
    AfterWrite,
}

/// What survives a crash.
#[derive(Debug, Default)]
pub struct Disk {
    groups: Vec<Group>,
    /// The process dies at its next write.
    pub death: Option<Death>,
    /// The process has died in a write: nothing that it says any more reaches anybody.
    pub dead: bool,
    /// There is no room.
    pub full: bool,
    /// The ledger asked for something that cannot be done.
    pub misuse: Option<String>,
}

impl Disk {
    /// Number of durable writes so far.
    pub fn writes(&self) -> usize {
        self.groups.len()
    }
}

/// The storage of one process on a disk that outlives it.
#[derive(Debug)]
pub struct SimStorage {
    memory: MemoryStorage,
    disk: Rc<RefCell<Disk>>,
}

/// A branch beside the chain: lost in a crash.
#[derive(Debug)]
pub struct SimStaging {
    fork: Tip,
    blocks: Vec<SharedBlock>,
    inner: MemoryStaging,
}

impl SimStorage {
    /// What the disk holds.
    pub fn open(disk: Rc<RefCell<Disk>>) -> Result<Self, StorageError> {
        let mut memory = MemoryStorage::new();
        {
            let mut disk = disk.borrow_mut();
            disk.dead = false;
            disk.death = None;
            for group in &disk.groups {
                replay(&mut memory, group)?;
            }
        }
        Ok(Self { memory, disk })
    }

    /// The best chain, genesis first.
    pub fn chain(&self) -> &[SharedBlock] {
        self.memory.chain()
    }

    fn write(&self, group: Group) -> Result<(), StorageError> {
        let mut disk = self.disk.borrow_mut();
        if disk.dead {
            return Err(StorageError::Failed("the process is dead".into()));
        }
        if disk.full {
            return Err(StorageError::Full("simulated".into()));
        }
        let death = disk.death.take();
        if death != Some(Death::BeforeWrite) {
            disk.groups.push(group);
        }
        if death.is_some() {
            disk.dead = true;
            return Err(StorageError::Failed("the process died in a write".into()));
        }
        Ok(())
    }

    /// What the ledger asks for must be possible: a refusal of the plain storage is a fault of the ledger.
    fn possible(&self, result: Result<(), StorageError>) -> Result<(), StorageError> {
        if let Err(error) = &result {
            self.disk.borrow_mut().misuse = Some(error.to_string());
        }
        result
    }
}

fn replay(memory: &mut MemoryStorage, group: &Group) -> Result<(), StorageError> {
    match group {
        Group::Commit(batch) => memory.commit(batch),
        Group::Adopt { fork, blocks, batch } => {
            let mut staging = memory.stage(*fork)?;
            memory.stage_append(&mut staging, blocks)?;
            memory.adopt(staging, batch)
        }
    }
}

impl Storage for SimStorage {
    type Staging = SimStaging;

    fn tip(&self) -> Tip {
        self.memory.tip()
    }

    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError> {
        self.memory.hash_at(height)
    }

    fn height_of(&self, hash: &BlockHash) -> Result<Option<Height>, StorageError> {
        self.memory.height_of(hash)
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<SharedBlock>, StorageError> {
        self.memory.block(hash)
    }

    fn side_blocks(&self) -> Result<Vec<SideBlock>, StorageError> {
        self.memory.side_blocks()
    }

    fn pending(&self) -> Result<Vec<SubmissionId>, StorageError> {
        self.memory.pending()
    }

    fn placed_in(&self, block: &BlockHash) -> Result<Vec<Placed>, StorageError> {
        self.memory.placed_in(block)
    }

    fn placements_of(&self, submission: &SubmissionId) -> Result<Vec<(BlockHash, Placed)>, StorageError> {
        self.memory.placements_of(submission)
    }

    fn entries_of(&self, submission: &SubmissionId) -> Result<Option<Vec<String>>, StorageError> {
        self.memory.entries_of(submission)
    }

    fn submission_by_key(&self, key: &KeyDigest) -> Result<Option<SubmissionId>, StorageError> {
        self.memory.submission_by_key(key)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.write(Group::Commit(batch.clone()))?;
        let result = self.memory.commit(batch);
        self.possible(result)
    }

    fn stage(&mut self, fork: Tip) -> Result<SimStaging, StorageError> {
        Ok(SimStaging { fork, blocks: Vec::new(), inner: self.memory.stage(fork)? })
    }

    fn stage_append(&mut self, staging: &mut SimStaging, blocks: &[SharedBlock]) -> Result<(), StorageError> {
        staging.blocks.extend_from_slice(blocks);
        self.memory.stage_append(&mut staging.inner, blocks)
    }

    fn staged_block(&self, staging: &SimStaging, place: u64) -> Result<Option<SharedBlock>, StorageError> {
        self.memory.staged_block(&staging.inner, place)
    }

    fn adopt(&mut self, staging: SimStaging, batch: &Batch) -> Result<(), StorageError> {
        let SimStaging { fork, blocks, inner } = staging;
        self.write(Group::Adopt { fork, blocks, batch: batch.clone() })?;
        let result = self.memory.adopt(inner, batch);
        self.possible(result)
    }

    fn discard(&mut self, staging: SimStaging) {
        self.memory.discard(staging.inner);
    }
}
