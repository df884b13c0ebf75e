//! PeerManager: the links, whom to dial, and what is said to whom. Owns the [`Sync`], the [`Links`] and the [`Book`], all
//! plain structs that think; this actor carries out what they ask for.
//!
//! The surprise: sessions whose peers do not read are not polled, so heartbeats and eviction are judged here, by what the
//! session and this actor share of the socket.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::prelude::*;
use actix_http::ws::{CloseCode, CloseReason};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::chain::{ChainActor, DropBranch, ImportBlocks, StageBlocks, SwitchBranch};
use super::clock::{self, Stopwatch};
use super::session::{self, Handle, Out};
use crate::ledger::chain::Origin;
use crate::ledger::genesis;
use crate::ledger::keeper::Update;
use crate::ledger::outbox::Millis;
use crate::ledger::{BlockHash, Height, Tip};
use crate::peer::address::PeerAddress;
use crate::peer::book::{Book, Page, Source};
use crate::peer::chain_text::ChainText;
use crate::peer::incoming::{Incoming, ReadError};
use crate::peer::limits::{
    IDLE_TIMEOUT, LAG_TIMEOUT, MAX_BATCH_BLOCKS, MAX_BATCH_BYTES, MAX_CHAIN_MESSAGE, MAX_CHAINS_ASKED, MAX_INBOUND,
    MAX_PER_ADDRESS, MAX_UNASKED_MESSAGE, MESSAGE_TIMEOUT, PING_AFTER,
};
use crate::peer::links::{Direction, Introduction, Link, Links};
use crate::peer::message::{self, Hello, NodeId, Nonce, PROTOCOL};
use crate::peer::native::{self, Blocks, Frame};
use crate::peer::sync::{Action, Fault, LinkId, Progress, Say, Sync, Ticket, View};
use crate::store::{Reader, Snapshot};

/// How often time is looked at: the granularity of redialling.
const TICK: Duration = Duration::from_millis(50);

/// Messages that may wait.
const MAILBOX: usize = 4096;

/// Bytes that are read from the store at once while a chain is sent.
const READ_BYTES: usize = MAX_BATCH_BYTES;

// ---- Messages.

/// The best chain has changed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ChainChanged(pub Arc<Update>);

/// Link with these peers, now and whenever the link is lost. Answered at once.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AddPeers(pub Vec<PeerAddress>);

/// The links, and the addresses without one.
#[derive(Debug, Message)]
#[rtype(result = "Vec<PeerRow>")]
pub struct ListPeers;

/// End a link and forget its address. Answers whether there was such a link.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct DropPeer(pub LinkId);

/// How far the branch is that is being fetched.
#[derive(Debug, Message)]
#[rtype(result = "Option<Progress>")]
pub struct GetSync;

/// How many native peers have said that their best chain holds this block of ours.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub struct CountHolders(pub Tip);

/// Wait until this many native peers hold a block, or until it is no longer on our best chain; without a block, until our
/// chain changes.
#[derive(Debug, Message)]
#[rtype(result = "Result<Awaited, oneshot::error::RecvError>")]
pub struct AwaitHolders {
    /// The block.
    pub block: Option<Tip>,
    /// How many peers.
    pub peers: usize,
}

/// Answer to [`AwaitHolders`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// That many hold it.
    Held,
    /// Our chain has changed, and the block may have left it.
    Changed,
}

/// A session has opened.
#[derive(Debug, Message)]
#[rtype(result = "Result<LinkId, Refusal>")]
pub struct Register {
    /// Who dialled.
    pub direction: Direction,
    /// The socket's other end.
    pub remote: SocketAddr,
    /// How to speak to the session.
    pub handle: Handle,
}

/// A session has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Unregister {
    /// Which.
    pub link: LinkId,
}

/// A session has read a message, or could not.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Received {
    /// On which link.
    pub link: LinkId,
    /// The message.
    pub read: Result<Incoming, ReadError>,
}

/// A ping was answered.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Latency {
    /// On which link.
    pub link: LinkId,
    /// After how many milliseconds.
    pub millis: f64,
}

/// Close every link and dial no more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Why a link may not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// Too many links from outside.
    #[error("there are {MAX_INBOUND} inbound links already")]
    Full,
    /// Too many links from one address.
    #[error("there are {MAX_PER_ADDRESS} links from this address already")]
    Address,
    /// The node is about to stop.
    #[error("the node is stopping")]
    Stopping,
}

/// A row of [`ListPeers`].
#[derive(Clone, Debug)]
pub struct PeerRow {
    /// The link; `None` for an address without one.
    pub link: Option<LinkId>,
    /// Where the peer was dialled, or the socket's other end.
    pub address: String,
    /// Who dialled; `None` without a link.
    pub direction: Option<&'static str>,
    /// `native`, `tutorial`, or `connecting` without a link.
    pub kind: &'static str,
    /// The peer's tip, as far as it has told us.
    pub tip: Option<Tip>,
    /// What program a native peer runs.
    pub agent: Option<String>,
    /// How long the last ping took, in milliseconds.
    pub latency: Option<f64>,
    /// When the link opened, in Unix milliseconds.
    pub since: Option<Millis>,
    /// Failed dials since the last link; only without a link.
    pub failures: Option<u32>,
}

// ---- The actor.

/// What PeerManager is made of.
pub struct Parts {
    /// The one writer.
    pub chain: Addr<ChainActor>,
    /// The chain, to be read.
    pub reader: Reader,
    /// The node's clock.
    pub stopwatch: Stopwatch,
    /// Our own peer port, to be said in HELLO.
    pub port: u16,
    /// Where the address book is kept.
    pub book_file: PathBuf,
    /// Peers that the operator named.
    pub peers: Vec<PeerAddress>,
}

/// The links of a node.
pub struct PeerManager {
    parts: Parts,
    node: NodeId,
    links: Links<Handle>,
    sync: Sync,
    book: Book,
    next_link: LinkId,
    rng: StdRng,
    /// Links whose peer has more to read than may wait, and since when.
    lagging: BTreeMap<LinkId, Millis>,
    /// Callers that wait for peers to hold a block.
    waiting: Vec<Waiting>,
    /// Tutorial peers that wait for our whole chain.
    chain_wanted: VecDeque<LinkId>,
    /// Tutorial peers for which our whole chain is being put together.
    chain_making: BTreeSet<LinkId>,
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
}

impl PeerManager {
    /// The manager of no links yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let node = NodeId(rng.random());
        let mut book = Book::default();
        for line in read_book(&parts.book_file).addresses {
            book.add(line.address, line.source, 0);
        }
        for address in &parts.peers {
            book.add(address.clone(), Source::Configured, 0);
        }
        Self {
            parts,
            node,
            links: Links::new(node),
            sync: Sync::default(),
            book,
            next_link: 1,
            rng,
            lagging: BTreeMap::new(),
            waiting: Vec::new(),
            chain_wanted: VecDeque::new(),
            chain_making: BTreeSet::new(),
            stopping: false,
        }
    }

    fn now(&mut self) -> Millis {
        let now = self.parts.stopwatch.millis();
        self.sync.set_now(now);
        now
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
            let dial = session::dial(address.clone(), ctx.address(), self.parts.stopwatch);
            ctx.spawn(wrap_future::<_, Self>(dial).map(move |result, manager, _| {
                if let Err(reason) = result {
                    debug!(peer = %address, reason, "dial failed");
                    let now = manager.now();
                    manager.book.lost(&address, now, &mut manager.rng);
                }
            }));
        }
    }

    fn keep_book(&self) {
        let page = self.book.page();
        if let Err(error) = write_book(&self.parts.book_file, &page) {
            warn!(%error, file = %self.parts.book_file.display(), "the address book cannot be written");
        }
    }

    // ---- Links.

    fn register(&mut self, Register { direction, remote, handle }: Register) -> Result<LinkId, Refusal> {
        let now = self.now();
        let refusal = self.refusal(&direction, remote);
        if let (Some(refusal), Direction::Outbound(address)) = (refusal, &direction) {
            self.book.lost(address, now, &mut self.rng);
            return Err(refusal);
        }
        if let Some(refusal) = refusal {
            debug!(%remote, reason = %refusal, "link refused");
            return Err(refusal);
        }
        let origin = match &direction {
            Direction::Outbound(address) => {
                self.book.linked(address);
                self.book.origin(address)
            }
            Direction::Inbound => Origin::Stranger,
        };
        let id = self.next_link;
        self.next_link += 1;
        let nonce = Nonce(self.rng.random());
        let tip = self.view().tip();
        let hello = Hello {
            protocol: PROTOCOL,
            node: self.node,
            nonce,
            genesis: genesis::tip().hash,
            port: self.parts.port,
            tip,
            agent: concat!("dolmen/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        // A queue that was just made has room.
        let _ = handle.send(Out::Text(message::query_last().into()))
            && handle.send(Out::Text(message::hello(&hello).into()));
        let since = clock::unix_millis();
        self.links.add(id, Link { handle, direction, remote, nonce, hello: None, since, latency: None });
        self.sync.opened(id, origin, tip);
        debug!(link = id, %remote, "link opened");
        Ok(id)
    }

    fn refusal(&self, direction: &Direction, remote: SocketAddr) -> Option<Refusal> {
        if self.stopping {
            return Some(Refusal::Stopping);
        }
        match direction {
            Direction::Outbound(_) => None,
            Direction::Inbound if self.links.inbound() >= MAX_INBOUND => Some(Refusal::Full),
            Direction::Inbound if !remote.ip().is_loopback() && self.links.inbound_from(remote) >= MAX_PER_ADDRESS => {
                Some(Refusal::Address)
            }
            Direction::Inbound => None,
        }
    }

    fn unregister(&mut self, id: LinkId, ctx: &mut Context<Self>) {
        let now = self.now();
        let Some(link) = self.links.remove(id) else { return };
        if let Direction::Outbound(address) = &link.direction {
            self.book.lost(address, now, &mut self.rng);
        }
        self.lagging.remove(&id);
        self.chain_wanted.retain(|waiting| *waiting != id);
        info!(link = id, remote = %link.remote, "link closed");
        let actions = self.sync.closed(id, &self.view());
        self.perform(actions, ctx);
    }

    fn close(&mut self, id: LinkId, code: CloseCode, reason: &str) {
        if let Some(link) = self.links.get(id) {
            link.handle.close(Some(CloseReason::from((code, reason.to_owned()))));
        }
    }

    fn introduce(&mut self, id: LinkId, hello: Hello, ctx: &mut Context<Self>) {
        if hello.genesis != genesis::tip().hash {
            warn!(link = id, genesis = %hello.genesis, "peer of another network");
            self.close(id, CloseCode::Policy, "another genesis");
            return;
        }
        if hello.protocol != PROTOCOL {
            info!(
                link = id,
                protocol = hello.protocol,
                agent = hello.agent,
                "peer speaks another native protocol; the tutorial's is spoken with it"
            );
            self.first_message(id);
            return;
        }
        let address = self.links.get(id).and_then(|link| match &link.direction {
            Direction::Outbound(address) => Some(address.clone()),
            Direction::Inbound => None,
        });
        let introduction = self.links.introduce(id, hello.clone());
        if introduction == Introduction::Oneself {
            if let Some(address) = &address {
                info!(peer = %address, "this address is this node itself; it is not dialled again");
                self.book.oneself(address);
            }
            self.close(id, CloseCode::Normal, "this is the same node");
            return;
        }
        if let Some(address) = &address {
            self.book.introduced(address, Some(hello.node));
        }
        match introduction {
            Introduction::Double { close } => {
                debug!(link = close, "a second link to the same node is closed");
                self.inherit_trust(close);
                self.close(close, CloseCode::Normal, "there is another link");
                if close == id {
                    return;
                }
            }
            Introduction::New => {
                info!(link = id, node = %hello.node, tip = %hello.tip, agent = hello.agent, "native peer");
            }
            Introduction::Again | Introduction::Oneself => return,
        }
        if let Some(link) = self.links.get(id) {
            let _ = link.handle.send(Out::Ping);
            let known = self.book.worth_telling();
            if !known.is_empty() {
                let _ = link.handle.send(Out::Binary(native::encode(&Frame::Addresses(known)).into()));
            }
        }
        if let Some(spare) = self.listening_address(id) {
            let now = self.now();
            self.book.add(spare, Source::Learned, now);
        }
        let actions = self.sync.introduced(id, hello.tip, &self.view());
        self.perform(actions, ctx);
    }

    /// A link to a node that the operator named is trusted, also when the one that stays was dialled by the other side.
    fn inherit_trust(&mut self, closing: LinkId) {
        let Some(closing) = self.links.get(closing) else { return };
        let (Direction::Outbound(address), Some(hello)) = (&closing.direction, &closing.hello) else { return };
        let (origin, node) = (self.book.origin(address), hello.node);
        let twins: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| link.hello.as_ref().is_some_and(|hello| hello.node == node))
            .map(|(id, _)| id)
            .collect();
        if origin == Origin::Trusted {
            for twin in twins {
                self.sync.set_origin(twin, Origin::Trusted);
            }
        }
    }

    /// Where an inbound native peer listens.
    fn listening_address(&self, id: LinkId) -> Option<PeerAddress> {
        let link = self.links.get(id)?;
        let hello = link.hello.as_ref()?;
        if link.direction != Direction::Inbound || hello.port == 0 {
            return None;
        }
        let host = match link.remote.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => address.to_string(),
        };
        Some(PeerAddress::new(&host, hello.port))
    }

    // ---- Messages of peers.

    fn received(&mut self, id: LinkId, read: Result<Incoming, ReadError>, ctx: &mut Context<Self>) {
        let now = self.now();
        let incoming = match read {
            Ok(incoming) => incoming,
            Err(error) => return self.misread(id, &error, now),
        };
        let view = self.view();
        let actions = match incoming {
            Incoming::Hello(hello) => return self.introduce(id, hello, ctx),
            Incoming::QueryLast => {
                self.first_message(id);
                self.sync.asked_last(id, &view)
            }
            Incoming::QueryAll => self.sync.asked_all(id, &view),
            Incoming::Blocks(blocks) => {
                if let Some(link) = self.links.get(id)
                    && link.hello.is_none()
                {
                    link.handle.line().allow(MAX_UNASKED_MESSAGE);
                }
                self.sync.blocks(id, blocks)
            }
            Incoming::Frame(Frame::Addresses(list)) => {
                for address in list.iter().filter_map(|text| text.parse().ok()) {
                    self.book.add(address, Source::Learned, now);
                }
                return;
            }
            Incoming::Frame(frame) => {
                let actions = self.sync.frame(id, frame, &view);
                self.answer_waiting(false);
                actions
            }
            Incoming::Unknown(kind) => {
                debug!(link = id, kind, "message of an unknown type is ignored");
                return;
            }
        };
        self.perform(actions, ctx);
    }

    /// The peer has said something sensible: its address works.
    fn first_message(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id).filter(|link| link.hello.is_none()) else { return };
        if let Direction::Outbound(address) = link.direction.clone() {
            self.book.introduced(&address, None);
        }
    }

    fn misread(&mut self, id: LinkId, error: &ReadError, _now: Millis) {
        let remote = self.links.get(id).map(|link| link.remote);
        if error.sender_at_fault() {
            warn!(link = id, ?remote, reason = %error, "peer dropped");
            self.close(id, CloseCode::Policy, "a message broke the protocol");
        } else {
            info!(link = id, ?remote, reason = %error, "message refused");
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

    // ---- Carrying out what the sync asks for.

    fn perform(&mut self, actions: Vec<Action>, ctx: &mut Context<Self>) {
        for action in actions {
            match action {
                Action::Send(id, say) => self.say(id, say, ctx),
                Action::Import { link, blocks, origin } => self.import(link, ImportBlocks { blocks, origin }, ctx),
                Action::Stage { link, ticket, fork, blocks: Blocks { after, blocks } } => {
                    self.stage(link, ticket, StageBlocks { fork, after, blocks }, ctx);
                }
                Action::Switch { link, ticket, origin } => self.switch(link, ticket, origin, ctx),
                // Lost only when the chain's actor is gone, and the staged branch with it.
                Action::Unstage => self.parts.chain.do_send(DropBranch),
                Action::Serve { link, from, upto } => self.serve(link, from, upto, ctx),
                Action::Close { link, fault } => self.drop_peer(link, &fault),
            }
        }
    }

    fn drop_peer(&mut self, id: LinkId, fault: &Fault) {
        let remote = self.links.get(id).map(|link| link.remote);
        warn!(link = id, ?remote, reason = %fault, "peer dropped");
        self.close(id, CloseCode::Policy, "dropped");
    }

    fn import(&mut self, id: LinkId, message: ImportBlocks, ctx: &mut Context<Self>) {
        let Some(tip) = message.blocks.last().map(|block| block.tip()) else { return };
        let remote = self.links.get(id).map(|link| link.remote);
        ctx.spawn(wrap_future::<_, Self>(self.parts.chain.send(message)).map(move |answer, manager, ctx| {
            let Ok(result) = answer else { return };
            if let Err(error) = &result {
                info!(link = id, ?remote, block = %tip, reason = %error, "blocks refused");
            }
            manager.now();
            let actions = manager.sync.imported(id, tip, result.as_ref(), &manager.view());
            manager.perform(actions, ctx);
        }));
    }

    fn stage(&mut self, id: LinkId, ticket: Ticket, message: StageBlocks, ctx: &mut Context<Self>) {
        ctx.spawn(wrap_future::<_, Self>(self.parts.chain.send(message)).map(move |answer, manager, ctx| {
            let Ok(result) = answer else { return };
            manager.now();
            let actions = manager.sync.staged(id, ticket, result, &manager.view());
            manager.perform(actions, ctx);
        }));
    }

    fn switch(&mut self, id: LinkId, ticket: Ticket, origin: Origin, ctx: &mut Context<Self>) {
        let switch = self.parts.chain.send(SwitchBranch { origin });
        ctx.spawn(wrap_future::<_, Self>(switch).map(move |answer, manager, ctx| {
            let Ok(result) = answer else { return };
            manager.now();
            if let Err(error) = &result {
                info!(link = id, reason = %error, "branch refused");
            }
            let actions = manager.sync.switched(id, ticket, result.as_ref(), &manager.view());
            manager.perform(actions, ctx);
        }));
    }

    fn say(&mut self, id: LinkId, say: Say, ctx: &mut Context<Self>) {
        match say {
            Say::QueryAll => {
                if let Some(link) = self.links.get(id) {
                    link.handle.line().allow(MAX_CHAIN_MESSAGE);
                }
                self.send(id, Out::Text(message::query_all().into()));
            }
            Say::LastBlock => {
                let snapshot = self.parts.reader.snapshot();
                match snapshot.block_at(snapshot.tip().height) {
                    Ok(Some(block)) => self.send(id, Out::Text(message::response_block(block.block()).into())),
                    Ok(None) => {}
                    Err(error) => warn!(%error, "cannot read the last block"),
                }
            }
            Say::WholeChain => {
                if !self.chain_making.contains(&id) && !self.chain_wanted.contains(&id) {
                    self.chain_wanted.push_back(id);
                    self.make_chains(ctx);
                }
            }
            Say::Block(block) => self.send(id, Out::Text(message::response_block(block.block()).into())),
            Say::Frame(frame) => self.send(id, Out::Binary(native::encode(&frame).into())),
        }
    }

    fn send(&mut self, id: LinkId, out: Out) {
        let _ = self.deliver(id, out);
    }

    /// Sends, unless the peer has too much to read already: then it is told only the tip, once it has read.
    fn deliver(&mut self, id: LinkId, out: Out) -> bool {
        let now = self.parts.stopwatch.millis();
        let Some(link) = self.links.get(id) else { return false };
        let sent = !self.lagging.contains_key(&id) && link.handle.send(out);
        if !sent {
            self.lagging.entry(id).or_insert(now);
            self.sync.lost_track(id);
        }
        sent
    }

    /// Puts whole chains together for tutorial peers, not more at once than are bounded in memory.
    fn make_chains(&mut self, ctx: &mut Context<Self>) {
        while self.chain_making.len() < MAX_CHAINS_ASKED
            && let Some(id) = self.chain_wanted.pop_front()
        {
            self.chain_making.insert(id);
            let snapshot = self.parts.reader.snapshot();
            let making = actix_web::web::block(move || chain_text(&snapshot));
            ctx.spawn(wrap_future::<_, Self>(making).map(move |made, manager, ctx| {
                manager.chain_making.remove(&id);
                match made.unwrap_or_else(|_| Err("the node is stopping".to_owned())) {
                    Ok(text) => manager.send(id, Out::Text(text)),
                    Err(reason) => {
                        warn!(link = id, reason, "the whole chain cannot be sent; the last block is");
                        manager.say(id, Say::LastBlock, ctx);
                    }
                }
                manager.make_chains(ctx);
            }));
        }
    }

    fn serve(&mut self, id: LinkId, from: Height, upto: Tip, ctx: &mut Context<Self>) {
        let snapshot = self.parts.reader.snapshot();
        let reading = actix_web::web::block(move || batch(&snapshot, from, upto));
        ctx.spawn(wrap_future::<_, Self>(reading).map(move |read, manager, ctx| {
            let next = match read.unwrap_or_else(|_| Err("the node is stopping".to_owned())) {
                Ok(Some((bytes, next))) => manager.deliver(id, Out::Binary(bytes)).then_some(next),
                Ok(None) => None,
                Err(error) => {
                    warn!(link = id, error, %from, "cannot read blocks for a peer");
                    None
                }
            };
            let actions = manager.sync.served(id, from, next);
            manager.perform(actions, ctx);
        }));
    }

    // ---- Time.

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.now();
        self.judge_lines(now);
        self.answer_waiting(false);
        let actions = self.sync.tick(now, &self.view());
        self.perform(actions, ctx);
        self.dial_due(ctx);
    }

    /// Pings quiet links, drops dead ones, ones in the middle of an endless message, and ones that do not read.
    fn judge_lines(&mut self, now: Millis) {
        let millis = |duration: Duration| duration.as_millis() as Millis;
        let ping_after = millis(PING_AFTER);
        let mut caught_up = Vec::new();
        for (id, link) in self.links.iter() {
            let line = link.handle.line();
            let quiet = now.saturating_sub(line.heard());
            let lags = self.lagging.get(&id).map(|since| now.saturating_sub(*since));
            let reason = if quiet > millis(IDLE_TIMEOUT) {
                Some("nothing was heard")
            } else if line.begun().is_some_and(|since| now.saturating_sub(since) > millis(MESSAGE_TIMEOUT)) {
                Some("a message took too long")
            } else if lags.is_some_and(|time| time > millis(LAG_TIMEOUT)) {
                Some("the peer does not read")
            } else {
                None
            };
            if let Some(reason) = reason {
                warn!(link = id, remote = %link.remote, reason, "peer dropped");
                link.handle.kill();
            } else if quiet > ping_after && quiet % ping_after < millis(TICK) {
                let _ = link.handle.send(Out::Ping);
            }
            if lags.is_some() && link.handle.line().drained() {
                caught_up.push(id);
            }
        }
        let tip = self.view().tip();
        for id in caught_up {
            self.lagging.remove(&id);
            let native = self.links.get(id).is_some_and(|link| link.hello.is_some());
            // Whatever it has missed: the tip is enough to ask for the rest.
            if native {
                self.send(id, Out::Binary(native::encode(&Frame::Tip(tip)).into()));
            } else if let Ok(Some(block)) = self.parts.reader.snapshot().block_at(tip.height) {
                self.send(id, Out::Text(message::response_block(block.block()).into()));
            }
        }
    }

    fn rows(&self) -> Vec<PeerRow> {
        let row = |(id, link): (LinkId, &Link<Handle>)| PeerRow {
            link: Some(id),
            address: match &link.direction {
                Direction::Outbound(address) => address.to_string(),
                Direction::Inbound => link.remote.to_string(),
            },
            direction: Some(if link.direction == Direction::Inbound { "inbound" } else { "outbound" }),
            kind: if link.hello.is_some() { "native" } else { "tutorial" },
            tip: self.sync.peer_tip(id),
            agent: link.hello.as_ref().map(|hello| hello.agent.clone()),
            latency: link.latency,
            since: Some(link.since),
            failures: None,
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

/// The whole chain as a message for a tutorial peer.
fn chain_text(snapshot: &Snapshot) -> Result<Bytes, String> {
    let mut text = ChainText::default();
    let mut from = Height::GENESIS;
    while from <= snapshot.tip().height {
        let blocks = snapshot.blocks(from, MAX_BATCH_BLOCKS, READ_BYTES).map_err(|error| error.to_string())?;
        let Some(last) = blocks.last() else { break };
        from = last.height().next();
        for block in &blocks {
            text.push(block).map_err(|_| format!("it is longer than {MAX_CHAIN_MESSAGE} bytes"))?;
        }
    }
    text.finish().map(Bytes::from).ok_or_else(|| "it is empty".to_owned())
}

/// The next batch of the chain that ends in `upto`, and the height after it; `None` if that is not our chain.
fn batch(snapshot: &Snapshot, from: Height, upto: Tip) -> Result<Option<(Bytes, Height)>, String> {
    let say = |error: crate::ledger::storage::StorageError| error.to_string();
    if from == Height::GENESIS || from > upto.height || snapshot.hash_at(upto.height).map_err(say)? != Some(upto.hash) {
        return Ok(None);
    }
    let parent = Height(from.0 - 1);
    let Some(hash) = snapshot.hash_at(parent).map_err(say)? else { return Ok(None) };
    let wanted = usize::try_from(upto.height.0 - parent.0).unwrap_or(usize::MAX).min(MAX_BATCH_BLOCKS);
    let mut blocks = snapshot.blocks(from, wanted, MAX_BATCH_BYTES).map_err(say)?;
    let mut room = MAX_BATCH_BYTES;
    let fits = blocks.iter().take_while(|block| {
        let bytes = block.block().compact_bytes();
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    });
    // One block always goes: a body is no longer than a batch.
    let fits = fits.count().max(1);
    blocks.truncate(fits);
    let Some(last) = blocks.last() else { return Ok(None) };
    let next = last.height().next();
    let frame = Frame::Batch(Blocks { after: Tip { height: parent, hash }, blocks });
    Ok(Some((native::encode(&frame).into(), next)))
}

/// The book on disk; an unreadable one is an empty one, and said so: the operator's peers come from the settings anyway.
fn read_book(file: &PathBuf) -> Page {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Page::default(),
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

fn write_book(file: &PathBuf, page: &Page) -> std::io::Result<()> {
    let text = serde_json::to_vec_pretty(page)?;
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, file)
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
                self.sync.set_origin(id, Origin::Trusted);
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
        self.close(id, CloseCode::Normal, "the operator closed the link");
        true
    }
}

impl Handler<GetSync> for PeerManager {
    type Result = Option<Progress>;

    fn handle(&mut self, _: GetSync, _: &mut Self::Context) -> Self::Result {
        self.sync.progress()
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
    type Result = ();

    fn handle(&mut self, Received { link, read }: Received, ctx: &mut Self::Context) {
        self.received(link, read, ctx);
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
