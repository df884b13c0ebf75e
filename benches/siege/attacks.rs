//! What is done to a node: every attack that costs it much, each as heavy as one thread can make it.
//!
//! An attack is prepared by a function and goes on bit by bit, without ever waiting for the node.

use std::net::TcpStream;
use std::sync::Arc;

use dolmen::ledger::{BlockHash, Height, SharedBlock, Tip, genesis, json};
use dolmen::peer::native::{self, Blocks, Frame};

use super::field::Field;
use super::forks;
use super::hose::{Hose, Reads, Tally};
use super::stranger::{BINARY, GENESIS, PING, TEXT, frame, handshake, hello};
use super::support;
use super::support::blocks;

/// Does the next bit of an attack. Answers whether there was anything to do; if not, it is left alone for a moment.
pub type Attack = Box<dyn FnMut() -> bool + Send>;

/// An attack that goes on while others are served.
pub struct Siege {
    /// By which it is chosen.
    pub name: &'static str,
    /// What is done, in a few words.
    pub what: &'static str,
    /// Blocks of the node's chain before.
    pub blocks: u64,
    /// Prepares it.
    pub attack: fn(&Field, &Arc<Tally>) -> Attack,
}

const QUERY_LAST: &[u8] = br#"{"type":0,"data":null}"#;
const QUERY_ALL: &[u8] = br#"{"type":1,"data":null}"#;

/// Attacking links at once, of 56 that a node has for strangers.
const LINKS: usize = 24;

/// A chain that it costs something to read.
const LONG: u64 = 100_000;

/// As much as a socket takes.
const ALL: usize = usize::MAX;

pub const SIEGES: &[Siege] = &[
    Siege {
        name: "idle-peers",
        what: "1,000 idle connections to the peer port",
        blocks: 0,
        attack: |field, tally| pour(tally, field.node.p2p_port(), 1_000, b"", b"", Reads::All, ALL),
    },
    Siege {
        name: "idle-http",
        what: "2,000 idle connections to the HTTP port",
        blocks: 0,
        attack: |field, tally| pour(tally, field.node.http_port(), 2_000, b"", b"", Reads::All, ALL),
    },
    Siege {
        name: "trickle-peers",
        what: "bytes one at a time on 48 links",
        blocks: 0,
        attack: |field, tally| {
            let header = [&[TEXT, 0x80 | 126, 0xf0, 0][..], &[0; 4]].concat();
            let first = [known(), header].concat();
            slowly(pour(tally, field.node.p2p_port(), 2 * LINKS, &first, b" ", Reads::All, 1))
        },
    },
    Siege {
        name: "trickle-http",
        what: "heads and bodies one byte at a time, 1,000 clients",
        blocks: 0,
        attack: |field, tally| {
            let port = field.node.http_port();
            let body = "POST /mineBlock HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n";
            let mut heads = pour(tally, port, 500, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"y", Reads::All, 1);
            let mut bodies = pour(tally, port, 500, body.as_bytes(), b" ", Reads::All, 100);
            slowly(Box::new(move || heads() | bodies()))
        },
    },
    Siege {
        name: "junk",
        what: "junk on 24 links",
        blocks: 0,
        attack: |field, tally| {
            let junk: Vec<u8> = (0..1_000_000).map(|_| rand::random()).collect();
            links(field, tally, LINKS, &handshake(""), &junk, Reads::All)
        },
    },
    Siege {
        name: "questions",
        what: "QUERY_LAST without end on 24 links",
        blocks: 0,
        attack: |field, tally| links(field, tally, LINKS, &known(), &frame(TEXT, QUERY_LAST).repeat(1_000), Reads::All),
    },
    Siege {
        name: "native-nothing",
        what: "native frames that mean nothing on 24 links",
        blocks: 0,
        attack: |field, tally| {
            let more = frame(BINARY, &native::encode(&Frame::More { batches: 1 }));
            links(field, tally, LINKS, &introduced(), &more.repeat(1_000), Reads::All)
        },
    },
    Siege {
        name: "pings",
        what: "pings on 24 links",
        blocks: 0,
        attack: |field, tally| links(field, tally, LINKS, &known(), &frame(PING, b"x").repeat(1_000), Reads::All),
    },
    Siege {
        name: "continuations",
        what: "continuation frames without end on 24 links",
        blocks: 0,
        attack: |field, tally| {
            let first = [known(), frame(0x01, b" ")].concat();
            links(field, tally, LINKS, &first, &frame(0x00, b"").repeat(10_000), Reads::All)
        },
    },
    Siege {
        name: "unfinished",
        what: "4 MiB of a message that never ends on 48 links",
        blocks: 0,
        attack: |field, tally| {
            let first = [known(), frame(0x01, &vec![b' '; 4_000_000])].concat();
            links(field, tally, 2 * LINKS, &first, b"", Reads::All)
        },
    },
    Siege {
        name: "forged",
        what: "chains of 13,000 forged blocks on 24 links",
        blocks: 0,
        attack: |field, tally| {
            let message = serde_json::json!({ "type": 2, "data": forged_chain(13_000) }).to_string();
            assert!((3 << 20..4 << 20).contains(&message.len()), "{}", message.len());
            links(field, tally, LINKS, &known(), &frame(TEXT, message.as_bytes()), Reads::All)
        },
    },
    Siege {
        name: "side-blocks",
        what: "side blocks on 24 links",
        blocks: 0,
        attack: |field, tally| {
            let side = |number: u32| {
                let block = blocks::block(genesis::tip(), &format!("side {number} {}", rand::random::<u64>()));
                response(&[block])
            };
            let hoses = (0..LINKS).map(|_| {
                let blocks: Vec<u8> = (0..4_000).flat_map(side).collect();
                Hose::new(field.node.p2p_port(), known().into(), blocks.into(), Reads::All, Arc::clone(tally))
            });
            all(hoses.collect(), ALL)
        },
    },
    Siege {
        name: "ties",
        what: "a tie with each new tip on 8 native links",
        blocks: 0,
        attack: |field, tally| forks::near_the_tip(field, tally, 8, 1, 0),
    },
    Siege {
        name: "reorgs",
        what: "branches longer than ours from 1 to 30 blocks deep on 8 native links",
        blocks: 0,
        attack: |field, tally| forks::near_the_tip(field, tally, 8, 30, 3),
    },
    Siege {
        name: "deep-branches",
        what: "branches of 2,000 blocks from genesis on 8 native links",
        blocks: 0,
        attack: |field, tally| {
            let hoses = (0..8).map(|link| {
                let run = blocks::run(genesis::tip(), &format!("deep {link} {}", rand::random::<u64>()), 2_000);
                let push = frame(BINARY, &push(genesis::tip(), run));
                Hose::new(field.node.p2p_port(), introduced().into(), push.into(), Reads::All, Arc::clone(tally))
            });
            all(hoses.collect(), ALL)
        },
    },
    Siege {
        name: "query-all-one",
        what: "QUERY_ALL 200 times on one link, 100,000 blocks",
        blocks: LONG,
        attack: |field, tally| links(field, tally, 1, &handshake(""), &frame(TEXT, QUERY_ALL).repeat(200), Reads::All),
    },
    Siege {
        name: "query-all",
        what: "QUERY_ALL on 48 links, 100,000 blocks",
        blocks: LONG,
        attack: |field, tally| links(field, tally, 2 * LINKS, &query_all(), b"", Reads::All),
    },
    Siege {
        name: "query-all-unread",
        what: "the same on links that do not read",
        blocks: LONG,
        attack: |field, tally| links(field, tally, 2 * LINKS, &query_all(), b"", Reads::Nothing),
    },
    Siege {
        name: "fetch",
        what: "48 native peers that fetch 100,000 blocks",
        blocks: LONG,
        attack: |field, tally| links(field, tally, 2 * LINKS, &introduced(), &fetch_all(field), Reads::All),
    },
    Siege {
        name: "fetch-unread",
        what: "the same and do not read",
        blocks: LONG,
        attack: |field, tally| links(field, tally, 2 * LINKS, &introduced(), &fetch_all(field), Reads::Nothing),
    },
    Siege {
        name: "readers",
        what: "256 readers of 100,000 blocks over HTTP",
        blocks: LONG,
        attack: |field, tally| clients(field, tally, 256, &get("/blocks"), Reads::All),
    },
    Siege {
        name: "readers-unread",
        what: "256 that ask for them again and again and do not read",
        blocks: LONG,
        attack: |field, tally| clients(field, tally, 256, &get("/blocks"), Reads::Nothing),
    },
    Siege {
        name: "events-unread",
        what: "128 readers of the events since genesis that do not read",
        blocks: LONG,
        attack: |field, tally| {
            let path = format!("/events?lastEventId=0-{GENESIS}");
            let port = field.node.http_port();
            pour(tally, port, 128, get(&path).as_bytes(), b"", Reads::Nothing, ALL)
        },
    },
    Siege {
        name: "search",
        what: "64 clients that search in vain",
        blocks: LONG,
        attack: |field, tally| clients(field, tally, 64, &get("/search?text=nowhere"), Reads::All),
    },
    Siege {
        name: "single-blocks",
        what: "64 clients that ask for block after block",
        blocks: LONG,
        attack: |field, tally| clients(field, tally, 64, &get("/blocks/77777").repeat(100), Reads::All),
    },
    Siege {
        name: "pages-unread",
        what: "256 clients that ask for pages and do not read",
        blocks: 0,
        attack: |field, tally| clients(field, tally, 256, &get("/").repeat(100), Reads::Nothing),
    },
    Siege {
        name: "bodies",
        what: "64 clients with bodies of too many entries",
        blocks: 0,
        attack: |field, tally| {
            let body = format!(r#"{{"data":[{}"x"]}}"#, r#""x","#.repeat(20_000));
            clients(field, tally, 64, &post(&body), Reads::All)
        },
    },
    Siege {
        name: "writers",
        what: "64 clients that mine",
        blocks: 0,
        attack: |field, tally| clients(field, tally, 64, &post(r#"{"data":["an entry of a flood"]}"#), Reads::All),
    },
    // Last: the system remembers these connections for minutes.
    Siege {
        name: "connects-peers",
        what: "connects to the peer port",
        blocks: 0,
        attack: |field, tally| connects(field.node.p2p_port(), tally),
    },
    Siege {
        name: "connects-http",
        what: "connects to the HTTP port",
        blocks: 0,
        attack: |field, tally| connects(field.node.http_port(), tally),
    },
];

/// All attackers in turn.
fn all(mut hoses: Vec<Hose>, most: usize) -> Attack {
    Box::new(move || hoses.iter_mut().fold(false, |flowed, hose| hose.pour(most) | flowed))
}

/// Not again before a moment has passed, whatever happened.
fn slowly(mut attack: Attack) -> Attack {
    Box::new(move || {
        attack();
        false
    })
}

/// Links that each begin with some bytes and go on with others, again and again.
fn links(field: &Field, tally: &Arc<Tally>, count: usize, first: &[u8], then: &[u8], reads: Reads) -> Attack {
    pour(tally, field.node.p2p_port(), count, first, then, reads, ALL)
}

/// Clients that each send a request again and again.
fn clients(field: &Field, tally: &Arc<Tally>, count: usize, request: &str, reads: Reads) -> Attack {
    pour(tally, field.node.http_port(), count, &[], request.as_bytes(), reads, ALL)
}

fn pour(tally: &Arc<Tally>, port: u16, count: usize, first: &[u8], then: &[u8], reads: Reads, most: usize) -> Attack {
    let (first, then): (Arc<[u8]>, Arc<[u8]>) = (first.into(), then.into());
    let hose = |_| Hose::new(port, Arc::clone(&first), Arc::clone(&then), reads, Arc::clone(tally));
    all((0..count).map(hose).collect(), most)
}

/// Connections that are opened and left, twenty at a time.
fn connects(port: u16, tally: &Arc<Tally>) -> Attack {
    let tally = Arc::clone(tally);
    Box::new(move || {
        let open: Vec<TcpStream> = (0..20).map_while(|_| tally.connect(port)).collect();
        !open.is_empty()
    })
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn post(body: &str) -> String {
    let head = "POST /mineBlock HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The beginning of a link on which the first message is a good one.
fn known() -> Vec<u8> {
    [handshake(""), frame(TEXT, QUERY_LAST)].concat()
}

/// The beginning of a native peer's link.
pub fn introduced() -> Vec<u8> {
    [handshake(""), frame(TEXT, hello((0, GENESIS)).to_string().as_bytes())].concat()
}

fn query_all() -> Vec<u8> {
    [handshake(""), frame(TEXT, QUERY_ALL).repeat(200)].concat()
}

/// Asks for all blocks, and for more of them than may be asked for at once.
fn fetch_all(field: &Field) -> Vec<u8> {
    let (index, hash) = support::tip(&field.node);
    let upto = Tip { height: Height(index), hash: BlockHash::from_hex(&hash).expect("a hash") };
    let fetch = Frame::Fetch { from: Height(1), upto, batches: 16 };
    let more = frame(BINARY, &native::encode(&Frame::More { batches: 16 }));
    [frame(BINARY, &native::encode(&fetch)), more.repeat(100)].concat()
}

/// Blocks as a tutorial peer tells them.
fn response(run: &[SharedBlock]) -> Vec<u8> {
    let text = json::array_to_string(run.iter().map(|block| block.block()));
    frame(TEXT, serde_json::json!({ "type": 2, "data": text }).to_string().as_bytes())
}

/// Blocks as a native peer tells them.
pub fn push(after: Tip, blocks: Vec<SharedBlock>) -> Vec<u8> {
    native::encode(&Frame::Push(Blocks { after, blocks }))
}

/// A chain that is good up to its last block, as text.
fn forged_chain(count: usize) -> String {
    let run = blocks::run(genesis::tip(), "forged", count);
    let chain = [genesis::block()].into_iter().chain(run);
    let chain: Vec<SharedBlock> = chain.collect();
    let text = json::array_to_string(chain.iter().map(|block| block.block()));
    let last = format!("forged {}", count - 1);
    text.replace(&format!("\"{last}\""), "\"not what the root says\"")
}
