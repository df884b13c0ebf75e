//! What was measured: as a table for people, as JSON for programs, and as a plot of how cost grows.

use std::fmt::Write;

use serde_json::{Value, json};

/// Whether a figure is to be above or below its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    AtLeast,
    AtMost,
}

use Bound::{AtLeast, AtMost};

/// A curve: its name, its colour, its figure.
type Curve = (&'static str, &'static str, fn(&Growth) -> f64);

struct Line {
    work: String,
    unit: &'static str,
    figure: f64,
    target: Option<(Bound, f64)>,
    note: String,
}

/// Cost of one more block on a chain of a length.
pub struct Growth {
    pub blocks: u64,
    /// Milliseconds from request to durable answer.
    pub latency: f64,
    /// Processor microseconds of the node.
    pub processor: f64,
}

/// All figures of a run.
#[derive(Default)]
pub struct Report {
    lines: Vec<Line>,
    pub growth: Vec<Growth>,
}

impl Report {
    /// A figure with a target.
    pub fn target(&mut self, work: &str, figure: f64, unit: &'static str, bound: Bound, target: f64, note: &str) {
        self.push(work, unit, figure, Some((bound, target)), note);
    }

    /// A figure that others are to be seen beside.
    pub fn figure(&mut self, work: &str, figure: f64, unit: &'static str, note: &str) {
        self.push(work, unit, figure, None, note);
    }

    fn push(&mut self, work: &str, unit: &'static str, figure: f64, target: Option<(Bound, f64)>, note: &str) {
        eprintln!("  {work}: {} {unit} {note}", short(figure));
        self.lines.push(Line { work: work.to_owned(), unit, figure, target, note: note.to_owned() });
    }

    /// A table in Markdown.
    pub fn table(&self) -> String {
        let mut text = "| work | figure | target | met | beside |\n| --- | --- | --- | --- | --- |\n".to_owned();
        for Line { work, unit, figure, target, note } in &self.lines {
            let (wanted, met) = match target {
                Some((bound @ AtLeast, target)) => {
                    (format!("≥ {} {unit}", short(*target)), met(*figure, *bound, *target))
                }
                Some((bound @ AtMost, target)) => {
                    (format!("≤ {} {unit}", short(*target)), met(*figure, *bound, *target))
                }
                None => (String::new(), ""),
            };
            // Writing into a string cannot fail.
            let _ = writeln!(text, "| {work} | {} {unit} | {wanted} | {met} | {note} |", short(*figure));
        }
        text
    }

    pub fn json(&self) -> String {
        let line = |line: &Line| {
            json!({
                "work": line.work, "figure": line.figure, "unit": line.unit, "note": line.note,
                "target": line.target.map(|(_, target)| target),
                "bound": line.target.map(|(bound, _)| if bound == AtLeast { "at least" } else { "at most" }),
            })
        };
        let growth = |growth: &Growth| json!({ "blocks": growth.blocks, "latency_ms": growth.latency, "processor_us": growth.processor });
        let lines: Vec<Value> = self.lines.iter().map(line).collect();
        let growth: Vec<Value> = self.growth.iter().map(growth).collect();
        let whole = json!({ "version": env!("CARGO_PKG_VERSION"), "figures": lines, "growth": growth });
        format!("{whole:#}\n")
    }

    /// An SVG of the cost of one more block over the chain's length, each relative to the shortest chain.
    pub fn plot(&self) -> Option<String> {
        let first = self.growth.first()?;
        let last = self.growth.last()?;
        let (width, height, left, bottom, most) = (640.0, 300.0, 60.0, 250.0, 2.0);
        let log = |blocks: u64| (blocks as f64).log10();
        let span = (log(last.blocks) - log(first.blocks)).max(1.0);
        let x = |blocks: u64| left + (log(blocks) - log(first.blocks)) / span * (width - left - 150.0);
        let y = |ratio: f64| bottom - ratio.min(most) / most * (bottom - 30.0);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
             <text x=\"{left}\" y=\"18\">Cost of one more block, relative to a chain of {} blocks</text>\n",
            first.blocks
        );
        for (ratio, colour) in
            [(0.0, "#999"), (0.5, "#ddd"), (1.0, "#bbb"), (1.2, "#d66"), (1.5, "#ddd"), (2.0, "#ddd")]
        {
            let (at, end) = (y(ratio), width - 150.0);
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {at:.1}H{end}\" stroke=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{ratio}</text>",
                left - 8.0,
                at + 4.0
            );
        }
        for Growth { blocks, .. } in &self.growth {
            let exponent = log(*blocks).round();
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{}\">10^{exponent}</text>", x(*blocks) - 10.0, bottom + 18.0);
        }
        let curves: [Curve; 2] =
            [("latency", "#1565c0", |growth| growth.latency), ("processor time", "#2e7d32", |growth| growth.processor)];
        for (name, colour, cost) in curves {
            let points: Vec<(f64, f64)> =
                self.growth.iter().map(|growth| (x(growth.blocks), y(cost(growth) / cost(first)))).collect();
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let _ =
                writeln!(svg, "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", path.join("L"));
            let (end, at) = points.last().copied().unwrap_or_default();
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{at:.1}\" fill=\"{colour}\">{name}</text>", end + 8.0);
        }
        svg.push_str("</svg>\n");
        Some(svg)
    }
}

fn met(figure: f64, bound: Bound, target: f64) -> &'static str {
    let good = match bound {
        AtLeast => figure >= target,
        AtMost => figure <= target,
    };
    if good { "yes" } else { "no" }
}

/// Three digits, and thousands set apart.
fn short(number: f64) -> String {
    if number.abs() >= 1000.0 {
        let digits = format!("{number:.0}");
        let mut text = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) && digits.as_bytes()[place - 1] != b'-' {
                text.push(',');
            }
            text.push(digit);
        }
        text
    } else if number.abs() >= 100.0 || number == number.trunc() {
        format!("{number:.0}")
    } else if number.abs() >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}
