//! Commands that need no node: completions, manual pages, settings, and the doctor.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::thread;
use std::time::SystemTime;

use serde_json::{Value, json};
use tungstenite::handshake::derive_accept_key;

use super::support::js::Js;
use super::support::process::NodeOptions;
use super::support::{NodeProcess, tutorial, wait};
use super::{Running, dolmen, run, temporary};

#[test]
fn every_shell_and_the_manual_know_every_command() {
    let help = run(&mut dolmen(&["--help"])).expect(0).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"mine") && commands.contains(&"doctor") && commands.len() == 23, "{commands:?}");
    assert!(help.contains("Exit codes: 0 ok, 1 failure, 2 usage, 3 verification failed, 4 no node answers."));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&mut dolmen(&["completions", shell])).expect(0).stdout;
        for command in &commands {
            assert!(script.contains(command), "{shell} completes {command}");
        }
    }
    let dir = temporary();
    let script = run(&mut dolmen(&["completions", "bash"])).expect(0).stdout;
    fs::write(dir.path().join("dolmen.bash"), script).expect("a file");
    let checked = Command::new("bash").arg("-n").arg(dir.path().join("dolmen.bash")).status();
    assert!(checked.is_ok_and(|status| status.success()), "bash reads it");
    let _ = run(&mut dolmen(&["completions", "tcsh"])).expect(2);

    let page = run(&mut dolmen(&["man"])).expect(0).stdout;
    assert!(page.contains(".TH dolmen 1"), "{page:.300}");
    let page = run(&mut dolmen(&["man", "mine"])).expect(0).stdout;
    assert!(page.contains("keep\\-going"), "{page:.300}");
    let _ = run(&mut dolmen(&["man", "nothing"])).expect(2);
    let _ = run(dolmen(&["man", "--dir"]).arg(dir.path().join("man"))).expect(0);
    for command in &commands {
        assert!(dir.path().join("man").join(format!("dolmen-{command}.1")).is_file(), "{command}");
    }
}

#[test]
fn config_says_where_every_value_came_from_and_no_secret() {
    let dir = temporary();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("token"), "0123456789abcdef-secret").expect("a file");
    let file = format!("# settings\nlog = 'debug'\n\napi_token_file = '{}'\nmax_reorg = 7\n", path("token"));
    fs::write(path("node.toml"), file).expect("a file");
    let mut command = dolmen(&["config", "--peer", "ws://a:1", "--config", &path("node.toml"), "--max-reorg", "5"]);
    command.env("PORT", "3005").env("DOLMEN_P2P", "127.0.0.1:6010").current_dir(dir.path());
    let ended = run(&mut command).expect(0);
    let shown: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let toml = path("node.toml");
    for (key, value, source, place) in [
        ("http", json!("127.0.0.1:3005"), "environment", "PORT"),
        ("p2p", json!("127.0.0.1:6010"), "environment", "DOLMEN_P2P"),
        ("data_dir", json!("dolmen-data"), "default", ""),
        ("peers", json!(["ws://a:1"]), "flag", "--peer"),
        ("allowed_hosts", json!([]), "default", ""),
        ("api_token_file", json!(path("token")), "file", &format!("{toml}:4")),
        ("max_reorg", json!(5), "flag", "--max-reorg"),
        ("log", json!("debug"), "file", &format!("{toml}:2")),
        ("log_format", json!("auto"), "default", ""),
    ] {
        assert_eq!(shown[key], json!({ "value": value, "source": source, "place": place }), "{key}");
    }
    let table = run(command.args(["-o", "table"])).expect(0).stdout;
    let words: Vec<&str> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(words, ["http", "127.0.0.1:3005", "environment", "PORT"], "{table}");
    assert!(table.contains(&format!("file {toml}:4")), "{table}");
    assert!(!table.contains("secret") && !ended.stdout.contains("secret"));
    let ended = run(dolmen(&["config"]).env("DOLMEN_MAX_REORG", "many")).expect(2);
    assert!(ended.stderr.starts_with("dolmen: DOLMEN_MAX_REORG: \"many\" is not usable"), "{}", ended.stderr);
}

/// What the doctor found, by what it looked at.
fn doctor(arguments: &[&str], code: i32) -> impl Fn(&str) -> Vec<(String, String, String)> + use<> {
    let mut command = dolmen(&["doctor"]);
    let rows = run(command.args(arguments)).expect(code).json_lines();
    move |check: &str| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = rows.iter().filter(|row| row["check"] == check);
        of.map(|row| (text(&row["verdict"]), text(&row["found"]), text(&row["mend"]))).collect()
    }
}

#[test]
fn the_doctor_finds_what_is_wrong_and_says_how_to_mend_it() {
    let dir = temporary();
    let data = dir.path().join("data").display().to_string();
    let node = NodeProcess::start(NodeOptions::new());
    let found =
        doctor(&["--http", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--data-dir", &data, "--peer", &node.p2p_url()], 0);
    for check in ["clock", "http port", "peer port", "data folder", "peer"] {
        assert_eq!(found(check).iter().map(|(verdict, ..)| verdict.as_str()).collect::<Vec<_>>(), ["good"], "{check}");
    }
    assert!(found("peer")[0].1.contains("answers: dolmen/"), "{:?}", found("peer"));
    assert_eq!(found("disk sync").len(), 1);
    assert!(!dir.path().join("data").exists(), "it leaves nothing behind");

    // A running node's own settings are in order, another program's port is not.
    let http = format!("127.0.0.1:{}", node.http_port());
    let p2p = format!("127.0.0.1:{}", node.p2p_port());
    let own = doctor(&["--http", &http, "--p2p", &p2p, "--data-dir", &data], 0);
    assert_eq!(own("http port")[0], ("good".into(), format!("{http}: a node runs there"), String::new()));
    assert_eq!(own("peers")[0].0, "look");

    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("bound").to_string();
    let readable = dir.path().join("token");
    fs::write(&readable, "0123456789abcdef").expect("a file");
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o644)).expect("ours");
    let bad = doctor(
        &[
            "--http",
            "0.0.0.0:0",
            "--p2p",
            &port,
            "--data-dir",
            "/proc/nothing",
            "--peer",
            "ws://127.0.0.1:1",
            "--api-token-file",
            readable.to_str().expect("a plain path"),
        ],
        1,
    );
    assert_eq!(bad("peer port")[0].0, "bad");
    assert!(bad("peer port")[0].2.contains("choose another port with --p2p"));
    assert_eq!(bad("data folder")[0].0, "bad");
    assert!(bad("data folder")[0].2.contains("--data-dir"), "{:?}", bad("data folder"));
    assert_eq!((bad("peer")[0].0.as_str(), bad("token file")[0].0.as_str()), ("bad", "look"));
    assert!(bad("token file")[0].2.starts_with("chmod 600 "));
    let open = doctor(&["--http", "0.0.0.0:0", "--p2p", "127.0.0.1:0", "--data-dir", &data], 0);
    assert!(open("reach")[0].2.contains("--api-token-file"));
}

#[test]
fn the_doctor_tells_a_clock_that_is_behind_the_chain_and_a_peer_of_another_network() {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs();
    for (ahead, verdict) in [(0, "good"), (600, "look"), (3 * 3600, "bad")] {
        let body = vec![Js::String("from a node whose clock is right".into())];
        let block = tutorial::block("1.0.0", 7, &"0".repeat(64), now + ahead, body).stringify();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{block}", block.len());
        let http = answers(move |_| answer.clone().into_bytes());
        let found = doctor(&["--http", &http, "--p2p", "127.0.0.1:0"], i32::from(verdict == "bad"));
        assert_eq!(found("clock")[0].0, verdict, "{ahead} s: {:?}", found("clock"));
        assert_eq!(found("clock")[0].2.contains("NTP"), ahead > 0);
    }
    let foreign = "cd".repeat(32);
    let hello = json!({ "type": 16, "data": {
        "protocol": 1, "node": "ab".repeat(16), "nonce": "0".repeat(16), "genesis": foreign, "port": 6005,
        "tip": { "index": 0, "hash": foreign }, "agent": "foreign/1",
    } });
    let hello = hello.to_string();
    let peer = answers(move |asked| {
        let key = asked.lines().filter_map(|line| line.split_once(": "));
        let mut key = key.filter(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Key"));
        let accept = derive_accept_key(key.next().expect("a key").1.as_bytes());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let length = u16::try_from(hello.len()).expect("a short text").to_be_bytes();
        [head.as_bytes(), &[0x81, 126], &length, hello.as_bytes()].concat()
    });
    let found = doctor(&["--http", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--peer", &format!("ws://{peer}")], 1);
    assert_eq!(found("peer")[0].1, format!("ws://{peer} is of another network: its genesis is {foreign}"));
    assert_eq!(found("peer")[0].0, "bad");
}

/// A program that answers every request so; its address.
fn answers(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        let mut held = Vec::new();
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut asked = [0; 4096];
            let got = socket.read(&mut asked).unwrap_or_default();
            // Who only looks whether somebody listens says nothing.
            if got > 0 && socket.write_all(&answer(&String::from_utf8_lossy(&asked[..got]))).is_ok() {
                held.push(socket);
            }
        }
    });
    address
}

#[test]
fn a_service_manager_hears_when_the_node_is_ready_and_when_it_ends() {
    let dir = temporary();
    let path = dir.path().join("notify");
    let name = format!("dolmen-test-{}", rand::random::<u64>());
    let nameless = SocketAddr::from_abstract_name(&name).expect("a short name");
    for (manager, socket) in [
        (UnixDatagram::bind(&path), path.display().to_string()),
        (UnixDatagram::bind_addr(&nameless), format!("@{name}")),
    ] {
        let manager = manager.expect("a socket");
        manager.set_read_timeout(Some(wait::SOON)).expect("a socket");
        let heard = || {
            let mut said = [0; 256];
            let length = manager.recv(&mut said).expect("it is told in time");
            String::from_utf8_lossy(&said[..length]).into_owned()
        };
        let mut node = NodeProcess::start(NodeOptions::new().env("NOTIFY_SOCKET", &socket));
        let wanted =
            format!("READY=1\nSTATUS=HTTP on 127.0.0.1:{}, peers on 127.0.0.1:{}", node.http_port(), node.p2p_port());
        assert_eq!(heard(), wanted, "{socket}");
        assert!(node.terminate().success());
        assert_eq!(heard(), "STOPPING=1", "{socket}");
    }
    // Nobody there is no reason to end.
    let node = NodeProcess::start(NodeOptions::new().env("NOTIFY_SOCKET", "/nowhere/at-all"));
    assert_eq!(node.get("/livez").status, 200);
}

#[test]
fn lines_for_the_journal_carry_their_priority() {
    let dir = temporary();
    let log = dir.path().join("log");
    for (inode, begins) in [(1, "<6>{\""), (0, "{\"")] {
        let file = fs::File::create(&log).expect("a file");
        let place = file.metadata().expect("it is ours");
        // As the journal says where it listens; another number is of a stream that this program was not given.
        let stream = format!("{}:{}", place.dev(), place.ino() * inode);
        let data = dir.path().join("data").display().to_string();
        let mut command = dolmen(&["node", "--http", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--data-dir", &data]);
        let child = command.env("JOURNAL_STREAM", stream).stdout(Stdio::piped()).stderr(file).spawn();
        let mut node = Running(child.expect("it starts"));
        let mut ready = [0; 1];
        node.0.stdout.as_mut().expect("it is piped").read_exact(&mut ready).expect("it gets ready");
        node.signal("TERM");
        assert_eq!(node.wait().0, Some(0));
        let lines = fs::read_to_string(&log).expect("its log");
        assert!(lines.lines().any(|line| line.contains("node ready") && line.starts_with(begins)), "{lines}");
    }
}
