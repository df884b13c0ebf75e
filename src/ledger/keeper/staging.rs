//! Staged branches: collected beside the chain, read back, and switched in whole or not at all.

use std::collections::HashSet;
use std::ops::Range;

use rand::Rng;

use super::{Imported, Keeper, RESTAGED, Staged, Update};
use crate::ledger::block::{Height, SharedBlock, Tip};
use crate::ledger::chain::{self, ImportError, Origin};
use crate::ledger::hash::BlockHash;
use crate::ledger::limits;
use crate::ledger::rules::{self, RuleError};
use crate::ledger::storage::{Batch, Storage, StorageError, SubmissionId, TipChange};
impl<S: Storage> Keeper<S> {
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
        let staged = self.without_known(staged)?;
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

    /// The branch without the blocks at its beginning that have entered the best chain by another way since it was begun:
    /// they neither leave nor enter.
    fn without_known(&mut self, staged: Staged<S::Staging>) -> Result<Staged<S::Staging>, ImportError> {
        let outcome = match self.known_places(&staged) {
            Ok(0) => return Ok(staged),
            Ok(known) => self.restage(&staged, known),
            Err(error) => Err(error.into()),
        };
        self.discard(staged);
        outcome
    }

    /// How many blocks at the branch's beginning are on the best chain.
    fn known_places(&self, staged: &Staged<S::Staging>) -> Result<u64, StorageError> {
        let first = staged.fork.height.0 + 1;
        let (mut known, mut unknown) = (0, staged.count.min(self.tip().height.0 - staged.fork.height.0));
        while known < unknown {
            let middle = known + (unknown - known) / 2;
            let hash = self.storage.staged_block(&staged.staging, middle)?.map(|block| block.hash());
            if hash.is_some() && self.storage.hash_at(Height(first + middle))? == hash {
                known = middle + 1;
            } else {
                unknown = middle;
            }
        }
        Ok(known)
    }

    /// A second branch of the blocks from a place on.
    fn restage(&mut self, old: &Staged<S::Staging>, from: u64) -> Result<Staged<S::Staging>, ImportError> {
        let fork = self.staged_run(old, from - 1..from)?[0].tip();
        let mut new = self.stage(fork)?;
        let mut at = from;
        while at < old.count {
            let end = old.count.min(at + RESTAGED);
            let copied = self.staged_run(old, at..end).map_err(ImportError::from);
            if let Err(error) = copied.and_then(|run| self.stage_append(&mut new, &run)) {
                self.discard(new);
                return Err(error);
            }
            at = end;
        }
        Ok(new)
    }

    fn staged_run(&self, staged: &Staged<S::Staging>, places: Range<u64>) -> Result<Vec<SharedBlock>, StorageError> {
        let missing = |place| StorageError::Damaged(format!("staged block {place} is missing").into());
        places.map(|place| self.storage.staged_block(&staged.staging, place)?.ok_or_else(|| missing(place))).collect()
    }

    /// Keeps a staged branch as side blocks, as far as they are few enough to be kept at all.
    fn park(&mut self, staged: Staged<S::Staging>, depth: u64) -> Result<Imported, StorageError> {
        let mut blocks = Vec::new();
        let keep = staged.count <= limits::MAX_PARKED_BLOCKS as u64;
        for place in 0..if keep { staged.count } else { 0 } {
            let Some(block) = self.storage.staged_block(&staged.staging, place)? else { break };
            if self.chain.side_tip(&block.hash()).is_none() {
                blocks.push(block);
            }
        }
        self.discard(staged);
        self.keep_aside(&blocks, true, Origin::Stranger)?;
        Ok(Imported::Parked { depth })
    }

    fn verify_again(&self, staged: &Staged<S::Staging>, rng: &mut impl Rng) -> Result<(), StorageError> {
        let damaged = |error: RuleError| StorageError::Damaged(format!("a staged block changed: {error}").into());
        for span in chain::further_rounds(staged.count, rng) {
            // What the span must join on to, where that is known.
            let mut last: Option<Tip> = (span.start == 0).then_some(staged.fork);
            let wanted_end = (span.end == staged.count).then_some(staged.tip);
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
            if wanted_end.is_some() && last != wanted_end {
                return Err(StorageError::Damaged("the last staged block changed".into()));
            }
        }
        Ok(())
    }

    fn adopt(&mut self, staged: Staged<S::Staging>, old: Tip) -> Result<Update, StorageError> {
        let fork = staged.fork;
        // The blocks that enter were few enough to remember only if they are few; only waiting and leaving submissions ask.
        let staged_hashes = self.staged_placements(&staged)?;
        let departure = self.departure(fork, staged_hashes)?;
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
    fn staged_placements(&self, staged: &Staged<S::Staging>) -> Result<HashSet<BlockHash>, StorageError> {
        let mut asked: Vec<SubmissionId> = self.outbox.waiting().copied().collect();
        for height in staged.fork.height.0 + 1..=self.tip().height.0 {
            if let Some(hash) = self.storage.hash_at(Height(height))? {
                asked.extend(self.storage.placed_in(&hash)?.into_iter().map(|placed| placed.submission));
            }
        }
        let (mut found, mut given_up) = (HashSet::new(), HashSet::new());
        let mut looked_at = HashSet::new();
        for submission in asked {
            for (hash, _) in self.storage.placements_of(&submission)? {
                // One block can hold thousands of them.
                if !looked_at.insert(hash) {
                    continue;
                }
                match self.storage.block(&hash)? {
                    Some(block) if self.is_staged(staged, block.height(), &hash)? => drop(found.insert(hash)),
                    Some(_) => {}
                    None => drop(given_up.insert(hash)),
                }
            }
        }
        // The height of a block that was given up is not known any more, and it may well come back with this branch.
        for place in 0..if given_up.is_empty() { 0 } else { staged.count } {
            let block = self.storage.staged_block(&staged.staging, place)?;
            found.extend(block.map(|block| block.hash()).filter(|hash| given_up.contains(hash)));
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
}
