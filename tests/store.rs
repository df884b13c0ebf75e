//! The store as the node uses it: kept, cut, torn, flipped, filled up and opened again.
//!
//! Random tests print the seed with which they fail; `STORE_SEED=n` runs that one, `STORE_SEEDS=n` so many.

#[path = "store/blocks.rs"]
mod blocks;
#[path = "support/memory_storage.rs"]
mod memory_storage;
#[path = "store/scenario.rs"]
mod scenario;
#[path = "store/sim_disk.rs"]
mod sim_disk;
#[path = "support/wait.rs"]
mod wait;

#[path = "store/damage.rs"]
mod damage;
#[path = "store/full.rs"]
mod full;
#[path = "store/model.rs"]
mod model;
#[path = "store/power.rs"]
mod power;
#[path = "store/refused.rs"]
mod refused;
#[path = "store/snapshots.rs"]
mod snapshots;
#[path = "store/staging.rs"]
mod staging;
