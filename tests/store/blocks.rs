//! Blocks for tests, built as the node builds them.

use std::sync::Arc;

use dolmen::ledger::block::{Block, Header, SharedBlock, Tip, UnixTime, Version};
use dolmen::ledger::storage::{Batch, BatchBlock, KeyDigest, Placed, SubmissionId, TipChange};
use dolmen::ledger::{merkle, rules};

/// A block on a parent.
pub fn block_on(parent: Tip, entries: &[&str]) -> SharedBlock {
    let body: Vec<String> = entries.iter().map(ToString::to_string).collect();
    let time = UnixTime(1_700_000_000 + parent.height.0);
    let merkle_root = merkle::root(&body).expect("there are entries");
    let header = Header {
        version: Version::mined(),
        index: parent.height.next(),
        previous_hash: parent.hash,
        time,
        merkle_root,
    };
    Arc::new(rules::check_alone(Block { header, body }, time).expect("a good block"))
}

/// Blocks one on the other; `name` makes them differ from those of other branches.
pub fn branch(parent: Tip, count: usize, name: &str) -> Vec<SharedBlock> {
    let mut tip = parent;
    let mut blocks = Vec::with_capacity(count);
    for number in 0..count {
        let block = block_on(tip, &[&format!("{name} {number}")]);
        tip = block.tip();
        blocks.push(block);
    }
    blocks
}

/// Another node's block in a batch.
pub fn theirs(block: &SharedBlock) -> BatchBlock {
    BatchBlock { block: Arc::clone(block), placed: Vec::new() }
}

/// An own block in a batch, all entries one submission with this key.
pub fn ours(block: &SharedBlock, key: Option<KeyDigest>) -> BatchBlock {
    let submission = SubmissionId { block: block.hash(), position: 0 };
    let placed = Placed { submission, position: 0, entries: block.body().len() as u32, key };
    BatchBlock { block: Arc::clone(block), placed: vec![placed] }
}

/// The batch that makes blocks the best chain above a fork.
pub fn follow(fork: Tip, blocks: Vec<BatchBlock>) -> Batch {
    let tip = blocks.last().map_or(fork, |block| block.block.tip());
    Batch { blocks, change: Some(TipChange { fork, revived: vec![], tip }), ..Batch::default() }
}

/// The batch that makes other nodes' blocks the best chain above a fork.
pub fn extend(fork: Tip, blocks: &[SharedBlock]) -> Batch {
    follow(fork, blocks.iter().map(theirs).collect())
}
