//! What a block is: header, body, its hash, and its place in the chain.
//!
//! Owns the chain format of the tutorial. Whether a block is acceptable is for [`rules`](super::rules) to say; its text
//! form is in [`json`](super::json).

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hash::{BlockHash, DIGEST_CHARS, MerkleRoot};
use super::limits::{MAX_SAFE_INTEGER, MAX_VERSION_CHARS};

/// A block's height in its chain, the field `index`; genesis is 0, all are below 2^53.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Height(pub u64);

impl Height {
    /// Genesis.
    pub const GENESIS: Self = Self(0);

    /// The height of a child. Saturates: heights are below 2^53, so the end of `u64` is never near.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Seconds since 1970-01-01 UTC, rounded up, below 2^53.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A header's version, `digits.digits.digits` of at most [`MAX_VERSION_CHARS`] characters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Version(Option<Box<str>>);

impl Version {
    /// The version of the blocks that dolmen mines. Kept without an allocation: nearly every block has it.
    pub const MINED: &'static str = "1.0.0";

    /// The version that dolmen mines.
    #[must_use]
    pub const fn mined() -> Self {
        Self(None)
    }

    /// Reads `digits.digits.digits`; anything else is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == Self::MINED {
            return Some(Self(None));
        }
        let mut parts = text.split('.');
        let digits = |part: Option<&str>| part.is_some_and(|p| !p.is_empty() && p.bytes().all(|c| c.is_ascii_digit()));
        let well_formed =
            digits(parts.next()) && digits(parts.next()) && digits(parts.next()) && parts.next().is_none();
        (well_formed && text.len() <= MAX_VERSION_CHARS).then(|| Self(Some(text.into())))
    }

    /// The text of the version.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(Self::MINED)
    }
}

/// A block's header, in the order of its fields in JSON.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Version of the program that mined the block.
    pub version: Version,
    /// The block's height.
    pub index: Height,
    /// Hash of the parent, zeros in genesis.
    pub previous_hash: BlockHash,
    /// When the block was mined, by the miner's clock.
    pub time: UnixTime,
    /// Root of the body's Merkle tree.
    pub merkle_root: MerkleRoot,
}

impl Header {
    /// The block hash: SHA-256 over version, index, previousHash, time and merkleRoot as text with nothing between.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        // The longest pre-image: a version, two numbers below 2^53 (16 digits), two digests.
        let mut text = [0u8; MAX_VERSION_CHARS + 16 + DIGEST_CHARS + 16 + DIGEST_CHARS];
        let room = text.len();
        let mut rest = &mut text[..];
        let mut number = itoa::Buffer::new();
        let written = rest
            .write_all(self.version.as_str().as_bytes())
            .and_then(|()| rest.write_all(number.format(self.index.0).as_bytes()))
            .and_then(|()| rest.write_all(self.previous_hash.to_hex().as_bytes()))
            .and_then(|()| rest.write_all(number.format(self.time.0).as_bytes()))
            .and_then(|()| rest.write_all(self.merkle_root.to_hex().as_bytes()));
        let used = room - rest.len();
        match written {
            Ok(()) => BlockHash(Sha256::digest(&text[..used]).into()),
            // Only a header built by hand with numbers beyond 2^53 is longer than the buffer.
            Err(_) => BlockHash(Sha256::digest(self.preimage()).into()),
        }
    }

    /// The text that is hashed, for people who want to see it.
    #[must_use]
    pub fn preimage(&self) -> String {
        preimage(
            self.version.as_str(),
            self.index.0,
            self.previous_hash.to_hex().as_str(),
            self.time.0,
            self.merkle_root.to_hex().as_str(),
        )
    }
}

/// The text that a header's hash is taken over, from the header's fields as text.
#[must_use]
pub fn preimage(version: &str, index: u64, previous_hash: &str, time: u64, merkle_root: &str) -> String {
    format!("{version}{index}{previous_hash}{time}{merkle_root}")
}

/// Whether a number is one that JavaScript reads as the same integer.
#[must_use]
pub fn is_safe_integer(number: u64) -> bool {
    number <= MAX_SAFE_INTEGER
}

/// A block whose fields have the right types and forms, and nothing more is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// What is hashed.
    pub header: Header,
    /// The entries, in order.
    pub body: Vec<String>,
}

impl Block {
    /// Bytes of all entries together.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body.iter().map(String::len).sum()
    }

    /// At most how many bytes the block takes in a compact form: its entries with a length each, and a header.
    #[must_use]
    pub fn compact_bytes(&self) -> usize {
        self.body_bytes() + 3 * self.body.len() + 128
    }
}

/// A block whose entries stand in memory that belongs to somebody else: what readers of many blocks are shown, so that
/// nothing is copied only to be written elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockView<'a> {
    /// What is hashed.
    pub header: Header,
    /// The entries, in order.
    pub body: Vec<&'a str>,
}

impl<'a> From<&'a Block> for BlockView<'a> {
    fn from(block: &'a Block) -> Self {
        Self { header: block.header.clone(), body: block.body.iter().map(String::as_str).collect() }
    }
}

/// A block that obeys every rule that can be judged without its parent, with its hash.
///
/// Made by [`rules::check_alone`](super::rules::check_alone), and by the store from a checksummed record of such a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckedBlock {
    block: Block,
    hash: BlockHash,
}

/// A checked block on its way through the node: never copied.
pub type SharedBlock = Arc<CheckedBlock>;

impl CheckedBlock {
    /// For those who have just judged the block, or read it back from where only checked blocks are written.
    pub(crate) fn trusted(block: Block, hash: BlockHash) -> Self {
        Self { block, hash }
    }

    /// The block.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// The block's header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.block.header
    }

    /// The block's entries.
    #[must_use]
    pub fn body(&self) -> &[String] {
        &self.block.body
    }

    /// The block's hash.
    #[must_use]
    pub fn hash(&self) -> BlockHash {
        self.hash
    }

    /// The block's height.
    #[must_use]
    pub fn height(&self) -> Height {
        self.block.header.index
    }

    /// The parent's hash.
    #[must_use]
    pub fn parent(&self) -> BlockHash {
        self.block.header.previous_hash
    }

    /// The block seen as the end of a chain.
    #[must_use]
    pub fn tip(&self) -> Tip {
        Tip { height: self.height(), hash: self.hash }
    }
}

/// The end of a chain: how long it is and which block ends it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Tip {
    /// Height of the last block.
    pub height: Height,
    /// Hash of the last block.
    pub hash: BlockHash,
}

impl Tip {
    /// The total order over chains: longer wins, at equal length the smaller block hash wins.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        (self.height, std::cmp::Reverse(self.hash)) > (other.height, std::cmp::Reverse(other.hash))
    }
}

impl fmt::Display for Tip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.height, self.hash.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers() {
        for good in ["1.0.0", "0.0.0", "10.20.30", "1.0.01"] {
            assert_eq!(Version::parse(good).expect(good).as_str(), good);
        }
        for bad in ["", "1", "1.0", "1.0.0.0", "1..0", "1.0.", ".0.0", "1.0.a", "2.1.0-beta", "1.0.0 ", "１.0.0"] {
            assert_eq!(Version::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Version::parse(&format!("1.0.{}", "0".repeat(29))), None, "33 characters");
        assert!(Version::parse(&format!("1.0.{}", "0".repeat(28))).is_some(), "32 characters");
    }

    #[test]
    fn longer_beats_shorter_and_smaller_hash_beats_larger() {
        let tip = |height, byte| Tip { height: Height(height), hash: BlockHash([byte; 32]) };
        assert!(tip(2, 9).beats(&tip(1, 0)));
        assert!(tip(1, 0).beats(&tip(1, 9)));
        assert!(!tip(1, 9).beats(&tip(1, 0)));
        assert!(!tip(1, 1).beats(&tip(1, 1)));
    }

    #[test]
    fn a_header_too_long_for_the_buffer_hashes_its_preimage() {
        let header = Header {
            version: Version::mined(),
            index: Height(u64::MAX),
            previous_hash: BlockHash::ZERO,
            time: UnixTime(u64::MAX),
            merkle_root: MerkleRoot([1; 32]),
        };
        assert_eq!(header.hash().0, <[u8; 32]>::from(Sha256::digest(header.preimage())));
    }
}
