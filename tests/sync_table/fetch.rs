//! Fetching a branch from native peers.

use dolmen::ledger::chain::Origin;
use dolmen::ledger::keeper::Imported;
use dolmen::ledger::{BlockHash, Height, SharedBlock, Tip, genesis};
use dolmen::peer::native::Frame;
use dolmen::peer::sync::{Action, Fault};

use super::{Node, broken, close, full_disk, import, part, run, send, step, tip_of};

fn fetch(link: u64, from: u64, upto: Tip) -> Action {
    send(link, Frame::Fetch { from: Height(from), upto, batches: 3 })
}

fn more(link: u64) -> Action {
    send(link, Frame::More { batches: 1 })
}

fn stage(link: u64, ticket: u64, run: &[SharedBlock]) -> Action {
    Action::Stage { link, ticket, fork: genesis::tip(), blocks: part(run) }
}

fn locate(link: u64, places: &[Tip]) -> Action {
    send(link, Frame::Locate(places.to_vec()))
}

fn located(common: Tip, tip: Tip) -> Frame {
    Frame::Located { common: Some(common), tip }
}

fn batch(run: &[SharedBlock]) -> Frame {
    Frame::Batch(part(run))
}

fn switch(link: u64, ticket: u64) -> Action {
    Action::Switch { link, ticket, origin: Origin::Stranger }
}

/// At genesis, with one native peer that is asked for the rest of its chain.
fn fetching(theirs: &[SharedBlock]) -> Node {
    let mut node = Node::new(&[]);
    step("a better tip is located", node.native(1, tip_of(theirs)), vec![locate(1, &[genesis::tip()])]);
    let found = node.frame(1, located(genesis::tip(), tip_of(theirs)));
    step("and fetched from the common block on", found, vec![fetch(1, 1, tip_of(theirs))]);
    node
}

#[test]
fn a_small_branch_is_imported_at_once() {
    let theirs = run(genesis::tip(), "theirs", 5);
    let mut node = fetching(&theirs);
    step("all in one batch", node.frame(1, batch(&theirs)), vec![import(1, &theirs)]);
    step("the ledger may take its time", node.tick(100_000), vec![]);
    let update = node.update(&theirs);
    step("done", node.imported(1, update.new, Ok(Imported::Changed(update.clone()))), vec![]);
    step("nothing is fetched any more", node.tick(100_000), vec![]);
    assert_eq!(node.sync.progress(), None);
}

#[test]
fn a_large_branch_is_staged_batch_by_batch_and_switched_in() {
    let theirs = run(genesis::tip(), "theirs", 50);
    let mut node = fetching(&theirs);
    for n in 0..3 {
        let part = &theirs[n * 10..][..10];
        step("each batch is staged", node.frame(1, batch(part)), vec![stage(1, 0, part)]);
    }
    step("one more may come for each that is staged", node.staged(1, 0, Some(theirs[9].tip())), vec![more(1)]);
    step("the fourth", node.frame(1, batch(&theirs[30..40])), vec![stage(1, 0, &theirs[30..40])]);
    step("one more", node.staged(1, 0, Some(theirs[19].tip())), vec![more(1)]);
    step("the last", node.frame(1, batch(&theirs[40..])), vec![stage(1, 0, &theirs[40..])]);
    for at in [29, 39] {
        step("nothing is left to ask for", node.staged(1, 0, Some(theirs[at].tip())), vec![]);
    }
    step("all is staged", node.staged(1, 0, Some(theirs[49].tip())), vec![switch(1, 0)]);
    step("the ledger may take its time", node.tick(100_000), vec![]);
    let update = node.update(&theirs);
    let done = node.sync.switched(1, 0, Ok(&Imported::Changed(update)), &node.ours);
    step("done", done, vec![]);
    assert_eq!(node.sync.progress(), None);
}

#[test]
fn what_does_not_belong_there_is_a_fault() {
    let theirs = run(genesis::tip(), "theirs", 50);
    let stranger = Tip { height: Height(0), hash: BlockHash([9; 32]) };
    let nowhere = "Located names no place that was asked for";
    for (sentence, common) in
        [("none", None), ("an unknown one", Some(stranger)), ("a later one", Some(theirs[0].tip()))]
    {
        let mut node = Node::new(&[]);
        node.native(1, tip_of(&theirs));
        let got = node.frame(1, Frame::Located { common, tip: tip_of(&theirs) });
        step(sentence, got, vec![close(1, nowhere)]);
        step("it is not asked again", node.tick(1), vec![]);
        step("nor heard", node.frame(1, Frame::Tip(tip_of(&theirs))), vec![]);
    }
    let mut node = fetching(&theirs);
    let order = vec![close(1, "a batch does not follow the one before")];
    step("the second batch comes first", node.frame(1, batch(&theirs[10..20])), order);
    let mut node = fetching(&theirs);
    let other = run(genesis::tip(), "other", 50);
    let wrong = vec![Action::Unstage, close(1, "the branch does not end in the announced tip")];
    step("another block at the tip's height", node.frame(1, batch(&other)), wrong.clone());
    let mut node = fetching(&theirs);
    step("a block above the tip", node.frame(1, batch(&run(genesis::tip(), "other", 51))), wrong);
    let mut node = fetching(&theirs);
    for n in 0..3 {
        node.frame(1, batch(&theirs[n * 10..][..10]));
    }
    let flood = vec![close(1, "more batches than were asked for")];
    step("a fourth batch where three were asked for", node.frame(1, batch(&theirs[30..40])), flood);
}

/// An answer that an honest node cannot give: it would be asked the same for ever.
#[test]
fn a_tip_beside_the_common_block_is_a_fault() {
    let ours = run(genesis::tip(), "ours", 1);
    let smaller = Tip { height: Height(1), hash: BlockHash([0; 32]) };
    let mut node = Node::new(&ours);
    let asked = vec![locate(1, &[tip_of(&ours), genesis::tip()])];
    let greeting = node.native(1, smaller);
    step("of the same height, but better", greeting, asked);
    let fault = vec![close(1, "Located names a tip that is not above the common block")];
    step("our own block is no way there", node.frame(1, located(tip_of(&ours), smaller)), fault);
}

#[test]
fn a_silent_peer_is_dropped_and_the_next_one_asked() {
    let theirs = run(genesis::tip(), "theirs", 50);
    let stalled = |link| Action::Close { link, fault: Fault::Stalled };
    let mut node = fetching(&theirs);
    step("a second peer is not needed yet", node.native(2, tip_of(&theirs)), vec![]);
    step("twenty seconds are granted", node.tick(20_000), vec![]);
    node.frame(1, batch(&theirs[..10]));
    step("a batch at the ledger is not the peer's delay", node.tick(50_000), vec![]);
    step("staged", node.staged(1, 0, Some(theirs[9].tip())), vec![more(1)]);
    step("twenty more", node.tick(20_000), vec![]);
    let places = [theirs[9].tip(), genesis::tip()];
    step("that is too long", node.tick(1), vec![stalled(1), locate(2, &places)]);
    let onward = node.frame(2, located(theirs[9].tip(), tip_of(&theirs)));
    step("the other goes on where the first stopped", onward, vec![fetch(2, 11, tip_of(&theirs))]);
    step("its batch is staged on top", node.frame(2, batch(&theirs[10..20])), vec![stage(2, 1, &theirs[10..20])]);
    let mut node = Node::new(&[]);
    node.native(1, tip_of(&theirs));
    node.tick(20_000);
    step("no answer to Locate is no better", node.tick(1), vec![stalled(1)]);
}

#[test]
fn a_lost_link_loses_nothing_that_was_staged_or_is_on_its_way() {
    let theirs = run(genesis::tip(), "theirs", 50);
    let mut node = fetching(&theirs);
    node.native(2, tip_of(&theirs));
    for n in 0..3 {
        node.frame(1, batch(&theirs[n * 10..][..10]));
    }
    node.staged(1, 0, Some(theirs[9].tip()));
    step("two batches are on their way to the ledger", node.sync.closed(1, &node.ours), vec![]);
    step("one arrives", node.staged(1, 0, Some(theirs[19].tip())), vec![]);
    let arrived = node.staged(1, 0, Some(theirs[29].tip()));
    step("the last has arrived", arrived, vec![locate(2, &[theirs[29].tip(), genesis::tip()])]);
    let onward = node.frame(2, located(theirs[29].tip(), tip_of(&theirs)));
    step("the other goes on from there", onward, vec![fetch(2, 31, tip_of(&theirs))]);
    assert_eq!(node.sync.progress().map(|progress| progress.at), Some(Height(30)));
}

#[test]
fn a_peer_whose_chain_ends_in_what_is_staged_has_nothing_to_add() {
    let theirs = run(genesis::tip(), "theirs", 50);
    let mut node = fetching(&theirs);
    node.frame(1, batch(&theirs[..10]));
    node.staged(1, 0, Some(theirs[9].tip()));
    node.sync.closed(1, &node.ours);
    let places = [theirs[9].tip(), genesis::tip()];
    step("another peer is as far as we are", node.native(2, theirs[9].tip()), vec![locate(2, &places)]);
    let onward = node.frame(2, located(theirs[9].tip(), theirs[9].tip()));
    step("what is staged is switched in", onward, vec![switch(2, 1)]);
}

#[test]
fn a_peer_on_another_branch_begins_anew() {
    let (theirs, other) = (run(genesis::tip(), "theirs", 50), run(genesis::tip(), "other", 60));
    let mut node = fetching(&theirs);
    node.frame(1, batch(&theirs[..10]));
    node.staged(1, 0, Some(theirs[9].tip()));
    node.sync.closed(1, &node.ours);
    node.native(2, tip_of(&other));
    let anew = node.frame(2, located(genesis::tip(), tip_of(&other)));
    step("what is staged is of no use", anew, vec![Action::Unstage, fetch(2, 1, tip_of(&other))]);
    let mut node = Node::new(&[]);
    node.native(1, tip_of(&theirs));
    node.ours = super::Chain::of(&theirs[..1]);
    let anew = node.frame(1, located(genesis::tip(), tip_of(&theirs)));
    step("a common block that is still ours will do", anew, vec![fetch(1, 1, tip_of(&theirs))]);
    let ours = run(genesis::tip(), "ours", 2);
    let mut node = Node::new(&ours);
    node.native(1, tip_of(&theirs));
    node.ours = super::Chain::of(&other[..2]);
    let again = node.frame(1, located(tip_of(&ours), tip_of(&theirs)));
    let places: Vec<Tip> = [other[1].tip(), other[0].tip(), genesis::tip()].to_vec();
    step("one that has left our chain is asked for anew", again, vec![locate(1, &places)]);
}

#[test]
fn results_of_an_earlier_attempt_are_told_apart() {
    let theirs = run(genesis::tip(), "theirs", 50);
    let mut node = fetching(&theirs);
    node.frame(1, batch(&theirs[..10]));
    let anew = node.staged(1, 0, None);
    step("the blocks do not continue what is staged", anew, vec![Action::Unstage, locate(1, &[genesis::tip()])]);
    node.frame(1, located(genesis::tip(), tip_of(&theirs)));
    step("begun anew", node.frame(1, batch(&theirs[..10])), vec![stage(1, 1, &theirs[..10])]);
    let stale = node.sync.switched(1, 0, Ok(&Imported::Known), &node.ours);
    step("an old switch ends nothing", stale, vec![]);
    assert_eq!(node.sync.progress().map(|progress| progress.at), Some(Height(10)));
    step("the new one counts", node.staged(1, 1, Some(theirs[9].tip())), vec![more(1)]);
}

#[test]
fn a_chain_that_is_gone_is_not_asked_for_again_until_the_peer_names_a_tip() {
    let theirs = run(genesis::tip(), "theirs", 50);
    let mut node = fetching(&theirs);
    step("gone", node.frame(1, Frame::Gone), vec![]);
    step("it is not asked in a circle", node.tick(1), vec![]);
    let other = run(genesis::tip(), "other", 51);
    step("the new tip is located", node.frame(1, Frame::Tip(tip_of(&other))), vec![locate(1, &[genesis::tip()])]);
    let mut node = fetching(&theirs);
    node.frame(1, Frame::Tip(tip_of(&other)));
    step("so is one that was told before", node.frame(1, Frame::Gone), vec![locate(1, &[genesis::tip()])]);
    let mut node = fetching(&theirs);
    node.native(2, genesis::tip());
    step("the Gone of another peer ends nothing", node.frame(2, Frame::Gone), vec![]);
    step("the batch is still wanted", node.frame(1, batch(&theirs)), vec![import(1, &theirs)]);
}

#[test]
fn a_refused_branch_is_held_back_and_ever_longer() {
    let theirs = run(genesis::tip(), "theirs", 5);
    let again = [locate(1, &[genesis::tip()])];
    for (sentence, by_disk) in [("our disk was full", true), ("it was parked", false)] {
        let mut node = fetching(&theirs);
        for hold in [30_000, 60_000, 120_000] {
            node.frame(1, batch(&theirs));
            let result = if by_disk { Err(full_disk()) } else { Ok(Imported::Parked { depth: 9 }) };
            step(sentence, node.imported(1, tip_of(&theirs), result), vec![]);
            step("a better tip does not change that", node.frame(1, Frame::Tip(tip_of(&theirs))), vec![]);
            step("not yet", node.tick(hold - 1), vec![]);
            step("after the time it is located again", node.tick(1), again.to_vec());
            node.frame(1, located(genesis::tip(), tip_of(&theirs)));
        }
        node.frame(1, batch(&theirs));
        node.imported(1, tip_of(&theirs), Ok(Imported::Parked { depth: 9 }));
        node.sync.set_origin(1, Origin::Trusted);
        step("the operator has named the peer: at once", node.tick(0), again.to_vec());
    }
    let mut node = fetching(&theirs);
    node.frame(1, batch(&theirs[..2]));
    let fault = Fault::Rule("the list of blocks is empty".to_owned());
    let broken = node.sync.staged(1, 0, Err(broken()), &node.ours);
    step("a broken rule ends the link", broken, vec![Action::Unstage, Action::Close { link: 1, fault }]);
}

#[test]
fn news_of_the_peer_that_is_being_fetched_from_wait() {
    let theirs = run(genesis::tip(), "theirs", 6);
    let mut node = fetching(&theirs[..5]);
    step("pushed while fetching", node.frame(1, Frame::Push(part(&theirs[5..]))), vec![]);
    node.frame(1, batch(&theirs[..5]));
    let update = node.update(&theirs[..5]);
    let next = node.imported(1, update.new, Ok(Imported::Changed(update)));
    let places: Vec<Tip> = theirs[..5].iter().rev().map(|block| block.tip()).chain([genesis::tip()]).collect();
    step("is fetched next", next, vec![locate(1, &places)]);
}

#[test]
fn the_locator_is_dense_above_and_sparse_below() {
    let ours = run(genesis::tip(), "ours", 100);
    let theirs = run(genesis::tip(), "theirs", 200);
    let mut node = Node::new(&ours);
    let got = node.native(1, tip_of(&theirs));
    let heights = [100, 99, 98, 97, 96, 95, 94, 93, 92, 91, 89, 85, 77, 61, 29, 0];
    let places: Vec<Tip> = heights.iter().map(|&height| node.ours.0[height].tip()).collect();
    step("ten, then ever larger steps", got, vec![locate(1, &places)]);
}
