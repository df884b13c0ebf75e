//! `GET /events` as a client reads it: server-sent events cut out of an answer, and a follower that takes the stream up
//! again where it broke off.
//!
//! Owns the form of the stream and the id of the last event. Knows no kind of event.

use std::time::Duration;

use awc::ClientResponse;
use thiserror::Error;

use super::{Client, ClientError, MAX_ANSWER};

/// Time before a stream is taken up again, as the node asks for it.
const PAUSE: Duration = Duration::from_secs(1);

/// Something that happened on a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What sort of thing it is.
    pub kind: String,
    /// What a reader sends back that wants to go on after it; empty before the node has said one.
    pub id: String,
    /// What happened, as one line of JSON.
    pub data: String,
}

/// What a follower sees.
#[derive(Debug)]
pub enum Followed {
    /// Something happened.
    Event(Event),
    /// The node is away; it is tried again until it is back. Said once.
    Away(ClientError),
    /// The stream broke off and goes on. All the node's peers are told anew, and what happened meanwhile.
    Back,
}

/// Follows a node through broken links and restarts, without loss.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    /// Blocks that the reader would rather pass over than be behind.
    behind: Option<u64>,
    last: String,
    stream: Option<(ClientResponse, Cutter)>,
    away: bool,
    /// Whether the stream broke off.
    broke: bool,
}

impl Follower {
    /// Follows from now on, or from the event with the id `last`. With `behind`, passes over all but so many of the newest
    /// blocks.
    #[must_use]
    pub fn new(client: &Client, last: Option<String>, behind: Option<u64>) -> Self {
        let last = last.unwrap_or_default();
        Self { client: client.clone(), behind, last, stream: None, away: false, broke: false }
    }

    /// The id of the last event; empty before the first.
    #[must_use]
    pub fn last(&self) -> &str {
        &self.last
    }

    /// The next thing that happens; waits for it, however long.
    ///
    /// # Errors
    /// The node answers with something that waiting does not mend.
    pub async fn next(&mut self) -> Result<Followed, ClientError> {
        loop {
            let Some((answer, cutter)) = &mut self.stream else {
                if let Some(told) = self.connect().await? {
                    return Ok(told);
                }
                continue;
            };
            let cut = cutter.next();
            let piece = match cut {
                Ok(Some(event)) => {
                    self.last.clone_from(&event.id);
                    return Ok(Followed::Event(event));
                }
                Ok(None) => self.client.chunk_of(answer).await,
                Err(error) => return Err(self.client.broken(error)),
            };
            match piece {
                Ok(Some(piece)) => cutter.push(&piece),
                // The caller hears of it if the node is not there after the pause that it asks for.
                Ok(None) | Err(_) => {
                    self.stream = None;
                    self.broke = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Asks for the stream. A node that is away is asked again after a pause, of which the caller is told the first time.
    async fn connect(&mut self) -> Result<Option<Followed>, ClientError> {
        let behind = self.behind.map_or_else(String::new, |behind| format!("&behind={behind}"));
        let path = match self.last.as_str() {
            "" => format!("/events?{}", behind.trim_start_matches('&')),
            last => format!("/events?lastEventId={last}{behind}"),
        };
        let error = match self.client.get(&path).await {
            Ok(answer) => {
                self.stream = Some((answer, Cutter::new(&self.last)));
                let told = self.away || self.broke;
                (self.away, self.broke) = (false, false);
                return Ok(told.then_some(Followed::Back));
            }
            Err(error) => error,
        };
        let pause = match &error {
            ClientError::Unreachable { .. } | ClientError::Answer { .. } => PAUSE,
            ClientError::Refused { status: 408 | 429 | 503, retry_after, .. } => retry_after.unwrap_or(PAUSE),
            ClientError::Refused { .. } | ClientError::Untrusted { .. } | ClientError::Url { .. } => return Err(error),
        };
        if !self.away {
            self.away = true;
            return Ok(Some(Followed::Away(error)));
        }
        tokio::time::sleep(pause).await;
        Ok(None)
    }
}

/// A stream that nobody can follow.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("an event is longer than {MAX_ANSWER} bytes")]
struct TooLong;

/// Cuts a stream into events, as the standard of server-sent events says.
#[derive(Debug)]
struct Cutter {
    text: Vec<u8>,
    /// Bytes of it that were read.
    read: usize,
    /// The fields of the event that is coming.
    kind: String,
    id: String,
    data: Option<String>,
}

impl Cutter {
    /// After the event with this id.
    fn new(last: &str) -> Self {
        Self { text: Vec::new(), read: 0, kind: String::new(), id: last.to_owned(), data: None }
    }

    fn push(&mut self, piece: &[u8]) {
        self.text.drain(..self.read);
        self.read = 0;
        self.text.extend_from_slice(piece);
    }

    /// The next whole event; `None` when more text is needed.
    fn next(&mut self) -> Result<Option<Event>, TooLong> {
        while let Some(end) = self.text[self.read..].iter().position(|byte| *byte == b'\n') {
            let line = &self.text[self.read..self.read + end];
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
            self.read += end + 1;
            if let Some(event) = self.line(&line) {
                return Ok(Some(event));
            }
        }
        let held = self.text.len() - self.read + self.data.as_ref().map_or(0, String::len);
        if held > MAX_ANSWER { Err(TooLong) } else { Ok(None) }
    }

    /// A field of an event, or the empty line at its end.
    fn line(&mut self, line: &str) -> Option<Event> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" if line.is_empty() => {
                let kind = std::mem::take(&mut self.kind);
                let data = self.data.take()?;
                return Some(Event { kind, id: self.id.clone(), data });
            }
            "event" => value.clone_into(&mut self.kind),
            "id" => value.clone_into(&mut self.id),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments, the time after which browsers come back, and what is not known yet.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_the_same_in_every_size_of_pieces() {
        let text = ": events\nretry: 1000\n\n:\n\nid: 1-ab\nevent: block\ndata: {\"돌\":\" x\"}\n\n\
                    event: sync\r\ndata:null\r\n\r\nid: 2-cd\n\ndata: one\ndata:  two\n\nevent: cut\ndata: off\n";
        let event = |kind: &str, id: &str, data: &str| Event { kind: kind.into(), id: id.into(), data: data.into() };
        let wanted =
            [event("block", "1-ab", "{\"돌\":\" x\"}"), event("sync", "1-ab", "null"), event("", "2-cd", "one\n two")];
        for size in 1..=text.len() {
            let (mut cutter, mut found) = (Cutter::new("0-ef"), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                cutter.push(piece);
                while let Some(event) = cutter.next().expect("short lines") {
                    found.push(event);
                }
            }
            assert_eq!(found, wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_not_kept_for_ever() {
        let mut cutter = Cutter::new("");
        cutter.push(&vec![b'x'; MAX_ANSWER]);
        assert_eq!(cutter.next(), Ok(None));
        cutter.push(b"x");
        assert_eq!(cutter.next(), Err(TooLong));
        let mut cutter = Cutter::new("");
        let line = [b"data: ", &vec![b'x'; MAX_ANSWER / 2][..], b"\n"].concat();
        cutter.push(&[&line[..], &line, b"y"].concat());
        assert_eq!(cutter.next(), Err(TooLong));
    }
}
