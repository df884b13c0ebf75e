//! The harness, tested by itself: its HTTP client and the way it starts and ends processes.

mod support;

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::thread;

use support::http::{Connection, Event, Request};
use support::process::{NodeOptions, NodeProcess};

/// Answers each connection's first request with the next text and closes; returns the port and what was asked.
fn server(answers: Vec<&'static [u8]>) -> (u16, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("a bound listener").port();
    let asked = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().expect("a connection");
            let mut request = vec![0; 4096];
            let read = socket.read(&mut request).expect("a request");
            asked.push(String::from_utf8_lossy(&request[..read]).into_owned());
            // Byte by byte: the client must not depend on how its answers are cut.
            answer.iter().for_each(|byte| socket.write_all(&[*byte]).expect("the client reads"));
        }
        asked
    });
    (port, asked)
}

#[test]
fn bodies_are_read_in_each_way_they_travel() {
    let answers: Vec<&[u8]> = vec![
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-One: 1\r\n\r\nHello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nHel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n",
        b"HTTP/1.1 201 Created\r\n\r\nHello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    ];
    let (port, asked) = server(answers);
    let send = |request: &Request| support::http::request(port, request).expect("an answer");
    let first = send(&Request::get("/a"));
    assert_eq!((first.status, first.text(), first.header("x-one")), (200, "Hello", Some("1")));
    assert_eq!(send(&Request::post_json("/b", "{}")).text(), "Hello");
    let third = send(&Request::new("DELETE", "/c").header("Host", "evil"));
    assert_eq!((third.status, third.text()), (201, "Hello"));
    assert_eq!(send(&Request::get("/d")).expect(204).text(), "");
    let asked = asked.join().expect("the server had its requests");
    assert_eq!(asked[0], format!("GET /a HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"));
    assert!(asked[1].contains("\r\nContent-Length: 2\r\nContent-Type: application/json\r\n"), "{}", asked[1]);
    assert!(asked[1].ends_with("\r\n\r\n{}") && asked[2].starts_with("DELETE /c HTTP/1.1\r\nHost: evil\r\n"));
}

#[test]
fn a_body_that_is_cut_short_is_an_error() {
    let (port, _) = server(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nHello", b"HTTP/1.1 200 OK\r\n"]);
    assert!(support::http::request(port, &Request::get("/")).is_err());
    assert!(support::http::request(port, &Request::get("/")).is_err());
}

#[test]
fn events_are_read_as_they_come() {
    let (port, _) = server(vec![
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
          23\r\n: hello\n\nid: 1\nevent: block\ndata: {\r\n11\r\n}\n\ndata: a\ndata: \r\n3\r\nb\n\n\r\n0\r\n\r\n",
    ]);
    let mut stream = Connection::open(port).expect("a connection").stream(&Request::get("/events")).expect("a head");
    let first = Event { id: Some("1".into()), kind: Some("block".into()), data: "{}".into() };
    assert_eq!(stream.next_event().expect("an event"), Some(first));
    let second = Event { data: "a\nb".into(), ..Event::default() };
    assert_eq!(stream.next_event().expect("an event"), Some(second));
    assert_eq!(stream.next_event().expect("the end"), None);
}

/// A program that says what a node says, with the arguments it was given; or, with `REFUSE` set, that it will not.
/// Written once, before any test starts it: a file that is still being written cannot be run.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("program-like-a-node");
    let text = r#"#!/bin/sh
        if [ "$REFUSE" ]; then echo "the data directory is locked" >&2; exit 3; fi
        echo "started: $*" >&2
        trap 'echo asked >&2; kill $!; exit 7' TERM
        sleep 1000 &
        echo "{\"http\":\"127.0.0.1:4001\",\"p2p\":\"127.0.0.1:4002\",\"data_dir\":\"$7\",\"pid\":$$}"
        wait
    "#;
    std::fs::write(&path, text).expect("a script");
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("a program");
    path
});

#[test]
fn a_program_is_started_asked_to_end_and_started_again() {
    let mut node = NodeProcess::start(NodeOptions::new().program(&*PROGRAM).peer("ws://127.0.0.1:1"));
    assert_eq!((node.http_port(), node.p2p_url()), (4001, "ws://127.0.0.1:4002".to_owned()));
    assert_eq!(node.says(), (node.data_dir(), node.pid()));
    assert!(node.resident_bytes() > 0 && node.is_running());
    assert_eq!(node.terminate().code(), Some(7));
    assert!(!node.is_running());
    node.restart();
    assert!(node.is_running());
    node.signal("TERM");
    assert_eq!(node.wait_exit().code(), Some(7));
    let data = node.data_dir().display();
    let first = format!("started: node --http 127.0.0.1:0 --p2p 127.0.0.1:0 --data-dir {data} --peer ws://127.0.0.1:1");
    let second = first.replacen(":0 ", ":4001 ", 1).replacen(":0 ", ":4002 ", 1);
    assert_eq!(node.log(), format!("{first}\nasked\n{second}\nasked\n"));
}

#[test]
fn a_program_that_refuses_to_start_says_why() {
    let options = NodeOptions::new().program(&*PROGRAM).env("REFUSE", "1");
    let failure = NodeProcess::try_start(options).err().expect("it did not start");
    assert_eq!(failure.status.and_then(|status| status.code()), Some(3));
    assert_eq!(failure.log, "the data directory is locked\n");
}
