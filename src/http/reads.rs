//! Long work for callers: how many may stream the chain, and how many threads read and judge for all of them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use crate::helpers::Helpers;

/// Callers that stream a long part of the chain at once. Each holds two chunks, 300 KB each where blocks are small.
const MAX_STREAMS: usize = 64;

/// Threads that work at once: one reads faster than a caller takes, and a second one keeps a caller's search from making all
/// others wait.
const THREADS: usize = 2;

/// See the module.
#[derive(Clone, Debug)]
pub struct Reads {
    seats: Arc<Semaphore>,
    helpers: Arc<Helpers>,
}

impl Default for Reads {
    fn default() -> Self {
        Self { seats: Arc::new(Semaphore::new(MAX_STREAMS)), helpers: Helpers::new("dolmen-reads", THREADS) }
    }
}

impl Reads {
    /// A seat for a caller that streams a long part of the chain.
    ///
    /// # Errors
    /// All are taken.
    pub fn seat(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let full = |_| Problem::busy(format!("{MAX_STREAMS} callers read the chain already; try again later"), 5);
        self.seats.clone().try_acquire_owned().map_err(full)
    }

    /// Works on another thread, in turn with others.
    ///
    /// # Errors
    /// What went wrong with the work.
    pub async fn read<T, E>(&self, read: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        let not_done = |_| Problem::new(500, "that failed; the node's log says why");
        self.helpers.work(read).await.map_err(not_done)?.map_err(Into::into)
    }
}
