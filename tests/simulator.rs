//! Nothing acknowledged is lost: many seeded runs of many nodes with everything that can go wrong.
//!
//! `SIM_SEEDS` and `SIM_FROM` set how many runs and the first seed, `SIM_SHRINK=0` leaves a failure as it is. `cargo run --release --example simulate` does more of
//! the same, faster, and shrinks what fails.

#[path = "simulator/mod.rs"]
mod simulator;

use simulator::plan::Plan;
use simulator::{Summary, run, scale, shrink};

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn what_was_acknowledged_is_there_once_after_everything_that_goes_wrong() {
    let (seeds, from) = (number("SIM_SEEDS", 300), number("SIM_FROM", 0));
    let mut sum = Summary::default();
    for seed in from..from + seeds {
        let plan = Plan::random(seed, None);
        let outcome = run(plan.clone(), false);
        if let Some(violation) = &outcome.violation {
            assert!(number("SIM_SHRINK", 1) != 0, "seed {seed} fails: {violation}");
            let (short, shorter) = shrink::shrink(plan);
            let why = shorter.violation.clone().unwrap_or_default();
            let _ = run(short.clone(), true);
            panic!(
                "seed {seed} fails: {violation}\nthe run above is a shorter one: {why}\n{short:#?}\nfor all of it: cargo run \
                 --release --example simulate -- --seeds 1 --from {seed} --trace --no-shrink"
            );
        }
        sum.add(&outcome);
    }
    println!("{sum}");
    assert!(sum.void * 5 <= sum.runs, "too many runs prove nothing:\n{sum}");
}

#[test]
fn a_seed_is_a_run() {
    for seed in [1, 7, 23, 42, 99] {
        let (first, second) = (run(Plan::random(seed, None), false), run(Plan::random(seed, None), false));
        assert_eq!(first.log, second.log, "seed {seed} did not replay");
        assert_ne!(first.log, run(Plan::random(seed + 1, None), false).log, "the seed means nothing");
    }
}

#[test]
fn a_block_reaches_everybody_in_few_rounds_and_crosses_each_link_once() {
    let mut last = 0;
    for nodes in [20, 200] {
        let spread = scale::spread(1, nodes, 8);
        // The block one way, and that it has arrived the other way; or the block both ways at the same moment.
        assert!(spread.per_link <= 2.0, "{spread:?}");
        assert!((spread.rounds as f64) <= spread.theory + 3.0, "{spread:?}");
        assert!(spread.rounds >= last, "{spread:?}");
        last = spread.rounds;
    }
}

/// All nodes mine at the same moment, on links that all take the same time: whoever loses must not lose again and again
/// because all losers come back in step.
#[test]
fn losers_do_not_collide_again_and_again() {
    let nodes = 12;
    let (mut again, mut runs) = (0, 0);
    for seed in 0..10 {
        let outcome = run(Plan::in_step(seed, nodes), false);
        assert_eq!(outcome.violation, None, "seed {seed}");
        again += outcome.stats.remined;
        runs += 1;
    }
    let each = again as f64 / (runs * nodes as u64) as f64;
    println!("{each:.2} times mined again for each entry");
    assert!(each < 3.0, "each entry was mined again {each:.2} times");
}
