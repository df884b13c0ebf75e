//! The keeper: chain, outbox and storage behind the few operations that a node needs.
//!
//! Owns the order of things: judge, make durable, take over, tell. Everything that comes out of here as done *is* durable.
//! Refuses to know actors, peers and clocks: one caller drives it, and brings the time and the random numbers.

use std::collections::HashMap;

use rand::Rng;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::block::{Block, CheckedBlock, Header, Height, SharedBlock, Tip, UnixTime, Version};
use super::chain::{self, Branch, Chain, ImportError, Origin, Verdict};
use super::hash::BlockHash;
use super::limits::{MAX_BODY_BYTES, MAX_BODY_ENTRIES};
use super::merkle;
use super::outbox::{Effect, Millis, Outbox};
use super::rules::{self, RuleError};
use super::storage::{Batch, BatchBlock, KeyDigest, Placed, SideBlock, Storage, StorageError, SubmissionId, TipChange};

/// Runs longer than this are written beside the chain, read back and only then switched in.
pub const STAGE_ABOVE: usize = 1_000;

/// Blocks that enter by a switch and are told to others as blocks; of more only the tip is told.
pub const MAX_TOLD: usize = 1_000;

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

    // ---- Mining.

    /// Mines each request into a block of its own, all in one durable step. The answers stand in the order of the requests;
    /// when the step fails, every request that needed it gets its error.
    pub fn mine(
        &mut self,
        requests: Vec<MineRequest>,
        now: UnixTime,
    ) -> (Vec<Result<Mined, MineError>>, Option<Update>) {
        let mut group = Group::after(self.tip(), now);
        let mut answers: Vec<Result<Mined, MineError>> =
            requests.into_iter().map(|request| self.mine_one(request, &mut group)).collect();
        match self.commit_group(group, &[]) {
            Ok(update) => (answers, update),
            Err(error) => {
                let tip = self.tip();
                for answer in &mut answers {
                    // What was mined before this group is on record and stays true.
                    if answer.as_ref().is_ok_and(|mined| mined.block.height() > tip.height) {
                        *answer = Err(error.clone().into());
                    }
                }
                (answers, None)
            }
        }
    }

    fn mine_one(&self, request: MineRequest, group: &mut Group) -> Result<Mined, MineError> {
        let MineRequest { entries, key } = request;
        let key = key.map(|key| -> KeyDigest { Sha256::digest(key).into() });
        if let Some(key) = &key
            && let Some(mined) = self.mined_before(key, group)?
        {
            let (first, end) = (mined.1 as usize, mined.2 as usize);
            let same = mined.0.block.body().get(first..end) == Some(&entries[..]);
            return if same { Ok(mined.0) } else { Err(MineError::KeyReused) };
        }
        let block = group.next_block(entries)?;
        let submission = SubmissionId { block: block.hash(), position: 0 };
        // Bodies have at most 10,000 entries, which the rules have just checked.
        let count = block.body().len() as u32;
        let mined = Mined { block: block.clone(), submission };
        if let Some(key) = key {
            group.keys.insert(key, mined.clone());
        }
        group.push(block, vec![Placed { submission, position: 0, entries: count, key }]);
        Ok(mined)
    }

    /// The submission that came with this key, with the range of its entries in its first block.
    fn mined_before(&self, key: &KeyDigest, group: &Group) -> Result<Option<(Mined, u32, u32)>, StorageError> {
        if let Some(mined) = group.keys.get(key) {
            let end = mined.block.body().len() as u32;
            return Ok(Some((mined.clone(), 0, end)));
        }
        let Some(submission) = self.storage.submission_by_key(key)? else { return Ok(None) };
        let placed = self.storage.placed_in(&submission.block)?;
        let Some(placed) = placed.into_iter().find(|placed| placed.submission == submission) else {
            return Err(StorageError::Damaged(format!("submission {submission:?} is nowhere placed").into()));
        };
        let Some(block) = self.storage.block(&submission.block)? else {
            return Err(StorageError::Damaged(format!("block {} of a submission is missing", submission.block).into()));
        };
        let end = placed.position.saturating_add(placed.entries);
        Ok(Some((Mined { block, submission }, placed.position, end)))
    }

    /// When the submissions that lost their place are to be mined again; `None` when there are none.
    pub fn remine_due(&mut self, now: Millis, rng: &mut impl Rng) -> Option<Millis> {
        self.outbox.due(now, rng)
    }

    /// Mines every waiting submission again on the best chain, in as few blocks as the limits allow.
    ///
    /// # Errors
    /// The store did not do its part; the submissions wait anew.
    pub fn remine(&mut self, now: UnixTime) -> Result<Option<Update>, MineError> {
        self.outbox.restart();
        let waiting: Vec<SubmissionId> = self.outbox.waiting().copied().collect();
        let mut group = Group::after(self.tip(), now);
        let (mut body, mut placed, mut bytes) = (Vec::new(), Vec::new(), 0);
        for submission in &waiting {
            let Some(entries) = self.storage.entries_of(submission)? else {
                return Err(StorageError::Damaged(format!("entries of {submission:?} are missing").into()).into());
            };
            let more: usize = entries.iter().map(String::len).sum();
            if !body.is_empty() && (bytes + more > MAX_BODY_BYTES || body.len() + entries.len() > MAX_BODY_ENTRIES) {
                let block = group.next_block(std::mem::take(&mut body))?;
                group.push(block, std::mem::take(&mut placed));
                bytes = 0;
            }
            placed.push(Placed {
                submission: *submission,
                position: body.len() as u32,
                entries: entries.len() as u32,
                key: None,
            });
            bytes += more;
            body.extend(entries);
        }
        if !body.is_empty() {
            let block = group.next_block(body)?;
            group.push(block, placed);
        }
        Ok(self.commit_group(group, &waiting)?)
    }

    fn commit_group(&mut self, group: Group, satisfied: &[SubmissionId]) -> Result<Option<Update>, StorageError> {
        if group.blocks.is_empty() {
            return Ok(None);
        }
        let old = self.tip();
        let change = TipChange { fork: old, revived: Vec::new(), tip: group.tip };
        let entered: Vec<SharedBlock> = group.blocks.iter().map(|block| block.block.clone()).collect();
        let batch =
            Batch { blocks: group.blocks, change: Some(change), satisfied: satisfied.to_vec(), ..Batch::default() };
        self.storage.commit(&batch)?;
        self.outbox.note(&Effect { lost: Vec::new(), satisfied: batch.satisfied });
        Ok(Some(Update { old, fork: old, new: group.tip, left: Vec::new(), entered, requeued: 0 }))
    }

    // ---- Blocks of others.

    /// Takes a run of blocks, each the child of the one before.
    ///
    /// # Errors
    /// The first rule that a block breaks, or the store did not do its part. Nothing has changed then.
    pub fn import(&mut self, run: &[SharedBlock], origin: Origin, rng: &mut impl Rng) -> Result<Imported, ImportError> {
        match self.chain.judge(run, &self.storage, origin, self.max_reorg)? {
            Verdict::Known => Ok(Imported::Known),
            Verdict::Unconnected => Ok(Imported::Unconnected),
            Verdict::Side { new } => {
                self.keep_aside(&run[new], false)?;
                Ok(Imported::Side)
            }
            Verdict::Parked { new, depth } => {
                self.keep_aside(&run[new], true)?;
                Ok(Imported::Parked { depth })
            }
            Verdict::Change { new, change } if new.len() > STAGE_ABOVE => {
                let mut staged = self.stage(change.fork)?;
                let outcome = self.stage_run(&mut staged, &change.revived, &run[new]);
                match outcome {
                    Ok(()) => self.switch(staged, origin, rng),
                    Err(error) => {
                        self.discard(staged);
                        Err(error)
                    }
                }
            }
            Verdict::Change { new, change } => Ok(Imported::Changed(self.change(&run[new], change)?)),
        }
    }

    fn stage_run(
        &mut self,
        staged: &mut Staged<S::Staging>,
        revived: &[BlockHash],
        run: &[SharedBlock],
    ) -> Result<(), ImportError> {
        let revived = self.blocks_of(revived)?;
        if !revived.is_empty() {
            self.stage_append(staged, &revived)?;
        }
        for chunk in run.chunks(STAGE_ABOVE) {
            self.stage_append(staged, chunk)?;
        }
        Ok(())
    }

    fn keep_aside(&mut self, blocks: &[SharedBlock], parked: bool) -> Result<(), StorageError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let come: Vec<SideBlock> = blocks.iter().map(|block| chain::side_block(block, parked)).collect();
        let forget = self.chain.overflow(&[], &come);
        let batch = Batch {
            blocks: blocks.iter().map(|block| BatchBlock { block: block.clone(), placed: Vec::new() }).collect(),
            park: if parked { come.iter().map(|side| side.hash).collect() } else { Vec::new() },
            forget,
            ..Batch::default()
        };
        self.storage.commit(&batch)?;
        self.chain.note(&[], come);
        self.chain.note(&batch.forget, Vec::new());
        Ok(())
    }

    /// Changes the best chain by one durable step.
    fn change(&mut self, new: &[SharedBlock], change: TipChange) -> Result<Update, StorageError> {
        let mut entered = self.blocks_of(&change.revived)?;
        entered.extend_from_slice(new);
        let heights: HashMap<BlockHash, Height> = entered.iter().map(|block| (block.hash(), block.height())).collect();
        let departure = self.departure(change.fork, |hash| heights.contains_key(hash))?;
        let batch = Batch {
            blocks: new.iter().map(|block| BatchBlock { block: block.clone(), placed: Vec::new() }).collect(),
            forget: self.chain.overflow(&change.revived, &departure.sides),
            pending: departure.effect.lost.clone(),
            satisfied: departure.effect.satisfied.clone(),
            change: Some(change.clone()),
            ..Batch::default()
        };
        let old = self.tip();
        self.storage.commit(&batch)?;
        Ok(self.changed(old, change, departure, &batch.forget, entered))
    }

    /// Takes over a change that has become durable.
    fn changed(
        &mut self,
        old: Tip,
        change: TipChange,
        departure: Departure,
        forgotten: &[BlockHash],
        entered: Vec<SharedBlock>,
    ) -> Update {
        let left = departure.sides.iter().map(|side| side.hash).collect();
        self.chain.note(&change.revived, departure.sides);
        self.chain.note(forgotten, Vec::new());
        self.outbox.note(&departure.effect);
        let requeued = departure.effect.lost.len();
        let entered = if entered.len() > MAX_TOLD { Vec::new() } else { entered };
        Update { old, fork: change.fork, new: change.tip, left, entered, requeued }
    }

    /// What leaves the best chain above `fork`, when the blocks that `enters` names come in.
    fn departure(&self, fork: Tip, enters: impl Fn(&BlockHash) -> bool) -> Result<Departure, StorageError> {
        let (mut sides, mut placed) = (Vec::new(), Vec::new());
        for height in fork.height.0 + 1..=self.tip().height.0 {
            let Some(hash) = self.storage.hash_at(Height(height))? else {
                return Err(StorageError::Damaged(format!("no block at height {height} below the tip").into()));
            };
            let Some(block) = self.storage.block(&hash)? else {
                return Err(StorageError::Damaged(format!("block {hash} at height {height} is missing").into()));
            };
            sides.push(chain::side_block(&block, false));
            placed.extend(self.storage.placed_in(&hash)?);
        }
        let on_new_chain = |hash: &BlockHash| -> Result<bool, StorageError> {
            Ok(enters(hash) || self.storage.height_of(hash)?.is_some_and(|height| height <= fork.height))
        };
        let effect = self.outbox.judge(&placed, &self.storage, on_new_chain)?;
        Ok(Departure { sides, effect })
    }

    fn blocks_of(&self, hashes: &[BlockHash]) -> Result<Vec<SharedBlock>, StorageError> {
        let block = |hash: &BlockHash| {
            self.storage
                .block(hash)?
                .ok_or_else(|| StorageError::Damaged(format!("side block {hash} is missing").into()))
        };
        hashes.iter().map(block).collect()
    }

    // ---- What an operator asks for.

    /// Makes a kept branch that ends in this block the best chain, whatever it undoes.
    ///
    /// # Errors
    /// There is no such side block, the branch does not beat the tip, or the store did not do its part.
    pub fn adopt_side(&mut self, hash: &BlockHash) -> Result<Update, OperatorError> {
        let tip = self.chain.side_tip(hash).ok_or(OperatorError::NoSideBlock { hash: *hash })?;
        let best = self.tip();
        if !tip.beats(&best) {
            return Err(OperatorError::NotBetter { tip, best });
        }
        let (fork, revived) = self.chain.path_down(tip, &self.storage)?;
        Ok(self.change(&[], TipChange { fork, revived, tip })?)
    }

    /// Mines the entries of another node's side blocks again, from where they leave the best chain up to this block: for a
    /// node that is gone for good and will not do so itself. A block is requeued once, however often this is asked; should
    /// the other node come back after all, its entries are there twice.
    ///
    /// # Errors
    /// There is no such side block, or it cannot be mined.
    pub fn requeue(&mut self, hash: &BlockHash, now: UnixTime) -> Result<(Vec<Mined>, Option<Update>), OperatorError> {
        let tip = self.chain.side_tip(hash).ok_or(OperatorError::NoSideBlock { hash: *hash })?;
        let (_, path) = self.chain.path_down(tip, &self.storage)?;
        let mut requests = Vec::new();
        for block in self.blocks_of(&path)? {
            // What this node has placed there comes back by itself.
            if self.storage.placed_in(&block.hash())?.is_empty() {
                let key = Some(format!("requeue {}", block.hash()));
                requests.push(MineRequest { entries: block.body().to_vec(), key });
            }
        }
        let (answers, update) = self.mine(requests, now);
        let mined: Result<Vec<Mined>, MineError> = answers.into_iter().collect();
        Ok((mined?, update))
    }

    // ---- Staged branches.

    /// Begins to collect a branch that leaves the best chain above `fork`.
    ///
    /// # Errors
    /// No room, or a failing disk.
    pub fn stage(&mut self, fork: Tip) -> Result<Staged<S::Staging>, StorageError> {
        let staging = self.storage.stage(fork)?;
        Ok(Staged { staging, fork, tip: fork, count: 0 })
    }

    /// Adds the next blocks of a branch.
    ///
    /// # Errors
    /// The first rule that a block breaks against its parent, or the store did not do its part: give the branch up.
    pub fn stage_append(&mut self, staged: &mut Staged<S::Staging>, blocks: &[SharedBlock]) -> Result<(), ImportError> {
        let tip = rules::check_run(blocks.iter().map(AsRef::as_ref), staged.tip)?;
        self.storage.stage_append(&mut staged.staging, blocks)?;
        staged.tip = tip;
        staged.count += blocks.len() as u64;
        Ok(())
    }

    /// Reads spans of the branch back and verifies them again, then makes it the best chain if it still is better.
    ///
    /// # Errors
    /// What was read back is not what was verified, or the store did not do its part. Nothing has changed then.
    pub fn switch(
        &mut self,
        staged: Staged<S::Staging>,
        origin: Origin,
        rng: &mut impl Rng,
    ) -> Result<Imported, ImportError> {
        let old = self.tip();
        if staged.count == 0 || !staged.tip.beats(&old) {
            self.discard(staged);
            return Ok(Imported::Known);
        }
        if self.storage.hash_at(staged.fork.height)? != Some(staged.fork.hash) {
            self.discard(staged);
            return Ok(Imported::Unconnected);
        }
        let depth = old.height.0 - staged.fork.height.0;
        if origin == Origin::Stranger && depth > self.max_reorg && old.height > Height::GENESIS {
            return Ok(self.park(staged, depth)?);
        }
        if let Err(error) = self.verify_again(&staged, rng) {
            self.discard(staged);
            return Err(error.into());
        }
        Ok(Imported::Changed(self.adopt(staged, old)?))
    }

    /// Keeps a staged branch as side blocks, as far as they are few enough to be kept at all.
    fn park(&mut self, staged: Staged<S::Staging>, depth: u64) -> Result<Imported, StorageError> {
        let mut blocks = Vec::new();
        let keep = staged.count <= super::limits::MAX_SIDE_BLOCKS as u64;
        for place in 0..if keep { staged.count } else { 0 } {
            let Some(block) = self.storage.staged_block(&staged.staging, place)? else { break };
            let known = self.chain.is_side(&block.hash());
            if !known {
                blocks.push(block);
            }
        }
        self.discard(staged);
        self.keep_aside(&blocks, true)?;
        Ok(Imported::Parked { depth })
    }

    fn verify_again(&self, staged: &Staged<S::Staging>, rng: &mut impl Rng) -> Result<(), StorageError> {
        let damaged = |error: RuleError| StorageError::Damaged(format!("a staged block changed: {error}").into());
        for span in chain::further_rounds(staged.count, rng) {
            let mut last: Option<Tip> = None;
            for place in span {
                let Some(block) = self.storage.staged_block(&staged.staging, place)? else {
                    return Err(StorageError::Damaged(format!("staged block {place} is missing").into()));
                };
                // The time was judged when the block arrived; its own time can never be ahead of itself.
                let time = block.header().time;
                let block = rules::check_alone(block.block().clone(), time).map_err(damaged)?;
                if let Some(parent) = last {
                    rules::check_with_parent(&block, parent).map_err(damaged)?;
                }
                last = Some(block.tip());
            }
        }
        Ok(())
    }

    fn adopt(&mut self, staged: Staged<S::Staging>, old: Tip) -> Result<Update, StorageError> {
        let fork = staged.fork;
        // The blocks that enter were few enough to remember only if they are few; only waiting and leaving submissions ask.
        let staged_hashes = self.staged_placements(&staged)?;
        let departure = self.departure(fork, |hash| staged_hashes.contains(hash))?;
        let revived: Vec<BlockHash> = self.staged_sides(&staged)?;
        let change = TipChange { fork, revived: Vec::new(), tip: staged.tip };
        let mut forget = revived.clone();
        forget.extend(self.chain.overflow(&revived, &departure.sides));
        let batch = Batch {
            change: Some(change.clone()),
            forget,
            pending: departure.effect.lost.clone(),
            satisfied: departure.effect.satisfied.clone(),
            ..Batch::default()
        };
        self.storage.adopt(staged.staging, &batch)?;
        Ok(self.changed(old, change, departure, &batch.forget, Vec::new()))
    }

    /// Side blocks that are also in the staged branch.
    fn staged_sides(&self, staged: &Staged<S::Staging>) -> Result<Vec<BlockHash>, StorageError> {
        self.chain.hashes_above(staged.fork.height, staged.tip.height).try_fold(Vec::new(), |mut found, side| {
            if self.is_staged(staged, side.height, &side.hash)? {
                found.push(side.hash);
            }
            Ok(found)
        })
    }

    /// Blocks of the staged branch that hold a submission which waits, or which leaves with the old chain.
    fn staged_placements(
        &self,
        staged: &Staged<S::Staging>,
    ) -> Result<std::collections::HashSet<BlockHash>, StorageError> {
        let mut asked: Vec<SubmissionId> = self.outbox.waiting().copied().collect();
        for height in staged.fork.height.0 + 1..=self.tip().height.0 {
            if let Some(hash) = self.storage.hash_at(Height(height))? {
                asked.extend(self.storage.placed_in(&hash)?.into_iter().map(|placed| placed.submission));
            }
        }
        let mut found = std::collections::HashSet::new();
        for submission in asked {
            for (hash, _) in self.storage.placements_of(&submission)? {
                let Some(block) = self.storage.block(&hash)? else { continue };
                if self.is_staged(staged, block.height(), &hash)? {
                    found.insert(hash);
                }
            }
        }
        Ok(found)
    }

    fn is_staged(&self, staged: &Staged<S::Staging>, height: Height, hash: &BlockHash) -> Result<bool, StorageError> {
        let Some(place) = height.0.checked_sub(staged.fork.height.0 + 1) else { return Ok(false) };
        if place >= staged.count {
            return Ok(false);
        }
        Ok(self.storage.staged_block(&staged.staging, place)?.is_some_and(|block| block.hash() == *hash))
    }

    /// Gives a branch up.
    pub fn discard(&mut self, staged: Staged<S::Staging>) {
        self.storage.discard(staged.staging);
    }

    // ---- Questions.

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

/// What leaves the best chain, and what that does to the outbox.
struct Departure {
    /// The blocks, lowest first.
    sides: Vec<SideBlock>,
    effect: Effect,
}

/// Blocks that are mined in one durable step.
struct Group {
    now: UnixTime,
    tip: Tip,
    blocks: Vec<BatchBlock>,
    keys: HashMap<KeyDigest, Mined>,
}

impl Group {
    fn after(tip: Tip, now: UnixTime) -> Self {
        Self { now, tip, blocks: Vec::new(), keys: HashMap::new() }
    }

    /// The block of these entries on top of the group.
    fn next_block(&self, entries: Vec<String>) -> Result<SharedBlock, MineError> {
        rules::check_body(&entries)?;
        let merkle_root = merkle::root(&entries).ok_or(RuleError::BodyEmpty)?;
        let index = self.tip.height.next();
        if !super::block::is_safe_integer(index.0) {
            return Err(MineError::ChainFull);
        }
        let header =
            Header { version: Version::mined(), index, previous_hash: self.tip.hash, time: self.now, merkle_root };
        let hash = header.hash();
        Ok(CheckedBlock::trusted(Block { header, body: entries }, hash).into())
    }

    fn push(&mut self, block: SharedBlock, placed: Vec<Placed>) {
        self.tip = block.tip();
        self.blocks.push(BatchBlock { block, placed });
    }
}
