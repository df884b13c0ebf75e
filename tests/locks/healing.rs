//! Bytes of a node's log flipped while it was stopped: never served, fetched again from its peer, and verified afterwards.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::process::command;
use crate::support::{NodeOptions, NodeProcess, blocks, mine, tip, wait, wait_equal, wait_index};

const BLOCKS: u64 = 40;

/// Flips a bit in the entries of these blocks.
fn flip(data_dir: &Path, entries: &[&str]) {
    let log = data_dir.join("log");
    let mut flipped = 0;
    for segment in fs::read_dir(&log).expect("a log") {
        let path = segment.expect("an entry").path();
        let mut bytes = fs::read(&path).expect("a segment");
        for entry in entries {
            let at = bytes.windows(entry.len()).position(|window| window == entry.as_bytes());
            if let Some(at) = at {
                bytes[at + entry.len() / 2] ^= 4;
                flipped += 1;
            }
        }
        fs::write(&path, bytes).expect("written");
    }
    assert_eq!(flipped, entries.len(), "each entry is in the log once");
}

fn repair(node: &NodeProcess) -> (u64, u64) {
    let status = node.get("/status").expect(200).json();
    let number = |name: &str| status["repair"][name].as_u64().unwrap_or_else(|| panic!("{name} in {status}"));
    (number("wanted"), number("healed"))
}

/// Waits until nothing is broken any more. Neighbours of what was flipped may be written again as well, when the chain has
/// to be put together anew and nothing says for certain that they belong to it.
fn wait_healed(node: &NodeProcess, at_least: u64) {
    wait::until(wait::SOON, format!("{at_least} healed blocks"), || {
        let (wanted, healed) = repair(node);
        (wanted == 0 && healed >= at_least).then_some(())
    });
}

/// What `dolmen verify` says of a stopped node's folder.
fn verify(data_dir: &Path) -> (Option<i32>, Value) {
    let output = command(None).arg("verify").arg("--data-dir").arg(data_dir).output().expect("the program runs");
    (output.status.code(), serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// A node with a chain, and one that has it from there and is stopped.
fn a_pair() -> (NodeProcess, NodeProcess) {
    let first = NodeProcess::start(NodeOptions::new().steady_ports());
    for number in 1..=BLOCKS / 2 {
        mine(&first, &format!("entry number {number:03}"));
    }
    let mut second = NodeProcess::start(NodeOptions::new().steady_ports().peer(&first.p2p_url()));
    wait_index(&second, BLOCKS / 2);
    for number in BLOCKS / 2 + 1..=BLOCKS {
        mine(&first, &format!("entry number {number:03}"));
    }
    wait_equal(&[&first, &second]);
    assert!(second.terminate().success());
    (first, second)
}

#[test]
fn flipped_blocks_are_found_fetched_again_and_verified() {
    let (first, mut second) = a_pair();
    let broken = ["entry number 003", "entry number 004", "entry number 017", "entry number 031"];
    flip(second.data_dir(), &broken);
    let (code, found) = verify(second.data_dir());
    assert_eq!((code, &found["good"]), (Some(3), &false.into()), "{found}");
    second.restart();
    wait_healed(&second, 4);
    assert_eq!(blocks(&second), blocks(&first));
    assert!(second.log().contains("damaged blocks were fetched again and written"));
    mine(&second, "and it goes on");
    wait_equal(&[&first, &second]);
    assert!(second.terminate().success());
    let (code, found) = verify(second.data_dir());
    assert_eq!((code, &found["good"]), (Some(0), &true.into()), "{found}");
    assert_eq!(found["tip"]["index"], BLOCKS + 1);
    assert!(found["healed"].as_array().is_some_and(|places| !places.is_empty()), "{found}");
}

#[test]
fn what_is_derived_may_be_gone_as_well() {
    let (first, mut second) = a_pair();
    flip(second.data_dir(), &["entry number 005", "entry number 006", "entry number 033"]);
    fs::remove_file(second.data_dir().join("heights")).expect("is there");
    fs::remove_dir_all(second.data_dir().join("index")).expect("is there");
    second.restart();
    wait_healed(&second, 3);
    assert_eq!(blocks(&second), blocks(&first));
    assert!(second.terminate().success());
    assert_eq!(verify(second.data_dir()).0, Some(0));
}

#[test]
fn without_a_scrubber_a_reader_starts_the_healing() {
    let (first, second) = a_pair();
    let data_dir = second.data_dir();
    flip(data_dir, &["entry number 007"]);
    // Alone it has nobody to ask: the block is missed and never served.
    let options = || NodeOptions::new().data_dir(data_dir).arg("--scrub-rate").arg("0");
    fs::remove_file(data_dir.join("peers.json")).expect("is there");
    let mut alone = NodeProcess::start(options());
    let problem = alone.get("/blocks/7").problem(500);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("fetched again")), "{problem}");
    let counted = || alone.get("/metrics").expect(200).text().contains("\ndolmen_damaged_blocks 1\n").then_some(());
    wait::until(wait::SOON, "the broken block to be counted", counted);
    assert_eq!(alone.get("/blocks/8").expect(200).json()["header"]["index"], 8);
    assert_eq!(tip(&alone).0, BLOCKS);
    alone.kill9();
    let healing = NodeProcess::start(options().peer(&first.p2p_url()));
    let good = first.get("/blocks/7").expect(200).text().to_owned();
    let healed = wait::until(wait::SOON, "block 7", || {
        let answer = healing.get("/blocks/7");
        (answer.status == 200).then(|| answer.text().to_owned())
    });
    assert_eq!(healed, good);
    assert_eq!(repair(&healing), (0, 1));
    assert!(healing.get("/metrics").expect(200).text().contains("\ndolmen_damaged_blocks 0\n"));
}
