use super::arena::Fate::{Dropped, Kept};
use super::arena::{Arena, Case};
use super::stranger::Stranger;
use super::support;
use super::support::js::Js;
use super::support::tutorial::{block, hash};

/// A time that is long past for every block.
const TIME: u64 = 1_700_000_000;

/// Sends blocks as a tutorial peer would.
fn send(arena: &Arena, blocks: &str) -> Stranger {
    let mut link = arena.known();
    link.text(&serde_json::json!({ "type": 2, "data": blocks }).to_string());
    link
}

/// The node's next block, as text; what is done to it makes it bad.
fn next(arena: &Arena, entries: &[&str]) -> String {
    let (index, tip) = support::tip(&arena.node);
    block("1.0.0", index + 1, &tip, TIME, entries.iter().map(|entry| (*entry).into()).collect()).stringify()
}

/// Sends the next block with a change to its text.
fn send_changed(arena: &Arena, entries: &[&str], from: &str, to: &str) -> Stranger {
    let text = next(arena, entries);
    let changed = text.replacen(from, to, 1);
    assert_ne!(text, changed);
    send(arena, &format!("[{changed}]"))
}

/// Blocks above genesis, one on the other; `bad` is done to the last.
fn chain(length: u64, first: Option<Js>, bad: impl Fn(u64, &str) -> Js) -> String {
    let genesis = block("1.0.0", 0, &"0".repeat(64), 1_630_907_567, vec!["hello block".into()]);
    let mut blocks = vec![first.unwrap_or(genesis)];
    for index in 1..=length {
        let parent = hash(&blocks[blocks.len() - 1]);
        let next = match index == length {
            true => bad(index, &parent),
            false => block("1.0.0", index, &parent, TIME, vec![format!("forged {index}").as_str().into()]),
        };
        blocks.push(next);
    }
    Js::Array(blocks).stringify()
}

/// A block whose root belongs to another body.
fn wrong_root(index: u64, parent: &str) -> Js {
    let text = block("1.0.0", index, parent, TIME, vec!["one".into(), "two".into()]).stringify();
    Js::parse(&text.replace(r#"["one","two"]"#, r#"["two","one"]"#)).expect("JSON")
}

fn index(arena: &Arena) -> u64 {
    support::tip(&arena.node).0
}

#[test]
fn blocks_that_break_a_rule() {
    Arena::new().run(&[
        Case {
            name: "an index with a fraction",
            attack: |a| send_changed(a, &["x"], r#","prev"#, r#".0,"prev"#),
            fate: Kept,
        },
        Case {
            name: "an index with an exponent",
            attack: |a| send_changed(a, &["x"], r#","prev"#, r#"e0,"prev"#),
            fate: Kept,
        },
        Case { name: "a time of minus zero", attack: |a| send_changed(a, &["x"], &TIME.to_string(), "-0"), fate: Kept },
        Case {
            name: "a time above 2^53",
            attack: |a| send_changed(a, &["x"], &TIME.to_string(), "9007199254740993"),
            fate: Dropped("9007199254740993"),
        },
        Case { name: "a time of 1e400", attack: |a| send_changed(a, &["x"], &TIME.to_string(), "1e400"), fate: Kept },
        Case {
            name: "a time in the year 2500",
            attack: |a| {
                let (index, tip) = support::tip(&a.node);
                let late = block("1.0.0", index + 1, &tip, 16_725_225_600, vec!["x".into()]);
                send(a, &Js::Array(vec![late]).stringify())
            },
            fate: Kept,
        },
        Case {
            name: "a lone surrogate in an entry",
            attack: |a| send_changed(a, &["x"], r#"["x"]"#, r#"["\ud800"]"#),
            fate: Kept,
        },
        Case {
            name: "a body twice",
            attack: |a| send_changed(a, &["x"], r#""body":"#, r#""body":["y"],"body":"#),
            fate: Kept,
        },
        Case { name: "null for an entry", attack: |a| send_changed(a, &["x"], r#"["x"]"#, "[null]"), fate: Kept },
        Case {
            name: "an object for an entry",
            attack: |a| send_changed(a, &["x"], r#"["x"]"#, r#"[{"a":1}]"#),
            fate: Kept,
        },
        Case { name: "null for a body", attack: |a| send_changed(a, &["x"], r#"["x"]"#, "null"), fate: Kept },
        Case { name: "an empty body", attack: |a| send_changed(a, &["x"], r#"["x"]"#, "[]"), fate: Kept },
        Case {
            name: "a header that is a list",
            attack: |a| send(a, r#"[{"header":["1.0.0",1,"","",""],"body":["x"]}]"#),
            fate: Kept,
        },
        Case {
            name: "a version with a tail",
            attack: |a| send_changed(a, &["x"], "1.0.0", "1.0.0-beta"),
            fate: Dropped("digits.digits.digits"),
        },
        Case {
            name: "a root in lower case",
            attack: |a| {
                let text = next(a, &["x"]);
                let at = text.find("merkleRoot").expect("a root") + 13;
                let lower = text[at..at + 64].to_lowercase();
                send(a, &format!("[{}{lower}{}]", &text[..at], &text[at + 64..]))
            },
            fate: Dropped("merkleRoot"),
        },
        Case {
            name: "two bodies under one root",
            attack: |a| send_changed(a, &["one", "two"], r#"["one","two"]"#, r#"["two","one"]"#),
            fate: Dropped("merkleRoot"),
        },
        Case {
            name: "the inner nodes for a body",
            attack: |a| {
                // The tutorial takes an entry that looks like a digest for the digest: this body has the root of another.
                let digest = |entry: &str| super::support::tutorial::merkle_root(&[entry.into()]);
                let nodes = format!(r#"["{}","{}"]"#, digest("one"), digest("two"));
                send_changed(a, &["one", "two"], r#"["one","two"]"#, &nodes)
            },
            fate: Kept,
        },
        Case {
            name: "header fields that concatenate alike",
            attack: |a| {
                // Version 1.0.0 and index 1 followed by N make the text of version 1.0.01 and index N.
                let (index, tip) = support::tip(&a.node);
                let alike = format!("1{}", index + 1).parse().expect("a number");
                let block = block("1.0.0", alike, &tip, TIME, vec!["x".into()]);
                send(a, &Js::Array(vec![block]).stringify())
            },
            fate: Dropped("index is"),
        },
        Case {
            name: "a genesis whose fields have moved",
            attack: |a| {
                let moved = block("1.0.01", 630_907_567, &"0".repeat(64), 0, vec!["hello block".into()]);
                send(a, &Js::Array(vec![moved]).stringify())
            },
            fate: Kept,
        },
        Case {
            name: "an entry of 64 KiB and one byte",
            attack: |a| {
                let text = next(a, &["x".repeat(65_537).as_str()]);
                send(a, &format!("[{text}]"))
            },
            fate: Kept,
        },
        Case {
            name: "10,001 entries",
            attack: |a| {
                let text = next(a, &["x"; 10_001]);
                send(a, &format!("[{text}]"))
            },
            fate: Kept,
        },
    ]);
}

#[test]
fn chains_that_break_a_rule() {
    Arena::new().run(&[
        Case {
            name: "a chain that is good up to its last block",
            attack: |a| send(a, &chain(index(a) + 20, None, wrong_root)),
            fate: Dropped("merkleRoot"),
        },
        Case {
            name: "a forged chain of ten times the length",
            attack: |a| {
                let text = chain(10 * (index(a) + 10), None, |index, parent| {
                    block("1.0.0", index, parent, TIME, vec!["end".into()])
                });
                // One digit in the middle: the block after it has another parent.
                send(a, &text.replacen("forged 5\"", "forged 6\"", 1))
            },
            fate: Dropped("merkleRoot"),
        },
        Case {
            name: "a chain with a block left out",
            attack: |a| {
                let text =
                    chain(index(a) + 10, None, |index, parent| block("1.0.0", index, parent, TIME, vec!["end".into()]));
                let chain = Js::parse(&text).expect("JSON");
                let mut blocks = chain.elements().expect("an array").to_vec();
                blocks.remove(3);
                send(a, &Js::Array(blocks).stringify())
            },
            fate: Dropped("index is"),
        },
        Case {
            name: "another genesis",
            attack: |a| {
                let other = block("1.0.0", 0, &"0".repeat(64), 1_630_907_567, vec!["other".into()]);
                let end = |index, parent: &str| block("1.0.0", index, parent, TIME, vec!["end".into()]);
                send(a, &chain(index(a) + 10, Some(other), end))
            },
            fate: Dropped("genesis"),
        },
        Case {
            name: "the same block a thousand times",
            attack: |a| {
                let block = a.node.get("/blocks/tip").expect(200).text().to_owned();
                let mut link = a.known();
                let message = serde_json::json!({ "type": 2, "data": format!("[{block}]") }).to_string();
                (0..1_000).for_each(|_| link.text(&message));
                link
            },
            fate: Dropped("says the same or nothing again and again"),
        },
        Case {
            name: "a chain with a hole at the front",
            attack: |a| {
                let far = block("1.0.0", index(a) + 1_000, &"1".repeat(64), TIME, vec!["far".into()]);
                send(a, &Js::Array(vec![far]).stringify())
            },
            fate: Kept,
        },
    ]);
}
