//! `dolmen doctor`: looks for what keeps a node from working well, with the settings the node would have, and says how to
//! mend each. Changes nothing but a file that it writes into the data folder and removes again.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use actix_http::ws::Frame;
use clap::Args;
use futures_util::StreamExt;
use serde_json::json;

use super::node::{NodeArgs, Sources};
use super::output::{Out, OutputArgs, count};
use crate::actors::clock;
use crate::client::Client;
use crate::config::Config;
use crate::exit::{FAILURE, Failure, in_system};
use crate::ledger::limits::MAX_SECONDS_AHEAD;
use crate::ledger::{Tip, genesis, json as text};
use crate::peer::address::PeerAddress;
use crate::peer::limits::{HANDSHAKE_TIMEOUT, MAX_FIRST_MESSAGE};
use crate::peer::message::{self, Hello, PROTOCOL, Text};
use crate::peer::reach;

/// Bytes that should be free: the log's next segments and what is derived from them.
const ROOM: u64 = 1 << 30;

/// Bytes below which a node soon cannot write: its reserve and a segment of the log.
const NO_ROOM: u64 = 128 << 20;

/// Syncs that are timed.
const SYNCS: u32 = 5;

/// A sync that takes longer makes every block slow.
const SLOW_SYNC: Duration = Duration::from_millis(50);

/// How long a peer may take to say HELLO after the link is open.
const HELLO_WAIT: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Good,
    /// The node works, but somebody should look.
    Look,
    /// The node does not work so.
    Bad,
}

/// What was looked at, what was found, and how it is mended.
struct Finding {
    what: &'static str,
    verdict: Verdict,
    found: String,
    mend: Option<String>,
}

fn good(what: &'static str, found: impl Into<String>) -> Finding {
    Finding { what, verdict: Verdict::Good, found: found.into(), mend: None }
}

fn look(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { what, verdict: Verdict::Look, found: found.into(), mend: Some(mend.into()) }
}

fn bad(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { what, verdict: Verdict::Bad, found: found.into(), mend: Some(mend.into()) }
}

impl DoctorArgs {
    pub fn run(self) -> Result<(), Failure> {
        let sources = self.node.sources()?;
        let config = sources.config()?;
        let findings = in_system(async { Ok(examine(&config, &sources).await) })?;
        let mut out = self.output.open();
        print(&findings, &mut out)?;
        out.flush()?;
        let of = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count() as u64;
        match of(Verdict::Bad) {
            0 => Ok(()),
            bad => Err(Failure::new(FAILURE, format!("{} to be mended first", count(bad, "thing is", "things are")))),
        }
    }
}

fn print(findings: &[Finding], out: &mut Out) -> Result<(), Failure> {
    for Finding { what, verdict, found, mend } in findings {
        if !out.is_table() {
            let verdict = match verdict {
                Verdict::Good => "good",
                Verdict::Look => "look",
                Verdict::Bad => "bad",
            };
            out.line(&json!({ "check": what, "verdict": verdict, "found": found, "mend": mend }).to_string())?;
            continue;
        }
        let mark = match verdict {
            Verdict::Good => out.style.good("good"),
            Verdict::Look => out.style.warn("look"),
            Verdict::Bad => out.style.bad("bad "),
        };
        out.line(&format!("{mark}  {what:<12} {found}"))?;
        if let Some(mend) = mend {
            out.line(&format!("      {:<12} {}", "", out.style.dim(&format!("-> {mend}"))))?;
        }
    }
    Ok(())
}

async fn examine(config: &Config, sources: &Sources) -> Vec<Finding> {
    let mut findings = Vec::new();
    let running = running_tip(config.http).await;
    findings.push(clock_check(running));
    findings.push(http_port(config.http, running.is_some()));
    findings.push(peer_port(config.p2p, running.is_some()));
    findings.extend(exposure(config));
    findings.extend(folder(&config.data_dir));
    let layers = [&sources.flags, &sources.environment, &sources.file];
    if let Some(path) = layers.into_iter().find_map(|layer| layer.api_token_file.as_ref()) {
        findings.push(token_file(path));
    }
    if config.peers.is_empty() {
        findings.push(look(
            "peers",
            "none is configured",
            "name one with --peer ws://host:6005, or use dolmen add-peers",
        ));
    }
    for address in &config.peers {
        findings.push(peer(address).await);
    }
    findings
}

// ---- Clock.

/// The tip and its time of the node that runs with these settings, if one does.
async fn running_tip(http: SocketAddr) -> Option<(Tip, u64)> {
    let reached = if http.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], http.port())) } else { http };
    let client = Client::new(&format!("http://{reached}"), None, None).ok()?;
    let asked = tokio::time::timeout(HELLO_WAIT, client.get_json("/blocks/tip"));
    let block = text::parse_block(&asked.await.ok()?.ok()?.to_string()).ok()?;
    Some((Tip { height: block.header.index, hash: block.header.hash() }, block.header.time.0))
}

fn clock_check(running: Option<(Tip, u64)>) -> Finding {
    const MEND: &str = "set the clock, and keep it right with NTP (timedatectl set-ntp true)";
    let now = clock::unix_time().0;
    if now < genesis::TIME.0 {
        return bad("clock", "it stands before the first block was made", MEND);
    }
    match running {
        Some((tip, time)) if time > now + MAX_SECONDS_AHEAD => {
            bad("clock", format!("block {tip} is {} s in its future: others' blocks are refused", time - now), MEND)
        }
        Some((tip, time)) if time > now + 60 => {
            look("clock", format!("block {tip} is {} s in its future", time - now), MEND)
        }
        _ => good("clock", format!("{} UTC", super::output::utc(now))),
    }
}

// ---- Ports and addresses.

fn http_port(address: SocketAddr, running: bool) -> Finding {
    port("http port", address, running, "--http")
}

fn peer_port(address: SocketAddr, running: bool) -> Finding {
    port("peer port", address, running, "--p2p")
}

fn port(what: &'static str, address: SocketAddr, running: bool, flag: &str) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => good(what, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && running => {
            good(what, format!("{address}: a node runs there"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bad(
            what,
            format!("another program listens on {address}"),
            format!("stop it (ss -ltnp shows it), or choose another port with {flag}"),
        ),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => bad(
            what,
            format!("{} is no address of this machine", address.ip()),
            format!("choose one of its own with {flag} (ip address shows them), 127.0.0.1, or 0.0.0.0"),
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bad(
            what,
            format!("{address}: this user may not listen there"),
            format!("choose a port above 1023 with {flag}"),
        ),
        Err(error) => bad(what, format!("{address}: {error}"), format!("choose another address with {flag}")),
    }
}

fn exposure(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !config.http.ip().is_loopback() && config.api_token.is_none() {
        findings.push(look(
            "reach",
            format!("whoever reaches {} can mine and change peers", config.http),
            "set --api-token-file, or listen on 127.0.0.1",
        ));
    }
    let elsewhere = |peer: &PeerAddress| !matches!(peer.host(), "localhost" | "127.0.0.1" | "[::1]");
    if config.p2p.ip().is_loopback() && config.peers.iter().any(elsewhere) {
        findings.push(look(
            "reach",
            format!("peers on other machines cannot dial {}", config.p2p),
            "set --p2p to an address that they reach, unless this node dials all of them",
        ));
    }
    findings
}

// ---- Disk.

fn folder(dir: &Path) -> Vec<Finding> {
    const WHAT: &str = "data folder";
    let name = dir.display();
    let (place, exists) = nearest(dir);
    let mut findings = Vec::new();
    let probe = place.join(format!(".dolmen-doctor-{}", std::process::id()));
    let written = time_syncs(&probe);
    // What could not be made cannot be removed either.
    let _ = std::fs::remove_file(&probe);
    match written {
        Err(error) => {
            let mend = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    format!("chown it to this user, or choose another with --data-dir; it is {place:?}")
                }
                io::ErrorKind::StorageFull => "free some space, or choose another folder with --data-dir".to_owned(),
                io::ErrorKind::ReadOnlyFilesystem => {
                    "mount it for writing, or choose another with --data-dir".to_owned()
                }
                _ => "choose another folder with --data-dir".to_owned(),
            };
            findings.push(bad(WHAT, format!("{name} cannot be written to: {error}"), mend));
            return findings;
        }
        Ok(sync) => {
            let state = if exists { "is there and can be written to" } else { "will be made" };
            findings.push(good(WHAT, format!("{name} {state}")));
            let millis = sync.as_secs_f64() * 1000.0;
            findings.push(if sync > SLOW_SYNC {
                look(
                    "disk sync",
                    format!("{millis:.1} ms: each block waits for it"),
                    "put the folder on a faster disk; mine several entries at once meanwhile",
                )
            } else {
                good("disk sync", format!("{millis:.2} ms"))
            });
        }
    }
    findings.push(space(&place));
    if exists && let Some(finding) = permissions(dir) {
        findings.push(finding);
    }
    findings
}

/// The folder, or the nearest one above it that is there.
fn nearest(dir: &Path) -> (PathBuf, bool) {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    let exists = absolute.is_dir();
    let place = absolute.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("/"));
    (place.to_path_buf(), exists)
}

/// The shortest time that a small write and its sync took: the disk's own, not what else it was busy with.
fn time_syncs(path: &Path) -> io::Result<Duration> {
    let mut file = std::fs::File::options().write(true).create_new(true).open(path)?;
    let mut best = Duration::MAX;
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        best = best.min(begun.elapsed());
    }
    Ok(best)
}

fn space(place: &Path) -> Finding {
    const WHAT: &str = "disk space";
    let free = match rustix::fs::statvfs(place) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => return look(WHAT, format!("unknown: {error}"), "look with df"),
    };
    let found = format!("{} MiB are free", free >> 20);
    match free {
        0..NO_ROOM => bad(WHAT, found, "free some space, or choose another folder with --data-dir"),
        NO_ROOM..ROOM => look(WHAT, found, "a full disk stops mining: make room in time"),
        _ => good(WHAT, found),
    }
}

fn permissions(dir: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(dir).ok()?.permissions().mode();
    (mode & 0o002 != 0).then(|| {
        let found = format!("everybody on this machine can change {}", dir.display());
        look("permissions", found, format!("chmod o-w {}", dir.display()))
    })
}

fn token_file(path: &Path) -> Finding {
    const WHAT: &str = "token file";
    match std::fs::metadata(path) {
        Ok(data) if data.permissions().mode() & 0o077 != 0 => {
            let found = format!("other users of this machine can read {}", path.display());
            look(WHAT, found, format!("chmod 600 {}", path.display()))
        }
        Ok(_) => good(WHAT, format!("only this user reads {}", path.display())),
        Err(error) => bad(WHAT, format!("{}: {error}", path.display()), "make it, or leave --api-token-file out"),
    }
}

// ---- Peers.

async fn peer(address: &PeerAddress) -> Finding {
    const WHAT: &str = "peer";
    match tokio::time::timeout(HANDSHAKE_TIMEOUT + HELLO_WAIT, greet(address)).await {
        Ok(Ok(Some(hello))) if hello.genesis != genesis::tip().hash => bad(
            WHAT,
            format!("{address} is of another network: its genesis is {}", hello.genesis),
            "leave it out: the two chains have nothing in common",
        ),
        Ok(Ok(Some(hello))) if hello.protocol != PROTOCOL => look(
            WHAT,
            format!("{address} speaks version {} of the protocol, this program {PROTOCOL}", hello.protocol),
            "run the same version on both; until then they speak as the tutorial's nodes do",
        ),
        Ok(Ok(Some(hello))) => good(WHAT, format!("{address} answers: {}, tip {}", hello.agent, hello.tip)),
        Ok(Ok(None)) => good(WHAT, format!("{address} answers as a node of the tutorial")),
        Ok(Err(why)) => bad(
            WHAT,
            format!("{address} cannot be reached: {why}"),
            "start it with --p2p on an address that this machine reaches, and let its firewall pass that port",
        ),
        Err(_) => bad(
            WHAT,
            format!("{address} does not answer in time"),
            "look whether a firewall drops the packets, and whether the port is its peer port",
        ),
    }
}

/// Opens a link as a node would and waits for HELLO; `None` for a peer that speaks without it.
async fn greet(address: &PeerAddress) -> Result<Option<Hello>, String> {
    let host = address.host().trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((host, address.port())).await.map_err(|error| error.to_string())?;
    let mut failure = "the name has no address".to_owned();
    for remote in found {
        if let Err(reason) = reach::judge(remote.ip()) {
            failure = reason.to_string();
            continue;
        }
        let client = awc::Client::builder().disable_redirects().timeout(HANDSHAKE_TIMEOUT).finish();
        let request = client.ws(format!("http://{remote}/")).max_frame_size(MAX_FIRST_MESSAGE);
        let mut framed = match request.connect().await {
            Ok((_, framed)) => framed,
            Err(error) => {
                failure = error.to_string();
                continue;
            }
        };
        let hello = async {
            while let Some(frame) = framed.next().await {
                let frame = frame.map_err(|error| error.to_string())?;
                let Frame::Text(bytes) = frame else { continue };
                let said = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
                if let Text::Hello(hello) = message::parse(said).map_err(|error| error.to_string())? {
                    return Ok(Some(hello));
                }
            }
            Err("it ended the link at once; it may have refused or banned this machine".to_owned())
        };
        return tokio::time::timeout(HELLO_WAIT, hello).await.unwrap_or(Ok(None));
    }
    Err(failure)
}
