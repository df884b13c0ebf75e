//! Long work for callers: how many may stream the chain, and how many threads read and judge for all of them.

use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::time::timeout;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use crate::helpers::Helpers;

/// Callers that stream a long part of the chain at once. Each holds two chunks, 300 KB each where blocks are small.
const MAX_STREAMS: usize = 64;

/// How long a caller waits for a seat: long enough for a page of a quick reader to end, and that who is refused and asks
/// again at once, two hundred of them, does not keep the node busy with refusing.
const PATIENCE: Duration = Duration::from_secs(2);

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
    /// A seat for a caller that streams a long part of the chain, in the order in which they came.
    ///
    /// # Errors
    /// All are taken, and stay so.
    pub async fn seat(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let full = || Problem::busy(format!("{MAX_STREAMS} callers read the chain already; try again later"), 5);
        // Nobody closes the semaphore.
        timeout(PATIENCE, self.seats.clone().acquire_owned()).await.ok().and_then(Result::ok).ok_or_else(full)
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
