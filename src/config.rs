//! Settings: flags, environment, a TOML file and defaults become one [`Config`] of real types.
//!
//! Owns the names and defaults of all settings of a node. Reads nothing by itself: the caller brings the flags, the
//! environment and the file's text, so that a test can bring others.
//!
//! | flag | environment | file | default |
//! | --- | --- | --- | --- |
//! | `--http` | `DOLMEN_HTTP`, `PORT` | `http` | `127.0.0.1:3000` |
//! | `--p2p` | `DOLMEN_P2P`, `WS_PORT` | `p2p` | `127.0.0.1:6005` |
//! | `--data-dir` | `DOLMEN_DATA_DIR` | `data_dir` | `dolmen-data` |
//! | `--peer` (repeated) | `DOLMEN_PEERS` (commas) | `peers` | none |
//! | `--allowed-host` (repeated) | `DOLMEN_ALLOWED_HOSTS` (commas) | `allowed_hosts` | none |
//! | `--api-token-file` | `DOLMEN_API_TOKEN_FILE` | `api_token_file` | none |
//! | `--cluster-key-file` | `DOLMEN_CLUSTER_KEY_FILE` | `cluster_key_file` | none |
//! | `--tls-cert` | `DOLMEN_TLS_CERT` | `tls_cert` | none |
//! | `--tls-key` | `DOLMEN_TLS_KEY` | `tls_key` | none |
//! | `--tls-ca` | `DOLMEN_TLS_CA` | `tls_ca` | none |
//! | `--scrub-rate` | `DOLMEN_SCRUB_RATE` | `scrub_rate` | 1024 |
//! | `--max-reorg` | `DOLMEN_MAX_REORG` | `max_reorg` | 1000 |
//! | `--max-inbound` | `DOLMEN_MAX_INBOUND` | `max_inbound` | 64 |
//! | `--max-outbound` | `DOLMEN_MAX_OUTBOUND` | `max_outbound` | 16 |
//! | `--max-per-address` | `DOLMEN_MAX_PER_ADDRESS` | `max_per_address` | 8 |
//! | `--log` | `DOLMEN_LOG` | `log` | `info` |
//! | `--log-format` | `DOLMEN_LOG_FORMAT` | `log_format` | `auto` |
//!
//! A flag goes before the environment, that before the file, that before the default; lists are not merged. `PORT` and
//! `WS_PORT`, the tutorial's names, are ports on 127.0.0.1.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::peer::address::PeerAddress;
use crate::peer::proof::ClusterKey;
use crate::peer::slots::Slots;

/// Port of the HTTP server unless another is set.
pub const DEFAULT_HTTP_PORT: u16 = 3000;

/// Port of the peer server unless another is set.
pub const DEFAULT_P2P_PORT: u16 = 6005;

/// Blocks that a stranger's branch may undo: more than any honest partition of a small network leaves, and few enough that
/// a person can look at them.
pub const DEFAULT_MAX_REORG: u64 = 1000;

/// KiB per second in which the chain on disk is read and judged again in the background: a hundredth of what one core
/// can do, and a gigabyte still within twenty minutes.
pub const DEFAULT_SCRUB_RATE: u64 = 1024;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// The files that TLS is spoken with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsFiles {
    /// Certificate chain and private key that HTTP and the peer port are served with; plain if `None`.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Certificates of the authorities that peers behind `wss://` are signed by; none can be dialled if `None`.
    pub ca: Option<PathBuf>,
}

/// The settings of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where HTTP listens; port 0 takes a free one.
    pub http: SocketAddr,
    /// Where peers are listened for; port 0 takes a free one.
    pub p2p: SocketAddr,
    /// Where the chain is kept.
    pub data_dir: PathBuf,
    /// Peers to link with.
    pub peers: Vec<PeerAddress>,
    /// Host names that HTTP answers to, besides addresses and `localhost`.
    pub allowed_hosts: Vec<String>,
    /// What a request that changes something must show; nothing if `None`.
    pub api_token: Option<Arc<str>>,
    /// What peers have to hold; links are open to everybody if `None`.
    pub cluster_key: Option<ClusterKey>,
    /// Files for TLS.
    pub tls: TlsFiles,
    /// KiB per second in which the chain on disk is judged again; 0 for not at all.
    pub scrub_rate: u64,
    /// Blocks that a stranger's branch may undo.
    pub max_reorg: u64,
    /// How many links there may be.
    pub slots: Slots,
    /// Which log lines are written, as `level` or `module=level,…`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_HTTP_PORT)),
            p2p: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_P2P_PORT)),
            data_dir: PathBuf::from("dolmen-data"),
            peers: Vec::new(),
            allowed_hosts: Vec::new(),
            api_token: None,
            cluster_key: None,
            tls: TlsFiles::default(),
            scrub_rate: DEFAULT_SCRUB_RATE,
            max_reorg: DEFAULT_MAX_REORG,
            slots: Slots::default(),
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
        }
    }
}

/// A setting that cannot be used, in one sentence.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// A value that is not of its type.
    #[error("{name}: {why}")]
    Value {
        /// The flag, variable or key.
        name: String,
        /// What is wrong with its value.
        why: String,
    },
    /// A variable that begins with `DOLMEN_` and means nothing.
    #[error("the environment variable {name} is not a setting of dolmen; the settings are {known}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// All there are.
        known: String,
    },
    /// The file is not TOML, or has an unknown key.
    #[error("the configuration file {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The token's file cannot be read, or holds no token.
    #[error("the token file {path}: {why}")]
    Token {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The cluster key's file cannot be read, may be read by too many, or holds no key.
    #[error("the cluster key file {path}: {why}")]
    ClusterKey {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A setting that is worth nothing without another.
    #[error("{one} needs {other} as well")]
    Half {
        /// The setting.
        one: &'static str,
        /// The one that is missing.
        other: &'static str,
    },
    /// Two settings that cannot both hold.
    #[error("{one} and {other} contradict each other: {why}")]
    Contradiction {
        /// One setting.
        one: String,
        /// The other.
        other: String,
        /// Why they cannot both hold.
        why: String,
    },
}

/// What one source says; `None` where it says nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layer {
    /// See [`Config::http`].
    pub http: Option<String>,
    /// See [`Config::p2p`].
    pub p2p: Option<String>,
    /// See [`Config::data_dir`].
    pub data_dir: Option<PathBuf>,
    /// See [`Config::peers`].
    pub peers: Option<Vec<String>>,
    /// See [`Config::allowed_hosts`].
    pub allowed_hosts: Option<Vec<String>>,
    /// File with [`Config::api_token`].
    pub api_token_file: Option<PathBuf>,
    /// File with [`Config::cluster_key`].
    pub cluster_key_file: Option<PathBuf>,
    /// See [`Config::tls`].
    pub tls_cert: Option<PathBuf>,
    /// See [`Config::tls`].
    pub tls_key: Option<PathBuf>,
    /// See [`Config::tls`].
    pub tls_ca: Option<PathBuf>,
    /// See [`Config::scrub_rate`].
    pub scrub_rate: Option<u64>,
    /// See [`Config::max_reorg`].
    pub max_reorg: Option<u64>,
    /// See [`Slots::inbound`].
    pub max_inbound: Option<usize>,
    /// See [`Slots::outbound`].
    pub max_outbound: Option<usize>,
    /// See [`Slots::per_address`].
    pub max_per_address: Option<usize>,
    /// See [`Config::log`].
    pub log: Option<String>,
    /// See [`Config::log_format`].
    pub log_format: Option<LogFormat>,
}

impl Layer {
    /// What holds where no source says anything, as a source would say it.
    #[must_use]
    pub fn defaults() -> Self {
        let Config {
            http,
            p2p,
            data_dir,
            peers,
            allowed_hosts,
            api_token: _,
            cluster_key: _,
            tls: _,
            scrub_rate,
            max_reorg,
            slots,
            log,
            log_format,
        } = Config::default();
        Self {
            http: Some(http.to_string()),
            p2p: Some(p2p.to_string()),
            data_dir: Some(data_dir),
            peers: Some(peers.iter().map(ToString::to_string).collect()),
            allowed_hosts: Some(allowed_hosts),
            api_token_file: None,
            cluster_key_file: None,
            tls_cert: None,
            tls_key: None,
            tls_ca: None,
            scrub_rate: Some(scrub_rate),
            max_reorg: Some(max_reorg),
            max_inbound: Some(slots.inbound),
            max_outbound: Some(slots.outbound),
            max_per_address: Some(slots.per_address),
            log: Some(log),
            log_format: Some(log_format),
        }
    }
}

/// Where a value came from, and its name there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// The configuration file.
    File,
}

impl Source {
    /// What a setting is called there, by its key in the file.
    #[must_use]
    pub fn name(self, key: &str) -> String {
        match self {
            Self::Flag => match key {
                "peers" => "--peer".to_owned(),
                "allowed_hosts" => "--allowed-host".to_owned(),
                _ => format!("--{}", key.replace('_', "-")),
            },
            Self::Environment => format!("DOLMEN_{}", key.to_uppercase()),
            Self::File => format!("{key} in the configuration file"),
        }
    }
}

const VARIABLES: [&str; 17] = [
    "DOLMEN_HTTP",
    "DOLMEN_P2P",
    "DOLMEN_DATA_DIR",
    "DOLMEN_PEERS",
    "DOLMEN_ALLOWED_HOSTS",
    "DOLMEN_API_TOKEN_FILE",
    "DOLMEN_CLUSTER_KEY_FILE",
    "DOLMEN_TLS_CERT",
    "DOLMEN_TLS_KEY",
    "DOLMEN_TLS_CA",
    "DOLMEN_SCRUB_RATE",
    "DOLMEN_MAX_REORG",
    "DOLMEN_MAX_INBOUND",
    "DOLMEN_MAX_OUTBOUND",
    "DOLMEN_MAX_PER_ADDRESS",
    "DOLMEN_LOG",
    "DOLMEN_LOG_FORMAT",
];

/// Variables that name the file and the client's node; read elsewhere.
const OTHER_VARIABLES: [&str; 2] = ["DOLMEN_CONFIG", "DOLMEN_URL"];

/// Reads a configuration file's text.
///
/// # Errors
/// It is not TOML, or has an unknown key or a value of a wrong type.
pub fn parse_file(path: &str, text: &str) -> Result<Layer, ConfigError> {
    toml::from_str(text)
        .map_err(|error| ConfigError::File { path: path.to_owned(), why: error.to_string().trim().replace('\n', " ") })
}

/// Reads the environment's settings.
///
/// # Errors
/// A value of a wrong type, an unknown name that begins with `DOLMEN_`, or two names that disagree.
pub fn parse_environment(variables: &BTreeMap<String, String>) -> Result<Layer, ConfigError> {
    let stranger = |name: &&String| {
        name.starts_with("DOLMEN_") && !VARIABLES.contains(&name.as_str()) && !OTHER_VARIABLES.contains(&name.as_str())
    };
    if let Some(name) = variables.keys().find(stranger) {
        return Err(ConfigError::UnknownVariable { name: name.clone(), known: VARIABLES.join(", ") });
    }
    let text = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
    let count = |name: &str| text(name).map(|text| number(name, &text)).transpose();
    Ok(Layer {
        http: with_port(text("DOLMEN_HTTP"), "DOLMEN_HTTP", text("PORT"), "PORT")?,
        p2p: with_port(text("DOLMEN_P2P"), "DOLMEN_P2P", text("WS_PORT"), "WS_PORT")?,
        data_dir: text("DOLMEN_DATA_DIR").map(PathBuf::from),
        peers: text("DOLMEN_PEERS").map(|list| items(&list)),
        allowed_hosts: text("DOLMEN_ALLOWED_HOSTS").map(|list| items(&list)),
        api_token_file: text("DOLMEN_API_TOKEN_FILE").map(PathBuf::from),
        cluster_key_file: text("DOLMEN_CLUSTER_KEY_FILE").map(PathBuf::from),
        tls_cert: text("DOLMEN_TLS_CERT").map(PathBuf::from),
        tls_key: text("DOLMEN_TLS_KEY").map(PathBuf::from),
        tls_ca: text("DOLMEN_TLS_CA").map(PathBuf::from),
        scrub_rate: text("DOLMEN_SCRUB_RATE").map(|text| number("DOLMEN_SCRUB_RATE", &text)).transpose()?,
        max_reorg: text("DOLMEN_MAX_REORG").map(|text| number("DOLMEN_MAX_REORG", &text)).transpose()?,
        max_inbound: count("DOLMEN_MAX_INBOUND")?,
        max_outbound: count("DOLMEN_MAX_OUTBOUND")?,
        max_per_address: count("DOLMEN_MAX_PER_ADDRESS")?,
        log: text("DOLMEN_LOG"),
        log_format: text("DOLMEN_LOG_FORMAT")
            .map(|text| {
                clap::ValueEnum::from_str(&text, true).map_err(|_| ConfigError::Value {
                    name: "DOLMEN_LOG_FORMAT".into(),
                    why: format!("{text:?} is not auto, pretty or json"),
                })
            })
            .transpose()?,
    })
}

/// The items of a list with commas.
fn items(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// An address, and the tutorial's variable for its port.
fn with_port(
    address: Option<String>,
    address_name: &str,
    port: Option<String>,
    port_name: &str,
) -> Result<Option<String>, ConfigError> {
    let Some(port) = port else { return Ok(address) };
    let port: u16 = number(port_name, &port)?;
    let Some(address) = address else { return Ok(Some(format!("127.0.0.1:{port}"))) };
    if socket_address(address_name, &address)?.port() == port {
        return Ok(Some(address));
    }
    Err(ConfigError::Contradiction {
        one: format!("{address_name}={address}"),
        other: format!("{port_name}={port}"),
        why: "unset one of them".into(),
    })
}

fn number<N: FromStr<Err: fmt::Display>>(name: &str, text: &str) -> Result<N, ConfigError> {
    text.trim()
        .parse()
        .map_err(|error| ConfigError::Value { name: name.to_owned(), why: format!("{text:?} is not usable: {error}") })
}

fn socket_address(name: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    let bad = |why: String| ConfigError::Value {
        name: name.to_owned(),
        why: format!("{text:?} is not an address like 127.0.0.1:3000{why}"),
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let mut addresses = text.to_socket_addrs().map_err(|error| bad(format!(" ({error})")))?;
    addresses.next().ok_or_else(|| bad(String::new()))
}

/// Characters of a token at least: shorter ones can be guessed.
const MIN_TOKEN: usize = 16;

/// The token in a file's text.
///
/// # Errors
/// It is too short, or cannot stand in a header.
pub fn parse_token(path: &str, text: &str) -> Result<Arc<str>, ConfigError> {
    let token = text.trim();
    let visible = token.bytes().all(|c| c.is_ascii_graphic());
    if token.len() >= MIN_TOKEN && visible {
        return Ok(token.into());
    }
    Err(ConfigError::Token {
        path: path.to_owned(),
        why: format!("a token has at least {MIN_TOKEN} visible ASCII characters and no spaces"),
    })
}

/// Links at the most, of any kind: each takes a descriptor, and a connection at the peer port four.
const MAX_LINKS: usize = 4096;

fn slots(layers: &[(Source, Layer)]) -> Result<Slots, ConfigError> {
    let pick = |key: &str, of: fn(&Layer) -> Option<usize>, default: usize| {
        let Some((source, links)) = layers.iter().find_map(|(source, layer)| Some((*source, of(layer)?))) else {
            return Ok(default);
        };
        if links <= MAX_LINKS {
            return Ok(links);
        }
        Err(ConfigError::Value { name: source.name(key), why: format!("{links} is more than {MAX_LINKS} links") })
    };
    let default = Slots::default();
    Ok(Slots {
        inbound: pick("max_inbound", |layer| layer.max_inbound, default.inbound)?,
        outbound: pick("max_outbound", |layer| layer.max_outbound, default.outbound)?,
        per_address: pick("max_per_address", |layer| layer.max_per_address, default.per_address)?,
    })
}

impl Config {
    /// Puts the sources together.
    ///
    /// # Errors
    /// The first value that is not of its type, or two that contradict each other.
    pub fn from_layers(flags: Layer, environment: Layer, file: Layer) -> Result<Self, ConfigError> {
        let default = Self::default();
        let layers = [(Source::Flag, flags), (Source::Environment, environment), (Source::File, file)];
        let pick = |key: &str, of: fn(&Layer) -> Option<String>| {
            layers.iter().find_map(|(source, layer)| Some((source.name(key), of(layer)?)))
        };
        let http = match pick("http", |layer| layer.http.clone()) {
            Some((name, text)) => socket_address(&name, &text)?,
            None => default.http,
        };
        let p2p = match pick("p2p", |layer| layer.p2p.clone()) {
            Some((name, text)) => socket_address(&name, &text)?,
            None => default.p2p,
        };
        if http.port() == p2p.port() && http.port() != 0 {
            return Err(ConfigError::Contradiction {
                one: format!("http {http}"),
                other: format!("p2p {p2p}"),
                why: "they need different ports".into(),
            });
        }
        let peers = match layers.iter().find_map(|(source, layer)| Some((source.name("peers"), layer.peers.as_ref()?)))
        {
            Some((name, list)) => list
                .iter()
                .map(|text| {
                    text.parse().map_err(|error: crate::peer::address::AddressError| ConfigError::Value {
                        name: name.clone(),
                        why: error.to_string(),
                    })
                })
                .collect::<Result<_, _>>()?,
            None => default.peers,
        };
        let path = |of: fn(&Layer) -> Option<PathBuf>| layers.iter().find_map(|(_, layer)| of(layer));
        let identity = match (path(|layer| layer.tls_cert.clone()), path(|layer| layer.tls_key.clone())) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(ConfigError::Half { one: "--tls-cert", other: "--tls-key" }),
            (None, Some(_)) => return Err(ConfigError::Half { one: "--tls-key", other: "--tls-cert" }),
        };
        let first = |of: fn(&Layer) -> Option<u64>| layers.iter().find_map(|(_, layer)| of(layer));
        Ok(Self {
            http,
            p2p,
            data_dir: layers.iter().find_map(|(_, layer)| layer.data_dir.clone()).unwrap_or(default.data_dir),
            peers,
            allowed_hosts: layers
                .iter()
                .find_map(|(_, layer)| layer.allowed_hosts.clone())
                .unwrap_or(default.allowed_hosts),
            api_token: None,
            cluster_key: None,
            tls: TlsFiles { identity, ca: path(|layer| layer.tls_ca.clone()) },
            scrub_rate: first(|layer| layer.scrub_rate).unwrap_or(default.scrub_rate),
            max_reorg: first(|layer| layer.max_reorg).unwrap_or(default.max_reorg),
            slots: slots(&layers)?,
            log: layers.iter().find_map(|(_, layer)| layer.log.clone()).unwrap_or(default.log),
            log_format: layers.iter().find_map(|(_, layer)| layer.log_format).unwrap_or(default.log_format),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Result<Layer, ConfigError> {
        parse_environment(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn nothing_said_gives_the_defaults() {
        let config = Config::from_layers(Layer::default(), Layer::default(), Layer::default()).expect("defaults");
        assert_eq!(config, Config::default());
        assert_eq!(config.http, address("127.0.0.1:3000"));
        assert_eq!(config.p2p, address("127.0.0.1:6005"));
    }

    #[test]
    fn a_flag_goes_before_the_environment_and_that_before_the_file() {
        let file =
            parse_file("f", "http = '127.0.0.1:1'\np2p = '127.0.0.1:2'\nmax_reorg = 5\nlog = 'warn'").expect("TOML");
        let env = environment(&[("DOLMEN_HTTP", "127.0.0.1:3"), ("DOLMEN_MAX_REORG", "6")]).expect("variables");
        let flags = Layer { http: Some("127.0.0.1:4".into()), ..Layer::default() };
        let config = Config::from_layers(flags, env, file).expect("layers");
        assert_eq!((config.http, config.p2p), (address("127.0.0.1:4"), address("127.0.0.1:2")));
        assert_eq!((config.max_reorg, config.log.as_str()), (6, "warn"));
    }

    #[test]
    fn the_number_of_links_is_set_alike() {
        let file = parse_file("f", "max_inbound = 5\nmax_outbound = 6\nmax_per_address = 7").expect("TOML");
        let env = environment(&[("DOLMEN_MAX_INBOUND", "8"), ("DOLMEN_MAX_PER_ADDRESS", "9")]).expect("variables");
        let flags = Layer { max_per_address: Some(0), ..Layer::default() };
        let config = Config::from_layers(flags, env, file).expect("layers");
        assert_eq!(config.slots, Slots { inbound: 8, outbound: 6, per_address: 0 });
        let flags = Layer { max_inbound: Some(5000), ..Layer::default() };
        let error = Config::from_layers(flags, Layer::default(), Layer::default()).expect_err("too many");
        assert_eq!(error.to_string(), "--max-inbound: 5000 is more than 4096 links");
        assert!(environment(&[("DOLMEN_MAX_OUTBOUND", "-1")]).is_err());
    }

    #[test]
    fn the_tutorials_variables_work_and_may_not_contradict_ours() {
        let layer = environment(&[("PORT", "3005"), ("WS_PORT", "6010")]).expect("ports");
        assert_eq!((layer.http.as_deref(), layer.p2p.as_deref()), (Some("127.0.0.1:3005"), Some("127.0.0.1:6010")));
        let same = environment(&[("PORT", "3005"), ("DOLMEN_HTTP", "0.0.0.0:3005")]).expect("the same port");
        assert_eq!(same.http.as_deref(), Some("0.0.0.0:3005"));
        let error = environment(&[("PORT", "3005"), ("DOLMEN_HTTP", "0.0.0.0:3006")]).expect_err("two ports");
        assert_eq!(
            error.to_string(),
            "DOLMEN_HTTP=0.0.0.0:3006 and PORT=3005 contradict each other: unset one of them"
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let say = |result: Result<Config, ConfigError>| result.expect_err("bad").to_string();
        let flags = |layer| Config::from_layers(layer, Layer::default(), Layer::default());
        assert!(
            say(flags(Layer { http: Some("3000".into()), ..Layer::default() }))
                .starts_with("--http: \"3000\" is not an address like 127.0.0.1:3000")
        );
        assert_eq!(
            say(flags(Layer { http: Some("127.0.0.1:6005".into()), ..Layer::default() })),
            "http 127.0.0.1:6005 and p2p 127.0.0.1:6005 contradict each other: they need different ports"
        );
        assert!(
            say(flags(Layer { peers: Some(vec!["http://x".into()]), ..Layer::default() }))
                .starts_with("--peer: \"http://x\"")
        );
        let unknown = environment(&[("DOLMEN_HTPP", "x")]).expect_err("a typing error").to_string();
        assert!(unknown.starts_with("the environment variable DOLMEN_HTPP is not a setting of dolmen"), "{unknown}");
        assert_eq!(
            environment(&[("PORT", "70000")]).expect_err("too large").to_string(),
            "PORT: \"70000\" is not usable: number too large to fit in target type"
        );
        let file = parse_file("node.toml", "htpp = 1").expect_err("unknown key").to_string();
        assert!(file.starts_with("the configuration file node.toml:") && file.contains("htpp"), "{file}");
    }

    #[test]
    fn a_token_is_long_and_can_stand_in_a_header() {
        assert_eq!(parse_token("t", " 0123456789abcdef\n").expect("a token").as_ref(), "0123456789abcdef");
        for bad in ["", "0123456789abcde", "0123456789 abcdef", "0123456789abcdé0"] {
            assert_eq!(
                parse_token("t", bad).expect_err("no token").to_string(),
                "the token file t: a token has at least 16 visible ASCII characters and no spaces",
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_list_of_peers_comes_from_one_source() {
        let env = environment(&[("DOLMEN_PEERS", "ws://a:1, ws:b:2,")]).expect("peers");
        let config = Config::from_layers(Layer::default(), env.clone(), Layer::default()).expect("peers");
        assert_eq!(config.peers, [PeerAddress::new("a", 1), PeerAddress::new("b", 2)]);
        let flags = Layer { peers: Some(vec!["ws://c:3".into()]), ..Layer::default() };
        let config = Config::from_layers(flags, env, Layer::default()).expect("peers");
        assert_eq!(config.peers, [PeerAddress::new("c", 3)]);
    }
}
