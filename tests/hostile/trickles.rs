use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::arena::{Arena, address};
use super::stranger::{BINARY, PONG, Stranger, TEXT, frame, handshake};

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
fn who_reads_no_answers_is_not_read_and_is_cut_off() {
    let mut arena = Arena::new();
    let requests = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(10_000);
    let mut clients: Vec<(Stranger, usize)> =
        (0..32).map(|_| (Stranger::connect(arena.node.http_port(), address()), 0)).collect();
    let before = arena.node.resident_bytes();
    for (client, sent) in &mut clients {
        client.socket().set_nonblocking(true).expect("a socket");
        // All that the two systems keep, until the node has filled its side with answers and reads nothing more.
        let mut last = Instant::now();
        while last.elapsed() < Duration::from_millis(100) {
            match client.socket().write(&requests.as_bytes()[*sent % requests.len()..]) {
                Ok(count) => (*sent, last) = (*sent + count, Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("after {sent} bytes: {error}"),
            }
        }
        client.socket().set_nonblocking(false).expect("a socket");
    }
    let grown = arena.node.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{} KiB more for 32 clients", grown >> 10);
    arena.in_step("beside clients that read nothing");
    for (client, sent) in &mut clients {
        // Nothing is read, or the client would be no such client: what is written shows that the connection has ended.
        super::support::wait::until(super::support::wait::SOON, format!("the end of a client of {sent} bytes"), || {
            client.socket().write(b"G").is_err_and(|error| error.kind() != ErrorKind::WouldBlock).then_some(())
        });
    }
    arena.in_step("clients that read nothing");
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
}
