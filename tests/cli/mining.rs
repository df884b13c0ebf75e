//! `dolmen mine` from arguments, files and pipes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use super::support::audit::Audit;
use super::support::process::NodeOptions;
use super::support::{NodeProcess, blocks, tip, wait};
use super::{Running, client, run, run_with, temporary};

#[test]
fn ten_thousand_entries_from_a_pipe_are_one_block_and_one_more_is_another() {
    let node = NodeProcess::start(NodeOptions::new());
    let input: String = (0..10_001).map(|number| format!("entry {number}\n")).collect();
    let path = temporary();
    fs::write(path.path().join("input"), &input).expect("a file");
    let file = fs::File::open(path.path().join("input")).expect("the file");
    // Lines are there at once, so that blocks are cut by the limit and not by a pause.
    let ended = run(client(&node, &["mine", "--file", "-"]).stdin(file)).expect(0);
    assert_eq!(ended.stderr, "");
    let receipts = ended.json_lines();
    assert_eq!(receipts.len(), 2);
    for (receipt, index, entries, lines) in
        [(&receipts[0], 1, 10_000, [1, 10_000]), (&receipts[1], 2, 1, [10_001, 10_001])]
    {
        let id = receipt["receipt"].as_str().expect("an id");
        let place = node.get(&format!("/receipts/{id}")).expect(200).json();
        assert_eq!(
            (&place["status"], &place["index"], &place["block"]),
            (&json!("included"), &json!(index), &receipt["block"])
        );
        assert_eq!(
            (&receipt["index"], &receipt["entries"], &receipt["lines"]),
            (&json!(index), &json!(entries), &json!(lines))
        );
    }
    let audit = Audit::of(&blocks(&node));
    let all: Vec<String> = (0..10_001).map(|number| format!("entry {number}")).collect();
    audit.assert_once(&all);
}

#[test]
fn a_line_that_is_refused_is_named_and_nothing_behind_it_is_mined() {
    let node = NodeProcess::start(NodeOptions::new());
    let leaf = "A".repeat(64);
    let input = format!("one\ntwo\n{leaf}\nfour\n");
    let ended = run_with(&mut client(&node, &["mine"]), input.clone()).expect(1);
    let said = "dolmen: line 3 is refused: it is 64 or 128 characters of upper-case hex, which another body with the same \
                Merkle root could hide behind; write it in lower case or with a prefix; 2 entries are mined\n";
    assert_eq!(ended.stderr, said);
    assert_eq!(ended.json_lines().iter().map(|receipt| receipt["lines"].clone()).collect::<Vec<_>>(), [json!([1, 2])]);
    assert_eq!(node.get("/blocks/tip").expect(200).json()["body"], json!(["one", "two"]));

    let ended = run_with(&mut client(&node, &["mine", "--keep-going"]), input).expect(1);
    assert!(ended.stderr.starts_with("dolmen: line 3 is refused: "), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("dolmen: 1 line was refused; 3 entries are mined\n"), "{}", ended.stderr);
    assert_eq!(node.get("/blocks/tip").expect(200).json()["body"], json!(["one", "two", "four"]));
    let long = [vec![b'x'; 1 << 20], b"\n\xff\nok".to_vec()].concat();
    let ended = run_with(&mut client(&node, &["mine", "--keep-going"]), long).expect(1);
    assert!(
        ended.stderr.starts_with("dolmen: line 1 is refused: it has about 1048577 bytes; at most 65536 are allowed\n")
    );
    assert!(ended.stderr.contains("line 2 is refused: it is no UTF-8 text: "), "{}", ended.stderr);
    assert_eq!(node.get("/blocks/tip").expect(200).json()["body"], json!(["ok"]));
}

#[test]
fn an_empty_input_mines_nothing_and_a_missing_file_is_a_failure() {
    let node = NodeProcess::start(NodeOptions::new());
    let ended = run_with(&mut client(&node, &["mine"]), "").expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", "dolmen: nothing to mine: the input is empty\n"));
    let ended = run(&mut client(&node, &["mine", "--file", "/nowhere/at-all"])).expect(1);
    assert!(ended.stderr.starts_with("dolmen: /nowhere/at-all: "), "{}", ended.stderr);
    let _ = run(&mut client(&node, &["mine", "x", "--file", "y"])).expect(2);
    let _ = run(&mut client(&node, &["mine", "--key", "with space"])).expect(2);
    assert_eq!(tip(&node).0, 0);
}

#[test]
fn a_pipe_that_goes_on_is_mined_as_it_comes() {
    let node = NodeProcess::start(NodeOptions::new());
    let spawned = client(&node, &["mine"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut mining = Running(spawned.expect("it runs"));
    let mut input = mining.0.stdin.take().expect("stdin is piped");
    let mut receipts = BufReader::new(mining.0.stdout.take().expect("stdout is piped")).lines();
    for entry in ["first", "second"] {
        writeln!(input, "{entry}").expect("it reads");
        let receipt: Value = serde_json::from_str(&receipts.next().expect("a line").expect("text")).expect("JSON");
        let block = node.get(&format!("/blocks/{}", receipt["index"])).expect(200).json();
        assert_eq!(block["body"], json!([entry]));
    }
    drop(input);
    assert_eq!(mining.wait(), (Some(0), String::new(), String::new()));
}

#[test]
fn a_named_input_is_mined_once_however_often_it_is_sent() {
    let mut node = NodeProcess::start(NodeOptions::new().steady_ports());
    let dir = temporary();
    let path = dir.path().join("log");
    let text: String = (0..50).map(|number| format!("line {number}\n")).collect();
    fs::write(&path, &text).expect("a file");
    let file = path.to_str().expect("a plain path");
    let mine = ["mine", "--file", file, "--batch", "7", "--key", "log-of-today"];
    let first = run(&mut client(&node, &mine)).expect(0);
    assert_eq!(first.stdout.lines().count(), 8);
    // Sent again after a crash, longer by what came meanwhile: the full blocks are answered with their receipts.
    node.kill9();
    node.restart();
    fs::write(&path, format!("{text}line 50\n")).expect("a file");
    let again = run(&mut client(&node, &mine)).expect(1);
    assert_eq!(again.stdout.lines().collect::<Vec<_>>(), first.stdout.lines().take(7).collect::<Vec<_>>());
    assert!(
        again.stderr.starts_with("dolmen: lines 50 to 51: this Idempotency-Key was used before"),
        "{}",
        again.stderr
    );
    fs::write(&path, &text).expect("a file");
    assert_eq!(run(&mut client(&node, &mine)).expect(0).stdout, first.stdout);
    assert_eq!(tip(&node).0, 8);
}

#[test]
fn a_node_that_is_away_for_a_moment_is_waited_for() {
    let mut node = NodeProcess::start(NodeOptions::new().steady_ports());
    let spawned = client(&node, &["mine"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut mining = Running(spawned.expect("it runs"));
    let mut input = mining.0.stdin.take().expect("stdin is piped");
    writeln!(input, "before").expect("it reads");
    wait::until(wait::SOON, "the first entry", || (tip(&node).0 == 1).then_some(()));
    node.kill9();
    writeln!(input, "while it was away").expect("it reads");
    drop(input);
    node.restart();
    let (code, out, err) = mining.wait();
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(node.get("/blocks/tip").expect(200).json()["body"], json!(["while it was away"]));
    assert_eq!(tip(&node).0, 2);
}
