//! Reads of many blocks: how many callers may have one, and how many threads work on them.

use std::sync::Arc;

use actix_web::web;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// Callers that stream a long part of the chain at once. Each holds two chunks, 300 KB each where blocks are small.
const MAX_STREAMS: usize = 64;

/// Threads that read at once. One reads faster than a caller takes, and on a machine with two cores a third would only keep
/// those waiting who mine.
const THREADS: usize = 2;

/// See the module.
#[derive(Clone, Debug)]
pub struct Reads {
    seats: Arc<Semaphore>,
    threads: Arc<Semaphore>,
}

impl Default for Reads {
    fn default() -> Self {
        Self { seats: Arc::new(Semaphore::new(MAX_STREAMS)), threads: Arc::new(Semaphore::new(THREADS)) }
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

    /// Reads on another thread, in turn with others.
    ///
    /// # Errors
    /// What went wrong with the read, or the node is stopping.
    pub async fn read<T, E>(&self, read: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        // Nobody closes the semaphore: without a permit it is read all the same.
        let _turn = self.threads.acquire().await;
        web::block(read).await?.map_err(Into::into)
    }
}
