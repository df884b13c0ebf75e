//! One node, one honest peer that it is linked with, and strangers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::bounds::MAX_GROWTH;
use super::stranger::Stranger;
use super::support::audit::Audit;
use super::support::{self, NodeOptions, NodeProcess, http, wait};

/// An answer to `/livez` never takes longer, on a machine that other tests load at the same time.
const MAX_ANSWER: Duration = Duration::from_secs(5);

/// What must become of the attacker.
pub enum Fate {
    /// The link is ended, and a line of the log says that the attacker was dropped, and holds this.
    Dropped(&'static str),
    /// The link is ended, and nobody is blamed.
    Ended,
    /// The link stays and works.
    Kept,
    /// This status; 0 is an end without an answer.
    Answered(u16),
}

/// Something hostile, and what must come of it.
pub struct Case {
    /// What is done, in a few words.
    pub name: &'static str,
    /// Does it, and leaves the link to be judged.
    pub attack: fn(&Arena) -> Stranger,
    /// What must become of the link.
    pub fate: Fate,
}

/// The place.
pub struct Arena {
    pub node: NodeProcess,
    honest: NodeProcess,
    /// Entries that were acknowledged, each a block of its own.
    written: Mutex<Vec<String>>,
    /// Blocks that were there before the first entry.
    begun: u64,
    /// Bytes of memory that the node had then; zero before that was looked at.
    memory: u64,
    watch: Option<Watch>,
}

/// Addresses that strangers have had, over all arenas.
static STRANGERS: AtomicU32 = AtomicU32::new(0);

/// A loopback address that no stranger had before.
pub fn address() -> Ipv4Addr {
    let number = STRANGERS.fetch_add(1, Ordering::Relaxed);
    let [_, a, b, c] = (number + 256).to_be_bytes();
    Ipv4Addr::new(127, a, b, c)
}

impl Arena {
    /// A node and an honest peer, in step.
    pub fn new() -> Self {
        Self::with(NodeOptions::new())
    }

    /// With a node that is started in a certain way.
    pub fn with(options: NodeOptions) -> Self {
        let node = NodeProcess::start(options.arg("--log").arg("info,dolmen=debug"));
        let honest = NodeProcess::start(NodeOptions::new().peer(&node.p2p_url()));
        let watch = Some(Watch::start(node.http_port()));
        let begun = support::tip(&node).0;
        let mut arena = Self { node, honest, written: Mutex::default(), begun, memory: 0, watch };
        arena.in_step("the beginning");
        arena.memory = arena.node.resident_bytes();
        arena
    }

    /// Waits for a line of the log that says that the stranger of this address was dropped, and why.
    pub fn says_of(&self, address: IpAddr, why: &str) {
        let said =
            |line: &str| line.contains(&address.to_string()) && line.contains("peer dropped") && line.contains(why);
        wait::until(wait::SOON, format!("{address} to be dropped: {why:?} in the log"), || {
            self.node.log().lines().any(said).then_some(())
        });
    }

    /// Waits for something in the log.
    pub fn says(&self, what: &str) {
        wait::until(wait::SOON, format!("{what:?} in the log"), || self.node.log().contains(what).then_some(()));
    }

    /// Whether the log says that the stranger of this address was dropped.
    pub fn is_blamed(&self, address: IpAddr) -> bool {
        let address = address.to_string();
        self.node.log().lines().any(|line| line.contains(&address) && line.contains("peer dropped"))
    }

    /// A stranger's link.
    pub fn link(&self) -> Stranger {
        Stranger::link(self.node.p2p_port(), address())
    }

    /// A stranger's link on which the first message was a good one.
    pub fn known(&self) -> Stranger {
        let mut stranger = self.link();
        stranger.text(r#"{"type":0,"data":null}"#);
        stranger
    }

    /// A stranger's link that has said HELLO.
    pub fn native(&self) -> Stranger {
        Stranger::native(self.node.p2p_port(), address(), (0, super::stranger::GENESIS))
    }

    /// A stranger's connection to the HTTP port, on which this was sent.
    pub fn http(&self, bytes: &[u8]) -> Stranger {
        let mut stranger = Stranger::connect(self.node.http_port(), address());
        stranger.send(bytes);
        stranger
    }

    /// Runs the cases one after the other, then looks whether everything that was acknowledged is there.
    pub fn run(mut self, cases: &[Case]) {
        for Case { name, attack, fate } in cases {
            let mut stranger = attack(&self);
            self.judge(name, &mut stranger, fate);
            self.in_step(name);
        }
        self.finish();
    }

    fn judge(&self, name: &str, stranger: &mut Stranger, fate: &Fate) {
        match fate {
            Fate::Dropped(why) => {
                assert!(stranger.is_ended(), "{name}: the link stays");
                self.says_of(stranger.address(), why);
            }
            Fate::Kept => assert!(stranger.is_heard(), "{name}: the link is ended"),
            Fate::Ended => {
                assert!(stranger.is_ended(), "{name}: the link stays");
                assert!(!self.is_blamed(stranger.address()), "{name}: the peer is blamed");
            }
            Fate::Answered(wanted) => {
                let status = stranger.status();
                let heard = String::from_utf8_lossy(&stranger.heard()[..stranger.heard().len().min(500)]).into_owned();
                assert_eq!(status, *wanted, "{name}: {heard}");
            }
        }
    }

    /// The node serves, is no larger than it may be, and mines; the honest peer follows.
    pub fn in_step(&self, name: &str) {
        let (slowest, failed) = self.watch.as_ref().expect("until the end").look();
        assert!(!failed, "{name}: /livez did not answer");
        assert!(slowest < MAX_ANSWER, "{name}: /livez took {slowest:?}");
        let grown = self.node.resident_bytes().saturating_sub(self.memory);
        assert!(self.memory == 0 || grown <= MAX_GROWTH, "{name}: {} MiB more memory", grown >> 20);
        let mut written = self.written.lock().expect("no thread panics with it");
        assert_eq!(support::tip(&self.node).0, self.begun + written.len() as u64, "{name}: the chain was changed");
        let entry = format!("after {}: {name}", written.len());
        support::mine(&self.node, &entry);
        written.push(entry);
        support::wait_equal(&[&self.node, &self.honest]);
    }

    /// Nothing that was acknowledged is missing, on the node and on the peer.
    pub fn finish(&mut self) {
        drop(self.watch.take());
        let written = self.written.lock().expect("no thread panics with it");
        for node in [&self.node, &self.honest] {
            Audit::of(&support::blocks(node)).assert_once(written.iter());
        }
        assert!(self.node.is_running() && !self.node.log().contains("panicked"));
    }
}

/// Asks `/livez` again and again.
struct Watch {
    seen: Arc<Mutex<(Duration, bool)>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(port: u16) -> Self {
        let seen = Arc::new(Mutex::new((Duration::ZERO, false)));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let answer = http::request(port, &http::Request::get("/livez"));
                let good = answer.is_ok_and(|answer| answer.status == 200);
                let mut seen = theirs.lock().expect("no thread panics with it");
                *seen = (seen.0.max(begun.elapsed()), seen.1 || !good);
                drop(seen);
                thread::sleep(Duration::from_millis(10));
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// The slowest answer since the last look, and whether one did not come.
    fn look(&self) -> (Duration, bool) {
        std::mem::take(&mut *self.seen.lock().expect("no thread panics with it"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
