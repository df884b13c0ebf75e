//! Export, import and verify: round trips, broken chains, a node of the tutorial, and processes that are killed.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::proxy::{Meddle, Proxy};
use super::support::js::Js;
use super::support::process::NodeOptions;
use super::support::{NodeProcess, blocks, mine, tip, tutorial, wait};
use super::{Ended, Running, client, dolmen, run, run_with, temporary};

/// A chain of so many blocks as a node of the tutorial makes it, one block's text each.
fn chain(blocks: u64, entry: &str) -> Vec<Js> {
    let genesis = tutorial::block("1.0.0", 0, &"0".repeat(64), 1_630_907_567, vec![Js::String("hello block".into())]);
    let mut chain = vec![genesis];
    for index in 1..blocks {
        let parent = tutorial::hash(&chain[chain.len() - 1]);
        let body = vec![Js::String(format!("{entry} {index}"))];
        chain.push(tutorial::block("1.0.0", index, &parent, 1_630_907_567 + index, body));
    }
    chain
}

fn lines(chain: &[Js]) -> String {
    chain.iter().map(|block| block.stringify() + "\n").collect()
}

fn array(chain: &[Js]) -> String {
    format!("[{}]", chain.iter().map(Js::stringify).collect::<Vec<_>>().join(","))
}

fn import(dir: &Path, source: &str) -> Command {
    let mut command = dolmen(&["import", source, "--data-dir"]);
    command.arg(dir);
    command
}

fn exported(dir: &Path, arguments: &[&str]) -> Ended {
    let mut command = dolmen(&["export", "--data-dir"]);
    run(command.arg(dir).args(arguments)).expect(0)
}

#[test]
fn what_is_exported_is_imported_byte_for_byte() {
    let node = NodeProcess::start(NodeOptions::new());
    for entry in ["one", "돌 \"\\ \u{1f5ff}\n", "", "{\"looks\":\"like JSON\"}]"] {
        mine(&node, entry);
    }
    let all = blocks(&node);
    assert_eq!(run(&mut client(&node, &["export", "--form", "array"])).expect(0).stdout, format!("{all}\n"));
    let as_lines = run(&mut client(&node, &["export"])).expect(0).stdout;
    let parsed: Vec<Value> = serde_json::from_str(&all).expect("JSON");
    assert_eq!(as_lines, parsed.iter().map(|block| format!("{block}\n")).collect::<String>());
    let part = run(&mut client(&node, &["export", "--from", "1", "--limit", "2"])).expect(0).stdout;
    assert_eq!(part.lines().collect::<Vec<_>>(), as_lines.lines().skip(1).take(2).collect::<Vec<_>>());

    let home = temporary();
    for (name, source) in [("lines", as_lines.clone()), ("array", all.clone())] {
        let dir = home.path().join(name);
        let ended = run_with(&mut import(&dir, "-"), source).expect(0);
        let (index, hash) = tip(&node);
        assert_eq!(
            ended.json_lines(),
            [
                json!({ "blocks": 5, "there": 1, "new": 4, "undone": 0, "requeued": 0, "tip": { "index": index, "hash": hash } })
            ]
        );
        assert_eq!(exported(&dir, &[]).stdout, as_lines);
        assert_eq!(exported(&dir, &["--form", "array"]).stdout, format!("{all}\n"));
        let verified = run(dolmen(&["verify", "--data-dir"]).arg(&dir)).expect(0);
        assert_eq!(serde_json::from_str::<Value>(&verified.stdout).expect("JSON")["tip"]["hash"], hash);
        assert!(!dir.join("import.tmp").exists());
        // A node starts on it, and another import of the same changes nothing.
        let started = NodeProcess::start(NodeOptions::new().data_dir(&dir));
        assert_eq!(blocks(&started), all);
        let ended = run_with(&mut import(&dir, "-"), "[]").expect(1);
        assert!(
            ended.stderr.contains("in use") || ended.stderr.contains(&started.pid().to_string()),
            "{}",
            ended.stderr
        );
        drop(started);
        let again = run_with(import(&dir, "-").args(["-o", "table"]), as_lines.clone()).expect(0);
        assert!(again.stdout.starts_with("5 blocks judged, none breaks a rule; nothing is new"), "{}", again.stdout);
    }
    // A part that joins on.
    let (part, rest) = as_lines.split_at(as_lines.lines().take(2).map(|line| line.len() + 1).sum());
    let dir = home.path().join("parts");
    assert_eq!(run_with(&mut import(&dir, "-"), part.to_owned()).expect(0).json_lines()[0]["new"], 1);
    assert_eq!(run_with(&mut import(&dir, "-"), rest.to_owned()).expect(0).json_lines()[0]["new"], 3);
    assert_eq!(exported(&dir, &[]).stdout, as_lines);
    let ended = run_with(&mut import(&home.path().join("other"), "-"), rest.to_owned()).expect(3);
    assert!(ended.stderr.contains("its parent") && ended.stderr.contains("begin with genesis"), "{}", ended.stderr);
}

#[test]
fn every_rule_that_a_chain_breaks_is_reported_and_nothing_is_imported() {
    let mut blocks = chain(6, "x");
    let set = |block: &mut Js, from: &str, to: &str| {
        *block = Js::parse(&block.stringify().replace(from, to)).expect("JSON");
    };
    set(&mut blocks[2], "\"x 2\"", "{\"an\":\"object\"}");
    set(&mut blocks[4], "\"x 4\"", "\"another\"");
    set(&mut blocks[5], "\"index\":5", "\"index\":50");
    let home = temporary();
    let file = home.path().join("chain.json");
    for text in [array(&blocks), lines(&blocks)] {
        fs::write(&file, text).expect("a file");
        let dir = home.path().join("data");
        let ended = run(&mut import(&dir, file.to_str().expect("a plain path"))).expect(3);
        let found: Vec<(u64, String)> = ended
            .json_lines()
            .iter()
            .map(|row| (row["block"].as_u64().expect("a place"), row["rule"].as_str().expect("a rule").to_owned()))
            .collect();
        let wanted = [(2, "not-a-block"), (4, "merkle-root-mismatch"), (5, "index-not-next")]
            .map(|(at, rule)| (at, rule.to_owned()));
        assert_eq!(found, wanted);
        assert_eq!(ended.stderr, "dolmen: 3 blocks break 3 rules; nothing was imported\n");
        assert_eq!(exported(&dir, &[]).stdout.lines().count(), 1, "genesis alone");
        let ended = run(import(&dir, file.to_str().expect("a plain path")).args(["-o", "table"])).expect(3);
        assert!(ended.stdout.starts_with("block 2: not-a-block  not a block: "), "{}", ended.stdout);
    }
    for (text, says) in [
        ("[1,2", "cannot be read as blocks after block 1: the text ends in the middle of the array"),
        ("nonsense", "1 block breaks 1 rule"),
        ("", "there is no block in the source"),
        ("[]", "there is no block in the source"),
    ] {
        let ended = run_with(&mut import(&home.path().join("bad"), "-"), text);
        assert!(matches!(ended.code, Some(1 | 3)) && ended.stderr.contains(says), "{text:?}: {}", ended.stderr);
    }
}

#[test]
fn a_node_of_the_tutorial_is_imported_over_http() {
    let text = array(&chain(40, "old"));
    let (listener, served) = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"), text.clone());
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.expect("a connection");
            let mut asked = [0; 4096];
            let got = socket.read(&mut asked).expect("a request");
            let (status, body) = match &asked[..got] {
                asked if asked.starts_with(b"GET /blocks HTTP/1.1\r\n") => ("200 OK", served.as_str()),
                _ => ("404 Not Found", "<pre>Cannot GET</pre>"),
            };
            let head = format!("HTTP/1.1 {status}\r\nX-Powered-By: Express\r\nContent-Length: {}\r\n\r\n", body.len());
            socket.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("it reads");
        }
    });
    let dir = temporary();
    let ended = run(&mut import(dir.path(), &format!("http://127.0.0.1:{port}/blocks"))).expect(0);
    assert_eq!(ended.json_lines()[0]["new"], 39);
    assert_eq!(exported(dir.path(), &["--form", "array"]).stdout.trim_end(), text);
    let _ = run(&mut import(dir.path(), "http://127.0.0.1:1/blocks")).expect(4);
    // It always sends everything: what the folder has is judged and passed over.
    let half = temporary();
    let _ = run_with(&mut import(half.path(), "-"), lines(&chain(25, "old"))).expect(0);
    let ended = run(&mut import(half.path(), &format!("http://127.0.0.1:{port}"))).expect(0);
    let found = &ended.json_lines()[0];
    assert_eq!((&found["blocks"], &found["there"], &found["new"]), (&json!(40), &json!(25), &json!(15)));
    assert_eq!(ended.stderr, "dolmen: 25 blocks were in the folder already\n");
    assert_eq!(exported(half.path(), &["--form", "array"]).stdout.trim_end(), text);
}

#[test]
fn the_better_chain_stays_and_what_it_undoes_is_not_lost() {
    let home = temporary();
    let dir = home.path().join("data");
    let mut node = NodeProcess::start(NodeOptions::new().data_dir(&dir));
    mine(&node, "acknowledged");
    assert!(node.terminate().success());
    let longer = chain(3, "other");
    let ended = run_with(&mut import(&dir, "-"), lines(&longer)).expect(0).json_lines();
    assert_eq!((&ended[0]["new"], &ended[0]["undone"], &ended[0]["requeued"]), (&json!(2), &json!(1), &json!(1)));
    node.restart();
    wait::until(wait::SOON, "the entry to be mined again", || blocks(&node).contains("\"acknowledged\"").then_some(()));
    assert!(blocks(&node).contains("\"other 2\""));
    assert!(node.terminate().success());
    // Shorter than what is there now.
    let ended = run_with(&mut import(&dir, "-"), lines(&chain(2, "third"))).expect(0).json_lines();
    assert_eq!((&ended[0]["new"], &ended[0]["undone"]), (&json!(0), &json!(0)));
}

#[test]
fn an_import_that_was_killed_goes_on_when_it_is_typed_again() {
    let home = temporary();
    let (dir, file) = (home.path().join("data"), home.path().join("chain"));
    let text = lines(&chain(3_000, "long"));
    fs::write(&file, &text).expect("a file");
    let source = file.to_str().expect("a plain path");
    let mut kills = 0;
    // Killed later and later, until one gets through.
    for pause in 0.. {
        let spawned = import(&dir, source).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut running = Running(spawned.expect("it runs"));
        let child = &mut running.0;
        let ended =
            wait::try_until(std::time::Duration::from_millis(20 * pause), || child.try_wait().expect("our child"));
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
        child.kill().expect("our child");
        kills += 1;
    }
    assert!(kills > 0);
    assert_eq!(exported(&dir, &[]).stdout, text);
    let _ = run(dolmen(&["verify", "--data-dir"]).arg(&dir)).expect(0);
}

#[test]
fn an_import_from_a_node_asks_only_for_what_is_not_there() {
    let home = temporary();
    let (source, dir) = (home.path().join("source"), home.path().join("data"));
    let text = lines(&chain(7_000, "long"));
    let _ = run_with(&mut import(&source, "-"), text.clone()).expect(0);
    let node = NodeProcess::start(NodeOptions::new().data_dir(&source));
    let stall = Arc::new(AtomicBool::new(true));
    let stalls = Arc::clone(&stall);
    let proxy = Proxy::start(node.http_port(), move |asked| match asked.starts_with("/blocks?") {
        true if stalls.load(Ordering::Relaxed) => Meddle::StallAfter(600_000),
        _ => Meddle::Pass,
    });
    let url = format!("{}/blocks", proxy.url());
    let spawned = import(&dir, &url).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut killed = Running(spawned.expect("it runs"));
    proxy.wait_stalled();
    let spool = dir.join("import.tmp");
    wait::until(wait::SOON, "blocks to be kept", || {
        fs::metadata(&spool).is_ok_and(|spool| spool.len() > 500_000).then_some(())
    });
    drop(killed.0.kill());
    drop(killed);
    assert_eq!(proxy.asked(), ["/blocks/tip", "/blocks/0", "/blocks?from=1&limit=5000"]);
    // A line that was cut off, as a power cut leaves it.
    let kept = fs::read(&spool).expect("the blocks that came");
    let kept = &kept[..kept.len() - 3];
    fs::write(&spool, kept).expect("the file");
    let whole = kept.iter().filter(|byte| **byte == b'\n').count() as u64;

    stall.store(false, Ordering::Relaxed);
    let ended = run(&mut import(&dir, &url)).expect(0);
    assert!(ended.stderr.starts_with(&format!("dolmen: skipping {} more, up to block {whole} ", thousands(whole))));
    assert_eq!(proxy.asked()[3], format!("/blocks?from={}&limit={}", whole + 1, (6_999 - whole).min(5_000)));
    let found = &ended.json_lines()[0];
    assert_eq!((&found["blocks"], &found["there"], &found["new"]), (&json!(6_999), &json!(1), &json!(6_999)));
    assert_eq!(exported(&dir, &[]).stdout, text);
    assert!(!spool.exists());

    // Nothing is new, and then one block is.
    let ended = run(&mut import(&dir, &url)).expect(0);
    assert_eq!(ended.stderr, "dolmen: skipping blocks 0 to 6,999: the folder has them already\n");
    assert_eq!(proxy.asked(), ["/blocks/tip"]);
    mine(&node, "one more");
    let ended = run(&mut import(&dir, &url)).expect(0);
    assert_eq!(proxy.asked(), ["/blocks/tip", "/blocks/6999", "/blocks?from=7000&limit=1"]);
    assert_eq!((&ended.json_lines()[0]["there"], &ended.json_lines()[0]["new"]), (&json!(7_000), &json!(1)));

    // A folder whose chain is another one from block 3,001 on.
    let other = home.path().join("other");
    let mut fork = chain(3_001, "long");
    for number in 0..50 {
        let parent = tutorial::hash(&fork[fork.len() - 1]);
        let body = vec![Js::String(format!("fork {number}"))];
        fork.push(tutorial::block("1.0.0", 3_001 + number, &parent, 1_700_000_000, body));
    }
    let _ = run_with(&mut import(&other, "-"), lines(&fork)).expect(0);
    let ended = run(&mut import(&other, &url)).expect(0);
    assert_eq!(ended.stderr, "dolmen: skipping blocks 0 to 3,000: the folder has them already\n");
    assert_eq!(proxy.asked().last().map(String::as_str), Some("/blocks?from=3001&limit=4000"));
    assert_eq!((&ended.json_lines()[0]["new"], &ended.json_lines()[0]["undone"]), (&json!(4_000), &json!(50)));
    assert_eq!(exported(&other, &[]).stdout, exported(&dir, &[]).stdout);
}

fn thousands(number: u64) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}

#[test]
fn an_export_that_was_cut_off_goes_on_where_it_was() {
    let node = NodeProcess::start(NodeOptions::new());
    for number in 0..20 {
        mine(&node, &format!("entry {number}"));
    }
    let home = temporary();
    let file = home.path().join("chain");
    let path = file.to_str().expect("a plain path");
    let ended = run(&mut client(&node, &["export", "--to", path])).expect(0);
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.starts_with(&format!("dolmen: 21 blocks were written to {path}; the last is 20 ")));
    let whole = fs::read_to_string(&file).expect("the file");
    let _ = run(&mut client(&node, &["export", "--to", path])).expect(1);
    assert_eq!(fs::read_to_string(&file).expect("the file"), whole, "a file is not overwritten");
    for cut in [0, 1, whole.len() / 2, whole.len() - 1, whole.len()] {
        fs::write(&file, &whole[..cut]).expect("the file");
        let _ = run(&mut client(&node, &["export", "--to", path, "--resume"])).expect(0);
        assert_eq!(fs::read_to_string(&file).expect("the file"), whole, "cut at {cut}");
    }
    mine(&node, "more");
    let _ = run(&mut client(&node, &["export", "--to", path, "--resume"])).expect(0);
    assert_eq!(fs::read_to_string(&file).expect("the file").lines().count(), 22);
    // A file of another chain.
    let mut other = chain(3, "other");
    other.truncate(2);
    fs::write(&file, lines(&other)).expect("the file");
    let ended = run(&mut client(&node, &["export", "--to", path, "--resume"])).expect(1);
    assert!(ended.stderr.contains("the node's chain changed below block 2"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&file).expect("the file"), lines(&other));
}
