//! Applies what of the log is not yet in the derived state: the tail after a checkpoint, or all of it.
//!
//! Owns the judgement of what is found on the way. An unfinished group at the very end is what a crash leaves: it is cut.
//! A broken part that good groups follow is damage: it is reported, what it held is not served, and the chain is put
//! together again from what follows ([`mend`]). If something does not fit without damage to explain it, it is the derived
//! state that is wrong, and everything is replayed from the beginning.

mod adopted;
mod mend;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use crate::ledger::block::Height;
use crate::ledger::genesis;
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::StorageError;
use crate::store::checkpoint::{self, Checkpoint, Damage};
use crate::store::derived::Derived;
use crate::store::effects::{Arrival, Effects};
use crate::store::epoch::{Departure, Epoch};
use crate::store::error::{OpenError, damaged};
use crate::store::log::{Log, LogEnd};
use crate::store::open::{self, Cut, FoundSegment, Unusable};
use crate::store::record::BLOCK_RECORD_MIN;
use crate::store::segment::{HEADER, Next, Segment, Walk, file_name};
use crate::store::shared::Shared;
use mend::Doubt;

/// Blocks that are applied at once.
const GATHERED: usize = 8192;

/// Bytes that groups count for which are missing without a trace.
const UNSEEN: u64 = 64 << 20;

/// Bytes of an unfinished group that are kept for people to look at.
const MAX_KEPT: u64 = 1 << 20;

/// What a replay found.
#[derive(Debug)]
pub(in crate::store) struct Outcome {
    pub(in crate::store) clean: bool,
    pub(in crate::store) replayed: u64,
    pub(in crate::store) rebuilt: Option<String>,
    pub(in crate::store) cut: Option<Cut>,
    pub(in crate::store) next_segment: u32,
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

/// What is replayed.
#[derive(Clone, Copy)]
pub(in crate::store) struct Source<'s> {
    /// The data directory.
    pub(in crate::store) dir: &'s Path,
    /// The files of its log.
    pub(in crate::store) found: &'s [FoundSegment],
    /// Bytes above which they get no more groups.
    pub(in crate::store) segment_bytes: u64,
}

/// Brings the derived state up to the end of the log.
pub(in crate::store) fn replay(
    shared: Shared,
    checkpoint: Option<Checkpoint>,
    why: Option<Unusable>,
    source: Source<'_>,
) -> Result<(Derived, Outcome), OpenError> {
    let dir = source.dir;
    let disk = Arc::clone(&shared.disk);
    let (shared, why) = match checkpoint {
        None => (shared, why),
        Some(checkpoint) => match Replay::new(shared, Some(&checkpoint), source).run() {
            Ok((derived, outcome)) => return Ok((derived, outcome)),
            Err(Stop::Open(error)) => return Err(error),
            Err(Stop::Misfit(why)) => (open::anew(&disk, dir)?, Some(why.into())),
        },
    };
    if let Some(damage) = why.as_ref().and_then(|why| why.damage.clone()) {
        shared.note(damage);
    }
    match Replay::new(shared, None, source).run() {
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
    source: Source<'r>,
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

/// The log's segments by number, in order.
type Logs = Vec<(u32, Segment)>;

/// A group that was read, or what stands in its place.
enum Step {
    Group { effects: Box<Effects>, whole: bool, sequence: u64, fork: Option<Height>, start: u64, end: u64 },
    End,
    Broken,
}

impl<'r> Replay<'r> {
    fn new(shared: Shared, checkpoint: Option<&'r Checkpoint>, source: Source<'r>) -> Self {
        let expected = checkpoint.map_or(1, |checkpoint| checkpoint.sequence.saturating_add(1));
        Self {
            derived: open::derived(shared, checkpoint),
            checkpoint,
            source,
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
        let fresh = self.source.found.is_empty();
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
            error => Stop::Open(OpenError::storage(self.source.dir)(error)),
        }
    }

    /// The segments from one on: those of the log, opened, and those that were staged.
    fn open_segments(&mut self, first: u32) -> Result<(Logs, Vec<FoundSegment>), Stop> {
        let (mut logs, mut staged) = (Vec::new(), Vec::new());
        for found in self.source.found.iter().filter(|found| found.id >= first) {
            match open::open_segment(&*self.shared().disk, found)? {
                Some(segment) if open::is_log(&segment) => logs.push((found.id, segment)),
                Some(_) => staged.push(found.clone()),
                // A crash while the segment was begun; nothing was ever written into it.
                None if found.bytes <= HEADER && Some(found.id) == self.source.found.last().map(|last| last.id) => {
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
        let dir = self.source.dir.join("cut");
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
                    self.salvage(*effects);
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
                        self.salvage(effects);
                    }
                }
            }
            if !more {
                return Ok(next);
            }
        }
    }

    /// Keeps the good blocks of a broken group, so that the chain finds them if it leads there, and where the others are.
    fn salvage(&mut self, effects: Effects) {
        self.shared().note_unread(effects.broken);
        self.derived.salvage(&effects.blocks);
        self.keep(effects.blocks);
    }

    fn keep(&mut self, blocks: Vec<Arrival>) {
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
        let parts = effects.adopt.as_ref().map(|adopt| self.parts(adopt)).transpose()?.unwrap_or_default();
        let segment_bytes = self.source.segment_bytes;
        let mut missing = 0;
        let mut staged = parts.into_iter().map(|part| {
            let entries = part.entries(&shared, segment_bytes)?;
            missing += entries.iter().filter(|entry| entry.place.is_none()).count() as u64;
            Ok(entries)
        });
        let applied = self.derived.apply(effects, turn, &mut staged, end);
        // Damage as any other: a later group may name a block that was among them.
        self.lost += missing * BLOCK_RECORD_MIN;
        applied.map_err(|error| self.failed(error))?;
        while let Some((_, epoch)) = self.saved.pop_front_if(|(sequence, _)| *sequence <= end.sequence) {
            shared.view.write().unwrap_or_else(PoisonError::into_inner).epoch = epoch;
        }
        Ok(())
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
            let written = shared.positions.write(fork + 1, &left);
            written.map_err(|error| self.failed(error))?;
        }
        // The files that say so may be replaced from now on.
        self.saved.clear();
        shared.positions.sync().map_err(|error| Stop::Open(OpenError::io(&self.source.dir.join("heights"))(error)))
    }

    /// Cuts off an unfinished group, and keeps it for people.
    fn cut_end(&mut self, logs: &Logs) -> Result<(), Stop> {
        let (Some(cut), Some((_, segment))) = (&mut self.cut, logs.last()) else { return Ok(()) };
        let disk = &*self.derived.shared.disk;
        let dir = self.source.dir.join("cut");
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
        let highest = self.source.found.last().map_or(0, |found| found.id);
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
