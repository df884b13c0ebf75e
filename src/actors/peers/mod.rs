//! PeerManager: the links, whom to dial, and what is said to whom. Owns the [`Sync`], the [`Links`] and the [`Book`], all
//! plain structs that think; this actor carries out what they ask for.
//!
//! The surprise: sessions whose peers do not read are not polled, so heartbeats and eviction are judged here, by what the
//! session and this actor share of the socket.

mod carry;
mod gate;
mod lines;
mod messages;
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::prelude::*;
use actix_http::ws::CloseCode;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustls::ClientConfig;
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use super::chain::{ChainActor, ImportBlocks};
use super::clock;
use super::flood::Flood;
use super::session::{self, DialError, Handle, Shared};
use crate::ledger::outbox::Millis;
use crate::ledger::{BlockHash, Height, Tip};
use crate::metrics::Metrics;
use crate::peer::address::{PeerAddress, Scheme};
use crate::peer::answers::ChainAnswers;
use crate::peer::book::{Book, Source};
use crate::peer::conduct::Conduct;
use crate::peer::limits::MAX_BATCH_BYTES;
use crate::peer::links::{DISMISSED, Direction, Link, Links};
use crate::peer::message::NodeId;
use crate::peer::pace::Patience;
use crate::peer::proof::ClusterKey;
use crate::peer::refused::{Refused, RefusedBlocks};
use crate::peer::slots::Slots;
use crate::peer::sync::progress::{Line, Lines, Progress};
use crate::peer::sync::{LinkId, Sync, View};
use crate::peer::turns::Turns;
use crate::store::{Reader, Snapshot};
use page::Page;

pub use messages::{
    AddPeers, AwaitHolders, Awaited, Ban, ChainChanged, CountHolders, DropPeer, GetRefused, GetRepair, GetSync,
    Latency, ListBans, ListPeers, PeerRow, Received, Refusal, Register, Stop, Unban, Unregister,
};

/// How often time is looked at: the granularity of redialling.
const TICK: Duration = Duration::from_millis(50);

/// Messages that may wait.
const MAILBOX: usize = 4096;

/// Bytes that are read from the store at once while a chain is sent.
const READ_BYTES: usize = MAX_BATCH_BYTES;

/// What PeerManager is made of.
pub struct Parts {
    /// The one writer.
    pub chain: Addr<ChainActor>,
    /// The chain, to be read.
    pub reader: Reader,
    /// What the node's sessions share.
    pub shared: Arc<Shared>,
    /// How many links there may be.
    pub slots: Slots,
    /// Blocks that a stranger's branch may undo.
    pub max_reorg: u64,
    /// Our own peer port, to be said in HELLO.
    pub port: u16,
    /// Where the address book is kept.
    pub book_file: PathBuf,
    /// Peers that the operator named.
    pub peers: Vec<PeerAddress>,
    /// What peers have to hold; `None` if links are open to everybody.
    pub cluster_key: Option<ClusterKey>,
    /// Whom to trust behind `wss://`; no such peer is dialled if `None`.
    pub tls: Option<Arc<ClientConfig>>,
    /// How our own peer port is served, and so, in all likelihood, those of our peers.
    pub scheme: Scheme,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The links of a node.
pub struct PeerManager {
    parts: Parts,
    node: NodeId,
    links: Links<Handle>,
    sync: Sync,
    /// When to say how far a fetch is.
    lines: Lines,
    book: Book,
    conduct: Conduct,
    refused: RefusedBlocks,
    next_link: LinkId,
    rng: StdRng,
    /// Links whose peer has more to read than may wait, and since when.
    lagging: BTreeMap<LinkId, Millis>,
    /// Callers that wait for peers to hold a block.
    waiting: Vec<Waiting>,
    /// Tutorial peers that want our whole chain.
    chains: ChainAnswers,
    /// Whether a chain is being put together.
    making: bool,
    /// The chain that was put together last, while it is on its way.
    chain_text: Option<(Tip, Bytes)>,
    /// Blocks of strangers on their way to the ledger, a run at a time: each may cost a durable write, and whoever mines
    /// waits for no more than one of them.
    imports: Turns<ImportBlocks>,
    /// Links that are being closed for what their peer did: nothing more is heard on them.
    dropped: BTreeSet<LinkId>,
    /// What is thought of what strangers say.
    patience: BTreeMap<LinkId, Patience>,
    /// Links of a closed cluster whose peer has not proven yet that it holds the key.
    gates: BTreeMap<LinkId, gate::Gate>,
    /// Lines of the log that strangers can cause.
    flood: Flood,
    stopping: bool,
}

/// A caller of [`AwaitHolders`].
struct Waiting {
    block: Option<Tip>,
    peers: usize,
    caller: oneshot::Sender<Awaited>,
}

/// Our chain as the sync asks for it.
struct Ours(Snapshot);

impl View for Ours {
    fn tip(&self) -> Tip {
        self.0.tip()
    }

    fn hash_at(&self, height: Height) -> Option<BlockHash> {
        match self.0.hash_at(height) {
            Ok(hash) => hash,
            Err(error) => {
                warn!(%error, %height, "cannot read the chain");
                None
            }
        }
    }

    fn wanted_at(&self, height: Height) -> Option<BlockHash> {
        // An error is nothing new here: the block is wanted because it cannot be read.
        self.0.wanted_at(height).ok().flatten()
    }
}

impl PeerManager {
    /// The manager of no links yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let node = NodeId(rng.random());
        let mut book = Book::new(parts.slots.outbound);
        let kept = page::read(&parts.book_file);
        for line in kept.addresses {
            book.add(line.address, line.source, 0);
        }
        for address in &parts.peers {
            if let Ok(host) = address.host().trim_matches(['[', ']']).parse() {
                parts.shared.entrance().know(host);
            }
            book.add(address.clone(), Source::Configured, 0);
        }
        Self {
            sync: Sync::new(parts.max_reorg),
            parts,
            node,
            links: Links::new(node),
            lines: Lines::default(),
            book,
            conduct: kept.conduct,
            refused: RefusedBlocks::default(),
            next_link: 1,
            rng,
            lagging: BTreeMap::new(),
            waiting: Vec::new(),
            chains: ChainAnswers::default(),
            making: false,
            chain_text: None,
            imports: Turns::default(),
            dropped: BTreeSet::new(),
            patience: BTreeMap::new(),
            gates: BTreeMap::new(),
            flood: Flood::default(),
            stopping: false,
        }
    }

    fn now(&mut self) -> Millis {
        let now = self.parts.shared.stopwatch.millis();
        self.sync.set_now(now);
        now
    }

    /// Whether a line that strangers can cause is to be written.
    fn logs(&mut self, line: &'static str) -> bool {
        self.flood.admits(line, self.parts.shared.stopwatch.millis())
    }

    fn view(&self) -> Ours {
        Ours(self.parts.reader.snapshot())
    }

    // ---- Dialling.

    fn dial_due(&mut self, ctx: &mut Context<Self>) {
        if self.stopping {
            return;
        }
        let now = self.now();
        let links = &self.links;
        for address in self.book.due(now, links.len(), |node| links.has_node(node)) {
            debug!(peer = %address, "dialling");
            let (tls, shared) = (self.parts.tls.clone(), self.parts.shared.clone());
            let dial = session::dial(address.clone(), tls, ctx.address(), shared);
            ctx.spawn(wrap_future::<_, Self>(dial).map(move |result, manager, _| {
                if let Err(error) = result {
                    match error {
                        DialError::Away(reason) => debug!(peer = %address, reason, "dial failed"),
                        DialError::Tls(reason) => warn!(peer = %address, reason, "no link: TLS does not come about"),
                    }
                    let now = manager.now();
                    manager.book.lost(&address, now, &mut manager.rng);
                }
            }));
        }
    }

    fn keep_book(&self) {
        let page = Page { addresses: self.book.lines(), conduct: self.conduct.clone() };
        if let Err(error) = page::write(&self.parts.book_file, &page) {
            warn!(%error, file = %self.parts.book_file.display(), "the address book cannot be written");
        }
    }

    // ---- Callers that wait.

    /// Answers those whose block is held by enough peers, or has left our chain, and forgets those who went away.
    fn answer_waiting(&mut self, chain_changed: bool) {
        if self.waiting.is_empty() {
            return;
        }
        let view = self.view();
        let sync = &self.sync;
        let ready = |waiting: &mut Waiting| {
            waiting.caller.is_closed() || verdict(waiting, sync, &view, chain_changed).is_some()
        };
        let answered: Vec<Waiting> = self.waiting.extract_if(.., ready).collect();
        for waiting in answered {
            if let Some(verdict) = verdict(&waiting, &self.sync, &view, chain_changed) {
                // Who went away does not want it.
                let _ = waiting.caller.send(verdict);
            }
        }
    }

    // ---- Time.

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.now();
        self.judge_lines(now, ctx);
        self.judge_gates(now);
        self.make_chains(ctx);
        for (line, more) in self.flood.missed(now) {
            info!(line, more, "… and more of these lines");
        }
        self.answer_waiting(false);
        self.note_broken();
        let actions = self.sync.tick(now, &self.view());
        self.perform(actions, ctx);
        self.say_progress(now);
        self.dial_due(ctx);
    }

    fn say_progress(&mut self, now: Millis) {
        match self.lines.look(self.sync.progress(), now) {
            Some(Line::Fetching { progress, per_second }) => {
                let Progress { link, from, at, target } = progress;
                info!(link, %from, %at, %target, percent = progress.percent(), per_second, "fetching blocks");
            }
            Some(Line::Ended { progress: Progress { link, from, at, target }, millis }) => {
                let tip = self.parts.reader.tip();
                info!(link, %from, %at, %target, %tip, millis, "fetching ended");
            }
            None => {}
        }
    }

    /// Has what somebody met broken fetched again.
    fn note_broken(&mut self) {
        let broken = self.parts.reader.take_broken();
        if let (Some(first), Some(last)) = (broken.first(), broken.last()) {
            let known = self.sync.repair().wanted;
            self.sync.damaged(broken.iter().copied());
            if self.sync.repair().wanted > known {
                error!(
                    first = first.0,
                    last = last.0,
                    blocks = broken.len(),
                    "blocks are damaged and fetched again from peers"
                );
            }
        }
    }

    fn rows(&self) -> Vec<PeerRow> {
        let now = clock::unix_time().0;
        let row = |(id, link): (LinkId, &Link<Handle>)| PeerRow {
            link: Some(id),
            address: match &link.direction {
                Direction::Outbound(address) => address.to_string(),
                Direction::Inbound => link.remote.to_string(),
            },
            direction: Some(if link.direction == Direction::Inbound { "inbound" } else { "outbound" }),
            kind: match &link.hello {
                Some(_) => "native",
                None if self.gates.contains_key(&id) => "unproven",
                None => "tutorial",
            },
            tip: self.sync.peer_tip(id),
            agent: link.hello.as_ref().map(|hello| hello.agent.clone()),
            latency: link.latency,
            since: Some(link.since),
            failures: None,
            score: Some(self.conduct.points(link.remote.ip(), now)),
        };
        let linked = self.links.iter().map(row);
        let has_link = |address: &PeerAddress| self.book.node(address).is_some_and(|node| self.links.has_node(node));
        let unlinked =
            self.book.unlinked().filter(|(address, source, _)| *source == Source::Configured && !has_link(address));
        let unlinked = unlinked.map(|(address, _, failures)| PeerRow {
            link: None,
            address: address.to_string(),
            direction: None,
            kind: "connecting",
            tip: None,
            agent: None,
            latency: None,
            since: None,
            failures: Some(failures),
            score: None,
        });
        linked.chain(unlinked).collect()
    }
}

/// What can be said to a waiting caller now.
fn verdict(waiting: &Waiting, sync: &Sync, view: &Ours, chain_changed: bool) -> Option<Awaited> {
    let Some(block) = waiting.block else { return chain_changed.then_some(Awaited::Changed) };
    if view.hash_at(block.height) != Some(block.hash) {
        return Some(Awaited::Changed);
    }
    (sync.holders(block, view) >= waiting.peers).then_some(Awaited::Held)
}

impl Actor for PeerManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(TICK, |manager, ctx| manager.tick(ctx));
        self.keep_book();
        self.dial_due(ctx);
    }
}

impl Handler<ChainChanged> for PeerManager {
    type Result = ();

    fn handle(&mut self, ChainChanged(update): ChainChanged, ctx: &mut Self::Context) {
        self.now();
        self.all_earn(update.new.height.0.saturating_sub(update.fork.height.0));
        let actions = self.sync.updated(&update, &self.view());
        self.perform(actions, ctx);
        self.answer_waiting(true);
    }
}

impl Handler<AddPeers> for PeerManager {
    type Result = ();

    fn handle(&mut self, AddPeers(addresses): AddPeers, ctx: &mut Self::Context) {
        let now = self.now();
        let mut changed = false;
        for address in addresses {
            changed |= self.book.add(address.clone(), Source::Configured, now);
            let trusted: Vec<LinkId> = self
                .links
                .iter()
                .filter(|(_, link)| link.direction == Direction::Outbound(address.clone()))
                .map(|(id, _)| id)
                .collect();
            for id in trusted {
                self.trust(id);
            }
        }
        if changed {
            self.keep_book();
        }
        self.dial_due(ctx);
    }
}

impl Handler<ListPeers> for PeerManager {
    type Result = Vec<PeerRow>;

    fn handle(&mut self, _: ListPeers, _: &mut Self::Context) -> Self::Result {
        self.rows()
    }
}

impl Handler<DropPeer> for PeerManager {
    type Result = bool;

    fn handle(&mut self, DropPeer(id): DropPeer, _: &mut Self::Context) -> bool {
        let Some(link) = self.links.get(id) else { return false };
        if let Direction::Outbound(address) = link.direction.clone() {
            self.book.remove(&address);
            self.keep_book();
        }
        self.close(id, CloseCode::Other(DISMISSED), "the operator closed the link");
        true
    }
}

impl Handler<ListBans> for PeerManager {
    type Result = Vec<(IpAddr, u64)>;

    fn handle(&mut self, _: ListBans, _: &mut Self::Context) -> Self::Result {
        self.conduct.bans(clock::unix_time().0).collect()
    }
}

impl Handler<Ban> for PeerManager {
    type Result = MessageResult<Ban>;

    fn handle(&mut self, Ban { address, seconds }: Ban, _: &mut Self::Context) -> Self::Result {
        let until = self.conduct.ban(address, seconds, clock::unix_time().0);
        self.enforce(address);
        MessageResult(until)
    }
}

impl Handler<Unban> for PeerManager {
    type Result = bool;

    fn handle(&mut self, Unban(address): Unban, _: &mut Self::Context) -> bool {
        let known = self.conduct.forgive(address);
        self.keep_book();
        known
    }
}

impl Handler<GetSync> for PeerManager {
    type Result = Option<Progress>;

    fn handle(&mut self, _: GetSync, _: &mut Self::Context) -> Self::Result {
        self.sync.progress()
    }
}

impl Handler<GetRepair> for PeerManager {
    type Result = MessageResult<GetRepair>;

    fn handle(&mut self, _: GetRepair, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.sync.repair())
    }
}

impl Handler<GetRefused> for PeerManager {
    type Result = Vec<Refused>;

    fn handle(&mut self, _: GetRefused, _: &mut Self::Context) -> Self::Result {
        self.refused.iter().cloned().collect()
    }
}

impl Handler<CountHolders> for PeerManager {
    type Result = usize;

    fn handle(&mut self, CountHolders(block): CountHolders, _: &mut Self::Context) -> usize {
        self.sync.holders(block, &self.view())
    }
}

impl Handler<AwaitHolders> for PeerManager {
    type Result = ResponseFuture<Result<Awaited, oneshot::error::RecvError>>;

    fn handle(&mut self, AwaitHolders { block, peers }: AwaitHolders, _: &mut Self::Context) -> Self::Result {
        let (caller, answer) = oneshot::channel();
        self.waiting.push(Waiting { block, peers, caller });
        self.answer_waiting(false);
        Box::pin(answer)
    }
}

impl Handler<Register> for PeerManager {
    type Result = Result<LinkId, Refusal>;

    fn handle(&mut self, message: Register, _: &mut Self::Context) -> Self::Result {
        self.register(message)
    }
}

impl Handler<Unregister> for PeerManager {
    type Result = ();

    fn handle(&mut self, Unregister { link }: Unregister, ctx: &mut Self::Context) {
        self.unregister(link, ctx);
    }
}

impl Handler<Received> for PeerManager {
    type Result = MessageResult<Received>;

    fn handle(&mut self, Received { link, read }: Received, ctx: &mut Self::Context) -> Self::Result {
        MessageResult(self.received(link, read, ctx))
    }
}

impl Handler<Latency> for PeerManager {
    type Result = ();

    fn handle(&mut self, Latency { link, millis }: Latency, _: &mut Self::Context) {
        if let Some(link) = self.links.get_mut(link) {
            link.latency = Some(millis);
        }
    }
}

impl Handler<Stop> for PeerManager {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.stopping = true;
        let ids: Vec<LinkId> = self.links.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.close(id, CloseCode::Away, "the node stops");
        }
        ctx.stop();
    }
}
