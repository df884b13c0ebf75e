//! How fast the store is on this machine. Not a test: run it by hand, alone, on the disk that matters.
//!
//! `cargo test --release --test store_figures -- --ignored --nocapture`; `STORE_DIR` is where, `STORE_BLOCKS` how many.

#[path = "store/blocks.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod blocks;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dolmen::ledger::block::{Height, SharedBlock};
use dolmen::ledger::genesis;
use dolmen::ledger::storage::{Batch, Storage, TipChange};
use dolmen::store::{Options, RealDisk, Store};

use blocks::{branch, extend, follow, ours};

fn dir(name: &str) -> PathBuf {
    let base = std::env::var_os("STORE_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("dolmen-figures-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

fn blocks_wanted() -> usize {
    std::env::var("STORE_BLOCKS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

fn open(dir: &Path) -> Store {
    let began = Instant::now();
    let (store, report) = Store::open(dir, Arc::new(RealDisk), Options::default()).expect("opens");
    println!(
        "  open {:>8.1} ms, {} groups replayed{}",
        began.elapsed().as_secs_f64() * 1e3,
        report.replayed,
        report.rebuilt.map(|why| format!(", because {why}")).unwrap_or_default()
    );
    store
}

fn say(what: &str, count: usize, began: Instant) {
    let took = began.elapsed().max(Duration::from_nanos(1));
    println!("  {what:<44} {:>12.0} /s  ({took:.1?}, {} MB resident)", count as f64 / took.as_secs_f64(), resident());
}

/// Memory of this process in megabytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or_default() / 1024
}

/// Blocks of about 253 bytes of JSON in pieces, made beforehand.
fn pieces(count: usize) -> Vec<Vec<SharedBlock>> {
    let all = branch(genesis::tip(), count, "an entry of a usual length");
    all.chunks(1000).map(<[_]>::to_vec).collect()
}

#[test]
#[ignore = "a measurement"]
fn commits() {
    let dir = dir("commits");
    let mut store = open(&dir);
    for (size, groups) in [(1, 20_000), (32, 5_000), (1000, 300)] {
        let blocks = branch(store.tip(), size * groups, &format!("group {size}"));
        let began = Instant::now();
        for group in blocks.chunks(size) {
            store.commit(&extend(store.tip(), group)).expect("commits");
        }
        say(&format!("blocks in groups of {size}"), blocks.len(), began);
    }
    let blocks = branch(store.tip(), 32 * 5000, "own");
    let began = Instant::now();
    for group in blocks.chunks(32) {
        let group = group.iter().map(|block| {
            let mut key = [0; 32];
            key.copy_from_slice(&block.hash().0);
            key.reverse();
            ours(block, Some(key))
        });
        store.commit(&follow(store.tip(), group.collect())).expect("commits");
    }
    say("own blocks with keys in groups of 32", blocks.len(), began);
    for depth in [1, 1000] {
        let fork = Height(store.tip().height.0 - depth);
        let fork =
            dolmen::ledger::block::Tip { height: fork, hash: store.hash_at(fork).expect("reads").expect("there") };
        let blocks = branch(fork, depth as usize + 1, "reorg");
        let began = Instant::now();
        store.commit(&extend(fork, &blocks)).expect("commits");
        say(&format!("a reorg of {depth}"), 1, began);
    }
    println!("  {:?}", store.sizes());
    drop(store);
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
#[ignore = "a measurement"]
fn bulk() {
    let count = blocks_wanted();
    let dir = dir("bulk");
    let mut store = open(&dir);
    let pieces = pieces(count);
    println!("  {} MB resident with {count} blocks in memory", resident());

    let began = Instant::now();
    let mut staging = store.stage(genesis::tip()).expect("stages");
    for piece in &pieces {
        store.stage_append(&mut staging, piece).expect("stages");
    }
    say("staged, pieces of 1000", count, began);
    let tip = pieces[pieces.len() - 1][pieces[pieces.len() - 1].len() - 1].tip();
    let change = TipChange { fork: genesis::tip(), revived: vec![], tip };
    let adopting = Instant::now();
    store.adopt(staging, &Batch { change: Some(change), ..Batch::default() }).expect("adopts");
    println!("  adopted in {:.1?}", adopting.elapsed());
    say("staged and adopted", count, began);
    let hashes: Vec<_> = pieces.iter().flatten().map(|block| block.hash()).collect();
    drop(pieces);
    println!("  {} MB resident", resident());

    let began = Instant::now();
    store.close().expect("closes");
    println!("  closed in {:.1?}", began.elapsed());
    println!("after a clean close:");
    let mut store = open(&dir);
    println!("  {:?}", store.sizes());

    reads(&store, &hashes);

    println!("after a kill:");
    let more = branch(store.tip(), 30_000, "unindexed");
    for group in more.chunks(32) {
        store.commit(&extend(store.tip(), group)).expect("commits");
    }
    drop(store);
    let store = open(&dir);
    drop(store);

    println!("without anything derived:");
    let _ = std::fs::remove_dir_all(dir.join("index"));
    let store = open(&dir);
    let began = Instant::now();
    store.close().expect("closes");
    println!("  closed in {:.1?}", began.elapsed());
    drop(open(&dir));
    let _ = std::fs::remove_dir_all(dir);
}

fn reads(store: &Store, hashes: &[dolmen::ledger::hash::BlockHash]) {
    let snapshot = store.snapshot();
    for (what, bytes) in [("chunks of 64 KiB", 64 << 10), ("chunks of 1 MiB", 1 << 20)] {
        let began = Instant::now();
        let mut at = Height(0);
        let mut count = 0;
        loop {
            let chunk = snapshot.blocks(at, usize::MAX, bytes).expect("reads");
            let Some(last) = chunk.last() else { break };
            count += chunk.len();
            at = last.height().next();
        }
        say(&format!("blocks in sequence, {what}"), count, began);
    }
    let some: Vec<_> = hashes.iter().step_by((hashes.len() / 100_000).max(1)).rev().collect();
    let began = Instant::now();
    for hash in &some {
        assert!(store.height_of(hash).expect("reads").is_some());
    }
    say("heights by hash", some.len(), began);
    let began = Instant::now();
    for hash in &some {
        assert!(store.block(hash).expect("reads").is_some());
    }
    say("blocks by hash", some.len(), began);
    let began = Instant::now();
    for hash in &some {
        let mut hash = **hash;
        hash.0[31] ^= 1;
        hash.0[0] ^= 1;
        assert!(store.height_of(&hash).expect("reads").is_none());
    }
    say("unknown hashes", some.len(), began);
    let began = Instant::now();
    for at in 0..some.len() as u64 {
        let height = Height(at * 7919 % store.tip().height.0);
        assert!(snapshot.block_at(height).expect("reads").is_some());
    }
    say("blocks by height, anywhere", some.len(), began);
}
