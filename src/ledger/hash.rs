//! The two kinds of SHA-256 digest of the chain format, and their text forms.
//!
//! A [`BlockHash`] is written in lower-case hex, a [`MerkleRoot`] in upper-case hex; inside the node both are 32 bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes in a digest.
pub const DIGEST_BYTES: usize = 32;

/// Characters of a digest in hex.
pub const DIGEST_CHARS: usize = 2 * DIGEST_BYTES;

/// SHA-256 of a block's header, 64 lower-case hex characters in text. Ordered as its text is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockHash(pub [u8; DIGEST_BYTES]);

/// Root of a body's Merkle tree, 64 upper-case hex characters in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MerkleRoot(pub [u8; DIGEST_BYTES]);

impl BlockHash {
    /// What stands where genesis has no parent: 64 zeros.
    pub const ZERO: Self = Self([0; DIGEST_BYTES]);

    /// Reads 64 lower-case hex characters; anything else is `None`.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        decode(text, b'a').map(Self)
    }

    /// The 64 characters, without an allocation.
    #[must_use]
    pub fn to_hex(self) -> HexText {
        HexText::digits(&self.0, b'a')
    }

    /// The first eight characters, for logs that people read.
    #[must_use]
    pub fn short(self) -> String {
        self.to_hex().as_str()[..8].to_owned()
    }
}

impl MerkleRoot {
    /// Reads 64 upper-case hex characters; anything else is `None`.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        decode(text, b'A').map(Self)
    }

    /// The 64 characters, without an allocation.
    #[must_use]
    pub fn to_hex(self) -> HexText {
        HexText::digits(&self.0, b'A')
    }
}

/// The digest that 64 hex characters stand for, `ten` being the letter of the digit ten. By hand for the same reason as
/// [`HexText::digits`]: nothing in it branches, so that many digits are read at once.
fn decode(text: &str, ten: u8) -> Option<[u8; DIGEST_BYTES]> {
    const NONE: u8 = 0xff;
    let text: &[u8; DIGEST_CHARS] = text.as_bytes().try_into().ok()?;
    let value = |digit: u8| {
        let (number, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(ten));
        let of_letter = if letter < 6 { letter.wrapping_add(10) } else { NONE };
        if number < 10 { number } else { of_letter }
    };
    let mut digest = [0; DIGEST_BYTES];
    let mut seen = 0;
    for (byte, [high, low]) in digest.iter_mut().zip(text.as_chunks::<2>().0) {
        let (high, low) = (value(*high), value(*low));
        seen |= high | low;
        *byte = high << 4 | low & 15;
    }
    (seen < 16).then_some(digest)
}

/// A digest as 64 ASCII characters on the stack.
#[derive(Clone, Copy)]
pub struct HexText([u8; DIGEST_CHARS]);

impl HexText {
    /// By hand and without a table, so that the compiler does many digits at once: a fifth of the time of `hex`, and every
    /// header hash needs two of them.
    fn digits(digest: &[u8; DIGEST_BYTES], ten: u8) -> Self {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { ten.wrapping_add(nibble.wrapping_sub(10)) };
        let mut text = [0; DIGEST_CHARS];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(digest) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        Self(text)
    }

    /// The characters as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Hex digits are ASCII, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The characters as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_hex().as_str())
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MerkleRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_hex().as_str())
    }
}

impl fmt::Debug for MerkleRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_reads_only_its_own_case_and_length() {
        let lower = "ab".repeat(32);
        let upper = lower.to_uppercase();
        assert_eq!(BlockHash::from_hex(&lower), Some(BlockHash([0xab; 32])));
        assert_eq!(MerkleRoot::from_hex(&upper), Some(MerkleRoot([0xab; 32])));
        assert_eq!(BlockHash::from_hex(&upper), None);
        assert_eq!(MerkleRoot::from_hex(&lower), None);
        assert_eq!(BlockHash::from_hex(&lower[1..]), None);
        assert_eq!(BlockHash::from_hex(&format!("{lower}0")), None);
        assert_eq!(BlockHash::from_hex(&"é".repeat(32)), None);
        assert_eq!(BlockHash([0xab; 32]).to_string(), lower);
        assert_eq!(MerkleRoot([0xab; 32]).to_string(), upper);
    }

    #[test]
    fn digits_are_those_of_the_hex_crate() {
        for first in 0..8 {
            let digest = std::array::from_fn(|at| first * 32 + at as u8);
            assert_eq!(BlockHash(digest).to_string(), hex::encode(digest));
            assert_eq!(MerkleRoot(digest).to_string(), hex::encode_upper(digest));
            assert_eq!(BlockHash::from_hex(&hex::encode(digest)), Some(BlockHash(digest)));
            assert_eq!(MerkleRoot::from_hex(&hex::encode_upper(digest)), Some(MerkleRoot(digest)));
        }
    }

    #[test]
    fn every_other_character_is_refused_at_every_place() {
        for byte in 0..=u8::MAX {
            for at in 0..DIGEST_CHARS {
                let mut text = [b'0'; DIGEST_CHARS];
                text[at] = byte;
                let Ok(text) = str::from_utf8(&text) else { continue };
                assert_eq!(BlockHash::from_hex(text).is_some(), matches!(byte, b'0'..=b'9' | b'a'..=b'f'), "{text:?}");
                assert_eq!(MerkleRoot::from_hex(text).is_some(), matches!(byte, b'0'..=b'9' | b'A'..=b'F'), "{text:?}");
            }
        }
    }

    #[test]
    fn order_of_bytes_is_order_of_text() {
        let (a, b) = (BlockHash([0x0f; 32]), BlockHash([0xf0; 32]));
        assert!(a < b);
        assert!(a.to_string() < b.to_string());
    }
}
