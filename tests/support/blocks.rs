//! Blocks that obey the rules, for tests that need a chain and no node that mines it.

use dolmen::ledger::block::{Block, Header, SharedBlock, Tip, UnixTime, Version};
use dolmen::ledger::{merkle, rules};

/// The time of these blocks, and of whoever judges them.
pub const NOW: UnixTime = UnixTime(1_700_000_000);

/// A child of a parent.
pub fn block_at(parent: Tip, time: u64, body: &[&str]) -> SharedBlock {
    let body: Vec<String> = body.iter().map(|&entry| entry.to_owned()).collect();
    let header = Header {
        version: Version::mined(),
        index: parent.height.next(),
        previous_hash: parent.hash,
        time: UnixTime(time),
        merkle_root: merkle::root(&body).expect("an entry"),
    };
    rules::check_alone(Block { header, body }, NOW).expect("a good block").into()
}

/// A child of one entry.
pub fn block(parent: Tip, entry: &str) -> SharedBlock {
    block_at(parent, NOW.0, &[entry])
}

/// So many blocks above a parent, told apart from other runs by a name.
pub fn run(parent: Tip, name: &str, count: usize) -> Vec<SharedBlock> {
    let mut tip = parent;
    let next = |n: usize| {
        let block = block(tip, &format!("{name} {n}"));
        tip = block.tip();
        block
    };
    (0..count).map(next).collect()
}

/// Where a run ends.
pub fn tip_of(run: &[SharedBlock]) -> Tip {
    run.last().expect("a block").tip()
}
