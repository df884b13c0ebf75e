//! What was measured: as a table for people and as JSON for programs, each siege with its verdict.

use std::fmt::Write;

use serde_json::json;

use super::bounds::{LEAST_CALM_MILLIS, MAX_GROWTH, MAX_LIVEZ_MILLIS, MAX_SLOWDOWN};
use super::field::Served;

/// One siege as it went.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    /// Before the attack, on the same node.
    pub calm: Served,
    pub attacked: Served,
    /// Bytes of memory that the node had before.
    pub memory: u64,
    /// What the attackers got across in a second.
    pub weight: String,
    /// What was not as it must be when it was over.
    pub lost: Option<String>,
}

/// All sieges of a run.
#[derive(Default)]
pub struct Report {
    pub rows: Vec<Row>,
}

impl Row {
    fn grown(&self) -> u64 {
        self.attacked.memory.saturating_sub(self.memory)
    }

    /// A line for who waits: beside the calm of this row alone.
    pub fn glance(&self) -> String {
        let of = |times: &[f64]| slowest(times).unwrap_or(f64::NAN);
        let calm = of(&self.calm.write);
        format!(
            "/livez {:.1} ms (calm {:.1}, beside {:.1}), write {:.1} ms (calm {calm:.1}, apart {:.1}), {} MiB more, {}/s; {}",
            of(&self.attacked.livez),
            of(&self.calm.livez),
            of(&self.attacked.beside),
            of(&self.attacked.write),
            of(&self.attacked.write_apart),
            self.grown() >> 20,
            self.weight,
            self.broken(calm).join("; ")
        )
    }

    /// Which bounds were broken, beside a calm write of so many milliseconds.
    fn broken(&self, calm: f64) -> Vec<String> {
        let mut broken = Vec::new();
        if slowest(&self.attacked.livez).is_none_or(|time| time > MAX_LIVEZ_MILLIS) {
            broken.push("/livez".to_owned());
        }
        if slowest(&self.attacked.write).is_none_or(|time| time > MAX_SLOWDOWN * calm.max(LEAST_CALM_MILLIS)) {
            broken.push("writes".to_owned());
        }
        if self.grown() > MAX_GROWTH {
            broken.push("memory".to_owned());
        }
        if let Some(failure) = self.attacked.failures.first() {
            broken.push(format!("{} callers failed ({failure})", self.attacked.failures.len()));
        }
        broken.extend(self.lost.clone());
        broken
    }
}

impl Report {
    /// Milliseconds of a calm write, the 99th of 100 of all calm times together: what attack follows makes no difference.
    fn calm(&self) -> f64 {
        let all: Vec<f64> = self.rows.iter().flat_map(|row| row.calm.write.iter().copied()).collect();
        slowest(&all).unwrap_or(f64::NAN)
    }

    /// Whether every siege was withstood.
    pub fn holds(&self) -> bool {
        let calm = self.calm();
        self.rows.iter().all(|row| row.broken(calm).is_empty())
    }

    /// A table in Markdown.
    pub fn table(&self) -> String {
        let calm = self.calm();
        let livez: Vec<f64> = self.rows.iter().flat_map(|row| row.calm.livez.iter().copied()).collect();
        let mut text = format!(
            "Calm: /livez {:.1} ms, a write {calm:.1} ms (99th of 100).\n\n\
             | siege | /livez, ms | beside, ms | write, ms | apart, ms | memory, MiB | each second | holds |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- |\n",
            slowest(&livez).unwrap_or(f64::NAN)
        );
        let twice = |beside: &dyn Fn(&Row) -> f64| {
            let within =
                |row: &&Row| slowest(&row.attacked.write).is_some_and(|time| time <= MAX_SLOWDOWN * beside(row));
            self.rows.iter().filter(within).count()
        };
        let of_calm = twice(&|_| calm);
        let of_apart = twice(&|row| slowest(&row.attacked.write_apart).unwrap_or(0.0).max(calm));
        for row in &self.rows {
            let of = |times: &[f64]| slowest(times).unwrap_or(f64::NAN);
            let broken = row.broken(calm);
            let holds = if broken.is_empty() { "yes".to_owned() } else { format!("no: {}", broken.join("; ")) };
            let write = of(&row.attacked.write);
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {:.1} | {:.1} | {write:.1} | {:.1} | {} | {} | {holds} |",
                row.what,
                of(&row.attacked.livez),
                of(&row.attacked.beside),
                of(&row.attacked.write_apart),
                row.grown() >> 20,
                row.weight
            );
        }
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "\nOf {}, in {of_calm} a write took at most twice a calm one, even as fast as those were here, and in {of_apart} \
             at most twice that or one at the same time on the node apart.",
            self.rows.len()
        );
        text
    }

    pub fn json(&self) -> String {
        let calm = self.calm();
        let rows = self.rows.iter().map(|row| {
            json!({
                "name": row.name, "what": row.what, "weight": row.weight,
                "calm": figures(&row.calm), "attacked": figures(&row.attacked),
                "grown_bytes": row.grown(), "broken": row.broken(calm),
            })
        });
        let bounds = json!({ "livez_ms": MAX_LIVEZ_MILLIS, "slowdown": MAX_SLOWDOWN, "least_calm_ms": LEAST_CALM_MILLIS, "grown_bytes": MAX_GROWTH });
        let rows: Vec<_> = rows.collect();
        let whole =
            json!({ "version": env!("CARGO_PKG_VERSION"), "calm_write_ms": calm, "bounds": bounds, "sieges": rows });
        format!("{whole:#}\n")
    }
}

fn figures(served: &Served) -> serde_json::Value {
    json!({
        "livez_p99_ms": slowest(&served.livez), "beside_p99_ms": slowest(&served.beside),
        "write_p99_ms": slowest(&served.write), "write_apart_p99_ms": slowest(&served.write_apart),
        "livez": served.livez.len(), "writes": served.write.len(),
        "memory_bytes": served.memory, "failures": served.failures,
    })
}

/// The 99th of 100.
pub fn slowest(times: &[f64]) -> Option<f64> {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len().saturating_sub(1) * 99 / 100).copied()
}
