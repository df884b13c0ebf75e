//! What holds for any block and any text. A failure prints the smallest case and the seed.

use std::collections::BTreeMap;

use dolmen::ledger::block::{Block, Header, Height, Tip, UnixTime, Version};
use dolmen::ledger::limits::{MAX_SAFE_INTEGER, MAX_SECONDS_AHEAD};
use dolmen::ledger::rules::{RuleError, check_alone, check_body, check_with_parent};
use dolmen::ledger::survey::Survey;
use dolmen::ledger::{BlockHash, MerkleRoot, json, merkle};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{NOW, good_text, root_of, root_text, texts};

/// `JSON.stringify` of a string, after the ECMAScript text (`QuoteJSONString`); Rust's strings hold no lone surrogates.
fn stringify(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{8}' => quoted.push_str("\\b"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\u{c}' => quoted.push_str("\\f"),
            '\r' => quoted.push_str("\\r"),
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\0'..='\u{1f}' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// `JSON.stringify` of a block.
fn stringify_block(block: &Block) -> String {
    let Header { version, index, previous_hash, time, merkle_root } = &block.header;
    let entries: Vec<String> = block.body.iter().map(|entry| stringify(entry)).collect();
    format!(
        "{{\"header\":{{\"version\":{},\"index\":{index},\"previousHash\":\"{}\",\"time\":{time},\"merkleRoot\":\"{}\"}},\"body\":[{}]}}",
        stringify(version.as_str()),
        hex::encode(previous_hash.0),
        hex::encode_upper(merkle_root.0),
        entries.join(","),
    )
}

/// Entries of all kinds: plain, any Unicode, control characters, and those that look like digests.
fn entry() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,20}",
        4 => any::<String>(),
        2 => "[\\x00-\\x1f\"\\\\\u{7f}\u{2028}\u{2029}\u{feff}\u{1F600}]{0,12}",
        1 => "[0-9A-F]{64}",
        1 => "[0-9A-F]{128}",
        1 => "[0-9a-fA-F]{63,65}",
    ]
}

fn body() -> impl Strategy<Value = Vec<String>> {
    vec(entry(), 0..9)
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just("1.0.0".to_owned()), "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}"]
        .prop_map(|text| Version::parse(&text).expect("three numbers"))
}

/// Any block that the types allow, with the right root as often as not.
fn block() -> impl Strategy<Value = Block> {
    let numbers = (0..=MAX_SAFE_INTEGER, 0..=2 * NOW.0);
    (version(), numbers, any::<[u8; 32]>(), any::<[u8; 32]>(), any::<bool>(), body()).prop_map(
        |(version, (index, time), parent, root, right, body)| Block {
            header: Header {
                version,
                index: Height(index),
                previous_hash: BlockHash(parent),
                time: UnixTime(time),
                merkle_root: if right { merkle::root(&body).unwrap_or(MerkleRoot(root)) } else { MerkleRoot(root) },
            },
            body,
        },
    )
}

/// A body whose entries are accepted.
fn good_body() -> impl Strategy<Value = Vec<String>> {
    vec(entry().prop_filter("unambiguous", |entry| !looks_like_nodes(entry)), 1..9)
}

fn looks_like_nodes(entry: &str) -> bool {
    let hex = entry.bytes().all(|c| c.is_ascii_digit() || (b'A'..=b'F').contains(&c));
    hex && (entry.len() == 64 || entry.len() == 128)
}

/// Bodies that the original library gives the same root, or that an attacker would hope do: nodes of the tree in place of
/// what is below them, doubled, dropped, swapped and joined entries.
fn relatives(body: &[String]) -> Vec<Vec<String>> {
    let leaf = |entry: &String| root_text(std::slice::from_ref(entry));
    let mut all = vec![
        vec![root_text(body)],
        body.iter().map(leaf).collect(),
        vec![body.concat()],
        body.iter().rev().cloned().collect(),
        [body, &[String::new()]].concat(),
        [&[String::new()], body].concat(),
        [body, body].concat(),
        body.iter().flat_map(|entry| [entry.clone(), entry.clone()]).collect(),
        body.iter().map(|entry| leaf(entry).to_lowercase()).collect(),
    ];
    if let Some(last) = body.last() {
        all.push([body, std::slice::from_ref(last)].concat());
        all.push(body[..body.len() - 1].to_vec());
    }
    for at in 0..body.len() {
        let mut hashed = body.to_vec();
        hashed[at] = leaf(&body[at]);
        all.push(hashed);
        if at + 1 < body.len() {
            let (left, right) = (leaf(&body[at]), leaf(&body[at + 1]));
            for node in [format!("{left}{right}"), root_text(&body[at..at + 2])] {
                all.push([&body[..at], &[node], &body[at + 2..]].concat());
            }
            let mut swapped = body.to_vec();
            swapped.swap(at, at + 1);
            all.push(swapped);
        }
    }
    all
}

/// The parent that a block claims.
fn block_parent(block: &Block) -> Tip {
    Tip { height: Height(block.header.index.0.saturating_sub(1)), hash: block.header.previous_hash }
}

/// Every list of up to four texts of a few, among which the nodes of each other's trees are: of all that share a root one
/// is accepted at most. Nothing here is chosen for being accepted.
#[test]
fn of_all_bodies_with_one_root_one_is_accepted() {
    let leaf = |entry: &str| root_text(&[entry.to_owned()]);
    let (a, b) = (leaf("a"), leaf("b"));
    let pair = root_text(&texts(&["a", "b"]));
    let joined = format!("{a}{b}");
    let words = texts(&["a", "b", "", &a, &b, &pair, &joined, &format!("{b}{a}"), &leaf(&a), &a.to_lowercase()]);
    let mut bodies: Vec<Vec<String>> = vec![vec![]];
    for length in 0..4 {
        let longer: Vec<Vec<String>> = bodies
            .iter()
            .filter(|body| body.len() == length)
            .flat_map(|body| words.iter().map(|word| [&body[..], std::slice::from_ref(word)].concat()))
            .collect();
        bodies.extend(longer);
    }
    let mut families: BTreeMap<MerkleRoot, Vec<&Vec<String>>> = BTreeMap::new();
    for body in &bodies[1..] {
        families.entry(merkle::root(body).expect("entries")).or_default().push(body);
    }
    let shared = families.values().filter(|family| family.len() > 1).count();
    assert!(shared > 1_000, "the words make roots that are shared: {shared}");
    for family in families.values() {
        let accepted: Vec<_> = family.iter().filter(|body| check_body(body).is_ok()).collect();
        assert!(accepted.len() <= 1, "one root: {accepted:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_block_alone_is_accepted_exactly_when_the_rules_say_so(block in block()) {
        let wanted = !block.body.is_empty()
            && !block.body.iter().any(|entry| looks_like_nodes(entry))
            && block.header.time.0 <= NOW.0 + MAX_SECONDS_AHEAD
            && hex::encode_upper(block.header.merkle_root.0) == root_text(&block.body);
        match check_alone(block.clone(), NOW) {
            Ok(checked) => {
                prop_assert!(wanted);
                prop_assert_eq!(checked.block(), &block);
                prop_assert_eq!(checked.hash(), block.header.hash());
            }
            Err(error) => prop_assert!(!wanted, "{error}"),
        }
    }

    #[test]
    fn roots_are_those_of_the_plainest_reading(body in vec("[a-z]{0,3}", 1..70)) {
        prop_assert_eq!(merkle::root(&body), Some(root_of(&body)));
    }

    #[test]
    fn a_written_block_is_read_back_and_is_what_javascript_writes(block in block()) {
        let text = json::to_string(&block);
        prop_assert_eq!(&text, &stringify_block(&block));
        let read = json::parse_block(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(json::to_string(&read), text);
        prop_assert_eq!(read, block);
    }

    #[test]
    fn a_written_array_is_read_back(blocks in vec(block(), 0..5)) {
        let text = json::array_to_string(&blocks);
        let each: Vec<String> = blocks.iter().map(stringify_block).collect();
        prop_assert_eq!(&text, &format!("[{}]", each.join(",")));
        prop_assert_eq!(json::parse_blocks(&text), Ok(blocks));
    }

    #[test]
    fn no_two_accepted_bodies_share_a_root(body in good_body()) {
        prop_assert_eq!(check_body(&body), Ok(()));
        let root = merkle::root(&body);
        let mut family = relatives(&body);
        let second: Vec<Vec<String>> = family.iter().flat_map(|relative| relatives(relative)).collect();
        family.extend(second);
        for relative in family {
            let shares = relative != body && merkle::root(&relative) == root;
            prop_assert!(!shares || check_body(&relative).is_err(), "{:?} and {:?}", body, relative);
        }
    }

    /// What a parser is given is what a peer sends: several blocks with all that a text can hold, spoilt at any byte, with
    /// parts of it doubled, dropped and elsewhere.
    #[test]
    fn a_spoiled_array_of_any_blocks_is_never_a_panic_and_all_who_read_it_agree(
        blocks in vec(block(), 1..4),
        spoils in vec((any::<Index>(), any::<Index>(), any::<Index>(), 0..5u8, any::<u8>()), 1..4)
    ) {
        let mut bytes = json::array_to_string(&blocks).into_bytes();
        for (at, from, to, how, with) in spoils {
            let at = at.index(bytes.len());
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let part = bytes[from.min(to)..from.max(to)].to_vec();
            match how {
                0 => bytes[at] = with,
                1 => bytes.insert(at, with),
                2 => bytes[at] ^= 1 << (with % 8),
                3 => drop(bytes.splice(at..at, part)),
                _ => drop(bytes.splice(from.min(to)..from.max(to), [with])),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(blocks) = json::parse_blocks(&text) {
            prop_assert_eq!(json::parse_blocks(&json::array_to_string(&blocks)), Ok(blocks));
        }
        // Without its brackets, as one block: the parser, the judges and the survey that names every broken rule.
        let one = text.trim_start_matches('[').trim_end_matches(']');
        let parent = block_parent(&blocks[0]);
        let judged = json::parse_block(one).and_then(|block| check_alone(block, NOW));
        let judged = judged.and_then(|block| check_with_parent(&block, parent).map(|()| block));
        match (judged, Survey::new(Some(parent), NOW).next(one)) {
            (Ok(judged), Ok(surveyed)) => prop_assert_eq!(judged, surveyed),
            (Err(first), Err(broken)) => prop_assert!(broken.contains(&first), "{:?} is not in {:?}", first, broken),
            (judged, surveyed) => prop_assert!(false, "{:?} and {:?} of {}", judged, surveyed, one),
        }
    }

    #[test]
    fn random_text_is_never_a_block_and_never_a_panic(text in any::<String>()) {
        prop_assert!(json::parse_block(&text).is_err());
        let _ = json::parse_blocks(&text);
    }

    #[test]
    fn random_json_marks_are_never_a_panic(text in "[\\[\\]{}\",:0-9a-f\\\\u.eE+\\- ]{0,200}") {
        let _ = json::parse_block(&text);
        let _ = json::parse_blocks(&text);
    }

    /// Whatever a spoiled text is still read as, it is a block that is written and read back the same.
    #[test]
    fn a_spoiled_text_is_refused_or_read_as_some_block(
        spoils in vec((any::<prop::sample::Index>(), 0..4u8, "[\\[\\]{}\",:0-9A-Fa-f\\\\u.eE\\-é]"), 1..4)
    ) {
        let mut text: Vec<char> = good_text().chars().collect();
        for (at, how, with) in spoils {
            let at = at.index(text.len().max(1)).min(text.len().saturating_sub(1));
            let with = with.chars().next().expect("one character");
            match how {
                // Of a text that was cut and removed nothing may be left to spoil.
                0 | 2 if text.is_empty() => {}
                0 => text[at] = with,
                1 => text.insert(at, with),
                2 => { text.remove(at); }
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(block) = json::parse_block(&text) {
            prop_assert_eq!(json::parse_block(&json::to_string(&block)), Ok(block));
        }
        if let Ok(blocks) = json::parse_blocks(&format!("[{text}]")) {
            prop_assert_eq!(json::parse_blocks(&json::array_to_string(&blocks)), Ok(blocks));
        }
    }

    #[test]
    fn any_number_at_all_is_exact_or_refused(number in any::<u64>(), small in 0..=u64::from(u32::MAX)) {
        for number in [number, number >> 11, small, MAX_SAFE_INTEGER - small, MAX_SAFE_INTEGER + 1 + small] {
            let text = good_text().replacen("\"index\":1,", &format!("\"index\":{number},"), 1);
            let wanted = if number <= MAX_SAFE_INTEGER { Ok(Height(number)) } else { Err(RuleError::IndexRange { got: number }) };
            prop_assert_eq!(json::parse_block(&text).map(|block| block.header.index), wanted);
        }
    }
}
