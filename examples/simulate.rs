//! Runs the simulator: `cargo run --release --example simulate -- --seeds 10000`.
//!
//! `--from S` begins at another seed, `--nodes N` fixes the number of dolmen nodes, `--trace` prints every event of the
//! runs (use it with one seed), `--no-shrink` leaves a failure as it is, `--scale N` spreads a block over random graphs of
//! up to N nodes instead.

use std::time::Instant;

use clap::Parser;

#[path = "../tests/simulator/mod.rs"]
mod simulator;

use simulator::plan::Plan;
use simulator::{run, scale, shrink};

/// Many nodes in one thread, and everything that can go wrong.
#[derive(Parser)]
struct Options {
    /// Number of seeds
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// First seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Number of dolmen nodes in each run; 2 to 6 at random without it
    #[arg(long)]
    nodes: Option<usize>,
    /// Print every event
    #[arg(long)]
    trace: bool,
    /// Do not look for a shorter run that fails as well
    #[arg(long)]
    no_shrink: bool,
    /// Spread a block over random graphs of up to this many nodes
    #[arg(long)]
    scale: Option<usize>,
}

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    if let Some(most) = options.scale {
        return grow(options.from, most);
    }
    let begin = Instant::now();
    let mut sum = simulator::Summary::default();
    for seed in options.from..options.from + options.seeds {
        let plan = Plan::random(seed, options.nodes);
        let outcome = run(plan.clone(), options.trace);
        if let Some(violation) = &outcome.violation {
            println!("seed {seed} fails: {violation}");
            if !options.no_shrink {
                let (short, outcome) = shrink::shrink(plan);
                let violation = outcome.violation.unwrap_or_default();
                println!("a shorter run of {} things: {violation}\n{short:#?}", short.size());
                let _ = run(short, true);
            }
            println!("again: cargo run --release --example simulate -- --seeds 1 --from {seed} --trace");
            return std::process::ExitCode::FAILURE;
        }
        sum.add(&outcome);
    }
    println!("{sum}");
    println!("{:.1} s", begin.elapsed().as_secs_f64());
    std::process::ExitCode::SUCCESS
}

fn grow(seed: u64, most: usize) -> std::process::ExitCode {
    println!(
        "{:>7} {:>8} {:>7} {:>16} {:>9} {:>15}",
        "nodes", "links", "rounds", "ln n / ln (d-1)", "messages", "per link, block"
    );
    for nodes in [10, 100, 1_000, 10_000, 100_000].into_iter().filter(|nodes| *nodes <= most) {
        let spread = scale::spread(seed, nodes, 8);
        println!(
            "{:>7} {:>8} {:>7} {:>16.1} {:>9} {:>15.3}",
            spread.nodes, spread.links, spread.rounds, spread.theory, spread.messages, spread.per_link
        );
    }
    std::process::ExitCode::SUCCESS
}
