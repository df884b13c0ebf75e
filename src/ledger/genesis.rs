//! The first block, which every node of the tutorial's network has.

use std::sync::LazyLock;

use super::block::{Block, CheckedBlock, Header, Height, SharedBlock, Tip, UnixTime, Version};
use super::hash::BlockHash;
use super::merkle;

/// The one entry of genesis.
pub const ENTRY: &str = "hello block";

/// The time of genesis.
pub const TIME: UnixTime = UnixTime(1_630_907_567);

static GENESIS: LazyLock<SharedBlock> = LazyLock::new(|| {
    let body = vec![ENTRY.to_owned()];
    let header = Header {
        version: Version::mined(),
        index: Height::GENESIS,
        previous_hash: BlockHash::ZERO,
        time: TIME,
        merkle_root: merkle::root(&body).expect("the body has an entry"),
    };
    let hash = header.hash();
    CheckedBlock::trusted(Block { header, body }, hash).into()
});

/// The genesis block.
#[must_use]
pub fn block() -> SharedBlock {
    SharedBlock::clone(&GENESIS)
}

/// The tip of a chain that is genesis alone.
#[must_use]
pub fn tip() -> Tip {
    GENESIS.tip()
}
