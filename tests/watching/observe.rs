//! The real Prometheus on real nodes: its own tools take the metrics, the configuration and the alerts, and every query of
//! the dashboard has an answer. Without it (Debian: prometheus) each test says so and passes.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use url::form_urlencoded::Serializer;

use super::support::http::{self, Request};
use super::support::{NodeOptions, NodeProcess, add_peer, mine, wait, wait_equal};

/// What the packaged configuration reads, and where it says so.
const TARGETS: &str = "targets: [node1:3000, node2:3000, node3:3000]";

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// Whether a program of Prometheus is there; says so past the test runner if not.
fn there(program: &str) -> bool {
    let answers = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !answers {
        let _ = writeln!(io::stderr(), "SKIPPED: {program} is not installed (Debian: apt-get install prometheus)");
    }
    answers
}

/// Runs Prometheus' tool on something, and panics with what it says against it.
fn promtool(arguments: &[&str], input: &str) {
    let mut tool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it is there");
    tool.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    let output = tool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn its_own_tools_take_the_metrics_the_configuration_and_the_alerts() {
    if !there("promtool") {
        return;
    }
    promtool(&["check", "config", &packaging().join("prometheus/prometheus.yml").display().to_string()], "");
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/watching/alerts.yml");
    promtool(&["test", "rules", &alerts.display().to_string()], "");
    let node = NodeProcess::start(NodeOptions::new());
    mine(&node, "one");
    let _ = node.post_json("/mineBlock", r#"{"data":[]}"#).problem(422);
    let plain = node.request(&Request::get("/metrics").header("Accept", "text/plain")).expect(200);
    promtool(&["check", "metrics"], plain.text());
}

/// A running Prometheus; ended when dropped.
struct Prometheus {
    child: Child,
    port: u16,
    _home: TempDir,
}

impl Prometheus {
    /// Reads these nodes each second, and otherwise what the packaged configuration says.
    fn start(nodes: &[&NodeProcess]) -> Self {
        let home = TempDir::with_prefix("dolmen-prometheus-").expect("a temporary directory");
        let config = fs::read_to_string(packaging().join("prometheus/prometheus.yml")).expect("the configuration");
        assert!(config.contains(TARGETS), "{config}");
        let targets: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.http_port())).collect();
        let config = config.replace(TARGETS, &format!("targets: [{}]", targets.join(", "))).replace(" 5s", " 1s");
        let file = home.path().join("prometheus.yml");
        fs::write(&file, config).expect("room");
        fs::copy(packaging().join("prometheus/alerts.yml"), home.path().join("alerts.yml")).expect("room");
        // It does not say which port it was given; nobody else takes this one so soon.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("an address");
        let log = fs::File::create(home.path().join("log")).expect("room");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", home.path().join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it is there");
        let started = Self { child, port: free.port(), _home: home };
        wait::until(wait::SOON, "Prometheus to answer", || {
            http::request(started.port, &Request::get("/-/ready")).ok().filter(|answer| answer.status == 200)
        });
        started
    }

    /// The rows that a query gives now.
    fn ask(&self, query: &str) -> Vec<Value> {
        let form = Serializer::new(String::new()).append_pair("query", query).finish();
        let request = Request::new("POST", "/api/v1/query").header("Content-Type", "application/x-www-form-urlencoded");
        let answer = http::request(self.port, &request.body(form)).expect("it answers").expect(200).json();
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{query}: {answer}")).clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_query_of_the_dashboard_has_an_answer() {
    if !there("prometheus") {
        return;
    }
    let nodes = [NodeProcess::start(NodeOptions::new()), NodeProcess::start(NodeOptions::new())];
    let [a, b] = &nodes;
    let prometheus = Prometheus::start(&[a, b]);
    let up = || (prometheus.ask("up == 1").len() == 2).then_some(());
    wait::until(wait::SOON, "both nodes to be read", up);
    // Something for each panel: blocks of both, a reorg, messages, a refusal and an error.
    for number in 0..3 {
        mine(a, &format!("left {number}"));
        mine(b, &format!("right {number}"));
    }
    mine(b, "right 3");
    add_peer(a, &b.p2p_url());
    wait_equal(&[a, b]);
    let _ = a.post_json("/mineBlock", r#"{"data":[]}"#).problem(422);

    let text = fs::read_to_string(packaging().join("grafana/dashboards/dolmen.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let queries: Vec<String> =
        targets.map(|target| target["expr"].as_str().expect("a query").replace("$instance", ".*")).collect();
    assert!(queries.len() > 20, "{queries:?}");
    let mut silent = queries;
    let answered = wait::try_until(wait::SOON, || {
        silent.retain(|query| prometheus.ask(query).is_empty());
        silent.is_empty().then_some(())
    });
    assert!(answered.is_some(), "no answer to {silent:?}");
    // Nothing is wrong with these nodes, and the alerts know it.
    assert_eq!(prometheus.ask("ALERTS{alertstate=\"firing\"}"), Vec::<Value>::new());
}
