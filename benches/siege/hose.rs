//! An attacker's socket that never waits: it pours the same bytes again and again, as fast as they are taken.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::field::address;
use super::stranger;

/// What is done with what the node sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reads {
    /// It is read and forgotten.
    All,
    /// Nothing is read.
    Nothing,
}

/// Connections that attackers open at once, and after that in a second, all together. The system remembers each for two
/// minutes; when it has no room for more, it drops everybody's packets.
const CONNECTS: u64 = 2_000;
const CONNECTS_A_SECOND: u64 = 8_000;

/// What attackers got across, all together.
#[derive(Debug)]
pub struct Tally {
    begun: Instant,
    /// Connections that were opened.
    pub connects: AtomicU64,
    /// Bytes that the node took, or its system.
    pub sent: AtomicU64,
    /// Bytes that it answered with.
    pub heard: AtomicU64,
}

impl Tally {
    /// Nothing yet: the attack begins now.
    pub fn new() -> Arc<Self> {
        let [connects, sent, heard] = Default::default();
        Arc::new(Self { begun: Instant::now(), connects, sent, heard })
    }

    /// Opens a connection from an address that no stranger had before; `None` if none is taken, or it is too early.
    pub fn connect(&self, port: u16) -> Option<TcpStream> {
        let most = CONNECTS + (self.begun.elapsed().as_secs_f64() * CONNECTS_A_SECOND as f64) as u64;
        if self.connects.load(Ordering::Relaxed) >= most {
            return None;
        }
        let socket = stranger::connect(port, address()).ok()?;
        self.connects.fetch_add(1, Ordering::Relaxed);
        Some(socket)
    }
}

/// See the module.
pub struct Hose {
    port: u16,
    /// Sent once on each connection.
    first: Arc<[u8]>,
    /// Sent after that, again and again.
    then: Arc<[u8]>,
    reads: Reads,
    tally: Arc<Tally>,
    socket: Option<TcpStream>,
    /// Bytes of `first` and all repetitions that were sent on this connection.
    sent: usize,
}

impl Hose {
    pub fn new(port: u16, first: Arc<[u8]>, then: Arc<[u8]>, reads: Reads, tally: Arc<Tally>) -> Self {
        Self { port, first, then, reads, tally, socket: None, sent: 0 }
    }

    /// Sends what is taken, at most `most` bytes, and reads what has come; connects anew, from elsewhere, when the node has
    /// had enough. Answers whether anything happened.
    pub fn pour(&mut self, most: usize) -> bool {
        let Some(socket) = &mut self.socket else {
            self.socket = self.tally.connect(self.port);
            if let Some(socket) = &self.socket {
                socket.set_nonblocking(true).expect("a socket");
            }
            self.sent = 0;
            return self.socket.is_some();
        };
        let rest = match self.sent.checked_sub(self.first.len()) {
            None => &self.first[self.sent..],
            Some(_) if self.then.is_empty() => &[],
            Some(sent) => &self.then[sent % self.then.len()..],
        };
        let (mut flowed, mut ended) = (false, false);
        if !rest.is_empty() {
            match socket.write(&rest[..rest.len().min(most)]) {
                Ok(count) => {
                    self.sent += count;
                    self.tally.sent.fetch_add(count as u64, Ordering::Relaxed);
                    flowed = count > 0;
                }
                Err(error) => ended = error.kind() != ErrorKind::WouldBlock,
            }
        }
        if self.reads == Reads::All {
            let mut buffer = [0; 65_536];
            match socket.read(&mut buffer) {
                Ok(0) => ended = true,
                Ok(count) => {
                    self.tally.heard.fetch_add(count as u64, Ordering::Relaxed);
                    flowed = true;
                }
                Err(error) => ended |= error.kind() != ErrorKind::WouldBlock,
            }
        }
        if ended {
            self.socket = None;
        }
        flowed || ended
    }
}
