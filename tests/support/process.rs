//! The real binary as a process of its own, with a data directory and ports of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;
use tempfile::TempDir;

use super::http::{self, Connection, Request, Response};
use super::wait;

/// How long a node may take until both ports are bound and its chain is readable.
const READY: Duration = Duration::from_secs(60);

/// How long a node may take to end when it is asked to.
const ENDING: Duration = Duration::from_secs(30);

/// How to start a node; without anything said, a lone one on free ports with an empty data directory of its own.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    data_dir: Option<PathBuf>,
    program: Option<PathBuf>,
    steady_ports: bool,
}

impl NodeOptions {
    /// A lone node.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a configured peer.
    #[must_use]
    pub fn peer(self, url: &str) -> Self {
        self.arg("--peer").arg(url)
    }

    /// With one more argument behind `dolmen node`.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// On a directory that the test owns and that outlives the node.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// On ports that the system gives to nobody by itself: for a node that is away for a while among programs that dial,
    /// whose own ends could otherwise come to lie on its ports.
    #[must_use]
    pub fn steady_ports(mut self) -> Self {
        self.steady_ports = true;
        self
    }

    /// Another program in place of the binary under test.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }
}

/// What a node writes to stdout, once it is ready.
#[derive(Clone, Debug, Deserialize)]
struct Ready {
    http: String,
    p2p: String,
    data_dir: PathBuf,
    pid: u32,
}

/// A running node; killed when dropped. Its log is printed when the test fails.
pub struct NodeProcess {
    options: NodeOptions,
    /// Holds the log, and the data unless the test has a directory for it.
    home: TempDir,
    data_dir: PathBuf,
    child: Child,
    stdout: Receiver<String>,
    ready: Ready,
    http_port: u16,
    p2p_port: u16,
}

impl NodeProcess {
    /// Starts a node and waits until it is ready.
    pub fn start(options: NodeOptions) -> Self {
        Self::try_start(options).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Starts a node that may refuse to run: what it said then is the error.
    pub fn try_start(options: NodeOptions) -> Result<Self, StartFailure> {
        let home = TempDir::with_prefix("dolmen-test-").expect("a temporary directory");
        let data_dir = options.data_dir.clone().unwrap_or_else(|| home.path().join("data"));
        let first = if options.steady_ports { (steady_port(), steady_port()) } else { (0, 0) };
        let (child, stdout, ready) = spawn(&options, home.path(), &data_dir, first.0, first.1)?;
        let (http_port, p2p_port) = (port_of(&ready.http), port_of(&ready.p2p));
        Ok(Self { options, home, data_dir, child, stdout, ready, http_port, p2p_port })
    }

    /// The HTTP port.
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// The peer port.
    pub fn p2p_port(&self) -> u16 {
        self.p2p_port
    }

    /// Where other nodes reach it.
    pub fn p2p_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.p2p_port)
    }

    /// Where clients reach it.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// Its data directory, as it was given.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The data directory and the process id, as the node says.
    pub fn says(&self) -> (&Path, u32) {
        (&self.ready.data_dir, self.ready.pid)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has logged so far, over all starts.
    pub fn log(&self) -> String {
        log_in(self.home.path())
    }

    /// The next line on stdout after the one that says that it is ready: there should be none.
    pub fn more_stdout(&self) -> Option<String> {
        self.stdout.try_recv().ok()
    }

    /// Bytes of memory that it occupies.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.pid())
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it as a power cut would, without a word.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_exit()
    }

    /// Sends a signal by its name: `TERM`, `INT`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -s {name} {}", self.pid());
    }

    /// Waits until it has ended by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait::until(ENDING, "the node to end", || child.try_wait().expect("the child is ours"))
    }

    /// Starts it again on the same directory and the same ports; kills it first if it still runs.
    pub fn restart(&mut self) {
        self.try_restart().unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// Starts it again; the error is what it said if it refused.
    pub fn try_restart(&mut self) -> Result<(), StartFailure> {
        self.kill9();
        let (child, stdout, ready) =
            spawn(&self.options, self.home.path(), &self.data_dir, self.http_port, self.p2p_port)?;
        (self.child, self.stdout, self.ready) = (child, stdout, ready);
        Ok(())
    }

    /// Sends a request on a connection of its own; a node that does not answer fails the test.
    pub fn request(&self, request: &Request) -> Response {
        self.try_request(request).unwrap_or_else(|error| panic!("{request:?} to port {}: {error}", self.http_port))
    }

    /// Sends a request to a node that may be gone.
    pub fn try_request(&self, request: &Request) -> std::io::Result<Response> {
        http::request(self.http_port, request)
    }

    /// `GET path`
    pub fn get(&self, path: &str) -> Response {
        self.request(&Request::get(path))
    }

    /// `POST path` with JSON.
    pub fn post_json(&self, path: &str, body: &str) -> Response {
        self.request(&Request::post_json(path, body))
    }

    /// A connection to its HTTP port, for many requests.
    pub fn connect(&self) -> Connection {
        Connection::open(self.http_port).expect("the node listens")
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill9();
        if thread::panicking() {
            eprintln!("---- log of the node on port {} ----\n{}", self.http_port, self.log());
        }
    }
}

/// A node that ended, or hung, before it was ready.
#[derive(Debug)]
pub struct StartFailure {
    /// Its exit status; `None` if it was still running and had to be killed.
    pub status: Option<ExitStatus>,
    /// Everything it wrote to stderr.
    pub log: String,
}

impl std::fmt::Display for StartFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            Some(status) => write!(f, "the node ended before it was ready ({status}):\n{}", self.log),
            None => write!(f, "the node was not ready within {READY:?}:\n{}", self.log),
        }
    }
}

fn spawn(
    options: &NodeOptions,
    home: &Path,
    data_dir: &Path,
    http_port: u16,
    p2p_port: u16,
) -> Result<(Child, Receiver<String>, Ready), StartFailure> {
    let log = File::options().create(true).append(true).open(home.join("log")).expect("a file for the log");
    let mut child = command(options.program.as_deref())
        .arg("node")
        .args(["--http", &format!("127.0.0.1:{http_port}")])
        .args(["--p2p", &format!("127.0.0.1:{p2p_port}")])
        .arg("--data-dir")
        .arg(data_dir)
        .args(&options.arguments)
        .envs(options.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("the binary under test can be started");
    let (line, lines) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
    let ready = lines.recv_timeout(READY);
    match ready.ok().and_then(|text| serde_json::from_str(&text).ok()) {
        Some(ready) => Ok((child, lines, ready)),
        None => {
            // stdout is closed or said something else: give the process a moment to end by itself.
            let status = wait::try_until(Duration::from_secs(5), || child.try_wait().ok().flatten());
            let _ = child.kill();
            let _ = child.wait();
            Err(StartFailure { status, log: log_in(home) })
        }
    }
}

/// Bytes of memory that a running process occupies.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the node runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a running process has VmRSS");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB");
    kib * 1024
}

/// Lets this process have as many sockets open as the system grants: many shells set fewer than a flood needs.
pub fn allow_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where the system refuses, what there is has to do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn log_in(home: &Path) -> String {
    std::fs::read(home.join("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
}

/// A free port below those that the system gives out by itself (from 32768 on, as Linux has it).
fn steady_port() -> u16 {
    loop {
        let port = rand::random_range(10_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn port_of(address: &str) -> u16 {
    let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("a bound address, not {address:?}"))
}

/// The binary under test, for `node` and for the client commands, without the variables of whoever runs the tests.
pub fn command(program: Option<&Path>) -> Command {
    let mut command = Command::new(program.unwrap_or(Path::new(env!("CARGO_BIN_EXE_dolmen"))));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("DOLMEN_") || ["PORT", "WS_PORT", "RUST_LOG"].contains(&&*text) {
            command.env_remove(name);
        }
    }
    command
}
