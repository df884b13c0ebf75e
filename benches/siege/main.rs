//! Starts a node and an honest peer for each heavy attack, measures how honest callers are served while it goes on, prints a
//! table with a verdict for each, and fails if a bound is broken.
//!
//! `cargo bench --bench siege -- [--quick] [--json FILE] [NAME…]`
//!
//! What must become of the attackers, and that a case does what it says, is tested in `tests/hostile`; here only times and
//! memory are looked at, and that nothing acknowledged is lost. The attackers run on one thread of the lowest priority, since
//! real ones bring processors of their own, and never wait for the node; what they got across stands in the table. The
//! honest peer, which shares the machine and is not attacked, tells how slow a node is by the machine alone; so does a node
//! apart from both, which is written to as the attacked one is.

/// What an attack may cost.
#[path = "../../tests/hostile/bounds.rs"]
mod bounds;

/// Long chains.
#[path = "../end_to_end/chain.rs"]
#[allow(dead_code, reason = "each benchmark uses its own part")]
mod chain;

/// Attackers' frames and sockets.
#[path = "../../tests/hostile/stranger.rs"]
#[allow(dead_code, reason = "here no attacker waits")]
mod stranger;

/// Nodes as processes, and an HTTP client.
#[path = "../../tests/support/mod.rs"]
mod support;

mod attacks;
mod field;
mod forks;
mod hose;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use attacks::{SIEGES, Siege};
use field::Field;
use hose::Tally;
use report::{Report, Row};

/// What the command line asks for.
struct Arguments {
    quick: bool,
    json: Option<PathBuf>,
    /// Empty for all.
    names: Vec<String>,
}

/// How long a node is left alone, and then attacked. Whoever does not read is cut off after ten seconds, and comes back.
const FULL: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(12));
const QUICK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// How long the system remembers a closed connection, and some more.
const LONGEST_WAIT: Duration = Duration::from_secs(150);

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!("{reason}; known: --quick, --json FILE, and of these as many as wanted:");
            SIEGES.iter().for_each(|siege| eprintln!("  {:18}{}", siege.name, siege.what));
            return ExitCode::from(2);
        }
    };
    support::process::allow_files();
    let begun = Instant::now();
    let mut report = Report::default();
    for siege in SIEGES {
        if arguments.names.is_empty() || arguments.names.iter().any(|name| name == siege.name) {
            report.rows.push(withstand(siege, if arguments.quick { QUICK } else { FULL }));
        }
    }
    chain::clean();
    println!("{}", report.table());
    eprintln!("took {:.0} s", begun.elapsed().as_secs_f64());
    if let Some(file) = &arguments.json {
        std::fs::write(file, report.json()).expect("the JSON file can be written");
    }
    if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Waits until the system has room for the connections of another siege: it remembers closed ones for minutes, and when it
/// has no room it drops everybody's packets. That is not the node's to mend.
fn wait_for_room() {
    let figure = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let begun = Instant::now();
    let full = || matches!((figure("count"), figure("max")), (Some(count), Some(max)) if count > max / 2);
    while full() && begun.elapsed() < LONGEST_WAIT {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// One siege of a node of its own, so that what one leaves behind is not counted for another.
fn withstand(Siege { name, what, blocks, attack }: &Siege, (left_alone, attacked): (Duration, Duration)) -> Row {
    wait_for_room();
    let mut field = Field::new(*blocks);
    let calm = field.calm(left_alone);
    let memory = field.node.resident_bytes();
    let tally = Tally::new();
    let attack = attack(&field, &tally);
    let attacked_for = Instant::now();
    let served = field.attacked(attacked, attack);
    let weight = field::weight(&tally, attacked_for.elapsed().as_secs_f64());
    let lost = field.judge().err();
    let row = Row { name, what, calm, attacked: served, memory, weight, lost };
    eprintln!("{name}: {}", row.glance());
    row
}

fn parse(words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { quick: false, json: None, names: Vec::new() };
    let mut words = words;
    while let Some(word) = words.next() {
        match word.as_str() {
            // cargo says this to every benchmark.
            "--bench" => {}
            "--quick" => arguments.quick = true,
            "--json" => arguments.json = Some(words.next().ok_or("--json needs a value")?.into()),
            name if SIEGES.iter().any(|siege| siege.name == name) => arguments.names.push(word),
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    Ok(arguments)
}
