//! The files of an adopted branch, read again.
//!
//! Owns what is made of a file that damage has taken parts of: the heights stay, and what can still be told of their hashes.

use super::{Replay, Stop};
use crate::ledger::block::{Height, Tip};
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::StorageError;
use crate::store::checkpoint::Damage;
use crate::store::effects::{self, Arrival};
use crate::store::error::damaged;
use crate::store::positions::Entry;
use crate::store::record::{Adopt, BLOCK_RECORD_MIN};
use crate::store::segment::{HEADER, Next, Segment, Walk, file_name};
use crate::store::shared::Shared;
use crate::store::staging;

impl Replay<'_> {
    /// The files of an adopted branch, and which heights are in each.
    pub(super) fn parts(&mut self, adopt: &Adopt) -> Result<Vec<Part>, Stop> {
        let mut from = adopt.fork.height;
        let mut parts = Vec::new();
        for (segment, blocks) in &adopt.runs {
            self.adopted.insert(*segment);
            let first = from.next();
            from = Height(from.0.saturating_add(*blocks));
            parts.push(Part { segment: *segment, first, blocks: *blocks, tip: adopt.tip });
        }
        if from != adopt.tip.height {
            return Err(Stop::Misfit(format!("an adopted branch has not the blocks that lead to {}", adopt.tip)));
        }
        Ok(parts)
    }
}

/// A file of an adopted branch.
pub(super) struct Part {
    segment: u32,
    first: Height,
    blocks: u64,
    /// The branch's tip.
    tip: Tip,
}

impl Part {
    /// The entries of its blocks; of what is broken, the hash at best. `segment_bytes` says how many blocks are believed in
    /// when the file itself is gone.
    pub(super) fn entries(&self, shared: &Shared, segment_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let segment = shared.segments.get(self.segment);
        let most = match &segment {
            Ok(segment) => segment.file.len().unwrap_or_default() / BLOCK_RECORD_MIN,
            Err(_) => staging::most_blocks(segment_bytes),
        };
        if self.blocks > most {
            return Err(damaged(format!("{} has not the blocks that were adopted with it", file_name(self.segment))));
        }
        // The cast is safe: the number was just bounded by the length of a file.
        let mut entries = vec![Entry::lost(BlockHash::ZERO); self.blocks as usize];
        match &segment {
            Ok(segment) => self.fill(segment, &mut entries)?,
            Err(error) => self.note(shared, &error.to_string()),
        }
        let missing = entries.iter().filter(|entry| entry.place.is_none()).count();
        if missing > 0 {
            self.note(shared, &format!("{missing} of its blocks are not what was written"));
        }
        let ends = Height(self.first.0 + self.blocks) == self.tip.height.next();
        match entries.last_mut() {
            Some(last) if ends && last.place.is_none() => last.hash = self.tip.hash,
            _ => {}
        }
        Ok(entries)
    }

    fn fill(&self, segment: &Segment, entries: &mut [Entry]) -> Result<(), StorageError> {
        each_arrival(self.segment, segment, &mut |arrival| {
            let at = arrival.outline.height.0.checked_sub(self.first.0).and_then(|at| usize::try_from(at).ok());
            let Some(at) = at.filter(|at| *at < entries.len()) else { return };
            entries[at] = arrival.entry();
            if let Some(before) = at.checked_sub(1).and_then(|before| entries.get_mut(before))
                && before.place.is_none()
            {
                before.hash = arrival.outline.parent;
            }
        })
    }

    fn note(&self, shared: &Shared, what: &str) {
        shared.note(Damage { file: file_name(self.segment), offset: HEADER, bytes: 0, what: what.to_owned() });
    }
}

/// All good blocks of a segment.
pub(super) fn arrivals(id: u32, segment: &Segment) -> Result<Vec<Arrival>, StorageError> {
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
