//! How large a block may be. These are rules of the chain, the same on every node, so they are constants and not flags.

/// Bytes of one entry's UTF-8: a log line, a short document, a signature; more belongs in a file whose hash is the entry.
pub const MAX_ENTRY_BYTES: usize = 64 * 1024;

/// Bytes of all entries of a body together. As doubly escaped JSON (six bytes for one, twice over) a full body still fits
/// into the 4 MiB message that a stranger may send for the usual text.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Entries in a body: bounds the Merkle tree, and the work that one message can cause.
pub const MAX_BODY_ENTRIES: usize = 10_000;

/// Characters of a version `digits.digits.digits`: room for any real one, and a bound for the header's pre-image.
pub const MAX_VERSION_CHARS: usize = 32;

/// Indexes and times are below this, 2^53: above it JavaScript's numbers skip integers.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Seconds that a block's time may be ahead of our clock: clocks drift, and time zones get confused by an hour or two.
pub const MAX_SECONDS_AHEAD: u64 = 2 * 60 * 60;

/// Branches (tips off the best chain) that are kept.
pub const MAX_SIDE_BRANCHES: usize = 64;

/// Bytes of entries in all kept side blocks together.
pub const MAX_SIDE_BYTES: u64 = 256 * 1024 * 1024;

/// Side blocks that are kept: what 256 MiB do not bound when blocks are tiny is the memory of their place in the tree,
/// about 200 bytes each.
pub const MAX_SIDE_BLOCKS: usize = 65_536;

/// Branches that wait for an operator, of those that are kept: nobody can push them out by offering others.
pub const MAX_PARKED_BRANCHES: usize = MAX_SIDE_BRANCHES / 4;

/// Bytes of entries in all blocks that wait for an operator.
pub const MAX_PARKED_BYTES: u64 = MAX_SIDE_BYTES / 2;

/// Blocks that wait for an operator.
pub const MAX_PARKED_BLOCKS: usize = MAX_SIDE_BLOCKS / 2;
