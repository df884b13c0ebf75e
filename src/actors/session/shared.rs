//! What all sessions of a node share: its clock, the entrance of its peer port, and the room for unfinished messages.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::actors::clock::Stopwatch;
use crate::metrics::Metrics;
use crate::peer::budget::Budget;
use crate::peer::limits::MAX_UNFINISHED;
use crate::peer::slots::{Entrance, Full, Slots};

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// The node's clock.
    pub stopwatch: Stopwatch,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    entrance: Mutex<Entrance>,
    unfinished: Mutex<Budget>,
}

impl Shared {
    /// Of a node with so many links.
    #[must_use]
    pub fn new(stopwatch: Stopwatch, slots: Slots, metrics: Arc<Metrics>) -> Arc<Self> {
        let (entrance, unfinished) = (Mutex::new(Entrance::new(slots)), Mutex::new(Budget::new(MAX_UNFINISHED)));
        Arc::new(Self { stopwatch, metrics, entrance, unfinished })
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
