use serde_json::json;

use super::arena::Fate::{Dropped, Ended, Kept};
use super::arena::{Arena, Case, Fate, address};
use super::stranger::{BINARY, GENESIS, Stranger, hello};
use super::support::wait;

/// Sends one text on a link whose first message was good.
fn say(arena: &Arena, text: impl AsRef<str>) -> Stranger {
    let mut link = arena.known();
    link.text(text.as_ref());
    link
}

/// Sends one binary frame on a link that has said HELLO.
fn say_native(arena: &Arena, bytes: &[u8]) -> Stranger {
    let mut link = arena.native();
    link.frame(BINARY, bytes);
    link
}

/// Sends a HELLO with a field changed.
fn introduce(arena: &Arena, field: &str, value: serde_json::Value) -> Stranger {
    let mut link = arena.link();
    let mut message = hello((0, GENESIS));
    message["data"][field] = value;
    link.text(&message.to_string());
    link
}

macro_rules! texts {
    ($($name:literal: $text:expr => $fate:expr;)+) => {
        vec![$(Case { name: $name, attack: |arena| say(arena, $text), fate: $fate }),+]
    };
}

const NOT_A_MESSAGE: Fate = Dropped("not a message");

#[test]
fn texts_that_are_none_or_mean_two_things() {
    Arena::new().run(&texts![
        "a million brackets that never close": format!(r#"{{"type":99,"data":{}"#, "[".repeat(1_000_000)) => NOT_A_MESSAGE;
        "half a million brackets and their ends": format!(r#"{{"type":99,"data":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000)) => Kept;
        "a million braces": r#"{"a":"#.repeat(800_000) => NOT_A_MESSAGE;
        "brackets where blocks belong": format!(r#"{{"type":2,"data":"{}"}}"#, "[".repeat(1_000_000)) => Kept;
        "no JSON": "hello" => NOT_A_MESSAGE;
        "an array in place of an object": "[0,null]" => NOT_A_MESSAGE;
        "null": "null" => NOT_A_MESSAGE;
        "a type that is a text": r#"{"type":"2","data":"[]"}"# => NOT_A_MESSAGE;
        "a type with a fraction": r#"{"type":1.0,"data":null}"# => NOT_A_MESSAGE;
        "a type with an exponent": r#"{"type":1e0,"data":null}"# => NOT_A_MESSAGE;
        "minus zero": r#"{"type":-0,"data":null}"# => NOT_A_MESSAGE;
        "a type twice": r#"{"type":0,"type":1,"data":null}"# => NOT_A_MESSAGE;
        "a type of 2^64": r#"{"type":18446744073709551616,"data":null}"# => NOT_A_MESSAGE;
        "an unknown type": r#"{"type":77,"data":{"x":1}}"# => Kept;
        "null where blocks belong": r#"{"type":2,"data":null}"# => Dropped("does not hold a string");
        "a list where a string of one belongs": r#"{"type":2,"data":[]}"# => Dropped("does not hold a string");
        "an empty list of blocks": r#"{"type":2,"data":"[]"}"# => Dropped("the list of blocks is empty");
        "an empty string of blocks": r#"{"type":2,"data":""}"# => Kept;
        "a lone surrogate in the data": r#"{"type":2,"data":"\ud800"}"# => Dropped("does not hold a string");
        "NUL in the data": r#"{"type":2,"data":"\u0000"}"# => Kept;
        "a name with an escape": r#"{"\u0074ype":0,"data":null}"# => Kept;
    ]);
}

#[test]
fn introductions_and_native_frames() {
    Arena::new().run(&[
        Case {
            name: "HELLO without data",
            attack: |arena| say(arena, r#"{"type":16,"data":null}"#),
            fate: Dropped("HELLO"),
        },
        Case {
            name: "a short node id",
            attack: |arena| introduce(arena, "node", json!("abc")),
            fate: Dropped("HELLO"),
        },
        Case {
            name: "an upper-case node id",
            attack: |arena| introduce(arena, "node", json!("A".repeat(32))),
            fate: Dropped("HELLO"),
        },
        Case {
            name: "a port above 65535",
            attack: |arena| introduce(arena, "port", json!(65_536)),
            fate: Dropped("HELLO"),
        },
        Case {
            name: "another genesis",
            attack: |arena| introduce(arena, "genesis", json!("0".repeat(64))),
            fate: Ended,
        },
        Case {
            name: "a tip above 2^53",
            attack: |arena| introduce(arena, "tip", json!({ "index": 1u64 << 53, "hash": GENESIS })),
            fate: Dropped("HELLO"),
        },
        Case {
            name: "a tip that nobody has, and then silence",
            attack: |arena| introduce(arena, "tip", json!({ "index": (1u64 << 53) - 1, "hash": GENESIS })),
            fate: Kept,
        },
        Case {
            name: "an agent that writes to terminals",
            attack: |arena| {
                let link = introduce(arena, "agent", json!("\u{1b}]0;owned\u{7}\u{1b}[2J\r\nx"));
                let shown = arena.node.get("/peers").expect(200).text().to_owned();
                assert!(!shown.contains("\\u001b") && !shown.contains('\u{1b}'), "{shown}");
                assert!(!arena.node.log().contains("\u{1b}]0;owned"));
                link
            },
            fate: Kept,
        },
        Case {
            name: "HELLO twice",
            attack: |arena| {
                let mut link = arena.native();
                link.text(&hello((5, GENESIS)).to_string());
                link
            },
            fate: Kept,
        },
        Case {
            name: "an unknown native frame",
            attack: |arena| say_native(arena, &[200, 1, 2]),
            fate: Dropped("not a frame"),
        },
        Case {
            name: "a native frame that goes on",
            attack: |arena| say_native(arena, &[7, 7]),
            fate: Dropped("bytes follow"),
        },
        Case {
            name: "a native frame that is cut",
            attack: |arena| say_native(arena, &[0, 9, 1]),
            fate: Dropped("not a frame"),
        },
        Case {
            name: "a list of 2^60 blocks",
            attack: |arena| {
                let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
                say_native(arena, &[&[6, 0][..], &[1; 64], &huge].concat())
            },
            fate: Dropped("not a frame"),
        },
        Case {
            name: "no blocks",
            attack: |arena| say_native(arena, &[&[6, 0][..], &[1; 64], &[0]].concat()),
            fate: Dropped("empty or too long"),
        },
        Case {
            name: "Located that nobody asked for",
            attack: |arena| say_native(arena, &[&[3, 0, 9][..], &[1; 32]].concat()),
            fate: Kept,
        },
        Case {
            name: "Fetch of a chain that is not ours",
            attack: |arena| say_native(arena, &[&[4, 1, 9][..], &[1; 32], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat()),
            fate: Kept,
        },
        Case {
            name: "More without a Fetch, a thousand times",
            attack: |arena| {
                let mut link = arena.native();
                (0..1_000).for_each(|_| link.frame(BINARY, &[5, 0xff, 0xff, 0xff, 0xff, 0x0f]));
                link
            },
            fate: Kept,
        },
        Case {
            name: "addresses of metadata services",
            attack: |arena| {
                let address = b"ws://169.254.169.254:80";
                say_native(arena, &[&[8, 1, address.len() as u8][..], address].concat())
            },
            fate: Kept,
        },
        Case {
            name: "a native frame of more than 2 MiB",
            attack: |arena| say_native(arena, &vec![7; 2 * 1024 * 1024 + 1]),
            fate: Dropped("the frame is too long"),
        },
    ]);
}

#[test]
fn who_repeats_is_banned_and_nobody_else() {
    let mut arena = Arena::new();
    let (port, address) = (arena.node.p2p_port(), address());
    for _ in 0..3 {
        let mut link = Stranger::link(port, address);
        link.text("hello");
        assert!(link.is_ended());
    }
    let banned = || arena.node.get("/bans").expect(200).json().to_string().contains(&address.to_string());
    wait::until(wait::SOON, "a ban", || banned().then_some(()));
    assert!(Stranger::link(port, address).is_ended(), "a banned address is linked again");
    assert!(arena.link().is_heard(), "another address is");
    arena.in_step("a ban");
    arena.finish();
}
