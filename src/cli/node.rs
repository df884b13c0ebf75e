//! `dolmen node` and `dolmen devnet`: from flags, environment and file to a running node.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use super::lines::Lines;
use super::output::colour_on;
use super::{service, talk};
use crate::config::{self, Config, ConfigError, Layer, LogFormat};
use crate::devnet;
use crate::exit::{FAILURE, Failure, USAGE, in_system};
use crate::node::{Node, StartError};
use crate::peer::proof::{ClusterKey, MAX_KEY_TEXT};
use crate::signals::Signals;
use crate::text;

#[derive(Debug, Args)]
pub struct NodeArgs {
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
    /// Connections of HTTP clients; of more than these the stillest goes [env: DOLMEN_MAX_CLIENTS] [default: 1024]
    #[arg(long, value_name = "CLIENTS")]
    max_clients: Option<usize>,
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
pub struct DevnetArgs {
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

impl NodeArgs {
    pub fn run(self) -> Result<(), Failure> {
        let config = self.sources()?.config()?;
        start_log(&config.log, config.log_format)?;
        allow_files();
        in_system(async {
            let mut signals = Signals::listen().map_err(|error| Failure::new(FAILURE, error))?;
            let node = Node::start(&config).await.map_err(|error| match error {
                StartError::Tls(error) => Failure::new(USAGE, error),
                error => Failure::new(FAILURE, error),
            })?;
            let people = std::io::stdout().is_terminal();
            say(&if people { ready_words(&node, config.tls.identity.is_some()) } else { ready_line(&node) });
            service::tell(&service::ready(node.http_address(), node.p2p_address()));
            signals.first().await;
            service::tell(service::STOPPING);
            talk("stopping; once more to stop at once");
            signals.exit_on_second();
            node.stop().await;
            Ok(())
        })
    }

    /// What flags, environment and file say, each by itself.
    pub fn sources(self) -> Result<Sources, Failure> {
        let flags = Layer {
            http: self.http,
            p2p: self.p2p,
            data_dir: self.data_dir,
            peers: (!self.peers.is_empty()).then_some(self.peers),
            allowed_hosts: (!self.allowed_hosts.is_empty()).then_some(self.allowed_hosts),
            api_token_file: self.api_token_file,
            cluster_key_file: self.cluster_key_file,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            tls_ca: self.tls_ca,
            scrub_rate: self.scrub_rate,
            max_reorg: self.max_reorg,
            max_inbound: self.max_inbound,
            max_outbound: self.max_outbound,
            max_per_address: self.max_per_address,
            max_clients: self.max_clients,
            log: self.log.log,
            log_format: self.log.log_format,
        };
        let (file, file_text) = match &self.config {
            None => (Layer::default(), String::new()),
            Some(path) => {
                let path_name = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ConfigError::File { path: path_name.clone(), why: error.to_string() })?;
                (config::parse_file(&path_name, &text)?, text)
            }
        };
        let variables = variables();
        let environment = config::parse_environment(&variables)?;
        Ok(Sources { flags, environment, variables, file, file_path: self.config, file_text })
    }
}

/// What each source of settings says.
pub struct Sources {
    pub flags: Layer,
    pub environment: Layer,
    /// The environment as it is.
    pub variables: BTreeMap<String, String>,
    pub file: Layer,
    /// Where the file is, if there is one.
    pub file_path: Option<PathBuf>,
    /// The file as it is.
    pub file_text: String,
}

impl Sources {
    /// What a node makes of them.
    pub fn config(&self) -> Result<Config, Failure> {
        let layers = [&self.flags, &self.environment, &self.file];
        let token_file = layers.into_iter().find_map(|layer| layer.api_token_file.clone());
        let key_file = layers.into_iter().find_map(|layer| layer.cluster_key_file.clone());
        let mut config = Config::from_layers(self.flags.clone(), self.environment.clone(), self.file.clone())?;
        config.cluster_key = key_file.as_deref().map(read_cluster_key).transpose()?;
        config.api_token = token_file.as_deref().map(read_token).transpose()?;
        config.allowed_hosts.extend(own_host_name());
        Ok(config)
    }
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

/// The same for people.
fn ready_words(node: &Node, tls: bool) -> String {
    let (http, ws) = if tls { ("https", "wss") } else { ("http", "ws") };
    let (page, peers, folder) = (node.http_address(), node.p2p_address(), node.data_dir().display());
    format!("The explorer and the API: {http}://{page}/  Peers: {ws}://{peers}  Folder: {folder}  Ctrl-C stops.")
}

/// The token in a file.
pub fn read_token(path: &Path) -> Result<Arc<str>, ConfigError> {
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

/// The environment, as far as it is text.
fn variables() -> BTreeMap<String, String> {
    let text = |name: std::ffi::OsString| name.into_string().ok();
    std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
}

impl DevnetArgs {
    pub fn run(self) -> Result<(), Failure> {
        let variables = config::parse_environment(&variables())?;
        let log = self.log.log.or(variables.log).unwrap_or_else(|| "warn".to_owned());
        start_log(&log, self.log.log_format.or(variables.log_format).unwrap_or_default())?;
        let plan = devnet::Plan {
            nodes: self.nodes,
            http_port: self.http_port,
            p2p_port: self.p2p_port,
            data_dir: self.data_dir,
        };
        in_system(async {
            let mut signals = Signals::listen().map_err(|error| Failure::new(FAILURE, error))?;
            let devnet = devnet::Devnet::start(plan).await.map_err(|error| Failure::new(FAILURE, error))?;
            say(&devnet.welcome());
            signals.first().await;
            talk("stopping; once more to stop at once");
            signals.exit_on_second();
            devnet.stop().await;
            Ok(())
        })
    }
}

/// Lets the process have as many files and sockets open as the system grants: 1,024, which many shells set at first, are
/// fewer than the connections that may be open.
fn allow_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where the system refuses, what there is has to do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Prints data. A reader that went away does not want it.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn start_log(filter: &str, format: LogFormat) -> Result<(), Failure> {
    // Whoever sends what is no HTTP is told so, and causes a line of actix_http's each time: a flood without a count.
    let filter = EnvFilter::try_new(format!("actix_server=warn,actix_http=off,{filter}"))
        .map_err(|error| Failure::new(USAGE, format!("--log {filter}: {error}")))?;
    let terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    let pretty = match format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let started = if pretty {
        let fields = debug_fn(plain_field).delimited(" ");
        let log = log.fmt_fields(fields).with_writer(std::io::stderr);
        log.with_ansi(colour_on(terminal)).with_target(false).try_init()
    } else {
        log.with_writer(Lines::new()).json().flatten_event(true).with_current_span(false).try_init()
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
