//! Commands that ask a running node, as tables and as JSON; exit codes; pipes that close early.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::{Value, json};

use super::proxy::{Meddle, Proxy};
use super::support::process::NodeOptions;
use super::support::{NodeProcess, add_peer, mine, mine_all, tip, wait, wait_equal};
use super::{Running, client, dolmen, run};

fn table(node: &NodeProcess, arguments: &[&str]) -> String {
    let ended = run(client(node, arguments).args(["-o", "table"])).expect(0);
    assert_eq!(ended.stderr, "");
    ended.stdout
}

#[test]
fn tables_are_for_people() {
    let node = NodeProcess::start(NodeOptions::new());
    let block: Value = serde_json::from_str(&mine_all(&node, &["돌\u{1b}[2J", "second"])).expect("JSON");
    let answer = node.get("/blocks/1").expect(200);
    let hash = answer.header("Block-Hash").expect("a hash");
    let listed = table(&node, &["blocks"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines[0], "   INDEX  TIME (UTC)           HASH          ENTRIES  FIRST ENTRY");
    assert_eq!(lines[1], "       0  2021-09-06 05:52:47  f087ad9b4600        1  hello block");
    assert!(lines[2].starts_with("       1  20") && lines[2].ends_with("        2  돌\\u{1b}[2J"), "{}", lines[2]);
    assert_eq!(lines[2][31..43], hash[..12]);
    assert_eq!(lines.len(), 3);

    let time = &block["header"]["time"];
    let shown = table(&node, &["blocks", "tip"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "block 1  1 confirmation");
    assert_eq!(lines[1], format!("hash        {hash}"));
    assert_eq!(lines[2], "previous    f087ad9b4600afd1c6451654a7df0f0f20795c95825c097a25469b7cf5287feb");
    assert_eq!(lines[3], format!("merkleRoot  {}", block["header"]["merkleRoot"].as_str().expect("a root")));
    assert!(lines[4].starts_with("time        20") && lines[4].ends_with(&format!(" UTC ({time})")), "{}", lines[4]);
    assert_eq!(lines[5..], ["version     1.0.0", "         0  돌\\u{1b}[2J", "         1  second"]);

    assert_eq!(table(&node, &["forks"]), "no branch is kept off the best chain\n");
    assert_eq!(table(&node, &["bans"]), "nobody is banned\n");
    assert_eq!(table(&node, &["peers"]), "no peers; dolmen add-peers ws://host:6005 links with one\n");
    assert!(table(&node, &["ban", "203.0.113.7", "--seconds", "3600"]).starts_with("203.0.113.7 is banned until 20"));
    let bans = table(&node, &["bans"]);
    assert!(bans.starts_with("ADDRESS      UNTIL (UTC)\n203.0.113.7  20"), "{bans}");
    assert_eq!(table(&node, &["unban", "203.0.113.7"]), "203.0.113.7 is not banned any more\n");
}

#[test]
fn status_is_one_screen() {
    let (node, other) = (NodeProcess::start(NodeOptions::new()), NodeProcess::start(NodeOptions::new()));
    mine(&node, "one");
    add_peer(&node, &other.p2p_url());
    wait_equal(&[&node, &other]);
    let shown = wait::until(wait::SOON, "a link with a latency", || {
        let shown = table(&node, &["status"]);
        shown.contains("1 link: 1 native, 0 tutorial; 0 connecting").then_some(shown)
    });
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with(&format!("dolmen 0.1.0 at {}  ready  up ", node.http_url())), "{shown}");
    assert!(lines[1].starts_with("Chain    2 blocks  tip 1 ") && lines[1].ends_with(" ago"), "{shown}");
    assert_eq!(lines[2], "Peers    1 link: 1 native, 0 tutorial; 0 connecting");
    assert_eq!(lines[3], "Outbox   nothing waits");
    assert_eq!(lines[4], "Forks    0 reorgs since the start, 0 blocks kept beside the chain, none parked");
    assert_eq!(lines[5], "");
    assert!(lines[6].starts_with("ID  DIRECTION  KIND    ADDRESS"), "{shown}");
    assert!(lines[7].contains("outbound   native") && lines[7].contains(&other.p2p_url()), "{shown}");
    assert_eq!(lines.len(), 8);
}

#[test]
fn every_command_ends_with_the_documented_code() {
    let node = NodeProcess::start(NodeOptions::new());
    let nobody = "http://127.0.0.1:1";
    for arguments in [
        &["mine", "x"][..],
        &["blocks"],
        &["blocks", "tip"],
        &["status"],
        &["watch"],
        &["peers"],
        &["add-peers", "ws://a:1"],
        &["forks"],
        &["adopt", "x"],
        &["requeue", "x"],
        &["bans"],
        &["ban", "10.0.0.1"],
        &["unban", "10.0.0.1"],
        &["export"],
        &["health"],
    ] {
        let ended = run(dolmen(arguments).args(["--url", nobody])).expect(4);
        assert_eq!(ended.stdout, "", "{arguments:?}");
        assert!(ended.stderr.starts_with(&format!("dolmen: no node answers at {nobody}: ")), "{}", ended.stderr);
        assert_eq!(run(dolmen(arguments).args(["--url", "nonsense"])).expect(2).stdout, "", "{arguments:?}");
        assert_eq!(run(dolmen(arguments).arg("--surplus")).expect(2).stdout, "", "{arguments:?}");
    }
    for arguments in
        [&["blocks", "7"][..], &["blocks", "../status"], &["adopt", "x"], &["unban", "10.0.0.1"], &["ban", "x"]]
    {
        let ended = run(&mut client(&node, arguments)).expect(1);
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
    for arguments in [&["status", "-o", "xml"][..], &["blocks", "tip", "--from", "1"], &["export", "--resume"]] {
        let _ = run(&mut client(&node, arguments)).expect(2);
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure_and_a_closed_pipe_is_none() {
    let node = NodeProcess::start(NodeOptions::new());
    let large = json!({ "data": vec!["x".repeat(60_000); 16] }).to_string();
    for _ in 0..3 {
        let _ = node.post_json("/mineBlock", &large).expect(200);
    }
    for arguments in
        [&["blocks"][..], &["blocks", "-o", "table"], &["blocks", "tip"], &["export"], &["status"], &["man"]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = client(&node, arguments).stdout(writer).stderr(Stdio::piped()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
        let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = client(&node, arguments).stdout(full).stderr(Stdio::piped()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.starts_with("dolmen: cannot write the answer: "), "{arguments:?}: {said}");
    }
    // A reader that goes away in the middle.
    let mut child =
        Running(client(&node, &["export"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs"));
    let mut out = child.0.stdout.take().expect("stdout is piped");
    let mut first = [0; 10];
    out.read_exact(&mut first).expect("the beginning");
    drop(out);
    assert_eq!(child.wait(), (Some(0), String::new(), String::new()));
}

#[test]
fn watch_shows_what_happens_and_ends_with_ctrl_c() {
    let mut node = NodeProcess::start(NodeOptions::new().steady_ports());
    let other = NodeProcess::start(NodeOptions::new());
    let spawned = client(&node, &["watch", "--interval", "50"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut watch = Running(spawned.expect("it runs"));
    let mut lines = BufReader::new(watch.0.stdout.take().expect("stdout is piped")).lines();
    let mut next = |wanted: &str| -> Value {
        loop {
            let line = lines.next().expect("a line").expect("text");
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if event["event"] == wanted {
                return event;
            }
        }
    };
    assert_eq!(next("watching")["index"], 0);
    let mined: Value = serde_json::from_str(&mine(&node, "seen")).expect("JSON");
    let event = next("block");
    assert_eq!((&event["index"], &event["block"]), (&json!(1), &mined));
    // Another chain, longer: the block that was shown leaves.
    for entry in ["a", "b"] {
        mine(&other, entry);
    }
    add_peer(&node, &other.p2p_url());
    let reorg = next("reorg");
    assert_eq!((&reorg["fork"]["index"], &reorg["depth"], &reorg["length"]), (&json!(0), &json!(1), &json!(2)));
    assert_eq!(reorg["left"], json!([{ "index": 1, "hash": event["hash"] }]));
    assert_eq!([next("block"), next("block")].map(|event| event["block"]["body"][0].clone()), ["a", "b"]);
    // What was mined on the losing side is mined again, and seen once.
    assert_eq!(next("block")["block"]["body"], json!(["seen"]));
    node.kill9();
    assert!(next("away")["why"].as_str().is_some_and(|why| why.starts_with("no node answers")));
    node.restart();
    // Mined before it is seen that the node is back: nothing is missing, nothing comes twice.
    mine(&node, "after the restart");
    next("back");
    let event = next("block");
    assert_eq!((&event["index"], &event["block"]["body"]), (&json!(4), &json!(["after the restart"])));
    watch.signal("INT");
    assert_eq!(watch.wait(), (Some(0), String::new(), String::new()));
}

/// The lines of a watch for people, without the time of day.
fn watched(node_url: &str, arguments: &[&str]) -> (Running, impl Iterator<Item = String> + use<>) {
    let mut command = dolmen(&["watch", "-o", "table", "--interval", "50", "--url", node_url]);
    let spawned = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut watch = Running(spawned.expect("it runs"));
    let lines = BufReader::new(watch.0.stdout.take().expect("stdout is piped")).lines();
    let line = |line: std::io::Result<String>| line.expect("text").get(10..).expect("a time before it").to_owned();
    (watch, lines.map(line))
}

#[test]
fn a_node_with_events_and_one_without_are_watched_alike() {
    let (node, other) = (NodeProcess::start(NodeOptions::new()), NodeProcess::start(NodeOptions::new()));
    mine(&node, "mine");
    for entry in ["a", "b"] {
        mine(&other, entry);
    }
    let hash = |node: &NodeProcess, name: &str| {
        node.get(&format!("/blocks/{name}")).expect(200).header("Block-Hash").expect("a hash")[..12].to_owned()
    };
    let lost = hash(&node, "1");
    let proxy = Proxy::start(node.http_port(), |asked| match asked {
        asked if asked.starts_with("/events") => Meddle::Missing,
        _ => Meddle::Pass,
    });
    let urls = [node.http_url(), proxy.url()];
    let mut watches = urls.each_ref().map(|url| watched(url, &["--from", "0"]));
    for ((_, lines), url) in watches.iter_mut().zip(&urls) {
        let mut next = || lines.next().expect("a line");
        assert_eq!(next(), format!("watching {url} from block 0; Ctrl-C ends"));
        assert_eq!(next(), "block 0  f087ad9b4600  1 entry  hello block");
        if *url == proxy.url() {
            assert_eq!(next(), "this node has no /events: looking again and again instead");
        }
        assert_eq!(next(), format!("block 1  {lost}  1 entry  mine"));
    }
    add_peer(&node, &other.p2p_url());
    wait::until(wait::SOON, "the entry to be mined again", || (tip(&node).0 == 3).then_some(()));
    let wanted = [
        format!("block 1  {}  1 entry  a", hash(&node, "1")),
        format!("block 2  {}  1 entry  b", hash(&node, "2")),
        format!("block 3  {}  1 entry  mine", hash(&node, "3")),
    ];
    let mut reorgs = Vec::new();
    for (watch, lines) in &mut watches {
        let mut seen: Vec<String> = Vec::new();
        // Told by another actor than the chain's: before or after it.
        let peer = format!("peer  1 linked: native outbound {}", other.p2p_url());
        while !seen.contains(&wanted[2]) || !seen.contains(&peer) {
            seen.extend(lines.next().filter(|line| !line.starts_with("sync")));
        }
        let chain: Vec<&String> = seen.iter().filter(|line| !line.starts_with("peer")).collect();
        assert!(chain[0].starts_with("reorg 1 block left the chain above block 0, "), "{seen:?}");
        reorgs.push(chain[0].clone());
        assert_eq!(chain[1..], wanted.iter().collect::<Vec<_>>());
        watch.signal("INT");
        assert_eq!(watch.wait().0, Some(0));
    }
    assert!(reorgs[0].ends_with("; 1 submission is mined again"), "{reorgs:?}");
}
