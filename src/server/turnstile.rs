//! A connection that lets one request through at a time, reads crumbs together, and ends when its other end takes nothing or
//! hardly anything.
//!
//! The HTTP library reads ahead: of a client that sends without waiting it takes 128 KiB of requests at once, some thousands,
//! and keeps kilobytes for each before anybody has looked at one. Whoever sends many and reads no answer fills the memory that
//! way, and has a worker busy for seconds, in which honest callers of the same worker are cut off: their deadlines are
//! counted from a clock that the worker sets. So a [`Turnstile`] stands between library and socket. What a client sends
//! before its turn waits where it costs nothing: in the client's system and ours.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_web::rt::time::{Instant, Sleep, sleep, sleep_until};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

use super::line::{Line, Standing};
use super::pieces::Pieces;
use super::places::Place;
use super::reading::{Length, Reading};
use super::taking::Taking;

/// Bytes that are read from the socket at once.
const AT_ONCE: usize = 8 * 1024;

/// Bytes of a link that are read in one go before they are looked at and others have their turn: what the library collects
/// of a link is no more than that.
const OF_A_LINK: usize = 16 * 1024;

/// Bytes that are written in one go before others have their turn: a tenth of a millisecond's work.
const IN_A_TURN: usize = 128 * 1024;

/// What the routes and the connection know of each other.
#[derive(Debug)]
pub struct Turnstile {
    reading: RefCell<Reading>,
    pieces: RefCell<Pieces>,
    /// Whether the other end takes nothing at present.
    stuck: Cell<bool>,
    /// Whether the connection has become a link: all is let through.
    link: Cell<bool>,
    /// Whoever waits until more may be read.
    waiting: RefCell<Option<Waker>>,
    line: Rc<Line>,
    /// Its place in the line while it has more to be read already.
    standing: RefCell<Option<Standing>>,
    /// Its place among the connections of its port, where those are counted.
    place: OnceCell<Place>,
}

/// A request's turn: until it is dropped nothing of the next one is read.
#[derive(Debug)]
pub struct Turn(Rc<Turnstile>);

impl Turnstile {
    fn new(line: Rc<Line>) -> Rc<Self> {
        Rc::new(Self {
            reading: RefCell::default(),
            pieces: RefCell::default(),
            stuck: Cell::new(false),
            link: Cell::new(false),
            waiting: RefCell::default(),
            line,
            standing: RefCell::default(),
            place: OnceCell::new(),
        })
    }

    /// Has its phases known to whoever counts connections.
    pub fn take_place(&self, place: Place) {
        // A connection opens once.
        let _ = self.place.set(place);
    }

    /// A request's head was read, and its body ends like this.
    #[must_use]
    pub fn begin(self: &Rc<Self>, length: Length) -> Turn {
        self.reading.borrow_mut().expect(length);
        self.pieces.borrow_mut().begin();
        self.stir();
        if !self.reading.borrow().in_answer() {
            // Its body may be read.
            self.wake();
        }
        Turn(self.clone())
    }

    /// The connection is a link from now on, or a stream, which is bounded elsewhere.
    pub fn stream(&self) {
        if let Some(place) = self.place.get() {
            place.leave();
        }
    }

    /// The connection has become a link: what comes is no request.
    pub fn become_link(&self) {
        self.link.set(true);
        self.wake();
    }

    /// How many of these bytes may be read now.
    fn admit(&self, bytes: &[u8]) -> usize {
        if self.link.get() {
            return bytes.len();
        }
        let mut reading = self.reading.borrow_mut();
        // Who does not read answers needs no more of them.
        if self.stuck.get() && reading.in_head() {
            return 0;
        }
        let was_head = reading.in_head();
        let count = reading.admit(bytes);
        // Whoever reads a head says so himself.
        let whole = count > 0 && !was_head && reading.in_answer();
        drop(reading);
        if whole {
            self.stir();
        }
        count
    }

    /// A piece of so many bytes has come. Answers how long no other is to be read.
    fn piece(&self, bytes: usize) -> Option<Duration> {
        if self.link.get() { None } else { self.pieces.borrow_mut().read(bytes) }
    }

    fn in_head(&self) -> bool {
        !self.link.get() && self.reading.borrow().in_head()
    }

    /// Something has begun or ended.
    fn stir(&self) {
        if let Some(place) = self.place.get() {
            place.stir(self.reading.borrow().in_answer());
        }
    }

    fn wake(&self) {
        let waker = self.waiting.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wait(&self, task: &Context<'_>) {
        *self.waiting.borrow_mut() = Some(task.waker().clone());
    }

    /// Has the next request wait in line, if it is there already: then somebody waits to read it.
    fn line_up(&self) {
        let waiting = self.waiting.borrow_mut().take();
        if let Some(task) = waiting {
            self.stand(task);
        }
    }

    fn stand(&self, task: Waker) {
        *self.standing.borrow_mut() = Some(self.line.stand(task));
    }

    /// Ready unless it stands in line and it is another's turn.
    fn poll_turn(&self, task: &Context<'_>) -> Poll<()> {
        let mut standing = self.standing.borrow_mut();
        if standing.as_ref().is_some_and(|standing| standing.poll(task).is_pending()) {
            return Poll::Pending;
        }
        *standing = None;
        Poll::Ready(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.reading.borrow_mut().answered();
        self.0.pieces.borrow_mut().begin();
        self.0.stir();
        self.0.line_up();
    }
}

/// See the module.
pub struct Turning<S> {
    socket: S,
    remote: Option<SocketAddr>,
    turnstile: Rc<Turnstile>,
    /// What was read from the socket and may not be read yet.
    held: BytesMut,
    /// Runs while nothing is to be read.
    pause: Option<Pin<Box<Sleep>>>,
    /// Whether the task has had its bit and is to look at it first.
    look: bool,
    /// Bytes of a link that were read in this turn.
    read: usize,
    /// Bytes written in this turn.
    written: usize,
    taking: Taking,
    /// Runs while the other end takes nothing.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<S> Turning<S> {
    /// A connection that has just opened.
    pub fn new(socket: S, remote: Option<SocketAddr>, line: Rc<Line>) -> Self {
        let turnstile = Turnstile::new(line);
        Self {
            socket,
            remote,
            turnstile,
            held: BytesMut::new(),
            pause: None,
            look: false,
            read: 0,
            written: 0,
            taking: Taking::default(),
            patience: None,
        }
    }

    /// The connection itself.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// Its other end; `None` if it was closed before anybody looked.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// What the routes are to know of it.
    pub fn turnstile(&self) -> &Rc<Turnstile> {
        &self.turnstile
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Turning<S> {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.written = 0;
        if std::mem::take(&mut this.look) {
            this.read = 0;
            if !this.turnstile.link.get() {
                // In the middle of a long head: a browser's, as likely as not.
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.turnstile.stand(task.waker().clone());
        }
        ready!(this.turnstile.poll_turn(task));
        if this.held.is_empty() {
            if this.pause.as_mut().is_some_and(|pause| pause.as_mut().poll(task).is_pending()) {
                return Poll::Pending;
            }
            this.pause = None;
            let mut bytes = [MaybeUninit::uninit(); AT_ONCE];
            let mut read = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut this.socket).poll_read(task, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {
                    this.held.extend_from_slice(read.filled());
                    this.pause = this.turnstile.piece(this.held.len()).map(|pause| Box::pin(sleep(pause)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    this.read = 0;
                    return Poll::Pending;
                }
            }
        }
        let count = this.turnstile.admit(&this.held[..this.held.len().min(into.remaining())]);
        if count == 0 {
            this.turnstile.wait(task);
            return Poll::Pending;
        }
        into.put_slice(&this.held[..count]);
        this.held.advance(count);
        this.read += count;
        this.look = if this.turnstile.link.get() {
            this.read >= OF_A_LINK
        } else {
            !this.held.is_empty() && this.turnstile.in_head()
        };
        if this.held.is_empty() {
            // Nothing is kept of a connection that waits.
            this.held = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Turning<S> {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.written >= IN_A_TURN {
            this.written = 0;
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        let some = &bytes[..bytes.len().min(IN_A_TURN - this.written)];
        match Pin::new(&mut this.socket).poll_write(task, some) {
            Poll::Ready(written) => {
                let count = written.as_ref().map_or(0, |count| *count);
                this.written += count;
                this.taking.took(count, bytes.len().saturating_sub(count));
                if this.turnstile.stuck.replace(false) {
                    this.turnstile.wake();
                }
                Poll::Ready(written)
            }
            Poll::Pending => {
                this.turnstile.stuck.set(true);
                // Links that do not read are PeerManager's to judge.
                if this.turnstile.link.get() {
                    return Poll::Pending;
                }
                let until = this.taking.waits(Instant::now().into_std()).into();
                let patience = this.patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
                if patience.deadline() != until {
                    patience.as_mut().reset(until);
                }
                if patience.as_mut().poll(task).is_pending() {
                    return Poll::Pending;
                }
                debug!(remote = ?this.remote, "a client takes nothing, or hardly anything, and is cut off");
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes too little")))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::pin::pin;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    /// Milliseconds until a connection has read each of these pieces, whose other end never waits.
    async fn read_times(turnstile: impl Fn(&Rc<Turnstile>), pieces: &[&[u8]]) -> Vec<u128> {
        let (mut far, near) = duplex(1);
        let mut connection = Turning::new(near, None, Rc::default());
        turnstile(connection.turnstile());
        let begun = Instant::now();
        let sent = pieces.concat();
        let sending = tokio::spawn(async move { far.write_all(&sent).await.map(|()| far) });
        let mut times = Vec::new();
        for piece in pieces {
            let mut bytes = vec![0; piece.len()];
            connection.read_exact(&mut bytes).await.expect("it is open");
            assert_eq!(bytes, *piece);
            times.push(begun.elapsed().as_millis());
            if bytes.ends_with(b"\r\n\r\n") {
                drop(connection.turnstile().begin(Length::Bytes(0)));
            }
        }
        drop(sending.await.expect("no panic"));
        times
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_in_crumbs_is_read_more_slowly() {
        let crumbs: Vec<&[u8]> = HEAD.chunks(1).collect();
        let times = read_times(|_| {}, &crumbs).await;
        assert_eq!(
            times,
            [&[0; 16][..], &[0, 100]].concat(),
            "sixteen as they come, and after each further one a pause"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_counts_by_itself_and_a_link_is_none() {
        let short = b"GET /\r\n\r\n";
        let times = read_times(|_| {}, &[&short[..]; 3]).await;
        assert_eq!(times, [0; 3], "nine pieces each");
        let times = read_times(|turnstile| turnstile.become_link(), &[&[0; 100][..]]).await;
        assert_eq!(times, [0]);
    }

    async fn is_pending(future: impl Future) -> bool {
        let mut future = pin!(future);
        poll_fn(|task| Poll::Ready(future.as_mut().poll(task).is_pending())).await
    }

    /// Serves requests that are all there already, as the HTTP library does: the next is asked for before the answer is done.
    async fn serve(mut connection: Turning<DuplexStream>, served: Rc<Cell<usize>>) {
        let mut request = [0; 64];
        for _ in 0..100 {
            assert_eq!(connection.read(&mut request).await.expect("it is open"), b"GET /\r\n\r\n".len());
            assert!(is_pending(connection.read(&mut request)).await, "one at a time");
            let turn = connection.turnstile().begin(Length::Bytes(0));
            served.set(served.get() + 1);
            drop(turn);
        }
    }

    #[tokio::test]
    async fn who_comes_is_looked_for_after_a_few_requests_of_those_that_have_more_there() {
        let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        near.set_nonblocking(true).expect("a socket");
        let mut caller = tokio::net::UnixStream::from_std(near).expect("a runtime");
        let worker = LocalSet::new();
        let told = worker.run_until(async move {
            let (line, served) = (Line::open(), Rc::<Cell<usize>>::default());
            let (mut clients, mut tasks) = (Vec::new(), Vec::new());
            for _ in 0..20 {
                let (mut client, near) = duplex(1024);
                client.write_all(&b"GET /\r\n\r\n".repeat(100)).await.expect("it has room");
                clients.push(client);
                tasks.push(spawn_local(serve(Turning::new(near, None, Rc::clone(&line)), Rc::clone(&served))));
            }
            let so_far = Rc::clone(&served);
            let called = spawn_local(async move {
                // Whoever waits is known to the runtime from here on.
                assert!(is_pending(caller.read_u8()).await);
                (&far).write_all(b"!").expect("it is open");
                caller.read_u8().await.expect("it was written");
                so_far.get()
            });
            for task in tasks {
                task.await.expect("no panic");
            }
            (called.await.expect("no panic"), served.get())
        });
        // The first of each is no more there than anybody's.
        assert_eq!(told.await, (20, 2_000));
    }
}
