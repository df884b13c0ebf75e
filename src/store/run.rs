//! One file of the look-up tables, `index/<number>.run`: pairs in order, written once and never changed.
//!
//! Owns the file's form, and how pairs are found, read through and merged. Knows nothing of what the numbers mean, nor of
//! which runs a [table](super::table) has. Every page is checked whenever it is read.
//!
//! | at | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | `dolmRUN` and a line feed |
//! | 8 | 4 | format, now 1 |
//! | 12 | 4 | table |
//! | 16 | 8 | the run's number |
//! | 24 | 8 | number of pairs |
//! | 32 | 4 | CRC-32 of the bytes before |
//! | 4096 | | pages |
//!
//! A page has 4096 bytes: 255 pairs of {key u64, value u64}, sorted, in the last page zeros at the end; page number u32;
//! number of pairs u32; zeros; CRC-32 of the bytes before, seeded by the run's number.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::codec::{Input, seeded_crc};
use super::disk::{self, Disk, DiskFile};
use super::error::{damaged, from_disk};
use crate::ledger::storage::StorageError;

/// A key and a value.
pub(super) type Pair = (u64, u64);

const MAGIC: [u8; 8] = *b"dolmRUN\n";
const FORMAT: u32 = 1;
const HEADER: usize = 36;
const PAGE: usize = 4096;
const PAIR: usize = 16;
const PAIRS: usize = 255;
const PAGE_CRC: usize = PAGE - 4;

/// Pages that are read or written at once by those who go through a whole run.
const PAGES_AT_ONCE: usize = 64;

/// A run as a checkpoint names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct RunRef {
    pub(super) id: u64,
    pub(super) pairs: u64,
}

/// A sorted file of pairs.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) named: RunRef,
    file: Arc<dyn DiskFile>,
    synced: AtomicBool,
}

impl Run {
    /// Opens a run that is durable.
    pub(super) fn open(disk: &dyn Disk, dir: &Path, table: u32, named: RunRef) -> Result<Self, StorageError> {
        let id = named.id;
        let file = disk.open(&path(dir, id)).map_err(|error| from_disk(&name(id), &error))?;
        let mut header = [0; HEADER];
        let read = disk::read_exact_at(&*file, &mut header, 0).and_then(|()| file.len());
        let len = read.map_err(|error| from_disk(&name(id), &error))?;
        let whole = pages(named.pairs).checked_add(1).and_then(|pages| pages.checked_mul(PAGE as u64)) == Some(len);
        if header != run_header(table, named) || !whole {
            return Err(damaged(format!("{} is not what was written", name(id))));
        }
        Ok(Self { named, file, synced: AtomicBool::new(true) })
    }

    /// Writes a run of pairs that come in order; it is durable once it is [synced](Self::sync). After an error a part of the
    /// file may be there.
    pub(super) fn create(
        disk: &dyn Disk,
        dir: &Path,
        table: u32,
        id: u64,
        pairs: impl Iterator<Item = Result<Pair, StorageError>>,
    ) -> Result<Self, StorageError> {
        let file = disk.create(&path(dir, id)).map_err(|error| from_disk(&name(id), &error))?;
        let mut writer = RunWriter { id, file, pairs: 0, bytes: Vec::with_capacity(PAGES_AT_ONCE * PAGE), page: 0 };
        writer.fill(table, pairs)?;
        let named = RunRef { id, pairs: writer.pairs };
        Ok(Self { named, file: writer.file, synced: AtomicBool::new(false) })
    }

    /// Whether it is durable.
    pub(super) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        (pages(self.named.pairs) + 1) * PAGE as u64
    }

    /// Makes it durable.
    pub(super) fn sync(&self) -> Result<(), StorageError> {
        if !self.is_synced() {
            self.file.sync_data().map_err(|error| from_disk(&name(self.named.id), &error))?;
            self.synced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Appends the values beside a key. Keys are spread evenly, so the first guess is nearly right; after a few guesses
    /// the search halves what is left, so that keys somebody has chosen cost no more than a logarithm.
    pub(super) fn find(&self, key: u64, values: &mut Vec<u64>) -> Result<(), StorageError> {
        let (mut low, mut high) = (0, pages(self.named.pairs));
        // The cast is safe: the product's upper half is below the number of pages.
        let mut guess = ((u128::from(key) * u128::from(high)) >> 64) as u64;
        let mut bytes = [0; PAGE];
        let mut guesses = 0;
        // Looks for the first page whose last key is not below the key.
        while low < high {
            let at = if guesses < 4 { guess.clamp(low, high - 1) } else { low + (high - low) / 2 };
            let page = self.page(at, &mut bytes)?;
            if page.last() < key {
                low = at + 1;
                guess = at + (1 << guesses.min(8));
            } else if page.first() < key {
                low = at;
                break;
            } else {
                high = at;
                guess = at.saturating_sub(1 << guesses.min(8));
            }
            guesses += 1;
        }
        while low < pages(self.named.pairs) {
            let page = self.page(low, &mut bytes)?;
            values.extend(page.pairs().filter(|pair| pair.0 == key).map(|pair| pair.1));
            if page.last() > key {
                break;
            }
            low += 1;
        }
        Ok(())
    }

    fn page<'a>(&self, number: u64, bytes: &'a mut [u8; PAGE]) -> Result<Page<'a>, StorageError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(number),
            _ => from_disk(&format!("reading {}", name(self.named.id)), &error),
        };
        disk::read_exact_at(&*self.file, bytes, (number + 1) * PAGE as u64).map_err(failed)?;
        self.checked_page(number, bytes)
    }

    fn checked_page<'a>(&self, number: u64, bytes: &'a [u8]) -> Result<Page<'a>, StorageError> {
        Page::parse(bytes, self.named.id, number).ok_or_else(|| self.damaged(number))
    }

    fn damaged(&self, page: u64) -> StorageError {
        damaged(format!("index {}: page {page} is not what was written", name(self.named.id)))
    }
}

/// Where a run's file is.
pub(super) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(name(id))
}

/// The number in the name of a run's file.
pub(super) fn id_of(file: &str) -> Option<u64> {
    u64::from_str_radix(file.strip_suffix(".run")?, 16).ok()
}

fn name(id: u64) -> String {
    format!("{id:08x}.run")
}

fn pages(pairs: u64) -> u64 {
    pairs.div_ceil(PAIRS as u64)
}

fn run_header(table: u32, run: RunRef) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..16].copy_from_slice(&table.to_le_bytes());
    header[16..24].copy_from_slice(&run.id.to_le_bytes());
    header[24..32].copy_from_slice(&run.pairs.to_le_bytes());
    let crc = crc32fast::hash(&header[..32]);
    header[32..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn page_seed(run: u64) -> u32 {
    crc32fast::hash(&run.to_le_bytes())
}

struct RunWriter {
    id: u64,
    file: Arc<dyn DiskFile>,
    pairs: u64,
    /// Whole pages, and the one that is being filled.
    bytes: Vec<u8>,
    /// Number of the page that `bytes` begins with.
    page: u32,
}

impl RunWriter {
    fn fill(
        &mut self,
        table: u32,
        pairs: impl Iterator<Item = Result<Pair, StorageError>>,
    ) -> Result<(), StorageError> {
        let mut on_page = 0;
        for pair in pairs {
            let (key, value) = pair?;
            self.bytes.extend_from_slice(&key.to_le_bytes());
            self.bytes.extend_from_slice(&value.to_le_bytes());
            self.pairs += 1;
            on_page += 1;
            if on_page == PAIRS {
                self.end_page(on_page);
                on_page = 0;
                if self.bytes.len() >= PAGES_AT_ONCE * PAGE {
                    self.write_pages()?;
                }
            }
        }
        if on_page > 0 {
            self.bytes.resize(self.bytes.len() + (PAIRS - on_page) * PAIR, 0);
            self.end_page(on_page);
        }
        self.write_pages()?;
        let mut header = vec![0; PAGE];
        header[..HEADER].copy_from_slice(&run_header(table, RunRef { id: self.id, pairs: self.pairs }));
        self.file.write_all_at(&header, 0).map_err(|error| from_disk(&name(self.id), &error))
    }

    fn end_page(&mut self, pairs: usize) {
        // The casts are safe: a page holds 255 pairs, and a run of 2^32 pages would be 16 TiB.
        let page = self.page + (self.bytes.len() / PAGE) as u32;
        self.bytes.extend_from_slice(&page.to_le_bytes());
        self.bytes.extend_from_slice(&(pairs as u32).to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        let start = self.bytes.len() - PAGE_CRC;
        let crc = seeded_crc(page_seed(self.id), &self.bytes[start..]);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
    }

    fn write_pages(&mut self) -> Result<(), StorageError> {
        let at = (u64::from(self.page) + 1) * PAGE as u64;
        self.file.write_all_at(&self.bytes, at).map_err(|error| from_disk(&name(self.id), &error))?;
        self.page += (self.bytes.len() / PAGE) as u32;
        self.bytes.clear();
        Ok(())
    }
}

/// The pairs of a page that was checked; there is at least one.
struct Page<'a>(&'a [u8]);

impl<'a> Page<'a> {
    fn parse(bytes: &'a [u8], run: u64, number: u64) -> Option<Self> {
        let mut end = Input::new(bytes.get(PAIRS * PAIR..PAGE)?);
        let (page, pairs, _zeros, crc) = (end.u32()?, end.u32()? as usize, end.u32()?, end.u32()?);
        let good = crc == seeded_crc(page_seed(run), bytes.get(..PAGE_CRC)?)
            && u64::from(page) == number
            && (1..=PAIRS).contains(&pairs);
        good.then(|| bytes.get(..pairs * PAIR).map(Self)).flatten()
    }

    fn pairs(&self) -> impl Iterator<Item = Pair> + use<'a> {
        self.0.chunks_exact(PAIR).map(pair)
    }

    fn first(&self) -> u64 {
        self.0.chunks_exact(PAIR).next().map_or(0, |bytes| pair(bytes).0)
    }

    fn last(&self) -> u64 {
        self.0.chunks_exact(PAIR).next_back().map_or(0, |bytes| pair(bytes).0)
    }
}

fn pair(bytes: &[u8]) -> Pair {
    let mut input = Input::new(bytes);
    // The fallback is never taken: the slices come from `chunks_exact`.
    (input.u64().unwrap_or_default(), input.u64().unwrap_or_default())
}

/// Reads a run from end to end.
pub(super) struct RunReader<'r> {
    run: &'r Run,
    next_page: u64,
    /// Pairs that were read, last first.
    ready: Vec<Pair>,
    failed: bool,
}

impl<'r> RunReader<'r> {
    pub(super) fn new(run: &'r Run) -> Self {
        Self { run, next_page: 0, ready: Vec::new(), failed: false }
    }

    fn refill(&mut self) -> Result<(), StorageError> {
        let count = (pages(self.run.named.pairs) - self.next_page).min(PAGES_AT_ONCE as u64);
        let mut bytes = vec![0; count as usize * PAGE];
        let at = (self.next_page + 1) * PAGE as u64;
        let read = disk::read_exact_at(&*self.run.file, &mut bytes, at);
        read.map_err(|error| from_disk(&format!("reading {}", name(self.run.named.id)), &error))?;
        for (page, number) in bytes.chunks_exact(PAGE).zip(self.next_page..) {
            self.ready.extend(self.run.checked_page(number, page)?.pairs());
        }
        self.ready.reverse();
        self.next_page += count;
        Ok(())
    }
}

impl Iterator for RunReader<'_> {
    type Item = Result<Pair, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let more = self.ready.is_empty() && !self.failed && self.next_page < pages(self.run.named.pairs);
        if more && let Err(error) = self.refill() {
            self.failed = true;
            return Some(Err(error));
        }
        self.ready.pop().map(Ok)
    }
}

/// The pairs of several runs in order, each once.
pub(super) struct Merge<'r> {
    heads: Vec<(Pair, RunReader<'r>)>,
    last: Option<Pair>,
}

impl<'r> Merge<'r> {
    pub(super) fn new(runs: &'r [Arc<Run>]) -> Result<Self, StorageError> {
        let mut heads = Vec::with_capacity(runs.len());
        for run in runs {
            let mut reader = RunReader::new(run);
            if let Some(first) = reader.next() {
                heads.push((first?, reader));
            }
        }
        Ok(Self { heads, last: None })
    }

    /// Calls `between` every so many pairs.
    pub(super) fn with_breaks(self, between: &mut dyn FnMut()) -> impl Iterator<Item = Result<Pair, StorageError>> {
        let mut count = 0u32;
        self.inspect(move |_| {
            count = count.wrapping_add(1);
            if count.is_multiple_of(1 << 16) {
                between();
            }
        })
    }

    fn step(&mut self) -> Result<Option<Pair>, StorageError> {
        let Some(at) = (0..self.heads.len()).min_by_key(|at| self.heads[*at].0) else { return Ok(None) };
        let (pair, reader) = &mut self.heads[at];
        let found = *pair;
        match reader.next() {
            Some(next) => *pair = next?,
            None => drop(self.heads.swap_remove(at)),
        }
        Ok(Some(found))
    }
}

impl Iterator for Merge<'_> {
    type Item = Result<Pair, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = match self.step() {
                Ok(found) => found?,
                Err(error) => {
                    self.heads.clear();
                    return Some(Err(error));
                }
            };
            if self.last != Some(found) {
                self.last = Some(found);
                return Some(Ok(found));
            }
        }
    }
}
