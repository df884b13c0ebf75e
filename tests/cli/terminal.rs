//! A session on a terminal: colours and progress where they are seen, and nowhere else. The terminal is `script`'s, which
//! every Linux has.

use std::process::Command;

use super::support::process::NodeOptions;
use super::support::{NodeProcess, mine};
use super::{client, dolmen, run, temporary};

/// Runs a shell's line on a pseudo-terminal; returns all that the terminal got.
fn on_a_terminal(line: &str, environment: &[(&str, &str)]) -> String {
    let program = dolmen(&[]).get_program().to_str().expect("a plain path").to_owned();
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", line, "/dev/null"]);
    command.env_remove("NO_COLOR").env("TERM", "xterm-256color").env("DOLMEN", program);
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
