use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::arena::Fate::Dropped;
use super::arena::{Arena, Case, address};
use super::chain;
use super::stranger::{Stranger, TEXT, connect, frame};
use super::support::http::Request;
use super::support::{NodeOptions, wait};

/// Sockets at the peer port for strangers: of 256, one in eight is kept for configured peers, and the honest peer has one.
const FOR_STRANGERS: usize = 256 - 32 - 1;

#[test]
fn idle_connections_to_the_http_port_make_room_for_others() {
    let mut arena = Arena::with(NodeOptions::new().arg("--max-clients").arg("100"));
    let mut kept = arena.node.connect();
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..60 {
        // So few that also those of many rounds, which may be accepted late, leave room for one.
        idle.extend(open(arena.node.http_port(), 5));
        let answer = kept.send(&Request::get("/livez")).expect("who says something is not the stillest");
        assert_eq!(answer.status, 200);
    }
    // Long before those are closed that say nothing: what is still to be accepted is soon counted.
    wait::until(Duration::from_secs(4), "all but a hundred to go", || {
        let ended = idle.iter_mut().filter_map(|socket| has_ended(socket).then_some(())).count();
        (ended >= 300 - 100).then_some(())
    });
    let answer = kept.send(&Request::get("/livez")).expect("who says something is not the stillest");
    assert_eq!(answer.status, 200);
    arena.in_step("beside idle connections");
    arena.finish();
}

#[test]
fn idle_connections_to_the_peer_port_are_few() {
    let mut arena = Arena::new();
    let mut idle = open(arena.node.p2p_port(), 1_000);
    arena.says("the last inbound links are kept for configured peers");
    let left = idle.iter_mut().filter_map(|socket| (!has_ended(socket)).then_some(())).count();
    assert_eq!(left, FOR_STRANGERS);
    arena.in_step("beside 1,000 idle connections");
    drop(idle);
    arena.finish();
}

#[test]
fn a_flood_of_connects_is_slowed_down() {
    let mut arena = Arena::new();
    // As many as it takes, since a machine that others keep busy accepts fewer in a second; and so few at once that there is
    // room for all.
    wait::until(wait::SOON, "the node to say that connections come too fast", || {
        (0..10).for_each(|_| drop(open(arena.node.p2p_port(), 50)));
        arena.node.log().contains("connections come too fast").then_some(())
    });
    arena.in_step("a flood of connects");
    wait::until(wait::SOON, "a stranger to be let in again", || {
        let mut stranger = Stranger::connect(arena.node.p2p_port(), address());
        stranger.send(&super::stranger::handshake(""));
        (stranger.status() == 101).then_some(())
    });
    arena.finish();
}

#[test]
fn floods_of_bytes() {
    Arena::new().run(&[
        Case {
            name: "a flood of junk",
            attack: |arena| {
                let mut link = arena.link();
                // Whatever the first frame is, it is none: reserved bits, an opcode that nobody knows, no mask.
                link.send(&[0x7b; 1_000_000]);
                link
            },
            fate: Dropped("non-zero reserved bits"),
        },
        Case {
            name: "a hundred thousand queries",
            attack: |arena| {
                let mut link = arena.link();
                let many = frame(TEXT, br#"{"type":0,"data":null}"#).repeat(1_000);
                (0..100).for_each(|_| link.send(&many));
                link
            },
            fate: Dropped("says the same or nothing again and again"),
        },
    ]);
}

#[test]
fn random_bytes_on_twenty_links_drop_them_all() {
    let mut arena = Arena::new();
    let links: Vec<Stranger> = (0..20)
        .map(|_| {
            let mut link = arena.link();
            let junk: Vec<u8> = (0..100_000).map(|_| rand::random()).collect();
            link.send(&junk);
            link
        })
        .collect();
    for mut link in links {
        assert!(link.is_ended(), "a link stays");
        arena.says_of(link.address(), "");
    }
    arena.in_step("random bytes");
    arena.finish();
}

#[test]
fn of_many_unfinished_messages_the_greediest_make_room() {
    let mut arena = Arena::new();
    let mut links: Vec<Stranger> = (0..48).map(|_| arena.known()).collect();
    for link in &mut links {
        link.send(&frame(0x01, &vec![b' '; 4_000_000]));
    }
    // So many of these fit into the 48 MiB that all strangers may have.
    const STAY: usize = 12;
    let evicted = |log: &str| log.matches("the unfinished messages of all strangers take too much memory").count();
    wait::until(wait::SOON, "36 links to make room", || {
        let lines = arena.node.log().lines().filter(|line| line.contains("peer dropped") && evicted(line) > 0).count();
        (lines == 48 - STAY).then_some(())
    });
    arena.in_step("beside unfinished messages");
    let stay = links.iter_mut().filter_map(|link| link.is_heard().then_some(())).count();
    assert_eq!(stay, STAY);
    arena.finish();
}

#[test]
fn two_hundred_questions_for_a_chain_of_100_000_blocks() {
    const BLOCKS: u64 = 100_000;
    let dir = chain::dir_without_copy(BLOCKS);
    let mut arena = Arena::with(NodeOptions::new().data_dir(dir.path()));
    let mut link = arena.known();
    (0..200).for_each(|_| link.text(r#"{"type":1,"data":null}"#));
    arena.in_step("while the chain is asked for");
    // One answer is enough for all of them, since nothing has changed: some 280 bytes of escaped JSON for each block.
    let (mut taken, end) = (0, Instant::now() + wait::SOON);
    while taken < 250 * BLOCKS as usize && Instant::now() < end {
        taken += link.take_some();
    }
    assert!(taken >= 250 * BLOCKS as usize, "{taken} bytes in all");
    arena.in_step("after the chain was asked for");
    assert!(!arena.is_blamed(link.address()), "an honest peer may ask that often");
    drop(link);
    arena.finish();
}

/// Connections that say nothing, until no more are taken.
fn open(port: u16, count: usize) -> Vec<TcpStream> {
    (0..count).map_while(|_| connect(port, address()).ok()).collect()
}

/// Whether the node has ended a connection; waits a moment for that.
fn has_ended(socket: &mut TcpStream) -> bool {
    let _ = socket.set_read_timeout(Some(Duration::from_millis(1)));
    match socket.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

impl Stranger {
    /// Reads and forgets. Answers how many bytes it was.
    fn take_some(&mut self) -> usize {
        let mut buffer = vec![0; 1 << 20];
        let _ = self.socket().set_read_timeout(Some(Duration::from_millis(200)));
        self.socket().read(&mut buffer).unwrap_or(0)
    }
}
