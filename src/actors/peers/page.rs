//! The address book on disk: `peers.json` in the data dir, with the addresses to dial and the record of who misbehaved.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::peer::book::Line;
use crate::peer::conduct::Conduct;

/// What is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Page {
    pub(super) addresses: Vec<Line>,
    #[serde(default)]
    pub(super) conduct: Conduct,
}

/// The book on disk; an unreadable one is an empty one, and said so: the operator's peers come from the settings anyway.
pub(super) fn read(file: &Path) -> Page {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Page::default(),
        Err(error) => {
            warn!(%error, file = %file.display(), "the address book cannot be read");
            return Page::default();
        }
    };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        warn!(%error, file = %file.display(), "the address book is damaged and begun anew");
        Page::default()
    })
}

/// Replaces the book on disk.
pub(super) fn write(file: &Path, page: &Page) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(page)?;
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, file)
}
