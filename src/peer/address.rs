//! A peer's address as people write it: `ws://host:port`, the tutorial's `ws:host:port`, and `wss://` for TLS.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::{Host, Url};

/// Bytes of an address: it is little more than a host, and what others tell us is kept by the hundred.
const MAX_ADDRESS_BYTES: usize = 512;

/// Characters of a host as it is looked up, which for a name beyond ASCII are more than were written: what DNS allows.
const MAX_HOST: usize = 253;

/// Where a peer listens. Two spellings of one host and port are equal; two names of one machine are not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerAddress {
    host: String,
    port: u16,
    scheme: Scheme,
}

/// How a link to an address begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scheme {
    /// As it is: `ws://`.
    Plain,
    /// In TLS: `wss://`.
    Tls,
}

/// Why a text is no peer address.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AddressError {
    /// Not a URL.
    #[error("{got:?} is not an address like ws://host:6005 ({why})")]
    NotAnAddress {
        /// The text, cut.
        got: String,
        /// What the parser says.
        why: String,
    },
    /// Another scheme.
    #[error("{got:?} does not begin with ws:// or wss://; links are WebSockets")]
    Scheme {
        /// The text, cut.
        got: String,
    },
    /// More than host and port.
    #[error("{got:?} has more than a host and a port; write ws://host:6005")]
    Extras {
        /// The text, cut.
        got: String,
    },
}

impl PeerAddress {
    /// The address of a host and port, without TLS.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self::with_scheme(Scheme::Plain, host, port)
    }

    /// The address of a host and port.
    #[must_use]
    pub fn with_scheme(scheme: Scheme, host: &str, port: u16) -> Self {
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        Self { host, port, scheme }
    }

    /// How a link to it begins.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host: a name, an IPv4 address, or an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let got = || text.chars().take(100).collect::<String>();
        if text.len() > MAX_ADDRESS_BYTES {
            let why = format!("it is longer than {MAX_ADDRESS_BYTES} bytes");
            return Err(AddressError::NotAnAddress { got: got(), why });
        }
        let url = Url::parse(text.trim())
            .map_err(|error| AddressError::NotAnAddress { got: got(), why: error.to_string() })?;
        let scheme = match url.scheme() {
            "ws" => Scheme::Plain,
            "wss" => Scheme::Tls,
            _ => return Err(AddressError::Scheme { got: got() }),
        };
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        if !bare {
            return Err(AddressError::Extras { got: got() });
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => format!("[{address}]"),
            None => return Err(AddressError::NotAnAddress { got: got(), why: "no host".into() }),
        };
        if host.len() > MAX_HOST {
            let why = format!("its host has more than {MAX_HOST} characters");
            return Err(AddressError::NotAnAddress { got: got(), why });
        }
        match url.port_or_known_default() {
            Some(port) if port != 0 => Ok(Self { host, port, scheme }),
            _ => Err(AddressError::NotAnAddress { got: got(), why: "no port".into() }),
        }
    }
}

impl TryFrom<String> for PeerAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PeerAddress> for String {
    fn from(address: PeerAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Plain => "ws",
            Scheme::Tls => "wss",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tutorials_way_and_urls_mean_the_same() {
        for text in ["ws:localhost:6006", "ws://localhost:6006", "ws://localhost:6006/", " WS://LOCALHOST:6006 "] {
            assert_eq!(text.parse(), Ok(PeerAddress::new("localhost", 6006)), "{text}");
        }
        assert_eq!("ws://[::1]:6005".parse(), Ok(PeerAddress::new("::1", 6005)));
        assert_eq!("ws://host".parse(), Ok(PeerAddress::new("host", 80)), "the WebSocket scheme's own port");
        assert_eq!(PeerAddress::new("::1", 6005).to_string(), "ws://[::1]:6005");
        for text in ["wss:host:6006", "wss://host:6006/"] {
            assert_eq!(text.parse(), Ok(PeerAddress::with_scheme(Scheme::Tls, "host", 6006)), "{text}");
        }
        assert_eq!("wss://host".parse::<PeerAddress>().expect("an address").to_string(), "wss://host:443");
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let refused = |text: &str| text.parse::<PeerAddress>().expect_err(text);
        for text in ["http://host:1", "file:///etc/passwd", "localhost:6006", "gopher://x", "javascript:alert(1)"] {
            assert!(matches!(refused(text), AddressError::Scheme { .. }), "{text}");
        }
        for text in ["ws://u@host:1", "ws://u:p@host:1", "ws://host:1/x", "ws://host:1/?a", "ws://host:1/#a"] {
            assert!(matches!(refused(text), AddressError::Extras { .. }), "{text}");
        }
        let long = format!("ws://{}:1", "host.".repeat(200));
        // Short as it is written, and longer than any name in the form in which names are looked up.
        let grows = format!("ws://{}de:1", "bücher.".repeat(30));
        assert!(grows.len() < MAX_ADDRESS_BYTES);
        let error = refused(&grows).to_string();
        assert!(error.ends_with("(its host has more than 253 characters)"), "{error}");
        for text in ["", "host", "ws:", "ws://", "ws://host:0", "ws://host:99999", "ws://ho st:1", "6006", &long] {
            assert!(matches!(refused(text), AddressError::NotAnAddress { .. }), "{text}");
        }
    }
}
