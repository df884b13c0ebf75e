//! A disk that is full, and one that fails: writing stops, reading goes on, nothing acknowledged is lost.

use dolmen::ledger::genesis;
use dolmen::ledger::storage::{Storage, StorageError};
use rand::RngExt;

use crate::blocks::{branch, extend};
use crate::model::{open, small};
use crate::scenario::{Scenario, difference, seeds};
use crate::sim_disk::SimDisk;

#[test]
fn a_full_disk_changes_nothing_and_room_is_used_again() {
    for seed in seeds(if cfg!(debug_assertions) { 60 } else { 600 }) {
        let options = small(seed);
        let disk = SimDisk::default();
        let mut scenario = Scenario::new(seed);
        let (mut store, _) = open(&disk, &options);
        let mut refused = 0;
        for step in 0..60 {
            if scenario.rng.random_bool(0.3) {
                let room = scenario.rng.random_range(0..4000);
                disk.set_room(Some(room));
            }
            let op = scenario.op();
            match op.ask(&mut store) {
                Ok(()) => scenario.accept(&op),
                Err(StorageError::Full(_)) => refused += 1,
                Err(error) => panic!("seed {seed} step {step}: {error}"),
            }
            if let Some(why) = difference(&store, &scenario.model, &scenario.known) {
                panic!("seed {seed} step {step}: {why}");
            }
            if scenario.rng.random_bool(0.1) {
                disk.set_room(None);
                let op = scenario.op();
                op.ask(&mut store).unwrap_or_else(|error| panic!("seed {seed} step {step}: with room again: {error}"));
                scenario.accept(&op);
            }
            if scenario.rng.random_bool(0.1) {
                // Another process may take the room while nobody is here.
                let closed = scenario.rng.random_bool(0.5);
                if closed {
                    // With no room at all the index may stay behind, which costs a replay.
                    let _ = store.close();
                } else {
                    drop(store);
                }
                disk.set_room(None);
                disk.kill();
                store = open(&disk, &options).0;
                if let Some(why) = difference(&store, &scenario.model, &scenario.known) {
                    panic!("seed {seed} step {step}: opened again: {why}");
                }
            }
        }
        assert!(refused > 0 || seed > 0, "the disk was never full");
    }
}

#[test]
fn the_reserve_lets_a_full_disk_be_closed_in_good_order() {
    let mut options = small(0);
    options.reserve_bytes = 100_000;
    options.checkpoint_blocks = 1000;
    options.segment_bytes = 1 << 20;
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk, &options);
    let blocks = branch(genesis::tip(), 50, "a");
    for block in &blocks[..49] {
        store.commit(&extend(store.tip(), std::slice::from_ref(block))).expect("commits");
    }
    disk.set_room(Some(10));
    let full = store.commit(&extend(store.tip(), &blocks[49..]));
    assert!(matches!(full, Err(StorageError::Full(_))), "{full:?}");
    assert_eq!(store.tip(), blocks[48].tip());
    store.close().expect("closes with the room of the reserve");
    let (store, report) = open(&disk, &options);
    assert_eq!((store.tip(), report.clean, report.replayed, report.rebuilt), (blocks[48].tip(), true, 0, None));
}

#[test]
fn as_long_as_the_reserve_cannot_be_taken_the_disk_is_full() {
    let mut options = small(0);
    options.reserve_bytes = 1000;
    let disk = SimDisk::default();
    let (store, _) = open(&disk, &options);
    store.close().expect("closes");
    disk.set_room(Some(999));
    let (mut store, _) = open(&disk, &options);
    let blocks = branch(genesis::tip(), 1, "a");
    let full = store.commit(&extend(store.tip(), &blocks));
    assert!(matches!(full, Err(StorageError::Full(_))), "{full:?}");
    assert_eq!(store.tip(), genesis::tip());
    assert!(matches!(store.probe(), Err(StorageError::Full(_))));
    disk.set_room(Some(10_000));
    store.probe().expect("there is room again");
    store.commit(&extend(store.tip(), &blocks)).expect("there is room again");
}

#[test]
fn after_a_failed_sync_nothing_is_written_until_the_store_is_opened_anew() {
    let mut options = small(0);
    options.checkpoint_blocks = 1000;
    options.segment_bytes = 1 << 20;
    let disk = SimDisk::default();
    let (mut store, _) = open(&disk, &options);
    let blocks = branch(genesis::tip(), 9, "a");
    store.commit(&extend(store.tip(), &blocks[..3])).expect("commits");
    disk.fail_sync_after(Some(0));
    let failed = store.commit(&extend(store.tip(), &blocks[3..6]));
    assert!(matches!(failed, Err(StorageError::Failed(_))), "{failed:?}");
    disk.fail_sync_after(None);
    let later = store.commit(&extend(store.tip(), &blocks[3..6]));
    assert!(matches!(&later, Err(StorageError::Failed(why)) if why.contains("failed to sync")), "{later:?}");
    assert!(store.stage(store.tip()).is_err());
    assert!(matches!(store.probe(), Err(StorageError::Failed(_))));
    // Reading goes on.
    assert_eq!(store.tip(), blocks[2].tip());
    assert_eq!(store.block(&blocks[1].hash()).expect("reads"), Some(blocks[1].clone()));
    assert!(store.close().is_err());
    disk.cut_power(7);
    let (mut store, _) = open(&disk, &options);
    assert!([blocks[2].tip(), blocks[5].tip()].contains(&store.tip()), "whole or not at all");
    let rest = branch(store.tip(), 2, "b");
    store.commit(&extend(store.tip(), &rest)).expect("commits again");
}
