//! Branches that are collected beside the chain, on disk, before they are adopted or given up.
//!
//! Owns the files `staging/<branch>-<part, 8 hex>.seg`, segments in every respect but for where they stand, and
//! `staging/<branch>.places`, which has 48 bytes for each block as in `heights` (the segment is the part's number from 1,
//! the height is the place in the branch from 0). Nothing of a branch is held in memory but its last part's buffer. Files
//! of branches that nobody has a hand on are removed at the next open.

use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::derived::CHUNK;
use super::disk::{self, Disk, DiskFile};
use super::error::{damaged, from_disk};
use super::positions::{ENTRY, Entry, Place};
use super::record::{self, BLOCK_RECORD_MIN, Kind};
use super::segment::{HEADER, Purpose, Segment, file_name};
use super::{Checkpoints, Options, shared};
use crate::ledger::block::{CheckedBlock, SharedBlock, Tip};
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::StorageError;

/// A branch that is being collected. Given up with [`Store::discard`](super::Store), or by dropping it and opening anew.
#[derive(Debug)]
pub struct Staging {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    genesis: BlockHash,
    /// The branch's number, which begins the names of its files.
    number: u64,
    roll_at: u64,
    /// Bytes to append before they are synced on another thread, if there may be one.
    sync_each: Option<u64>,
    pub(super) fork: Tip,
    pub(super) tip: Tip,
    pub(super) parts: Vec<Part>,
    /// Where the blocks are.
    places: Arc<dyn DiskFile>,
    /// Number of blocks.
    pub(super) count: u64,
    buffer: Vec<u8>,
    /// Bytes that were appended since that was done last.
    appended: u64,
    syncing: Option<Syncing>,
}

/// Another thread that syncs.
#[derive(Debug)]
struct Syncing {
    /// The parts that were not synced, and where they ended.
    ends: Vec<(usize, u64)>,
    thread: JoinHandle<io::Result<()>>,
}

/// A file of a staged branch.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) segment: Segment,
    pub(super) blocks: u64,
    pub(super) end: u64,
    groups: u64,
    pub(super) synced: bool,
}

impl Staging {
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        genesis: BlockHash,
        number: u64,
        options: &Options,
        fork: Tip,
    ) -> Result<Self, StorageError> {
        let places = disk.create(&dir.join(format!("{number}.places")));
        let places = places.map_err(|error| from_disk("staging a branch", &error))?;
        Ok(Self {
            disk,
            dir,
            genesis,
            number,
            roll_at: options.segment_bytes,
            sync_each: (options.checkpoints == Checkpoints::Beside).then_some(options.segment_bytes / 4),
            fork,
            tip: fork,
            parts: Vec::new(),
            places,
            count: 0,
            buffer: Vec::new(),
            appended: 0,
            syncing: None,
        })
    }

    /// Bytes of all parts.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.end).sum()
    }

    pub(super) fn append(&mut self, blocks: &[SharedBlock]) -> Result<(), StorageError> {
        // Pieces, so that one call with very many blocks takes no more memory than many calls.
        let most = piece_bytes(self.roll_at);
        let mut rest = blocks;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |block: &&SharedBlock| {
                bytes += (block.block().body_bytes() + 128) as u64;
                bytes <= most
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (piece, others) = rest.split_at(count);
            self.append_piece(piece)?;
            rest = others;
        }
        Ok(())
    }

    fn append_piece(&mut self, blocks: &[SharedBlock]) -> Result<(), StorageError> {
        self.roll()?;
        let number = self.parts.len() as u32;
        let Some(part) = self.parts.last_mut() else { return Ok(()) };
        let mut group = part.segment.begin_group(part.end, std::mem::take(&mut self.buffer));
        let mut entries = Vec::with_capacity(blocks.len() * ENTRY);
        let mut tip = self.tip;
        for (block, place) in blocks.iter().zip(self.count..) {
            if block.parent() != tip.hash || block.height() != tip.height.next() {
                return Err(StorageError::Failed(format!("block {} does not follow {tip}", block.tip()).into()));
            }
            tip = block.tip();
            let (offset, len) = group.record(Kind::Block, |out| record::put_block(out, block.block()))?;
            let entry = Entry { hash: block.hash(), place: Place { segment: number, offset, len } };
            entries.extend_from_slice(&entry.to_bytes(place));
        }
        let bytes = group.finish(part.groups + 1, None);
        let failed = |error: io::Error| from_disk("staging a branch", &error);
        part.segment.file.write_all_at(&bytes, part.end).map_err(failed)?;
        self.places.write_all_at(&entries, self.count * ENTRY as u64).map_err(failed)?;
        part.end += bytes.len() as u64;
        part.groups += 1;
        part.blocks += blocks.len() as u64;
        part.synced = false;
        self.count += blocks.len() as u64;
        self.tip = tip;
        self.appended += bytes.len() as u64;
        self.buffer = bytes;
        self.sync_beside()
    }

    /// Begins a part if there is none or the last is full.
    fn roll(&mut self) -> Result<(), StorageError> {
        if self.parts.last().is_some_and(|part| part.end < self.roll_at) {
            return Ok(());
        }
        let path = self.dir.join(format!("{}-{}", self.number, file_name(self.parts.len() as u32 + 1)));
        let segment = Segment::create(&*self.disk, path, Purpose::Staged, self.genesis);
        let segment = segment.map_err(|error| from_disk("staging a branch", &error))?;
        self.parts.push(Part { segment, blocks: 0, end: HEADER, groups: 0, synced: false });
        Ok(())
    }

    /// Has what was appended synced on another thread now and then, so that adopting a long branch does not wait for all
    /// of it.
    fn sync_beside(&mut self) -> Result<(), StorageError> {
        let busy = self.syncing.as_ref().is_some_and(|syncing| !syncing.thread.is_finished());
        if busy || self.sync_each.is_none_or(|each| self.appended < each) {
            return Ok(());
        }
        self.end_sync()?;
        let unsynced = || self.parts.iter().enumerate().filter(|(_, part)| !part.synced);
        let ends = unsynced().map(|(number, part)| (number, part.end)).collect();
        let files: Vec<_> = unsynced().map(|(_, part)| Arc::clone(&part.segment.file)).collect();
        let sync = move || files.iter().try_for_each(|file| file.sync_data());
        // Without a thread all of it is synced in the end.
        if let Ok(thread) = thread::Builder::new().name("store-staging".into()).spawn(sync) {
            self.syncing = Some(Syncing { ends, thread });
            self.appended = 0;
        }
        Ok(())
    }

    /// Waits for the other thread.
    fn end_sync(&mut self) -> Result<(), StorageError> {
        let Some(Syncing { ends, thread }) = self.syncing.take() else { return Ok(()) };
        let synced = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        // A failed sync may have lost what was written, and a later one would not tell.
        synced.map_err(|error| from_disk("syncing a staged branch", &error))?;
        for (number, end) in ends {
            if let Some(part) = self.parts.get_mut(number) {
                part.synced = part.end == end;
            }
        }
        Ok(())
    }

    /// Makes the contents of all parts durable.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        self.end_sync()?;
        for part in self.parts.iter_mut().filter(|part| !part.synced) {
            part.segment.file.sync_data().map_err(|error| from_disk("syncing a staged branch", &error))?;
            part.synced = true;
        }
        Ok(())
    }

    /// A block by its place in the branch, read from disk.
    pub(super) fn block(&self, place: u64) -> Result<Option<SharedBlock>, StorageError> {
        if place >= self.count {
            return Ok(None);
        }
        let mut bytes = [0; ENTRY];
        let read = disk::read_exact_at(&*self.places, &mut bytes, place * ENTRY as u64);
        read.map_err(|error| from_disk("reading a staged branch", &error))?;
        let entry = Entry::from_bytes(&bytes, place).ok_or_else(|| changed(place))?;
        let part = (entry.place.segment as usize).checked_sub(1).and_then(|part| self.parts.get(part));
        let part = part.ok_or_else(|| changed(place))?;
        let record = part.segment.read_record(entry.place.offset, entry.place.len)?;
        let block = shared::decode(record.kind, record.payload()).ok_or_else(|| changed(place))?;
        let hash = block.header.hash();
        if hash != entry.hash {
            return Err(changed(place));
        }
        Ok(Some(Arc::new(CheckedBlock::trusted(block, hash))))
    }

    /// Removes all files; what cannot be removed now is removed at the next open.
    pub(super) fn remove(self) {
        for part in &self.parts {
            let _ = self.disk.remove(&part.segment.path);
        }
        let _ = self.disk.remove(&self.dir.join(format!("{}.places", self.number)));
    }

    /// What `heights` will say of the blocks when the first part is the log's segment `first`.
    pub(super) fn entries(&self, first: u32) -> impl Iterator<Item = Result<Vec<Entry>, StorageError>> {
        (0..self.count).step_by(CHUNK).map(move |from| self.read_entries(from, first))
    }

    fn read_entries(&self, from: u64, first: u32) -> Result<Vec<Entry>, StorageError> {
        let count = (self.count - from).min(CHUNK as u64);
        let mut bytes = vec![0; count as usize * ENTRY];
        let read = disk::read_exact_at(&*self.places, &mut bytes, from * ENTRY as u64);
        read.map_err(|error| from_disk("reading a staged branch", &error))?;
        let entry = |(bytes, place): (&[u8], u64)| {
            let mut entry = Entry::from_bytes(bytes, place).ok_or_else(|| changed(place))?;
            entry.place.segment = first + entry.place.segment - 1;
            Ok(entry)
        };
        bytes.chunks_exact(ENTRY).zip(from..).map(entry).collect()
    }
}

/// Bytes of blocks in one group of a part, unless a single block has more.
const PIECE: u64 = 1 << 20;

/// The same for smaller segments: a piece has no more blocks than fit into a segment, or one.
fn piece_bytes(segment_bytes: u64) -> u64 {
    PIECE.min(segment_bytes)
}

/// The most blocks that a part can have, where a segment gets no more groups above so many bytes.
pub(super) fn most_blocks(segment_bytes: u64) -> u64 {
    segment_bytes.saturating_add(piece_bytes(segment_bytes)) / BLOCK_RECORD_MIN + 1
}

fn changed(place: u64) -> StorageError {
    damaged(format!("block {place} of a staged branch is not what was written"))
}

/// Removes what is left of branches that were neither adopted nor given up.
pub(super) fn remove_all(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for file in disk.list(dir)? {
        disk::remove_if_there(disk, &dir.join(file))?;
    }
    Ok(())
}
