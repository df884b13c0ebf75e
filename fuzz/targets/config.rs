//! The configuration file: TOML to settings, and on to what the node starts with.
#![no_main]

use std::net::SocketAddr;

use dolmen::config::{Config, Layer, parse_file, parse_token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(token) = parse_token("token", text) {
        assert!(!token.is_empty() && token.bytes().all(|c| c.is_ascii_graphic()), "a token can stand in a header");
    }
    let Ok(file) = parse_file("dolmen.toml", text) else { return };
    // A name would be looked up on the network.
    let numeric = |address: &Option<String>| address.as_ref().is_none_or(|text| text.parse::<SocketAddr>().is_ok());
    if !numeric(&file.http) || !numeric(&file.p2p) {
        return;
    }
    if let Ok(config) = Config::from_layers(Layer::default(), Layer::default(), file) {
        assert!(config.http.port() == 0 || config.http.port() != config.p2p.port());
    }
});
