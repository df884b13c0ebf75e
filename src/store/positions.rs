//! The file `heights`: where each block of the best chain is in the log.
//!
//! Derived: everything here follows from the log and is written again if it is lost. Entry `n` stands at 48 `n`:
//!
//! | at | bytes | field |
//! | --- | --- | --- |
//! | 0 | 32 | the block's hash; zeros where damage to the log has taken even that |
//! | 32 | 4 | segment of its record; 0 for genesis and for a block that damage has taken |
//! | 36 | 4 | offset of its record |
//! | 40 | 4 | bytes of its record |
//! | 44 | 4 | CRC-32 of the bytes before, seeded by the height |
//!
//! Entries above the tip mean nothing. An append is not synced; a checkpoint of the derived state syncs the file first.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::codec::{Input, seeded_crc};
use super::disk::{self, DiskFile};
use super::error::{damaged, from_disk};
use crate::ledger::block::Height;
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::StorageError;

/// Bytes of an entry.
pub(super) const ENTRY: usize = 48;

/// Entries that are read or written at once.
const CHUNK: usize = 16 * 1024;

/// Where a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
    /// Bytes with the record's header.
    pub(super) len: u32,
}

impl Place {
    /// Where there is no record: genesis, and blocks that damage has taken.
    pub(super) const NONE: Self = Self { segment: 0, offset: 0, len: 0 };

    pub(super) fn is_none(self) -> bool {
        self.segment == 0
    }

    /// Segment and offset as one number, in the order of the log.
    pub(super) fn packed(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }
}

/// One block of the best chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) hash: BlockHash,
    pub(super) place: Place,
}

impl Entry {
    /// A block that damage to the log has taken, and of which at best the hash is known.
    pub(super) fn lost(hash: BlockHash) -> Self {
        Self { hash, place: Place::NONE }
    }

    pub(super) fn to_bytes(self, height: u64) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..32].copy_from_slice(&self.hash.0);
        bytes[32..36].copy_from_slice(&self.place.segment.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.place.offset.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.place.len.to_le_bytes());
        let crc = seeded_crc(seed(height), &bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8], height: u64) -> Option<Self> {
        let mut input = Input::new(bytes);
        let hash = input.hash()?;
        let place = Place { segment: input.u32()?, offset: input.u32()?, len: input.u32()? };
        let good = input.u32()? == seeded_crc(seed(height), bytes.get(..44)?);
        good.then_some(Self { hash, place })
    }
}

fn seed(height: u64) -> u32 {
    // Any mixing will do that differs for neighbours; both halves of the height count.
    (height as u32).wrapping_add(1).wrapping_mul(0x9e37_79b1) ^ (height >> 32) as u32
}

/// The file, and what could not be written to it yet.
#[derive(Debug)]
pub(super) struct Positions {
    file: Arc<dyn DiskFile>,
    /// Entries that the disk had no room for when their blocks were durable already.
    unwritten: RwLock<BTreeMap<u64, Entry>>,
    /// Whether `unwritten` has any: spares the lock.
    any_unwritten: AtomicBool,
}

impl Positions {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, unwritten: RwLock::default(), any_unwritten: AtomicBool::new(false) }
    }

    /// The entry of a height that the caller knows to be written.
    pub(super) fn read(&self, height: u64) -> Result<Entry, StorageError> {
        if let Some(entry) = self.unwritten(height) {
            return Ok(entry);
        }
        let mut bytes = [0; ENTRY];
        self.fill(&mut bytes, height)?;
        Entry::from_bytes(&bytes, height).ok_or_else(|| damaged_entry(height))
    }

    /// The entries of `count` heights from one on, all of which the caller knows to be written. An entry that is damaged is
    /// `None`.
    pub(super) fn read_run(&self, from: u64, count: usize) -> Result<Vec<Option<Entry>>, StorageError> {
        let mut entries = Vec::with_capacity(count);
        let mut bytes = Vec::new();
        while entries.len() < count {
            let (at, some) = (from + entries.len() as u64, (count - entries.len()).min(CHUNK));
            bytes.clear();
            bytes.resize(some * ENTRY, 0);
            self.fill(&mut bytes, at)?;
            let heights = at..;
            entries.extend(
                bytes
                    .chunks_exact(ENTRY)
                    .zip(heights)
                    .map(|(bytes, at)| self.unwritten(at).or_else(|| Entry::from_bytes(bytes, at))),
            );
        }
        Ok(entries)
    }

    /// Reads entries as they stand in the file; beyond its end there are zeros, which are no entry.
    fn fill(&self, bytes: &mut [u8], height: u64) -> Result<(), StorageError> {
        let start = height.saturating_mul(ENTRY as u64);
        match disk::read_exact_at(&*self.file, bytes, start) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(from_disk("reading heights", &error)),
            _ => Ok(()),
        }
    }

    /// Writes entries from a height on. What does not fit on the disk is remembered, and written by
    /// [`catch_up`](Self::catch_up).
    pub(super) fn write(&self, from: u64, entries: &[Entry]) -> Result<(), StorageError> {
        let mut bytes = Vec::with_capacity(entries.len().min(CHUNK) * ENTRY);
        let mut outcome = Ok(());
        for (chunk, at) in entries.chunks(CHUNK).zip((from..).step_by(CHUNK)) {
            bytes.clear();
            for (entry, height) in chunk.iter().zip(at..) {
                bytes.extend_from_slice(&entry.to_bytes(height));
            }
            let written = if outcome.is_ok() { self.file.write_all_at(&bytes, at * ENTRY as u64) } else { Ok(()) };
            if let Err(error) = written {
                outcome = Err(from_disk("writing heights", &error));
            }
            if outcome.is_err() {
                self.remember(at, chunk);
            } else {
                self.forget(at, chunk.len() as u64);
            }
        }
        outcome
    }

    /// Keeps entries in memory without trying to write them.
    pub(super) fn remember(&self, from: u64, entries: &[Entry]) {
        let mut unwritten = self.unwritten.write().unwrap_or_else(PoisonError::into_inner);
        unwritten.extend((from..).zip(entries.iter().copied()));
        self.any_unwritten.store(true, Ordering::Release);
    }

    fn forget(&self, from: u64, count: u64) {
        if self.any_unwritten.load(Ordering::Acquire) {
            let mut unwritten = self.unwritten.write().unwrap_or_else(PoisonError::into_inner);
            unwritten.retain(|height, _| !(from..from + count).contains(height));
            self.any_unwritten.store(!unwritten.is_empty(), Ordering::Release);
        }
    }

    /// Writes what there was no room for.
    pub(super) fn catch_up(&self) -> Result<(), StorageError> {
        if !self.any_unwritten.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut unwritten = self.unwritten.write().unwrap_or_else(PoisonError::into_inner);
        while let Some((&height, entry)) = unwritten.first_key_value() {
            let bytes = entry.to_bytes(height);
            self.file
                .write_all_at(&bytes, height * ENTRY as u64)
                .map_err(|error| from_disk("writing heights", &error))?;
            unwritten.pop_first();
        }
        self.any_unwritten.store(false, Ordering::Release);
        Ok(())
    }

    /// Whether all entries that were given are in the file.
    pub(super) fn is_written(&self) -> bool {
        !self.any_unwritten.load(Ordering::Acquire)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn unwritten(&self, height: u64) -> Option<Entry> {
        if !self.any_unwritten.load(Ordering::Acquire) {
            return None;
        }
        self.unwritten.read().unwrap_or_else(PoisonError::into_inner).get(&height).copied()
    }
}

pub(super) fn damaged_entry(height: u64) -> StorageError {
    damaged(format!("heights: the entry of block {} is not what was written", Height(height)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_good_only_at_its_own_height_and_unchanged() {
        let entry = Entry { hash: BlockHash([5; 32]), place: Place { segment: 3, offset: 128, len: 90 } };
        let bytes = entry.to_bytes(7);
        assert_eq!(Entry::from_bytes(&bytes, 7), Some(entry));
        assert_eq!(Entry::from_bytes(&bytes, 8), None);
        assert_eq!(Entry::from_bytes(&bytes, 7 + (1 << 32)), None);
        assert_eq!(Entry::from_bytes(&[0; ENTRY], 0), None, "zeros are no entry");
        for at in 0..ENTRY {
            let mut flipped = bytes;
            flipped[at] ^= 1;
            assert_eq!(Entry::from_bytes(&flipped, 7), None, "byte {at}");
        }
    }
}
