//! One running dolmen node: the product's plain structs, and a thin copy of what the actors do with them.
//!
//! Mirrors `actors/chain.rs` (mailbox, groups of mining, one staged branch, the outbox's timer) and `actors/peers.rs`
//! (links, dialling, what is said to whom). Nothing here decides anything that the actors do not. A call changes the node
//! and fills a list of [`Effect`]s; the world carries them out in simulated time.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

use dolmen::ledger::chain::{ImportError, Origin};
use dolmen::ledger::keeper::{Imported, Keeper, MineError, MineRequest, Mined, Staged, Update};
use dolmen::ledger::outbox::Millis;
use dolmen::ledger::storage::Storage;
use dolmen::ledger::{BlockHash, Height, SharedBlock, Tip, UnixTime, genesis};
use dolmen::peer::address::PeerAddress;
use dolmen::peer::answers::ChainAnswers;
use dolmen::peer::assembly::Message;
use dolmen::peer::book::{Book, Line, Source};
use dolmen::peer::chain_text::ChainText;
use dolmen::peer::incoming::{self, Incoming};
use dolmen::peer::limits::{IDLE_TIMEOUT, LAG_TIMEOUT, PING_AFTER};
use dolmen::peer::links::{Direction, Introduction, Link, Links};
use dolmen::peer::message::{self, Hello, NodeId, Nonce, PROTOCOL};
use dolmen::peer::native::{self, Blocks, Frame};
use dolmen::peer::sync::{Action, LinkId, Say, Sync, Ticket, View};
use rand::RngExt;
use rand::rngs::StdRng;

use super::disk::{Disk, SimStaging, SimStorage};
use super::wire::{ConnId, Out};

/// Names a client's attempt to mine something.
pub type RequestId = usize;

/// What chain actor and peer manager are told.
#[derive(Debug)]
pub enum Chain {
    /// Mine this for a client.
    Mine(MineRequest, RequestId),
    /// Commit what has been collected.
    Flush,
    /// Take a run of blocks.
    Import { link: LinkId, blocks: Vec<SharedBlock>, origin: Origin },
    /// Add blocks to the staged branch.
    Stage { link: LinkId, ticket: Ticket, fork: Tip, blocks: Blocks },
    /// Switch it in.
    Switch { link: LinkId, ticket: Ticket, origin: Origin },
    /// Give it up.
    Unstage,
    /// The outbox's timer.
    Remine,
}

/// An answer of the chain actor to the peer manager.
#[derive(Debug)]
pub enum Answer {
    Imported { link: LinkId, tip: Tip, result: Result<Imported, ImportError> },
    Staged { link: LinkId, ticket: Ticket, result: Result<Option<Tip>, ImportError> },
    Switched { link: LinkId, ticket: Ticket, result: Result<Imported, ImportError> },
}

/// What a node wants to happen.
#[derive(Debug)]
pub enum Effect {
    /// There is something in the chain actor's mailbox.
    Wake,
    /// Tell the peer manager.
    Answer(Answer),
    /// Tell the peer manager of a change.
    Changed(Rc<Update>),
    /// Blocks that did not exist before.
    NewBlocks(Vec<SharedBlock>),
    /// Answer a client.
    Reply(RequestId, Box<Result<Mined, MineError>>),
    /// Run the outbox's timer after so long.
    RemineAfter(Millis),
    /// Hand a message to a socket.
    Send(ConnId, Out),
    /// End a connection at once.
    Kill(ConnId),
    /// Dial an address.
    Dial(PeerAddress),
    /// A batch was read from the disk for a peer.
    Served { link: LinkId, from: Height, read: Option<(Vec<u8>, Height)> },
    /// The whole chain was put together for a tutorial peer.
    ChainMade { link: LinkId, text: String },
    /// The best chain was reorganised so deep.
    Reorg(u64),
    /// A branch that came in several batches was switched in.
    SwitchedIn,
    /// A promise was broken.
    Violation(String),
}

/// Sizes that the product has as constants, small enough here that small chains reach them.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Blocks in a batch.
    pub batch: usize,
    /// Messages that may wait for one peer.
    pub queue: usize,
    /// Milliseconds between ticks.
    pub tick: Millis,
}

/// How to speak on a link.
#[derive(Debug)]
struct Handle {
    conn: ConnId,
    /// The node at the other end, as its address would tell.
    peer: usize,
    /// Messages that the peer has not read.
    waiting: usize,
    heard: Millis,
    /// The last tip whose blocks the peer has sent here.
    got: Option<Tip>,
    closing: bool,
}

/// What a node is started with.
#[derive(Debug)]
pub struct Parts {
    pub slot: usize,
    pub disk: Rc<RefCell<Disk>>,
    pub book: Rc<RefCell<Vec<Line>>>,
    pub peers: Vec<usize>,
    pub max_reorg: u64,
    pub sizes: Sizes,
    /// What its clock is ahead of the world's, in milliseconds.
    pub skew: i64,
    pub rng: StdRng,
}

/// One life of a node.
#[derive(Debug)]
pub struct Native {
    slot: usize,
    sizes: Sizes,
    skew: i64,
    now: Millis,
    rng: StdRng,
    // The chain actor.
    keeper: Keeper<SimStorage>,
    mailbox: VecDeque<Chain>,
    queue: Vec<(MineRequest, RequestId)>,
    staged: Option<Staged<SimStaging>>,
    remine_scheduled: bool,
    best: Tip,
    // The peer manager.
    node: NodeId,
    links: Links<Handle>,
    by_conn: BTreeMap<ConnId, LinkId>,
    sync: Sync,
    book: Book,
    page: Rc<RefCell<Vec<Line>>>,
    next_link: LinkId,
    lagging: BTreeMap<LinkId, Millis>,
    chains: ChainAnswers,
}

/// Our chain as the sync asks for it.
struct Ours<'a>(&'a SimStorage);

impl View for Ours<'_> {
    fn tip(&self) -> Tip {
        self.0.tip()
    }

    fn hash_at(&self, height: Height) -> Option<BlockHash> {
        self.0.hash_at(height).ok().flatten()
    }
}

/// The address of a slot.
pub fn address(slot: usize) -> PeerAddress {
    PeerAddress::new(&format!("n{slot}"), PORT)
}

/// The slot at an address.
pub fn slot_at(address: &PeerAddress) -> Option<usize> {
    address.host().strip_prefix('n')?.parse().ok()
}

const PORT: u16 = 6005;

/// The world's clock begins here, in Unix seconds.
const EPOCH: i64 = 1_700_000_000;

/// A node's clock as blocks carry it: seconds, rounded up.
pub fn unix_time(now: Millis, skew: i64) -> UnixTime {
    let millis = EPOCH * 1000 + i64::try_from(now).expect("a run is short") + skew;
    UnixTime(u64::try_from(millis).expect("after 1970").div_ceil(1000))
}

fn millis(duration: std::time::Duration) -> Millis {
    duration.as_millis() as Millis
}

impl Native {
    /// Starts on what the disk holds.
    pub fn start(parts: Parts, now: Millis, out: &mut Vec<Effect>) -> Result<Self, String> {
        let Parts { slot, disk, book: page, peers, max_reorg, sizes, skew, mut rng } = parts;
        let storage = SimStorage::open(disk).map_err(|error| error.to_string())?;
        let best = storage.tip();
        let keeper = Keeper::open(storage, max_reorg).map_err(|error| error.to_string())?;
        let node = NodeId(rng.random());
        let mut book = Book::default();
        for line in page.borrow().iter() {
            book.add(line.address.clone(), line.source, now);
        }
        for peer in peers {
            book.add(address(peer), Source::Configured, now);
        }
        let mut native = Self {
            slot,
            sizes,
            skew,
            now,
            rng,
            keeper,
            mailbox: VecDeque::new(),
            queue: Vec::new(),
            staged: None,
            remine_scheduled: false,
            best,
            node,
            links: Links::new(node),
            by_conn: BTreeMap::new(),
            sync: Sync::new(max_reorg),
            book,
            page,
            next_link: 1,
            lagging: BTreeMap::new(),
            chains: ChainAnswers::default(),
        };
        native.sync.set_now(now);
        native.schedule_remine(out);
        native.keep_book();
        native.dial_due(out);
        Ok(native)
    }

    /// The ledger, to be looked at.
    pub fn keeper(&self) -> &Keeper<SimStorage> {
        &self.keeper
    }

    /// Whether the chain actor has nothing to do and nothing waits to be mined again.
    pub fn is_settled(&self) -> bool {
        self.mailbox.is_empty() && self.queue.is_empty() && self.keeper.outbox_len() == 0
    }

    /// For a person who reads a trace.
    pub fn describe(&self) -> String {
        let links: Vec<String> = self
            .links
            .iter()
            .map(|(id, link)| {
                let kind = if link.hello.is_some() { "native" } else { "other" };
                let tip = self.sync.peer_tip(id).map_or("-".to_owned(), |tip| tip.to_string());
                format!("n{} {kind} at {tip}", link.handle.peer)
            })
            .collect();
        format!(
            "tip {}, {} waiting, {} sides, sync {:?}, links [{}]",
            self.keeper.tip(),
            self.keeper.outbox_len(),
            self.keeper.side_blocks(),
            self.sync.progress(),
            links.join(", ")
        )
    }

    /// Time passes.
    pub fn set_now(&mut self, now: Millis) {
        self.now = now;
        self.sync.set_now(now);
    }

    fn unix_time(&self) -> UnixTime {
        unix_time(self.now, self.skew)
    }

    // ---- The chain actor.

    /// Puts something into the chain actor's mailbox.
    pub fn tell_chain(&mut self, message: Chain, out: &mut Vec<Effect>) {
        self.mailbox.push_back(message);
        out.push(Effect::Wake);
    }

    /// The chain actor handles one message. Answers whether there are more.
    pub fn chain_step(&mut self, out: &mut Vec<Effect>) -> bool {
        let Some(message) = self.mailbox.pop_front() else { return false };
        match message {
            Chain::Mine(request, caller) => {
                if self.queue.is_empty() {
                    self.mailbox.push_back(Chain::Flush);
                }
                self.queue.push((request, caller));
            }
            Chain::Flush => self.flush(out),
            Chain::Import { link, blocks, origin } => {
                let tip = blocks.last().map_or_else(genesis::tip, |block| block.tip());
                let result = self.keeper.import(&blocks, origin, &mut self.rng);
                self.imported(&result, Some(tip), out);
                out.push(Effect::Answer(Answer::Imported { link, tip, result }));
            }
            Chain::Stage { link, ticket, fork, blocks: Blocks { after, blocks } } => {
                let result = self.stage(fork, after, &blocks);
                out.push(Effect::Answer(Answer::Staged { link, ticket, result }));
            }
            Chain::Switch { link, ticket, origin } => {
                let staged = self.staged.take();
                let tip = staged.as_ref().map(Staged::tip);
                let result = match staged {
                    Some(staged) => self.keeper.switch(staged, origin, &mut self.rng),
                    None => Ok(Imported::Known),
                };
                self.imported(&result, tip, out);
                if let Ok(Imported::Changed(_)) = result {
                    out.push(Effect::SwitchedIn);
                }
                out.push(Effect::Answer(Answer::Switched { link, ticket, result }));
            }
            Chain::Unstage => {
                if let Some(staged) = self.staged.take() {
                    self.keeper.discard(staged);
                }
            }
            Chain::Remine => self.remine(out),
        }
        let tip = self.keeper.tip();
        if tip != self.best && !tip.beats(&self.best) {
            out.push(Effect::Violation(format!("the tip went from {} back to {tip}", self.best)));
        }
        self.best = tip;
        !self.mailbox.is_empty()
    }

    fn publish(&mut self, update: Update, out: &mut Vec<Effect>) {
        if update.depth() > 0 {
            out.push(Effect::Reorg(update.depth()));
        }
        out.push(Effect::Changed(Rc::new(update)));
        self.schedule_remine(out);
    }

    fn schedule_remine(&mut self, out: &mut Vec<Effect>) {
        if self.remine_scheduled {
            return;
        }
        let Some(due) = self.keeper.remine_due(self.now, &mut self.rng) else { return };
        self.remine_scheduled = true;
        out.push(Effect::RemineAfter(due.saturating_sub(self.now)));
    }

    fn remine(&mut self, out: &mut Vec<Effect>) {
        self.remine_scheduled = false;
        let time = self.unix_time();
        match self.keeper.remine_if_due(self.now, time, &mut self.rng) {
            Ok(Some(update)) => {
                out.push(Effect::NewBlocks(update.entered.clone()));
                self.publish(update, out);
            }
            Ok(None) | Err(MineError::Storage(_)) => self.schedule_remine(out),
            Err(error) => out.push(Effect::Violation(format!("cannot mine again: {error}"))),
        }
    }

    fn flush(&mut self, out: &mut Vec<Effect>) {
        let (requests, callers): (Vec<_>, Vec<_>) = std::mem::take(&mut self.queue).into_iter().unzip();
        let now = self.unix_time();
        let (answers, update) = self.keeper.mine(requests, now);
        if let Some(update) = &update {
            out.push(Effect::NewBlocks(update.entered.clone()));
        }
        for (caller, answer) in callers.into_iter().zip(answers) {
            out.push(Effect::Reply(caller, Box::new(answer)));
        }
        if let Some(update) = update {
            self.publish(update, out);
        }
    }

    fn stage(&mut self, fork: Tip, after: Tip, blocks: &[SharedBlock]) -> Result<Option<Tip>, ImportError> {
        if after == fork
            && let Some(old) = self.staged.take()
        {
            self.keeper.discard(old);
        }
        let mut staged = match self.staged.take() {
            Some(staged) => staged,
            None if after == fork => self.keeper.stage(fork)?,
            None => return Ok(None),
        };
        if staged.tip() != after {
            self.staged = Some(staged);
            return Ok(None);
        }
        match self.keeper.stage_append(&mut staged, blocks) {
            Ok(()) => {
                let tip = staged.tip();
                self.staged = Some(staged);
                Ok(Some(tip))
            }
            Err(error) => {
                self.keeper.discard(staged);
                Err(error)
            }
        }
    }

    /// Publishes; and a better branch that was taken is a better tip, or this node does not follow the rule it shares with
    /// all others.
    fn imported(&mut self, result: &Result<Imported, ImportError>, offered: Option<Tip>, out: &mut Vec<Effect>) {
        if let Ok(Imported::Changed(update)) = result {
            self.publish(update.clone(), out);
        }
        if let (Ok(Imported::Changed(_) | Imported::Known | Imported::Side), Some(offered)) = (result, offered)
            && offered.beats(&self.keeper.tip())
        {
            let tip = self.keeper.tip();
            out.push(Effect::Violation(format!("{offered} was offered and beats {tip}, which stayed: {result:?}")));
        }
    }

    // ---- The peer manager.

    fn keep_book(&self) {
        *self.page.borrow_mut() = self.book.lines();
    }

    fn dial_due(&mut self, out: &mut Vec<Effect>) {
        let links = &self.links;
        for address in self.book.due(self.now, links.len(), |node| links.has_node(node)) {
            out.push(Effect::Dial(address));
        }
    }

    /// A dial led to nothing.
    pub fn dial_failed(&mut self, address: &PeerAddress) {
        self.book.lost(address, self.now, &mut self.rng);
    }

    /// A connection is open.
    pub fn opened(&mut self, conn: ConnId, peer: usize, dialled: bool, out: &mut Vec<Effect>) {
        let (direction, origin) = if dialled {
            let address = address(peer);
            self.book.linked(&address);
            let origin = self.book.origin(&address);
            (Direction::Outbound(address), origin)
        } else {
            (Direction::Inbound, Origin::Stranger)
        };
        let id = self.next_link;
        self.next_link += 1;
        let nonce = Nonce(id);
        let tip = self.keeper.tip();
        let hello = Hello {
            protocol: PROTOCOL,
            node: self.node,
            nonce,
            genesis: genesis::tip().hash,
            port: PORT,
            tip,
            agent: "simulated".to_owned(),
            challenge: None,
        };
        let handle = Handle { conn, peer, waiting: 0, heard: self.now, got: None, closing: false };
        let remote = SocketAddr::from(([10, 0, 0, 1], PORT));
        self.links.add(id, Link { handle, direction, remote, nonce, hello: None, since: self.now, latency: None });
        self.by_conn.insert(conn, id);
        let _ = self.push_out(id, Out::Text(message::query_last()), out)
            && self.push_out(id, Out::Text(message::hello(&hello)), out);
        self.sync.opened(id, origin, tip);
    }

    /// A connection is gone.
    pub fn closed(&mut self, conn: ConnId, out: &mut Vec<Effect>) {
        let Some(id) = self.by_conn.remove(&conn) else { return };
        let Some(link) = self.links.remove(id) else { return };
        if let Direction::Outbound(address) = &link.direction {
            self.book.lost(address, self.now, &mut self.rng);
        }
        self.lagging.remove(&id);
        self.chains.closed(id);
        let actions = self.sync.closed(id, &Ours(self.keeper.storage()));
        self.perform(actions, out);
    }

    /// The other end has read a message.
    pub fn was_read(&mut self, conn: ConnId) {
        if let Some(link) = self.by_conn.get(&conn).and_then(|id| self.links.get_mut(*id)) {
            link.handle.waiting = link.handle.waiting.saturating_sub(1);
        }
    }

    /// Something has come. Answers whether the session goes on.
    pub fn received(&mut self, conn: ConnId, frame: Out, out: &mut Vec<Effect>) {
        let Some(id) = self.by_conn.get(&conn).copied() else { return };
        let Some(link) = self.links.get_mut(id) else { return };
        link.handle.heard = self.now;
        let message = match frame {
            Out::Text(text) => Message::Text(text.into()),
            Out::Binary(bytes) => Message::Binary(bytes.into()),
            Out::Ping => {
                let _ = self.push_out(id, Out::Pong, out);
                return;
            }
            Out::Pong => return,
            Out::Close => {
                out.push(Effect::Kill(conn));
                return;
            }
        };
        let incoming = match incoming::read(message, self.unix_time()) {
            Ok(incoming) => incoming,
            Err(error) => {
                if error.sender_at_fault() {
                    out.push(Effect::Violation(format!("an honest peer's message broke a rule: {error}")));
                    self.close(id, out);
                }
                return;
            }
        };
        self.handle(id, incoming, out);
    }

    fn handle(&mut self, id: LinkId, incoming: Incoming, out: &mut Vec<Effect>) {
        let view = Ours(self.keeper.storage());
        let actions = match incoming {
            Incoming::Hello(hello) => return self.introduce(id, hello, out),
            Incoming::QueryLast => {
                self.first_message(id);
                self.sync.asked_last(id, &Ours(self.keeper.storage()))
            }
            Incoming::QueryAll => self.sync.asked_all(id, &view),
            Incoming::Blocks(blocks) => {
                let tip = blocks.last().map(|block| block.tip());
                self.note_got(id, tip);
                self.sync.blocks(id, blocks)
            }
            Incoming::Frame(Frame::Addresses(list)) => {
                for address in list.iter().filter_map(|text| text.parse().ok()) {
                    self.book.add(address, Source::Learned, self.now);
                }
                return;
            }
            Incoming::Frame(frame) => {
                if let Frame::Push(blocks) | Frame::Batch(blocks) = &frame {
                    let tip = blocks.tip();
                    self.note_got(id, Some(tip));
                }
                self.sync.frame(id, frame, &Ours(self.keeper.storage()))
            }
            Incoming::Proof(_) | Incoming::Unknown(_) => return,
        };
        self.perform(actions, out);
    }

    fn note_got(&mut self, id: LinkId, tip: Option<Tip>) {
        if let Some(link) = self.links.get_mut(id) {
            link.handle.got = tip;
        }
    }

    fn first_message(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id).filter(|link| link.hello.is_none()) else { return };
        if let Direction::Outbound(address) = link.direction.clone() {
            self.book.introduced(&address, None);
        }
    }

    fn introduce(&mut self, id: LinkId, hello: Hello, out: &mut Vec<Effect>) {
        let dialled = self.links.get(id).and_then(|link| match &link.direction {
            Direction::Outbound(address) => Some(address.clone()),
            Direction::Inbound => None,
        });
        let introduction = self.links.introduce(id, hello.clone());
        if introduction == Introduction::Oneself {
            if let Some(address) = &dialled {
                self.book.oneself(address);
            }
            self.close(id, out);
            return;
        }
        if let Some(address) = &dialled {
            self.book.introduced(address, Some(hello.node));
        }
        match introduction {
            Introduction::Double { close } => {
                for heir in self.links.heirs(close, |address| self.book.origin(address) == Origin::Trusted) {
                    self.sync.set_origin(heir, Origin::Trusted);
                }
                self.close(close, out);
                if close == id {
                    return;
                }
            }
            Introduction::New => {}
            Introduction::Again | Introduction::Oneself => return,
        }
        if self.book.origin_of(hello.node) == Origin::Trusted {
            self.sync.set_origin(id, Origin::Trusted);
        }
        let _ = self.push_out(id, Out::Ping, out);
        let known = self.book.worth_telling();
        if !known.is_empty() {
            let _ = self.push_out(id, Out::Binary(native::encode(&Frame::Addresses(known))), out);
        }
        if let Some(link) = self.links.get(id).filter(|link| link.direction == Direction::Inbound) {
            let spare = address(link.handle.peer);
            self.book.add(spare, Source::Learned, self.now);
        }
        let actions = self.sync.introduced(id, hello.tip, &Ours(self.keeper.storage()));
        self.perform(actions, out);
    }

    fn perform(&mut self, actions: Vec<Action>, out: &mut Vec<Effect>) {
        for action in actions {
            match action {
                Action::Send(id, say) => self.say(id, say, out),
                Action::Import { link, blocks, origin } => {
                    if !blocks.is_empty() {
                        self.tell_chain(Chain::Import { link, blocks, origin }, out);
                    }
                }
                Action::Stage { link, ticket, fork, blocks } => {
                    self.tell_chain(Chain::Stage { link, ticket, fork, blocks }, out);
                }
                Action::Switch { link, ticket, origin } => {
                    self.tell_chain(Chain::Switch { link, ticket, origin }, out);
                }
                Action::PassOver { .. } => {}
                Action::Unstage => self.tell_chain(Chain::Unstage, out),
                Action::Serve { link, from, upto } => {
                    let read = batch(self.keeper.storage(), from, upto, self.sizes.batch);
                    out.push(Effect::Served { link, from, read });
                }
                Action::Restore { link, .. } => panic!("no disk is damaged, and link {link} heals"),
                Action::Close { link, fault: _ } => self.close(link, out),
            }
        }
    }

    /// The chain actor has answered.
    pub fn answered(&mut self, answer: Answer, out: &mut Vec<Effect>) {
        let view = Ours(self.keeper.storage());
        let actions = match answer {
            Answer::Imported { link, tip, result } => self.sync.imported(link, tip, result.as_ref(), &view),
            Answer::Staged { link, ticket, result } => self.sync.staged(link, ticket, result, &view),
            Answer::Switched { link, ticket, result } => self.sync.switched(link, ticket, result.as_ref(), &view),
        };
        self.perform(actions, out);
    }

    /// The chain actor has published a change.
    pub fn changed(&mut self, update: &Update, out: &mut Vec<Effect>) {
        let actions = self.sync.updated(update, &Ours(self.keeper.storage()));
        for action in &actions {
            self.check_echo(action, out);
        }
        self.perform(actions, out);
    }

    /// Blocks never go back to the native peer that sent them.
    fn check_echo(&self, action: &Action, out: &mut Vec<Effect>) {
        let Action::Send(id, Say::Frame(Frame::Push(blocks))) = action else { return };
        let tip = blocks.tip();
        if self.links.get(*id).is_some_and(|link| link.handle.got == Some(tip)) {
            out.push(Effect::Violation(format!("{tip} went back to the peer that it came from")));
        }
    }

    fn say(&mut self, id: LinkId, say: Say, out: &mut Vec<Effect>) {
        let frame = match say {
            Say::QueryAll => Out::Text(message::query_all()),
            Say::LastBlock => match self.keeper.storage().chain().last() {
                Some(block) => Out::Text(message::response_block(block.block())),
                None => return,
            },
            Say::WholeChain => {
                self.chains.asked(id, self.keeper.tip());
                self.make_chains(out);
                return;
            }
            Say::Block(block) => Out::Text(message::response_block(block.block())),
            Say::Frame(frame) => Out::Binary(native::encode(&frame)),
        };
        let _ = self.deliver(id, frame, out);
    }

    fn make_chains(&mut self, out: &mut Vec<Effect>) {
        while let Some(id) = self.chains.next(self.keeper.tip(), self.now) {
            let mut text = ChainText::default();
            for block in self.keeper.storage().chain() {
                text.push(block).expect("simulated chains are short");
            }
            let text = text.finish().expect("a chain has its genesis");
            let text = String::from_utf8(text).expect("JSON is UTF-8");
            out.push(Effect::ChainMade { link: id, text });
        }
    }

    /// A chain for a tutorial peer has been put together.
    pub fn chain_made(&mut self, link: LinkId, text: String, out: &mut Vec<Effect>) {
        self.chains.sent(link, text.len(), self.now);
        let _ = self.deliver(link, Out::Text(text), out);
        self.chains.ended(link);
        self.make_chains(out);
    }

    /// A batch for a native peer has been read.
    pub fn served(&mut self, link: LinkId, from: Height, read: Option<(Vec<u8>, Height)>, out: &mut Vec<Effect>) {
        let next = read.and_then(|(bytes, next)| self.deliver(link, Out::Binary(bytes), out).then_some(next));
        let actions = self.sync.served(link, from, next);
        self.perform(actions, out);
    }

    fn deliver(&mut self, id: LinkId, frame: Out, out: &mut Vec<Effect>) -> bool {
        if self.links.get(id).is_none() {
            return false;
        }
        let sent = !self.lagging.contains_key(&id) && self.push_out(id, frame, out);
        if !sent {
            self.lagging.entry(id).or_insert(self.now);
            self.sync.lost_track(id);
        }
        sent
    }

    fn push_out(&mut self, id: LinkId, frame: Out, out: &mut Vec<Effect>) -> bool {
        let queue = self.sizes.queue;
        let Some(link) = self.links.get_mut(id) else { return false };
        let handle = &mut link.handle;
        if handle.closing || handle.waiting >= queue {
            return false;
        }
        handle.waiting += 1;
        out.push(Effect::Send(handle.conn, frame));
        true
    }

    fn close(&mut self, id: LinkId, out: &mut Vec<Effect>) {
        let polite = self.push_out(id, Out::Close, out);
        let Some(link) = self.links.get_mut(id) else { return };
        if polite {
            link.handle.closing = true;
        }
        out.push(Effect::Kill(link.handle.conn));
    }

    /// Time has passed.
    pub fn tick(&mut self, out: &mut Vec<Effect>) {
        self.judge_lines(out);
        self.make_chains(out);
        let actions = self.sync.tick(self.now, &Ours(self.keeper.storage()));
        self.perform(actions, out);
        self.dial_due(out);
    }

    fn judge_lines(&mut self, out: &mut Vec<Effect>) {
        let ping_after = millis(PING_AFTER);
        let (mut caught_up, mut pings) = (Vec::new(), Vec::new());
        for (id, link) in self.links.iter() {
            let quiet = self.now.saturating_sub(link.handle.heard);
            let lags = self.lagging.get(&id).map(|since| self.now.saturating_sub(*since));
            if quiet > millis(IDLE_TIMEOUT) || lags.is_some_and(|time| time > millis(LAG_TIMEOUT)) {
                out.push(Effect::Kill(link.handle.conn));
            } else if quiet > ping_after && quiet % ping_after < self.sizes.tick {
                pings.push(id);
            }
            if lags.is_some() && link.handle.waiting == 0 {
                caught_up.push(id);
            }
        }
        for id in pings {
            let _ = self.push_out(id, Out::Ping, out);
        }
        for id in caught_up {
            self.lagging.remove(&id);
            let native = self.links.get(id).is_some_and(|link| link.hello.is_some());
            let say = if native { Say::Frame(Frame::Tip(self.keeper.tip())) } else { Say::LastBlock };
            self.say(id, say, out);
        }
    }
}

/// The next batch of the chain that ends in `upto`, and the height after it; `None` if that is not our chain.
fn batch(storage: &SimStorage, from: Height, upto: Tip, most: usize) -> Option<(Vec<u8>, Height)> {
    let chain = storage.chain();
    let at = |height: Height| chain.get(usize::try_from(height.0).ok()?);
    if from == Height::GENESIS || from > upto.height || at(upto.height)?.hash() != upto.hash {
        return None;
    }
    let parent = at(Height(from.0 - 1))?.tip();
    let first = usize::try_from(from.0).ok()?;
    let end = usize::try_from(upto.height.0).ok()?.saturating_add(1).min(first + most);
    let blocks = chain.get(first..end)?.to_vec();
    let next = blocks.last()?.height().next();
    Some((native::encode(&Frame::Batch(Blocks { after: parent, blocks })), next))
}

impl Native {
    /// A client's wish, answered on the spot: only for looking at the end of a run.
    pub fn mine_now(&mut self, request: MineRequest, now: Millis) -> Option<Result<Mined, MineError>> {
        let (mut answers, update) = self.keeper.mine(vec![request], unix_time(now, self.skew));
        match (answers.pop(), update) {
            (Some(Ok(mined)), Some(_)) => Some(Err(MineError::Storage(dolmen::ledger::storage::StorageError::Failed(
                format!("mined anew in {}", mined.block.tip()).into(),
            )))),
            (answer, _) => answer,
        }
    }
}
