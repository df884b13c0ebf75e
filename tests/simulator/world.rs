//! The world: simulated time, links, clients, and everything that goes wrong.
//!
//! One queue of events, ordered by time and then by age; all that is random comes from generators that the seed sets. So a
//! seed is a run, and two runs of one seed have the same log.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use dolmen::ledger::keeper::{MineError, MineRequest, Mined, Update};
use dolmen::ledger::outbox::Millis;
use dolmen::ledger::{Height, SharedBlock, Tip};
use dolmen::peer::address::PeerAddress;
use dolmen::peer::book::Line;
use dolmen::peer::sync::LinkId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::check::Registry;
use super::disk::Disk;
use super::native::{self, Answer, Chain, Effect, Native, Parts, RequestId, slot_at};
use super::plan::{How, Plan};
use super::tutorial::Tutorial;
use super::wire::{Conn, ConnId, End, Out};

/// What a client that hears nothing waits before it asks again.
const CLIENT_PATIENCE: Millis = 6_000;

/// A life of whatever runs in a slot.
#[derive(Debug)]
pub enum Process {
    Native(Box<Native>),
    Tutorial(Box<Tutorial>),
}

/// A machine.
#[derive(Debug)]
pub struct Slot {
    pub process: Option<Process>,
    pub life: u64,
    pub disk: Rc<RefCell<Disk>>,
    pub book: Rc<RefCell<Vec<Line>>>,
    pub peers: Vec<usize>,
    /// The chain actor works on something.
    busy: bool,
    /// When the last answer of the chain actor reaches the peer manager: they do not overtake each other.
    last_answer: Millis,
    last_change: Millis,
}

/// A client's attempt to have something mined.
#[derive(Debug)]
pub struct Request {
    pub node: usize,
    pub entries: Vec<String>,
    pub key: Option<String>,
    /// The node has answered 200.
    pub receipt: Option<Mined>,
    /// The client has heard an answer, or has given up.
    pub done: bool,
    lose: bool,
    tries: u32,
}

#[derive(Debug)]
enum Event {
    Deliver { conn: ConnId, end: usize },
    Opened { conn: ConnId, end: usize },
    Closed { conn: ConnId, end: usize },
    DialFailed { slot: usize, life: u64, address: PeerAddress },
    Tick { slot: usize, life: u64 },
    ChainStep { slot: usize, life: u64 },
    Answer { slot: usize, life: u64, answer: Answer },
    Changed { slot: usize, life: u64, update: Rc<Update> },
    Remine { slot: usize, life: u64 },
    Served { slot: usize, life: u64, link: LinkId, from: Height, read: Option<(Vec<u8>, Height)> },
    ChainMade { slot: usize, life: u64, link: LinkId, text: String },
    Submit(RequestId),
    Arrive { request: RequestId, life: u64 },
    Impatient { request: RequestId, tries: u32 },
    Foreign(usize),
    Crash(usize),
    Restart(usize),
    CutBegin(usize),
    CutEnd(usize),
    Reset(usize),
    FullBegin(usize),
    FullEnd(usize),
    Heal,
}

/// What a run was like.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stats {
    pub nodes: u64,
    pub writes: u64,
    pub acknowledged: u64,
    pub crashes: u64,
    pub reorgs: u64,
    pub deepest: u64,
    pub cuts: u64,
    pub resets: u64,
    pub remined: u64,
    pub staged: u64,
    pub repeats: u64,
    pub height: u64,
    pub messages: u64,
    pub events: u64,
    /// Simulated milliseconds from the last disturbance until all was right.
    pub healing: Millis,
}

/// Hashes the log, and prints it if somebody reads.
struct Log {
    hash: u64,
    trace: bool,
    line: String,
}

impl Log {
    fn line(&mut self, now: Millis, text: fmt::Arguments<'_>) {
        use fmt::Write as _;
        self.line.clear();
        let _ = write!(self.line, "{:>9.3} {text}", now as f64 / 1000.0);
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.trace {
            println!("{}", self.line);
        }
    }
}

macro_rules! log {
    ($world:expr, $($text:tt)*) => { $world.log.line($world.now, format_args!($($text)*)) };
}

/// A run.
pub struct World {
    plan: Rc<Plan>,
    pub now: Millis,
    age: u64,
    queue: BTreeMap<(Millis, u64), Event>,
    rng: StdRng,
    pub slots: Vec<Slot>,
    pub conns: Vec<Conn>,
    whole: BTreeSet<ConnId>,
    cuts: BTreeSet<usize>,
    pub requests: Vec<Request>,
    pub registry: Registry,
    pub stats: Stats,
    log: Log,
    healing: bool,
    /// What users of tutorial nodes have posted.
    foreign: u64,
    pub violation: Option<String>,
}

impl World {
    /// The beginning of a plan.
    pub fn new(plan: Plan, trace: bool) -> Self {
        let plan = Rc::new(plan);
        let all = plan.natives + plan.tutorials;
        let mut world = Self {
            now: 0,
            age: 0,
            queue: BTreeMap::new(),
            rng: StdRng::seed_from_u64(plan.seed),
            slots: Vec::new(),
            conns: Vec::new(),
            whole: BTreeSet::new(),
            cuts: BTreeSet::new(),
            requests: Vec::new(),
            registry: Registry::default(),
            stats: Stats { nodes: all as u64, ..Stats::default() },
            log: Log { hash: 0xcbf2_9ce4_8422_2325, trace, line: String::new() },
            healing: false,
            foreign: 0,
            violation: None,
            plan: plan.clone(),
        };
        for _ in 0..all {
            world.slots.push(Slot {
                process: None,
                life: 0,
                disk: Rc::default(),
                book: Rc::default(),
                peers: Vec::new(),
                busy: false,
                last_answer: 0,
                last_change: 0,
            });
        }
        for (a, b) in &plan.edges {
            world.slots[*a].peers.push(*b);
        }
        for slot in (0..all).rev() {
            world.start(slot);
        }
        world.schedule(&plan);
        world
    }

    fn schedule(&mut self, plan: &Plan) {
        for write in &plan.writes {
            let id = self.requests.len();
            self.requests.push(Request {
                node: write.node,
                entries: (0..write.entries).map(|part| format!("w{id}.{part}")).collect(),
                key: write.keyed.then(|| format!("key {id}")),
                receipt: None,
                done: false,
                lose: write.lost_answer,
                tries: 0,
            });
            self.at(write.at, Event::Submit(id));
        }
        self.stats.writes = plan.writes.len() as u64;
        for (at, slot) in &plan.foreign {
            self.at(*at, Event::Foreign(*slot));
        }
        for (index, crash) in plan.crashes.iter().enumerate() {
            self.at(crash.at, Event::Crash(index));
        }
        for (index, cut) in plan.cuts.iter().enumerate() {
            self.at(cut.at, Event::CutBegin(index));
            self.at((cut.at + cut.lasts).min(plan.heal), Event::CutEnd(index));
        }
        for (index, reset) in plan.resets.iter().enumerate() {
            self.at(reset.at, Event::Reset(index));
        }
        for (index, full) in plan.fulls.iter().enumerate() {
            self.at(full.at, Event::FullBegin(index));
            self.at((full.at + full.lasts).min(plan.heal), Event::FullEnd(index));
        }
        self.at(plan.heal, Event::Heal);
    }

    fn at(&mut self, time: Millis, event: Event) {
        self.age += 1;
        self.queue.insert((time.max(self.now), self.age), event);
    }

    fn after(&mut self, delay: Millis, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Hash of all that was logged.
    pub fn log_hash(&self) -> u64 {
        self.log.hash
    }

    /// Notes a broken promise; the first one ends the run.
    pub fn violate(&mut self, text: String) {
        log!(self, "VIOLATION {text}");
        self.violation.get_or_insert(text);
    }

    /// Runs to the end of the plan, until all is right or patience is over.
    pub fn run(&mut self) {
        let deadline = self.plan.heal + self.plan.patience;
        let mut look = self.plan.heal;
        while self.violation.is_none() {
            let Some(((time, _), event)) = self.queue.pop_first() else { break };
            self.now = time;
            if self.healing && time >= look {
                look = time + 250;
                if self.is_settled() {
                    break;
                }
                if time > deadline {
                    self.describe();
                    let text = format!("not settled {} s after the last disturbance", self.plan.patience / 1000);
                    self.violate(text);
                    break;
                }
            }
            self.stats.events += 1;
            self.handle(event);
        }
        self.stats.healing = self.now.saturating_sub(self.plan.heal);
    }

    /// Runs all events up to a time.
    pub fn run_until(&mut self, time: Millis) {
        while self.violation.is_none()
            && let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= time
        {
            let ((now, _), event) = entry.remove_entry();
            self.now = now;
            self.stats.events += 1;
            self.handle(event);
        }
        self.now = self.now.max(time);
    }

    /// The dolmen nodes that run.
    pub fn natives(&self) -> impl Iterator<Item = (usize, &Native)> {
        self.slots.iter().enumerate().filter_map(|(slot, machine)| match &machine.process {
            Some(Process::Native(native)) => Some((slot, &**native)),
            _ => None,
        })
    }

    fn is_settled(&self) -> bool {
        let mut tips = self.natives().map(|(_, native)| native.keeper().tip());
        let first = tips.next();
        self.natives().count() == self.plan.natives
            && tips.all(|tip| Some(tip) == first)
            && self.natives().all(|(_, native)| native.is_settled())
            && self.requests.iter().all(|request| request.done)
    }

    fn describe(&mut self) {
        let lines: Vec<String> =
            self.natives().map(|(slot, native)| format!("n{slot}: {}", native.describe())).collect();
        for line in lines {
            log!(self, "{line}");
        }
        let waiting = self.requests.iter().filter(|request| !request.done).count();
        log!(self, "{waiting} clients wait");
    }

    // ---- Machines.

    fn start(&mut self, slot: usize) {
        let plan = self.plan.clone();
        let machine = &mut self.slots[slot];
        if machine.process.is_some() {
            return;
        }
        machine.life += 1;
        machine.busy = false;
        let life = machine.life;
        let seed = plan.seed.wrapping_mul(1_000_003).wrapping_add((slot as u64) << 32 | life);
        let rng = StdRng::seed_from_u64(seed);
        if slot >= plan.natives {
            machine.process = Some(Process::Tutorial(Box::new(Tutorial::new(rng))));
            return;
        }
        let parts = Parts {
            slot,
            disk: machine.disk.clone(),
            book: machine.book.clone(),
            peers: machine.peers.clone(),
            max_reorg: plan.max_reorg,
            sizes: plan.sizes,
            skew: plan.skews[slot],
            rng,
        };
        let mut effects = Vec::new();
        match Native::start(parts, self.now, &mut effects) {
            Ok(native) => {
                let chain = native.keeper();
                log!(self, "n{slot} starts at {}, {} waiting", chain.tip(), chain.outbox_len());
                let blocks: Vec<SharedBlock> = chain.storage().chain().to_vec();
                self.slots[slot].process = Some(Process::Native(Box::new(native)));
                self.register(&blocks);
                let offset = self.rng.random_range(0..plan.sizes.tick);
                self.after(offset, Event::Tick { slot, life });
                self.apply(slot, effects);
            }
            Err(error) => self.violate(format!("n{slot} cannot start again: {error}")),
        }
    }

    fn register(&mut self, blocks: &[SharedBlock]) {
        for block in blocks {
            if let Err(text) = self.registry.add(block) {
                self.violate(text);
            }
        }
    }

    /// Kills a process. What its kernel has taken still goes out, unless the machine goes down with it.
    fn kill(&mut self, slot: usize, down: Millis) {
        if self.slots[slot].process.take().is_none() {
            return;
        }
        log!(self, "n{slot} dies for {down} ms");
        self.stats.crashes += 1;
        self.slots[slot].life += 1;
        self.slots[slot].busy = false;
        let power = self.rng.random_bool(0.3);
        let conns: Vec<ConnId> = self.whole.iter().copied().collect();
        for conn in conns {
            if !self.conns[conn].ends.iter().any(|end| end.slot == slot) {
                continue;
            }
            let end = self.conns[conn].end_of(slot);
            self.conns[conn].ends[end].open = false;
            if power {
                self.conns[conn].ends[1 - end].coming.clear();
                self.sever(conn);
            } else {
                self.transmit(conn, 1 - end, Out::Close);
            }
        }
        self.after(down, Event::Restart(slot));
    }

    fn native(&mut self, slot: usize, life: u64) -> Option<&mut Native> {
        let machine = self.slots.get_mut(slot).filter(|machine| machine.life == life)?;
        match &mut machine.process {
            Some(Process::Native(native)) => {
                native.set_now(self.now);
                Some(native)
            }
            _ => None,
        }
    }

    /// Lets a node do something, and carries out what it wants.
    fn with(&mut self, slot: usize, life: u64, act: impl FnOnce(&mut Native, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        if let Some(native) = self.native(slot, life) {
            act(native, &mut effects);
            self.apply(slot, effects);
        }
    }

    // ---- Events.

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver { conn, end } => self.deliver(conn, end),
            Event::Opened { conn, end } => self.opened(conn, end),
            Event::Closed { conn, end } => self.closed(conn, end),
            Event::DialFailed { slot, life, address } => {
                self.with(slot, life, |native, _| native.dial_failed(&address))
            }
            Event::Tick { slot, life } => {
                if self.native(slot, life).is_some() {
                    self.with(slot, life, Native::tick);
                    self.after(self.plan.sizes.tick, Event::Tick { slot, life });
                }
            }
            Event::ChainStep { slot, life } => self.chain_step(slot, life),
            Event::Answer { slot, life, answer } => self.with(slot, life, |native, out| native.answered(answer, out)),
            Event::Changed { slot, life, update } => self.with(slot, life, |native, out| native.changed(&update, out)),
            Event::Remine { slot, life } => self.with(slot, life, |native, out| native.tell_chain(Chain::Remine, out)),
            Event::Served { slot, life, link, from, read } => {
                self.with(slot, life, |native, out| native.served(link, from, read, out));
            }
            Event::ChainMade { slot, life, link, text } => {
                self.with(slot, life, |native, out| native.chain_made(link, text, out));
            }
            Event::Submit(request) => self.submit(request),
            Event::Arrive { request, life } => {
                let Request { node, entries, key, .. } = &self.requests[request];
                let (node, mine) = (*node, MineRequest { entries: entries.clone(), key: key.clone() });
                self.with(node, life, |native, out| native.tell_chain(Chain::Mine(mine, request), out));
            }
            Event::Impatient { request, tries } => {
                if !self.requests[request].done && self.requests[request].tries == tries {
                    self.again(request);
                }
            }
            Event::Foreign(slot) => self.mine_foreign(slot),
            Event::Crash(index) => {
                let crash = self.plan.crashes[index].clone();
                match crash.how {
                    How::Now => self.kill(crash.node, crash.down),
                    How::InWrite(death) => self.slots[crash.node].disk.borrow_mut().death = Some(death),
                }
            }
            Event::Restart(slot) => self.start(slot),
            Event::CutBegin(index) => self.cut(index),
            Event::CutEnd(index) => {
                log!(self, "the partition {index} ends");
                self.cuts.remove(&index);
            }
            Event::Reset(index) => {
                if let Some(conn) = self.pick(self.plan.resets[index].pick) {
                    log!(self, "connection {conn} loses something");
                    self.stats.resets += 1;
                    self.sever(conn);
                }
            }
            Event::FullBegin(index) => self.slots[self.plan.fulls[index].node].disk.borrow_mut().full = true,
            Event::FullEnd(index) => self.slots[self.plan.fulls[index].node].disk.borrow_mut().full = false,
            Event::Heal => self.heal(),
        }
    }

    fn heal(&mut self) {
        log!(self, "nothing bad happens from here on");
        self.healing = true;
        self.cuts.clear();
        for slot in 0..self.slots.len() {
            self.slots[slot].disk.borrow_mut().death = None;
            if self.slots[slot].process.is_none() {
                self.after(0, Event::Restart(slot));
            }
        }
    }

    fn chain_step(&mut self, slot: usize, life: u64) {
        let Some(native) = self.native(slot, life) else { return };
        let mut effects = Vec::new();
        let more = native.chain_step(&mut effects);
        let tip = native.keeper().tip();
        let disk = self.slots[slot].disk.clone();
        if let Some(misuse) = disk.borrow_mut().misuse.take() {
            self.violate(format!("n{slot} asked its storage for the impossible: {misuse}"));
        }
        self.slots[slot].busy = false;
        if disk.borrow().dead {
            let down = self.plan.crashes.iter().find(|crash| crash.node == slot && crash.how != How::Now);
            let down = down.map_or(1_000, |crash| crash.down);
            log!(self, "n{slot} was at {tip}, and died in write {}", disk.borrow().writes());
            self.kill(slot, down);
            return;
        }
        if more {
            self.wake(slot);
        }
        self.apply(slot, effects);
    }

    fn wake(&mut self, slot: usize) {
        if !self.slots[slot].busy {
            self.slots[slot].busy = true;
            let (low, high) = self.plan.service;
            let (delay, life) = (self.rng.random_range(low..=high), self.slots[slot].life);
            self.after(delay, Event::ChainStep { slot, life });
        }
    }

    fn apply(&mut self, slot: usize, effects: Vec<Effect>) {
        let life = self.slots[slot].life;
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Wake => self.wake(slot),
                Effect::Answer(answer) => {
                    let time = (self.now + self.hop()).max(self.slots[slot].last_answer);
                    self.slots[slot].last_answer = time;
                    self.at(time, Event::Answer { slot, life, answer });
                }
                Effect::Changed(update) => {
                    let left = update.left.len();
                    log!(
                        self,
                        "n{slot} goes from {} to {}, {left} left, {} wait",
                        update.old,
                        update.new,
                        update.requeued
                    );
                    let time = (self.now + self.hop()).max(self.slots[slot].last_change);
                    self.slots[slot].last_change = time;
                    self.at(time, Event::Changed { slot, life, update });
                }
                Effect::NewBlocks(blocks) => self.register(&blocks),
                Effect::Reply(request, answer) => self.reply(request, *answer),
                Effect::RemineAfter(delay) => self.after(delay, Event::Remine { slot, life }),
                Effect::Send(conn, out) => self.send(conn, slot, out),
                Effect::Kill(conn) => {
                    let end = self.conns[conn].end_of(slot);
                    if self.conns[conn].ends[end].open {
                        self.conns[conn].ends[end].open = false;
                        self.transmit(conn, 1 - end, Out::Close);
                        self.end_session(conn, end, &mut effects);
                    }
                }
                Effect::Dial(address) => self.dial(slot, address),
                Effect::Served { link, from, read } => {
                    let delay = self.hop();
                    self.after(delay, Event::Served { slot, life, link, from, read });
                }
                Effect::ChainMade { link, text } => {
                    let delay = self.hop() + 1;
                    self.after(delay, Event::ChainMade { slot, life, link, text });
                }
                Effect::Reorg(depth) => {
                    self.stats.reorgs += 1;
                    self.stats.deepest = self.stats.deepest.max(depth);
                }
                Effect::SwitchedIn => self.stats.staged += 1,
                Effect::Violation(text) => self.violate(format!("n{slot}: {text}")),
            }
        }
    }

    /// From actor to actor.
    fn hop(&mut self) -> Millis {
        if self.plan.jitter == 0 { 0 } else { self.rng.random_range(0..=2) }
    }

    // ---- Links.

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cuts.iter().any(|cut| {
            let side = &self.plan.cuts[*cut].side;
            side.contains(&a) != side.contains(&b)
        })
    }

    fn cut(&mut self, index: usize) {
        let cut = self.plan.cuts[index].clone();
        log!(self, "partition {index}: {:?} for {} ms", cut.side, cut.lasts);
        self.cuts.insert(index);
        self.stats.cuts += 1;
        let conns: Vec<ConnId> = self.whole.iter().copied().collect();
        for conn in conns {
            let [a, b] = [self.conns[conn].ends[0].slot, self.conns[conn].ends[1].slot];
            if cut.side.contains(&a) != cut.side.contains(&b) && self.rng.random_range(0..100) < cut.breaks {
                self.sever(conn);
            }
        }
    }

    fn pick(&self, number: usize) -> Option<ConnId> {
        self.whole.iter().nth(number % self.whole.len().max(1)).copied()
    }

    /// Nothing travels any more; each end notices in its own time, some only because nothing is heard.
    fn sever(&mut self, conn: ConnId) {
        self.whole.remove(&conn);
        self.conns[conn].whole = false;
        for end in 0..2 {
            self.conns[conn].ends[end].coming.clear();
            if self.conns[conn].ends[end].open && self.rng.random_bool(0.9) {
                let delay = if self.rng.random_bool(0.8) { 2_000 } else { 20_000 };
                let delay = self.rng.random_range(1..=delay);
                self.after(delay, Event::Closed { conn, end });
            }
        }
    }

    fn dial(&mut self, slot: usize, address: PeerAddress) {
        let life = self.slots[slot].life;
        let target = slot_at(&address).filter(|target| *target != slot && *target < self.slots.len());
        let (low, high) = self.plan.latency;
        let latency = self.rng.random_range(low..=high);
        let Some(target) = target.filter(|target| self.slots[*target].process.is_some()) else {
            self.after(latency, Event::DialFailed { slot, life, address });
            return;
        };
        if self.is_cut(slot, target) {
            self.after(5_000, Event::DialFailed { slot, life, address });
            return;
        }
        let conn = self.conns.len();
        let end = |slot, life, last_arrival| End { slot, life, open: false, coming: VecDeque::new(), last_arrival };
        let ends = [end(slot, life, self.now + 2 * latency), end(target, self.slots[target].life, self.now + latency)];
        self.conns.push(Conn { ends, whole: true, latency });
        self.after(latency, Event::Opened { conn, end: 1 });
        self.after(2 * latency, Event::Opened { conn, end: 0 });
    }

    fn lives(&self, end: &End) -> bool {
        self.slots[end.slot].life == end.life && self.slots[end.slot].process.is_some()
    }

    fn opened(&mut self, conn: ConnId, end: usize) {
        let [dialler, acceptor] = &self.conns[conn].ends;
        let (slot, peer, life) = if end == 0 {
            (dialler.slot, acceptor.slot, dialler.life)
        } else {
            (acceptor.slot, dialler.slot, acceptor.life)
        };
        let works = self.conns[conn].whole && (end == 1 || acceptor.open) && self.lives(&self.conns[conn].ends[end]);
        if !works {
            if end == 0 {
                let address = native::address(peer);
                self.after(0, Event::DialFailed { slot, life, address });
                if self.conns[conn].ends[1].open {
                    self.after(1, Event::Closed { conn, end: 1 });
                }
            }
            return;
        }
        log!(self, "n{slot} has connection {conn} with n{peer}");
        self.whole.insert(conn);
        self.conns[conn].ends[end].open = true;
        match &mut self.slots[slot].process {
            Some(Process::Native(_)) => self.with(slot, life, |native, out| native.opened(conn, peer, end == 0, out)),
            Some(Process::Tutorial(tutorial)) => {
                let mut out = Vec::new();
                tutorial.opened(conn, &mut out);
                self.send_all(slot, out);
            }
            None => {}
        }
    }

    fn closed(&mut self, conn: ConnId, end: usize) {
        if !self.conns[conn].ends[end].open {
            return;
        }
        self.conns[conn].ends[end].open = false;
        let slot = self.conns[conn].ends[end].slot;
        if self.lives(&self.conns[conn].ends[end]) {
            let mut effects = VecDeque::new();
            self.end_session(conn, end, &mut effects);
            self.apply(slot, effects.into());
        }
    }

    /// The process at this end learns that the connection is gone.
    fn end_session(&mut self, conn: ConnId, end: usize, effects: &mut VecDeque<Effect>) {
        if self.conns[conn].ends.iter().all(|end| !end.open) {
            self.whole.remove(&conn);
            self.conns[conn].whole = false;
        }
        let slot = self.conns[conn].ends[end].slot;
        log!(self, "n{slot} loses connection {conn}");
        let life = self.conns[conn].ends[end].life;
        let mut out = Vec::new();
        if let Some(native) = self.native(slot, life) {
            native.closed(conn, &mut out);
        } else if let Some(Process::Tutorial(tutorial)) = &mut self.slots[slot].process {
            tutorial.closed(conn);
        }
        effects.extend(out);
    }

    fn send(&mut self, conn: ConnId, from: usize, out: Out) {
        let end = self.conns[conn].end_of(from);
        if out.is_message() {
            self.stats.messages += 1;
        }
        self.transmit(conn, 1 - end, out);
    }

    fn send_all(&mut self, from: usize, messages: Vec<(ConnId, Out)>) {
        for (conn, out) in messages {
            self.send(conn, from, out);
        }
    }

    fn transmit(&mut self, conn: ConnId, to: usize, out: Out) {
        if !self.conns[conn].whole {
            return;
        }
        let jitter = if self.plan.jitter == 0 { 0 } else { self.rng.random_range(0..=self.plan.jitter) };
        let wire = &mut self.conns[conn];
        let time = (self.now + wire.latency + jitter).max(wire.ends[to].last_arrival);
        wire.ends[to].last_arrival = time;
        wire.ends[to].coming.push_back(out);
        self.at(time, Event::Deliver { conn, end: to });
    }

    fn deliver(&mut self, conn: ConnId, end: usize) {
        let [here, there] = [self.conns[conn].ends[end].slot, self.conns[conn].ends[1 - end].slot];
        if !self.conns[conn].whole || self.conns[conn].ends[end].coming.is_empty() {
            return;
        }
        if self.is_cut(here, there) {
            // The kernel sends it again and again; what was sent later stays behind it.
            let delay = self.rng.random_range(100..=1_500);
            self.after(delay, Event::Deliver { conn, end });
            return;
        }
        let Some(frame) = self.conns[conn].ends[end].coming.pop_front() else { return };
        if let (true, Some(Process::Native(sender))) =
            (self.lives(&self.conns[conn].ends[1 - end]), &mut self.slots[there].process)
        {
            sender.was_read(conn);
        }
        let life = self.conns[conn].ends[end].life;
        if !self.lives(&self.conns[conn].ends[end]) || !self.conns[conn].ends[end].open {
            // Nobody listens: the sender's socket is reset.
            if self.conns[conn].ends[1 - end].open && frame != Out::Close {
                let delay = self.conns[conn].latency;
                self.after(delay, Event::Closed { conn, end: 1 - end });
            }
            return;
        }
        log!(self, "n{here} hears from n{there}: {}", brief(&frame));
        let mut out = Vec::new();
        match &mut self.slots[here].process {
            Some(Process::Native(_)) => {
                self.with(here, life, |native, out| native.received(conn, frame, out));
                return;
            }
            Some(Process::Tutorial(_)) if frame == Out::Close => {
                self.transmit(conn, 1 - end, Out::Close);
                self.closed(conn, end);
                return;
            }
            Some(Process::Tutorial(_)) if frame == Out::Ping => out.push((conn, Out::Pong)),
            Some(Process::Tutorial(tutorial)) => {
                let before = tutorial.last().tip();
                tutorial.received(conn, &frame, &mut out);
                let (tip, crash) = (tutorial.last().tip(), tutorial.crash.clone());
                if tip != before {
                    log!(self, "tutorial node n{here} goes to {tip}");
                }
                if let Some(crash) = crash {
                    self.violate(format!("n{there} crashed the tutorial node n{here}: {crash}"));
                }
            }
            None => return,
        }
        self.send_all(here, out);
    }

    fn mine_foreign(&mut self, slot: usize) {
        let now = native::unix_time(self.now, self.plan.skews[slot]);
        self.foreign += 1;
        let entry = format!("f{}", self.foreign);
        if let Some(Process::Tutorial(tutorial)) = &mut self.slots[slot].process {
            let mut out = Vec::new();
            let block = tutorial.mine(vec![entry], now, &mut out);
            log!(self, "tutorial node n{slot} mines {}", block.tip());
            self.register(&[block]);
            self.send_all(slot, out);
        }
    }

    // ---- Clients.

    fn submit(&mut self, id: RequestId) {
        let request = &mut self.requests[id];
        if request.done {
            return;
        }
        request.tries += 1;
        let (node, tries) = (request.node, request.tries);
        if self.slots[node].process.is_none() {
            // Refused at once: the client knows that nothing happened.
            self.again(id);
            return;
        }
        let (delay, life) = (self.rng.random_range(1..=5), self.slots[node].life);
        self.after(delay, Event::Arrive { request: id, life });
        self.after(CLIENT_PATIENCE, Event::Impatient { request: id, tries });
    }

    /// With a key a client can try again; without one it must not.
    fn again(&mut self, id: RequestId) {
        if self.requests[id].key.is_some() {
            self.stats.repeats += 1;
            let delay = self.rng.random_range(200..=2_000);
            self.after(delay, Event::Submit(id));
        } else {
            self.requests[id].done = true;
        }
    }

    fn reply(&mut self, id: RequestId, answer: Result<Mined, MineError>) {
        let node = self.requests[id].node;
        match answer {
            Ok(mined) => {
                log!(self, "n{node} acknowledges request {id}: {}", mined.block.tip());
                let request = &mut self.requests[id];
                let first = request.receipt.is_none();
                let kept = request.receipt.get_or_insert_with(|| mined.clone());
                // The block may be a later one, once the first has fallen out of the limits.
                let same = kept.submission == mined.submission;
                if first {
                    self.stats.acknowledged += 1;
                }
                let right = mined.block.body().windows(request.entries.len()).any(|run| run == request.entries);
                let lose = std::mem::take(&mut request.lose);
                // Whose answer is lost asks again, if it has a key.
                request.done = !lose || request.key.is_none();
                if !same {
                    self.violate(format!("n{node} gave request {id} another receipt for the same key"));
                } else if !right {
                    self.violate(format!("n{node} answered request {id} with a block of other entries"));
                }
            }
            Err(MineError::Storage(error)) => {
                log!(self, "n{node} refuses request {id}: {error}");
                if matches!(error, dolmen::ledger::storage::StorageError::Damaged(_)) {
                    self.violate(format!("n{node} calls its store damaged: {error}"));
                }
                self.again(id);
            }
            Err(error) => self.violate(format!("n{node} refused request {id}: {error}")),
        }
    }

    // ---- After the end.

    /// Asks a node directly, outside of simulated time.
    pub fn mine_now(&mut self, slot: usize, request: MineRequest) -> Option<Result<Mined, MineError>> {
        let life = self.slots[slot].life;
        let now = self.now;
        let native = self.native(slot, life)?;
        native.mine_now(request, now)
    }

    /// The best tip of all dolmen nodes.
    pub fn best(&self) -> Option<Tip> {
        self.natives().map(|(_, native)| native.keeper().tip()).reduce(|a, b| if b.beats(&a) { b } else { a })
    }
}

fn brief(frame: &Out) -> String {
    match frame {
        Out::Text(text) => {
            let brief: String = text.chars().take(40).collect();
            format!("{brief} ({} bytes)", text.len())
        }
        Out::Binary(bytes) => {
            let kind = ["Tip", "Push", "Locate", "Located", "Fetch", "More", "Batch", "Gone", "Addresses"];
            let kind = bytes.first().and_then(|kind_byte| kind.get(usize::from(*kind_byte))).unwrap_or(&"?");
            format!("{kind} ({} bytes)", bytes.len())
        }
        Out::Ping => "ping".to_owned(),
        Out::Pong => "pong".to_owned(),
        Out::Close => "close".to_owned(),
    }
}
