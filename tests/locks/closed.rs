//! A closed cluster: who holds the key is let in, and nobody else hears or is heard.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use crate::support::process::command;
use crate::support::{NodeOptions, NodeProcess, mine, tip, wait, wait_equal};

const KEY: &str = "6b1f0e5d9c3a47a2b8e4d1c07f5a39e26b1f0e5d9c3a47a2b8e4d1c07f5a39e2";

fn folder() -> TempDir {
    TempDir::with_prefix("dolmen-locks-").expect("a temporary directory")
}

fn key_file(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("is ours");
    path
}

fn member(key: &Path) -> NodeOptions {
    NodeOptions::new().arg("--cluster-key-file").arg(key.to_str().expect("UTF-8"))
}

fn kinds(node: &NodeProcess) -> Vec<String> {
    let rows = node.get("/peers").expect(200).json();
    rows.as_array().expect("rows").iter().map(|row| row["kind"].as_str().unwrap_or_default().to_owned()).collect()
}

fn wait_log(node: &NodeProcess, text: &str) {
    wait::until(wait::SOON, format!("{text:?} in the log"), || node.log().contains(text).then_some(()));
}

#[test]
fn members_find_each_other_and_share_the_chain() {
    let dir = folder();
    let key = key_file(&dir, "key", &format!("{KEY}\n"));
    let first = NodeProcess::start(member(&key).arg("--log").arg("trace"));
    mine(&first, "before the second came");
    let second = NodeProcess::start(member(&key).peer(&first.p2p_url()).arg("--log").arg("trace"));
    assert_eq!(wait_equal(&[&first, &second]).0, 1);
    mine(&second, "from the second");
    wait::until(wait::SOON, "the second's block", || (tip(&first).0 == 2).then_some(()));
    assert_eq!(kinds(&first), ["native"]);
    let proofs = "dolmen_peer_messages_total{direction=\"received\",type=\"proof\"} 1\n";
    assert!(first.get("/metrics").expect(200).text().contains(proofs));
    for node in [&first, &second] {
        let log = node.log().to_lowercase();
        assert!(!log.contains(KEY) && !log.contains("6b, 1f"), "the key is never logged");
    }
}

#[test]
fn another_key_and_no_key_stay_outside() {
    let dir = folder();
    let (key, wrong) = (key_file(&dir, "key", KEY), key_file(&dir, "wrong", &KEY.replace('6', "7")));
    let closed = NodeProcess::start(member(&key));
    mine(&closed, "ours");
    let other = NodeProcess::start(member(&wrong).peer(&closed.p2p_url()));
    wait_log(&closed, "it holds another cluster key");
    let open = NodeProcess::start(NodeOptions::new().peer(&closed.p2p_url()));
    wait_log(&open, "start this node with its --cluster-key-file");
    wait_log(&closed, "it says HELLO without a challenge");
    let dialled = NodeProcess::start(member(&key).peer(&open.p2p_url()));
    wait_log(&dialled, "it says HELLO without a challenge");
    for node in [&other, &open, &dialled] {
        assert_eq!(tip(node).0, 0, "nothing of the chain got out");
    }
    mine(&other, "theirs");
    mine(&open, "theirs too");
    mine(&open, "and longer");
    assert_eq!(tip(&closed).0, 1, "and nothing got in");
    assert!(!kinds(&closed).contains(&"native".to_owned()));
    assert!(!kinds(&closed).contains(&"tutorial".to_owned()));
}

fn dial(node: &NodeProcess) -> WebSocket<MaybeTlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", node.p2p_port())).expect("the node listens");
    stream.set_read_timeout(Some(wait::SOON)).expect("a timeout");
    let stream = MaybeTlsStream::Plain(stream);
    tungstenite::client(node.p2p_url(), stream).expect("the node upgrades").0
}

/// Reads up to the close frame: the texts before it, and why.
fn heard(socket: &mut WebSocket<MaybeTlsStream<TcpStream>>) -> (Vec<String>, Option<(CloseCode, String)>) {
    let mut texts = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => texts.push(text.to_string()),
            Ok(Message::Close(frame)) => return (texts, frame.map(|frame| (frame.code, frame.reason.to_string()))),
            Ok(Message::Binary(_)) => panic!("a native frame before the proof"),
            Ok(_) => {}
            Err(error) => panic!("{error} after {texts:?}"),
        }
    }
}

#[test]
fn a_stranger_hears_one_hello_that_says_nothing_of_the_chain() {
    let dir = folder();
    let closed = NodeProcess::start(member(&key_file(&dir, "key", KEY)));
    mine(&closed, "ours");
    let block = closed.get("/blocks/tip").expect(200).text().to_owned();
    let proof = format!(r#"{{"type":17,"data":"{}"}}"#, "00".repeat(32));
    let blocks = serde_json::json!({ "type": 2, "data": format!("[{block}]") }).to_string();
    let query_last = r#"{"type":0,"data":null}"#;
    let mut first = true;
    for (messages, reason) in [
        (vec![query_last.to_owned(), query_last.to_owned(), r#"{"type":1,"data":null}"#.to_owned()], "says QUERY_ALL"),
        (vec![blocks], "says blocks"),
        (vec![proof], "says PROOF without HELLO"),
        // Its own words sent back.
        (vec![String::new()], "sends our own challenge back"),
    ] {
        let mut socket = dial(&closed);
        let hello = socket.read().expect("HELLO comes by itself").to_string();
        let value: Value = serde_json::from_str(&hello).expect("JSON");
        assert_eq!((&value["type"], &value["data"]["tip"]["index"]), (&16.into(), &0.into()), "{hello}");
        assert!(value["data"]["challenge"].as_str().is_some_and(|text| text.len() == 64), "{hello}");
        assert!(first || !closed.log().contains(&hello), "no challenge comes twice");
        first = false;
        for message in messages {
            let message = if message.is_empty() { hello.clone() } else { message };
            socket.send(Message::text(message)).expect("the node reads");
        }
        let (texts, why) = heard(&mut socket);
        assert_eq!(texts, [""; 0], "nothing else is said: {reason}");
        let said = "closed cluster: a proof of its key is needed".to_owned();
        assert_eq!(why, Some((CloseCode::Policy, said)), "{reason}");
        wait_log(&closed, reason);
    }
    assert_eq!(tip(&closed).0, 1);
}

#[test]
fn a_tutorial_peer_that_waits_is_shown_out() {
    let dir = folder();
    let closed = NodeProcess::start(member(&key_file(&dir, "key", KEY)));
    let mut socket = dial(&closed);
    socket.send(Message::text(r#"{"type":0,"data":null}"#)).expect("the node reads");
    let begun = Instant::now();
    let (texts, why) = heard(&mut socket);
    assert_eq!(texts.len(), 1, "HELLO and no block: {texts:?}");
    assert!(why.is_some_and(|(code, _)| code == CloseCode::Policy));
    assert!(begun.elapsed() > Duration::from_secs(3), "it had its time");
    wait_log(&closed, "it has not proven in time");
}

#[test]
fn a_key_file_that_is_no_good_is_named() {
    let dir = folder();
    let run = |path: &Path| {
        let output = command(None)
            .args(["node", "--http", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--data-dir"])
            .arg(dir.path().join("data"))
            .arg("--cluster-key-file")
            .arg(path)
            .output()
            .expect("the program runs");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    for (text, why) in [
        ("", "it is empty; make a key with: dolmen keygen"),
        ("0123456789abcdef", "it holds 8 bytes in hex, and a key has at least 32; make one with: dolmen keygen"),
        ("secret", "it holds 6 characters, and a key that is not hex has at least 32; make one with: dolmen keygen"),
        (&"x".repeat(5000), "it is longer than 4096 bytes, which no key is"),
    ] {
        let path = key_file(&dir, "bad", text);
        assert_eq!(run(&path), format!("dolmen: the cluster key file {}: {why}\n", path.display()));
    }
    let path = key_file(&dir, "open", KEY);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("is ours");
    let name = path.display().to_string();
    assert_eq!(
        run(&path),
        format!(
            "dolmen: the cluster key file {name}: every user of this machine may read or change it (mode 644); \
             run: chmod 600 {name}\n"
        )
    );
    let gone = dir.path().join("gone");
    assert!(run(&gone).contains("No such file"), "{}", run(&gone));
    assert!(!dir.path().join("data").exists(), "nothing was made");
}

#[test]
fn keygen_makes_a_key_that_is_new_each_time() {
    let keys: Vec<String> = (0..2)
        .map(|_| {
            let output = Command::output(command(None).arg("keygen")).expect("the program runs");
            String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
        })
        .collect();
    assert!(keys.iter().all(|key| dolmen::peer::proof::ClusterKey::parse(key).is_ok() && key.len() == 64), "{keys:?}");
    assert_ne!(keys[0], keys[1]);
}
