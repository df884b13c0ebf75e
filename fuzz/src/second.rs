//! The chain's format read a second time, from its description alone: JSON by RFC 8259, then the rules one after the other.
//!
//! Shares no line with the node but SHA-256. Slow and plain on purpose.

use sha2::{Digest, Sha256};

/// A JSON value. A string is `None` if it has a lone surrogate: no text has one.
#[derive(Clone, PartialEq, Debug)]
pub enum Json {
    Null,
    Bool,
    Number(String),
    Text(Option<String>),
    List(Vec<Json>),
    Map(Vec<(Option<String>, Json)>),
}

/// A block as this file understands it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plain {
    pub version: String,
    pub index: u64,
    pub previous_hash: String,
    pub time: u64,
    pub merkle_root: String,
    pub body: Vec<String>,
}

/// The largest integer that JavaScript counts to.
const SAFE: u64 = 9_007_199_254_740_991;

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// Reads a whole text as one value.
pub fn json(text: &str) -> Option<Json> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value()?;
    reader.blank();
    (reader.at == reader.text.len()).then_some(value)
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            value
        })
    }

    fn value(&mut self) -> Option<Json> {
        self.blank();
        match self.peek()? {
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Bool),
            b'f' => self.word("false", Json::Bool),
            b'"' => self.string().map(Json::Text),
            b'[' => self.list(),
            b'{' => self.map(),
            _ => self.number(),
        }
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    fn number(&mut self) -> Option<Json> {
        let from = self.at;
        let _ = self.eat(b'-');
        if self.eat(b'0').is_none() {
            self.digits()?;
        }
        if self.eat(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(Json::Number(self.text[from..self.at].to_owned()))
    }

    fn string(&mut self) -> Option<Option<String>> {
        self.eat(b'"')?;
        // UTF-16 units, as JavaScript has them.
        let mut units: Vec<u16> = Vec::new();
        loop {
            let c = self.text.get(self.at..)?.chars().next()?;
            self.at += c.len_utf8();
            match c {
                '"' => return Some(String::from_utf16(&units).ok()),
                '\\' => units.push(self.escape()?),
                c if c < ' ' => return None,
                c => units.extend(c.encode_utf16(&mut [0; 2]).iter()),
            }
        }
    }

    fn escape(&mut self) -> Option<u16> {
        let c = self.peek()?;
        // What may stand here is ASCII; anything else is refused before the place matters.
        self.at += 1;
        Some(match c {
            b'"' | b'\\' | b'/' => c.into(),
            b'b' => 8,
            b'f' => 12,
            b'n' => 10,
            b'r' => 13,
            b't' => 9,
            b'u' => {
                let hex = self.text.get(self.at..self.at + 4)?;
                self.at += 4;
                if !hex.bytes().all(|c| c.is_ascii_hexdigit()) {
                    return None;
                }
                u16::from_str_radix(hex, 16).ok()?
            }
            _ => return None,
        })
    }

    fn list(&mut self) -> Option<Json> {
        self.eat(b'[')?;
        let mut list = Vec::new();
        self.blank();
        if self.eat(b']').is_some() {
            return Some(Json::List(list));
        }
        loop {
            list.push(self.value()?);
            self.blank();
            if self.eat(b']').is_some() {
                return Some(Json::List(list));
            }
            self.eat(b',')?;
        }
    }

    fn map(&mut self) -> Option<Json> {
        self.eat(b'{')?;
        let mut map = Vec::new();
        self.blank();
        if self.eat(b'}').is_some() {
            return Some(Json::Map(map));
        }
        loop {
            self.blank();
            let key = self.string()?;
            self.blank();
            self.eat(b':')?;
            map.push((key, self.value()?));
            self.blank();
            if self.eat(b'}').is_some() {
                return Some(Json::Map(map));
            }
            self.eat(b',')?;
        }
    }
}

/// The value of a field that must be there once, in an object whose names are all text.
fn field<'a>(json: &'a Json, name: &str) -> Option<&'a Json> {
    let Json::Map(map) = json else { return None };
    if map.iter().any(|(key, _)| key.is_none()) {
        return None;
    }
    let mut found = map.iter().filter(|(key, _)| key.as_deref() == Some(name));
    let (_, value) = found.next()?;
    found.next().is_none().then_some(value)
}

fn text(json: &Json) -> Option<String> {
    if let Json::Text(text) = json { text.clone() } else { None }
}

fn integer(json: &Json) -> Option<u64> {
    let Json::Number(digits) = json else { return None };
    let number = digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse::<u64>().ok())??;
    (number <= SAFE).then_some(number)
}

fn is_hex(text: &str, letters: std::ops::RangeInclusive<char>) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || letters.contains(&c))
}

fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    parts.len() == 3 && parts.iter().all(number) && text.len() <= 32
}

/// A block of the right shape.
pub fn block(json: &Json) -> Option<Plain> {
    let header = field(json, "header")?;
    let Json::List(body) = field(json, "body")? else { return None };
    let plain = Plain {
        version: text(field(header, "version")?)?,
        index: integer(field(header, "index")?)?,
        previous_hash: text(field(header, "previousHash")?)?,
        time: integer(field(header, "time")?)?,
        merkle_root: text(field(header, "merkleRoot")?)?,
        body: body.iter().map(text).collect::<Option<_>>()?,
    };
    let digests = plain.previous_hash.len() == 64
        && is_hex(&plain.previous_hash, 'a'..='f')
        && plain.merkle_root.len() == 64
        && is_hex(&plain.merkle_root, 'A'..='F');
    (digests && is_version(&plain.version)).then_some(plain)
}

fn sha(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The tutorial's Merkle root of at least one entry, as its library computes it, without what only refused bodies show.
pub fn root(body: &[String]) -> String {
    let mut row: Vec<String> = body
        .iter()
        .map(
            |entry| {
                if entry.len() == 64 && is_hex(entry, 'A'..='F') { entry.clone() } else { sha(entry).to_uppercase() }
            },
        )
        .collect();
    while row.len() > 1 {
        let mut above = Vec::new();
        let mut pairs = row.iter();
        while let Some(left) = pairs.next() {
            above.push(pairs.next().map_or(left.clone(), |right| sha(&format!("{left}{right}")).to_uppercase()));
        }
        row = above;
    }
    row.remove(0)
}

/// The block hash.
pub fn hash(block: &Plain) -> String {
    let Plain { version, index, previous_hash, time, merkle_root, .. } = block;
    sha(&format!("{version}{index}{previous_hash}{time}{merkle_root}"))
}

/// Whether a block obeys every rule that needs no parent.
pub fn is_good(block: &Plain, now: u64) -> bool {
    let ambiguous = |entry: &String| [64, 128].contains(&entry.len()) && is_hex(entry, 'A'..='F');
    !block.body.is_empty()
        && block.body.len() <= 10_000
        && block.body.iter().all(|entry| entry.len() <= 65_536)
        && block.body.iter().map(String::len).sum::<usize>() <= 1_048_576
        && !block.body.iter().any(ambiguous)
        && block.time <= now + 7200
        && root(&block.body) == block.merkle_root
}

/// The block's text: keys in the tutorial's order, nothing between, only what must be is escaped.
pub fn write(block: &Plain) -> String {
    let body: Vec<String> = block.body.iter().map(|entry| quote(entry)).collect();
    format!(
        r#"{{"header":{{"version":{},"index":{},"previousHash":{},"time":{},"merkleRoot":{}}},"body":[{}]}}"#,
        quote(&block.version),
        block.index,
        quote(&block.previous_hash),
        block.time,
        quote(&block.merkle_root),
        body.join(",")
    )
}

/// A JSON string as JavaScript writes it.
pub fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\u{8}' => out += "\\b",
            '\u{c}' => out += "\\f",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            c if c < ' ' => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}
