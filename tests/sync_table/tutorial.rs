//! With tutorial peers.

use dolmen::ledger::chain::Origin;
use dolmen::ledger::keeper::Imported;
use dolmen::ledger::{SharedBlock, genesis};
use dolmen::peer::sync::{Action, Fault, Say};

use super::{Node, broken, close, full_disk, import, run, send, step, tip_of};

fn ask_all(link: u64) -> Action {
    Action::Send(link, Say::QueryAll)
}

fn whole(above: &[SharedBlock]) -> Vec<SharedBlock> {
    [&[genesis::block()], above].concat()
}

#[test]
fn a_tutorial_peer_is_answered_and_followed() {
    let theirs = run(genesis::tip(), "theirs", 5);
    let mut node = Node::new(&[]);
    node.link(1, Origin::Stranger);
    let view = &node.ours;
    step("QUERY_LAST is answered", node.sync.asked_last(1, view), vec![Action::Send(1, Say::LastBlock)]);
    step("QUERY_ALL is answered", node.sync.asked_all(1, view), vec![Action::Send(1, Say::WholeChain)]);
    step("a block that it mined is imported", node.sync.blocks(1, theirs[..1].to_vec()), vec![import(1, &theirs[..1])]);
    let update = node.update(&theirs[..1]);
    step("it is not told of its own block", node.sync.updated(&update, &node.ours), vec![]);
    step("nor asked for more", node.imported(1, update.new, Ok(Imported::Changed(update.clone()))), vec![]);
    step("a block far above is imported too", node.sync.blocks(1, theirs[4..].to_vec()), vec![import(1, &theirs[4..])]);
    let unconnected = node.imported(1, tip_of(&theirs), Ok(Imported::Unconnected));
    step("as it does not connect, all are asked for", unconnected, vec![ask_all(1)]);
    step("no empty list of blocks", node.sync.blocks(1, vec![]), vec![]);
    let all = whole(&theirs);
    step("the whole chain is imported", node.sync.blocks(1, all.clone()), vec![import(1, &all)]);
    let update = node.update(&theirs);
    step("and nobody is asked", node.imported(1, update.new, Ok(Imported::Changed(update))), vec![]);
}

#[test]
fn a_worse_tip_that_does_not_connect_is_left_alone() {
    let mut node = Node::new(&run(genesis::tip(), "ours", 9));
    node.link(1, Origin::Stranger);
    let theirs = run(genesis::tip(), "theirs", 5);
    node.sync.blocks(1, theirs[4..].to_vec());
    step("it is shorter than ours", node.imported(1, tip_of(&theirs), Ok(Imported::Unconnected)), vec![]);
    step("also later", node.tick(100_000), vec![]);
}

#[test]
fn two_chains_are_asked_for_at_once_and_again_after_a_minute() {
    let theirs = run(genesis::tip(), "theirs", 5);
    let last = tip_of(&theirs);
    let mut node = Node::new(&[]);
    for link in 1..=4 {
        node.link(link, Origin::Stranger);
        node.sync.blocks(link, theirs[4..].to_vec());
    }
    step("the first", node.imported(1, last, Ok(Imported::Unconnected)), vec![ask_all(1)]);
    step("the second", node.imported(2, last, Ok(Imported::Unconnected)), vec![ask_all(2)]);
    step("the third has to wait", node.imported(3, last, Ok(Imported::Unconnected)), vec![]);
    step("the fourth too", node.imported(4, last, Ok(Imported::Unconnected)), vec![]);
    let all = whole(&theirs);
    let answered = vec![ask_all(3), import(1, &all)];
    step("the first has answered: the third is asked", node.sync.blocks(1, all), answered);
    step("the second is gone: the fourth is asked", node.sync.closed(2, &node.ours), vec![ask_all(4)]);
    node.sync.blocks(3, theirs[4..].to_vec());
    step("the third is not asked twice", node.imported(3, last, Ok(Imported::Unconnected)), vec![]);
    step("not within a minute", node.tick(60_000), vec![]);
    step("but then", node.tick(1), vec![ask_all(3)]);
}

#[test]
fn a_refusal_ends_the_link_only_if_the_peer_is_at_fault() {
    let theirs = run(genesis::tip(), "theirs", 1);
    let mut node = Node::new(&[]);
    node.link(1, Origin::Stranger);
    node.sync.blocks(1, theirs.clone());
    step("our disk is not its fault", node.imported(1, tip_of(&theirs), Err(full_disk())), vec![]);
    node.sync.blocks(1, theirs.clone());
    let fault = Fault::Rule("the list of blocks is empty".to_owned());
    let ended = vec![Action::Close { link: 1, fault }];
    step("a broken rule is", node.imported(1, tip_of(&theirs), Err(broken())), ended);
    step("what it says while it is being closed is not heard", node.sync.blocks(1, theirs), vec![]);
}

#[test]
fn a_flood_of_blocks_does_not_pile_up_before_the_ledger() {
    let theirs = run(genesis::tip(), "theirs", 40);
    let last = tip_of(&theirs);
    let mut node = Node::new(&[]);
    node.link(1, Origin::Stranger);
    let mut under_way = 0;
    for block in &theirs {
        under_way += node.sync.blocks(1, vec![block.clone()]).len();
    }
    assert_eq!(under_way, 16, "the rest is passed over");
    for block in &theirs[..15] {
        step("the ledger takes one after the other", node.imported(1, block.tip(), Ok(Imported::Side)), vec![]);
    }
    node.becomes(&theirs[..16]);
    let asked = node.imported(1, theirs[15].tip(), Ok(Imported::Side));
    step("when it is done, what was passed over is asked for", asked, vec![ask_all(1)]);
    let all = whole(&theirs);
    step("and comes", node.sync.blocks(1, all.clone()), vec![import(1, &all)]);
    node.becomes(&theirs);
    step("once", node.imported(1, last, Ok(Imported::Side)), vec![]);
}

#[test]
fn a_native_frame_from_a_peer_that_has_not_said_hello_is_a_fault() {
    let mut node = Node::new(&[]);
    node.link(1, Origin::Stranger);
    let gone = super::Frame::Gone;
    step("once", node.frame(1, gone.clone()), vec![close(1, "a binary frame before HELLO")]);
    step("and it is heard no more", node.frame(1, gone), vec![]);
}

#[test]
fn our_own_news_are_told_to_each_peer_in_its_way() {
    let ours = run(genesis::tip(), "ours", 3);
    let mut node = Node::new(&ours[..1]);
    for link in 1..=3 {
        node.link(link, Origin::Stranger);
    }
    node.sync.introduced(2, genesis::tip(), &node.ours);
    node.sync.introduced(3, tip_of(&ours), &node.ours);
    let told = node.becomes(&ours);
    let block = |n: usize| Action::Send(1, Say::Block(ours[n].clone()));
    let push = send(2, super::Frame::Push(super::part(&ours[1..])));
    let held = send(3, super::Frame::Tip(tip_of(&ours)));
    step("a block each, in order; a push; the tip to the one who has it", told, vec![block(1), block(2), push, held]);
    let other = run(genesis::tip(), "other", 5);
    let tip = super::Frame::Tip(tip_of(&other));
    let told = node.becomes(&other);
    let wanted = vec![Action::Send(1, Say::LastBlock), send(2, tip.clone()), send(3, tip)];
    step("after a reorg the last block, and the tip", told, wanted);
    for (count, wanted) in [(128, 128), (129, 1)] {
        let mut node = Node::new(&other);
        node.link(1, Origin::Stranger);
        let more = run(tip_of(&other), "more", count);
        assert_eq!(node.becomes(&[other.clone(), more].concat()).len(), wanted, "{count} blocks");
    }
}
