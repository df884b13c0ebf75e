//! The file system as the store sees it: two small traits, and the real thing behind them.
//!
//! Owns every call to the operating system that the store makes. Knows nothing of what is in the files. Tests put a
//! simulated disk behind the same traits, which tears, loses and reorders whatever was not synced.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A file system. What it does to names (create, rename, remove) is durable after [`sync_dir`](Self::sync_dir) of the
/// directory; what it does to contents, after [`DiskFile::sync_data`].
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file that is there, for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or whatever the file system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a file, empty even if one was there.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in a directory, in no order.
    ///
    /// # Errors
    /// `NotFound`, or whatever the file system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Renames a file, over another if there is one, in one step.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound`, or whatever the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Whether there is something of this name.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Locks a file for this process and writes into it who holds it.
    ///
    /// # Errors
    /// Whatever the file system says. Another holder is not an error.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Lock>;
}

#[expect(clippy::len_without_is_empty, reason = "nobody asks")]
/// An open file; it stays readable when its name is removed.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Reads at a place; fewer bytes than asked only at the end of the file or of the system's patience.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at a place, beyond the end too. After an error any part of it may have been written.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Bytes in the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file, or fills it with zeros up to a length.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes contents and length durable.
    ///
    /// # Errors
    /// Whatever the file system says; then nobody knows what of the latest writes is on the disk.
    fn sync_data(&self) -> io::Result<()>;
}

/// What came of an attempt to lock.
#[derive(Debug)]
pub enum Lock {
    /// It is ours until this is dropped.
    Ours(LockGuard),
    /// Somebody has it: what they wrote into it.
    Theirs(String),
}

/// Keeps a lock; dropping it gives the lock back.
pub struct LockGuard(#[expect(dead_code, reason = "held for its drop")] Box<dyn std::any::Any + Send + Sync>);

impl LockGuard {
    /// A guard around whatever gives the lock back when it is dropped.
    #[must_use]
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Box::new(held))
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockGuard")
    }
}

/// Whether an error says that there is no room.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Fills the whole buffer from a place; `UnexpectedEof` if the file ends before.
///
/// # Errors
/// Whatever the file system says.
pub fn read_exact_at(file: &dyn DiskFile, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The whole of a file that is at most `max` bytes long; `InvalidData` if it is longer.
///
/// # Errors
/// Whatever the file system says.
pub fn read_small(disk: &dyn Disk, path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let len = file.len()?;
    if len > max {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("{len} bytes, more than {max}")));
    }
    // The cast is safe: `max` is far below the address space.
    let mut bytes = vec![0; len as usize];
    read_exact_at(&*file, &mut bytes, 0)?;
    Ok(bytes)
}

/// Puts a file in place whole or not at all: a file beside it, synced, renamed, the directory synced.
///
/// # Errors
/// Whatever the file system says; the old file is still there.
pub fn replace(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = dir.join(format!("{name}.new"));
    let file = disk.create(&beside)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&beside, &dir.join(name))?;
    disk.sync_dir(dir)
}

/// Removes a file if it is there.
///
/// # Errors
/// Whatever the file system says, but not that the file is missing.
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            // Reading must go on where writing is forbidden, for `verify` on a copy.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                File::open(path)?
            }
            opened => opened?,
        };
        Ok(Arc::new(RealFile(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Lock> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))?;
                file.write_all(holder.as_bytes())?;
                Ok(Lock::Ours(LockGuard::new(file)))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Enough for any holder; and if it cannot be read, the lock is still theirs.
                let _ = (&file).take(256).read_to_string(&mut holder);
                Ok(Lock::Theirs(holder.trim().to_owned()))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.0, bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
