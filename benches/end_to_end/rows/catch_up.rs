//! A node with nothing catches up with a native peer that has a long chain.

use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use dolmen::ledger::{UnixTime, genesis};
use dolmen::peer::native::{self, Blocks, Frame};
use tempfile::TempDir;

use crate::load::median;
use crate::process::Node;
use crate::report::{Bound, Report};
use crate::{Sizes, chain, fetcher};

/// What a node may occupy, in MiB.
pub const MEMORY: f64 = 64.0;

/// Blocks of a batch as the ceilings see it.
const BATCH: u64 = 4_000;

pub fn measure(sizes: &Sizes, report: &mut Report) {
    let blocks = sizes.long;
    let dir = chain::dir(blocks);
    let rounds: Vec<Round> = (0..sizes.rounds).map(|_| round(&dir, blocks)).collect();
    let of = |figure: fn(&Round) -> f64| median(&mut rounds.iter().map(figure).collect::<Vec<_>>());
    let millions = blocks as f64 / 1e6;
    let work = |what: &str| format!("catch up {blocks}{what}");
    // A ceiling is the best that was seen: on a busy machine any one round may be far below it.
    let best = |figure: fn(&Round) -> f64| rounds.iter().map(figure).fold(0.0, f64::max);
    let (seconds, verify, log) = (of(|round| round.seconds), best(|round| round.verify), best(|round| round.log));
    report.target(&work(""), seconds, "s", Bound::AtMost, 2.0 * millions, "dial to level tip");
    let ratio = of(|round| round.rate) / verify.min(log);
    let beside = format!("verify {verify:.0}/s on two threads with nothing beside them, log {log:.0}/s");
    report.target(&work(", of the slower ceiling"), ratio, "x", Bound::AtLeast, 0.5, &beside);
    let bare = best(|round| round.bare);
    let beside = format!("{bare:.0}/s fetched from the same peer and verified on two threads; nothing is written");
    report.target(&work(", of a bare fetcher"), of(|round| round.rate) / bare, "x", Bound::AtLeast, 0.5, &beside);
    let alone = best(|round| round.verify_alone);
    let beside = format!("{alone:.0}/s: the other core serves and writes meanwhile");
    report.figure(&work(", of what one core verifies"), of(|round| round.rate) / alone, "x", &beside);
    report.figure(&work(", processor of the fetching node"), of(|round| round.processor), "s", "");
    report.figure(&work(", processor of the serving node"), of(|round| round.serving), "s", "");
    for (name, now, peak) in [
        ("the fetching node", of(|round| round.memory.0), of(|round| round.memory.1)),
        ("the serving node", of(|round| round.memory.2), of(|round| round.memory.3)),
    ] {
        let work = work(&format!(", resident memory of {name}"));
        report.target(&work, now, "MiB", Bound::AtMost, MEMORY, &format!("peak {peak:.0}"));
    }
    if sizes.longest > sizes.long {
        longest(sizes.longest, report);
    }
}

/// Once more with the longest chain, for memory.
fn longest(blocks: u64, report: &mut Report) {
    let dir = chain::dir_without_copy(blocks);
    let Fetched { seconds, memory, .. } = fetch(&dir, blocks);
    let work = |what: &str| format!("catch up {blocks}{what}");
    report.figure(&work(""), seconds, "s", "dial to level tip");
    for (name, now, peak) in [("the fetching node", memory.0, memory.1), ("the serving node", memory.2, memory.3)] {
        let work = work(&format!(", resident memory of {name}"));
        report.target(&work, now, "MiB", Bound::AtMost, MEMORY, &format!("peak {peak:.0}"));
    }
}

struct Round {
    seconds: f64,
    rate: f64,
    /// On both cores.
    verify: f64,
    /// On one of them.
    verify_alone: f64,
    log: f64,
    /// By a bare fetcher.
    bare: f64,
    processor: f64,
    serving: f64,
    memory: (f64, f64, f64, f64),
}

fn round(dir: &TempDir, blocks: u64) -> Round {
    let (verify, verify_alone, log) = ceilings(blocks.min(1_000_000));
    let bare = fetcher::fetched_per_second(&Node::start(dir.path(), &[]), blocks);
    let Fetched { seconds, processor, serving, memory } = fetch(dir, blocks);
    Round { seconds, rate: blocks as f64 / seconds, verify, verify_alone, log, bare, processor, serving, memory }
}

struct Fetched {
    seconds: f64,
    processor: f64,
    serving: f64,
    memory: (f64, f64, f64, f64),
}

fn fetch(dir: &TempDir, blocks: u64) -> Fetched {
    let empty = chain::fresh();
    let server = Node::start(dir.path(), &[]);
    let node = Node::start(empty.path(), &[]);
    let before = (node.processor_seconds(), server.processor_seconds());
    let begun = Instant::now();
    node.add_peer(&server.url());
    node.wait_height(blocks, Duration::from_millis(4));
    let seconds = begun.elapsed().as_secs_f64();
    let processor = node.processor_seconds() - before.0;
    let serving = server.processor_seconds() - before.1;
    let memory = (node.resident(), node.peak(), server.resident(), server.peak());
    Fetched { seconds, processor, serving, memory }
}

/// Blocks per second that both cores and that one core verify from frames, and that a bare log takes in groups of a batch.
fn ceilings(blocks: u64) -> (f64, f64, f64) {
    let batch = chain::blocks(BATCH);
    let frame = native::encode(&Frame::Batch(Blocks { after: genesis::tip(), blocks: batch.clone() }));
    let rounds = (blocks / BATCH).max(2);
    let verify = verified_per_second(&frame, 2, rounds / 2);
    let verify_alone = verified_per_second(&frame, 1, rounds / 2);

    let dir = chain::fresh();
    let file = std::fs::File::create(dir.path().join("log")).expect("room");
    let group = vec![7; crate::bare::RECORD * BATCH as usize];
    let begun = Instant::now();
    for number in 0..rounds {
        file.write_all_at(&group, number * group.len() as u64).expect("room");
        file.sync_data().expect("a disk that works");
    }
    let log = (rounds * BATCH) as f64 / begun.elapsed().as_secs_f64();
    (verify, verify_alone, log)
}

/// Blocks per second when so many threads each verify a batch so many times.
fn verified_per_second(frame: &[u8], threads: u64, rounds: u64) -> f64 {
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..rounds {
                    let read = native::decode(frame, UnixTime(u64::MAX >> 12)).expect("a good frame");
                    std::hint::black_box::<&Frame>(&read);
                }
            });
        }
    });
    (threads * rounds * BATCH) as f64 / begun.elapsed().as_secs_f64()
}
