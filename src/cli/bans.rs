//! `dolmen bans`, `ban` and `unban`: who may not link with a node.

use clap::Args;
use serde_json::{Value, json};

use super::ClientArgs;
use super::forks::path_part;
use super::output::utc;
use super::peers::{answer, text};
use crate::exit::Failure;

#[derive(Debug, Args)]
pub struct BansArgs {
    #[command(flatten)]
    client: ClientArgs,
}

impl BansArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| {
            let bans = client.get_json("/bans").await?;
            if !out.is_table() {
                return out.line(&bans.to_string());
            }
            let rows: Vec<Vec<String>> =
                bans.as_array().into_iter().flatten().map(|ban| vec![text(&ban["address"]), until(ban)]).collect();
            if rows.is_empty() {
                return out.line("nobody is banned");
            }
            out.table(&["ADDRESS", "UNTIL (UTC)"], &rows)
        })
    }
}

fn until(ban: &Value) -> String {
    utc(ban["until"].as_u64().unwrap_or_default())
}

#[derive(Debug, Args)]
pub struct BanArgs {
    /// A network address like 10.0.0.7
    address: String,
    /// For how long; a day without
    #[arg(long)]
    seconds: Option<u64>,
    #[command(flatten)]
    client: ClientArgs,
}

impl BanArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| {
            let wish = json!({ "address": self.address, "seconds": self.seconds });
            let sent = client.post("/bans", &wish).await?;
            answer(client, out, sent, |ban| format!("{} is banned until {} UTC", text(&ban["address"]), until(ban)))
                .await
        })
    }
}

#[derive(Debug, Args)]
pub struct UnbanArgs {
    /// A network address like 10.0.0.7
    address: String,
    #[command(flatten)]
    client: ClientArgs,
}

impl UnbanArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| {
            client.delete(&format!("/bans/{}", path_part(&self.address))).await?;
            if out.is_table() { out.line(&format!("{} is not banned any more", self.address)) } else { Ok(()) }
        })
    }
}
