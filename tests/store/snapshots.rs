//! Snapshots stay as they are, whatever the writer does meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dolmen::ledger::block::{Block, BlockView, Height, SharedBlock, Tip};
use dolmen::ledger::genesis;
use dolmen::ledger::hash::BlockHash;
use dolmen::ledger::storage::{Storage, StorageError};
use dolmen::store::{Options, Reader, RealDisk, Snapshot, Store};
use rand::RngExt;

use crate::blocks::{branch, extend};
use crate::model::{open, small};
use crate::scenario::{Scenario, seeds};
use crate::sim_disk::SimDisk;

fn same(snapshot: &Snapshot, chain: &[SharedBlock], known: &[BlockHash], what: &str) {
    assert_eq!(snapshot.tip(), chain[chain.len() - 1].tip(), "{what}");
    let all = snapshot.blocks(Height(0), usize::MAX, usize::MAX).expect("reads");
    assert!(all == chain, "{what}: the blocks in sequence");
    let mut shown = Vec::new();
    let mut show = |hash, block: BlockView<'_>| {
        let body = block.body.iter().map(ToString::to_string).collect();
        shown.push((hash, Block { header: block.header, body }));
    };
    snapshot.views(Height(1), usize::MAX, usize::MAX, &mut show).expect("reads");
    snapshot.views(Height(0), 1, usize::MAX, &mut show).expect("reads");
    shown.rotate_right(1);
    let whole =
        shown.iter().zip(chain).all(|((hash, block), wanted)| *hash == wanted.hash() && block == wanted.block());
    assert!(whole && shown.len() == chain.len(), "{what}: the blocks shown");
    let hashes: Vec<BlockHash> = chain.iter().map(|block| block.hash()).collect();
    assert_eq!(snapshot.hashes(Height(0), usize::MAX).expect("reads"), hashes, "{what}");
    assert_eq!(snapshot.hashes(Height(chain.len() as u64), 3).expect("reads"), [], "{what}");
    for block in chain {
        assert_eq!(snapshot.height_of(&block.hash()).expect("reads"), Some(block.height()), "{what}");
        let found = snapshot.block(&block.hash()).expect("reads");
        assert_eq!(found, Some((block.clone(), Some(block.height()))), "{what}");
    }
    for hash in known.iter().filter(|hash| !hashes.contains(hash)) {
        assert_eq!(snapshot.height_of(hash).expect("reads"), None, "{what}");
        assert!(snapshot.block(hash).expect("reads").is_none_or(|(_, height)| height.is_none()), "{what}");
    }
}

#[test]
fn a_snapshot_outlives_reorgs_and_checkpoints() {
    for seed in seeds(if cfg!(debug_assertions) { 20 } else { 200 }) {
        let disk = SimDisk::default();
        let mut scenario = Scenario::new(seed);
        let (mut store, _) = open(&disk, &small(seed));
        let mut taken: Vec<(usize, Snapshot, Vec<SharedBlock>)> = Vec::new();
        for step in 0..40 {
            let op = scenario.op();
            op.ask(&mut store).expect("does as asked");
            scenario.accept(&op);
            if scenario.rng.random_bool(0.3) {
                taken.push((step, store.snapshot(), scenario.model.chain().to_vec()));
            }
            if taken.len() > 4 {
                taken.remove(scenario.rng.random_range(0..4));
            }
            for (then, snapshot, chain) in &taken {
                same(snapshot, chain, &scenario.known, &format!("seed {seed}: of step {then} at step {step}"));
            }
        }
    }
}

#[test]
fn chunks_end_where_they_should() {
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk, &small(3));
    let blocks = branch(genesis::tip(), 40, "a");
    for group in blocks.chunks(3) {
        store.commit(&extend(store.tip(), group)).expect("commits");
    }
    let snapshot = store.snapshot();
    let all: Vec<SharedBlock> = std::iter::once(genesis::block()).chain(blocks).collect();
    for max_bytes in [0, 1, 100, 250, 1000, 10_000] {
        for max_blocks in [1, 2, 7, 100] {
            let mut read = Vec::new();
            loop {
                let chunk = snapshot.blocks(Height(read.len() as u64), max_blocks, max_bytes).expect("reads");
                if chunk.is_empty() {
                    break;
                }
                assert!(chunk.len() <= max_blocks);
                let bytes: usize = chunk.iter().map(|block| block.block().body_bytes()).sum();
                assert!(chunk.len() == 1 || bytes <= max_bytes, "{bytes} of {max_bytes} bytes");
                read.extend(chunk);
            }
            assert!(read == all, "{max_blocks} blocks, {max_bytes} bytes");
        }
    }
    assert_eq!(snapshot.blocks(Height(0), 0, 1000).expect("reads").len(), 0, "no blocks wanted");
    assert_eq!(snapshot.blocks(Height(41), 9, 1000).expect("reads").len(), 0, "above the tip");
    assert_eq!(snapshot.blocks(Height(u64::MAX), 9, 1000).expect("reads").len(), 0, "far above the tip");
    assert_eq!(snapshot.block_at(Height(u64::MAX)).expect("reads"), None);
}

#[test]
fn readers_of_a_closed_store_are_told() {
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk, &small(3));
    let blocks = branch(genesis::tip(), 4, "a");
    store.commit(&extend(store.tip(), &blocks)).expect("commits");
    let snapshot = store.snapshot();
    store.close().expect("closes");
    let late = snapshot.block_at(Height(1));
    assert!(matches!(&late, Err(StorageError::Failed(why)) if &**why == "the store was closed"), "{late:?}");
}

/// Reads a snapshot in one of several ways and checks that it hangs together from genesis to its tip.
fn hangs_together(snapshot: &Snapshot, way: u64) {
    let tip = snapshot.tip();
    let mut last: Option<Tip> = None;
    let mut at = Height(0);
    while at <= tip.height {
        let blocks = match way % 3 {
            0 => snapshot.blocks(at, 50, 1 << 20).expect("reads"),
            1 => snapshot.block_at(at).expect("reads").into_iter().collect(),
            _ => {
                let hashes = snapshot.hashes(at, 30).expect("reads");
                let block = |hash: &BlockHash| snapshot.block(hash).expect("reads").expect("is on the chain");
                hashes
                    .iter()
                    .map(block)
                    .map(|(block, height)| {
                        assert_eq!(height, Some(block.height()));
                        block
                    })
                    .collect()
            }
        };
        assert!(!blocks.is_empty());
        for block in blocks {
            if let Some(last) = last {
                assert_eq!((block.parent(), block.height()), (last.hash, last.height.next()));
            }
            last = Some(block.tip());
            at = block.height().next();
        }
    }
    assert_eq!(last, Some(tip));
}

#[test]
fn readers_on_other_threads_see_whole_chains_while_reorgs_go_on() {
    let dir = tempfile::TempDir::new().expect("a folder");
    let options = Options { checkpoint_blocks: 300, segment_bytes: 64 << 10, reserve_bytes: 0, ..Options::default() };
    let (mut store, _) = Store::open(dir.path(), Arc::new(RealDisk), options).expect("opens");
    let blocks = branch(genesis::tip(), 200, "a");
    store.commit(&extend(genesis::tip(), &blocks)).expect("commits");

    let stop = AtomicBool::new(false);
    let read = AtomicU64::new(0);
    let reader = store.reader();
    std::thread::scope(|scope| {
        for way in 0..3 {
            let (stop, read, reader): (&AtomicBool, &AtomicU64, Reader) = (&stop, &read, reader.clone());
            scope.spawn(move || {
                let mut way = way;
                while !stop.load(Ordering::Relaxed) {
                    hangs_together(&reader.snapshot(), way);
                    read.fetch_add(1, Ordering::Relaxed);
                    way += 1;
                }
            });
        }
        let mut rounds = 0;
        while (rounds < 300 || read.load(Ordering::Relaxed) < 60) && !scope_is_over(rounds) {
            let tip = store.tip();
            let depth = 1 + rounds * 7 % 150;
            let fork = Height(tip.height.0 - depth);
            let fork = Tip { height: fork, hash: store.hash_at(fork).expect("reads").expect("is there") };
            let blocks = branch(fork, depth as usize + 1, &format!("round {rounds}"));
            let left: Vec<BlockHash> = store.side_blocks().expect("reads").iter().map(|side| side.hash).collect();
            let mut batch = extend(fork, &blocks);
            batch.forget = left;
            store.commit(&batch).expect("commits");
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(read.load(Ordering::Relaxed) >= 3, "readers got to read");
}

/// A bound, so that a reader that died does not keep the writer going for ever.
fn scope_is_over(rounds: u64) -> bool {
    rounds > 20_000
}
