//! `dolmen mine`: entries from the command line become one block; the lines of a file or of a pipe become as few blocks as
//! the limits allow, and a receipt is printed for each.
//!
//! Every block is sent under an idempotency key, so that one whose answer got lost is sent again without being mined twice.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::output::{Out, count};
use super::progress::{self, Unit};
use super::{ClientArgs, talk};
use crate::client::{Client, ClientError};
use crate::exit::{FAILURE, Failure, USAGE};
use crate::ledger::limits::{MAX_BODY_BYTES, MAX_BODY_ENTRIES, MAX_ENTRY_BYTES};
use crate::ledger::rules;

/// Bytes of a block's entries as JSON: with what stands around them they fit into a request.
const MAX_BATCH_JSON: usize = crate::http::MAX_REQUEST_BODY - 1024;

/// How long a line from a pipe waits for others to share its block.
const LINGER: Duration = Duration::from_millis(200);

/// Lines that are read ahead.
const AHEAD: usize = 1024;

/// How long a block is sent again while the node is away or busy.
const PERSISTENCE: Duration = Duration::from_secs(60);

/// Time before the first repetition; it doubles, up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Characters of a `--key`: with a line's number they fit into an idempotency key.
const MAX_KEY: usize = 200;

#[derive(Debug, Args)]
#[command(after_help = concat!(
    "Without entries and --file, lines are read from a pipe: one entry per line, an empty line is an empty entry. ",
    "A receipt goes to stdout for each block: its id, the block, and which lines it holds. ",
    "With --key NAME the same input can be sent again after a crash: what is mined already is not mined twice."
))]
pub struct MineArgs {
    /// The entries, one block of them
    entries: Vec<String>,
    /// A file with one entry per line; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "entries")]
    file: Option<PathBuf>,
    /// Entries in a block at most, for a file or a pipe
    #[arg(long, value_name = "ENTRIES", default_value_t = MAX_BODY_ENTRIES, conflicts_with = "entries",
        value_parser = clap::value_parser!(u64).range(1..=MAX_BODY_ENTRIES as u64).map(|number| number as usize))]
    batch: usize,
    /// Go on after a line that is refused; each is named on stderr, and the exit code is 1
    #[arg(long, conflicts_with = "entries")]
    keep_going: bool,
    /// A name for this input, so that sending it again mines nothing twice
    #[arg(long, value_name = "NAME", value_parser = key_name)]
    key: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

use clap::builder::TypedValueParser as _;

fn key_name(text: &str) -> Result<String, String> {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !text.is_empty() && text.len() <= MAX_KEY && visible {
        return Ok(text.to_owned());
    }
    Err(format!("a key has 1 to {MAX_KEY} visible ASCII characters and no spaces"))
}

impl MineArgs {
    pub fn run(&self) -> Result<(), Failure> {
        if !self.entries.is_empty() {
            return self.client.run(async |client, out| self.arguments(client, out).await);
        }
        let stdin = self.file.as_deref().is_none_or(|path| path == Path::new("-"));
        if stdin && io::stdin().is_terminal() && self.file.is_none() {
            return Err(Failure::new(
                USAGE,
                "no entries: type them behind `dolmen mine`, name a --file, or pipe lines in",
            ));
        }
        let (input, bytes): (Box<dyn Read + Send>, Option<u64>) = match &self.file {
            Some(path) if !stdin => {
                let failed = |error| Failure::new(FAILURE, format!("{}: {error}", path.display()));
                let file = File::open(path).map_err(failed)?;
                let length = file.metadata().map_err(failed)?;
                (Box::new(file), length.is_file().then_some(length.len()))
            }
            _ => (Box::new(io::stdin()), None),
        };
        self.client.run(async |client, out| self.lines(client, out, input, bytes).await)
    }

    /// Everything on the command line in one block.
    async fn arguments(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let body = json!({ "data": self.entries });
        let answer = match &self.key {
            Some(key) => client.post_once("/mineBlock", &body, key).await?,
            None => client.post("/mineBlock", &body).await?,
        };
        let receipt = receipt_of(&answer);
        let block = client.json_of(answer).await?;
        if !out.is_table() {
            return out.line(&block.to_string());
        }
        let entries = count(self.entries.len() as u64, "entry", "entries");
        out.line(&format!("block {}  {entries}  receipt {receipt}", block["header"]["index"]))
    }

    /// The lines of an input, batch by batch.
    async fn lines(
        &self,
        client: &Client,
        out: &mut Out,
        input: Box<dyn Read + Send>,
        bytes: Option<u64>,
    ) -> Result<(), Failure> {
        let unit = if bytes.is_some() { Unit::Bytes } else { Unit::Lines };
        let bar = progress::bar("mining", unit, bytes, out.terminal);
        let mut miner = Miner { client, out, bar, in_bytes: bytes.is_some(), sent: 0, key: self.run_key(), refused: 0 };
        let mut lines = read_lines(input);
        let mut batch = Batch::default();
        loop {
            // Batches of a named input are cut by the input alone, so that they are the same when it comes again.
            let wait = if batch.is_empty() || self.key.is_some() || self.file.is_some() { None } else { Some(LINGER) };
            let line = match wait {
                None => lines.recv().await,
                Some(wait) => match tokio::time::timeout(wait, lines.recv()).await {
                    Ok(line) => line,
                    Err(_) => {
                        miner.mine(&mut batch).await?;
                        continue;
                    }
                },
            };
            let Some(line) = line else { break };
            let line = match line {
                Ok(line) => line,
                Err(error) => {
                    miner.mine(&mut batch).await?;
                    return Err(Failure::new(FAILURE, format!("cannot read on: {error}; {}", miner.mined())));
                }
            };
            match line.entry {
                Ok(entry) => {
                    let size = Size::of(&entry);
                    if !batch.has_room(size, self.batch) {
                        miner.mine(&mut batch).await?;
                    }
                    batch.push(line.number, entry, size, line.bytes);
                }
                Err(why) => {
                    miner.refused += 1;
                    let sentence = format!("line {} is refused: {why}", line.number);
                    if !self.keep_going {
                        miner.mine(&mut batch).await?;
                        return Err(Failure::new(FAILURE, format!("{sentence}; {}", miner.mined())));
                    }
                    miner.bar.suspend(|| talk(&format!("dolmen: {sentence}")));
                }
            }
        }
        miner.mine(&mut batch).await?;
        miner.bar.finish_and_clear();
        match (miner.refused, miner.sent) {
            (0, 0) => talk("dolmen: nothing to mine: the input is empty"),
            (0, _) => {}
            (refused, _) => {
                let refused = count(refused, "line was", "lines were");
                return Err(Failure::new(FAILURE, format!("{refused} refused; {}", miner.mined())));
            }
        }
        Ok(())
    }

    /// What the keys of this run begin with: the same only for an input that has a name.
    fn run_key(&self) -> String {
        self.key.clone().unwrap_or_else(|| format!("dolmen-mine-{:032x}", rand::random::<u128>()))
    }
}

fn receipt_of(answer: &awc::ClientResponse) -> String {
    let value = answer.headers().get("Receipt-Id").and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// Sends batches and prints their receipts.
struct Miner<'a> {
    client: &'a Client,
    out: &'a mut Out,
    bar: ProgressBar,
    in_bytes: bool,
    /// Entries that are mined.
    sent: u64,
    key: String,
    /// Lines that were not sent.
    refused: u64,
}

impl Miner<'_> {
    fn mined(&self) -> String {
        format!("{} mined", count(self.sent, "entry is", "entries are"))
    }

    /// Mines what is in the batch, and empties it.
    async fn mine(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let Batch { entries, first, last, bytes, .. } = std::mem::take(batch);
        let number = entries.len() as u64;
        let body = json!({ "data": entries });
        let (receipt, block) = self.persist(&body, &format!("{}:{first}", self.key)).await.map_err(|error| {
            let lines = if first == last { format!("line {first}") } else { format!("lines {first} to {last}") };
            let failure = Failure::from(error);
            Failure::new(failure.code, format!("{lines}: {}; {}", failure.message, self.mined()))
        })?;
        self.sent += number;
        let (index, hash) = (&block["header"]["index"], receipt.split('-').next().unwrap_or_default());
        let line = if self.out.is_table() {
            let entries = count(number, "entry", "entries");
            format!("block {index}  {entries}  lines {first} to {last}  receipt {receipt}")
        } else {
            json!({ "receipt": receipt, "index": index, "block": hash, "entries": number, "lines": [first, last] })
                .to_string()
        };
        self.bar.inc(if self.in_bytes { bytes } else { number });
        self.out.line(&line)?;
        // A receipt is worth nothing while it waits here.
        self.out.flush()
    }

    /// Sends a batch until the node has answered for it. A node that was never there is not waited for.
    async fn persist(&self, body: &Value, key: &str) -> Result<(String, Value), ClientError> {
        let begun = Instant::now();
        let mut pause = PAUSE;
        loop {
            let tried = async {
                let answer = self.client.post_once("/mineBlock", body, key).await?;
                let receipt = receipt_of(&answer);
                Ok((receipt, self.client.json_of(answer).await?))
            };
            let error = match tried.await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let wait = match &error {
                ClientError::Unreachable { .. } if self.sent == 0 => return Err(error),
                ClientError::Unreachable { .. } | ClientError::Answer { .. } => pause,
                ClientError::Refused { status: 408 | 429 | 503, retry_after, .. } => retry_after.unwrap_or(pause),
                ClientError::Refused { .. } | ClientError::Untrusted { .. } | ClientError::Url { .. } => {
                    return Err(error);
                }
            };
            if begun.elapsed() + wait > PERSISTENCE {
                return Err(error);
            }
            tokio::time::sleep(wait.min(MAX_PAUSE)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

/// How much of a block an entry takes.
#[derive(Clone, Copy)]
struct Size {
    bytes: usize,
    json: usize,
}

impl Size {
    fn of(entry: &str) -> Self {
        let escaped = |byte: u8| match byte {
            b'"' | b'\\' => 2,
            0..b' ' => 6,
            _ => 1,
        };
        // Quotes around it and a comma behind.
        Self { bytes: entry.len(), json: entry.bytes().map(escaped).sum::<usize>() + 3 }
    }
}

/// Entries that will share a block.
#[derive(Default)]
struct Batch {
    entries: Vec<String>,
    first: u64,
    last: u64,
    /// Bytes of the entries.
    size: usize,
    /// Bytes of the entries as JSON.
    json: usize,
    /// Bytes of the input's lines.
    bytes: u64,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn has_room(&self, size: Size, entries: usize) -> bool {
        self.entries.len() < entries
            && self.size + size.bytes <= MAX_BODY_BYTES
            && self.json + size.json <= MAX_BATCH_JSON
    }

    fn push(&mut self, number: u64, entry: String, size: Size, bytes: u64) {
        if self.entries.is_empty() {
            self.first = number;
        }
        self.last = number;
        self.size += size.bytes;
        self.json += size.json;
        self.bytes += bytes;
        self.entries.push(entry);
    }
}

/// A line of the input.
struct Line {
    /// From 1.
    number: u64,
    /// Bytes of the input, the line end included.
    bytes: u64,
    /// The entry, or the rule that it breaks.
    entry: Result<String, String>,
}

/// Reads lines on a thread of its own: reading may wait, and a timer runs meanwhile.
fn read_lines(input: Box<dyn Read + Send>) -> mpsc::Receiver<io::Result<Line>> {
    let (to, lines) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(input);
        for number in 1.. {
            let line = read_line(&mut reader, number).transpose();
            let Some(line) = line else { return };
            let failed = line.is_err();
            // Nobody listens any more when the command has ended.
            if to.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    lines
}

/// The next line; never holds more of it than an entry may have. `None` at the end.
fn read_line(reader: &mut impl BufRead, number: u64) -> io::Result<Option<Line>> {
    let (mut text, mut bytes) = (Vec::new(), 0u64);
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            if bytes == 0 {
                return Ok(None);
            }
            break;
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(piece.len(), |end| end + 1);
        // One more than an entry may have, and the end of a line as Windows writes it.
        let room = (MAX_ENTRY_BYTES + 3).saturating_sub(text.len());
        text.extend_from_slice(&piece[..used.min(room)]);
        bytes += used as u64;
        reader.consume(used);
        if end.is_some() {
            break;
        }
    }
    let ended = text.strip_suffix(b"\n").unwrap_or(&text);
    let entry = ended.strip_suffix(b"\r").unwrap_or(ended);
    Ok(Some(Line { number, bytes, entry: judge(entry, bytes) }))
}

fn judge(entry: &[u8], bytes: u64) -> Result<String, String> {
    if entry.len() > MAX_ENTRY_BYTES {
        return Err(format!("it has about {bytes} bytes; at most {MAX_ENTRY_BYTES} are allowed"));
    }
    let entry = std::str::from_utf8(entry).map_err(|error| format!("it is no UTF-8 text: {error}"))?;
    let body = [entry.to_owned()];
    rules::check_body(&body).map_err(|error| error.to_string().replacen("entry 0", "it", 1))?;
    let [entry] = body;
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8], capacity: usize) -> Vec<(u64, u64, Result<String, String>)> {
        let mut reader = BufReader::with_capacity(capacity, text);
        (1..)
            .map_while(|number| read_line(&mut reader, number).expect("memory"))
            .map(|line| (line.number, line.bytes, line.entry))
            .collect()
    }

    #[test]
    fn lines_are_entries_in_every_size_of_pieces() {
        let text = "one\r\n\ntwo \"2\"\n돌".as_bytes();
        let ok = |text: &str| Ok(text.to_owned());
        let wanted = [(1, 5, ok("one")), (2, 1, ok("")), (3, 8, ok("two \"2\"")), (4, 3, ok("돌"))];
        for capacity in [1, 2, 5, 100] {
            assert_eq!(lines(text, capacity), wanted, "{capacity}");
        }
    }

    #[test]
    fn a_line_that_is_no_entry_says_why() {
        let long = vec![b'x'; MAX_ENTRY_BYTES + 1];
        let leaf = "A".repeat(64);
        let text = [&long[..], b"\n", b"\xff\n", leaf.as_bytes(), b"\n", &long[1..], b"\r\nlast"].concat();
        let found = lines(&text, 4096);
        let error = |place: usize| found[place].2.as_ref().expect_err("refused").as_str();
        assert_eq!(error(0), "it has about 65538 bytes; at most 65536 are allowed");
        assert!(error(1).starts_with("it is no UTF-8 text: "));
        assert!(error(2).starts_with("it is 64 or 128 characters of upper-case hex"), "{}", error(2));
        assert_eq!(found[3].2.as_ref().map(String::len), Ok(MAX_ENTRY_BYTES));
        assert_eq!(found[4].2.as_deref(), Ok("last"));
    }

    #[test]
    fn a_batch_counts_what_json_makes_of_an_entry() {
        for entry in ["", "plain", "\"\\", "\n\u{1}", "돌"] {
            let json = serde_json::to_string(entry).expect("text").len();
            assert!(Size::of(entry).json > json, "{entry:?}");
        }
        let control = "\u{1}".repeat(MAX_ENTRY_BYTES);
        let (mut batch, size) = (Batch::default(), Size::of(&control));
        while batch.has_room(size, MAX_BODY_ENTRIES) {
            batch.push(1, control.clone(), size, 0);
        }
        let body = json!({ "data": batch.entries }).to_string();
        assert!(body.len() <= crate::http::MAX_REQUEST_BODY, "{}", body.len());
        assert_eq!(batch.entries.len(), 5);
    }
}
