//! Power cuts on the simulated disk: whatever was not synced may be lost, torn or out of order.

use rand::RngExt;

use crate::model::{open, small};
use crate::scenario::{Scenario, difference, seeds};
use crate::sim_disk::SimDisk;

#[test]
fn after_a_power_cut_everything_acknowledged_is_there_and_nothing_else() {
    for seed in seeds(2500) {
        run(seed);
    }
}

fn run(seed: u64) {
    let options = small(seed);
    let disk = SimDisk::default();
    let mut scenario = Scenario::new(seed);
    for cut in 0..4 {
        let room = scenario.rng.random_range(0..150);
        disk.off_after(room);
        // The machine may go off while the store is being opened, too.
        let opened = dolmen::store::Store::open("/data", std::sync::Arc::new(disk.clone()), options.clone());
        let mut under_way = None;
        if let Ok((mut store, _)) = opened {
            loop {
                let op = scenario.op();
                match op.ask(&mut store) {
                    Ok(()) => scenario.accept(&op),
                    Err(_) => {
                        under_way = Some(op);
                        break;
                    }
                }
                // Whoever reads sees what was committed.
                assert_eq!(
                    dolmen::ledger::storage::Storage::tip(&store),
                    dolmen::ledger::storage::Storage::tip(&scenario.model)
                );
            }
        }
        disk.cut_power(seed * 1000 + cut);
        let (store, report) = open(&disk, &options);
        assert_eq!(report.damage, [], "seed {seed} cut {cut}: {report:?}");
        let Some(why) = difference(&store, &scenario.model, &scenario.known) else { continue };
        // What was under way may have become durable, whole.
        let Some(op) = under_way else { panic!("seed {seed} cut {cut}: {why}") };
        scenario.accept(&op);
        if let Some(other) = difference(&store, &scenario.model, &scenario.known) {
            panic!("seed {seed} cut {cut}: neither before ({why}) nor after ({other}) {report:?}");
        }
    }
}
