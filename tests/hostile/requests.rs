use std::time::Duration;

use super::arena::Fate::Answered;
use super::arena::{Arena, Case, address};
use super::stranger::{Stranger, handshake};

/// A request to mine with this body and these headers besides the length.
fn mine(arena: &Arena, headers: &str, body: impl AsRef<str>) -> Stranger {
    let body = body.as_ref();
    let length = body.len();
    arena.http(
        format!("POST /mineBlock HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
            .as_bytes(),
    )
}

const JSON: &str = "Content-Type: application/json\r\n";
const BODY: &str = r#"{"data":["never"]}"#;

fn raw(arena: &Arena, text: impl AsRef<str>) -> Stranger {
    arena.http(text.as_ref().as_bytes())
}

macro_rules! raws {
    ($($name:literal: $text:expr => $status:expr;)+) => {
        vec![$(Case { name: $name, attack: |arena| raw(arena, $text), fate: Answered($status) }),+]
    };
}

macro_rules! bodies {
    ($($name:literal: $body:expr => $status:expr;)+) => {
        vec![$(Case { name: $name, attack: |arena| mine(arena, JSON, $body), fate: Answered($status) }),+]
    };
}

#[test]
fn requests_from_elsewhere() {
    Arena::new().run(&[
        Case { name: "a form of another site", attack: |a| mine(a, "Content-Type: application/x-www-form-urlencoded\r\n", BODY), fate: Answered(415) },
        Case { name: "plain text of another site", attack: |a| mine(a, "Content-Type: text/plain\r\n", BODY), fate: Answered(415) },
        Case { name: "JSON that says that it is text", attack: |a| mine(a, "Content-Type: text/plain; application/json\r\n", BODY), fate: Answered(415) },
        Case { name: "a media type that only begins alike", attack: |a| mine(a, "Content-Type: application/json-p\r\n", BODY), fate: Answered(415) },
        Case { name: "no media type", attack: |a| mine(a, "", BODY), fate: Answered(415) },
        Case {
            name: "a browser's question before it writes",
            attack: |a| raw(a, "OPTIONS /mineBlock HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n"),
            fate: Answered(405),
        },
        Case {
            name: "a browser's page on the peer port",
            attack: |a| {
                let mut link = Stranger::connect(a.node.p2p_port(), address());
                link.send(&handshake("Origin: http://evil.example\r\n"));
                link
            },
            fate: Answered(403),
        },
        Case {
            name: "a page without an origin on the peer port",
            attack: |a| {
                let mut link = Stranger::connect(a.node.p2p_port(), address());
                link.send(&handshake("Origin: null\r\n"));
                link
            },
            fate: Answered(403),
        },
        Case {
            name: "HTTP on the peer port",
            attack: |a| {
                let mut link = Stranger::connect(a.node.p2p_port(), address());
                link.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
                link
            },
            fate: Answered(400),
        },
    ]);
}

#[test]
fn names_that_are_not_ours() {
    let cases = raws![
        "a name that was made to point here": "GET /blocks HTTP/1.1\r\nHost: evil.example\r\n\r\n" => 421;
        "that name with our port": "GET /blocks HTTP/1.1\r\nHost: evil.example:3000\r\n\r\n" => 421;
        "a name that begins like ours": "GET /blocks HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n" => 421;
        "a name that ends like an address": "GET /blocks HTTP/1.1\r\nHost: x.127.0.0.1\r\n\r\n" => 421;
        "an address and a name": "GET /blocks HTTP/1.1\r\nHost: 127.0.0.1@evil.example\r\n\r\n" => 421;
        "no name": "GET /blocks HTTP/1.1\r\n\r\n" => 400;
        "an empty name": "GET /blocks HTTP/1.1\r\nHost: \r\n\r\n" => 421;
        "two names": "GET /blocks HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n" => 400;
        "a name with a line feed": "GET /blocks HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n" => 200;
    ];
    Arena::new().run(&cases);
}

#[test]
fn requests_that_should_not_be() {
    Arena::new().run(&raws![
        "no HTTP": "hello\r\n\r\n" => 400;
        "random bytes": "\u{1}\u{2}\u{3}\u{7f}\u{80}\r\n\r\n" => 400;
        "a TLS greeting": "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n" => 400;
        "HTTP/2 from the start": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" => 400;
        "a method that does not fit": "GET /mineBlock HTTP/1.1\r\nHost: localhost\r\n\r\n" => 405;
        "a tunnel": "CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n" => 404;
        "a trace": "TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n" => 405;
        "a path that climbs": "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n" => 404;
        "a path that climbs in disguise": "GET /blocks/%2e%2e%2f%2e%2e%2fetc HTTP/1.1\r\nHost: localhost\r\n\r\n" => 400;
        "NUL in a path": "GET /blocks/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n" => 400;
        "a path that is no UTF-8": "GET /blocks/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n" => 400;
        "a path of 200 KiB": format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(200_000)) => 431;
        "ten thousand headers": format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(10_000)) => 431;
        "a header of 1 MiB": format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)) => 431;
        "a height above 2^64": "GET /blocks/99999999999999999999 HTTP/1.1\r\nHost: localhost\r\n\r\n" => 400;
        "a part that begins nowhere": "GET /blocks?from=-1 HTTP/1.1\r\nHost: localhost\r\n\r\n" => 400;
        "a part of everything": "GET /blocks?from=18446744073709551615&limit=18446744073709551615 HTTP/1.1\r\nHost: localhost\r\n\r\n" => 200;
        "a length and chunks": format!("POST /mineBlock HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") => 400;
        "two lengths": format!("POST /mineBlock HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 18\r\nContent-Length: 1\r\n\r\n{BODY}") => 400;
        "a negative length": format!("POST /mineBlock HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: -1\r\n\r\n{BODY}") => 400;
        "a length with a sign": format!("POST /mineBlock HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: +18\r\n\r\n{BODY}") => 400;
        "a length of 2^63": format!("POST /mineBlock HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 9223372036854775808\r\n\r\n") => 413;
        "a chunk of 2^68": format!("POST /mineBlock HTTP/1.1\r\nHost: localhost\r\n{JSON}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx") => 400;
        "a chunk whose size is no number": format!("POST /mineBlock HTTP/1.1\r\nHost: localhost\r\n{JSON}Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n") => 400;
        "chunks inside chunks": format!("POST /mineBlock HTTP/1.1\r\nHost: localhost\r\n{JSON}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n") => 400;
        "a body of more than 2 MiB": format!("POST /mineBlock HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 2097153\r\n\r\n{}", " ".repeat(2_097_153)) => 413;
        "chunks of more than 2 MiB": format!("POST /mineBlock HTTP/1.1\r\nHost: localhost\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n200001\r\n{}\r\n0\r\n\r\n", " ".repeat(0x0020_0001)) => 413;
        "a peer with a name for its number": "DELETE /peers/-1 HTTP/1.1\r\nHost: localhost\r\n\r\n" => 400;
        "a ban without end": format!("POST /bans HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 53\r\n\r\n{{\"address\":\"10.9.9.9\",\"seconds\":18446744073709551615}}") => 200;
        "a ban for no address": format!("POST /bans HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 18\r\n\r\n{{\"address\":\"evil\"}}") => 400;
        "a receipt of nobody": "GET /receipts/abc-99999999999999999999 HTTP/1.1\r\nHost: localhost\r\n\r\n" => 400;
    ]);
}

#[test]
fn bodies_that_should_not_be() {
    Arena::new().run(&bodies![
        "a million brackets": "[".repeat(1_000_000) => 400;
        "a million brackets beside the data": format!(r#"{{"data":["x"],"y":{}"#, "[".repeat(1_000_000)) => 400;
        "an array in place of an object": r#"[["never"]]"# => 400;
        "null": "null" => 400;
        "null for the data": r#"{"data":null}"# => 400;
        "data twice": r#"{"data":["never"],"data":["never"]}"# => 400;
        "no entry": r#"{"data":[]}"# => 422;
        "an entry that is a number": r#"{"data":[1]}"# => 400;
        "an entry that is an object": r#"{"data":[{"a":1}]}"# => 400;
        "a lone surrogate": r#"{"data":["\ud800"]}"# => 400;
        "an entry that could be a node of the tree": format!(r#"{{"data":["{}"]}}"#, "A".repeat(64)) => 422;
        "an entry that could be two nodes": format!(r#"{{"data":["{}"]}}"#, "0".repeat(128)) => 422;
        "an entry of 64 KiB and one byte": format!(r#"{{"data":["{}"]}}"#, "x".repeat(65_537)) => 413;
        "10,001 entries": format!(r#"{{"data":[{}"x"]}}"#, r#""x","#.repeat(10_000)) => 413;
        "more than 1 MiB in all": format!(r#"{{"data":[{}"x"]}}"#, format!(r#""{}","#, "x".repeat(65_000)).repeat(17)) => 413;
        "an object that never ends": r#"{"data":["# => 400;
        "something behind the object": r#"{"data":["never"]} x"# => 400;
    ]);
}

#[test]
fn connections_that_should_not_be() {
    Arena::new().run(&[
        Case {
            name: "a hundred requests at once",
            attack: |arena| {
                let mut client = arena.http("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100).as_bytes());
                let answers = |heard: &[u8]| heard.windows(15).filter(|part| *part == b"HTTP/1.1 200 OK").count();
                while answers(client.heard()) < 100 {
                    assert!(client.read_some(), "{} answers", answers(client.heard()));
                }
                client
            },
            fate: Answered(200),
        },
        Case {
            name: "a reader of the chain that stops",
            attack: |arena| {
                let request = "GET /blocks HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
                let client = arena.http(request.as_bytes());
                std::thread::sleep(Duration::from_millis(500));
                client
            },
            fate: Answered(200),
        },
        Case {
            name: "half a body and an end",
            attack: |arena| {
                drop(
                    arena.http(
                        format!(
                            "POST /mineBlock HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 18\r\n\r\n{{\"data\""
                        )
                        .as_bytes(),
                    ),
                );
                arena.http(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            },
            fate: Answered(200),
        },
    ]);
}
