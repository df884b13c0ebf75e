//! The one text form of a block: JSON with the keys in the tutorial's order and no spaces.
//!
//! Reading is strict where programs could disagree: fractions, exponents, `-0`, numbers above 2^53, lone surrogates and
//! doubled fields are refused; unknown fields are dropped.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::block::{Block, CheckedBlock, Header};
use super::rules::{self, RuleError};

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
    let Header { version, index, previous_hash, time, merkle_root } = &block.header;
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
    for (place, entry) in block.body.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_text(entry, out);
    }
    out.extend_from_slice(b"]}");
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    // Writing into memory cannot fail.
    let _ = write!(out, "{number}");
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

/// Reads one block, and names every field that has a wrong form.
pub(super) fn parse_fields(text: &str) -> Result<Block, Vec<RuleError>> {
    let Object(raw) = serde_json::from_str::<Object<RawBlock<'_>>>(text).map_err(|error| vec![not_a_block(error)])?;
    let RawHeader { version, index, previous_hash, time, merkle_root } = &raw.header.0;
    let broken: Vec<RuleError> =
        rules::forms(version, *index, previous_hash, *time, merkle_root).into_iter().filter_map(Result::err).collect();
    if broken.is_empty() { raw.shaped().map_err(|error| vec![error]) } else { Err(broken) }
}

/// Reads a JSON array of blocks, one after the other: memory is that of the blocks.
///
/// # Errors
/// The shape rule that the text breaks first. An empty array is read as an empty list.
pub fn parse_blocks(text: &str) -> Result<Vec<Block>, RuleError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let blocks = deserializer.deserialize_seq(Blocks).map_err(not_a_block)?;
    deserializer.end().map_err(not_a_block)?;
    blocks
}

fn not_a_block(error: serde_json::Error) -> RuleError {
    RuleError::NotABlock { reason: error.to_string() }
}

/// A block as it stands in JSON, before its fields are judged.
#[derive(Deserialize)]
struct RawBlock<'a> {
    #[serde(borrow)]
    header: Object<RawHeader<'a>>,
    body: Vec<String>,
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
        Block::from_parts(&version, index, &previous_hash, time, &merkle_root, self.body)
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

/// Shapes each block as it is read. The inner result is a rule's, the outer one the parser's.
struct Blocks;

impl<'de> Visitor<'de> for Blocks {
    type Value = Result<Vec<Block>, RuleError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of blocks")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut blocks = Ok(Vec::new());
        while let Some(Object(raw)) = seq.next_element::<Object<RawBlock<'de>>>()? {
            if let Ok(list) = &mut blocks {
                match raw.shaped() {
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
        }
    }
}
