//! `dolmen forks`, `adopt` and `requeue`: branches off the best chain.

use clap::Args;
use serde_json::{Value, json};

use super::ClientArgs;
use super::output::{count, span};
use super::peers::{answer, short};
use crate::exit::Failure;

#[derive(Debug, Args)]
pub struct ForksArgs {
    #[command(flatten)]
    client: ClientArgs,
}

impl ForksArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| {
            let forks = client.get_json("/forks").await?;
            if !out.is_table() {
                return out.line(&forks.to_string());
            }
            let rows: Vec<Vec<String>> = forks["branches"].as_array().into_iter().flatten().map(row).collect();
            if rows.is_empty() {
                return out.line("no branch is kept off the best chain");
            }
            out.table(&["TIP", "LENGTH", "LEAVES AT", "AGE", "PARKED", "HASH"], &rows)
        })
    }
}

fn row(branch: &Value) -> Vec<String> {
    let number = |value: &Value| value.as_u64().unwrap_or_default().to_string();
    vec![
        number(&branch["tip"]["index"]),
        number(&branch["length"]),
        number(&branch["fork"]["index"]),
        span(branch["ageSeconds"].as_u64().unwrap_or_default()),
        if branch["parked"] == true { "yes: adopt it, or leave it".to_owned() } else { "no".to_owned() },
        branch["tip"]["hash"].as_str().unwrap_or("-").chars().take(64).collect(),
    ]
}

#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// Hash of the branch's last block, as `forks` prints it
    hash: String,
    #[command(flatten)]
    client: ClientArgs,
}

impl AdoptArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| {
            let sent = client.post(&format!("/forks/{}/adopt", path_part(&self.hash)), &json!({})).await?;
            answer(client, out, sent, |change| {
                format!(
                    "the best chain now ends in block {} {}; {} left it, {} to be mined again",
                    change["tip"]["index"],
                    short(&change["tip"]["hash"]),
                    count(change["undone"].as_u64().unwrap_or_default(), "block", "blocks"),
                    count(change["requeued"].as_u64().unwrap_or_default(), "submission is", "submissions are"),
                )
            })
            .await
        })
    }
}

#[derive(Debug, Args)]
pub struct RequeueArgs {
    /// Hash of the last block, as `forks` prints it
    hash: String,
    #[command(flatten)]
    client: ClientArgs,
}

impl RequeueArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| {
            let sent = client.post(&format!("/forks/{}/requeue", path_part(&self.hash)), &json!({})).await?;
            answer(client, out, sent, |rows| {
                let mined = rows.as_array().map_or(0, Vec::len) as u64;
                format!("{} mined again", count(mined, "submission was", "submissions were"))
            })
            .await
        })
    }
}

/// An argument as one part of a path: what a route does not know it says itself, and no argument names another route.
pub fn path_part(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
