//! Mining: what callers ask for, and what has lost its place on the best chain.

use std::borrow::Cow;
use std::collections::HashMap;

use rand::Rng;
use sha2::{Digest, Sha256};

use super::{Keeper, MineError, MineRequest, Mined, Update};
use crate::ledger::block::{self, Block, CheckedBlock, Header, SharedBlock, Tip, UnixTime, Version};
use crate::ledger::limits::{MAX_BODY_BYTES, MAX_BODY_ENTRIES};
use crate::ledger::merkle;
use crate::ledger::outbox::{Effect, Millis};
use crate::ledger::rules::{self, RuleError};
use crate::ledger::storage::{Batch, BatchBlock, KeyDigest, Placed, Storage, StorageError, SubmissionId, TipChange};

impl<S: Storage> Keeper<S> {
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
            && let Some(mined) = self.mined_before(key, &entries, group)?
        {
            return Ok(mined);
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

    /// The submission that came with this key, which must have been of the same entries.
    fn mined_before(&self, key: &KeyDigest, entries: &[String], group: &Group) -> Result<Option<Mined>, MineError> {
        if let Some(mined) = group.keys.get(key) {
            return if mined.block.body() == entries { Ok(Some(mined.clone())) } else { Err(MineError::KeyReused) };
        }
        let Some(submission) = self.storage.submission_by_key(key)? else { return Ok(None) };
        if self.storage.entries_of(&submission)?.as_deref() != Some(entries) {
            return Err(MineError::KeyReused);
        }
        // The first block, or a later one if that was given up since.
        for (hash, _) in self.storage.placements_of(&submission)? {
            if let Some(block) = self.storage.block(&hash)? {
                return Ok(Some(Mined { block, submission }));
            }
        }
        Err(StorageError::Damaged(format!("no block of submission {submission:?} is kept").into()).into())
    }

    /// When the submissions that lost their place are to be mined again; `None` when there are none.
    pub fn remine_due(&mut self, now: Millis, rng: &mut impl Rng) -> Option<Millis> {
        self.outbox.due(now, rng)
    }

    /// As [`remine`](Self::remine), if that is due: who loses again while some are mined waits anew.
    ///
    /// # Errors
    /// As there.
    pub fn remine_if_due(
        &mut self,
        clock: Millis,
        now: UnixTime,
        rng: &mut impl Rng,
    ) -> Result<Option<Update>, MineError> {
        if self.remine_due(clock, rng).is_some_and(|due| due <= clock) { self.remine(now) } else { Ok(None) }
    }

    /// Mines waiting submissions again on the best chain, as many as the limits allow in one block; `None` when none waits.
    /// Those that did not fit are due at once: in between others have their turn.
    ///
    /// # Errors
    /// The store did not do its part; the submissions wait anew.
    pub fn remine(&mut self, now: UnixTime) -> Result<Option<Update>, MineError> {
        let outcome = self.remine_block(now);
        match &outcome {
            Ok(_) => self.outbox.go_on(),
            Err(_) => self.outbox.restart(),
        }
        outcome
    }

    fn remine_block(&mut self, now: UnixTime) -> Result<Option<Update>, MineError> {
        let mut group = Group::after(self.tip(), now);
        let (mut body, mut placed, mut bytes) = (Vec::new(), Vec::new(), 0);
        for submission in self.outbox.waiting() {
            let entries = self.waiting_entries(submission)?;
            let more: usize = entries.iter().map(String::len).sum();
            if !body.is_empty() && (bytes + more > MAX_BODY_BYTES || body.len() + entries.len() > MAX_BODY_ENTRIES) {
                break;
            }
            placed.push(Placed {
                submission: *submission,
                position: body.len() as u32,
                entries: entries.len() as u32,
                key: None,
            });
            bytes += more;
            body.extend(entries.into_owned());
        }
        if body.is_empty() {
            return Ok(None);
        }
        let satisfied: Vec<SubmissionId> = placed.iter().map(|placed| placed.submission).collect();
        let block = group.next_block(body)?;
        group.push(block, placed);
        Ok(self.commit_group(group, &satisfied)?)
    }

    fn waiting_entries(&self, submission: &SubmissionId) -> Result<Cow<'_, [String]>, StorageError> {
        if let Some(entries) = self.outbox.entries(submission) {
            return Ok(Cow::Borrowed(entries));
        }
        match self.storage.entries_of(submission)? {
            Some(entries) => Ok(Cow::Owned(entries)),
            None => Err(StorageError::Damaged(format!("entries of {submission:?} are missing").into())),
        }
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
        if !block::is_safe_integer(index.0) {
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
