//! Blocks of others: beside the chain, onto it, or in place of its end.

use std::collections::HashSet;

use rand::Rng;

use super::{Imported, Keeper, MAX_TOLD, STAGE_ABOVE, Staged, Update};
use crate::ledger::block::{Height, SharedBlock, Tip};
use crate::ledger::chain::{self, ImportError, Origin, Verdict};
use crate::ledger::hash::BlockHash;
use crate::ledger::outbox::{self, Effect};
use crate::ledger::storage::{Batch, BatchBlock, Placed, SideBlock, Storage, StorageError, TipChange};

impl<S: Storage> Keeper<S> {
    /// Takes a run of blocks, each the child of the one before.
    ///
    /// # Errors
    /// The first rule that a block breaks, or the store did not do its part. Nothing has changed then.
    pub fn import(&mut self, run: &[SharedBlock], origin: Origin, rng: &mut impl Rng) -> Result<Imported, ImportError> {
        match self.chain.judge(run, &self.storage, origin, self.max_reorg)? {
            Verdict::Known => Ok(Imported::Known),
            Verdict::Unconnected => Ok(Imported::Unconnected),
            Verdict::Side { new } => {
                self.keep_aside(&run[new], false, origin)?;
                Ok(Imported::Side)
            }
            Verdict::Parked { new, depth } => {
                self.keep_aside(&run[new], true, origin)?;
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

    pub(super) fn keep_aside(
        &mut self,
        blocks: &[SharedBlock],
        parked: bool,
        origin: Origin,
    ) -> Result<(), StorageError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let come: Vec<SideBlock> = blocks.iter().map(|block| chain::side_block(block, parked)).collect();
        let forget = self.chain.overflow_from(&[], &come, origin);
        let given_up: HashSet<&BlockHash> = forget.iter().collect();
        if forget.len() == come.len() && come.iter().all(|side| given_up.contains(&side.hash)) {
            // Nothing of it would stay: it is not even written.
            return Ok(());
        }
        let batch = Batch {
            blocks: blocks.iter().map(|block| BatchBlock { block: block.clone(), placed: Vec::new() }).collect(),
            park: if parked { come.iter().map(|side| side.hash).collect() } else { Vec::new() },
            forget,
            ..Batch::default()
        };
        self.storage.commit(&batch)?;
        self.chain.note(&[], come.clone());
        self.chain.note_origin(&come, origin);
        self.chain.note(&batch.forget, Vec::new());
        Ok(())
    }

    /// Changes the best chain by one durable step.
    pub(super) fn change(&mut self, new: &[SharedBlock], change: TipChange) -> Result<Update, StorageError> {
        let mut entered = self.blocks_of(&change.revived)?;
        entered.extend_from_slice(new);
        let departure = self.departure(change.fork, entered.iter().map(|block| block.hash()))?;
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
    pub(super) fn changed(
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
        for (block, placed) in &departure.own {
            for placed in placed {
                if let Some(entries) = placed.entries_in(block.body()) {
                    self.outbox.keep(&placed.submission, entries);
                }
            }
        }
        let requeued = departure.effect.lost.len();
        let entered = if entered.len() > MAX_TOLD { Vec::new() } else { entered };
        Update { old, fork: change.fork, new: change.tip, left, entered, requeued }
    }

    /// What leaves the best chain above `fork`, when these blocks enter: all of them, or at least those that this node mined.
    pub(super) fn departure(
        &self,
        fork: Tip,
        enters: impl IntoIterator<Item = BlockHash>,
    ) -> Result<Departure, StorageError> {
        let (mut sides, mut left, mut own) = (Vec::new(), Vec::new(), Vec::new());
        let mut room = self.outbox.room();
        for height in fork.height.0 + 1..=self.tip().height.0 {
            let Some(hash) = self.storage.hash_at(Height(height))? else {
                return Err(StorageError::Damaged(format!("no block at height {height} below the tip").into()));
            };
            let Some(block) = self.storage.block(&hash)? else {
                return Err(StorageError::Damaged(format!("block {hash} at height {height} is missing").into()));
            };
            sides.push(chain::side_block(&block, false));
            let placed = self.storage.placed_in(&hash)?;
            left.extend_from_slice(&placed);
            let bytes = outbox::bytes_at_hand(block.body());
            if !placed.is_empty() && bytes <= room {
                room -= bytes;
                own.push((block, placed));
            }
        }
        let mut entered = Vec::new();
        // Most often nothing leaves and nothing waits, and no question is asked.
        if !left.is_empty() || !self.outbox.is_empty() {
            for hash in enters {
                entered.extend(self.storage.placed_in(&hash)?);
            }
        }
        Ok(Departure { sides, effect: self.outbox.judge(&left, &entered), own })
    }

    pub(super) fn blocks_of(&self, hashes: &[BlockHash]) -> Result<Vec<SharedBlock>, StorageError> {
        let block = |hash: &BlockHash| {
            self.storage
                .block(hash)?
                .ok_or_else(|| StorageError::Damaged(format!("side block {hash} is missing").into()))
        };
        hashes.iter().map(block).collect()
    }
}

/// What leaves the best chain, and what that does to the outbox.
pub(super) struct Departure {
    /// The blocks, lowest first.
    pub(super) sides: Vec<SideBlock>,
    pub(super) effect: Effect,
    /// Those that this node mined with what it placed in them, as many as the outbox has room for.
    own: Vec<(SharedBlock, Vec<Placed>)>,
}
