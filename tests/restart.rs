//! A node with a long chain starts again: quickly, and with everything that it acknowledged.

mod support;

use std::time::{Duration, Instant};

use support::audit::Audit;
use support::http::Request;
use support::process::{NodeOptions, NodeProcess};
use support::writers::fill;
use support::{blocks, tip};

const BLOCKS: usize = 100_000;

/// Generous, for a loaded machine and a build without optimisation: what is promised is far less than this.
const READY: Duration = Duration::from_secs(5);

/// Memory does not grow with the chain by more than what finds a block's place.
const MEMORY: u64 = 256 << 20;

fn restarted(node: &mut NodeProcess, how: &str) {
    let started = Instant::now();
    node.restart();
    let ready = started.elapsed();
    let first = Instant::now();
    let (index, _) = tip(node);
    let memory = node.resident_bytes() >> 20;
    eprintln!(
        "{how}: ready after {ready:?} with block {index}, first answer {:?} later, {memory} MiB",
        first.elapsed()
    );
    assert!(ready < READY, "{how}: ready after {ready:?}");
}

#[test]
fn a_long_chain_is_there_again_after_a_clean_stop_and_after_a_kill() {
    let mut node = NodeProcess::start(NodeOptions::new().arg("--log").arg("warn"));
    let filling = Instant::now();
    let mut acknowledged = fill(node.http_port(), "entry", BLOCKS);
    eprintln!("{BLOCKS} blocks mined in {:?}, {} MiB", filling.elapsed(), node.resident_bytes() >> 20);
    let (index, hash) = tip(&node);
    assert_eq!(index, BLOCKS as u64);

    let stopping = Instant::now();
    assert!(node.terminate().success());
    eprintln!("stopped cleanly after {:?}", stopping.elapsed());
    restarted(&mut node, "clean");
    assert_eq!(tip(&node), (index, hash));

    acknowledged.extend(fill(node.http_port(), "before the kill", 1_000));
    let last = tip(&node);
    node.kill9();
    restarted(&mut node, "killed");
    assert_eq!(tip(&node), last);
    let repeated = node.request(&Request::get(&format!("/blocks/{}", last.1))).expect(200);
    assert_eq!(repeated.header("Confirmations"), Some("1"));

    let text = blocks(&node);
    let memory = node.resident_bytes();
    eprintln!("the whole chain is {} MiB of JSON; {} MiB of memory after sending it", text.len() >> 20, memory >> 20);
    let audit = Audit::of(&text);
    assert_eq!(audit.tip(), last);
    assert_eq!(last.0 as usize, acknowledged.len());
    audit.assert_once(&acknowledged);
    assert!(memory < MEMORY, "{} MiB", memory >> 20);
}
