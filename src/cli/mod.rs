//! The command line: what can be typed. Each command has a file of its own, which says what it does with the rest of the
//! crate.
//!
//! stdout is data, stderr is talk; exit codes are in [`exit`]. `output` is how answers look, `progress` the
//! bars, `chain` and `elements` how long chains are read without holding them.

mod chain;
mod elements;
mod lines;
mod output;
mod progress;
mod service;

mod bans;
mod blocks;
mod doctor;
mod export;
mod forks;
mod import;
mod mine;
mod node;
mod pages;
mod peers;
mod settings;
mod status;
mod verify;
mod watch;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::client::Client;
use crate::exit::{self, Failure, USAGE, in_system};
use crate::peer::proof::MIN_KEY;
use crate::text;
use output::{Out, OutputArgs};

/// One small blockchain node: a shared, durable, tamper-evident log of text entries.
#[derive(Debug, Parser)]
#[command(name = "dolmen", version, about, disable_help_subcommand = true, after_help = exit::CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Node(node::NodeArgs),
    /// Run a whole network in this process: nodes on 3000, 3001, …, joined
    Devnet(node::DevnetArgs),
    /// Mine entries: arguments into one block, or the lines of a file or a pipe into as few as the limits allow
    Mine(mine::MineArgs),
    /// Print blocks
    Blocks(blocks::BlocksArgs),
    /// Show how a node is, on one screen
    Status(status::StatusArgs),
    /// Show what happens on a node, as it happens
    Watch(watch::WatchArgs),
    /// Print the peers
    Peers(peers::PeersArgs),
    /// Link a node with peers
    AddPeers(peers::AddPeersArgs),
    /// Print the branches off the best chain
    Forks(forks::ForksArgs),
    /// Take a kept branch over, whatever it undoes
    Adopt(forks::AdoptArgs),
    /// Mine another node's side blocks again, for a node that is gone for good
    Requeue(forks::RequeueArgs),
    /// Print the banned addresses
    Bans(bans::BansArgs),
    /// Refuse links from an address, and end those there are
    Ban(bans::BanArgs),
    /// Forget a ban, and what led to it
    Unban(bans::UnbanArgs),
    /// Judge everything in a data folder again, from the first byte; exit with 3 if something is not what was written
    Verify(verify::VerifyArgs),
    /// Write a chain to a file or to stdout, every block judged on its way
    Export(export::ExportArgs),
    /// Take a chain over into the data folder of a node that is stopped
    Import(import::ImportArgs),
    /// Show every setting of a node, and where its value came from
    Config(settings::ConfigArgs),
    /// Look for what keeps a node from working well, and say how to mend it
    Doctor(doctor::DoctorArgs),
    /// Print a new random key for --cluster-key-file
    Keygen,
    /// Exit with 0 if a node is ready, for container health checks
    Health(HealthArgs),
    /// Print a script that completes commands in a shell
    Completions(pages::CompletionsArgs),
    /// Print the manual page of dolmen or of a command
    Man(pages::ManArgs),
}

/// Which node a client command talks to.
#[derive(Debug, Args)]
struct NodeAt {
    /// The node to talk to
    #[arg(long, env = "DOLMEN_URL", default_value = "http://127.0.0.1:3000")]
    url: String,
    /// A PEM file with the authorities that sign the certificate of an https:// node
    #[arg(long, env = "DOLMEN_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The file with the node's token, if it wants one
    #[arg(long, env = "DOLMEN_API_TOKEN_FILE", value_name = "FILE")]
    api_token_file: Option<PathBuf>,
}

impl NodeAt {
    fn client(&self) -> Result<Client, Failure> {
        let token = self.api_token_file.as_deref().map(node::read_token).transpose()?;
        Client::new(&self.url, token, self.tls_ca.as_deref()).map_err(|error| Failure::new(USAGE, error))
    }
}

/// What every client command takes.
#[derive(Debug, Args)]
struct ClientArgs {
    #[command(flatten)]
    at: NodeAt,
    #[command(flatten)]
    output: OutputArgs,
}

impl ClientArgs {
    /// Runs a command's work against the node, and sends what it printed on its way.
    fn run(&self, work: impl AsyncFnOnce(&Client, &mut Out) -> Result<(), Failure>) -> Result<(), Failure> {
        let client = self.at.client()?;
        let mut out = self.output.open();
        let worked = in_system(work(&client, &mut out));
        // What was done before a failure is data all the same.
        let flushed = out.flush();
        worked.and(flushed)
    }
}

#[derive(Debug, Args)]
struct HealthArgs {
    #[command(flatten)]
    at: NodeAt,
}

impl HealthArgs {
    fn run(&self) -> Result<(), Failure> {
        let client = self.at.client()?;
        in_system(async { client.get("/readyz").await.map(drop).map_err(Failure::from) })
    }
}

/// Runs the command that was typed.
#[must_use]
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Node(args) => args.run(),
        Command::Devnet(args) => args.run(),
        Command::Mine(args) => args.run(),
        Command::Blocks(args) => args.run(),
        Command::Status(args) => args.run(),
        Command::Watch(args) => args.run(),
        Command::Peers(args) => args.run(),
        Command::AddPeers(args) => args.run(),
        Command::Forks(args) => args.run(),
        Command::Adopt(args) => args.run(),
        Command::Requeue(args) => args.run(),
        Command::Bans(args) => args.run(),
        Command::Ban(args) => args.run(),
        Command::Unban(args) => args.run(),
        Command::Verify(args) => args.run(),
        Command::Export(args) => args.run(),
        Command::Import(args) => args.run(),
        Command::Config(args) => args.run(),
        Command::Doctor(args) => args.run(),
        Command::Keygen => {
            node::say(&hex::encode(rand::random::<[u8; MIN_KEY]>()));
            Ok(())
        }
        Command::Health(args) => args.run(),
        Command::Completions(args) => args.run(),
        Command::Man(args) => args.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                talk(&format!("dolmen: {}", text::plain(&message)));
            }
            ExitCode::from(code)
        }
    }
}

/// Says something to people, on stderr. Nobody there to hear it is no failure.
fn talk(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
