//! One blocking HTTP connection, for what is asked once or in sequence.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A keep-alive connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the node listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream: BufReader::with_capacity(1 << 20, stream) }
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.ask(&get(path))
    }

    pub fn post(&mut self, path: &str, json: &str) -> Answer {
        self.ask(&post(path, json))
    }

    /// Sends a request and reads a whole answer that says its length.
    pub fn ask(&mut self, request: &[u8]) -> Answer {
        self.send(request);
        let (status, length) = self.head();
        let mut body = vec![0; length.expect("an answer with a length")];
        self.stream.read_exact(&mut body).expect("a whole body");
        Answer { status, body }
    }

    pub fn send(&mut self, request: &[u8]) {
        self.stream.get_mut().write_all(request).expect("the node reads");
    }

    /// Reads an answer's head: status, and length of the body if it says so.
    pub fn head(&mut self) -> (u16, Option<usize>) {
        let (mut status, mut length, mut line) = (0, None, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a head");
            let line = line.trim_end();
            if line.is_empty() {
                return (status, length);
            }
            if let Some(code) = line.strip_prefix("HTTP/1.1 ") {
                status = code.get(..3).and_then(|code| code.parse().ok()).expect("a status");
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok();
            }
        }
    }

    /// Reads some bytes of a body as they come.
    pub fn some(&mut self) -> &[u8] {
        let seen = self.stream.buffer().len();
        self.stream.consume(seen);
        self.stream.fill_buf().expect("the node sends")
    }
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

pub fn post(path: &str, json: &str) -> Vec<u8> {
    let length = json.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    )
    .into_bytes()
}
