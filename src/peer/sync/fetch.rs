//! Fetching a branch: Locate, Located, Fetch, Batch after Batch, and the switch.

use super::{
    Action, Download, Fault, LEAST_BYTES, Link, LinkId, Partial, SPEED_JUDGED, Step, Sync, Ticket, View, frame,
};
use crate::ledger::chain::{ImportError, Origin};
use crate::ledger::keeper::Imported;
use crate::ledger::limits::MAX_PARKED_BLOCKS;
use crate::ledger::{Height, Tip, genesis};
use crate::peer::limits::{BATCHES_IN_FLIGHT, MAX_LOCATOR};
use crate::peer::native::{Blocks, Frame};

/// A peer with a better tip, and how far its word goes.
type Candidate = (LinkId, Tip, (bool, bool));

impl Sync {
    /// Begins to fetch the best branch that a peer has and we do not, if none is being fetched.
    pub(super) fn consider(&mut self, view: &impl View, actions: &mut Vec<Action>) {
        // What an attempt that has ended still has on its way is waited for: only then it is known how far it came.
        if self.download.is_some() || self.staging > 0 {
            return;
        }
        let own = view.tip();
        let now = self.now;
        let wanted = |(id, link): (&LinkId, &Link)| {
            // What the ledger has not judged yet may well be all that the peer has.
            let free = link.native && link.importing == 0 && link.hold <= now;
            let tip = link.tip.filter(|tip| free && tip.beats(&own))?;
            Some((*id, tip, (link.origin == Origin::Trusted, link.proven)))
        };
        // Anybody can name a high tip: who is trusted or has kept his word is asked first.
        let better = |a: Candidate, b: Candidate| {
            let first = b.2 > a.2 || (b.2 == a.2 && b.1.beats(&a.1));
            if first { b } else { a }
        };
        let Some((link, target, _)) = self.links.iter().filter_map(wanted).reduce(better) else { return };
        let sent = locator(self.partial.map(|partial| partial.tip), view);
        actions.push(frame(link, Frame::Locate(sent.clone())));
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let step = Step::Locating { sent };
        self.download = Some(Download { ticket, link, target, step, alive: now, bytes: 0, judged: (now, 0) });
    }

    /// Whether a peer's branch above `fork` would be parked, however good it is.
    fn would_park(&self, link: LinkId, fork: Tip, view: &impl View) -> bool {
        let own = view.tip();
        self.is_stranger(link)
            && own.height > Height::GENESIS
            && own.height.0.saturating_sub(fork.height.0) > self.max_reorg
    }

    fn is_stranger(&self, link: LinkId) -> bool {
        self.links.get(&link).is_none_or(|link| link.origin == Origin::Stranger)
    }

    /// Says that a branch is not fetched, and leaves its peer alone for a while.
    fn pass_over(&mut self, link: LinkId, fork: Tip, tip: Tip, view: &impl View, actions: &mut Vec<Action>) {
        let depth = view.tip().height.0.saturating_sub(fork.height.0);
        actions.push(Action::PassOver { link, tip, depth });
        self.fail(link, None, actions);
    }

    /// Looks for another peer when the one that a branch is fetched from is too slow. What has come stays for the other.
    pub(super) fn judge_speed(&mut self, view: &impl View, actions: &mut Vec<Action>) {
        let now = self.now;
        let Some(download) = &mut self.download else { return };
        let waits = matches!(download.step, Step::Fetching { staging: 0, small: false, .. });
        let (since, before) = download.judged;
        if since + SPEED_JUDGED > now {
            return;
        }
        download.judged = (now, download.bytes);
        let (slow, link) = (waits && download.bytes - before < LEAST_BYTES, download.link);
        let own = view.tip();
        let other = self.links.iter().any(|(id, other)| {
            *id != link && other.native && other.hold <= now && other.tip.is_some_and(|tip| tip.beats(&own))
        });
        if slow && other {
            self.fail(link, None, actions);
        }
    }

    pub(super) fn located(
        &mut self,
        link: LinkId,
        common: Option<Tip>,
        tip: Tip,
        view: &impl View,
        actions: &mut Vec<Action>,
    ) {
        self.peer_has(link, tip);
        let Some(download) = self.download.as_mut().filter(|download| download.link == link) else { return };
        let Step::Locating { sent } = &download.step else { return };
        let Some(common) = common.filter(|place| sent.contains(place)) else {
            self.fail(link, Some(Fault::Protocol("Located names no place that was asked for")), actions);
            return;
        };
        if !tip.beats(&view.tip()) {
            self.download = None;
            return;
        }
        download.target = tip;
        download.alive = self.now;
        let fork = match self.partial {
            Some(partial) if partial.tip == common => partial.fork,
            _ if view.hash_at(common.height) != Some(common.hash) => {
                // Our chain has changed meanwhile: begin anew.
                self.download = None;
                return;
            }
            Some(_) => {
                self.partial = None;
                actions.push(Action::Unstage);
                common
            }
            None => common,
        };
        if tip == common {
            // All of it is staged already: only that makes our own tip worse than a block that we have.
            let origin = self.links.get(&link).map_or(Origin::Stranger, |state| state.origin);
            download.step = Step::Switching { fork };
            self.partial = None;
            actions.push(Action::Switch { link, ticket: download.ticket, origin });
            return;
        }
        let (would_park, length) = (self.would_park(link, fork, view), tip.height.0.saturating_sub(fork.height.0));
        if would_park && length > MAX_PARKED_BLOCKS as u64 {
            self.pass_over(link, fork, tip, view, actions);
            return;
        }
        if tip.height <= common.height {
            self.fail(link, Some(Fault::Protocol("Located names a tip that is not above the common block")), actions);
            return;
        }
        // Asked anew: whether it would be parked was a question to all of this.
        let Some(download) = &mut self.download else { return };
        let (owed, staging) = (BATCHES_IN_FLIGHT, 0);
        download.step = Step::Fetching { fork, tip: common, owed, staging, small: false, enough: false };
        download.bytes = self.partial.map_or(0, |partial| partial.bytes);
        download.judged = (self.now, download.bytes);
        let from = common.height.next();
        actions.push(frame(link, Frame::Fetch { from, upto: tip, batches: BATCHES_IN_FLIGHT }));
    }

    pub(super) fn batch(&mut self, link: LinkId, blocks: Blocks, view: &impl View, actions: &mut Vec<Action>) {
        let Some(download) = self.download.as_mut().filter(|download| download.link == link) else { return };
        let Step::Fetching { fork, tip, owed, staging, small, enough } = &mut download.step else { return };
        if *owed == 0 {
            self.fail(link, Some(Fault::Protocol("more batches than were asked for")), actions);
            return;
        }
        *owed -= 1;
        if *enough {
            return;
        }
        if blocks.after != *tip {
            // Nothing is adopted of a chain whose parts do not follow each other.
            self.fail(link, Some(Fault::Protocol("a batch does not follow the one before")), actions);
            return;
        }
        let end = blocks.tip();
        let target = download.target;
        if end.height > target.height || (end.height == target.height && end.hash != target.hash) {
            self.spoil(actions);
            self.fail(link, Some(Fault::Protocol("the branch does not end in the announced tip")), actions);
            return;
        }
        let whole = *tip == *fork && end == target;
        download.alive = self.now;
        *tip = end;
        if whole {
            *small = true;
            let origin = self.links.get_mut(&link).map_or(Origin::Stranger, |state| {
                // Never more than one, so that it is not held against the bound.
                state.importing += 1;
                state.origin
            });
            actions.push(Action::Import { link, blocks: blocks.blocks, origin });
            return;
        }
        *staging += 1;
        self.staging += 1;
        download.bytes += blocks.blocks.iter().map(|block| block.block().compact_bytes() as u64).sum::<u64>();
        let (fork, ticket, full) = (*fork, download.ticket, download.bytes >= self.max_staged);
        actions.push(Action::Stage { link, ticket, fork, blocks });
        if full && self.is_stranger(link) {
            self.enough(link, fork, end, view, actions);
        }
    }

    /// A stranger has sent as much as may be staged: what is better than our chain already is taken over, and the rest
    /// fetched after it; what is not is given up.
    fn enough(&mut self, link: LinkId, fork: Tip, end: Tip, view: &impl View, actions: &mut Vec<Action>) {
        if self.would_park(link, fork, view) || !end.beats(&view.tip()) {
            self.spoil(actions);
            self.pass_over(link, fork, end, view, actions);
        } else if let Some(Download { target, step: Step::Fetching { enough, .. }, .. }) = &mut self.download {
            *enough = true;
            *target = end;
        }
    }

    /// Blocks are staged up to a tip, or could not be. `None`: they do not continue what is staged.
    pub fn staged(
        &mut self,
        link: LinkId,
        ticket: Ticket,
        result: Result<Option<Tip>, ImportError>,
        view: &impl View,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        self.staging = self.staging.saturating_sub(1);
        let Some(download) = self.download.as_mut().filter(|download| download.ticket == ticket) else {
            if let (Ok(Some(at)), Some(partial)) = (result, &mut self.partial) {
                // The attempt has ended, and came further than was known.
                (partial.tip, partial.since) = (at, self.now);
            }
            self.consider(view, &mut actions);
            return actions;
        };
        let Step::Fetching { fork, tip, owed, staging, .. } = &mut download.step else { return actions };
        match result {
            Ok(None) => {
                // An earlier attempt got further than we knew when this one began: begin anew without it.
                self.download = None;
                self.spoil(&mut actions);
            }
            Ok(Some(at)) => {
                *staging = staging.saturating_sub(1);
                self.partial = Some(Partial { fork: *fork, tip: at, bytes: download.bytes, since: self.now });
                download.alive = self.now;
                if *tip != download.target {
                    *owed += 1;
                    actions.push(frame(link, Frame::More { batches: 1 }));
                } else if *staging == 0 {
                    let origin = self.links.get(&link).map_or(Origin::Stranger, |state| state.origin);
                    download.step = Step::Switching { fork: *fork };
                    self.partial = None;
                    actions.push(Action::Switch { link, ticket, origin });
                }
            }
            Err(error) => {
                self.spoil(&mut actions);
                self.refused(link, &error, &mut actions);
            }
        }
        self.consider(view, &mut actions);
        actions
    }

    /// A staged branch was switched in, or could not be.
    pub fn switched(
        &mut self,
        link: LinkId,
        ticket: Ticket,
        result: Result<&Imported, &ImportError>,
        view: &impl View,
    ) -> Vec<Action> {
        if self.download.as_ref().is_some_and(|download| download.ticket == ticket) {
            self.download = None;
        }
        self.outcome(link, view.tip(), result, view)
    }

    /// A run of blocks was imported; `tip` is where it ends.
    pub fn imported(
        &mut self,
        link: LinkId,
        tip: Tip,
        result: Result<&Imported, &ImportError>,
        view: &impl View,
    ) -> Vec<Action> {
        let of_download = self.download.as_ref().is_some_and(|download| {
            download.link == link
                && download.target == tip
                && matches!(download.step, Step::Fetching { small: true, .. })
        });
        if of_download {
            self.download = None;
        }
        let mut catch_up = None;
        if let Some(state) = self.links.get_mut(&link) {
            state.importing = state.importing.saturating_sub(1);
            if state.importing == 0 && std::mem::take(&mut state.missed) {
                catch_up = state.tip.filter(|tip| !state.native && tip.beats(&view.tip()));
            }
            state.wants |= catch_up.is_some();
        }
        let mut actions = self.outcome(link, tip, result, view);
        if catch_up.is_some() {
            self.ask_next(&mut actions);
        }
        actions
    }

    fn outcome(
        &mut self,
        link: LinkId,
        tip: Tip,
        result: Result<&Imported, &ImportError>,
        view: &impl View,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let now = self.now;
        match result {
            Ok(Imported::Unconnected) => {
                if let Some(state) = self.links.get_mut(&link)
                    && !state.native
                    && tip.beats(&view.tip())
                {
                    state.wants = true;
                    self.ask_next(&mut actions);
                }
            }
            Ok(Imported::Parked { .. }) => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.put_off(now);
                }
            }
            Ok(Imported::Changed(_)) => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.refusals = 0;
                    state.proven = true;
                }
            }
            Ok(Imported::Known | Imported::Side) => {}
            Err(error) => self.refused(link, error, &mut actions),
        }
        self.consider(view, &mut actions);
        actions
    }

    /// The ledger refused what this peer sent.
    pub(super) fn refused(&mut self, link: LinkId, error: &ImportError, actions: &mut Vec<Action>) {
        let fault = match error {
            ImportError::Rule(rule) if rule.sender_at_fault() => Some(Fault::Rule(rule.to_string())),
            ImportError::Rule(_) | ImportError::Storage(_) => None,
        };
        self.fail(link, fault, actions);
    }

    /// Ends a download that cannot go on, and the link if the peer is at fault; else the peer is left alone for a while.
    pub(super) fn fail(&mut self, link: LinkId, fault: Option<Fault>, actions: &mut Vec<Action>) {
        if self.download.as_ref().is_some_and(|download| download.link == link) {
            self.download = None;
        }
        match fault {
            Some(fault) => {
                // Nothing more is asked of it or heard from it, however long its link takes to close.
                self.links.remove(&link);
                actions.push(Action::Close { link, fault });
            }
            None => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.put_off(self.now);
                }
            }
        }
    }

    /// Nothing of the staged branch is worth keeping.
    pub(super) fn spoil(&mut self, actions: &mut Vec<Action>) {
        self.partial = None;
        actions.push(Action::Unstage);
    }

    pub(super) fn gone(&mut self, link: LinkId) {
        let Some(download) = self.download.take_if(|download| download.link == link) else { return };
        // The peer has another tip by now, which it tells; asking for this one again would go round in circles.
        if let Some(state) = self.links.get_mut(&link) {
            state.tip = state.tip.filter(|tip| *tip != download.target);
        }
    }
}

/// Where our chain has been: what is staged already, the ten last blocks, then ever larger steps down to genesis.
fn locator(staged: Option<Tip>, view: &impl View) -> Vec<Tip> {
    let mut places: Vec<Tip> = staged.into_iter().collect();
    let mut height = view.tip().height.0;
    let mut step: u64 = 1;
    // Counts what was asked, not what was found, so that a store that cannot say is not asked for every height.
    for asked in 1..MAX_LOCATOR {
        if height == 0 {
            break;
        }
        if let Some(hash) = view.hash_at(Height(height)) {
            places.push(Tip { height: Height(height), hash });
        }
        if asked >= 10 {
            step = step.saturating_mul(2);
        }
        height = height.saturating_sub(step);
    }
    if places.len() < MAX_LOCATOR {
        places.push(genesis::tip());
    }
    places
}
