//! What a group of the log does, in terms that the derived state understands.
//!
//! Owns the way from records to [`Effects`], the same for a group that has just been written and for one that is read
//! back. Changes nothing itself.

use super::positions::{Entry, Place};
use super::record::{self, Adopt, Change, Kind, Outbox, Outline};
use super::segment::{Group, RecordAt};
use super::shared;
use crate::ledger::block::{Height, Tip};
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::Placed;

/// A block of a group, and where its record is.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) outline: Outline,
    pub(super) place: Place,
    /// What this node placed in it; `None` for another node's block.
    pub(super) own: Option<Vec<Placed>>,
}

impl Arrival {
    pub(super) fn entry(&self) -> Entry {
        Entry { hash: self.outline.hash, place: self.place }
    }
}

/// What a group does.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    pub(super) blocks: Vec<Arrival>,
    pub(super) change: Option<Change>,
    pub(super) adopt: Option<Adopt>,
    pub(super) forget: Vec<BlockHash>,
    pub(super) park: Vec<BlockHash>,
    pub(super) outbox: Outbox,
    /// Blocks of the best chain whose records were broken.
    pub(super) restored: Vec<Arrival>,
    /// Whether the store was closed with it.
    pub(super) closed: bool,
    /// Records that are not what was written.
    pub(super) broken: Vec<Place>,
}

impl Effects {
    /// Above which block the blocks of the group enter the best chain, if they do.
    pub(super) fn fork(&self) -> Option<Tip> {
        match (&self.change, &self.adopt) {
            (Some(Change::Turn { fork, .. }), _) => Some(*fork),
            (Some(Change::Follow), _) => self.blocks.first().and_then(|first| {
                let height = first.outline.height.0.checked_sub(1)?;
                Some(Tip { height: Height(height), hash: first.outline.parent })
            }),
            (None, Some(adopt)) => Some(adopt.fork),
            (None, None) => None,
        }
    }

    /// The side blocks that enter first.
    pub(super) fn revived(&self) -> &[BlockHash] {
        match &self.change {
            Some(Change::Turn { revived, .. }) => revived,
            _ => &[],
        }
    }

    /// Whether the group only makes the chain longer.
    fn is_plain(&self) -> bool {
        self.change == Some(Change::Follow)
            && self.adopt.is_none()
            && self.forget.is_empty()
            && self.park.is_empty()
            && self.restored.is_empty()
            && !self.closed
    }

    /// Takes in the next group if both only make the chain longer, so that a replay does more at once; else gives it back.
    pub(super) fn absorb(&mut self, next: Self) -> Option<Self> {
        let links = match (self.blocks.last(), next.blocks.first()) {
            (Some(last), Some(first)) => {
                first.outline.parent == last.outline.hash && first.outline.height == last.outline.height.next()
            }
            _ => false,
        };
        let quiet = |effects: &Self| effects.outbox.pending.is_empty() && effects.outbox.satisfied.is_empty();
        if !(links && self.is_plain() && next.is_plain() && quiet(self) && quiet(&next)) {
            return Some(next);
        }
        self.blocks.extend(next.blocks);
        None
    }

    /// Reads a group; `false` beside it if something in it is not as it was written.
    pub(super) fn read(segment: u32, group: &Group<'_>) -> (Self, bool) {
        let mut effects = Self::default();
        let mut whole = !group.broken;
        for record in &group.records {
            whole &= effects.add(segment, record).is_some();
        }
        effects.broken = group.unread.iter().map(|&(offset, len)| Place { segment, offset, len }).collect();
        (effects, whole)
    }

    fn add(&mut self, segment: u32, record: &RecordAt<'_>) -> Option<()> {
        match record.kind {
            Kind::Block | Kind::OwnBlock => self.blocks.push(arrival(segment, record)?),
            Kind::Change => self.change = Some(record::read_change(record.payload)?),
            Kind::Adopt => self.adopt = Some(record::read_adopt(record.payload)?),
            Kind::Forget => self.forget = record::read_hashes(record.payload)?,
            Kind::Outbox => self.outbox = record::read_outbox(record.payload)?,
            Kind::Park => self.park = record::read_hashes(record.payload)?,
            Kind::Closed => self.closed = true,
            Kind::Restored | Kind::RestoredOwn => self.restored.push(arrival(segment, record)?),
        }
        Some(())
    }
}

/// The block of a record.
pub(super) fn arrival(segment: u32, record: &RecordAt<'_>) -> Option<Arrival> {
    let (outline, placed) = shared::outline(record.kind, record.payload)?;
    let place = Place { segment, offset: record.offset, len: record.len };
    let own = record.kind.is_own().then_some(placed);
    Some(Arrival { outline, place, own })
}
