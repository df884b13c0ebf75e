//! What the writer and all readers look at, and how a question about a chain is answered from it.
//!
//! Owns the answers: which entry a height has in a given [`View`], which record that leads to, and what is checked on the
//! way. Nothing in this file changes the chain; the writer's part is in [`derived`](super::derived).
//! What this node mined is looked up in [`own`](super::own).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::checkpoint::{Damage, Side};
use super::disk::Disk;
use super::epoch::View;
use super::error::damaged;
use super::own::{Again, key_of};
use super::positions::{Entry, Place, Positions, damaged_entry};
use super::record::{self, Kind, Outline};
use super::segment::{RECORD_HEADER, Record, Segment, Segments, file_name};
use super::table::{Table, Tables};
use crate::ledger::block::{Block, BlockView, CheckedBlock, Height, SharedBlock, Tip};
use crate::ledger::genesis;
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::{Placed, StorageError};

/// Places of damage that are remembered; more would say nothing new.
const MAX_DAMAGE: usize = 1000;

/// Broken heights that wait to be taken; more are met again.
const MAX_BROKEN: usize = 1 << 16;

/// Bytes of neighbouring records that are read at once.
const READ_AT_ONCE: u64 = 1 << 20;

/// Bytes between two records that are read along rather than skipped: headers of groups and small records.
const MAX_GAP: u64 = 4096;

/// The file whose presence says that the derived state has to be made again.
pub(super) const REBUILD: &str = "REBUILD";

/// Takes the record that an entry leads to; `None` where there is none.
pub(super) type TakeRecord<'t> = &'t mut dyn FnMut(Entry, Option<(Kind, &[u8])>) -> Result<(), StorageError>;

/// As [`TakeRecord`], with the height that the entry is of.
type TakeHeight<'t> = &'t mut dyn FnMut(Height, Entry, Option<(Kind, &[u8])>) -> Result<(), StorageError>;

/// Everything that is open.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    /// Where the files of the index are.
    pub(super) index_dir: PathBuf,
    pub(super) segments: Segments,
    pub(super) positions: Positions,
    pub(super) tables: Tables,
    /// All kept side blocks.
    pub(super) sides: RwLock<HashMap<BlockHash, Side>>,
    /// The chain as of the last commit.
    pub(super) view: RwLock<View>,
    /// Whether the writer is gone. Another may overwrite `heights` then, and nobody here would know.
    pub(super) closed: AtomicBool,
    /// Broken parts of the log that were met.
    pub(super) damage: Mutex<Vec<Damage>>,
    /// Heights whose blocks could not be read, until somebody takes them to fetch them again.
    pub(super) broken: Mutex<BTreeSet<Height>>,
    /// Broken records that a replay has met: one may be that of a block of which nothing else is known.
    pub(super) unread: Mutex<Vec<Place>>,
    /// The latest blocks of submissions mined again that were asked for, by the places of their records: all submissions
    /// in such a block ask for it one after the other.
    pub(super) again: Mutex<VecDeque<(u64, Arc<Again>)>>,
}

impl Shared {
    /// The chain as of the last commit.
    pub(super) fn view(&self) -> View {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tip(&self) -> Tip {
        self.view.read().unwrap_or_else(PoisonError::into_inner).tip
    }

    /// A kept side block.
    pub(super) fn side(&self, hash: &BlockHash) -> Option<Side> {
        self.sides.read().unwrap_or_else(PoisonError::into_inner).get(hash).copied()
    }

    // ---- Heights.

    /// The entry of a height in a view; `None` above its tip.
    pub(super) fn entry(&self, view: &View, height: Height) -> Result<Option<Entry>, StorageError> {
        if height > view.tip.height {
            return Ok(None);
        }
        if let Some(entry) = view.epoch.lost_since(height.0) {
            return Ok(Some(entry));
        }
        let read = self.positions.read(height.0);
        // A reorg may have overwritten the entry while it was read; then the epoch has ended by now.
        if let Some(entry) = view.epoch.lost_since(height.0) {
            return Ok(Some(entry));
        }
        self.still_open()?;
        self.derived(read).map(Some)
    }

    /// The entries of a view from a height on, at most `count`; empty above the tip. An unreadable entry is `None`.
    pub(super) fn entries(&self, view: &View, from: Height, count: usize) -> Result<Vec<Option<Entry>>, StorageError> {
        let above = view.tip.height.next().0.saturating_sub(from.0);
        let count = usize::try_from(above).unwrap_or(usize::MAX).min(count);
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut entries = self.positions.read_run(from.0, count)?;
        for (entry, height) in entries.iter_mut().zip(from.0..) {
            if let Some(lost) = view.epoch.lost_since(height) {
                *entry = Some(lost);
            }
        }
        self.still_open()?;
        Ok(entries)
    }

    /// The hash at a height of a view.
    pub(super) fn hash_at(&self, view: &View, height: Height) -> Result<Option<BlockHash>, StorageError> {
        if height == view.tip.height {
            return Ok(Some(view.tip.hash));
        }
        match self.entry(view, height)? {
            Some(entry) if entry.hash == BlockHash::ZERO => Err(lost(height)),
            entry => Ok(entry.map(|entry| entry.hash)),
        }
    }

    /// The hash that the block at a height of a view has to have: its own entry's, or its child's parent where damage has
    /// taken that; `None` if nothing is left that could tell.
    pub(super) fn wanted_at(&self, view: &View, height: Height) -> Result<Option<BlockHash>, StorageError> {
        match self.entry(view, height)? {
            Some(entry) if entry.hash != BlockHash::ZERO => Ok(Some(entry.hash)),
            Some(_) => match self.entry(view, height.next())? {
                Some(child) => Ok(Some(self.block_of(child, height.next())?.parent())),
                None => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// Where a hash is on the chain of a view.
    pub(super) fn height_of(&self, view: &View, hash: &BlockHash) -> Result<Option<Height>, StorageError> {
        if *hash == view.tip.hash {
            return Ok(Some(view.tip.height));
        }
        if *hash == genesis::tip().hash {
            return Ok(Some(Height::GENESIS));
        }
        let candidates = self.derived(self.tables.find(Table::Heights, key_of(hash)))?;
        for height in candidates.into_iter().map(Height) {
            if self.entry(view, height)?.is_some_and(|entry| entry.hash == *hash) {
                return Ok(Some(height));
            }
        }
        Ok(None)
    }

    // ---- Blocks.

    /// The block of an entry, with its hash computed anew.
    pub(super) fn block_of(&self, entry: Entry, height: Height) -> Result<SharedBlock, StorageError> {
        if height == Height::GENESIS {
            return Ok(genesis::block());
        }
        if entry.place.is_none() {
            return Err(lost(height));
        }
        let record = self.record(entry.place)?;
        let block = decode(record.kind, record.payload()).ok_or_else(|| not_a_block(entry.place))?;
        self.fits(block, entry, height)
    }

    /// A block that stands at a place, if it is the one that was looked for.
    fn fits(&self, block: Block, entry: Entry, height: Height) -> Result<SharedBlock, StorageError> {
        let hash = block.header.hash();
        if hash == entry.hash && block.header.index == height {
            Ok(Arc::new(CheckedBlock::trusted(block, hash)))
        } else {
            self.derived(Err(misplaced(height)))
        }
    }

    /// A block of a view's chain, or a kept side block.
    pub(super) fn block(
        &self,
        view: &View,
        hash: &BlockHash,
    ) -> Result<Option<(SharedBlock, Option<Height>)>, StorageError> {
        if let Some(height) = self.height_of(view, hash)?
            && let Some(entry) = self.entry(view, height)?
        {
            return Ok(Some((self.block_of(entry, height)?, Some(height))));
        }
        match self.side(hash) {
            Some(side) => {
                let block = self.block_of(Entry { hash: *hash, place: side.place() }, side.height)?;
                Ok(Some((block, None)))
            }
            None => Ok(None),
        }
    }

    /// Blocks of a view's chain from a height on: at most `max_blocks`, and no more bytes of records than `max_bytes`, but
    /// one block if there is one. Each with its hash computed anew.
    pub(super) fn blocks(
        &self,
        view: &View,
        from: Height,
        max_blocks: usize,
        max_bytes: usize,
    ) -> Result<Vec<SharedBlock>, StorageError> {
        let mut blocks = Vec::new();
        self.run(view, from, max_blocks, max_bytes, &mut |height, entry, found| {
            blocks.push(match found {
                None => genesis::block(),
                Some((kind, payload)) => {
                    let block = decode(kind, payload).ok_or_else(|| not_a_block(entry.place))?;
                    self.fits(block, entry, height)?
                }
            });
            Ok(())
        })?;
        Ok(blocks)
    }

    /// As [`blocks`](Self::blocks), but the blocks are only shown, with their hashes, and nothing is hashed: a record and its
    /// entry each have a checksum that is bound to their place, and each block names the hash before it as its parent. That
    /// is enough to copy them on; whoever builds on a block takes [`blocks`](Self::blocks).
    pub(super) fn views(
        &self,
        view: &View,
        from: Height,
        max_blocks: usize,
        max_bytes: usize,
        show: &mut dyn FnMut(BlockHash, BlockView<'_>),
    ) -> Result<(), StorageError> {
        let mut parent = match from.0.checked_sub(1) {
            Some(below) => self.entry(view, Height(below))?.map_or(BlockHash::ZERO, |entry| entry.hash),
            None => BlockHash::ZERO,
        };
        self.run(view, from, max_blocks, max_bytes, &mut |height, entry, found| {
            match found {
                None => show(entry.hash, BlockView::from(genesis::block().block())),
                Some((kind, payload)) => {
                    let block = record::read_view(kind, payload).ok_or_else(|| not_a_block(entry.place))?;
                    // Damage can have taken the hash below.
                    let follows = parent == BlockHash::ZERO || block.header.previous_hash == parent;
                    if !follows || block.header.index != height {
                        return self.derived(Err(misplaced(height)));
                    }
                    show(entry.hash, block);
                }
            }
            parent = entry.hash;
            Ok(())
        })
    }

    /// Hands on the records of a view's chain from a height on, within bounds; only genesis has none.
    fn run(
        &self,
        view: &View,
        from: Height,
        max_blocks: usize,
        max_bytes: usize,
        take: TakeHeight<'_>,
    ) -> Result<(), StorageError> {
        let (mut taken, mut bytes) = (0, 0);
        let mut next = from;
        while taken < max_blocks {
            let entries = self.entries(view, next, (max_blocks - taken).min(ENTRIES_AT_ONCE))?;
            if entries.is_empty() {
                break;
            }
            let entries =
                entries.into_iter().zip(next.0..).map(|(entry, height)| entry.ok_or_else(|| damaged_entry(height)));
            let entries = entries.collect::<Result<Vec<_>, _>>();
            let entries = self.derived(entries)?;
            let fit = entries.iter().take_while(|entry| {
                bytes += entry.place.len as usize;
                bytes <= max_bytes
            });
            let fit = fit.count().max(usize::from(taken == 0));
            let mut heights = next.0..;
            self.each_record(&entries[..fit], &mut |entry, found| {
                let height = heights.next().map_or(next, Height);
                if found.is_none() && height != Height::GENESIS {
                    return Err(lost(height));
                }
                take(height, entry, found)
            })?;
            taken += fit;
            if fit < entries.len() {
                break;
            }
            next = Height(next.0 + fit as u64);
        }
        Ok(())
    }

    /// Hands on the record of each entry in order, reading neighbours together; `None` for an entry without a place.
    pub(super) fn each_record(&self, entries: &[Entry], take: TakeRecord<'_>) -> Result<(), StorageError> {
        let mut rest = entries;
        while let Some(first) = rest.first() {
            if first.place.is_none() {
                take(*first, None)?;
                rest = &rest[1..];
                continue;
            }
            let count = neighbours(rest);
            let (run, others) = rest.split_at(count);
            let segment = self.segments.get(first.place.segment)?;
            let start = u64::from(first.place.offset);
            let end = run.last().map_or(start, |last| u64::from(last.place.offset) + u64::from(last.place.len));
            // The cast is safe: the run is at most one record, or READ_AT_ONCE bytes.
            let bytes = self.noted(first.place, segment.read(start, (end - start) as u32))?;
            for entry in run {
                let at = (u64::from(entry.place.offset) - start) as usize;
                let record = bytes.get(at..at + entry.place.len as usize).unwrap_or_default();
                let (kind, payload) = self.noted(entry.place, whole_record(&segment, entry.place, record))?;
                take(*entry, Some((kind, payload)))?;
            }
            rest = others;
        }
        Ok(())
    }

    /// A record at a place.
    pub(super) fn record(&self, place: Place) -> Result<Record, StorageError> {
        let segment = self.noted(place, self.segments.get(place.segment))?;
        self.noted(place, segment.read_record(place.offset, place.len))
    }

    // ---- Trouble.

    /// Readers of a store that another may have opened by now must not trust `heights`.
    fn still_open(&self) -> Result<(), StorageError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StorageError::Failed("the store was closed".into()));
        }
        Ok(())
    }

    /// Remembers that derived state is damaged, so that the next start makes it again.
    pub(super) fn derived<T>(&self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(StorageError::Damaged(what)) = &result {
            self.note(Damage { file: "index".into(), offset: 0, bytes: 0, what: what.to_string() });
            // Best effort: without the mark the next start finds out as this one did.
            let _ = self.disk.create(&self.index_dir.join(REBUILD));
            return Err(damaged(format!("{what}; the next start makes the index again")));
        }
        result
    }

    /// Remembers that the log is damaged at a place.
    pub(super) fn noted<T>(&self, place: Place, result: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(StorageError::Damaged(what)) = &result {
            let file = file_name(place.segment);
            self.note(Damage { file, offset: place.offset.into(), bytes: place.len.into(), what: what.to_string() });
        }
        result
    }

    /// Remembers that the block at a height cannot be read.
    pub(super) fn note_broken(&self, height: Height) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.len() < MAX_BROKEN {
            broken.insert(height);
        }
    }

    /// Remembers where records are that are not what was written.
    pub(super) fn note_unread(&self, places: Vec<Place>) {
        let mut known = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_DAMAGE.saturating_sub(known.len());
        known.extend(places.into_iter().take(room));
    }

    pub(super) fn note(&self, damage: Damage) {
        let mut known = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_DAMAGE && !known.contains(&damage) {
            let Damage { file, offset, bytes, what } = &damage;
            tracing::error!(file, offset, bytes, what, "the store is damaged");
            known.push(damage);
        }
    }
}

/// Entries that are looked up at once when blocks are read in sequence.
const ENTRIES_AT_ONCE: usize = 4096;

/// How many of the first entries can be read in one go.
fn neighbours(entries: &[Entry]) -> usize {
    let start = entries.first().map_or(0, |entry| u64::from(entry.place.offset));
    let fits = |pair: &[Entry]| {
        let (a, b) = (pair[0].place, pair[1].place);
        let a_end = u64::from(a.offset) + u64::from(a.len);
        let b_end = u64::from(b.offset) + u64::from(b.len);
        a.segment == b.segment
            && u64::from(b.offset) >= a_end
            && u64::from(b.offset) - a_end <= MAX_GAP
            && b_end - start <= READ_AT_ONCE
    };
    1 + entries.windows(2).take_while(|pair| fits(pair)).count()
}

fn whole_record<'b>(segment: &Segment, place: Place, bytes: &'b [u8]) -> Result<(Kind, &'b [u8]), StorageError> {
    match segment.parse_record(bytes) {
        Some((kind, len)) if RECORD_HEADER + len == bytes.len() => Ok((kind, &bytes[RECORD_HEADER..])),
        _ => Err(segment.damaged(place.offset.into(), "a record")),
    }
}

/// The block in a record of either kind.
pub(super) fn decode(kind: Kind, payload: &[u8]) -> Option<Block> {
    match kind {
        Kind::Block | Kind::Restored => record::read_block(payload),
        Kind::OwnBlock | Kind::RestoredOwn => record::read_own_block(kind, payload).map(|own| own.block),
        _ => None,
    }
}

/// The outline of a block's record, and what is placed in it.
pub(super) fn outline(kind: Kind, payload: &[u8]) -> Option<(Outline, Vec<Placed>)> {
    match kind {
        Kind::Block | Kind::OwnBlock | Kind::Restored | Kind::RestoredOwn => record::read_outline(kind, payload),
        _ => None,
    }
}

fn lost(height: Height) -> StorageError {
    damaged(format!("block {height} was lost by damage to the log"))
}

fn misplaced(height: Height) -> StorageError {
    damaged(format!("heights: block {height} is not where its entry says"))
}

pub(super) fn not_a_block(place: Place) -> StorageError {
    damaged(format!("{} at {}: no block stands there", file_name(place.segment), place.offset))
}
