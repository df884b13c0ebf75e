use std::io::Read;
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
    let mut arena = Arena::idle();
    let (p2p, http) = (arena.node.p2p_port(), arena.node.http_port());
    let second = Duration::from_millis(500);
    let stages: Vec<(&str, Stranger, Vec<u8>, u64)> = vec![
        ("nothing on the peer port", Stranger::connect(p2p, address()), vec![], 15),
        ("nothing on the HTTP port", Stranger::connect(http, address()), vec![], 15),
        ("a TLS greeting on the peer port", Stranger::connect(p2p, address()), vec![0x16, 3, 1, 0, 200, 1], 15),
        ("a head on the HTTP port", Stranger::connect(http, address()), b"GET / HTTP/1.1\r\nX: yyyyyyyyyyy".to_vec(), 15),
        ("a handshake", Stranger::connect(p2p, address()), handshake("")[..60].to_vec(), 15),
        ("a link that says nothing", arena.link(), vec![], 45),
        ("a link that says nothing and answers pings", arena.link(), frame(PONG, b""), 45),
        ("a frame header", arena.link(), vec![TEXT], 60),
        ("a frame's payload", with(arena.link(), &[BINARY, 0x80 | 126, 0xf0, 0, 0, 0, 0, 0]), vec![7], 60),
        ("parts of a message", with(arena.known(), &frame(0x01, b"x")), vec![0x00, 0x80, 0, 0, 0, 0], 60),
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
    let log = arena.node.log();
    for (reason, times) in [("nothing was said", 3), ("a message took too long", 1)] {
        assert_eq!(
            log.lines().filter(|line| line.contains("peer dropped") && line.contains(reason)).count(),
            times,
            "{reason}"
        );
    }
    arena.in_step("trickles");
    arena.finish();
}

fn with(mut link: Stranger, bytes: &[u8]) -> Stranger {
    link.send(bytes);
    link
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
