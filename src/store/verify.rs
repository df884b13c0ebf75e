//! Verifies everything again, from the first byte of the log: for an operator, on a store that nobody writes to.
//!
//! Owns the independent look: nothing that is derived is believed, and nothing is changed. Every group, record and block is
//! read and judged, and the best chain is followed from genesis through every reorg. Takes 32 bytes of memory for each
//! block of it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::checkpoint::{self, Checkpoint, Damage};
use super::disk::Disk;
use super::error::OpenError;
use super::open::{self, FoundSegment};
use super::positions::Positions;
use super::record::{self, Adopt, Change, Kind, Outline};
use super::segment::{Group, HEADER, Next, RecordAt, Segment, Walk, file_name};
use super::shared::decode;
use super::table::Tables;
use crate::ledger::block::{CheckedBlock, Height, Tip};
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::StorageError;
use crate::ledger::{genesis, rules};

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// The end of the best chain, as far as it could be followed.
    pub tip: Tip,
    /// Blocks that were judged, on the best chain or not.
    pub blocks: u64,
    /// Entries in them.
    pub entries: u64,
    /// Groups that were read.
    pub groups: u64,
    /// Bytes of the log.
    pub bytes: u64,
    /// Bytes of an unfinished group at the end: a crash, or a node that is writing now. No damage.
    pub unfinished: u64,
    /// Everything in the log that is not as it should be.
    pub damage: Vec<Damage>,
    /// Places that were damaged, and whose blocks were all written again since. Of what else stood there only what this node
    /// had placed in them can have come back, where the broken records still told.
    pub healed: Vec<Damage>,
    /// What is derived from the log.
    pub index: Index,
}

impl Verified {
    /// Whether nothing is wrong that matters: the index can always be made again.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.damage.is_empty()
    }
}

/// How what is derived compares with the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Index {
    /// It says the same.
    Current,
    /// It is of an earlier time, or missing: the next start brings it up to date.
    Behind,
    /// It is wrong; the next start makes it again when `index/CHECKPOINT` is removed.
    Damaged(String),
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes of the log that were read.
    pub bytes: u64,
    /// Bytes of the log.
    pub of: u64,
}

/// Verifies the store in a data directory. `progress` is told after every segment and every few megabytes.
///
/// # Errors
/// It is not a store of this network, or cannot be read.
pub fn verify(dir: &Path, disk: &Arc<dyn Disk>, progress: &mut dyn FnMut(Progress)) -> Result<Verified, OpenError> {
    open::judge_format(&**disk, dir)?;
    let found = open::segments_in(&**disk, &dir.join("log")).map_err(OpenError::io(dir))?;
    let of = found.iter().map(|segment| segment.bytes).sum();
    let mut verifier = Verifier {
        dir,
        disk,
        progress,
        staged: HashMap::new(),
        chain: vec![genesis::tip().hash],
        sides: HashMap::new(),
        expected: 1,
        shaken: false,
        lost: BTreeMap::new(),
        spare: HashMap::new(),
        sound: 0,
        verified: Verified {
            tip: genesis::tip(),
            blocks: 1,
            entries: 1,
            groups: 0,
            bytes: of,
            unfinished: 0,
            damage: Vec::new(),
            healed: Vec::new(),
            index: Index::Behind,
        },
        done: Progress { bytes: 0, of },
    };
    verifier.log(&found)?;
    verifier.tell_healed();
    verifier.verified.tip = verifier.tip();
    verifier.verified.index = verifier.index(&found);
    Ok(verifier.verified)
}

/// Bytes after which progress is told.
const TOLD_EVERY: u64 = 8 << 20;

struct Verifier<'v> {
    dir: &'v Path,
    disk: &'v Arc<dyn Disk>,
    progress: &'v mut dyn FnMut(Progress),
    /// Segments that were staged, until a record adopts them.
    staged: HashMap<u32, Segment>,
    /// Hashes of the best chain; zeros where damage has taken them.
    chain: Vec<BlockHash>,
    /// Blocks off the best chain, and their heights.
    sides: HashMap<BlockHash, Height>,
    /// The number that the next group has.
    expected: u64,
    /// Whether damage may have taken groups, so that what follows need not fit.
    shaken: bool,
    /// Heights of the chain whose blocks damage has taken, and which entries of the list of damage it can have been.
    lost: BTreeMap<usize, Range<usize>>,
    /// Blocks that stand elsewhere in the log: written again, or in what is left of a broken group.
    spare: HashMap<BlockHash, Spare>,
    /// Entries in the list of damage when a whole group was met last.
    sound: usize,
    verified: Verified,
    done: Progress,
}

/// A block that can stand in for one that damage has taken.
struct Spare {
    outline: Outline,
    /// Whether it was fetched again.
    restored: bool,
}

/// The blocks of a group that were judged, in order.
type Judged = Vec<Outline>;

impl Verifier<'_> {
    fn tip(&self) -> Tip {
        let height = Height(self.chain.len() as u64 - 1);
        Tip { height, hash: self.chain.last().copied().unwrap_or(BlockHash::ZERO) }
    }

    fn damage(&mut self, id: u32, offset: u64, bytes: u64, what: impl Into<String>) {
        self.shaken = true;
        self.verified.damage.push(Damage { file: file_name(id), offset, bytes, what: what.into() });
    }

    fn read_error(&self) -> impl Fn(StorageError) -> OpenError + use<> {
        OpenError::storage(self.dir)
    }

    fn tell(&mut self, bytes: u64) {
        self.done.bytes += bytes;
        (self.progress)(self.done);
    }

    fn log(&mut self, found: &[FoundSegment]) -> Result<(), OpenError> {
        let mut logs = Vec::new();
        for found in found {
            match open::open_segment(&**self.disk, found)? {
                Some(segment) if open::is_log(&segment) => logs.push((found.id, segment)),
                Some(segment) => drop(self.staged.insert(found.id, segment)),
                None => self.damage(found.id, 0, found.bytes, "both copies of the header are broken"),
            }
        }
        let last = logs.last().map(|(id, _)| *id);
        for (id, segment) in &logs {
            self.segment(*id, segment, Some(*id) == last)?;
        }
        Ok(())
    }

    fn segment(&mut self, id: u32, segment: &Segment, last: bool) -> Result<(), OpenError> {
        let failed = self.read_error();
        let mut walk = Walk::new(segment, HEADER).map_err(&failed)?;
        let mut told = 0;
        loop {
            let start = walk.at();
            if start - told > TOLD_EVERY {
                self.tell(start - told);
                told = start;
            }
            let mut headless = false;
            let broken = match walk.next_group().map_err(&failed)? {
                Next::End => break,
                Next::Broken => {
                    headless = true;
                    true
                }
                Next::Group(group) if group.broken => {
                    self.salvage(&group);
                    true
                }
                Next::Group(group) => {
                    self.group(id, &group)?;
                    false
                }
            };
            if broken {
                let more = walk.skip_to_group(self.expected).map_err(&failed)?;
                let end = if more { walk.at() } else { walk.len() };
                if headless {
                    let group = walk.headless(start, end, self.expected).map_err(&failed)?;
                    self.salvage(&group);
                }
                if last && !more {
                    self.verified.unfinished = end - start;
                } else {
                    self.damage(id, start, end - start, "a group is not what was written");
                }
                if !more {
                    break;
                }
            }
        }
        self.tell(walk.len().saturating_sub(told));
        Ok(())
    }

    fn group(&mut self, id: u32, group: &Group<'_>) -> Result<(), OpenError> {
        if group.sequence != self.expected && !self.shaken {
            self.damage(id, group.start, 0, format!("group {} stands where {} should", group.sequence, self.expected));
        }
        self.expected = group.sequence.saturating_add(1);
        self.verified.groups += 1;
        let mut blocks = Vec::new();
        for record in &group.records {
            match self.record(id, record, &mut blocks)? {
                Ok(()) => {}
                Err(what) => self.damage(id, record.offset.into(), record.len.into(), what),
            }
        }
        // Without a change the blocks are kept beside the chain.
        for block in blocks {
            self.sides.insert(block.hash, block.height);
        }
        self.sound = self.verified.damage.len();
        Ok(())
    }

    /// Remembers the good blocks of a broken group.
    fn salvage(&mut self, group: &Group<'_>) {
        for record in &group.records {
            if let Ok(block) = judge(record) {
                let restored = matches!(record.kind, Kind::Restored | Kind::RestoredOwn);
                self.keep_spare(Outline::of(&block), restored);
            }
        }
    }

    fn keep_spare(&mut self, outline: Outline, restored: bool) {
        self.spare.insert(outline.hash, Spare { outline, restored });
    }

    /// Puts what was written again in the place of what damage has taken, from the top: each block names the one below.
    fn tell_healed(&mut self) {
        let damage = std::mem::take(&mut self.verified.damage);
        let (mut back, mut missing) = (vec![false; damage.len()], vec![false; damage.len()]);
        for (&height, places) in self.lost.iter().rev() {
            let hash = self.chain[height];
            let spare = self.spare.get(&hash).filter(|spare| spare.outline.height.0 == height as u64);
            match spare {
                Some(spare) => {
                    if let Some(below) = height.checked_sub(1).filter(|below| self.chain[*below] == BlockHash::ZERO) {
                        self.chain[below] = spare.outline.parent;
                    }
                    for place in places.clone() {
                        back[place] |= spare.restored;
                    }
                }
                None => missing[places.clone()].fill(true),
            }
        }
        for (place, damage) in damage.into_iter().enumerate() {
            let healed = back[place] && !missing[place];
            if healed { &mut self.verified.healed } else { &mut self.verified.damage }.push(damage);
        }
    }

    /// The chain has a block at this height that the log does not tell.
    fn lose(&mut self, height: usize) {
        let known = self.verified.damage.len();
        self.lost.insert(height, self.sound.min(known)..known);
    }

    /// Judges a record; the inner error is what is wrong with it.
    fn record(&mut self, id: u32, record: &RecordAt<'_>, blocks: &mut Judged) -> Result<Result<(), String>, OpenError> {
        let unreadable = || "a record says nothing that this program understands".to_owned();
        Ok(match record.kind {
            Kind::Block | Kind::OwnBlock => self.block(record).map(|block| blocks.push(block)),
            Kind::Restored | Kind::RestoredOwn => self.block(record).and_then(|block| {
                let fits = self.restored(&block);
                self.keep_spare(block, true);
                fits
            }),
            Kind::Change => match record::read_change(record.payload) {
                Some(change) => self.change(&change, &std::mem::take(blocks)),
                None => Err(unreadable()),
            },
            Kind::Adopt => match record::read_adopt(record.payload) {
                Some(adopt) => self.adopt(id, &adopt)?,
                None => Err(unreadable()),
            },
            Kind::Forget => {
                record::read_hashes(record.payload).map(|hashes| self.forget(&hashes)).ok_or_else(unreadable)
            }
            Kind::Park => record::read_hashes(record.payload).map(drop).ok_or_else(unreadable),
            Kind::Outbox => record::read_outbox(record.payload).map(drop).ok_or_else(unreadable),
            Kind::Closed => Ok(()),
        })
    }

    fn forget(&mut self, hashes: &[BlockHash]) {
        for hash in hashes {
            self.sides.remove(hash);
        }
    }

    fn block(&mut self, record: &RecordAt<'_>) -> Result<Outline, String> {
        let block = judge(record)?;
        if record.kind.is_own() {
            let own = record::read_own_block(record.kind, record.payload);
            let placed = own.map(|own| own.placed).unwrap_or_default();
            let reaches = |placed: &crate::ledger::storage::Placed| {
                placed.position.checked_add(placed.entries).is_some_and(|end| end as usize <= block.body().len())
            };
            if !placed.iter().all(reaches) {
                return Err(format!("a submission reaches beyond the body of block {}", block.hash()));
            }
        }
        self.verified.blocks += 1;
        self.verified.entries += block.body().len() as u64;
        Ok(Outline::of(&block))
    }

    fn restored(&self, block: &Outline) -> Result<(), String> {
        let at = usize::try_from(block.height.0).ok().and_then(|at| self.chain.get(at));
        let fits = at.is_some_and(|hash| *hash == block.hash || *hash == BlockHash::ZERO);
        if fits { Ok(()) } else { Err(format!("restored block {} is not on the chain", block.tip())) }
    }

    fn change(&mut self, change: &Change, blocks: &Judged) -> Result<(), String> {
        match change {
            Change::Follow => {
                let Some(first) = blocks.first() else { return Err("a change has no blocks".to_owned()) };
                let below = Height(first.height.0.saturating_sub(1));
                self.leave(below)?;
            }
            Change::Turn { fork, revived } => {
                self.leave(fork.height)?;
                self.stands(*fork)?;
                for hash in revived {
                    if self.sides.remove(hash).is_none() {
                        if !self.shaken {
                            return Err(format!("block {hash} enters the chain and is not there"));
                        }
                        self.lose(self.chain.len());
                    }
                    self.chain.push(*hash);
                }
            }
        }
        self.enter(blocks)
    }

    fn adopt(&mut self, id: u32, adopt: &Adopt) -> Result<Result<(), String>, OpenError> {
        if let Err(what) = self.leave(adopt.fork.height).and_then(|()| self.stands(adopt.fork)) {
            return Ok(Err(what));
        }
        for (part, count) in &adopt.runs {
            match self.staged.remove(part) {
                Some(segment) => self.adopted(*part, &segment, *count)?,
                None => self.damage(id, 0, 0, format!("{} was adopted and is missing", file_name(*part))),
            }
        }
        Ok(self.stands(adopt.tip))
    }

    fn adopted(&mut self, id: u32, segment: &Segment, count: u64) -> Result<(), OpenError> {
        let failed = self.read_error();
        let mut walk = Walk::new(segment, HEADER).map_err(&failed)?;
        let mut seen = 0;
        loop {
            let start = walk.at();
            match walk.next_group().map_err(&failed)? {
                Next::End => break,
                Next::Group(group) => {
                    let mut blocks = Vec::new();
                    for record in &group.records {
                        match self.block(record) {
                            Ok(block) => blocks.push(block),
                            Err(what) => self.damage(id, record.offset.into(), record.len.into(), what),
                        }
                    }
                    if group.broken {
                        self.damage(id, start, group.end - start, "a group is not what was written");
                    }
                    seen += blocks.len() as u64;
                    if let Err(what) = self.enter(&blocks) {
                        self.damage(id, start, group.end - start, what);
                    }
                }
                Next::Broken => {
                    let more = walk.skip_to_group(0).map_err(&failed)?;
                    let end = if more { walk.at() } else { walk.len() };
                    self.damage(id, start, end - start, "a group is not what was written");
                    if !more {
                        break;
                    }
                }
            }
        }
        if seen != count {
            self.damage(id, 0, 0, format!("{seen} blocks were adopted with it, not {count}"));
        }
        self.tell(walk.len());
        Ok(())
    }

    // ---- The chain.

    /// Lets all blocks above a height leave. Where damage has taken blocks, the chain is filled up to that height.
    fn leave(&mut self, above: Height) -> Result<(), String> {
        let kept = usize::try_from(above.0).unwrap_or(usize::MAX).saturating_add(1);
        if kept > self.chain.len() {
            let missing = (kept - self.chain.len()) as u64;
            if !self.shaken || missing > self.verified.bytes {
                return Err(format!("what follows block {above} is there and the block is not"));
            }
            let before = self.chain.len();
            self.chain.resize(kept, BlockHash::ZERO);
            (before..kept).for_each(|height| self.lose(height));
        }
        let gone = self.lost.split_off(&kept);
        for (hash, height) in self.chain.drain(kept..).zip(kept..) {
            if !gone.contains_key(&height) {
                self.sides.insert(hash, Height(height as u64));
            }
        }
        Ok(())
    }

    /// Judges that the chain ends with a block.
    fn stands(&mut self, tip: Tip) -> Result<(), String> {
        if self.tip() == tip {
            return Ok(());
        }
        let found = self.tip();
        self.believe(tip)?;
        if self.shaken { Ok(()) } else { Err(format!("the chain stands at {found}, and should at {tip}")) }
    }

    fn believe(&mut self, tip: Tip) -> Result<(), String> {
        if self.tip().height != tip.height {
            let shaken = std::mem::replace(&mut self.shaken, true);
            let left = self.leave(tip.height);
            self.shaken = shaken;
            left?;
        }
        let at = self.chain.len().saturating_sub(1);
        if let Some(last) = self.chain.last_mut()
            && *last != tip.hash
        {
            *last = tip.hash;
            self.lose(at);
        }
        Ok(())
    }

    /// Lets blocks enter one after the other; the first that does not follow is the error, and all enter.
    fn enter(&mut self, blocks: &Judged) -> Result<(), String> {
        let mut entered = Ok(());
        for block in blocks {
            let (tip, below) = (self.tip(), Height(block.height.0.saturating_sub(1)));
            let follows = tip.height == below && (tip.hash == block.parent || tip.hash == BlockHash::ZERO);
            if !follows && !self.shaken && entered.is_ok() {
                entered = Err(format!("block {} does not follow {tip}", block.tip()));
            }
            self.believe(Tip { height: below, hash: block.parent })?;
            self.sides.remove(&block.hash);
            self.chain.push(block.hash);
        }
        entered
    }

    // ---- What is derived.

    fn index(&mut self, found: &[FoundSegment]) -> Index {
        let index_dir = checkpoint::dir(self.dir);
        let Ok(checkpoint) = Checkpoint::read(&**self.disk, &index_dir) else { return Index::Behind };
        if checkpoint.sequence >= self.expected {
            let (id, offset) = (checkpoint.segment, checkpoint.offset);
            let there = found.iter().find(|found| found.id == id).map_or(0, |found| found.bytes);
            self.damage(
                id,
                there,
                offset.saturating_sub(there),
                "the log ends before the place that the checkpoint names",
            );
        }
        let covers = found.iter().any(|found| found.id == checkpoint.segment && found.bytes == checkpoint.offset);
        if !covers || checkpoint.sequence.saturating_add(1) != self.expected {
            return Index::Behind;
        }
        match self.compare(&checkpoint, &index_dir) {
            Ok(()) => Index::Current,
            Err(what) => Index::Damaged(what),
        }
    }

    fn compare(&self, checkpoint: &Checkpoint, index_dir: &Path) -> Result<(), String> {
        if checkpoint.tip != self.tip() {
            return Err(format!("the checkpoint ends with {}, the log with {}", checkpoint.tip, self.tip()));
        }
        let file = self.disk.open(&self.dir.join("heights")).map_err(|error| error.to_string())?;
        let positions = Positions::new(file);
        let mut at = 0;
        for hashes in self.chain.chunks(4096) {
            let entries = positions.read_run(at, hashes.len()).map_err(|error| error.to_string())?;
            let wrong =
                entries.iter().zip(hashes).position(|(entry, hash)| entry.is_none_or(|entry| entry.hash != *hash));
            if let Some(wrong) = wrong {
                return Err(format!("heights: the entry of block {} is not what was written", at + wrong as u64));
            }
            at += hashes.len() as u64;
        }
        let tables = Tables::open(Arc::clone(self.disk), index_dir.to_owned(), &checkpoint.runs, checkpoint.next_run);
        tables.and_then(|tables| tables.check()).map(drop).map_err(|error| error.to_string())
    }
}

/// Judges a block by every rule that needs neither parent nor clock.
fn judge(record: &RecordAt<'_>) -> Result<CheckedBlock, String> {
    let block =
        decode(record.kind, record.payload).ok_or_else(|| "a record is not the block that it should be".to_owned())?;
    let time = block.header.time;
    rules::check_alone(block, time).map_err(|error| error.to_string())
}
