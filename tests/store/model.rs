//! Random operations, compared with a storage in memory after each; the store is opened anew in between, with and
//! without what is derived.

use std::path::Path;
use std::sync::Arc;

use dolmen::store::{Checkpoints, OpenReport, Options, Store};
use rand::RngExt;

use crate::scenario::{Scenario, difference, seeds};
use crate::sim_disk::SimDisk;

/// Limits so small that everything happens within a few dozen blocks.
pub fn small(seed: u64) -> Options {
    Options {
        segment_bytes: 500 + seed % 7 * 400,
        checkpoint_blocks: 1 + seed % 23,
        checkpoint_bytes: 1 << 20,
        reserve_bytes: 1000,
        copied_bytes: seed % 5 * 500,
        checkpoints: Checkpoints::Inline,
    }
}

pub fn open(disk: &SimDisk, options: &Options) -> (Store, OpenReport) {
    Store::open("/data", Arc::new(disk.clone()), options.clone()).expect("the store opens")
}

/// Files that follow from the log.
pub fn derived(disk: &SimDisk) -> Vec<std::path::PathBuf> {
    let is_derived = |path: &Path| path.starts_with("/data/index") || path == Path::new("/data/heights");
    disk.files().into_iter().filter(|path| is_derived(path)).collect()
}

#[test]
fn random_operations_leave_what_they_leave_in_memory() {
    for seed in seeds(if cfg!(debug_assertions) { 40 } else { 300 }) {
        run(seed);
    }
}

fn run(seed: u64) {
    let options = small(seed);
    let disk = SimDisk::default();
    let mut scenario = Scenario::new(seed);
    let (mut store, report) = open(&disk, &options);
    assert!(report.clean, "seed {seed}: a new store");
    for step in 0..60 {
        let op = scenario.op();
        let asked = op.ask(&mut store);
        assert!(asked.is_ok(), "seed {seed} step {step}: {asked:?} on {op:?}");
        scenario.accept(&op);
        if let Some(why) = difference(&store, &scenario.model, &scenario.known) {
            panic!("seed {seed} step {step}: {why}");
        }
        let how = match scenario.rng.random_range(0..10) {
            0 => {
                store.close().expect("closes");
                "after closing"
            }
            1 => {
                drop(store);
                disk.kill();
                "after a kill"
            }
            2 => {
                drop(store);
                let files = derived(&disk);
                let some = scenario.rng.random_bool(0.5);
                for file in files {
                    if !some || scenario.rng.random_bool(0.3) {
                        disk.take(&file);
                    }
                }
                "after losing derived files"
            }
            _ => continue,
        };
        let (again, report) = open(&disk, &options);
        store = again;
        assert_eq!(report.damage, [], "seed {seed} step {step}: {how}");
        assert_eq!(report.cut, None, "seed {seed} step {step}: {how}");
        if how == "after closing" {
            assert!(report.clean, "seed {seed} step {step}: {how}");
        }
        if let Some(why) = difference(&store, &scenario.model, &scenario.known) {
            panic!("seed {seed} step {step}: {how} ({report:?}): {why}");
        }
    }
}
