//! Long chains, made by the library as fast as it can: the blocks of a node that mined alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use dolmen::ledger::block::{Block, Header, Version};
use dolmen::ledger::storage::{Batch, Storage, TipChange};
use dolmen::ledger::{BlockHash, Height, SharedBlock, Tip, UnixTime, genesis, merkle, rules};
use dolmen::store::{Options, RealDisk, Store};
use tempfile::TempDir;

/// When the blocks were mined.
const TIME: u64 = 1_700_000_000;

/// The block that follows a tip.
pub fn next(parent: Tip) -> SharedBlock {
    let body = vec![entry(parent.height.0 + 1)];
    let header = Header {
        version: Version::mined(),
        index: parent.height.next(),
        previous_hash: parent.hash,
        time: UnixTime(TIME),
        merkle_root: merkle::root(&body).expect("a body with an entry"),
    };
    rules::check_alone(Block { header, body }, UnixTime(TIME)).expect("a good block").into()
}

/// An entry as long as a short line of a log: blocks are about 250 bytes of JSON.
pub fn entry(number: u64) -> String {
    format!("entry {number:012}")
}

/// So many blocks above genesis.
pub fn blocks(count: u64) -> Vec<SharedBlock> {
    let mut tip = genesis::tip();
    let grow = |_| {
        let block = next(tip);
        tip = block.tip();
        block
    };
    (0..count).map(grow).collect()
}

/// Chains by length, made once in a run.
static MADE: Mutex<BTreeMap<u64, Arc<TempDir>>> = Mutex::new(BTreeMap::new());

/// A data directory of its own with a chain of so many blocks above genesis, closed in good order.
pub fn dir(blocks: u64) -> TempDir {
    let made = made(blocks);
    let copy = fresh();
    copy_all(made.path(), copy.path());
    copy
}

/// Removes the chains that were made: what a program holds to its end is not dropped.
pub fn clean() {
    MADE.lock().expect("nobody panicked").clear();
}

/// The data directory that all copies are of: to be read only.
fn made(blocks: u64) -> Arc<TempDir> {
    let mut all = MADE.lock().expect("nobody panicked");
    let make = || {
        let dir = fresh();
        make(dir.path(), blocks);
        Arc::new(dir)
    };
    all.entry(blocks).or_insert_with(make).clone()
}

/// Takes the original itself, so that a very long chain is there only once.
pub fn dir_without_copy(blocks: u64) -> TempDir {
    let dir = fresh();
    make(dir.path(), blocks);
    dir
}

/// An empty directory on the disk that data directories are on by default: memory would flatter.
pub fn fresh() -> TempDir {
    TempDir::with_prefix_in("dolmen-bench-", base()).expect("a directory for data")
}

fn base() -> PathBuf {
    std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn make(dir: &Path, blocks: u64) {
    let (mut store, _) = Store::open(dir, Arc::new(RealDisk), Options::default()).expect("an empty directory");
    let fork = store.tip();
    let mut staging = store.stage(fork).expect("room");
    let mut tip = fork;
    while tip.height < Height(blocks) {
        let count = (blocks - tip.height.0).min(1_000);
        let grow = |_| {
            let block = next(tip);
            tip = block.tip();
            block
        };
        let piece: Vec<SharedBlock> = (0..count).map(grow).collect();
        store.stage_append(&mut staging, &piece).expect("room");
    }
    if tip != fork {
        let change = TipChange { fork, revived: Vec::new(), tip };
        store.adopt(staging, &Batch { change: Some(change), ..Batch::default() }).expect("room");
    }
    store.close().expect("room");
}

fn copy_all(from: &Path, to: &Path) {
    for item in std::fs::read_dir(from).expect("a directory") {
        let item = item.expect("an item");
        let target = to.join(item.file_name());
        if item.path().is_dir() {
            std::fs::create_dir_all(&target).expect("room");
            copy_all(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).expect("room");
        }
    }
}

/// All hashes of a chain, genesis first.
pub fn hashes(dir: &Path) -> Vec<BlockHash> {
    let (store, _) = Store::open(dir, Arc::new(RealDisk), Options::default()).expect("a chain");
    store.snapshot().hashes(Height(0), usize::MAX).expect("readable")
}
