//! `dolmen verify`: everything in a data folder judged again, from the first byte of the log. Changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::output::{Out, OutputArgs, count, thousands};
use super::progress::{self, Unit};
use crate::exit::{FAILURE, Failure, UNVERIFIED};
use crate::store::Damage;
use crate::store::disk::{Disk, RealDisk};
use crate::store::verify::{Index, Progress, Verified, verify};

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The folder
    #[arg(long, value_name = "DIR", env = "DOLMEN_DATA_DIR", default_value = "dolmen-data")]
    data_dir: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl VerifyArgs {
    /// Verifies a data folder and prints what was found.
    pub fn run(&self) -> Result<(), Failure> {
        let dir = &self.data_dir;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let bar = progress::bar("verifying", Unit::Bytes, Some(0), false);
        let mut progress = |progress: Progress| {
            bar.set_length(progress.of);
            bar.set_position(progress.bytes);
        };
        let verified = verify(dir, &disk, &mut progress).map_err(|error| Failure::new(FAILURE, error))?;
        bar.finish_and_clear();
        let mut out = self.output.open();
        if out.is_table() {
            print(&verified, &mut out)?;
        } else {
            out.line(&format!("{:#}", report(&verified)))?;
        }
        out.flush()?;
        if verified.is_good() {
            return Ok(());
        }
        let places = verified.damage.len();
        Err(Failure::new(UNVERIFIED, format!("{} is damaged in {places} places", dir.display())))
    }
}

fn print(verified: &Verified, out: &mut Out) -> Result<(), Failure> {
    let style = out.style;
    let verdict = if verified.is_good() { style.good("good") } else { style.bad("damaged") };
    out.line(&format!(
        "{verdict}: {} with {}, in {} bytes; the best chain ends in block {}",
        count(verified.blocks, "block", "blocks"),
        count(verified.entries, "entry", "entries"),
        thousands(verified.bytes),
        verified.tip
    ))?;
    if verified.unfinished > 0 {
        out.line(&format!("{} bytes at the end are not finished: a crash, or a node at work", verified.unfinished))?;
    }
    match index_text(&verified.index) {
        text if text == "current" => {}
        text => out.line(&format!("the index is {text}; the next start brings it up to date"))?,
    }
    for (healed, places) in [("", &verified.damage), (" (written again since)", &verified.healed)] {
        for Damage { file, offset, bytes, what } in places {
            out.line(&format!("{file} at byte {offset}, {bytes} bytes: {what}{healed}"))?;
        }
    }
    Ok(())
}

fn index_text(index: &Index) -> String {
    match index {
        Index::Current => "current".to_owned(),
        Index::Behind => "behind".to_owned(),
        Index::Damaged(what) => format!("damaged: {what}"),
    }
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
        "index": index_text(&verified.index),
    })
}
