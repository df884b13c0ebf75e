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

mod fetch;
mod heal;
pub mod progress;
mod serve;
mod tell;

pub use heal::Repair;

use std::collections::BTreeMap;

use crate::ledger::chain::Origin;
use crate::ledger::outbox::Millis;
use crate::ledger::{BlockHash, Height, SharedBlock, Tip};
use crate::peer::limits::{MAX_CHAINS_ASKED, MAX_STAGED_BYTES, SYNC_TIMEOUT};
use crate::peer::native::{Blocks, Frame};
use progress::Progress;

/// Names a link of this node while it lives; later links have larger numbers.
pub type LinkId = u64;

/// Names one attempt to fetch a branch: results of an earlier one are told apart by it.
pub type Ticket = u64;

/// After a branch was refused without the peer's fault, or parked, this long passes before it is fetched from that peer
/// again; twice as long each further time, since nothing has changed but the cost.
const HOLD: Millis = 30_000;

/// How often [`HOLD`] doubles at the most: to about an hour.
const MAX_DOUBLINGS: u32 = 7;

/// A tutorial peer that does not answer QUERY_ALL for this long may be asked again.
const ASK_AGAIN: Millis = 60_000;

/// Blocks that were staged and that nobody goes on with are given up after this long.
const PARTIAL_KEPT: Millis = 600_000;

/// Bytes that a peer must send us of a branch in [`SPEED_JUDGED`], if there is another to fetch one from: else one that
/// sends a block now and then could keep us from all others.
const LEAST_BYTES: u64 = 64 * 1024;

/// How often a peer's speed is judged: three parts of a branch may be as late as they can in that time.
const SPEED_JUDGED: Millis = 60_000;

/// Batches that a peer may ask for ahead: more would let it queue work here.
const MAX_CREDIT: u32 = 16;

/// Runs of one peer that may wait for the ledger: what a flood can take of memory. What a peer sends beyond is passed over,
/// and asked for once the ledger has caught up.
const MAX_IMPORTS: u32 = 16;

/// Questions about our best chain.
pub trait View {
    /// Its end.
    fn tip(&self) -> Tip;
    /// The hash at a height; `None` above the tip, or when the store cannot say.
    fn hash_at(&self, height: Height) -> Option<BlockHash>;
    /// The hash that the block at a height has to have, also where the block itself is broken; `None` if nothing tells.
    fn wanted_at(&self, height: Height) -> Option<BlockHash> {
        self.hash_at(height)
    }
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
    /// Say to people that a stranger's branch is not fetched: it is more than is kept of branches that are not adopted.
    PassOver {
        /// Who offers it.
        link: LinkId,
        /// Where it ends.
        tip: Tip,
        /// Blocks of our chain that it would undo.
        depth: u64,
    },
    /// Read a batch of our chain and send it; [`Sync::served`] takes the result.
    Serve {
        /// Who asked.
        link: LinkId,
        /// First height of the batch.
        from: Height,
        /// The chain that is meant.
        upto: Tip,
    },
    /// Write blocks of our best chain again that are broken, highest first; [`Sync::restored`] takes the result.
    Restore {
        /// Who sent them.
        link: LinkId,
        /// The blocks.
        blocks: Vec<SharedBlock>,
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
    /// Branches in a row that were refused or parked.
    refusals: u32,
    /// Runs of this peer that are on their way to the ledger.
    importing: u32,
    /// The last branch that was taken of this peer was good.
    proven: bool,
    /// Blocks were passed over because too many runs were on their way.
    missed: bool,
    serving: Option<Serving>,
}

impl Link {
    /// Leaves the peer alone for a while.
    fn put_off(&mut self, now: Millis) {
        self.hold = now + (HOLD << self.refusals.min(MAX_DOUBLINGS));
        self.refusals = self.refusals.saturating_add(1);
    }

    /// Whether one more run may go to the ledger; counts it.
    fn may_import(&mut self) -> bool {
        self.missed |= self.importing >= MAX_IMPORTS;
        if self.importing >= MAX_IMPORTS {
            return false;
        }
        self.importing += 1;
        true
    }
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
    /// Bytes of the branch that are staged or on their way to be.
    bytes: u64,
    /// When the peer's speed was judged last, and how many bytes there were then.
    judged: (Millis, u64),
}

impl Download {
    /// Whether these are the blocks that come next.
    fn continues_with(&self, blocks: &Blocks) -> bool {
        matches!(&self.step, Step::Fetching { tip, .. } if *tip == blocks.after)
    }
}

#[derive(Debug)]
enum Step {
    /// Waiting for Located.
    Locating { sent: Vec<Tip> },
    /// Waiting for batches; `owed` may still come, `staging` are on their way to the ledger. When it is `enough` for now,
    /// what still comes is passed over.
    Fetching { fork: Tip, tip: Tip, owed: u32, staging: u32, small: bool, enough: bool },
    /// The ledger has the whole branch.
    Switching { fork: Tip },
}

/// Blocks that stay staged when their sender goes away, so that another can go on.
#[derive(Clone, Copy, Debug)]
struct Partial {
    fork: Tip,
    tip: Tip,
    bytes: u64,
    since: Millis,
}

/// The state of all links.
#[derive(Debug)]
pub struct Sync {
    links: BTreeMap<LinkId, Link>,
    download: Option<Download>,
    partial: Option<Partial>,
    /// Batches of all attempts that are on their way to the staged branch.
    staging: u32,
    /// The ticket of the next download.
    next_ticket: Ticket,
    /// Blocks that a stranger's branch may undo.
    max_reorg: u64,
    /// Bytes of a stranger's branch that are staged at once.
    max_staged: u64,
    healing: heal::Healing,
    now: Millis,
}

impl Sync {
    /// Of a node without links, on which a stranger's branch may undo so many blocks.
    #[must_use]
    pub fn new(max_reorg: u64) -> Self {
        Self {
            links: BTreeMap::new(),
            download: None,
            partial: None,
            staging: 0,
            next_ticket: 0,
            healing: heal::Healing::default(),
            max_reorg,
            max_staged: MAX_STAGED_BYTES,
            now: 0,
        }
    }

    /// Stages at most so many bytes of a stranger's branch at once, for small experiments.
    #[must_use]
    pub fn staging_at_most(self, bytes: u64) -> Self {
        Self { max_staged: bytes, ..self }
    }

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
            Step::Switching { fork } => (fork.height, target.height),
        };
        Some(Progress { link: *link, from, at, target: target.height })
    }

    /// Whether this peer was asked for its whole chain and has not sent it yet.
    #[must_use]
    pub fn expects_chain(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.asked.is_some())
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
            refusals: 0,
            importing: 0,
            proven: false,
            missed: false,
            serving: None,
        };
        self.links.insert(link, state);
    }

    /// A link is gone.
    pub fn closed(&mut self, link: LinkId, view: &impl View) -> Vec<Action> {
        self.links.remove(&link);
        self.healing_closed(link);
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
        let may_import = state.may_import();
        if answer_to_all {
            state.asked = None;
            self.ask_next(&mut actions);
        }
        if may_import {
            actions.push(Action::Import { link, blocks, origin });
        }
        actions
    }

    // ---- Native frames.

    /// A frame of a peer that has said HELLO.
    pub fn frame(&mut self, link: LinkId, received: Frame, view: &impl View) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.links.get(&link) {
            // It is being closed.
            None => return actions,
            Some(state) if !state.native => {
                self.fail(link, Some(Fault::Protocol("a binary frame before HELLO")), &mut actions);
                return actions;
            }
            Some(_) => {}
        }
        match received {
            Frame::Tip(tip) => self.peer_has(link, tip),
            Frame::Push(blocks) => self.pushed(link, blocks, &mut actions),
            Frame::Locate(places) => actions.push(serve::located(link, &places, view)),
            Frame::Located { common, tip } => self.located(link, common, tip, view, &mut actions),
            Frame::Fetch { from, upto, batches } => self.fetch(link, from, upto, batches, &mut actions),
            Frame::More { batches } => self.more(link, batches, &mut actions),
            Frame::Batch(blocks) => {
                if let Some(blocks) = self.healed_by(link, blocks, view, &mut actions) {
                    self.batch(link, blocks, view, &mut actions);
                }
            }
            Frame::Gone => {
                if !self.healing_gone(link) {
                    self.gone(link);
                }
            }
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
        if state.may_import() {
            actions.push(Action::Import { link, blocks: blocks.blocks, origin: state.origin });
        }
    }

    // ---- Time.

    /// Time has passed.
    pub fn tick(&mut self, now: Millis, view: &impl View) -> Vec<Action> {
        self.set_now(now);
        let mut actions = Vec::new();
        // A duration of seconds fits.
        let patience = SYNC_TIMEOUT.as_millis() as Millis;
        let stalled = self.download.as_ref().filter(|download| {
            let waits_for_peer = match &download.step {
                Step::Locating { .. } => true,
                Step::Fetching { staging, small, .. } => *staging == 0 && !*small,
                Step::Switching { .. } => false,
            };
            waits_for_peer && download.alive + patience < self.now
        });
        if let Some(link) = stalled.map(|download| download.link) {
            self.fail(link, Some(Fault::Stalled), &mut actions);
        }
        self.judge_speed(view, &mut actions);
        if self.download.is_none() && self.partial.is_some_and(|partial| partial.since + PARTIAL_KEPT < self.now) {
            self.spoil(&mut actions);
        }
        for link in self.links.values_mut() {
            if link.asked.is_some_and(|since| since + ASK_AGAIN < now) {
                link.asked = None;
            }
        }
        self.ask_next(&mut actions);
        self.consider(view, &mut actions);
        self.heal(view, &mut actions);
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
