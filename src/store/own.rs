//! What this node mined: which submissions are placed in a block, and where a submission or a key was placed.
//!
//! Owns these answers, part of [`Shared`]. The placements stand in the records of own blocks and nowhere else; the tables
//! only lead there, and what they lead to is checked.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::epoch::View;
use super::error::damaged;
use super::positions::Place;
use super::record::{self, Kind, OwnBlock};
use super::segment::file_name;
use super::shared::{Shared, not_a_block};
use super::table::Table;
use crate::ledger::block::SharedBlock;
use crate::ledger::hash::BlockHash;
use crate::ledger::storage::{KeyDigest, Placed, StorageError, SubmissionId};

/// Blocks of submissions mined again that are kept decoded. A body has at most 10,000 submissions of some 150 bytes each here.
const MAX_AGAIN: usize = 16;

/// The submissions in a block that were mined again into it.
#[derive(Debug)]
pub(super) struct Again {
    hash: BlockHash,
    placed: HashMap<SubmissionId, Placed>,
    /// Where the broken records are in whose place its record was written.
    replaces: Vec<u64>,
}

impl Shared {
    /// The submissions placed in a block by this node.
    pub(super) fn placed_in(&self, view: &View, hash: &BlockHash) -> Result<Vec<Placed>, StorageError> {
        Ok(self.own_block(view, hash)?.map(|own| own.placed).unwrap_or_default())
    }

    /// A block that this node mined, wherever it is now.
    fn own_block(&self, view: &View, hash: &BlockHash) -> Result<Option<OwnBlock>, StorageError> {
        if let Some(own) = self.own_at(Table::Own, key_of(hash), |own| own.hash == *hash)? {
            return Ok(Some(own));
        }
        let Some(height) = self.height_of(view, hash)? else { return Ok(None) };
        let Some(entry) = self.entry(view, height)?.filter(|entry| !entry.place.is_none()) else { return Ok(None) };
        let record = self.record(entry.place)?;
        if !record.kind.is_own() {
            return Ok(None);
        }
        match record::read_own_block(record.kind, record.payload()) {
            Some(own) if own.hash == *hash => Ok(Some(own)),
            _ => Err(not_a_block(entry.place)),
        }
    }

    /// The first of the own blocks beside a key that is the one. A broken record is an error if no other is the one: it may
    /// have been written again.
    fn own_at(
        &self,
        table: Table,
        key: u64,
        is_it: impl Fn(&OwnBlock) -> bool,
    ) -> Result<Option<OwnBlock>, StorageError> {
        let mut broken = Ok(None);
        for packed in self.derived(self.tables.find(table, key))? {
            match self.own_record(packed) {
                Ok(own) if is_it(&own) => return Ok(Some(own)),
                Ok(_) => {}
                Err(error @ StorageError::Damaged(_)) => broken = Err(error),
                Err(error) => return Err(error),
            }
        }
        broken
    }

    /// The own block whose record begins at a place of the log.
    fn own_record(&self, packed: u64) -> Result<OwnBlock, StorageError> {
        // The casts split the number in its halves.
        let (segment, offset) = ((packed >> 32) as u32, packed as u32);
        let place = Place { segment, offset, len: 0 };
        let record = self.segments.get(segment).and_then(|segment| segment.read_record_at(offset));
        let record = self.noted(place, record)?;
        let own = record::read_own_block(record.kind, record.payload());
        own.ok_or_else(|| damaged(format!("{} at {offset}: not a block that this node mined", file_name(segment))))
    }

    /// All placements of a submission, oldest first.
    pub(super) fn placements_of(
        &self,
        view: &View,
        submission: &SubmissionId,
    ) -> Result<Vec<(BlockHash, Placed)>, StorageError> {
        let of_it = |placed: &Placed| placed.submission == *submission;
        let Some(first) = self.placed_in(view, &submission.block)?.into_iter().find(of_it) else {
            return Ok(Vec::new());
        };
        let (mut again, mut broken) = (Vec::new(), Vec::new());
        for packed in self.derived(self.tables.find(Table::Again, key_of_submission(submission)))? {
            match self.again(packed) {
                Ok(found) => again.push((packed, found)),
                Err(error @ StorageError::Damaged(_)) => broken.push((packed, error)),
                Err(error) => return Err(error),
            }
        }
        // What was written again counts from where it stood first.
        again.sort_unstable_by_key(|(packed, again)| again.replaces.first().copied().unwrap_or(*packed));
        let replaced = |packed: &u64| again.iter().any(|(_, again)| again.replaces.contains(packed));
        if let Some((_, error)) = broken.into_iter().find(|(packed, _)| !replaced(packed)) {
            return Err(error);
        }
        let mut placements = vec![(submission.block, first)];
        for (_, again) in again {
            let known = placements.iter().any(|(hash, _)| *hash == again.hash);
            let placed = again.placed.get(submission).filter(|_| !known);
            placements.extend(placed.map(|placed| (again.hash, placed.clone())));
        }
        Ok(placements)
    }

    /// What was mined again into the block whose record begins at a place of the log.
    fn again(&self, packed: u64) -> Result<Arc<Again>, StorageError> {
        let kept = || self.again.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, again)) = kept().iter().find(|(place, _)| *place == packed) {
            return Ok(Arc::clone(again));
        }
        let OwnBlock { hash, placed, replaces, .. } = self.own_record(packed)?;
        let again = Arc::new(Again {
            hash,
            placed: placed.into_iter().map(|placed| (placed.submission, placed)).collect(),
            replaces: replaces
                .into_iter()
                .map(|(segment, offset)| Place { segment, offset, len: 0 }.packed())
                .collect(),
        });
        let mut kept = kept();
        kept.truncate(MAX_AGAIN - 1);
        kept.push_front((packed, Arc::clone(&again)));
        Ok(again)
    }

    /// The entries of a submission.
    pub(super) fn entries_of(
        &self,
        view: &View,
        submission: &SubmissionId,
    ) -> Result<Option<Vec<String>>, StorageError> {
        let Some(OwnBlock { block, placed, .. }) = self.own_block(view, &submission.block)? else { return Ok(None) };
        let Some(placed) = placed.into_iter().find(|placed| placed.submission == *submission) else { return Ok(None) };
        match placed.entries_in(&block.body) {
            Some(entries) => Ok(Some(entries.to_vec())),
            None => Err(damaged(format!("block {}: a submission reaches beyond its body", submission.block))),
        }
    }

    /// The submission that came with a key.
    pub(super) fn submission_by_key(&self, key: &KeyDigest) -> Result<Option<SubmissionId>, StorageError> {
        let with_key = |placed: &Placed| placed.key.as_ref() == Some(key);
        let own = self.own_at(Table::Keys, key_of(&BlockHash(*key)), |own| own.placed.iter().any(with_key))?;
        Ok(own.and_then(|own| own.placed.into_iter().find(with_key)).map(|placed| placed.submission))
    }

    /// What this node had placed in a block whose record is broken, and which was fetched again: the record is the
    /// placements and then the block, so with the block its checksum tells whether the placements are what was written.
    pub(super) fn rescue(&self, view: &View, block: &SharedBlock) -> Result<Option<OwnBlock>, StorageError> {
        let known = self.entry(view, block.height())?.map(|entry| entry.place).filter(|place| !place.is_none());
        let met = self.unread.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut tail = Vec::new();
        record::put_block(&mut tail, block.block());
        let own = |place: Place, kind: Kind| {
            let segment = self.segments.get(place.segment).ok()?;
            let payload = segment.mended(place.offset, place.len, kind, &tail)?;
            let mut own = record::read_own_block(kind, &payload).filter(|own| own.hash == block.hash())?;
            own.replaces.push((place.segment, place.offset));
            Some(own)
        };
        let mut places = known.into_iter().chain(met);
        Ok(places.find_map(|place| own(place, Kind::OwnBlock).or_else(|| own(place, Kind::RestoredOwn))))
    }
}

/// What the tables know a hash by.
pub(super) fn key_of(hash: &BlockHash) -> u64 {
    let mut key = [0; 8];
    key.copy_from_slice(&hash.0[..8]);
    u64::from_be_bytes(key)
}

/// What the tables know a submission by.
pub(super) fn key_of_submission(submission: &SubmissionId) -> u64 {
    // Spreads the submissions of one block evenly.
    key_of(&submission.block).wrapping_add(u64::from(submission.position).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
