//! The tutorial's Merkle tree over a body's entries.
//!
//! A leaf is the SHA-256 of the entry's UTF-8; an inner node is the SHA-256 over the 128 upper-case hex characters of its
//! two children; the last node of an odd row moves up unchanged. The original library takes an entry that already looks
//! like a digest as the leaf itself, so that different bodies can share a root: [`is_ambiguous`] says which entries do.

use sha2::{Digest, Sha256};

use super::hash::{DIGEST_CHARS, MerkleRoot};

/// The root over a body; `None` for an empty one, which has no tree.
#[must_use]
pub fn root(body: &[String]) -> Option<MerkleRoot> {
    if let [only] = body {
        return Some(leaf(only));
    }
    let mut row: Vec<MerkleRoot> = body.iter().map(|entry| leaf(entry)).collect();
    while row.len() > 1 {
        row = row.chunks(2).map(parent).collect();
    }
    row.first().copied()
}

/// The node above one or two neighbours of a row.
fn parent(pair: &[MerkleRoot]) -> MerkleRoot {
    match pair {
        [left, right] => {
            let mut text = [0; 2 * DIGEST_CHARS];
            text[..DIGEST_CHARS].copy_from_slice(left.to_hex().as_bytes());
            text[DIGEST_CHARS..].copy_from_slice(right.to_hex().as_bytes());
            MerkleRoot(Sha256::digest(text).into())
        }
        // `chunks(2)` gives one or two, never none: a lone last node moves up.
        rest => rest[0],
    }
}

/// The leaf of one entry, as the original library computes it.
fn leaf(entry: &str) -> MerkleRoot {
    MerkleRoot::from_hex(entry).unwrap_or_else(|| MerkleRoot(Sha256::digest(entry).into()))
}

/// Whether an entry could stand for a node of the tree: 64 or 128 characters of upper-case hex. A body with such an entry
/// can share its root with another body, so it is refused.
#[must_use]
pub fn is_ambiguous(entry: &str) -> bool {
    (entry.len() == DIGEST_CHARS || entry.len() == 2 * DIGEST_CHARS)
        && entry.bytes().all(|c| matches!(c, b'0'..=b'9' | b'A'..=b'F'))
}
