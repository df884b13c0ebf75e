//! The environment as a source of settings: `DOLMEN_*`, and the tutorial's names of the ports.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{ConfigError, Layer, socket_address};

const VARIABLES: [&str; 18] = [
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
    "DOLMEN_MAX_CLIENTS",
    "DOLMEN_LOG",
    "DOLMEN_LOG_FORMAT",
];

/// Variables that name the file and the client's node; read elsewhere.
const OTHER_VARIABLES: [&str; 2] = ["DOLMEN_CONFIG", "DOLMEN_URL"];

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
        max_clients: count("DOLMEN_MAX_CLIENTS")?,
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
