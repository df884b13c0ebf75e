//! `dolmen import`: a chain from a file, a pipe or a node, into the data folder of a stopped node.
//!
//! First every block is judged, and all rules that are broken are reported; then, if none is, the chain becomes the node's
//! by the ordinary rules: it must be longer than what is there, or equally long with a smaller hash. What would undo the
//! folder's own blocks is staged and switched in at once; what only continues them is made durable portion by portion, so
//! that an import that was killed goes on where it was. What came over the network is kept until then.

mod adopt;
mod judge;
mod node;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::output::{Out, OutputArgs, count};
use super::progress::{self, Unit};
use crate::config::DEFAULT_MAX_REORG;
use crate::exit::{FAILURE, Failure, UNVERIFIED, in_system};
use crate::ledger::keeper::Keeper;
use crate::store::{Options, RealDisk, Store};
use adopt::Done;
use judge::{Judge, Judged, Spool};
use node::Node;

/// Bytes of a source that are read at once.
const PIECE: usize = 64 * 1024;

/// Where a [`Spool`] is, in the data folder.
const SPOOL: &str = "import.tmp";

#[derive(Debug, Args)]
#[command(after_help = concat!(
    "The chain is judged from its first block to its last before anything changes; each rule that a block breaks is ",
    "reported, and the exit code is 3. It then becomes the node's chain by the rules that hold between nodes: if it is ",
    "longer than the chain in the folder, or equally long with the smaller hash. Entries that the folder's node had ",
    "acknowledged and that are undone are mined again when it starts.\n\n",
    "Typed again after it was cut off, an import from a dolmen node asks only for what follows; another source is read ",
    "from its beginning, and what the folder has already is passed over.\n\n",
    "The node must be stopped. A running one takes a chain over from a peer: dolmen add-peers."
))]
pub struct ImportArgs {
    /// A file with one block a line or with one array; `-` for a pipe; or a node's address like http://old:3000/blocks
    source: String,
    /// A PEM file with the authorities that sign the certificate of an https:// node
    #[arg(long, env = "DOLMEN_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The data folder of the stopped node; made if it is not there
    #[arg(long, value_name = "DIR", env = "DOLMEN_DATA_DIR", default_value = "dolmen-data")]
    data_dir: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Where a chain comes from.
enum Source {
    /// Can be read twice.
    File(File),
    /// Can be read once.
    Pipe(Box<dyn Read>),
    Node(Node),
}

impl ImportArgs {
    pub fn run(&self) -> Result<(), Failure> {
        let mut out = self.output.open();
        let done = self.import(&mut out);
        let flushed = out.flush();
        done.and(flushed)
    }

    fn import(&self, out: &mut Out) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::new(FAILURE, error.to_string());
        // A source that is not there is noticed before a folder is made.
        let source = self.source()?;
        let (store, _) = Store::open(&self.data_dir, Arc::new(RealDisk), Options::default()).map_err(|e| failed(&e))?;
        let mut keeper = Keeper::open(store, DEFAULT_MAX_REORG).map_err(|error| failed(&error))?;
        let outcome = match source {
            Source::File(file) => import_file(&mut keeper, file, out),
            Source::Pipe(mut pipe) => self.import_spooled(&mut keeper, |keeper, spool| {
                spool.clear()?;
                judge(keeper, &mut pipe, None, out, Some(spool))
            }),
            Source::Node(node) => {
                self.import_spooled(&mut keeper, |keeper, spool| in_system(node.read(keeper, out, spool)))
            }
        };
        keeper.into_storage().close().map_err(|error| failed(&error))?;
        report(&outcome?, out)
    }

    fn source(&self) -> Result<Source, Failure> {
        let source = &self.source;
        if source.starts_with("http://") || source.starts_with("https://") {
            return Ok(Source::Node(Node::new(source, self.tls_ca.as_deref())?));
        }
        if source == "-" {
            return Ok(Source::Pipe(Box::new(io::stdin())));
        }
        let failed = |error| Failure::new(FAILURE, format!("{source}: {error}"));
        let file = File::open(source).map_err(failed)?;
        let regular = file.metadata().map_err(failed)?.is_file();
        Ok(if regular { Source::File(file) } else { Source::Pipe(Box::new(file)) })
    }

    /// A chain that comes only once: what `read` judges is kept in the folder until it is taken over.
    fn import_spooled(
        &self,
        keeper: &mut Keeper<Store>,
        read: impl FnOnce(&Keeper<Store>, &mut Spool) -> Result<Judged, Failure>,
    ) -> Result<Done, Failure> {
        let mut spool = Spool::open(&self.data_dir.join(SPOOL))?;
        let done = read(keeper, &mut spool).and_then(|judged| adopt::adopt(keeper, judged, spool.file()?));
        match &done {
            // A broken link or a full disk: the next import goes on behind what came.
            Err(failure) if failure.code != UNVERIFIED => {}
            _ => spool.remove(),
        }
        done
    }
}

fn import_file(keeper: &mut Keeper<Store>, mut file: File, out: &mut Out) -> Result<Done, Failure> {
    let length = file.metadata().map(|data| data.len()).ok();
    let judged = judge(keeper, &mut file, length, out, None)?;
    adopt::adopt(keeper, judged, file)
}

/// Judges a text of blocks.
fn judge(
    keeper: &Keeper<Store>,
    source: &mut impl Read,
    length: Option<u64>,
    out: &mut Out,
    keep: Option<&mut Spool>,
) -> Result<Judged, Failure> {
    let what = if length.is_some() { "verifying" } else { "reading" };
    let bar = progress::bar(what, Unit::Bytes, length, false);
    let mut judge = Judge::new(keeper, out, keep);
    let mut piece = vec![0; PIECE];
    loop {
        let got = source.read(&mut piece);
        let got = got.map_err(|error| Failure::new(FAILURE, format!("cannot read the source: {error}")))?;
        if got == 0 {
            break;
        }
        bar.inc(got as u64);
        judge.piece(&piece[..got])?;
    }
    bar.finish_and_clear();
    judge.end().inspect(Judged::say_there)
}

fn report(done: &Done, out: &mut Out) -> Result<(), Failure> {
    let Done { judged, new, undone, requeued, tip } = done;
    if out.is_table() {
        let verdict = format!("{} judged, none breaks a rule", count(judged.blocks, "block", "blocks"));
        let change = match (new, undone) {
            (0, _) => "nothing is new: the folder's chain is at least as good".to_owned(),
            (new, 0) => format!("{} entered the chain", count(*new, "block", "blocks")),
            (new, undone) => format!(
                "{} entered the chain and {} left it; {} mined again when the node starts",
                count(*new, "block", "blocks"),
                count(*undone, "block", "blocks"),
                count(*requeued as u64, "submission is", "submissions are"),
            ),
        };
        return out.line(&format!("{verdict}; {change}; it ends in block {tip}"));
    }
    let row = json!({
        "blocks": judged.blocks,
        "there": judged.there,
        "new": new,
        "undone": undone,
        "requeued": requeued,
        "tip": { "index": tip.height, "hash": tip.hash.to_string() },
    });
    out.line(&row.to_string())
}
