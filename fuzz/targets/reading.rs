//! A connection's bytes behind the turnstile of the HTTP port: however they are cut, requests end where a plain reading of
//! all of them says, and nothing is admitted before an answer.
#![no_main]

use arbitrary::Arbitrary;
use dolmen::reading::{Length, Reading};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    stream: Vec<Part<'a>>,
    /// How the body of each request ends whose head does not say it, in turn.
    bodies: Vec<Body>,
    pieces: Vec<u8>,
    others: Vec<u8>,
}

#[derive(Debug, Arbitrary)]
enum Part<'a> {
    Raw(&'a [u8]),
    Line(&'a [u8]),
    Head { line_feeds: bool, length: Option<u16> },
    Chunk(u8),
    LastChunk,
    Filler(u16),
}

#[derive(Clone, Copy, Debug, Default, Arbitrary)]
struct Body {
    chunks: bool,
    /// Whether the answer is on its way before the body was read.
    early: bool,
}

impl Body {
    /// What a reader of this head says.
    fn length(self, head: &[u8]) -> Length {
        let line = |line: &[u8]| {
            let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
            if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
        };
        match head.split(|byte| *byte == b'\n').find_map(line) {
            Some(count) => Length::Bytes(count as u64),
            None if self.chunks => Length::Chunks,
            None => Length::Bytes(0),
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let mut stream = Vec::new();
    input.stream.iter().for_each(|part| part.put(&mut stream));
    let bodies = || input.bodies.iter().copied().chain(std::iter::repeat(Body::default()));
    let plain = plainly(&stream, bodies());
    assert_eq!(driven(&stream, &input.pieces, bodies()), plain);
    assert_eq!(driven(&stream, &input.others, bodies()), plain);
});

/// Where each whole request ends.
fn driven(stream: &[u8], pieces: &[u8], mut bodies: impl Iterator<Item = Body>) -> Vec<usize> {
    let mut reading = Reading::default();
    let (mut at, mut ends, mut pieces) = (0, Vec::new(), pieces.iter().cycle());
    // The body of the request whose head was read.
    let mut body: Option<Body> = None;
    while at < stream.len() {
        let count = pieces.next().map_or(stream.len(), |count| usize::from(*count).max(1));
        let piece = &stream[at..stream.len().min(at + count)];
        let head = reading.in_head();
        let admitted = reading.admit(piece);
        assert!(admitted <= piece.len() && (!head || admitted <= 1024));
        assert!(admitted > 0, "it does not go on");
        at += admitted;
        if reading.in_answer() && body.is_none() {
            assert_eq!(reading.admit(&stream[at..]), 0, "nobody has read the head");
            let said = bodies.next().expect("it never ends");
            let begin = ends.last().copied().unwrap_or(0);
            let head = head_end(&stream[begin..]).expect("a head was read");
            reading.expect(said.length(&stream[begin..begin + head]));
            if said.early && !reading.in_answer() {
                reading.answered();
                assert!(!reading.in_head(), "the body comes first");
            }
            body = Some(said);
        }
        if reading.in_answer() {
            assert_eq!(reading.admit(&stream[at..]), 0, "the answer comes first");
            reading.answered();
            assert!(reading.in_head());
        }
        if body.is_some() && reading.in_head() {
            ends.push(at);
            body = None;
        }
    }
    ends
}

/// The same, with all of the stream at hand.
fn plainly(stream: &[u8], bodies: impl Iterator<Item = Body>) -> Vec<usize> {
    let (mut at, mut ends) = (0, Vec::new());
    for body in bodies {
        let Some(head) = head_end(&stream[at..]) else { break };
        let (head, rest) = stream[at..].split_at(head);
        at += head.len();
        let end = match body.length(head) {
            Length::Bytes(count) => usize::try_from(count).ok().filter(|count| *count <= rest.len()),
            Length::Chunks => chunks_end(rest),
        };
        let Some(end) = end else { break };
        at += end;
        ends.push(at);
    }
    ends
}

/// Behind the empty line that ends a head; line ends before its first line mean nothing.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte))?;
    Some(begin + empty_line(&bytes[begin..], false)?)
}

/// Behind the first empty line; `begun` says whether the first line may be it.
fn empty_line(bytes: &[u8], mut begun: bool) -> Option<usize> {
    let mut from = 0;
    loop {
        let end = from + bytes[from..].iter().position(|byte| *byte == b'\n')?;
        let line = &bytes[from..end];
        if begun && (line.is_empty() || line == b"\r") {
            return Some(end + 1);
        }
        (begun, from) = (true, end + 1);
    }
}

/// Behind a body of chunks and its trailer, or behind what is no chunk.
fn chunks_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let significant = bytes[at..at + digits].iter().skip_while(|byte| **byte == b'0').count();
        if significant > 16 {
            // The digit that is one too many.
            return Some(at + digits - significant + 17);
        }
        let text = std::str::from_utf8(&bytes[at..at + digits]).expect("digits");
        let size = if text.is_empty() { 0 } else { u64::from_str_radix(text, 16).expect("at most 16 digits") };
        at += digits;
        at += bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
        if size == 0 {
            return empty_line(&bytes[at..], true).map(|end| at + end);
        }
        at = usize::try_from(size).ok().and_then(|size| at.checked_add(size)).filter(|at| *at <= bytes.len())?;
        at += bytes[at..].iter().take_while(|byte| **byte == b'\r').count();
        match bytes.get(at)? {
            b'\n' => at += 1,
            _ => return Some(at + 1),
        }
    }
}

impl Part<'_> {
    fn put(&self, stream: &mut Vec<u8>) {
        match self {
            Self::Raw(bytes) => stream.extend_from_slice(bytes),
            Self::Line(bytes) => {
                stream.extend_from_slice(bytes);
                stream.extend_from_slice(b"\r\n");
            }
            Self::Head { line_feeds, length } => {
                let end = if *line_feeds { "\n" } else { "\r\n" };
                let length = length.map_or_else(String::new, |length| format!("Content-Length: {length}{end}"));
                stream.extend_from_slice(format!("POST / HTTP/1.1{end}{length}{end}").as_bytes());
            }
            Self::Chunk(count) => {
                stream.extend_from_slice(format!("{count:x}\r\n").as_bytes());
                stream.extend(std::iter::repeat_n(b'x', (*count).into()));
                stream.extend_from_slice(b"\r\n");
            }
            Self::LastChunk => stream.extend_from_slice(b"0\r\n\r\n"),
            Self::Filler(count) => stream.extend(std::iter::repeat_n(b'x', (*count % 4096).into())),
        }
    }
}
