//! What the black-box tests share: the real binary as processes, an HTTP client, a stand-in for the tutorial's node, and
//! the few things that nearly every test does with a node.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

/// The real binary as a process.
pub mod process;

/// A node of the original JavaScript program.
pub mod tutorial;

/// An HTTP client.
pub mod http;

/// A node or a stand-in, driven alike.
pub mod member;

/// Blocks that obey the rules.
pub mod blocks;

/// Waiting with a deadline.
pub mod wait;

/// Threads that mine and do not give up.
pub mod writers;

/// A chain verified from outside.
pub mod audit;

/// JavaScript's values.
pub mod js;

pub use process::{NodeOptions, NodeProcess};

/// Mines one entry; returns the block's JSON text.
pub fn mine(node: &NodeProcess, entry: &str) -> String {
    mine_all(node, &[entry])
}

/// Mines one block of several entries; returns the block's JSON text.
pub fn mine_all(node: &NodeProcess, entries: &[&str]) -> String {
    let body = serde_json::json!({ "data": entries }).to_string();
    node.post_json("/mineBlock", &body).expect(200).text().to_owned()
}

/// Gives a node one more peer.
pub fn add_peer(node: &NodeProcess, url: &str) {
    let body = serde_json::json!({ "peers": [url] }).to_string();
    let _ = node.post_json("/addPeers", &body).expect(200);
}

/// Index and hash of a node's tip.
pub fn tip(node: &NodeProcess) -> (u64, String) {
    let status = node.get("/status").expect(200).json();
    let index = status["tip"]["index"].as_u64().unwrap_or_else(|| panic!("a tip has an index: {status}"));
    let hash = status["tip"]["hash"].as_str().unwrap_or_else(|| panic!("a tip has a hash: {status}"));
    (index, hash.to_owned())
}

/// A node's whole chain as it writes it.
pub fn blocks(node: &NodeProcess) -> String {
    node.get("/blocks").expect(200).text().to_owned()
}

/// Waits until all nodes have one tip, and returns it.
pub fn wait_equal(nodes: &[&NodeProcess]) -> (u64, String) {
    let mut last = Vec::new();
    let equal = wait::try_until(wait::SOON, || {
        last = nodes.iter().map(|node| tip(node)).collect();
        last.windows(2).all(|pair| pair[0] == pair[1]).then(|| last[0].clone())
    });
    equal.unwrap_or_else(|| panic!("waited {:?} in vain for one tip: {last:?}", wait::SOON))
}

/// Waits until a node's tip has an index or a higher one.
pub fn wait_index(node: &NodeProcess, index: u64) {
    wait::until(wait::SOON, format!("block {index} on port {}", node.http_port()), || {
        (tip(node).0 >= index).then_some(())
    });
}

/// Waits until a stand-in and a node have one and the same chain, byte for byte.
pub fn wait_same_chain(node: &NodeProcess, peer: &tutorial::TutorialPeer) {
    wait::until(wait::SOON, "one chain on the node and the stand-in", || {
        peer.assert_alive();
        (peer.tip() == tip(node)).then_some(())
    });
    assert_eq!(blocks(node), peer.chain().text());
}

/// Mines until all stand-ins follow: one that lost its toss stays behind until it hears of the next block.
pub fn mine_until_same_chain(node: &NodeProcess, peers: &[&tutorial::TutorialPeer]) {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
    let mut nudges = 0;
    wait::until(wait::SOON, "all stand-ins to win a toss and follow", || {
        nudges += 1;
        mine(node, &format!("nudge {nudges}"));
        wait::try_until(PAUSE, || {
            let tip = tip(node);
            peers.iter().all(|peer| peer.tip() == tip).then_some(())
        })
    });
    peers.iter().for_each(|peer| wait_same_chain(node, peer));
}
