//! `dolmen import`: a chain from a file, a pipe or a node of the tutorial, into the data folder of a stopped node.
//!
//! First every block is judged, and all rules that are broken are reported; then, if none is, the chain becomes the node's
//! by the ordinary rules: it must be longer than what is there, or equally long with a smaller hash. What would undo the
//! folder's own blocks is staged and switched in at once; what only continues them is made durable portion by portion, so
//! that an import that was killed goes on where it was.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use super::elements::Elements;
use super::output::{Out, OutputArgs, count, visible};
use super::progress::{self, Unit};
use crate::actors::clock;
use crate::client::Client;
use crate::config::DEFAULT_MAX_REORG;
use crate::exit::{FAILURE, Failure, UNVERIFIED, USAGE, in_system};
use crate::ledger::chain::Origin;
use crate::ledger::hash::BlockHash;
use crate::ledger::keeper::{Imported, Keeper, STAGE_ABOVE, Staged, Update};
use crate::ledger::storage::Storage;
use crate::ledger::survey::Survey;
use crate::ledger::{CheckedBlock, Height, SharedBlock, Tip, json, rules};
use crate::store::{Options, RealDisk, Store};

/// Bytes of a source that are read at once.
const PIECE: usize = 64 * 1024;

/// Blocks that are made durable in one step when they only continue the chain.
const PORTION: u64 = 50_000;

/// Rules that are reported one by one; the rest is counted.
const MAX_REPORTED: u64 = 1_000;

/// What came from a pipe or a node, until it is imported; removed at the end.
const SPOOL: &str = "import.tmp";

#[derive(Debug, Args)]
#[command(after_help = concat!(
    "The chain is judged from its first block to its last before anything changes; each rule that a block breaks is ",
    "reported, and the exit code is 3. It then becomes the node's chain by the rules that hold between nodes: if it is ",
    "longer than the chain in the folder, or equally long with the smaller hash. Entries that the folder's node had ",
    "acknowledged and that are undone are mined again when it starts.\n\n",
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
        let file = self.file()?;
        let (store, _) = Store::open(&self.data_dir, Arc::new(RealDisk), Options::default()).map_err(|e| failed(&e))?;
        let mut keeper = Keeper::open(store, DEFAULT_MAX_REORG).map_err(|error| failed(&error))?;
        let spool = Spool(self.data_dir.join(SPOOL));
        let outcome = match file {
            Some(file) => {
                let length = file.metadata().map(|data| data.len()).ok();
                let bar = progress::bar("verifying", Unit::Bytes, length, false);
                let verified = verify(&keeper, out, &bar, None, |piece| feed(&file, piece));
                verified.and_then(|verified| self.adopt(&mut keeper, verified, file))
            }
            None => {
                let bar = progress::bar("reading", Unit::Bytes, None, false);
                let (verified, file) = self.spooled(&mut keeper, out, &bar, &spool.0)?;
                self.adopt(&mut keeper, verified, file)
            }
        };
        drop(spool);
        keeper.into_storage().close().map_err(|error| failed(&error))?;
        report(&outcome?, out)
    }

    /// The source as a file that can be read twice; `None` for a pipe or a node.
    fn file(&self) -> Result<Option<File>, Failure> {
        if self.source == "-" || is_url(&self.source) {
            return Ok(None);
        }
        let failed = |error| Failure::new(FAILURE, format!("{}: {error}", self.source));
        let file = File::open(&self.source).map_err(failed)?;
        let regular = file.metadata().map_err(failed)?.is_file();
        Ok(regular.then_some(file))
    }

    /// Judges what comes from a pipe or a node, and keeps it in a file to be read again.
    fn spooled(
        &self,
        keeper: &mut Keeper<Store>,
        out: &mut Out,
        bar: &ProgressBar,
        path: &Path,
    ) -> Result<(Verified, File), Failure> {
        let failed = |error: io::Error| Failure::new(FAILURE, format!("{}: {error}", path.display()));
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(path).map_err(failed)?;
        let mut kept = BufWriter::new(file);
        let verified = if is_url(&self.source) {
            let mut verifier = Verifier::new(out, Some(&mut kept));
            let client = Client::new(&self.source, None, self.tls_ca.as_deref());
            let client = client.map_err(|error| Failure::new(USAGE, error))?;
            in_system(async {
                let mut answer = client.get("").await?;
                while let Some(chunk) = client.chunk_of(&mut answer).await? {
                    bar.inc(chunk.len() as u64);
                    verifier.piece(keeper, &chunk)?;
                }
                Ok(())
            })?;
            verifier.end(keeper)
        } else if self.source == "-" {
            let mut stdin = io::stdin().lock();
            verify(keeper, out, bar, Some(&mut kept), |piece| stdin.read(piece))
        } else {
            let mut pipe = File::open(&self.source).map_err(failed)?;
            verify(keeper, out, bar, Some(&mut kept), |piece| pipe.read(piece))
        }?;
        bar.finish_and_clear();
        let file = kept.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok((verified, file))
    }

    /// The chain, judged, becomes the node's.
    fn adopt(&self, keeper: &mut Keeper<Store>, verified: Verified, mut file: File) -> Result<Done, Failure> {
        let old = keeper.tip();
        let Some(tip) = verified.tip else { return Err(Failure::new(FAILURE, "there is no block in the source")) };
        let mut done = Done { verified, new: 0, undone: 0, requeued: 0, tip: old };
        if !tip.beats(&old) {
            return Ok(done);
        }
        file.rewind().map_err(|error| Failure::new(FAILURE, error))?;
        let bar = progress::bar("importing", Unit::Blocks, Some(done.verified.blocks), false);
        let mut writer = Adopter { keeper, run: Vec::new(), staged: None, fork: None, bar, done: &mut done };
        let mut elements = Elements::default();
        let mut piece = vec![0; PIECE];
        loop {
            let got = feed(&file, &mut piece).map_err(|error| Failure::new(FAILURE, error))?;
            if got == 0 {
                break;
            }
            elements.push(&piece[..got]);
            while let Some(text) = elements.next().map_err(|error| Failure::new(FAILURE, error))? {
                writer.block(again(text)?)?;
            }
        }
        if let Some(text) = elements.finish().map_err(|error| Failure::new(FAILURE, error))? {
            writer.block(again(text)?)?;
        }
        writer.end()?;
        Ok(done)
    }
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

fn feed(mut file: &File, piece: &mut [u8]) -> io::Result<usize> {
    file.read(piece)
}

/// A block that was good a moment ago; a file that changes under us is not.
fn again(text: &[u8]) -> Result<SharedBlock, Failure> {
    let changed = |why: String| Failure::new(UNVERIFIED, format!("the source changed while it was read: {why}"));
    let text = std::str::from_utf8(text).map_err(|error| changed(error.to_string()))?;
    let block = json::parse_block(text).map_err(|error| changed(error.to_string()))?;
    let block = rules::check_alone(block, clock::unix_time()).map_err(|error| changed(error.to_string()))?;
    Ok(Arc::new(block))
}

/// A file that is removed at the end.
struct Spool(PathBuf);

impl Drop for Spool {
    fn drop(&mut self) {
        // Only a pipe or a node needs it.
        let _ = std::fs::remove_file(&self.0);
    }
}

// ---- Judging.

/// What a source holds.
#[derive(Clone, Copy)]
struct Verified {
    blocks: u64,
    /// The last block.
    tip: Option<Tip>,
}

fn verify(
    keeper: &Keeper<Store>,
    out: &mut Out,
    bar: &ProgressBar,
    keep: Option<&mut BufWriter<File>>,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> Result<Verified, Failure> {
    let mut verifier = Verifier::new(out, keep);
    let mut piece = vec![0; PIECE];
    loop {
        let got =
            read(&mut piece).map_err(|error| Failure::new(FAILURE, format!("cannot read the source: {error}")))?;
        if got == 0 {
            break;
        }
        bar.inc(got as u64);
        verifier.piece(keeper, &piece[..got])?;
    }
    bar.finish_and_clear();
    verifier.end(keeper)
}

/// Judges a chain as it comes in, and reports every rule that it breaks.
struct Verifier<'a> {
    elements: Elements,
    /// Begins with the first block, which says where the chain begins.
    survey: Option<Survey>,
    out: &'a mut Out,
    keep: Option<&'a mut BufWriter<File>>,
    blocks: u64,
    tip: Option<Tip>,
    broken_blocks: u64,
    broken_rules: u64,
}

impl<'a> Verifier<'a> {
    fn new(out: &'a mut Out, keep: Option<&'a mut BufWriter<File>>) -> Self {
        Self {
            elements: Elements::default(),
            survey: None,
            out,
            keep,
            blocks: 0,
            tip: None,
            broken_blocks: 0,
            broken_rules: 0,
        }
    }

    fn piece(&mut self, keeper: &Keeper<Store>, piece: &[u8]) -> Result<(), Failure> {
        if let Some(keep) = &mut self.keep {
            keep.write_all(piece).map_err(|error| Failure::new(FAILURE, format!("{SPOOL}: {error}")))?;
        }
        let mut elements = std::mem::take(&mut self.elements);
        elements.push(piece);
        while let Some(text) = elements.next().map_err(|error| self.no_blocks(error))? {
            self.block(keeper, text)?;
        }
        self.elements = elements;
        Ok(())
    }

    fn no_blocks(&self, error: impl std::fmt::Display) -> Failure {
        Failure::new(UNVERIFIED, format!("the source cannot be read as blocks after block {}: {error}", self.blocks))
    }

    fn end(mut self, keeper: &Keeper<Store>) -> Result<Verified, Failure> {
        let mut elements = std::mem::take(&mut self.elements);
        if let Some(text) = elements.finish().map_err(|error| self.no_blocks(error))? {
            self.block(keeper, text)?;
        }
        if self.broken_rules == 0 {
            return Ok(Verified { blocks: self.blocks, tip: self.tip });
        }
        let blocks = count(self.broken_blocks, "block breaks", "blocks break");
        let rules = count(self.broken_rules, "rule", "rules");
        Err(Failure::new(UNVERIFIED, format!("{blocks} {rules}; nothing was imported")))
    }

    fn block(&mut self, keeper: &Keeper<Store>, text: &[u8]) -> Result<(), Failure> {
        let place = self.blocks;
        self.blocks += 1;
        let Ok(text) = std::str::from_utf8(text) else {
            return self.broken(place, "not-a-block", "not a block: it is no UTF-8 text");
        };
        if self.survey.is_none() {
            self.survey = Some(Survey::new(joins(keeper, text)?, clock::unix_time()));
        }
        let Some(survey) = &mut self.survey else { return Ok(()) };
        match survey.next(text) {
            Ok(block) => self.tip = Some(block.tip()),
            Err(broken) => {
                self.broken_blocks += 1;
                for rule in broken {
                    self.broken(place, rule.name(), &rule.to_string())?;
                }
            }
        }
        Ok(())
    }

    fn broken(&mut self, place: u64, rule: &str, detail: &str) -> Result<(), Failure> {
        self.broken_rules += 1;
        if self.broken_rules > MAX_REPORTED {
            return Ok(());
        }
        let line = if self.out.is_table() {
            format!("block {place}: {}  {}", self.out.style.bad(rule), visible(detail, 400))
        } else {
            json!({ "block": place, "rule": rule, "detail": detail }).to_string()
        };
        self.out.line(&line)
    }
}

/// The block of the folder's chain that a source's first block follows; `None` if it begins with genesis.
fn joins(keeper: &Keeper<Store>, first: &str) -> Result<Option<Tip>, Failure> {
    let Ok(block) = json::parse_block(first) else { return Ok(None) };
    let Some(parent) = block.header.index.0.checked_sub(1).map(Height) else { return Ok(None) };
    let hash = keeper.storage().hash_at(parent).map_err(|error| Failure::new(FAILURE, error))?;
    if hash == Some(block.header.previous_hash) {
        return Ok(Some(Tip { height: parent, hash: block.header.previous_hash }));
    }
    Err(Failure::new(
        UNVERIFIED,
        format!(
            "the source begins with block {}, and its parent {} is not on the folder's chain; begin with genesis",
            block.header.index, block.header.previous_hash
        ),
    ))
}

// ---- Taking over.

/// What came of it.
struct Done {
    verified: Verified,
    /// Blocks that entered the chain.
    new: u64,
    /// Blocks that left it.
    undone: u64,
    /// Submissions that wait to be mined again.
    requeued: usize,
    tip: Tip,
}

/// Takes judged blocks over.
struct Adopter<'a> {
    keeper: &'a mut Keeper<Store>,
    run: Vec<SharedBlock>,
    staged: Option<Staged<<Store as Storage>::Staging>>,
    /// The last block that was on the chain already.
    fork: Option<Tip>,
    bar: ProgressBar,
    done: &'a mut Done,
}

impl Adopter<'_> {
    fn block(&mut self, block: SharedBlock) -> Result<(), Failure> {
        self.bar.inc(1);
        if self.staged.is_none() && self.run.is_empty() {
            let known: Option<BlockHash> =
                self.keeper.storage().hash_at(block.height()).map_err(|error| Failure::new(FAILURE, error))?;
            if known == Some(CheckedBlock::hash(&block)) {
                self.fork = Some(block.tip());
                return Ok(());
            }
            let parent = Tip { height: Height(block.height().0.saturating_sub(1)), hash: block.parent() };
            self.fork.get_or_insert(parent);
        }
        self.run.push(block);
        if self.run.len() >= STAGE_ABOVE {
            self.stage()?;
        }
        // Blocks that only continue the chain need not wait for the last.
        let continues = self.fork == Some(self.keeper.tip());
        if continues && self.staged.as_ref().is_some_and(|staged| staged.count() >= PORTION) {
            self.switch()?;
        }
        Ok(())
    }

    fn stage(&mut self) -> Result<(), Failure> {
        let Some(fork) = self.fork.filter(|_| !self.run.is_empty()) else { return Ok(()) };
        let failed = |error: &dyn std::fmt::Display| Failure::new(FAILURE, error.to_string());
        let mut staged = match self.staged.take() {
            Some(staged) => staged,
            None => self.keeper.stage(fork).map_err(|error| failed(&error))?,
        };
        let appended = self.keeper.stage_append(&mut staged, &self.run);
        self.run.clear();
        match appended {
            Ok(()) => {
                self.staged = Some(staged);
                Ok(())
            }
            Err(error) => {
                self.keeper.discard(staged);
                Err(failed(&error))
            }
        }
    }

    fn switch(&mut self) -> Result<(), Failure> {
        let Some(staged) = self.staged.take() else { return Ok(()) };
        let outcome = self.keeper.switch(staged, Origin::Trusted, &mut rand::rng());
        match outcome.map_err(|error| Failure::new(FAILURE, error))? {
            Imported::Changed(update) => {
                let Update { fork, new, requeued, .. } = &update;
                self.done.new += new.height.0 - fork.height.0;
                self.done.undone += update.depth();
                self.done.requeued += requeued;
                self.done.tip = *new;
                self.fork = Some(*new);
                Ok(())
            }
            // Nobody else writes: the chain that was longer a moment ago is longer now.
            Imported::Known | Imported::Unconnected | Imported::Side | Imported::Parked { .. } => {
                Err(Failure::new(FAILURE, "the chain in the folder changed meanwhile"))
            }
        }
    }

    fn end(mut self) -> Result<(), Failure> {
        self.stage()?;
        self.switch()?;
        self.bar.finish_and_clear();
        Ok(())
    }
}

fn report(done: &Done, out: &mut Out) -> Result<(), Failure> {
    let Done { verified, new, undone, requeued, tip } = done;
    if out.is_table() {
        let judged = format!("{} judged, none breaks a rule", count(verified.blocks, "block", "blocks"));
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
        return out.line(&format!("{judged}; {change}; it ends in block {tip}"));
    }
    let row = json!({
        "blocks": verified.blocks,
        "new": new,
        "undone": undone,
        "requeued": requeued,
        "tip": { "index": tip.height, "hash": tip.hash.to_string() },
    });
    out.line(&row.to_string())
}
