//! Branches that are collected beside the chain: what may have changed when they are switched in.

use dolmen::ledger::chain::{ImportError, Origin, further_rounds};
use dolmen::ledger::keeper::{Imported, Keeper, STAGE_ABOVE, Staged};
use dolmen::ledger::storage::{Storage, StorageError};
use dolmen::ledger::{SharedBlock, Tip, genesis};

use super::faulty::{Faults, Faulty};
use super::{changed, hashes, keeper, rng, run, take, tip_of};

fn staged<S: Storage>(keeper: &mut Keeper<S>, fork: Tip, run: &[SharedBlock]) -> Staged<S::Staging> {
    let mut staged = keeper.stage(fork).expect("maps");
    keeper.stage_append(&mut staged, run).expect("good blocks");
    assert_eq!((staged.tip(), staged.count()), (tip_of(run), run.len() as u64));
    staged
}

#[test]
fn a_branch_that_is_not_better_any_more_is_given_up() {
    let mut keeper = keeper(1_000);
    let branch = staged(&mut keeper, genesis::tip(), &run(genesis::tip(), "theirs", 3));
    let ours = run(genesis::tip(), "ours", 4);
    take(&mut keeper, &ours);
    assert!(matches!(keeper.switch(branch, Origin::Trusted, &mut rng(0)), Ok(Imported::Known)));
    assert_eq!(keeper.tip(), tip_of(&ours));
    let empty = keeper.stage(genesis::tip()).expect("maps");
    assert!(matches!(keeper.switch(empty, Origin::Trusted, &mut rng(0)), Ok(Imported::Known)));
}

#[test]
fn a_branch_whose_fork_has_left_the_best_chain_is_unconnected() {
    let mut keeper = keeper(1_000);
    let ours = run(genesis::tip(), "ours", 1);
    take(&mut keeper, &ours);
    let branch = staged(&mut keeper, tip_of(&ours), &run(tip_of(&ours), "above", 5));
    let other = run(genesis::tip(), "other", 2);
    take(&mut keeper, &other);
    assert!(matches!(keeper.switch(branch, Origin::Trusted, &mut rng(0)), Ok(Imported::Unconnected)));
    assert_eq!(keeper.tip(), tip_of(&other));
}

/// The same chain came by another link while it was being staged: its blocks neither leave nor enter, and a stranger is
/// not held to have undone them.
#[test]
fn what_has_entered_by_another_way_meanwhile_does_not_leave() {
    for arrived in [1, 5, 9, 200] {
        let mut keeper = keeper(0);
        let all = run(genesis::tip(), "all", 300);
        let branch = staged(&mut keeper, genesis::tip(), &all);
        take(&mut keeper, &all[..arrived]);
        let update = changed(keeper.switch(branch, Origin::Stranger, &mut rng(0)).expect("good blocks"));
        assert_eq!(update.left, [], "{arrived} had arrived");
        assert_eq!((update.fork, update.new), (all[arrived - 1].tip(), tip_of(&all)), "{arrived} had arrived");
        assert_eq!(keeper.side_blocks(), 0, "{arrived} had arrived");
        assert_eq!(hashes(&keeper.storage().chain()[1..]), hashes(&all), "{arrived} had arrived");
        let fork = run(all[0].tip(), "fork", 300);
        assert_eq!(take(&mut keeper, &fork).fork, all[0].tip(), "the next reorg finds its way down");
    }
}

#[test]
fn side_blocks_of_the_branch_enter_with_it() {
    let mut keeper = keeper(1_000);
    let (ours, theirs) = (run(genesis::tip(), "ours", 4), run(genesis::tip(), "theirs", 6));
    take(&mut keeper, &ours);
    keeper.import(&theirs[..3], Origin::Trusted, &mut rng(0)).expect("good blocks");
    assert_eq!(keeper.side_blocks(), 3);
    let branch = staged(&mut keeper, genesis::tip(), &theirs);
    let update = changed(keeper.switch(branch, Origin::Trusted, &mut rng(0)).expect("good blocks"));
    assert_eq!(update.left, hashes(&ours));
    assert_eq!(keeper.side_blocks(), 4, "only what has left");
    assert!(ours.iter().all(|block| keeper.storage().block(&block.hash()).expect("maps").is_some()));
}

#[test]
fn a_long_run_is_staged_with_the_side_blocks_below_it() {
    let mut keeper = keeper(1_000);
    let ours = run(genesis::tip(), "ours", 3);
    take(&mut keeper, &ours);
    let long = run(genesis::tip(), "long", 2 + STAGE_ABOVE + 1);
    keeper.import(&long[..2], Origin::Trusted, &mut rng(0)).expect("good blocks");
    let update = take(&mut keeper, &long[2..]);
    assert_eq!((update.fork, update.left, update.entered.len()), (genesis::tip(), hashes(&ours), 0));
    assert_eq!(hashes(&keeper.storage().chain()[1..]), hashes(&long));
    assert_eq!(keeper.side_blocks(), 3);
}

/// A further round reads back all of a short branch; when there is none, nothing is noticed.
#[test]
fn a_storage_that_changes_a_staged_block_is_caught_by_every_further_round() {
    let count = 100;
    let theirs = run(genesis::tip(), "theirs", count);
    for place in [0, 1, 50, count as u64 - 1] {
        let (mut caught, mut missed) = (0, 0);
        for seed in 0..40 {
            let faults = Faults::default();
            let storage = Faulty::new(&faults);
            let mut keeper = Keeper::open(storage, 1_000).expect("maps");
            let branch = staged(&mut keeper, genesis::tip(), &theirs);
            faults.spoilt.set(Some(place));
            let rounds = further_rounds(count as u64, &mut rng(seed));
            match keeper.switch(branch, Origin::Trusted, &mut rng(seed)) {
                Err(ImportError::Storage(StorageError::Damaged(_))) if !rounds.is_empty() => {
                    caught += 1;
                    assert_eq!(keeper.tip(), genesis::tip(), "nothing has changed");
                }
                Ok(Imported::Changed(_)) if rounds.is_empty() => missed += 1,
                other => panic!("place {place}, seed {seed}, rounds {rounds:?}: {other:?}"),
            }
        }
        assert!(caught > 10 && missed > 5, "place {place}: {caught} caught, {missed} without a further round");
    }
}

#[test]
fn further_rounds_are_none_one_or_two_alike_and_inside_the_branch() {
    let mut counts = [0; 3];
    let (mut first, mut last) = (false, false);
    for seed in 0..3_000 {
        let rounds = further_rounds(300, &mut rng(seed));
        counts[rounds.len()] += 1;
        for span in rounds {
            assert!(span.end <= 300 && span.end - span.start == 256, "seed {seed}: {span:?}");
            first |= span.start == 0;
            last |= span.end == 300;
        }
        for count in [0, 1, 255, 256] {
            assert!(further_rounds(count, &mut rng(seed)).iter().all(|span| *span == (0..count)), "all of a short one");
        }
    }
    assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    assert!(first && last, "both ends are reached");
}

#[test]
fn a_storage_that_cannot_adopt_has_changed_nothing() {
    let faults = Faults::default();
    let mut keeper = Keeper::open(Faulty::new(&faults), 1_000).expect("maps");
    let ours = run(genesis::tip(), "ours", 1);
    take(&mut keeper, &ours);
    let theirs = run(genesis::tip(), "theirs", 3);
    let branch = staged(&mut keeper, genesis::tip(), &theirs);
    faults.full.set(true);
    let outcome = keeper.switch(branch, Origin::Trusted, &mut rng(0));
    assert!(matches!(outcome, Err(ImportError::Storage(StorageError::Full(_)))), "{outcome:?}");
    assert_eq!((keeper.tip(), keeper.side_blocks()), (tip_of(&ours), 0));
    faults.full.set(false);
    assert_eq!(take(&mut keeper, &theirs).left, hashes(&ours));
}
