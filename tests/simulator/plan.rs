//! What happens in a run, as lists: a seed gives one plan, and shrinking a failure is leaving things out of it.

use dolmen::ledger::outbox::Millis;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::disk::Death;
use super::native::Sizes;

/// A client's wish.
#[derive(Clone, Debug)]
pub struct Write {
    pub at: Millis,
    pub node: usize,
    pub entries: usize,
    /// With an idempotency key, and so repeated until it is answered.
    pub keyed: bool,
    /// The first answer gets lost on its way to the client.
    pub lost_answer: bool,
}

/// How a node dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// Between two events.
    Now,
    /// In its next write.
    InWrite(Death),
}

/// A node dies and comes back.
#[derive(Clone, Debug)]
pub struct Crash {
    pub at: Millis,
    pub node: usize,
    pub how: How,
    pub down: Millis,
}

/// A set of nodes is cut off.
#[derive(Clone, Debug)]
pub struct Cut {
    pub at: Millis,
    pub lasts: Millis,
    pub side: Vec<usize>,
    /// Of 100 links across, how many break; the others wait.
    pub breaks: u32,
}

/// One link loses something, and so breaks.
#[derive(Clone, Debug)]
pub struct Reset {
    pub at: Millis,
    /// Which of the links that are open then.
    pub pick: usize,
}

/// A disk has no room for a while.
#[derive(Clone, Debug)]
pub struct Full {
    pub at: Millis,
    pub node: usize,
    pub lasts: Millis,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Slots below this are dolmen nodes, the others tutorial nodes.
    pub natives: usize,
    pub tutorials: usize,
    /// Who is told of whom with `--peer`.
    pub edges: Vec<(usize, usize)>,
    pub max_reorg: u64,
    /// Shortest and longest way of a message on a link, without jitter.
    pub latency: (Millis, Millis),
    /// A message takes up to this much longer.
    pub jitter: Millis,
    /// How long the chain actor takes for a message.
    pub service: (Millis, Millis),
    pub sizes: Sizes,
    /// By how much each node's clock is off.
    pub skews: Vec<i64>,
    pub writes: Vec<Write>,
    /// What users of tutorial nodes post there: (when, which).
    pub foreign: Vec<(Millis, usize)>,
    pub crashes: Vec<Crash>,
    pub cuts: Vec<Cut>,
    pub resets: Vec<Reset>,
    pub fulls: Vec<Full>,
    /// From here on nothing bad happens any more.
    pub heal: Millis,
    /// How long after that everything must be right.
    pub patience: Millis,
}

impl Plan {
    /// The plan of a seed; `natives` fixes the number of dolmen nodes.
    pub fn random(seed: u64, natives: Option<usize>) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed ^ 0x5eed);
        let natives = natives.unwrap_or_else(|| rng.random_range(2..=6));
        let tutorials = if rng.random_bool(0.35) { rng.random_range(1..=2) } else { 0 };
        let trusting = rng.random_bool(0.3);
        let edges = edges(natives, tutorials, trusting, rng);
        let heal: Millis = rng.random_range(8_000..=45_000);
        let slow = rng.random_bool(0.3);
        let low = if slow { rng.random_range(50..=400) } else { rng.random_range(1..=40) };
        let latency = (low, low * rng.random_range(1..=4));
        let many = rng.random_bool(0.1);
        let writes = if many { rng.random_range(150..=400) } else { rng.random_range(5..=60) };
        let keyed: f64 = rng.random_range(0.0..=1.0);
        let burst = rng.random_bool(0.4);
        let mut moments: Vec<Millis> = (0..6).map(|_| rng.random_range(0..heal)).collect();
        moments.push(500);
        let writes = (0..writes).map(|_| {
            let at = if burst && rng.random_bool(0.7) {
                moments[rng.random_range(0..moments.len())] + rng.random_range(0..=300)
            } else {
                rng.random_range(0..heal)
            };
            Write {
                at,
                node: rng.random_range(0..natives),
                entries: if rng.random_bool(0.9) { 1 } else { rng.random_range(2..=4) },
                keyed: rng.random_bool(keyed),
                lost_answer: rng.random_bool(0.15),
            }
        });
        let writes: Vec<Write> = writes.collect();
        let crashes = (0..rng.random_range(0..=6)).map(|_| Crash {
            at: rng.random_range(200..heal),
            node: rng.random_range(0..natives),
            how: match rng.random_range(0..3) {
                0 => How::Now,
                1 => How::InWrite(Death::BeforeWrite),
                _ => How::InWrite(Death::AfterWrite),
            },
            down: if rng.random_bool(0.7) { rng.random_range(100..=3_000) } else { rng.random_range(3_000..=20_000) },
        });
        let crashes = crashes.collect();
        let all = natives + tutorials;
        let cuts = (0..rng.random_range(0..=3)).map(|_| Cut {
            at: rng.random_range(0..heal),
            lasts: rng.random_range(300..=30_000),
            side: (0..all).filter(|_| rng.random_bool(0.5)).collect(),
            breaks: rng.random_range(0..=100),
        });
        let cuts = cuts.collect();
        let resets = (0..rng.random_range(0..=8))
            .map(|_| Reset { at: rng.random_range(0..heal), pick: rng.random_range(0..1_000) });
        let resets = resets.collect();
        let fulls = (0..usize::from(rng.random_bool(0.15))).map(|_| Full {
            at: rng.random_range(0..heal),
            node: rng.random_range(0..natives),
            lasts: rng.random_range(500..=8_000),
        });
        let fulls = fulls.collect();
        let foreign = (0..if tutorials > 0 { rng.random_range(0..=12) } else { 0 })
            .map(|_| (rng.random_range(0..heal), natives + rng.random_range(0..tutorials)));
        let foreign = foreign.collect();
        Self {
            seed,
            natives,
            tutorials,
            edges,
            max_reorg: if trusting { rng.random_range(1..=6) } else { 1_000 },
            latency,
            jitter: rng.random_range(0..=low),
            service: (1, rng.random_range(1..=30)),
            sizes: Sizes {
                batch: [1, 2, 5, 20, 4_000][rng.random_range(0..5)],
                queue: if rng.random_bool(0.25) { rng.random_range(12..=40) } else { 256 },
                tick: 200,
            },
            skews: (0..all).map(|_| rng.random_range(-600_000..=600_000)).collect(),
            writes,
            foreign,
            crashes,
            cuts,
            resets,
            fulls,
            heal,
            patience: 300_000,
        }
    }

    /// Every node is linked with every other and mines one entry at the same moment; nothing is random but the hashes.
    pub fn in_step(seed: u64, natives: usize) -> Self {
        let write = |node| Write { at: 5_000, node, entries: 1, keyed: false, lost_answer: false };
        Self {
            seed,
            natives,
            tutorials: 0,
            edges: (0..natives).flat_map(|a| (0..a).map(move |b| (a, b))).collect(),
            max_reorg: 1_000,
            latency: (10, 10),
            jitter: 0,
            service: (1, 1),
            sizes: Sizes { batch: 4_000, queue: 256, tick: 200 },
            skews: vec![0; natives],
            writes: (0..natives).map(write).collect(),
            foreign: Vec::new(),
            crashes: Vec::new(),
            cuts: Vec::new(),
            resets: Vec::new(),
            fulls: Vec::new(),
            heal: 5_100,
            patience: 60_000,
        }
    }

    /// Number of things in it that shrinking can leave out.
    pub fn size(&self) -> usize {
        self.writes.len()
            + self.foreign.len()
            + self.crashes.len()
            + self.cuts.len()
            + self.resets.len()
            + self.fulls.len()
    }
}

/// A connected graph. When nodes trust each other, everybody names all its neighbours, as an operator must.
fn edges(natives: usize, tutorials: usize, trusting: bool, rng: &mut StdRng) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    for node in 1..natives {
        edges.push((node, rng.random_range(0..node)));
    }
    for _ in 0..rng.random_range(0..=natives) {
        let (a, b) = (rng.random_range(0..natives), rng.random_range(0..natives));
        if a != b && !edges.contains(&(a, b)) {
            edges.push((a, b));
        }
    }
    if trusting {
        for (a, b) in edges.clone() {
            if !edges.contains(&(b, a)) {
                edges.push((b, a));
            }
        }
    }
    for tutorial in natives..natives + tutorials {
        edges.push((rng.random_range(0..natives), tutorial));
        if rng.random_bool(0.5) {
            edges.push((rng.random_range(0..natives), tutorial));
        }
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}
