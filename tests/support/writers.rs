//! Threads that mine one entry after the other on a connection each, and repeat an unanswered request under its
//! Idempotency-Key until it is answered: so at the end every entry that was ever sent is acknowledged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::http::{Connection, Request};

/// A node that does not answer for this long fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two attempts to reach a node that is away.
const PAUSE: Duration = Duration::from_millis(10);

/// Running writers.
pub struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    acknowledged: Mutex<Vec<String>>,
    stopped: AtomicBool,
    repeated: AtomicU64,
}

impl Shared {
    fn acknowledged(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writers {
    /// So many writers on each of these HTTP ports; each rests between two entries.
    pub fn start(ports: &[u16], on_each: usize, rest: Duration) -> Self {
        Self::start_named("", ports, on_each, rest)
    }

    /// The same, with a name that tells their entries from those of other writers.
    pub fn start_named(name: &str, ports: &[u16], on_each: usize, rest: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = ports
            .iter()
            .enumerate()
            .flat_map(|(place, &port)| (0..on_each).map(move |number| (port, format!("{place}.{number}"))))
            .map(|(port, writer)| {
                let shared = Arc::clone(&shared);
                let writer = format!("{name}{writer}");
                thread::spawn(move || shared.write(port, &writer, rest))
            })
            .collect();
        Self { shared, threads }
    }

    /// What has been acknowledged so far.
    pub fn acknowledged(&self) -> Vec<String> {
        self.shared.acknowledged().clone()
    }

    /// How much has been acknowledged so far.
    pub fn count(&self) -> usize {
        self.shared.acknowledged().len()
    }

    /// Lets every writer bring its entry to an end; returns all that was acknowledged, and how often a request had to be
    /// repeated.
    pub fn stop(self) -> (Vec<String>, u64) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a writer had all its answers");
        }
        let acknowledged = std::mem::take(&mut *self.shared.acknowledged());
        (acknowledged, self.shared.repeated.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn write(&self, port: u16, writer: &str, rest: Duration) {
        let mut connection = None;
        for number in 0.. {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let entry = format!("entry {writer} {number}");
            self.write_one(port, &entry, &mut connection);
            self.acknowledged().push(entry);
            if !rest.is_zero() {
                thread::sleep(rest);
            }
        }
    }

    fn write_one(&self, port: u16, entry: &str, connection: &mut Option<Connection>) {
        let request = Request::post_json("/mineBlock", &format!(r#"{{"data":["{entry}"]}}"#))
            .header("Idempotency-Key", &format!("key of {entry}"));
        let end = Instant::now() + PATIENCE;
        loop {
            let open = match connection.take() {
                Some(open) => Ok(open),
                None => Connection::open(port),
            };
            let answer = open.and_then(|mut open| {
                let answer = open.send(&request)?;
                *connection = Some(open);
                Ok(answer)
            });
            match answer {
                Ok(answer) if answer.status == 200 => {
                    let block = answer.json();
                    assert_eq!(block["body"], serde_json::json!([entry]), "the answer is about another entry");
                    return;
                }
                // On its way down a node takes nothing more.
                Ok(answer) if answer.status == 503 => *connection = None,
                Ok(answer) => panic!("{entry}: {}: {}", answer.status, answer.text()),
                Err(error) => assert!(Instant::now() < end, "{entry} was not answered within {PATIENCE:?}: {error}"),
            }
            self.repeated.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PAUSE);
        }
    }
}

/// Mines so many blocks of one entry each, as fast as many connections at once can; returns the entries.
pub fn fill(port: u16, name: &str, blocks: usize) -> Vec<String> {
    const CONNECTIONS: usize = 64;
    let entries: Vec<String> = (0..blocks).map(|number| format!("{name} {number}")).collect();
    thread::scope(|scope| {
        for share in entries.chunks(blocks.div_ceil(CONNECTIONS).max(1)) {
            scope.spawn(move || {
                let mut connection = Connection::open(port).expect("the node listens");
                for entry in share {
                    let request = Request::post_json("/mineBlock", &format!(r#"{{"data":["{entry}"]}}"#));
                    let _ = connection.send(&request).expect("an answer").expect(200);
                }
            });
        }
    });
    entries
}
