//! The file `index/CHECKPOINT`: up to where in the log the derived state is on disk, and the small parts of it.
//!
//! Owns that file and the files of blocks that left. Written whole and renamed into place, so that there is always a good
//! one or none; with none, the derived state is made again from the log.
//!
//! | at | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | `dolmCKP` and a line feed |
//! | 8 | 4 | format, now 1 |
//! | 12 | 4 | CRC-32 of the payload |
//! | 16 | | payload: [`Checkpoint`] in the postcard format |
//!
//! A reorg below the height of a checkpoint overwrites entries of `heights` that the replay from that checkpoint will want
//! to read, to know which blocks left. They are saved first, in `index/<sequence of the group, 16 hex>.left`: height of the
//! fork u64, number of entries u64, CRC-32 of the entries u32, then the entries as they stood.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::codec::Input;
use super::disk::{self, Disk};
use super::positions::{ENTRY, Entry, Place};
use super::run::RunRef;
use super::table::TABLES;
use crate::ledger::block::{Height, Tip};
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::SubmissionId;

/// The file's name in the directory of the index.
pub(super) const FILE: &str = "CHECKPOINT";

const MAGIC: [u8; 8] = *b"dolmCKP\n";
const CHECKPOINT_FORMAT: u32 = 1;
const HEAD: usize = 16;

/// Longer than any: the kept side blocks are at most some ten thousands, at about 120 bytes.
const MAX_BYTES: u64 = 1 << 30;

/// A part of the log that is not what was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Damage {
    /// The segment's file.
    pub file: String,
    /// Where in it the broken part begins.
    pub offset: u64,
    /// Its length, as far as that can be told.
    pub bytes: u64,
    /// What it is.
    pub what: String,
}

/// A kept block off the best chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Side {
    pub(super) parent: BlockHash,
    pub(super) height: Height,
    /// Bytes of its entries.
    pub(super) bytes: u64,
    pub(super) parked: bool,
    /// Where its record is.
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl Side {
    pub(super) fn place(&self) -> Place {
        Place { segment: self.segment, offset: self.offset, len: self.len }
    }
}

/// What the derived state is when the log is applied up to a place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) genesis: BlockHash,
    /// The log segment of the last group that is applied, and where that group ends.
    pub(super) segment: u32,
    pub(super) offset: u64,
    /// Number of that group.
    pub(super) sequence: u64,
    /// The number that no segment had yet.
    pub(super) next_segment: u32,
    /// Whether that group closed the store.
    pub(super) closed: bool,
    pub(super) tip: Tip,
    pub(super) sides: Vec<(BlockHash, Side)>,
    pub(super) pending: Vec<SubmissionId>,
    pub(super) damage: Vec<Damage>,
    pub(super) runs: [Vec<RunRef>; TABLES],
    pub(super) next_run: u64,
}

impl Checkpoint {
    /// Puts the file in place.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let mut bytes = vec![0; HEAD];
        bytes = postcard::to_extend(self, bytes).map_err(io::Error::other)?;
        let crc = crc32fast::hash(&bytes[HEAD..]);
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&CHECKPOINT_FORMAT.to_le_bytes());
        bytes[12..HEAD].copy_from_slice(&crc.to_le_bytes());
        disk::replace(disk, dir, FILE, &bytes)
    }

    /// Reads the file; the error says in a few words why there is nothing to read.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, String> {
        let bytes = disk::read_small(disk, &dir.join(FILE), MAX_BYTES).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "there is no checkpoint".to_owned(),
            _ => format!("the checkpoint cannot be read: {error}"),
        })?;
        Self::parse(&bytes).ok_or_else(|| "the checkpoint is not what was written".to_owned())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let payload = bytes.strip_prefix(&MAGIC)?;
        let mut input = Input::new(payload);
        let (format, crc) = (input.u32()?, input.u32()?);
        let payload = bytes.get(HEAD..)?;
        if format != CHECKPOINT_FORMAT || crc != crc32fast::hash(payload) {
            return None;
        }
        postcard::from_bytes(payload).ok()
    }
}

/// Saves the entries that left, durably.
pub(super) fn write_left(disk: &dyn Disk, dir: &Path, sequence: u64, fork: u64, left: &[Entry]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(LEFT_HEAD + left.len() * ENTRY);
    bytes.extend_from_slice(&fork.to_le_bytes());
    bytes.extend_from_slice(&(left.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    for (entry, height) in left.iter().zip(fork + 1..) {
        bytes.extend_from_slice(&entry.to_bytes(height));
    }
    let crc = crc32fast::hash(&bytes[LEFT_HEAD..]);
    bytes[16..LEFT_HEAD].copy_from_slice(&crc.to_le_bytes());
    disk::replace(disk, dir, &left_name(sequence), &bytes)
}

const LEFT_HEAD: usize = 20;

/// Whether the entries that left by the group of this number are saved.
pub(super) fn has_left(disk: &dyn Disk, dir: &Path, sequence: u64, fork: u64, count: usize) -> bool {
    read_left(disk, &dir.join(left_name(sequence)))
        .is_some_and(|(saved_fork, left)| saved_fork == fork && left.len() == count)
}

/// All saved entries of groups after a number, in the order of the groups: number, height of the fork, entries.
pub(super) fn all_left(disk: &dyn Disk, dir: &Path, after: u64) -> io::Result<Vec<(u64, u64, Vec<Entry>)>> {
    let sequences = disk.list(dir)?.into_iter().filter_map(|file| left_sequence(&file));
    let mut sequences: Vec<u64> = sequences.filter(|sequence| *sequence > after).collect();
    sequences.sort_unstable();
    let read = |sequence: u64| {
        let (fork, left) = read_left(disk, &dir.join(left_name(sequence)))?;
        Some((sequence, fork, left))
    };
    Ok(sequences.into_iter().filter_map(read).collect())
}

fn read_left(disk: &dyn Disk, path: &Path) -> Option<(u64, Vec<Entry>)> {
    let bytes = disk::read_small(disk, path, MAX_BYTES).ok()?;
    let mut input = Input::new(&bytes);
    let (fork, count, crc) = (input.u64()?, input.u64()?, input.u32()?);
    let entries = bytes.get(LEFT_HEAD..)?;
    let whole = count.checked_mul(ENTRY as u64) == Some(entries.len() as u64);
    if !whole || crc != crc32fast::hash(entries) {
        return None;
    }
    let heights = fork.checked_add(1)?..;
    let entry = |(bytes, height): (&[u8], u64)| Entry::from_bytes(bytes, height);
    let left = entries.chunks(ENTRY).zip(heights).map(entry).collect::<Option<_>>()?;
    Some((fork, left))
}

fn left_name(sequence: u64) -> String {
    format!("{sequence:016x}.left")
}

fn left_sequence(file: &str) -> Option<u64> {
    u64::from_str_radix(file.strip_suffix(".left")?, 16).ok()
}

/// Removes the saved entries of all groups up to a number.
pub(super) fn remove_left(disk: &dyn Disk, dir: &Path, up_to: u64) -> io::Result<()> {
    for file in disk.list(dir)? {
        if left_sequence(&file).is_some_and(|sequence| sequence <= up_to) {
            disk::remove_if_there(disk, &dir.join(file))?;
        }
    }
    Ok(())
}

/// Where the files of the index are.
pub(super) fn dir(data: &Path) -> PathBuf {
    data.join("index")
}
