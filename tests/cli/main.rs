//! The command line as people and scripts use it: what is printed, what ends quietly, what is refused with which code.

#[path = "../support/mod.rs"]
mod support;

mod asking;
mod chains;
mod mining;
mod offline;
mod proxy;
mod terminal;

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use support::process::{NodeProcess, command};

/// Long enough for a command that does its work or refuses it.
const COMMAND: Duration = Duration::from_secs(60);

/// A command with nothing to read.
fn dolmen(arguments: &[&str]) -> Command {
    let mut command = command(None);
    command.args(arguments).stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

/// A command to a node.
fn client(node: &NodeProcess, arguments: &[&str]) -> Command {
    let mut command = dolmen(arguments);
    command.env("DOLMEN_URL", node.http_url());
    command
}

/// A command's end.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Panics with everything that was said if the code is another.
    #[must_use]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout {:.2000}\nstderr {:.2000}", self.stdout, self.stderr);
        self
    }

    /// The lines of stdout as JSON.
    fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

fn run(command: &mut Command) -> Ended {
    Ended::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("the program runs"))
}

/// Runs a command with this on its standard input.
fn run_with(command: &mut Command, input: impl AsRef<[u8]> + Send + 'static) -> Ended {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.expect("the program runs");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A command that has seen enough closes its end.
    thread::spawn(move || drop(stdin.write_all(input.as_ref())));
    Ended::of(child.wait_with_output().expect("our child"))
}

/// A process that does not outlive its test.
struct Running(Child);

impl Running {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -s {name}");
    }

    /// Waits for the end: its code, and the rest of stdout and stderr.
    fn wait(&mut self) -> (Option<i32>, String, String) {
        let mut texts = [String::new(), String::new()];
        if let Some(mut out) = self.0.stdout.take() {
            out.read_to_string(&mut texts[0]).expect("text");
        }
        if let Some(mut err) = self.0.stderr.take() {
            err.read_to_string(&mut texts[1]).expect("text");
        }
        let child = &mut self.0;
        let status = support::wait::until(COMMAND, "the process to end", || child.try_wait().expect("our child"));
        let [out, err] = texts;
        (status.code(), out, err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn temporary() -> tempfile::TempDir {
    tempfile::TempDir::with_prefix("dolmen-test-").expect("a temporary directory")
}
