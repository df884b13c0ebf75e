//! A small HTTP/1.1 client that does only what it is told: any method, any header, any bytes.
//!
//! It knows keep-alive, `Content-Length` and chunked bodies, and reads a body as a stream where a test wants to.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// No answer takes longer; a node that hangs fails the test.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A request; nothing is added to it but `Host` and the length of its body.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// Any method and path.
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// `GET path`
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// `POST path` with JSON.
    pub fn post_json(path: &str, body: &str) -> Self {
        Self::new("POST", path).header("Content-Type", "application/json").body(body)
    }

    /// With a header; a `Host` replaces the usual one.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let has = |name: &str| self.headers.iter().any(|(found, _)| found.eq_ignore_ascii_case(name));
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !has("Host") {
            text += &format!("Host: {host}\r\n");
        }
        if !has("Content-Length") && !has("Transfer-Encoding") && (!self.body.is_empty() || self.method == "POST") {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// All headers, in order, as they came.
    pub headers: Vec<(String, String)>,
    /// The body, with the transfer's chunks joined.
    pub body: Vec<u8>,
}

impl Response {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("the body is JSON: {error}: {}", self.text()))
    }

    /// Panics with the whole answer if the status is another.
    #[must_use]
    pub fn expect(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "status; headers {:?}; body {}", self.headers, &body[..body.len().min(2000)]);
        self
    }

    /// Panics unless this is a problem with that status and a sentence; returns its JSON.
    pub fn problem(self, status: u16) -> serde_json::Value {
        let answer = self.expect(status);
        let kind = answer.header("Content-Type").unwrap_or_default();
        assert!(kind.starts_with("application/problem+json"), "a problem has its own type, not {kind:?}");
        let problem = answer.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["title"].is_string() || problem["detail"].is_string(), "a problem has a sentence: {problem}");
        problem
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// A connection that is kept between requests.
pub struct Connection {
    address: SocketAddr,
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to a port of the loopback address.
    pub fn open(port: u16) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { address, reader: BufReader::new(socket) })
    }

    /// Sends a request and reads the whole answer.
    pub fn send(&mut self, request: &Request) -> io::Result<Response> {
        self.send_raw(&request.bytes(self.address))?;
        self.receive(request.method == "HEAD")
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.reader.get_mut().shutdown(Shutdown::Write)
    }

    /// Another patience than a minute.
    pub fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.reader.get_mut().set_read_timeout(Some(timeout))
    }

    /// Reads one whole answer. With `bodiless` (to HEAD) none is expected behind the head.
    pub fn receive(&mut self, bodiless: bool) -> io::Result<Response> {
        let (status, headers) = read_head(&mut self.reader)?;
        let mut body = Vec::new();
        if !bodiless {
            Body::of(status, &headers, &mut self.reader)?.read_to_end(&mut body)?;
        }
        Ok(Response { status, headers, body })
    }

    /// Reads the head of an interim answer, and returns its status; the answer itself is still to come.
    pub fn receive_interim(&mut self) -> io::Result<u16> {
        Ok(read_any_head(&mut self.reader)?.0)
    }

    /// Sends a request and reads the head of the answer; the body is then read as it comes.
    pub fn stream(mut self, request: &Request) -> io::Result<Streaming> {
        self.send_raw(&request.bytes(self.address))?;
        let (status, headers) = read_head(&mut self.reader)?;
        let body = BufReader::new(Body::of(status, &headers, self.reader)?);
        Ok(Streaming { status, headers, body })
    }

    /// Whether the other side has closed; waits for that at most as long as reads may take.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.reader.fill_buf(), Ok([]))
            || matches!(self.reader.fill_buf(), Err(e) if e.kind() == io::ErrorKind::ConnectionReset)
    }
}

/// An answer whose body is still coming.
pub struct Streaming {
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: Vec<(String, String)>,
    /// The rest, without the transfer's chunks.
    pub body: BufReader<Body<BufReader<TcpStream>>>,
}

/// One server-sent event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Event {
    /// Its `id`.
    pub id: Option<String>,
    /// Its `event`.
    pub kind: Option<String>,
    /// Its `data`, lines joined.
    pub data: String,
}

impl Streaming {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The next server-sent event; comments and empty ones are skipped. `None` when the stream has ended.
    pub fn next_event(&mut self) -> io::Result<Option<Event>> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end_matches(['\r', '\n']);
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() && event != Event::default() => return Ok(Some(event)),
                "id" => event.id = Some(value.to_owned()),
                "event" => event.kind = Some(value.to_owned()),
                "data" if event.data.is_empty() => event.data = value.to_owned(),
                "data" => event.data = format!("{}\n{value}", event.data),
                _ => {}
            }
        }
    }
}

/// A status and its headers.
type Head = (u16, Vec<(String, String)>);

/// The head of the answer itself; an interim one (100 Continue) may stand before it.
fn read_head(reader: &mut impl BufRead) -> io::Result<Head> {
    loop {
        let (status, headers) = read_any_head(reader)?;
        if status >= 200 || status == 101 {
            return Ok((status, headers));
        }
    }
}

fn read_any_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let status_line = read_line(reader)?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| invalid(format!("no status line: {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid(format!("no header: {line:?}")))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// A body without the way in which it travels.
pub struct Body<R> {
    reader: R,
    left: Left,
}

/// What is still to come of a body.
enum Left {
    /// So many bytes.
    Bytes(u64),
    /// So many bytes of this chunk, then more chunks.
    Chunk(u64),
    /// Everything up to the end of the connection.
    All,
}

impl<R: BufRead> Body<R> {
    fn of(status: u16, headers: &[(String, String)], reader: R) -> io::Result<Self> {
        let left = if status == 204 || status == 304 || status == 101 {
            Left::Bytes(0)
        } else if find(headers, "Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            Left::Chunk(0)
        } else if let Some(length) = find(headers, "Content-Length") {
            Left::Bytes(length.parse().map_err(|_| invalid(format!("no length: {length:?}")))?)
        } else {
            Left::All
        };
        Ok(Self { reader, left })
    }

    /// Reads a chunk's size; at the last chunk also what follows it, and the body ends.
    fn next_chunk(&mut self) -> io::Result<()> {
        let line = read_line(&mut self.reader)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| invalid(format!("no chunk size: {line:?}")))?;
        if size == 0 {
            while !read_line(&mut self.reader)?.is_empty() {}
            self.left = Left::Bytes(0);
        } else {
            self.left = Left::Chunk(size);
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if matches!(self.left, Left::Chunk(0)) {
            self.next_chunk()?;
        }
        let (Left::Bytes(left) | Left::Chunk(left)) = self.left else { return self.reader.read(buffer) };
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let read = self.reader.read(&mut buffer[..room])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body was cut short"));
        }
        match &mut self.left {
            Left::Bytes(left) => *left -= read as u64,
            Left::Chunk(left) => {
                *left -= read as u64;
                if *left == 0 && !read_line(&mut self.reader)?.is_empty() {
                    return Err(invalid("a chunk is longer than it says".to_owned()));
                }
            }
            Left::All => {}
        }
        Ok(read)
    }
}

/// One request on a connection of its own.
pub fn request(port: u16, request: &Request) -> io::Result<Response> {
    Connection::open(port)?.send(&request.clone().header("Connection", "close"))
}
