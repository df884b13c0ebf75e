//! What all sessions of a node share: its clock, the entrance of its peer port, and the room for unfinished messages.

use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Eviction;
use crate::actors::clock::Stopwatch;
use crate::helpers::{Helpers, NotDone};
use crate::ledger::chain::Origin;
use crate::metrics::Metrics;
use crate::peer::budget::Budget;
use crate::peer::limits::MAX_UNFINISHED;
use crate::peer::slots::{Entrance, Full, Slots};

/// Threads that read our chain and put it together for strangers: as many as small machines have cores.
const READERS: usize = 2;

/// Threads that judge strangers' long messages. Of a message of 4 MiB its blocks take several times as much while they are
/// judged, and each thread keeps what it took once.
const JUDGES: usize = 1;

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// The node's clock.
    pub stopwatch: Stopwatch,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Bytes that wait for all peers to read them, but for whole chains.
    pub(super) queued: AtomicUsize,
    readers: Arc<Helpers>,
    judges: Arc<Helpers>,
    entrance: Mutex<Entrance>,
    unfinished: Mutex<Budget<Eviction>>,
}

impl Shared {
    /// Of a node with so many links.
    #[must_use]
    pub fn new(stopwatch: Stopwatch, slots: Slots, metrics: Arc<Metrics>) -> Arc<Self> {
        let (entrance, unfinished) = (Mutex::new(Entrance::new(slots)), Mutex::new(Budget::new(MAX_UNFINISHED)));
        let (readers, judges) = (Helpers::new("dolmen-readers", READERS), Helpers::new("dolmen-judges", JUDGES));
        let queued = AtomicUsize::new(0);
        Arc::new(Self { stopwatch, metrics, queued, readers, judges, entrance, unfinished })
    }

    /// Reads our chain on another thread.
    ///
    /// # Errors
    /// It failed, or the node is stopping.
    pub async fn read<T: Send + 'static>(
        self: Arc<Self>,
        origin: Origin,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        work_on(&self.readers, origin, work).await
    }

    /// Judges a long message on another thread.
    ///
    /// # Errors
    /// It failed, or the node is stopping.
    pub async fn judge<T: Send + 'static>(
        self: Arc<Self>,
        origin: Origin,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        work_on(&self.judges, origin, work).await
    }

    /// The peer port's entrance. Nobody keeps it while waiting for something.
    pub fn entrance(&self) -> MutexGuard<'_, Entrance> {
        // Counts of a thread that panicked are counts all the same.
        self.entrance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The room for unfinished messages, with how those give it up who have to. Nobody keeps it while waiting for something.
    pub fn unfinished(&self) -> MutexGuard<'_, Budget<Eviction>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works for strangers by these helpers, each in its turn, and for peers that the operator named at once.
async fn work_on<T: Send + 'static>(
    helpers: &Helpers,
    origin: Origin,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NotDone> {
    match origin {
        Origin::Trusted => actix_web::web::block(work).await.map_err(|_| NotDone),
        Origin::Stranger => helpers.work(work).await,
    }
}

/// A socket that the entrance has let in, until it is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Admission {
    /// Asks whether there is room.
    pub(super) fn ask(shared: &Arc<Shared>, address: IpAddr) -> Result<Self, Full> {
        shared.entrance().enter(address, shared.stopwatch.millis())?;
        Ok(Self { shared: shared.clone(), address })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.shared.entrance().leave(self.address);
    }
}
