//! Writes checkpoints of the derived state beside the writer.
//!
//! Owns the thread and the order of what makes a checkpoint: the tables' new runs, `heights`, the file `CHECKPOINT`, and
//! then the removal of what it no longer names. After that runs are merged, as long as nothing more urgent comes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::checkpoint::{self, Checkpoint};
use super::error::from_disk;
use super::shared::Shared;
use crate::ledger::storage::StorageError;

/// Who does what need not be done before the writer goes on: checkpoints, syncs of a staged branch that still grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checkpoints {
    /// Threads of the store, beside the writer.
    Beside,
    /// The writer itself, before it goes on: everything happens in one order, for tests with a simulated disk.
    Inline,
}

#[derive(Debug, Default)]
struct Slot {
    /// The newest state that is to be written. One that was not begun yet is replaced: the newer one covers it.
    next: Option<Checkpoint>,
    busy: bool,
    stop: bool,
    /// Why the latest attempt failed.
    failed: Option<StorageError>,
}

#[derive(Debug, Default)]
struct Desk {
    slot: Mutex<Slot>,
    changed: Condvar,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever writes checkpoints.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    /// None when the writer does it.
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start(shared: Arc<Shared>, how: Checkpoints) -> std::io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let thread = match how {
            Checkpoints::Inline => None,
            Checkpoints::Beside => {
                let (shared, desk) = (Arc::clone(&shared), Arc::clone(&desk));
                let thread = std::thread::Builder::new().name("store-index".into());
                Some(thread.spawn(move || work(&shared, &desk))?)
            }
        };
        Ok(Self { shared, desk, thread })
    }

    /// Asks for a checkpoint of a state whose pairs are frozen.
    pub(super) fn submit(&self, checkpoint: Checkpoint) {
        if self.thread.is_some() {
            self.desk.lock().next = Some(checkpoint);
            self.desk.changed.notify_all();
            return;
        }
        let outcome = save(&self.shared, checkpoint);
        if outcome.is_ok() {
            merge(&self.shared, &mut || {});
        }
        self.desk.lock().failed = outcome.err();
    }

    /// Waits until nothing is to be done, and says how the last checkpoint went.
    pub(super) fn wait(&self) -> Result<(), StorageError> {
        let busy = |slot: &mut Slot| slot.busy || (slot.next.is_some() && !slot.stop);
        let slot = self.desk.changed.wait_while(self.desk.lock(), busy).unwrap_or_else(PoisonError::into_inner);
        match &slot.failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.desk.lock().stop = true;
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // Nothing that the thread could tell matters now: the next open replays what is missing.
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, desk: &Desk) {
    loop {
        {
            let idle = |slot: &mut Slot| slot.next.is_none() && !slot.stop;
            let slot = desk.changed.wait_while(desk.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            if slot.stop {
                return;
            }
        }
        if save_next(shared, desk) {
            merge(shared, &mut || {
                save_next(shared, desk);
            });
        }
    }
}

/// Writes the checkpoint that waits, if there is one; whether that went well.
fn save_next(shared: &Shared, desk: &Desk) -> bool {
    let next = {
        let mut slot = desk.lock();
        slot.busy = slot.next.is_some();
        slot.next.take()
    };
    let Some(next) = next else { return false };
    let outcome = save(shared, next);
    let went_well = outcome.is_ok();
    let mut slot = desk.lock();
    slot.busy = false;
    slot.failed = outcome.err();
    desk.changed.notify_all();
    went_well
}

/// Writes a checkpoint.
fn save(shared: &Shared, checkpoint: Checkpoint) -> Result<(), StorageError> {
    let saved = try_save(shared, checkpoint);
    if let Err(error) = &saved {
        tracing::warn!(%error, "the index is not on disk for now: the next start takes longer");
    }
    saved
}

fn try_save(shared: &Shared, mut checkpoint: Checkpoint) -> Result<(), StorageError> {
    shared.tables.flush()?;
    if !shared.positions.is_written() {
        return Err(StorageError::Full("the file heights is not whole".into()));
    }
    shared.positions.sync().map_err(|error| from_disk("syncing heights", &error))?;
    // First what no list names any more, then the lists.
    let merged = shared.tables.take_merged();
    checkpoint.runs = shared.tables.refs();
    checkpoint.next_run = shared.tables.next_run();
    if let Err(error) = checkpoint.write(&*shared.disk, &shared.index_dir) {
        shared.tables.put_merged(merged);
        return Err(from_disk("writing the checkpoint", &error));
    }
    shared.tables.remove(&merged);
    // Best effort: what stays is removed with the next checkpoint.
    let _ = checkpoint::remove_left(&*shared.disk, &shared.index_dir, checkpoint.sequence);
    Ok(())
}

fn merge(shared: &Shared, between: &mut dyn FnMut()) {
    loop {
        match shared.tables.merge_some(between) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "runs of the index are not merged for now");
                return;
            }
        }
    }
}
