//! Branches that would undo too much and come from a peer that nobody named.

use dolmen::ledger::chain::{Branch, Origin};
use dolmen::ledger::keeper::{Imported, Keeper};
use dolmen::ledger::{SharedBlock, Tip, genesis};

use super::memory_storage::MemoryStorage;
use super::{block, changed, keeper, rng, run, take, tip_of};

/// A keeper of five blocks that lets strangers undo three.
fn five() -> (Keeper<MemoryStorage>, Tip) {
    let mut keeper = keeper(3);
    let ours = run(genesis::tip(), "ours", 5);
    take(&mut keeper, &ours);
    (keeper, tip_of(&ours))
}

fn import(keeper: &mut Keeper<MemoryStorage>, run: &[SharedBlock], origin: Origin) -> Imported {
    keeper.import(run, origin, &mut rng(0)).expect("good blocks")
}

#[test]
fn a_strangers_deep_branch_is_kept_and_the_tip_stays() {
    let (mut keeper, ours) = five();
    let deep = run(genesis::tip(), "deep", 6);
    assert!(matches!(import(&mut keeper, &deep, Origin::Stranger), Imported::Parked { depth: 5 }));
    assert_eq!(keeper.tip(), ours);
    let parked = Branch {
        tip: tip_of(&deep),
        fork: genesis::tip(),
        time: deep.last().expect("blocks").header().time,
        parked: true,
    };
    assert_eq!(keeper.branches().expect("maps"), std::slice::from_ref(&parked));
    assert!(matches!(import(&mut keeper, &deep, Origin::Stranger), Imported::Parked { depth: 5 }), "offered again");
    assert_eq!(keeper.side_blocks(), 6);
    let again = Keeper::open(keeper.into_storage(), 3).expect("maps");
    assert_eq!(again.branches().expect("maps"), [parked], "also after a restart");
}

#[test]
fn as_deep_as_is_allowed_is_taken() {
    let (mut keeper, ours) = five();
    let fork = keeper.storage().chain()[2].tip();
    let update = changed(import(&mut keeper, &run(fork, "three", 4), Origin::Stranger));
    assert_eq!((update.old, update.fork, update.depth()), (ours, fork, 3));
}

#[test]
fn a_trusted_peer_adopts_what_was_parked() {
    for (case, from) in [("the whole branch again", 0), ("its last block", 5), ("one further block", 6)] {
        let (mut keeper, ours) = five();
        let deep = run(genesis::tip(), "deep", 7);
        import(&mut keeper, &deep[..6], Origin::Stranger);
        let end = deep.len().min(from.max(5) + 1);
        let update = changed(import(&mut keeper, &deep[from..end], Origin::Trusted));
        assert_eq!((update.old, update.fork, update.new), (ours, genesis::tip(), tip_of(&deep[..end])), "{case}");
        assert_eq!(update.entered, &deep[..end], "{case}");
        assert!(keeper.branches().expect("maps").iter().all(|branch| !branch.parked && branch.tip == ours), "{case}");
    }
}

#[test]
fn a_node_at_genesis_takes_anything() {
    let mut keeper = keeper(0);
    let update = changed(import(&mut keeper, &run(genesis::tip(), "long", 2_000), Origin::Stranger));
    assert_eq!(update.depth(), 0);
    assert_eq!(keeper.tip().height.0, 2_000);
}

#[test]
fn a_staged_branch_is_parked_alike() {
    let (mut keeper, ours) = five();
    let deep = run(genesis::tip(), "deep", 6);
    let mut staged = keeper.stage(genesis::tip()).expect("maps");
    keeper.stage_append(&mut staged, &deep).expect("good blocks");
    let outcome = keeper.switch(staged, Origin::Stranger, &mut rng(0));
    assert!(matches!(outcome, Ok(Imported::Parked { depth: 5 })), "{outcome:?}");
    assert_eq!(keeper.tip(), ours);
    let parked = Branch {
        tip: tip_of(&deep),
        fork: genesis::tip(),
        time: deep.last().expect("blocks").header().time,
        parked: true,
    };
    assert_eq!(keeper.branches().expect("maps"), [parked]);
    let next = block(tip_of(&deep), "next");
    let update = changed(import(&mut keeper, &[next], Origin::Trusted));
    assert_eq!(update.depth(), 5);
}

#[test]
fn a_trusted_staged_branch_is_switched_in() {
    let (mut keeper, _) = five();
    let deep = run(genesis::tip(), "deep", 6);
    let mut staged = keeper.stage(genesis::tip()).expect("maps");
    keeper.stage_append(&mut staged, &deep).expect("good blocks");
    let update = changed(keeper.switch(staged, Origin::Trusted, &mut rng(0)).expect("good blocks"));
    assert_eq!((update.depth(), update.new), (5, tip_of(&deep)));
}
