//! A stand-in for the tutorial's JavaScript node: its peer protocol, its rules, its faults.
//!
//! Written from the description of the protocol, on threads, with its own hashes and Merkle roots, so that it agrees with
//! dolmen only where both agree with the tutorial. Like JavaScript it handles one event at a time: all of them run under
//! one lock. What the original answers with an uncaught exception ends this one too; see [`TutorialPeer::crash`].

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Message, accept_with_config, client::client_with_config};

use super::js::Js;

/// Asks for the last block.
pub const QUERY_LAST: u64 = 0;
/// Asks for the whole chain.
pub const QUERY_ALL: u64 = 1;
/// Carries blocks, as JSON text inside JSON.
pub const RESPONSE_BLOCK: u64 = 2;

/// What the `ws` library accepts in one message.
pub const MAX_MESSAGE_BYTES: usize = 100 * 1024 * 1024;

/// How long an opening handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How the coin falls that the tutorial tosses before it takes over a longer chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coin {
    /// As the seed has it.
    Fair,
    /// Always for the new chain.
    Always,
}

/// How a stand-in is to behave.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Seed of its coin and of how often it verifies a chain.
    pub seed: u64,
    /// Its coin.
    pub coin: Coin,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, coin: Coin::Always }
    }
}

/// One running stand-in; ends when dropped.
pub struct TutorialPeer {
    shared: Arc<Shared>,
}

struct Shared {
    port: u16,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    chain: Chain,
    links: Vec<Link>,
    next_link: u64,
    random: SplitMix,
    coin: Coin,
    crash: Option<String>,
    stopped: bool,
    received: BTreeMap<u64, u64>,
    sent: BTreeMap<u64, u64>,
    /// Links that ended because a message was larger than `ws` accepts.
    oversize: u64,
}

/// One open link. The reading half lives in the link's own thread.
struct Link {
    id: u64,
    frames: WebSocket<ToWire>,
    socket: TcpStream,
}

/// The chain of a stand-in: never empty.
#[derive(Clone, PartialEq, Debug)]
pub struct Chain(Vec<Js>);

impl Chain {
    fn genesis() -> Self {
        Self(vec![block(
            "1.0.0",
            0,
            "0000000000000000000000000000000000000000000000000000000000000000",
            1_630_907_567,
            vec!["hello block".into()],
        )])
    }

    /// The blocks, genesis first.
    pub fn blocks(&self) -> &[Js] {
        &self.0
    }

    /// The last block.
    pub fn last(&self) -> &Js {
        self.0.last().expect("a chain has its genesis")
    }

    /// Index and hash of the last block.
    pub fn tip(&self) -> (u64, String) {
        let index = header(self.last()).and_then(|header| header.get("index")?.integer());
        (index.unwrap_or_default(), hash(self.last()))
    }

    /// The chain as the tutorial's `GET /blocks` writes it.
    pub fn text(&self) -> String {
        Js::Array(self.0.clone()).stringify()
    }

    /// Whether an entry stands in some block.
    pub fn contains(&self, entry: &str) -> bool {
        self.0.iter().any(|block| {
            let body = block.get("body").and_then(Js::elements).unwrap_or_default();
            body.iter().any(|found| found.text() == Some(entry))
        })
    }
}

impl TutorialPeer {
    /// Starts one on a free port of the loopback address.
    pub fn start(options: Options) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let state = State {
            chain: Chain::genesis(),
            links: Vec::new(),
            next_link: 0,
            random: SplitMix(options.seed),
            coin: options.coin,
            crash: None,
            stopped: false,
            received: BTreeMap::new(),
            sent: BTreeMap::new(),
            oversize: 0,
        };
        let shared = Arc::new(Shared { port, state: Mutex::new(state), changed: Condvar::new() });
        let acceptor = Arc::clone(&shared);
        thread::spawn(move || acceptor.accept_all(&listener));
        Self { shared }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// The address for `/addPeers` and `--peer`.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port())
    }

    /// Opens a link to a port of the loopback address, as `/addPeers` does; says why it could not.
    pub fn try_dial(&self, port: u16) -> Result<(), String> {
        self.shared.dial(port)
    }

    /// Opens a link to a port of the loopback address.
    pub fn dial(&self, port: u16) {
        self.try_dial(port).unwrap_or_else(|error| panic!("the stand-in could not reach port {port}: {error}"));
    }

    /// Mines one block, as `/mineBlock` does, and tells all links. Returns the block's JSON text.
    pub fn mine(&self, entries: &[&str]) -> String {
        let mut state = self.shared.lock();
        let block = state.chain.mine(entries);
        let text = block.stringify();
        state.broadcast_last();
        self.shared.changed.notify_all();
        text
    }

    /// Mines a number of blocks and tells nobody: a chain that somebody has to fetch.
    pub fn mine_quietly(&self, blocks: u64) {
        let mut state = self.shared.lock();
        for number in 0..blocks {
            state.chain.mine(&[&format!("quiet entry {number}")]);
        }
        self.shared.changed.notify_all();
    }

    /// Takes over a chain as it stands in JSON text, unverified: a test's way to give it a past.
    pub fn set_chain(&self, text: &str) {
        let blocks = Js::parse(text).expect("the test gives JSON").elements().expect("an array of blocks").to_vec();
        assert!(!blocks.is_empty(), "a chain has its genesis");
        self.shared.lock().chain = Chain(blocks);
        self.shared.changed.notify_all();
    }

    /// A copy of its chain.
    pub fn chain(&self) -> Chain {
        self.shared.lock().chain.clone()
    }

    /// Index and hash of its last block.
    pub fn tip(&self) -> (u64, String) {
        self.shared.lock().chain.tip()
    }

    /// Waits until its chain is as wanted; panics at the deadline, and when it crashes.
    pub fn wait_for(&self, what: &str, deadline: Duration, mut wanted: impl FnMut(&Chain) -> bool) {
        self.wait_state(what, deadline, |state| wanted(&state.chain));
    }

    /// Waits until it has so many links.
    pub fn wait_links(&self, links: usize, deadline: Duration) {
        self.wait_state(&format!("{links} links"), deadline, |state| state.links.len() == links);
    }

    /// Waits until it has received so many messages of a type.
    pub fn wait_received(&self, kind: u64, count: u64, deadline: Duration) {
        let what = format!("{count} messages of type {kind}");
        self.wait_state(&what, deadline, |state| state.received.get(&kind).copied().unwrap_or_default() >= count);
    }

    /// Waits until it has crashed, and says why.
    pub fn wait_crash(&self, deadline: Duration) -> String {
        let end = Instant::now() + deadline;
        let mut state = self.shared.lock();
        loop {
            if let Some(reason) = &state.crash {
                return reason.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the stand-in did not crash within {deadline:?}");
            state = self.shared.wait(state, left);
        }
    }

    fn wait_state(&self, what: &str, deadline: Duration, mut wanted: impl FnMut(&State) -> bool) {
        let end = Instant::now() + deadline;
        let mut state = self.shared.lock();
        while !wanted(&state) {
            assert_eq!(state.crash, None, "the stand-in crashed while it was waited for: {what}");
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited {deadline:?} for the stand-in on port {}: {what}; tip {:?}, {} links, received {:?}, sent {:?}",
                self.port(),
                state.chain.tip(),
                state.links.len(),
                state.received,
                state.sent,
            );
            state = self.shared.wait(state, left);
        }
    }

    /// Why it crashed, if it did. No test of a working node may find a reason here.
    pub fn crash(&self) -> Option<String> {
        self.shared.lock().crash.clone()
    }

    /// Panics if it crashed.
    pub fn assert_alive(&self) {
        assert_eq!(self.crash(), None, "the stand-in for the tutorial node crashed");
    }

    /// Open links, of both directions.
    pub fn links(&self) -> usize {
        self.shared.lock().links.len()
    }

    /// Messages of a type that it received.
    pub fn received(&self, kind: u64) -> u64 {
        self.shared.lock().received.get(&kind).copied().unwrap_or_default()
    }

    /// Messages of a type that it sent.
    pub fn sent(&self, kind: u64) -> u64 {
        self.shared.lock().sent.get(&kind).copied().unwrap_or_default()
    }

    /// Links that broke because a message was larger than the `ws` library accepts.
    pub fn oversize(&self) -> u64 {
        self.shared.lock().oversize
    }

    /// Cuts all links; goes on listening.
    pub fn disconnect_all(&self) {
        self.shared.lock().close_links();
        self.shared.changed.notify_all();
    }

    /// Ends it: no links, no listener.
    pub fn stop(self) {}
}

impl Drop for TutorialPeer {
    fn drop(&mut self) {
        self.shared.end(None);
    }
}

impl Shared {
    /// A test that panicked elsewhere has said what is wrong; the others go on.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn end(&self, crash: Option<String>) {
        let mut state = self.lock();
        if !state.stopped {
            state.stopped = true;
            state.crash = crash;
            state.close_links();
            // The acceptor waits for a connection; this one tells it to look up.
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        }
        self.changed.notify_all();
    }

    fn accept_all(self: Arc<Self>, listener: &TcpListener) {
        for socket in listener.incoming() {
            if self.lock().stopped {
                return;
            }
            let Ok(socket) = socket else { continue };
            let shared = Arc::clone(&self);
            thread::spawn(move || {
                let Ok(stream) = Duplex::new(socket) else { return };
                if let Ok(frames) = accept_with_config(stream, Some(config())) {
                    shared.run(frames, Role::Server);
                }
            });
        }
    }

    fn dial(self: &Arc<Self>, port: u16) -> Result<(), String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = TcpStream::connect_timeout(&address, HANDSHAKE).map_err(|error| error.to_string())?;
        let stream = Duplex::new(socket).map_err(|error| error.to_string())?;
        let mut request = format!("ws://127.0.0.1:{port}").into_client_request().map_err(|error| error.to_string())?;
        // The `ws` library offers compression; who accepts it must not be surprised by a peer that cannot.
        let extensions = HeaderValue::from_static("permessage-deflate; client_max_window_bits");
        request.headers_mut().insert("Sec-WebSocket-Extensions", extensions);
        let (frames, response) =
            client_with_config(request, stream, Some(config())).map_err(|error| error.to_string())?;
        assert!(response.headers().get("Sec-WebSocket-Extensions").is_none(), "this stand-in cannot decompress");
        let shared = Arc::clone(self);
        let (opened, is_open) = mpsc::channel();
        let tell = move || {
            let _ = opened.send(());
        };
        thread::spawn(move || shared.run_and_tell(frames, Role::Client, tell));
        is_open.recv().map_err(|_| "the stand-in has ended".to_owned())
    }

    fn run(&self, frames: WebSocket<Duplex>, role: Role) {
        self.run_and_tell(frames, role, || ());
    }

    /// One link from open to end.
    fn run_and_tell(&self, mut frames: WebSocket<Duplex>, role: Role, opened: impl FnOnce()) {
        let Some(id) = self.open(&frames, role) else { return };
        opened();
        loop {
            let event = match frames.read() {
                Ok(Message::Text(text)) => self.lock().message(id, &text),
                Ok(Message::Binary(bytes)) => Err(format!("JSON.parse of a binary frame of {} bytes", bytes.len())),
                Ok(_) => Ok(()),
                Err(error) => {
                    let oversize = matches!(error, tungstenite::Error::Capacity(_));
                    return self.close(id, oversize);
                }
            };
            match event {
                Ok(()) => self.changed.notify_all(),
                Err(crash) => return self.end(Some(crash)),
            }
        }
    }

    fn open(&self, frames: &WebSocket<Duplex>, role: Role) -> Option<u64> {
        let stream = frames.get_ref();
        let socket = stream.socket.try_clone().ok()?;
        stream.socket.set_read_timeout(None).ok()?;
        let mut state = self.lock();
        if state.stopped {
            let _ = socket.shutdown(Shutdown::Both);
            return None;
        }
        let id = state.next_link;
        state.next_link += 1;
        let frames = WebSocket::from_raw_socket(stream.out.another(), role, Some(config()));
        state.links.push(Link { id, frames, socket });
        state.send(id, QUERY_LAST, Js::Null);
        self.changed.notify_all();
        Some(id)
    }

    fn close(&self, id: u64, oversize: bool) {
        let mut state = self.lock();
        state.oversize += u64::from(oversize);
        if let Some(at) = state.links.iter().position(|link| link.id == id) {
            let _ = state.links.swap_remove(at).socket.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }
}

/// The tutorial's program. An error is an exception that nobody catches.
impl State {
    fn message(&mut self, from: u64, text: &str) -> Result<(), String> {
        let message = Js::parse(text).map_err(|error| format!("JSON.parse of a message: {error}"))?;
        if message == Js::Null {
            return Err("a message is null and has no type".to_owned());
        }
        let Some(kind) = message.get("type").and_then(Js::integer) else { return Ok(()) };
        *self.received.entry(kind).or_default() += 1;
        match kind {
            QUERY_LAST => self.send_last(from),
            QUERY_ALL => {
                let chain = self.chain.text().as_str().into();
                self.send(from, RESPONSE_BLOCK, chain);
            }
            RESPONSE_BLOCK => return self.blocks(message.get("data")),
            _ => {}
        }
        Ok(())
    }

    fn blocks(&mut self, data: Option<&Js>) -> Result<(), String> {
        let data = data.ok_or("JSON.parse of undefined data")?;
        let received = Js::parse(&data.to_js_string()).map_err(|error| format!("JSON.parse of data: {error}"))?;
        let received = received.elements().ok_or("data holds no array")?;
        let last = received.last().ok_or("the last of no blocks has no header")?;
        let last_header = header(last).ok_or("the last block has no header")?;
        let held = self.chain.last();
        let index = |header: Option<&Js>| header.and_then(|header| header.get("index")?.number());
        // Comparing with undefined is false, as it is with `None` here.
        let is_ahead = matches!((index(Some(last_header)), index(header(held))), (Some(got), Some(own)) if got > own);
        if !is_ahead {
            return Ok(());
        }
        if last_header.get("previousHash").and_then(Js::text) == Some(&hash(held)) {
            if is_next(last, held) {
                self.chain.0.push(last.clone());
                self.broadcast_last();
            }
        } else if received.len() == 1 {
            self.broadcast(QUERY_ALL, &Js::Null);
        } else {
            self.replace_chain(received.to_vec());
        }
        Ok(())
    }

    fn replace_chain(&mut self, received: Vec<Js>) {
        let rounds = 1 + self.random.next() % 3;
        let own_genesis = self.chain.0[0].stringify();
        let valid = (0..rounds).all(|_| {
            received[0].stringify() == own_genesis && received.windows(2).all(|pair| is_next(&pair[1], &pair[0]))
        });
        if valid && received.len() > self.chain.0.len() && self.coin_wins() {
            self.chain = Chain(received);
            self.broadcast_last();
        }
    }

    fn coin_wins(&mut self) -> bool {
        match self.coin {
            Coin::Fair => self.random.next().is_multiple_of(2),
            Coin::Always => true,
        }
    }

    fn send_last(&mut self, to: u64) {
        let last = self.last_as_data();
        self.send(to, RESPONSE_BLOCK, last);
    }

    fn last_as_data(&self) -> Js {
        Js::String(Js::Array(vec![self.chain.last().clone()]).stringify())
    }

    fn broadcast_last(&mut self) {
        let last = self.last_as_data();
        self.broadcast(RESPONSE_BLOCK, &last);
    }

    fn broadcast(&mut self, kind: u64, data: &Js) {
        let ids: Vec<u64> = self.links.iter().map(|link| link.id).collect();
        for id in ids {
            self.send(id, kind, data.clone());
        }
    }

    fn send(&mut self, to: u64, kind: u64, data: Js) {
        let Some(link) = self.links.iter_mut().find(|link| link.id == to) else { return };
        let message = Js::Object(vec![("type".to_owned(), kind.into()), ("data".to_owned(), data)]).stringify();
        // A failed write shows in the link's reader, which ends the link.
        let _ = link.frames.send(Message::text(message));
        *self.sent.entry(kind).or_default() += 1;
    }

    fn close_links(&mut self) {
        for link in self.links.drain(..) {
            let _ = link.socket.shutdown(Shutdown::Both);
        }
    }
}

impl Chain {
    fn mine(&mut self, entries: &[&str]) -> &Js {
        let (index, previous) = self.tip();
        let body = entries.iter().map(|&entry| entry.into()).collect();
        self.0.push(block("1.0.0", index + 1, &previous, now(), body));
        self.last()
    }
}

/// Unix seconds, rounded up.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    since.as_secs() + u64::from(since.subsec_nanos() > 0)
}

/// A block with the right root, its keys in the tutorial's order.
pub fn block(version: &str, index: u64, previous_hash: &str, time: u64, body: Vec<Js>) -> Js {
    let header = Js::Object(vec![
        ("version".to_owned(), version.into()),
        ("index".to_owned(), index.into()),
        ("previousHash".to_owned(), previous_hash.into()),
        ("time".to_owned(), time.into()),
        ("merkleRoot".to_owned(), merkle_root(&body).as_str().into()),
    ]);
    Js::Object(vec![("header".to_owned(), header), ("body".to_owned(), Js::Array(body))])
}

fn header(block: &Js) -> Option<&Js> {
    block.get("header")
}

/// The block hash; `undefined` is hashed as its name, as JavaScript would.
pub fn hash(block: &Js) -> String {
    let field =
        |name| header(block).and_then(|header| header.get(name)).map_or("undefined".to_owned(), Js::to_js_string);
    let text: String = ["version", "index", "previousHash", "time", "merkleRoot"].map(field).concat();
    hex::encode(Sha256::digest(text))
}

/// The Merkle root of a body, zeros for an empty one.
pub fn merkle_root(body: &[Js]) -> String {
    let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'A'..=b'F'));
    let leaf = |entry: &Js| {
        let text = entry.to_js_string();
        if is_digest(&text) { text } else { hex::encode_upper(Sha256::digest(text)) }
    };
    fn over(row: &[String]) -> String {
        match row {
            [] => "0".repeat(64),
            [only] => only.clone(),
            // The left side is the largest whole tree, which is what carrying lone nodes upwards comes to.
            _ => {
                let (left, right) = row.split_at(row.len().next_power_of_two() / 2);
                hex::encode_upper(Sha256::digest(over(left) + &over(right)))
            }
        }
    }
    over(&body.iter().map(leaf).collect::<Vec<_>>())
}

/// Whether the tutorial takes a block as the next one.
fn is_next(block: &Js, parent: &Js) -> bool {
    let Some(header) = header(block) else { return false };
    let Some(body) = block.get("body").and_then(Js::elements) else { return false };
    let text = |name| header.get(name).and_then(Js::text);
    let number = |block: &Js, name| block.get("header").and_then(|header| header.get(name)?.number());
    text("version").is_some()
        && number(block, "time").is_some()
        && number(block, "index").is_some()
        && number(block, "index") == number(parent, "index").map(|index| index + 1.0)
        && text("previousHash") == Some(&hash(parent))
        && text("merkleRoot") == Some(&merkle_root(body))
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).max_frame_size(Some(MAX_MESSAGE_BYTES))
}

/// A small generator of known quality (SplitMix64): a seed gives the same coins on every machine.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// A socket whose writes never wait: a thread of its own carries them out, in order. As in JavaScript, the queue is
/// unbounded.
struct Duplex {
    socket: TcpStream,
    out: ToWire,
}

/// The writing side: collects whole frames and hands them to the thread at each flush.
struct ToWire {
    collected: Vec<u8>,
    queue: Sender<Vec<u8>>,
}

impl Duplex {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(HANDSHAKE))?;
        let mut wire = socket.try_clone()?;
        let (queue, frames) = mpsc::channel::<Vec<u8>>();
        thread::spawn(move || {
            for bytes in frames {
                if wire.write_all(&bytes).is_err() {
                    break;
                }
            }
            let _ = wire.shutdown(Shutdown::Write);
        });
        Ok(Self { socket, out: ToWire { collected: Vec::new(), queue } })
    }
}

impl ToWire {
    fn another(&self) -> Self {
        Self { collected: Vec::new(), queue: self.queue.clone() }
    }
}

impl Read for Duplex {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }
}

impl Write for Duplex {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Read for ToWire {
    /// Only the link's own thread reads.
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for ToWire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.collected.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.collected.is_empty() {
            return Ok(());
        }
        self.queue.send(std::mem::take(&mut self.collected)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
