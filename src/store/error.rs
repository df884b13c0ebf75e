//! Why a store could not be opened, and the one place where errors of the disk become errors of the storage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::disk;
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::StorageError;

/// Why a data directory was not opened. Nothing in it was changed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum OpenError {
    /// Another process works in it.
    #[error("{path} is in use by {holder}: stop that node first, or give this one another data directory", path = .path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// What the other process wrote into its lock.
        holder: String,
    },
    /// It holds something else.
    #[error("{path} is not a dolmen data directory: {found}", path = .path.display())]
    Foreign {
        /// The data directory, or the file in it that is not ours.
        path: PathBuf,
        /// What stands there instead.
        found: String,
    },
    /// A later program wrote it.
    #[error("{path} has format {found}, and this program knows formats up to {known}: use a newer dolmen", path = .path.display())]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// The format's number in the file.
        found: u32,
        /// The highest number that this program reads.
        known: u32,
    },
    /// It belongs to another network.
    #[error("{path} holds a chain with genesis {found}, but this node's genesis is {wanted}", path = .path.display())]
    OtherGenesis {
        /// The file that says so.
        path: PathBuf,
        /// Genesis in the file.
        found: BlockHash,
        /// Genesis of this program.
        wanted: BlockHash,
    },
    /// The file system refused.
    #[error("cannot open {path}: {error}", path = .path.display())]
    Io {
        /// What was being opened.
        path: PathBuf,
        /// What the file system said.
        error: Arc<str>,
    },
    /// Too much is broken to know what the chain was.
    #[error("{path} is damaged beyond what can be told apart: {found}", path = .path.display())]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What was found.
        found: Arc<str>,
    },
}

impl OpenError {
    /// The file system's error with the path that it was about.
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Io { path: path.clone(), error: error.to_string().into() }
    }

    /// What reading the store back said, as a reason not to open it.
    pub(super) fn storage(path: &Path) -> impl Fn(StorageError) -> Self + use<> {
        let path = path.to_owned();
        move |error| match error {
            StorageError::Damaged(found) => Self::Damaged { path: path.clone(), found },
            StorageError::Full(error) | StorageError::Failed(error) => Self::Io { path: path.clone(), error },
        }
    }
}

/// An error of the disk while doing `what`: no room, or a failure.
pub(super) fn from_disk(what: &str, error: &io::Error) -> StorageError {
    let text = format!("{what}: {error}").into();
    if disk::is_full(error) { StorageError::Full(text) } else { StorageError::Failed(text) }
}

/// What was read back is not what was written.
pub(super) fn damaged(what: impl Into<String>) -> StorageError {
    StorageError::Damaged(what.into().into())
}
