//! The writer's side of what is derived from the log: the one function that applies a group, live and in a replay.
//!
//! Owns the derived state: `heights`, the tables, the side blocks, the outbox's list, and what of it a checkpoint covers.
//! Everything here is a function of the log up to a group. What can fail without harm is done before the group is written
//! ([`Derived::prepare`]); what comes after only fails when the disk does.

use std::collections::BTreeSet;
use std::iter::once;
use std::panic::resume_unwind;
use std::sync::{Arc, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use super::checkpoint::{self, Checkpoint, Side};
use super::effects::{Arrival, Effects};
use super::epoch::{Departure, Epoch, View};
use super::error::from_disk;
use super::log::LogEnd;
use super::own::{key_of, key_of_submission};
use super::positions::{Entry, Place, damaged_entry};
use super::run::Pair;
use super::shared::{self, Shared};
use super::table::{SPILL, Table};
use crate::ledger::block::{Height, Tip};
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::{SideBlock, StorageError, SubmissionId};

/// Entries that enter at once.
pub(super) const CHUNK: usize = SPILL;

/// Entries from which on what finds them by hash is worth a run of its own, and a thread to sort it.
const RUN: usize = 16 * 1024;

/// What finds blocks by their hash; a lost block has none.
fn heights_by_hash(from: Height, entries: &[Entry]) -> impl Iterator<Item = Pair> {
    let known = entries.iter().zip(from.0..).filter(|(entry, _)| entry.hash != BlockHash::ZERO);
    known.map(|(entry, height)| (key_of(&entry.hash), height))
}

fn note_unwritten(written: Result<(), StorageError>) {
    if let Err(error) = written {
        tracing::warn!(%error, "hashes of blocks stay in memory for now");
    }
}

fn join(thread: Option<ScopedJoinHandle<'_, ()>>) {
    if let Some(Err(panic)) = thread.map(ScopedJoinHandle::join) {
        resume_unwind(panic);
    }
}

/// The blocks that enter the best chain from elsewhere than the group itself, lowest first, some at a time.
pub(super) type Entering<'e> = &'e mut dyn Iterator<Item = Result<Vec<Entry>, StorageError>>;

/// A change of the best chain, looked up but not done.
#[derive(Debug)]
pub(super) struct Turn {
    /// The last block that stays.
    pub(super) base: Tip,
    /// What stands above it now.
    pub(super) left: Vec<Entry>,
    /// What is kept of that as side blocks.
    pub(super) sides: Vec<(BlockHash, Side)>,
    /// Where the own blocks among them are.
    pub(super) own: Vec<Pair>,
    /// What enters before the blocks of the group: revived side blocks, and what damage to the log has taken.
    pub(super) first: Vec<Entry>,
}

/// The derived state as its writer sees it.
#[derive(Debug)]
pub(super) struct Derived {
    pub(super) shared: Arc<Shared>,
    /// Submissions that wait to be mined again.
    pub(super) pending: BTreeSet<SubmissionId>,
    /// Heights up to here may be read by a replay: a reorg below saves what it overwrites.
    pub(super) guard: Height,
    /// The last group that is applied.
    pub(super) applied: LogEnd,
    /// Whether that group closed the store.
    pub(super) closed: bool,
    /// Blocks since the last checkpoint.
    pub(super) blocks_since: u64,
    /// Whether this is a replay: nobody reads yet, and the epochs tell what later groups have overwritten.
    pub(super) replaying: bool,
}

impl Derived {
    pub(super) fn tip(&self) -> Tip {
        self.shared.tip()
    }

    // ---- Before the group is written.

    /// Looks up what a change of the best chain above `fork` does.
    pub(super) fn prepare(&self, fork: Tip, revived: &[BlockHash]) -> Result<Turn, StorageError> {
        let view = self.shared.view();
        if self.shared.hash_at(&view, fork.height)? != Some(fork.hash) {
            return Err(StorageError::Failed(
                format!("block {fork} is not on the best chain, so none can follow").into(),
            ));
        }
        let mut turn = self.departing(&view, fork)?;
        for hash in revived {
            let side = self.shared.side(hash);
            let side = side.ok_or_else(|| StorageError::Failed(format!("block {hash} is not kept").into()))?;
            turn.first.push(Entry { hash: *hash, place: side.place() });
        }
        Ok(turn)
    }

    /// What leaves when everything above a block of the best chain does.
    pub(super) fn departing(&self, view: &View, base: Tip) -> Result<Turn, StorageError> {
        let mut turn = Turn { base, left: Vec::new(), sides: Vec::new(), own: Vec::new(), first: Vec::new() };
        if base == view.tip {
            return Ok(turn);
        }
        let entries = self.shared.entries(view, base.height.next(), usize::MAX)?;
        let entries = entries.into_iter().zip(base.height.next().0..);
        let entries = entries.map(|(entry, height)| entry.ok_or_else(|| damaged_entry(height)));
        turn.left = self.shared.derived(entries.collect())?;
        self.outline_sides(&mut turn)?;
        Ok(turn)
    }

    /// Reads the blocks that leave. Where the log is damaged, that block and all above it are given up: nothing could
    /// follow from them to the chain.
    fn outline_sides(&self, turn: &mut Turn) -> Result<(), StorageError> {
        let Turn { base, left, sides, own, .. } = turn;
        let mut parent = *base;
        let read = self.shared.each_record(left, &mut |entry, found| {
            let place = entry.place;
            let outline = found.and_then(|(kind, payload)| shared::outline(kind, payload));
            let Some((outline, placed)) = outline else { return Err(super::error::damaged("a block is lost")) };
            if outline.parent != parent.hash || outline.height != parent.height.next() {
                return Err(super::error::damaged(format!("heights: block {} does not follow", outline.height)));
            }
            if !placed.is_empty() {
                own.push((key_of(&outline.hash), place.packed()));
            }
            sides.push((outline.hash, side(&Arrival { outline, place, own: None })));
            parent = outline.tip();
            Ok(())
        });
        match read {
            Err(StorageError::Damaged(_)) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        // What was read must be what the entries say, and not only hang together.
        match sides.iter().zip(&*left).find(|((hash, _), entry)| *hash != entry.hash) {
            Some((_, entry)) => self.shared.derived(Err(super::error::damaged(format!(
                "heights: the entry of block {} leads elsewhere",
                entry.hash
            )))),
            None => Ok(()),
        }
    }

    /// Saves what a change will overwrite in `heights`, if a replay may want to read it. Should the group of this number
    /// become another one after all, then what is saved is still true of the time before it.
    pub(super) fn save_left(&self, turn: &Turn, sequence: u64) -> Result<(), StorageError> {
        let Turn { base, left, .. } = turn;
        let (disk, dir) = (&*self.shared.disk, &self.shared.index_dir);
        let spared = left.is_empty() || base.height >= self.guard;
        if spared || checkpoint::has_left(disk, dir, sequence, base.height.0, left.len()) {
            return Ok(());
        }
        checkpoint::write_left(disk, dir, sequence, base.height.0, left)
            .map_err(|error| from_disk("saving the places of blocks that leave", &error))
    }

    // ---- After the group is durable.

    /// Applies a group: `turn` is what was prepared for it, `staged` what enters from a staged branch.
    pub(super) fn apply(
        &mut self,
        effects: &Effects,
        turn: Option<Turn>,
        staged: Entering<'_>,
        end: LogEnd,
    ) -> Result<(), StorageError> {
        let entered = match turn {
            Some(turn) => self.enter(effects, turn, staged)?,
            None => {
                self.keep_beside(&effects.blocks);
                Vec::new()
            }
        };
        self.restore(&effects.restored);
        self.salvage(&effects.restored);
        self.index_submissions(&effects.blocks);
        self.settle_sides(effects, &entered);
        self.settle_outbox(effects);
        self.blocks_since += 1 + effects.blocks.len() as u64;
        self.blocks_since += effects.adopt.iter().flat_map(|adopt| &adopt.runs).map(|(_, blocks)| blocks).sum::<u64>();
        self.applied = end;
        self.closed = effects.closed;
        Ok(())
    }

    /// Makes the chain what the group says; which blocks are side blocks no more.
    fn enter(&mut self, effects: &Effects, turn: Turn, staged: Entering<'_>) -> Result<Vec<BlockHash>, StorageError> {
        let Turn { base, left, sides, own, first } = turn;
        self.shared.sides.write().unwrap_or_else(PoisonError::into_inner).extend(sides);
        self.shared.tables.insert(Table::Own, own);
        let epoch = self.leave(base, left);

        let arrivals = effects.blocks.chunks(CHUNK).map(|some| Ok(some.iter().map(Arrival::entry).collect()));
        let entering = once(Ok(first)).chain(staged).chain(arrivals);
        let this = &*self;
        let (tip, entered) = thread::scope(|scope| {
            let mut tip = base;
            let mut entered = Vec::new();
            let mut writing: Option<ScopedJoinHandle<'_, ()>> = None;
            for chunk in entering {
                let chunk = chunk?;
                let Some(last) = chunk.last() else { continue };
                let from = tip.height.next();
                tip = Tip { height: Height(tip.height.0 + chunk.len() as u64), hash: last.hash };
                let sides = this.shared.sides.read().unwrap_or_else(PoisonError::into_inner);
                if !sides.is_empty() {
                    entered.extend(chunk.iter().map(|entry| entry.hash).filter(|hash| sides.contains_key(hash)));
                }
                drop(sides);
                if chunk.len() < RUN {
                    this.write_heights(from, &chunk);
                } else {
                    // One chunk is written while the next is read: more at a time would only take memory.
                    join(writing.take());
                    writing = Some(scope.spawn(move || this.write_run(from, &chunk)));
                }
            }
            join(writing);
            Ok::<_, StorageError>((tip, entered))
        })?;
        let mut view = self.shared.view.write().unwrap_or_else(PoisonError::into_inner);
        view.tip = tip;
        if let Some(epoch) = epoch {
            view.epoch = epoch;
        }
        Ok(entered)
    }

    /// Hangs what leaves on the epoch that ends; the next one.
    fn leave(&self, base: Tip, left: Vec<Entry>) -> Option<Arc<Epoch>> {
        if left.is_empty() || self.replaying {
            return None;
        }
        Some(self.shared.view().epoch.end(Departure { fork: base.height.0, left }))
    }

    /// Writes entries to `heights` and what finds them by hash. Without room they stay in memory until there is some.
    fn write_heights(&self, from: Height, entries: &[Entry]) {
        self.write_places(from, entries);
        let tables = &self.shared.tables;
        tables.insert(Table::Heights, heights_by_hash(from, entries));
        note_unwritten(tables.spill(Table::Heights));
    }

    fn write_places(&self, from: Height, entries: &[Entry]) {
        if let Err(error) = self.shared.positions.write(from.0, entries) {
            tracing::warn!(%error, %from, blocks = entries.len(), "places of blocks stay in memory for now");
        }
    }

    /// As [`write_heights`](Self::write_heights), for many.
    fn write_run(&self, from: Height, entries: &[Entry]) {
        self.write_places(from, entries);
        note_unwritten(self.shared.tables.insert_run(Table::Heights, heights_by_hash(from, entries).collect()));
    }

    /// Lets the entries of broken blocks lead to their new records.
    fn restore(&self, restored: &[Arrival]) {
        let view = self.shared.view();
        for arrival in restored {
            let height = arrival.outline.height;
            let fits = match self.shared.entry(&view, height) {
                Ok(Some(entry)) => entry.hash == arrival.outline.hash || entry.hash == BlockHash::ZERO,
                _ => false,
            };
            // It may have left the chain between its restoration and the end of a log that is replayed with damage.
            if fits {
                self.write_heights(height, &[arrival.entry()]);
                self.reconnect(&view, height, arrival.outline.parent);
            }
        }
    }

    /// Goes down from a block that is known again as far as the chain below is not what it follows: that is lost, or a kept
    /// block, or a guess that was wrong about what damage had taken.
    fn reconnect(&self, view: &View, above: Height, mut parent: BlockHash) {
        let mut height = above;
        while let Some(below) = height.0.checked_sub(1).filter(|below| *below > 0).map(Height) {
            if matches!(self.shared.entry(view, below), Ok(Some(entry)) if entry.hash == parent) {
                return;
            }
            let kept = self.shared.sides.write().unwrap_or_else(PoisonError::into_inner).remove(&parent);
            let Some(kept) = kept else {
                self.write_heights(below, &[Entry::lost(parent)]);
                return;
            };
            self.write_heights(below, &[Entry { hash: parent, place: kept.place() }]);
            (height, parent) = (below, kept.parent);
        }
    }

    fn keep_beside(&self, blocks: &[Arrival]) {
        if blocks.is_empty() {
            return;
        }
        let own = blocks.iter().filter(|arrival| arrival.own.is_some());
        self.shared.tables.insert(Table::Own, own.map(own_pair));
        let mut sides = self.shared.sides.write().unwrap_or_else(PoisonError::into_inner);
        sides.extend(blocks.iter().map(|arrival| (arrival.outline.hash, side(arrival))));
    }

    /// Notes own blocks that enter neither the chain nor what is kept beside it: they were broken, or stand in a broken group.
    pub(super) fn salvage(&self, blocks: &[Arrival]) {
        let own = blocks.iter().filter(|arrival| arrival.own.is_some());
        self.shared.tables.insert(Table::Own, own.map(own_pair));
        self.index_submissions(blocks);
    }

    fn index_submissions(&self, blocks: &[Arrival]) {
        let (mut keys, mut again) = (Vec::new(), Vec::new());
        for arrival in blocks {
            let place = arrival.place.packed();
            for placed in arrival.own.iter().flatten() {
                keys.extend(placed.key.map(|key| (key_of(&BlockHash(key)), place)));
                if placed.submission.block != arrival.outline.hash {
                    again.push((key_of_submission(&placed.submission), place));
                }
            }
        }
        for (table, pairs) in [(Table::Keys, keys), (Table::Again, again)] {
            if !pairs.is_empty() {
                self.shared.tables.insert(table, pairs);
            }
        }
    }

    fn settle_sides(&self, effects: &Effects, entered: &[BlockHash]) {
        if effects.park.is_empty() && effects.forget.is_empty() && entered.is_empty() {
            return;
        }
        let mut sides = self.shared.sides.write().unwrap_or_else(PoisonError::into_inner);
        for hash in entered {
            sides.remove(hash);
        }
        for hash in &effects.park {
            if let Some(side) = sides.get_mut(hash) {
                side.parked = true;
            }
        }
        for hash in &effects.forget {
            sides.remove(hash);
        }
    }

    fn settle_outbox(&mut self, effects: &Effects) {
        self.pending.extend(&effects.outbox.pending);
        for submission in &effects.outbox.satisfied {
            self.pending.remove(submission);
        }
    }

    // ---- For whoever asks once, and for checkpoints.

    /// All kept side blocks, parents before children.
    pub(super) fn side_blocks(&self) -> Vec<SideBlock> {
        let sides = self.shared.sides.read().unwrap_or_else(PoisonError::into_inner);
        let side = |(hash, side): (&BlockHash, &Side)| {
            let Side { parent, height, bytes, parked, .. } = *side;
            SideBlock { hash: *hash, parent, height, bytes, parked }
        };
        let mut list: Vec<SideBlock> = sides.iter().map(side).collect();
        list.sort_unstable_by_key(|side| (side.height, side.hash));
        list
    }

    /// The state as a checkpoint records it, but for the runs.
    pub(super) fn checkpoint(&self, genesis: BlockHash, next_segment: u32) -> Checkpoint {
        let sides = self.shared.sides.read().unwrap_or_else(PoisonError::into_inner);
        Checkpoint {
            genesis,
            segment: self.applied.segment,
            offset: self.applied.offset,
            sequence: self.applied.sequence,
            next_segment,
            closed: self.closed,
            tip: self.tip(),
            sides: sides.iter().map(|(hash, side)| (*hash, *side)).collect(),
            pending: self.pending.iter().copied().collect(),
            damage: self.shared.damage.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            runs: Default::default(),
            next_run: 0,
        }
    }
}

fn own_pair(arrival: &Arrival) -> Pair {
    (key_of(&arrival.outline.hash), arrival.place.packed())
}

pub(super) fn side(arrival: &Arrival) -> Side {
    let Arrival { outline, place, .. } = arrival;
    let Place { segment, offset, len } = *place;
    Side { parent: outline.parent, height: outline.height, bytes: outline.bytes, parked: false, segment, offset, len }
}
