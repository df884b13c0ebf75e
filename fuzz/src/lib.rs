//! What the fuzz targets share: the node's pure layers, a second implementation to hold them against, and drivers.
//!
//! The layers are compiled into this crate from the node's own files, under the node's name. So nothing in the node has to
//! be public for fuzzing's sake, and the half of its dependencies that does the talking (actix, TLS) is not built. That it
//! compiles shows the layer rule, too: these modules need no actors. The same way in come the simulated disk, the storage in
//! memory and the driver of a sync of the node's tests.

extern crate self as dolmen;

#[path = "../../src/ledger/mod.rs"]
pub mod ledger;

#[path = "../../src/peer/mod.rs"]
pub mod peer;

#[path = "../../src/store/mod.rs"]
pub mod store;

#[path = "../../src/config/mod.rs"]
pub mod config;

#[path = "../../src/text.rs"]
pub mod text;

/// What HTTP requests carry.
#[path = "../../src/http/bodies.rs"]
pub mod bodies;

/// Where heads and bodies of HTTP requests end.
#[path = "../../src/server/reading.rs"]
pub mod reading;

/// The address book's file.
#[path = "../../src/actors/peers/page.rs"]
#[allow(dead_code, reason = "the target parses text, and touches no file")]
mod page;

#[path = "../../tests/support/memory_storage.rs"]
pub mod memory_storage;

#[path = "../../tests/support/sync_driver.rs"]
pub mod sync_driver;

#[path = "../../tests/store/sim_disk.rs"]
pub mod sim_disk;

#[path = "../../tests/store/blocks.rs"]
pub mod blocks;

#[path = "../../tests/store/scenario.rs"]
pub mod scenario;

/// A second reading of the chain's format.
pub mod second;

/// A tree of blocks to choose from.
pub mod tree;

/// A folder of files to break.
pub mod folder;

use ledger::UnixTime;
use peer::book::Line;
use peer::conduct::Conduct;

/// Our clock.
pub const NOW: UnixTime = UnixTime(1_700_000_000);

/// The address book's file, read and written again.
pub fn book_page(text: &str) -> Option<(Vec<Line>, Conduct, String)> {
    let page: page::Page = serde_json::from_str(text).ok()?;
    let written = serde_json::to_string(&page).expect("plain data");
    Some((page.addresses, page.conduct, written))
}
