//! The program as a process: settings, exit codes, signals, the commands, the network in one process.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::audit::Audit;
use support::http::Request;
use support::process::{NodeOptions, NodeProcess, StartFailure, command};
use support::{add_peer, blocks, http, mine, tip, wait, wait_index};
use tempfile::TempDir;

/// Long enough for a command that does its work or refuses it.
const COMMAND: Duration = Duration::from_secs(60);

fn dolmen(arguments: &[&str]) -> Command {
    let mut command = command(None);
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("the program runs")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("stdout is UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("stderr is UTF-8")
}

/// Runs a command that must refuse with this code; returns the one line it says.
fn refusal(command: &mut Command, code: i32) -> String {
    let output = run(command);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(stdout(&output), "", "stdout is for data");
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "one sentence: {said}");
    let sentence = lines[0].strip_prefix("dolmen: ").unwrap_or_else(|| panic!("a sentence of dolmen's: {said}"));
    sentence.to_owned()
}

/// A node that may not start: on free ports and a folder of its own unless told otherwise.
fn node(dir: &TempDir, arguments: &[&str]) -> Command {
    let mut command = dolmen(&["node", "--http", "127.0.0.1:0", "--p2p", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(dir.path().join("data")).args(arguments);
    command
}

fn temporary() -> TempDir {
    TempDir::with_prefix("dolmen-test-").expect("a temporary directory")
}

// ---- Settings that cannot be used

#[test]
fn what_was_typed_wrongly_is_a_usage_error() {
    for (arguments, says) in [
        (&["node", "--htpp", "127.0.0.1:0"][..], "--htpp"),
        (&["node", "--http"], "--http"),
        (&["node", "--max-reorg", "many"], "--max-reorg"),
        (&["node", "--max-reorg", "-1"], "-1"),
        (&["node", "surplus"], "surplus"),
        (&["devnet", "--nodes", "0"], "--nodes"),
        (&["devnet", "--nodes", "17"], "--nodes"),
        (&["devnet", "--http-port", "65536"], "--http-port"),
        (&["mine", "--batch", "0", "--file", "x"], "--batch"),
        (&["add-peers"], "<PEERS>"),
        (&["blocks", "tip", "--from", "1"], "--from"),
        (&["blocks", "--limit", "x"], "--limit"),
        (&["unknown"], "unknown"),
        (&["help"], "help"),
        (&[], "Usage"),
    ] {
        let output = run(&mut dolmen(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
    for (arguments, says) in
        [(&["--help"][..], "devnet"), (&["node", "--help"], "DOLMEN_DATA_DIR"), (&["--version"], "dolmen ")]
    {
        let output = run(&mut dolmen(arguments));
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""), "{arguments:?}");
        assert!(stdout(&output).contains(says), "{arguments:?}: {}", stdout(&output));
    }
}

#[test]
fn settings_that_cannot_be_used_are_named_in_one_sentence() {
    let dir = temporary();
    let flag = |arguments: &[&str]| refusal(&mut node(&dir, arguments), 2);
    assert!(flag(&["--peer", "http://x"]).starts_with("--peer: \"http://x\" does not begin with ws://"));
    assert!(flag(&["--log", "a=b=c"]).starts_with("--log a=b=c: "));
    let env = |pairs: &[(&str, &str)]| {
        let mut command = dolmen(&["node", "--data-dir"]);
        command.arg(dir.path().join("data")).envs(pairs.iter().copied());
        refusal(&mut command, 2)
    };
    assert_eq!(
        env(&[("DOLMEN_HTPP", "127.0.0.1:0")]),
        "the environment variable DOLMEN_HTPP is not a setting of dolmen; the settings are DOLMEN_HTTP, DOLMEN_P2P, \
         DOLMEN_DATA_DIR, DOLMEN_PEERS, DOLMEN_ALLOWED_HOSTS, DOLMEN_API_TOKEN_FILE, \
         DOLMEN_CLUSTER_KEY_FILE, DOLMEN_TLS_CERT, DOLMEN_TLS_KEY, DOLMEN_TLS_CA, DOLMEN_SCRUB_RATE, DOLMEN_MAX_REORG, \
         DOLMEN_MAX_INBOUND, DOLMEN_MAX_OUTBOUND, DOLMEN_MAX_PER_ADDRESS, \
         DOLMEN_MAX_CLIENTS, DOLMEN_LOG, DOLMEN_LOG_FORMAT"
    );
    assert_eq!(
        env(&[("PORT", "3005"), ("DOLMEN_HTTP", "127.0.0.1:3006")]),
        "DOLMEN_HTTP=127.0.0.1:3006 and PORT=3005 contradict each other: unset one of them"
    );
    assert_eq!(
        env(&[("WS_PORT", "6010"), ("DOLMEN_P2P", "127.0.0.1:6011")]),
        "DOLMEN_P2P=127.0.0.1:6011 and WS_PORT=6010 contradict each other: unset one of them"
    );
    assert_eq!(
        env(&[("PORT", "4000"), ("WS_PORT", "4000")]),
        "http 127.0.0.1:4000 and p2p 127.0.0.1:4000 contradict each other: they need different ports"
    );
    assert!(env(&[("PORT", "http")]).starts_with("PORT: \"http\" is not usable"));
    assert!(env(&[("DOLMEN_HTTP", "3000")]).starts_with("DOLMEN_HTTP: \"3000\" is not an address like 127.0.0.1:3000"));
    assert!(env(&[("DOLMEN_PEERS", "ws://a:1,b:2")]).starts_with("DOLMEN_PEERS: \"b:2\""));
    assert!(env(&[("DOLMEN_MAX_REORG", "1e3")]).starts_with("DOLMEN_MAX_REORG: \"1e3\" is not usable"));
    assert!(env(&[("DOLMEN_LOG_FORMAT", "xml")]).starts_with("DOLMEN_LOG_FORMAT: \"xml\" is not auto, pretty or json"));
    assert!(!dir.path().join("data").exists(), "nothing was made");
}

#[test]
fn a_file_of_settings_is_read_strictly() {
    let dir = temporary();
    let path = dir.path().join("node.toml");
    let name = path.to_str().expect("UTF-8");
    assert_eq!(
        refusal(&mut node(&dir, &["--config", name]), 2),
        format!("the configuration file {name}: No such file or directory (os error 2)")
    );
    for (text, says) in [
        ("http = ", "http ="),
        ("htpp = '127.0.0.1:0'", "htpp"),
        ("http = 3000", "string"),
        ("max_reorg = -1", "-1"),
        ("peers = 'ws://a:1'", "sequence"),
        ("[node]\nhttp = '127.0.0.1:0'", "node"),
        ("log_format = 'xml'", "xml"),
    ] {
        fs::write(&path, text).expect("a file");
        let said = refusal(&mut node(&dir, &["--config", name]), 2);
        assert!(said.starts_with(&format!("the configuration file {name}: ")) && said.contains(says), "{text}: {said}");
    }
    fs::write(&path, "peers = ['http://x']").expect("a file");
    let said = refusal(&mut node(&dir, &["--config", name]), 2);
    assert!(said.starts_with("peers in the configuration file: \"http://x\""), "{said}");
    fs::write(&path, b"log = '\xff'").expect("a file");
    let said = refusal(&mut node(&dir, &["--config", name]), 2);
    assert!(said.starts_with(&format!("the configuration file {name}: ")), "{said}");
}

// ---- What is taken, foreign or not to be had

#[test]
fn a_taken_port_is_named_with_the_flag_that_chooses_another() {
    let dir = temporary();
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = holder.local_addr().expect("bound").to_string();
    for (flag, other, what) in [("--http", "--p2p", "HTTP"), ("--p2p", "--http", "peers")] {
        let mut command = dolmen(&["node", flag, &address, other, "127.0.0.1:0", "--data-dir"]);
        command.arg(dir.path().join("data"));
        assert_eq!(
            refusal(&mut command, 1),
            format!(
                "cannot listen for {what} on {address}: Address already in use (os error 98); choose another with {flag}"
            )
        );
    }
    let mut command = dolmen(&["devnet", "--nodes", "1", "--p2p-port", "0", "--http-port"]);
    let said = refusal(command.arg(address.rsplit(':').next().expect("a port")), 1);
    assert!(said.starts_with(&format!("node 1: cannot listen for HTTP on {address}: ")), "{said}");
}

fn failure(options: NodeOptions) -> StartFailure {
    NodeProcess::try_start(options).err().expect("it may not start")
}

fn says(failure: &StartFailure) -> String {
    let lines: Vec<&str> = failure.log.lines().filter(|line| line.starts_with("dolmen: ")).collect();
    assert_eq!(lines.len(), 1, "{}", failure.log);
    assert_eq!(failure.status.and_then(|status| status.code()), Some(1), "{}", failure.log);
    lines[0]["dolmen: ".len()..].to_owned()
}

#[test]
fn a_second_process_on_a_data_dir_is_told_who_holds_it() {
    let dir = temporary();
    let mut first = NodeProcess::start(NodeOptions::new().data_dir(dir.path()));
    mine(&first, "one");
    let said = says(&failure(NodeOptions::new().data_dir(dir.path())));
    let path = dir.path().display();
    assert!(said.starts_with(&format!("{path} is in use by ")), "{said}");
    assert!(said.contains(&first.pid().to_string()), "the holder's process id, {}: {said}", first.pid());
    mine(&first, "two");
    // What a killed process leaves behind does not lock.
    first.kill9();
    let second = NodeProcess::start(NodeOptions::new().data_dir(dir.path()));
    assert_eq!(tip(&second).0, 2);
}

#[test]
fn a_folder_that_is_not_ours_is_left_alone() {
    let dir = temporary();
    fs::write(dir.path().join("photo.jpg"), "not ours").expect("a file");
    let said = says(&failure(NodeOptions::new().data_dir(dir.path())));
    assert!(said.starts_with(&format!("{} is not a dolmen data directory: ", dir.path().display())), "{said}");
    let left: Vec<_> =
        fs::read_dir(dir.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["photo.jpg"], "nothing was added");

    // A file in the place of the folder, and a folder below a file: refused by the system, for root too.
    let file = dir.path().join("photo.jpg");
    let said = says(&failure(NodeOptions::new().data_dir(&file)));
    assert!(said.contains(&file.display().to_string()), "{said}");
    let below = file.join("data");
    let said = says(&failure(NodeOptions::new().data_dir(&below)));
    assert!(
        said.starts_with(&format!("cannot open {}", below.display())) && said.contains("Not a directory"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&file).expect("still a file"), "not ours");
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = temporary();
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).expect("a folder");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).expect("our folder");
    if fs::write(locked.join("probe"), "").is_ok() {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    let data = locked.join("data");
    let said = says(&failure(NodeOptions::new().data_dir(&data)));
    assert!(
        said.starts_with(&format!("cannot open {}", data.display())) && said.contains("Permission denied"),
        "{said}"
    );
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let mut node = NodeProcess::start(NodeOptions::new());
    mine(&node, "kept");
    assert!(node.terminate().success());
    let format = node.data_dir().join("FORMAT");
    let text = fs::read_to_string(&format).expect("the file that says what this is");
    // As another program would write it, with the checksum of its last line.
    let written = |from: &str, to: &str| {
        let said = text.split_once("check ").expect("a checksum at the end").0.replace(from, to);
        assert_ne!(text.split_once("check ").expect("as above").0, said);
        format!("{said}check {:08x}\n", crc32fast::hash(said.as_bytes()))
    };
    let path = format.display();
    for (changed, wanted) in [
        (
            written("format 1\n", "format 7\n"),
            format!("{path} has format 7, and this program knows formats up to 1: use a newer dolmen"),
        ),
        (written("f087ad9b", "00000000"), format!("{path} holds a chain with genesis 00000000")),
    ] {
        fs::write(&format, &changed).expect("our file");
        let failure = node.try_restart().expect_err("it may not start");
        let said = failure.log.lines().rfind(|line| line.starts_with("dolmen: ")).expect("a sentence");
        assert!(said.starts_with(&format!("dolmen: {wanted}")), "{said}");
        assert_eq!(failure.status.and_then(|status| status.code()), Some(1));
        assert_eq!(fs::read_to_string(&format).expect("still there"), changed);
    }
    fs::write(&format, &text).expect("our file");
    node.restart();
    assert_eq!(tip(&node).0, 1);
}

// ---- Signals

#[test]
fn either_signal_stops_it_cleanly() {
    for signal in ["INT", "TERM"] {
        let mut node = NodeProcess::start(NodeOptions::new());
        mine(&node, "kept");
        let before = blocks(&node);
        // An idle connection does not hold it up.
        let _idle = node.connect();
        let started = Instant::now();
        node.signal(signal);
        assert_eq!(node.wait_exit().code(), Some(0), "{signal}");
        eprintln!("SIG{signal}: stopped after {:?}", started.elapsed());
        assert_eq!(node.more_stdout(), None);
        node.restart();
        assert!(blocks(&node) == before, "{signal}");
    }
}

#[test]
fn a_second_signal_stops_it_at_once() {
    let mut node = NodeProcess::start(NodeOptions::new());
    // A request that never ends holds a clean stop up for a while.
    let mut slow = node.connect();
    slow.send_raw(
        b"POST /mineBlock HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    )
    .expect("sent");
    let _ = node.get("/livez").expect(200);
    node.signal("INT");
    wait::until(COMMAND, "the node to say that it is stopping", || {
        (!node.is_running() || node.log().contains("stopping; once more to stop at once")).then_some(())
    });
    if node.is_running() {
        node.signal("TERM");
        assert_eq!(node.wait_exit().code(), Some(130));
    }
    node.restart();
    mine(&node, "well");
}

// ---- Where settings come from

/// Starts a node by its environment, flags and file alone, and reads the line that says where it listens.
fn said_ready(mut command: Command) -> (Value, Running) {
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program runs");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let running = Running(child);
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    (serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}")), running)
}

/// A process that does not outlive its test.
struct Running(Child);

impl Running {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -s {name}");
    }

    fn wait(&mut self) -> ExitStatus {
        let child = &mut self.0;
        wait::until(COMMAND, "the process to end", || child.try_wait().expect("our child"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody listens on; somebody may take it before it is used, so callers try again.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

#[test]
fn the_tutorials_port_variables_work() {
    let dir = temporary();
    let (port, ws_port) = (free_port(), free_port());
    let mut command = dolmen(&["node"]);
    command.current_dir(dir.path()).env("PORT", port.to_string()).env("WS_PORT", ws_port.to_string());
    let (ready, running) = said_ready(command);
    assert_eq!(
        ready,
        json!({
            "http": format!("127.0.0.1:{port}"),
            "p2p": format!("127.0.0.1:{ws_port}"),
            "data_dir": "dolmen-data",
            "pid": running.0.id(),
        })
    );
    assert_eq!(http::request(port, &Request::get("/version")).expect("an answer").text(), "1.0.0");
    assert!(dir.path().join("dolmen-data").is_dir(), "the default folder");
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let dir = temporary();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let file = dir.path().join("node.toml");
    let text = format!(
        "http = '127.0.0.3:0'\np2p = '127.0.0.3:0'\ndata_dir = '{}'\npeers = ['ws://127.0.0.1:1']\nlog = 'error'",
        path("of-the-file")
    );
    fs::write(&file, text).expect("a file");
    let host = |ready: &Value, key: &str| {
        let address = ready[key].as_str().expect("an address");
        address.rsplit_once(':').expect("a port").0.to_owned()
    };
    let start = |flags: &[(&str, &str)], variables: &[(&str, String)]| {
        let mut command = dolmen(&["node"]);
        for (flag, value) in flags {
            command.args([flag, value]);
        }
        command.env("DOLMEN_CONFIG", &file).envs(variables.iter().map(|(name, value)| (name, value)));
        let (ready, running) = said_ready(command);
        let port = ready["http"].as_str().expect("an address").to_owned();
        drop(running);
        (host(&ready, "http"), host(&ready, "p2p"), ready["data_dir"].as_str().expect("a path").to_owned(), port)
    };
    let (http, p2p, data_dir, _) = start(&[], &[]);
    assert_eq!((http.as_str(), p2p.as_str(), data_dir), ("127.0.0.3", "127.0.0.3", path("of-the-file")));
    let variables = [
        ("DOLMEN_HTTP", "127.0.0.2:0".to_owned()),
        ("DOLMEN_P2P", "127.0.0.2:0".to_owned()),
        ("DOLMEN_DATA_DIR", path("of-the-environment")),
    ];
    let (http, p2p, data_dir, _) = start(&[], &variables);
    assert_eq!((http.as_str(), p2p.as_str(), data_dir), ("127.0.0.2", "127.0.0.2", path("of-the-environment")));
    let flags = [("--http", "127.0.0.1:0"), ("--data-dir", &path("of-the-flag"))];
    let (http, p2p, data_dir, _) = start(&flags, &variables);
    assert_eq!((http.as_str(), p2p.as_str(), data_dir), ("127.0.0.1", "127.0.0.2", path("of-the-flag")));
}

#[test]
fn peers_of_the_environment_are_linked_with() {
    let first = NodeProcess::start(NodeOptions::new());
    mine(&first, "first's");
    let list = format!("ws://127.0.0.1:1, {}", first.p2p_url());
    let second = NodeProcess::start(NodeOptions::new().env("DOLMEN_PEERS", &list));
    wait_index(&second, 1);
    assert_eq!(blocks(&second), blocks(&first));
}

// ---- The commands

/// A command to a node.
fn client(node: &NodeProcess, arguments: &[&str]) -> Command {
    let mut command = dolmen(arguments);
    command.env("DOLMEN_URL", node.http_url());
    command
}

fn succeeds(command: &mut Command) -> String {
    let output = run(command);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""), "{}", stdout(&output));
    stdout(&output).to_owned()
}

#[test]
fn the_commands_do_what_the_routes_do() {
    let (node, other) = (NodeProcess::start(NodeOptions::new()), NodeProcess::start(NodeOptions::new()));
    let mined = succeeds(&mut client(&node, &["mine", "Hello", "돌 \"\\ \u{1f5ff}", ""]));
    assert_eq!(mined, format!("{}\n", node.get("/blocks/tip").expect(200).text()));
    let block: Value = serde_json::from_str(&mined).expect("JSON");
    assert_eq!(block["body"], json!(["Hello", "돌 \"\\ \u{1f5ff}", ""]));
    assert_eq!(succeeds(&mut client(&node, &["mine", "--", "--from"])).trim_end(), node.get("/blocks/tip").text());

    let all = blocks(&node);
    assert_eq!(succeeds(&mut client(&node, &["blocks"])), format!("{all}\n"));
    for (arguments, path) in [
        (&["blocks", "1"][..], "/blocks/1"),
        (&["blocks", "tip"], "/blocks/tip"),
        (&["blocks", &tip(&node).1], "/blocks/2"),
        (&["blocks", "--from", "1"], "/blocks?from=1"),
        (&["blocks", "--from", "1", "--limit", "1"], "/blocks?from=1&limit=1"),
        (&["blocks", "--limit", "2"], "/blocks?limit=2"),
        (&["peers"], "/peers"),
        (&["forks"], "/forks"),
    ] {
        let answer = node.get(path).expect(200);
        assert_eq!(succeeds(&mut client(&node, arguments)), format!("{}\n", answer.text()), "{arguments:?}");
    }
    let status: Value = serde_json::from_str(&succeeds(&mut client(&node, &["status"]))).expect("JSON");
    assert_eq!((&status["blocks"], &status["tip"]["hash"]), (&json!(3), &json!(tip(&node).1)));
    assert_eq!(succeeds(&mut client(&node, &["health"])), "");
    // The node's address from the environment, with a slash at its end.
    let mut by_variable = dolmen(&["blocks", "0"]);
    by_variable.env("DOLMEN_URL", format!("{}/", node.http_url()));
    assert_eq!(succeeds(&mut by_variable), format!("{}\n", node.get("/blocks/0").text()));

    let rows: Value =
        serde_json::from_str(&succeeds(&mut client(&other, &["add-peers", &node.p2p_url()]))).expect("JSON");
    assert_eq!(rows, json!([{ "peer": node.p2p_url(), "address": node.p2p_url(), "status": "connecting" }]));
    wait_index(&other, 2);
    assert_eq!(blocks(&other), all);
}

#[test]
fn a_command_that_fails_says_why_with_the_documented_code() {
    let node = NodeProcess::start(NodeOptions::new());
    let leaf = "A".repeat(64);
    let refused = |arguments: &[&str]| refusal(&mut client(&node, arguments), 1);
    assert!(refused(&["mine", &leaf]).contains("64"), "the rule that the entry breaks");
    assert_eq!(refused(&["blocks", "7"]), "there is no block 7 yet; the tip is block 0");
    assert!(refused(&["blocks", "x"]).starts_with("\"x\" names no block"));
    assert!(refused(&["add-peers", "http://x"]).starts_with("\"http://x\" does not begin with ws://"));
    assert!(refused(&["adopt", &leaf.to_lowercase()]).contains(&leaf.to_lowercase()));
    assert!(refused(&["adopt", "x"]).contains("block hash"));
    assert_eq!(tip(&node).0, 0);

    let nobody = format!("http://127.0.0.1:{}", free_port());
    for arguments in [&["mine", "x"][..], &["blocks"], &["peers"], &["add-peers", "ws://a:1"], &["status"], &["health"]]
    {
        let mut command = dolmen(arguments);
        let said = refusal(command.args(["--url", &nobody]), 4);
        assert!(said.starts_with(&format!("no node answers at {nobody}: ")), "{arguments:?}: {said}");
    }
    for url in ["127.0.0.1:3000", "", "ftp://127.0.0.1", "http://", "nonsense"] {
        let mut command = dolmen(&["status"]);
        let said = refusal(command.args(["--url", url]), 2);
        assert!(said.starts_with(&format!("--url {}: ", url.trim_end_matches('/'))), "{url}: {said}");
    }
}

#[test]
fn what_a_node_says_does_nothing_to_the_terminal() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a port"));
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let _ = socket.read(&mut [0; 4096]).expect("a request");
        let body = json!({ "detail": "no\u{1b}[2J such\u{9b}31m block\u{202e}" }).to_string();
        let head = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        socket.write_all((head + &body).as_bytes()).expect("the client reads");
    });
    let said = refusal(dolmen(&["status"]).args(["--url", &url]), 1);
    assert_eq!(said, r"no\u{1b}[2J such\u{9b}31m block\u{202e}");
    server.join().expect("the server is done");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let node = NodeProcess::start(NodeOptions::new());
    let large = json!({ "data": vec!["x".repeat(60_000); 16] }).to_string();
    for _ in 0..4 {
        let _ = node.post_json("/mineBlock", &large).expect(200);
    }
    let mut child =
        Running(client(&node, &["blocks"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs"));
    let mut out = child.0.stdout.take().expect("stdout is piped");
    let mut first = [0; 10];
    out.read_exact(&mut first).expect("the beginning");
    assert_eq!(&first, br#"[{"header""#);
    drop(out);
    assert_eq!(child.wait().code(), Some(0));
    let mut said = String::new();
    child.0.stderr.take().expect("stderr is piped").read_to_string(&mut said).expect("text");
    assert_eq!(said, "");
    // So that nothing depends on how much fits into a pipe: a reader that never reads.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = client(&node, &["blocks"]).stdout(writer).stderr(Stdio::piped()).output().expect("it runs");
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}

// ---- The network in one process

#[test]
fn devnet_is_a_joined_network_that_leaves_nothing_behind() {
    let parent = temporary();
    let mut command = dolmen(&["devnet", "--nodes", "3", "--http-port", "0", "--p2p-port", "0"]);
    command.env("TMPDIR", parent.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().expect("the program runs"));
    let mut lines = BufReader::new(running.0.stdout.take().expect("stdout is piped")).lines();
    let mut welcome = Vec::new();
    for line in lines.by_ref() {
        let line = line.expect("text");
        let last = line == "Ctrl-C stops.";
        welcome.push(line);
        if last {
            break;
        }
    }
    assert_eq!(welcome[0], "3 nodes are joined. Each has the explorer and the API on its first address:");
    let ports: Vec<(u16, u16)> = welcome
        .iter()
        .filter_map(|line| {
            let (http, p2p) = line.trim().strip_prefix("node ")?.split_once("   peers ws://127.0.0.1:")?;
            Some((http.rsplit_once(':')?.1.parse().ok()?, p2p.parse().ok()?))
        })
        .collect();
    assert_eq!(ports.len(), 3, "{welcome:#?}");
    let chains: Vec<_> = fs::read_dir(parent.path()).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    assert_eq!(chains.len(), 1, "one folder for the chains");
    assert!(welcome.iter().any(|line| line.contains(&chains[0].display().to_string())), "{welcome:#?}");
    for number in 1..=3 {
        assert!(chains[0].join(format!("node{number}")).is_dir());
    }

    let get =
        |place: usize, path: &str| http::request(ports[place].0, &Request::get(path)).expect("an answer").expect(200);
    wait::until(wait::SOON, "every node to be linked with both others", || {
        (0..3).all(|place| get(place, "/status").json()["peers"]["native"] == 2).then_some(())
    });
    // The commands that it prints do what they should, in a shell.
    let curls: Vec<&str> = welcome.iter().map(|line| line.trim()).filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(curls.len(), 4, "{welcome:#?}");
    assert!(curls[0].contains(&format!("http://127.0.0.1:{}/mineBlock", ports[0].0)), "{}", curls[0]);
    let body = curls[0].split_once("-d '").and_then(|(_, rest)| rest.split_once('\'')).expect("a body").0;
    let _ = http::request(ports[0].0, &Request::post_json("/mineBlock", body)).expect("an answer").expect(200);
    for place in 0..3 {
        wait::until(wait::SOON, format!("the block on node {}", place + 1), || {
            (get(place, "/blocks/tip").json()["body"] == json!(["Hello"])).then_some(())
        });
    }
    let texts: Vec<String> = (0..3).map(|place| get(place, "/blocks").text().to_owned()).collect();
    assert_eq!(Audit::of(&texts[0]).tip().0, 1);
    assert!(texts.iter().all(|text| *text == texts[0]));
    assert!(get(0, "/").text().contains("</html>"));

    running.signal("INT");
    assert_eq!(running.wait().code(), Some(0));
    assert_eq!(fs::read_dir(parent.path()).expect("a folder").count(), 0, "the chains are gone");
    assert!(lines.next().is_none(), "nothing more on stdout");
}

#[test]
fn devnet_keeps_the_chains_in_a_folder_that_is_named() {
    let dir = temporary();
    let kept = dir.path().join("kept");
    let start = || {
        let mut command = dolmen(&["devnet", "--nodes", "2", "--http-port", "0", "--p2p-port", "0", "--data-dir"]);
        command.arg(&kept).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running(command.spawn().expect("the program runs"));
        let mut lines = BufReader::new(running.0.stdout.take().expect("stdout is piped")).lines();
        let port = lines.by_ref().map(|line| line.expect("text")).find_map(|line| {
            let (http, _) = line.trim().strip_prefix("node 1   http://127.0.0.1:")?.split_once(' ')?;
            http.parse::<u16>().ok()
        });
        (running, lines, port.expect("the first node's port"))
    };
    let (mut running, _lines, port) = start();
    let mined = http::request(port, &Request::post_json("/mineBlock", r#"{"data":["kept"]}"#)).expect("an answer");
    let block = mined.expect(200).text().to_owned();
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(0));
    assert!(kept.join("node1").is_dir() && kept.join("node2").is_dir());
    let (_running, _lines, port) = start();
    assert_eq!(http::request(port, &Request::get("/blocks/tip")).expect("an answer").expect(200).text(), block);
}

#[test]
fn a_node_remembers_its_peers() {
    let first = NodeProcess::start(NodeOptions::new());
    let mut second = NodeProcess::start(NodeOptions::new());
    add_peer(&second, &first.p2p_url());
    mine(&first, "one");
    wait_index(&second, 1);
    second.kill9();
    mine(&first, "two");
    second.restart();
    wait_index(&second, 2);
    assert!(second.terminate().success());
    mine(&first, "three");
    second.restart();
    wait_index(&second, 3);
    let _ = std::io::stderr().flush();
}
