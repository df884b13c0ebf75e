//! What a stranger may have us fetch, and whom we ask first.

use dolmen::ledger::chain::Origin;
use dolmen::ledger::keeper::Imported;
use dolmen::ledger::limits::MAX_PARKED_BLOCKS;
use dolmen::ledger::{BlockHash, Height, SharedBlock, Tip, genesis};
use dolmen::peer::native::Frame;
use dolmen::peer::sync::{Action, Sync};

use super::{Node, part, run, send, step, tip_of};

fn high(height: u64) -> Tip {
    Tip { height: Height(height), hash: BlockHash([7; 32]) }
}

fn asks(actions: &[Action]) -> Vec<u64> {
    let asked = |action: &Action| match action {
        Action::Send(link, dolmen::peer::sync::Say::Frame(Frame::Locate(_))) => Some(*link),
        _ => None,
    };
    actions.iter().filter_map(asked).collect()
}

fn located(common: Tip, tip: Tip) -> Frame {
    Frame::Located { common: Some(common), tip }
}

fn batch(run: &[SharedBlock]) -> Frame {
    Frame::Batch(part(run))
}

fn fetch(link: u64, from: u64, upto: Tip) -> Action {
    send(link, Frame::Fetch { from: Height(from), upto, batches: 3 })
}

/// A node of so many blocks that lets strangers undo three, and stages at most so many bytes of theirs.
fn node(blocks: usize, staged: u64) -> (Node, Vec<SharedBlock>) {
    let ours = run(genesis::tip(), "ours", blocks);
    let mut node = Node::new(&ours);
    node.sync = Sync::new(3).staging_at_most(staged);
    (node, ours)
}

#[test]
fn a_branch_that_could_not_even_be_parked_is_not_fetched() {
    let most = MAX_PARKED_BLOCKS as u64;
    let deep = genesis::tip();
    for (sentence, blocks, fork, length, origin, passed_over) in [
        ("deep, and longer than is kept", 5, deep, most + 1, Origin::Stranger, true),
        ("deep, and as long as is kept", 5, deep, most, Origin::Stranger, false),
        ("deep and long, of a named peer", 5, deep, most + 1, Origin::Trusted, false),
        ("deep and long, on a node at genesis", 0, deep, most + 1, Origin::Stranger, false),
        ("long, and not deep", 3, deep, most + 1, Origin::Stranger, false),
    ] {
        let (mut node, _) = node(blocks, u64::MAX);
        node.link(1, origin);
        assert_eq!(asks(&node.sync.introduced(1, high(length), &node.ours)), [1], "{sentence}");
        let got = node.frame(1, located(fork, high(length)));
        if !passed_over {
            step(sentence, got, vec![fetch(1, 1, high(length))]);
            continue;
        }
        step(sentence, got, vec![Action::PassOver { link: 1, tip: high(length), depth: 5 }]);
        step("it is left alone for a while", node.tick(29_999), vec![]);
        assert_eq!(asks(&node.tick(1)), [1], "and then asked whether that has changed");
    }
}

#[test]
fn of_a_strangers_long_branch_what_is_better_is_taken_over_and_the_rest_fetched_then() {
    let (mut node, ours) = node(2, 1);
    let theirs = [&ours[..], &run(tip_of(&ours), "theirs", 50)].concat();
    node.native(1, tip_of(&theirs));
    node.frame(1, located(tip_of(&ours), tip_of(&theirs)));
    let stage =
        |part: &[SharedBlock]| Action::Stage { link: 1, ticket: 0, fork: tip_of(&ours), blocks: super::part(part) };
    step("the first batch is enough", node.frame(1, batch(&theirs[2..12])), vec![stage(&theirs[2..12])]);
    step("what comes still is passed over", node.frame(1, batch(&theirs[12..22])), vec![]);
    step("all of it", node.frame(1, batch(&theirs[22..32])), vec![]);
    let switch = Action::Switch { link: 1, ticket: 0, origin: Origin::Stranger };
    step("what is staged is switched in", node.staged(1, 0, Some(theirs[11].tip())), vec![switch]);
    let update = node.update(&theirs[..12]);
    let next = node.sync.switched(1, 0, Ok(&Imported::Changed(update)), &node.ours);
    assert_eq!(asks(&next), [1], "and the rest is located");
    let onward = node.frame(1, located(theirs[11].tip(), tip_of(&theirs)));
    step("and fetched", onward, vec![fetch(1, 13, tip_of(&theirs))]);
}

#[test]
fn a_strangers_branch_that_is_large_before_it_is_better_is_given_up() {
    for (sentence, blocks, origin, given_up) in [
        ("three blocks below ours", 3, Origin::Stranger, true),
        ("deeper than strangers may undo", 5, Origin::Stranger, true),
        ("of a named peer", 5, Origin::Trusted, false),
    ] {
        let (mut node, _) = node(blocks, 1);
        let theirs = run(genesis::tip(), "theirs", 50);
        node.link(1, origin);
        node.sync.introduced(1, tip_of(&theirs), &node.ours);
        node.frame(1, located(genesis::tip(), tip_of(&theirs)));
        let first = &theirs[..if blocks == 5 { 10 } else { 2 }];
        let staged = Action::Stage { link: 1, ticket: 0, fork: genesis::tip(), blocks: part(first) };
        let (depth, tip) = (blocks as u64, tip_of(first));
        let wanted = if given_up {
            vec![staged, Action::Unstage, Action::PassOver { link: 1, tip, depth }]
        } else {
            vec![staged]
        };
        step(sentence, node.frame(1, batch(first)), wanted);
    }
}

#[test]
fn who_is_trusted_or_has_kept_his_word_is_asked_before_who_names_the_highest_tip() {
    let theirs = run(genesis::tip(), "theirs", 5);
    for (sentence, origin, proven) in [("named", Origin::Trusted, false), ("proven", Origin::Stranger, true)] {
        let (mut node, _) = node(0, u64::MAX);
        node.link(1, origin);
        node.link(2, Origin::Stranger);
        if proven {
            let update = node.update(&theirs);
            let _ = node.imported(1, update.new, Ok(Imported::Changed(update)));
        }
        node.sync.introduced(1, node.ours.0.last().expect("genesis").tip(), &node.ours);
        node.sync.introduced(2, genesis::tip(), &node.ours);
        // Both are heard of while the other is being asked.
        node.link(3, Origin::Trusted);
        node.sync.introduced(3, high(7), &node.ours);
        node.frame(2, Frame::Tip(high(1 << 50)));
        node.frame(1, Frame::Tip(high(9)));
        assert_eq!(asks(&node.sync.closed(3, &node.ours)), [1], "{sentence}");
    }
}

#[test]
fn who_sends_a_block_now_and_then_makes_way_for_another() {
    let theirs = run(genesis::tip(), "theirs", 50);
    for (sentence, other) in [("alone", false), ("another waits", true)] {
        let (mut node, _) = node(0, u64::MAX);
        node.native(1, high(1 << 50));
        node.frame(1, located(genesis::tip(), high(1 << 50)));
        if other {
            node.native(2, tip_of(&theirs));
        }
        let mut asked = Vec::new();
        for n in 0..4 {
            node.frame(1, batch(&theirs[n..=n]));
            node.staged(1, 0, Some(theirs[n].tip()));
            asked.extend(asks(&node.tick(15_000)));
        }
        assert_eq!(asked, if other { vec![2] } else { vec![] }, "{sentence}");
    }
}

#[test]
fn what_nobody_goes_on_with_is_given_up_at_last() {
    let theirs = run(genesis::tip(), "theirs", 50);
    let (mut node, _) = node(0, u64::MAX);
    node.native(1, tip_of(&theirs));
    node.frame(1, located(genesis::tip(), tip_of(&theirs)));
    node.frame(1, batch(&theirs[..10]));
    node.staged(1, 0, Some(theirs[9].tip()));
    step("the link ends", node.sync.closed(1, &node.ours), vec![]);
    step("ten minutes are granted", node.tick(600_000), vec![]);
    step("and no more", node.tick(1), vec![Action::Unstage]);
    step("once", node.tick(600_001), vec![]);
}
