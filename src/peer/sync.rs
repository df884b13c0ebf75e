//! How this node and its peers come to the same chain: what is known of each link, and what to do at each event.
//!
//! Owns, for every link, what the peer has and what it was told, and the one branch that is being fetched. Refuses to know
//! sockets, actors and the chain itself: a [`View`] answers questions about our chain, [`Action`]s ask for what must be
//! done, and the results come back as calls. Nothing in this file waits.
//!
//! | event | answer to a tutorial peer | answer to a native peer |
//! | --- | --- | --- |
//! | QUERY_LAST, QUERY_ALL | last block, whole chain | the same (it asks before it knows us) |
//! | blocks that connect | import | import (Push) |
//! | blocks that do not, from a better tip | QUERY_ALL | Locate, Located, Fetch, Batch …, switch |
//! | our tip grew | one message per block | Push, or Tip when it does not follow what the peer was told, or has it already |
//! | our chain was reorganised | last block | Tip |

use std::collections::BTreeMap;

use super::limits::{
    BATCHES_IN_FLIGHT, MAX_BATCH_BLOCKS, MAX_BATCH_BYTES, MAX_CHAINS_ASKED, MAX_LOCATOR, SESSION_QUEUE,
    SESSION_QUEUE_BYTES, SYNC_TIMEOUT,
};
use super::native::{Blocks, Frame};
use crate::ledger::chain::{ImportError, Origin};
use crate::ledger::keeper::{Imported, Update};
use crate::ledger::outbox::Millis;
use crate::ledger::{BlockHash, Height, SharedBlock, Tip};

/// Names a link of this node while it lives; later links have larger numbers.
pub type LinkId = u64;

/// Names one attempt to fetch a branch: results of an earlier one are told apart by it.
pub type Ticket = u64;

/// After a branch was refused without the peer's fault, this long passes before it is fetched from that peer again.
const HOLD: Millis = 30_000;

/// The same after a branch was parked: only an operator changes that.
const HOLD_PARKED: Millis = 600_000;

/// A tutorial peer that does not answer QUERY_ALL for this long may be asked again.
const ASK_AGAIN: Millis = 60_000;

/// Batches that a peer may ask for ahead: more would let it queue work here.
const MAX_CREDIT: u32 = 16;

/// Questions about our best chain.
pub trait View {
    /// Its end.
    fn tip(&self) -> Tip;
    /// The hash at a height; `None` above the tip, or when the store cannot say.
    fn hash_at(&self, height: Height) -> Option<BlockHash>;
}

/// Something to say on a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Say {
    /// QUERY_ALL.
    QueryAll,
    /// RESPONSE_BLOCK with our last block.
    LastBlock,
    /// RESPONSE_BLOCK with our whole chain.
    WholeChain,
    /// RESPONSE_BLOCK with this block.
    Block(SharedBlock),
    /// A native frame.
    Frame(Frame),
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Say something.
    Send(LinkId, Say),
    /// Give a run of blocks to the ledger; [`Sync::imported`] takes the result.
    Import {
        /// Who sent them.
        link: LinkId,
        /// The run.
        blocks: Vec<SharedBlock>,
        /// How far the sender is trusted.
        origin: Origin,
    },
    /// Add blocks to the staged branch, which begins at `fork`; [`Sync::staged`] takes the result.
    Stage {
        /// Who sent them.
        link: LinkId,
        /// To be handed back with the result.
        ticket: Ticket,
        /// Where the branch leaves our chain.
        fork: Tip,
        /// The next blocks and their parent; a parent equal to `fork` begins the branch anew.
        blocks: Blocks,
    },
    /// Switch the staged branch in; [`Sync::switched`] takes the result.
    Switch {
        /// Who sent it.
        link: LinkId,
        /// To be handed back with the result.
        ticket: Ticket,
        /// How far the sender is trusted.
        origin: Origin,
    },
    /// Give the staged branch up.
    Unstage,
    /// Read a batch of our chain and send it; [`Sync::served`] takes the result.
    Serve {
        /// Who asked.
        link: LinkId,
        /// First height of the batch.
        from: Height,
        /// The chain that is meant.
        upto: Tip,
    },
    /// End a link.
    Close {
        /// Which.
        link: LinkId,
        /// Why.
        fault: Fault,
    },
}

/// Why a link is ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// A block broke a rule that no honest node breaks.
    #[error("sent a block that breaks a rule: {0}")]
    Rule(String),
    /// The peer said something that does not belong here.
    #[error("broke the protocol: {0}")]
    Protocol(&'static str),
    /// The peer promised blocks and did not send them.
    #[error("stopped in the middle of a sync")]
    Stalled,
}

/// How far fetching a branch is, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The peer that it is fetched from.
    pub link: LinkId,
    /// Height where the branch begins.
    pub from: Height,
    /// Height that has arrived.
    pub at: Height,
    /// Height where it ends.
    pub target: Height,
}

#[derive(Debug)]
struct Link {
    origin: Origin,
    native: bool,
    /// The peer's tip, as far as it has told us.
    tip: Option<Tip>,
    /// Our tip, as far as we have told the peer.
    told: Option<Tip>,
    /// When we sent QUERY_ALL that was not answered yet.
    asked: Option<Millis>,
    /// QUERY_ALL is to be sent as soon as fewer chains are on their way.
    wants: bool,
    /// Until when no branch is fetched from this peer.
    hold: Millis,
    /// Runs of this peer that are on their way to the ledger: until they are there, nobody knows what is missing.
    importing: u32,
    serving: Option<Serving>,
}

/// A chain that a peer fetches from us.
#[derive(Debug)]
struct Serving {
    next: Height,
    upto: Tip,
    credit: u32,
    /// A batch is being read.
    busy: bool,
}

/// A branch that we fetch.
#[derive(Debug)]
struct Download {
    ticket: Ticket,
    link: LinkId,
    target: Tip,
    step: Step,
    /// When something last arrived.
    alive: Millis,
}

#[derive(Debug)]
enum Step {
    /// Waiting for Located.
    Locating { sent: Vec<Tip> },
    /// Waiting for batches; `staging` are on their way to the ledger.
    Fetching { fork: Tip, tip: Tip, staging: u32, small: bool },
    /// The ledger has the whole branch.
    Switching,
}

/// Blocks that stay staged when their sender goes away, so that another can go on.
#[derive(Clone, Copy, Debug)]
struct Partial {
    fork: Tip,
    tip: Tip,
}

/// The state of all links.
#[derive(Debug, Default)]
pub struct Sync {
    links: BTreeMap<LinkId, Link>,
    download: Option<Download>,
    partial: Option<Partial>,
    /// The ticket of the next download.
    next_ticket: Ticket,
    now: Millis,
}

impl Sync {
    /// The time of the events that follow.
    pub fn set_now(&mut self, now: Millis) {
        self.now = self.now.max(now);
    }

    /// The peer's tip, as far as it has told us.
    #[must_use]
    pub fn peer_tip(&self, link: LinkId) -> Option<Tip> {
        self.links.get(&link)?.tip
    }

    /// How many native peers have said that their chain ends in, or has passed, a block of ours at this height.
    pub fn holders(&self, block: Tip, view: &impl View) -> usize {
        let holds = |link: &&Link| {
            link.native
                && link.tip.is_some_and(|tip| {
                    tip == block || (tip.height > block.height && view.hash_at(tip.height) == Some(tip.hash))
                })
        };
        self.links.values().filter(holds).count()
    }

    /// How far the branch is that is being fetched.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        let Download { link, target, step, .. } = self.download.as_ref()?;
        let (from, at) = match step {
            Step::Locating { .. } => return None,
            Step::Fetching { fork, tip, .. } => (fork.height, tip.height),
            Step::Switching => (target.height, target.height),
        };
        Some(Progress { link: *link, from, at, target: target.height })
    }

    // ---- Links.

    /// A link is open; QUERY_LAST and HELLO were sent, the latter with `told`.
    pub fn opened(&mut self, link: LinkId, origin: Origin, told: Tip) {
        let state = Link {
            origin,
            native: false,
            tip: None,
            told: Some(told),
            asked: None,
            wants: false,
            hold: 0,
            importing: 0,
            serving: None,
        };
        self.links.insert(link, state);
    }

    /// A link is gone.
    pub fn closed(&mut self, link: LinkId, view: &impl View) -> Vec<Action> {
        self.links.remove(&link);
        let mut actions = Vec::new();
        if self.download.as_ref().is_some_and(|download| download.link == link) {
            self.download = None;
        }
        self.consider(view, &mut actions);
        self.ask_next(&mut actions);
        actions
    }

    /// The operator has named this peer, or no longer does.
    pub fn set_origin(&mut self, link: LinkId, origin: Origin) {
        if let Some(link) = self.links.get_mut(&link) {
            link.origin = origin;
            link.hold = 0;
        }
    }

    /// The peer is a dolmen node with this tip.
    pub fn introduced(&mut self, link: LinkId, tip: Tip, view: &impl View) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(state) = self.links.get_mut(&link) {
            state.native = true;
            state.tip = Some(tip);
            if state.told != Some(view.tip()) {
                state.told = Some(view.tip());
                actions.push(frame(link, Frame::Tip(view.tip())));
            }
        }
        self.consider(view, &mut actions);
        actions
    }

    // ---- The tutorial's messages.

    /// The peer asks for our last block.
    pub fn asked_last(&mut self, link: LinkId, view: &impl View) -> Vec<Action> {
        if let Some(state) = self.links.get_mut(&link) {
            state.told = Some(view.tip());
        }
        vec![Action::Send(link, Say::LastBlock)]
    }

    /// The peer asks for our whole chain.
    pub fn asked_all(&mut self, link: LinkId, view: &impl View) -> Vec<Action> {
        if let Some(state) = self.links.get_mut(&link) {
            state.told = Some(view.tip());
        }
        vec![Action::Send(link, Say::WholeChain)]
    }

    /// The peer sent its last block or its whole chain.
    pub fn blocks(&mut self, link: LinkId, blocks: Vec<SharedBlock>) -> Vec<Action> {
        let mut actions = Vec::new();
        let (Some(state), Some(first), Some(last)) = (self.links.get_mut(&link), blocks.first(), blocks.last()) else {
            return actions;
        };
        state.tip = Some(last.tip());
        let answer_to_all = first.height() == Height::GENESIS;
        let origin = state.origin;
        state.importing += 1;
        if answer_to_all {
            state.asked = None;
            self.ask_next(&mut actions);
        }
        actions.push(Action::Import { link, blocks, origin });
        actions
    }

    // ---- Native frames.

    /// A frame of a peer that has said HELLO.
    pub fn frame(&mut self, link: LinkId, received: Frame, view: &impl View) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.links.get(&link).is_some_and(|state| state.native) {
            actions.push(Action::Close { link, fault: Fault::Protocol("a binary frame before HELLO") });
            return actions;
        }
        match received {
            Frame::Tip(tip) => self.peer_has(link, tip),
            Frame::Push(blocks) => self.pushed(link, blocks, &mut actions),
            Frame::Locate(places) => actions.push(located(link, &places, view)),
            Frame::Located { common, tip } => self.located(link, common, tip, view, &mut actions),
            Frame::Fetch { from, upto, batches } => self.fetch(link, from, upto, batches, &mut actions),
            Frame::More { batches } => self.more(link, batches, &mut actions),
            Frame::Batch(blocks) => self.batch(link, blocks, &mut actions),
            Frame::Gone => self.gone(link),
            // The address book's matter; nothing about the chain.
            Frame::Addresses(_) => {}
        }
        self.consider(view, &mut actions);
        actions
    }

    fn peer_has(&mut self, link: LinkId, tip: Tip) {
        if let Some(state) = self.links.get_mut(&link) {
            state.tip = Some(tip);
        }
    }

    fn pushed(&mut self, link: LinkId, blocks: Blocks, actions: &mut Vec<Action>) {
        self.peer_has(link, blocks.tip());
        let fetching = self.download.as_ref().is_some_and(|download| download.link == link);
        if fetching {
            // These come after what is being fetched; the tip is remembered, and fetched next.
            return;
        }
        let Some(state) = self.links.get_mut(&link) else { return };
        state.importing += 1;
        actions.push(Action::Import { link, blocks: blocks.blocks, origin: state.origin });
    }

    // ---- Fetching a branch.

    /// Begins to fetch the best branch that a peer has and we do not, if none is being fetched.
    fn consider(&mut self, view: &impl View, actions: &mut Vec<Action>) {
        if self.download.is_some() {
            return;
        }
        let own = view.tip();
        let now = self.now;
        let wanted = |(id, link): (&LinkId, &Link)| {
            let idle = link.hold <= now && link.importing == 0;
            let tip = link.tip.filter(|tip| link.native && idle && tip.beats(&own))?;
            Some((*id, tip))
        };
        let better = |a: (LinkId, Tip), b: (LinkId, Tip)| if b.1.beats(&a.1) { b } else { a };
        let Some((link, target)) = self.links.iter().filter_map(wanted).reduce(better) else { return };
        let sent = locator(self.partial.map(|partial| partial.tip), view);
        actions.push(frame(link, Frame::Locate(sent.clone())));
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.download = Some(Download { ticket, link, target, step: Step::Locating { sent }, alive: now });
    }

    fn located(&mut self, link: LinkId, common: Option<Tip>, tip: Tip, view: &impl View, actions: &mut Vec<Action>) {
        self.peer_has(link, tip);
        let Some(download) = self.download.as_mut().filter(|download| download.link == link) else { return };
        let Step::Locating { sent } = &download.step else { return };
        let Some(common) = common.filter(|place| sent.contains(place)) else {
            self.fail(link, Some(Fault::Protocol("Located names no place that was asked for")), actions);
            return;
        };
        if !tip.beats(&view.tip()) || tip.height <= common.height {
            self.download = None;
            return;
        }
        let fork = match self.partial {
            Some(partial) if partial.tip == common => partial.fork,
            Some(_) => {
                self.partial = None;
                actions.push(Action::Unstage);
                common
            }
            None => common,
        };
        download.target = tip;
        download.alive = self.now;
        download.step = Step::Fetching { fork, tip: common, staging: 0, small: false };
        let from = common.height.next();
        actions.push(frame(link, Frame::Fetch { from, upto: tip, batches: BATCHES_IN_FLIGHT }));
    }

    fn batch(&mut self, link: LinkId, blocks: Blocks, actions: &mut Vec<Action>) {
        let Some(download) = self.download.as_mut().filter(|download| download.link == link) else { return };
        let Step::Fetching { fork, tip, staging, small } = &mut download.step else { return };
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
            let Some(state) = self.links.get_mut(&link) else { return };
            state.importing += 1;
            actions.push(Action::Import { link, blocks: blocks.blocks, origin: state.origin });
        } else {
            *staging += 1;
            let ticket = download.ticket;
            actions.push(Action::Stage { link, ticket, fork: *fork, blocks });
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
        let Some(download) = self.download.as_mut().filter(|download| download.ticket == ticket) else {
            return actions;
        };
        let Step::Fetching { fork, tip, staging, .. } = &mut download.step else { return actions };
        match result {
            Ok(None) => {
                // An earlier attempt got further than we knew when this one began: begin anew without it.
                self.download = None;
                self.spoil(&mut actions);
            }
            Ok(Some(at)) => {
                *staging = staging.saturating_sub(1);
                self.partial = Some(Partial { fork: *fork, tip: at });
                download.alive = self.now;
                if *tip != download.target {
                    actions.push(frame(link, Frame::More { batches: 1 }));
                } else if *staging == 0 {
                    let origin = self.links.get(&link).map_or(Origin::Stranger, |state| state.origin);
                    download.step = Step::Switching;
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
        if let Some(state) = self.links.get_mut(&link) {
            state.importing = state.importing.saturating_sub(1);
        }
        let of_download = self.download.as_ref().is_some_and(|download| {
            download.link == link
                && download.target == tip
                && matches!(download.step, Step::Fetching { small: true, .. })
        });
        if of_download {
            self.download = None;
        }
        self.outcome(link, tip, result, view)
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
                    state.hold = now + HOLD_PARKED;
                }
            }
            Ok(Imported::Known | Imported::Side | Imported::Changed(_)) => {}
            Err(error) => self.refused(link, error, &mut actions),
        }
        self.consider(view, &mut actions);
        actions
    }

    /// The ledger refused what this peer sent.
    fn refused(&mut self, link: LinkId, error: &ImportError, actions: &mut Vec<Action>) {
        let fault = match error {
            ImportError::Rule(rule) if rule.sender_at_fault() => Some(Fault::Rule(rule.to_string())),
            ImportError::Rule(_) | ImportError::Storage(_) => None,
        };
        self.fail(link, fault, actions);
    }

    /// Ends a download that cannot go on, and the link if the peer is at fault; else the peer is left alone for a while.
    fn fail(&mut self, link: LinkId, fault: Option<Fault>, actions: &mut Vec<Action>) {
        if self.download.as_ref().is_some_and(|download| download.link == link) {
            self.download = None;
        }
        match fault {
            Some(fault) => actions.push(Action::Close { link, fault }),
            None => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.hold = self.now + HOLD;
                }
            }
        }
    }

    /// Nothing of the staged branch is worth keeping.
    fn spoil(&mut self, actions: &mut Vec<Action>) {
        self.partial = None;
        actions.push(Action::Unstage);
    }

    fn gone(&mut self, link: LinkId) {
        if self.download.as_ref().is_some_and(|download| download.link == link) {
            self.download = None;
        }
    }

    // ---- Serving a branch.

    fn fetch(&mut self, link: LinkId, from: Height, upto: Tip, batches: u32, actions: &mut Vec<Action>) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let busy = state.serving.as_ref().is_some_and(|serving| serving.busy);
        state.serving = Some(Serving { next: from, upto, credit: batches.min(MAX_CREDIT), busy });
        serve(link, state, actions);
    }

    fn more(&mut self, link: LinkId, batches: u32, actions: &mut Vec<Action>) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if let Some(serving) = &mut state.serving {
            serving.credit = serving.credit.saturating_add(batches).min(MAX_CREDIT);
        }
        serve(link, state, actions);
    }

    /// A batch that began at `from` was sent, and `next` is the height after it; or our chain is no longer the one that was
    /// asked for.
    pub fn served(&mut self, link: LinkId, from: Height, next: Option<Height>) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(state) = self.links.get_mut(&link) else { return actions };
        let Some(serving) = &mut state.serving else { return actions };
        serving.busy = false;
        if serving.next == from {
            match next {
                Some(next) if next <= serving.upto.height => serving.next = next,
                Some(_) => state.serving = None,
                None => {
                    state.serving = None;
                    actions.push(frame(link, Frame::Gone));
                }
            }
        }
        serve(link, state, &mut actions);
        actions
    }

    // ---- Our own chain.

    /// Our best chain has changed: tells every peer, each in its way. Blocks go to none that has them; a native peer that
    /// sent them hears that we hold them.
    pub fn updated(&mut self, update: &Update, view: &impl View) -> Vec<Action> {
        let mut actions = Vec::new();
        let grew = update.fork == update.old;
        let bytes: usize = update.entered.iter().map(|block| block.block().compact_bytes()).sum();
        let tellable = grew && !update.entered.is_empty() && bytes <= SESSION_QUEUE_BYTES / 2;
        for (&id, link) in &mut self.links {
            if !grew {
                // What was refused or parked against the old chain may fit the new one.
                link.hold = 0;
            }
            let told = link.told.replace(update.new);
            if link.tip == Some(update.new) {
                // The peer told us, or was faster. A native one waits to hear that we hold it too; blocks never go back.
                if link.native && told != Some(update.new) {
                    actions.push(frame(id, Frame::Tip(update.new)));
                }
                continue;
            }
            if link.native {
                let follows = told == Some(update.old) || link.tip == Some(update.old);
                if tellable && follows {
                    push(id, update, &mut actions);
                } else {
                    actions.push(frame(id, Frame::Tip(update.new)));
                }
            } else if tellable && update.entered.len() <= SESSION_QUEUE / 2 {
                let news = update.entered.iter().skip_while(|block| {
                    link.tip.is_some_and(|tip| tip.height >= block.height() && tip.height <= update.new.height)
                        && view.hash_at(link.tip.map_or(Height::GENESIS, |tip| tip.height))
                            == link.tip.map(|tip| tip.hash)
                });
                actions.extend(news.map(|block| Action::Send(id, Say::Block(block.clone()))));
            } else {
                actions.push(Action::Send(id, Say::LastBlock));
            }
        }
        self.consider(view, &mut actions);
        actions
    }

    /// The peer could not be sent everything: what it was told last is not known any more.
    pub fn lost_track(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.told = None;
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Millis, view: &impl View) -> Vec<Action> {
        self.set_now(now);
        let mut actions = Vec::new();
        // A duration of seconds fits.
        let patience = SYNC_TIMEOUT.as_millis() as Millis;
        let stalled = self.download.as_ref().filter(|download| {
            let waits_for_peer = match &download.step {
                Step::Locating { .. } => true,
                Step::Fetching { staging, small, .. } => *staging == 0 && !small,
                Step::Switching => false,
            };
            waits_for_peer && download.alive + patience < self.now
        });
        if let Some(link) = stalled.map(|download| download.link) {
            self.fail(link, Some(Fault::Stalled), &mut actions);
        }
        for link in self.links.values_mut() {
            if link.asked.is_some_and(|since| since + ASK_AGAIN < now) {
                link.asked = None;
            }
        }
        self.ask_next(&mut actions);
        self.consider(view, &mut actions);
        actions
    }

    /// Sends QUERY_ALL to tutorial peers that are ahead, no more at once than may answer at once.
    fn ask_next(&mut self, actions: &mut Vec<Action>) {
        let mut under_way = self.links.values().filter(|link| link.asked.is_some()).count();
        for (&id, link) in &mut self.links {
            if under_way >= MAX_CHAINS_ASKED {
                return;
            }
            if link.wants && link.asked.is_none() {
                link.wants = false;
                link.asked = Some(self.now);
                under_way += 1;
                actions.push(Action::Send(id, Say::QueryAll));
            }
        }
    }
}

fn frame(link: LinkId, frame: Frame) -> Action {
    Action::Send(link, Say::Frame(frame))
}

fn serve(link: LinkId, state: &mut Link, actions: &mut Vec<Action>) {
    let Some(serving) = &mut state.serving else { return };
    if serving.busy || serving.credit == 0 {
        return;
    }
    serving.busy = true;
    serving.credit -= 1;
    actions.push(Action::Serve { link, from: serving.next, upto: serving.upto });
}

/// New blocks as frames that each stay within a batch.
fn push(link: LinkId, update: &Update, actions: &mut Vec<Action>) {
    let mut after = update.old;
    let mut blocks: Vec<SharedBlock> = Vec::new();
    let mut bytes = 0;
    for block in &update.entered {
        let more = block.block().compact_bytes();
        if !blocks.is_empty() && (bytes + more > MAX_BATCH_BYTES || blocks.len() >= MAX_BATCH_BLOCKS) {
            let run = Blocks { after, blocks: std::mem::take(&mut blocks) };
            after = run.tip();
            bytes = 0;
            actions.push(frame(link, Frame::Push(run)));
        }
        bytes += more;
        blocks.push(block.clone());
    }
    if !blocks.is_empty() {
        actions.push(frame(link, Frame::Push(Blocks { after, blocks })));
    }
}

/// Answers Locate: the first place that is on our chain.
fn located(link: LinkId, places: &[Tip], view: &impl View) -> Action {
    let common = places.iter().copied().find(|place| view.hash_at(place.height) == Some(place.hash));
    frame(link, Frame::Located { common, tip: view.tip() })
}

/// Where our chain has been: what is staged already, the ten last blocks, then ever larger steps down to genesis.
fn locator(staged: Option<Tip>, view: &impl View) -> Vec<Tip> {
    let mut places: Vec<Tip> = staged.into_iter().collect();
    let mut height = view.tip().height.0;
    let mut step = 1;
    loop {
        if let Some(hash) = view.hash_at(Height(height)) {
            places.push(Tip { height: Height(height), hash });
        }
        if height == 0 || places.len() >= MAX_LOCATOR {
            return places;
        }
        if places.len() >= 10 {
            step *= 2;
        }
        height = height.saturating_sub(step);
    }
}
