//! Look-up tables that only grow: sets of pairs of numbers, found by the first.
//!
//! Owns the derived tables of the store. Refuses to know what the numbers mean, beyond that every reader checks what it is
//! led to: keys are the first eight bytes of a hash, so a look-up gives *candidates*, and a pair too many does no harm.
//! Nothing is ever removed, because nothing that is recorded here ever becomes untrue: a block of this hash has this height,
//! the record there belongs to that submission.
//!
//! That is why these tables are plain sorted files and not a database: new pairs gather in memory and are written in one go
//! as a sorted [run](super::run); runs are merged so that there are about as many as the logarithm of their size.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::disk::{self, Disk};
use super::error::from_disk;
use super::run::{self, Merge, Pair, Run, RunReader, RunRef};
use crate::ledger::storage::StorageError;

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

/// Pairs in memory above which a table is written without waiting for a checkpoint: 4 MiB or so.
pub(super) const SPILL: usize = 128 * 1024;

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
            let open = |run: &RunRef| Run::open(&*tables.disk, &tables.dir, table as u32, *run).map(Arc::new);
            let opened = refs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
            tables.write(table).runs = Arc::new(opened);
        }
        Ok(tables)
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
        let written = Run::create(&*self.disk, &self.dir, table as u32, id, pairs);
        if written.is_err() {
            self.remove(&[id]);
        }
        written.map(Arc::new)
    }

    /// The runs that are durable now. One that is not holds only what is newer than the checkpoint that asks.
    pub(super) fn refs(&self) -> [Vec<RunRef>; TABLES] {
        let durable = |run: &&Arc<Run>| run.is_synced();
        ALL.map(|table| self.read(table).runs.iter().filter(durable).map(|run| run.named).collect())
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
            let _ = self.disk.remove(&run::path(&self.dir, *run));
        }
    }

    /// Bytes of all runs.
    pub(super) fn bytes(&self) -> u64 {
        let of = |table| self.read(table).runs.iter().map(|run| run.bytes()).sum::<u64>();
        ALL.into_iter().map(of).sum()
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
            let due = runs_to_merge(&runs.iter().map(|run| run.named.pairs).collect::<Vec<_>>());
            if due < 2 {
                continue;
            }
            let old = &runs[runs.len() - due..];
            let merged = self.write_run(table, Merge::new(old)?.with_breaks(between))?;
            merged.sync()?;
            let mut state = self.write(table);
            let ids: Vec<u64> = old.iter().map(|run| run.named.id).collect();
            let list = Arc::make_mut(&mut state.runs);
            let at = list.iter().position(|run| ids.contains(&run.named.id)).unwrap_or(list.len());
            list.retain(|run| !ids.contains(&run.named.id));
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

    fn read(&self, table: Table) -> RwLockReadGuard<'_, State> {
        self.states[table as usize].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, table: Table) -> RwLockWriteGuard<'_, State> {
        self.states[table as usize].write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the files of runs that no checkpoint names.
pub(super) fn remove_others(disk: &dyn Disk, dir: &Path, keep: impl Fn(u64) -> bool) -> io::Result<()> {
    for file in disk.list(dir)? {
        if run::id_of(&file).is_some_and(|id| !keep(id)) {
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
        u64::from_le_bytes(*digest.first_chunk().expect("32 bytes"))
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
