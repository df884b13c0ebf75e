//! What all sessions of a node share: its clock, the entrance of its peer port, and the room for unfinished messages.

use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::error::BlockingError;
use tokio::sync::Semaphore;

use crate::actors::clock::Stopwatch;
use crate::ledger::chain::Origin;
use crate::metrics::Metrics;
use crate::peer::budget::Budget;
use crate::peer::limits::MAX_UNFINISHED;
use crate::peer::slots::{Entrance, Full, Slots};

/// Threads that read, judge and put together for strangers at once: as many as small machines have cores. More would only
/// keep those waiting who mine.
const WORKERS: usize = 2;

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// The node's clock.
    pub stopwatch: Stopwatch,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Bytes that wait for all peers to read them, but for whole chains.
    pub(super) queued: AtomicUsize,
    workers: Semaphore,
    entrance: Mutex<Entrance>,
    unfinished: Mutex<Budget>,
}

impl Shared {
    /// Of a node with so many links.
    #[must_use]
    pub fn new(stopwatch: Stopwatch, slots: Slots, metrics: Arc<Metrics>) -> Arc<Self> {
        let (entrance, unfinished) = (Mutex::new(Entrance::new(slots)), Mutex::new(Budget::new(MAX_UNFINISHED)));
        let (queued, workers) = (AtomicUsize::new(0), Semaphore::new(WORKERS));
        Arc::new(Self { stopwatch, metrics, queued, workers, entrance, unfinished })
    }

    /// Works on another thread: for strangers each in its turn, for peers that the operator named at once.
    ///
    /// # Errors
    /// The node is stopping.
    pub async fn work<T: Send + 'static>(
        self: Arc<Self>,
        origin: Origin,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let _turn = match origin {
            Origin::Trusted => None,
            // Nobody closes the semaphore: without a turn it is done all the same.
            Origin::Stranger => self.workers.acquire().await.ok(),
        };
        actix_web::web::block(work).await
    }

    /// The peer port's entrance. Nobody keeps it while waiting for something.
    pub fn entrance(&self) -> MutexGuard<'_, Entrance> {
        // Counts of a thread that panicked are counts all the same.
        self.entrance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The room for unfinished messages. Nobody keeps it while waiting for something.
    pub fn unfinished(&self) -> MutexGuard<'_, Budget> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
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
