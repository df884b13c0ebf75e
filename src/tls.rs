//! TLS through rustls: certificates and keys from PEM files, and what a handshake that failed means.
//!
//! Owns what is trusted: the certificates in the given file and nobody else's. There is no default list of authorities,
//! because the nodes of a private network are signed by whoever runs it. Both configurations speak HTTP/1.1 only, since a
//! WebSocket begins as that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;

/// What is spoken inside.
const ALPN: &[u8] = b"http/1.1";

/// Why TLS cannot be spoken, in one sentence.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("the TLS {what} file {path}: {why}", path = .path.display())]
    File {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key do not belong together, or rustls does not take them.
    #[error("the TLS certificate {cert} cannot be used with the key {key}: {why}", cert = .cert.display(), key = .key.display())]
    Identity {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        why: String,
    },
    /// A `wss://` or `https://` address, and nothing to judge its certificate by.
    #[error("{address} needs --tls-ca FILE: the certificate of the authority that signed that node's certificate")]
    NoAuthority {
        /// The address.
        address: String,
    },
    /// rustls does not begin.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// Lets every part of the program that asks rustls for its default use the same cryptography. Later calls change nothing.
pub fn install() {
    let _ = ring::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn setup(error: rustls::Error) -> TlsError {
    TlsError::Setup(error.to_string())
}

/// The configuration of a server that shows this certificate.
///
/// # Errors
/// An unreadable file, or a certificate and a key that do not belong together.
pub fn server(cert: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = certificates("certificate", cert)?;
    let failed =
        |error: pem::Error| TlsError::File { what: "key", path: key.to_owned(), why: of_pem(error, "PRIVATE KEY") };
    let private = PrivateKeyDer::from_pem_file(key).map_err(failed)?;
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(setup)?;
    let made = builder.with_no_client_auth().with_single_cert(chain, private);
    // actix-web adds the protocol by itself.
    made.map_err(|error| {
        let why = match error {
            rustls::Error::InconsistentKeys(_) => "they do not belong together".to_owned(),
            error => error.to_string(),
        };
        TlsError::Identity { cert: cert.to_owned(), key: key.to_owned(), why }
    })
}

/// The configuration of a client that trusts the authorities in a file.
///
/// # Errors
/// An unreadable file, or one without certificates.
pub fn client(ca: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("authority", ca)? {
        let failed = |error: rustls::Error| TlsError::File {
            what: "authority",
            path: ca.to_owned(),
            why: format!("a certificate in it cannot be used: {error}"),
        };
        roots.add(certificate).map_err(failed)?;
    }
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(setup)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// All certificates in a file, at least one.
fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |why: String| TlsError::File { what, path: path.to_owned(), why };
    let say = |error| failed(of_pem(error, "CERTIFICATE"));
    let found: Vec<_> = CertificateDer::pem_file_iter(path).map_err(say)?.collect::<Result<_, _>>().map_err(say)?;
    if found.is_empty() {
        return Err(failed("it holds no BEGIN CERTIFICATE".to_owned()));
    }
    Ok(found)
}

fn of_pem(error: pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => format!("it holds no BEGIN {wanted}"),
        error => format!("it is not PEM: {error}"),
    }
}

/// What a failed handshake means; `None` if the failure is none of TLS.
#[must_use]
pub fn explain(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        // An authority of the same name and another key is as unknown as any other.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is not signed by an authority in --tls-ca".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name".to_owned(),
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid yet; compare the clocks".to_owned(),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS on that port".to_owned(),
        error => format!("TLS failed: {error}"),
    })
}
