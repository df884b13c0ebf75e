//! What the parts cost that do nothing but compute, and the log by itself: `cargo bench --bench pure`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dolmen::ledger::block::{Block, Header, Version};
use dolmen::ledger::storage::{Batch, BatchBlock, Storage, TipChange};
use dolmen::ledger::{Height, SharedBlock, Tip, UnixTime, genesis, json, merkle, rules};
use dolmen::peer::native::{self, Blocks, Frame};
use dolmen::store::{Options, RealDisk, Store};
use tempfile::TempDir;

/// When the blocks were mined, and when they are judged.
const NOW: UnixTime = UnixTime(1_700_000_000);

/// Blocks of a batch.
const BATCH: u64 = 1_000;

fn next(parent: Tip, entries: usize) -> SharedBlock {
    let body: Vec<String> = (0..entries).map(|entry| format!("entry {:09}{entry:03}", parent.height.0 + 1)).collect();
    let header = Header {
        version: Version::mined(),
        index: parent.height.next(),
        previous_hash: parent.hash,
        time: NOW,
        merkle_root: merkle::root(&body).expect("a body with an entry"),
    };
    rules::check_alone(Block { header, body }, NOW).expect("a good block").into()
}

fn chain(count: u64, entries: usize) -> Vec<SharedBlock> {
    let mut tip = genesis::tip();
    let grow = |_| {
        let block = next(tip, entries);
        tip = block.tip();
        block
    };
    (0..count).map(grow).collect()
}

fn hashes(c: &mut Criterion) {
    let mut group = c.benchmark_group("hash");
    let block = next(genesis::tip(), 1);
    group.throughput(Throughput::Elements(1));
    group.bench_function("header", |b| b.iter(|| black_box(block.header()).hash()));
    for entries in [1, 16, 1_000] {
        let block = next(genesis::tip(), entries);
        group.throughput(Throughput::Elements(entries as u64));
        group.bench_function(format!("merkle root of {entries}"), |b| b.iter(|| merkle::root(black_box(block.body()))));
    }
    group.finish();
}

fn forms(c: &mut Criterion) {
    let blocks = chain(BATCH, 1);
    let text = json::array_to_string(blocks.iter().map(|block| block.block()));
    let frame = Frame::Batch(Blocks { after: genesis::tip(), blocks: blocks.clone() });
    let bytes = native::encode(&frame);
    let mut group = c.benchmark_group("forms");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("write JSON", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            blocks.iter().for_each(|block| json::write(block.block(), &mut out));
            out.len()
        });
    });
    group.bench_function("verify from JSON", |b| {
        b.iter(|| {
            let blocks = json::parse_blocks(black_box(&text)).expect("good blocks");
            blocks.into_iter().map(|block| rules::check_alone(block, NOW).map(SharedBlock::new)).collect::<Vec<_>>()
        });
    });
    group.bench_function("encode a native frame", |b| b.iter(|| native::encode(black_box(&frame))));
    group.bench_function("verify from a native frame", |b| b.iter(|| native::decode(black_box(&bytes), NOW)));
    group.finish();
}

fn choice(c: &mut Criterion) {
    let blocks = chain(BATCH, 1);
    let mut group = c.benchmark_group("fork choice");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("the best of many tips", |b| {
        b.iter(|| {
            let tips = blocks.iter().map(|block| block.tip());
            tips.reduce(|best, tip| if tip.beats(&best) { tip } else { best })
        });
    });
    group.bench_function("a run against its parent", |b| {
        b.iter(|| rules::check_run(blocks.iter().map(AsRef::as_ref), genesis::tip()));
    });
    group.finish();
}

fn open() -> (TempDir, Store) {
    let dir = TempDir::with_prefix("dolmen-bench-").expect("a directory");
    let (store, _) = Store::open(dir.path(), Arc::new(RealDisk), Options::default()).expect("an empty directory");
    (dir, store)
}

fn append(store: &mut Store, blocks: &[SharedBlock]) {
    let (fork, Some(last)) = (store.tip(), blocks.last()) else { return };
    let change = TipChange { fork, revived: Vec::new(), tip: last.tip() };
    let blocks = blocks.iter().map(|block| BatchBlock { block: block.clone(), placed: Vec::new() }).collect();
    store.commit(&Batch { blocks, change: Some(change), ..Batch::default() }).expect("room");
}

fn log(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    for size in [1, 32, 1_000] {
        let (_dir, mut store) = open();
        group.throughput(Throughput::Elements(size));
        group.bench_function(format!("append a group of {size}, durably"), |b| {
            b.iter_batched(
                || (),
                |()| {
                    let mut tip = store.tip();
                    let grow = |_| {
                        let block = next(tip, 1);
                        tip = block.tip();
                        block
                    };
                    let blocks: Vec<SharedBlock> = (0..size).map(grow).collect();
                    append(&mut store, &blocks);
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
    let blocks = chain(20 * BATCH, 1);
    let (_dir, mut store) = open();
    blocks.chunks(BATCH as usize).for_each(|piece| append(&mut store, piece));
    let snapshot = store.snapshot();
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("read a thousand in sequence", |b| {
        b.iter(|| snapshot.blocks(Height(7_000), BATCH as usize, usize::MAX).expect("readable"));
    });
    group.throughput(Throughput::Elements(1));
    let places: BTreeMap<_, _> = blocks.iter().map(|block| (block.hash(), block.height())).collect();
    let mut wanted = places.keys().cycle();
    group.bench_function("read one by its hash", |b| {
        b.iter(|| snapshot.block(wanted.next().expect("a cycle")).expect("readable"));
    });
    group.finish();
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = pure; config = settings(); targets = hashes, forms, choice, log }
criterion_main!(pure);
