//! Judging a chain as it comes in: every rule that a block breaks is reported, and what is good and new is kept in a file
//! to be taken over.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::PIECE;
use crate::actors::clock;
use crate::cli::elements::Elements;
use crate::cli::output::{Out, count, visible};
use crate::cli::talk;
use crate::exit::{FAILURE, Failure, UNVERIFIED};
use crate::ledger::keeper::Keeper;
use crate::ledger::storage::Storage;
use crate::ledger::survey::Survey;
use crate::ledger::{Height, Tip, json as block_json};
use crate::store::Store;

/// Rules that are reported one by one; the rest is counted.
const MAX_REPORTED: u64 = 1_000;

/// What a source holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    /// Blocks that were judged.
    pub blocks: u64,
    /// Blocks of the source that are on the folder's chain, whether they were asked for or not.
    pub there: u64,
    /// The last block.
    pub tip: Option<Tip>,
}

impl Judged {
    /// Says what came although the folder has it; every folder has genesis.
    pub fn say_there(&self) {
        if self.there > 1 {
            talk(&format!("dolmen: {} in the folder already", count(self.there, "block was", "blocks were")));
        }
    }
}

/// Judges a chain as it comes in.
pub struct Judge<'a> {
    keeper: &'a Keeper<Store>,
    out: &'a mut Out,
    /// Where blocks are kept that are not on the folder's chain.
    keep: Option<&'a mut Spool>,
    elements: Elements,
    /// Begins with the first block, which says where the chain begins.
    survey: Option<Survey>,
    judged: Judged,
    /// Place of the next block in the source, from 0.
    place: u64,
    broken_blocks: u64,
    broken_rules: u64,
}

impl<'a> Judge<'a> {
    /// Of a chain that says itself where it begins.
    pub fn new(keeper: &'a Keeper<Store>, out: &'a mut Out, keep: Option<&'a mut Spool>) -> Self {
        Self {
            keeper,
            out,
            keep,
            elements: Elements::default(),
            survey: None,
            judged: Judged::default(),
            place: 0,
            broken_blocks: 0,
            broken_rules: 0,
        }
    }

    /// Of what follows a block of which everything is known.
    pub fn after(keeper: &'a Keeper<Store>, out: &'a mut Out, keep: &'a mut Spool, judged: Judged) -> Self {
        let survey = judged.tip.map(|tip| Survey::new(Some(tip), clock::unix_time()));
        let place = judged.tip.map_or(0, |tip| tip.height.0 + 1);
        Self { survey, judged, place, ..Self::new(keeper, out, Some(keep)) }
    }

    /// Takes a piece of a text of blocks.
    pub fn piece(&mut self, piece: &[u8]) -> Result<(), Failure> {
        let mut elements = std::mem::take(&mut self.elements);
        elements.push(piece);
        while let Some(text) = elements.next().map_err(|error| self.no_blocks(error))? {
            self.block(text)?;
        }
        self.elements = elements;
        Ok(())
    }

    fn no_blocks(&self, error: impl std::fmt::Display) -> Failure {
        Failure::new(UNVERIFIED, format!("the source cannot be read as blocks after block {}: {error}", self.place))
    }

    /// The source has ended: what it holds, if it breaks no rule.
    pub fn end(mut self) -> Result<Judged, Failure> {
        let mut elements = std::mem::take(&mut self.elements);
        if let Some(text) = elements.finish().map_err(|error| self.no_blocks(error))? {
            self.block(text)?;
        }
        if let Some(keep) = &mut self.keep {
            keep.flush()?;
        }
        if self.broken_rules == 0 {
            return Ok(self.judged);
        }
        let blocks = count(self.broken_blocks, "block breaks", "blocks break");
        let rules = count(self.broken_rules, "rule", "rules");
        Err(Failure::new(UNVERIFIED, format!("{blocks} {rules}; nothing was imported")))
    }

    /// Judges the next block.
    pub fn block(&mut self, text: &[u8]) -> Result<(), Failure> {
        let place = self.place;
        self.place += 1;
        self.judged.blocks += 1;
        let Ok(text) = std::str::from_utf8(text) else {
            return self.broken(place, "not-a-block", "not a block: it is no UTF-8 text");
        };
        if self.survey.is_none() {
            self.survey = Some(Survey::new(joins(self.keeper, text)?, clock::unix_time()));
        }
        let Some(survey) = &mut self.survey else { return Ok(()) };
        let block = match survey.next(text) {
            Ok(block) => block,
            Err(broken) => {
                self.broken_blocks += 1;
                for rule in broken {
                    self.broken(place, rule.name(), &rule.to_string())?;
                }
                return Ok(());
            }
        };
        let tip = block.tip();
        self.judged.tip = Some(tip);
        if is_there(self.keeper, tip)? {
            self.judged.there += 1;
        } else if let Some(keep) = &mut self.keep {
            keep.add(&block_json::to_string(block.block()))?;
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

/// Whether a block is on the folder's chain.
fn is_there(keeper: &Keeper<Store>, tip: Tip) -> Result<bool, Failure> {
    let hash = keeper.storage().hash_at(tip.height).map_err(|error| Failure::new(FAILURE, error))?;
    Ok(hash == Some(tip.hash))
}

/// The block of the folder's chain that a source's first block follows; `None` if it begins with genesis.
fn joins(keeper: &Keeper<Store>, first: &str) -> Result<Option<Tip>, Failure> {
    let Ok(block) = block_json::parse_block(first) else { return Ok(None) };
    let Some(height) = block.header.index.0.checked_sub(1).map(Height) else { return Ok(None) };
    let parent = Tip { height, hash: block.header.previous_hash };
    if is_there(keeper, parent)? {
        return Ok(Some(parent));
    }
    Err(Failure::new(
        UNVERIFIED,
        format!(
            "the source begins with block {}, and its parent {} is not on the folder's chain; begin with genesis",
            block.header.index, block.header.previous_hash
        ),
    ))
}

/// What came from a pipe or a node and is not on the folder's chain, one block a line, until it is taken over. An import
/// from a node that was cut off goes on behind it.
pub struct Spool {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Spool {
    /// The file at this place, with what an earlier import left in it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| Failure::new(FAILURE, format!("{}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::new(FAILURE, format!("{}: {error}", self.path.display()))
    }

    /// Goes on behind the blocks that are good and follow each other from the folder's chain on; what comes after them, a
    /// line that was cut off or something else, is dropped.
    pub fn resume(&mut self, keeper: &Keeper<Store>) -> Result<Judged, Failure> {
        let (mut judged, mut end) = (Judged::default(), 0);
        let (mut elements, mut survey, mut piece) = (Elements::default(), None, vec![0; PIECE]);
        'file: loop {
            let got = self.file.get_mut().read(&mut piece).map_err(|error| self.failed(&error))?;
            if got == 0 {
                break;
            }
            elements.push(&piece[..got]);
            while let Ok(Some(line)) = elements.next() {
                let Ok(text) = std::str::from_utf8(line) else { break 'file };
                if survey.is_none() {
                    let Ok(after) = joins(keeper, text) else { break 'file };
                    survey = Some(Survey::new(after, clock::unix_time()));
                }
                let Some(Ok(block)) = survey.as_mut().map(|survey| survey.next(text)) else { break 'file };
                judged.blocks += 1;
                judged.tip = Some(block.tip());
                end += line.len() as u64 + 1;
            }
        }
        self.cut(end)?;
        Ok(judged)
    }

    /// Drops everything.
    pub fn clear(&mut self) -> Result<(), Failure> {
        self.cut(0)
    }

    fn cut(&mut self, end: u64) -> Result<(), Failure> {
        let file = self.file.get_mut();
        let cut = file.set_len(end).and_then(|()| file.seek(SeekFrom::End(0)));
        cut.map(drop).map_err(|error| self.failed(&error))
    }

    fn add(&mut self, block: &str) -> Result<(), Failure> {
        let written = self.file.write_all(block.as_bytes()).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|error| self.failed(&error))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.file.flush().map_err(|error| self.failed(&error))
    }

    /// The file, to be read.
    pub fn file(&mut self) -> Result<File, Failure> {
        self.flush()?;
        self.file.get_ref().try_clone().map_err(|error| self.failed(&error))
    }

    /// Nothing will go on here.
    pub fn remove(self) {
        // What is left would only take room until the next import.
        let _ = std::fs::remove_file(&self.path);
    }
}
