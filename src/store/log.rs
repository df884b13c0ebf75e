//! The truth: the end of the log, where groups are appended and made durable.
//!
//! Owns the files `log/<number, 8 hex>.seg` as a sequence: log segments in the order of their numbers, and between them
//! segments that were staged branches, which mean something only where a record *adopt* names them. Knows nothing of what
//! the groups say.
//!
//! One group is one write and one sync. A write for which there is no room is taken back and changes nothing; after any
//! other failed write or sync nobody knows what is on the disk, so nothing more is written until the store is opened anew.

use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{self, Disk};
use super::error::from_disk;
use super::segment::{GroupBuilder, HEADER, Purpose, Segment, Segments, file_name};
use crate::ledger::block::Height;
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::StorageError;

/// Bytes of the buffer for groups that are kept from one group to the next.
const KEPT_BUFFER: usize = 4 << 20;

/// Where the log ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LogEnd {
    /// The log segment of the last group.
    pub(super) segment: u32,
    /// Where that group ends.
    pub(super) offset: u64,
    /// That group's number.
    pub(super) sequence: u64,
}

/// Appends to the log.
#[derive(Debug)]
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    genesis: BlockHash,
    /// Bytes above which a segment gets no more groups.
    roll_at: u64,
    end: LogEnd,
    active: Arc<Segment>,
    /// The number that no segment had yet.
    next_segment: u32,
    /// Why nothing more is written.
    broken: Option<Arc<str>>,
    buffer: Vec<u8>,
}

impl Log {
    /// Goes on at the end of a segment.
    pub(super) fn resume(
        disk: Arc<dyn Disk>,
        segments: &Segments,
        genesis: BlockHash,
        roll_at: u64,
        end: LogEnd,
        next_segment: u32,
    ) -> Result<Self, StorageError> {
        let active = segments.get(end.segment)?;
        let dir = segments.dir().to_owned();
        Ok(Self { disk, dir, genesis, roll_at, end, active, next_segment, broken: None, buffer: Vec::new() })
    }

    /// Begins a segment: durable with its name before anything is written into it.
    pub(super) fn create_segment(
        disk: &dyn Disk,
        path: PathBuf,
        genesis: BlockHash,
    ) -> Result<Arc<Segment>, StorageError> {
        let name = path.display().to_string();
        let created = Segment::create(disk, path.clone(), Purpose::Log, genesis).and_then(|segment| {
            segment.file.sync_data()?;
            if let Some(dir) = path.parent() {
                disk.sync_dir(dir)?;
            }
            Ok(Arc::new(segment))
        });
        created.map_err(|error| {
            // Best effort: what stays is a segment without groups.
            let _ = disk.remove(&path);
            from_disk(&format!("creating {name}"), &error)
        })
    }

    pub(super) fn end(&self) -> LogEnd {
        self.end
    }

    pub(super) fn next_segment(&self) -> u32 {
        self.next_segment
    }

    /// Takes so many numbers for segments that are renamed into the log; the first.
    pub(super) fn take_segments(&mut self, count: u32) -> u32 {
        let first = self.next_segment;
        self.next_segment += count;
        first
    }

    /// Whether anything can be written.
    pub(super) fn usable(&self) -> Result<(), StorageError> {
        match &self.broken {
            Some(why) => Err(StorageError::Failed(Arc::clone(why))),
            None => Ok(()),
        }
    }

    /// From now on nothing is written.
    pub(super) fn break_off(&mut self, why: &StorageError) -> StorageError {
        let why: Arc<str> = match why {
            StorageError::Full(why) | StorageError::Failed(why) | StorageError::Damaged(why) => Arc::clone(why),
        };
        tracing::error!(error = %why, file = self.active.name(), "nothing more is written to the store until a restart");
        self.broken = Some(Arc::clone(&why));
        StorageError::Failed(why)
    }

    /// Begins a group where the log ends, in a new segment if this one is full.
    pub(super) fn begin(&mut self, segments: &Segments) -> Result<(u32, GroupBuilder), StorageError> {
        self.usable()?;
        if self.end.offset >= self.roll_at {
            self.roll(segments)?;
        }
        let buffer = std::mem::take(&mut self.buffer);
        Ok((self.end.segment, self.active.begin_group(self.end.offset, buffer)))
    }

    fn roll(&mut self, segments: &Segments) -> Result<(), StorageError> {
        let id = self.next_segment;
        let path = self.dir.join(file_name(id));
        let segment = match Self::create_segment(&*self.disk, path, self.genesis) {
            Ok(segment) => segment,
            Err(error @ StorageError::Full(_)) => return Err(error),
            Err(error) => return Err(self.break_off(&error)),
        };
        segments.insert(id, Arc::clone(&segment));
        self.active = segment;
        self.end = LogEnd { segment: id, offset: HEADER, sequence: self.end.sequence };
        self.next_segment = id + 1;
        Ok(())
    }

    /// Makes a group durable. `fork` is above which block it changes the best chain.
    pub(super) fn append(&mut self, group: GroupBuilder, fork: Option<Height>) -> Result<LogEnd, StorageError> {
        let sequence = self.end.sequence.saturating_add(1);
        let bytes = group.finish(sequence, fork);
        let outcome = self.write(&bytes);
        if outcome.is_ok() {
            self.end.offset += bytes.len() as u64;
            self.end.sequence = sequence;
        }
        self.buffer = bytes;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        outcome.map(|()| self.end)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let file = Arc::clone(&self.active.file);
        if let Err(error) = file.write_all_at(bytes, self.end.offset) {
            let error_here = from_disk(&format!("writing {}", self.active.name()), &error);
            if disk::is_full(&error) && file.set_len(self.end.offset).is_ok() {
                return Err(error_here);
            }
            return Err(self.break_off(&error_here));
        }
        file.sync_data().map_err(|error| {
            let error = from_disk(&format!("syncing {}", self.active.name()), &error);
            self.break_off(&error)
        })
    }
}
