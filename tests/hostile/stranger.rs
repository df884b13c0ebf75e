//! An attacker's socket: it sends what it is told, right or wrong, from an address of its own.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde_json::{Value, json};

/// No honest wait for an answer or an end takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// WebSocket opcodes with the bit that says that the message ends here.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;
pub const CLOSE: u8 = 0x88;

/// One connection.
pub struct Stranger {
    socket: TcpStream,
    /// What came and was not looked at yet.
    heard: Vec<u8>,
}

impl Stranger {
    /// Connects to a port of this machine from a loopback address: each case has its own, since a ban is for an address.
    pub fn connect(port: u16, from: Ipv4Addr) -> Self {
        let socket = connect(port, from).expect("the node listens");
        socket.set_nodelay(true).expect("a socket");
        socket.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Self { socket, heard: Vec::new() }
    }

    /// A link: the opening handshake is done.
    pub fn link(port: u16, from: Ipv4Addr) -> Self {
        let mut stranger = Self::connect(port, from);
        stranger.send(&handshake(""));
        let head = stranger.read_until(|heard| heard.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4));
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        stranger
    }

    /// A link that has said HELLO, with this tip.
    pub fn native(port: u16, from: Ipv4Addr, tip: (u64, &str)) -> Self {
        let mut stranger = Self::link(port, from);
        stranger.text(&hello(tip).to_string());
        stranger
    }

    /// Who this is.
    pub fn address(&self) -> IpAddr {
        self.socket.local_addr().expect("connected").ip()
    }

    /// The socket itself.
    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Sends bytes as they are. That the node has had enough in the middle of them is no failure.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Sends a whole frame, masked as a client must.
    pub fn frame(&mut self, first_byte: u8, payload: &[u8]) {
        self.send(&frame(first_byte, payload));
    }

    /// Sends a text message.
    pub fn text(&mut self, text: &str) {
        self.frame(TEXT, text.as_bytes());
    }

    /// Waits until the node has ended the connection. Answers whether it did.
    pub fn is_ended(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 65_536];
        while Instant::now() < end {
            let _ = self.socket.set_read_timeout(Some(Duration::from_millis(200)));
            match self.socket.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => self.heard.extend_from_slice(&buffer[..count.min(4096)]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                }
                Err(_) => return true,
            }
        }
        false
    }

    /// Whether the node still answers on this link.
    pub fn is_heard(&mut self) -> bool {
        let mark = *b"are you there";
        self.frame(PING, &mark);
        let pong = [&[0x8a, mark.len() as u8][..], &mark].concat();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.heard.windows(pong.len()).any(|found| found == pong) {
                return true;
            }
            if !self.read_some() {
                return false;
            }
        }
        false
    }

    /// The next text message that fits, as JSON.
    pub fn wait_text(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            while let Some(frame) = self.next_frame() {
                if let Ok(message) = serde_json::from_slice(&frame)
                    && wanted(&message)
                {
                    return message;
                }
            }
            assert!(self.read_some() && Instant::now() < end, "waited {PATIENCE:?} in vain for a message");
        }
    }

    /// Text messages of a type that have come until the link was quiet for a while.
    pub fn count_texts(&mut self, kind: u64, quiet: Duration) -> usize {
        let mut count = 0;
        let mut last = Instant::now();
        while last.elapsed() < quiet {
            if self.read_some_for(Duration::from_millis(50)) {
                while let Some(frame) = self.next_frame() {
                    last = Instant::now();
                    let message: Option<Value> = serde_json::from_slice(&frame).ok();
                    count += usize::from(message.is_some_and(|message| message["type"] == kind));
                }
            }
        }
        count
    }

    /// What an HTTP server answers: the status, or 0 for none.
    pub fn status(&mut self) -> u16 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.heard.split(|byte| *byte == b'\n').next().filter(|_| self.heard.contains(&b'\n')) {
                let line = String::from_utf8_lossy(line);
                return line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            }
            if !self.read_some() || Instant::now() > end {
                return 0;
            }
        }
    }

    /// What has come so far.
    pub fn heard(&self) -> &[u8] {
        &self.heard
    }

    /// Reads what there is. Answers whether the connection is still up.
    pub fn read_some(&mut self) -> bool {
        self.read_some_for(PATIENCE)
    }

    fn read_some_for(&mut self, patience: Duration) -> bool {
        let mut buffer = [0; 65_536];
        let _ = self.socket.set_read_timeout(Some(patience));
        match self.socket.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.heard.extend_from_slice(&buffer[..count]);
                true
            }
        }
    }

    fn read_until(&mut self, end: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        loop {
            if let Some(at) = end(&self.heard) {
                return self.heard.drain(..at).collect();
            }
            assert!(self.read_some(), "the node ended the handshake: {}", String::from_utf8_lossy(&self.heard));
        }
    }

    /// The payload of the next whole frame, which a server does not mask.
    fn next_frame(&mut self) -> Option<Vec<u8>> {
        let (header, length) = match *self.heard.get(1)? {
            126 => (4, u16::from_be_bytes(self.heard.get(2..4)?.try_into().ok()?).into()),
            127 => (10, u64::from_be_bytes(self.heard.get(2..10)?.try_into().ok()?) as usize),
            short => (2, usize::from(short)),
        };
        if self.heard.len() < header + length {
            return None;
        }
        Some(self.heard.drain(..header + length).skip(header).collect())
    }
}

/// A socket that is connected to a port of this machine, from a certain loopback address.
pub fn connect(port: u16, from: Ipv4Addr) -> io::Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(from, 0))?;
    rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(TcpStream::from(socket))
}

/// A WebSocket handshake, with more headers.
pub fn handshake(more: &str) -> Vec<u8> {
    format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
    .into_bytes()
}

/// A frame with a mask of zeros.
pub fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        middle @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// The hash of genesis.
pub const GENESIS: &str = "f087ad9b4600afd1c6451654a7df0f0f20795c95825c097a25469b7cf5287feb";

/// A HELLO that is as it should be.
pub fn hello((index, hash): (u64, &str)) -> Value {
    let node = format!("{:032x}", rand::random::<u128>());
    json!({ "type": 16, "data": {
        "protocol": 1, "node": node, "nonce": "0000000000000007", "genesis": GENESIS, "port": 0,
        "tip": { "index": index, "hash": hash }, "agent": "stranger",
    }})
}
