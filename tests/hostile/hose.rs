//! An attacker's socket that never waits: it pours the same bytes again and again, as fast as they are taken.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use super::stranger::Stranger;

/// What is done with what the node sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reads {
    /// It is read and forgotten.
    All,
    /// Nothing is read.
    Nothing,
}

/// See the module.
pub struct Hose {
    port: u16,
    /// A new address for each connection: who is banned comes from elsewhere.
    address: fn() -> Ipv4Addr,
    /// Sent once on each connection.
    first: Arc<[u8]>,
    /// Sent after that, again and again.
    then: Arc<[u8]>,
    reads: Reads,
    socket: Option<TcpStream>,
    /// Bytes of `first` and all repetitions that were sent on this connection.
    sent: usize,
}

impl Hose {
    pub fn new(port: u16, address: fn() -> Ipv4Addr, first: Arc<[u8]>, then: Arc<[u8]>, reads: Reads) -> Self {
        Self { port, address, first, then, reads, socket: None, sent: 0 }
    }

    /// Sends what is taken and reads what has come; connects anew when the node has had enough. Answers whether anything
    /// happened.
    pub fn pour(&mut self) -> bool {
        let Some(socket) = &mut self.socket else {
            let mut stranger = Stranger::connect(self.port, (self.address)());
            let socket = stranger.socket().try_clone().expect("a socket");
            socket.set_nonblocking(true).expect("a socket");
            (self.socket, self.sent) = (Some(socket), 0);
            return true;
        };
        let rest = match self.sent.checked_sub(self.first.len()) {
            None => &self.first[self.sent..],
            Some(_) if self.then.is_empty() => &[],
            Some(sent) => &self.then[sent % self.then.len()..],
        };
        let mut flowed = false;
        let mut ended = false;
        if !rest.is_empty() {
            match socket.write(rest) {
                Ok(count) => {
                    self.sent += count;
                    flowed = count > 0;
                }
                Err(error) => ended = error.kind() != ErrorKind::WouldBlock,
            }
        }
        if self.reads == Reads::All {
            let mut buffer = [0; 65_536];
            match socket.read(&mut buffer) {
                Ok(0) => ended = true,
                Ok(_) => flowed = true,
                Err(error) => ended |= error.kind() != ErrorKind::WouldBlock,
            }
        }
        if ended {
            self.socket = None;
        }
        flowed || ended
    }
}
