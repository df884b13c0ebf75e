//! Many keep-alive connections on one thread, each with one request on its way. Cheap: two system calls a request.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// What a load was.
pub struct Load {
    pub requests: usize,
    pub seconds: f64,
    /// Milliseconds, ascending.
    latencies: Vec<f64>,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// Milliseconds within which this part of the requests was answered.
    pub fn within(&self, part: f64) -> f64 {
        quantile(&self.latencies, part)
    }
}

/// The value below which this part of an ascending list is.
pub fn quantile(ascending: &[f64], part: f64) -> f64 {
    let place = (ascending.len() as f64 * part) as usize;
    ascending.get(place.min(ascending.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// The middle one.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile(values, 0.5)
}

struct Connection {
    stream: TcpStream,
    sent: Instant,
    buffer: Vec<u8>,
}

/// Keeps `connections` busy for so long. `request` writes the next request; every answer must be 200.
pub fn run(address: SocketAddr, connections: usize, time: Duration, mut request: impl FnMut(&mut Vec<u8>)) -> Load {
    let mut poll = Poll::new().expect("epoll");
    let mut events = Events::with_capacity(connections);
    let mut text = Vec::new();
    let mut open: Vec<Connection> = (0..connections)
        .map(|number| {
            let stream = std::net::TcpStream::connect(address).expect("the node listens");
            stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).expect("a TCP socket");
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE).expect("epoll takes it");
            Connection { stream, sent: Instant::now(), buffer: Vec::new() }
        })
        .collect();
    let begun = Instant::now();
    for connection in &mut open {
        send(connection, &mut text, &mut request);
    }
    let (mut busy, mut last) = (connections, begun);
    let mut latencies = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while busy > 0 {
        poll.poll(&mut events, Some(Duration::from_secs(10))).expect("epoll");
        assert!(!events.is_empty(), "{busy} of {connections} requests were not answered in 10 seconds");
        for event in &events {
            let connection = &mut open[event.token().0];
            if !receive(connection, &mut chunk) {
                continue;
            }
            last = Instant::now();
            latencies.push((last - connection.sent).as_secs_f64() * 1e3);
            if last - begun < time {
                send(connection, &mut text, &mut request);
            } else {
                busy -= 1;
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    Load { requests: latencies.len(), seconds: (last - begun).as_secs_f64(), latencies }
}

fn send(connection: &mut Connection, text: &mut Vec<u8>, request: &mut impl FnMut(&mut Vec<u8>)) {
    text.clear();
    request(text);
    connection.sent = Instant::now();
    // A request is far smaller than a socket's buffer, and nothing else is in it.
    let sent = connection.stream.write(text).expect("the node reads");
    assert_eq!(sent, text.len());
}

/// Reads what has come; whether an answer is whole.
fn receive(connection: &mut Connection, chunk: &mut [u8]) -> bool {
    loop {
        match connection.stream.read(chunk) {
            Ok(0) => panic!("the node has closed a connection"),
            Ok(count) => connection.buffer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => panic!("reading an answer: {error}"),
        }
        if is_whole(&connection.buffer) {
            connection.buffer.clear();
            return true;
        }
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(answer));
    const NAME: &[u8] = b"content-length: ";
    let at = answer[..end].windows(NAME.len()).position(|bytes| bytes == NAME).expect("an answer says its length");
    let digits = answer[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    answer.len() >= end + 4 + length
}
