//! Threads that do long work for whoever asks, each piece in its turn, and at a lower priority than those that mine and
//! answer: on a machine whose cores are all busy, who asks for much waits, and who asks for little does not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};
use tracing::warn;

/// How much nicer than the rest of the process: with both wanting a core, a helper gets a tenth of it.
const NICER: i32 = 10;

/// A piece of work.
type Job = Box<dyn FnOnce() + Send>;

/// The work was not done: it failed, or there are no helpers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the work was not done")]
pub struct NotDone;

/// See the module. The threads start with the first work, since each keeps memory of its own, and end when this is dropped.
#[derive(Debug)]
pub struct Helpers {
    name: String,
    threads: usize,
    jobs: OnceLock<Sender<Job>>,
    /// One for each thread: what waits for its turn is kept by whoever asked, and goes with them.
    turns: Semaphore,
}

impl Helpers {
    /// So many threads.
    #[must_use]
    pub fn new(name: &str, threads: usize) -> Arc<Self> {
        let turns = Semaphore::new(threads);
        Arc::new(Self { name: name.to_owned(), threads, jobs: OnceLock::new(), turns })
    }

    fn start(&self) -> Sender<Job> {
        let (sender, jobs) = mpsc::channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..self.threads {
            let jobs = jobs.clone();
            // With fewer threads there is less help, and with none whoever asks is told so.
            if let Err(error) = thread::Builder::new().name(self.name.clone()).spawn(move || help(&jobs)) {
                warn!(%error, name = self.name, "the system gives no thread");
            }
        }
        sender
    }

    /// Has something done.
    ///
    /// # Errors
    /// It panicked.
    pub async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, NotDone> {
        // Nobody closes the semaphore: without a turn it is done all the same.
        let _turn = self.turns.acquire().await;
        let (done, answer) = oneshot::channel();
        // Who went away meanwhile needs no answer.
        let job = move || drop(done.send(work()));
        self.jobs.get_or_init(|| self.start()).send(Box::new(job)).map_err(|_| NotDone)?;
        answer.await.map_err(|_| NotDone)
    }
}

fn help(jobs: &Mutex<Receiver<Job>>) {
    be_nice();
    loop {
        // Only the receiver is behind the lock, and nothing of it breaks when a thread panics.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // What panics is reported by the panic itself, and whoever waits for it is told.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

/// Lowers the priority of this thread, which on Linux is a thread's own and elsewhere the whole process's.
fn be_nice() {
    #[cfg(target_os = "linux")]
    // Where it is refused, helpers are only as fast as the others.
    let _ = rustix::process::nice(NICER);
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn work_is_done_and_what_panics_takes_no_helper_with_it() {
        let helpers = Helpers::new("helper", 1);
        assert_eq!(block_on(helpers.work(|| 1 + 1)), Ok(2));
        assert_eq!(block_on(helpers.work(|| -> u8 { panic!("work that fails") })), Err(NotDone));
        let name = block_on(helpers.work(|| thread::current().name().map(str::to_owned)));
        assert_eq!(name, Ok(Some("helper".to_owned())));
    }

    #[test]
    fn nothing_is_done_for_who_went_away() {
        let helpers = Helpers::new("helper", 1);
        let (go, wait) = mpsc::channel::<()>();
        let (told, tell) = mpsc::channel();
        let mut first = Box::pin(helpers.work(move || wait.recv().is_ok()));
        let mut second = Box::pin(helpers.work(move || told.send(())));
        let mut task = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut task).is_pending());
        assert!(second.as_mut().poll(&mut task).is_pending());
        drop(second);
        go.send(()).expect("the helper waits");
        assert_eq!(block_on(first), Ok(true));
        assert_eq!(block_on(helpers.work(|| ())), Ok(()));
        assert!(tell.try_recv().is_err());
    }
}
