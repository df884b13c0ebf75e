//! What one more block costs on chains of different lengths.

use crate::load::median;
use crate::process::Node;
use crate::report::{Bound, Growth, Report};
use crate::{Sizes, chain};

/// Times that each chain has its turn: the chains share a machine whose speed drifts.
const TURNS: usize = 9;

/// Blocks of a turn.
const BLOCKS: u64 = 150;

struct Chain {
    blocks: u64,
    node: Node,
    _dir: tempfile::TempDir,
    latencies: Vec<f64>,
    processor: Vec<f64>,
}

pub fn measure(sizes: &Sizes, report: &mut Report) {
    let lengths = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    let start = |blocks| {
        let dir = chain::dir_without_copy(blocks);
        let node = Node::start(dir.path(), &[]);
        Chain { blocks, node, _dir: dir, latencies: Vec::new(), processor: Vec::new() }
    };
    let mut chains: Vec<Chain> = lengths.into_iter().filter(|blocks| *blocks <= sizes.longest).map(start).collect();
    for turn in 0..TURNS {
        for chain in &mut chains {
            chain.turn(turn as u64);
        }
    }
    for chain in &chains {
        // The turn that others disturbed least: of what a busy machine adds, none is the chain's.
        let least = |list: &[f64]| list.iter().copied().fold(f64::INFINITY, f64::min);
        let (latency, processor) = (least(&chain.latencies), least(&chain.processor));
        let beside = format!("{processor:.0} µs of processor, {:.0} MiB resident", chain.node.resident());
        report.figure(&format!("one more block at {}", chain.blocks), latency, "ms", &beside);
        report.growth.push(Growth { blocks: chain.blocks, latency, processor });
    }
    if let (Some(first), Some(last)) = (report.growth.first(), report.growth.last()) {
        let (latency, processor) = (last.latency / first.latency, last.processor / first.processor);
        let work = format!("one more block at {} against at {}", last.blocks, first.blocks);
        report.target(&format!("{work}, latency"), latency, "x", Bound::AtMost, 1.2, "");
        report.target(&format!("{work}, processor"), processor, "x", Bound::AtMost, 1.2, "");
    }
}

impl Chain {
    fn turn(&mut self, turn: u64) {
        let mut client = self.node.client();
        let before = self.node.processor_seconds();
        let mut latencies = Vec::new();
        for number in 0..BLOCKS {
            let body = format!(r#"{{"data":["{}"]}}"#, chain::entry(turn * BLOCKS + number));
            let begun = std::time::Instant::now();
            assert_eq!(client.post("/mineBlock", &body).status, 200);
            latencies.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        self.processor.push((self.node.processor_seconds() - before) / BLOCKS as f64 * 1e6);
        self.latencies.push(median(&mut latencies));
    }
}
