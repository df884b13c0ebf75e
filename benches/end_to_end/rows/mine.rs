//! `POST /mineBlock` under load, with one native peer that follows.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::bare::{self, Bare};
use crate::client::post;
use crate::load::{self, Load, median};
use crate::process::Node;
use crate::report::{Bound, Report};
use crate::{Sizes, chain};

pub fn measure(sizes: &Sizes, report: &mut Report) {
    let time = Duration::from_secs_f64(sizes.load_seconds);
    for connections in [32, 256] {
        let mut rounds = Vec::new();
        for _ in 0..sizes.rounds {
            rounds.push(round(connections, time));
        }
        let of = |figure: fn(&Round) -> f64| median(&mut rounds.iter().map(figure).collect::<Vec<_>>());
        let work = |what: &str| format!("mineBlock, {connections} connections{what}");
        let (rate, group) = (of(|round| round.rate), of(|round| round.group));
        // A ceiling is the best that was seen: on a busy machine any one round may be far below it.
        let best = |figure: fn(&Round) -> f64| rounds.iter().map(figure).fold(0.0, f64::max);
        let (server, disk) = (best(|round| round.server), best(|round| round.disk));
        let beside = format!("groups of {group:.0}");
        if connections == 32 {
            report.target(&work(""), rate, "/s", Bound::AtLeast, 35_000.0, &beside);
            report.target(&work(", p99"), of(|round| round.slow), "ms", Bound::AtMost, 5.0, "");
            report.figure(&work(", of the bare server"), rate / server, "x", &of_rate(server));
        } else {
            report.figure(&work(""), rate, "/s", &beside);
            report.figure(&work(", p99"), of(|round| round.slow), "ms", "");
            let ratio = rate / server;
            report.target(&work(", of the bare server"), ratio, "x", Bound::AtLeast, 0.6, &of_rate(server));
        }
        report.figure(&work(", of the bare disk"), rate / disk, "x", &of_rate(disk));
        let beside = format!("and {:.1} µs of the peer", of(|round| round.processor.1));
        report.figure(&work(", processor for a block"), of(|round| round.processor.0), "µs", &beside);
        report.target(&work(", peer level after"), of(|round| round.level), "s", Bound::AtMost, 1.0, "");
    }
}

fn of_rate(rate: f64) -> String {
    format!("which does {rate:.0}/s")
}

struct Round {
    rate: f64,
    /// p99 in milliseconds.
    slow: f64,
    /// Blocks in a group.
    group: f64,
    /// Processor microseconds of the node and of its peer for a block.
    processor: (f64, f64),
    /// Seconds from the load's end until the peer is level.
    level: f64,
    /// Requests a second of the bare server.
    server: f64,
    /// Blocks a second of the bare log with groups of this size.
    disk: f64,
}

fn round(connections: usize, time: Duration) -> Round {
    let bare = Bare::start();
    let server = load::run(bare.http, connections, time, mine(0)).per_second();
    drop(bare);

    let (dir, peer_dir) = (chain::fresh(), chain::fresh());
    let node = Node::start(dir.path(), &[]);
    let peer = Node::start(peer_dir.path(), &[&node]);
    node.wait_linked(1);
    let before = (node.processor_seconds(), peer.processor_seconds());
    let load: Load = load::run(node.http, connections, time, mine(0));
    let ended = Instant::now();
    let height = node.height(&mut node.client());
    peer.wait_height(height, Duration::from_millis(5));
    let level = ended.elapsed().as_secs_f64();
    let each = |seconds: f64| seconds * 1e6 / load.requests as f64;
    let processor = (each(node.processor_seconds() - before.0), each(peer.processor_seconds() - before.1));
    node.stop();
    peer.stop();
    let (groups, bytes) = groups(dir.path());
    let group = load.requests as f64 / groups as f64;
    let record = bytes as f64 / load.requests as f64;
    let disk = bare::groups_per_second(group.round() as usize, record as usize, time / 3) * group;
    Round { rate: load.per_second(), slow: load.within(0.99), group, processor, level, server, disk }
}

/// Requests that mine an entry each.
pub fn mine(first: u64) -> impl FnMut(&mut Vec<u8>) {
    let mut number = first;
    move |text| {
        number += 1;
        text.extend_from_slice(&post("/mineBlock", &format!(r#"{{"data":["{}"]}}"#, chain::entry(number))));
    }
}

/// Groups in a log and their bytes, by the format at the head of the store's segments.
fn groups(dir: &Path) -> (usize, usize) {
    const HEADER: usize = 128;
    const GROUP_HEADER: usize = 36;
    let (mut groups, mut bytes) = (0, 0);
    for segment in std::fs::read_dir(dir.join("log")).expect("a log") {
        let text = std::fs::read(segment.expect("a segment").path()).expect("readable");
        let mut at = HEADER;
        while let Some(length) = text.get(at + 8..at + 12).and_then(|length| length.try_into().ok()) {
            // Each group begins with the salt of its segment: a changed format must not pass for a figure.
            assert_eq!(text[at..at + 8], text[16..24], "the log's format is not the one that is read here");
            at += GROUP_HEADER + u32::from_le_bytes(length) as usize;
            groups += 1;
        }
        bytes += text.len() - HEADER;
    }
    (groups, bytes)
}
