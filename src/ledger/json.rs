//! The one text form of a block: JSON with the keys in the tutorial's order and no spaces.
//!
//! Reading is strict where programs could disagree: fractions, exponents, `-0`, numbers above 2^53, lone surrogates and
//! doubled fields are refused; unknown fields are dropped.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::block::{Block, BlockView, CheckedBlock, Header, Height, UnixTime, Version};
use super::hash::{BlockHash, DIGEST_BYTES, MerkleRoot};
use super::limits::MAX_BODY_ENTRIES;
use super::rules::{self, RuleError};

/// Characters of a parser's reason: its own words and enough of what it quotes.
const MAX_REASON_CHARS: usize = 200;

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut header = serializer.serialize_struct("Header", 5)?;
        header.serialize_field("version", self.version.as_str())?;
        header.serialize_field("index", &self.index)?;
        header.serialize_field("previousHash", self.previous_hash.to_hex().as_str())?;
        header.serialize_field("time", &self.time)?;
        header.serialize_field("merkleRoot", self.merkle_root.to_hex().as_str())?;
        header.end()
    }
}

impl Serialize for Block {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut block = serializer.serialize_struct("Block", 2)?;
        block.serialize_field("header", &self.header)?;
        block.serialize_field("body", &self.body)?;
        block.end()
    }
}

impl Serialize for CheckedBlock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.block().serialize(serializer)
    }
}

/// Appends the block's text to `out`. By hand: the same text as by way of serde, at several times the speed.
pub fn write(block: &Block, out: &mut Vec<u8>) {
    write_parts(&block.header, block.body.iter().map(String::as_str), out);
}

/// As [`write`](fn@write), for a block that is only looked at.
pub fn write_view(block: &BlockView<'_>, out: &mut Vec<u8>) {
    write_parts(&block.header, block.body.iter().copied(), out);
}

fn write_parts<'a>(header: &Header, body: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    let Header { version, index, previous_hash, time, merkle_root } = header;
    out.extend_from_slice(br#"{"header":{"version":""#);
    // Digits and dots need no escapes.
    out.extend_from_slice(version.as_str().as_bytes());
    out.extend_from_slice(br#"","index":"#);
    write_number(index.0, out);
    out.extend_from_slice(br#","previousHash":""#);
    out.extend_from_slice(previous_hash.to_hex().as_bytes());
    out.extend_from_slice(br#"","time":"#);
    write_number(time.0, out);
    out.extend_from_slice(br#","merkleRoot":""#);
    out.extend_from_slice(merkle_root.to_hex().as_bytes());
    out.extend_from_slice(br#""},"body":["#);
    for (place, entry) in body.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_text(entry, out);
    }
    out.extend_from_slice(b"]}");
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A JSON string; nearly no entry has anything to escape.
fn write_text(text: &str, out: &mut Vec<u8>) {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    // Without an early end the compiler looks at many bytes at once.
    if text.bytes().fold(true, |all, byte| all & plain(byte)) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing into memory cannot fail.
        let _ = serde_json::to_writer(out, text);
    }
}

/// The block's text.
#[must_use]
pub fn to_string(block: &Block) -> String {
    let mut text = Vec::with_capacity(256);
    write(block, &mut text);
    // JSON is UTF-8, so the fallback is never taken.
    String::from_utf8(text).unwrap_or_default()
}

/// The text of a JSON array of blocks.
#[must_use]
pub fn array_to_string<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> String {
    let mut text = vec![b'['];
    for block in blocks {
        if text.len() > 1 {
            text.push(b',');
        }
        write(block, &mut text);
    }
    text.push(b']');
    // JSON is UTF-8, so the fallback is never taken.
    String::from_utf8(text).unwrap_or_default()
}

/// Reads one block.
///
/// # Errors
/// The shape rule that the text breaks.
pub fn parse_block(text: &str) -> Result<Block, RuleError> {
    let Object(raw) = serde_json::from_str::<Object<RawBlock<'_>>>(text).map_err(not_a_block)?;
    raw.shaped()
}

/// A block whose fields may have wrong forms, for whoever wants to know all that is wrong with it.
pub(super) struct Fields {
    /// The block; what has a wrong form is replaced by something of the right one.
    pub(super) block: Block,
    /// Whether version, index, previousHash, time and merkleRoot have the right form.
    pub(super) forms: [Result<(), RuleError>; 5],
    /// How many entries there are; the block holds as many of them as it may.
    pub(super) entries: usize,
}

/// Reads one block, whatever the form of its fields.
pub(super) fn parse_fields(text: &str) -> Result<Fields, RuleError> {
    let Object(raw) = serde_json::from_str::<Object<RawBlock<'_>>>(text).map_err(not_a_block)?;
    let RawHeader { version, index, previous_hash, time, merkle_root } = raw.header.0;
    let header = Header {
        version: Version::parse(&version).unwrap_or(Version::mined()),
        index: Height(index),
        previous_hash: BlockHash::from_hex(&previous_hash).unwrap_or(BlockHash::ZERO),
        time: UnixTime(time),
        merkle_root: MerkleRoot::from_hex(&merkle_root).unwrap_or(MerkleRoot([0; DIGEST_BYTES])),
    };
    let forms = rules::forms(&version, index, &previous_hash, time, &merkle_root);
    Ok(Fields { block: Block { header, body: raw.body.kept }, forms, entries: raw.body.all })
}

/// Reads a JSON array of blocks, one after the other: memory is that of the blocks.
///
/// # Errors
/// The shape rule that the text breaks first. An empty array is read as an empty list.
pub fn parse_blocks(text: &str) -> Result<Vec<Block>, RuleError> {
    parse_blocks_with(text, Ok)
}

/// As [`parse_blocks`], with each block turned into something else as soon as it is read: there are never two lists.
///
/// # Errors
/// The shape rule that the text breaks, or what `turn` says of a block: whichever comes first, but a text that is no JSON
/// array at all is named before either.
pub fn parse_blocks_with<T>(text: &str, turn: impl FnMut(Block) -> Result<T, RuleError>) -> Result<Vec<T>, RuleError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let blocks = deserializer.deserialize_seq(Blocks(turn)).map_err(not_a_block)?;
    deserializer.end().map_err(not_a_block)?;
    blocks
}

fn not_a_block(error: serde_json::Error) -> RuleError {
    RuleError::NotABlock { reason: reason(&error) }
}

/// What the parser found and where. It quotes a text of a wrong type in full, and a stranger's texts are as long as messages
/// may be; what is said here is kept and shown.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let whole = error.to_string();
    match whole.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => format!("{}… at line {} column {}", &whole[..end], error.line(), error.column()),
        None => whole,
    }
}

/// A block as it stands in JSON, before its fields are judged.
#[derive(Deserialize)]
struct RawBlock<'a> {
    #[serde(borrow)]
    header: Object<RawHeader<'a>>,
    body: Entries,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHeader<'a> {
    #[serde(borrow)]
    version: Cow<'a, str>,
    index: u64,
    #[serde(borrow)]
    previous_hash: Cow<'a, str>,
    time: u64,
    #[serde(borrow)]
    merkle_root: Cow<'a, str>,
}

impl RawBlock<'_> {
    fn shaped(self) -> Result<Block, RuleError> {
        let RawHeader { version, index, previous_hash, time, merkle_root } = self.header.0;
        let Entries { kept, all } = self.body;
        let block = Block::from_parts(&version, index, &previous_hash, time, &merkle_root, kept)?;
        if all > block.body.len() { Err(RuleError::BodyEntries { got: all }) } else { Ok(block) }
    }
}

/// A body's entries, as many as a block may have, and how many there are. An empty one takes three bytes of text, and eight
/// times that in memory.
struct Entries {
    kept: Vec<String>,
    all: usize,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Few;

        impl<'de> Visitor<'de> for Few {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entries, A::Error> {
                // Most lists have one element, and room for more would be a quarter of a whole chain's memory.
                let mut kept = Vec::with_capacity(1);
                while kept.len() < MAX_BODY_ENTRIES
                    && let Some(entry) = seq.next_element()?
                {
                    kept.push(entry);
                }
                let mut all = kept.len();
                while kept.len() == MAX_BODY_ENTRIES && seq.next_element::<IgnoredAny>()?.is_some() {
                    all += 1;
                }
                Ok(Entries { kept, all })
            }
        }

        deserializer.deserialize_seq(Few)
    }
}

/// A struct that stands as an object. Serde's derive alone would also take an array with the fields' values in order, which
/// is something else to every other program.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Shapes each block as it is read, and turns it. The inner result is a rule's, the outer one the parser's.
struct Blocks<F>(F);

impl<'de, T, F: FnMut(Block) -> Result<T, RuleError>> Visitor<'de> for Blocks<F> {
    type Value = Result<Vec<T>, RuleError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of blocks")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut blocks = Ok(Vec::new());
        while let Some(Object(raw)) = seq.next_element::<Object<RawBlock<'de>>>()? {
            if let Ok(list) = &mut blocks {
                match raw.shaped().and_then(&mut self.0) {
                    Ok(block) => list.push(block),
                    Err(error) => blocks = Err(error),
                }
            }
        }
        Ok(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::genesis;

    #[test]
    fn of_too_many_entries_as_many_are_kept_as_a_block_may_have() {
        for count in [0, 1, MAX_BODY_ENTRIES, MAX_BODY_ENTRIES + 1, 1_000_000] {
            let text = format!("[{}]", vec!["\"\""; count].join(","));
            let Entries { kept, all } = serde_json::from_str(&text).expect("strings");
            assert_eq!((kept.len(), all), (count.min(MAX_BODY_ENTRIES), count));
            assert!(kept.capacity() <= 2 * MAX_BODY_ENTRIES, "{count} entries take room for {}", kept.capacity());
        }
    }

    #[test]
    fn a_reason_quotes_little_of_a_long_text() {
        let text = to_string(genesis::block().block());
        let long = text.replace("\"index\":0", &format!("\"index\":\"{}\"", "é".repeat(1_000_000)));
        let Err(RuleError::NotABlock { reason }) = parse_block(&long) else { panic!("a text is no index") };
        assert!(reason.starts_with("invalid type: string \"éé"), "{reason}");
        assert!(reason.ends_with("é… at line 1 column 2000039"), "{reason}");
        assert!(reason.chars().count() < 250, "{reason}");
        let Err(RuleError::NotABlock { reason }) = parse_block("[]") else { panic!("an array is no block") };
        assert_eq!(reason, "invalid type: sequence, expected an object at line 1 column 0");
    }

    #[test]
    fn the_text_is_what_serde_would_write() {
        let bodies: [&[&str]; 5] = [
            &["plain"],
            &["", "two"],
            &["a \"quote\"", "back\\slash", "line\nfeed", "\u{0}\u{1f}\u{7f}"],
            &["ä€😀", "\u{2028}"],
            &[],
        ];
        for body in bodies {
            let mut block = genesis::block().block().clone();
            block.body = body.iter().map(ToString::to_string).collect();
            assert_eq!(to_string(&block), serde_json::to_string(&block).expect("plain data"));
            let mut text = Vec::new();
            write_view(&BlockView::from(&block), &mut text);
            assert_eq!(String::from_utf8(text), Ok(to_string(&block)));
        }
    }
}
