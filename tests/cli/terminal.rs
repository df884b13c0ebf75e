//! A session on a terminal: colours and progress where they are seen, and nowhere else. The terminal is `script`'s, which
//! every Linux has.

use std::io::{Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use super::support::process::NodeOptions;
use super::support::{NodeProcess, mine};
use super::{Running, client, dolmen, run, temporary};

/// Runs a shell's line on a pseudo-terminal; returns all that the terminal got.
fn on_a_terminal(line: &str, environment: &[(&str, &str)]) -> String {
    let program = dolmen(&[]).get_program().to_str().expect("a plain path").to_owned();
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", line, "/dev/null"]);
    command.env_remove("NO_COLOR").env("SHELL", "/bin/sh").env("TERM", "xterm-256color").env("DOLMEN", program);
    command.envs(environment.iter().copied()).stdin(std::process::Stdio::null());
    run(&mut command).expect(0).stdout
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let node = NodeProcess::start(NodeOptions::new());
    let url = node.http_url();
    let at = [("DOLMEN_URL", url.as_str())];
    let shown = on_a_terminal("$DOLMEN status", &at);
    assert!(shown.contains("\x1b[1mdolmen\x1b[0m 0.1.0 at ") && shown.contains("\x1b[32mready\x1b[0m"), "{shown:?}");
    for plain in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        let shown = on_a_terminal("$DOLMEN status", &[&at[..], &plain].concat());
        assert!(shown.contains("dolmen 0.1.0 at ") && !shown.contains('\x1b'), "{plain:?}: {shown:?}");
    }
    let shown = on_a_terminal("$DOLMEN status", &[at[0], ("NO_COLOR", "")]);
    assert!(shown.contains("\x1b[32mready"), "an empty NO_COLOR asks for nothing");
    // In a pipe behind a terminal, too, an answer is for programs.
    let piped = on_a_terminal("$DOLMEN status | cat", &at);
    assert!(piped.starts_with("{\"version\"") && !piped.contains('\x1b'), "{piped:?}");
    let plain = run(&mut client(&node, &["status", "-o", "table"])).expect(0).stdout;
    assert!(!plain.contains('\x1b'), "{plain:?}");
}

#[test]
fn progress_is_shown_on_a_terminal_and_is_no_part_of_the_answer() {
    let node = NodeProcess::start(NodeOptions::new());
    for number in 0..30 {
        mine(&node, &format!("entry {number}"));
    }
    let dir = temporary();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let url = node.http_url();
    let at = [("DOLMEN_URL", url.as_str())];
    let shown = on_a_terminal(&format!("$DOLMEN export --to {}", path("chain")), &at);
    assert!(shown.contains("exporting [") && shown.contains("31 blocks were written"), "{shown:?}");
    let shown = on_a_terminal(&format!("$DOLMEN import {} --data-dir {}", path("chain"), path("data")), &[]);
    assert!(shown.contains("verifying [") && shown.contains("importing ["), "{shown:?}");
    assert!(shown.contains("31 blocks judged, none breaks a rule; 30 blocks entered the chain; it ends in block 30 "));
    let shown = on_a_terminal(&format!("$DOLMEN verify --data-dir {}", path("data")), &[]);
    assert!(shown.contains("verifying [") && shown.contains("good"), "{shown:?}");
    // The bar goes to the terminal, the receipts to the file.
    std::fs::write(path("input"), "a\nb\n").expect("a file");
    let line = format!("$DOLMEN mine --file {} --batch 1 > {}", path("input"), path("receipts"));
    let shown = on_a_terminal(&line, &at);
    assert!(shown.contains("mining [") && !shown.contains("receipt"), "{shown:?}");
    let receipts = std::fs::read_to_string(path("receipts")).expect("receipts");
    assert_eq!(receipts.lines().filter(|line| line.starts_with("{\"receipt\":\"")).count(), 2);
    let ended = run(&mut client(&node, &["export", "--to", &path("quiet")])).expect(0);
    assert!(!ended.stderr.contains('[') && ended.stderr.lines().count() == 1, "{}", ended.stderr);
}

/// A command that goes on until somebody types Ctrl-C.
struct Session {
    running: Running,
    stdin: ChildStdin,
    stdout: ChildStdout,
    shown: String,
}

impl Session {
    fn start(arguments: &str, url: &str) -> Self {
        let program = dolmen(&[]).get_program().to_str().expect("a plain path").to_owned();
        let mut command = Command::new("script");
        // Without a shell in between: one that waits for its command is ended by Ctrl-C itself, and its code is what is seen.
        command.args(["--quiet", "--return", "--command", &format!("exec {program} {arguments}"), "/dev/null"]);
        command.env("SHELL", "/bin/sh").env("TERM", "xterm-256color").env("DOLMEN_URL", url);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut running = Running(spawned.expect("it runs"));
        let stdin = running.0.stdin.take().expect("stdin is piped");
        let stdout = running.0.stdout.take().expect("stdout is piped");
        Self { running, stdin, stdout, shown: String::new() }
    }

    /// Waits until the terminal has shown something.
    fn until(&mut self, wanted: &str) {
        let mut piece = [0; 4096];
        while !self.shown.contains(wanted) {
            let got = self.stdout.read(&mut piece).expect("a terminal");
            assert!(got > 0, "{wanted:?} is not in {:?}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&piece[..got]));
        }
    }

    /// Types Ctrl-C; the exit code.
    fn stop(mut self) -> Option<i32> {
        self.stdin.write_all(b"\x03").expect("it reads");
        self.running.wait().0
    }
}

#[test]
fn a_watch_draws_how_things_stand_below_what_happened() {
    let node = NodeProcess::start(NodeOptions::new());
    let mut watch = Session::start("watch", &node.http_url());
    watch.until("block 0 f087ad9b4600  0 links");
    mine(&node, "seen");
    let hash = node.get("/blocks/tip").expect(200).header("Block-Hash").expect("a hash")[..12].to_owned();
    watch.until(&format!("  block 1  {hash}  1 entry  seen\r\n"));
    watch.until(&format!("block 1 {hash}  mined "));
    assert_eq!(watch.stop(), Some(0));
}

#[test]
fn a_node_says_to_people_where_it_is() {
    let dir = temporary();
    let folder = dir.path().join("data").display().to_string();
    let mut node = Session::start(&format!("node --http 127.0.0.1:0 --p2p 127.0.0.1:0 --data-dir {folder}"), "");
    node.until("The explorer and the API: http://127.0.0.1:");
    node.until(&format!("  Folder: {folder}  Ctrl-C stops.\r\n"));
    assert!(!node.shown.contains("{\"http\""), "{}", node.shown);
    assert_eq!(node.stop(), Some(0));
}
