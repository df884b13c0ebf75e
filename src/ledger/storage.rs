//! What the ledger asks of whoever keeps its blocks.
//!
//! Owns the trait [`Storage`] and the [`Batch`], the one way in which anything becomes durable. The node's storage is the
//! log in `store/`; a simulator's is a few maps. Nothing here knows files.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::block::{Height, SharedBlock, Tip};
use super::hash::BlockHash;

/// Names a submission: where it was placed first. Valid for ever, whatever later becomes of that block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct SubmissionId {
    /// The block that the submission was first mined into.
    pub block: BlockHash,
    /// Place of its first entry in that block's body, from 0.
    pub position: u32,
}

/// SHA-256 of a caller's idempotency key.
pub type KeyDigest = [u8; 32];

/// One submission's place in one block that this node mined.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Placed {
    /// Whose entries they are. Names the block itself when this is the first placement.
    pub submission: SubmissionId,
    /// Place of the first entry in the block's body, from 0.
    pub position: u32,
    /// Number of entries.
    pub entries: u32,
    /// The caller's key; only in a first placement.
    pub key: Option<KeyDigest>,
}

impl Placed {
    /// Its entries in the block's body; `None` if it reaches beyond that.
    #[must_use]
    pub fn entries_in<'b>(&self, body: &'b [String]) -> Option<&'b [String]> {
        let from = self.position as usize;
        body.get(from..from.saturating_add(self.entries as usize))
    }
}

/// A block off the best chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SideBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// Its parent's hash.
    pub parent: BlockHash,
    /// Its height.
    pub height: Height,
    /// Bytes of its entries.
    pub bytes: u64,
    /// Whether its branch waits for an operator.
    pub parked: bool,
}

/// A block of a batch.
#[derive(Clone, Debug)]
pub struct BatchBlock {
    /// The block.
    pub block: SharedBlock,
    /// The submissions in it; empty for another node's block.
    pub placed: Vec<Placed>,
}

/// How the best chain changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TipChange {
    /// The common ancestor: stays on the best chain; all above it leave.
    pub fork: Tip,
    /// Kept side blocks that enter above the ancestor, lowest first. The blocks of the batch enter above these, in order.
    pub revived: Vec<BlockHash>,
    /// The new tip.
    pub tip: Tip,
}

/// What becomes durable in one step, whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// New blocks. With a `change` all of them enter the best chain; without, all are side blocks.
    pub blocks: Vec<BatchBlock>,
    /// The change of tip, if there is one. Blocks that leave the best chain by it become side blocks.
    pub change: Option<TipChange>,
    /// Side blocks that are given up for others to have room.
    pub forget: Vec<BlockHash>,
    /// Side blocks whose branch is parked from now on.
    pub park: Vec<BlockHash>,
    /// Submissions that lost their place on the best chain and wait to be mined again.
    pub pending: Vec<SubmissionId>,
    /// Submissions that wait no more.
    pub satisfied: Vec<SubmissionId>,
}

/// Why storage did not do as asked. Can be cloned: one failed commit answers many callers.
#[derive(Clone, Debug, Error)]
pub enum StorageError {
    /// No room. Nothing was changed; reading goes on.
    #[error("the disk is full: free some space, then writing goes on ({0})")]
    Full(Arc<str>),
    /// A write or a sync failed. Nothing acknowledged is lost; nothing more is written until a restart.
    #[error("the disk failed and nothing more is written until a restart: {0}")]
    Failed(Arc<str>),
    /// What was read back is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(Arc<str>),
}

/// Keeps blocks durably, and answers what the ledger must know of them.
///
/// "Best chain" below is the chain as of the last successful commit.
pub trait Storage {
    /// A branch that is being collected beside the chain.
    type Staging;

    /// The end of the best chain.
    fn tip(&self) -> Tip;

    /// The hash at a height of the best chain; `None` above the tip.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError>;

    /// The height of a block of the best chain; `None` if it is not on it.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn height_of(&self, hash: &BlockHash) -> Result<Option<Height>, StorageError>;

    /// A block of the best chain or a kept side block.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn block(&self, hash: &BlockHash) -> Result<Option<SharedBlock>, StorageError>;

    /// All kept side blocks, parents before children. Asked once, at start.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn side_blocks(&self) -> Result<Vec<SideBlock>, StorageError>;

    /// The submissions that wait to be mined again. Asked once, at start.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn pending(&self) -> Result<Vec<SubmissionId>, StorageError>;

    /// The submissions that this node placed in a block, on the best chain or not. Never forgotten, even when the block
    /// itself is; empty for a block of another node.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn placed_in(&self, block: &BlockHash) -> Result<Vec<Placed>, StorageError>;

    /// Every block that a submission was placed in, oldest first, the first placement included; empty if no submission has
    /// this name.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn placements_of(&self, submission: &SubmissionId) -> Result<Vec<(BlockHash, Placed)>, StorageError>;

    /// The entries of a submission.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn entries_of(&self, submission: &SubmissionId) -> Result<Option<Vec<String>>, StorageError>;

    /// The submission that came with an idempotency key.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn submission_by_key(&self, key: &KeyDigest) -> Result<Option<SubmissionId>, StorageError>;

    /// Makes a batch durable, and then visible to readers.
    ///
    /// # Errors
    /// Nothing was changed. After [`StorageError::Failed`] every later commit fails too.
    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError>;

    /// Begins a branch that will leave the best chain above `fork`.
    ///
    /// # Errors
    /// No room, or a failing disk.
    fn stage(&mut self, fork: Tip) -> Result<Self::Staging, StorageError>;

    /// Adds the next blocks of a staged branch; not durable before the branch is adopted.
    ///
    /// # Errors
    /// No room, or a failing disk; the branch cannot go on.
    fn stage_append(&mut self, staging: &mut Self::Staging, blocks: &[SharedBlock]) -> Result<(), StorageError>;

    /// Reads back a staged block by its place in the branch, from 0, as it now stands on disk.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn staged_block(&self, staging: &Self::Staging, place: u64) -> Result<Option<SharedBlock>, StorageError>;

    /// Makes a staged branch the best chain above its fork in one durable step, with the outbox's part of `batch`, whose
    /// `blocks` are empty and whose `change` names the fork and the new tip.
    ///
    /// # Errors
    /// Nothing was changed.
    fn adopt(&mut self, staging: Self::Staging, batch: &Batch) -> Result<(), StorageError>;

    /// Gives up a staged branch and its room.
    fn discard(&mut self, staging: Self::Staging);
}
