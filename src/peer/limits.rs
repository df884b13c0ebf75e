//! Bounds of the peer protocol, each with its reason.

use std::time::Duration;

/// Bytes of the first message of a stranger: QUERY_LAST and HELLO are far smaller.
pub const MAX_FIRST_MESSAGE: usize = 64 * 1024;

/// Bytes of an unasked message of a peer that has not said HELLO: one full block as doubly escaped JSON.
pub const MAX_UNASKED_MESSAGE: usize = 4 * 1024 * 1024;

/// Bytes of a whole chain as one text message: what the tutorial's `ws` library accepts, and so the most that we ask for or
/// send.
pub const MAX_CHAIN_MESSAGE: usize = 100 * 1024 * 1024;

/// Chains that tutorial peers may send us at the same time: each can take four times its size while it is judged.
pub const MAX_CHAINS_ASKED: usize = 2;

/// Chains that are on their way from us to tutorial peers at the same time: each is held in memory while it is sent.
pub const MAX_CHAINS_SENT: usize = 2;

/// A tutorial peer must have read the chain that it asked for within this time: the longest at 1.7 MB/s. Others wait for it.
pub const CHAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of the messages of all strangers together that are unfinished or wait to be read: what twelve of them may send of
/// their longest. With what reading one takes, and what the allocator keeps between pieces, a siege of such messages costs
/// 128 MiB at the most.
pub const MAX_UNFINISHED: usize = 48 * 1024 * 1024;

/// Bytes of blocks in one native frame. A body has at most 1 MiB, so one block always fits beside its overhead.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// Blocks in one native frame: bounds the work on one frame when blocks are tiny.
pub const MAX_BATCH_BLOCKS: usize = 4_000;

/// Bytes of a native frame: a batch, the entry lengths of a body with many entries, and the frame's own fields.
pub const MAX_NATIVE_FRAME: usize = 2 * MAX_BATCH_BYTES;

/// Batches that may be on their way or waiting to be written while a branch is fetched.
/// Together they stay below [`SESSION_QUEUE_BYTES`], so that they never wait in vain for room.
pub const BATCHES_IN_FLIGHT: u32 = 3;

/// Bytes of a stranger's branch that are staged at once: as many as side blocks may have. Of a longer branch what is better
/// than our chain is taken over by then, so that its length has no bound but the disk.
pub const MAX_STAGED_BYTES: u64 = crate::ledger::limits::MAX_SIDE_BYTES;

/// Hashes in a locator: a chain of 2^53 blocks needs 10 recent ones, 53 doubling steps and genesis.
pub const MAX_LOCATOR: usize = 70;

/// Addresses in one frame.
pub const MAX_ADDRESSES: usize = 64;

/// Addresses in the book that nobody configured: beyond this new ones are not remembered.
pub const MAX_LEARNED: usize = 256;

/// Addresses of these that one source has told: eight sources must lie before the book is full of lies.
pub const MAX_LEARNED_FROM_ONE: usize = 32;

/// Messages that may wait for one peer to read them; then it is told only the tip.
pub const SESSION_QUEUE: usize = 256;

/// Bytes that may wait for one peer to read them; then it is told only the tip. A single larger message, a whole chain for
/// a tutorial peer, is let through when nothing else waits.
pub const SESSION_QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that may wait for all strangers together to read them: what sixteen of them may have. Beyond it only little waits
/// for each. Whole chains have a bound of their own, [`MAX_CHAINS_SENT`].
pub const MAX_QUEUED: usize = 16 * SESSION_QUEUE_BYTES;

/// Bytes that may wait for one peer in any case: announcements and small blocks.
pub const LITTLE_QUEUED: usize = 64 * 1024;

/// Links that others may open to us, unless set.
pub const MAX_INBOUND: usize = 64;

/// Links that we open, unless set.
pub const MAX_OUTBOUND: usize = 16;

/// Links from one address that is not loopback, unless set.
pub const MAX_PER_ADDRESS: usize = 8;

/// From the open socket to the upgraded link.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// From the upgraded link to the proof that the peer holds the cluster's key: two short messages each way.
pub const PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// A link on which nothing was heard for this long is pinged.
pub const PING_AFTER: Duration = Duration::from_secs(20);

/// A link on which nothing was heard for this long, not even an answer to a ping, is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A link whose other end has not even acknowledged what we sent for this long is closed: its machine is gone. A tutorial
/// peer that does nothing but verify a long chain acknowledges all the same, as far as its buffers hold.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// A link on which no whole message came for this long after it opened is closed, also when pings are answered: both
/// programs say something at once, and a tutorial peer may be busy with a long chain first.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// A message that has begun must be whole after this long.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// A peer that we fetch a branch from must send the next part within this time.
pub const SYNC_TIMEOUT: Duration = Duration::from_secs(20);

/// A peer that does not read what we send for this long is dropped.
pub const LAG_TIMEOUT: Duration = Duration::from_secs(30);
