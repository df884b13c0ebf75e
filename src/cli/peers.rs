//! `dolmen peers` and `dolmen add-peers`.

use clap::Args;
use serde_json::{Value, json};

use super::ClientArgs;
use super::output::{Out, visible};
use crate::client::Client;
use crate::exit::Failure;

/// Columns of an address or a program's name in a table.
const CELL: usize = 48;

#[derive(Debug, Args)]
pub struct PeersArgs {
    #[command(flatten)]
    client: ClientArgs,
}

impl PeersArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| {
            let rows = client.get_json("/peers").await?;
            if out.is_table() {
                return print(&rows, out);
            }
            out.line(&rows.to_string())
        })
    }
}

#[derive(Debug, Args)]
pub struct AddPeersArgs {
    /// Addresses like ws://localhost:6006
    #[arg(required = true)]
    peers: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
}

impl AddPeersArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| {
            let rows = client.post("/addPeers", &json!({ "peers": self.peers })).await?;
            let rows = client.json_of(rows).await?;
            if out.is_table() {
                for row in rows.as_array().into_iter().flatten() {
                    out.line(&format!("{}  {}", text(&row["address"]), text(&row["status"])))?;
                }
                return Ok(());
            }
            out.line(&rows.to_string())
        })
    }
}

/// The peers as a table.
pub fn print(peers: &Value, out: &mut Out) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = peers.as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        return out.line("no peers; dolmen add-peers ws://host:6005 links with one");
    }
    out.table(&["ID", "DIRECTION", "KIND", "ADDRESS", "TIP", "LATENCY", "AGENT"], &rows)
}

fn row(peer: &Value) -> Vec<String> {
    let tip = match peer["tip"]["index"].as_u64() {
        Some(index) => format!("{index} {}", short(&peer["tip"]["hash"])),
        None => "-".to_owned(),
    };
    let latency = peer["latencyMs"].as_f64().map_or("-".to_owned(), |millis| format!("{millis:.1} ms"));
    let failures = peer["failures"].as_u64().filter(|failures| *failures > 0);
    let kind = match failures {
        Some(failures) => format!("{} ({failures} failed)", text(&peer["kind"])),
        None => text(&peer["kind"]),
    };
    vec![
        peer["id"].as_u64().map_or("-".to_owned(), |id| id.to_string()),
        text(&peer["direction"]),
        kind,
        text(&peer["address"]),
        tip,
        latency,
        text(&peer["agent"]),
    ]
}

/// A field's text as it may stand in a table.
pub fn text(value: &Value) -> String {
    value.as_str().map_or("-".to_owned(), |text| visible(text, CELL))
}

/// The beginning of a hash.
pub fn short(hash: &Value) -> String {
    visible(&hash.as_str().unwrap_or("-").chars().take(12).collect::<String>(), CELL)
}

/// Answers with one route's JSON, for people as a sentence.
pub async fn answer(
    client: &Client,
    out: &mut Out,
    answer: awc::ClientResponse,
    sentence: impl FnOnce(&Value) -> String,
) -> Result<(), Failure> {
    let value = client.json_of(answer).await?;
    let line = if out.is_table() { sentence(&value) } else { value.to_string() };
    out.line(&line)
}
