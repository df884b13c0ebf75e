//! Files that are cut, flipped, lost: always detected or harmless, never a wrong block, never a panic.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dolmen::ledger::block::{BlockView, Height, SharedBlock};
use dolmen::ledger::genesis;
use dolmen::ledger::storage::{Batch, Storage, StorageError, TipChange};
use dolmen::store::verify::{Index, Verified, verify};
use dolmen::store::{Checkpoints, Cut, Disk, OpenError, Options, Store};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::blocks::{block_on, branch, extend, follow, ours, theirs};
use crate::memory_storage::MemoryStorage;
use crate::model::{derived, open, small};
use crate::scenario::{Op, Scenario, difference, seeds};
use crate::sim_disk::SimDisk;

pub fn options() -> Options {
    Options {
        segment_bytes: 700,
        checkpoint_blocks: 4,
        checkpoint_bytes: 1 << 20,
        reserve_bytes: 100,
        copied_bytes: 300,
        checkpoints: Checkpoints::Inline,
    }
}

/// A disk with a little of everything on it: own blocks, keys, a reorg, side blocks, an adopted branch, several segments;
/// and the same in memory.
pub fn a_bit_of_everything() -> (SimDisk, MemoryStorage) {
    let disk = SimDisk::default();
    let mut model = MemoryStorage::new();
    let (mut store, _) = open(&disk, &options());
    for op in story() {
        op.ask(&mut store).expect("the store does as asked");
        op.ask(&mut model).expect("so does the model");
    }
    store.close().expect("closes");
    (disk, model)
}

fn story() -> Vec<Op> {
    let first = branch(genesis::tip(), 6, "first");
    let mut story: Vec<Op> = Vec::new();
    let mut tip = genesis::tip();
    for (number, block) in first.iter().enumerate() {
        let block = if number % 2 == 0 { ours(block, Some([number as u8 + 1; 32])) } else { theirs(block) };
        story.push(Op::Commit(follow(tip, vec![block])));
        tip = first[number].tip();
    }
    let other = branch(first[2].tip(), 4, "other");
    story.push(Op::Commit(Batch { blocks: vec![theirs(&other[0])], ..Batch::default() }));
    let change = TipChange { fork: first[2].tip(), revived: vec![other[0].hash()], tip: other[3].tip() };
    let submission = dolmen::ledger::storage::SubmissionId { block: first[4].hash(), position: 0 };
    story.push(Op::Commit(Batch {
        blocks: other[1..].iter().map(theirs).collect(),
        change: Some(change),
        pending: vec![submission],
        ..Batch::default()
    }));
    let staged = branch(other[1].tip(), 12, "staged");
    let change = TipChange { fork: other[1].tip(), revived: vec![], tip: staged[11].tip() };
    let adopt = Some(Batch { change: Some(change), ..Batch::default() });
    story.push(Op::Stage { fork: other[1].tip(), blocks: staged.clone(), piece: 5, adopt });
    for block in branch(staged[11].tip(), 7, "last") {
        let parent = dolmen::ledger::block::Tip { height: Height(block.height().0 - 1), hash: block.parent() };
        story.push(Op::Commit(extend(parent, &[block])));
    }
    story
}

fn verified(disk: &SimDisk) -> Result<Verified, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    verify(Path::new("/data"), &disk, &mut |_| {})
}

pub fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.starts_with("/data/log")).collect()
}

/// What a store says of the chain, each answer right or an error; how many heights are errors.
fn never_wrong(store: &Store, model: &MemoryStorage, what: &str) -> usize {
    let mut unreadable = 0;
    for height in 0..=store.tip().height.0 {
        let height = Height(height);
        match store.hash_at(height) {
            Ok(hash) => assert_eq!(hash, model.hash_at(height).expect("memory"), "{what}: hash at {height}"),
            Err(StorageError::Damaged(_)) => {}
            Err(error) => panic!("{what}: hash at {height}: {error}"),
        }
        match store.snapshot().block_at(height) {
            Ok(block) => assert_eq!(block.as_ref(), model.chain().get(height.0 as usize), "{what}: block at {height}"),
            Err(StorageError::Damaged(_)) => unreadable += 1,
            Err(error) => panic!("{what}: block at {height}: {error}"),
        }
        let mut show = |hash, block: BlockView<'_>| {
            let wanted = &model.chain()[height.0 as usize];
            assert_eq!((hash, block), (wanted.hash(), BlockView::from(wanted.block())), "{what}: shown at {height}");
        };
        match store.snapshot().views(height, 1, usize::MAX, &mut show) {
            Ok(()) | Err(StorageError::Damaged(_)) => {}
            Err(error) => panic!("{what}: shown at {height}: {error}"),
        }
    }
    for block in model.own_blocks() {
        if let Ok(placed) = store.placed_in(block) {
            let wanted = model.placed_in(block).expect("memory");
            assert!(placed == wanted || placed.is_empty(), "{what}: placed in {block}: {placed:?}");
        }
    }
    for key in model.keys() {
        if let Ok(Some(submission)) = store.submission_by_key(key) {
            assert_eq!(Some(submission), model.submission_by_key(key).expect("memory"), "{what}: key {key:?}");
        }
    }
    for side in model.side_blocks().expect("memory") {
        if let Ok(Some(block)) = store.block(&side.hash) {
            assert_eq!(block.hash(), side.hash, "{what}");
        }
    }
    unreadable
}

#[test]
fn a_group_that_is_cut_at_any_byte_never_was() {
    let disk = SimDisk::default();
    let mut model = MemoryStorage::new();
    let (mut store, _) = open(&disk, &options());
    let story = story();
    let (last, before) = story.split_last().expect("a story");
    for op in before {
        op.ask(&mut store).expect("does as asked");
        op.ask(&mut model).expect("does as asked");
    }
    let segment = segments(&disk).pop().expect("a segment");
    let start = disk.read(&segment).expect("there").len();
    assert!(start < options().segment_bytes as usize, "the segment is not full yet");
    last.ask(&mut store).expect("does as asked");
    let whole = disk.read(&segment).expect("there");
    assert!(whole.len() > start, "the last group is in the last segment");
    drop(store);
    let mut with_last = model.clone();
    last.ask(&mut with_last).expect("does as asked");

    for rebuilt in [false, true] {
        for len in start..=whole.len() {
            for zeros in [0, 40] {
                let disk = disk.copy();
                let mut bytes = whole[..len].to_vec();
                // A file's length may be durable before its contents are.
                bytes.resize(len + zeros, 0);
                disk.put(&segment, bytes.clone());
                if rebuilt {
                    derived(&disk).iter().for_each(|file| disk.take(file));
                }
                let what = format!("cut at {len} of {start}..{}, {zeros} zeros, rebuilt {rebuilt}", whole.len());
                let (store, report) = open(&disk, &options());
                let expected = if len == whole.len() { &with_last } else { &model };
                let end = if len == whole.len() { len } else { start };
                assert_eq!(difference(&store, expected, &[]), None, "{what}");
                assert_eq!(report.damage, [], "{what}");
                let name = segment.file_name().expect("a name").to_string_lossy().into_owned();
                let cut = (len + zeros > end).then(|| Cut {
                    kept: Some(PathBuf::from(format!("/data/cut/{name}-{end}"))),
                    file: name,
                    offset: end as u64,
                    bytes: (len + zeros - end) as u64,
                });
                assert_eq!(report.cut, cut, "{what}");
                if let Some(kept) = cut.and_then(|cut| cut.kept) {
                    assert_eq!(disk.read(&kept).as_deref(), Some(&bytes[end..]), "{what}");
                }
                // And it goes on from there.
                let mut store = store;
                let next = branch(store.tip(), 1, "next");
                store.commit(&extend(store.tip(), &next)).expect("commits");
                drop(store);
                let (store, report) = open(&disk, &options());
                assert_eq!((store.tip(), report.cut), (next[0].tip(), None), "{what}");
            }
        }
    }
}

#[test]
fn a_flipped_byte_in_the_log_is_found_and_never_served() {
    let (disk, model) = a_bit_of_everything();
    let good = verified(&disk).expect("verifies");
    assert!(good.is_good() && good.index == Index::Current && good.tip == model.tip(), "{good:?}");
    assert!(segments(&disk).len() > 3, "several segments");
    let blocks_in_a_group = 12;
    for segment in segments(&disk) {
        let bytes = disk.read(&segment).expect("there");
        for at in 0..bytes.len() {
            for rebuilt in [false, true] {
                let disk = disk.copy();
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                disk.put(&segment, flipped);
                if rebuilt {
                    derived(&disk).iter().for_each(|file| disk.take(file));
                }
                let what = format!("{} byte {at}, rebuilt {rebuilt}", segment.display());
                if at >= 128 {
                    let found = verified(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert!(!found.is_good() || found.unfinished > 0, "{what}: verify finds nothing");
                }
                let opened = Store::open("/data", Arc::new(disk.clone()), options());
                let (store, report) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
                let unreadable = never_wrong(&store, &model, &what);
                assert!(unreadable <= blocks_in_a_group, "{what}: {unreadable} blocks are lost");
                if at < 128 {
                    assert_eq!((unreadable, store.tip()), (0, model.tip()), "{what}: the header is there twice");
                }
                let cut_short = report.cut.is_some();
                let last_lost = rebuilt && store.tip().height.next() == model.tip().height && !report.damage.is_empty();
                assert!(cut_short || last_lost || store.tip() == model.tip(), "{what}: {report:?}");
                if rebuilt && at >= 128 {
                    assert!(cut_short || !report.damage.is_empty(), "{what}: {report:?}");
                }
            }
        }
    }
}

#[test]
fn a_flipped_byte_in_what_is_derived_costs_a_replay_at_most() {
    let (disk, model) = a_bit_of_everything();
    for file in derived(&disk) {
        let bytes = disk.read(&file).expect("there");
        // Runs are long and mostly zeros.
        let step = 1 + bytes.len() / if cfg!(debug_assertions) { 150 } else { 1500 };
        for at in (0..bytes.len()).step_by(step) {
            let disk = disk.copy();
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            disk.put(&file, flipped);
            let what = format!("{} byte {at}", file.display());
            let (store, _) = open(&disk, &options());
            never_wrong(&store, &model, &what);
            let first = difference(&store, &model, &[]);
            let why = first.as_deref().unwrap_or("is damaged");
            assert!(why.contains("is damaged") || why.contains("Damaged"), "{what}: {why}");
            drop(store);
            let (store, report) = open(&disk, &options());
            assert_eq!(difference(&store, &model, &[]), None, "{what}: {report:?}");
            assert!(first.is_none() || report.rebuilt.is_some(), "{what}: {first:?} {report:?}");
        }
    }
}

#[test]
fn derived_files_that_are_lost_or_cut_are_made_again() {
    let (disk, model) = a_bit_of_everything();
    for file in derived(&disk) {
        let bytes = disk.read(&file).expect("there");
        for keep in [None, Some(0), Some(bytes.len() / 2), Some(bytes.len().saturating_sub(1))] {
            let disk = disk.copy();
            match keep {
                None => disk.take(&file),
                Some(keep) => disk.put(&file, bytes[..keep].to_vec()),
            }
            let what = format!("{} cut to {keep:?} of {}", file.display(), bytes.len());
            let (store, report) = open(&disk, &options());
            assert_eq!(difference(&store, &model, &[]), None, "{what}");
            assert!(report.rebuilt.is_some(), "{what}: {report:?}");
            store.close().expect("closes");
            let again = verified(&disk).expect("verifies");
            assert_eq!((again.index, again.damage), (Index::Current, vec![]), "{what}");
        }
    }
}

#[test]
fn a_checkpoint_that_is_ahead_of_the_log_says_that_something_was_lost() {
    let (disk, _) = a_bit_of_everything();
    let segment = segments(&disk).pop().expect("a segment");
    let bytes = disk.read(&segment).expect("there");
    disk.put(&segment, bytes[..bytes.len() - 1].to_vec());
    let (_, report) = open(&disk, &options());
    let rebuilt = report.rebuilt.expect("the index was made again");
    assert_eq!(rebuilt, "the log ends before the place that the checkpoint names");
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    assert_eq!(report.damage[0].bytes, 1);
    assert_eq!(report.damage[0].offset, bytes.len() as u64 - 1);
}

#[test]
fn a_broken_block_can_be_written_again() {
    let (disk, model) = a_bit_of_everything();
    let block = model.chain()[2].clone();
    let segment = PathBuf::from("/data/log/00000001.seg");
    let mut bytes = disk.read(&segment).expect("there");
    let entry = block.body()[0].as_bytes();
    let at = bytes.windows(entry.len()).position(|window| window == entry).expect("the entry is in the log");
    bytes[at] ^= 1;
    disk.put(&segment, bytes);

    let (mut store, report) = open(&disk, &options());
    assert_eq!(report.damage, [], "nothing was read that is broken");
    let scrubbed = store.snapshot().scrub(Height(0), 1000, u64::MAX).expect("reads");
    assert_eq!(scrubbed.broken.iter().map(|(height, _)| *height).collect::<Vec<_>>(), [Height(2)]);
    assert_eq!(scrubbed.next, None);
    assert_eq!(store.damage().len(), 1, "{:?}", store.damage());
    assert_eq!(store.damage()[0].file, "00000001.seg");
    let other = branch(genesis::tip(), 2, "another")[1].clone();
    assert!(matches!(store.restore(&other), Err(StorageError::Failed(_))), "another block of that height");
    assert!(matches!(store.snapshot().block_at(Height(2)), Err(StorageError::Damaged(_))));

    store.restore(&block).expect("is written");
    let healed = verified(&disk).expect("verifies");
    assert!(healed.is_good() && healed.healed.len() == 1 && healed.tip == model.tip(), "{healed:?}");
    for how in ["at once", "after a kill", "after a replay of everything"] {
        assert_eq!(store.snapshot().block_at(Height(2)).expect("reads"), Some(block.clone()), "{how}");
        assert_eq!(store.snapshot().scrub(Height(0), 1000, u64::MAX).expect("reads").broken, [], "{how}");
        assert_eq!(store.tip(), model.tip(), "{how}");
        drop(store);
        if how == "after a kill" {
            derived(&disk).iter().for_each(|file| disk.take(file));
        }
        store = open(&disk, &options()).0;
    }
}

/// Flips in the longer test: a few here, `STORE_FLIPS=10000` for all.
fn flips() -> u64 {
    let wanted = std::env::var("STORE_FLIPS").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(if cfg!(debug_assertions) { 150 } else { 1000 })
}

/// A store of some hundred blocks that is written in groups of all sizes.
fn a_longer_store() -> (SimDisk, MemoryStorage) {
    let options = larger();
    let (disk, mut scenario) = (SimDisk::default(), Scenario::new(7));
    let (mut store, _) = open(&disk, &options);
    for _ in 0..250 {
        let op = scenario.op();
        op.ask(&mut store).expect("does as asked");
        scenario.accept(&op);
    }
    store.close().expect("closes");
    (disk, scenario.model)
}

fn larger() -> Options {
    Options { segment_bytes: 8_000, checkpoint_blocks: 64, copied_bytes: 1_000, ..options() }
}

/// What became of flips, summed.
#[derive(Default, Debug)]
struct Flips {
    harmless: u64,
    found: u64,
    /// The last groups were cut: an earlier chain, whole.
    cut_short: u64,
    restored: u64,
    /// Own blocks among those, and how many of them came back with what was placed in them.
    own: u64,
    own_whole: u64,
}

impl Flips {
    fn add(&mut self, other: Self) {
        self.harmless += other.harmless;
        self.found += other.found;
        self.cut_short += other.cut_short;
        self.restored += other.restored;
        self.own += other.own;
        self.own_whole += other.own_whole;
    }

    /// Flips a bit somewhere in a store, and heals what that has broken.
    fn flip(&mut self, seed: u64, disk: &SimDisk, model: &MemoryStorage) {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = disk.copy();
        let files = if rng.random_bool(0.8) { segments(&disk) } else { derived(&disk) };
        let file = files[rng.random_range(0..files.len())].clone();
        let mut bytes = disk.read(&file).expect("there");
        let at = rng.random_range(0..bytes.len());
        bytes[at] ^= 1 << rng.random_range(0..8);
        disk.put(&file, bytes);
        let rebuilt = rng.random_bool(0.3);
        if rebuilt {
            derived(&disk).iter().for_each(|file| disk.take(file));
        }
        let what = format!("flip {seed}: {} byte {at}, rebuilt {rebuilt}", file.display());
        let judged = verified(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        let opened = Store::open("/data", Arc::new(disk.clone()), larger());
        let (mut store, report) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let unreadable = never_wrong(&store, model, &what);
        let said = !judged.is_good() || judged.unfinished > 0 || judged.index != Index::Current;
        let noticed = report.cut.is_some() || report.rebuilt.is_some() || !report.damage.is_empty();
        if unreadable == 0 && !noticed && !said {
            assert_eq!(difference(&store, model, &[]), None, "{what}: neither found nor harmless");
            self.harmless += 1;
            return;
        }
        self.found += 1;
        if store.tip() != model.tip() {
            assert_eq!(store.snapshot().scrub(Height(0), u64::MAX, u64::MAX).expect("reads").broken, [], "{what}");
            self.cut_short += 1;
            return;
        }
        let mut own = Vec::new();
        for block in model.chain()[1..].iter().rev() {
            if let Err(StorageError::Damaged(why)) = store.snapshot().block_at(block.height()) {
                // What is derived is made again by the next start; what the log has lost comes from a peer.
                if store.restore(block).is_err() {
                    assert!(why.contains("next start"), "{what}: {why}");
                    continue;
                }
                self.restored += 1;
                if !model.placed_in(&block.hash()).expect("memory").is_empty() {
                    own.push(block);
                }
            }
        }
        self.own += own.len() as u64;
        self.own_whole += own.iter().filter(|block| own_is_whole(&store, model, block)).count() as u64;
        let broken = never_wrong(&store, model, &what);
        drop(store);
        let (store, _) = open(&disk, &larger());
        assert_eq!(never_wrong(&store, model, &what), 0, "{what}: {broken} before the next start");
    }
}

/// Whether all is known that this node placed in a block.
fn own_is_whole(store: &Store, model: &MemoryStorage, block: &SharedBlock) -> bool {
    let placed = model.placed_in(&block.hash()).expect("memory");
    store.placed_in(&block.hash()).is_ok_and(|found| found == placed)
        && placed.iter().all(|placed| {
            let submission = &placed.submission;
            store.placements_of(submission).ok() == model.placements_of(submission).ok()
                && store.entries_of(submission).ok() == model.entries_of(submission).ok()
                && placed.key.is_none_or(|key| store.submission_by_key(&key).ok() == model.submission_by_key(&key).ok())
        })
}

#[test]
fn any_flip_in_a_longer_store_is_found_or_harmless_and_blocks_come_back() {
    let (disk, model) = a_longer_store();
    assert!(model.chain().len() > 300 && segments(&disk).len() > 5, "{} blocks", model.chain().len());
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = Flips::default();
    std::thread::scope(|scope| {
        let work = || {
            let mut flips_here = Flips::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= flips() {
                    return flips_here;
                }
                flips_here.flip(seed, &disk, &model);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| all.add(worker.join().expect("no flip is served")));
    });
    let Flips { harmless, found, cut_short, restored, own, own_whole } = all;
    println!("{found} flips found, {cut_short} of them by an earlier chain; {harmless} harmless");
    println!("{restored} blocks restored, {own} own, {own_whole} with what was placed");
    assert!(found > 0 && restored > 0, "{found} found, {restored} restored");
}

#[test]
fn what_this_node_placed_in_a_block_is_healed_with_it() {
    let (disk, model) = a_bit_of_everything();
    let is_own = |block: &&SharedBlock| !model.placed_in(&block.hash()).expect("memory").is_empty();
    let own: Vec<&SharedBlock> = model.chain().iter().filter(is_own).collect();
    let (mut whole, mut lost) = (0, 0);
    for segment in segments(&disk) {
        let bytes = disk.read(&segment).expect("there");
        for at in 128..bytes.len() {
            for rebuilt in [false, true] {
                let disk = disk.copy();
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                disk.put(&segment, flipped);
                if rebuilt {
                    derived(&disk).iter().for_each(|file| disk.take(file));
                }
                let what = format!("{} byte {at}, rebuilt {rebuilt}", segment.display());
                let (mut store, _) = open(&disk, &options());
                let broken = |block: &&&SharedBlock| store.snapshot().block_at(block.height()).is_err();
                let Some(block) = own.iter().find(broken).filter(|_| store.tip() == model.tip()) else { continue };
                store.restore(block).unwrap_or_else(|error| panic!("{what}: {error}"));
                if rebuilt && !own_is_whole(&store, &model, block) {
                    lost += 1;
                    continue;
                }
                whole += 1;
                assert!(own_is_whole(&store, &model, block), "{what}: at once");
                for how in ["opened again", "made again"] {
                    drop(store);
                    if how == "made again" {
                        derived(&disk).iter().for_each(|file| disk.take(file));
                    }
                    store = open(&disk, &options()).0;
                    assert!(own_is_whole(&store, &model, block), "{what}: {how}");
                }
            }
        }
    }
    // Where a record ends is only known from what is derived, or from its length: four bytes.
    assert!(whole > 100 && lost <= 4 * own.len(), "{whole} came back whole, {lost} did not");
}

#[test]
fn a_lost_segment_costs_its_blocks_and_no_others() {
    let (disk, model) = a_bit_of_everything();
    let all = segments(&disk);
    for segment in all.clone() {
        for rebuilt in [false, true] {
            let disk = disk.copy();
            disk.take(&segment);
            if rebuilt {
                derived(&disk).iter().for_each(|file| disk.take(file));
            }
            let what = format!("{} is gone, rebuilt {rebuilt}", segment.display());
            let is_last = Some(&segment) == all.last();
            // Of the last one only what is derived still tells.
            assert_eq!(verified(&disk).expect("verifies").is_good(), rebuilt && is_last, "{what}");
            match Store::open("/data", Arc::new(disk.clone()), options()) {
                Ok((mut store, report)) if store.tip() == model.tip() => {
                    let unreadable = never_wrong(&store, &model, &what);
                    assert!(rebuilt || unreadable <= 12, "{what}: {unreadable} blocks are lost, {report:?}");
                    // Peers have them still. Blocks that are only in doubt come back by themselves.
                    let mut restored = 0;
                    for block in model.chain()[1..].iter().rev() {
                        if let Err(StorageError::Damaged(_)) = store.snapshot().block_at(block.height()) {
                            store.restore(block).unwrap_or_else(|error| panic!("{what}: {error}"));
                            restored += 1;
                        }
                    }
                    assert!(restored <= 12, "{what}: {restored} were fetched again");
                    assert_eq!(never_wrong(&store, &model, &what), 0, "{what}");
                    derived(&disk).iter().for_each(|file| disk.take(file));
                    drop(store);
                    let (store, report) = open(&disk, &options());
                    assert_eq!(never_wrong(&store, &model, &what), 0, "{what}, and opened again {report:?}");
                }
                // With the last groups the latest chain is gone: there is an older one.
                Ok((store, report)) => {
                    assert!(rebuilt || !report.damage.is_empty(), "{what}: {report:?}");
                    let broken = store.snapshot().scrub(Height(0), 1000, u64::MAX).expect("reads").broken;
                    assert!(broken.len() <= 12, "{what}: {broken:?}");
                }
                Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{what}: {error}"),
            }
        }
    }
}

#[test]
fn a_lost_file_of_an_adopted_branch_costs_its_blocks_however_many_fitted() {
    let options = Options { segment_bytes: 2000, copied_bytes: 0, ..options() };
    let disk = SimDisk::default();
    let mut model = MemoryStorage::new();
    let (mut store, _) = open(&disk, &options);
    let mut blocks: Vec<SharedBlock> = Vec::new();
    for _ in 0..200 {
        let parent = blocks.last().map_or_else(genesis::tip, |block| block.tip());
        blocks.push(block_on(parent, &[""]));
    }
    let change = TipChange { fork: genesis::tip(), revived: vec![], tip: blocks[199].tip() };
    let adopt = Some(Batch { change: Some(change), ..Batch::default() });
    let before = segments(&disk);
    for op in [
        Op::Stage { fork: genesis::tip(), blocks: blocks.clone(), piece: 200, adopt },
        Op::Commit(extend(blocks[199].tip(), &branch(blocks[199].tip(), 3, "last"))),
    ] {
        op.ask(&mut store).expect("does as asked");
        op.ask(&mut model).expect("does as asked");
    }
    store.close().expect("closes");
    let parts: Vec<_> = segments(&disk).into_iter().filter(|segment| !before.contains(segment)).collect();
    let mut lost = Vec::new();
    for part in &parts {
        let disk = disk.copy();
        disk.take(part);
        derived(&disk).iter().for_each(|file| disk.take(file));
        let what = format!("{} is gone", part.display());
        let (store, report) = open(&disk, &options);
        assert_eq!(store.tip(), model.tip(), "{what}: {report:?}");
        lost.push(never_wrong(&store, &model, &what));
    }
    // A part may be longer than a segment by a piece, which is as long: more blocks than the 26 of 76 bytes that a segment has.
    assert_eq!(lost.iter().sum::<usize>(), 200, "each block is in one file: {lost:?}");
    assert!(lost.iter().any(|blocks| *blocks > 26), "{lost:?}");
}

/// Something that happens to files: returns what, in words.
fn harm(disk: &SimDisk, first: bool, rng: &mut StdRng) -> String {
    let logs = segments(disk);
    let files = if rng.random_bool(0.7) && !logs.is_empty() { logs } else { disk.files() };
    let file = files[rng.random_range(0..files.len())].clone();
    let mut bytes = disk.read(&file).expect("there");
    let at = rng.random_range(0..=bytes.len());
    let to = (at + rng.random_range(1..200)).min(bytes.len());
    let what = match rng.random_range(0..6) {
        0 if first => {
            disk.take(&file);
            return format!("{} is gone", file.display());
        }
        1 => {
            bytes.truncate(at);
            "cut"
        }
        2 => {
            bytes[at..to].fill(0);
            "zeros"
        }
        3 => {
            rng.fill(&mut bytes[at..to]);
            "noise"
        }
        4 => {
            let part = bytes[at..to].to_vec();
            bytes.splice(at..at, part);
            "a part twice"
        }
        _ => {
            // A disk that takes a part out of the middle of a log is none that anyone has seen.
            let to = if file.starts_with("/data/log") { bytes.len() } else { to };
            bytes.drain(at..to);
            "a part less"
        }
    };
    disk.put(&file, bytes);
    format!("{} at {at}..{to}: {what}", file.display())
}

#[test]
fn random_harm_never_makes_a_wrong_block() {
    for seed in seeds(if cfg!(debug_assertions) { 300 } else { 6000 }) {
        let options = small(seed);
        let disk = SimDisk::default();
        let mut scenario = Scenario::new(seed);
        let (mut store, _) = open(&disk, &options);
        for _ in 0..scenario.rng.random_range(1..40) {
            let op = scenario.op();
            op.ask(&mut store).expect("does as asked");
            scenario.accept(&op);
        }
        if scenario.rng.random_bool(0.5) {
            store.close().expect("closes");
        } else {
            drop(store);
            disk.kill();
        }
        let mut harms = vec![format!("seed {seed}")];
        for _ in 0..scenario.rng.random_range(1..4) {
            harms.push(harm(&disk, harms.len() == 1, &mut scenario.rng));
            // A branch that is gone and the record that adopted it broken: nothing is left that could tell.
            if harms.last().is_some_and(|harm| harm.ends_with("is gone")) {
                break;
            }
        }
        if scenario.rng.random_bool(0.5) {
            derived(&disk).iter().for_each(|file| disk.take(file));
            harms.push("all that is derived is gone".to_owned());
        }
        let what = harms.join("; ");
        let _ = verified(&disk);
        // Opened twice: the second time with what the first has made of it.
        for _ in 0..2 {
            let opened = Store::open("/data", Arc::new(disk.clone()), options.clone());
            let Ok((mut store, report)) = opened else { break };
            if store.tip() == scenario.model.tip() {
                never_wrong(&store, &scenario.model, &format!("{what}; {report:?}"));
            }
            // With the last groups lost there is an earlier chain; it has to be one.
            let scrubbed = store.snapshot().scrub(Height(0), u64::MAX, u64::MAX).expect("reads");
            let lost = scrubbed.broken.iter().find(|(_, why)| why.contains("does not follow"));
            assert_eq!(lost, None, "{what}; {report:?}");
            let known: Vec<_> = scenario.known.iter().filter_map(|hash| store.block(hash).ok().flatten()).collect();
            assert!(known.iter().all(|block| scenario.known.contains(&block.hash())), "{what}");
            // And it goes on.
            let next = branch(store.tip(), 2, "next");
            if store.commit(&extend(store.tip(), &next)).is_ok() {
                assert_eq!(store.tip(), next[1].tip(), "{what}");
                assert_eq!(
                    store.snapshot().block_at(next[0].height()).expect("reads"),
                    Some(next[0].clone()),
                    "{what}"
                );
                break;
            }
        }
    }
}

#[test]
fn a_reorg_that_is_cut_from_the_log_is_taken_back_in_what_is_derived() {
    let options = Options { segment_bytes: 1 << 20, checkpoint_blocks: 1000, ..options() };
    let disk = SimDisk::default();
    let mut model = MemoryStorage::new();
    let (mut store, _) = open(&disk, &options);
    let first = branch(genesis::tip(), 8, "a");
    let op = Op::Commit(extend(genesis::tip(), &first));
    op.ask(&mut store).expect("commits");
    op.ask(&mut model).expect("commits");
    store.close().expect("closes, with a checkpoint");
    let (mut store, _) = open(&disk, &options);
    store.commit(&extend(first[4].tip(), &branch(first[4].tip(), 4, "b"))).expect("commits");
    drop(store);
    let segment = segments(&disk).pop().expect("a segment");
    let bytes = disk.read(&segment).expect("there");
    disk.put(&segment, bytes[..bytes.len() - 1].to_vec());

    for what in ["at once", "opened again"] {
        let (store, report) = open(&disk, &options);
        assert_eq!(report.rebuilt, None, "{what}");
        assert_eq!(report.cut.is_some(), what == "at once");
        assert_eq!(difference(&store, &model, &[]), None, "{what}");
    }
}
