//! Random but sensible things to ask of a storage, and the comparison of one storage with another.

use dolmen::ledger::block::{Height, SharedBlock, Tip};
use dolmen::ledger::hash::BlockHash;
use dolmen::ledger::storage::{Batch, BatchBlock, Placed, Storage, StorageError, SubmissionId, TipChange};
use dolmen::store::Store;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::blocks::{block_on, branch, follow, theirs};
use crate::memory_storage::MemoryStorage;

/// One thing to ask of a storage.
#[derive(Clone, Debug)]
pub enum Op {
    Commit(Batch),
    /// A staged branch, given in pieces; adopted with this batch or given up.
    Stage {
        fork: Tip,
        blocks: Vec<SharedBlock>,
        piece: usize,
        adopt: Option<Batch>,
    },
}

impl Op {
    /// Asks it.
    pub fn ask<S: Storage>(&self, storage: &mut S) -> Result<(), StorageError> {
        match self {
            Self::Commit(batch) => storage.commit(batch),
            Self::Stage { fork, blocks, piece, adopt } => {
                let mut staging = storage.stage(*fork)?;
                for piece in blocks.chunks(*piece) {
                    if let Err(error) = storage.stage_append(&mut staging, piece) {
                        storage.discard(staging);
                        return Err(error);
                    }
                }
                for (place, block) in blocks.iter().enumerate() {
                    let read = match storage.staged_block(&staging, place as u64) {
                        Ok(read) => read,
                        Err(error) => {
                            storage.discard(staging);
                            return Err(error);
                        }
                    };
                    assert_eq!(read.as_ref(), Some(block), "staged block {place}");
                }
                match adopt {
                    Some(batch) => storage.adopt(staging, batch),
                    None => {
                        storage.discard(staging);
                        Ok(())
                    }
                }
            }
        }
    }
}

/// Makes up what to ask, looking at a storage in memory that was asked all before.
pub struct Scenario {
    pub rng: StdRng,
    pub model: MemoryStorage,
    /// Every block that ever was, for look-ups.
    pub known: Vec<BlockHash>,
    count: u64,
}

impl Scenario {
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), model: MemoryStorage::new(), known: vec![], count: 0 }
    }

    /// Makes something up.
    pub fn op(&mut self) -> Op {
        let op = match self.rng.random_range(0..20) {
            0..8 => Op::Commit(self.extend()),
            8..11 => Op::Commit(self.beside()),
            11..14 => Op::Commit(self.turn()),
            14..17 => self.stage(),
            _ => Op::Commit(self.settle(Batch::default())),
        };
        let blocks = match &op {
            Op::Commit(batch) => batch.blocks.iter().map(|block| block.block.hash()).collect::<Vec<_>>(),
            Op::Stage { blocks, .. } => blocks.iter().map(|block| block.hash()).collect(),
        };
        self.known.extend(blocks);
        op
    }

    /// Asks the model, too.
    pub fn accept(&mut self, op: &Op) {
        op.ask(&mut self.model).expect("the scenario only makes up what can be done");
    }

    fn extend(&mut self) -> Batch {
        let count = self.rng.random_range(1..6);
        let blocks = self.new_blocks(self.model.tip(), count);
        let batch = follow(self.model.tip(), blocks);
        if self.rng.random_bool(0.3) { self.settle(batch) } else { batch }
    }

    fn beside(&mut self) -> Batch {
        let Some(parent) = self.any_block() else { return self.extend() };
        let count = self.rng.random_range(1..4);
        Batch { blocks: self.new_blocks(parent, count), ..Batch::default() }
    }

    /// A reorg: to a kept branch and new blocks on it.
    fn turn(&mut self) -> Batch {
        let (fork, revived, end) = self.kept_branch();
        let wanted = self.model.tip().height.0.saturating_sub(end.height.0);
        let more = self.rng.random_range(0..4) + usize::from(revived.is_empty());
        let blocks = self.new_blocks(end, wanted as usize + more);
        let tip = blocks.last().map_or(end, |block| block.block.tip());
        let batch = Batch { blocks, change: Some(TipChange { fork, revived, tip }), ..Batch::default() };
        if self.rng.random_bool(0.5) { self.settle(batch) } else { batch }
    }

    fn stage(&mut self) -> Op {
        let tip = self.model.tip();
        let depth = self.rng.random_range(0..20).min(tip.height.0);
        let fork = self.tip_at(tip.height.0 - depth);
        let count = depth as usize + self.rng.random_range(1..12);
        self.count += 1;
        let mut blocks = branch(fork, count, &format!("staged {}", self.count));
        if self.rng.random_bool(0.3) {
            // An own block comes back from a peer.
            let own = self.model.own_blocks().min().copied();
            let own = own.and_then(|own| self.model.block(&own).ok().flatten());
            if let Some(own) = own.filter(|own| own.parent() == fork.hash) {
                blocks = vec![own.clone()];
                blocks.extend(branch(own.tip(), count, &format!("staged {}", self.count)));
            }
        }
        let tip = blocks[blocks.len() - 1].tip();
        let change = TipChange { fork, revived: vec![], tip };
        let piece = self.rng.random_range(1..5);
        let adopt = self.rng.random_bool(0.8).then(|| self.settle(Batch { change: Some(change), ..Batch::default() }));
        Op::Stage { fork, blocks, piece, adopt }
    }

    /// A fork, kept blocks above it that follow each other, and the last of them.
    fn kept_branch(&mut self) -> (Tip, Vec<BlockHash>, Tip) {
        let sides = self.model.side_blocks().expect("memory");
        if sides.is_empty() || self.rng.random_bool(0.3) {
            let tip = self.model.tip();
            let depth = self.rng.random_range(0..10).min(tip.height.0);
            let fork = self.tip_at(tip.height.0 - depth);
            return (fork, vec![], fork);
        }
        let end = sides[self.rng.random_range(0..sides.len())];
        let mut revived = vec![end.hash];
        let mut parent = end.parent;
        while let Some(side) = sides.iter().find(|side| side.hash == parent) {
            revived.push(side.hash);
            parent = side.parent;
        }
        revived.reverse();
        match self.model.height_of(&parent).expect("memory") {
            Some(height) => (self.tip_at(height.0), revived, Tip { height: end.height, hash: end.hash }),
            // Its ancestors were forgotten.
            None => (self.model.tip(), vec![], self.model.tip()),
        }
    }

    fn settle(&mut self, mut batch: Batch) -> Batch {
        let sides = self.model.side_blocks().expect("memory");
        for side in &sides {
            if self.rng.random_bool(0.1) {
                batch.park.push(side.hash);
            }
            let revived = batch.change.as_ref().is_some_and(|change| change.revived.contains(&side.hash));
            if self.rng.random_bool(0.05) && !revived {
                batch.forget.push(side.hash);
            }
        }
        let submissions: Vec<SubmissionId> = {
            let mut all: Vec<_> = self.model.submissions().copied().collect();
            all.sort_unstable();
            all
        };
        for submission in submissions {
            match self.rng.random_range(0..20) {
                0 => batch.pending.push(submission),
                1 => batch.satisfied.push(submission),
                _ => {}
            }
        }
        batch
    }

    fn new_blocks(&mut self, parent: Tip, count: usize) -> Vec<BatchBlock> {
        let mut tip = parent;
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            self.count += 1;
            let entries: Vec<String> =
                (0..self.rng.random_range(1..4)).map(|number| format!("entry {number} of {}", self.count)).collect();
            let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
            let block = block_on(tip, &entries);
            tip = block.tip();
            blocks.push(if self.rng.random_bool(0.4) { self.placed_in(block) } else { theirs(&block) });
        }
        blocks
    }

    /// An own block: each entry is a submission, new or mined again.
    fn placed_in(&mut self, block: SharedBlock) -> BatchBlock {
        let mut placed = Vec::new();
        for position in 0..block.body().len() as u32 {
            let again = self.model.submissions().min().copied().filter(|_| self.rng.random_bool(0.2));
            let again = again.filter(|again| placed.iter().all(|placed: &Placed| placed.submission != *again));
            let key = (again.is_none() && self.rng.random_bool(0.5)).then(|| {
                self.count += 1;
                // As evenly spread as a digest's.
                let mut key = [0; 32];
                key[..8].copy_from_slice(&self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
                key
            });
            let submission = again.unwrap_or(SubmissionId { block: block.hash(), position });
            placed.push(Placed { submission, position, entries: 1, key });
        }
        BatchBlock { block, placed }
    }

    fn any_block(&mut self) -> Option<Tip> {
        let sides = self.model.side_blocks().expect("memory");
        if !sides.is_empty() && self.rng.random_bool(0.5) {
            let side = sides[self.rng.random_range(0..sides.len())];
            return Some(Tip { height: side.height, hash: side.hash });
        }
        let tip = self.model.tip();
        let depth = self.rng.random_range(0..10).min(tip.height.0);
        (depth > 0).then(|| self.tip_at(tip.height.0 - depth))
    }

    fn tip_at(&self, height: u64) -> Tip {
        let hash = self.model.hash_at(Height(height)).expect("memory").expect("on the chain");
        Tip { height: Height(height), hash }
    }
}

/// The first difference between a store and the model, in a sentence.
pub fn difference(store: &Store, model: &MemoryStorage, known: &[BlockHash]) -> Option<String> {
    if store.tip() != model.tip() {
        return Some(format!("tip is {}, wanted {}", store.tip(), model.tip()));
    }
    differs("side blocks", &store.side_blocks(), &model.side_blocks())
        .or_else(|| differs("pending", &store.pending(), &model.pending()))
        .or_else(|| chain_differs(store, model))
        .or_else(|| known.iter().find_map(|hash| block_differs(store, model, hash)))
        .or_else(|| outbox_differs(store, model))
}

fn chain_differs(store: &Store, model: &MemoryStorage) -> Option<String> {
    let snapshot = store.snapshot();
    let all = snapshot.blocks(Height(0), usize::MAX, usize::MAX);
    let wanted = model.chain();
    match all {
        Ok(all) if all == wanted => {}
        Ok(all) => {
            return Some(format!("the chain read in sequence has {} blocks, wanted {}", all.len(), wanted.len()));
        }
        Err(error) => return Some(format!("the chain cannot be read in sequence: {error}")),
    }
    let hashes: Vec<BlockHash> = wanted.iter().map(|block| block.hash()).collect();
    if let Some(why) = differs("hashes", &snapshot.hashes(Height(0), usize::MAX), &Ok(hashes)) {
        return Some(why);
    }
    for height in 0..=wanted.len() as u64 {
        let height = Height(height);
        let what = format!("hash at {height}");
        if let Some(why) = differs(&what, &store.hash_at(height), &model.hash_at(height)) {
            return Some(why);
        }
        let block = wanted.get(height.0 as usize).cloned();
        if let Some(why) = differs(&format!("block at {height}"), &snapshot.block_at(height), &Ok(block)) {
            return Some(why);
        }
    }
    None
}

fn block_differs(store: &Store, model: &MemoryStorage, hash: &BlockHash) -> Option<String> {
    differs(&format!("height of {hash}"), &store.height_of(hash), &model.height_of(hash))
        .or_else(|| differs(&format!("block {hash}"), &store.block(hash), &model.block(hash)))
        .or_else(|| differs(&format!("placed in {hash}"), &store.placed_in(hash), &model.placed_in(hash)))
}

fn outbox_differs(store: &Store, model: &MemoryStorage) -> Option<String> {
    let nobody = SubmissionId { block: BlockHash([1; 32]), position: 0 };
    for submission in model.submissions().chain([&nobody]) {
        let (got, wanted) = (store.placements_of(submission), model.placements_of(submission));
        if let Some(why) = differs(&format!("placements of {submission:?}"), &got, &wanted) {
            return Some(why);
        }
        let (got, wanted) = (store.entries_of(submission), model.entries_of(submission));
        if let Some(why) = differs(&format!("entries of {submission:?}"), &got, &wanted) {
            return Some(why);
        }
    }
    model.keys().chain([&[1; 32]]).find_map(|key| {
        differs(&format!("submission of key {key:?}"), &store.submission_by_key(key), &model.submission_by_key(key))
    })
}

fn differs<T: PartialEq + std::fmt::Debug>(
    what: &str,
    got: &Result<T, StorageError>,
    wanted: &Result<T, StorageError>,
) -> Option<String> {
    match (got, wanted) {
        (Ok(got), Ok(wanted)) if got == wanted => None,
        _ => Some(format!("{what}: got {got:?}, wanted {wanted:?}")),
    }
}

/// A number from the environment, for how often and with which seed.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Seeds to try: one given by `STORE_SEED`, or as many as `STORE_SEEDS` says, or the default.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    match std::env::var("STORE_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..number("STORE_SEEDS", default),
    }
}
