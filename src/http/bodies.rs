//! What requests carry as JSON, before anybody acts on it. Knows neither actors nor the web server.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ledger::json;

/// Entries for one block: `POST /mineBlock`.
#[derive(Debug, Deserialize)]
pub struct Entries {
    /// The block's body.
    pub data: Vec<String>,
}

/// Peers to link with: `POST /addPeers`.
#[derive(Debug, Deserialize)]
pub struct Peers {
    /// Their addresses, as people write them.
    pub peers: Vec<String>,
}

/// A ban: `POST /bans`.
#[derive(Debug, Deserialize)]
pub struct Wish {
    /// Whom.
    pub address: String,
    /// For how long.
    pub seconds: Option<u64>,
}

/// Reads a body, which must be an object: an array with the fields' values in order is something else to every other
/// program.
///
/// # Errors
/// It is not JSON, or does not have the fields of its type.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body).map(|json::Object(fields)| fields)
}
