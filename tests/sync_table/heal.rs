//! Damaged blocks are fetched again: which, of whom, and what is made of the answers.

use dolmen::ledger::storage::StorageError;
use dolmen::ledger::{BlockHash, Height, SharedBlock, Tip, genesis};
use dolmen::peer::native::Frame;
use dolmen::peer::sync::{Action, LinkId, Repair, View};

use super::{Chain, Node, part, run, send, step, tip_of};

/// Our chain, where damage has taken hashes as well.
struct Holes<'c>(&'c Chain, &'c [u64]);

impl View for Holes<'_> {
    fn tip(&self) -> Tip {
        self.0.tip()
    }

    fn hash_at(&self, height: Height) -> Option<BlockHash> {
        self.0.hash_at(height)
    }

    fn wanted_at(&self, height: Height) -> Option<BlockHash> {
        self.0.hash_at(height).filter(|_| !self.1.contains(&height.0))
    }
}

/// A node with 20 blocks, these of them broken, and native peers that have as many.
fn node(broken: &[u64], peers: &[LinkId]) -> (Node, Vec<SharedBlock>) {
    let ours = run(genesis::tip(), "ours", 20);
    let mut node = Node::new(&ours);
    for &peer in peers {
        step("a peer that has what we have", node.native(peer, tip_of(&ours)), vec![]);
    }
    node.sync.damaged(broken.iter().copied().map(Height));
    (node, ours)
}

fn fetch(link: LinkId, from: u64, upto: &SharedBlock) -> Action {
    send(link, Frame::Fetch { from: Height(from), upto: upto.tip(), batches: 1 })
}

fn restore(link: LinkId, blocks: &[SharedBlock]) -> Action {
    Action::Restore { link, blocks: blocks.iter().rev().cloned().collect() }
}

fn heights(blocks: &[SharedBlock]) -> Vec<Height> {
    blocks.iter().rev().map(|block| block.height()).collect()
}

#[test]
fn neighbours_are_asked_for_together_from_the_top_and_written_once() {
    let (mut node, ours) = node(&[0, 3, 4, 5, 9, 21, 1 << 50], &[1]);
    step("the highest", node.tick(100), vec![fetch(1, 9, &ours[8])]);
    step("one question at a time", node.tick(100), vec![]);
    step("its answer", node.frame(1, Frame::Batch(part(&ours[8..9]))), vec![restore(1, &ours[8..9])]);
    step("the disk is busy", node.tick(100), vec![]);
    node.sync.restored(&heights(&ours[8..9]), None);
    assert_eq!(node.sync.repair(), Repair { wanted: 3, healed: 1 }, "genesis and what is above the tip is nobody's");
    step("three neighbours", node.tick(100), vec![fetch(1, 3, &ours[4])]);
    step("as one batch", node.frame(1, Frame::Batch(part(&ours[2..5]))), vec![restore(1, &ours[2..5])]);
    node.sync.restored(&heights(&ours[2..5]), None);
    assert_eq!(node.sync.repair(), Repair { wanted: 0, healed: 4 });
    step("nothing is left", node.tick(100), vec![]);
}

#[test]
fn who_does_not_have_it_is_left_alone_and_another_is_asked() {
    let (mut node, ours) = node(&[7], &[1, 2]);
    step("the first", node.tick(100), vec![fetch(1, 7, &ours[6])]);
    step("has another chain by now", node.frame(1, Frame::Gone), vec![]);
    step("the second", node.tick(100), vec![fetch(2, 7, &ours[6])]);
    step("goes away", node.sync.closed(2, &node.ours), vec![]);
    step("nobody is left", node.tick(100), vec![]);
    step("until the first may be asked again", node.tick(30_000), vec![fetch(1, 7, &ours[6])]);
    step("it does not answer", node.tick(20_001), vec![]);
    step("and is asked again later", node.tick(30_001), vec![fetch(1, 7, &ours[6])]);
    step("it answers", node.frame(1, Frame::Batch(part(&ours[6..7]))), vec![restore(1, &ours[6..7])]);
}

#[test]
fn another_block_than_the_missing_one_is_never_written() {
    let (mut node, ours) = node(&[7], &[1]);
    let other = run(ours[5].tip(), "other", 1);
    step("asked", node.tick(100), vec![fetch(1, 7, &ours[6])]);
    step("another block of that height", node.frame(1, Frame::Batch(part(&other))), vec![]);
    assert_eq!(node.sync.repair(), Repair { wanted: 1, healed: 0 });
    step("too late for the right one: nobody waits for it", node.frame(1, Frame::Batch(part(&ours[6..7]))), vec![]);
}

#[test]
fn a_hash_that_is_lost_comes_from_above() {
    let (mut node, ours) = node(&[5, 6, 7], &[1]);
    let holes = Holes(&node.ours, &[5, 6]);
    step("the top is known", node.sync.tick(100, &holes), vec![fetch(1, 5, &ours[6])]);
    let cut = Frame::Batch(part(&ours[4..6]));
    step("an answer that ends where nothing is known", node.sync.frame(1, cut, &holes), vec![]);
    step("one block then", node.sync.tick(200, &holes), vec![fetch(1, 7, &ours[6])]);
    let one = Frame::Batch(part(&ours[6..7]));
    step("which is proven", node.sync.frame(1, one, &holes), vec![restore(1, &ours[6..7])]);
    node.sync.restored(&[Height(7)], None);
    let holes = Holes(&node.ours, &[5]);
    step("and tells the next", node.sync.tick(300, &holes), vec![fetch(1, 5, &ours[5])]);
    let (mut node, _) = self::node(&[5], &[1]);
    step("nothing tells what it was", node.sync.tick(100, &Holes(&node.ours, &[5])), vec![]);
}

#[test]
fn a_disk_that_takes_nothing_is_tried_again_later() {
    let (mut node, ours) = node(&[3, 4], &[1]);
    node.tick(100);
    step("answered", node.frame(1, Frame::Batch(part(&ours[2..4]))), vec![restore(1, &ours[2..4])]);
    node.sync.restored(&[Height(4), Height(3)], Some(&StorageError::Full("told to".into())));
    assert_eq!(node.sync.repair(), Repair { wanted: 1, healed: 1 }, "the first of the two was written");
    step("not at once", node.tick(29_000), vec![]);
    step("but then", node.tick(2_000), vec![fetch(1, 3, &ours[2])]);
}

#[test]
fn only_native_peers_that_reach_so_high_are_asked() {
    let (mut node, ours) = node(&[7], &[]);
    node.link(1, dolmen::ledger::chain::Origin::Trusted);
    step("a tutorial peer", node.tick(100), vec![]);
    node.native(2, ours[5].tip());
    step("one that is behind", node.tick(100), vec![]);
    node.native(3, ours[6].tip());
    step("one that has it", node.tick(100), vec![fetch(3, 7, &ours[6])]);
}
