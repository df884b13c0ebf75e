//! The keeper on the plain storage: cases that the simulator found.

#[path = "support/memory_storage.rs"]
#[allow(dead_code, reason = "the storage serves several tests")]
mod memory_storage;

use dolmen::ledger::chain::Origin;
use dolmen::ledger::keeper::{Imported, Keeper, MineRequest, Mined, Whereabouts};
use dolmen::ledger::{SharedBlock, Tip, UnixTime, genesis};
use memory_storage::MemoryStorage;
use rand::SeedableRng;
use rand::rngs::StdRng;

type Node = Keeper<MemoryStorage>;

fn node() -> Node {
    Keeper::open(MemoryStorage::new(), 1_000).expect("an empty storage opens")
}

fn mine_with(node: &mut Node, entry: &str, key: Option<&str>) -> Mined {
    let request = MineRequest { entries: vec![entry.to_owned()], key: key.map(str::to_owned) };
    let (mut answers, _) = node.mine(vec![request], UnixTime(1_700_000_000));
    answers.pop().expect("one request, one answer").expect("mined")
}

fn mine(node: &mut Node, entry: &str) -> SharedBlock {
    mine_with(node, entry, None).block
}

fn import(node: &mut Node, blocks: &[SharedBlock]) -> Imported {
    node.import(blocks, Origin::Trusted, &mut StdRng::seed_from_u64(1)).expect("honest blocks")
}

fn switch(node: &mut Node, fork: Tip, blocks: &[SharedBlock]) -> Imported {
    let mut staged = node.stage(fork).expect("room");
    node.stage_append(&mut staged, blocks).expect("honest blocks");
    node.switch(staged, Origin::Trusted, &mut StdRng::seed_from_u64(1)).expect("honest blocks")
}

/// While a branch was collected, its first block came by another way.
#[test]
fn a_branch_is_switched_in_above_what_the_chain_has_of_it_by_then() {
    let (mut other, mut node) = (node(), node());
    let blocks: Vec<SharedBlock> = (0..5).map(|n| mine(&mut other, &format!("block {n}"))).collect();
    let _ = import(&mut node, &blocks[..2]);
    let Imported::Changed(update) = switch(&mut node, genesis::tip(), &blocks) else { panic!("it is better") };
    assert_eq!((update.fork, update.depth(), update.left.len()), (blocks[1].tip(), 0, 0));
    assert_eq!((node.tip(), node.side_blocks()), (other.tip(), 0));
    let reopened = Keeper::open(node.storage().clone(), 1_000).expect("it opens");
    assert_eq!(reopened.side_blocks(), 0);
}

/// A node mines on forks that lose, each on its own block of the winning chain, until its first branch is forgotten.
fn forget_first_branch(node: &mut Node, winner: &mut Node) {
    for n in 0..70 {
        let _ = mine(node, &format!("loser {n}"));
        let (a, b) = (mine(winner, &format!("a {n}")), mine(winner, &format!("b {n}")));
        assert!(matches!(import(node, &[a, b]), Imported::Changed(_)));
        let _ = node.remine(UnixTime(1_700_000_000)).expect("mined again");
        let chain = node.storage().chain().to_vec();
        let _ = import(winner, &chain);
    }
}

#[test]
fn a_key_is_answered_although_its_first_block_is_forgotten() {
    let (mut node, mut winner) = (node(), node());
    let first = mine_with(&mut node, "keyed", Some("key"));
    let (a, b) = (mine(&mut winner, "a"), mine(&mut winner, "b"));
    let _ = import(&mut node, &[a, b]);
    let _ = node.remine(UnixTime(1_700_000_000)).expect("mined again");
    let chain = node.storage().chain().to_vec();
    let _ = import(&mut winner, &chain);
    forget_first_branch(&mut node, &mut winner);
    let kept = node.branches().expect("readable");
    assert!(kept.iter().all(|branch| branch.tip != first.block.tip()), "the test wants it forgotten");
    let again = mine_with(&mut node, "keyed", Some("key"));
    assert_eq!(again.submission, first.submission);
    assert!(again.block.body().iter().any(|entry| entry == "keyed"));
}

/// Another node took the block over before this one forgot it, and its chain comes back as the best.
#[test]
fn a_placement_in_a_forgotten_block_counts_when_the_block_comes_back() {
    let (mut node, mut winner, mut follower) = (node(), node(), node());
    let first = mine_with(&mut node, "once", None);
    let _ = import(&mut follower, std::slice::from_ref(&first.block));
    let (a, b) = (mine(&mut winner, "a"), mine(&mut winner, "b"));
    let _ = import(&mut node, &[a, b]);
    let _ = node.remine(UnixTime(1_700_000_000)).expect("mined again");
    let chain = node.storage().chain().to_vec();
    let _ = import(&mut winner, &chain);
    forget_first_branch(&mut node, &mut winner);
    while !follower.tip().beats(&node.tip()) {
        let height = follower.tip().height;
        let _ = mine(&mut follower, &format!("follower {height}"));
    }
    let branch = follower.storage().chain()[1..].to_vec();
    assert!(matches!(switch(&mut node, genesis::tip(), &branch), Imported::Changed(_)));
    let place = node.whereabouts(&first.submission).expect("readable");
    assert!(matches!(place, Some(Whereabouts::Included { height, .. }) if height.0 == 1), "{place:?}");
    let _ = node.remine(UnixTime(1_700_000_000)).expect("mined again");
    let times = node.storage().chain().iter().filter(|block| block.body().iter().any(|entry| entry == "once")).count();
    assert_eq!(times, 1);
}
