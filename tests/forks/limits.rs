//! How many side blocks are kept, and which are given up for others.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use dolmen::ledger::chain::{Chain, Origin};
use dolmen::ledger::keeper::Imported;
use dolmen::ledger::limits::{
    MAX_PARKED_BRANCHES, MAX_PARKED_BYTES, MAX_SIDE_BLOCKS, MAX_SIDE_BRANCHES, MAX_SIDE_BYTES,
};
use dolmen::ledger::storage::{SideBlock, Storage};
use dolmen::ledger::{BlockHash, Height, genesis};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{block, config, keeper, rng, run, take};

fn side(number: usize, parent: BlockHash, height: u64, bytes: u64) -> SideBlock {
    // Spread, so that the order of the hashes is not that of the numbers.
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&(number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    SideBlock { hash: BlockHash(hash), parent, height: Height(height), bytes, parked: false }
}

/// A tree of side blocks above genesis: mostly short branches, now and then a child of an earlier block.
fn forest() -> impl Strategy<Value = Vec<SideBlock>> {
    let bytes = prop_oneof![3 => Just(1), 1 => MAX_SIDE_BYTES / 40..MAX_SIDE_BYTES / 10];
    vec((prop_oneof![2 => Just(None), 1 => any::<Index>().prop_map(Some)], 1..5u64, bytes), 1..140).prop_map(|plan| {
        let mut all: Vec<SideBlock> = Vec::new();
        for (number, (parent, height, bytes)) in plan.into_iter().enumerate() {
            let next = match parent {
                Some(parent) if !all.is_empty() => {
                    let parent = parent.get(&all);
                    side(number, parent.hash, parent.height.0 + 1, bytes)
                }
                _ => side(number, genesis::tip().hash, height, bytes),
            };
            all.push(next);
        }
        all
    })
}

fn leaves(all: &BTreeMap<BlockHash, SideBlock>) -> Vec<SideBlock> {
    all.values().filter(|side| !all.values().any(|other| other.parent == side.hash)).copied().collect()
}

/// The words of the limits, one by one.
fn naive(mut all: BTreeMap<BlockHash, SideBlock>) -> Vec<BlockHash> {
    let mut given_up = Vec::new();
    loop {
        let leaves = leaves(&all);
        let bytes: u64 = all.values().map(|side| side.bytes).sum();
        if leaves.len() <= MAX_SIDE_BRANCHES && all.len() <= MAX_SIDE_BLOCKS && bytes <= MAX_SIDE_BYTES {
            return given_up;
        }
        let lowest = leaves.iter().min_by_key(|side| (side.height, Reverse(side.hash))).expect("a leaf");
        all.remove(&lowest.hash);
        given_up.push(lowest.hash);
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn the_lowest_tips_are_given_up_until_the_limits_hold(
        forest in forest(), kept in any::<Index>(), gone in any::<Index>()
    ) {
        let kept = kept.index(forest.len() + 1);
        let (old, come) = forest.split_at(kept);
        // One of the kept may leave at the same time, with all that is below it: what a change revives.
        let mut leaves_now = Vec::new();
        let mut at = if old.is_empty() { None } else { Some(*gone.get(old)) };
        while let Some(side) = at {
            leaves_now.push(side.hash);
            at = old.iter().find(|other| other.hash == side.parent).copied();
        }
        let mut chain = Chain::new(old.to_vec());
        let before = chain.clone();
        let given_up = chain.overflow(&leaves_now, come);
        prop_assert_eq!(&chain, &before, "it was only asked");
        let after = forest.iter().filter(|side| !leaves_now.contains(&side.hash)).map(|side| (side.hash, *side));
        let after: BTreeMap<BlockHash, SideBlock> = after.collect();
        prop_assert_eq!(&given_up, &naive(after.clone()));
        chain.note(&leaves_now, come.to_vec());
        chain.note(&given_up, Vec::new());
        prop_assert_eq!(chain.side_blocks(), after.len() - given_up.len());
        prop_assert_eq!(chain.overflow(&[], &[]), Vec::new(), "the limits hold now");
    }
}

#[test]
fn blocks_are_counted_too() {
    let mut parent = genesis::tip().hash;
    let next = |number: usize| {
        let next = side(number, parent, number as u64 + 1, 0);
        parent = next.hash;
        next
    };
    let long: Vec<SideBlock> = (0..MAX_SIDE_BLOCKS + 3).map(next).collect();
    let (kept, more) = long.split_at(MAX_SIDE_BLOCKS);
    let mut chain = Chain::new(kept.to_vec());
    assert_eq!(chain.overflow(&[], &[]), []);
    let wanted: Vec<BlockHash> = more.iter().rev().map(|side| side.hash).collect();
    assert_eq!(chain.overflow(&[], more), wanted, "the top of the only branch");
}

#[test]
fn the_65th_branch_costs_the_worst_of_the_lowest() {
    let mut keeper = keeper(1_000);
    take(&mut keeper, &run(genesis::tip(), "ours", 3));
    let mut sides: Vec<_> = (0..MAX_SIDE_BRANCHES).map(|n| block(genesis::tip(), &format!("side {n}"))).collect();
    for side in &sides {
        let outcome = keeper.import(std::slice::from_ref(side), Origin::Stranger, &mut rng(0));
        assert!(matches!(outcome, Ok(Imported::Side)), "{outcome:?}");
    }
    assert_eq!(keeper.side_blocks(), MAX_SIDE_BRANCHES);
    let higher = run(genesis::tip(), "higher", 2);
    keeper.import(&higher, Origin::Stranger, &mut rng(0)).expect("good");
    sides.sort_by_key(|block| block.hash());
    let worst = sides.pop().expect("many");
    assert_eq!(keeper.side_blocks(), MAX_SIDE_BRANCHES + 1, "64 branches, one of them of two blocks");
    assert_eq!(keeper.storage().block(&worst.hash()).expect("maps"), None);
    for side in sides.iter().chain(&higher) {
        assert!(keeper.storage().block(&side.hash()).expect("maps").is_some());
    }
}

/// A branch of one block at each height, of one kind.
fn branches(first: usize, heights: std::ops::Range<u64>, parked: bool) -> Vec<SideBlock> {
    let one = |(n, height)| SideBlock { parked, ..side(first + n, genesis::tip().hash, height, 1) };
    heights.enumerate().map(one).collect()
}

fn hashes_of(sides: &[SideBlock]) -> Vec<BlockHash> {
    sides.iter().map(|side| side.hash).collect()
}

#[test]
fn a_strangers_taller_junk_pushes_out_only_what_strangers_brought() {
    let most = MAX_SIDE_BRANCHES as u64;
    let mut chain = Chain::new(branches(0, 1..most / 2 + 1, false));
    let strange = branches(1_000, 100..100 + most / 2, false);
    assert_eq!(chain.overflow_from(&[], &strange, Origin::Stranger), [], "so many are kept");
    chain.note(&[], strange.clone());
    chain.note_origin(&strange, Origin::Stranger);
    let junk = branches(2_000, 200..220, false);
    let before = chain.clone();
    let given_up = chain.overflow_from(&[], &junk, Origin::Stranger);
    assert_eq!(given_up, hashes_of(&strange[..20]), "the lowest of theirs");
    assert_eq!(chain, before, "it was only asked");
    assert_eq!(chain.overflow(&[], &junk), hashes_of(&strange[..20]), "also for what a named peer brings");
    let low = branches(3_000, 1..2, false);
    assert_eq!(chain.overflow_from(&[], &low, Origin::Stranger), hashes_of(&low), "or what it brings now");
}

#[test]
fn nobody_pushes_out_what_an_operator_is_to_look_at() {
    let parked = branches(0, 1..MAX_PARKED_BRANCHES as u64 + 1, true);
    let mut chain = Chain::new(parked.clone());
    assert_eq!(chain.parked(), MAX_PARKED_BRANCHES);
    let junk = branches(1_000, 1_000..1_010, true);
    assert_eq!(chain.overflow_from(&[], &junk, Origin::Stranger), hashes_of(&junk), "taller, and to be parked");
    let rest = (MAX_SIDE_BRANCHES - MAX_PARKED_BRANCHES) as u64;
    let more = branches(2_000, 2_000..2_000 + 2 * rest, false);
    let given_up = chain.overflow_from(&[], &more, Origin::Stranger);
    assert_eq!(given_up, hashes_of(&more[..rest as usize]), "taller, and many");
    let heavy = SideBlock { bytes: MAX_PARKED_BYTES, parked: true, ..side(9_000, parked[0].hash, 2, 0) };
    assert_eq!(chain.overflow_from(&[], &[heavy], Origin::Stranger), [heavy.hash], "heavy, on top of one");
    chain.note(&hashes_of(&parked[..1]), Vec::new());
    assert_eq!(
        chain.overflow_from(&[], &junk, Origin::Stranger),
        hashes_of(&junk[..9]),
        "the tallest has the free place"
    );
}

/// A refused branch costs no room on the disk.
#[test]
fn what_would_not_stay_is_not_even_written() {
    let mut keeper = keeper(0);
    take(&mut keeper, &run(genesis::tip(), "ours", 30));
    let park = |keeper: &mut dolmen::ledger::keeper::Keeper<super::memory_storage::MemoryStorage>, n: usize| {
        let junk = run(genesis::tip(), &format!("junk {n}"), 31);
        let outcome = keeper.import(&junk, Origin::Stranger, &mut rng(0)).expect("good blocks");
        assert!(matches!(outcome, Imported::Parked { depth: 30 }), "{outcome:?}");
        junk
    };
    (0..MAX_PARKED_BRANCHES).for_each(|n| drop(park(&mut keeper, n)));
    assert_eq!((keeper.parked(), keeper.side_blocks()), (MAX_PARKED_BRANCHES, MAX_PARKED_BRANCHES * 31));
    let refused = park(&mut keeper, 1_000);
    assert_eq!((keeper.parked(), keeper.side_blocks()), (MAX_PARKED_BRANCHES, MAX_PARKED_BRANCHES * 31));
    assert!(keeper.storage().block(&refused[0].hash()).expect("maps").is_none());
    let update = super::changed(keeper.import(&refused, Origin::Trusted, &mut rng(0)).expect("good blocks"));
    assert_eq!(update.depth(), 30, "a named peer's word is enough");
}
