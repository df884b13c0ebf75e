//! Links that are cut: three nodes, each in a network namespace of its own, mine apart and are joined again.
//!
//! Needs root and iproute2, and says so where it has to skip. All interfaces, addresses and namespaces live inside one
//! more namespace, made for a second process that runs the story: whatever happens to it, the system takes all of them
//! away with it. `DOLMEN_TEST_CUT_SECONDS` sets how long the links are cut.

mod support;

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::audit::Audit;
use support::http::{self, Request};
use support::process::command;
use support::wait;
use support::writers::Writers;
use tempfile::TempDir;

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "DOLMEN_TEST_INSIDE_NAMESPACE";

const CUT_SECONDS: u64 = 3;

/// TCP sends again what got lost at growing intervals: after a cut, links come back within as long as the cut was, and a
/// node that hears nothing for a while dials anew.
const HEALED: Duration = Duration::from_secs(90);

const NODES: usize = 3;

const HTTP_PORT: u16 = 3000;

const P2P_PORT: u16 = 6005;

#[test]
fn nodes_that_were_cut_apart_lose_nothing() {
    if std::env::var_os(INSIDE).is_some() {
        return story();
    }
    let can = Command::new("unshare").args(["--net", "--mount", "--", "ip", "link", "show"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this test needs root, unshare and ip (iproute2)");
        return;
    }
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--kill-child", "--"])
        .arg(std::env::current_exe().expect("this test has a path"))
        .args(["--exact", "nodes_that_were_cut_apart_lose_nothing", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare runs");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the story failed; {}", String::from_utf8_lossy(&output.stdout));
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The network: two bridges, one for the peers, which can be cut, and one over which the test talks to the nodes.
struct Network {
    _names: TempDir,
}

impl Network {
    fn make() -> Self {
        // The names of namespaces are files; a folder of our own over the system's one keeps them to ourselves.
        let names = TempDir::with_prefix("dolmen-test-netns-").expect("a temporary directory");
        std::fs::create_dir_all("/run/netns").expect("a folder for the namespaces' names");
        let bound = Command::new("mount").arg("--bind").arg(names.path()).arg("/run/netns").status();
        assert!(bound.is_ok_and(|status| status.success()), "mount --bind over /run/netns");
        ip("link set lo up");
        ip("link add peers type bridge");
        ip("link set peers up");
        ip("link add control type bridge");
        ip("link set control up");
        ip("addr add 10.99.1.254/24 dev control");
        for node in 1..=NODES {
            ip(&format!("netns add n{node}"));
            ip(&format!("-n n{node} link set lo up"));
            for (bridge, inside, net) in [("peers", "eth0", 2), ("control", "eth1", 1)] {
                ip(&format!("link add {bridge}{node} type veth peer name {inside} netns n{node}"));
                ip(&format!("link set {bridge}{node} master {bridge}"));
                ip(&format!("link set {bridge}{node} up"));
                ip(&format!("-n n{node} addr add 10.99.{net}.{node}/24 dev {inside}"));
                ip(&format!("-n n{node} link set {inside} up"));
            }
        }
        Self { _names: names }
    }

    /// Nothing passes to or from this node's peers any more; nobody is told.
    fn cut(&self, node: usize) {
        ip(&format!("link set peers{} nomaster", node + 1));
    }

    fn heal(&self, node: usize) {
        ip(&format!("link set peers{} master peers", node + 1));
    }
}

/// A node in its namespace; its HTTP port is brought to one on loopback.
struct Node {
    child: Child,
    port: u16,
    log: std::path::PathBuf,
    _home: TempDir,
}

impl Node {
    fn start(number: usize) -> Self {
        let home = TempDir::with_prefix("dolmen-test-").expect("a temporary directory");
        let log = home.path().join("log");
        let program = command(None).get_program().to_owned();
        let mut ip = command(Some("ip".as_ref()));
        ip.args(["netns", "exec", &format!("n{number}")]).arg(program).arg("node");
        ip.args(["--http", &format!("10.99.1.{number}:{HTTP_PORT}"), "--p2p", &format!("10.99.2.{number}:{P2P_PORT}")]);
        ip.arg("--data-dir").arg(home.path().join("data"));
        for other in (1..=NODES).filter(|other| *other != number) {
            ip.args(["--peer", &format!("ws://10.99.2.{other}:{P2P_PORT}")]);
        }
        ip.env_remove(INSIDE).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).expect("a file"));
        let child = ip.spawn().expect("ip runs");
        let address = SocketAddr::from((Ipv4Addr::new(10, 99, 1, number as u8), HTTP_PORT));
        Self { child, port: forward(address), log, _home: home }
    }

    fn status(&self) -> Option<Value> {
        let answer = http::request(self.port, &Request::get("/status")).ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    fn blocks(&self) -> String {
        let answer = http::request(self.port, &Request::get("/blocks")).expect("an answer");
        answer.expect(200).text().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() || std::env::var_os("DOLMEN_TEST_LOGS").is_some() {
            eprintln!("---- log ----\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// A port on loopback that leads to an address.
fn forward(to: SocketAddr) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })
    };
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(to) else { continue };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else { continue };
            copy(near, far);
            copy(far_again, near_again);
        }
    });
    port
}

fn tips(nodes: &[Node]) -> Vec<(u64, String)> {
    let tip = |node: &Node| {
        let status = node.status().expect("a status");
        let hash = status["tip"]["hash"].as_str().expect("a hash");
        (status["tip"]["index"].as_u64().expect("an index"), hash.to_owned())
    };
    nodes.iter().map(tip).collect()
}

/// Waits until all nodes have one tip and nothing left to mine again.
fn wait_settled(nodes: &[Node]) -> Duration {
    let started = Instant::now();
    let mut last = Vec::new();
    let settled = wait::try_until(HEALED, || {
        last = nodes.iter().map(|node| node.status().unwrap_or_default()).collect();
        let settled = |status: &Value| status["tip"] == last[0]["tip"] && status["outbox"] == 0;
        (last[0]["tip"].is_object() && last.iter().all(settled)).then_some(())
    });
    assert!(settled.is_some(), "waited {HEALED:?} in vain for one tip: {last:#?}");
    started.elapsed()
}

fn wait_links(nodes: &[Node]) {
    wait::until(HEALED, "every node to be linked with both others", || {
        let linked = |node: &Node| node.status().is_some_and(|status| status["peers"]["native"] == NODES as u64 - 1);
        nodes.iter().all(linked).then_some(())
    });
}

/// Waits until all nodes agree on the chain up to a height, while they go on mining.
fn wait_together(nodes: &[Node], height: u64) {
    let mut last = Vec::new();
    let together = wait::try_until(HEALED, || {
        last = nodes
            .iter()
            .map(|node| {
                let answer = http::request(node.port, &Request::get(&format!("/blocks/{height}"))).ok()?;
                answer.header("Block-Hash").map(str::to_owned)
            })
            .collect();
        last.iter().all(|hash| hash.is_some() && *hash == last[0]).then_some(())
    });
    let statuses: Vec<_> = nodes.iter().map(Node::status).collect();
    assert!(together.is_some(), "waited {HEALED:?} in vain for one block {height}: {last:?}; {statuses:#?}");
}

fn story() {
    let seconds = std::env::var("DOLMEN_TEST_CUT_SECONDS").map_or(CUT_SECONDS, |text| text.parse().expect("seconds"));
    let cut = Duration::from_secs(seconds);
    let network = Network::make();
    let nodes: Vec<Node> = (1..=NODES).map(Node::start).collect();
    wait_links(&nodes);
    let ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();

    // Several hundred blocks on each side: the same number in a long cut as in a short one.
    let rest = (cut / 300).max(Duration::from_millis(5));
    let writers = Writers::start(&ports, 2, rest);
    wait::until(wait::SOON, "blocks while all are linked", || (tips(&nodes)[0].0 > 20).then_some(()));

    // One is alone, then all are, while everybody mines on.
    for (round, alone) in [vec![0], vec![0, 1, 2]].into_iter().enumerate() {
        let before = tips(&nodes);
        for &node in &alone {
            network.cut(node);
        }
        thread::sleep(cut);
        let apart = tips(&nodes);
        assert!(
            alone.iter().all(|node| (0..NODES).all(|other| other == *node || apart[other].1 != apart[*node].1)),
            "whoever is cut off has another tip: {apart:?}"
        );
        let mined: Vec<u64> = before.iter().zip(&apart).map(|(before, after)| after.0 - before.0).collect();
        for &node in &alone {
            network.heal(node);
        }
        let healed = Instant::now();
        wait_together(&nodes, apart.iter().map(|tip| tip.0).max().unwrap_or_default());
        eprintln!(
            "round {}: {alone:?} cut off for {cut:?}, blocks mined {mined:?}, on one chain again after {:?}",
            round + 1,
            healed.elapsed()
        );
        assert!(mined.iter().all(|blocks| *blocks >= 100), "enough on each side: {mined:?}");
    }

    let (acknowledged, repeated) = writers.stop();
    let settled = wait_settled(&nodes);
    let text = nodes[0].blocks();
    let audit = Audit::of(&text);
    audit.assert_once(&acknowledged);
    for node in &nodes[1..] {
        assert!(node.blocks() == text, "one chain on all nodes");
    }
    let reorgs: Vec<Value> = nodes.iter().map(|node| node.status().unwrap_or_default()["reorgs"].take()).collect();
    eprintln!(
        "{} acknowledged, {repeated} repeated, {} blocks, reorgs {reorgs:?}, equal {settled:?} after the last entry",
        acknowledged.len(),
        audit.tip().0
    );
}
