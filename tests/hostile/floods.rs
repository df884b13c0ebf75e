use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dolmen::ledger::storage::{Batch, BatchBlock, Storage, TipChange};
use dolmen::ledger::{Block, Header, SharedBlock, Tip, UnixTime, Version, genesis, merkle, rules};
use dolmen::store::{Options, RealDisk, Store};

use super::arena::Case;
use super::arena::Fate::Any;
use super::arena::{Arena, address};
use super::stranger::{BINARY, PONG, Stranger, TEXT, frame, handshake};
use super::support::NodeOptions;

/// The longest that bytes one at a time may hold a connection: the limit of a message or a request, and time to notice.
const LONGEST: Duration = Duration::from_secs(60);

/// Sends a byte every now and then, and says when the node has had enough.
fn trickle(mut socket: Stranger, bytes: Vec<u8>, pause: Duration) -> Option<Duration> {
    let begun = Instant::now();
    for byte in bytes.iter().cycle() {
        socket.send(&[*byte]);
        if socket.is_ended_within(pause) {
            return Some(begun.elapsed());
        }
        if begun.elapsed() > LONGEST {
            return None;
        }
    }
    None
}

#[test]
fn bytes_that_come_one_at_a_time() {
    let mut arena = Arena::new();
    let (p2p, http) = (arena.node.p2p_port(), arena.node.http_port());
    let second = Duration::from_millis(500);
    let (silent, answering) = (arena.link(), arena.link());
    let say_nothing = [silent.address(), answering.address()];
    let stages: Vec<(&str, Stranger, Vec<u8>, u64)> = vec![
        ("nothing on the peer port", Stranger::connect(p2p, address()), vec![], 15),
        ("nothing on the HTTP port", Stranger::connect(http, address()), vec![], 15),
        ("a TLS greeting on the peer port", Stranger::connect(p2p, address()), vec![0x16, 3, 1, 0, 200, 1], 15),
        ("a head on the HTTP port", Stranger::connect(http, address()), b"GET / HTTP/1.1\r\nX: yyyyyyyyyyy".to_vec(), 15),
        ("a handshake", Stranger::connect(p2p, address()), handshake("")[..60].to_vec(), 15),
        ("a link that says nothing", silent, vec![], 45),
        ("a link that says nothing and answers pings", answering, frame(PONG, b""), 45),
        ("a frame header", arena.link(), vec![TEXT], 60),
        ("a frame's payload", link_with(&arena, &[BINARY, 0x80 | 126, 0xf0, 0, 0, 0, 0, 0]), vec![7], 60),
        ("parts of a message", link_with(&arena, &frame(0x01, b"x")), vec![0x00, 0x80, 0, 0, 0, 0], 60),
        (
            "a body",
            arena.http(b"POST /mineBlock HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"),
            vec![b' '],
            60,
        ),
    ];
    let threads: Vec<_> = stages
        .into_iter()
        .map(|(name, socket, bytes, longest)| {
            thread::spawn(move || {
                let ended = match bytes.is_empty() {
                    true => {
                        let begun = Instant::now();
                        let mut socket = socket;
                        socket.is_ended_within(LONGEST).then(|| begun.elapsed())
                    }
                    false => trickle(socket, bytes, second),
                };
                let ended = ended.unwrap_or_else(|| panic!("{name}: the connection is held for ever"));
                assert!(ended < Duration::from_secs(longest), "{name}: held for {ended:?}");
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("every stage ends");
    }
    for address in say_nothing {
        arena.says_of(address, "nothing was said");
    }
    arena.in_step("trickles");
    arena.finish();
}

fn link_with(arena: &Arena, bytes: &[u8]) -> Stranger {
    let mut link = arena.link();
    link.send(bytes);
    link
}

#[test]
fn floods_of_connections_and_bytes() {
    Arena::new().run(&[
        Case {
            name: "1,000 idle connections to the HTTP port",
            attack: |arena| {
                let idle: Vec<TcpStream> = connect(arena.node.http_port(), 1_000);
                assert!(idle.len() == 1_000);
                arena.in_step("beside 1,000 idle connections");
                arena.http(b"")
            },
            fate: Any,
        },
        Case {
            name: "a flood of connects to the peer port",
            attack: |arena| {
                (0..20).for_each(|_| drop(connect(arena.node.p2p_port(), 100)));
                arena.http(b"")
            },
            fate: Any,
        },
        Case {
            name: "1,000 idle connections to the peer port",
            attack: |arena| {
                let idle = connect(arena.node.p2p_port(), 1_000);
                arena.in_step("beside 1,000 idle connections");
                drop(idle);
                arena.http(b"")
            },
            fate: Any,
        },
        Case {
            name: "a flood of junk on twenty links",
            attack: |arena| {
                let threads: Vec<_> = (0..20)
                    .map(|_| {
                        let mut link = arena.link();
                        thread::spawn(move || {
                            let junk: Vec<u8> = (0..1_000_000).map(|_| rand::random()).collect();
                            link.send(&junk);
                        })
                    })
                    .collect();
                threads.into_iter().for_each(|thread| thread.join().expect("only sends"));
                arena.http(b"")
            },
            fate: Any,
        },
        Case {
            name: "eight links that each hold 4 MiB of a message",
            attack: |arena| {
                let mut links: Vec<Stranger> = (0..8).map(|_| arena.known()).collect();
                for link in &mut links {
                    link.send(&frame(0x01, &vec![b' '; 4_000_000]));
                }
                arena.in_step("beside unfinished messages");
                links.pop().expect("eight")
            },
            fate: Any,
        },
        Case {
            name: "a hundred thousand queries",
            attack: |arena| {
                let mut link = arena.link();
                let many = frame(TEXT, br#"{"type":0,"data":null}"#).repeat(1_000);
                (0..100).for_each(|_| link.send(&many));
                link
            },
            fate: Any,
        },
    ]);
}

/// Connections that say nothing, until no more are taken.
fn connect(port: u16, count: usize) -> Vec<TcpStream> {
    let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
    (0..count).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()).collect()
}

/// A data folder with a chain of so many blocks.
fn long_chain(dir: &std::path::Path, blocks: usize) {
    let options = Options { reserve_bytes: 4096, ..Options::default() };
    let (mut store, _) = Store::open(dir, Arc::new(RealDisk), options).expect("an empty folder");
    let mut tip = genesis::tip();
    for group in 0..blocks / 1_000 {
        let fork = tip;
        let run: Vec<BatchBlock> = (0..1_000)
            .map(|number| {
                let block = block_on(tip, &format!("{group} {number}"));
                tip = block.tip();
                BatchBlock { block, placed: Vec::new() }
            })
            .collect();
        let change = Some(TipChange { fork, revived: Vec::new(), tip });
        store.commit(&Batch { blocks: run, change, ..Batch::default() }).expect("a disk");
    }
    store.close().expect("a disk");
}

fn block_on(parent: Tip, entry: &str) -> SharedBlock {
    let body = vec![entry.to_owned()];
    let merkle_root = merkle::root(&body).expect("an entry");
    let time = UnixTime(1_700_000_000);
    let header = Header {
        version: Version::mined(),
        index: parent.height.next(),
        previous_hash: parent.hash,
        time,
        merkle_root,
    };
    rules::check_alone(Block { header, body }, time).expect("a good block").into()
}

#[test]
fn two_hundred_questions_for_a_chain_of_100_000_blocks() {
    let home = tempfile::tempdir().expect("a folder");
    let dir = home.path().join("data");
    long_chain(&dir, 100_000);
    let mut arena = Arena::with(NodeOptions::new().data_dir(&dir));
    let mut link = arena.known();
    (0..200).for_each(|_| link.text(r#"{"type":1,"data":null}"#));
    arena.in_step("while the chain is asked for");
    let mut taken = 0;
    let end = Instant::now() + Duration::from_secs(10);
    while taken < 30_000_000 && Instant::now() < end {
        taken += link.take_some();
    }
    arena.in_step("after the chain was asked for");
    drop(link);
    arena.finish();
}

impl Stranger {
    /// Whether the node ends the connection within this time.
    fn is_ended_within(&mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut buffer = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let _ = self.socket().set_read_timeout(Some(left));
            match self.socket().read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    return false;
                }
                Err(_) => return true,
            }
            if Instant::now() >= end {
                return false;
            }
        }
    }

    /// Reads and forgets. Answers how many bytes it was.
    fn take_some(&mut self) -> usize {
        let mut buffer = vec![0; 1 << 20];
        let _ = self.socket().set_read_timeout(Some(Duration::from_millis(200)));
        self.socket().read(&mut buffer).unwrap_or(0)
    }
}
