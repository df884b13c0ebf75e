//! Nodes come to the same chain: long ones, moving ones, interrupted ones, and ones that fork deep.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::audit::Audit;
use support::http::Request;
use support::process::{NodeOptions, NodeProcess};
use support::writers::{Writers, fill};
use support::{add_peer, blocks, mine, tip, wait, wait_index};

/// Long enough for a long chain on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

fn options() -> NodeOptions {
    NodeOptions::new().steady_ports()
}

fn lone() -> NodeProcess {
    NodeProcess::start(options())
}

fn status(node: &NodeProcess) -> Value {
    node.get("/status").expect(200).json()
}

/// Waits until all have one tip and nothing left to mine again.
fn wait_settled(nodes: &[&NodeProcess]) -> (u64, String) {
    let mut last = Vec::new();
    let settled = wait::try_until(LONG, || {
        last = nodes.iter().map(|node| status(node)).collect();
        let same = last.iter().all(|status| status["tip"] == last[0]["tip"] && status["outbox"] == 0);
        same.then(|| tip(nodes[0]))
    });
    settled.unwrap_or_else(|| panic!("waited {LONG:?} in vain for one tip: {last:#?}"))
}

/// All have one chain that holds each of these once; returns its height.
fn assert_one_chain(nodes: &[&NodeProcess], entries: &[&[String]]) -> u64 {
    let text = blocks(nodes[0]);
    for node in &nodes[1..] {
        assert!(blocks(node) == text, "one chain on all nodes");
    }
    let audit = Audit::of(&text);
    audit.assert_once(entries.iter().copied().flatten());
    audit.tip().0
}

/// What `/status` said of a sync while it was watched.
#[derive(Default)]
struct Watch {
    looks: Vec<(u64, u64, u64)>,
}

impl Watch {
    fn look(&mut self, node: &NodeProcess) -> Option<(u64, u64, u64)> {
        let sync = status(node)["sync"].take();
        let number = |name: &str| sync[name].as_u64();
        let look = (number("from")?, number("at")?, number("target")?);
        assert!(sync["peer"].is_u64(), "a sync has a peer: {sync}");
        assert!(look.0 <= look.1 && look.1 <= look.2, "from, at, target: {sync}");
        self.looks.push(look);
        Some(look)
    }
}

const LONG_CHAIN: usize = 20_000;

/// A node with a long chain, for the tests that fetch it.
fn source() -> (NodeProcess, Vec<String>) {
    let node = lone();
    let entries = fill(node.http_port(), "old", LONG_CHAIN);
    (node, entries)
}

#[test]
fn a_late_node_catches_up_with_a_long_chain_that_keeps_growing_and_survives_its_source() {
    let (mut source, old) = source();

    // First a node that is only watched.
    let joined = Instant::now();
    let late = lone();
    add_peer(&late, &source.p2p_url());
    let mut watch = Watch::default();
    let before = tip(&source);
    wait::until(LONG, "the late node to catch up", || {
        watch.look(&late);
        (tip(&late) == before).then_some(())
    });
    eprintln!("{LONG_CHAIN} blocks after {:?}, seen on the way: {}", joined.elapsed(), watch.looks.len());
    assert!(!watch.looks.is_empty(), "a sync can be watched");
    assert!(watch.looks.iter().all(|(from, _, target)| (*from, *target) == (0, before.0)), "{:?}", watch.looks);
    assert!(watch.looks.windows(2).all(|pair| pair[0].1 <= pair[1].1), "it only goes on: {:?}", watch.looks);
    // The tip is there a moment before the sync is over.
    wait::until(LONG, "the sync to be over", || status(&late)["sync"].is_null().then_some(()));
    assert_one_chain(&[&source, &late], &[&old]);

    // Then one that comes while the source mines.
    let writers = Writers::start_named("new ", &[source.http_port()], 4, Duration::from_millis(2));
    let later = lone();
    add_peer(&later, &source.p2p_url());
    wait_index(&later, before.0 + 1);
    let during = writers.count();
    let (new, _) = writers.stop();
    eprintln!("{during} blocks were mined while it caught up");
    let (index, _) = wait_settled(&[&source, &late, &later]);
    assert_eq!(index as usize, LONG_CHAIN + new.len());
    assert_one_chain(&[&source, &late, &later], &[&old, &new]);
    drop((late, later));

    // And one whose source is killed in the middle.
    let target = tip(&source);
    let last = lone();
    add_peer(&last, &source.p2p_url());
    let mut watch = Watch::default();
    let (_, at, _) = wait::until(LONG, "a sync in its middle", || watch.look(&last).filter(|look| look.1 > 0));
    source.kill9();
    eprintln!("the source was killed at {at} of {}", target.0);
    // What was fetched is no chain yet: the node is where it was, and works.
    let alone = tip(&last);
    assert!(alone.0 == 0 || alone == target, "all or nothing: {alone:?}");
    let own = fill(last.http_port(), "own", 3);
    source.restart();
    wait_settled(&[&source, &last]);
    assert_one_chain(&[&source, &last], &[&old, &new, &own]);
}

/// Two nodes that have mined apart are joined by the first; in the end both have all of both.
fn fork_and_join(on_first: usize, on_second: usize) {
    let (first, second) = (lone(), lone());
    let ours = fill(first.http_port(), "first", on_first);
    let theirs = fill(second.http_port(), "second", on_second);
    let joined = Instant::now();
    add_peer(&first, &second.p2p_url());
    wait::until(LONG, "the link", || (status(&first)["peers"]["native"] == 1).then_some(()));
    wait::until(LONG, "both to know the longer chain", || {
        let longer = on_first.max(on_second) as u64;
        (tip(&first).0 > longer && tip(&second).0 > longer).then_some(())
    });
    wait_settled(&[&first, &second]);
    let settled = joined.elapsed();
    let height = assert_one_chain(&[&first, &second], &[&ours, &theirs]);
    let longer = on_first.max(on_second) as u64;
    // The losing side's entries come back in as few blocks as the limits allow.
    assert!(height > longer && height <= longer + 8, "{height} for {on_first} and {on_second}");
    let reorgs = (status(&first)["reorgs"].as_u64(), status(&second)["reorgs"].as_u64());
    eprintln!("{on_first} and {on_second} blocks: one chain of {height} after {settled:?}; reorgs {reorgs:?}");
    // It stays so.
    let last = mine(&first, "afterwards");
    wait_index(&second, height + 1);
    assert_eq!(second.get("/blocks/tip").expect(200).text(), last);
}

#[test]
fn forks_of_several_hundred_blocks_are_joined_without_loss() {
    fork_and_join(300, 500);
    fork_and_join(500, 300);
    fork_and_join(200, 200);
}

#[test]
fn a_deep_fork_between_nodes_that_name_each_other_is_joined_without_loss() {
    fork_and_join(1_200, 1_500);
}

#[test]
fn a_strangers_deep_branch_is_parked_until_it_is_adopted() {
    let node = NodeProcess::start(options().arg("--max-reorg").arg("10"));
    let ours = fill(node.http_port(), "ours", 20);
    let own_tip = tip(&node);
    let stranger = lone();
    let theirs = fill(stranger.http_port(), "stranger's", 50);
    let their_tip = tip(&stranger);
    // The stranger dials, so nobody has named it here.
    add_peer(&stranger, &node.p2p_url());
    let forks = wait::until(LONG, "the branch to be parked", || {
        let status = status(&node);
        (status["parkedBranches"] == 1).then(|| node.get("/forks").expect(200).json())
    });
    assert_eq!(forks["best"], json!({ "index": own_tip.0, "hash": own_tip.1 }));
    let branch = &forks["branches"][0];
    assert_eq!(branch["tip"], json!({ "index": their_tip.0, "hash": their_tip.1 }));
    assert_eq!((&branch["length"], &branch["parked"], &branch["fork"]["index"]), (&json!(50), &json!(true), &json!(0)));
    assert!(node.log().contains("parked"), "the log says so");
    assert_eq!(tip(&node), own_tip, "nothing was undone");
    assert_one_chain(&[&node], &[&ours]);
    // The node works on, and stays parked over a restart's length of time.
    mine(&node, "still ours");
    assert_eq!(status(&node)["parkedBranches"], 1);

    let adopted = node.post_json(&format!("/forks/{}/adopt", their_tip.1), "{}").expect(200).json();
    assert_eq!((&adopted["undone"], &adopted["requeued"]), (&json!(21), &json!(21)));
    wait_settled(&[&node, &stranger]);
    assert_one_chain(&[&node, &stranger], &[&ours, &theirs, &["still ours".to_owned()]]);
    assert_eq!(status(&node)["parkedBranches"], 0);
}

#[test]
fn a_strangers_shallow_branch_is_followed() {
    let node = NodeProcess::start(options().arg("--max-reorg").arg("10"));
    let ours = fill(node.http_port(), "ours", 10);
    let stranger = lone();
    let theirs = fill(stranger.http_port(), "stranger's", 50);
    add_peer(&stranger, &node.p2p_url());
    wait_index(&node, 51);
    wait_settled(&[&node, &stranger]);
    assert_one_chain(&[&node, &stranger], &[&ours, &theirs]);
    // A node at genesis has nothing to undo and follows anybody.
    let fresh = NodeProcess::start(options().arg("--max-reorg").arg("0"));
    add_peer(&stranger, &fresh.p2p_url());
    wait_index(&fresh, 51);
    let _ = fresh.request(&Request::get("/readyz")).expect(200);
}

#[test]
fn a_lost_nodes_entries_are_rescued_by_an_operator_once() {
    let (mut lost, node, other) = (lone(), lone(), lone());
    add_peer(&node, &lost.p2p_url());
    mine(&lost, "only the lost node would bring this back");
    let (_, orphan) = wait_settled(&[&lost, &node]);
    lost.kill9();
    let theirs = fill(other.http_port(), "theirs", 3);
    add_peer(&node, &other.p2p_url());
    wait_settled(&[&node, &other]);
    let rescued = ["only the lost node would bring this back".to_owned()];
    assert_eq!(Audit::of(&blocks(&node)).count(&rescued[0]), 0, "nobody else brings it back");

    let path = format!("/forks/{orphan}/requeue");
    let rows = node.post_json(&path, "{}").expect(200).json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    wait_settled(&[&node, &other]);
    assert_one_chain(&[&node, &other], &[&theirs, &rescued]);
    // Asked again, it is the same receipt, and no second block.
    assert_eq!(node.post_json(&path, "{}").expect(200).json(), rows);
    assert_one_chain(&[&node, &other], &[&theirs, &rescued]);
    let receipt = rows[0]["receipt"].as_str().expect("a receipt");
    assert_eq!(node.get(&format!("/receipts/{receipt}")).expect(200).json()["status"], "included");
}
