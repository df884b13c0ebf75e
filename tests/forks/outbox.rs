//! Nothing acknowledged is lost, step by step.

use dolmen::ledger::block::SharedBlock;
use dolmen::ledger::chain::{ImportError, Origin};
use dolmen::ledger::keeper::{Keeper, MineError, MineRequest, Whereabouts};
use dolmen::ledger::limits::{MAX_BODY_BYTES, MAX_BODY_ENTRIES, MAX_SIDE_BRANCHES};
use dolmen::ledger::outbox::MAX_AT_HAND;
use dolmen::ledger::storage::{Storage, StorageError, SubmissionId};
use dolmen::ledger::{BlockHash, Height, genesis};

use super::faulty::{Faults, Faulty};
use super::memory_storage::MemoryStorage;
use super::{NOW, block, hashes, keeper, mine, rng, run, take, tip_of};

fn request(entries: &[&str], key: Option<&str>) -> MineRequest {
    MineRequest { entries: entries.iter().map(|&entry| entry.to_owned()).collect(), key: key.map(str::to_owned) }
}

/// Block, height, position and depth of a submission on the best chain.
fn included<S: Storage>(keeper: &Keeper<S>, submission: &SubmissionId) -> (BlockHash, Height, u32, u64) {
    match keeper.whereabouts(submission).expect("maps") {
        Some(Whereabouts::Included { block, height, position, depth }) => (block, height, position, depth),
        other => panic!("on the best chain, not {other:?}"),
    }
}

/// A keeper whose one block was undone by a branch of `count`, with the submission that waits and its block.
fn undone(count: usize) -> (Keeper<MemoryStorage>, SubmissionId, SharedBlock, Vec<SharedBlock>) {
    let mut keeper = keeper(1_000);
    let mined = mine(&mut keeper, &["mine", "too"]);
    let theirs = run(genesis::tip(), "theirs", count);
    assert_eq!(take(&mut keeper, &theirs).requeued, 1);
    (keeper, mined.submission, mined.block, theirs)
}

#[test]
fn a_submission_is_included_orphaned_and_included_again() {
    let mut keeper = keeper(1_000);
    let mined = mine(&mut keeper, &["mine"]);
    let (id, first) = (mined.submission, mined.block.hash());
    assert_eq!(included(&keeper, &id), (first, Height(1), 0, 1));
    mine(&mut keeper, &["above"]);
    assert_eq!(included(&keeper, &id), (first, Height(1), 0, 2), "one deeper");
    take(&mut keeper, &run(genesis::tip(), "theirs", 3));
    let whereabouts = keeper.whereabouts(&id).expect("maps");
    assert!(matches!(whereabouts, Some(Whereabouts::Orphaned { block }) if block == first), "{whereabouts:?}");
    assert_eq!(keeper.outbox_len(), 2);
    let update = keeper.remine(NOW).expect("maps").expect("a block");
    assert_eq!((update.entered.len(), update.depth(), keeper.outbox_len()), (1, 0, 0));
    let (block, height, position, depth) = included(&keeper, &id);
    assert_eq!((block, height, depth), (update.new.hash, Height(4), 1));
    assert_eq!(update.entered[0].body()[position as usize], "mine");
    assert_eq!(keeper.remine(NOW).expect("maps").map(|update| update.new), None, "nothing waits");
    let unknown = SubmissionId { block: first, position: 7 };
    assert!(keeper.whereabouts(&unknown).expect("maps").is_none());
    take(&mut keeper, &run(genesis::tip(), "longer", 5));
    let whereabouts = keeper.whereabouts(&id).expect("maps");
    assert!(
        matches!(whereabouts, Some(Whereabouts::Orphaned { block }) if block == update.new.hash),
        "{whereabouts:?}"
    );
}

#[test]
fn the_delay_is_drawn_once_and_lies_between_50_and_400_milliseconds() {
    let (mut low, mut high) = (u64::MAX, 0);
    for seed in 0..200 {
        let mut rng = rng(seed);
        let (mut keeper, ..) = undone(2);
        let due = keeper.remine_due(1_000, &mut rng).expect("one waits");
        assert!((1_050..=1_400).contains(&due), "seed {seed}: {due}");
        assert_eq!(keeper.remine_due(1_200, &mut rng), Some(due), "seed {seed}: it is not drawn again");
        (low, high) = (low.min(due), high.max(due));
        keeper.remine(NOW).expect("maps");
        assert_eq!(keeper.remine_due(2_000, &mut rng), None, "nothing waits");
    }
    assert!(low < 1_070 && high > 1_380, "the whole range is used: {low} to {high}");
    assert_eq!(keeper(1).remine_due(0, &mut rng(0)), None);
}

/// Mines all that waits, a block at a time: the first after its delay, each further one as soon as others had their turn.
fn mine_again<S: Storage>(keeper: &mut Keeper<S>) -> Vec<SharedBlock> {
    let mut blocks = Vec::new();
    let mut now = keeper.remine_due(0, &mut rng(0)).expect("some wait");
    while let Some(due) = keeper.remine_due(now, &mut rng(0)) {
        assert_eq!(due, now, "after {} blocks", blocks.len());
        let update = keeper.remine(NOW).expect("maps").expect("a block");
        assert_eq!((update.entered.len(), update.depth()), (1, 0));
        blocks.extend(update.entered);
        now += 1;
    }
    blocks
}

/// Two nodes that each have many blocks to mine again would else collide at every one of them.
#[test]
fn who_loses_again_while_blocks_follow_each_other_waits_anew() {
    let mut keeper = keeper(1_000);
    let full = MineRequest { entries: vec![String::new(); MAX_BODY_ENTRIES], key: None };
    let (answers, _) = keeper.mine(vec![full; 3], NOW);
    assert!(answers.iter().all(Result::is_ok));
    let theirs = run(genesis::tip(), "theirs", 4);
    take(&mut keeper, &theirs);
    keeper.remine(NOW).expect("maps").expect("a block");
    assert_eq!(keeper.remine_due(1_000, &mut rng(0)), Some(1_000), "the second is next");
    let above = run(tip_of(&theirs), "above", 2);
    assert_eq!(take(&mut keeper, &above).requeued, 1);
    let due = keeper.remine_due(1_000, &mut rng(0)).expect("three wait");
    assert!((1_050..=1_400).contains(&due), "{due}");
    let early = keeper.remine_if_due(due - 1, NOW, &mut rng(0)).expect("maps");
    assert!(early.is_none(), "it is not due yet, whatever timer runs");
    let longer = run(tip_of(&theirs), "longer", 3);
    assert_eq!(take(&mut keeper, &longer).requeued, 0);
    assert_eq!(keeper.remine_due(due, &mut rng(0)), Some(due), "who only loses more often is not kept waiting");
    assert!(keeper.remine_if_due(due, NOW, &mut rng(0)).expect("maps").is_some(), "and then it is");
}

#[test]
fn what_has_just_left_is_mined_again_without_being_read_and_what_is_too_much_is_read() {
    let short = vec!["mine".to_owned(), "too".to_owned()];
    let long = vec!["x".repeat(MAX_BODY_BYTES / 16 - 64); 16];
    let empty = vec![String::new(); MAX_BODY_ENTRIES];
    let room = MAX_AT_HAND / MAX_BODY_BYTES;
    for (case, submissions, entries, read) in [
        ("short ones", 500, &short, 0),
        ("as much as has room", room, &long, 0),
        ("two more", room + 2, &long, 2),
        ("nothing but what keeping them takes", 10, &empty, 2),
    ] {
        let faults = Faults::default();
        let mut keeper = Keeper::open(Faulty::new(&faults), 1_000).expect("maps");
        let (answers, _) = keeper.mine(vec![MineRequest { entries: entries.clone(), key: None }; submissions], NOW);
        let theirs = run(genesis::tip(), "theirs", submissions + 1);
        assert_eq!(take(&mut keeper, &theirs).requeued, submissions, "{case}");
        mine_again(&mut keeper);
        assert_eq!(faults.asked.take().len(), read, "{case}");
        let ids = answers.into_iter().map(|answer| answer.expect("good entries").submission);
        for id in ids {
            let (hash, _, position, _) = included(&keeper, &id);
            let block = keeper.storage().block(&hash).expect("maps").expect("on the chain");
            assert_eq!(block.body()[position as usize..][..entries.len()], **entries, "{case}");
        }
        // They have left their room to others.
        let longer = run(genesis::tip(), "longer", submissions + 600);
        assert_eq!(take(&mut keeper, &longer).requeued, submissions, "{case}");
        mine_again(&mut keeper);
        assert_eq!(faults.asked.take().len(), read, "{case}, once more");
    }
}

#[test]
fn what_leaves_in_several_steps_has_one_room() {
    let entries = vec!["x".repeat(MAX_BODY_BYTES / 16 - 64); 16];
    let request = MineRequest { entries, key: None };
    let faults = Faults::default();
    let mut keeper = Keeper::open(Faulty::new(&faults), 1_000).expect("maps");
    for (step, length) in [("first", 4), ("second", 10)] {
        let (answers, _) = keeper.mine(vec![request.clone(); 3], NOW);
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(take(&mut keeper, &run(genesis::tip(), step, length)).requeued, 3, "{step}");
    }
    assert_eq!(mine_again(&mut keeper).len(), 6);
    assert_eq!(faults.asked.take().len(), 6 - MAX_AT_HAND / MAX_BODY_BYTES);
}

#[test]
fn all_that_waits_is_mined_in_as_few_blocks_as_the_limits_allow() {
    let cases = [
        ("many entries", 3, vec![String::new(); MAX_BODY_ENTRIES * 2 / 5], vec![2, 1]),
        ("exactly the entries of a block", 2, vec![String::new(); MAX_BODY_ENTRIES / 2], vec![2]),
        ("many bytes", 5, vec!["x".repeat(60 * 1024); 5], vec![3, 2]),
        ("exactly the bytes of a block", 4, vec!["x".repeat(MAX_BODY_BYTES / 32); 8], vec![4]),
        ("small ones", 50, vec!["x".to_owned()], vec![50]),
    ];
    for (case, submissions, entries, wanted) in cases {
        let mut keeper = keeper(1_000);
        let requests = vec![MineRequest { entries: entries.clone(), key: None }; submissions];
        let (answers, _) = keeper.mine(requests, NOW);
        let theirs = run(genesis::tip(), "theirs", submissions + 1);
        assert_eq!(take(&mut keeper, &theirs).requeued, submissions, "{case}");
        let blocks = mine_again(&mut keeper);
        let got: Vec<usize> = blocks.iter().map(|block| block.body().len() / entries.len()).collect();
        assert_eq!(got, wanted, "{case}");
        for answer in answers {
            let (block, height, position, _) = included(&keeper, &answer.expect("good entries").submission);
            let block = blocks.iter().find(|entered| entered.hash() == block).expect("a new block");
            assert_eq!(block.height(), height, "{case}");
            let position = position as usize;
            assert_eq!(block.body()[position..position + entries.len()], entries, "{case}");
        }
    }
}

#[test]
fn an_old_placement_that_comes_back_satisfies() {
    for staged in [false, true] {
        let (mut keeper, id, block, _) = undone(2);
        let mut back = vec![block.clone()];
        back.extend(run(block.tip(), "back", 3));
        let update = if staged {
            let mut branch = keeper.stage(genesis::tip()).expect("maps");
            keeper.stage_append(&mut branch, &back).expect("good blocks");
            super::changed(keeper.switch(branch, Origin::Trusted, &mut rng(0)).expect("good blocks"))
        } else {
            take(&mut keeper, &back)
        };
        assert_eq!((update.requeued, keeper.outbox_len()), (0, 0), "staged {staged}");
        assert_eq!(keeper.storage().pending().expect("maps"), [], "staged {staged}");
        assert_eq!(included(&keeper, &id), (block.hash(), Height(1), 0, 4), "staged {staged}");
        assert_eq!(keeper.remine_due(0, &mut rng(0)), None, "staged {staged}");
    }
}

/// The first placement leaves for good with its branch; a branch that holds it comes back all the same.
#[test]
fn an_old_placement_that_was_given_up_satisfies_too() {
    for staged in [false, true] {
        let (mut keeper, id, block, theirs) = undone(5);
        give_up(&mut keeper, &block, &theirs);
        keeper.remine(NOW).expect("maps").expect("mined again");
        assert_eq!(included(&keeper, &id).1, Height(6));
        let mut back = vec![block.clone()];
        back.extend(run(block.tip(), "back", 8));
        if staged {
            let mut branch = keeper.stage(genesis::tip()).expect("maps");
            keeper.stage_append(&mut branch, &back).expect("good blocks");
            super::changed(keeper.switch(branch, Origin::Trusted, &mut rng(0)).expect("good blocks"));
        } else {
            take(&mut keeper, &back);
        }
        assert_eq!(keeper.outbox_len(), 0, "staged {staged}: it would be there twice");
        assert_eq!(included(&keeper, &id), (block.hash(), Height(1), 0, 9), "staged {staged}");
    }
}

/// Fills the room for branches with better ones.
fn give_up(keeper: &mut Keeper<MemoryStorage>, block: &SharedBlock, theirs: &[SharedBlock]) {
    for n in 0..MAX_SIDE_BRANCHES {
        let side = super::block(theirs[1].tip(), &format!("better {n}"));
        keeper.import(&[side], Origin::Trusted, &mut rng(0)).expect("a good block");
    }
    assert_eq!(keeper.storage().block(&block.hash()).expect("maps"), None, "it was given up");
}

#[test]
fn a_key_is_answered_with_the_same_submission_also_when_its_block_was_given_up() {
    let mut keeper = keeper(1_000);
    let (mut answers, _) = keeper.mine(vec![request(&["a"], Some("key"))], NOW);
    let first = answers.pop().expect("one").expect("good");
    let theirs = run(genesis::tip(), "theirs", 5);
    take(&mut keeper, &theirs);
    give_up(&mut keeper, &first.block, &theirs);
    let update = keeper.remine(NOW).expect("maps").expect("mined again");
    let (mut answers, none) = keeper.mine(vec![request(&["a"], Some("key"))], NOW);
    let again = answers.pop().expect("one").expect("never an error");
    assert_eq!((again.submission, again.block.tip()), (first.submission, update.new));
    assert!(none.is_none(), "nothing is mined");
}

#[test]
fn what_waits_survives_a_restart() {
    let (keeper, id, ..) = undone(2);
    let mut again = Keeper::open(keeper.into_storage(), 1_000).expect("maps");
    assert_eq!(again.outbox_len(), 1);
    assert!(again.remine_due(0, &mut rng(0)).is_some());
    again.remine(NOW).expect("maps").expect("a block");
    let again = Keeper::open(again.into_storage(), 1_000).expect("maps");
    assert_eq!((again.outbox_len(), included(&again, &id).1), (0, Height(3)));
}

#[test]
fn a_key_is_mined_once_whenever_it_comes() {
    let mut keeper = keeper(1_000);
    let group = vec![
        request(&["a", "b"], Some("k1")),
        request(&["a", "b"], Some("k1")),
        request(&["a"], Some("k1")),
        request(&["a", "b"], Some("k2")),
        request(&["a", "b"], None),
    ];
    let (answers, update) = keeper.mine(group, NOW);
    let got: Vec<_> = answers.iter().map(|answer| answer.as_ref().map(|mined| mined.submission)).collect();
    let heights: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().map(|mined| mined.block.height().0).ok()).collect();
    assert_eq!(heights, [Some(1), Some(1), None, Some(2), Some(3)]);
    assert!(matches!(got[2], Err(MineError::KeyReused)), "other entries in one group");
    let first = *got[0].as_ref().expect("good");
    assert_eq!(first, *got[1].as_ref().expect("good"), "the same group");
    assert_eq!(update.expect("blocks").entered.len(), 3);
    let later = |keeper: &mut Keeper<MemoryStorage>, case: &str| {
        let (mut answers, update) = keeper.mine(vec![request(&["a", "b"], Some("k1"))], NOW);
        let mined = answers.pop().expect("one").expect("good");
        assert_eq!((mined.submission, mined.block.hash()), (first, first.block), "{case}");
        assert!(update.is_none(), "{case}: nothing is mined");
        let (mut answers, _) = keeper.mine(vec![request(&["a", "c"], Some("k1"))], NOW);
        assert!(matches!(answers.pop(), Some(Err(MineError::KeyReused))), "{case}, other entries");
    };
    later(&mut keeper, "a later group");
    let mut again = Keeper::open(keeper.into_storage(), 1_000).expect("maps");
    later(&mut again, "after a restart");
    take(&mut again, &run(genesis::tip(), "theirs", 5));
    later(&mut again, "while it waits");
    again.remine(NOW).expect("maps").expect("a block");
    later(&mut again, "mined again, among others");
}

#[test]
fn a_storage_without_room_changes_nothing_and_every_answer_is_its_error() {
    let faults = Faults::default();
    let mut keeper = Keeper::open(Faulty::new(&faults), 1_000).expect("maps");
    let lost = mine(&mut keeper, &["lost"]).submission;
    let (mut kept, _) = keeper.mine(vec![request(&["kept"], Some("kept"))], NOW);
    let kept = kept.pop().expect("one").expect("good").submission;
    let theirs = run(genesis::tip(), "theirs", 3);
    take(&mut keeper, &theirs);
    let before = (keeper.tip(), keeper.side_blocks(), keeper.outbox_len());
    assert_eq!(before, (tip_of(&theirs), 2, 2));
    let due = keeper.remine_due(0, &mut rng(0));
    faults.full.set(true);
    let group = vec![
        request(&["new"], None),
        request(&[], None),
        request(&["new"], Some("new")),
        request(&["new"], Some("new")),
        request(&["kept"], Some("kept")),
        request(&["other"], Some("kept")),
    ];
    let (answers, update) = keeper.mine(group, NOW);
    assert!(update.is_none());
    for (place, answer) in answers.iter().enumerate() {
        match (place, answer) {
            (0 | 2 | 3, Err(MineError::Storage(StorageError::Full(_))))
            | (1, Err(MineError::Rule(_)))
            | (5, Err(MineError::KeyReused)) => {}
            (4, Ok(mined)) if mined.submission == kept => {}
            other => panic!("{other:?}"),
        }
    }
    let side = block(genesis::tip(), "side");
    let longer = run(tip_of(&theirs), "longer", 1);
    for refused in [vec![side], longer.clone()] {
        let outcome = keeper.import(&refused, Origin::Trusted, &mut rng(0));
        assert!(matches!(outcome, Err(ImportError::Storage(StorageError::Full(_)))), "{outcome:?}");
    }
    assert!(matches!(keeper.remine(NOW), Err(MineError::Storage(StorageError::Full(_)))));
    assert_eq!((keeper.tip(), keeper.side_blocks(), keeper.outbox_len()), before);
    assert_eq!(hashes(&keeper.storage().inner().chain()[1..]), hashes(&theirs));
    assert!(keeper.remine_due(5_000, &mut rng(0)) > due, "they wait anew");
    faults.full.set(false);
    let update = keeper.remine(NOW).expect("room").expect("a block");
    assert_eq!(included(&keeper, &lost).0, update.new.hash);
    let (mut answers, _) = keeper.mine(vec![request(&["new"], Some("new"))], NOW);
    assert_eq!(answers.pop().expect("one").expect("good").block.height(), Height(5), "the key was not taken");
}
