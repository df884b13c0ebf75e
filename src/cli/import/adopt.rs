//! Taking a chain over that was judged: what continues the folder's chain is made durable portion by portion, what undoes
//! blocks of it is staged and switched in at once.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Arc;

use indicatif::ProgressBar;

use super::PIECE;
use super::judge::Judged;
use crate::actors::clock;
use crate::cli::elements::Elements;
use crate::cli::progress::{self, Unit};
use crate::exit::{FAILURE, Failure, UNVERIFIED};
use crate::ledger::chain::Origin;
use crate::ledger::hash::BlockHash;
use crate::ledger::keeper::{Imported, Keeper, STAGE_ABOVE, Staged, Update};
use crate::ledger::storage::Storage;
use crate::ledger::{CheckedBlock, Height, SharedBlock, Tip, json, rules};
use crate::store::Store;

/// Blocks that are made durable in one step when they only continue the chain.
const PORTION: u64 = 50_000;

/// What came of it.
pub struct Done {
    /// What the source holds.
    pub judged: Judged,
    /// Blocks that entered the chain.
    pub new: u64,
    /// Blocks that left it.
    pub undone: u64,
    /// Submissions that wait to be mined again.
    pub requeued: usize,
    /// Where the chain ends now.
    pub tip: Tip,
}

/// The chain in a file, judged, becomes the folder's if it is the better one.
pub fn adopt(keeper: &mut Keeper<Store>, judged: Judged, mut file: File) -> Result<Done, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(FAILURE, error.to_string());
    let old = keeper.tip();
    let Some(tip) = judged.tip else { return Err(Failure::new(FAILURE, "there is no block in the source")) };
    let mut done = Done { judged, new: 0, undone: 0, requeued: 0, tip: old };
    if !tip.beats(&old) {
        return Ok(done);
    }
    file.rewind().map_err(|error| failed(&error))?;
    let bar = progress::bar("importing", Unit::Blocks, Some(judged.blocks), false);
    let mut writer = Adopter { keeper, run: Vec::new(), staged: None, fork: None, bar, done: &mut done };
    let mut elements = Elements::default();
    let mut piece = vec![0; PIECE];
    loop {
        let got = file.read(&mut piece).map_err(|error| failed(&error))?;
        if got == 0 {
            break;
        }
        elements.push(&piece[..got]);
        while let Some(text) = elements.next().map_err(|error| failed(&error))? {
            writer.block(again(text)?)?;
        }
    }
    if let Some(text) = elements.finish().map_err(|error| failed(&error))? {
        writer.block(again(text)?)?;
    }
    writer.end()?;
    Ok(done)
}

/// A block that was good a moment ago; a file that changes under us is not.
fn again(text: &[u8]) -> Result<SharedBlock, Failure> {
    let changed = |why: String| Failure::new(UNVERIFIED, format!("the source changed while it was read: {why}"));
    let text = std::str::from_utf8(text).map_err(|error| changed(error.to_string()))?;
    let block = json::parse_block(text).map_err(|error| changed(error.to_string()))?;
    let block = rules::check_alone(block, clock::unix_time()).map_err(|error| changed(error.to_string()))?;
    Ok(Arc::new(block))
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
