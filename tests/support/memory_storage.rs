//! The storage in its plainest form: a few maps. What every other storage has to agree with.
//!
//! Nothing here is fast, and nothing is durable. Follows the words of the trait `Storage` one by one, so that it can be
//! held against them by reading.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dolmen::ledger::block::{Height, SharedBlock, Tip};
use dolmen::ledger::genesis;
use dolmen::ledger::hash::BlockHash;
use dolmen::ledger::storage::{Batch, KeyDigest, Placed, SideBlock, Storage, StorageError, SubmissionId};

/// Keeps blocks in memory.
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    /// The best chain, genesis first.
    chain: Vec<SharedBlock>,
    /// Height of each block of the best chain.
    heights: HashMap<BlockHash, usize>,
    /// The kept side blocks, and whether each is parked.
    sides: HashMap<BlockHash, (SharedBlock, bool)>,
    /// The blocks that this node mined, and what it placed in them.
    own: HashMap<BlockHash, (SharedBlock, Vec<Placed>)>,
    /// Blocks that a submission was placed in, oldest first.
    placements: HashMap<SubmissionId, Vec<BlockHash>>,
    keys: BTreeMap<KeyDigest, SubmissionId>,
    pending: BTreeSet<SubmissionId>,
}

/// A branch beside the chain.
#[derive(Debug)]
pub struct MemoryStaging {
    fork: Tip,
    blocks: Vec<SharedBlock>,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        let genesis = genesis::block();
        Self {
            heights: HashMap::from([(genesis.hash(), 0)]),
            chain: vec![genesis],
            sides: HashMap::new(),
            own: HashMap::new(),
            placements: HashMap::new(),
            keys: BTreeMap::new(),
            pending: BTreeSet::new(),
        }
    }
}

impl MemoryStorage {
    /// A chain of genesis alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// The best chain, genesis first.
    pub fn chain(&self) -> &[SharedBlock] {
        &self.chain
    }

    /// Every own block that was ever committed.
    pub fn own_blocks(&self) -> impl Iterator<Item = &BlockHash> {
        self.own.keys()
    }

    /// Every submission that was ever placed.
    pub fn submissions(&self) -> impl Iterator<Item = &SubmissionId> {
        self.placements.keys()
    }

    /// Every key that was ever used.
    pub fn keys(&self) -> impl Iterator<Item = &KeyDigest> {
        self.keys.keys()
    }

    fn turn(&mut self, fork: Tip, entering: Vec<SharedBlock>, tip: Tip) -> Result<(), StorageError> {
        let at = usize::try_from(fork.height.0).map_err(|error| refused(error.to_string()))?;
        if self.chain.get(at).map(|block| block.tip()) != Some(fork) {
            return Err(refused(format!("{fork} is not on the chain")));
        }
        let mut last = fork;
        for block in &entering {
            if block.parent() != last.hash || block.height() != last.height.next() {
                return Err(refused(format!("{} does not follow {last}", block.tip())));
            }
            last = block.tip();
        }
        if last != tip {
            return Err(refused(format!("the change ends in {last}, not in {tip}")));
        }
        for left in self.chain.drain(at + 1..) {
            self.heights.remove(&left.hash());
            self.sides.insert(left.hash(), (left, false));
        }
        for block in entering {
            self.sides.remove(&block.hash());
            self.heights.insert(block.hash(), self.chain.len());
            self.chain.push(block);
        }
        Ok(())
    }

    fn settle(&mut self, batch: &Batch) {
        for hash in &batch.park {
            if let Some((_, parked)) = self.sides.get_mut(hash) {
                *parked = true;
            }
        }
        for hash in &batch.forget {
            self.sides.remove(hash);
        }
        self.pending.extend(&batch.pending);
        for submission in &batch.satisfied {
            self.pending.remove(submission);
        }
    }
}

impl Storage for MemoryStorage {
    type Staging = MemoryStaging;

    fn tip(&self) -> Tip {
        self.chain.last().map_or_else(genesis::tip, |block| block.tip())
    }

    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError> {
        Ok(usize::try_from(height.0).ok().and_then(|at| self.chain.get(at)).map(|block| block.hash()))
    }

    fn height_of(&self, hash: &BlockHash) -> Result<Option<Height>, StorageError> {
        Ok(self.heights.get(hash).map(|at| Height(*at as u64)))
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<SharedBlock>, StorageError> {
        let on_chain = self.heights.get(hash).and_then(|at| self.chain.get(*at));
        Ok(on_chain.or_else(|| self.sides.get(hash).map(|(block, _)| block)).cloned())
    }

    fn side_blocks(&self) -> Result<Vec<SideBlock>, StorageError> {
        let side = |(block, parked): &(SharedBlock, bool)| SideBlock {
            hash: block.hash(),
            parent: block.parent(),
            height: block.height(),
            bytes: block.block().body_bytes() as u64,
            parked: *parked,
        };
        let mut sides: Vec<SideBlock> = self.sides.values().map(side).collect();
        sides.sort_unstable_by_key(|side| (side.height, side.hash));
        Ok(sides)
    }

    fn pending(&self) -> Result<Vec<SubmissionId>, StorageError> {
        Ok(self.pending.iter().copied().collect())
    }

    fn placed_in(&self, block: &BlockHash) -> Result<Vec<Placed>, StorageError> {
        Ok(self.own.get(block).map(|(_, placed)| placed.clone()).unwrap_or_default())
    }

    fn placements_of(&self, submission: &SubmissionId) -> Result<Vec<(BlockHash, Placed)>, StorageError> {
        let blocks = self.placements.get(submission).cloned().unwrap_or_default();
        let placed = |hash: BlockHash| {
            let (_, placed) = &self.own[&hash];
            placed.iter().find(|placed| placed.submission == *submission).map(|placed| (hash, placed.clone()))
        };
        Ok(blocks.into_iter().filter_map(placed).collect())
    }

    fn entries_of(&self, submission: &SubmissionId) -> Result<Option<Vec<String>>, StorageError> {
        let Some((block, placed)) = self.own.get(&submission.block) else { return Ok(None) };
        let placed = placed.iter().find(|placed| placed.submission == *submission);
        Ok(placed.map(|placed| {
            let from = placed.position as usize;
            block.body()[from..from + placed.entries as usize].to_vec()
        }))
    }

    fn submission_by_key(&self, key: &KeyDigest) -> Result<Option<SubmissionId>, StorageError> {
        Ok(self.keys.get(key).copied())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let blocks: Vec<SharedBlock> = batch.blocks.iter().map(|block| block.block.clone()).collect();
        match &batch.change {
            Some(change) => {
                let revived = change.revived.iter().map(|hash| self.sides.get(hash).map(|(block, _)| block.clone()));
                let revived = revived.collect::<Option<Vec<_>>>().ok_or_else(|| refused("not kept".to_owned()))?;
                self.turn(change.fork, revived.into_iter().chain(blocks).collect(), change.tip)?;
            }
            None => self.sides.extend(blocks.into_iter().map(|block| (block.hash(), (block, false)))),
        }
        for block in batch.blocks.iter().filter(|block| !block.placed.is_empty()) {
            let hash = block.block.hash();
            for placed in &block.placed {
                self.placements.entry(placed.submission).or_default().push(hash);
                self.keys.extend(placed.key.map(|key| (key, placed.submission)));
            }
            self.own.insert(hash, (block.block.clone(), block.placed.clone()));
        }
        self.settle(batch);
        Ok(())
    }

    fn stage(&mut self, fork: Tip) -> Result<MemoryStaging, StorageError> {
        Ok(MemoryStaging { fork, blocks: Vec::new() })
    }

    fn stage_append(&mut self, staging: &mut MemoryStaging, blocks: &[SharedBlock]) -> Result<(), StorageError> {
        staging.blocks.extend_from_slice(blocks);
        Ok(())
    }

    fn staged_block(&self, staging: &MemoryStaging, place: u64) -> Result<Option<SharedBlock>, StorageError> {
        Ok(usize::try_from(place).ok().and_then(|at| staging.blocks.get(at)).cloned())
    }

    fn adopt(&mut self, staging: MemoryStaging, batch: &Batch) -> Result<(), StorageError> {
        let tip = batch.change.as_ref().map_or(staging.fork, |change| change.tip);
        self.turn(staging.fork, staging.blocks, tip)?;
        self.settle(batch);
        Ok(())
    }

    fn discard(&mut self, staging: MemoryStaging) {
        drop(staging);
    }
}

fn refused(why: String) -> StorageError {
    StorageError::Failed(why.into())
}
