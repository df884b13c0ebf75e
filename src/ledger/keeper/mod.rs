//! The keeper: chain, outbox and storage behind the few operations that a node needs.
//!
//! Owns the order of things: judge, make durable, take over, tell. Everything that comes out of here as done *is* durable.
//! Refuses to know actors, peers and clocks: one caller drives it, and brings the time and the random numbers.

mod mining;
mod operator;
mod reorg;
mod staging;

use thiserror::Error;

use crate::ledger::block::{Height, SharedBlock, Tip};
use crate::ledger::chain::{Branch, Chain};
use crate::ledger::hash::BlockHash;
use crate::ledger::outbox::Outbox;
use crate::ledger::rules::RuleError;
use crate::ledger::storage::{Storage, StorageError, SubmissionId};

/// Runs longer than this are written beside the chain, read back and only then switched in.
pub const STAGE_ABOVE: usize = 1_000;

/// Blocks that enter by a switch and are told to others as blocks; of more only the tip is told.
pub const MAX_TOLD: usize = 1_000;

/// Blocks of a branch that are copied at once: a bound for memory, as few as the largest bodies allow.
const RESTAGED: u64 = 64;

/// Why entries were not mined. Nothing has changed then.
#[derive(Clone, Debug, Error)]
pub enum MineError {
    /// The entries break a rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The idempotency key came before, with other entries.
    #[error("this Idempotency-Key was used before with other entries; use a new key for new entries")]
    KeyReused,
    /// The chain has as many blocks as the format can count.
    #[error("the chain is full: no index is left below 2^53")]
    ChainFull,
    /// The store did not do its part.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why an operator's wish about a branch was not done. Nothing has changed then.
#[derive(Clone, Debug, Error)]
pub enum OperatorError {
    /// The block is unknown, forgotten, or on the best chain.
    #[error("no block {hash} is kept off the best chain; GET /forks shows what is")]
    NoSideBlock {
        /// What was asked for.
        hash: BlockHash,
    },
    /// Every node would switch back at once.
    #[error("the branch ends at block {}, which does not beat the best chain's {}", tip.height, best.height)]
    NotBetter {
        /// The end of the branch.
        tip: Tip,
        /// The end of the best chain.
        best: Tip,
    },
    /// Its entries cannot be mined.
    #[error(transparent)]
    Mine(#[from] MineError),
    /// The store did not do its part.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Entries to be mined into a block of their own.
#[derive(Clone, Debug)]
pub struct MineRequest {
    /// The block's body.
    pub entries: Vec<String>,
    /// The caller's idempotency key.
    pub key: Option<String>,
}

/// Entries that are durably mined.
#[derive(Clone, Debug)]
pub struct Mined {
    /// The block that the entries were first mined into.
    pub block: SharedBlock,
    /// The name under which they can be asked for.
    pub submission: SubmissionId,
}

/// A change of the best chain, after it became durable.
#[derive(Clone, Debug)]
pub struct Update {
    /// The tip before.
    pub old: Tip,
    /// The common ancestor; the old tip unless blocks left.
    pub fork: Tip,
    /// The tip now.
    pub new: Tip,
    /// Blocks that left the best chain, lowest first.
    pub left: Vec<BlockHash>,
    /// Blocks that entered, lowest first; empty if they were more than [`MAX_TOLD`].
    pub entered: Vec<SharedBlock>,
    /// Submissions that wait to be mined again because of this change.
    pub requeued: usize,
}

impl Update {
    /// Blocks of the old chain that were undone.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.old.height.0 - self.fork.height.0
    }
}

/// What came of a run of blocks.
#[derive(Clone, Debug)]
pub enum Imported {
    /// Nothing new.
    Known,
    /// The parent of the first block is unknown.
    Unconnected,
    /// Kept beside the best chain.
    Side,
    /// Kept beside the best chain although it is longer: it would undo this many blocks.
    Parked {
        /// Blocks that it would undo.
        depth: u64,
    },
    /// The best chain changed.
    Changed(Update),
}

/// A branch that is being collected beside the chain.
#[derive(Debug)]
pub struct Staged<T> {
    staging: T,
    fork: Tip,
    tip: Tip,
    count: u64,
}

impl<T> Staged<T> {
    /// The last block so far; the fork's if there is none.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// Number of blocks so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// Where a submission is.
#[derive(Clone, Debug)]
pub enum Whereabouts {
    /// On the best chain.
    Included {
        /// Its block.
        block: BlockHash,
        /// The block's height.
        height: Height,
        /// Place of its first entry in the body.
        position: u32,
        /// Blocks from that one to the tip, itself included.
        depth: u64,
    },
    /// Off the best chain, about to be mined again.
    Orphaned {
        /// The block it was last placed in.
        block: BlockHash,
    },
}

/// The ledger of one node.
#[derive(Debug)]
pub struct Keeper<S: Storage> {
    storage: S,
    chain: Chain,
    outbox: Outbox,
    /// A branch from a stranger that would undo more blocks than this is parked.
    max_reorg: u64,
}

impl<S: Storage> Keeper<S> {
    /// Takes up where the storage stands.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn open(storage: S, max_reorg: u64) -> Result<Self, StorageError> {
        let chain = Chain::new(storage.side_blocks()?);
        let outbox = Outbox::new(storage.pending()?);
        Ok(Self { storage, chain, outbox, max_reorg })
    }

    /// The end of the best chain.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.storage.tip()
    }

    /// What keeps the blocks.
    #[must_use]
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// What keeps the blocks, for what changes neither the chain nor the outbox.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// What keeps the blocks, for its owner to close.
    #[must_use]
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// Number of submissions that wait to be mined again.
    #[must_use]
    pub fn outbox_len(&self) -> usize {
        self.outbox.len()
    }

    /// Number of blocks kept off the best chain.
    #[must_use]
    pub fn side_blocks(&self) -> usize {
        self.chain.side_blocks()
    }

    /// Number of branches that wait for an operator.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.chain.parked()
    }

    /// The kept branches, highest first.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn branches(&self) -> Result<Vec<Branch>, StorageError> {
        self.chain.branches(&self.storage)
    }

    /// Where a submission is now; `None` if this node never acknowledged it.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn whereabouts(&self, submission: &SubmissionId) -> Result<Option<Whereabouts>, StorageError> {
        let placements = self.storage.placements_of(submission)?;
        for (block, placed) in &placements {
            if let Some(height) = self.storage.height_of(block)? {
                let depth = self.tip().height.0 - height.0 + 1;
                return Ok(Some(Whereabouts::Included { block: *block, height, position: placed.position, depth }));
            }
        }
        Ok(placements.last().map(|(block, _)| Whereabouts::Orphaned { block: *block }))
    }
}
