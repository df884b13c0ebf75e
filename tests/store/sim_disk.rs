//! A disk in memory that forgets, tears and reorders whatever was not synced, fills up, and fails on demand.
//!
//! What a sync has promised survives a power cut, and nothing else needs to: of the writes to a file since its last sync
//! any part may be there, each torn anywhere; of the names of a directory since its last sync, the first few changes.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dolmen::store::disk::{Disk, DiskFile, Lock, LockGuard};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What a power cut leaves for sure.
    durable: Arc<Vec<u8>>,
    /// What a reader sees: the same bytes until they are written to, so that copying a disk copies no contents.
    current: Arc<Vec<u8>>,
    /// The way from the one to the other.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Naming {
    Link(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Naming {
    fn dir(&self) -> PathBuf {
        let (Self::Link(path, _) | Self::Remove(path) | Self::Rename(_, path)) = self;
        path.parent().map(Path::to_owned).unwrap_or_default()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, inode) => drop(names.insert(path.clone(), *inode)),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    durable_names: BTreeMap<PathBuf, usize>,
    names: BTreeMap<PathBuf, usize>,
    namings: Vec<Naming>,
    dirs: Vec<PathBuf>,
    /// Counts the power cuts: what was opened before one is dead.
    boot: u64,
    /// Writes, syncs and changes of names so far.
    steps: u64,
    /// After so many steps the machine is off.
    off_at: Option<u64>,
    /// Bytes that all files together may have.
    capacity: Option<usize>,
    /// Syncs of contents until one fails.
    failing_sync: Option<u64>,
}

/// A simulated disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
    boot: u64,
}

impl SimDisk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns the machine off after so many more steps; all that comes later fails.
    pub fn off_after(&self, steps: u64) {
        let mut state = self.lock();
        state.off_at = Some(state.steps + steps);
    }

    /// Whether the machine has not gone off.
    pub fn is_on(&self) -> bool {
        let state = self.lock();
        state.off_at.is_none_or(|off| state.steps < off)
    }

    /// Lets all files together have this many bytes more than they have, or as many as they like.
    pub fn set_room(&self, room: Option<usize>) {
        let mut state = self.lock();
        let used = state.used();
        state.capacity = room.map(|room| used + room);
    }

    /// Lets the sync after so many others fail.
    pub fn fail_sync_after(&self, syncs: Option<u64>) {
        self.lock().failing_sync = syncs;
    }

    /// Loses what was not synced, or parts of it, and turns the machine on again.
    pub fn cut_power(&self, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut state = self.lock();
        state.boot += 1;
        state.off_at = None;
        state.capacity = None;
        state.failing_sync = None;
        let namings = std::mem::take(&mut state.namings);
        let mut names = state.durable_names.clone();
        let mut dirs: Vec<PathBuf> = namings.iter().map(Naming::dir).collect();
        dirs.sort();
        dirs.dedup();
        for dir in dirs {
            let here: Vec<&Naming> = namings.iter().filter(|naming| naming.dir() == dir).collect();
            let kept = rng.random_range(0..=here.len());
            here[..kept].iter().for_each(|naming| naming.apply(&mut names));
        }
        state.durable_names = names.clone();
        state.names = names;
        for inode in &mut state.inodes {
            let changes = std::mem::take(&mut inode.changes);
            inode.durable = Arc::new(survive(&inode.durable, &changes, &mut rng));
            inode.current = Arc::clone(&inode.durable);
        }
    }

    /// Ends the process and leaves the machine on: nothing is lost.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.boot += 1;
        state.off_at = None;
        state.capacity = None;
        state.failing_sync = None;
    }

    /// All files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    /// A copy of a file.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(path).map(|inode| state.inodes[*inode].current.to_vec())
    }

    /// Puts a file in place, durably.
    pub fn put(&self, path: &Path, bytes: impl Into<Arc<Vec<u8>>>) {
        let mut state = self.lock();
        let bytes = bytes.into();
        state.inodes.push(Inode { durable: Arc::clone(&bytes), current: bytes, changes: vec![] });
        let id = state.inodes.len() - 1;
        state.names.insert(path.to_owned(), id);
        state.durable_names.insert(path.to_owned(), id);
    }

    /// Takes a file away, durably.
    pub fn take(&self, path: &Path) {
        let mut state = self.lock();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// Another disk with the same contents, all of them durable.
    pub fn copy(&self) -> Self {
        let copy = Self::default();
        {
            let state = self.lock();
            copy.lock().dirs = state.dirs.clone();
            for (path, inode) in &state.names {
                copy.put(path, Arc::clone(&state.inodes[*inode].current));
            }
        }
        copy
    }
}

impl State {
    fn used(&self) -> usize {
        self.names.values().map(|inode| self.inodes[*inode].current.len()).sum()
    }

    fn step(&mut self, boot: u64) -> io::Result<()> {
        if boot != self.boot || self.off_at.is_some_and(|off| self.steps >= off) {
            return Err(io::Error::other("the machine is off"));
        }
        self.steps += 1;
        Ok(())
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.namings.push(naming);
    }
}

/// What is left of a file after a power cut.
fn survive(durable: &[u8], changes: &[Change], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = durable.to_vec();
    let mood = rng.random_range(0..4);
    let first_few = rng.random_range(0..=changes.len());
    for (at, change) in changes.iter().enumerate() {
        let kept = match mood {
            0 => false,
            1 => true,
            2 => at < first_few,
            _ => rng.random_bool(0.5),
        };
        if !kept {
            continue;
        }
        match change {
            Change::SetLen(len) => bytes.resize(*len, 0),
            Change::Write { offset, bytes: written } => {
                let torn = mood > 1 && rng.random_bool(0.5);
                write(&mut bytes, *offset, written);
                if torn {
                    tear(&mut bytes[*offset..*offset + written.len()], rng);
                }
            }
        }
    }
    bytes
}

/// Loses some of what was written: a part is zeros, as a new place on a disk is, or the file's new length came without it.
fn tear(bytes: &mut [u8], rng: &mut StdRng) {
    if bytes.is_empty() {
        return;
    }
    let from = rng.random_range(0..bytes.len());
    let to = rng.random_range(from..=bytes.len());
    match rng.random_range(0..3) {
        0 => bytes[from..].fill(0),
        1 => bytes[..to].fill(0),
        _ => bytes[from..to].fill(0),
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    if bytes.len() < offset + written.len() {
        bytes.resize(offset + written.len(), 0);
    }
    bytes[offset..offset + written.len()].copy_from_slice(written);
}

fn missing() -> io::Error {
    ErrorKind::NotFound.into()
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.lock();
        let inode = *state.names.get(path).ok_or_else(missing)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, boot: state.boot }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        let boot = state.boot;
        state.step(boot)?;
        if let Some(inode) = state.names.get(path).copied() {
            Arc::make_mut(&mut state.inodes[inode].current).clear();
            state.inodes[inode].changes.push(Change::SetLen(0));
            return Ok(Arc::new(SimFile { disk: self.clone(), inode, boot }));
        }
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.name(Naming::Link(path.to_owned(), inode));
        Ok(Arc::new(SimFile { disk: self.clone(), inode, boot }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        if !state.dirs.iter().any(|known| known == dir) {
            return Err(missing());
        }
        let here = |path: &&PathBuf| path.parent() == Some(dir);
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(state.names.keys().chain(&state.dirs).filter(here).filter_map(name).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let boot = state.boot;
        state.step(boot)?;
        if !state.names.contains_key(from) {
            return Err(missing());
        }
        state.name(Naming::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let boot = state.boot;
        state.step(boot)?;
        if !state.names.contains_key(path) {
            return Err(missing());
        }
        state.name(Naming::Remove(path.to_owned()));
        Ok(())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        // Directories are durable at once: the store makes them before anything matters.
        for dir in dir.ancestors() {
            if !state.dirs.iter().any(|known| known == dir) {
                state.dirs.push(dir.to_owned());
            }
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let boot = state.boot;
        state.step(boot)?;
        let namings = std::mem::take(&mut state.namings);
        for naming in namings {
            if naming.dir() == dir {
                naming.apply(&mut state.durable_names);
            } else {
                state.namings.push(naming);
            }
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.lock();
        Ok(state.names.contains_key(path) || state.dirs.iter().any(|dir| dir == path))
    }

    fn lock(&self, _path: &Path, _holder: &str) -> io::Result<Lock> {
        Ok(Lock::Ours(LockGuard::new(())))
    }
}

impl SimFile {
    fn change(&self, change: Change, apply: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.step(self.boot)?;
        let inode = &mut state.inodes[self.inode];
        apply(Arc::make_mut(&mut inode.current));
        inode.changes.push(change);
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        if self.boot != state.boot {
            return Err(io::Error::other("the machine was off"));
        }
        let current = &state.inodes[self.inode].current;
        let rest = current.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = offset as usize;
        let (fits, full) = {
            let state = self.disk.lock();
            let len = state.inodes[self.inode].current.len();
            let room = state.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(state.used()));
            let grows = (offset + bytes.len()).saturating_sub(len);
            let missing = grows.saturating_sub(room);
            (bytes.len().saturating_sub(missing), missing > 0)
        };
        // A full disk takes what fits.
        let written = &bytes[..fits];
        self.change(Change::Write { offset, bytes: written.to_vec() }, |current| write(current, offset, written))?;
        if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        Ok(state.inodes[self.inode].current.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len as usize), |current| current.resize(len as usize, 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.step(self.boot)?;
        match &mut state.failing_sync {
            Some(0) => return Err(io::Error::other("the disk failed to sync")),
            Some(left) => *left -= 1,
            None => {}
        }
        let inode = &mut state.inodes[self.inode];
        inode.durable = Arc::clone(&inode.current);
        inode.changes.clear();
        Ok(())
    }
}
