//! A node with nothing catches up with a native peer that has a long chain.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use dolmen::ledger::{SharedBlock, UnixTime, genesis, json};
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
    let best = |figure: fn(&Ceilings) -> f64| rounds.iter().map(|round| figure(&round.ceilings)).fold(0.0, f64::max);
    let (seconds, rate) = (of(|round| round.seconds), of(|round| round.rate));
    let (verify, log) = (best(|it| it.verify), best(|it| it.log));
    report.target(&work(""), seconds, "s", Bound::AtMost, 2.0 * millions, "dial to level tip");
    let beside = format!("a plain log takes {log:.0}/s, two threads verify {verify:.0}/s");
    report.target(&work(", of the slower ceiling"), rate / verify.min(log), "x", Bound::AtLeast, 0.5, &beside);
    let bare = best(|it| it.fetch);
    let beside = format!("{bare:.0}/s fetched from the same peer and verified on two threads; nothing is written");
    report.figure(&work(", of a bare fetcher"), rate / bare, "x", &beside);
    let alone = best(|it| it.verify_alone);
    let beside = format!("{alone:.0}/s: the other core serves and writes meanwhile");
    report.figure(&work(", of what one core verifies"), rate / alone, "x", &beside);
    let beside = "with nothing beside them: no peer serves, and nothing is written";
    report.figure(&work(", of what two cores verify"), rate / verify, "x", beside);
    let disk = best(|it| it.disk);
    let beside = format!("{disk:.0}/s: the same bytes again and again, synced for each batch");
    report.figure(&work(", of the bare disk"), rate / disk, "x", &beside);
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
    ceilings: Ceilings,
    processor: f64,
    serving: f64,
    memory: (f64, f64, f64, f64),
}

/// Blocks per second.
struct Ceilings {
    /// Verified from frames on both cores.
    verify: f64,
    /// On one of them.
    verify_alone: f64,
    /// Appended to a plain log.
    log: f64,
    /// As long as the node's records, appended without a look at them.
    disk: f64,
    /// Fetched and verified, and no more.
    fetch: f64,
}

fn round(dir: &TempDir, blocks: u64) -> Round {
    let ceilings = ceilings(dir, blocks);
    let Fetched { seconds, processor, serving, memory } = fetch(dir, blocks);
    Round { seconds, rate: blocks as f64 / seconds, ceilings, processor, serving, memory }
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

fn ceilings(dir: &TempDir, blocks: u64) -> Ceilings {
    let batch = chain::blocks(BATCH);
    let frame = native::encode(&Frame::Batch(Blocks { after: genesis::tip(), blocks: batch.clone() }));
    let rounds = (blocks.min(1_000_000) / BATCH).max(2);
    Ceilings {
        verify: verified_per_second(&frame, 2, rounds / 2),
        verify_alone: verified_per_second(&frame, 1, rounds / 2),
        log: logged_per_second(&batch, rounds),
        disk: appended_per_second(rounds),
        fetch: fetcher::fetched_per_second(&Node::start(dir.path(), &[]), blocks),
    }
}

/// Blocks per second that the simplest log takes which could hold a chain: each block as JSON behind its length and a
/// checksum, every batch synced, and a map in memory of where each block stands.
fn logged_per_second(batch: &[SharedBlock], rounds: u64) -> f64 {
    let dir = chain::fresh();
    let file = std::fs::File::create(dir.path().join("log")).expect("room");
    let (mut places, mut end, mut group) = (HashMap::new(), 0, Vec::new());
    let begun = Instant::now();
    for round in 0..rounds {
        group.clear();
        for block in batch {
            let text = json::to_string(block.block());
            // Another hash in each round, as it would be on a chain.
            let mut hash = block.hash().0;
            hash[..8].iter_mut().zip(round.to_le_bytes()).for_each(|(byte, other)| *byte ^= other);
            places.insert(hash, end + group.len() as u64);
            group.extend_from_slice(&(text.len() as u32).to_le_bytes());
            group.extend_from_slice(&crc32fast::hash(text.as_bytes()).to_le_bytes());
            group.extend_from_slice(text.as_bytes());
        }
        file.write_all_at(&group, end).expect("room");
        file.sync_data().expect("a disk that works");
        end += group.len() as u64;
    }
    let blocks = rounds * BATCH;
    assert_eq!(places.len() as u64, blocks);
    blocks as f64 / begun.elapsed().as_secs_f64()
}

/// Blocks per second that a file takes in groups of a batch.
fn appended_per_second(rounds: u64) -> f64 {
    let dir = chain::fresh();
    let file = std::fs::File::create(dir.path().join("log")).expect("room");
    let group = vec![7; crate::bare::RECORD * BATCH as usize];
    let begun = Instant::now();
    for number in 0..rounds {
        file.write_all_at(&group, number * group.len() as u64).expect("room");
        file.sync_data().expect("a disk that works");
    }
    (rounds * BATCH) as f64 / begun.elapsed().as_secs_f64()
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
