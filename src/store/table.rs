//! Look-up tables that only grow: sets of pairs of numbers, found by the first.
//!
//! Owns the derived tables of the store and their files, `index/<number>.run`. Refuses to know what the numbers mean,
//! beyond that every reader checks what it is led to: keys are the first eight bytes of a hash, so a look-up gives
//! *candidates*, and a pair too many does no harm. Nothing is ever removed, because nothing that is recorded here ever
//! becomes untrue: a block of this hash has this height, the record there belongs to that submission.
//!
//! That is why these tables are plain sorted files and not a database: new pairs gather in memory and are written in one
//! go as a sorted run; runs are merged so that there are about as many as the logarithm of their size; every page is
//! checked whenever it is read. A run:
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

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

use super::codec::{Input, seeded_crc};
use super::disk::{self, Disk, DiskFile};
use super::error::{damaged, from_disk};
use crate::ledger::storage::StorageError;

/// A key and a value.
pub(super) type Pair = (u64, u64);

/// Which table. The numbers are on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(super) enum Table {
    /// Hash of a block that was ever on the best chain -> its height.
    Heights = 0,
    /// Hash of an own block that was ever off the best chain -> place of its record.
    Own = 1,
    /// Idempotency key -> place of the own block with the submission.
    Keys = 2,
    /// Submission -> place of an own block that it was placed in again.
    Again = 3,
}

/// How many tables there are.
pub(super) const TABLES: usize = 4;

const ALL: [Table; TABLES] = [Table::Heights, Table::Own, Table::Keys, Table::Again];

const MAGIC: [u8; 8] = *b"dolmRUN\n";
const RUN_FORMAT: u32 = 1;
const PAGE: usize = 4096;
const PAIR: usize = 16;
const PAIRS: usize = 255;
const PAGE_CRC: usize = PAGE - 4;

/// Pages that are read or written at once by those who go through a whole run.
const PAGES_AT_ONCE: usize = 64;

/// Pairs in memory above which a table is written without waiting for a checkpoint: 4 MiB or so.
pub(super) const SPILL: usize = 128 * 1024;

/// A run as a checkpoint names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct RunRef {
    pub(super) id: u64,
    pub(super) pairs: u64,
}

/// A sorted file of pairs.
#[derive(Debug)]
struct Run {
    id: u64,
    pairs: u64,
    file: Arc<dyn DiskFile>,
    synced: AtomicBool,
}

/// Pairs that are on their way to a run.
#[derive(Debug)]
struct Frozen {
    pairs: Vec<Pair>,
    /// Whether somebody is writing them.
    claimed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// What came in since the last time that pairs were frozen.
    active: BTreeSet<Pair>,
    frozen: Vec<Arc<Frozen>>,
    /// Oldest first.
    runs: Arc<Vec<Arc<Run>>>,
}

/// All tables.
#[derive(Debug)]
pub(super) struct Tables {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    states: [RwLock<State>; TABLES],
    next_run: AtomicU64,
    /// Numbers of runs that were merged into others, and that the last checkpoint may still name.
    merged: Mutex<Vec<u64>>,
}

impl Tables {
    /// Empty tables.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, states: Default::default(), next_run: AtomicU64::new(1), merged: Mutex::default() }
    }

    /// Tables made of the runs that a checkpoint names.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        runs: &[Vec<RunRef>; TABLES],
        next_run: u64,
    ) -> Result<Self, StorageError> {
        let tables = Self::new(disk, dir);
        tables.next_run.store(next_run, Ordering::Relaxed);
        for (table, refs) in ALL.into_iter().zip(runs) {
            let opened = refs.iter().map(|run| tables.open_run(table, *run)).collect::<Result<Vec<_>, _>>()?;
            tables.write(table).runs = Arc::new(opened);
        }
        Ok(tables)
    }

    fn open_run(&self, table: Table, run: RunRef) -> Result<Arc<Run>, StorageError> {
        let path = self.path(run.id);
        let file = self.disk.open(&path).map_err(|error| from_disk(&name(run.id), &error))?;
        let mut header = [0; 36];
        let read = disk::read_exact_at(&*file, &mut header, 0).and_then(|()| file.len());
        let len = read.map_err(|error| from_disk(&name(run.id), &error))?;
        let whole = pages(run.pairs).checked_add(1).and_then(|pages| pages.checked_mul(PAGE as u64)) == Some(len);
        if header != run_header(table, run) || !whole {
            return Err(damaged(format!("{} is not what was written", name(run.id))));
        }
        Ok(Arc::new(Run { id: run.id, pairs: run.pairs, file, synced: AtomicBool::new(true) }))
    }

    /// Adds pairs. They are found at once, and durable after the next checkpoint.
    pub(super) fn insert(&self, table: Table, pairs: impl IntoIterator<Item = Pair>) {
        self.write(table).active.extend(pairs);
    }

    /// Adds very many pairs at once: they are sorted and become a run of their own, at a fraction of what [`insert`] takes.
    /// They are found at once, and durable after the next checkpoint, also if the disk fails here.
    ///
    /// [`insert`]: Self::insert
    pub(super) fn insert_run(&self, table: Table, mut pairs: Vec<Pair>) -> Result<(), StorageError> {
        pairs.sort_unstable();
        pairs.dedup();
        let frozen = Arc::new(Frozen { pairs, claimed: AtomicBool::new(true) });
        self.write(table).frozen.push(Arc::clone(&frozen));
        self.write_frozen(table, &frozen)
    }

    /// All values that stand beside a key.
    pub(super) fn find(&self, table: Table, key: u64) -> Result<Vec<u64>, StorageError> {
        let mut values = Vec::new();
        let runs = {
            let state = self.read(table);
            values.extend(state.active.range((key, 0)..=(key, u64::MAX)).map(|pair| pair.1));
            for frozen in &state.frozen {
                let from = frozen.pairs.partition_point(|pair| pair.0 < key);
                values.extend(frozen.pairs[from..].iter().take_while(|pair| pair.0 == key).map(|pair| pair.1));
            }
            Arc::clone(&state.runs)
        };
        for run in runs.iter() {
            run.find(key, &mut values)?;
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    /// Pairs in memory, over all tables.
    pub(super) fn in_memory(&self) -> usize {
        let of =
            |state: &State| state.active.len() + state.frozen.iter().map(|frozen| frozen.pairs.len()).sum::<usize>();
        ALL.into_iter().map(|table| of(&self.read(table))).sum()
    }

    /// What came in so far belongs to the next checkpoint.
    pub(super) fn freeze(&self) {
        for table in ALL {
            self.freeze_one(table, false);
        }
    }

    fn freeze_one(&self, table: Table, claimed: bool) -> Option<Arc<Frozen>> {
        let mut state = self.write(table);
        if state.active.is_empty() {
            return None;
        }
        let pairs = std::mem::take(&mut state.active).into_iter().collect();
        let frozen = Arc::new(Frozen { pairs, claimed: AtomicBool::new(claimed) });
        state.frozen.push(Arc::clone(&frozen));
        Some(frozen)
    }

    /// Writes a table's newest pairs if they take much memory. For those who add very many between two checkpoints.
    pub(super) fn spill(&self, table: Table) -> Result<(), StorageError> {
        if self.read(table).active.len() < SPILL {
            return Ok(());
        }
        match self.freeze_one(table, true) {
            Some(frozen) => self.write_frozen(table, &frozen),
            None => Ok(()),
        }
    }

    /// Writes all frozen pairs to runs and makes all runs durable.
    pub(super) fn flush(&self) -> Result<(), StorageError> {
        for table in ALL {
            let frozen = self.read(table).frozen.clone();
            for frozen in frozen {
                // Whoever claimed it before has added it after this checkpoint's state.
                if !frozen.claimed.swap(true, Ordering::AcqRel) {
                    self.write_frozen(table, &frozen)?;
                }
            }
            let runs = Arc::clone(&self.read(table).runs);
            for run in runs.iter() {
                run.sync()?;
            }
        }
        self.disk.sync_dir(&self.dir).map_err(|error| from_disk("syncing index", &error))
    }

    fn write_frozen(&self, table: Table, frozen: &Arc<Frozen>) -> Result<(), StorageError> {
        let run = match self.write_run(table, frozen.pairs.iter().copied().map(Ok)) {
            Ok(run) => run,
            Err(error) => {
                frozen.claimed.store(false, Ordering::Release);
                return Err(error);
            }
        };
        let mut state = self.write(table);
        Arc::make_mut(&mut state.runs).push(run);
        state.frozen.retain(|other| !Arc::ptr_eq(other, frozen));
        Ok(())
    }

    fn write_run(
        &self,
        table: Table,
        pairs: impl Iterator<Item = Result<Pair, StorageError>>,
    ) -> Result<Arc<Run>, StorageError> {
        let id = self.next_run.fetch_add(1, Ordering::Relaxed);
        let written = self.disk.create(&self.path(id)).map_err(|error| from_disk(&name(id), &error));
        let written = written.and_then(|file| {
            let mut writer = RunWriter { id, file, pairs: 0, bytes: Vec::with_capacity(PAGES_AT_ONCE * PAGE), page: 0 };
            writer.fill(table, pairs)?;
            Ok(Arc::new(Run { id, pairs: writer.pairs, file: writer.file, synced: AtomicBool::new(false) }))
        });
        if written.is_err() {
            // Best effort: what stays is removed at the next open.
            let _ = self.disk.remove(&self.path(id));
        }
        written
    }

    /// The runs that are durable now. One that is not holds only what is newer than the checkpoint that asks.
    pub(super) fn refs(&self) -> [Vec<RunRef>; TABLES] {
        let durable = |run: &&Arc<Run>| run.synced.load(Ordering::Acquire);
        let of = |run: &Arc<Run>| RunRef { id: run.id, pairs: run.pairs };
        ALL.map(|table| self.read(table).runs.iter().filter(durable).map(of).collect())
    }

    /// The merged runs that no later checkpoint will name.
    pub(super) fn take_merged(&self) -> Vec<u64> {
        std::mem::take(&mut self.merged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives back what [`take_merged`](Self::take_merged) gave, when there was no checkpoint after all.
    pub(super) fn put_merged(&self, runs: Vec<u64>) {
        self.merged.lock().unwrap_or_else(PoisonError::into_inner).extend(runs);
    }

    /// Removes the files of runs that no checkpoint names any more.
    pub(super) fn remove(&self, runs: &[u64]) {
        for run in runs {
            // Best effort: what stays is removed at the next open.
            let _ = self.disk.remove(&self.path(*run));
        }
    }

    /// Bytes of all runs.
    pub(super) fn bytes(&self) -> u64 {
        let of = |run: &Arc<Run>| (pages(run.pairs) + 1) * PAGE as u64;
        ALL.into_iter().map(|table| self.read(table).runs.iter().map(of).sum::<u64>()).sum()
    }

    /// The number that no run has had.
    pub(super) fn next_run(&self) -> u64 {
        self.next_run.load(Ordering::Relaxed)
    }

    /// Merges runs of one table if that is due, and says whether it was. `between` is called now and then, for what cannot
    /// wait. The merged runs' files stay until a checkpoint no longer names them.
    pub(super) fn merge_some(&self, between: &mut dyn FnMut()) -> Result<bool, StorageError> {
        for table in ALL {
            let runs = Arc::clone(&self.read(table).runs);
            let due = runs_to_merge(&runs.iter().map(|run| run.pairs).collect::<Vec<_>>());
            if due < 2 {
                continue;
            }
            let old = &runs[runs.len() - due..];
            let merged = self.write_run(table, Merge::new(old)?.with_breaks(between))?;
            merged.sync()?;
            let mut state = self.write(table);
            let ids: Vec<u64> = old.iter().map(|run| run.id).collect();
            let list = Arc::make_mut(&mut state.runs);
            let at = list.iter().position(|run| ids.contains(&run.id)).unwrap_or(list.len());
            list.retain(|run| !ids.contains(&run.id));
            list.insert(at, merged);
            drop(state);
            self.put_merged(ids);
            return Ok(true);
        }
        Ok(false)
    }

    /// Reads every page; the number of pairs.
    pub(super) fn check(&self) -> Result<u64, StorageError> {
        let mut pairs = 0;
        for table in ALL {
            let runs = Arc::clone(&self.read(table).runs);
            for run in runs.iter() {
                for pair in RunReader::new(run) {
                    pair?;
                    pairs += 1;
                }
            }
        }
        Ok(pairs)
    }

    fn path(&self, id: u64) -> PathBuf {
        self.dir.join(name(id))
    }

    fn read(&self, table: Table) -> RwLockReadGuard<'_, State> {
        self.states[table as usize].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, table: Table) -> RwLockWriteGuard<'_, State> {
        self.states[table as usize].write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a run's file.
fn name(id: u64) -> String {
    format!("{id:08x}.run")
}

/// Removes the files of runs that no checkpoint names.
pub(super) fn remove_others(disk: &dyn Disk, dir: &Path, keep: impl Fn(u64) -> bool) -> io::Result<()> {
    for file in disk.list(dir)? {
        let id = file.strip_suffix(".run").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        if id.is_some_and(|id| !keep(id)) {
            disk::remove_if_there(disk, &dir.join(file))?;
        }
    }
    Ok(())
}

/// How many of the newest runs to merge into one: as long as the run before is less than twice as large as all after it.
/// So sizes at least double from run to run, and each pair is written again a logarithmic number of times.
fn runs_to_merge(sizes: &[u64]) -> usize {
    let mut total = 0;
    let mut count = 0;
    for size in sizes.iter().rev() {
        if count > 0 && *size >= 2 * total {
            break;
        }
        total += size;
        count += 1;
    }
    count
}

fn pages(pairs: u64) -> u64 {
    pairs.div_ceil(PAIRS as u64)
}

fn run_header(table: Table, run: RunRef) -> [u8; 36] {
    let mut header = [0; 36];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&RUN_FORMAT.to_le_bytes());
    header[12..16].copy_from_slice(&(table as u32).to_le_bytes());
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
        table: Table,
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
        header[..36].copy_from_slice(&run_header(table, RunRef { id: self.id, pairs: self.pairs }));
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

impl Run {
    fn sync(&self) -> Result<(), StorageError> {
        if !self.synced.load(Ordering::Acquire) {
            self.file.sync_data().map_err(|error| from_disk(&name(self.id), &error))?;
            self.synced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Appends the values beside a key. Keys are spread evenly, so the first guess is nearly right; after a few guesses
    /// the search halves what is left, so that keys somebody has chosen cost no more than a logarithm.
    fn find(&self, key: u64, values: &mut Vec<u64>) -> Result<(), StorageError> {
        let (mut low, mut high) = (0, pages(self.pairs));
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
        while low < pages(self.pairs) {
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
            _ => from_disk(&format!("reading {}", name(self.id)), &error),
        };
        disk::read_exact_at(&*self.file, bytes, (number + 1) * PAGE as u64).map_err(failed)?;
        self.checked_page(number, bytes)
    }

    fn checked_page<'a>(&self, number: u64, bytes: &'a [u8]) -> Result<Page<'a>, StorageError> {
        Page::parse(bytes, self.id, number).ok_or_else(|| self.damaged(number))
    }

    fn damaged(&self, page: u64) -> StorageError {
        damaged(format!("index {}: page {page} is not what was written", name(self.id)))
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
struct RunReader<'r> {
    run: &'r Run,
    next_page: u64,
    /// Pairs that were read, last first.
    ready: Vec<Pair>,
    failed: bool,
}

impl<'r> RunReader<'r> {
    fn new(run: &'r Run) -> Self {
        Self { run, next_page: 0, ready: Vec::new(), failed: false }
    }

    fn refill(&mut self) -> Result<(), StorageError> {
        let count = (pages(self.run.pairs) - self.next_page).min(PAGES_AT_ONCE as u64);
        let mut bytes = vec![0; count as usize * PAGE];
        let at = (self.next_page + 1) * PAGE as u64;
        let read = disk::read_exact_at(&*self.run.file, &mut bytes, at);
        read.map_err(|error| from_disk(&format!("reading {}", name(self.run.id)), &error))?;
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
        let more = self.ready.is_empty() && !self.failed && self.next_page < pages(self.run.pairs);
        if more && let Err(error) = self.refill() {
            self.failed = true;
            return Some(Err(error));
        }
        self.ready.pop().map(Ok)
    }
}

/// The pairs of several runs in order, each once.
struct Merge<'r> {
    heads: Vec<(Pair, RunReader<'r>)>,
    last: Option<Pair>,
}

impl<'r> Merge<'r> {
    fn new(runs: &'r [Arc<Run>]) -> Result<Self, StorageError> {
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
    fn with_breaks(self, between: &mut dyn FnMut()) -> impl Iterator<Item = Result<Pair, StorageError>> {
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

#[cfg(test)]
mod tests {
    use super::super::disk::RealDisk;
    use super::*;

    fn tables(dir: &tempfile::TempDir) -> Tables {
        Tables::new(Arc::new(RealDisk), dir.path().to_owned())
    }

    /// Numbers spread like the first bytes of hashes, the same in every run.
    fn key(number: u64) -> u64 {
        let digest = <sha2::Sha256 as sha2::Digest>::digest(number.to_le_bytes());
        pair(&digest).0
    }

    #[test]
    fn pairs_are_found_in_memory_on_their_way_and_in_runs() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let tables = tables(&dir);
        for batch in 0..20 {
            tables.insert(Table::Heights, (batch * 600..(batch + 1) * 600).map(|number| (key(number), number)));
            if batch % 3 != 2 {
                tables.freeze();
            }
            if batch % 3 == 0 {
                tables.flush().expect("writes");
            }
            while batch % 5 == 4 && tables.merge_some(&mut || {}).expect("merges") {}
        }
        assert!(tables.refs()[0].len() < 8, "{:?}", tables.refs()[0]);
        for number in 0..12_000 {
            assert_eq!(tables.find(Table::Heights, key(number)).expect("reads"), [number]);
            assert_eq!(tables.find(Table::Heights, key(number) ^ 1).expect("reads"), [0; 0]);
            assert_eq!(tables.find(Table::Keys, key(number)).expect("reads"), [0; 0]);
        }
        tables.freeze();
        tables.flush().expect("writes");
        assert_eq!(tables.check().expect("is good"), 12_000);
        let again = Tables::open(Arc::new(RealDisk), dir.path().to_owned(), &tables.refs(), tables.next_run());
        let again = again.expect("opens");
        for number in (0..12_000).step_by(7) {
            assert_eq!(again.find(Table::Heights, key(number)).expect("reads"), [number]);
        }
    }

    #[test]
    fn keys_that_somebody_has_chosen_are_found_too() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let tables = tables(&dir);
        // All crowded at one end, with one key that has more values than a page, and both ends of the range.
        let crowd: Vec<Pair> = (0..3000).map(|number| (u64::MAX - number / 2, number)).collect();
        let many: Vec<Pair> = (0..1000).map(|number| (7, number)).collect();
        tables.insert(Table::Keys, crowd.iter().chain(&many).copied().chain([(0, 5), (u64::MAX, 9000)]));
        tables.freeze();
        tables.flush().expect("writes");
        assert_eq!(tables.find(Table::Keys, 7).expect("reads"), (0..1000).collect::<Vec<_>>());
        assert_eq!(tables.find(Table::Keys, 0).expect("reads"), [5]);
        assert_eq!(tables.find(Table::Keys, u64::MAX).expect("reads"), [0, 1, 9000]);
        for number in 1..1500 {
            let found = tables.find(Table::Keys, u64::MAX - number).expect("reads");
            assert_eq!(found, [2 * number, 2 * number + 1]);
        }
        for missing in [1, 6, 8, u64::MAX / 2, u64::MAX - 1500] {
            assert_eq!(tables.find(Table::Keys, missing).expect("reads"), [0; 0]);
        }
    }

    #[test]
    fn runs_at_least_double_from_one_to_the_next() {
        for (sizes, due) in [
            (vec![], 0),
            (vec![5], 1),
            (vec![5, 5], 2),
            (vec![10, 5], 1),
            (vec![9, 5], 2),
            (vec![100, 9, 5], 2),
            (vec![27, 9, 5], 3),
        ] {
            assert_eq!(runs_to_merge(&sizes), due, "{sizes:?}");
        }
    }

    #[test]
    fn what_a_writer_adds_between_two_checkpoints_does_not_stay_in_memory() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let tables = tables(&dir);
        for chunk in 0..20 {
            tables.insert(Table::Heights, (0..16_384).map(|number| (key(chunk * 16_384 + number), number)));
            tables.spill(Table::Heights).expect("writes");
            assert!(tables.in_memory() <= SPILL, "{} pairs", tables.in_memory());
        }
        assert_eq!(tables.find(Table::Heights, key(3)).expect("reads"), [3]);
    }
}
