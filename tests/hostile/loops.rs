use std::time::Duration;

use super::arena::Arena;
use super::stranger::Stranger;
use super::support::{self, NodeOptions, NodeProcess, wait};

/// How long a link is quiet when nothing more is to come.
const QUIET: Duration = Duration::from_millis(800);

fn links(node: &NodeProcess) -> u64 {
    node.get("/status").expect(200).json()["peers"]["linked"].as_u64().expect("a number")
}

#[test]
fn an_echo_of_our_own_block_is_not_answered() {
    let mut arena = Arena::new();
    let mut link = arena.known();
    let own = link.wait_text(|message| message["type"] == 2);
    let _ = link.count_texts(2, QUIET);
    (0..50).for_each(|_| link.text(&own.to_string()));
    assert_eq!(link.count_texts(2, QUIET), 0, "nothing new was said, so nothing is passed on");
    arena.in_step("an echo");
    arena.finish();
}

#[test]
fn a_block_goes_round_a_ring_once() {
    let first = NodeProcess::start(NodeOptions::new());
    let second = NodeProcess::start(NodeOptions::new().peer(&first.p2p_url()));
    let third = NodeProcess::start(NodeOptions::new().peer(&second.p2p_url()));
    let fourth = NodeProcess::start(NodeOptions::new().peer(&third.p2p_url()));
    support::add_peer(&first, &fourth.p2p_url());
    let ring = [&first, &second, &third, &fourth];
    wait::until(wait::SOON, "a ring", || ring.iter().all(|node| links(node) >= 2).then_some(()));
    // Tutorial peers that only listen, one at each node: what they are sent is what the node passes on.
    let from = std::net::Ipv4Addr::LOCALHOST;
    let mut listeners: Vec<Stranger> = ring.iter().map(|node| Stranger::link(node.p2p_port(), from)).collect();
    listeners.iter_mut().for_each(|listener| listener.text(r#"{"type":0,"data":null}"#));
    for listener in &mut listeners {
        listener.count_texts(2, QUIET);
    }
    for number in 0..5 {
        support::mine(ring[number % 4], &format!("round {number}"));
        support::wait_equal(&ring);
    }
    for listener in &mut listeners {
        assert_eq!(listener.count_texts(2, QUIET), 5, "one message for each block, at each node");
    }
}

#[test]
fn a_node_that_dials_itself_sees_it() {
    let mut arena = Arena::new();
    let before = links(&arena.node);
    let port = arena.node.p2p_port();
    for name in ["localhost", "127.0.0.1", "127.1", "[::ffff:127.0.0.1]", "127.0.0.99"] {
        support::add_peer(&arena.node, &format!("ws://{name}:{port}"));
    }
    wait::until(wait::SOON, "the node to know itself", || {
        (arena.node.log().matches("this address is this node itself").count() >= 2).then_some(())
    });
    wait::until(wait::SOON, "no link but the honest one", || (links(&arena.node) == before).then_some(()));
    arena.in_step("links to oneself");
    arena.finish();
}
