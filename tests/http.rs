//! HTTP from outside: every route of a real process, with good and with bad input. After anything that fails the chain is
//! what it was, and the same connection still answers.

mod support;

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};
use support::audit::Audit;
use support::http::{Connection, Request, Response};
use support::tutorial::{self, Coin, Options, TutorialPeer};
use support::{NodeOptions, NodeProcess, add_peer, blocks, mine, mine_all, tip, wait, wait_equal, wait_index};

const JSON: &str = "application/json; charset=utf-8";
const GENESIS_HASH: &str = "f087ad9b4600afd1c6451654a7df0f0f20795c95825c097a25469b7cf5287feb";
const GENESIS: &str = concat!(
    r#"{"header":{"version":"1.0.0","index":0,"previousHash":"#,
    r#""0000000000000000000000000000000000000000000000000000000000000000","time":1630907567,"merkleRoot":"#,
    r#""725C20214587B0DCD5FBF0DCA637904A97A142E89F4A06F55F6B191E333F6B1C"},"body":["hello block"]}"#
);

fn lone() -> NodeProcess {
    NodeProcess::start(NodeOptions::new())
}

// ---- GET /blocks

/// `JSON.stringify` of a string, as the language's specification has it.
fn js_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{8}' => out += "\\b",
            '\t' => out += "\\t",
            '\n' => out += "\\n",
            '\u{c}' => out += "\\f",
            '\r' => out += "\\r",
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            c if c < ' ' => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Entries that a writer of JSON can get wrong.
fn awkward() -> Vec<Vec<String>> {
    let controls: String = (0..0x20).map(|code| char::from_u32(code).expect("a control character")).collect();
    let own = |entries: &[&str]| entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>();
    vec![
        own(&[""]),
        own(&["", "", ""]),
        own(&["한국어 블록", "블록체인", "日本語", "🪨🪨🪨", "👩‍👩‍👧‍👦", "e\u{301} \u{feff}"]),
        vec![controls, "\u{7f}\u{80}\u{9f}\u{a0}".into()],
        own(&["\"", "\\", "\\\\\"", "\\u0041", "/", "</script><!--", "\u{2028}\u{2029}"]),
        own(&["[1,2]", "{\"a\":1}", "null", "true", "1e400", "'", "\0"]),
        own(&["\u{fffd}", "\u{ffff}", "\u{10ffff}", "\u{e000}", " ", "\r\n"]),
        own(&["a".repeat(64).as_str(), "A".repeat(63).as_str(), "A".repeat(65).as_str(), "G".repeat(64).as_str()]),
        (0..300).map(|number| format!("entry {number} \" \\ 돌")).collect(),
    ]
}

#[test]
fn the_whole_chain_is_the_tutorials_json_byte_for_byte() {
    let node = lone();
    let fresh = node.get("/blocks").expect(200);
    assert_eq!(fresh.text(), format!("[{GENESIS}]"));
    assert_eq!(fresh.header("Content-Type"), Some(JSON));

    let mut bodies = awkward();
    // Large ones, so that the stream is cut in many places.
    bodies.extend((0..24).map(|number| vec![format!("{number}\u{1}한\"").repeat(5_000), "x".repeat(30_000)]));
    bodies.extend(awkward());
    let mut wanted = vec![GENESIS.to_owned()];
    let mut previous = GENESIS_HASH.to_owned();
    for (place, body) in bodies.iter().enumerate() {
        let request = Request::post_json("/mineBlock", &json!({ "data": body }).to_string());
        let answer = node.request(&request).expect(200);
        let time = answer.json()["header"]["time"].as_u64().expect("a time");
        let entries: Vec<_> = body.iter().map(|entry| entry.as_str().into()).collect();
        let root = tutorial::merkle_root(&entries);
        let quoted: Vec<String> = body.iter().map(|entry| js_quote(entry)).collect();
        let index = place + 1;
        let text = format!(
            r#"{{"header":{{"version":"1.0.0","index":{index},"previousHash":"{previous}","time":{time},"merkleRoot":"{root}"}},"body":[{}]}}"#,
            quoted.join(",")
        );
        assert_eq!(answer.text(), text, "the answer to mineBlock");
        let block = tutorial::block("1.0.0", index as u64, &previous, time, entries);
        assert_eq!(block.stringify(), text, "the stand-in's own writer");
        previous = tutorial::hash(&block);
        wanted.push(text);
    }
    let wanted = format!("[{}]", wanted.join(","));
    let mut stream = node.connect().stream(&Request::get("/blocks")).expect("a head");
    assert_eq!((stream.status, stream.header("Transfer-Encoding")), (200, Some("chunked")));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream.body, &mut text).expect("a whole body");
    assert!(text == wanted, "the streamed chain differs from the tutorial's text");
    assert_eq!(Audit::of(&text).tip(), tip(&node));

    // A stand-in that follows the chain writes the same.
    let peer = TutorialPeer::start(Options { seed: 1, coin: Coin::Always });
    peer.dial(node.p2p_port());
    support::wait_same_chain(&node, &peer);
    assert!(peer.chain().text() == wanted);
}

#[test]
fn a_part_of_the_chain_is_asked_for_by_from_and_limit() {
    let node = lone();
    for number in 1..=9 {
        mine(&node, &format!("entry {number}"));
    }
    let all: Vec<Value> = node.get("/blocks").expect(200).json().as_array().expect("an array").clone();
    let largest = u64::MAX;
    let good: [(&str, std::ops::Range<usize>); 16] = [
        ("", 0..10),
        ("?", 0..10),
        ("?other=1", 0..10),
        ("?from=0", 0..10),
        ("?from=0&limit=1", 0..1),
        ("?limit=3", 0..3),
        ("?limit=0", 0..0),
        ("?from=4&limit=0", 0..0),
        ("?from=4&limit=2", 4..6),
        ("?limit=2&from=4", 4..6),
        ("?from=007&limit=001", 7..8),
        ("?from=9", 9..10),
        ("?from=9&limit=5", 9..10),
        ("?from=10", 0..0),
        (&format!("?from={largest}&limit={largest}"), 0..0),
        (&format!("?from=1&limit={largest}"), 1..10),
    ];
    for (query, range) in good {
        let answer = node.get(&format!("/blocks{query}")).expect(200);
        assert_eq!(answer.json(), Value::Array(all[range].to_vec()), "{query}");
        assert_eq!(answer.header("Content-Type"), Some(JSON), "{query}");
    }
    let bad = [
        "?from=-1",
        "?from=",
        "?limit=",
        "?from=abc",
        "?from=1.5",
        "?from=%2B1",
        "?from=1e3",
        "?from=0x1",
        "?from=18446744073709551616",
        "?limit=-1",
        "?limit=ten",
        "?limit=99999999999999999999999",
        "?from=1&from=2",
        "?from=%ff",
        "?from=%00",
        "?from=tip",
    ];
    for query in bad {
        node.get(&format!("/blocks{query}")).problem(400);
    }
    let problem = node.get("/blocks?limit=ten").problem(400);
    assert_eq!(problem["detail"], "limit=ten is not a whole number; for example /blocks?from=0&limit=10");
}

#[test]
fn one_block_comes_with_its_hash_and_confirmations() {
    let node = lone();
    let texts: Vec<String> =
        std::iter::once(GENESIS.to_owned()).chain((1..=4).map(|number| mine(&node, &format!("{number}")))).collect();
    let (_, tip_hash) = tip(&node);
    let hashes: Vec<String> = {
        let chain = support::js::Js::parse(&blocks(&node)).expect("JSON");
        chain.elements().expect("an array").iter().map(tutorial::hash).collect()
    };
    assert_eq!((hashes[0].as_str(), &hashes[4]), (GENESIS_HASH, &tip_hash));
    for index in 0..=4 {
        let names = [index.to_string(), format!("00{index}"), hashes[index].clone(), hashes[index].to_uppercase()];
        for name in names.iter().map(String::as_str).chain((index == 4).then_some("tip")) {
            let answer = node.get(&format!("/blocks/{name}")).expect(200);
            assert_eq!(answer.text(), texts[index], "{name}");
            assert_eq!(answer.header("Block-Hash"), Some(hashes[index].as_str()), "{name}");
            assert_eq!(answer.header("Confirmations"), Some((5 - index).to_string().as_str()), "{name}");
            assert_eq!(answer.header("Content-Type"), Some(JSON), "{name}");
        }
    }
    for missing in ["5".to_owned(), u64::MAX.to_string(), "0".repeat(64), "f".repeat(64)] {
        node.get(&format!("/blocks/{missing}")).problem(404);
    }
    assert_eq!(node.get("/blocks/5").problem(404)["detail"], "there is no block 5 yet; the tip is block 4");
    for bad in
        ["-1", "1.5", "Tip", "top", &"f".repeat(63), &"g".repeat(64), "%20", "%ff", "18446744073709551616", "%F0"]
    {
        node.get(&format!("/blocks/{bad}")).problem(400);
    }
}

// ---- Routes and methods

#[test]
fn unknown_routes_and_methods_are_told_so() {
    let node = lone();
    for path in
        ["/nothing", "/block", "/Blocks", "/blocks/1/2", "/mineblock", "/blocks/", "//blocks", "/peers/1/2", "/%2e"]
    {
        node.get(path).problem(404);
        node.post_json(path, r#"{"data":["x"]}"#).problem(404);
    }
    let get_only =
        ["/", "/blocks", "/blocks/tip", "/receipts/x", "/peers", "/version", "/status", "/forks", "/livez", "/readyz"];
    for path in get_only {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer = node.request(&Request::new(method, path).header("Content-Type", "application/json"));
            assert_eq!(answer.header("Allow"), Some("GET, HEAD"), "{method} {path}");
            answer.problem(405);
        }
    }
    for (path, allowed, methods) in [
        ("/mineBlock", "POST", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"]),
        ("/addPeers", "POST", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"]),
        ("/forks/x/adopt", "POST", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"]),
        ("/forks/x/requeue", "POST", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"]),
        ("/peers/1", "DELETE", ["GET", "PUT", "POST", "HEAD", "OPTIONS"]),
    ] {
        for method in methods {
            let request = Request::new(method, path).header("Content-Type", "application/json");
            let answer = node.request(&request).expect(405);
            assert_eq!(answer.header("Allow"), Some(allowed), "{method} {path}");
            assert_eq!(answer.header("Content-Type"), Some("application/problem+json"), "{method} {path}");
        }
    }
    assert_eq!(tip(&node).0, 0);
}

#[test]
fn a_request_for_another_host_is_refused_everywhere() {
    let node = lone();
    let asked = |host: &str, request: Request| node.request(&request.header("Host", host));
    for host in ["evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example", "x"] {
        for path in ["/", "/blocks", "/status", "/nothing"] {
            asked(host, Request::get(path)).problem(421);
        }
        asked(host, Request::post_json("/mineBlock", r#"{"data":["x"]}"#)).problem(421);
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:3000", "192.0.2.7:80"] {
        let _ = asked(host, Request::get("/blocks")).expect(200);
    }
    let _ = asked("localhost", Request::get("/blocks").header("Host", "evil.example")).expect(400);
    assert_eq!(tip(&node).0, 0);
    let named = NodeProcess::start(NodeOptions::new().arg("--allowed-host").arg("node.example"));
    let _ = named.request(&Request::get("/blocks").header("Host", "Node.Example:3000")).expect(200);
    named.request(&Request::get("/blocks").header("Host", "other.example")).problem(421);
}

#[test]
fn with_a_token_nobody_changes_anything_without_it() {
    let dir = tempfile::TempDir::with_prefix("dolmen-test-").expect("a temporary directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "correct-horse-battery-staple\n").expect("a file");
    let node = NodeProcess::start(NodeOptions::new().arg("--api-token-file").arg(file.to_str().expect("UTF-8")));
    let changes = [
        Request::post_json("/mineBlock", r#"{"data":["x"]}"#),
        Request::post_json("/addPeers", r#"{"peers":["ws://127.0.0.1:1"]}"#),
        Request::post_json(&format!("/forks/{GENESIS_HASH}/adopt"), "{}"),
        Request::post_json(&format!("/forks/{GENESIS_HASH}/requeue"), "{}"),
        Request::new("DELETE", "/peers/1"),
    ];
    for request in &changes {
        node.request(request).problem(401);
        for shown in ["Bearer wrong-horse-battery-staple", "Bearer ", "correct-horse-battery-staple", "Basic eDp5"] {
            node.request(&request.clone().header("Authorization", shown)).problem(401);
        }
    }
    for path in ["/blocks", "/peers", "/status"] {
        let _ = node.get(path).expect(200);
    }
    assert_eq!((tip(&node).0, node.get("/peers").json()), (0, json!([])));
    let shown = changes[0].clone().header("Authorization", "Bearer correct-horse-battery-staple");
    let _ = node.request(&shown).expect(200);
    assert_eq!(tip(&node).0, 1);
}

#[test]
fn head_answers_as_get_without_the_body() {
    let node = lone();
    mine(&node, "one");
    for path in
        ["/", "/blocks", "/blocks/tip", "/blocks/1", "/peers", "/version", "/status", "/forks", "/livez", "/readyz"]
    {
        let got = node.get(path).expect(200);
        let mut connection = node.connect();
        let head = connection.send(&Request::new("HEAD", path)).expect("a head").expect(200);
        for name in ["Content-Type", "Block-Hash", "Confirmations", "Content-Security-Policy"] {
            assert_eq!(head.header(name), got.header(name), "{path} {name}");
        }
        // Had a body come, this would read it as the next answer's head.
        assert_eq!(
            connection.send(&Request::get("/version")).expect("an answer").expect(200).text(),
            "1.0.0",
            "{path}"
        );
    }
    let missing = node.connect().send(&Request::new("HEAD", "/blocks/2")).expect("a head");
    assert_eq!((missing.status, missing.header("Content-Type")), (404, Some("application/problem+json")));
}

// ---- POST /mineBlock

#[test]
fn a_mined_block_is_answered_with_its_receipt() {
    let node = lone();
    let answer = node.post_json("/mineBlock", r#"{"data":["Hello"]}"#).expect(200);
    let block = answer.json();
    let keys: Vec<&str> = block.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["header", "body"]);
    assert_eq!(
        (&block["header"]["version"], &block["header"]["index"], &block["header"]["previousHash"], &block["body"]),
        (&json!("1.0.0"), &json!(1), &json!(GENESIS_HASH), &json!(["Hello"]))
    );
    assert_eq!(answer.header("Content-Type"), Some(JSON));
    let (_, hash) = tip(&node);
    let receipt = format!("{hash}-0");
    assert_eq!(answer.header("Block-Hash"), Some(hash.as_str()));
    assert_eq!(answer.header("Receipt-Id"), Some(receipt.as_str()));
    assert_eq!(answer.header("Location"), Some(format!("/receipts/{receipt}").as_str()));
    mine(&node, "another");
    let found = node.get(&format!("/receipts/{receipt}")).expect(200).json();
    assert_eq!(
        found,
        json!({ "id": receipt, "status": "included", "block": hash, "index": 1, "position": 0, "depth": 2, "peers": 0 })
    );
}

#[test]
fn what_is_more_than_needed_does_no_harm() {
    let node = lone();
    let post = |kind: &str, body: &str| Request::new("POST", "/mineBlock").header("Content-Type", kind).body(body);
    let good = [
        post("application/json", r#"{"other":{"a":[1,null,{}]},"data":["a"],"more":1}"#),
        post("application/json", " \r\n\t{ \"data\" : [ \"a\" ] } \n"),
        post("APPLICATION/JSON; charset=UTF-8", r#"{"data":["a"]}"#),
        post("application/json ;x=y", r#"{"data":["\u0061"]}"#),
        // What is dropped anyway may be nested as deep as it likes.
        post("application/json", &format!(r#"{{"x":{}1{},"data":["a"]}}"#, "[".repeat(100_000), "]".repeat(100_000))),
    ];
    for (place, request) in good.iter().enumerate() {
        assert_eq!(node.request(request).expect(200).json()["body"], json!(["a"]), "{request:?}");
        assert_eq!(tip(&node).0, place as u64 + 1);
    }
    // As much as the limits allow: 10,000 entries, an entry of 64 KiB, a body of 1 MiB.
    let many = vec!["e"; 10_000];
    assert_eq!(
        node.post_json("/mineBlock", &json!({ "data": many }).to_string()).expect(200).json()["body"],
        json!(many)
    );
    let large = vec!["x".repeat(64 * 1024); 16];
    assert_eq!(
        node.post_json("/mineBlock", &json!({ "data": large }).to_string()).expect(200).json()["body"],
        json!(large)
    );
    let _ = Audit::of(&blocks(&node));
}

/// Bodies that must be refused, each with why, and the status.
fn refused_bodies() -> Vec<(&'static str, Vec<u8>, u16)> {
    let text = |why, body: &str, status| (why, body.as_bytes().to_vec(), status);
    let data = |why, data: Value, status| (why, json!({ "data": data }).to_string().into_bytes(), status);
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    vec![
        text("nothing", "", 400),
        text("no JSON", "data=Hello", 400),
        text("JSON cut short", r#"{"data":["Hello"]"#, 400),
        text("JSON cut in a string", r#"{"data":["Hel"#, 400),
        text("more than one value", r#"{"data":["a"]}{"data":["b"]}"#, 400),
        text("a comma too many", r#"{"data":["a",]}"#, 400),
        text("single quotes", "{'data':['a']}", 400),
        text("a comment", r#"{"data":["a"]/**/}"#, 400),
        text("an array", r#"["a"]"#, 400),
        text("an array in the place of the object", r#"[["a"]]"#, 400),
        text("a string", r#""a""#, 400),
        text("null", "null", 400),
        text("a number", "1", 400),
        text("no data", "{}", 400),
        text("data misspelt", r#"{"Data":["a"]}"#, 400),
        text("data twice", r#"{"data":["a"],"data":["b"]}"#, 400),
        text("a raw control character", "{\"data\":[\"a\nb\"]}", 400),
        text("a lone surrogate", r#"{"data":["\ud800"]}"#, 400),
        text("a byte order mark", "\u{feff}{\"data\":[\"a\"]}", 400),
        data("data is null", Value::Null, 400),
        data("data is a string", json!("a"), 400),
        data("data is an object", json!({ "0": "a" }), 400),
        data("data is a number", json!(1), 400),
        data("an entry is a number", json!(["a", 1]), 400),
        data("an entry is null", json!([null]), 400),
        data("an entry is an object", json!([{ "a": 1 }]), 400),
        data("an entry is an array", json!([["a"]]), 400),
        data("an entry is true", json!([true]), 400),
        ("invalid UTF-8", b"{\"data\":[\"a\xff\"]}".to_vec(), 400),
        ("UTF-8 of a surrogate", b"{\"data\":[\"\xed\xa0\x80\"]}".to_vec(), 400),
        ("UTF-16", b"\xff\xfe{\0}\0".to_vec(), 400),
        text("a deep array", &deep(100_000), 400),
        text("a deep array in data", &format!(r#"{{"data":{}}}"#, deep(100_000)), 400),
        data("an empty array", json!([]), 422),
        data("an entry like a leaf", json!(["A".repeat(64)]), 422),
        data("an entry like a leaf behind others", json!(["a", "b", "0123456789ABCDEF".repeat(4)]), 422),
        data("an entry like two leaves", json!(["0".repeat(128)]), 422),
        data("an entry above 64 KiB", json!(["x".repeat(64 * 1024 + 1)]), 413),
        data("a body above 1 MiB", json!(vec!["x".repeat(64 * 1024); 17]), 413),
        data("10,001 entries", json!(vec!["e"; 10_001]), 413),
        data("a request of 3 MiB", json!(["x".repeat(3 << 20)]), 413),
    ]
}

#[test]
fn a_body_that_does_not_fit_changes_nothing() {
    let node = lone();
    mine(&node, "before");
    let before = blocks(&node);
    for (why, body, status) in refused_bodies() {
        let large = body.len() > 2 << 20;
        eprintln!("{why}");
        let request = Request::new("POST", "/mineBlock").header("Content-Type", "application/json").body(body);
        let mut connection = node.connect();
        let problem = connection.send(&request).expect("an answer").problem(status);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{why}: {problem}");
        assert!(blocks(&node) == before, "{why}: the chain has changed");
        if !large {
            let again = connection.send(&Request::get("/version")).expect("the connection is kept");
            assert_eq!(again.expect(200).text(), "1.0.0", "{why}");
        }
    }
    assert_eq!(node.get("/status").expect(200).json()["blocks"], 2);
    mine(&node, "after");
    assert_eq!(tip(&node).0, 2);
}

#[test]
fn a_broken_rule_is_named() {
    let node = lone();
    let rule = |body: Value, status| node.post_json("/mineBlock", &body.to_string()).problem(status)["rule"].clone();
    let named = [
        rule(json!({ "data": [] }), 422),
        rule(json!({ "data": ["A".repeat(64)] }), 422),
        rule(json!({ "data": ["x".repeat(64 * 1024 + 1)] }), 413),
        rule(json!({ "data": vec!["x".repeat(64 * 1024); 17] }), 413),
        rule(json!({ "data": vec!["e"; 10_001] }), 413),
    ];
    let different: BTreeSet<String> =
        named.iter().map(|name| name.as_str().expect("a rule has a name").to_owned()).collect();
    assert_eq!(different.len(), named.len(), "{named:?}");
    // For whoever explains it: what was found, and what was wanted.
    let problem = node.post_json("/mineBlock", &json!({ "data": vec!["e"; 10_001] }).to_string()).problem(413);
    assert_eq!((&problem["got"], &problem["wanted"]), (&json!("10001"), &json!("at most 10000")));
}

#[test]
fn only_json_is_taken() {
    let node = lone();
    let body = r#"{"data":["Hello"]}"#;
    let adopt = format!("/forks/{GENESIS_HASH}/adopt");
    let requeue = format!("/forks/{GENESIS_HASH}/requeue");
    for path in ["/mineBlock", "/addPeers", &adopt, &requeue] {
        node.request(&Request::new("POST", path).body(body)).problem(415);
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "json"] {
            let problem =
                node.request(&Request::new("POST", path).header("Content-Type", kind).body(body)).problem(415);
            assert!(problem["detail"].as_str().is_some_and(|text| text.contains("Content-Type: application/json")));
        }
        for kind in ["application/jsonp", "application/json-seq", "text/json", "application/ json", "*/*"] {
            node.request(&Request::new("POST", path).header("Content-Type", kind).body(body)).problem(415);
        }
    }
    assert_eq!(tip(&node).0, 0);
    assert_eq!(node.get("/peers").expect(200).json(), json!([]));
}

#[test]
fn requests_that_break_off_or_wait_are_survived() {
    let node = lone();
    let head = |length: usize, more: &str| {
        format!(
            "POST /mineBlock HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
        )
    };
    // Cut in the body: nothing is mined, whatever stood in it.
    for kept in [0, 5, 18] {
        let mut connection = node.connect();
        let body = &r#"{"data":["Hello"]}"#[..kept];
        connection.send_raw(format!("{}{body}", head(19, "")).as_bytes()).expect("sent");
        connection.finish_sending().expect("sent");
        let answer = connection.receive(false);
        assert!(!answer.is_ok_and(|answer| answer.status == 200), "{kept} of 19 bytes are no whole body");
    }
    // Told that it will be sent, the client waits until it may.
    let mut connection = node.connect();
    connection.send_raw(head(18, "Expect: 100-continue\r\n").as_bytes()).expect("sent");
    assert_eq!(connection.receive_interim().expect("an interim answer"), 100);
    connection.send_raw(br#"{"data":["Hello"]}"#).expect("sent");
    assert_eq!(connection.receive(false).expect("an answer").expect(200).json()["body"], json!(["Hello"]));
    // Chunked bodies are bodies, byte by byte too.
    let chunked = "POST /mineBlock HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut connection = node.connect();
    connection.send_raw(chunked.as_bytes()).expect("sent");
    for byte in br#"{"data":["bytes"]}"# {
        connection.send_raw(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']).expect("sent");
    }
    connection.send_raw(b"0\r\n\r\n").expect("sent");
    assert_eq!(connection.receive(false).expect("an answer").expect(200).json()["body"], json!(["bytes"]));
    // A chunked body has no length that could be judged at once; its limit holds all the same.
    let mut connection = node.connect();
    connection.send_raw(chunked.as_bytes()).expect("sent");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    // The node may answer and close before all is sent.
    let _ = (0..48).try_for_each(|_| connection.send_raw(chunk.as_bytes()));
    if let Ok(answer) = connection.receive(false) {
        answer.problem(413);
    }
    // Nonsense in the place of HTTP.
    for nonsense in
        [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], b"GET\r\n\r\n", b"\r\n\r\n\r\n", b"BLAH / HTTP/9\r\n\r\n"]
    {
        let mut connection = node.connect();
        connection.send_raw(nonsense).expect("sent");
        connection.finish_sending().expect("sent");
        let answer = connection.receive(false);
        assert!(!answer.is_ok_and(|answer| answer.status < 400), "{nonsense:?}");
    }
    assert_eq!(tip(&node).0, 2);
    mine(&node, "still there");
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let node = lone();
    let mut connection = node.connect();
    let one = |entry: &str| {
        let body = json!({ "data": [entry] }).to_string();
        format!(
            "POST /mineBlock HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    // All sent before the first answer is read, bad ones between.
    let bad =
        "POST /mineBlock HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let all: String = (0..10).map(|number| format!("{}{bad}", one(&format!("piped {number}")))).collect();
    connection.send_raw(all.as_bytes()).expect("sent");
    for number in 0..10 {
        let answer = connection.receive(false).expect("an answer").expect(200).json();
        assert_eq!(answer["body"], json!([format!("piped {number}")]));
        assert_eq!(answer["header"]["index"], number + 1);
        connection.receive(false).expect("an answer").problem(400);
    }
    assert_eq!(tip(&node).0, 10);
}

// ---- Waiting for other nodes

#[test]
fn a_caller_can_wait_until_other_nodes_hold_the_block() {
    let (a, b) = (lone(), lone());
    let post =
        |query: &str, entry: &str| a.post_json(&format!("/mineBlock{query}"), &json!({ "data": [entry] }).to_string());
    for bad in [
        "?wait=",
        "?wait=1",
        "?wait=replicated",
        "?wait=replicated:",
        "?wait=replicated:x",
        "?wait=replicated:-1",
        "?wait=replicated:%2B1",
        "?wait=replicated:99999999999999999999999",
        "?wait=durable:1",
        "?timeout=5s",
        "?wait=replicated:1&timeout=",
        "?wait=replicated:1&timeout=5m",
        "?wait=replicated:1&timeout=-5s",
        "?wait=replicated:1&timeout=25001ms",
        "?wait=replicated:1&timeout=99999999999999999999s",
        "?wait=replicated:1&wait=replicated:1",
    ] {
        eprintln!("{bad}");
        post(bad, "x").problem(400);
    }
    assert_eq!(tip(&a).0, 0, "nothing was mined");
    assert_eq!(post("?wait=replicated:0", "for nobody").expect(200).json()["body"], json!(["for nobody"]));
    let alone = post("?wait=replicated:1&timeout=50ms", "alone").expect(202);
    assert_eq!(alone.json()["body"], json!(["alone"]));
    let receipt = alone.header("Location").expect("a receipt").to_owned();
    assert_eq!(a.get(&receipt).expect(200).json()["peers"], 0);
    add_peer(&a, &b.p2p_url());
    let held = post("?wait=replicated:1&timeout=25s", "held").expect(200);
    assert_eq!(blocks(&b), blocks(&a), "the other node holds it when the answer comes");
    let receipt = held.header("Location").expect("a receipt").to_owned();
    assert_eq!(a.get(&receipt).expect(200).json()["peers"], 1);
    let _ = post("?wait=replicated:2&timeout=50ms", "there is no second").expect(202);
}

// ---- Receipts and idempotency keys

#[test]
fn a_receipt_that_was_never_given_is_not_found() {
    let node = lone();
    let receipt = node.post_json("/mineBlock", r#"{"data":["a","b"]}"#).expect(200);
    let receipt = receipt.header("Receipt-Id").expect("a receipt").to_owned();
    let (hash, _) = receipt.split_once('-').expect("a dash");
    node.get(&format!("/receipts/{receipt}")).expect(200).json();
    for unknown in [
        format!("{hash}-1"),
        format!("{hash}-4294967295"),
        format!("{}-0", "0".repeat(64)),
        format!("{GENESIS_HASH}-0"),
    ] {
        node.get(&format!("/receipts/{unknown}")).problem(404);
    }
    for bad in [
        hash.to_owned(),
        format!("{hash}-"),
        format!("{hash}--1"),
        format!("{hash}-+1"),
        format!("{hash}-x"),
        format!("{hash}-4294967296"),
        format!("{hash}_0"),
        "1".to_owned(),
        "-".to_owned(),
        "%00".to_owned(),
        "%ff".to_owned(),
        format!("{}-0", "g".repeat(64)),
    ] {
        node.get(&format!("/receipts/{bad}")).problem(400);
    }
}

fn keyed(key: &str, data: &[&str]) -> Request {
    Request::post_json("/mineBlock", &json!({ "data": data }).to_string()).header("Idempotency-Key", key)
}

/// What must be the same in each answer to a repeated request.
fn essence(answer: Response) -> (String, [Option<String>; 3]) {
    let answer = answer.expect(200);
    let header = |name| answer.header(name).map(str::to_owned);
    (answer.text().to_owned(), [header("Receipt-Id"), header("Location"), header("Block-Hash")])
}

#[test]
fn a_repeated_key_gives_the_first_answer_also_after_a_kill() {
    let mut node = lone();
    let first = essence(node.request(&keyed("a key", &["one", "한"])));
    mine(&node, "between");
    assert_eq!(essence(node.request(&keyed("a key", &["one", "한"]))), first);
    for other in [&["one"][..], &["한", "one"], &["one", "한", ""], &["two"]] {
        let problem = node.request(&keyed("a key", other)).problem(422);
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("Idempotency-Key")), "{problem}");
    }
    // Keys are told apart to the letter, and the same entries under another key are other entries.
    for key in ["A key", "a key2", "b", &"k".repeat(255)] {
        assert_ne!(essence(node.request(&keyed(key, &["one", "한"]))), first, "{key}");
    }
    let before = blocks(&node);
    node.kill9();
    node.restart();
    assert_eq!(essence(node.request(&keyed("a key", &["one", "한"]))), first);
    node.request(&keyed("a key", &["other"])).problem(422);
    assert!(node.terminate().success());
    node.restart();
    assert_eq!(essence(node.request(&keyed("a key", &["one", "한"]))), first);
    assert!(blocks(&node) == before, "nothing was mined again");
    // A request that failed leaves its key unused.
    node.request(&keyed("of a bad one", &["A".repeat(64).as_str()])).problem(422);
    node.request(&keyed("of a bad one", &["good"])).expect(200).text();
    for bad in ["", "한", &"k".repeat(256)] {
        let answer = node.request(&keyed(bad, &["x"]));
        answer.problem(400);
    }
    assert_eq!(tip(&node).0, 7);
}

#[test]
fn a_key_repeated_by_many_at_once_mines_one_block() {
    const THREADS: usize = 32;
    let node = lone();
    let port = node.http_port();
    for round in 0..5 {
        let key = format!("round {round}");
        let answers: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut connection = Connection::open(port).expect("the node listens");
                        essence(connection.send(&keyed(&key, &["same", &key])).expect("an answer"))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(tip(&node).0, round + 1);
    }
    // Half of them with other data: one side wins, the other is told.
    let outcomes: Vec<(usize, u16)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                scope.spawn(move || {
                    let entry = ["even", "odd"][number % 2];
                    let mut connection = Connection::open(port).expect("the node listens");
                    (number % 2, connection.send(&keyed("contested", &[entry])).expect("an answer").status)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let winner = outcomes.iter().find(|(_, status)| *status == 200).expect("one side wins").0;
    for (side, status) in outcomes {
        assert_eq!(status, if side == winner { 200 } else { 422 });
    }
    assert_eq!(tip(&node).0, 6);
}

// ---- Peers

#[test]
fn peers_are_added_listed_and_ended() {
    let (a, b) = (lone(), lone());
    assert_eq!(a.get("/peers").expect(200).json(), json!([]));
    mine(&b, "b's");
    let spellings = [format!("ws:localhost:{}", b.p2p_port()), "ws://192.0.2.1:6005".to_owned()];
    let rows = a.post_json("/addPeers", &json!({ "peers": spellings }).to_string()).expect(200).json();
    assert_eq!(
        rows,
        json!([
            { "peer": spellings[0], "address": format!("ws://localhost:{}", b.p2p_port()), "status": "connecting" },
            { "peer": spellings[1], "address": "ws://192.0.2.1:6005", "status": "connecting" },
        ])
    );
    wait_index(&a, 1);
    let row = wait::until(wait::SOON, "a link with all that is known of it", || {
        let rows = a.get("/peers").expect(200).json();
        let row = rows.as_array()?.iter().find(|row| row["kind"] == "native")?.clone();
        (!row["latencyMs"].is_null()).then_some(row)
    });
    assert_eq!(row["direction"], "outbound");
    assert_eq!(row["address"], format!("ws://localhost:{}", b.p2p_port()));
    assert_eq!(row["tip"], json!({ "index": 1, "hash": tip(&b).1 }));
    assert_eq!(row["agent"], format!("dolmen/{}", env!("CARGO_PKG_VERSION")));
    assert!(row["since"].as_u64().is_some_and(|since| since > 1_600_000_000_000), "{row}");
    assert!(row["latencyMs"].as_f64().is_some_and(|millis| (0.0..60_000.0).contains(&millis)), "{row}");
    let other_side = b.get("/peers").expect(200).json();
    assert_eq!((&other_side[0]["direction"], &other_side[0]["kind"]), (&json!("inbound"), &json!("native")));
    let status = a.get("/status").expect(200).json();
    assert_eq!((&status["peers"]["linked"], &status["peers"]["native"]), (&json!(1), &json!(1)));

    for bad in ["x", "-1", "1.5", "%ff", "18446744073709551616"] {
        a.request(&Request::new("DELETE", &format!("/peers/{bad}"))).problem(400);
    }
    a.request(&Request::new("DELETE", "/peers/999999")).problem(404);
    let id = row["id"].as_u64().expect("a link has an id");
    let gone = a.request(&Request::new("DELETE", &format!("/peers/{id}"))).expect(204);
    assert_eq!(gone.text(), "");
    wait::until(wait::SOON, "the link to end on both sides", || {
        let rows = |node: &NodeProcess| node.get("/peers").expect(200).json();
        let left = rows(&a).as_array()?.iter().all(|row| row["id"].is_null());
        (left && rows(&b) == json!([])).then_some(())
    });
    a.request(&Request::new("DELETE", &format!("/peers/{id}"))).problem(404);
    let addresses = |node: &NodeProcess| -> Vec<String> {
        let rows = node.get("/peers").expect(200).json();
        let rows = rows.as_array().expect("an array");
        rows.iter().map(|row| row["address"].as_str().expect("an address").to_owned()).collect()
    };
    assert_eq!(addresses(&a), ["ws://192.0.2.1:6005"], "the address was forgotten with the link");
    // It can be joined again.
    add_peer(&a, &b.p2p_url());
    mine(&a, "a's");
    wait_index(&b, 2);
}

#[test]
fn peers_that_do_not_fit_are_all_refused() {
    let node = lone();
    let good = "ws://127.0.0.1:6999";
    let bad = [
        "",
        " ",
        "127.0.0.1:6005",
        "localhost",
        "http://127.0.0.1:6005",
        "https://127.0.0.1:6005",
        "wss://127.0.0.1:6005",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6005",
        "ws://",
        "ws:",
        "ws://127.0.0.1:0",
        "ws://127.0.0.1:65536",
        "ws://127.0.0.1:6005/path",
        "ws://127.0.0.1:6005/?query",
        "ws://127.0.0.1:6005/#fragment",
        "ws://user@127.0.0.1:6005",
        "ws://user:password@127.0.0.1:6005",
        "ws://[::1:6005",
        "ws://ho st:6005",
        "javascript:alert(1)",
    ];
    for address in bad {
        for list in [json!([address]), json!([good, address]), json!([address, good])] {
            let problem = node.post_json("/addPeers", &json!({ "peers": list }).to_string()).problem(400);
            assert!(problem["detail"].as_str().is_some_and(|text| text.contains("ws://")), "{address}: {problem}");
        }
    }
    let bodies = [
        json!({}),
        json!({ "peers": [] }),
        json!({ "peers": good }),
        json!({ "peers": null }),
        json!({ "peers": [1] }),
        json!({ "peers": [good, null] }),
        json!({ "peers": vec![good; 65] }),
        json!([good]),
        json!(null),
    ];
    for body in bodies {
        node.post_json("/addPeers", &body.to_string()).problem(400);
    }
    node.post_json("/addPeers", "{").problem(400);
    node.post_json("/addPeers", &json!({ "peers": ["x".repeat(3 << 20)] }).to_string()).problem(413);
    assert_eq!(node.get("/peers").expect(200).json(), json!([]), "none was taken");
}

// ---- How the node is

#[test]
fn version_health_and_status_say_how_the_node_is() {
    let node = lone();
    let version = node.get("/version").expect(200);
    assert_eq!((version.text(), version.header("Dolmen-Version")), ("1.0.0", Some(env!("CARGO_PKG_VERSION"))));
    for path in ["/livez", "/readyz"] {
        assert_eq!(node.get(path).expect(200).text(), "ok\n");
    }
    mine(&node, "one");
    let mut status = node.get("/status").expect(200).json();
    let uptime = status["uptimeSeconds"].take();
    assert!(uptime.as_u64().is_some_and(|seconds| seconds < 600), "{uptime}");
    let wanted = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "tip": { "index": 1, "hash": tip(&node).1 },
        "blocks": 2,
        "peers": { "linked": 0, "native": 0, "tutorial": 0, "connecting": 0 },
        "sync": null,
        "outbox": 0,
        "sideBlocks": 0,
        "parkedBranches": 0,
        "reorgs": 0,
        "writable": true,
        "problem": null,
        "uptimeSeconds": null,
    });
    for (key, value) in wanted.as_object().expect("an object") {
        assert_eq!(&status[key], value, "{key}");
    }
    let tip = json!({ "index": 1, "hash": tip(&node).1 });
    assert_eq!(node.get("/forks").expect(200).json(), json!({ "best": tip, "branches": [] }));
    assert_eq!(node.get("/reorgs").expect(200).json(), json!([]));
}

#[test]
fn a_lost_fork_is_listed_and_its_entries_come_back() {
    let (a, b) = (lone(), lone());
    let lost = a.post_json("/mineBlock", r#"{"data":["a's","also a's"]}"#).expect(200);
    let receipt = lost.header("Location").expect("a receipt").to_owned();
    let lost_hash = lost.header("Block-Hash").expect("a hash").to_owned();
    mine(&b, "b's first");
    mine_all(&b, &["b's second", "b's"]);
    add_peer(&a, &b.p2p_url());
    wait_index(&b, 3);
    let (index, hash) = wait_equal(&[&a, &b]);
    assert_eq!(index, 3);
    let genesis = json!({ "index": 0, "hash": GENESIS_HASH });
    let mut forks = a.get("/forks").expect(200).json();
    let age = forks["branches"][0]["ageSeconds"].take();
    assert!(age.as_u64().is_some_and(|seconds| seconds < 600), "{age}");
    assert_eq!(
        forks,
        json!({
            "best": { "index": 3, "hash": hash },
            "branches": [
                { "tip": { "index": 1, "hash": lost_hash }, "fork": genesis, "length": 1, "ageSeconds": null, "parked": false }
            ]
        })
    );
    let mut reorgs = a.get("/reorgs").expect(200).json();
    assert!(reorgs[0]["time"].take().as_u64().is_some_and(|time| time > 1_700_000_000));
    let lost_tip = json!({ "index": 1, "hash": lost_hash });
    assert_eq!((&reorgs[0]["old"], &reorgs[0]["fork"]), (&lost_tip, &genesis));
    assert_eq!((&reorgs[0]["depth"], &reorgs[0]["requeued"]), (&json!(1), &json!(1)));
    assert_eq!(
        (reorgs[0]["length"].as_u64(), reorgs.as_array().map(Vec::len)),
        (reorgs[0]["new"]["index"].as_u64(), Some(1))
    );
    let orphan = a.get(&format!("/blocks/{lost_hash}")).expect(200);
    assert_eq!((orphan.text(), orphan.header("Confirmations")), (lost.text(), Some("0")));
    let found = a.get(&receipt).expect(200).json();
    assert_eq!(
        (&found["status"], &found["block"], &found["index"], &found["position"], &found["depth"]),
        (&json!("included"), &json!(hash), &json!(3), &json!(0), &json!(1))
    );
    assert_eq!(format!("/receipts/{}", found["id"].as_str().expect("an id")), receipt);
    let status = a.get("/status").expect(200).json();
    assert_eq!((&status["reorgs"], &status["sideBlocks"], &status["outbox"]), (&json!(1), &json!(1), &json!(0)));
    let audit = Audit::of(&blocks(&b));
    for entry in ["a's", "also a's", "b's first", "b's second", "b's"] {
        assert_eq!(audit.count(entry), 1, "{entry}");
    }
    // Only the node that acknowledged an entry knows its receipt.
    b.get(&receipt).problem(404);

    // What an operator may do with a branch: not adopt one that is no better; have its entries mined again.
    let operate = |hash: &str, what: &str| a.post_json(&format!("/forks/{hash}/{what}"), "{}");
    operate(&lost_hash, "adopt").problem(409);
    for what in ["adopt", "requeue"] {
        operate(&"0".repeat(64), what).problem(404);
        operate("x", what).problem(400);
    }
    assert_eq!(tip(&a), (3, hash));
}

#[test]
fn the_explorer_is_its_own_files_that_may_talk_to_their_node_only() {
    let node = lone();
    let page = node.get("/").expect(200);
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
    let text = page.text();
    assert!(text.starts_with("<!") && text.contains("<script") && text.trim_end().ends_with("</html>"));
    let names: BTreeSet<&str> =
        text.split("\"/explorer/").skip(1).map(|rest| rest.split('"').next().expect("a name")).collect();
    assert!(names.contains("main.js") && names.contains("style.css"), "{names:?}");
    let parts = names.iter().map(|name| node.get(&format!("/explorer/{name}")).expect(200));
    for part in parts.chain([page.clone()]) {
        assert_eq!(part.header("Content-Security-Policy"), Some(policy));
        assert_eq!(part.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(part.header("Referrer-Policy"), Some("no-referrer"));
        for foreign in ["src=\"http", "href=\"http", "@import", "innerHTML", "document.write", "eval(", " style=\""] {
            assert!(!part.text().contains(foreign), "{foreign}");
        }
        let tag = part.header("ETag").expect("a tag").to_owned();
        let kind = part.header("Content-Type").expect("a type");
        let name = names.iter().find(|name| node.get(&format!("/explorer/{name}")).header("ETag") == Some(&tag));
        let path = name.map_or("/".to_owned(), |name| format!("/explorer/{name}"));
        let again = node.request(&Request::get(&path).header("If-None-Match", &tag));
        assert_eq!((again.status, again.body.len()), (304, 0), "{path} of type {kind}");
    }
    node.get("/explorer/secret.js").problem(404);
}
