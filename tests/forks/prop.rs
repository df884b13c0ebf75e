//! Whatever the order of arrival, the best chain is the path to the best tip of all that is known.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use dolmen::ledger::chain::{Branch, ImportError, Origin};
use dolmen::ledger::keeper::{Imported, Keeper, Update};
use dolmen::ledger::rules::RuleError;
use dolmen::ledger::storage::Storage;
use dolmen::ledger::{BlockHash, Height, SharedBlock, Tip, UnixTime, genesis};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::memory_storage::MemoryStorage;
use super::{block, block_at, changed, config, hashes, keeper, rng, run, take, tip_of};

/// Every block of a tree by its hash, genesis included.
type Tree = BTreeMap<BlockHash, SharedBlock>;

/// How a path of the tree arrives.
#[derive(Clone, Copy, Debug)]
enum How {
    Run,
    Staged,
}

/// Blocks up to the `end`-th, at most `length` of them, in one run.
#[derive(Clone, Debug)]
struct Arrival {
    end: Index,
    length: usize,
    how: How,
}

/// Parents of the blocks: the last one twice as often as any other, so that branches grow long.
fn shape() -> impl Strategy<Value = Vec<Option<Index>>> {
    vec(prop_oneof![2 => Just(None), 1 => any::<Index>().prop_map(Some)], 1..40)
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let how = prop_oneof![3 => Just(How::Run), 1 => Just(How::Staged)];
    let length = prop_oneof![Just(1), 1..8usize, Just(100)];
    vec((any::<Index>(), length, how).prop_map(|(end, length, how)| Arrival { end, length, how }), 1..60)
}

fn grow(shape: &[Option<Index>]) -> Vec<SharedBlock> {
    let mut blocks = vec![genesis::block()];
    for (number, parent) in shape.iter().enumerate() {
        let parent = parent.map_or(number, |parent| parent.index(number + 1));
        blocks.push(block(blocks[parent].tip(), &format!("block {number}")));
    }
    blocks
}

/// From a block down to genesis, genesis first.
fn path(tree: &Tree, end: BlockHash) -> Vec<SharedBlock> {
    let mut path = vec![tree[&end].clone()];
    while let Some(parent) = tree.get(&path[path.len() - 1].parent()) {
        path.push(parent.clone());
    }
    path.reverse();
    path
}

/// The total order in its plainest form.
fn best(known: &BTreeSet<BlockHash>, tree: &Tree) -> Tip {
    known.iter().map(|hash| tree[hash].tip()).max_by_key(|tip| (tip.height, Reverse(tip.hash))).expect("genesis")
}

fn agrees(keeper: &Keeper<MemoryStorage>, known: &BTreeSet<BlockHash>, tree: &Tree) -> Result<(), TestCaseError> {
    let tip = best(known, tree);
    prop_assert_eq!(keeper.tip(), tip);
    let chain = path(tree, tip.hash);
    prop_assert_eq!(keeper.storage().chain(), &chain[..]);
    let on_chain: BTreeSet<BlockHash> = hashes(&chain).into_iter().collect();
    let sides: BTreeSet<BlockHash> = known.difference(&on_chain).copied().collect();
    let kept = keeper.storage().side_blocks().expect("maps");
    prop_assert_eq!(kept.iter().map(|side| side.hash).collect::<BTreeSet<_>>(), sides.clone());
    prop_assert_eq!(keeper.side_blocks(), sides.len());
    let is_leaf = |hash: &&BlockHash| !sides.iter().any(|other| tree[other].parent() == **hash);
    let branch = |hash: &BlockHash| {
        let fork = path(tree, *hash).into_iter().rfind(|block| on_chain.contains(&block.hash()));
        Branch {
            tip: tree[hash].tip(),
            fork: fork.expect("genesis").tip(),
            time: tree[hash].header().time,
            parked: false,
        }
    };
    let mut branches: Vec<Branch> = sides.iter().filter(is_leaf).map(branch).collect();
    branches.sort_by_key(|branch| (Reverse(branch.tip.height), branch.tip.hash));
    prop_assert_eq!(keeper.branches().expect("maps"), branches);
    Ok(())
}

fn update_is_exact(update: &Update, old: &[SharedBlock], new: &[SharedBlock]) -> Result<(), TestCaseError> {
    let shared = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    prop_assert_eq!(update.old, tip_of(old));
    prop_assert_eq!(update.new, tip_of(new));
    prop_assert_eq!(update.fork, tip_of(&old[..shared]));
    prop_assert_eq!(&update.left, &hashes(&old[shared..]));
    prop_assert_eq!(update.depth(), (old.len() - shared) as u64);
    prop_assert!(update.entered.is_empty() || update.entered == new[shared..]);
    Ok(())
}

/// Gives a keeper a run, staged or not; what is known afterwards follows from what was known before.
fn arrive(
    keeper: &mut Keeper<MemoryStorage>,
    known: &mut BTreeSet<BlockHash>,
    tree: &Tree,
    run: &[SharedBlock],
    how: How,
) -> Result<(), TestCaseError> {
    let before = keeper.storage().chain().to_vec();
    let first = &run[0];
    let fork = before.iter().find(|block| block.hash() == first.parent()).map(|block| block.tip());
    let (outcome, forgets) = match (how, fork) {
        (How::Staged, Some(fork)) => {
            let mut staged = keeper.stage(fork).expect("maps");
            for part in run.chunks(3) {
                keeper.stage_append(&mut staged, part).expect("good blocks");
            }
            (keeper.switch(staged, Origin::Stranger, &mut rng(1)), true)
        }
        _ => (keeper.import(run, Origin::Stranger, &mut rng(1)), false),
    };
    let outcome = outcome.expect("good blocks");
    let news = run.iter().any(|block| !known.contains(&block.hash()));
    let connects = known.contains(&first.hash()) || known.contains(&first.parent());
    let better = tip_of(run).beats(&tip_of(&before));
    match outcome {
        Imported::Unconnected => prop_assert!(!connects),
        Imported::Known => prop_assert!(!better && (forgets || !news)),
        Imported::Side => prop_assert!(!better && news && connects),
        Imported::Changed(update) => {
            prop_assert!(better && connects);
            known.extend(hashes(run));
            update_is_exact(&update, &before, &path(tree, best(known, tree).hash))?;
            prop_assert_eq!(update.entered.is_empty(), forgets);
        }
        Imported::Parked { .. } => prop_assert!(false, "nothing is too deep"),
    }
    if connects && !forgets {
        known.extend(hashes(run));
    }
    agrees(keeper, known, tree)
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn the_best_chain_is_a_function_of_the_blocks(shape in shape(), orders in vec(arrivals(), 2)) {
        let blocks = grow(&shape);
        let tree: Tree = blocks.iter().map(|block| (block.hash(), block.clone())).collect();
        let everything: BTreeSet<BlockHash> = tree.keys().copied().collect();
        for order in orders {
            let mut keeper = keeper(u64::MAX);
            let mut known = BTreeSet::from([genesis::tip().hash]);
            for Arrival { end, length, how } in order {
                let path = path(&tree, end.get(&blocks).hash());
                let run = &path[path.len().saturating_sub(length)..];
                arrive(&mut keeper, &mut known, &tree, run, how)?;
            }
            // Whatever has not connected is offered again, the last first.
            while known != everything {
                for block in blocks.iter().rev() {
                    arrive(&mut keeper, &mut known, &tree, std::slice::from_ref(block), How::Run)?;
                }
            }
            agrees(&keeper, &everything, &tree)?;
            let again = Keeper::open(keeper.into_storage(), u64::MAX).expect("maps");
            agrees(&again, &everything, &tree)?;
        }
    }

    #[test]
    fn a_run_with_a_bad_block_changes_nothing(
        count in 2..20usize, at in any::<Index>(), known in 0..5usize, staged in any::<bool>()
    ) {
        let mut blocks = run(genesis::tip(), "good", count);
        let mut keeper = keeper(1_000);
        if known > 0 {
            take(&mut keeper, &run(genesis::tip(), "ours", known));
        }
        let before = keeper.storage().chain().to_vec();
        // Not the first: that one would be a branch of its own.
        let at = 1 + at.index(count - 1);
        let parent = blocks[at].parent();
        blocks[at] = block_at(Tip { height: Height(at as u64), hash: BlockHash([7; 32]) }, 5, &["bad"]);
        let outcome = if staged {
            let mut branch = keeper.stage(genesis::tip()).expect("maps");
            let outcome = keeper.stage_append(&mut branch, &blocks);
            prop_assert_eq!((branch.tip(), branch.count()), (genesis::tip(), 0));
            keeper.discard(branch);
            outcome.map(|()| Imported::Known)
        } else {
            keeper.import(&blocks, Origin::Trusted, &mut rng(0))
        };
        let wanted = RuleError::PreviousHashMismatch { got: BlockHash([7; 32]), wanted: parent };
        prop_assert!(matches!(&outcome, Err(ImportError::Rule(error)) if *error == wanted), "{:?}", outcome);
        prop_assert_eq!(keeper.storage().chain(), &before[..]);
        prop_assert_eq!(keeper.side_blocks(), 0);
    }
}

#[test]
fn a_run_that_begins_inside_the_known_chain_is_known_as_far_as_it_is() {
    let all = run(genesis::tip(), "all", 8);
    let mut keeper = keeper(0);
    take(&mut keeper, &all[..5]);
    let update = changed(keeper.import(&all[2..], Origin::Stranger, &mut rng(0)).expect("good"));
    assert_eq!((update.fork, update.depth()), (all[4].tip(), 0), "nothing is undone");
    assert_eq!(update.entered, &all[5..]);
    let whole: Vec<SharedBlock> = std::iter::once(genesis::block()).chain(all).collect();
    assert!(matches!(keeper.import(&whole, Origin::Stranger, &mut rng(0)), Ok(Imported::Known)));
    assert!(matches!(keeper.import(&[], Origin::Stranger, &mut rng(0)), Err(ImportError::Rule(RuleError::NoBlocks))));
}

#[test]
fn a_block_of_another_height_with_the_hash_of_the_tip_is_refused_and_not_taken_for_damage() {
    // The hash of the parent must begin with a digit that can become the index's.
    let parent = (0..)
        .map(|n| block(genesis::tip(), &format!("parent {n}")))
        .find(|block| block.hash().to_string().starts_with(['1', '2', '3', '4', '5', '6', '7', '8', '9']))
        .expect("found soon");
    let tip = block(parent.tip(), "tip");
    let mut keeper = keeper(1_000);
    take(&mut keeper, &[parent.clone(), tip.clone()]);
    let (hash, time) = (parent.hash().to_string(), tip.header().time.to_string());
    let mut header = tip.header().clone();
    header.index = Height(format!("2{}", &hash[..1]).parse().expect("digits"));
    header.previous_hash = BlockHash::from_hex(&format!("{}{}", &hash[1..], &time[..1])).expect("hex");
    header.time = UnixTime(time[1..].parse().expect("digits"));
    let relative = dolmen::ledger::Block { header, body: tip.body().to_vec() };
    let relative: SharedBlock = dolmen::ledger::rules::check_alone(relative, super::NOW).expect("good alone").into();
    assert_eq!(relative.hash(), tip.hash(), "one hash");
    assert!(relative.height() > tip.height(), "and two heights");
    let wanted = RuleError::IndexNotNext { got: relative.height(), wanted: tip.height() };
    let outcome = keeper.import(&[relative], Origin::Stranger, &mut rng(0));
    assert!(matches!(&outcome, Err(ImportError::Rule(error)) if *error == wanted), "{outcome:?}");
    assert_eq!(keeper.tip(), tip.tip());
}
