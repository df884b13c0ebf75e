//! `dolmen verify`: everything in a data folder judged again, from the first byte of the log. Changes nothing.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::exit::{FAILURE, Failure, UNVERIFIED};
use crate::store::Damage;
use crate::store::disk::{Disk, RealDisk};
use crate::store::verify::{Index, Progress, Verified, verify};

/// Verifies a data folder and prints what was found as JSON.
///
/// # Errors
/// The folder cannot be read, or something in it is not what was written.
pub fn run(dir: &Path) -> Result<(), Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let terminal = std::io::stderr().is_terminal();
    let mut progress = |progress: Progress| {
        if terminal {
            let percent = progress.bytes.saturating_mul(100) / progress.of.max(1);
            let _ = write!(std::io::stderr(), "\rverified {percent} % of {} MiB", progress.of >> 20);
        }
    };
    let verified = verify(dir, &disk, &mut progress).map_err(|error| Failure::new(FAILURE, error))?;
    if terminal {
        let _ = writeln!(std::io::stderr());
    }
    let _ = writeln!(std::io::stdout(), "{:#}", report(&verified));
    if verified.is_good() {
        return Ok(());
    }
    let places = verified.damage.len();
    Err(Failure::new(UNVERIFIED, format!("{} is damaged in {places} places", dir.display())))
}

fn report(verified: &Verified) -> Value {
    let rows = |places: &[Damage]| -> Vec<Value> {
        let row = |damage: &Damage| json!({ "file": damage.file, "offset": damage.offset, "bytes": damage.bytes, "what": damage.what });
        places.iter().map(row).collect()
    };
    json!({
        "good": verified.is_good(),
        "tip": { "index": verified.tip.height, "hash": verified.tip.hash.to_string() },
        "blocks": verified.blocks,
        "entries": verified.entries,
        "groups": verified.groups,
        "bytes": verified.bytes,
        "unfinishedBytes": verified.unfinished,
        "damage": rows(&verified.damage),
        "healed": rows(&verified.healed),
        "index": match &verified.index {
            Index::Current => "current".to_owned(),
            Index::Behind => "behind".to_owned(),
            Index::Damaged(what) => format!("damaged: {what}"),
        },
    })
}
