//! Starts real nodes, measures every row of the table of targets with its ceilings in the same run, prints the table with
//! ratios, and writes JSON and a plot.
//!
//! `cargo bench --bench end_to_end -- [--quick] [--json FILE] [--plot FILE] [--rows mine,catch-up,…]`
//!
//! Everything shares the machine: both nodes, the load and the ceilings. So absolute figures are orientation; what counts
//! is the ratio of two figures of one run.

mod bare;
mod chain;
mod client;
mod fetcher;
mod load;
mod process;
mod report;
mod rows;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use report::Report;

/// What the command line asks for.
struct Arguments {
    quick: bool,
    json: Option<PathBuf>,
    plot: Option<PathBuf>,
    /// Empty for all.
    rows: Vec<String>,
}

/// How large everything is.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Seconds of one load.
    pub load_seconds: f64,
    /// Times that a figure is taken; the median counts.
    pub rounds: usize,
    /// Blocks of the long chain.
    pub long: u64,
    /// Blocks of the longest chain.
    pub longest: u64,
    /// Blocks of the tutorial peer's chain.
    pub tutorial: u64,
}

const FULL: Sizes = Sizes { load_seconds: 3.0, rounds: 3, long: 1_000_000, longest: 10_000_000, tutorial: 100_000 };
const QUICK: Sizes = Sizes { load_seconds: 1.0, rounds: 1, long: 100_000, longest: 100_000, tutorial: 10_000 };

/// A function that measures one row or more.
type Row = fn(&Sizes, &mut Report);

const ROWS: [(&str, Row); 7] = [
    ("mine", rows::mine::measure),
    ("catch-up", rows::catch_up::measure),
    ("tutorial", rows::tutorial::measure),
    ("start", rows::start::measure),
    ("read", rows::read::measure),
    ("line", rows::line::measure),
    ("growth", rows::growth::measure),
];

fn main() -> ExitCode {
    if let Some(file) = std::env::var_os(bare::FILE) {
        bare::serve(&PathBuf::from(file));
        return ExitCode::SUCCESS;
    }
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!("{reason}; known: --quick, --json FILE, --plot FILE, --rows {}", names());
            return ExitCode::from(2);
        }
    };
    let sizes = if arguments.quick { QUICK } else { FULL };
    let mut report = Report::default();
    let begun = Instant::now();
    report.figure("load of the machine before", machine_load(), "", "processes that want to run, one minute's mean");
    for (name, measure) in ROWS {
        if arguments.rows.is_empty() || arguments.rows.iter().any(|row| row == name) {
            eprintln!("measuring {name} … ({:.0} s so far)", begun.elapsed().as_secs_f64());
            measure(&sizes, &mut report);
        }
    }
    chain::clean();
    report.figure("load of the machine after", machine_load(), "", "this program and its nodes included");
    println!("{}", report.table());
    eprintln!("took {:.0} s", begun.elapsed().as_secs_f64());
    if let Some(file) = &arguments.json {
        std::fs::write(file, report.json()).expect("the JSON file can be written");
    }
    if let (Some(file), Some(plot)) = (&arguments.plot, report.plot()) {
        std::fs::write(file, plot).expect("the plot can be written");
    }
    ExitCode::SUCCESS
}

/// Processes that want to run, as a mean over the last minute: above the number of cores, others had a part in the figures.
fn machine_load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|mean| mean.parse().ok()).unwrap_or(f64::NAN)
}

fn parse(words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { quick: false, json: None, plot: None, rows: Vec::new() };
    let mut words = words;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            // cargo says this to every benchmark.
            "--bench" => {}
            "--quick" => arguments.quick = true,
            "--json" => arguments.json = Some(value()?.into()),
            "--plot" => arguments.plot = Some(value()?.into()),
            "--rows" => arguments.rows = value()?.split(',').map(str::to_owned).collect(),
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    match arguments.rows.iter().find(|row| ROWS.iter().all(|(name, _)| name != row)) {
        Some(row) => Err(format!("unknown row {row}")),
        None => Ok(arguments),
    }
}

fn names() -> String {
    ROWS.map(|(name, _)| name).join(",")
}
