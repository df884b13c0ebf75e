//! The store: keeps blocks durably in a data directory, and answers what is asked of them.
//!
//! Owns the files. Refuses to know rules, peers and time: what it is given is stored, what it reads back is checked
//! against what was written, never judged. The chain *is* a log, so the truth is an append-only log, and everything that
//! makes look-ups fast is derived from it: losing every derived file loses nothing.
//!
//! ```text
//! FORMAT               what this directory is
//! LOCK                 who works in it
//! RESERVE              room for shutting down in good order when the disk is full
//! log/00000001.seg …   the truth
//! heights              derived: height -> place in the log
//! index/CHECKPOINT     derived: up to where the log is applied; side blocks; outbox
//! index/….run          derived: tables
//! index/REBUILD        a mark: the derived files were found damaged, the next open makes them again
//! index/….left         derived: what a reorg overwrote in heights, until the next checkpoint
//! staging/             branches that are being collected
//! cut/                 what was cut from the end of the log, for people
//! ```
//!
//! Reading order: [`disk`] (the only file that knows the operating system); `record` and `segment` (what the log is made
//! of); `log` (its end); `positions`, `run`, `table` and `checkpoint` (what is derived); `effects` and `derived` (the one
//! function that applies a group, live and in a replay); `staging`; `open` and `replay` (from files to a store);
//! `epoch`, `shared`, `own` and [`reader`] (answers, beside the writer); [`verify`](mod@verify) (everything again, from the first byte).

pub mod disk;

mod codec;
mod record;
mod segment;

mod log;

mod checkpoint;
mod positions;
mod run;
mod table;

mod derived;
mod effects;
mod worker;

mod staging;

mod error;
mod open;
mod replay;

mod epoch;
mod own;
mod shared;

pub mod reader;
pub mod verify;

use std::path::PathBuf;
use std::sync::Arc;

pub use checkpoint::Damage;
pub use disk::{Disk, DiskFile, RealDisk};
pub use error::OpenError;
pub use open::{Cut, OpenReport};
pub use reader::{Reader, Scrubbed, Snapshot};
pub use staging::Staging;
pub use worker::Checkpoints;

use derived::{Derived, Turn};
use effects::{Arrival, Effects};
use epoch::View;
use error::from_disk;
use log::Log;
use open::Reserve;
use positions::Place;
use record::{Adopt, Change, Kind, Outbox, Outline};
use segment::{GroupBuilder, file_name};
use worker::Worker;

use crate::ledger::block::{Height, SharedBlock, Tip};
use crate::ledger::genesis;
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::{
    Batch, BatchBlock, KeyDigest, Placed, SideBlock, Storage, StorageError, SubmissionId, TipChange,
};

/// Pairs in memory above which a commit waits for the index: about 100 MiB.
const MAX_UNINDEXED: usize = 4 << 20;

/// What may differ between one node and another, and between a node and a test.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes above which a segment of the log gets no more groups. Small enough to copy and to check in one go, large
    /// enough that there are few.
    pub segment_bytes: u64,
    /// Groups and blocks after which the derived state is written to disk: what an open after a crash has to replay.
    pub checkpoint_blocks: u64,
    /// Bytes of log after which the derived state is written to disk, for long blocks.
    pub checkpoint_bytes: u64,
    /// Bytes that are kept free for shutting down when the disk is full.
    pub reserve_bytes: u64,
    /// Bytes of a staged branch up to which its blocks are copied into an ordinary group: below, a file of its own would
    /// cost more than the copy; above, the copy would cost memory.
    pub copied_bytes: u64,
    /// Who writes checkpoints, and syncs staged branches while they grow.
    pub checkpoints: Checkpoints,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            checkpoint_blocks: 32 * 1024,
            checkpoint_bytes: 32 << 20,
            reserve_bytes: 4 << 20,
            copied_bytes: 4 << 20,
            checkpoints: Checkpoints::Beside,
        }
    }
}

/// How large the store is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// Bytes of the log.
    pub log: u64,
    /// Bytes of what is derived from it.
    pub index: u64,
}

/// The one writer of a data directory.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    log: Log,
    derived: Derived,
    worker: Worker,
    reserve: Reserve,
    /// The number that no staged branch had yet.
    next_staging: u64,
    /// Bytes of log segments before the active one.
    sealed_bytes: u64,
    /// Bytes that were written to the log since the last checkpoint.
    bytes_since: u64,
    /// Held for as long as there is a writer.
    _lock: disk::LockGuard,
}

impl Store {
    /// Opens a data directory, or makes one where nothing is.
    ///
    /// # Errors
    /// It is in use, not ours, newer, of another chain, unreadable, or damaged beyond what can be told apart.
    pub fn open(
        dir: impl Into<PathBuf>,
        disk: Arc<dyn Disk>,
        options: Options,
    ) -> Result<(Self, OpenReport), OpenError> {
        open::open(dir.into(), disk, options)
    }

    /// A handle for those who read beside the writer.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.derived.shared))
    }

    /// The best chain as of now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.reader().snapshot()
    }

    /// How large the store is.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let shared = &self.derived.shared;
        let log = self.sealed_bytes + self.log.end().offset;
        Sizes { log, index: shared.tables.bytes() + shared.positions.bytes().unwrap_or_default() }
    }

    /// Broken parts of the store that were met so far.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        self.derived.shared.damage.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Closes the store in good order: marks the end of the log and writes the derived state, so that the next open reads
    /// nothing twice. Dropping a store instead loses nothing.
    ///
    /// # Errors
    /// The disk failed; nothing acknowledged is lost.
    pub fn close(mut self) -> Result<(), StorageError> {
        // From here on the reserve is what it is for.
        self.reserve.release();
        self.derived.shared.positions.catch_up()?;
        if !self.derived.closed {
            let effects = Effects { closed: true, ..Effects::default() };
            self.write(effects, None, |group| group.record(Kind::Closed, |_| {}).map(|_| Vec::new()))?;
        }
        self.checkpoint();
        self.worker.wait()
    }

    // ---- Commits.

    /// Whether something can be written now, for whoever waits for a full disk to have room again.
    ///
    /// # Errors
    /// Why not.
    pub fn probe(&mut self) -> Result<(), StorageError> {
        self.ready()
    }

    /// Whether something can be written now.
    fn ready(&mut self) -> Result<(), StorageError> {
        self.log.usable()?;
        self.derived.shared.positions.catch_up()?;
        self.reserve.restore()?;
        if self.derived.shared.tables.in_memory() > MAX_UNINDEXED {
            self.worker.wait()?;
        }
        Ok(())
    }

    /// Begins a group at the end of the log.
    fn begin(&mut self) -> Result<(u32, GroupBuilder), StorageError> {
        let before = self.log.end();
        let begun = self.log.begin(&self.derived.shared.segments);
        if self.log.end().segment != before.segment {
            self.sealed_bytes += before.offset;
        }
        begun
    }

    /// Makes a group durable. `fork` is above which block it changes the best chain.
    fn append(&mut self, group: GroupBuilder, fork: Option<Height>) -> Result<(), StorageError> {
        let before = self.log.end().offset;
        let end = self.log.append(group, fork)?;
        self.bytes_since += end.offset - before;
        Ok(())
    }

    /// Writes one group and applies it. `put` adds the records, and says which blocks they are and where.
    fn write(
        &mut self,
        mut effects: Effects,
        turn: Option<Turn>,
        put: impl FnOnce(&mut GroupBuilder) -> Result<Vec<Put>, StorageError>,
    ) -> Result<(), StorageError> {
        if let Some(turn) = &turn {
            self.derived.save_left(turn, self.log.end().sequence + 1)?;
        }
        let (segment, mut group) = self.begin()?;
        let arrived = put(&mut group)?;
        self.append(group, turn.as_ref().map(|turn| turn.base.height))?;
        let arrival = |(outline, (offset, len), own): Put| {
            let place = Place { segment, offset, len };
            Arrival { outline, place, own }
        };
        effects.blocks = arrived.into_iter().map(arrival).collect();
        self.apply(&effects, turn, &mut std::iter::empty())
    }

    /// Applies what is durable. If that fails the disk does, and what is on it is the truth: nothing more is written.
    fn apply(
        &mut self,
        effects: &Effects,
        turn: Option<Turn>,
        staged: derived::Entering<'_>,
    ) -> Result<(), StorageError> {
        let end = self.log.end();
        self.derived.apply(effects, turn, staged, end).map_err(|error| self.log.break_off(&error))?;
        if !self.derived.shared.positions.is_written() {
            // The disk is full, but this group is durable: what is left of the room is for making it readable.
            self.reserve.release();
            let _ = self.derived.shared.positions.catch_up();
        }
        let due = self.derived.blocks_since >= self.options.checkpoint_blocks
            || self.bytes_since >= self.options.checkpoint_bytes;
        if due {
            self.checkpoint();
        }
        Ok(())
    }

    fn checkpoint(&mut self) {
        self.derived.shared.tables.freeze();
        let checkpoint = self.derived.checkpoint(genesis::tip().hash, self.log.next_segment());
        self.derived.guard = self.derived.guard.max(checkpoint.tip.height);
        self.derived.blocks_since = 0;
        self.bytes_since = 0;
        self.worker.submit(checkpoint);
    }

    fn commit_batch(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let is_empty = batch.blocks.is_empty()
            && batch.change.is_none()
            && batch.forget.is_empty()
            && batch.park.is_empty()
            && batch.pending.is_empty()
            && batch.satisfied.is_empty();
        if is_empty {
            return self.log.usable();
        }
        self.ready()?;
        let turn = batch.change.as_ref().map(|change| self.turn(change, &batch.blocks)).transpose()?;
        let effects = Effects {
            change: batch.change.as_ref().map(|change| record_of(change, &batch.blocks)),
            ..outside_of(batch)
        };
        self.write_blocks(effects, turn, &batch.blocks)
    }

    fn write_blocks(
        &mut self,
        effects: Effects,
        turn: Option<Turn>,
        blocks: &[BatchBlock],
    ) -> Result<(), StorageError> {
        let records = effects.clone();
        self.write(effects, turn, |group| {
            let arrived = blocks.iter().map(|block| put_block(group, block)).collect::<Result<_, _>>()?;
            if let Some(change) = &records.change {
                group.record(Kind::Change, |out| record::put_change(out, change))?;
            }
            put_rest(group, &records)?;
            Ok(arrived)
        })
    }

    /// Writes a block of the best chain again whose record is broken. Who it came from does not matter: its hash has to be
    /// the one that the chain has at its height, or its child's parent where damage has taken even that. Blocks below that
    /// are kept beside the chain, and that are now seen to belong to it, come back to it. What this node had placed in it is
    /// written again, too, if the broken record still tells.
    ///
    /// # Errors
    /// It is not the block that is missing, or it could not be written.
    pub fn restore(&mut self, block: &SharedBlock) -> Result<(), StorageError> {
        self.ready()?;
        let height = block.height();
        let wanted = self.derived.shared.wanted_at(&self.view(), height)?;
        if wanted != Some(block.hash()) || height == Height::GENESIS {
            return Err(refused(format!("block {} is not one of the best chain", block.tip())));
        }
        let rescued = self.derived.shared.rescue(&self.view(), block)?;
        let (segment, mut group) = self.begin()?;
        let (offset, len) = match &rescued {
            Some(own) => {
                let put = |out: &mut Vec<u8>| record::put_restored_own(out, block, &own.placed, &own.replaces);
                group.record(Kind::RestoredOwn, put)?
            }
            None => group.record(Kind::Restored, |out| record::put_block(out, block.block()))?,
        };
        self.append(group, None)?;
        let own = rescued.map(|own| own.placed);
        let arrival = Arrival { outline: Outline::of(block), place: Place { segment, offset, len }, own };
        let effects = Effects { restored: vec![arrival], ..Effects::default() };
        self.apply(&effects, None, &mut std::iter::empty())
    }

    /// Checks that a change fits the chain and the blocks that come with it, and looks up what it does.
    fn turn(&self, change: &TipChange, blocks: &[BatchBlock]) -> Result<Turn, StorageError> {
        let turn = self.derived.prepare(change.fork, &change.revived)?;
        let mut tip = change.fork;
        for hash in &change.revived {
            tip = Tip { height: tip.height.next(), hash: *hash };
        }
        for block in blocks {
            if block.block.parent() != tip.hash || block.block.height() != tip.height.next() {
                return Err(refused(format!("block {} does not follow {tip}", block.block.tip())));
            }
            tip = block.block.tip();
        }
        if tip != change.tip {
            return Err(refused(format!("the change ends in {tip}, not in {}", change.tip)));
        }
        Ok(turn)
    }

    // ---- Staged branches.

    fn adopt_branch(&mut self, mut staging: Staging, batch: &Batch) -> Result<(), StorageError> {
        let adopted = self.try_adopt(&mut staging, batch);
        staging.remove();
        adopted
    }

    fn try_adopt(&mut self, staging: &mut Staging, batch: &Batch) -> Result<(), StorageError> {
        self.ready()?;
        let fits = batch.change.as_ref().is_some_and(|change| {
            change.fork == staging.fork && change.tip == staging.tip && change.revived.is_empty()
        });
        if !fits || !batch.blocks.is_empty() || staging.count == 0 {
            return Err(refused("what is to be adopted is not the staged branch".to_owned()));
        }
        let turn = self.derived.prepare(staging.fork, &[])?;
        if staging.bytes() <= self.options.copied_bytes {
            self.copy_branch(staging, batch, turn)
        } else {
            self.move_branch(staging, batch, turn)
        }
    }

    /// Adopts a short branch by copying its blocks into an ordinary group.
    fn copy_branch(&mut self, staging: &Staging, batch: &Batch, turn: Turn) -> Result<(), StorageError> {
        let mut blocks = Vec::new();
        for place in 0..staging.count {
            let block = staging.block(place)?;
            let block = block.ok_or_else(|| error::damaged("a staged branch is shorter than it was"))?;
            blocks.push(BatchBlock { block, placed: Vec::new() });
        }
        let effects = Effects { change: Some(Change::Follow), ..outside_of(batch) };
        self.write_blocks(effects, Some(turn), &blocks)
    }

    /// Adopts a long branch by renaming its files into the log, where the record that follows gives them a meaning.
    fn move_branch(&mut self, staging: &mut Staging, batch: &Batch, turn: Turn) -> Result<(), StorageError> {
        self.derived.save_left(&turn, self.log.end().sequence + 1)?;
        staging.sync()?;
        let first = self.log.take_segments(staging.parts.len() as u32);
        let ids = first..;
        let runs = ids.clone().zip(&staging.parts).map(|(id, part)| (id, part.blocks)).collect();
        let adopt = Adopt { fork: staging.fork, tip: staging.tip, runs };
        let log_dir = self.derived.shared.segments.dir().to_owned();
        let moving = |error| from_disk("moving a staged branch", &error);
        // A name that is not durable yet could not be found under its new name after a crash.
        self.disk.sync_dir(&self.dir.join("staging")).map_err(moving)?;
        for (id, part) in ids.zip(&mut staging.parts) {
            let path = log_dir.join(file_name(id));
            self.disk.rename(&part.segment.path, &path).map_err(moving)?;
            part.segment = part.segment.renamed(path);
        }
        self.disk.sync_dir(&log_dir).map_err(moving)?;

        let (_, mut group) = self.begin()?;
        group.record(Kind::Adopt, |out| record::put_adopt(out, &adopt))?;
        let effects = Effects { adopt: Some(adopt), ..outside_of(batch) };
        put_rest(&mut group, &effects)?;
        if let Err(error) = self.append(group, Some(staging.fork.height)) {
            if self.log.usable().is_err() {
                // The record may be on the disk, and then the files must be.
                staging.parts.clear();
            }
            return Err(error);
        }
        for (id, part) in (first..).zip(std::mem::take(&mut staging.parts)) {
            self.sealed_bytes += part.end;
            self.derived.shared.segments.insert(id, Arc::new(part.segment));
        }
        self.apply(&effects, Some(turn), &mut staging.entries(first))
    }

    fn view(&self) -> View {
        self.derived.shared.view()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.derived.shared.closed.store(true, std::sync::atomic::Ordering::Release);
    }
}

impl Storage for Store {
    type Staging = Staging;

    fn tip(&self) -> Tip {
        self.derived.tip()
    }

    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError> {
        self.derived.shared.hash_at(&self.view(), height)
    }

    fn height_of(&self, hash: &BlockHash) -> Result<Option<Height>, StorageError> {
        self.derived.shared.height_of(&self.view(), hash)
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<SharedBlock>, StorageError> {
        Ok(self.derived.shared.block(&self.view(), hash)?.map(|(block, _)| block))
    }

    fn side_blocks(&self) -> Result<Vec<SideBlock>, StorageError> {
        Ok(self.derived.side_blocks())
    }

    fn pending(&self) -> Result<Vec<SubmissionId>, StorageError> {
        Ok(self.derived.pending.iter().copied().collect())
    }

    fn placed_in(&self, block: &BlockHash) -> Result<Vec<Placed>, StorageError> {
        self.derived.shared.placed_in(&self.view(), block)
    }

    fn placements_of(&self, submission: &SubmissionId) -> Result<Vec<(BlockHash, Placed)>, StorageError> {
        self.derived.shared.placements_of(&self.view(), submission)
    }

    fn entries_of(&self, submission: &SubmissionId) -> Result<Option<Vec<String>>, StorageError> {
        self.derived.shared.entries_of(&self.view(), submission)
    }

    fn submission_by_key(&self, key: &KeyDigest) -> Result<Option<SubmissionId>, StorageError> {
        self.derived.shared.submission_by_key(key)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        self.commit_batch(batch)
    }

    fn stage(&mut self, fork: Tip) -> Result<Staging, StorageError> {
        self.ready()?;
        let number = self.next_staging;
        self.next_staging += 1;
        let dir = self.dir.join("staging");
        Staging::begin(Arc::clone(&self.disk), dir, genesis::tip().hash, number, &self.options, fork)
    }

    fn stage_append(&mut self, staging: &mut Staging, blocks: &[SharedBlock]) -> Result<(), StorageError> {
        staging.append(blocks)
    }

    fn staged_block(&self, staging: &Staging, place: u64) -> Result<Option<SharedBlock>, StorageError> {
        staging.block(place)
    }

    fn adopt(&mut self, staging: Staging, batch: &Batch) -> Result<(), StorageError> {
        self.adopt_branch(staging, batch)
    }

    fn discard(&mut self, staging: Staging) {
        staging.remove();
    }
}

/// How a change is written: most often the first block says where it begins.
fn record_of(change: &TipChange, blocks: &[BatchBlock]) -> Change {
    if change.revived.is_empty() && !blocks.is_empty() {
        return Change::Follow;
    }
    Change::Turn { fork: change.fork, revived: change.revived.clone() }
}

/// What a batch does apart from the chain.
fn outside_of(batch: &Batch) -> Effects {
    Effects {
        forget: batch.forget.clone(),
        park: batch.park.clone(),
        outbox: Outbox { pending: batch.pending.clone(), satisfied: batch.satisfied.clone() },
        ..Effects::default()
    }
}

/// A block's record as it was put: what the block is, offset and length, what is placed in it.
type Put = (Outline, (u32, u32), Option<Vec<Placed>>);

fn put_block(group: &mut GroupBuilder, block: &BatchBlock) -> Result<Put, StorageError> {
    let outline = Outline::of(&block.block);
    if block.placed.is_empty() {
        let place = group.record(Kind::Block, |out| record::put_block(out, block.block.block()))?;
        return Ok((outline, place, None));
    }
    let place = group.record(Kind::OwnBlock, |out| record::put_own_block(out, &block.block, &block.placed))?;
    Ok((outline, place, Some(block.placed.clone())))
}

fn put_rest(group: &mut GroupBuilder, effects: &Effects) -> Result<(), StorageError> {
    for (kind, hashes) in [(Kind::Forget, &effects.forget), (Kind::Park, &effects.park)] {
        if !hashes.is_empty() {
            group.record(kind, |out| record::put_hashes(out, hashes))?;
        }
    }
    let Outbox { pending, satisfied } = &effects.outbox;
    if !pending.is_empty() || !satisfied.is_empty() {
        group.record(Kind::Outbox, |out| record::put_outbox(out, pending, satisfied))?;
    }
    Ok(())
}

fn refused(why: String) -> StorageError {
    StorageError::Failed(why.into())
}
