//! TLS on both ports: nodes joined over `wss://`, HTTPS as curl asks for it, and every certificate that is no good.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tempfile::TempDir;

use crate::support::process::command;
use crate::support::{NodeOptions, NodeProcess, wait};

/// An authority of a test's own, and the files that it signs.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let dir = TempDir::with_prefix("dolmen-tls-").expect("a temporary directory");
        let authority = Self { dir, issuer };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Signs a certificate for this name; the paths of it and its key.
    fn sign(&self, file: &str, name: &str, expired: bool) -> [String; 2] {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        [self.write(&format!("{file}.pem"), &cert.pem()), self.write(&format!("{file}-key.pem"), &key.serialize_pem())]
    }

    /// A node with a certificate for 127.0.0.1, unless another is signed here.
    fn node(&self, [cert, key]: &[String; 2]) -> NodeOptions {
        let ca = self.path("ca.pem");
        ["--tls-cert", cert, "--tls-key", key, "--tls-ca", &ca].iter().fold(NodeOptions::new(), |o, a| o.arg(a))
    }
}

fn https(node: &NodeProcess, ca: &str, path: &str) -> Result<String, std::io::Error> {
    let config = dolmen::tls::client(&PathBuf::from(ca)).expect("the authority's file");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let connection = ClientConnection::new(Arc::clone(&config), name).expect("a connection");
    let socket = TcpStream::connect(("127.0.0.1", node.http_port()))?;
    socket.set_read_timeout(Some(wait::SOON))?;
    let mut stream = StreamOwned::new(connection, socket);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Runs a client command; its exit code, stdout and stderr.
fn client(node: &NodeProcess, ca: Option<&str>, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command(None);
    command.args(arguments).args(["--url", &format!("https://127.0.0.1:{}", node.http_port())]);
    ca.map(|ca| command.args(["--tls-ca", ca]));
    let output = command.output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn wss(node: &NodeProcess) -> String {
    format!("wss://127.0.0.1:{}", node.p2p_port())
}

fn wait_log(node: &NodeProcess, text: &str) {
    wait::until(wait::SOON, format!("{text:?} in the log"), || node.log().contains(text).then_some(()));
}

#[test]
fn nodes_are_joined_over_wss_and_answer_https() {
    let authority = Authority::new();
    let files = authority.sign("node", "127.0.0.1", false);
    let ca = authority.path("ca.pem");
    let first = NodeProcess::start(authority.node(&files));
    let (code, block, said) = client(&first, Some(&ca), &["mine", "in TLS"]);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{block}");
    let second = NodeProcess::start(authority.node(&files).peer(&wss(&first)));
    let chain = wait::until(wait::SOON, "the chain on the second node", || {
        let answer = https(&second, &ca, "/blocks").expect("HTTPS answers");
        answer.contains("in TLS").then_some(answer)
    });
    assert!(chain.starts_with("HTTP/1.1 200 OK\r\n"), "{chain}");
    let (_, peers, _) = client(&second, Some(&ca), &["peers"]);
    assert!(peers.contains(&wss(&first)) && peers.contains(r#""kind":"native""#), "{peers}");
    // And what another node adds while it runs.
    let third = NodeProcess::start(authority.node(&files));
    let (code, rows, said) = client(&third, Some(&ca), &["add-peers", &wss(&first).replace("://", ":")]);
    assert_eq!(code, Some(0), "{rows} {said}");
    wait::until(wait::SOON, "the chain on the third node", || {
        https(&third, &ca, "/blocks").expect("HTTPS answers").contains("in TLS").then_some(())
    });
}

#[test]
fn a_certificate_that_is_no_good_is_refused_with_the_reason() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = authority.sign("node", "127.0.0.1", false);
    for (files, why) in [
        (stranger.sign("other", "127.0.0.1", false), "its certificate is not signed by an authority in --tls-ca"),
        (authority.sign("named", "node.example", false), "its certificate is for another name"),
        (authority.sign("old", "127.0.0.1", true), "its certificate has expired"),
    ] {
        let server = NodeProcess::start(authority.node(&files));
        let dialler = NodeProcess::start(authority.node(&good).peer(&wss(&server)));
        wait_log(&dialler, why);
        let (code, said, problem) = client(&server, Some(&authority.path("ca.pem")), &["status"]);
        assert_eq!((code, said.as_str()), (Some(4), ""));
        assert!(problem.contains(why), "{problem}");
    }
    // A peer that speaks no TLS.
    let plain = NodeProcess::start(NodeOptions::new());
    let dialler = NodeProcess::start(authority.node(&good).peer(&wss(&plain)));
    wait_log(&dialler, "no link: TLS does not come about");
    wait_log(&dialler, "it does not speak TLS on that port");
}

#[test]
fn what_is_no_handshake_is_shown_out_and_does_no_harm() {
    let authority = Authority::new();
    let node = NodeProcess::start(authority.node(&authority.sign("node", "127.0.0.1", false)));
    for port in [node.http_port(), node.p2p_port()] {
        for bytes in [&b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01", b""] {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the node listens");
            socket.set_read_timeout(Some(wait::SOON)).expect("a timeout");
            socket.write_all(bytes).expect("is sent");
            let begun = Instant::now();
            let mut rest = Vec::new();
            // Ends with an alert, a reset or nothing: never with an answer.
            let _ = socket.read_to_end(&mut rest);
            assert!(!rest.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&rest));
            assert!(begun.elapsed() < Duration::from_secs(20), "within the handshake's time");
        }
    }
    let answer = https(&node, &authority.path("ca.pem"), "/livez").expect("the node still answers");
    assert!(answer.ends_with("ok\n"), "{answer}");
}

#[test]
fn files_that_cannot_be_used_are_named_at_start() {
    let authority = Authority::new();
    let [cert, key] = authority.sign("node", "127.0.0.1", false);
    let [_, other] = authority.sign("other", "127.0.0.1", false);
    let ca = authority.path("ca.pem");
    let gone = authority.path("gone.pem");
    let text = authority.write("text.pem", "no PEM at all");
    let refused = |arguments: &[&str]| {
        let mut command = command(None);
        command.args(["node", "--http", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--data-dir", &authority.path("data")]);
        let output = command.args(arguments).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).expect("UTF-8").trim_end().to_owned()
    };
    for (arguments, says) in [
        (vec!["--tls-cert", &*cert], "dolmen: --tls-cert needs --tls-key as well".to_owned()),
        (vec!["--tls-key", &*key], "dolmen: --tls-key needs --tls-cert as well".to_owned()),
        (
            vec!["--tls-cert", &*gone, "--tls-key", &*key],
            format!("dolmen: the TLS certificate file {gone}: No such file or directory (os error 2)"),
        ),
        (
            vec!["--tls-cert", &*text, "--tls-key", &*key],
            format!("dolmen: the TLS certificate file {text}: it holds no BEGIN CERTIFICATE"),
        ),
        (
            vec!["--tls-cert", &*cert, "--tls-key", &*cert],
            format!("dolmen: the TLS key file {cert}: it holds no BEGIN PRIVATE KEY"),
        ),
        (
            vec!["--tls-cert", &*cert, "--tls-key", &*other],
            format!(
                "dolmen: the TLS certificate {cert} cannot be used with the key {other}: they do not belong together"
            ),
        ),
        (vec!["--tls-ca", &*key], format!("dolmen: the TLS authority file {key}: it holds no BEGIN CERTIFICATE")),
        (
            vec!["--peer", "wss://localhost:1"],
            "dolmen: wss://localhost:1 needs --tls-ca FILE: the certificate of the authority that signed that node's \
             certificate"
                .to_owned(),
        ),
    ] {
        assert_eq!(refused(&arguments), says, "{arguments:?}");
    }
    assert!(!PathBuf::from(authority.path("data")).exists(), "nothing was made");
    let node = NodeProcess::start(authority.node(&[cert, key]));
    let (code, _, said) = client(&node, None, &["status"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("needs --tls-ca FILE"), "{said}");
    let (code, _, said) = client(&node, Some(&ca), &["health"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
}
