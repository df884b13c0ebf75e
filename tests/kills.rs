//! Nodes are killed with -9 in the middle of writes. What was acknowledged is there afterwards, once.
//!
//! `DOLMEN_TEST_KILLS` sets the number of kills, `DOLMEN_TEST_SEED` repeats a run's choices.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::audit::Audit;
use support::process::{NodeOptions, NodeProcess};
use support::writers::Writers;
use support::{blocks, tip, wait};

/// Kills of a run when nothing else is asked for.
const KILLS_OF_ONE: u64 = 20;
const KILLS_OF_THREE: u64 = 25;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// The generator of a run, and its seed, which is printed.
fn seeded() -> StdRng {
    let seed = number("DOLMEN_TEST_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000));
    eprintln!("DOLMEN_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn millis(rng: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

#[test]
fn one_node_is_killed_in_the_middle_of_writes() {
    let mut rng = seeded();
    let kills = number("DOLMEN_TEST_KILLS").unwrap_or(KILLS_OF_ONE);
    let mut node = NodeProcess::start(NodeOptions::new().steady_ports());
    let writers = Writers::start(&[node.http_port()], 8, Duration::from_millis(4));
    let mut audit = Audit::of(&blocks(&node));
    for round in 1..=kills {
        let before = writers.count();
        wait::until(wait::SOON, "something to lose", || (writers.count() > before).then_some(()));
        thread::sleep(millis(&mut rng, 0..150));
        let acknowledged = writers.acknowledged();
        node.kill9();
        node.restart();
        // The writers are at it again meanwhile: of what they were told before the kill nothing may be missing.
        // A lone node undoes no block, so only what is new has to be read.
        audit.extend(node.get(&format!("/blocks?from={}", audit.blocks())).expect(200).text());
        assert!(audit.tip().0 as usize >= acknowledged.len(), "round {round}");
        audit.assert_once(&acknowledged);
    }
    let (acknowledged, repeated) = writers.stop();
    let text = blocks(&node);
    let audit = Audit::of(&text);
    audit.assert_once(&acknowledged);
    assert_eq!(audit.tip(), tip(&node));
    // Nobody else mines here, and a repeated request makes no second block.
    assert_eq!(audit.tip().0 as usize, acknowledged.len());
    assert!(node.terminate().success());
    node.restart();
    assert!(blocks(&node) == text, "a clean restart changes nothing");
    eprintln!("{kills} kills, {} acknowledged, {repeated} repeated", acknowledged.len());
}

/// Waits until all nodes have one tip and nothing left to mine again.
fn wait_settled(nodes: &[NodeProcess]) -> (u64, String) {
    let mut last = Vec::new();
    let settled = wait::try_until(wait::SOON, || {
        last = nodes.iter().map(|node| node.get("/status").expect(200).json()).collect();
        let same = last.iter().all(|status| status["tip"] == last[0]["tip"] && status["outbox"] == 0);
        same.then(|| tip(&nodes[0]))
    });
    settled.unwrap_or_else(|| panic!("waited {:?} in vain for one tip: {last:#?}", wait::SOON))
}

#[test]
fn joined_nodes_are_killed_at_random_in_the_middle_of_writes() {
    let mut rng = seeded();
    let kills = number("DOLMEN_TEST_KILLS").unwrap_or(KILLS_OF_THREE);
    let mut nodes: Vec<NodeProcess> = Vec::new();
    for _ in 0..3 {
        let options = NodeOptions::new().steady_ports();
        let options = nodes.iter().fold(options, |options, earlier| options.peer(&earlier.p2p_url()));
        nodes.push(NodeProcess::start(options));
    }
    let ports: Vec<u16> = nodes.iter().map(NodeProcess::http_port).collect();
    let writers = Writers::start(&ports, 2, Duration::from_millis(3));
    let (mut killed, mut together) = (0, 0);
    while killed < kills {
        thread::sleep(millis(&mut rng, 0..400));
        // Mostly one, now and then two or all three at the same time.
        let victims = match rng.random_range(0..10) {
            0 => 3,
            1 | 2 => 2,
            _ => 1,
        };
        let first = rng.random_range(0..nodes.len());
        let victims: Vec<usize> = (0..victims).map(|offset| (first + offset) % nodes.len()).collect();
        together += u64::from(victims.len() > 1);
        for &victim in &victims {
            nodes[victim].kill9();
            killed += 1;
        }
        // The others go on alone for a while.
        thread::sleep(millis(&mut rng, 0..300));
        for &victim in &victims {
            nodes[victim].restart();
        }
    }
    let (acknowledged, repeated) = writers.stop();
    let ended = Instant::now();
    let (index, _) = wait_settled(&nodes);
    let settled = ended.elapsed();
    let text = blocks(&nodes[0]);
    let audit = Audit::of(&text);
    audit.assert_once(&acknowledged);
    assert_eq!(audit.tip().0, index);
    for node in &nodes[1..] {
        assert!(blocks(node) == text, "all have the same chain");
    }
    let reorgs: u64 = nodes.iter().filter_map(|node| node.get("/status").json()["reorgs"].as_u64()).sum();
    eprintln!(
        "{killed} kills ({together} times several at once), {} acknowledged, {repeated} repeated, {index} blocks, \
         {reorgs} reorgs since the last starts, all equal after {settled:?}",
        acknowledged.len()
    );
}
