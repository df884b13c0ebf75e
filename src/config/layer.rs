//! What one source says: every setting by its name there, and nothing where the source is silent.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, LogFormat};

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
    /// See [`Slots::inbound`](crate::peer::slots::Slots::inbound).
    pub max_inbound: Option<usize>,
    /// See [`Slots::outbound`](crate::peer::slots::Slots::outbound).
    pub max_outbound: Option<usize>,
    /// See [`Slots::per_address`](crate::peer::slots::Slots::per_address).
    pub max_per_address: Option<usize>,
    /// See [`Config::max_clients`].
    pub max_clients: Option<usize>,
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
            max_clients,
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
            max_clients: Some(max_clients),
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

/// Reads a configuration file's text.
///
/// # Errors
/// It is not TOML, or has an unknown key or a value of a wrong type.
pub fn parse_file(path: &str, text: &str) -> Result<Layer, ConfigError> {
    toml::from_str(text)
        .map_err(|error| ConfigError::File { path: path.to_owned(), why: error.to_string().trim().replace('\n', " ") })
}
