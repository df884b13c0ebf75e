//! Branches that are staged: adopted in one step, given up without a trace, through a crash at every step.

use dolmen::ledger::block::{SharedBlock, Tip};
use dolmen::ledger::genesis;
use dolmen::ledger::storage::{Batch, Storage, StorageError, SubmissionId, TipChange};
use dolmen::store::{Checkpoints, Options};

use crate::blocks::{branch, extend, follow, ours};
use crate::memory_storage::MemoryStorage;
use crate::model::{derived, open, small};
use crate::scenario::{Op, difference};
use crate::sim_disk::SimDisk;
use crate::wait;

/// Small segments; `moved` says whether branches are renamed into the log or copied.
fn options(moved: bool) -> Options {
    Options { segment_bytes: 600, copied_bytes: if moved { 0 } else { 1 << 20 }, checkpoint_blocks: 5, ..small(0) }
}

fn adopt(fork: Tip, blocks: &[SharedBlock], pending: Vec<SubmissionId>) -> Op {
    let tip = blocks[blocks.len() - 1].tip();
    let change = TipChange { fork, revived: vec![], tip };
    let batch = Batch { change: Some(change), pending, ..Batch::default() };
    Op::Stage { fork, blocks: blocks.to_vec(), piece: 4, adopt: Some(batch) }
}

fn files_in(disk: &SimDisk, dir: &str) -> usize {
    disk.files().iter().filter(|path| path.starts_with(dir)).count()
}

#[test]
fn an_adopted_branch_is_the_chain_and_a_discarded_one_leaves_nothing() {
    for moved in [false, true] {
        let disk = SimDisk::default();
        let mut model = MemoryStorage::new();
        let (mut store, _) = open(&disk, &options(moved));
        let first = branch(genesis::tip(), 9, "a");
        let ours = first.iter().map(|block| ours(block, None)).collect();
        for op in [
            Op::Commit(follow(genesis::tip(), ours)),
            Op::Stage { fork: first[1].tip(), blocks: branch(first[1].tip(), 20, "gone"), piece: 3, adopt: None },
        ] {
            op.ask(&mut store).expect("does as asked");
            op.ask(&mut model).expect("does as asked");
            assert_eq!(difference(&store, &model, &[]), None);
        }
        assert_eq!(files_in(&disk, "/data/staging"), 0, "nothing is left of the discarded branch");
        let log_files = files_in(&disk, "/data/log");

        let staged = branch(first[1].tip(), 30, "b");
        let submission = SubmissionId { block: first[4].hash(), position: 0 };
        let op = adopt(first[1].tip(), &staged, vec![submission]);
        op.ask(&mut store).expect("adopts");
        op.ask(&mut model).expect("adopts");
        let known: Vec<_> = first.iter().chain(&staged).map(|block| block.hash()).collect();
        assert_eq!(difference(&store, &model, &known), None);
        assert_eq!(store.pending().expect("reads"), [submission]);
        assert_eq!(files_in(&disk, "/data/staging"), 0, "the branch has moved");
        if moved {
            assert!(files_in(&disk, "/data/log") > log_files + 3, "into the log");
        }
        let next = branch(store.tip(), 3, "c");
        let op = Op::Commit(extend(store.tip(), &next));
        op.ask(&mut store).expect("goes on");
        op.ask(&mut model).expect("goes on");
        for rebuilt in [false, true] {
            drop(store);
            if rebuilt {
                derived(&disk).iter().for_each(|file| disk.take(file));
            }
            store = open(&disk, &options(moved)).0;
            assert_eq!(difference(&store, &model, &known), None, "rebuilt {rebuilt}");
        }
    }
}

#[test]
fn a_branch_that_does_not_fit_is_refused_and_harms_nothing() {
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk, &options(true));
    let first = branch(genesis::tip(), 4, "a");
    store.commit(&extend(genesis::tip(), &first)).expect("commits");
    let staged = branch(first[1].tip(), 5, "b");

    let mut staging = store.stage(first[1].tip()).expect("stages");
    let gap = store.stage_append(&mut staging, &staged[1..]);
    assert!(matches!(&gap, Err(StorageError::Failed(_))), "{gap:?}");
    store.stage_append(&mut staging, &staged[..3]).expect("stages");
    assert_eq!(store.staged_block(&staging, 2).expect("reads"), Some(staged[2].clone()));
    assert_eq!(store.staged_block(&staging, 3).expect("reads"), None);
    let change = TipChange { fork: first[1].tip(), revived: vec![], tip: staged[4].tip() };
    let other = store.adopt(staging, &Batch { change: Some(change), ..Batch::default() });
    assert!(matches!(&other, Err(StorageError::Failed(_))), "another tip: {other:?}");

    // The fork leaves the chain while the branch is staged.
    let op = adopt(first[3].tip(), &branch(first[3].tip(), 5, "c"), vec![]);
    let turn = branch(genesis::tip(), 6, "d");
    store.commit(&extend(genesis::tip(), &turn)).expect("commits");
    let late = op.ask(&mut store);
    assert!(matches!(&late, Err(StorageError::Failed(_))), "{late:?}");
    assert_eq!(store.tip(), turn[5].tip());
    store.commit(&extend(store.tip(), &branch(store.tip(), 2, "e"))).expect("nothing is broken by a refusal");
    assert_eq!(files_in(&disk, "/data/staging"), 0);
}

#[test]
fn a_sync_that_fails_beside_is_told() {
    let disk = SimDisk::default();
    let options = Options { checkpoints: Checkpoints::Beside, ..options(true) };
    let (mut store, _) = open(&disk, &options);
    let blocks = branch(genesis::tip(), 2000, "a");
    let mut rest = blocks.chunks(1);
    let mut staging = store.stage(genesis::tip()).expect("stages");
    disk.fail_sync_after(Some(0));
    let failed = wait::until(wait::SOON, "a failed sync to be told", || {
        store.stage_append(&mut staging, rest.next().expect("the branch is long enough")).err()
    });
    assert!(matches!(&failed, StorageError::Failed(why) if why.contains("failed to sync")), "{failed:?}");
    disk.fail_sync_after(None);
    store.discard(staging);
    assert_eq!(store.tip(), genesis::tip());
    adopt(genesis::tip(), &blocks, vec![]).ask(&mut store).expect("adopts once the disk is well");
    assert_eq!(store.tip(), blocks[1999].tip());
}

#[test]
fn a_crash_at_any_step_of_an_adoption_leaves_the_old_chain_or_the_new_one() {
    for moved in [false, true] {
        let first = branch(genesis::tip(), 12, "a");
        let staged = branch(first[3].tip(), 25, "b");
        let submission = SubmissionId { block: first[7].hash(), position: 0 };
        let op = adopt(first[3].tip(), &staged, vec![submission]);
        let known: Vec<_> = first.iter().chain(&staged).map(|block| block.hash()).collect();
        let mut outcomes = [0, 0];
        for step in 0.. {
            for power in [false, true] {
                let disk = SimDisk::default();
                let mut old = MemoryStorage::new();
                let (mut store, _) = open(&disk, &options(moved));
                let begin = Op::Commit(follow(genesis::tip(), first.iter().map(|block| ours(block, None)).collect()));
                begin.ask(&mut store).expect("does as asked");
                begin.ask(&mut old).expect("does as asked");
                let mut new = old.clone();
                op.ask(&mut new).expect("adopts");

                let before = disk.files().into_iter().rfind(|path| path.starts_with("/data/log")).expect("a log");
                disk.off_after(step);
                let asked = op.ask(&mut store);
                let through = disk.is_on();
                drop(store);
                if power {
                    disk.cut_power(step)
                } else {
                    disk.kill()
                }
                let what = format!("moved {moved}, off at step {step}, power cut {power}");
                let (store, report) = open(&disk, &options(moved));
                let is_new = difference(&store, &new, &known).is_none();
                assert!(is_new || difference(&store, &old, &known).is_none(), "{what}: {report:?}");
                assert!(is_new || asked.is_err(), "{what}: was acknowledged");
                outcomes[usize::from(is_new)] += 1;
                assert_eq!(files_in(&disk, "/data/staging"), 0, "{what}");
                if !is_new {
                    let last = disk.files().into_iter().rfind(|path| path.starts_with("/data/log")).expect("a log");
                    let bytes = disk.read(&last).map_or(0, |bytes| bytes.len());
                    let begun = bytes == 128;
                    assert!(begun || last <= before, "{what}: {last:?} stays with {bytes} bytes");
                }
                if through && asked.is_ok() {
                    assert!(outcomes[0] > 3 && outcomes[1] > 3, "{outcomes:?}");
                    if power {
                        break;
                    }
                }
            }
            if outcomes[1] > 60 || step > 300 {
                break;
            }
        }
        assert!(outcomes[0] > 3 && outcomes[1] > 3, "both happen: {outcomes:?}");
    }
}
