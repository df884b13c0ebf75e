//! How gossip grows: one block over random graphs.
//!
//! A round is the time of one hop. Theory: a random graph of degree `d` has a diameter of about `ln n / ln(d - 1)`, and a
//! link carries a block at most twice, or once with the answer that it has arrived.

use dolmen::ledger::outbox::Millis;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::native::Sizes;
use super::plan::{Plan, Write};
use super::world::World;

/// One hop, in milliseconds.
const HOP: Millis = 100;

/// What one block did.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub nodes: usize,
    pub links: usize,
    /// Hops until every node held the block.
    pub rounds: u64,
    /// Rounds that theory expects.
    pub theory: f64,
    /// All messages from the block's birth until silence.
    pub messages: u64,
    /// Most messages that one link carried.
    pub per_link: f64,
}

/// Spreads one block over a random graph.
pub fn spread(seed: u64, nodes: usize, degree: usize) -> Spread {
    let begin: Millis = 10_000;
    let plan = Plan {
        seed,
        natives: nodes,
        tutorials: 0,
        edges: graph(seed, nodes, degree),
        max_reorg: 1_000,
        latency: (HOP, HOP),
        jitter: 0,
        service: (0, 0),
        sizes: Sizes { batch: 4_000, queue: 256, tick: 2_000 },
        skews: vec![0; nodes],
        writes: vec![Write { at: begin, node: 0, entries: 1, keyed: false, lost_answer: false }],
        foreign: Vec::new(),
        crashes: Vec::new(),
        cuts: Vec::new(),
        resets: Vec::new(),
        fulls: Vec::new(),
        heal: begin + 60_000,
        patience: 1,
    };
    let mut world = World::new(plan, false);
    world.run_until(begin - 1);
    let links = world.conns.iter().filter(|conn| conn.whole).count();
    let before = world.stats.messages;
    let mut held = None;
    for round in 0..100 {
        // A little more than the hop: the first takes the way from the client.
        world.run_until(begin + round * HOP + HOP / 2);
        if held.is_none() && world.natives().all(|(_, native)| native.keeper().tip().height.0 == 1) {
            held = Some(round);
        }
        if held.is_some_and(|held| round > held + 5) {
            break;
        }
    }
    let messages = world.stats.messages - before;
    Spread {
        nodes,
        links,
        rounds: held.unwrap_or(u64::MAX),
        theory: (nodes as f64).ln() / (degree as f64 - 1.0).ln(),
        messages,
        per_link: messages as f64 / links as f64,
    }
}

/// A connected random graph: a ring of all nodes in random order, and as many random links as the degree wants.
fn graph(seed: u64, nodes: usize, degree: usize) -> Vec<(usize, usize)> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..nodes).collect();
    for at in (1..nodes).rev() {
        order.swap(at, rng.random_range(0..=at));
    }
    let mut edges: Vec<(usize, usize)> = (0..nodes).map(|at| (order[at], order[(at + 1) % nodes])).collect();
    let mut known: std::collections::BTreeSet<(usize, usize)> =
        edges.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect();
    while edges.len() < nodes * degree / 2 {
        let (a, b) = (rng.random_range(0..nodes), rng.random_range(0..nodes));
        if a != b && known.insert((a.min(b), a.max(b))) {
            edges.push((a, b));
        }
    }
    edges
}
