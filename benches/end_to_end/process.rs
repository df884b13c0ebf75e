//! Nodes as processes, and what the system says of them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::client::Client;

/// A running node; killed when dropped.
pub struct Node {
    child: Child,
    pub http: SocketAddr,
    p2p: SocketAddr,
}

impl Node {
    /// Starts a node on a directory and waits for the line that says that it is ready.
    pub fn start(dir: &Path, peers: &[&Node]) -> Self {
        let mut command = Command::new(program());
        command.args(["node", "--http", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--data-dir"]).arg(dir);
        for peer in peers {
            command.args(["--peer", &peer.url()]);
        }
        // What a node warns of belongs on the screen: a figure taken beside a warning may mean nothing.
        command.env("DOLMEN_LOG", std::env::var("BENCH_LOG").unwrap_or_else(|_| "warn".into()));
        let (child, line) = spawn(command);
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("a node said {line:?}"));
        let address = |name: &str| address_in(ready[name].as_str().unwrap_or_default());
        Self { child, http: address("http"), p2p: address("p2p") }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.p2p)
    }

    pub fn client(&self) -> Client {
        Client::connect(self.http)
    }

    /// Gives the node a peer.
    pub fn add_peer(&self, url: &str) {
        let answer = self.client().post("/addPeers", &format!(r#"{{"peers":["{url}"]}}"#));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Height of the tip, by way of the light route.
    pub fn height(&self, client: &mut Client) -> u64 {
        let status: Value = serde_json::from_slice(&client.get("/status").body).expect("status is JSON");
        status["tip"]["index"].as_u64().expect("a tip has an index")
    }

    /// Waits until the tip has a height.
    pub fn wait_height(&self, height: u64, pause: Duration) {
        let mut client = self.client();
        while self.height(&mut client) < height {
            std::thread::sleep(pause);
        }
    }

    /// Waits until a native peer is linked.
    pub fn wait_linked(&self, peers: u64) {
        let mut client = self.client();
        loop {
            let status: Value = serde_json::from_slice(&client.get("/status").body).expect("status is JSON");
            if status["peers"]["native"].as_u64() >= Some(peers) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Resident memory now, in MiB.
    pub fn resident(&self) -> f64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory so far, in MiB.
    pub fn peak(&self) -> f64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the node runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("a process has memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number of KiB") / 1024.0
    }

    /// Processor seconds so far, over all threads that live.
    pub fn processor_seconds(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the node runs");
        let of = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<f64>().ok()
        };
        tasks.filter_map(Result::ok).filter_map(of).sum::<f64>() / 1e9
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end in good order, and waits.
    pub fn stop(mut self) {
        let _ = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The node's program: the one that was built with this benchmark, unless another is to be measured.
fn program() -> std::ffi::OsString {
    std::env::var_os("BENCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_dolmen").into())
}

/// Starts a program and reads its first line.
pub fn spawn(mut command: Command) -> (Child, String) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut line).expect("the program says where it listens");
    (child, line)
}

/// An address with or without a scheme before it.
pub fn address_in(text: &str) -> SocketAddr {
    let text = text.rsplit_once("//").map_or(text, |(_, rest)| rest).trim_end_matches('/').trim();
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address"))
}
