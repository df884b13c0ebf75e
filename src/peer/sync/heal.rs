//! Healing: blocks that damage has taken from our disk are fetched again from a native peer.
//!
//! Owns which blocks are wanted and whom they are asked of. What a block has to be is known before it comes: the chain
//! names its hash, in its own place or as its child's parent. So nobody is trusted here, and an answer that does not fit
//! is no answer. The highest come first, since damage can take a hash and leave the child.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, LinkId, Sync, View, frame};
use crate::ledger::outbox::Millis;
use crate::ledger::storage::StorageError;
use crate::ledger::{Height, SharedBlock, Tip};
use crate::peer::limits::SYNC_TIMEOUT;
use crate::peer::native::{Blocks, Frame};

/// Wanted blocks that are remembered: 16 MiB. What is beyond is found again by the next look.
const MAX_WANTED: usize = 1 << 20;

/// Neighbours that are asked for at once: few enough that small blocks come in one batch.
const RUN: u64 = 256;

/// Heights that are looked at for one whose hash is known.
const MAX_LOOKED_AT: usize = 64;

/// From one question to the next: healing a lost segment takes minutes, and costs a peer next to nothing.
const PACE: Millis = 50;

/// A peer that has nothing for us, and a disk that takes nothing, are left alone for this long.
const PAUSE: Millis = 30_000;

/// How far healing is, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Repair {
    /// Blocks that are broken and not here yet.
    pub wanted: usize,
    /// Blocks that were fetched again and written since the start.
    pub healed: u64,
}

/// What is wanted, and what is on its way.
#[derive(Debug, Default)]
pub(super) struct Healing {
    wanted: BTreeSet<Height>,
    flight: Option<Flight>,
    /// Blocks are on their way to the disk.
    writing: bool,
    /// The next question is for one block: the last answer was cut short above a hash that is not known.
    single: bool,
    /// Peers that are left alone, and until when.
    paused: BTreeMap<LinkId, Millis>,
    /// Nothing is asked before this time.
    next: Millis,
    healed: u64,
}

/// A question that was not answered yet.
#[derive(Clone, Copy, Debug)]
struct Flight {
    link: LinkId,
    from: Height,
    top: Tip,
    since: Millis,
}

impl Sync {
    /// Blocks of our best chain cannot be read. What was known already changes nothing.
    pub fn damaged(&mut self, heights: impl IntoIterator<Item = Height>) {
        for height in heights {
            if height != Height::GENESIS && self.healing.wanted.len() < MAX_WANTED {
                self.healing.wanted.insert(height);
            }
        }
    }

    /// How far healing is.
    #[must_use]
    pub fn repair(&self) -> Repair {
        Repair { wanted: self.healing.wanted.len(), healed: self.healing.healed }
    }

    /// Blocks were written again, or could not be: the last of `heights` was not if there is an error.
    pub fn restored(&mut self, heights: &[Height], error: Option<&StorageError>) {
        self.healing.writing = false;
        let written = heights.len() - usize::from(error.is_some() && !heights.is_empty());
        for height in &heights[..written] {
            self.healing.wanted.remove(height);
        }
        self.healing.healed += written as u64;
        if error.is_some() {
            self.healing.next = self.now + PAUSE;
        }
    }

    /// Asks for what is wanted, if nothing is on its way.
    pub(super) fn heal(&mut self, view: &impl View, actions: &mut Vec<Action>) {
        let now = self.now;
        // A duration of seconds fits.
        let patience = SYNC_TIMEOUT.as_millis() as Millis;
        if let Some(flight) = self.healing.flight
            && flight.since + patience < now
        {
            self.leave_alone(flight.link);
        }
        let healing = &mut self.healing;
        if healing.flight.is_some() || healing.writing || healing.wanted.is_empty() || now < healing.next {
            return;
        }
        let above = view.tip().height.next();
        drop(healing.wanted.split_off(&above));
        healing.paused.retain(|_, until| *until > now);
        let Some((from, top)) = healing.run(view) else {
            healing.next = now + PACE;
            return;
        };
        let fetching = self.download.as_ref().map(|download| download.link);
        let able = |(id, link): &(&LinkId, &super::Link)| {
            let has = link.native && link.tip.is_some_and(|tip| tip.height >= top.height);
            // What comes on a link on which a branch is fetched belongs to that.
            has && Some(**id) != fetching && !healing.paused.contains_key(id)
        };
        let Some(link) = self.links.iter().find(able).map(|(id, _)| *id) else { return };
        healing.flight = Some(Flight { link, from, top, since: now });
        healing.next = now + PACE;
        actions.push(frame(link, Frame::Fetch { from, upto: top, batches: 1 }));
    }

    /// Takes a batch if it is the answer that healing waits for; hands it back otherwise.
    pub(super) fn healed_by(
        &mut self,
        link: LinkId,
        batch: Blocks,
        view: &impl View,
        actions: &mut Vec<Action>,
    ) -> Option<Blocks> {
        let end = batch.tip();
        let fits = |flight: &Flight| {
            flight.link == link && batch.after.height.next() == flight.from && end.height <= flight.top.height
        };
        let Some(flight) = self.healing.flight.filter(fits) else { return Some(batch) };
        let wanted = if end.height == flight.top.height { Some(flight.top.hash) } else { view.wanted_at(end.height) };
        match wanted {
            // Each is the parent of the next: one hash speaks for all.
            Some(hash) if hash == end.hash => {
                self.healing.flight = None;
                self.healing.writing = true;
                self.healing.single = false;
                let blocks: Vec<SharedBlock> = batch.blocks.into_iter().rev().collect();
                actions.push(Action::Restore { link, blocks });
                None
            }
            // Long blocks, cut short in the middle of what is not known.
            None => {
                self.healing.flight = None;
                self.healing.single = true;
                None
            }
            Some(_) => {
                let next = self.download.as_ref().filter(|download| download.link == link);
                if next.is_some_and(|download| download.continues_with(&batch)) {
                    return Some(batch);
                }
                // Another block than the one that is missing: our chain has changed, or the peer says anything.
                self.leave_alone(link);
                None
            }
        }
    }

    /// Takes the answer that the peer does not have what healing asked for; whether it was that.
    pub(super) fn healing_gone(&mut self, link: LinkId) -> bool {
        let fetching = self.download.as_ref().is_some_and(|download| download.link == link);
        let ours = !fetching && self.healing.flight.is_some_and(|flight| flight.link == link);
        if ours {
            self.leave_alone(link);
        }
        ours
    }

    /// The link is gone, and with it what was asked there.
    pub(super) fn healing_closed(&mut self, link: LinkId) {
        self.healing.flight.take_if(|flight| flight.link == link);
        self.healing.paused.remove(&link);
    }

    fn leave_alone(&mut self, link: LinkId) {
        self.healing.flight = None;
        self.healing.paused.insert(link, self.now + PAUSE);
    }
}

impl Healing {
    /// The highest wanted block whose hash is known, and the lowest of its wanted neighbours below.
    fn run(&self, view: &impl View) -> Option<(Height, Tip)> {
        let known = |height: &Height| Some(Tip { height: *height, hash: view.wanted_at(*height)? });
        let top = self.wanted.iter().rev().take(MAX_LOOKED_AT).find_map(known)?;
        let longest = if self.single { 1 } else { RUN };
        let mut from = top.height;
        while top.height.0 - from.0 + 1 < longest && self.wanted.contains(&Height(from.0 - 1)) {
            from = Height(from.0 - 1);
        }
        Some((from, top))
    }
}
