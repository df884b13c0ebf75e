//! What may be read of a connection's bytes: one request, and no more before its answer is on its way.
//!
//! Owns the [`Reading`]: where heads and bodies end. Refuses to know sockets and what a request means; whoever has read a
//! head says how its body ends. Bytes are only counted here, never kept or changed.

/// Bytes of a head that are let through at once: nearly every head. One that is read otherwise by the HTTP library than
/// here could hold some tens of requests, and not thousands.
const HEAD_AT_ONCE: usize = 1024;

/// How a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// After so many bytes; none at all for zero.
    Bytes(u64),
    /// By a chunk of zero bytes.
    Chunks,
}

/// Where a connection is.
#[derive(Debug, Default)]
enum Phase {
    /// In a head, or before it.
    Head(Line),
    /// A whole head was read, and perhaps a body: nothing more before the answer.
    #[default]
    Answer,
    /// So many bytes of a body are to come.
    Body(u64),
    /// In a body of chunks.
    Chunks(Chunk),
}

/// Where in its lines a head is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Line {
    /// Before the first line; line ends here mean nothing.
    #[default]
    Before,
    /// Inside a line.
    Inside,
    /// At the beginning of a line.
    Begun,
    /// The same, and a carriage return has come.
    Return,
}

/// Where in its chunks a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Chunk {
    /// In the digits of a size.
    Size(u64),
    /// In what follows them on the line.
    Rest(u64),
    /// So many bytes are to come, and a line end.
    Data(u64),
    /// In the lines behind the last chunk.
    Trailer(Line),
}

/// See the module.
#[derive(Debug)]
pub struct Reading {
    phase: Phase,
    /// Bytes of the body that were let through with the head.
    early: u64,
    /// Whether the answer to what is being read is on its way already.
    answered: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self { phase: Phase::Head(Line::Before), early: 0, answered: false }
    }
}

impl Reading {
    /// How many of these bytes may be read now; they count as read.
    pub fn admit(&mut self, bytes: &[u8]) -> usize {
        match &mut self.phase {
            Phase::Answer => 0,
            Phase::Head(line) => {
                let some = &bytes[..bytes.len().min(HEAD_AT_ONCE)];
                match line.end(some) {
                    Some(end) => {
                        // A short body comes in the same breath as its head: one step for the library instead of two.
                        let body = &some[end..];
                        let early = announced(&some[..end]).min(body.len());
                        (self.phase, self.early) = (Phase::Answer, early as u64);
                        end + early
                    }
                    None => some.len(),
                }
            }
            Phase::Body(left) => {
                // The smaller of the two fits into both types.
                let some = (*left).min(bytes.len() as u64);
                *left -= some;
                if *left == 0 {
                    self.end();
                }
                some as usize
            }
            Phase::Chunks(chunk) => match chunk.end(bytes) {
                Some(end) => {
                    self.end();
                    end
                }
                None => bytes.len(),
            },
        }
    }

    /// The head that was read has a body.
    pub fn expect(&mut self, length: Length) {
        self.answered = false;
        let early = std::mem::take(&mut self.early);
        self.phase = match length {
            Length::Bytes(all) if all <= early => Phase::Answer,
            Length::Bytes(all) => Phase::Body(all - early),
            Length::Chunks => Phase::Chunks(Chunk::Size(0)),
        };
    }

    /// The answer is on its way: the next head may be read once the body has been.
    pub fn answered(&mut self) {
        self.answered = true;
        if matches!(self.phase, Phase::Answer) {
            self.end();
        }
    }

    /// Whether a head is being read, or nothing.
    #[must_use]
    pub fn in_head(&self) -> bool {
        matches!(self.phase, Phase::Head(_))
    }

    /// Whether a whole request was read and its answer is to come.
    #[must_use]
    pub fn in_answer(&self) -> bool {
        matches!(self.phase, Phase::Answer)
    }

    /// The whole request was read.
    fn end(&mut self) {
        self.phase = if std::mem::take(&mut self.answered) { Phase::Head(Line::Before) } else { Phase::Answer };
    }
}

/// How long a head says that the body is, if all of the head is here. A guess: what it is worth is bounded by
/// [`HEAD_AT_ONCE`], and [`Reading::expect`] knows better.
fn announced(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let value = |line: &[u8]| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        let value = if name.eq_ignore_ascii_case(NAME) { std::str::from_utf8(value).ok()? } else { return None };
        value.trim().parse().ok()
    };
    head.split(|byte| *byte == b'\n').find_map(value).unwrap_or(0)
}

impl Line {
    /// The place behind the empty line that ends a head. As the HTTP library reads it, a line ends with a line feed, with or
    /// without a carriage return before it.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            *self = match (*self, byte) {
                (Self::Before, b'\r' | b'\n') => Self::Before,
                (Self::Begun | Self::Return, b'\n') => return Some(at + 1),
                (Self::Begun, b'\r') => Self::Return,
                (Self::Inside, b'\n') => Self::Begun,
                _ => Self::Inside,
            };
        }
        None
    }
}

impl Chunk {
    /// The place behind the last chunk and the lines that follow it. What is no chunk ends the body as well: the HTTP library
    /// does not go on there either.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match self {
                Self::Size(size) => match (char::from(*byte).to_digit(16), size.checked_mul(16)) {
                    (Some(digit), Some(sixteen_times)) => *size = sixteen_times | u64::from(digit),
                    (Some(_), None) => return Some(at + 1),
                    (None, _) => {
                        *self = Self::Rest(*size);
                        continue;
                    }
                },
                Self::Rest(size) if *byte == b'\n' => {
                    *self = if *size == 0 { Self::Trailer(Line::Begun) } else { Self::Data(*size) };
                }
                Self::Rest(_) => {}
                Self::Data(left) if *left > 0 => {
                    // The smaller of the two fits into both types.
                    let some = (*left).min((bytes.len() - at) as u64);
                    *left -= some;
                    at += some as usize;
                    continue;
                }
                Self::Data(_) => match byte {
                    b'\r' => {}
                    b'\n' => *self = Self::Size(0),
                    _ => return Some(at + 1),
                },
                Self::Trailer(line) => return line.end(&bytes[at..]).map(|end| at + end),
            }
            at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a stream in pieces as a server would; answers what was read before each answer.
    fn read(stream: &str, piece: usize, mut length: impl FnMut(&str) -> Length) -> Vec<String> {
        let mut reading = Reading::default();
        let (mut requests, mut request) = (Vec::new(), String::new());
        let mut body = false;
        for mut bytes in stream.as_bytes().chunks(piece) {
            while !bytes.is_empty() {
                let count = reading.admit(bytes);
                request.push_str(std::str::from_utf8(&bytes[..count]).expect("ASCII"));
                bytes = &bytes[count..];
                if !reading.in_answer() {
                    continue;
                }
                if !std::mem::replace(&mut body, true) {
                    reading.expect(length(&request));
                }
                if reading.in_answer() {
                    assert_eq!(reading.admit(b"x"), 0, "nothing before the answer");
                    requests.push(std::mem::take(&mut request));
                    body = false;
                    reading.answered();
                    assert!(reading.in_head());
                }
            }
        }
        requests
    }

    #[test]
    fn one_request_is_read_at_a_time_in_every_chunk_size() {
        let first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let second = "\r\n\nPOST / HTTP/1.1\nContent-Length: 7\n\r\n1\r\n\r\n23";
        let third = "POST / HTTP/1.1\r\nX: \ry\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\na\n\n\r\n0A \r\n0123456789\r\n0\r\nX: y\r\n\r\n";
        let fourth = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let stream = [first, second, third, fourth, first].concat();
        for piece in 1..stream.len() {
            let read = read(&stream, piece, |head| match head {
                head if head.contains("Content-Length") => Length::Bytes(7),
                head if head.contains("chunked") => Length::Chunks,
                _ => Length::Bytes(0),
            });
            assert_eq!(read, [first, second, third, fourth, first], "in pieces of {piece}");
        }
    }

    #[test]
    fn a_short_body_is_read_with_its_head_and_nothing_behind_it() {
        let head = "POST / HTTP/1.1\r\nCONTENT-length: 5\r\n\r\n";
        let mut reading = Reading::default();
        assert_eq!(reading.admit(format!("{head}12345GET").as_bytes()), head.len() + 5);
        assert_eq!(reading.admit(b"GET"), 0, "nobody has read the head");
        reading.expect(Length::Bytes(5));
        assert_eq!(reading.admit(b"GET"), 0);
        reading.answered();
        assert_eq!(reading.admit(format!("{head}12").as_bytes()), head.len() + 2);
        reading.expect(Length::Bytes(5));
        assert_eq!(reading.admit(b"345GET"), 3, "the rest of it");
        assert_eq!(reading.admit(b"GET"), 0);
        reading.answered();
        assert_eq!(reading.admit(head.as_bytes()), head.len());
        reading.expect(Length::Bytes(3));
        assert_eq!(reading.admit(b"12345"), 3, "whoever has read the head knows better");
    }

    #[test]
    fn however_long_a_body_is_said_to_be_little_comes_with_its_head() {
        for said in ["1000000", "18446744073709551616", "-1", "x"] {
            let head = format!("POST / HTTP/1.1\r\nContent-Length: {said}\r\n\r\n");
            let mut reading = Reading::default();
            let admitted = reading.admit(format!("{head}{}", "x".repeat(5_000)).as_bytes());
            assert_eq!(admitted, if said == "1000000" { HEAD_AT_ONCE } else { head.len() }, "{said}");
        }
    }

    #[test]
    fn a_body_that_nobody_wants_is_read_before_the_next_head() {
        let mut reading = Reading::default();
        assert_eq!(reading.admit(b"POST / HTTP/1.1\r\n\r\n12345GET"), 19);
        reading.expect(Length::Bytes(5));
        reading.answered();
        assert_eq!(reading.admit(b"12"), 2);
        assert!(!reading.in_head());
        assert_eq!(reading.admit(b"345GET"), 3);
        assert!(reading.in_head());
    }

    #[test]
    fn a_long_head_is_read_bit_by_bit() {
        let mut reading = Reading::default();
        let head = [b'x'; 3 * HEAD_AT_ONCE];
        assert_eq!(reading.admit(&head), HEAD_AT_ONCE);
        assert_eq!(reading.admit(b"\r\n\r\nx"), 4);
        assert_eq!(reading.admit(b"x"), 0);
    }

    #[test]
    fn what_is_no_chunk_ends_the_body() {
        for (body, end) in [("fffffffffffffffff\r\n", 17), ("1\r\nab", 5)] {
            let mut reading = Reading::default();
            reading.expect(Length::Chunks);
            assert_eq!(reading.admit(body.as_bytes()), end, "{body:?}");
            assert!(reading.in_answer());
        }
    }
}
