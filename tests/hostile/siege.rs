//! What an attack costs everybody else: how long `/livez` and an honest write take while it lasts, and how much memory.
//!
//! Calm is measured just before, on the same node in the same process. The attacker has one thread, so that it competes for
//! one core at the most; a test that measures runs while no other test does ([`Arena::alone`]). What other programs do on
//! the machine only makes a node look slower, so the best of a few rounds counts; and the honest peer, which shares the
//! machine and is not attacked, tells how slow a node is by the machine alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::arena::{Arena, MAX_GROWTH};
use super::support::http::{self, Connection, Request};
use super::support::process::resident_bytes;
use super::support::wait;

/// An answer to `/livez` under attack, at the 99th of 100: what a load balancer and a person still call alive.
const MAX_LIVEZ: Duration = Duration::from_millis(50);

/// A write under attack takes at most so many times as long as a calm one, both at the 99th of 100.
const MAX_SLOWDOWN: u32 = 2;

/// Where the machine is so busy that a node that nobody attacks is slow, the one under attack may be so many times slower.
const MAX_BESIDE: u32 = 3;

/// A calm write counts as no faster than this. A write is handed through four threads and waits for the disk once, and
/// where the attacker and the node share two cores each hand-over may wait for a slice of the scheduler, some milliseconds
/// that have nothing to do with what the node does.
const LEAST_CALM: Duration = Duration::from_millis(15);

/// Honest writes in a round: the 99th of 100 is then the third slowest.
const WRITES: usize = 250;

/// Between two questions for `/livez`: about as many of them as writes.
const REST: Duration = Duration::from_millis(4);

/// Rounds of which the best counts.
const ROUNDS: usize = 3;

/// Does the next bit of an attack. Answers whether there was anything to do; if not, it is left alone for a moment.
pub type Attack = Box<dyn FnMut() -> bool>;

/// An attack that goes on while others are served.
pub struct Siege {
    /// What is done, in a few words.
    pub name: &'static str,
    /// Prepares it.
    pub attack: fn(&Arena) -> Attack,
    /// What the log must say of those who did it; nothing where they did nothing wrong.
    pub said: &'static [&'static str],
    /// Whether somebody must be banned by then.
    pub banned: bool,
}

/// What everybody else got of the node.
#[derive(Clone, Copy, Debug)]
struct Figures {
    livez: Duration,
    /// `/livez` of the honest peer.
    beside: Duration,
    write: Duration,
    /// The most bytes of memory that the node had.
    memory: u64,
}

impl Arena {
    /// Measures one siege after the other, then looks whether everything that was acknowledged is there.
    pub fn withstand(mut self, sieges: &[Siege]) {
        for siege in sieges {
            self.withstand_one(siege);
            self.in_step(siege.name);
        }
        self.finish();
    }

    fn withstand_one(&self, Siege { name, attack, said, banned }: &Siege) {
        let mut failures = Vec::new();
        for round in 1..=ROUNDS {
            let calm = self.measure(|| false);
            let before = self.node.resident_bytes();
            let mut attack = attack(self);
            let attacked = self.measure(&mut attack);
            let grown = attacked.memory.saturating_sub(before);
            let livez_allowed = MAX_LIVEZ.max(MAX_BESIDE * attacked.beside);
            let write_allowed = MAX_SLOWDOWN * calm.write.max(LEAST_CALM).max(attacked.beside);
            let line = format!(
                "{name}, round {round}: livez {:.1?} (calm {:.1?}, beside {:.1?}), write {:.1?} (calm {:.1?}), {} MiB more",
                attacked.livez,
                calm.livez,
                attacked.beside,
                attacked.write,
                calm.write,
                grown >> 20
            );
            eprintln!("{line}");
            // Memory is no matter of luck.
            assert!(grown <= MAX_GROWTH, "{line}");
            if attacked.livez <= livez_allowed && attacked.write <= write_allowed {
                wait::until(wait::SOON, format!("{name}: {said:?} in the log, and a ban: {banned}"), || {
                    attack();
                    let log = self.node.log();
                    let bans = self.node.get("/bans").expect(200).json();
                    let is_banned = bans.as_array().is_some_and(|bans| !bans.is_empty());
                    (said.iter().all(|said| log.contains(said)) && is_banned >= *banned).then_some(())
                });
                return;
            }
            failures.push(line);
        }
        panic!("{name}: too slow in every round: {failures:#?}");
    }

    /// Serves honest callers while something goes on.
    fn measure(&self, mut attack: impl FnMut() -> bool) -> Figures {
        let (port, honest, pid) = (self.node.http_port(), self.honest.http_port(), self.node.pid());
        let written = &self.written;
        let done = AtomicBool::new(false);
        let memory = AtomicU64::new(0);
        thread::scope(|scope| {
            let prober = scope.spawn(|| {
                let (mut times, mut beside) = (Vec::new(), Vec::new());
                while !done.load(Ordering::Relaxed) {
                    times.push(ask(port));
                    beside.push(ask(honest));
                    memory.fetch_max(resident_bytes(pid), Ordering::Relaxed);
                    thread::sleep(REST);
                }
                (slowest_but_one_percent(times), slowest_but_one_percent(beside))
            });
            let writer = scope.spawn(|| {
                let _ended = Ended(&done);
                let mut connection = Connection::open(port).expect("the node listens");
                slowest_but_one_percent((0..WRITES).map(|_| write(&mut connection, port, written)).collect())
            });
            while !done.load(Ordering::Relaxed) {
                if !attack() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            let ((livez, beside), write) = (prober.join().expect("both live"), writer.join().expect("the node mines"));
            Figures { livez, beside, write, memory: memory.load(Ordering::Relaxed) }
        })
    }
}

/// Asks whether a node lives. Answers how long that took.
fn ask(port: u16) -> Duration {
    let begun = Instant::now();
    let answer = http::request(port, &Request::get("/livez")).expect("an answer");
    assert_eq!(answer.status, 200);
    begun.elapsed()
}

/// Has an entry mined, by an honest client: it connects anew when its connection was cut, and repeats what was not answered.
/// Answers how long that took in all.
fn write(connection: &mut Connection, port: u16, written: &Mutex<Vec<String>>) -> Duration {
    let mut written = written.lock().expect("no thread panics with it");
    let entry = format!("honest entry {}", written.len());
    let request = Request::post_json("/mineBlock", &serde_json::json!({ "data": [entry] }).to_string());
    let request = request.header("Idempotency-Key", &entry);
    let begun = Instant::now();
    let answer = wait::until(wait::SOON, "an answer", || match connection.send(&request) {
        Ok(answer) => Some(answer),
        Err(_) => {
            *connection = Connection::open(port).expect("the node listens");
            None
        }
    });
    let _ = answer.expect(200);
    written.push(entry);
    begun.elapsed()
}

/// Says that it is over, also when a thread panics.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The 99th of 100.
fn slowest_but_one_percent(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * 99 / 100]
}
