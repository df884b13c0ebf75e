//! Numbers and bytes in the store's files: what the formats are made of.
//!
//! Fixed numbers are little-endian. A *varint* is LEB128 of at most ten bytes: seven bits a byte, lowest first, the top bit
//! says that more follow. Reading is from a slice that is already in memory; nothing is reserved by a length that is
//! read, and nothing here panics.

use crate::ledger::hash::{BlockHash, DIGEST_BYTES};

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // The cast keeps the low seven bits, which is the point.
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a length or a count as a varint.
pub(super) fn put_len(out: &mut Vec<u8>, len: usize) {
    put_varint(out, len as u64);
}

/// Reads from the front of a slice. Every method is `None` when the bytes do not suffice or are not of the form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn hash(&mut self) -> Option<BlockHash> {
        self.array::<DIGEST_BYTES>().map(BlockHash)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has one bit left.
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn varint_u32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    /// A count of things that take at least `each` bytes: more than can follow is `None`, so a caller may reserve for it.
    pub(super) fn count(&mut self, each: usize) -> Option<usize> {
        let count = usize::try_from(self.varint()?).ok()?;
        (count <= self.0.len() / each.max(1)).then_some(count)
    }
}

/// CRC-32 over bytes, begun with a seed: two files or places with different seeds never take each other's bytes.
pub(super) fn seeded_crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(seed);
    crc.update(bytes);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_only_whole() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), (1 << 53) - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert_eq!(Input::new(&bytes).varint(), Some(number));
            for cut in 0..bytes.len() {
                assert_eq!(Input::new(&bytes[..cut]).varint(), None, "{number} cut at {cut}");
            }
        }
        assert_eq!(Input::new(&[0xff; 10]).varint(), None, "beyond 64 bits");
        assert_eq!(Input::new(&[0x80; 11]).varint(), None, "never ends");
    }

    #[test]
    fn counts_are_bounded_by_what_can_follow() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, 3);
        bytes.extend([0; 9]);
        assert_eq!(Input::new(&bytes).count(3), Some(3));
        assert_eq!(Input::new(&bytes).count(4), None);
        assert_eq!(Input::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).count(0), None);
    }
}
