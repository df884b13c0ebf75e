//! The chain where damage has taken parts of the log: what a later group says of it, and what good blocks remain.
//!
//! Owns the judgement of how far down the chain is in doubt, part of [`Replay`]. Nothing is made up: a height of which the
//! log says nothing any more is a lost block, whose hash its child names.

use std::collections::HashSet;

use super::{Replay, Stop, UNSEEN, adopted};
use crate::ledger::block::{Height, Tip};
use crate::ledger::hash::BlockHash;
use crate::store::derived::{self, Turn};
use crate::store::effects::Arrival;
use crate::store::positions::Entry;
use crate::store::record::{BLOCK_RECORD_MIN, Outline};

/// What of the chain is not certain any more, until a group names a block of it by its hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    /// Everything above this height.
    pub(super) floor: u64,
    /// Or as many blocks below the next known one as fit into so many bytes, of which nothing is known.
    pub(super) bytes: u64,
}

impl Doubt {
    pub(super) const NONE: Self = Self { floor: u64::MAX, bytes: 0 };
}

impl Replay<'_> {
    /// Looks up what a change of the chain above `fork` does.
    pub(super) fn turn(&mut self, fork: Tip, revived: &[BlockHash]) -> Result<Turn, Stop> {
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
        if fork.height.0.saturating_sub(view.tip.height.0) > (self.lost + staged) / BLOCK_RECORD_MIN + 1 {
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
        let gaps = self.source.found.windows(2).any(|pair| pair[0].id + 1 != pair[1].id);
        let bytes = self.doubt.bytes + staged + if gaps { UNSEEN } else { 0 };
        let branches = self.salvaged.values().filter(|arrival| !self.adopted.contains(&arrival.place.segment));
        let lowest = branches.map(|arrival| arrival.outline.height.0.saturating_sub(1)).min().unwrap_or(known);
        known.min(lowest).min(fork.height.0.saturating_sub(bytes / BLOCK_RECORD_MIN + 1))
    }

    /// Takes the blocks of staged branches that nothing has adopted so far among those that the chain may lead to.
    fn salvage_staged(&mut self) -> Result<(), Stop> {
        let ids = self.staged.iter().map(|found| found.id);
        let unadopted: Vec<u32> = ids.filter(|id| !self.adopted.contains(id)).collect();
        for id in unadopted {
            let segment = self.shared().segments.get(id).map_err(|error| self.failed(error))?;
            let arrivals = adopted::arrivals(id, &segment).map_err(|error| self.failed(error))?;
            self.keep(arrivals);
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
}
