//! Which chain is best, and the branches beside it.
//!
//! Owns the tree of kept side blocks and the fork choice. The best chain itself is in [`Storage`], which is asked and never
//! copied. A reorg is the ordinary update: [`Chain::judge`] says what a run of blocks would change, the caller makes it
//! durable, and [`Chain::note`] takes over what has then become true.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use rand::{Rng, RngExt};
use thiserror::Error;

use super::block::{CheckedBlock, Height, SharedBlock, Tip, UnixTime};
use super::hash::BlockHash;
use super::limits::{
    MAX_PARKED_BLOCKS, MAX_PARKED_BRANCHES, MAX_PARKED_BYTES, MAX_SIDE_BLOCKS, MAX_SIDE_BRANCHES, MAX_SIDE_BYTES,
};
use super::rules::{self, RuleError};
use super::storage::{SideBlock, Storage, StorageError, TipChange};

/// Blocks that a staged branch is read back and verified in, at the most, in one further round.
const SPAN_BLOCKS: u64 = 256;

/// Why a run of blocks could not be taken.
#[derive(Clone, Debug, Error)]
pub enum ImportError {
    /// A block broke a rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The store did not do its part.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Who sent a branch, as far as it matters for deep reorgs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A peer that the operator named, or the operator.
    Trusted,
    /// Anybody else.
    Stranger,
}

/// What a run of blocks means for the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every block is known, and the tip stays.
    Known,
    /// The parent of the first block is not known: ask for what lies between.
    Unconnected,
    /// A branch that does not beat the tip. `new` are the run's blocks that are not yet kept.
    Side {
        /// Places in the run.
        new: Range<usize>,
    },
    /// A branch that beats the tip but would undo too much, from a stranger.
    Parked {
        /// Places in the run.
        new: Range<usize>,
        /// Blocks that it would undo.
        depth: u64,
    },
    /// The best chain changes.
    Change {
        /// Places in the run that enter above `change.revived`.
        new: Range<usize>,
        /// From where to where.
        change: TipChange,
    },
}

/// Where a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Best(Height),
    Side(Height),
    Unknown,
}

/// A kept branch, as people are shown it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Branch {
    /// Its last block.
    pub tip: Tip,
    /// The last block that it shares with the best chain.
    pub fork: Tip,
    /// When its last block was mined, by its miner's clock.
    pub time: UnixTime,
    /// Whether it waits for an operator.
    pub parked: bool,
}

/// A side block that was taken out for a moment.
struct Taken {
    side: SideBlock,
    /// Whether a stranger brought it.
    strange: bool,
}

/// The side blocks and the choice between their branches and the best chain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chain {
    /// Every kept block off the best chain.
    sides: HashMap<BlockHash, SideBlock>,
    /// How many kept side blocks have this side block as parent; absent for none.
    children: HashMap<BlockHash, u32>,
    /// Tips of the branches, lowest first: the order in which they are given up.
    leaves: BTreeSet<(Height, Reverse<BlockHash>)>,
    /// Bytes of entries in `sides`.
    bytes: u64,
    /// Number of blocks in `sides` that are parked, and the bytes of their entries.
    parked: (usize, u64),
    /// Those of `sides` that strangers brought since the start: the first to be given up.
    strange: HashSet<BlockHash>,
}

impl Chain {
    /// The tree of these side blocks, parents before children.
    #[must_use]
    pub fn new(sides: Vec<SideBlock>) -> Self {
        let mut chain = Self::default();
        for side in sides {
            chain.insert(side);
        }
        chain
    }

    /// Number of kept side blocks.
    #[must_use]
    pub fn side_blocks(&self) -> usize {
        self.sides.len()
    }

    /// Number of branches that wait for an operator.
    #[must_use]
    pub fn parked(&self) -> usize {
        let parked =
            |(_, Reverse(hash)): &&(Height, Reverse<BlockHash>)| self.sides.get(hash).is_some_and(|side| side.parked);
        self.leaves.iter().filter(parked).count()
    }

    /// Says what a run of blocks, each the child of the one before, would change.
    ///
    /// # Errors
    /// The first rule that a block breaks against its parent; nothing has changed then.
    pub fn judge<S: Storage>(
        &self,
        run: &[SharedBlock],
        storage: &S,
        origin: Origin,
        max_reorg: u64,
    ) -> Result<Verdict, ImportError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Err(RuleError::NoBlocks.into());
        };
        if first.height() == Height::GENESIS {
            rules::is_genesis(first)?;
        }
        if run.len() > 1 {
            rules::check_run(run[1..].iter().map(AsRef::as_ref), first.tip())?;
        }
        let known = self.known_prefix(run, storage)?;
        if known > 0 {
            self.height_is_the_known_blocks(first, storage)?;
        }
        let new = known..run.len();
        let parent = match run.get(known) {
            None => last.tip(),
            Some(block) => match self.place(&block.parent(), storage)? {
                Place::Unknown => return Ok(Verdict::Unconnected),
                Place::Best(height) | Place::Side(height) => {
                    let parent = Tip { height, hash: block.parent() };
                    rules::check_with_parent(block, parent)?;
                    parent
                }
            },
        };
        let (old, tip) = (storage.tip(), last.tip());
        if !tip.beats(&old) {
            return Ok(if new.is_empty() { Verdict::Known } else { Verdict::Side { new } });
        }
        let (fork, revived) = self.path_down(parent, storage)?;
        let depth = old.height.0 - fork.height.0;
        if origin == Origin::Stranger && depth > max_reorg && old.height > Height::GENESIS {
            return Ok(Verdict::Parked { new, depth });
        }
        Ok(Verdict::Change { new, change: TipChange { fork, revived, tip } })
    }

    /// Nothing stands between a header's fields when it is hashed: a digit moved from one to the next can give a block of
    /// another height with the hash of a known one. Within a run each block's height follows from the first's.
    fn height_is_the_known_blocks<S: Storage>(&self, first: &CheckedBlock, storage: &S) -> Result<(), ImportError> {
        match self.place(&first.hash(), storage)? {
            Place::Best(wanted) | Place::Side(wanted) if wanted != first.height() => {
                Err(RuleError::IndexNotNext { got: first.height(), wanted }.into())
            }
            Place::Best(_) | Place::Side(_) | Place::Unknown => Ok(()),
        }
    }

    /// How many blocks at the run's beginning are known. They are a prefix: a block is only kept when its parent is.
    fn known_prefix<S: Storage>(&self, run: &[SharedBlock], storage: &S) -> Result<usize, StorageError> {
        let (mut known, mut unknown) = (0, run.len());
        while known < unknown {
            let middle = known + (unknown - known) / 2;
            if self.place(&run[middle].hash(), storage)? == Place::Unknown {
                unknown = middle;
            } else {
                known = middle + 1;
            }
        }
        Ok(known)
    }

    fn place<S: Storage>(&self, hash: &BlockHash, storage: &S) -> Result<Place, StorageError> {
        if let Some(side) = self.sides.get(hash) {
            return Ok(Place::Side(side.height));
        }
        let tip = storage.tip();
        if *hash == tip.hash {
            return Ok(Place::Best(tip.height));
        }
        Ok(storage.height_of(hash)?.map_or(Place::Unknown, Place::Best))
    }

    /// A block that is kept off the best chain, as a tip; `None` if it is on it or not kept.
    #[must_use]
    pub fn side_tip(&self, hash: &BlockHash) -> Option<Tip> {
        self.sides.get(hash).map(|side| Tip { height: side.height, hash: side.hash })
    }

    /// Walks from a known block down to the best chain: the common ancestor, and the side blocks above it, lowest first.
    pub(super) fn path_down<S: Storage>(&self, from: Tip, storage: &S) -> Result<(Tip, Vec<BlockHash>), StorageError> {
        let mut path = Vec::new();
        let mut at = from;
        while let Some(side) = self.sides.get(&at.hash) {
            path.push(at.hash);
            let height = Height(side.height.0.saturating_sub(1));
            at = Tip { height, hash: side.parent };
        }
        path.reverse();
        if storage.hash_at(at.height)? != Some(at.hash) {
            let what = format!("side block {} does not lead down to the best chain", from.hash);
            return Err(StorageError::Damaged(what.into()));
        }
        Ok((at, path))
    }

    /// Takes over what a successful commit has made true: blocks that entered the best chain or were given up are no side
    /// blocks any more, others have become side blocks (parents before children).
    pub fn note(&mut self, gone: &[BlockHash], come: Vec<SideBlock>) {
        for hash in gone {
            self.remove(hash);
        }
        for side in come {
            self.insert(side);
        }
    }

    /// Takes note of who brought side blocks that have been added.
    pub fn note_origin(&mut self, come: &[SideBlock], origin: Origin) {
        if origin == Origin::Stranger {
            self.strange.extend(come.iter().map(|side| side.hash).filter(|hash| self.sides.contains_key(hash)));
        }
    }

    /// Which side blocks to give up when `come` are added and `gone` leave, so that the limits hold: the lowest tips first,
    /// each before its parent.
    #[must_use]
    pub fn overflow(&mut self, gone: &[BlockHash], come: &[SideBlock]) -> Vec<BlockHash> {
        self.overflow_from(gone, come, Origin::Trusted)
    }

    /// As [`Chain::overflow`], for blocks that somebody brought. What strangers brought goes first, so that no stranger
    /// pushes out what was ours; and what would be parked goes before what is parked already, so that nobody pushes out a
    /// branch that an operator is to look at.
    ///
    /// Tried out on the tree itself and taken back: a copy of a full tree for each block that anybody sends is too dear.
    #[must_use]
    pub fn overflow_from(&mut self, gone: &[BlockHash], come: &[SideBlock], origin: Origin) -> Vec<BlockHash> {
        let bytes = self.bytes + come.iter().map(|side| side.bytes).sum::<u64>();
        let might = bytes > MAX_SIDE_BYTES
            || self.sides.len() + come.len() > MAX_SIDE_BLOCKS
            || self.leaves.len() + come.len() > MAX_SIDE_BRANCHES
            || come.iter().any(|side| side.parked);
        if !might {
            return Vec::new();
        }
        let new: HashSet<BlockHash> =
            come.iter().map(|side| side.hash).filter(|hash| !self.sides.contains_key(hash)).collect();
        let gone: Vec<Taken> = gone.iter().filter_map(|hash| self.take(hash)).collect();
        let come: Vec<SideBlock> = come.iter().filter(|side| self.insert(**side)).copied().collect();
        self.note_origin(&come, origin);
        let mut given_up = Vec::new();
        while let Some(taken) = self.too_much(&new).and_then(|hash| self.take(&hash)) {
            given_up.push(taken);
        }
        given_up.iter().rev().for_each(|taken| self.put_back(taken));
        for side in come.iter().rev() {
            let _ = self.take(&side.hash);
        }
        gone.iter().rev().for_each(|taken| self.put_back(taken));
        given_up.into_iter().map(|taken| taken.side.hash).collect()
    }

    /// Takes a block out so that it can be put back, which is to be done in the opposite order.
    fn take(&mut self, hash: &BlockHash) -> Option<Taken> {
        let taken = Taken { side: *self.sides.get(hash)?, strange: self.strange.contains(hash) };
        self.remove(hash);
        Some(taken)
    }

    fn put_back(&mut self, taken: &Taken) {
        self.insert(taken.side);
        if taken.strange {
            self.strange.insert(taken.side.hash);
        }
    }

    /// The tip to give up next, if there is too much of something.
    fn too_much(&self, new: &HashSet<BlockHash>) -> Option<BlockHash> {
        let lowest = |wanted: &dyn Fn(&SideBlock) -> bool| {
            let mut leaves = self.leaves.iter().filter_map(|(_, Reverse(hash))| self.sides.get(hash));
            leaves.find(|side| wanted(side)).map(|side| side.hash)
        };
        let (blocks, bytes) = self.parked;
        if blocks > MAX_PARKED_BLOCKS || bytes > MAX_PARKED_BYTES || self.parked() > MAX_PARKED_BRANCHES {
            return lowest(&|side| side.parked && new.contains(&side.hash)).or_else(|| lowest(&|side| side.parked));
        }
        let full =
            self.leaves.len() > MAX_SIDE_BRANCHES || self.bytes > MAX_SIDE_BYTES || self.sides.len() > MAX_SIDE_BLOCKS;
        if !full {
            return None;
        }
        lowest(&|side| !side.parked && self.strange.contains(&side.hash))
            .or_else(|| lowest(&|side| !side.parked))
            .or_else(|| lowest(&|_| true))
    }

    /// The side blocks with heights above `low` and up to `high`.
    pub fn hashes_above(&self, low: Height, high: Height) -> impl Iterator<Item = &SideBlock> {
        self.sides.values().filter(move |side| side.height > low && side.height <= high)
    }

    /// The kept branches, highest first.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    pub fn branches<S: Storage>(&self, storage: &S) -> Result<Vec<Branch>, StorageError> {
        let branch = |&(height, Reverse(hash)): &(Height, Reverse<BlockHash>)| {
            let tip = Tip { height, hash };
            let (fork, _) = self.path_down(tip, storage)?;
            let time = storage.block(&hash)?.map_or(UnixTime(0), |block| block.header().time);
            let parked = self.sides.get(&hash).is_some_and(|side| side.parked);
            Ok(Branch { tip, fork, time, parked })
        };
        self.leaves.iter().rev().map(branch).collect()
    }

    /// Answers whether it was not there yet.
    fn insert(&mut self, side: SideBlock) -> bool {
        if self.sides.contains_key(&side.hash) {
            return false;
        }
        self.sides.insert(side.hash, side);
        self.bytes += side.bytes;
        if side.parked {
            self.parked = (self.parked.0 + 1, self.parked.1 + side.bytes);
        }
        if !self.children.contains_key(&side.hash) {
            self.leaves.insert((side.height, Reverse(side.hash)));
        }
        *self.children.entry(side.parent).or_insert(0) += 1;
        if let Some(parent) = self.sides.get(&side.parent) {
            self.leaves.remove(&(parent.height, Reverse(parent.hash)));
        }
        true
    }

    fn remove(&mut self, hash: &BlockHash) {
        let Some(side) = self.sides.remove(hash) else { return };
        self.bytes -= side.bytes;
        if side.parked {
            self.parked = (self.parked.0 - 1, self.parked.1 - side.bytes);
        }
        self.strange.remove(hash);
        self.leaves.remove(&(side.height, Reverse(side.hash)));
        let Some(count) = self.children.get_mut(&side.parent) else { return };
        *count -= 1;
        if *count == 0 {
            self.children.remove(&side.parent);
            if let Some(parent) = self.sides.get(&side.parent) {
                self.leaves.insert((parent.height, Reverse(parent.hash)));
            }
        }
    }
}

/// What the tree keeps of a block that is or becomes a side block.
#[must_use]
pub fn side_block(block: &CheckedBlock, parked: bool) -> SideBlock {
    SideBlock {
        hash: block.hash(),
        parent: block.parent(),
        height: block.height(),
        bytes: block.block().body_bytes() as u64,
        parked,
    }
}

/// The further rounds in which a staged branch of `count` blocks is read back and verified before it is switched in: none,
/// one or two, as the tutorial's one to three rounds with the first always made in full. Each is a span of places.
#[must_use]
pub fn further_rounds(count: u64, rng: &mut impl Rng) -> Vec<Range<u64>> {
    let rounds = rng.random_range(0..=2);
    let span = SPAN_BLOCKS.min(count);
    (0..rounds)
        .map(|_| {
            let start = rng.random_range(0..=count - span);
            start..start + span
        })
        .collect()
}
