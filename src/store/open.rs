//! From a directory to a store: is it ours, who has it, what is derived already, what is to be replayed.
//!
//! Owns the files `FORMAT`, `LOCK` and `RESERVE`. `FORMAT` is text for people and for programs that look whether they may
//! read on, in four lines, the last of which checks the others:
//!
//! ```text
//! dolmen data directory
//! format 1
//! genesis f087ad9b4600afd1c6451654a7df0f0f20795c95825c097a25469b7cf5287feb
//! check 0a1b2c3d
//! ```
//!
//! A broken or missing `FORMAT` is written again when the segments in `log/` say that they are ours.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use super::checkpoint::{self, Checkpoint, Damage};
use super::derived::Derived;
use super::disk::{self, Disk, Lock};
use super::epoch::{Epoch, View};
use super::error::{OpenError, damaged, from_disk};
use super::log::{Log, LogEnd};
use super::positions::{ENTRY, Entry, Place, Positions};
use super::replay;
use super::segment::{self, FORMAT, Header, NotASegment, Purpose, Segment, Segments};
use super::shared::{REBUILD, Shared};
use super::table::{self, Tables};
use super::worker::Worker;
use super::{Options, Store, staging};
use crate::ledger::block::{Height, Tip};
use crate::ledger::genesis;
use crate::ledger::hash::BlockHash;
use crate::ledger::limits::MAX_SAFE_INTEGER;
use crate::ledger::storage::StorageError;

const FORMAT_FILE: &str = "FORMAT";
const FIRST_LINE: &str = "dolmen data directory";
const LOCK_FILE: &str = "LOCK";
const RESERVE_FILE: &str = "RESERVE";

/// What may stand in a directory that nothing was written to yet.
const HARMLESS: [&str; 4] = [LOCK_FILE, "FORMAT.new", "lost+found", RESERVE_FILE];

/// The end of the log as it was found, when it was not whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The segment's file.
    pub file: String,
    /// Where its last whole group ends.
    pub offset: u64,
    /// Bytes that were cut off.
    pub bytes: u64,
    /// Where they were kept, as far as they are not too many.
    pub kept: Option<PathBuf>,
}

/// What was found when the store was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenReport {
    /// The end of the best chain.
    pub tip: Tip,
    /// Whether the store was closed in good order the last time; a new one was.
    pub clean: bool,
    /// Groups of the log that were applied to the derived state.
    pub replayed: u64,
    /// Why the whole log had to be replayed, if it had.
    pub rebuilt: Option<String>,
    /// An unfinished group at the end of the log: what a crash leaves. It was never acknowledged.
    pub cut: Option<Cut>,
    /// Broken parts of the log, all that are known so far.
    pub damage: Vec<Damage>,
}

/// Opens a data directory.
pub(super) fn open(dir: PathBuf, disk: Arc<dyn Disk>, options: Options) -> Result<(Store, OpenReport), OpenError> {
    let failed = OpenError::io(&dir);
    make_dir(&*disk, &dir).map_err(&failed)?;
    // Looked at before anything is written, the lock too, so that nothing is left in a directory that is not ours.
    look(&*disk, &dir)?;
    let guard = lock(&*disk, &dir)?;
    identify(&*disk, &dir)?;
    for name in ["log", "index", "staging", "cut"] {
        disk.create_dir_all(&dir.join(name)).map_err(&failed)?;
    }
    disk.sync_dir(&dir).map_err(&failed)?;
    staging::remove_all(&*disk, &dir.join("staging")).map_err(&failed)?;

    let found = segments_in(&*disk, &dir.join("log")).map_err(&failed)?;
    let (shared, checkpoint, why) = derived_state(&disk, &dir, &found)?;
    let source = replay::Source { dir: &dir, found: &found, segment_bytes: options.segment_bytes };
    let (derived, outcome) = replay::replay(shared, checkpoint, why, source)?;

    let resumed = Log::resume(
        Arc::clone(&disk),
        &derived.shared.segments,
        genesis::tip().hash,
        options.segment_bytes,
        derived.applied,
        outcome.next_segment,
    );
    let log = resumed.map_err(OpenError::storage(&dir))?;
    let shared = Arc::clone(&derived.shared);
    let worker = Worker::start(Arc::clone(&shared), options.checkpoints).map_err(&failed)?;
    let mut reserve =
        Reserve { disk: Arc::clone(&disk), path: dir.join(RESERVE_FILE), bytes: options.reserve_bytes, there: false };
    reserve.find();
    if let Err(error) = reserve.restore() {
        tracing::warn!(%error, bytes = reserve.bytes, "there is no room to write, only to read");
    }
    let report = OpenReport {
        tip: derived.tip(),
        clean: outcome.clean,
        replayed: outcome.replayed,
        rebuilt: outcome.rebuilt,
        cut: outcome.cut,
        damage: shared.damage.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
    };
    let sealed_bytes = sealed_bytes(&found, derived.applied.segment);
    let mut store = Store {
        disk,
        dir,
        options,
        log,
        derived,
        worker,
        reserve,
        next_staging: 1,
        sealed_bytes,
        bytes_since: 0,
        _lock: guard,
    };
    if store.derived.blocks_since >= store.options.checkpoint_blocks || report.rebuilt.is_some() {
        store.checkpoint();
    }
    Ok((store, report))
}

/// Makes the directory, so that its name is durable before anything in it is.
fn make_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !disk.exists(dir).unwrap_or(true);
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    disk.create_dir_all(dir)?;
    for made in missing {
        match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => disk.sync_dir(parent)?,
            _ => disk.sync_dir(Path::new("."))?,
        }
    }
    Ok(())
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<disk::LockGuard, OpenError> {
    let holder = format!("process {}", std::process::id());
    match disk.lock(&dir.join(LOCK_FILE), &holder).map_err(OpenError::io(&dir.join(LOCK_FILE)))? {
        Lock::Ours(guard) => Ok(guard),
        Lock::Theirs(holder) => {
            let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
            Err(OpenError::Locked { path: dir.to_owned(), holder })
        }
    }
}

// ---- Is it ours?

/// What a directory that may be used says about itself.
enum Label {
    /// That it is ours.
    Ours,
    /// Nothing, or nothing that can be read: it is empty, or its segments are ours.
    Missing,
}

/// Finds that the directory is ours, or makes it ours if nothing is in it.
fn identify(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    match look(disk, dir)? {
        Label::Ours => Ok(()),
        Label::Missing => {
            let text = format_text(FORMAT, genesis::tip().hash);
            disk::replace(disk, dir, FORMAT_FILE, text.as_bytes()).map_err(OpenError::io(&dir.join(FORMAT_FILE)))
        }
    }
}

/// Finds whether the directory may be used; changes nothing.
fn look(disk: &dyn Disk, dir: &Path) -> Result<Label, OpenError> {
    let path = dir.join(FORMAT_FILE);
    let failed = OpenError::io(&path);
    match disk::read_small(disk, &path, 4096) {
        Ok(text) => match read_format(&text) {
            Some(said) => judge(&path, said).map(|()| Label::Ours),
            None if has_segments(disk, dir)? => Ok(Label::Missing),
            None => {
                let found = "its file FORMAT says something else".to_owned();
                Err(OpenError::Foreign { path: dir.to_owned(), found })
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let names = disk.list(dir).map_err(&failed)?;
            let stranger = names.iter().filter(|name| !HARMLESS.contains(&name.as_str())).min();
            if let Some(stranger) = stranger
                && !has_segments(disk, dir)?
            {
                let found = format!("it holds {stranger:?} and no file FORMAT");
                return Err(OpenError::Foreign { path: dir.to_owned(), found });
            }
            Ok(Label::Missing)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData && has_segments(disk, dir)? => Ok(Label::Missing),
        Err(error) => Err(failed(error)),
    }
}

/// Judges what a directory says of itself, for those who only read.
pub(super) fn judge_format(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(FORMAT_FILE);
    match disk::read_small(disk, &path, 4096).ok().and_then(|text| read_format(&text)) {
        Some(said) => judge(&path, said),
        None if has_segments(disk, dir)? => Ok(()),
        None => Err(OpenError::Foreign { path: dir.to_owned(), found: "it has no readable file FORMAT".to_owned() }),
    }
}

fn judge(path: &Path, (format, found): (u32, BlockHash)) -> Result<(), OpenError> {
    let wanted = genesis::tip().hash;
    if format != FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found: format, known: FORMAT });
    }
    if found != wanted {
        return Err(OpenError::OtherGenesis { path: path.to_owned(), found, wanted });
    }
    Ok(())
}

fn format_text(format: u32, genesis: BlockHash) -> String {
    let text = format!("{FIRST_LINE}\nformat {format}\ngenesis {genesis}\n");
    format!("{text}check {:08x}\n", crc32fast::hash(text.as_bytes()))
}

fn read_format(text: &[u8]) -> Option<(u32, BlockHash)> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let format = lines.next()?.strip_prefix("format ")?.parse().ok()?;
    let genesis = BlockHash::from_hex(lines.next()?.strip_prefix("genesis ")?)?;
    (text == format_text(format, genesis)).then_some((format, genesis))
}

/// Whether there is a segment of ours, for a directory that does not say itself what it is.
fn has_segments(disk: &dyn Disk, dir: &Path) -> Result<bool, OpenError> {
    let log = dir.join("log");
    let names = match disk.list(&log) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(OpenError::io(&log)(error)),
    };
    for name in names.iter().filter(|name| segment::id_of(name).is_some()) {
        let path = log.join(name);
        let file = disk.open(&path).map_err(OpenError::io(&path))?;
        if Header::read(&*file).map_err(OpenError::io(&path))?.is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

// ---- What is there.

/// A file of the log as it was found.
#[derive(Clone, Debug)]
pub(super) struct FoundSegment {
    pub(super) id: u32,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

pub(super) fn segments_in(disk: &dyn Disk, log: &Path) -> io::Result<Vec<FoundSegment>> {
    let mut found = Vec::new();
    for name in disk.list(log)? {
        if let Some(id) = segment::id_of(&name) {
            let path = log.join(&name);
            let bytes = disk.open(&path)?.len()?;
            found.push(FoundSegment { id, path, bytes });
        }
    }
    found.sort_unstable_by_key(|segment| segment.id);
    Ok(found)
}

fn sealed_bytes(found: &[FoundSegment], active: u32) -> u64 {
    found.iter().filter(|segment| segment.id != active).map(|segment| segment.bytes).sum()
}

/// Opens a file of the log and judges its header; `None` if both copies of that are broken.
pub(super) fn open_segment(disk: &dyn Disk, found: &FoundSegment) -> Result<Option<Segment>, OpenError> {
    let path = &found.path;
    let wanted = genesis::tip().hash;
    match Segment::open(disk, path.clone()).map_err(OpenError::io(path))? {
        Ok(segment) if segment.header.genesis == wanted => Ok(Some(segment)),
        Ok(segment) => Err(OpenError::OtherGenesis { path: path.clone(), found: segment.header.genesis, wanted }),
        Err(NotASegment::Broken) => Ok(None),
        Err(NotASegment::Newer(found)) => Err(OpenError::Newer { path: path.clone(), found, known: FORMAT }),
        Err(NotASegment::Foreign) => Err(OpenError::Foreign {
            path: path.clone(),
            found: "it does not begin as a segment of the log".to_owned(),
        }),
    }
}

// ---- What is derived already.

/// Why the derived state cannot be used.
pub(super) struct Unusable {
    pub(super) reason: String,
    /// What that says of the log.
    pub(super) damage: Option<Damage>,
}

impl From<String> for Unusable {
    fn from(reason: String) -> Self {
        Self { reason, damage: None }
    }
}

impl From<&str> for Unusable {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// Opens what a checkpoint names. If anything of it is missing or broken: empty derived state, and why.
fn derived_state(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    found: &[FoundSegment],
) -> Result<(Shared, Option<Checkpoint>, Option<Unusable>), OpenError> {
    let index_dir = checkpoint::dir(dir);
    let why = match usable_checkpoint(disk, dir, found) {
        Ok((checkpoint, positions, tables)) => {
            let shared = shared(disk, dir, positions, tables, Some(&checkpoint));
            return Ok((shared, Some(checkpoint), None));
        }
        Err(why) => why,
    };
    let (positions, tables) = empty(disk, dir).map_err(OpenError::io(&index_dir))?;
    Ok((shared(disk, dir, positions, tables, None), None, Some(why)))
}

fn usable_checkpoint(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    found: &[FoundSegment],
) -> Result<(Checkpoint, Positions, Tables), Unusable> {
    let index_dir = checkpoint::dir(dir);
    if disk.exists(&index_dir.join(REBUILD)).map_err(|error| error.to_string())? {
        return Err("it was found damaged".into());
    }
    let checkpoint = Checkpoint::read(&**disk, &index_dir)?;
    if checkpoint.next_segment >= 1 << 31 || checkpoint.tip.height.0 > MAX_SAFE_INTEGER {
        return Err("the checkpoint names what cannot be".into());
    }
    if checkpoint.genesis != genesis::tip().hash {
        return Err("the checkpoint is of another chain".into());
    }
    let there = found.iter().find(|segment| segment.id == checkpoint.segment).map_or(0, |segment| segment.bytes);
    if there < checkpoint.offset {
        let reason = "the log ends before the place that the checkpoint names".to_owned();
        let file = segment::file_name(checkpoint.segment);
        let missing = checkpoint.offset - there;
        let damage = Damage { file, offset: there, bytes: missing, what: reason.clone() };
        return Err(Unusable { reason, damage: Some(damage) });
    }
    let positions = open_positions(&**disk, dir, checkpoint.tip).map_err(|error| error.to_string())?;
    let tables = Tables::open(Arc::clone(disk), index_dir.clone(), &checkpoint.runs, checkpoint.next_run);
    let tables = tables.map_err(|error| error.to_string())?;
    let kept: Vec<u64> = checkpoint.runs.iter().flatten().map(|run| run.id).collect();
    let removed = table::remove_others(&**disk, &index_dir, |id| kept.contains(&id));
    removed.map_err(|error| error.to_string())?;
    Ok((checkpoint, positions, tables))
}

fn open_positions(disk: &dyn Disk, dir: &Path, tip: Tip) -> Result<Positions, StorageError> {
    let file = disk.open(&dir.join("heights")).map_err(|error| from_disk("opening heights", &error))?;
    let len = file.len().map_err(|error| from_disk("opening heights", &error))?;
    if len / (ENTRY as u64) <= tip.height.0 {
        return Err(damaged("the file heights ends before the tip"));
    }
    Ok(Positions::new(file))
}

/// Removes all that is derived and begins anew. The mark goes last: a crash on the way begins anew again.
fn empty(disk: &Arc<dyn Disk>, dir: &Path) -> io::Result<(Positions, Tables)> {
    let index_dir = checkpoint::dir(dir);
    disk::remove_if_there(&**disk, &index_dir.join(checkpoint::FILE))?;
    disk.sync_dir(&index_dir)?;
    checkpoint::remove_left(&**disk, &index_dir, u64::MAX)?;
    table::remove_others(&**disk, &index_dir, |_| false)?;
    let heights = disk.create(&dir.join("heights"))?;
    let positions = Positions::new(heights);
    let genesis = Entry { hash: genesis::tip().hash, place: Place::NONE };
    positions.write(0, &[genesis]).map_err(io::Error::other)?;
    disk.sync_dir(dir)?;
    disk::remove_if_there(&**disk, &index_dir.join(REBUILD))?;
    Ok((positions, Tables::new(Arc::clone(disk), index_dir)))
}

/// Begins anew when a replay has found the derived state to be wrong.
pub(super) fn anew(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Shared, OpenError> {
    let (positions, tables) = empty(disk, dir).map_err(OpenError::io(&checkpoint::dir(dir)))?;
    Ok(shared(disk, dir, positions, tables, None))
}

fn shared(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    positions: Positions,
    tables: Tables,
    checkpoint: Option<&Checkpoint>,
) -> Shared {
    let tip = checkpoint.map_or_else(genesis::tip, |checkpoint| checkpoint.tip);
    Shared {
        disk: Arc::clone(disk),
        index_dir: checkpoint::dir(dir),
        segments: Segments::new(Arc::clone(disk), dir.join("log"), genesis::tip().hash),
        positions,
        tables,
        sides: RwLock::new(checkpoint.map(|checkpoint| checkpoint.sides.iter().copied().collect()).unwrap_or_default()),
        view: RwLock::new(View { tip, epoch: Arc::new(Epoch::default()) }),
        closed: std::sync::atomic::AtomicBool::new(false),
        unread: Mutex::default(),
        again: Mutex::default(),
        broken: Mutex::default(),
        damage: Mutex::new(checkpoint.map(|checkpoint| checkpoint.damage.clone()).unwrap_or_default()),
    }
}

/// The derived state as a replay begins with it.
pub(super) fn derived(shared: Shared, checkpoint: Option<&Checkpoint>) -> Derived {
    let applied = checkpoint.map(|checkpoint| {
        let Checkpoint { segment, offset, sequence, .. } = *checkpoint;
        LogEnd { segment, offset, sequence }
    });
    Derived {
        shared: Arc::new(shared),
        pending: checkpoint.map(|checkpoint| checkpoint.pending.iter().copied().collect()).unwrap_or_default(),
        guard: checkpoint.map_or(Height::GENESIS, |checkpoint| checkpoint.tip.height),
        applied: applied.unwrap_or(LogEnd { segment: 0, offset: 0, sequence: 0 }),
        closed: checkpoint.is_some_and(|checkpoint| checkpoint.closed),
        blocks_since: 0,
        replaying: false,
    }
}

/// Whether a segment is one of the log, and not a branch that was staged.
pub(super) fn is_log(segment: &Segment) -> bool {
    segment.header.purpose == Purpose::Log
}

// ---- The reserve.

/// A file that takes room while there is some, so that there is some when the disk is full.
#[derive(Debug)]
pub(super) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bytes: u64,
    there: bool,
}

impl Reserve {
    /// Looks whether the file is there from the last time.
    fn find(&mut self) {
        let len = self.disk.open(&self.path).and_then(|file| file.len());
        self.there = len.is_ok_and(|len| len == self.bytes);
    }

    /// Gives the room free.
    pub(super) fn release(&mut self) {
        // Best effort: if it cannot be removed, there is no more room, which will show.
        let _ = self.disk.remove(&self.path);
        self.there = false;
    }

    /// Takes the room again; as long as that fails the disk counts as full.
    pub(super) fn restore(&mut self) -> Result<(), StorageError> {
        if self.there || self.bytes == 0 {
            return Ok(());
        }
        let taken = self.disk.create(&self.path).and_then(|file| {
            // The cast is safe: the reserve is a few megabytes.
            file.write_all_at(&vec![b'.'; self.bytes as usize], 0)
        });
        match taken {
            Ok(()) => {
                self.there = true;
                Ok(())
            }
            Err(error) => {
                self.release();
                Err(from_disk("taking the reserve", &error))
            }
        }
    }
}
