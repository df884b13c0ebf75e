//! `GET /metrics`: names, types and units as Prometheus wants them, and each number moves when it should.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::fs::PermissionsExt;

use rustix::net::{AddressFamily, SocketType};
use serde_json::Value;
use tungstenite::Message;

use super::prometheus::Page;
use super::support::http::Request;
use super::support::process::NodeOptions;
use super::support::writers::fill;
use super::support::{NodeProcess, add_peer, mine, mine_all, wait, wait_equal, wait_index};

fn page(node: &NodeProcess) -> Page {
    let answer = node.get("/metrics").expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    Page::parse(answer.text())
}

#[test]
fn names_types_and_units_are_prometheus() {
    let node = NodeProcess::start(NodeOptions::new());
    // What has no series before it happens.
    let _ = node.post_json("/mineBlock", r#"{"data":[]}"#).problem(422);
    let page = page(&node);
    for (name, metric) in &page.metrics {
        assert!(name.starts_with("dolmen_"), "{name}");
        assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'), "{name}");
        assert!(["counter", "gauge", "histogram"].contains(&metric.kind.as_str()), "{name}: {}", metric.kind);
        assert!(metric.help.len() > 10 && metric.help.ends_with('.'), "{name}: {}", metric.help);
        assert!(!name.ends_with("_total"), "{name}: the suffix is the format's");
        if let Some(unit) = &metric.unit {
            assert!(name.ends_with(unit.as_str()), "{name} is in {unit}");
        }
    }
    let mut names: Vec<(&str, &str)> = page.metrics.iter().map(|(name, m)| (name.as_str(), m.kind.as_str())).collect();
    names.sort_unstable();
    let wanted = [
        ("dolmen_banned_addresses", "gauge"),
        ("dolmen_bans", "counter"),
        ("dolmen_chain_blocks", "counter"),
        ("dolmen_chain_entries", "counter"),
        ("dolmen_chain_height", "gauge"),
        ("dolmen_commit_blocks", "histogram"),
        ("dolmen_commit_seconds", "histogram"),
        ("dolmen_damaged_blocks", "gauge"),
        ("dolmen_http_request_seconds", "histogram"),
        ("dolmen_http_responses", "counter"),
        ("dolmen_index_bytes", "gauge"),
        ("dolmen_log_bytes", "gauge"),
        ("dolmen_mailbox_wait_seconds", "histogram"),
        ("dolmen_outbox_submissions", "gauge"),
        ("dolmen_parked_branches", "gauge"),
        ("dolmen_peer_bytes", "counter"),
        ("dolmen_peer_messages", "counter"),
        ("dolmen_peers", "gauge"),
        ("dolmen_refusals", "counter"),
        ("dolmen_reorg_blocks", "histogram"),
        ("dolmen_reorgs", "counter"),
        ("dolmen_requeued_submissions", "counter"),
        ("dolmen_side_blocks", "gauge"),
        ("dolmen_sync_blocks", "counter"),
        ("dolmen_sync_left_blocks", "gauge"),
        ("dolmen_uptime_seconds", "gauge"),
        ("dolmen_writable", "gauge"),
    ];
    assert_eq!(names, wanted);
    // A histogram's buckets rise, and the last is the count.
    for (name, metric) in page.metrics.iter().filter(|(_, metric)| metric.kind == "histogram") {
        let of = |suffix: &str| {
            let wanted = format!("{name}{suffix}");
            page.samples.iter().filter(move |(found, ..)| *found == wanted)
        };
        for (_, labels, count) in of("_count") {
            let same = |found: &&(String, super::prometheus::Labels, f64)| {
                labels.iter().all(|(key, value)| found.1.get(key) == Some(value))
            };
            let buckets: Vec<f64> = of("_bucket").filter(same).map(|(.., value)| *value).collect();
            assert!(buckets.is_sorted() && buckets.last() == Some(count), "{name} {labels:?} {metric:?}: {buckets:?}");
        }
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let node = NodeProcess::start(NodeOptions::new());
    let _ = node.post_json("/mineBlock", r#"{"data":[]}"#).problem(422);
    let page = page(&node);
    let text = include_str!("../../packaging/grafana/dashboards/dolmen.json");
    let dashboard: Value = serde_json::from_str(text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let (mut asked, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64()), "the id of {title:?} stands twice");
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("a query");
            for word in words(query).filter(|word| word.starts_with("dolmen_")) {
                let family = page.family_name(word).unwrap_or_else(|| panic!("{title:?} asks for {word}: {query}"));
                asked.insert(family.to_owned());
                for label in labels(query, target["legendFormat"].as_str().unwrap_or_default()) {
                    let mut samples = page.samples.iter().filter(|(name, ..)| page.family_name(name) == Some(family));
                    assert!(samples.any(|(_, found, _)| found.contains_key(label)), "{title:?}: {word} has no {label}");
                }
            }
        }
    }
    // Nothing covers anything else, and all of it asks the one source that is provisioned.
    let source = include_str!("../../packaging/grafana/provisioning/datasources/prometheus.yml");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a place"));
        assert!(x + w <= 24, "{} stands out at the side", panel["title"]);
        for (column, row) in (x..x + w).flat_map(|column| (y..y + h).map(move |row| (column, row))) {
            assert!(taken.insert((column, row)), "{} covers another panel", panel["title"]);
        }
        let asked = panel["targets"].as_array().expect("targets").iter().chain([panel]);
        for uid in asked.map(|asked| asked["datasource"]["uid"].as_str().expect("a source")) {
            assert!(source.contains(&format!("uid: {uid}\n")), "{} asks {uid}", panel["title"]);
        }
    }
    let unseen =
        ["dolmen_banned_addresses", "dolmen_requeued_submissions", "dolmen_side_blocks", "dolmen_uptime_seconds"];
    let all: BTreeSet<String> = page.metrics.keys().cloned().collect();
    assert_eq!(all.difference(&asked).collect::<Vec<_>>(), unseen, "what is counted and not shown");
}

/// The names in a query.
fn words(query: &str) -> impl Iterator<Item = &str> {
    query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// The labels that a query is summed by, and that its legend shows; Prometheus itself says which node a sample is of.
fn labels<'a>(query: &'a str, legend: &'a str) -> impl Iterator<Item = &'a str> {
    let by = query.split("by (").skip(1).filter_map(|rest| rest.split(')').next()).flat_map(words);
    let shown = legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    by.chain(shown).filter(|label| !label.is_empty() && *label != "instance")
}

#[test]
fn each_number_moves_when_it_should() {
    let node = NodeProcess::start(NodeOptions::new());
    let before = page(&node);
    let moved = |name: &str, labels: &[(&str, &str)]| page(&node).value(name, labels) - before.value(name, labels);
    assert_eq!(before.value("dolmen_writable", &[]), 1.0);
    assert!(before.value("dolmen_log_bytes", &[]) > 0.0);

    mine_all(&node, &["one", "two", "three"]);
    mine(&node, "four");
    assert_eq!(moved("dolmen_chain_height", &[]), 2.0);
    assert_eq!(moved("dolmen_chain_blocks_total", &[("source", "mined")]), 2.0);
    assert_eq!(moved("dolmen_chain_entries_total", &[("source", "mined")]), 4.0);
    assert_eq!(moved("dolmen_commit_seconds_count", &[]), 2.0);
    assert_eq!(moved("dolmen_commit_blocks_sum", &[]), 2.0);
    assert_eq!(moved("dolmen_mailbox_wait_seconds_count", &[]), 2.0);
    assert_eq!(moved("dolmen_http_request_seconds_count", &[("route", "/mineBlock")]), 2.0);
    assert!(moved("dolmen_log_bytes", &[]) > 0.0);

    let _ = node.post_json("/mineBlock", &format!("{{\"data\":[\"{}\"]}}", "A".repeat(64))).problem(422);
    let now = page(&node);
    assert_eq!(now.value("dolmen_refusals_total", &[("rule", "entry-ambiguous")]), 1.0);
    assert_eq!(now.value("dolmen_http_responses_total", &[("route", "/mineBlock"), ("status", "422")]), 1.0);
    let _ = node.get("/no/such/route").problem(404);
    let _ = node.request(&Request::get("/status").header("Host", "evil.example")).problem(421);
    let now = page(&node);
    assert_eq!(now.value("dolmen_http_responses_total", &[("route", "none"), ("status", "404")]), 1.0);
    assert_eq!(now.value("dolmen_http_responses_total", &[("status", "421")]), 1.0);

    // A longer chain of a peer: our two blocks leave, and both submissions are mined again.
    let other = NodeProcess::start(NodeOptions::new());
    for entry in ["a", "b", "c"] {
        mine(&other, entry);
    }
    add_peer(&node, &other.p2p_url());
    wait::until(wait::SOON, "the outbox to be empty again", || {
        let now = page(&node);
        let again = now.value("dolmen_chain_entries_total", &[("source", "outbox")]) == 4.0;
        (again && now.value("dolmen_outbox_submissions", &[]) == 0.0).then_some(())
    });
    wait_equal(&[&node, &other]);
    let now = page(&node);
    assert_eq!(now.value("dolmen_reorgs_total", &[]), 1.0);
    assert_eq!(now.value("dolmen_reorg_blocks_sum", &[]), 2.0);
    assert_eq!(now.value("dolmen_requeued_submissions_total", &[]), 2.0);
    assert_eq!(now.value("dolmen_chain_blocks_total", &[("source", "peer")]), 3.0);
    assert_eq!(now.value("dolmen_chain_entries_total", &[("source", "peer")]), 3.0);
    assert_eq!(now.value("dolmen_side_blocks", &[]), 2.0);
    assert_eq!(now.value("dolmen_peers", &[("kind", "native"), ("direction", "outbound")]), 1.0);
    assert_eq!(page(&other).value("dolmen_peers", &[("kind", "native"), ("direction", "inbound")]), 1.0);
    for direction in ["sent", "received"] {
        for kind in ["hello", "query_last"] {
            let labels = [("direction", direction), ("type", kind)];
            assert_eq!(now.value("dolmen_peer_messages_total", &labels), 1.0, "{labels:?}");
            assert!(now.value("dolmen_peer_bytes_total", &labels) > 20.0, "{labels:?}");
        }
    }
    let _ = node.post_json("/bans", r#"{"address":"203.0.113.9"}"#).expect(200);
    assert_eq!(moved("dolmen_banned_addresses", &[]), 1.0);
}

#[test]
fn what_is_refused_or_repeated_is_no_write() {
    let node = NodeProcess::start(NodeOptions::new());
    let _ = node.post_json("/mineBlock", r#"{"data":[]}"#).problem(422);
    let keyed = Request::post_json("/mineBlock", r#"{"data":["once"]}"#).header("Idempotency-Key", "once");
    (0..3).for_each(|_| drop(node.request(&keyed).expect(200)));
    let now = page(&node);
    for name in ["dolmen_commit_seconds_count", "dolmen_commit_blocks_count", "dolmen_commit_blocks_sum"] {
        assert_eq!(now.value(name, &[]), 1.0, "{name}");
    }
}

#[test]
fn a_long_catch_up_is_seen() {
    let (old, new) = (NodeProcess::start(NodeOptions::new()), NodeProcess::start(NodeOptions::new()));
    let mut connection = old.connect();
    // More than comes in one batch.
    let body = serde_json::json!({ "data": ["x".repeat(2_000), "y"] }).to_string();
    let request = Request::post_json("/mineBlock", &body);
    for _ in 0..1_200 {
        let _ = connection.send(&request).expect("an answer").expect(200);
    }
    add_peer(&new, &old.p2p_url());
    wait_equal(&[&old, &new]);
    let now = page(&new);
    assert_eq!(now.value("dolmen_sync_blocks_total", &[]), 1_200.0);
    assert_eq!(now.value("dolmen_chain_blocks_total", &[("source", "peer")]), 1_200.0);
    assert_eq!(now.value("dolmen_chain_entries_total", &[("source", "peer")]), 2_400.0);
    assert_eq!(now.value("dolmen_sync_left_blocks", &[]), 0.0);
    let labels = [("direction", "received"), ("type", "batch")];
    assert!(now.value("dolmen_peer_bytes_total", &labels) > 1_200.0);
}

/// Says nonsense from another address of this machine, as if it were another machine's, until the link is closed.
fn offend(node: &NodeProcess) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 3), 0)).expect("an address of this machine");
    let peer = SocketAddrV4::new(Ipv4Addr::LOCALHOST, node.p2p_port());
    rustix::net::connect(&socket, &peer).expect("the node listens");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(wait::SOON)).expect("a timeout above zero");
    let (mut link, _) = tungstenite::client(node.p2p_url(), socket).expect("a link");
    link.send(Message::text("hello")).expect("the node reads");
    while link.read().is_ok() {}
}

#[test]
fn bans_and_parked_branches_and_the_index_are_seen() {
    let node = NodeProcess::start(NodeOptions::new().arg("--max-reorg").arg("2"));
    let before = page(&node);
    for name in ["dolmen_bans_total", "dolmen_banned_addresses", "dolmen_parked_branches", "dolmen_side_blocks"] {
        assert_eq!(before.value(name, &[]), 0.0, "{name}");
    }
    (0..3).for_each(|_| offend(&node));
    wait::until(wait::SOON, "the ban", || {
        let now = page(&node);
        let counted = now.value("dolmen_bans_total", &[]) == 1.0;
        (counted && now.value("dolmen_banned_addresses", &[]) == 1.0).then_some(())
    });
    let _ = node.request(&Request::new("DELETE", "/bans/127.0.0.3")).expect(204);
    let now = page(&node);
    assert_eq!(now.value("dolmen_banned_addresses", &[]), 0.0);
    assert_eq!(now.value("dolmen_bans_total", &[]), 1.0, "what was counted stays counted");

    // A stranger's branch that would undo more than this node allows.
    let stranger = NodeProcess::start(NodeOptions::new());
    for number in 1..=5 {
        mine(&node, &format!("ours {number}"));
    }
    for number in 1..=9 {
        mine(&stranger, &format!("theirs {number}"));
    }
    add_peer(&stranger, &node.p2p_url());
    wait::until(wait::SOON, "the parked branch", || {
        (page(&node).value("dolmen_parked_branches", &[]) == 1.0).then_some(())
    });
    assert_eq!(page(&node).value("dolmen_side_blocks", &[]), 9.0);
    let hash = stranger.get("/blocks/9").expect(200).header("Block-Hash").expect("a hash").to_owned();
    let _ = node.post_json(&format!("/forks/{hash}/adopt"), "{}").expect(200);
    let now = page(&node);
    assert_eq!(now.value("dolmen_parked_branches", &[]), 0.0);
    assert_eq!(now.value("dolmen_chain_blocks_total", &[("source", "operator")]), 9.0);

    let index = now.value("dolmen_index_bytes", &[]);
    fill(node.http_port(), "more", 2_000);
    wait_index(&node, 2_009);
    wait::until(wait::SOON, "the index to grow", || {
        (page(&node).value("dolmen_index_bytes", &[]) > index).then_some(())
    });
    assert!(page(&node).value("dolmen_uptime_seconds", &[]) >= before.value("dolmen_uptime_seconds", &[]));
}

#[test]
fn a_store_that_failed_is_seen_and_said_once() {
    // No file of this node may grow above 5 MB: what is written beyond fails, as on a disk that is broken.
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("limited");
    let script = format!("#!/bin/sh\ntrap '' XFSZ\nulimit -f 10000\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_dolmen"));
    fs::write(&program, script).expect("a file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
    let node = NodeProcess::start(NodeOptions::new().program(&program));
    assert_eq!(page(&node).value("dolmen_writable", &[]), 1.0);
    let _ = node.get("/readyz").expect(200);
    let body = serde_json::json!({ "data": vec!["x".repeat(60_000); 16] }).to_string();
    let statuses: Vec<u16> = (0..10).map(|_| node.post_json("/mineBlock", &body).status).collect();
    let written = statuses.iter().filter(|status| **status == 200).count();
    assert!(written >= 2 && statuses[written..].iter().all(|status| *status == 507), "{statuses:?}");
    let now = page(&node);
    assert_eq!(now.value("dolmen_writable", &[]), 0.0);
    assert_eq!(now.value("dolmen_chain_height", &[]), written as f64);
    let unanswered = [("route", "/mineBlock"), ("status", "507")];
    assert_eq!(now.value("dolmen_http_responses_total", &unanswered), 10.0 - written as f64);
    let why = node.get("/readyz").problem(503);
    assert!(why["detail"].as_str().is_some_and(|why| why.contains("disk")), "{why}");
    let _ = node.get("/livez").expect(200);
    let _ = node.get("/blocks/1").expect(200);
    assert_eq!(node.log().matches("\"message\":\"store failed\"").count(), 1, "{}", node.log());
}

#[test]
fn the_older_text_is_there_for_who_asks_for_it() {
    let node = NodeProcess::start(NodeOptions::new());
    mine(&node, "one");
    let ask = |accept: &str| node.request(&Request::get("/metrics").header("Accept", accept)).expect(200);
    let plain = ask("text/plain;version=0.0.4;q=0.5,*/*;q=0.1");
    assert_eq!(plain.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = plain.text();
    assert!(text.contains("# TYPE dolmen_chain_blocks_total counter\n"), "{text}");
    assert!(text.contains("\ndolmen_chain_blocks_total{source=\"mined\"} 1\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    // Every sample belongs to a family that was announced under its name.
    let families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let of = |suffix: &&str| name.strip_suffix(*suffix).is_some_and(|family| families.contains(&family));
        assert!(["", "_bucket", "_sum", "_count"].iter().any(of), "{line}");
    }
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert!(ask(prometheus).text().ends_with("# EOF\n"));
}
