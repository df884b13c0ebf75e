use super::arena::Fate::{Dropped, Ended, Kept};
use super::arena::{Arena, Case};
use super::stranger::{BINARY, CLOSE, PING, Stranger, TEXT, frame};

const QUERY: &str = r#"{"type":0,"data":null}"#;

/// Sends frames on a fresh link.
macro_rules! frames {
    ($($first:expr, $payload:expr);+) => {
        |arena: &Arena| {
            let mut link = arena.link();
            $(link.frame($first, $payload);)+
            link
        }
    };
}

/// Sends plain bytes on a fresh link.
fn bytes(arena: &Arena, bytes: &[u8]) -> Stranger {
    let mut link = arena.link();
    link.send(bytes);
    link
}

#[test]
fn frames_that_should_not_be() {
    Arena::new().run(&[
        Case {
            name: "a frame header that announces 1 GiB",
            attack: |arena| bytes(arena, &[BINARY, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]),
            fate: Dropped("a message of 1073741824 bytes"),
        },
        Case {
            name: "a frame header that announces 2^63 - 1 bytes",
            attack: |arena| bytes(arena, &[&[TEXT, 0xff, 0x7f][..], &[0xff; 7], &[0; 4]].concat()),
            fate: Dropped("a message of 9223372036854775807 bytes"),
        },
        Case {
            name: "a frame header that announces 2^64 - 1 bytes",
            attack: |arena| bytes(arena, &[&[TEXT, 0xff][..], &[0xff; 8], &[0; 4]].concat()),
            fate: Dropped("a message of 18446744073709551615 bytes"),
        },
        Case {
            name: "a first message of more than 64 KiB",
            attack: frames!(TEXT, &[b' '; 65_537]),
            fate: Dropped("a message of 65537 bytes"),
        },
        Case {
            name: "a first message of more than 64 KiB in many parts",
            attack: |arena| {
                let mut link = arena.link();
                link.frame(0x01, &[b' '; 60_000]);
                link.frame(0x00, &[b' '; 60_000]);
                link
            },
            // A long frame is judged part by part, as soon as it is too much with what came before.
            fate: Dropped("a message of 76384 bytes"),
        },
        Case {
            name: "a later message of more than 4 MiB",
            attack: frames!(TEXT, QUERY.as_bytes(); TEXT, &[b' '; 4 * 1024 * 1024 + 1]),
            fate: Dropped("a message of 4194305 bytes"),
        },
        Case {
            name: "a million continuation frames",
            attack: |arena| {
                let mut link = arena.known();
                link.frame(0x01, b" ");
                let many = frame(0x00, b"").repeat(10_000);
                (0..100).for_each(|_| link.send(&many));
                link
            },
            // It is read slowly, and then for too long.
            fate: Dropped("a message took too long"),
        },
        Case {
            name: "a continuation of nothing",
            attack: frames!(0x80, b"x"),
            fate: Dropped("Continuation has not started"),
        },
        Case {
            name: "a message that begins inside another",
            attack: frames!(0x01, b"{"; TEXT, QUERY.as_bytes()),
            fate: Dropped("it has already started"),
        },
        Case {
            name: "a second beginning of a message",
            attack: frames!(0x01, b"{"; 0x02, b"{"),
            fate: Dropped("it has already started"),
        },
        Case {
            name: "a ping between the parts of a message",
            attack: frames!(0x01, br#"{"type":0,"#; PING, b"x"; 0x80, br#""data":null}"#),
            fate: Kept,
        },
        Case { name: "a reserved opcode", attack: frames!(0x83, b"x"), fate: Dropped("Invalid opcode (3)") },
        Case { name: "a reserved control opcode", attack: frames!(0x8b, b"x"), fate: Dropped("Invalid opcode (11)") },
        Case {
            name: "an unmasked frame",
            attack: |arena| bytes(arena, &[&[TEXT, QUERY.len() as u8][..], QUERY.as_bytes()].concat()),
            fate: Dropped("an unmasked frame"),
        },
        Case {
            name: "a ping of 126 bytes",
            attack: frames!(PING, &[b'x'; 126]),
            fate: Dropped("Invalid control frame length (126)"),
        },
        Case {
            name: "a ping of 64 KiB",
            attack: frames!(PING, &[b'x'; 65_536]),
            fate: Dropped("Invalid control frame length (65536)"),
        },
        Case { name: "text that is not UTF-8", attack: frames!(TEXT, &[0xff, 0xfe]), fate: Dropped("invalid utf-8") },
        Case {
            name: "text that is UTF-8 only at first",
            attack: frames!(0x01, b"ok"; 0x80, &[0xc3]),
            fate: Dropped("text that is not UTF-8"),
        },
        Case {
            name: "half a surrogate as UTF-8",
            attack: frames!(TEXT, &[0xed, 0xa0, 0x80]),
            fate: Dropped("invalid utf-8"),
        },
        Case { name: "a close without a code", attack: frames!(CLOSE, b""), fate: Ended },
        Case {
            name: "a close with half a code",
            attack: frames!(CLOSE, &[3]),
            fate: Dropped("Invalid control frame length (1)"),
        },
        Case {
            name: "a close with a code that nobody may send",
            attack: frames!(CLOSE, &[0x03, 0xed]),
            fate: Dropped("Bad opcode"),
        },
        Case {
            name: "a close with a reason that is no text",
            attack: frames!(CLOSE, &[3, 0xe8, 0xff]),
            fate: Dropped("Bad opcode"),
        },
        Case { name: "an empty text", attack: frames!(TEXT, b""), fate: Dropped("not a message") },
        Case { name: "a binary frame before HELLO", attack: frames!(BINARY, &[7]), fate: Dropped("before HELLO") },
        Case { name: "an empty binary frame", attack: frames!(BINARY, b""), fate: Dropped("not a frame") },
        Case {
            name: "HTTP where frames belong",
            attack: |arena| bytes(arena, b"GET /blocks HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            fate: Dropped("non-zero reserved bits"),
        },
        Case {
            name: "half a frame and an end",
            attack: |arena| {
                drop(bytes(arena, &[TEXT, 0xfe, 0xff]));
                arena.known()
            },
            fate: Kept,
        },
        Case {
            name: "ten thousand pings",
            attack: |arena| bytes(arena, &frame(PING, b"x").repeat(10_000)),
            fate: Dropped("says the same or nothing again and again"),
        },
    ]);
}
