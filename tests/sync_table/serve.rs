//! Serving a branch, and telling of our own chain.

use dolmen::ledger::{BlockHash, Height, Tip, genesis};
use dolmen::peer::native::Frame;
use dolmen::peer::sync::Action;

use super::{Node, part, run, send, step, tip_of};

fn serve(from: u64, upto: Tip) -> Action {
    Action::Serve { link: 1, from: Height(from), upto }
}

fn fetch(from: u64, upto: Tip, batches: u32) -> Frame {
    Frame::Fetch { from: Height(from), upto, batches }
}

#[test]
fn a_branch_is_served_one_batch_at_a_time_as_far_as_the_peer_may_be_sent() {
    let ours = run(genesis::tip(), "ours", 50);
    let tip = tip_of(&ours);
    let mut node = Node::new(&ours);
    step("a peer that is behind", node.native(1, genesis::tip()), vec![]);
    let places = vec![Tip { height: Height(3), hash: BlockHash([1; 32]) }, ours[1].tip(), genesis::tip()];
    let found = send(1, Frame::Located { common: Some(ours[1].tip()), tip });
    step("the first place that is ours", node.frame(1, Frame::Locate(places)), vec![found]);
    let huge = vec![Tip { height: Height(u64::MAX), hash: tip.hash }];
    let nothing = send(1, Frame::Located { common: None, tip });
    step("none is ours", node.frame(1, Frame::Locate(huge)), vec![nothing]);
    step("two batches may come", node.frame(1, fetch(3, tip, 2)), vec![serve(3, tip)]);
    step("more while one is being read", node.frame(1, Frame::More { batches: 1 }), vec![]);
    step("the second", node.sync.served(1, Height(3), Some(Height(10))), vec![serve(10, tip)]);
    step("the third", node.sync.served(1, Height(10), Some(Height(20))), vec![serve(20, tip)]);
    step("no more may come", node.sync.served(1, Height(20), Some(Height(30))), vec![]);
    step("one more", node.frame(1, Frame::More { batches: 1 }), vec![serve(30, tip)]);
    step("that was the last", node.sync.served(1, Height(30), Some(Height(51))), vec![]);
    step("nothing is left to serve", node.frame(1, Frame::More { batches: 1 }), vec![]);
}

#[test]
fn a_chain_that_is_no_longer_ours_is_gone() {
    let ours = run(genesis::tip(), "ours", 50);
    let tip = tip_of(&ours);
    let mut node = Node::new(&ours);
    node.native(1, genesis::tip());
    node.frame(1, fetch(1, tip, 3));
    step("it cannot be read", node.sync.served(1, Height(1), None), vec![send(1, Frame::Gone)]);
    step("and is not tried again", node.frame(1, Frame::More { batches: 9 }), vec![]);
}

#[test]
fn a_second_fetch_waits_for_the_batch_that_is_being_read() {
    let ours = run(genesis::tip(), "ours", 50);
    let tip = tip_of(&ours);
    let mut node = Node::new(&ours);
    node.native(1, genesis::tip());
    node.frame(1, fetch(1, tip, 3));
    step("another", node.frame(1, fetch(20, tip, 1)), vec![]);
    step("begins when the first was read", node.sync.served(1, Height(1), Some(Height(9))), vec![serve(20, tip)]);
    step("and has its own measure", node.sync.served(1, Height(20), Some(Height(30))), vec![]);
    step("a link that is gone is served no more", node.sync.closed(1, &node.ours), vec![]);
    step("whatever was read", node.sync.served(1, Height(20), Some(Height(30))), vec![]);
}

#[test]
fn no_peer_can_ask_for_many_batches_ahead() {
    let ours = run(genesis::tip(), "ours", 50);
    let tip = tip_of(&ours);
    let mut node = Node::new(&ours);
    node.native(1, genesis::tip());
    node.frame(1, fetch(1, tip, u32::MAX));
    node.frame(1, Frame::More { batches: u32::MAX });
    let served = (1..50).take_while(|&at| !node.sync.served(1, Height(at), Some(Height(at + 1))).is_empty()).count();
    assert_eq!(served, 16, "sixteen beside the one that was being read");
}

#[test]
fn a_peer_is_told_once_and_never_what_it_has() {
    let ours = run(genesis::tip(), "ours", 6);
    let mut node = Node::new(&ours[..1]);
    step("HELLO had our tip", node.native(1, genesis::tip()), vec![]);
    node.link(2, super::Origin::Stranger);
    node.ours = super::Chain::of(&ours[..2]);
    let news = vec![send(2, Frame::Tip(tip_of(&ours[..2])))];
    step("our chain grew since the second HELLO", node.sync.introduced(2, genesis::tip(), &node.ours), news);
    node.ours = super::Chain::of(&ours[..1]);
    let told = node.becomes(&ours[..2]);
    let push = |link, run: &[_]| send(link, Frame::Push(part(run)));
    let tip = |link, run: &[_]| send(link, Frame::Tip(tip_of(run)));
    step("the first follows; the second was told another", told, vec![push(1, &ours[1..2]), tip(2, &ours[..2])]);
    step("both follow", node.becomes(&ours[..3]), vec![push(1, &ours[2..3]), push(2, &ours[2..3])]);
    node.sync.lost_track(1);
    step("what the first was told is lost", node.becomes(&ours[..4]), vec![tip(1, &ours[..4]), push(2, &ours[3..4])]);
    let pushed = node.frame(1, Frame::Push(part(&ours[4..5])));
    step("a push is imported", pushed, vec![super::import(1, &ours[4..5])]);
    let told = node.becomes(&ours[..5]);
    step("and told on; its sender hears that we hold it", told, vec![tip(1, &ours[..5]), push(2, &ours[4..5])]);
    step("later news follow it", node.becomes(&ours), vec![push(1, &ours[5..]), push(2, &ours[5..])]);
    let held = node.sync.holders(ours[4].tip(), &node.ours);
    assert_eq!(held, 1, "the first has said that it has the fifth block");
}

#[test]
fn long_news_come_in_frames_of_a_batch_each() {
    let ours = run(genesis::tip(), "ours", 4_001);
    let mut node = Node::new(&[]);
    node.native(1, genesis::tip());
    let wanted = vec![send(1, Frame::Push(part(&ours[..4_000]))), send(1, Frame::Push(part(&ours[4_000..])))];
    assert!(node.becomes(&ours) == wanted, "4,000 blocks, then the last");
}
