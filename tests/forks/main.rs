//! Forks from outside: whatever arrives in whatever order, the best chain is the one that the design names, what leaves it
//! is kept within limits, and nothing acknowledged is lost or doubled.
//!
//! A failure of a random test prints the smallest case; the case is also written to `tests/forks/regressions.txt`, which
//! is played first from then on.

use blocks::{NOW, block, block_at, run, tip_of};
use dolmen::ledger::block::{Height, SharedBlock};
use dolmen::ledger::chain::Origin;
use dolmen::ledger::genesis;
use dolmen::ledger::keeper::{Imported, Keeper, MineRequest, Mined, Update};
use memory_storage::MemoryStorage;
use proptest::prelude::ProptestConfig;
use proptest::test_runner::FileFailurePersistence;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Blocks that obey the rules.
#[path = "../support/blocks.rs"]
mod blocks;

/// A storage that a few maps make.
#[path = "../support/memory_storage.rs"]
#[allow(dead_code)]
mod memory_storage;

/// A storage that fails when it is told to.
mod faulty;

/// Random trees in random orders.
mod prop;

/// How many side blocks are kept, and which.
mod limits;

/// Branches that would undo too much.
mod parking;

/// Branches that are collected beside the chain.
mod staged;

/// Nothing acknowledged is lost, step by step.
mod outbox;

/// Nothing acknowledged is lost or doubled, at random.
mod outbox_prop;

/// The chain told to whoever follows it.
mod feed;

fn config(cases: u32) -> ProptestConfig {
    let persistence = FileFailurePersistence::Direct("tests/forks/regressions.txt");
    ProptestConfig { cases, failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::default() }
}

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn keeper(max_reorg: u64) -> Keeper<MemoryStorage> {
    Keeper::open(MemoryStorage::new(), max_reorg).expect("maps do not fail")
}

fn changed(imported: Imported) -> Update {
    match imported {
        Imported::Changed(update) => update,
        other => panic!("the best chain changes, not {other:?}"),
    }
}

/// Imports a run that must change the best chain.
fn take<S: dolmen::ledger::storage::Storage>(keeper: &mut Keeper<S>, run: &[SharedBlock]) -> Update {
    changed(keeper.import(run, Origin::Trusted, &mut rng(0)).expect("a good run"))
}

/// Mines one block of these entries.
fn mine<S: dolmen::ledger::storage::Storage>(keeper: &mut Keeper<S>, entries: &[&str]) -> Mined {
    let entries = entries.iter().map(|&entry| entry.to_owned()).collect();
    let (mut answers, _) = keeper.mine(vec![MineRequest { entries, key: None }], NOW);
    answers.pop().expect("one answer").expect("good entries")
}

fn hashes(run: &[SharedBlock]) -> Vec<dolmen::ledger::BlockHash> {
    run.iter().map(|block| block.hash()).collect()
}

#[test]
fn mining_goes_on_above_a_branch_that_took_over() {
    let mut keeper = keeper(1_000);
    mine(&mut keeper, &["ours"]);
    let theirs = run(genesis::tip(), "theirs", 3);
    take(&mut keeper, &theirs);
    let mined = mine(&mut keeper, &["next"]);
    assert_eq!((mined.block.parent(), mined.block.height()), (tip_of(&theirs).hash, Height(4)));
    assert_eq!(keeper.tip(), mined.block.tip());
}
