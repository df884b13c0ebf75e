use super::arena::Arena;

/// Refused as soon as it is read: no link to it is ever tried.
const REFUSED: &[&str] = &[
    "",
    " ",
    "localhost",
    "localhost:6005",
    "6005",
    "ws",
    "ws:",
    "ws:/",
    "ws://",
    "ws:///",
    "ws://:6005",
    "ws://host:0",
    "ws://host:65536",
    "ws://host:-1",
    "ws://host:port",
    "ws://ho st:6005",
    "ws://host:6005/path",
    "ws://host:6005/?query",
    "ws://host:6005/#fragment",
    "ws://user@host:6005",
    "ws://user:password@host:6005",
    "ws://127.0.0.1:6005@evil.example:80",
    "ws://[::1",
    "ws://[::g]:6005",
    "ws://[fe80::1%25eth0]:6005",
    "ws://256.256.256.256:6005",
    "ws://1.2.3.4.5:6005",
    "ws://0x100000000:6005",
    "ws://host:6005\r\nHost: evil",
    "ws://ho\u{0}st:6005",
    "ws://ho%00st:6005",
    "ws://ho%2fst:6005",
    "ws://host^:6005",
    "http://127.0.0.1:6005",
    "https://127.0.0.1:6005",
    "ftp://127.0.0.1",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "javascript:alert(1)",
    "data:text/html,x",
    "unix:///var/run/docker.sock",
    "//127.0.0.1:6005",
    "\\\\host\\share",
];

/// Read as an address, and never connected to: no node lives there, and secrets do. In every spelling that a name or a
/// number can have.
const NEVER_DIALLED: &[&str] = &[
    "ws://169.254.169.254:80",
    "ws://169.254.169.254",
    "ws://[::ffff:169.254.169.254]:80",
    "ws://[::ffff:a9fe:a9fe]:80",
    "ws://[64:ff9b::169.254.169.254]:80",
    "ws://[2002:a9fe:a9fe::1]:80",
    "ws://[fd00:ec2::254]:80",
    "ws://[fe80::1]:80",
    "ws://2852039166:80",
    "ws://0xa9fea9fe:80",
    "ws://0xa9.0xfe.0xa9.0xfe:80",
    "ws://0251.0376.0251.0376:80",
    "ws://169.254.43518:80",
    "ws://0.0.0.0:6005",
    "ws://0:6005",
    "ws://[::]:6005",
    "ws://255.255.255.255:6005",
    "ws://224.0.0.1:6005",
    "ws://[ff02::1]:6005",
    "ws://240.0.0.1:6005",
];

#[test]
fn addresses_that_nobody_should_dial() {
    let mut arena = Arena::new();
    let ask = |arena: &Arena, url: &str| {
        let body = serde_json::json!({ "peers": [url] }).to_string();
        arena.node.post_json("/addPeers", &body)
    };
    for url in REFUSED {
        let problem = ask(&arena, url).problem(400);
        assert!(!problem.to_string().contains("No such file"), "{url:?}: {problem}");
        // All or nothing: a good address beside a bad one is not taken either.
        let both = serde_json::json!({ "peers": ["ws://10.255.255.1:1", url] }).to_string();
        let _ = arena.node.post_json("/addPeers", &both).problem(400);
    }
    let known = arena.node.get("/peers").expect(200).text().to_owned();
    assert!(!known.contains("10.255.255.1"), "{known}");
    for url in NEVER_DIALLED {
        let answer = ask(&arena, url);
        // Taken and not dialled; never an answer of what lives there.
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
    }
    super::support::wait::until(super::support::wait::SOON, "every one to be judged before it is dialled", || {
        let log = arena.node.log();
        let refused = ["link-local", "unspecified", "multicast", "reserved"];
        refused.iter().all(|why| log.contains(why)).then_some(())
    });
    for url in ["ws://169.254.169.254:80", "ws://[fe80::1]:80", "ws://0.0.0.0:6005"] {
        for row in arena.node.get("/peers").expect(200).json().as_array().expect("rows") {
            assert!(row["address"] != url || row["id"].is_null(), "{url} is linked: {row}");
        }
    }
    arena.in_step("hostile addresses");
    arena.finish();
}
