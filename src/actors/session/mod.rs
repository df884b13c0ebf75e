//! PeerSession: one socket. Inbound ones are WebSocket actors of the peer server, outbound ones frame an awc connection.
//!
//! Owns the way from frames to judged messages and back. Refuses to know the chain, other links, and what a message means:
//! all that is PeerManager's, which is told of every message and tells what to send.

mod inbound;
mod judging;
mod outbound;
mod shared;
mod socket;

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::prelude::*;
use actix_http::ws::{CloseCode, CloseReason, Item};
use bytes::Bytes;
use tracing::debug;

use super::clock;
use super::peers::{PeerManager, Register, Unregister};
use crate::ledger::chain::Origin;
use crate::ledger::outbox::Millis;
use crate::peer::assembly::{Assembler, AssemblyError, Limits, Message, Piece};
use crate::peer::budget::Holder;
use crate::peer::conduct::Offence;
use crate::peer::incoming;
use crate::peer::limits::{
    LITTLE_QUEUED, MAX_FIRST_MESSAGE, MAX_QUEUED, MAX_UNASKED_MESSAGE, SESSION_QUEUE, SESSION_QUEUE_BYTES,
};
use crate::peer::links::{DISMISSED, Direction};
use crate::peer::pace::{Flooded, Pace};
use crate::peer::sync::LinkId;

use judging::{Judging, Read};

pub use inbound::{Door, accept, admit, turn};
pub use outbound::{DialError, dial};
pub use shared::Shared;

/// Messages longer than this are read away from the link's thread.
const READ_ELSEWHERE: usize = 32 * 1024;

/// Text messages longer than this are sent in frames of [`PIECE`], each once the one before is on its way: a frame is copied
/// for each layer that it passes through.
const LONG: usize = 1024 * 1024;

/// Bytes of a frame of a long message.
const PIECE: usize = 64 * 1024;

/// Why a link ends that has to make room.
pub const MAKES_ROOM: &str = "the unfinished messages of all strangers take too much memory";

/// Why a link ends when the actors behind it are gone.
const STOPPING: &str = "the node is stopping";

/// Say this to the peer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Deliver(pub Out);

/// What can be said to a peer.
#[derive(Clone, Debug)]
pub enum Out {
    /// A text message.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A ping that carries the time it was sent.
    Ping,
    /// The end of the link, said to the peer.
    Close(Option<CloseReason>),
    /// The end of the link at once.
    Abort,
}

impl Out {
    fn len(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes.len(),
            Self::Ping | Self::Close(_) | Self::Abort => 0,
        }
    }
}

/// What a session and PeerManager know of one socket, without asking each other.
#[derive(Debug)]
pub struct Line {
    shared: Arc<Shared>,
    /// Its name in the room for unfinished messages.
    holder: Holder,
    /// When something was last heard, in the stopwatch's milliseconds.
    heard: AtomicU64,
    /// When the message began that is not complete; zero when none is.
    begun: AtomicU64,
    /// Bytes that the peer's next message may have, once its first is known.
    limit: AtomicUsize,
    /// When the link opened, in the stopwatch's milliseconds.
    opened: u64,
    /// Whether a whole message has come.
    spoke: AtomicBool,
    /// What was wrong with the peer's frames, and in words.
    fault: OnceLock<(Offence, String)>,
    /// Whether the peer's operator has ended the link.
    dismissed: AtomicBool,
    /// Whether the operator has named the peer.
    trusted: AtomicBool,
    /// Bytes that are held of a frame that is not complete.
    partial: AtomicUsize,
    /// Bytes that are held of a message whose further frames are still to come, or that waits to be read.
    joined: AtomicUsize,
    /// Whether these are counted with those of other strangers.
    counted: AtomicBool,
    /// The message that waits to be read.
    waiting: Waiting,
    /// Messages that wait to be sent.
    messages: AtomicUsize,
    /// Bytes that wait to be sent.
    bytes: AtomicUsize,
    /// What of these counts for all peers together.
    queued: AtomicUsize,
}

impl Line {
    fn new(shared: Arc<Shared>, socket: Option<Arc<TcpStream>>) -> Arc<Self> {
        let waiting = Waiting::default();
        let holder = shared.unfinished().enter(Eviction { socket, waiting: waiting.clone() });
        let opened = shared.stopwatch.millis();
        Arc::new(Self {
            holder,
            opened,
            heard: AtomicU64::new(opened),
            shared,
            begun: AtomicU64::new(0),
            limit: AtomicUsize::new(MAX_UNASKED_MESSAGE),
            spoke: AtomicBool::new(false),
            fault: OnceLock::new(),
            dismissed: AtomicBool::new(false),
            trusted: AtomicBool::new(false),
            partial: AtomicUsize::new(0),
            joined: AtomicUsize::new(0),
            waiting,
            counted: AtomicBool::new(false),
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
        })
    }

    /// When something was last heard, in the stopwatch's milliseconds.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// When the message began that is not complete, in the stopwatch's milliseconds.
    #[must_use]
    pub fn begun(&self) -> Option<u64> {
        Some(self.begun.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }

    /// Sets how long the peer's messages may be from now on; the first is always short.
    pub fn allow(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How long the peer's messages may be.
    #[must_use]
    pub fn allowed(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// The operator has named the peer.
    pub fn trust(&self) {
        self.trusted.store(true, Ordering::Relaxed);
    }

    /// Since when the link is open without a whole message, in the stopwatch's milliseconds.
    #[must_use]
    pub fn silent(&self) -> Option<u64> {
        (!self.spoke.load(Ordering::Relaxed)).then_some(self.opened)
    }

    /// How far the peer is trusted.
    fn origin(&self) -> Origin {
        if self.trusted.load(Ordering::Relaxed) { Origin::Trusted } else { Origin::Stranger }
    }

    /// Whether the peer's operator has ended the link.
    #[must_use]
    pub fn dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }

    /// Whether the link has to end so that others have room for their messages.
    #[must_use]
    pub fn makes_room(&self) -> bool {
        self.counted.load(Ordering::Relaxed) && self.shared.unfinished().is_evicted(self.holder)
    }

    /// Takes note of what is held of a frame that is not complete. Answers whether there is room for it.
    fn hold_partial(&self, bytes: usize) -> bool {
        self.partial.store(bytes, Ordering::Relaxed);
        self.count()
    }

    /// Takes note of what is held of a message whose further frames are still to come, or that waits to be read. Answers
    /// whether there is room.
    fn hold_joined(&self, bytes: usize) -> bool {
        self.joined.store(bytes, Ordering::Relaxed);
        self.count()
    }

    /// Counts what is held with what other strangers hold. Little is not counted, nor a chain that we asked for.
    fn count(&self) -> bool {
        let held = self.partial.load(Ordering::Relaxed) + self.joined.load(Ordering::Relaxed);
        let free = self.origin() == Origin::Trusted || self.allowed() > MAX_UNASKED_MESSAGE;
        let counts = !free && held > MAX_FIRST_MESSAGE;
        let counted = self.counted.swap(counts, Ordering::Relaxed);
        if !counts && !counted {
            return true;
        }
        let mut unfinished = self.shared.unfinished();
        let goes_on = unfinished.hold(self.holder, if counts { held } else { 0 });
        let evicted = unfinished.take_evicted();
        drop(unfinished);
        // At once: what they hold is no longer counted.
        evicted.into_iter().for_each(Eviction::carry_out);
        goes_on
    }

    /// What was wrong with the peer's frames: too long, out of order, none at all, or too many; and in words.
    #[must_use]
    pub fn fault(&self) -> Option<&(Offence, String)> {
        self.fault.get()
    }

    /// Takes note of what was wrong first.
    fn blame(&self, offence: Offence, reason: &impl ToString) {
        self.fault.get_or_init(|| (offence, reason.to_string()));
    }

    /// Takes note of why the peer says that it ends the link.
    fn note_goodbye(&self, reason: Option<&CloseReason>) {
        if reason.is_some_and(|reason| reason.code == CloseCode::Other(DISMISSED)) {
            self.dismissed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether nothing waits to be sent.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.messages.load(Ordering::Relaxed) == 0
    }

    fn limits(&self) -> Limits {
        Limits { first: MAX_FIRST_MESSAGE, later: self.allowed() }
    }

    fn note_heard(&self, inside: bool) {
        let now = self.shared.stopwatch.millis().max(1);
        self.heard.store(now, Ordering::Relaxed);
        if !inside {
            self.begun.store(0, Ordering::Relaxed);
        } else if self.begun.load(Ordering::Relaxed) == 0 {
            self.begun.store(now, Ordering::Relaxed);
        }
    }

    /// Makes room for a message in the queue; `false` when the peer, or all strangers together, have too much to read
    /// already. One message that is larger than the whole queue is let through when nothing waits.
    fn queue(&self, length: usize) -> bool {
        let (messages, bytes) = (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        if messages >= SESSION_QUEUE || (bytes > 0 && bytes + length > SESSION_QUEUE_BYTES) {
            return false;
        }
        let little = bytes + length <= LITTLE_QUEUED || self.origin() == Origin::Trusted;
        if !little && self.shared.queued.load(Ordering::Relaxed) + counted(length) > MAX_QUEUED {
            return false;
        }
        self.queue_anyway(length);
        true
    }

    fn queue_anyway(&self, length: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(length, Ordering::Relaxed);
        self.shared.queued.fetch_add(counted(length), Ordering::Relaxed);
        self.queued.fetch_add(counted(length), Ordering::Relaxed);
    }

    fn unqueue(&self, length: usize) {
        self.begin(length);
        self.done();
    }

    /// A message leaves the queue and is being sent.
    fn begin(&self, length: usize) {
        self.bytes.fetch_sub(length, Ordering::Relaxed);
        self.shared.queued.fetch_sub(counted(length), Ordering::Relaxed);
        self.queued.fetch_sub(counted(length), Ordering::Relaxed);
    }

    /// A message was sent.
    fn done(&self) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What of a message counts for all peers together: a whole chain is one text for all of them.
fn counted(length: usize) -> usize {
    if length > SESSION_QUEUE_BYTES { 0 } else { length }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.unfinished().leave(self.holder);
        self.shared.queued.fetch_sub(*self.queued.get_mut(), Ordering::Relaxed);
    }
}

/// A message that waits to be read on another thread. Whoever takes it first has it: the thread, or who has to make room.
#[derive(Clone, Debug, Default)]
struct Waiting(Arc<Mutex<Option<Message>>>);

impl Waiting {
    fn put(&self, message: Message) {
        *self.slot() = Some(message);
    }

    fn take(&self) -> Option<Message> {
        self.slot().take()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Message>> {
        // A message that a thread panicked beside is a message all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a session makes room for others that has to.
#[derive(Debug)]
pub struct Eviction {
    /// The socket of a session that is not polled while its peer does not read. Others see by themselves that they have to go.
    socket: Option<Arc<TcpStream>>,
    waiting: Waiting,
}

impl Eviction {
    fn carry_out(self) {
        drop(self.waiting.take());
        // It may be closed already.
        let _ = self.socket.map(|socket| socket.shutdown(Shutdown::Both));
    }
}

/// How PeerManager speaks to a session.
#[derive(Clone, Debug)]
pub struct Handle {
    to: Recipient<Deliver>,
    line: Arc<Line>,
    /// The socket of a session that is not polled while its peer does not read: it can only be ended from outside.
    socket: Option<Arc<TcpStream>>,
}

impl Handle {
    /// What is known of the socket.
    #[must_use]
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Sends, unless the peer has too much to read already or is gone.
    #[must_use]
    pub fn send(&self, out: Out) -> bool {
        let length = out.len();
        if !self.line.queue(length) {
            return false;
        }
        match &out {
            Out::Text(text) => self.line.shared.metrics.sent.text(text),
            Out::Binary(frame) => self.line.shared.metrics.sent.frame(frame),
            Out::Ping | Out::Close(_) | Out::Abort => {}
        }
        let sent = self.to.try_send(Deliver(out)).is_ok();
        if !sent {
            self.line.unqueue(length);
        }
        sent
    }

    /// Ends the link: politely, or by its socket when the peer does not read.
    pub fn close(&self, reason: Option<CloseReason>) {
        if !self.send(Out::Close(reason)) {
            self.kill();
        }
    }

    /// Ends the link by its socket.
    pub fn kill(&self) {
        match &self.socket {
            // It may be closed already.
            Some(socket) => drop(socket.shutdown(Shutdown::Both)),
            // An outbound session is always polled: the notice reaches it, whatever waits for the peer.
            None => {
                self.line.queue_anyway(0);
                self.to.do_send(Deliver(Out::Abort));
            }
        }
    }
}

/// What inbound and outbound sessions have in common.
struct Core {
    manager: Addr<PeerManager>,
    line: Arc<Line>,
    link: Option<LinkId>,
    remote: SocketAddr,
    assembler: Assembler,
    judging: Judging,
    pace: Pace,
    /// Whether a whole message has come.
    known: bool,
}

/// What a session does next.
enum Step {
    /// Goes on.
    Nothing,
    /// Reads this message here.
    Here(Message),
    /// Reads the message that waits, which has so many bytes, on another thread.
    Elsewhere(Waiting, usize),
    /// Ends the link.
    End(String),
}

impl Core {
    fn new(
        manager: Addr<PeerManager>,
        shared: Arc<Shared>,
        remote: SocketAddr,
        socket: Option<Arc<TcpStream>>,
    ) -> Self {
        let (assembler, judging, pace) = (Assembler::default(), Judging::default(), Pace::default());
        Self { manager, line: Line::new(shared, socket), link: None, remote, assembler, judging, pace, known: false }
    }

    fn now(&self) -> Millis {
        self.line.shared.stopwatch.millis()
    }

    /// For how many milliseconds to read nothing more after a frame of so many bytes.
    fn pause(&mut self, bytes: usize) -> Millis {
        if self.line.origin() == Origin::Trusted {
            self.pace.trust();
        }
        self.pace.frame(bytes, self.now())
    }

    fn register(&self, direction: Direction, to: Recipient<Deliver>, socket: Option<Arc<TcpStream>>) -> Register {
        Register { direction, remote: self.remote, handle: Handle { to, line: self.line.clone(), socket } }
    }

    fn take(&mut self, piece: Piece) -> Step {
        let limits = self.line.limits();
        let result = self.assembler.push(piece, if self.known { limits.later } else { limits.first });
        self.line.note_heard(self.assembler.inside());
        if !self.line.hold_joined(self.assembler.held()) {
            return Step::End(MAKES_ROOM.to_owned());
        }
        match result {
            Ok(None) => Step::Nothing,
            Ok(Some(message)) => {
                self.known = true;
                self.line.spoke.store(true, Ordering::Relaxed);
                let received = &self.line.shared.metrics.received;
                let length = match &message {
                    Message::Text(text) => {
                        received.text(text.as_bytes());
                        text.len()
                    }
                    Message::Binary(bytes) => {
                        received.frame(bytes);
                        bytes.len()
                    }
                };
                if length <= READ_ELSEWHERE {
                    return Step::Here(message);
                }
                // Of a peer that the operator named several may wait, and none has to make room.
                let waiting = match self.line.origin() {
                    Origin::Trusted => Waiting::default(),
                    Origin::Stranger => self.line.waiting.clone(),
                };
                waiting.put(message);
                // Until it was read it takes as much as before it was whole.
                if self.line.hold_joined(length) {
                    Step::Elsewhere(waiting, length)
                } else {
                    Step::End(MAKES_ROOM.to_owned())
                }
            }
            Err(error) => {
                self.line.blame(Offence::Framing, &error);
                Step::End(error.to_string())
            }
        }
    }

    /// A control frame came: the peer lives.
    fn hear(&mut self) -> Result<(), Flooded> {
        self.line.note_heard(self.assembler.inside());
        let now = self.now();
        self.pace.control(now).inspect_err(|flooded| self.line.blame(Offence::Flood, flooded))
    }

    fn pong(&mut self, payload: &[u8]) -> Result<(), Flooded> {
        self.hear()?;
        if let (Some(link), Ok(sent)) = (self.link, payload.try_into().map(u64::from_be_bytes)) {
            let latency = self.line.shared.stopwatch.micros().saturating_sub(sent);
            // Lost when PeerManager is gone, and then nobody asks.
            let _ = self.manager.try_send(super::peers::Latency { link, millis: latency as f64 / 1000.0 });
        }
        Ok(())
    }

    /// The payload of a ping: the time.
    fn ping(&self) -> Bytes {
        Bytes::copy_from_slice(&self.line.shared.stopwatch.micros().to_be_bytes())
    }

    /// The session ends.
    fn leave(&mut self) {
        if let Some(link) = self.link.take() {
            self.manager.do_send(Unregister { link });
        }
    }
}

/// A session of either direction.
trait Session: Actor<Context: AsyncContext<Self>> {
    fn core(&mut self) -> &mut Core;

    /// Says goodbye and stops.
    fn end(&mut self, ctx: &mut Self::Context);
}

/// Ends a session and says why in the log.
fn end<S: Session>(session: &mut S, reason: &str, ctx: &mut S::Context) {
    debug!(remote = %session.core().remote, reason, "link ends");
    session.end(ctx);
}

/// Registers a session that has just opened; nothing is heard before PeerManager has taken it.
fn register<S: Session>(session: &mut S, register: Register, ctx: &mut S::Context) {
    let answer = session.core().manager.send(register);
    ctx.wait(wrap_future::<_, S>(answer).map(|answer, session, ctx| match answer {
        Ok(Ok(link)) => session.core().link = Some(link),
        Ok(Err(refusal)) => end(session, &refusal.to_string(), ctx),
        Err(_) => end(session, STOPPING, ctx),
    }));
}

/// Takes a frame: reads the message that it completes, and tells PeerManager of it.
fn take<S: Session>(session: &mut S, piece: Piece, ctx: &mut S::Context) {
    let wait = session.core().pause(piece.bytes());
    pause::<S>(wait, ctx);
    match session.core().take(piece) {
        Step::Nothing => {}
        Step::Here(message) => judging::tell(session, read(message), ctx),
        Step::Elsewhere(waiting, bytes) => {
            let line = &session.core().line;
            let judged = line.shared.clone().judge(line.origin(), move || waiting.take().map(read));
            judging::judge(session, bytes, judged, ctx);
        }
        Step::End(reason) => end(session, &reason, ctx),
    }
}

/// Reads nothing for a while: the peer's own queue fills, and it sends no faster than it is read.
fn pause<S: Session>(millis: Millis, ctx: &mut S::Context) {
    if millis > 0 {
        ctx.wait(wrap_future::<_, S>(actix_web::rt::time::sleep(Duration::from_millis(millis))));
    }
}

/// A long text message in frames that follow each other.
fn pieces(mut rest: Bytes) -> impl Iterator<Item = Item> {
    let mut first = true;
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let piece = rest.split_to(rest.len().min(PIECE));
        ended = rest.is_empty();
        Some(match (std::mem::take(&mut first), ended) {
            (true, _) => Item::FirstText(piece),
            (false, false) => Item::Continue(piece),
            (false, true) => Item::Last(piece),
        })
    })
}

/// Reads a message; the same work whichever thread does it.
fn read(message: Message) -> Read {
    incoming::read(message, clock::unix_time())
}

/// A continuation frame as a piece.
fn continuation(item: Item) -> Piece {
    match item {
        Item::FirstText(bytes) => Piece::FirstText(bytes),
        Item::FirstBinary(bytes) => Piece::FirstBinary(bytes),
        Item::Continue(bytes) => Piece::Continue(bytes),
        Item::Last(bytes) => Piece::Last(bytes),
    }
}

impl From<AssemblyError> for actix_web::error::PayloadError {
    fn from(error: AssemblyError) -> Self {
        Self::Io(std::io::Error::other(error))
    }
}
