//! One file of the log: its header, its groups of records, and how what is read back is checked.
//!
//! Owns the framing. Knows neither what records say ([`record`](super::record)) nor which segment follows which
//! ([`log`](super::log)). Numbers are little-endian.
//!
//! The header is written twice, at 0 and at 64, so that a broken sector in one does not cost the segment:
//!
//! | at | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | `dolmLOG` and a line feed |
//! | 8 | 4 | format, now 1 |
//! | 12 | 4 | purpose: 1 log, 2 staged branch |
//! | 16 | 8 | salt, random |
//! | 24 | 32 | hash of genesis |
//! | 56 | 4 | zeros |
//! | 60 | 4 | CRC-32 of the bytes before |
//!
//! Groups follow without gaps. One group is what became durable in one step; a staged branch has one for each piece that
//! arrived, and its sequence numbers begin at 1.
//!
//! | at | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | the segment's salt |
//! | 8 | 4 | bytes of all records |
//! | 12 | 4 | number of records |
//! | 16 | 8 | sequence number: over all log segments each group has the next |
//! | 24 | 8 | height of the block above which the best chain changes; all ones if it does not |
//! | 32 | 4 | CRC-32 of the bytes before |
//!
//! The height is there for the day when the records are broken: then nothing above it is certain until a later group
//! names a block above it by its hash, and everything below is.
//!
//! A record:
//!
//! | at | bytes | field |
//! | --- | --- | --- |
//! | 0 | 4 | CRC-32 of all that follows, seeded by the salt |
//! | 4 | 4 | bytes of the payload |
//! | 8 | 1 | kind |
//! | 9 | | payload |
//!
//! The salt is nobody's to know, so no entry can contain what looks like a group to somebody who searches a damaged
//! segment for the next good one.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::codec::{Input, seeded_crc};
use super::disk::{self, Disk, DiskFile};
use super::error::{damaged, from_disk};
use super::record::Kind;
use crate::ledger::block::Height;
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::StorageError;

/// Format of the segments that this program writes; also the number in the data directory's `FORMAT`.
pub(super) const FORMAT: u32 = 1;

/// Bytes before the first group: the header, twice.
pub(super) const HEADER: u64 = 128;

/// Bytes of a group's header.
pub(super) const GROUP_HEADER: usize = 36;

/// Bytes of a group's header that its checksum covers.
const GROUP_CHECKED: usize = GROUP_HEADER - 4;

/// In a group's header: the best chain does not change.
const NO_FORK: u64 = u64::MAX;

/// Bytes of a record before its payload.
pub(super) const RECORD_HEADER: usize = 9;

/// Bytes of records in one group. Far above any batch of a node; places must fit into 32 bits.
pub(super) const MAX_GROUP: usize = 1 << 30;

/// Bytes of a broken record in which a flipped bit is searched for: what an own block with a dozen submissions has before
/// the block. Each bit costs a checksum of as many bytes.
const MAX_MENDED: usize = 1024;

/// Bytes that are reserved for a read before anyone looked whether the file is that long.
const TRUSTED_LEN: u32 = 64 * 1024;

const MAGIC: [u8; 8] = *b"dolmLOG\n";
const COPY: usize = 64;
const BEFORE_CRC: usize = 60;

/// What a segment is for. The numbers are on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Purpose {
    Log = 1,
    Staged = 2,
}

/// What stands at the beginning of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) purpose: Purpose,
    pub(super) salt: u64,
    pub(super) genesis: BlockHash,
}

/// Why a file is not a segment that can be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NotASegment {
    /// It begins with something else.
    Foreign,
    /// Both copies of its header are broken, or it is too short to have one.
    Broken,
    /// Its format is a later one.
    Newer(u32),
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.purpose as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.genesis.0);
        let crc = crc32fast::hash(&bytes[..BEFORE_CRC]);
        bytes[BEFORE_CRC..COPY].copy_from_slice(&crc.to_le_bytes());
        bytes.copy_within(..COPY, COPY);
        bytes
    }

    /// Reads the header from a file.
    pub(super) fn read(file: &dyn DiskFile) -> io::Result<Result<Self, NotASegment>> {
        let mut bytes = [0; HEADER as usize];
        let len = file.len()?.min(HEADER) as usize;
        disk::read_exact_at(file, &mut bytes[..len], 0)?;
        let copies = [Self::from_copy(&bytes[..COPY]), Self::from_copy(&bytes[COPY..])];
        if let Some(Ok(header)) = copies.iter().find(|copy| copy.is_ok()) {
            return Ok(Ok(*header));
        }
        // A crash while the header was written leaves any part of it, and nothing behind it.
        let begun = file.len()? <= HEADER;
        let broken = copies.into_iter().filter_map(Result::err).find(|why| *why != NotASegment::Foreign);
        Ok(Err(broken.unwrap_or(if begun { NotASegment::Broken } else { NotASegment::Foreign })))
    }

    fn from_copy(copy: &[u8]) -> Result<Self, NotASegment> {
        if !copy.starts_with(&MAGIC) {
            return Err(NotASegment::Foreign);
        }
        Self::fields(copy).unwrap_or(Err(NotASegment::Broken))
    }

    fn fields(copy: &[u8]) -> Option<Result<Self, NotASegment>> {
        let mut input = Input::new(copy.get(8..COPY)?);
        let (format, purpose, salt, genesis) = (input.u32()?, input.u32()?, input.u64()?, input.hash()?);
        let (_zeros, crc) = (input.u32()?, input.u32()?);
        if crc != crc32fast::hash(copy.get(..BEFORE_CRC)?) {
            return None;
        }
        if format != FORMAT {
            return Some(Err(NotASegment::Newer(format)));
        }
        let purpose = match purpose {
            1 => Purpose::Log,
            2 => Purpose::Staged,
            _ => return None,
        };
        Some(Ok(Self { purpose, salt, genesis }))
    }
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    pub(super) file: Arc<dyn DiskFile>,
    /// What all record checksums begin with.
    seed: u32,
}

impl Segment {
    /// Creates a segment with a fresh salt; neither its contents nor its name are synced.
    pub(super) fn create(disk: &dyn Disk, path: PathBuf, purpose: Purpose, genesis: BlockHash) -> io::Result<Self> {
        let header = Header { purpose, salt: rand::random(), genesis };
        let file = disk.create(&path)?;
        file.write_all_at(&header.to_bytes(), 0)?;
        Ok(Self::new(path, header, file))
    }

    /// Opens a segment.
    pub(super) fn open(disk: &dyn Disk, path: PathBuf) -> io::Result<Result<Self, NotASegment>> {
        let file = disk.open(&path)?;
        Ok(Header::read(&*file)?.map(|header| Self::new(path, header, file)))
    }

    fn new(path: PathBuf, header: Header, file: Arc<dyn DiskFile>) -> Self {
        Self { path, header, file, seed: crc32fast::hash(&header.salt.to_le_bytes()) }
    }

    /// The same open file under its new name.
    pub(super) fn renamed(&self, path: PathBuf) -> Self {
        Self { path, header: self.header, file: Arc::clone(&self.file), seed: self.seed }
    }

    /// The file's name, for people.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Begins a group that will stand at `base`.
    pub(super) fn begin_group(&self, base: u64, mut bytes: Vec<u8>) -> GroupBuilder {
        bytes.clear();
        bytes.resize(GROUP_HEADER, 0);
        GroupBuilder { salt: self.header.salt, seed: self.seed, base, bytes, records: 0 }
    }

    /// Reads a record at a known place; everything about it is checked.
    pub(super) fn read_record(&self, offset: u32, len: u32) -> Result<Record, StorageError> {
        let bytes = self.read(offset.into(), len)?;
        match self.parse_record(&bytes) {
            Some((kind, payload)) if RECORD_HEADER + payload == bytes.len() => Ok(Record { kind, bytes }),
            _ => Err(self.damaged(offset.into(), "a record")),
        }
    }

    /// Reads a record of which only the beginning is known.
    pub(super) fn read_record_at(&self, offset: u32) -> Result<Record, StorageError> {
        let head = self.read(offset.into(), RECORD_HEADER as u32)?;
        let mut input = Input::new(&head);
        let payload = input.u32().and_then(|_crc| input.u32()).unwrap_or(u32::MAX);
        match payload.checked_add(RECORD_HEADER as u32) {
            Some(len) => self.read_record(offset, len),
            None => Err(self.damaged(offset.into(), "a record")),
        }
    }

    /// The payload of a broken record of which the kind and the end are known from elsewhere: what it was, if with these its
    /// checksum is right again, but for one bit in what is not known or in the checksum itself.
    pub(super) fn mended(&self, offset: u32, len: u32, kind: Kind, tail: &[u8]) -> Option<Vec<u8>> {
        let known = (len as usize).checked_sub(tail.len()).filter(|head| *head > RECORD_HEADER)?;
        let mut bytes = self.read(offset.into(), len).ok()?;
        let wanted = Input::new(&bytes).u32()?;
        bytes.get_mut(4..8)?.copy_from_slice(&(len - RECORD_HEADER as u32).to_le_bytes());
        *bytes.get_mut(8)? = kind as u8;
        bytes.truncate(known);
        let mut end = crc32fast::Hasher::new();
        end.update(tail);
        let crc = |head: &[u8]| {
            let mut crc = crc32fast::Hasher::new_with_initial(self.seed);
            crc.update(&head[4..]);
            crc.combine(&end);
            crc.finalize()
        };
        let one_bit_off = |bytes: &mut Vec<u8>| {
            let bits =
                (RECORD_HEADER..known.min(RECORD_HEADER + MAX_MENDED)).flat_map(|at| (0..8).map(move |bit| (at, bit)));
            for (at, bit) in bits {
                bytes[at] ^= 1 << bit;
                if crc(bytes) == wanted {
                    return true;
                }
                bytes[at] ^= 1 << bit;
            }
            false
        };
        let good = (crc(&bytes) ^ wanted).count_ones() <= 1 || one_bit_off(&mut bytes);
        bytes.extend_from_slice(tail);
        bytes.drain(..RECORD_HEADER);
        good.then_some(bytes)
    }

    /// Reads bytes; a place that is not in the file is damage, and reserves little.
    pub(super) fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, StorageError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(offset, "the end of the file"),
            _ => from_disk(&format!("reading {}", self.name()), &error),
        };
        if len > TRUSTED_LEN && offset.saturating_add(len.into()) > self.file.len().map_err(failed)? {
            return Err(self.damaged(offset, "the end of the file"));
        }
        let mut bytes = vec![0; len as usize];
        disk::read_exact_at(&*self.file, &mut bytes, offset).map_err(failed)?;
        Ok(bytes)
    }

    /// The kind and the payload's length of a good record at the front of `bytes`.
    pub(super) fn parse_record(&self, bytes: &[u8]) -> Option<(Kind, usize)> {
        let mut input = Input::new(bytes);
        let (crc, len, kind) = (input.u32()?, input.u32()? as usize, input.u8()?);
        let checked = bytes.get(4..RECORD_HEADER.checked_add(len)?)?;
        if seeded_crc(self.seed, checked) != crc {
            return None;
        }
        Some((Kind::from_byte(kind)?, len))
    }

    /// The error that says that something of this segment is not what was written.
    pub(super) fn damaged(&self, offset: u64, what: &str) -> StorageError {
        damaged(format!("{} at {offset}: {what} is not what was written", self.name()))
    }
}

/// A record that was read and checked.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    bytes: Vec<u8>,
}

impl Record {
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(RECORD_HEADER..).unwrap_or_default()
    }
}

/// A group as it is being put together in memory.
#[derive(Debug)]
pub(super) struct GroupBuilder {
    salt: u64,
    seed: u32,
    base: u64,
    bytes: Vec<u8>,
    records: u32,
}

impl GroupBuilder {
    /// Adds a record; where it will stand in the segment, and how long it is with its header.
    pub(super) fn record(&mut self, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> Result<(u32, u32), StorageError> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.push(kind as u8);
        write(&mut self.bytes);
        let len = self.bytes.len() - start;
        if self.bytes.len() > MAX_GROUP {
            return Err(StorageError::Failed("one step is too large to be written".into()));
        }
        // The casts are safe: a group is at most 2^30 bytes, and a segment is rolled long before 2^31.
        self.bytes[start + 4..start + 8].copy_from_slice(&((len - RECORD_HEADER) as u32).to_le_bytes());
        let crc = seeded_crc(self.seed, &self.bytes[start + 4..]);
        self.bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        self.records += 1;
        Ok((self.base as u32 + start as u32, len as u32))
    }

    /// The bytes to write, under the group's number. `fork` is above which block the best chain changes.
    pub(super) fn finish(mut self, sequence: u64, fork: Option<Height>) -> Vec<u8> {
        let payload = (self.bytes.len() - GROUP_HEADER) as u32;
        self.bytes[..8].copy_from_slice(&self.salt.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&payload.to_le_bytes());
        self.bytes[12..16].copy_from_slice(&self.records.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
        let fork = fork.map_or(NO_FORK, |fork| fork.0);
        self.bytes[24..GROUP_CHECKED].copy_from_slice(&fork.to_le_bytes());
        let crc = crc32fast::hash(&self.bytes[..GROUP_CHECKED]);
        self.bytes[GROUP_CHECKED..GROUP_HEADER].copy_from_slice(&crc.to_le_bytes());
        self.bytes
    }
}

// ---- Reading group after group.

#[derive(Clone, Copy, Debug)]
struct GroupHeader {
    payload: u32,
    records: u32,
    sequence: u64,
    fork: u64,
}

impl GroupHeader {
    fn parse(bytes: &[u8], salt: u64) -> Option<Self> {
        let mut input = Input::new(bytes);
        let (marker, payload, records) = (input.u64()?, input.u32()?, input.u32()?);
        let (sequence, fork) = (input.u64()?, input.u64()?);
        let good = marker == salt && input.u32()? == crc32fast::hash(bytes.get(..GROUP_CHECKED)?);
        good.then_some(Self { payload, records, sequence, fork })
    }
}

/// A record in a group that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordAt<'a> {
    pub(super) kind: Kind,
    pub(super) payload: &'a [u8],
    pub(super) offset: u32,
    /// Bytes with the record's header.
    pub(super) len: u32,
}

/// A group that was read: the records that are as they were written.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) sequence: u64,
    /// Above which block the best chain changes, if it does.
    pub(super) fork: Option<Height>,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) records: Vec<RecordAt<'a>>,
    /// Whether a record is missing from `records`.
    pub(super) broken: bool,
    /// Where the missing ones are, as far as that can be told: offset and length.
    pub(super) unread: Vec<(u32, u32)>,
}

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Next<'a> {
    Group(Group<'a>),
    /// Nothing: the segment ends here.
    End,
    /// No header of a group stands here.
    Broken,
}

/// Walks over the groups of a segment, holding a window of it in memory.
#[derive(Debug)]
pub(super) struct Walk<'s> {
    segment: &'s Segment,
    /// Length of the file when the walk began.
    len: u64,
    /// Where the next group is expected.
    at: u64,
    window: Vec<u8>,
    window_start: u64,
}

/// Bytes that a walk reads at once, and so the least that it holds.
const WINDOW: usize = 1 << 20;

impl<'s> Walk<'s> {
    pub(super) fn new(segment: &'s Segment, from: u64) -> Result<Self, StorageError> {
        let len = segment.file.len().map_err(|error| from_disk(&format!("reading {}", segment.name()), &error))?;
        Ok(Self { segment, len, at: from, window: Vec::new(), window_start: from })
    }

    /// Where the next group is expected.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Length of the file when the walk began.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads the next group and steps over it, unless there is none.
    pub(super) fn next_group(&mut self) -> Result<Next<'_>, StorageError> {
        if self.at >= self.len {
            return Ok(Next::End);
        }
        let start = self.at;
        let header = match self.header_at(start)? {
            Some(header) => header,
            None => return Ok(Next::Broken),
        };
        let body = start + GROUP_HEADER as u64;
        let end = body + u64::from(header.payload);
        self.at = end;
        let segment = self.segment;
        let payload = self.bytes(body, header.payload as usize)?;
        let Split { records, unread, broken } = split(segment, payload, body, Some(header.records));
        let fork = (header.fork != NO_FORK).then_some(Height(header.fork));
        Ok(Next::Group(Group { sequence: header.sequence, fork, start, end, records, broken, unread }))
    }

    /// After a broken header: the group that stood from there to the next one, under this number. It is whole if its
    /// records follow each other up to the end.
    pub(super) fn headless(&mut self, start: u64, end: u64, sequence: u64) -> Result<Group<'_>, StorageError> {
        let segment = self.segment;
        let body = start.saturating_add(GROUP_HEADER as u64).min(end);
        // The cast is safe: the part is within the file, and a segment is rolled long before 2^31 bytes.
        let payload = self.bytes(body, (end - body) as usize)?;
        let Split { records, unread, broken } = split(segment, payload, body, None);
        let broken = broken || records.is_empty();
        Ok(Group { sequence, fork: None, start, end, records, broken, unread })
    }

    /// After [`Next::Broken`]: goes to the next place where a group begins whose number is at least `sequence`; `false` if
    /// there is none.
    pub(super) fn skip_to_group(&mut self, sequence: u64) -> Result<bool, StorageError> {
        let marker = self.segment.header.salt.to_le_bytes();
        let mut at = self.at;
        while at + GROUP_HEADER as u64 <= self.len {
            let size = (self.len - at).min(WINDOW as u64) as usize;
            let window = self.bytes(at, size)?;
            let Some(found) = window.windows(marker.len()).position(|bytes| *bytes == marker) else {
                // The marker may begin in the last bytes of this window.
                at += (size - (marker.len() - 1)) as u64;
                continue;
            };
            at += found as u64;
            if self.header_at(at)?.is_some_and(|header| header.sequence >= sequence) {
                self.at = at;
                return Ok(true);
            }
            at += 1;
        }
        Ok(false)
    }

    /// A header at a place, if it and what it announces are within the file.
    fn header_at(&mut self, at: u64) -> Result<Option<GroupHeader>, StorageError> {
        let left = self.len.saturating_sub(at);
        if left < GROUP_HEADER as u64 {
            return Ok(None);
        }
        let salt = self.segment.header.salt;
        let header = GroupHeader::parse(self.bytes(at, GROUP_HEADER)?, salt);
        Ok(header.filter(|header| u64::from(header.payload) <= left - GROUP_HEADER as u64))
    }

    /// A part of the segment that the caller knows to be within the file.
    fn bytes(&mut self, start: u64, len: usize) -> Result<&[u8], StorageError> {
        let held = self.window_start..self.window_start + self.window.len() as u64;
        if start < held.start || start + len as u64 > held.end {
            let size = len.max(WINDOW).min((self.len - start) as usize);
            self.window.resize(size, 0);
            self.window.shrink_to(2 * WINDOW);
            self.window_start = start;
            if let Err(error) = disk::read_exact_at(&*self.segment.file, &mut self.window, start) {
                self.window.clear();
                return Err(from_disk(&format!("reading {}", self.segment.name()), &error));
            }
        }
        let from = (start - self.window_start) as usize;
        Ok(&self.window[from..from + len])
    }
}

/// A group's payload, taken apart: the fields of a [`Group`] of these names.
struct Split<'a> {
    records: Vec<RecordAt<'a>>,
    unread: Vec<(u32, u32)>,
    broken: bool,
}

/// The good records of a group, and what is missing. Without a number of records they go on to the end.
fn split<'a>(segment: &Segment, payload: &'a [u8], base: u64, wanted: Option<u32>) -> Split<'a> {
    let (mut records, mut unread) = (Vec::new(), Vec::new());
    let (mut at, mut seen) = (0, 0);
    while wanted.map_or(at < payload.len(), |wanted| seen < wanted) {
        let Some(length) = payload.get(at + 4..at + 8).and_then(|bytes| Input::new(bytes).u32()) else { break };
        let rest = &payload[at..];
        // The casts are safe: a segment is rolled long before 2^31 bytes, a group has at most 2^30.
        let offset = (base + at as u64) as u32;
        if let Some((kind, len)) = segment.parse_record(rest) {
            let whole = RECORD_HEADER + len;
            records.push(RecordAt { kind, payload: &rest[RECORD_HEADER..whole], offset, len: whole as u32 });
        } else if let Some(len) = length.checked_add(RECORD_HEADER as u32).filter(|len| *len as usize <= rest.len()) {
            unread.push((offset, len));
        }
        seen += 1;
        at = at.saturating_add(RECORD_HEADER + length as usize);
    }
    let broken = records.len() != seen as usize || wanted.is_some_and(|wanted| seen != wanted) || at != payload.len();
    Split { records, unread, broken }
}

// ---- All segments of a data directory, by number.

/// Open files at most: enough that reading the whole chain rarely reopens one, far below what a process may have.
const MAX_OPEN: usize = 64;

/// Opens the log's segments when they are asked for.
#[derive(Debug)]
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    genesis: BlockHash,
    open: Mutex<HashMap<u32, Arc<Segment>>>,
}

impl Segments {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, genesis: BlockHash) -> Self {
        Self { disk, dir, genesis, open: Mutex::default() }
    }

    /// Where a segment is.
    pub(super) fn path(&self, id: u32) -> PathBuf {
        self.dir.join(file_name(id))
    }

    /// The directory of the log.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts in a segment that is open already.
    pub(super) fn insert(&self, id: u32, segment: Arc<Segment>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_OPEN {
            open.clear();
        }
        open.insert(id, segment);
    }

    /// A segment by its number.
    pub(super) fn get(&self, id: u32) -> Result<Arc<Segment>, StorageError> {
        if let Some(segment) = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(Arc::clone(segment));
        }
        let path = self.path(id);
        let name = file_name(id);
        let opened = Segment::open(&*self.disk, path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged(format!("{name} is missing")),
            _ => from_disk(&format!("opening {name}"), &error),
        })?;
        let segment = opened.map_err(|why| damaged(format!("{name} at 0: its header is unreadable ({why:?})")))?;
        if segment.header.genesis != self.genesis {
            return Err(damaged(format!("{name} belongs to another chain")));
        }
        let segment = Arc::new(segment);
        self.insert(id, Arc::clone(&segment));
        Ok(segment)
    }
}

/// The name of a segment's file.
pub(super) fn file_name(id: u32) -> String {
    format!("{id:08x}.seg")
}

/// The number in a segment's name.
pub(super) fn id_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".seg")?;
    let id = u32::from_str_radix(digits, 16).ok()?;
    // Numbers go up one by one; one so high was given by somebody else, and there must be higher ones.
    (id > 0 && id < 1 << 31 && file_name(id) == name).then_some(id)
}
