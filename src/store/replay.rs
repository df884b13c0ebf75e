//! Applies what of the log is not yet in the derived state: the tail after a checkpoint, or all of it.
//!
//! Owns the judgement of what is found on the way. An unfinished group at the very end is what a crash leaves: it is cut.
//! A broken part that good groups follow is damage: it is reported, what it held is not served, and the chain is put
//! together again from what follows. If something does not fit without damage to explain it, it is the derived state that
//! is wrong, and everything is replayed from the beginning.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::checkpoint::{self, Checkpoint, Damage};
use super::derived::{self, Derived, Turn};
use super::effects::{self, Arrival, Effects};
use super::error::{OpenError, damaged};
use super::log::{Log, LogEnd};
use super::open::{self, Cut, FoundSegment, Unusable};
use super::positions::Entry;
use super::record::{Adopt, BLOCK_MIN, Outline};
use super::segment::{HEADER, Next, RECORD_HEADER, Segment, Walk, file_name};
use super::shared::{Departure, Epoch, Shared};
use crate::ledger::block::{Height, Tip};
use crate::ledger::genesis;
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::StorageError;

/// Blocks that are applied at once.
const GATHERED: usize = 8192;

/// The fewest bytes that a block takes in the log.
const LEAST: u64 = (RECORD_HEADER + BLOCK_MIN) as u64;

/// Bytes that groups count for which are missing without a trace.
const UNSEEN: u64 = 64 << 20;

/// Blocks of one staged file that are believed in when the file itself is gone.
const MAX_UNSEEN_RUN: u64 = 4 << 20;

/// Bytes of an unfinished group that are kept for people to look at.
const MAX_KEPT: u64 = 1 << 20;

/// What a replay found.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) clean: bool,
    pub(super) replayed: u64,
    pub(super) rebuilt: Option<String>,
    pub(super) cut: Option<Cut>,
    pub(super) next_segment: u32,
}

/// Why a replay did not come to an end.
enum Stop {
    /// The derived state that it began with is not what it should be.
    Misfit(String),
    /// Nothing can be done.
    Open(OpenError),
}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

/// Brings the derived state up to the end of the log.
pub(super) fn replay(
    shared: Shared,
    checkpoint: Option<Checkpoint>,
    why: Option<Unusable>,
    found: &[FoundSegment],
    dir: &Path,
) -> Result<(Derived, Outcome), OpenError> {
    let disk = Arc::clone(&shared.disk);
    let (shared, why) = match checkpoint {
        None => (shared, why),
        Some(checkpoint) => match Replay::new(shared, Some(&checkpoint), found, dir).run() {
            Ok((derived, outcome)) => return Ok((derived, outcome)),
            Err(Stop::Open(error)) => return Err(error),
            Err(Stop::Misfit(why)) => (open::anew(&disk, dir)?, Some(why.into())),
        },
    };
    if let Some(damage) = why.as_ref().and_then(|why| why.damage.clone()) {
        shared.note(damage);
    }
    match Replay::new(shared, None, found, dir).run() {
        Ok((derived, mut outcome)) => {
            // A directory that nothing was written to has nothing to make again.
            outcome.rebuilt = why.map(|why| why.reason).filter(|_| outcome.replayed > 0);
            Ok((derived, outcome))
        }
        Err(Stop::Open(error)) => Err(error),
        Err(Stop::Misfit(found)) => Err(OpenError::Damaged { path: dir.to_owned(), found: found.into() }),
    }
}

struct Replay<'r> {
    derived: Derived,
    checkpoint: Option<&'r Checkpoint>,
    found: &'r [FoundSegment],
    dir: &'r Path,
    /// Groups that only make the chain longer, on their way to be applied together.
    gathered: Option<(Effects, LogEnd)>,
    /// What reorgs overwrote in `heights` since the checkpoint: number of the group, and the epoch after it.
    saved: VecDeque<(u64, Arc<Epoch>)>,
    /// Segments that a record adopts.
    adopted: HashSet<u32>,
    /// Bytes of the log that are broken.
    lost: u64,
    /// What of the chain damage has put in doubt.
    doubt: Doubt,
    /// The staged segments: what may have been adopted by a record that is lost.
    staged: Vec<FoundSegment>,
    /// Whether the last thing that was met was damage: then a gap in the numbers is no news.
    after_damage: bool,
    /// Good blocks out of broken groups.
    salvaged: HashMap<BlockHash, Arrival>,
    /// The number that the next group has.
    expected: u64,
    replayed: u64,
    cut: Option<Cut>,
}

/// What of the chain is not certain any more, until a group names a block of it by its hash.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// Everything above this height.
    floor: u64,
    /// Or as many blocks below the next known one as fit into so many bytes, of which nothing is known.
    bytes: u64,
}

impl Doubt {
    const NONE: Self = Self { floor: u64::MAX, bytes: 0 };
}

/// The log's segments by number, in order.
type Logs = Vec<(u32, Segment)>;

/// A group that was read, or what stands in its place.
enum Step {
    Group { effects: Box<Effects>, whole: bool, sequence: u64, fork: Option<Height>, start: u64, end: u64 },
    End,
    Broken,
}

impl<'r> Replay<'r> {
    fn new(shared: Shared, checkpoint: Option<&'r Checkpoint>, found: &'r [FoundSegment], dir: &'r Path) -> Self {
        let expected = checkpoint.map_or(1, |checkpoint| checkpoint.sequence.saturating_add(1));
        Self {
            derived: open::derived(shared, checkpoint),
            checkpoint,
            found,
            dir,
            gathered: None,
            saved: VecDeque::new(),
            adopted: HashSet::new(),
            lost: 0,
            doubt: Doubt::NONE,
            staged: Vec::new(),
            after_damage: false,
            salvaged: HashMap::new(),
            expected,
            replayed: 0,
            cut: None,
        }
    }

    fn shared(&self) -> &Shared {
        &self.derived.shared
    }

    fn run(mut self) -> Result<(Derived, Outcome), Stop> {
        let fresh = self.found.is_empty();
        self.derived.replaying = true;
        self.look_back()?;
        let first = self.checkpoint.map_or(0, |checkpoint| checkpoint.segment);
        let (logs, staged) = self.open_segments(first)?;
        self.staged = staged;

        let mut end = None;
        for (at, (id, segment)) in logs.iter().enumerate() {
            let from = match self.checkpoint {
                Some(checkpoint) if checkpoint.segment == *id => checkpoint.offset,
                _ => HEADER,
            };
            let stopped = self.segment(*id, segment, from, at + 1 == logs.len())?;
            end = Some((*id, stopped));
        }
        self.flush()?;
        self.take_back()?;
        self.cut_end(&logs)?;
        self.remove_unadopted()?;

        let next_segment = self.next_segment();
        let (id, offset, next_segment) = match end {
            Some((id, offset)) => (id, offset, next_segment),
            None => (self.first_segment(next_segment)?, HEADER, next_segment + 1),
        };
        self.derived.applied = LogEnd { segment: id, offset, sequence: self.expected - 1 };
        self.derived.replaying = false;
        self.shared().view.write().unwrap_or_else(PoisonError::into_inner).epoch = Arc::default();
        let clean = fresh || (self.derived.closed && self.cut.is_none() && self.lost == 0);
        let outcome = Outcome { clean, replayed: self.replayed, rebuilt: None, cut: self.cut, next_segment };
        Ok((self.derived, outcome))
    }

    // ---- Before.

    /// Makes `heights` look as it did at the checkpoint: what reorgs have overwritten since stands in files beside it.
    fn look_back(&mut self) -> Result<(), Stop> {
        let Some(checkpoint) = self.checkpoint else { return Ok(()) };
        let shared = &self.derived.shared;
        let saved = checkpoint::all_left(&*shared.disk, &shared.index_dir, checkpoint.sequence);
        let saved = saved.map_err(OpenError::io(&shared.index_dir))?;
        let first: Arc<Epoch> = Arc::default();
        let mut epoch = Arc::clone(&first);
        for (sequence, fork, mut left) in saved {
            // Above the checkpoint's tip the replay itself writes what stood there.
            left.truncate(usize::try_from(checkpoint.tip.height.0.saturating_sub(fork)).unwrap_or(usize::MAX));
            epoch = epoch.end(Departure { fork, left });
            self.saved.push_back((sequence, Arc::clone(&epoch)));
        }
        shared.view.write().unwrap_or_else(PoisonError::into_inner).epoch = first;
        let tip = shared.entry(&shared.view(), checkpoint.tip.height).map_err(Self::misfit)?;
        if tip.is_none_or(|tip| tip.hash != checkpoint.tip.hash) {
            return Err(Stop::Misfit("the file heights does not end with the tip".to_owned()));
        }
        Ok(())
    }

    fn misfit(error: StorageError) -> Stop {
        Stop::Misfit(error.to_string())
    }

    fn failed(&self, error: StorageError) -> Stop {
        match error {
            StorageError::Damaged(why) => Stop::Misfit(why.to_string()),
            error => Stop::Open(OpenError::storage(self.dir)(error)),
        }
    }

    /// The segments from one on: those of the log, opened, and those that were staged.
    fn open_segments(&mut self, first: u32) -> Result<(Logs, Vec<FoundSegment>), Stop> {
        let (mut logs, mut staged) = (Vec::new(), Vec::new());
        for found in self.found.iter().filter(|found| found.id >= first) {
            match open::open_segment(&*self.shared().disk, found)? {
                Some(segment) if open::is_log(&segment) => logs.push((found.id, segment)),
                Some(_) => staged.push(found.clone()),
                // A crash while the segment was begun; nothing was ever written into it.
                None if found.bytes <= HEADER && Some(found.id) == self.found.last().map(|last| last.id) => {
                    self.move_aside(found).map_err(OpenError::io(&found.path))?;
                }
                None => {
                    self.damage(found.id, 0, found.bytes, "both copies of the header are broken");
                    self.doubt.bytes += found.bytes;
                }
            }
        }
        Ok((logs, staged))
    }

    /// Takes a file out of the log for good: its number may be used again.
    fn move_aside(&self, found: &FoundSegment) -> std::io::Result<()> {
        let disk = &self.shared().disk;
        let dir = self.dir.join("cut");
        disk.rename(&found.path, &dir.join(file_name(found.id)))?;
        disk.sync_dir(&dir)?;
        disk.sync_dir(self.shared().segments.dir())
    }

    // ---- Group after group.

    /// Applies the groups of a segment; where it ends.
    fn segment(&mut self, id: u32, segment: &Segment, from: u64, last: bool) -> Result<u64, Stop> {
        let mut walk = Walk::new(segment, from).map_err(|error| self.failed(error))?;
        loop {
            let step = step(&mut walk, id).map_err(|error| self.failed(error))?;
            let (start, broken) = match step {
                Step::End => return Ok(walk.at()),
                Step::Group { effects, whole: true, sequence, end, .. } => {
                    self.group(id, *effects, sequence, end)?;
                    continue;
                }
                Step::Group { effects, start, fork, sequence, end, .. } => {
                    (start, Some((effects, fork, sequence, end)))
                }
                Step::Broken => (walk.at(), None),
            };
            let more = walk.skip_to_group(self.expected).map_err(|error| self.failed(error))?;
            if last && !more {
                let bytes = walk.len() - start;
                self.cut = Some(Cut { file: file_name(id), offset: start, bytes, kept: None });
                return Ok(start);
            }
            let next = if more { walk.at() } else { walk.len() };
            // What was gathered stood before the broken part, and is certain.
            self.flush()?;
            self.damage(id, start, next - start, "a group is not what was written");
            match broken {
                // Its header says how much of the chain is in doubt, if no other group is among what is broken.
                Some((effects, fork, sequence, end)) => {
                    self.doubt.floor = self.doubt.floor.min(fork.map_or(u64::MAX, |fork| fork.0));
                    if end != next || sequence != self.expected {
                        self.doubt.bytes += next - start;
                    }
                    self.expected = self.expected.max(sequence.saturating_add(1));
                    self.after_damage = end != next;
                    self.salvage(effects.blocks);
                }
                None => {
                    let group = walk.headless(start, next, self.expected).map_err(|error| self.failed(error))?;
                    let (effects, whole) = Effects::read(id, &group);
                    if whole && more {
                        // All is there but the header: its records reach to the next group.
                        self.group(id, effects, self.expected, next)?;
                    } else {
                        // What a segment lost at its end cannot be measured.
                        self.doubt.bytes += if more { next - start } else { UNSEEN };
                        self.salvage(effects.blocks);
                    }
                }
            }
            if !more {
                return Ok(next);
            }
        }
    }

    /// Keeps the good blocks of a broken group, so that the chain finds them if it leads there.
    fn salvage(&mut self, blocks: Vec<Arrival>) {
        self.derived.salvage(&blocks);
        self.salvaged.extend(blocks.into_iter().map(|arrival| (arrival.outline.hash, arrival)));
    }

    fn damage(&mut self, id: u32, offset: u64, bytes: u64, what: &str) {
        self.lost += bytes;
        self.after_damage = true;
        self.shared().note(Damage { file: file_name(id), offset, bytes, what: what.to_owned() });
    }

    fn group(&mut self, id: u32, effects: Effects, sequence: u64, end: u64) -> Result<(), Stop> {
        if sequence < self.expected {
            self.damage(id, end, 0, "a group has a number that was before");
            return Ok(());
        }
        if sequence > self.expected && !self.after_damage {
            self.damage(id, end, UNSEEN, "groups before this place are missing");
            // What was gathered stood before the gap, and is certain.
            self.flush()?;
            self.doubt.bytes += UNSEEN;
        }
        self.after_damage = false;
        self.expected = sequence.saturating_add(1);
        self.replayed += 1;
        self.gather(effects, LogEnd { segment: id, offset: end, sequence })
    }

    /// Applies a group, or keeps it to be applied with the next ones.
    fn gather(&mut self, mut effects: Effects, end: LogEnd) -> Result<(), Stop> {
        if let Some((gathered, gathered_end)) = &mut self.gathered
            && gathered.blocks.len() < GATHERED
        {
            match gathered.absorb(effects) {
                None => {
                    *gathered_end = end;
                    return Ok(());
                }
                Some(back) => effects = back,
            }
        }
        self.flush()?;
        if effects.fork() == Some(self.derived.tip()) {
            self.gathered = Some((effects, end));
            return Ok(());
        }
        self.apply(&effects, end)
    }

    fn flush(&mut self) -> Result<(), Stop> {
        match self.gathered.take() {
            Some((effects, end)) => self.apply(&effects, end),
            None => Ok(()),
        }
    }

    fn apply(&mut self, effects: &Effects, end: LogEnd) -> Result<(), Stop> {
        let turn = match effects.fork() {
            Some(fork) => Some(self.turn(fork, effects.revived())?),
            None => None,
        };
        if let Some(turn) = &turn {
            self.derived.save_left(turn, end.sequence).map_err(|error| self.failed(error))?;
        }
        let shared = Arc::clone(&self.derived.shared);
        let runs = effects.adopt.as_ref().map(|adopt| self.runs(adopt)).transpose()?.unwrap_or_default();
        let staged = runs.into_iter().flat_map(|run| match run_entries(&shared, &run) {
            Ok(entries) => entries.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        });
        let mut staged = staged;
        self.derived.apply(effects, turn, &mut staged, end).map_err(|error| self.failed(error))?;
        while let Some((_, epoch)) = self.saved.pop_front_if(|(sequence, _)| *sequence <= end.sequence) {
            shared.view.write().unwrap_or_else(PoisonError::into_inner).epoch = epoch;
        }
        Ok(())
    }

    // ---- The chain, also where damage has taken parts of it.

    fn turn(&mut self, fork: Tip, revived: &[BlockHash]) -> Result<Turn, Stop> {
        let view = self.shared().view();
        let fits = matches!(self.shared().hash_at(&view, fork.height), Ok(Some(hash)) if hash == fork.hash);
        if fits && revived.iter().all(|hash| self.shared().side(hash).is_some()) {
            self.doubt = Doubt::NONE;
            return self.derived.prepare(fork, revived).map_err(|error| self.failed(error));
        }
        // With the log from its beginning more may be known.
        if self.lost == 0 || self.checkpoint.is_some() {
            return Err(Stop::Misfit(format!("block {fork} is not on the chain, and a group of the log follows it")));
        }
        let turn = self.mend(fork, revived)?;
        self.doubt = Doubt::NONE;
        Ok(turn)
    }

    /// Finds the highest place of the chain that is certain and from which groups that are lost may have led to `fork`.
    /// What good blocks remain is put in between, and nothing where none does.
    fn mend(&mut self, fork: Tip, revived: &[BlockHash]) -> Result<Turn, Stop> {
        self.salvage_staged()?;
        let shared = self.shared();
        let view = shared.view();
        let staged: u64 = self.staged.iter().map(|found| found.bytes).sum();
        if fork.height.0.saturating_sub(view.tip.height.0) > (self.lost + staged) / LEAST + 1 {
            return Err(Stop::Misfit(format!("block {fork} is farther from the chain than damage explains")));
        }
        let floor = self.floor(fork, staged).min(view.tip.height.0);
        let on_chain = |height: u64, hash: BlockHash| {
            hash != BlockHash::ZERO && matches!(shared.hash_at(&view, Height(height)), Ok(Some(found)) if found == hash)
        };
        let (mut height, mut hash) = (fork.height.0, fork.hash);
        let mut between = Vec::new();
        while height > floor && !on_chain(height, hash) {
            let (entry, parent) = self.salvaged_entry(hash);
            between.push(entry);
            (height, hash) = (height - 1, parent);
        }
        between.reverse();
        let base = if height == view.tip.height.0 {
            view.tip
        } else {
            let entry = shared.entry(&view, Height(height)).map_err(|error| self.failed(error))?;
            Tip { height: Height(height), hash: entry.map_or(BlockHash::ZERO, |entry| entry.hash) }
        };
        let mut turn = self.derived.departing(&view, base).map_err(|error| self.failed(error))?;
        between.extend(revived.iter().map(|hash| self.salvaged_entry(*hash).0));
        turn.first = between;
        self.keep_salvaged(&mut turn);
        Ok(turn)
    }

    /// Keeps good blocks that the chain was not seen to lead to as side blocks, where their parents are known: the chain
    /// may come to them when a block above is restored.
    fn keep_salvaged(&self, turn: &mut Turn) {
        let mut known: HashSet<BlockHash> = turn.sides.iter().map(|(hash, _)| *hash).collect();
        known.insert(turn.base.hash);
        let entering: HashSet<BlockHash> = turn.first.iter().map(|entry| entry.hash).collect();
        let mut salvaged: Vec<&Arrival> = self.salvaged.values().collect();
        salvaged.sort_unstable_by_key(|arrival| (arrival.outline.height, arrival.outline.hash));
        for arrival in salvaged {
            let Outline { hash, parent, .. } = arrival.outline;
            let follows = known.contains(&parent) || self.shared().side(&parent).is_some();
            if follows && !entering.contains(&hash) && known.insert(hash) {
                turn.sides.push((hash, derived::side(arrival)));
            }
        }
    }

    /// Up to which height the chain is certain, seen from a block that is.
    fn floor(&self, fork: Tip, staged: u64) -> u64 {
        let known = self.doubt.floor.min(fork.height.0);
        if self.doubt.bytes == 0 {
            return known;
        }
        // A lost record may have adopted a branch, of which the end may be lost, too, or all.
        let gaps = self.found.windows(2).any(|pair| pair[0].id + 1 != pair[1].id);
        let bytes = self.doubt.bytes + staged + if gaps { UNSEEN } else { 0 };
        let branches = self.salvaged.values().filter(|arrival| !self.adopted.contains(&arrival.place.segment));
        let lowest = branches.map(|arrival| arrival.outline.height.0.saturating_sub(1)).min().unwrap_or(known);
        known.min(lowest).min(fork.height.0.saturating_sub(bytes / LEAST + 1))
    }

    /// Takes the blocks of staged branches that nothing has adopted so far among those that the chain may lead to.
    fn salvage_staged(&mut self) -> Result<(), Stop> {
        let ids = self.staged.iter().map(|found| found.id);
        let unadopted: Vec<u32> = ids.filter(|id| !self.adopted.contains(id)).collect();
        for id in unadopted {
            let segment = self.shared().segments.get(id).map_err(|error| self.failed(error))?;
            let arrivals = arrivals(id, &segment).map_err(|error| self.failed(error))?;
            self.salvage(arrivals);
        }
        Ok(())
    }

    /// What is left of a block, and its parent as far as that is known.
    fn salvaged_entry(&self, hash: BlockHash) -> (Entry, BlockHash) {
        if let Some(arrival) = self.salvaged.get(&hash) {
            return (arrival.entry(), arrival.outline.parent);
        }
        match self.shared().side(&hash) {
            Some(side) => (Entry { hash, place: side.place() }, side.parent),
            None => (Entry::lost(hash), BlockHash::ZERO),
        }
    }

    /// The files of an adopted branch, and which heights are in each.
    fn runs(&mut self, adopt: &Adopt) -> Result<Vec<Run>, Stop> {
        let mut from = adopt.fork.height;
        let mut runs = Vec::new();
        for (segment, blocks) in &adopt.runs {
            self.adopted.insert(*segment);
            let first = from.next();
            from = Height(from.0.saturating_add(*blocks));
            runs.push(Run { segment: *segment, first, blocks: *blocks, tip: adopt.tip });
        }
        if from != adopt.tip.height {
            return Err(Stop::Misfit(format!("an adopted branch has not the blocks that lead to {}", adopt.tip)));
        }
        Ok(runs)
    }

    // ---- After.

    /// Undoes in `heights` what groups have done that are not in the log any more, or never were.
    fn take_back(&mut self) -> Result<(), Stop> {
        let shared = Arc::clone(&self.derived.shared);
        let departures = shared.view().epoch.departures();
        if departures.is_empty() {
            return Ok(());
        }
        for (fork, left) in departures.into_iter().rev() {
            let written = shared.positions.write(fork + 1, left.into_iter());
            written.map_err(|error| self.failed(error))?;
        }
        // The files that say so may be replaced from now on.
        self.saved.clear();
        shared.positions.sync().map_err(|error| Stop::Open(OpenError::io(&self.dir.join("heights"))(error)))
    }

    /// Cuts off an unfinished group, and keeps it for people.
    fn cut_end(&mut self, logs: &Logs) -> Result<(), Stop> {
        let (Some(cut), Some((_, segment))) = (&mut self.cut, logs.last()) else { return Ok(()) };
        let disk = &*self.derived.shared.disk;
        let dir = self.dir.join("cut");
        let path = dir.join(format!("{}-{}", cut.file, cut.offset));
        let kept = cut.bytes.min(MAX_KEPT);
        // The cast is safe: at most a megabyte.
        let bytes = segment.read(cut.offset, kept as u32).and_then(|bytes| {
            let written = disk.create(&path).and_then(|file| file.write_all_at(&bytes, 0));
            written.map_err(|error| damaged(error.to_string()))
        });
        // Best effort: a full disk must not keep the store from opening.
        cut.kept = bytes.is_ok().then_some(path);
        let cut_off = segment.file.set_len(cut.offset).and_then(|()| segment.file.sync_data());
        cut_off.map_err(|error| Stop::Open(OpenError::io(&segment.path)(error)))
    }

    /// Removes branches that were moved into the log and never adopted. Where a record may be lost they stay.
    fn remove_unadopted(&self) -> Result<(), Stop> {
        let decided = self.checkpoint.map_or(0, |checkpoint| checkpoint.next_segment);
        let undecided = self.staged.iter().filter(|found| found.id >= decided && !self.adopted.contains(&found.id));
        for found in undecided.filter(|_| self.lost == 0) {
            self.shared().disk.remove(&found.path).map_err(OpenError::io(&found.path))?;
        }
        Ok(())
    }

    fn next_segment(&self) -> u32 {
        let highest = self.found.last().map_or(0, |found| found.id);
        let named = self.checkpoint.map_or(1, |checkpoint| checkpoint.next_segment);
        named.max(highest.saturating_add(1))
    }

    fn first_segment(&self, id: u32) -> Result<u32, Stop> {
        let shared = self.shared();
        let segment = Log::create_segment(&*shared.disk, shared.segments.path(id), genesis::tip().hash);
        let segment = segment.map_err(|error| self.failed(error))?;
        shared.segments.insert(id, segment);
        Ok(id)
    }
}

fn step(walk: &mut Walk<'_>, id: u32) -> Result<Step, StorageError> {
    Ok(match walk.next_group()? {
        Next::End => Step::End,
        Next::Broken => Step::Broken,
        Next::Group(group) => {
            let (effects, whole) = Effects::read(id, &group);
            Step::Group {
                effects: Box::new(effects),
                whole,
                sequence: group.sequence,
                fork: group.fork,
                start: group.start,
                end: group.end,
            }
        }
    })
}

/// A file of an adopted branch.
struct Run {
    segment: u32,
    first: Height,
    blocks: u64,
    /// The branch's tip.
    tip: Tip,
}

/// The entries of a file of an adopted branch; of what is broken in it, the hash at best.
fn run_entries(shared: &Shared, run: &Run) -> Result<Vec<Entry>, StorageError> {
    let segment = shared.segments.get(run.segment);
    let most = match &segment {
        Ok(segment) => segment.file.len().unwrap_or_default() / LEAST,
        Err(_) => MAX_UNSEEN_RUN,
    };
    if run.blocks > most {
        return Err(damaged(format!("{} has not the blocks that were adopted with it", file_name(run.segment))));
    }
    // The cast is safe: the number was just bounded by a file's length.
    let mut entries = vec![Entry::lost(BlockHash::ZERO); run.blocks as usize];
    match &segment {
        Ok(segment) => fill(run, segment, &mut entries)?,
        Err(error) => note(shared, run, 0, &error.to_string()),
    }
    let missing = entries.iter().filter(|entry| entry.place.is_none()).count();
    if missing > 0 {
        note(shared, run, 0, &format!("{missing} of its blocks are not what was written"));
    }
    let ends = Height(run.first.0 + run.blocks) == run.tip.height.next();
    match entries.last_mut() {
        Some(last) if ends && last.place.is_none() => last.hash = run.tip.hash,
        _ => {}
    }
    Ok(entries)
}

fn fill(run: &Run, segment: &Segment, entries: &mut [Entry]) -> Result<(), StorageError> {
    each_arrival(run.segment, segment, &mut |arrival| {
        let at = arrival.outline.height.0.checked_sub(run.first.0).and_then(|at| usize::try_from(at).ok());
        let Some(at) = at.filter(|at| *at < entries.len()) else { return };
        entries[at] = arrival.entry();
        if let Some(before) = at.checked_sub(1).and_then(|before| entries.get_mut(before))
            && before.place.is_none()
        {
            before.hash = arrival.outline.parent;
        }
    })
}

fn arrivals(id: u32, segment: &Segment) -> Result<Vec<Arrival>, StorageError> {
    let mut arrivals = Vec::new();
    each_arrival(id, segment, &mut |arrival| arrivals.push(arrival))?;
    Ok(arrivals)
}

/// All good blocks of a segment, in order.
fn each_arrival(id: u32, segment: &Segment, take: &mut dyn FnMut(Arrival)) -> Result<(), StorageError> {
    let mut walk = Walk::new(segment, HEADER)?;
    loop {
        match walk.next_group()? {
            Next::End => return Ok(()),
            Next::Broken => {
                if !walk.skip_to_group(0)? {
                    return Ok(());
                }
            }
            Next::Group(group) => {
                group.records.iter().filter_map(|record| effects::arrival(id, record)).for_each(&mut *take);
            }
        }
    }
}

fn note(shared: &Shared, run: &Run, bytes: u64, what: &str) {
    shared.note(Damage { file: file_name(run.segment), offset: HEADER, bytes, what: what.to_owned() });
}
