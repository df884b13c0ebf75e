//! The log: every line an event with fields, no secrets, and a flood counted instead of repeated.

use std::fs;

use serde_json::Value;

use super::support::http::Request;
use super::support::process::NodeOptions;
use super::support::tutorial::{self, TutorialPeer};
use super::support::{NodeProcess, add_peer, mine, wait, wait_equal};

/// The lines with a message, as objects.
fn lines(node: &NodeProcess, message: &str) -> Vec<Value> {
    let parsed = node.log();
    let parsed = parsed.lines().filter(|line| line.starts_with('{'));
    let parsed = parsed.map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    parsed.filter(|line| line["message"] == message).collect()
}

#[test]
fn what_happens_is_an_event_with_fields_and_no_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    fs::write(&file, "0123456789abcdef-secret").expect("a file");
    let token = file.to_str().expect("a plain path");
    let options = NodeOptions::new().arg("--api-token-file").arg(token).env("DOLMEN_LOG", "info,dolmen::actors=debug");
    let (node, other) = (NodeProcess::start(options), NodeProcess::start(NodeOptions::new()));
    for entry in ["a", "b"] {
        mine(&other, entry);
    }
    let with_token = |path: &str, body: &str| {
        let request = Request::post_json(path, body).header("Authorization", "Bearer 0123456789abcdef-secret");
        node.request(&request).expect(200)
    };
    let _ = with_token("/mineBlock", r#"{"data":["ours"]}"#);
    let _ = with_token("/addPeers", &format!("{{\"peers\":[\"{}\"]}}", other.p2p_url()));
    wait_equal(&[&node, &other]);
    wait::until(wait::SOON, "the events", || (!lines(&node, "reorg").is_empty()).then_some(()));
    let accepted = wait::until(wait::SOON, "the accepted block", || lines(&node, "block accepted").into_iter().next());
    assert_eq!(accepted["level"], "INFO");
    assert_eq!(accepted["hash"].as_str().map(str::len), Some(64));
    assert!(accepted["index"].is_u64() && accepted["blocks"].is_u64(), "{accepted}");
    assert!(accepted["from"].as_str().is_some_and(|from| from.contains(&other.p2p_port().to_string())), "{accepted}");
    let reorg = &lines(&node, "reorg")[0];
    assert_eq!((&reorg["depth"], &reorg["requeued"]), (&1.into(), &1.into()));
    assert!(!lines(&node, "link opened").is_empty(), "the module's own level");
    assert!(lines(&other, "link opened").is_empty(), "the usual level");
    assert!(!node.log().contains("secret"), "no secret is logged");
}

#[test]
fn a_flood_is_counted() {
    let node = NodeProcess::start(NodeOptions::new());
    let peer = TutorialPeer::start(tutorial::Options::default());
    add_peer(&node, &peer.url());
    peer.wait_links(1, wait::SOON);
    // Each of these is refused without blame: what a user of the tutorial posts is not its node's fault.
    for number in 0..100 {
        peer.mine(&["A".repeat(64).as_str(), &number.to_string()]);
    }
    let more = wait::until(wait::SOON, "the count", || lines(&node, "… and more of these lines").into_iter().next());
    let written = lines(&node, "message refused").len() as u64 + lines(&node, "blocks refused").len() as u64;
    assert_eq!(lines(&node, "message refused").len(), 20, "{more}");
    assert!(more["more"].as_u64().is_some_and(|more| more >= 80 && more + written >= 100), "{more}");
}

#[test]
fn strangers_of_another_network_are_counted() {
    let node = NodeProcess::start(NodeOptions::new());
    let hello = serde_json::json!({ "type": 16, "data": {
        "protocol": 1, "node": "ab".repeat(16), "nonce": "cd".repeat(8), "genesis": "ef".repeat(32), "port": 1,
        "tip": { "index": 0, "hash": "ef".repeat(32) }, "agent": "stranger",
    } });
    let links: Vec<_> = (0..30)
        .map(|_| {
            let (mut link, _) = tungstenite::connect(node.p2p_url()).expect("a link");
            link.send(tungstenite::Message::text(hello.to_string())).expect("the node reads");
            link
        })
        .collect();
    let counted =
        || lines(&node, "… and more of these lines").into_iter().find(|line| line["line"] == "peer of another network");
    let more = wait::until(wait::SOON, "the count", counted);
    assert_eq!(lines(&node, "peer of another network").len(), 20, "{more}");
    assert_eq!(more["more"], 10);
    for mut link in links {
        while link.read().is_ok() {}
    }
}

#[test]
fn what_is_no_http_is_not_a_line_each_time() {
    let node = NodeProcess::start(NodeOptions::new());
    for _ in 0..30 {
        let mut connection = node.connect();
        connection.send_raw(b"GET /status HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n").expect("the node reads");
        let _ = connection.receive(false).expect("an answer").expect(400);
    }
    assert!(!node.log().contains("actix_http"), "{}", node.log());
}
