//! Reading a long chain: as a whole, fast and slowly, and block by block.

use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::catch_up::MEMORY;
use crate::client::get;
use crate::load::{self, median};
use crate::process::Node;
use crate::report::{Bound, Report};
use crate::{Sizes, chain};

/// Answers that a slow reader leaves unread for this long.
const SLOW: Duration = Duration::from_secs(2);

pub fn measure(sizes: &Sizes, report: &mut Report) {
    let dir = chain::dir(sizes.long);
    let hashes = chain::hashes(dir.path());
    let node = Node::start(dir.path(), &[]);
    let rounds: Vec<(f64, f64)> = (0..sizes.rounds).map(|_| whole(&node)).collect();
    let of = |figure: fn(&(f64, f64)) -> f64| median(&mut rounds.iter().map(figure).collect::<Vec<_>>());
    let work = |what: &str| format!("GET /blocks of {}{what}", sizes.long);
    report.target(&work(", first byte"), of(|round| round.0), "ms", Bound::AtMost, 10.0, "");
    let send = ceiling();
    let beside = format!("a socket alone moves {send:.0} MB/s");
    report.target(&work(", to a fast reader"), of(|round| round.1), "MB/s", Bound::AtLeast, 400.0, &beside);
    slow(&node);
    let beside = format!("peak {:.0}", node.peak());
    report.target(&work(", memory after a slow reader"), node.resident(), "MiB", Bound::AtMost, MEMORY, &beside);

    let mut random = StdRng::seed_from_u64(1);
    let mut rates = Vec::new();
    let mut slowest = Vec::new();
    for _ in 0..sizes.rounds {
        let load = load::run(node.http, 32, Duration::from_secs_f64(sizes.load_seconds), |text| {
            let hash = hashes[random.random_range(0..hashes.len())];
            text.extend_from_slice(&get(&format!("/blocks/{hash}")));
        });
        rates.push(load.per_second());
        slowest.push(load.within(0.99));
    }
    let beside = format!("p99 {:.2} ms", median(&mut slowest));
    report.target(
        "GET /blocks/{hash}, random, 32 connections",
        median(&mut rates),
        "/s",
        Bound::AtLeast,
        30_000.0,
        &beside,
    );
    let load = load::run(node.http, 32, Duration::from_secs_f64(sizes.load_seconds), |text| {
        text.extend_from_slice(&get("/version"));
    });
    report.figure("GET /version, 32 connections", load.per_second(), "/s", "the server alone");
}

/// Milliseconds to the first byte of the body, and megabytes per second of it.
fn whole(node: &Node) -> (f64, f64) {
    let mut client = node.client();
    let begun = Instant::now();
    client.send(&get("/blocks"));
    let (status, _) = client.head();
    assert_eq!(status, 200);
    let mut first = None;
    let mut bytes = 0;
    loop {
        let some = client.some();
        first.get_or_insert_with(|| begun.elapsed().as_secs_f64() * 1e3);
        bytes += some.len();
        // The last chunk of a chunked body.
        if some.is_empty() || some.ends_with(b"\r\n0\r\n\r\n") || some == b"0\r\n\r\n" {
            break;
        }
    }
    (first.unwrap_or(f64::NAN), bytes as f64 / 1e6 / begun.elapsed().as_secs_f64())
}

/// Asks for everything and reads next to nothing of it.
fn slow(node: &Node) {
    let mut clients: Vec<_> = (0..4).map(|_| node.client()).collect();
    for client in &mut clients {
        client.send(&get("/blocks"));
    }
    thread::sleep(SLOW);
    for client in &mut clients {
        assert_eq!(client.head().0, 200);
    }
}

/// Megabytes per second that a socket moves when nothing is to be made.
fn ceiling() -> f64 {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    const BYTES: usize = 500_000_000;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("a reader");
            let chunk = vec![7; 256 * 1024];
            for _ in 0..BYTES / chunk.len() {
                stream.write_all(&chunk).expect("it reads");
            }
        });
        let mut stream = TcpStream::connect(address).expect("it listens");
        let mut chunk = vec![0; 1 << 20];
        let begun = Instant::now();
        let mut bytes = 0;
        loop {
            match stream.read(&mut chunk).expect("it sends") {
                0 => return bytes as f64 / 1e6 / begun.elapsed().as_secs_f64(),
                count => bytes += count,
            }
        }
    })
}
