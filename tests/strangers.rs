//! What a peer that nobody named gets of a node: its share of links, memory and answers, and no more.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};
use serde_json::Value;
use support::http::Request;
use support::process::{NodeOptions, NodeProcess};
use support::tutorial::{Options, TutorialPeer};
use support::wait::{self, SOON};
use support::writers::fill;
use support::{mine, wait_same_chain};
use tungstenite::{Message, WebSocket};

const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Another address of this machine, as if it were another machine.
const AWAY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const QUERY_LAST: &str = r#"{"type":0,"data":null}"#;
const QUERY_ALL: &str = r#"{"type":1,"data":null}"#;

const MIB: usize = 1024 * 1024;

type Link = WebSocket<TcpStream>;

/// A link to a node from an address of this machine; `None` if the node does not even shake hands.
fn dial(node: &NodeProcess, from: Ipv4Addr) -> Option<Link> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    rustix::net::bind(&socket, &SocketAddrV4::new(from, 0)).expect("an address of this machine");
    rustix::net::connect(&socket, &SocketAddrV4::new(HOME, node.p2p_port())).expect("the node listens");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(SOON)).expect("a timeout above zero");
    socket.set_write_timeout(Some(SOON)).expect("a timeout above zero");
    tungstenite::client(format!("ws://127.0.0.1:{}/", node.p2p_port()), socket).ok().map(|(link, _)| link)
}

/// The blocks of the next RESPONSE_BLOCK; `None` once the link is closed.
fn blocks(link: &mut Link) -> Option<Vec<Value>> {
    loop {
        let Message::Text(text) = link.read().ok().filter(|message| !message.is_close())? else { continue };
        let message: Value = serde_json::from_str(&text).expect("JSON");
        if let Some(array) = message["data"].as_str().filter(|_| message["type"] == 2) {
            return Some(serde_json::from_str(array).expect("an array of blocks"));
        }
    }
}

/// Whether the node lets a link stay and answers on it.
fn is_served(link: &mut Option<Link>) -> bool {
    link.as_mut().is_some_and(|link| link.send(Message::text(QUERY_LAST)).is_ok() && blocks(link).is_some())
}

fn count(log: &str, what: &str) -> usize {
    log.matches(what).count()
}

#[test]
fn the_last_links_are_kept_for_configured_peers() {
    // Nobody listens there; but from there a configured peer may come.
    let options = NodeOptions::new().arg("--max-inbound").arg("8").peer("ws://127.0.0.2:1");
    let node = NodeProcess::start(options);
    let mut strangers: Vec<Option<Link>> = (0..7).map(|_| dial(&node, HOME)).collect();
    assert!(strangers.iter_mut().all(is_served), "seven of eight");
    assert!(!is_served(&mut dial(&node, HOME)), "the eighth is not for strangers");
    let mut known = dial(&node, AWAY);
    assert!(is_served(&mut known), "but for a configured peer");
    assert!(!is_served(&mut dial(&node, AWAY)), "and then the node is full");
    let limits = node.get("/status").expect(200).json()["limits"].take();
    assert_eq!((&limits["maxInbound"], &limits["maxOutbound"]), (&Value::from(8), &Value::from(16)), "{limits}");
}

#[test]
fn who_says_nothing_again_and_again_is_dropped_and_then_banned() {
    let node = NodeProcess::start(NodeOptions::new());
    let honest = TutorialPeer::start(Options::default());
    honest.dial(node.p2p_port());
    for dropped in 1..=5 {
        let mut link = dial(&node, AWAY).expect("a link");
        // The node may close the link before all is sent.
        let _ = (0..2_000).try_for_each(|_| link.send(Message::text(QUERY_LAST)));
        while blocks(&mut link).is_some() {}
        wait::until(SOON, "the node to say why", || {
            (count(&node.log(), "says the same or nothing again and again") >= dropped).then_some(())
        });
    }
    assert_eq!(node.get("/bans").expect(200).json()[0]["address"], "127.0.0.2");
    assert!(!is_served(&mut dial(&node, AWAY)));
    mine(&node, "to the honest one");
    wait_same_chain(&node, &honest);
}

#[test]
fn a_ban_holds_after_the_node_was_ended_and_after_it_was_killed() {
    let mut node = NodeProcess::start(NodeOptions::new());
    for _ in 0..3 {
        let mut link = dial(&node, AWAY).expect("a link");
        link.send(Message::text("no message of ours")).expect("the node reads");
        while blocks(&mut link).is_some() {}
    }
    let bans = |node: &NodeProcess| node.get("/bans").expect(200).json();
    let given = wait::until(SOON, "a ban", || Some(bans(&node)).filter(|bans| bans[0]["address"] == "127.0.0.2"));
    // It is in force at once, and on disk a little later.
    let book = node.data_dir().join("peers.json");
    wait::until(SOON, "the ban on disk", || {
        std::fs::read_to_string(&book).is_ok_and(|text| text.replace(' ', "").contains(r#""bans":1"#)).then_some(())
    });
    for killed in [true, false] {
        if !killed {
            node.terminate();
        }
        node.restart();
        assert_eq!(bans(&node), given, "killed: {killed}");
        assert!(!is_served(&mut dial(&node, AWAY)), "killed: {killed}");
        assert!(is_served(&mut dial(&node, HOME)), "killed: {killed}");
    }
}

/// A tutorial peer that is far behind asks for the whole chain after each block that it is told.
#[test]
fn two_hundred_questions_for_the_whole_chain_are_a_few_answers() {
    const BLOCKS: usize = 4_000;
    let node = NodeProcess::start(NodeOptions::new());
    let _ = fill(node.http_port(), "entry", BLOCKS);
    let before = node.resident_bytes();
    let mut links: Vec<Link> = (0..4).map(|_| dial(&node, HOME).expect("a link")).collect();
    for link in &mut links {
        (0..200).for_each(|_| link.send(Message::text(QUERY_ALL)).expect("the node takes questions"));
        link.send(Message::text(QUERY_LAST)).expect("the node takes questions");
    }
    for _ in 0..20 {
        let asked = Instant::now();
        let _ = node.get("/livez").expect(200);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
    let mut most = 0;
    for link in &mut links {
        let mut whole = 0;
        link.get_ref().set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout above zero");
        while let Some(blocks) = blocks(link) {
            whole += usize::from(blocks.len() == BLOCKS + 1);
            most = most.max(node.resident_bytes());
            assert!(blocks.len() == BLOCKS + 1 || blocks.len() == 1, "the whole chain, or the last block");
        }
        assert!((1..=4).contains(&whole), "{whole} answers");
    }
    assert!(most < before + 128 * MIB as u64, "from {before} to {most} bytes");
}

#[test]
fn unfinished_messages_of_many_strangers_make_room_for_others() {
    let node = NodeProcess::start(NodeOptions::new());
    let before = node.resident_bytes();
    let mut links: Vec<Option<Link>> = (0..24).map(|_| dial(&node, HOME)).collect();
    assert!(links.iter_mut().all(is_served));
    // A masked text frame that announces as much as a stranger may send, all of it but its last byte.
    let announced = 4 * MIB;
    let mut frame = vec![0x81, 0xff];
    frame.extend((announced as u64).to_be_bytes());
    frame.resize(frame.len() + 4 + announced - 1, 0);
    for link in links.iter_mut().flatten() {
        // Those that have to make room are closed while they write.
        let _ = link.get_mut().write_all(&frame);
    }
    wait::until(SOON, "the greediest to go", || {
        (count(&node.log(), "the unfinished messages of all strangers take too much memory") >= 8).then_some(())
    });
    let after = node.resident_bytes();
    assert!(after < before + 128 * MIB as u64, "from {before} to {after} bytes");
    assert!(is_served(&mut dial(&node, HOME)), "a small message has room");
}

#[test]
fn many_large_requests_that_never_come_do_not_keep_small_ones_out() {
    let node = NodeProcess::start(NodeOptions::new());
    let head = "POST /mineBlock HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2097152\r\n\r\n";
    let mut waiting: Vec<_> = (0..64).map(|_| node.connect()).collect();
    waiting.iter_mut().for_each(|connection| connection.send_raw(head.as_bytes()).expect("the node reads"));
    let refused = wait::until(SOON, "those to be refused that have no room", || {
        waiting.iter_mut().find_map(|connection| {
            connection.set_timeout(Duration::from_millis(20)).expect("a timeout above zero");
            connection.receive(false).ok()
        })
    });
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("1")));
    mine(&node, "a small one");
    drop(waiting);
    let large = format!(r#"{{"data":["{}"]}}"#, vec!["x"; 70_000].join(r#"",""#));
    wait::until(SOON, "the room to be free", || {
        let answer = node.try_request(&Request::post_json("/mineBlock", &large)).ok()?;
        (answer.status == 413).then_some(())
    });
}

/// Connections that a port holds before they are accepted, where the system lets it.
const LINE: usize = 1_024;

#[test]
fn who_comes_while_the_node_has_no_time_stands_in_line() {
    support::process::allow_files();
    let node = NodeProcess::start(NodeOptions::new());
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|most| most.trim().parse().ok());
    let line = most.unwrap_or(LINE).min(LINE);
    node.signal("STOP");
    for port in [node.p2p_port(), node.http_port()] {
        let address = SocketAddrV4::new(HOME, port).into();
        // Whoever finds no place is told nothing, and tries again after a second.
        let mut callers: Vec<TcpStream> = (0..line)
            .map(|n| TcpStream::connect_timeout(&address, SOON).unwrap_or_else(|error| panic!("caller {n}: {error}")))
            .collect();
        if port == node.http_port() {
            node.signal("CONT");
            let last = callers.last_mut().expect("some called");
            last.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is open");
            last.set_read_timeout(Some(SOON)).expect("a timeout above zero");
            let mut answer = String::new();
            last.read_to_string(&mut answer).expect("the node answers");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
    }
}

/// Callers that may stream a long part of the chain at once.
const MAX_STREAMS: usize = 64;

#[test]
fn who_finds_no_seat_to_read_the_chain_waits_for_one_and_is_refused_in_the_end() {
    let node = NodeProcess::start(NodeOptions::new());
    // More blocks than a short answer has, and more bytes than the system keeps for who does not read.
    let entry = "x".repeat(60_000);
    (0..110).for_each(|_| drop(mine(&node, &entry)));
    let all = Request::get("/blocks");
    let mut readers: Vec<_> =
        (0..MAX_STREAMS).map(|_| node.connect().stream(&all).expect("the node answers")).collect();
    assert!(readers.iter().all(|reader| reader.status == 200));

    let mut waiting = node.connect();
    waiting.send_raw(b"GET /blocks?limit=101 HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the node reads");
    waiting.set_timeout(Duration::from_millis(300)).expect("a timeout above zero");
    let early = waiting.receive(false).expect_err("nothing is answered while all seats are taken");
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    readers.pop();
    waiting.set_timeout(SOON).expect("a timeout above zero");
    let answer = waiting.receive(false).expect("the node answers");
    assert_eq!(answer.status, 200, "a seat was left");
    assert_eq!(answer.json().as_array().map(Vec::len), Some(101));

    readers.push(node.connect().stream(&all).expect("the node answers"));
    assert_eq!(readers.last().map(|reader| reader.status), Some(200));
    let refused = node.get("/blocks");
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("5")));
    assert_eq!(node.get("/blocks?from=1&limit=100").status, 200, "a short part needs no seat");
}
