//! Settings: flags, environment, a TOML file and defaults become one [`Config`] of real types.
//!
//! Owns the names and defaults of all settings of a node. Reads nothing by itself: the caller brings the flags, the
//! environment and the file's text, so that a test can bring others. `layer` is what one source says, `environment` how
//! variables become one.
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
//! | `--max-clients` | `DOLMEN_MAX_CLIENTS` | `max_clients` | 1024 |
//! | `--log` | `DOLMEN_LOG` | `log` | `info` |
//! | `--log-format` | `DOLMEN_LOG_FORMAT` | `log_format` | `auto` |
//!
//! A flag goes before the environment, that before the file, that before the default; lists are not merged. `PORT` and
//! `WS_PORT`, the tutorial's names, are ports on 127.0.0.1.

mod environment;
mod error;
mod layer;

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::peer::address::{AddressError, PeerAddress};
use crate::peer::proof::ClusterKey;
use crate::peer::slots::Slots;

pub use environment::parse_environment;
pub use error::ConfigError;
pub use layer::{Layer, Source, parse_file};

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

/// Connections of HTTP clients at once, unless set. At some 30 KiB each they take a quarter of the memory that an attack may
/// cost, and with two file descriptors each they leave room below the 4,096 that most systems grant.
pub const DEFAULT_MAX_CLIENTS: usize = 1_024;

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
    /// Connections of HTTP clients at once; of more than these the stillest goes.
    pub max_clients: usize,
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
            max_clients: DEFAULT_MAX_CLIENTS,
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
        }
    }
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
                    text.parse().map_err(|error: AddressError| ConfigError::Value {
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
            max_clients: max_clients(&layers)?,
            log: layers.iter().find_map(|(_, layer)| layer.log.clone()).unwrap_or(default.log),
            log_format: layers.iter().find_map(|(_, layer)| layer.log_format).unwrap_or(default.log_format),
        })
    }
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

/// HTTP clients at the most: each takes two descriptors, and a system has a million at the most.
const MOST_CLIENTS: usize = 65_536;

fn max_clients(layers: &[(Source, Layer)]) -> Result<usize, ConfigError> {
    let set = layers.iter().find_map(|(source, layer)| Some((*source, layer.max_clients?)));
    match set {
        None => Ok(Config::default().max_clients),
        Some((_, clients)) if (1..=MOST_CLIENTS).contains(&clients) => Ok(clients),
        Some((source, clients)) => Err(ConfigError::Value {
            name: source.name("max_clients"),
            why: format!("{clients} is not a number of clients from 1 to {MOST_CLIENTS}"),
        }),
    }
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
    fn the_number_of_clients_is_set_alike() {
        let env = environment(&[("DOLMEN_MAX_CLIENTS", "8")]).expect("variables");
        let config = Config::from_layers(Layer::default(), env.clone(), Layer::default()).expect("layers");
        assert_eq!(config.max_clients, 8);
        let flags = Layer { max_clients: Some(0), ..Layer::default() };
        let error = Config::from_layers(flags, env, Layer::default()).expect_err("nobody could ask");
        assert_eq!(error.to_string(), "--max-clients: 0 is not a number of clients from 1 to 65536");
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
