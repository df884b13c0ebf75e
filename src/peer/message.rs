//! Text frames: the tutorial's messages, HELLO and PROOF.
//!
//! | type | name | data |
//! | --- | --- | --- |
//! | 0 | QUERY_LAST | null |
//! | 1 | QUERY_ALL | null |
//! | 2 | RESPONSE_BLOCK | a string that holds a JSON array of blocks: the last one, or all |
//! | 16 | HELLO | an object, see [`Hello`] |
//! | 17 | PROOF | 64 lower-case hex characters, see [`proof`](super::proof); only between nodes of a closed cluster |
//!
//! A tutorial peer ignores unknown types, but crashes on a frame that is not JSON text, on an empty array of blocks and on
//! null data in type 2. Nothing in this module can make such a frame.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::ledger::{Block, BlockHash, Height, Tip, json};
use crate::text;

const QUERY_LAST: u64 = 0;
const QUERY_ALL: u64 = 1;
const RESPONSE_BLOCK: u64 = 2;
const HELLO: u64 = 16;
const PROOF: u64 = 17;

/// Version of the native protocol. Peers of different versions treat each other as tutorial peers.
pub const PROTOCOL: u32 = 1;

/// Characters of an agent that are kept.
const MAX_AGENT_CHARS: usize = 64;

/// A text frame as it was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Text {
    /// The peer asks for our last block.
    QueryLast,
    /// The peer asks for our whole chain.
    QueryAll,
    /// The peer's last block or whole chain, as JSON text that was not looked into yet.
    Blocks(String),
    /// The peer is a dolmen node.
    Hello(Hello),
    /// The peer says that it holds the cluster's key.
    Proof(Proof),
    /// A type that we do not know: ignored, as the tutorial does.
    Unknown(u64),
}

/// Why a text frame could not be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum MessageError {
    /// Not `{"type":N,"data":…}`.
    #[error("not a message: {0}")]
    Form(String),
    /// RESPONSE_BLOCK without a string in it.
    #[error("RESPONSE_BLOCK does not hold a string: {0}")]
    BlocksForm(String),
    /// HELLO with missing, wrong or oversize fields.
    #[error("HELLO cannot be read: {0}")]
    HelloForm(String),
    /// PROOF without 64 hex characters in it.
    #[error("PROOF cannot be read: {0}")]
    ProofForm(String),
}

/// What a dolmen node says of itself when a link opens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// Random name of the running node, 32 lower-case hex characters: tells oneself and double links.
    pub node: NodeId,
    /// Number of this link, larger than those of the sender's earlier links, 16 lower-case hex characters: orders double
    /// links that one side dialled.
    pub nonce: Nonce,
    /// Hash of the sender's genesis.
    #[serde(with = "hash_text")]
    pub genesis: BlockHash,
    /// The sender's own peer port.
    pub port: u16,
    /// The sender's tip.
    #[serde(with = "tip_text")]
    pub tip: Tip,
    /// The sender's program and version, for people.
    pub agent: String,
    /// What the peer's proof has to be made for, 64 lower-case hex characters; only from a node of a closed cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<Challenge>,
}

/// Random bytes of one link, never used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Challenge(#[serde(with = "hex_bytes")] pub [u8; 32]);

/// A keyed hash that only who holds the cluster's key can make.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Proof(#[serde(with = "hex_bytes")] pub [u8; 32]);

/// Names a running node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u128);

/// Names a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Nonce(pub u64);

/// `{"type":0,"data":null}`.
#[must_use]
pub fn query_last() -> String {
    format!(r#"{{"type":{QUERY_LAST},"data":null}}"#)
}

/// `{"type":1,"data":null}`.
#[must_use]
pub fn query_all() -> String {
    format!(r#"{{"type":{QUERY_ALL},"data":null}}"#)
}

/// RESPONSE_BLOCK with one block.
#[must_use]
pub fn response_block(block: &Block) -> String {
    response_text(&json::array_to_string([block]))
}

/// RESPONSE_BLOCK around the text of a non-empty JSON array of blocks.
#[must_use]
pub fn response_text(array: &str) -> String {
    // Strings always serialise; the fallback is never taken.
    let data = serde_json::to_string(array).unwrap_or_default();
    format!(r#"{{"type":{RESPONSE_BLOCK},"data":{data}}}"#)
}

/// The HELLO frame.
#[must_use]
pub fn hello(hello: &Hello) -> String {
    // A HELLO has only numbers and strings; the fallback is never taken.
    let data = serde_json::to_string(hello).unwrap_or_default();
    format!(r#"{{"type":{HELLO},"data":{data}}}"#)
}

/// The PROOF frame.
#[must_use]
pub fn proof(proof: &Proof) -> String {
    format!(r#"{{"type":{PROOF},"data":"{}"}}"#, hex::encode(proof.0))
}

/// Reads a text frame. The blocks in it are not looked into: they are judged elsewhere, away from the link's thread.
///
/// # Errors
/// The frame is not a message, or its data do not fit its type.
pub fn parse(frame: &str) -> Result<Text, MessageError> {
    let json::Object(envelope) = serde_json::from_str::<json::Object<Envelope<'_>>>(frame)
        .map_err(|error| MessageError::Form(json::reason(&error)))?;
    let data = envelope.data.map_or("null", RawValue::get);
    match envelope.kind {
        QUERY_LAST => Ok(Text::QueryLast),
        QUERY_ALL => Ok(Text::QueryAll),
        RESPONSE_BLOCK => {
            serde_json::from_str(data).map(Text::Blocks).map_err(|error| MessageError::BlocksForm(json::reason(&error)))
        }
        HELLO => {
            let json::Object(mut hello) = serde_json::from_str::<json::Object<Hello>>(data)
                .map_err(|error| MessageError::HelloForm(json::reason(&error)))?;
            hello.agent = hello.agent.chars().filter(|c| !text::is_unsafe(*c)).take(MAX_AGENT_CHARS).collect();
            Ok(Text::Hello(hello))
        }
        PROOF => {
            serde_json::from_str(data).map(Text::Proof).map_err(|error| MessageError::ProofForm(json::reason(&error)))
        }
        other => Ok(Text::Unknown(other)),
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: u64,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

macro_rules! hex_number {
    ($name:ident, $number:ty, $width:literal) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:0width$x}", self.0, width = $width)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let hex = text.len() == $width && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
                <$number>::from_str_radix(&text, 16).ok().filter(|_| hex).map(Self).ok_or_else(|| {
                    serde::de::Error::custom(concat!("not ", $width, " lower-case hex characters"))
                })
            }
        }
    };
}

hex_number!(NodeId, u128, 32);
hex_number!(Nonce, u64, 16);

/// 32 bytes as 64 lower-case hex characters.
mod hex_bytes {
    use super::{BlockHash, Deserialize, Serialize};

    pub fn serialize<S: serde::Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        hex::encode(bytes).serialize(serializer)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BlockHash::from_hex(&text).map(|hash| hash.0);
        bytes.ok_or_else(|| serde::de::Error::custom("not 64 lower-case hex characters"))
    }
}

/// A block hash as 64 lower-case hex characters.
mod hash_text {
    use super::{BlockHash, Deserialize};

    pub fn serialize<S: serde::Serializer>(hash: &BlockHash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(hash)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BlockHash, D::Error> {
        let text = String::deserialize(deserializer)?;
        BlockHash::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not 64 lower-case hex characters"))
    }
}

/// A tip as `{"index":N,"hash":"…"}`.
mod tip_text {
    use super::{BlockHash, Deserialize, Height, Serialize, Tip, hash_text, json};
    use crate::ledger::block::is_safe_integer;

    #[derive(Serialize, Deserialize)]
    struct TipText {
        index: u64,
        #[serde(with = "hash_text")]
        hash: BlockHash,
    }

    pub fn serialize<S: serde::Serializer>(tip: &Tip, serializer: S) -> Result<S::Ok, S::Error> {
        TipText { index: tip.height.0, hash: tip.hash }.serialize(serializer)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Tip, D::Error> {
        let json::Object(TipText { index, hash }) = json::Object::deserialize(deserializer)?;
        if !is_safe_integer(index) {
            return Err(serde::de::Error::custom("index is above 2^53 - 1"));
        }
        Ok(Tip { height: Height(index), hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::genesis;

    fn example() -> Hello {
        Hello {
            protocol: PROTOCOL,
            node: NodeId(0xabc),
            nonce: Nonce(7),
            genesis: genesis::tip().hash,
            port: 6005,
            tip: genesis::tip(),
            agent: "dolmen/0.1.0".into(),
            challenge: None,
        }
    }

    #[test]
    fn queries_are_the_tutorials() {
        assert_eq!(query_last(), r#"{"type":0,"data":null}"#);
        assert_eq!(query_all(), r#"{"type":1,"data":null}"#);
        assert_eq!(parse(&query_last()), Ok(Text::QueryLast));
        assert_eq!(parse(r#"{"data":null,"type":1}"#), Ok(Text::QueryAll));
        assert_eq!(parse(r#"{"type":0}"#), Ok(Text::QueryLast), "JavaScript leaves undefined out");
        assert_eq!(parse(r#"{"type":99,"data":{"x":[1]}}"#), Ok(Text::Unknown(99)));
    }

    #[test]
    fn a_block_travels_as_a_string_that_holds_an_array() {
        let text = response_block(genesis::block().block());
        let block = json::to_string(genesis::block().block());
        assert_eq!(text, format!(r#"{{"type":2,"data":{}}}"#, serde_json::to_string(&format!("[{block}]")).unwrap()));
        assert_eq!(parse(&text), Ok(Text::Blocks(format!("[{block}]"))));
    }

    #[test]
    fn hello_comes_back_as_it_was_sent() {
        assert_eq!(parse(&hello(&example())), Ok(Text::Hello(example())));
        let text = hello(&example());
        assert!(text.contains(r#""node":"00000000000000000000000000000abc","nonce":"0000000000000007""#), "{text}");
        assert!(text.contains(r#""tip":{"index":0,"hash":"f087ad9b"#), "{text}");
        assert!(!text.contains("challenge"), "an open node's HELLO is as it was: {text}");
        let closed = Hello { challenge: Some(Challenge([0xab; 32])), ..example() };
        assert!(hello(&closed).contains(&format!(r#""challenge":"{}""#, "ab".repeat(32))));
        assert_eq!(parse(&hello(&closed)), Ok(Text::Hello(closed)));
    }

    #[test]
    fn a_proof_is_64_hex_characters() {
        let text = proof(&Proof([0xcd; 32]));
        assert_eq!(text, format!(r#"{{"type":17,"data":"{}"}}"#, "cd".repeat(32)));
        assert_eq!(parse(&text), Ok(Text::Proof(Proof([0xcd; 32]))));
        for data in ["null", "\"cd\"", "[1]", &format!("\"{}\"", "CD".repeat(32)), &format!("\"{}\"", "cd".repeat(33))]
        {
            let text = format!(r#"{{"type":17,"data":{data}}}"#);
            assert!(matches!(parse(&text), Err(MessageError::ProofForm(_))), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for text in [
            "",
            "null",
            "[]",
            "[0]",
            "[1,null]",
            "{}",
            "1",
            "{\"type\":-1}",
            "{\"type\":1.0}",
            "{\"type\":\"1\"}",
            "{\"type\":0,\"type\":0}",
        ] {
            assert!(matches!(parse(text), Err(MessageError::Form(_))), "{text}");
        }
        for text in [r#"{"type":2,"data":null}"#, r#"{"type":2}"#, r#"{"type":2,"data":[]}"#] {
            assert!(matches!(parse(text), Err(MessageError::BlocksForm(_))), "{text}");
        }
        let short = hello(&example()).replace("00000000000000000000000000000abc", "abc");
        let plus = hello(&example()).replace("\"0000000000000007\"", "\"+000000000000007\"");
        for text in [r#"{"type":16,"data":null}"#, r#"{"type":16,"data":{}}"#, &short, &plus] {
            assert!(matches!(parse(text), Err(MessageError::HelloForm(_))), "{text}");
        }
    }

    #[test]
    fn a_refusal_quotes_little_of_what_was_sent() {
        let long = "x".repeat(100_000);
        let port = hello(&example()).replace("\"port\":6005", &format!("\"port\":\"{long}\""));
        for text in [format!(r#"{{"type":"{long}"}}"#), port] {
            let reason = parse(&text).expect_err("a text is no number").to_string();
            assert!(reason.len() < 300 && reason.contains("string \"xxx"), "{reason}");
        }
    }

    #[test]
    fn an_agent_is_cut_and_cleaned() {
        let text = hello(&Hello { agent: format!("a\u{1b}[31m\u{202e}{}", "x".repeat(500)), ..example() });
        let Ok(Text::Hello(read)) = parse(&text) else { panic!("HELLO") };
        assert_eq!(read.agent, format!("a[31m{}", "x".repeat(59)));
    }
}
