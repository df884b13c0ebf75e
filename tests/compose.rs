//! Three nodes in containers, as `docker-compose.yml` starts them: from nothing to a healthy cluster that loses no entry
//! while its nodes are killed, replaced, cut off and robbed of their volume one after the other.
//!
//! Without a container engine the test says so and does nothing. It needs no registry: the two images that the
//! `Dockerfile` builds on are replaced by small ones made of this machine's own files, and the compiler in the first of
//! them by a script that hands over the binary under test.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use support::http::{self, Request};
use support::wait;

/// For one command of the engine; an image is imported or built in seconds here.
const COMMAND: Duration = Duration::from_secs(120);

/// For a container to become healthy: its first check comes after five seconds.
const HEALTHY: Duration = Duration::from_secs(60);

/// For the nodes to agree after one of them was away.
const AGREED: Duration = Duration::from_secs(60);

/// Between two entries of the miner: slow enough that a whole round is still read quickly.
const PACE: Duration = Duration::from_millis(20);

/// The programs that the first stage of the `Dockerfile` runs.
const BUILD_PROGRAMS: [&str; 3] = ["/bin/sh", "/bin/cp", "/bin/mkdir"];

/// How the engine asks a container for its health, as the `Dockerfile` says.
const HEALTHCHECK: &str = r#"["CMD","dolmen","health","--url","http://127.0.0.1:3000"]"#;

/// Stands for the compiler in the first stage.
const CARGO: &str = r#"#!/bin/sh
set -eu
[ "$*" = "build --release --locked --bin dolmen" ] || { echo "this stand-in cannot: cargo $*" >&2; exit 1; }
mkdir -p target/release
cp /stand-in/dolmen target/release/dolmen
"#;

#[test]
fn a_cluster_from_nothing_loses_no_entry_while_its_nodes_are_killed() {
    let Some(compose) = engine() else {
        // Past the test runner, which keeps what a passing test prints to itself.
        let _ = writeln!(io::stderr(), "SKIPPED: no container engine with Compose answers; the cluster was not tested");
        return;
    };
    let cluster = Cluster::build(compose);
    cluster.compose(&["up", "--detach", "--no-build"]);
    (0..3).for_each(|node| cluster.wait_healthy(node));

    // Mined on one, read on all.
    let block = cluster.mine(0, "Hello").expect("a healthy node mines");
    cluster.wait_equal();
    for node in 0..3 {
        let read = cluster.get(node, "/blocks/1").expect("a healthy node answers").expect(200);
        assert_eq!(read.text(), block, "block 1 on node {}", node + 1);
    }

    // Each node in turn is killed and started again while the others go on.
    let miner = Miner::start(cluster.ports, "killed");
    for node in 0..3 {
        let (before, _) = cluster.tip((node + 1) % 3).expect("a healthy node answers");
        cluster.docker(&["kill", &cluster.container(node)]);
        cluster.wait_index((node + 1) % 3, before + 10);
        cluster.docker(&["start", &cluster.container(node)]);
        cluster.wait_healthy(node);
    }
    let mut acknowledged = miner.stop();
    acknowledged.push("Hello".to_owned());
    cluster.wait_holds(&acknowledged);

    // The image runs as nobody in particular and writes nowhere but to its volume.
    for node in 0..3 {
        let inspect = |format: &str| cluster.docker(&["inspect", "--format", format, &cluster.container(node)]);
        assert_eq!(inspect("{{.HostConfig.ReadonlyRootfs}} {{.Config.User}}").trim(), "true 10001:10001");
        assert_eq!(inspect("{{json .Config.Healthcheck.Test}}").trim(), HEALTHCHECK);
    }

    // Each in turn is replaced, as for a new version, while entries come in.
    let miner = Miner::start(cluster.ports, "rolled");
    for service in ["node1", "node2", "node3"] {
        cluster.compose(&["up", "--detach", "--no-build", "--no-deps", "--force-recreate", service]);
        let node = usize::from(service.as_bytes()[4] - b'1');
        cluster.wait_healthy(node);
        let (before, _) = cluster.tip((node + 1) % 3).expect("a healthy node answers");
        cluster.wait_index(node, before);
    }
    acknowledged.extend(miner.stop());
    cluster.wait_holds(&acknowledged);

    // One is cut off from the others and mines on; they come to one chain again.
    let network = format!("{}_default", cluster.project);
    let lone = cluster.container(2);
    cluster.docker(&["network", "disconnect", &network, &lone]);
    for (node, entry) in [(0, "while one is cut off"), (1, "on this side, too")] {
        cluster.mine(node, entry).expect("a healthy node mines");
        acknowledged.push(entry.to_owned());
    }
    cluster.docker(&["network", "connect", "--alias", "node3", &network, &lone]);
    cluster.wait_holds(&acknowledged);

    // One loses its volume: it comes back empty and has everything again.
    cluster.compose(&["rm", "--stop", "--force", "node2"]);
    cluster.docker(&["volume", "rm", &format!("{}_data2", cluster.project)]);
    cluster.compose(&["up", "--detach", "--no-build", "--no-deps", "node2"]);
    cluster.wait_healthy(1);
    cluster.wait_holds(&acknowledged);

    // All end and start again: what was there is there.
    let chain = cluster.blocks(0);
    cluster.compose(&["stop"]);
    cluster.compose(&["start"]);
    for node in 0..3 {
        cluster.wait_healthy(node);
        assert_eq!(cluster.blocks(node), chain, "the chain of node {} after all were stopped", node + 1);
    }
}

/// Everything that `.dockerignore` lets into the build is there, and is enough for Cargo.
#[test]
fn the_build_context_is_a_whole_package() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let context = tempfile::tempdir().expect("a directory");
    let ignore = fs::read_to_string(root.join(".dockerignore")).expect("a .dockerignore");
    for name in ignore.lines().filter_map(|line| line.strip_prefix('!')) {
        let (from, to) = (root.join(name), context.path().join(name));
        // Not everything must be there: a build can do without a README or benchmarks.
        if from.exists() {
            let copied = Command::new("cp").arg("-R").arg(from).arg(to).status();
            assert!(copied.is_ok_and(|status| status.success()), "copy of {name}");
        }
    }
    let mut cargo = Command::new(env!("CARGO"));
    run(cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(context.path()));
}

/// The command that speaks Compose, if it and the engine answer.
fn engine() -> Option<Vec<&'static str>> {
    let answers = |command: &[&str]| {
        let mut command = in_words(command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let compose = [vec!["docker", "compose"], vec!["docker-compose"]];
    let compose = compose.into_iter().find(|words| answers(&[words.as_slice(), &["version"]].concat()))?;
    answers(&["docker", "version", "--format", "{{.Server.Version}}"]).then_some(compose)
}

fn in_words(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Runs a command to its end within the deadline; returns its output, and panics with it if the command fails.
fn run(command: &mut Command) -> String {
    try_run(command).unwrap_or_else(|output| panic!("{command:?}\n{output}"))
}

fn try_run(command: &mut Command) -> Result<String, String> {
    let output = tempfile::NamedTempFile::new().expect("a file for the output");
    let file = || output.reopen().expect("the file is ours");
    let mut child = command.stdin(Stdio::null()).stdout(file()).stderr(file()).spawn().map_err(|e| e.to_string())?;
    let status = wait::try_until(COMMAND, || child.try_wait().expect("the child is ours"));
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = String::from_utf8_lossy(&fs::read(output.path()).unwrap_or_default()).into_owned();
    match status {
        Some(status) if status.success() => Ok(text),
        Some(status) => Err(format!("{status}\n{text}")),
        None => Err(format!("not done within {COMMAND:?}\n{text}")),
    }
}

/// A project of Compose with names and ports of its own; everything of it is removed when dropped.
struct Cluster {
    compose: Vec<&'static str>,
    project: String,
    ports: [u16; 3],
}

impl Cluster {
    fn build(compose: Vec<&'static str>) -> Self {
        let project = format!("dolmentest{}", std::process::id());
        let cluster = Self { compose, project, ports: free_ports() };
        let binary = Path::new(env!("CARGO_BIN_EXE_dolmen"));
        cluster.import("base", &libraries(binary), &[]);
        let mut files: Vec<PathBuf> = BUILD_PROGRAMS.iter().map(PathBuf::from).collect();
        files.extend(files.clone().iter().flat_map(|program| libraries(program)));
        let cargo = tempfile::NamedTempFile::new().expect("a file");
        fs::write(cargo.path(), CARGO).expect("a script");
        cluster.import("build", &files, &[(binary, "stand-in/dolmen"), (cargo.path(), "usr/local/bin/cargo")]);
        let build = format!("BUILD_IMAGE={}", cluster.image("build"));
        let base = format!("BASE_IMAGE={}", cluster.image("base"));
        cluster.compose(&["build", "--build-arg", &build, "--build-arg", &base]);
        cluster
    }

    fn image(&self, name: &str) -> String {
        format!("{}-{name}", self.project)
    }

    /// Makes an image of this machine's files, at the same places, and of others at places of their own.
    fn import(&self, name: &str, files: &[PathBuf], others: &[(&Path, &str)]) {
        let root = tempfile::tempdir().expect("a directory");
        let same =
            files.iter().map(|file| (file.as_path(), file.to_str().expect("a plain path").trim_start_matches('/')));
        for (from, to) in same.chain(others.iter().copied()) {
            let to = root.path().join(to);
            fs::create_dir_all(to.parent().expect("a file stands in a directory")).expect("a directory");
            fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("a file of ours");
        }
        let archive = tempfile::NamedTempFile::new().expect("a file");
        run(Command::new("tar").arg("-C").arg(root.path()).arg("-cf").arg(archive.path()).arg("."));
        let archive = archive.path().to_str().expect("a plain path");
        self.docker(&["import", archive, &self.image(name)]);
    }

    /// The nameless images that the classic builder leaves behind: those that begin with our own first layer.
    fn build_stages(&self) -> Vec<String> {
        let docker = |arguments: &[&str]| try_run(Command::new("docker").args(arguments)).unwrap_or_default();
        let first_layer = |image: &str| docker(&["image", "inspect", "--format", "{{index .RootFS.Layers 0}}", image]);
        let ours = first_layer(&self.image("build"));
        let nameless = docker(&["image", "ls", "--quiet", "--filter", "dangling=true"]);
        nameless.lines().filter(|image| first_layer(image) == ours).map(str::to_owned).collect()
    }

    fn docker(&self, arguments: &[&str]) -> String {
        run(Command::new("docker").args(arguments))
    }

    fn compose(&self, arguments: &[&str]) -> String {
        run(&mut self.compose_command(arguments))
    }

    fn compose_command(&self, arguments: &[&str]) -> Command {
        let mut command = in_words(&self.compose);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.args(["--file", "docker-compose.yml", "--project-name", &self.project]).args(arguments);
        command.env("NODE_IMAGE", self.image("node"));
        for (number, port) in (1..).zip(self.ports) {
            command.env(format!("NODE{number}_PORT"), port.to_string());
        }
        command
    }

    /// The container's id: its name is written differently by different versions of Compose.
    fn container(&self, node: usize) -> String {
        let id = self.compose(&["ps", "--quiet", "--all", &format!("node{}", node + 1)]);
        id.lines().last().expect("the service has a container").to_owned()
    }

    fn wait_healthy(&self, node: usize) {
        let container = self.container(node);
        wait::until(HEALTHY, format!("node {} to be healthy", node + 1), || {
            let health = self.docker(&["inspect", "--format", "{{.State.Health.Status}}", &container]);
            (health.trim() == "healthy").then_some(())
        });
    }

    fn log(&self, node: usize) -> String {
        try_run(&mut self.compose_command(&["logs", "--no-color", &format!("node{}", node + 1)])).unwrap_or_default()
    }

    fn get(&self, node: usize, path: &str) -> Option<http::Response> {
        http::request(self.ports[node], &Request::get(path)).ok()
    }

    fn mine(&self, node: usize, entry: &str) -> Option<String> {
        mine(self.ports[node], entry)
    }

    fn tip(&self, node: usize) -> Option<(u64, String)> {
        let status = self.get(node, "/status").filter(|answer| answer.status == 200)?.json();
        Some((status["tip"]["index"].as_u64()?, status["tip"]["hash"].as_str()?.to_owned()))
    }

    fn blocks(&self, node: usize) -> String {
        self.get(node, "/blocks").expect("a healthy node answers").expect(200).text().to_owned()
    }

    fn wait_index(&self, node: usize, index: u64) {
        let reached = || self.tip(node).filter(|(now, _)| *now >= index);
        wait::until(AGREED, format!("block {index} on node {}", node + 1), reached);
    }

    fn wait_equal(&self) {
        wait::until(AGREED, "one tip on all three nodes", || {
            let tip = self.tip(0)?;
            (1..3).all(|node| self.tip(node).as_ref() == Some(&tip)).then_some(())
        });
    }

    /// Waits until all nodes have one chain in which each of the entries stands exactly once.
    fn wait_holds(&self, entries: &[String]) {
        let mut missing = usize::MAX;
        let holds = wait::try_until(AGREED, || {
            self.wait_equal();
            let chain = self.blocks(0);
            let mut found: BTreeMap<&str, usize> = BTreeMap::new();
            let blocks: serde_json::Value = serde_json::from_str(&chain).expect("the chain is JSON");
            let bodies = blocks.as_array().expect("an array").iter().filter_map(|block| block["body"].as_array());
            bodies.flatten().filter_map(|entry| entry.as_str()).for_each(|entry| *found.entry(entry).or_default() += 1);
            let doubled: Vec<_> = found.iter().filter(|(_, count)| **count > 1).collect();
            assert!(doubled.is_empty(), "no entry stands twice in a chain: {doubled:?}");
            missing = entries.iter().filter(|entry| !found.contains_key(entry.as_str())).count();
            (missing == 0 && (1..3).all(|node| self.blocks(node) == chain)).then_some(())
        });
        assert!(holds.is_some(), "{missing} of {} acknowledged entries are on no node after {AGREED:?}", entries.len());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            (0..3).for_each(|node| eprintln!("---- log of node {} ----\n{}", node + 1, self.log(node)));
        }
        let down = try_run(&mut self.compose_command(&["down", "--volumes", "--remove-orphans", "--timeout", "5"]));
        let mut images = ["node", "build", "base"].map(|name| self.image(name)).to_vec();
        images.extend(self.build_stages());
        let removed = try_run(Command::new("docker").args(["image", "rm", "--force"]).args(&images));
        for failed in [down, removed].iter().filter_map(|result| result.as_ref().err()) {
            eprintln!("left behind by project {}: {failed}", self.project);
        }
    }
}

fn mine(port: u16, entry: &str) -> Option<String> {
    let body = serde_json::json!({ "data": [entry] }).to_string();
    let answer = http::request(port, &Request::post_json("/mineBlock", &body)).ok()?;
    (answer.status == 200).then(|| answer.text().to_owned())
}

/// Posts one entry after the other to the nodes in turn, whether they are there or not.
struct Miner {
    stop: Sender<()>,
    acknowledged: JoinHandle<Vec<String>>,
}

impl Miner {
    fn start(ports: [u16; 3], name: &'static str) -> Self {
        let (stop, stopped) = mpsc::channel();
        let acknowledged = thread::spawn(move || {
            let mut acknowledged = Vec::new();
            for (number, port) in ports.into_iter().cycle().enumerate() {
                let entry = format!("{name} {number}");
                if mine(port, &entry).is_some() {
                    acknowledged.push(entry);
                }
                // Also ends when the test panicked and dropped the other end.
                if stopped.recv_timeout(PACE) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            acknowledged
        });
        Self { stop, acknowledged }
    }

    /// Every entry that a node answered for.
    fn stop(self) -> Vec<String> {
        let _ = self.stop.send(());
        let acknowledged = self.acknowledged.join().expect("the miner does not panic");
        assert!(acknowledged.len() > 30, "the nodes took {} entries", acknowledged.len());
        acknowledged
    }
}

/// The shared libraries of a program, and the loader.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let list = run(Command::new("ldd").arg(program));
    list.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// Three free ports of the loopback address; all three are held until they are known.
fn free_ports() -> [u16; 3] {
    let listeners = [0; 3].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound listener").port())
}
