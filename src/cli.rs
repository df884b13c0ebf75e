//! The command line: what can be typed, and what each command does with the rest of the crate.
//!
//! stdout is data, stderr is talk; exit codes are in [`exit`](crate::exit).

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::client::Client;
use crate::config::{self, Config, ConfigError, Layer, LogFormat};
use crate::devnet;
use crate::exit::{FAILURE, Failure, USAGE, in_system};
use crate::node::{Node, StartError};
use crate::peer::proof::{ClusterKey, MAX_KEY_TEXT, MIN_KEY};
use crate::signals::Signals;
use crate::text::{self, JsonOut};

/// One small blockchain node: a shared, durable, tamper-evident log of text entries.
#[derive(Debug, Parser)]
#[command(name = "dolmen", version, about, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Node(NodeArgs),
    /// Run a whole network in this process: nodes on 3000, 3001, …, joined
    Devnet(DevnetArgs),
    /// Mine entries into a block
    Mine {
        /// The entries, one block of them
        #[arg(required = true)]
        entries: Vec<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Print blocks as JSON
    Blocks {
        /// Index, hash or `tip`; all without
        block: Option<String>,
        /// First index
        #[arg(long, conflicts_with = "block")]
        from: Option<u64>,
        /// Number of blocks
        #[arg(long, conflicts_with = "block")]
        limit: Option<u64>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Print the peers as JSON
    Peers {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Link a node with peers
    AddPeers {
        /// Addresses like ws://localhost:6006
        #[arg(required = true)]
        peers: Vec<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Print how a node is as JSON
    Status {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Print the banned addresses as JSON
    Bans {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Refuse links from an address, and end those there are
    Ban {
        /// A network address like 10.0.0.7
        address: String,
        /// For how long; a day without
        #[arg(long)]
        seconds: Option<u64>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Forget a ban, and what led to it
    Unban {
        /// A network address like 10.0.0.7
        address: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Print the branches off the best chain as JSON
    Forks {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Take a kept branch over, whatever it undoes
    Adopt {
        /// Hash of the branch's last block, as `forks` prints it
        hash: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Mine another node's side blocks again, for a node that is gone for good
    Requeue {
        /// Hash of the last block, as `forks` prints it
        hash: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Judge everything in a data folder again, from the first byte; exit with 3 if something is not what was written
    Verify {
        /// The folder
        #[arg(long, value_name = "DIR", default_value = "dolmen-data")]
        data_dir: PathBuf,
    },
    /// Print a new random key for --cluster-key-file
    Keygen,
    /// Exit with 0 if a node is ready, for container health checks
    Health {
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, Args)]
struct ClientArgs {
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

#[derive(Debug, Args)]
struct NodeArgs {
    /// Where HTTP listens [env: DOLMEN_HTTP, PORT] [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Where peers are listened for [env: DOLMEN_P2P, WS_PORT] [default: 127.0.0.1:6005]
    #[arg(long, value_name = "ADDRESS")]
    p2p: Option<String>,
    /// Where the chain is kept [env: DOLMEN_DATA_DIR] [default: dolmen-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A peer to link with, like ws://host:6005; can be repeated [env: DOLMEN_PEERS]
    #[arg(long = "peer", value_name = "URL")]
    peers: Vec<String>,
    /// A host name that HTTP answers to, besides addresses and localhost; can be repeated [env: DOLMEN_ALLOWED_HOSTS]
    #[arg(long = "allowed-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// A file with a token that requests must show which change something [env: DOLMEN_API_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    api_token_file: Option<PathBuf>,
    /// A file with the key that peers must hold; without it everybody may link [env: DOLMEN_CLUSTER_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    cluster_key_file: Option<PathBuf>,
    /// A PEM file with the certificate chain to serve HTTP and peers with, in TLS [env: DOLMEN_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// A PEM file with that certificate's private key [env: DOLMEN_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// A PEM file with the authorities that sign the certificates of wss:// peers [env: DOLMEN_TLS_CA]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// KiB per second in which the chain on disk is judged again; 0 for not at all [env: DOLMEN_SCRUB_RATE] [default: 1024]
    #[arg(long, value_name = "KIB")]
    scrub_rate: Option<u64>,
    /// Blocks that a stranger's branch may undo [env: DOLMEN_MAX_REORG] [default: 1000]
    #[arg(long, value_name = "BLOCKS")]
    max_reorg: Option<u64>,
    /// Links that others may open; one in eight is kept for configured peers [env: DOLMEN_MAX_INBOUND] [default: 64]
    #[arg(long, value_name = "LINKS")]
    max_inbound: Option<usize>,
    /// Links that this node opens [env: DOLMEN_MAX_OUTBOUND] [default: 16]
    #[arg(long, value_name = "LINKS")]
    max_outbound: Option<usize>,
    /// Links that others may open from one address beyond this machine [env: DOLMEN_MAX_PER_ADDRESS] [default: 8]
    #[arg(long, value_name = "LINKS")]
    max_per_address: Option<usize>,
    /// A TOML file with settings
    #[arg(long, value_name = "FILE", env = "DOLMEN_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
struct LogArgs {
    /// Which log lines are written: error, warn, info, debug, trace, or module=level,… [env: DOLMEN_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How log lines look [env: DOLMEN_LOG_FORMAT] [default: auto]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

#[derive(Debug, Args)]
struct DevnetArgs {
    /// Number of nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// HTTP port of the first node; 0 takes free ones
    #[arg(long, default_value_t = config::DEFAULT_HTTP_PORT)]
    http_port: u16,
    /// Peer port of the first node; 0 takes free ones
    #[arg(long, default_value_t = config::DEFAULT_P2P_PORT)]
    p2p_port: u16,
    /// Where the chains are kept; without it in a folder that is removed at the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs the command that was typed.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Node(args) => node(args),
        Command::Devnet(args) => devnet(args),
        Command::Mine { entries, client } => with_client(&client, |client| client.mine(&entries)),
        Command::Blocks { block, from, limit, client } => {
            with_client(&client, |client| client.blocks(block.as_deref(), from, limit))
        }
        Command::Peers { client } => with_client(&client, |client| client.get("/peers")),
        Command::AddPeers { peers, client } => with_client(&client, |client| client.add_peers(&peers)),
        Command::Status { client } => with_client(&client, |client| client.get("/status")),
        Command::Bans { client } => with_client(&client, |client| client.get("/bans")),
        Command::Ban { address, seconds, client } => with_client(&client, |client| client.ban(&address, seconds)),
        Command::Unban { address, client } => with_client(&client, |client| client.unban(&address)),
        Command::Forks { client } => with_client(&client, |client| client.get("/forks")),
        Command::Adopt { hash, client } => with_client(&client, |client| client.adopt(&hash)),
        Command::Requeue { hash, client } => with_client(&client, |client| client.requeue(&hash)),
        Command::Verify { data_dir } => crate::verify::run(&data_dir),
        Command::Keygen => {
            say(&hex::encode(rand::random::<[u8; MIN_KEY]>()));
            Ok(())
        }
        Command::Health { client } => with_client(&client, Client::health),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            let _ = writeln!(std::io::stderr(), "dolmen: {}", text::plain(&message));
            ExitCode::from(code)
        }
    }
}

fn with_client(args: &ClientArgs, work: impl FnOnce(&Client) -> Result<(), Failure>) -> Result<(), Failure> {
    let token = args.api_token_file.as_deref().map(read_token).transpose()?;
    let client = Client::new(&args.url, token, args.tls_ca.as_deref());
    work(&client.map_err(|error| Failure::new(USAGE, error))?)
}

fn node(args: NodeArgs) -> Result<(), Failure> {
    let config = settings(args)?;
    start_log(&config.log, config.log_format)?;
    in_system(async {
        let mut signals = Signals::listen().map_err(|error| Failure::new(FAILURE, error))?;
        let node = Node::start(&config).await.map_err(|error| match error {
            StartError::Tls(error) => Failure::new(USAGE, error),
            error => Failure::new(FAILURE, error),
        })?;
        say(&ready_line(&node));
        signals.first().await;
        let _ = writeln!(std::io::stderr(), "stopping; once more to stop at once");
        signals.exit_on_second();
        node.stop().await;
        Ok(())
    })
}

/// What programs that start a node wait for: one line of JSON.
fn ready_line(node: &Node) -> String {
    serde_json::json!({
        "http": node.http_address().to_string(),
        "p2p": node.p2p_address().to_string(),
        "data_dir": node.data_dir().display().to_string(),
        "pid": std::process::id(),
    })
    .to_string()
}

fn settings(args: NodeArgs) -> Result<Config, Failure> {
    let flags = Layer {
        http: args.http,
        p2p: args.p2p,
        data_dir: args.data_dir,
        peers: (!args.peers.is_empty()).then_some(args.peers),
        allowed_hosts: (!args.allowed_hosts.is_empty()).then_some(args.allowed_hosts),
        api_token_file: args.api_token_file,
        cluster_key_file: args.cluster_key_file,
        tls_cert: args.tls_cert,
        tls_key: args.tls_key,
        tls_ca: args.tls_ca,
        scrub_rate: args.scrub_rate,
        max_reorg: args.max_reorg,
        max_inbound: args.max_inbound,
        max_outbound: args.max_outbound,
        max_per_address: args.max_per_address,
        log: args.log.log,
        log_format: args.log.log_format,
    };
    let file = match &args.config {
        None => Layer::default(),
        Some(path) => {
            let path_name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::File { path: path_name.clone(), why: error.to_string() })?;
            config::parse_file(&path_name, &text)?
        }
    };
    let environment = environment()?;
    let token_file = [&flags, &environment, &file].into_iter().find_map(|layer| layer.api_token_file.clone());
    let key_file = [&flags, &environment, &file].into_iter().find_map(|layer| layer.cluster_key_file.clone());
    let mut config = Config::from_layers(flags, environment, file)?;
    config.cluster_key = key_file.as_deref().map(read_cluster_key).transpose()?;
    config.api_token = token_file.as_deref().map(read_token).transpose()?;
    config.allowed_hosts.extend(own_host_name());
    Ok(config)
}

/// The token in a file.
fn read_token(path: &Path) -> Result<Arc<str>, ConfigError> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => config::parse_token(&name, &text),
        Err(error) => Err(ConfigError::Token { path: name, why: error.to_string() }),
    }
}

/// The cluster key in a file that only its owner and group may read.
fn read_cluster_key(path: &Path) -> Result<ClusterKey, ConfigError> {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    /// Read and write for everybody else on the machine.
    const OTHERS: u32 = 0o006;
    let bad = |why: String| ConfigError::ClusterKey { path: path.display().to_string(), why };
    let file = std::fs::File::open(path).map_err(|error| bad(error.to_string()))?;
    let mode = file.metadata().map_err(|error| bad(error.to_string()))?.permissions().mode();
    if mode & OTHERS != 0 {
        return Err(bad(format!(
            "every user of this machine may read or change it (mode {:03o}); run: chmod 600 {}",
            mode & 0o777,
            path.display()
        )));
    }
    let mut text = String::new();
    // One byte more than a key can have tells a file that is none, however long it is.
    file.take(MAX_KEY_TEXT as u64 + 1).read_to_string(&mut text).map_err(|error| bad(error.to_string()))?;
    ClusterKey::parse(&text).map_err(|error| bad(error.to_string()))
}

/// What this machine calls itself, as far as it says.
fn own_host_name() -> Option<String> {
    let name = gethostname::gethostname().into_string().ok()?.to_ascii_lowercase();
    (!name.is_empty()).then_some(name)
}

fn environment() -> Result<Layer, ConfigError> {
    let text = |name: std::ffi::OsString| name.into_string().ok();
    let variables: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
    config::parse_environment(&variables)
}

fn devnet(args: DevnetArgs) -> Result<(), Failure> {
    let variables = environment()?;
    let log = args.log.log.or(variables.log).unwrap_or_else(|| "warn".to_owned());
    start_log(&log, args.log.log_format.or(variables.log_format).unwrap_or_default())?;
    let plan =
        devnet::Plan { nodes: args.nodes, http_port: args.http_port, p2p_port: args.p2p_port, data_dir: args.data_dir };
    in_system(async {
        let mut signals = Signals::listen().map_err(|error| Failure::new(FAILURE, error))?;
        let devnet = devnet::Devnet::start(plan).await.map_err(|error| Failure::new(FAILURE, error))?;
        say(&devnet.welcome());
        signals.first().await;
        let _ = writeln!(std::io::stderr(), "stopping; once more to stop at once");
        signals.exit_on_second();
        devnet.stop().await;
        Ok(())
    })
}

/// Prints data. A reader that went away does not want it.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn start_log(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(format!("actix_server=warn,{filter}"))
        .map_err(|error| Failure::new(USAGE, format!("--log {filter}: {error}")))?;
    let terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    let pretty = match format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let started = if pretty {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        let fields = debug_fn(plain_field).delimited(" ");
        log.fmt_fields(fields).with_writer(std::io::stderr).with_ansi(colour).with_target(false).try_init()
    } else {
        let writer = || JsonOut::new(std::io::stderr());
        log.with_writer(writer).json().flatten_event(true).with_current_span(false).try_init()
    };
    started.map_err(|error| Failure::new(FAILURE, error))
}

/// A field of a log line for people: its value may come from anybody.
fn plain_field(out: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug) -> std::fmt::Result {
    let value = format!("{value:?}");
    let value = text::plain(&value);
    if field.name() == "message" { write!(out, "{value}") } else { write!(out, "{field}={value}") }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_line_for_people_obeys_nobody() {
        let lines = Lines::default();
        let out = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || out.clone()).with_ansi(false).with_target(false);
        let log = log.without_time().fmt_fields(debug_fn(plain_field).delimited(" ")).finish();
        tracing::subscriber::with_default(log, || {
            let said = "\u{1b}[2J\u{9b}31m\u{202e}";
            tracing::warn!(peer = %said, reason = said, number = 7, "dropped: {said}");
        });
        let text = String::from_utf8(lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).expect("UTF-8");
        let shown = r"\u{1b}[2J\u{9b}31m\u{202e}";
        assert_eq!(text, format!(" WARN dropped: {shown} peer={shown} reason=\"{shown}\" number=7\n"));
    }
}
