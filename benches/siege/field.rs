//! Where a siege takes place: one node, one honest peer that it is linked with, and honest callers who say how they are
//! served meanwhile.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::attacks::Attack;
use super::chain;
use super::hose::Tally;
use super::support::audit::Audit;
use super::support::http::{self, Connection, Request};
use super::support::process::resident_bytes;
use super::support::{self, NodeOptions, NodeProcess, wait};

/// Between two questions for `/livez`, and between two writes.
const REST: Duration = Duration::from_millis(5);

/// Attackers' priority: the lowest. A real one brings a processor of its own; what it gets across is in the table.
const PRIORITY: i32 = 19;

/// An honest caller who is not answered for this long has been cut off.
const PATIENCE: Duration = Duration::from_secs(10);

/// The place.
pub struct Field {
    pub node: NodeProcess,
    pub honest: NodeProcess,
    /// A node without peers, written to as the other is, that nobody attacks.
    pub apart: NodeProcess,
    /// Entries that were acknowledged, each a block of its own.
    written: Vec<String>,
    _dir: TempDir,
}

/// How honest callers were served.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Milliseconds until `/livez` was answered, each on a new connection.
    pub livez: Vec<f64>,
    /// The same on the honest peer, which shares the machine and is not attacked.
    pub beside: Vec<f64>,
    /// Milliseconds until an entry was acknowledged.
    pub write: Vec<f64>,
    /// The same on the node that nobody attacks, on the same machine and disk, at the same time.
    pub write_apart: Vec<f64>,
    /// The most bytes of memory that the node had.
    pub memory: u64,
    /// What callers did not get, in words.
    pub failures: Vec<String>,
}

/// A loopback address that no stranger had before.
pub fn address() -> Ipv4Addr {
    static STRANGERS: AtomicU32 = AtomicU32::new(0);
    // From 127.1.0.0 on; all of 127.0.0.0/8 is this machine.
    let [_, a, b, c] = (STRANGERS.fetch_add(1, Ordering::Relaxed) + 65_536).to_be_bytes();
    Ipv4Addr::new(127, a, b, c)
}

impl Field {
    /// A fresh node with a chain of so many blocks, and a peer that has caught up.
    pub fn new(blocks: u64) -> Self {
        let dir = if blocks == 0 { chain::fresh() } else { chain::dir(blocks) };
        let node = NodeProcess::start(NodeOptions::new().data_dir(dir.path()));
        let honest = NodeProcess::start(NodeOptions::new().peer(&node.p2p_url()));
        let apart = NodeProcess::start(NodeOptions::new());
        support::wait_equal(&[&node, &honest]);
        Self { node, honest, apart, written: Vec::new(), _dir: dir }
    }

    /// Serves honest callers for so long while nothing else goes on.
    pub fn calm(&mut self, time: Duration) -> Served {
        self.serve(time, None)
    }

    /// Serves honest callers for so long while an attack goes on.
    pub fn attacked(&mut self, time: Duration, attack: Attack) -> Served {
        self.serve(time, Some(attack))
    }

    fn serve(&mut self, time: Duration, attack: Option<Attack>) -> Served {
        let (port, honest, pid) = (self.node.http_port(), self.honest.http_port(), self.node.pid());
        let apart = self.apart.http_port();
        let before = self.written.len();
        let done = &AtomicBool::new(false);
        thread::scope(|scope| {
            let prober = scope.spawn(|| probe(port, honest, pid, done));
            let writer = scope.spawn(|| write(port, before, done));
            let apart = scope.spawn(|| write(apart, before, done));
            let attacker = attack.map(|attack| scope.spawn(|| pursue(attack, done)));
            thread::sleep(time);
            done.store(true, Ordering::Relaxed);
            let mut served = prober.join().expect("a prober does not panic");
            let (write, written, failures) = writer.join().expect("a writer does not panic");
            served.write = write;
            served.failures.extend(failures);
            let (write_apart, _, failures) = apart.join().expect("a writer does not panic");
            served.write_apart = write_apart;
            served.failures.extend(failures.into_iter().map(|failure| format!("on the node apart: {failure}")));
            self.written.extend(written);
            if let Some(attacker) = attacker {
                attacker.join().expect("an attacker does not panic");
            }
            served
        })
    }

    /// Waits until the node and its peer have one chain that holds everything acknowledged once; else says what is wrong.
    pub fn judge(&mut self) -> Result<(), String> {
        if !self.node.is_running() || !self.honest.is_running() {
            return Err("a node has ended".to_owned());
        }
        let settled = wait::try_until(wait::SOON, || {
            let status = self.node.try_request(&Request::get("/status")).ok()?.json();
            (status["outbox"] == 0 && support::tip(&self.node) == support::tip(&self.honest)).then_some(())
        });
        if settled.is_none() {
            return Err("the honest peer does not follow".to_owned());
        }
        let audit = Audit::of(&support::blocks(&self.honest));
        let wrong = self.written.iter().filter(|entry| audit.count(entry) != 1).count();
        match wrong {
            0 => Ok(()),
            _ => Err(format!("{wrong} of {} acknowledged entries are not there once", self.written.len())),
        }
    }
}

/// Asks both nodes whether they live, again and again.
fn probe(port: u16, honest: u16, pid: u32, done: &AtomicBool) -> Served {
    let mut served = Served::default();
    while !done.load(Ordering::Relaxed) {
        match ask(port) {
            Ok(time) => served.livez.push(time),
            Err(error) => served.failures.push(format!("/livez: {error}")),
        }
        match ask(honest) {
            Ok(time) => served.beside.push(time),
            Err(error) => served.failures.push(format!("/livez of the honest peer: {error}")),
        }
        served.memory = served.memory.max(resident_bytes(pid));
        thread::sleep(REST);
    }
    served
}

/// Asks whether a node lives, as a load balancer does. Answers how many milliseconds that took.
fn ask(port: u16) -> std::io::Result<f64> {
    let begun = Instant::now();
    let mut connection = Connection::open(port)?;
    connection.set_timeout(PATIENCE)?;
    let answer = connection.send(&Request::get("/livez").header("Connection", "close"))?;
    match answer.status {
        200 => Ok(millis(begun)),
        status => Err(std::io::Error::other(format!("answered with {status}"))),
    }
}

/// Has entries mined one after the other on a connection that is kept, as an honest client does: it connects anew when that
/// was cut, and repeats what was not answered. Answers how many milliseconds each took in all, the entries, and what was
/// wrong.
fn write(port: u16, first: usize, done: &AtomicBool) -> (Vec<f64>, Vec<String>, Vec<String>) {
    let (mut times, mut written, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    let mut connection = None;
    while !done.load(Ordering::Relaxed) {
        let entry = format!("honest entry {}", first + written.len());
        let request = Request::post_json("/mineBlock", &format!(r#"{{"data":["{entry}"]}}"#));
        let request = request.header("Idempotency-Key", &entry);
        let begun = Instant::now();
        let answered = wait::try_until(PATIENCE, || {
            let open = connection.take().map_or_else(|| Connection::open(port), Ok);
            let answer = open.and_then(|mut open| {
                open.set_timeout(PATIENCE)?;
                let answer = open.send(&request)?;
                connection = Some(open);
                Ok(answer)
            });
            match answer {
                Ok(answer) if answer.status == 200 => return Some(()),
                Ok(answer) => {
                    failures.push(format!("a write was answered with {} after {:.0} ms", answer.status, millis(begun)))
                }
                Err(error) => failures.push(format!("a write: {error} after {:.0} ms", millis(begun))),
            }
            None
        });
        if answered.is_none() {
            failures.push("a write was never answered".to_owned());
            break;
        }
        times.push(millis(begun));
        written.push(entry);
        thread::sleep(REST);
    }
    (times, written, failures)
}

/// Attacks until it is over.
fn pursue(mut attack: Attack, done: &AtomicBool) {
    // Of this thread alone, as Linux has it. Where it is refused, the attacker is only stronger.
    let _ = rustix::process::nice(PRIORITY);
    while !done.load(Ordering::Relaxed) {
        if !attack() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// So much of something happened in this time, as words: what of it is worth naming.
pub fn weight(tally: &Arc<Tally>, seconds: f64) -> String {
    let per_second = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / seconds;
    let mut words = vec![format!("{:.0} connects", per_second(&tally.connects))];
    for (count, name) in [(&tally.sent, "sent"), (&tally.heard, "answered")] {
        let bytes = per_second(count);
        if bytes >= 1e6 {
            words.push(format!("{:.0} MB {name}", bytes / 1e6));
        } else if bytes >= 1e3 {
            words.push(format!("{:.0} KB {name}", bytes / 1e3));
        }
    }
    words.join(", ")
}

/// Asks a node for its tip without failing.
pub fn get(port: u16, path: &str) -> Option<serde_json::Value> {
    let answer = http::request(port, &Request::get(path)).ok().filter(|answer| answer.status == 200)?;
    serde_json::from_slice(&answer.body).ok()
}
