//! `dolmen status`: a node on one screen.

use std::time::SystemTime;

use clap::Args;
use serde_json::Value;

use super::ClientArgs;
use super::output::{Out, Style, count, span, thousands, visible};
use super::peers::{self, short};
use crate::client::Client;
use crate::exit::Failure;

/// Columns of the progress bar.
const BAR: u64 = 20;

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
}

impl StatusArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| {
            let status = client.get_json("/status").await?;
            if !out.is_table() {
                return out.line(&status.to_string());
            }
            dashboard(client, &status, out).await
        })
    }
}

async fn dashboard(client: &Client, status: &Value, out: &mut Out) -> Result<(), Failure> {
    let links = client.get_json("/peers").await?;
    let tip = client.get_json("/blocks/tip").await?;
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    for line in lines(client.url(), status, &tip, now, out.style) {
        out.line(&visible_line(&line, out))?;
    }
    out.line("")?;
    peers::print(&links, out)
}

/// A line may hold colours; only what came from the node was made visible before.
fn visible_line(line: &str, out: &Out) -> String {
    console::truncate_str(line, out.width, "…").into_owned()
}

/// The lines above the peers.
fn lines(url: &str, status: &Value, tip: &Value, now: u64, style: Style) -> Vec<String> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let label = |name: &str| style.dim(&format!("{name:<9}"));
    let state = match (status["writable"].as_bool(), &status["sync"]) {
        (Some(false), _) => style.bad("cannot write"),
        (_, sync) if !sync.is_null() => style.warn("catching up"),
        _ => style.good("ready"),
    };
    let mut lines = vec![format!(
        "{} {} at {url}  {state}  up {}",
        style.bold("dolmen"),
        visible(status["version"].as_str().unwrap_or("?"), 20),
        span(number(&status["uptimeSeconds"]))
    )];
    if let Some(problem) = status["problem"].as_str() {
        lines.push(format!("{}{}", label("Problem"), style.bad(&visible(problem, 400))));
    }
    let age = span(now.saturating_sub(number(&tip["header"]["time"])));
    lines.push(format!(
        "{}{}  tip {} {}  mined {age} ago",
        label("Chain"),
        style.bold(&count(number(&status["blocks"]), "block", "blocks")),
        number(&status["tip"]["index"]),
        short(&status["tip"]["hash"]),
    ));
    if let Some(progress) = progress(&status["sync"]) {
        lines.push(format!("{}{progress}", label("Sync")));
    }
    let peers = &status["peers"];
    let linked = count(number(&peers["linked"]), "link", "links");
    let linked = if number(&peers["linked"]) == 0 { style.warn(&linked) } else { linked };
    lines.push(format!(
        "{}{linked}: {} native, {} tutorial; {} connecting",
        label("Peers"),
        number(&peers["native"]),
        number(&peers["tutorial"]),
        number(&peers["connecting"]),
    ));
    let outbox = match number(&status["outbox"]) {
        0 => "nothing waits".to_owned(),
        waiting => style.warn(&format!("{} to be mined again", count(waiting, "submission waits", "submissions wait"))),
    };
    lines.push(format!("{}{outbox}", label("Outbox")));
    let parked = match number(&status["parkedBranches"]) {
        0 => "none parked".to_owned(),
        parked => style.warn(&format!("{} parked: see dolmen forks", count(parked, "branch", "branches"))),
    };
    lines.push(format!(
        "{}{} since the start, {} kept beside the chain, {parked}",
        label("Forks"),
        count(number(&status["reorgs"]), "reorg", "reorgs"),
        count(number(&status["sideBlocks"]), "block", "blocks"),
    ));
    lines
}

/// How far a branch is that is being fetched, as one line; `None` when none is.
pub fn progress(sync: &Value) -> Option<String> {
    let (from, at) = (sync["from"].as_u64()?, sync["at"].as_u64()?);
    let target = sync["target"].as_u64()?.max(at);
    let (done, all) = (at.saturating_sub(from), target.saturating_sub(from).max(1));
    let part = |of: u64| u64::try_from(u128::from(done) * u128::from(of) / u128::from(all)).unwrap_or(of).min(of);
    // At most BAR columns.
    let full = part(BAR) as usize;
    let bar = format!("{}{}", "=".repeat(full), " ".repeat(BAR as usize - full));
    let place = format!("block {} of {}", thousands(at), thousands(target));
    Some(format!("[{bar}] {} %  {place}, from peer {}", part(100), sync["peer"].as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Value {
        json!({
            "version": "0.1.0", "tip": { "index": 1233, "hash": "ab".repeat(32) }, "blocks": 1234,
            "peers": { "linked": 2, "native": 1, "tutorial": 1, "connecting": 0 }, "sync": null, "outbox": 0,
            "sideBlocks": 3, "parkedBranches": 0, "reorgs": 1, "writable": true, "problem": null, "uptimeSeconds": 3661,
        })
    }

    #[test]
    fn a_node_that_is_well_fits_into_five_lines() {
        let tip = json!({ "header": { "time": 1000 } });
        assert_eq!(
            lines("http://n", &status(), &tip, 1012, Style::PLAIN),
            [
                "dolmen 0.1.0 at http://n  ready  up 1 h 1 min",
                "Chain    1,234 blocks  tip 1233 abababababab  mined 12 s ago",
                "Peers    2 links: 1 native, 1 tutorial; 0 connecting",
                "Outbox   nothing waits",
                "Forks    1 reorg since the start, 3 blocks kept beside the chain, none parked",
            ]
        );
    }

    #[test]
    fn what_somebody_should_look_at_stands_out() {
        let mut status = status();
        status["sync"] = json!({ "peer": 3, "from": 1000, "at": 5500, "target": 10_000 });
        status["problem"] = json!("full \u{1b}[2J");
        status["writable"] = json!(false);
        status["outbox"] = json!(1);
        status["parkedBranches"] = json!(2);
        let lines = lines("http://n", &status, &Value::Null, 0, Style::COLOURED);
        assert!(lines[0].contains("\x1b[31mcannot write\x1b[0m"), "{lines:#?}");
        assert_eq!(lines[1], "\x1b[2mProblem  \x1b[0m\x1b[31mfull \\u{1b}[2J\x1b[0m");
        assert_eq!(lines[3], "\x1b[2mSync     \x1b[0m[==========          ] 50 %  block 5,500 of 10,000, from peer 3");
        assert!(lines[5].contains("\x1b[33m1 submission waits to be mined again\x1b[0m"), "{lines:#?}");
        assert!(lines[6].contains("\x1b[33m2 branches parked: see dolmen forks\x1b[0m"), "{lines:#?}");
    }
}
