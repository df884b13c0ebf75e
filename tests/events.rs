//! `GET /events` from outside: whoever follows it, is cut off and comes back has the node's chain, whatever happened; who
//! does not read is dropped; nothing grows.

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use support::http::{Connection, Event, Request, Streaming};
use support::writers::{self, Writers};
use support::{NodeOptions, NodeProcess, add_peer, blocks, mine, tip, wait, wait_equal, wait_index};

const GENESIS_ID: &str = "0-f087ad9b4600afd1c6451654a7df0f0f20795c95825c097a25469b7cf5287feb";

/// As in the node: readers at once.
const MAX_READERS: usize = 32;

fn lone() -> NodeProcess {
    NodeProcess::start(NodeOptions::new())
}

fn open(port: u16, query: &str, id: Option<&str>) -> io::Result<Streaming> {
    let request = Request::get(&format!("/events{query}"));
    let request = match id {
        Some(id) => request.header("Last-Event-ID", id),
        None => request,
    };
    Connection::open(port)?.stream(&request)
}

fn follow(node: &NodeProcess, query: &str, id: Option<&str>) -> Streaming {
    let stream = open(node.http_port(), query, id).expect("the node answers");
    assert_eq!((stream.status, stream.header("Content-Type")), (200, Some("text/event-stream; charset=utf-8")));
    stream
}

/// The next event of one of these kinds.
fn next(stream: &mut Streaming, kinds: &[&str]) -> (String, Value) {
    loop {
        let event = stream.next_event().expect("the stream goes on").expect("an event");
        let Some(kind) = event.kind else { continue };
        if kinds.contains(&kind.as_str()) {
            let data = serde_json::from_str(&event.data).expect("the data is JSON");
            return (event.id.expect("every event has an id"), data);
        }
    }
}

fn id_of(tip: &(u64, String)) -> String {
    format!("{}-{}", tip.0, tip.1)
}

fn pair(tip: &Value) -> (u64, String) {
    (tip["index"].as_u64().expect("an index"), tip["hash"].as_str().expect("a hash").to_owned())
}

// ---- A reader that is cut off again and again.

/// The chain that a reader builds: it drops what a reorg takes back and adds every block, and knows nothing else.
struct Follower {
    port: u16,
    chain: Vec<(u64, String)>,
    id: String,
    reorgs: usize,
    connections: usize,
}

impl Follower {
    fn new(port: u16) -> Self {
        let (index, hash) = GENESIS_ID.split_once('-').expect("an id");
        let genesis = (index.parse().expect("an index"), hash.to_owned());
        Self { port, chain: vec![genesis], id: GENESIS_ID.to_owned(), reorgs: 0, connections: 0 }
    }

    fn take(&mut self, event: Event) {
        let Some(kind) = event.kind else { return };
        let data: Value = serde_json::from_str(&event.data).expect("the data is JSON");
        let last = self.chain.last().expect("genesis");
        match kind.as_str() {
            "block" => {
                let header = &data["block"]["header"];
                assert_eq!(header["index"], last.0 + 1, "the next block, and no other");
                assert_eq!(header["previousHash"], last.1.as_str());
                self.chain.push((last.0 + 1, data["hash"].as_str().expect("a hash").to_owned()));
            }
            "reorg" => {
                let (old, fork) = (pair(&data["old"]), pair(&data["fork"]));
                assert_eq!(old, *last);
                let kept = fork.0 as usize + 1;
                assert_eq!(self.chain[kept - 1], fork);
                let left: Vec<_> = data["left"].as_array().expect("a list").iter().map(pair).collect();
                assert_eq!(left, self.chain[kept..]);
                assert_eq!(data["depth"], left.len());
                self.chain.truncate(kept);
                self.reorgs += 1;
            }
            "peer" | "sync" => {}
            other => panic!("{other} is not awaited: {data}"),
        }
        self.id = event.id.expect("every event has an id");
        assert_eq!(self.id, id_of(self.chain.last().expect("genesis")));
    }

    /// Reads until `enough`, or the node cuts the stream off.
    fn read(&mut self, mut enough: impl FnMut(&Self) -> bool) {
        // A node that is away is asked again.
        let Ok(mut stream) = open(self.port, "", Some(&self.id)) else {
            return thread::sleep(Duration::from_millis(20));
        };
        if stream.status != 200 {
            return;
        }
        self.connections += 1;
        while let Ok(Some(event)) = stream.next_event() {
            self.take(event);
            if enough(self) {
                return;
            }
        }
    }

    /// Follows, cut off after a random number of events, until it is told that the end is near, and then to the end.
    fn run(port: u16, seed: u64, ending: &Arc<AtomicBool>) -> JoinHandle<Self> {
        let ending = Arc::clone(ending);
        thread::spawn(move || {
            let mut random = StdRng::seed_from_u64(seed);
            let mut follower = Self::new(port);
            while !ending.load(Ordering::Relaxed) {
                let mut left = random.random_range(1..400);
                follower.read(|_| {
                    left -= 1;
                    left == 0 || ending.load(Ordering::Relaxed)
                });
            }
            follower
        })
    }

    /// Comes to the node's tip, which no longer moves, and has its chain.
    fn finish(mut self, node: &NodeProcess) -> Self {
        let end = tip(node);
        wait::until(wait::SOON, format!("the reader at {end:?}, not {}", self.id), || {
            let there = |reader: &Self| reader.chain.last() == Some(&end);
            if !there(&self) {
                self.read(there);
            }
            there(&self).then_some(())
        });
        let chain: Value = serde_json::from_str(&blocks(node)).expect("the chain is JSON");
        let chain = chain.as_array().expect("an array");
        assert_eq!(self.chain.len(), chain.len());
        for (block, next) in self.chain.iter().zip(&chain[1..]) {
            assert_eq!(next["header"]["previousHash"], block.1.as_str(), "block {}", block.0);
        }
        self
    }
}

#[test]
fn readers_that_are_cut_off_miss_nothing_and_get_nothing_twice() {
    let seed = rand::random();
    println!("seed {seed}");
    let (mut a, b) = (NodeProcess::start(NodeOptions::new().steady_ports()), lone());
    let ending = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> =
        [&a, &a, &b].iter().zip(seed..).map(|(node, seed)| Follower::run(node.http_port(), seed, &ending)).collect();
    // Two networks under load; then they meet, and one of them loses all it has.
    let writers = Writers::start(&[a.http_port(), b.http_port()], 3, Duration::from_millis(1));
    wait_index(&a, 100);
    wait_index(&b, 100);
    add_peer(&a, &b.p2p_url());
    wait::until(wait::SOON, "a reorg", || {
        let reorgs = |node: &NodeProcess| node.get("/status").expect(200).json()["reorgs"].as_u64();
        (reorgs(&a)? + reorgs(&b)? > 0).then_some(())
    });
    // A reorg whose reader is away, over a restart in the middle of the load.
    a.kill9();
    let height = tip(&b).0;
    wait_index(&b, height + 50);
    a.restart();
    wait_index(&a, height + 100);
    assert!(a.terminate().success(), "a node with readers stops as it is told");
    a.restart();
    writers.stop();
    wait::until(wait::SOON, "an empty outbox on both", || {
        let empty = |node: &NodeProcess| node.get("/status").expect(200).json()["outbox"] == 0;
        (empty(&a) && empty(&b)).then_some(())
    });
    wait_equal(&[&a, &b]);
    ending.store(true, Ordering::Relaxed);
    // Readers that wait for an event see the end when the next one comes.
    mine(&a, "the end");
    mine(&a, "the very end");
    wait_equal(&[&a, &b]);
    let nodes = [&a, &a, &b];
    let readers: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("no event was wrong")).collect();
    let readers: Vec<_> = readers.into_iter().zip(nodes).map(|(reader, node)| reader.finish(node)).collect();
    let (reorgs, connections) = readers.iter().fold((0, 0), |sum, r| (sum.0 + r.reorgs, sum.1 + r.connections));
    assert!(reorgs >= 1 && connections > 6, "{reorgs} reorgs, {connections} connections: the test tests too little");
}

// ---- What is said.

#[test]
fn events_begin_with_the_links_and_go_on_with_what_happens() {
    let (a, b) = (lone(), lone());
    let genesis = tip(&a);
    let mut stream = follow(&a, "", None);
    assert_eq!(next(&mut stream, &["sync", "peer", "block"]), (GENESIS_ID.to_owned(), Value::Null));
    add_peer(&a, &b.p2p_url());
    let linked = loop {
        let (_, data) = next(&mut stream, &["peer"]);
        if data["peer"]["kind"] == "native" {
            break data;
        }
    };
    assert_eq!(linked["peer"]["direction"], "outbound");
    let text = mine(&a, "first");
    let (id, data) = next(&mut stream, &["block", "reorg"]);
    assert_eq!(id, id_of(&tip(&a)));
    assert_eq!(data["block"], serde_json::from_str::<Value>(&text).expect("a block"));
    assert_eq!(data["hash"], tip(&a).1);
    drop(b);
    while next(&mut stream, &["peer"]).1["change"] != "closed" {}

    // From an id in the address, as curl has it; the header, which a browser sends after a break, counts more.
    mine(&a, "second");
    let mut again = follow(&a, &format!("?lastEventId={}", id_of(&genesis)), None);
    assert_eq!(next(&mut again, &["block"]).1["block"]["body"], json!(["first"]));
    let mut again = follow(&a, &format!("?lastEventId={}", id_of(&genesis)), Some(&id));
    assert_eq!(next(&mut again, &["block"]).1["block"]["body"], json!(["second"]));

    // A block that nobody knows.
    let unknown = (7, "ab".repeat(32));
    let mut lost = follow(&a, "", Some(&id_of(&unknown)));
    let (id, data) = next(&mut lost, &["reset", "block", "reorg"]);
    assert_eq!((id, pair(&data["unknown"]), pair(&data["tip"])), (id_of(&tip(&a)), unknown, tip(&a)));
    mine(&a, "third");
    assert_eq!(next(&mut lost, &["reset", "block", "reorg"]).1["block"]["body"], json!(["third"]));

    // A known block under an index that is not its own, and a height that the chain does not have yet.
    let (known, future) = (id_of(&(1, tip(&a).1)), id_of(&(1_000_000, "cd".repeat(32))));
    for id in [known, future] {
        let mut lost = follow(&a, "", Some(&id));
        let (id, data) = next(&mut lost, &["reset", "block", "reorg"]);
        assert_eq!((id, pair(&data["tip"])), (id_of(&tip(&a)), tip(&a)));
    }

    // A reader that would rather keep up.
    let mut late = follow(&a, "?behind=1", Some(GENESIS_ID));
    let (id, data) = next(&mut late, &["skipped", "block"]);
    assert_eq!((&data["from"]["index"], &data["to"]["index"]), (&json!(0), &json!(2)));
    assert!(id.starts_with("2-"), "{id}");
    assert_eq!(next(&mut late, &["skipped", "block"]).1["block"]["body"], json!(["third"]));

    for (query, id) in [("", Some("x")), ("", Some("1-abc")), ("?lastEventId=", None), ("?behind=-1", None)] {
        let request = Request::get(&format!("/events{query}"));
        let request = id.iter().fold(request, |request, id| request.header("Last-Event-ID", id));
        let problem = a.request(&request).problem(400);
        assert!(problem["detail"].is_string(), "{query} {id:?}");
    }
    assert_eq!(a.post_json("/events", "{}").expect(405).header("Allow"), Some("GET"));
}

#[test]
fn a_reorg_names_what_left_what_entered_and_what_is_mined_again() {
    let (a, b) = (lone(), lone());
    let answer = a.post_json("/mineBlock", r#"{"data":["ours"]}"#).expect(200);
    let receipt = answer.header("Receipt-Id").expect("a receipt").to_owned();
    let ours = tip(&a);
    let entered: Vec<_> = (1..=3)
        .map(|number| {
            mine(&b, &format!("theirs {number}"));
            tip(&b)
        })
        .collect();
    let mut stream = follow(&a, "", None);
    add_peer(&a, &b.p2p_url());
    let (id, data) = next(&mut stream, &["reorg", "block"]);
    assert_eq!(id, GENESIS_ID, "the reader stands at the common ancestor");
    let pairs = |value: &Value| value.as_array().expect("a list").iter().map(pair).collect::<Vec<_>>();
    assert_eq!((pairs(&data["left"]), pair(&data["old"])), (vec![ours.clone()], ours.clone()));
    assert_eq!((&data["depth"], &data["fork"]["index"]), (&json!(1), &json!(0)));
    // The entry may have been mined again before the reader was told: then it is the fourth that entered.
    assert_eq!(pairs(&data["entered"])[..3], entered[..]);
    if pairs(&data["entered"]).len() == 3 {
        assert_eq!(data["requeued"], json!([receipt]));
    }
    for number in 1..=3 {
        assert_eq!(next(&mut stream, &["reorg", "block"]).1["block"]["body"], json!([format!("theirs {number}")]));
    }
    let (id, data) = next(&mut stream, &["reorg", "block"]);
    assert_eq!((data["block"]["body"].clone(), id), (json!(["ours"]), id_of(&tip(&a))));
    // The old block is off the chain and still a place to go on from.
    let mut again = follow(&a, "", Some(&id_of(&ours)));
    let (_, data) = next(&mut again, &["reorg", "block"]);
    assert_eq!((&data["depth"], &data["length"], &data["requeued"]), (&json!(1), &json!(4), &json!([])));
}

// ---- Bounds.

#[test]
fn a_reader_that_does_not_read_is_dropped_and_costs_no_memory() {
    let node = lone();
    // More than the sockets' buffers hold.
    let entry = "x".repeat(60_000);
    let body = json!({ "data": vec![entry; 16] }).to_string();
    let mut connection = node.connect();
    for _ in 0..40 {
        let _ = connection.send(&Request::post_json("/mineBlock", &body)).expect("an answer").expect(200);
    }
    let before = node.resident_bytes();
    let began = Instant::now();
    let mut streams: Vec<_> = (0..4).map(|_| follow(&node, "", Some(GENESIS_ID))).collect();
    wait::until(wait::SOON, "the readers to be dropped", || {
        (node.log().matches("reader of events dropped").count() == 4).then_some(())
    });
    assert!(began.elapsed() >= Duration::from_secs(9), "readers have some time");
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 60 << 20, "{grown} bytes more for four readers of a chain of 38 MB");
    for stream in &mut streams {
        let mut told = 0;
        while let Ok(Some(_)) = stream.next_event() {
            told += 1;
        }
        assert!(told < 41, "the stream was cut off");
    }
    mine(&node, "the node goes on");
}

#[test]
fn readers_are_limited_and_a_place_that_is_left_is_free_again() {
    let node = lone();
    let mut readers: Vec<_> = (0..MAX_READERS).map(|_| follow(&node, "", None)).collect();
    for reader in &mut readers {
        next(reader, &["sync"]);
    }
    let refused = node.get("/events");
    assert!(refused.header("Retry-After").is_some());
    refused.problem(503);
    readers.pop();
    let mut last = wait::until(wait::SOON, "a free place", || {
        mine(&node, "something to say, so that the node notices who has left");
        open(node.http_port(), "", None).ok().filter(|stream| stream.status == 200)
    });
    next(&mut last, &["sync"]);
    let text = mine(&node, "to all");
    for reader in readers.iter_mut().chain([&mut last]) {
        while next(reader, &["block"]).1["block"] != serde_json::from_str::<Value>(&text).expect("a block") {}
    }
}

#[test]
fn a_reader_of_a_busy_node_is_told_every_block() {
    let node = lone();
    let mut stream = follow(&node, "", None);
    let port = node.http_port();
    let filling = thread::spawn(move || writers::fill(port, "busy", 3_000));
    for index in 1..=3_000_u64 {
        let (id, data) = next(&mut stream, &["block", "reorg", "reset", "skipped"]);
        assert_eq!(data["block"]["header"]["index"], index);
        assert!(id.starts_with(&format!("{index}-")));
    }
    filling.join().expect("all were mined");
}

// ---- Looking for entries.

#[test]
fn entries_are_found_newest_first_and_the_answer_says_how_far_it_looked() {
    let node = lone();
    for number in 1..=120 {
        mine(&node, &format!("Stone {number}"));
    }
    mine(&node, "돌 <b>needle</b>");
    let found = node.get("/search?text=NEEDLE").expect(200).json();
    assert_eq!((&found["from"], &found["to"], &found["next"]), (&json!(121), &json!(0), &Value::Null));
    let (index, hash) = tip(&node);
    assert_eq!(found["found"], json!([{ "index": index, "hash": hash, "position": 0, "entry": "돌 <b>needle</b>" }]));
    let first = node.get("/search?text=stone").expect(200).json();
    let indices = |found: &Value| -> Vec<u64> {
        found["found"].as_array().expect("a list").iter().map(|row| row["index"].as_u64().expect("an index")).collect()
    };
    assert_eq!(indices(&first), (71..=120).rev().collect::<Vec<_>>());
    assert_eq!((&first["to"], &first["next"]), (&json!(71), &json!(71)));
    let rest = node.get("/search?text=stone&before=71").expect(200).json();
    assert_eq!(indices(&rest)[..3], [70, 69, 68]);
    for bad in ["/search", "/search?text=", "/search?text=a&before=x", "/search?text=a&before=-1"] {
        node.get(bad).problem(400);
    }
}
