//! Each rule with its exact error, and who is to blame when it is broken.

use dolmen::ledger::block::{Block, CheckedBlock, Header, Height, Tip, UnixTime};
use dolmen::ledger::limits::{
    MAX_BODY_BYTES, MAX_BODY_ENTRIES, MAX_ENTRY_BYTES, MAX_SAFE_INTEGER, MAX_SECONDS_AHEAD, MAX_VERSION_CHARS,
};
use dolmen::ledger::rules::{self, RuleError, check_alone, check_body, check_run, check_with_parent};
use dolmen::ledger::{BlockHash, MerkleRoot, genesis, json};
use sha2::{Digest, Sha256};

use super::{NOW, block_on, checked, child, good_text, replaced, root_of, root_text, texts};

// ---- Shape.

#[test]
fn fields_of_a_wrong_form_are_named_with_what_was_found() {
    let zeros = "0".repeat(64);
    let good = ("1.0.0", 1, zeros.as_str(), 1, zeros.as_str());
    let long = "é".repeat(100);
    let long_version = format!("1.0.{}", "0".repeat(MAX_VERSION_CHARS));
    let beyond = MAX_SAFE_INTEGER + 1;
    let hash = "a".repeat(64);
    let root = "A".repeat(64);
    let version = |got: &str| RuleError::VersionForm { got: got.to_owned() };
    let previous = |got: &str| RuleError::PreviousHashForm { got: got.to_owned() };
    let merkle = |got: &str| RuleError::MerkleRootForm { got: got.to_owned() };
    let cases = [
        ("the version is empty", ("", 1, zeros.as_str(), 1, zeros.as_str()), version("")),
        ("the version has a suffix", ("2.1.0-beta", 1, &zeros, 1, &zeros), version("2.1.0-beta")),
        ("the version has two numbers", ("1.0", 1, &zeros, 1, &zeros), version("1.0")),
        ("the version has digits of another script", ("1.0.٣", 1, &zeros, 1, &zeros), version("1.0.٣")),
        ("the version is too long", (&long_version, 1, &zeros, 1, &zeros), version(&long_version)),
        ("the index is 2^53", ("1.0.0", beyond, &zeros, 1, &zeros), RuleError::IndexRange { got: beyond }),
        ("the index is 2^64-1", ("1.0.0", u64::MAX, &zeros, 1, &zeros), RuleError::IndexRange { got: u64::MAX }),
        ("the parent's hash is short", ("1.0.0", 1, &zeros[1..], 1, &zeros), previous(&zeros[1..])),
        ("the parent's hash is in upper case", ("1.0.0", 1, &root, 1, &zeros), previous(&root)),
        ("the parent's hash is empty", ("1.0.0", 1, "", 1, &zeros), previous("")),
        ("the time is 2^53", ("1.0.0", 1, &zeros, beyond, &zeros), RuleError::TimeRange { got: beyond }),
        ("the root is in lower case", ("1.0.0", 1, &zeros, 1, &hash), merkle(&hash)),
        ("the root is empty", ("1.0.0", 1, &zeros, 1, ""), merkle("")),
        ("a long text is cut to 64 characters", ("1.0.0", 1, &zeros, 1, &long), merkle(&"é".repeat(64))),
        ("the first wrong field is named", ("x", beyond, "", beyond, ""), version("x")),
    ];
    let from = |(version, index, previous_hash, time, merkle_root): (&str, u64, &str, u64, &str)| {
        Block::from_parts(version, index, previous_hash, time, merkle_root, texts(&["x"]))
    };
    assert!(from(good).is_ok());
    assert!(from(("1.0.0", MAX_SAFE_INTEGER, &zeros, MAX_SAFE_INTEGER, &zeros)).is_ok(), "2^53-1 is exact");
    for (case, parts, wanted) in cases {
        assert_eq!(from(parts), Err(wanted), "{case}");
    }
}

#[test]
fn shape_errors_come_through_the_parser_of_one_block_and_of_many() {
    let spoiled = replaced(&good_text(), "\"version\":\"1.0.0\"", "\"version\":\"v1\"");
    let wanted = RuleError::VersionForm { got: "v1".to_owned() };
    assert_eq!(json::parse_block(&spoiled), Err(wanted.clone()));
    assert_eq!(json::parse_blocks(&format!("[{},{spoiled}]", good_text())), Err(wanted));
}

// ---- The block alone.

#[test]
fn bodies_are_refused_with_the_exact_reason() {
    let upper = "A".repeat(64);
    let pair = "0123456789ABCDEF".repeat(8);
    let entry = |bytes: usize| "x".repeat(bytes);
    let ambiguous = |position| Err(RuleError::EntryAmbiguous { position });
    let cases: Vec<(&str, Vec<String>, Result<(), RuleError>)> = vec![
        ("an empty body", vec![], Err(RuleError::BodyEmpty)),
        ("one empty entry", texts(&[""]), Ok(())),
        ("as many entries as allowed", vec![String::new(); MAX_BODY_ENTRIES], Ok(())),
        (
            "one entry too many",
            vec![String::new(); MAX_BODY_ENTRIES + 1],
            Err(RuleError::BodyEntries { got: MAX_BODY_ENTRIES + 1 }),
        ),
        ("an entry as long as allowed", vec![entry(MAX_ENTRY_BYTES)], Ok(())),
        (
            "an entry too long by one byte",
            vec![entry(1), entry(MAX_ENTRY_BYTES + 1)],
            Err(RuleError::EntryBytes { position: 1, got: MAX_ENTRY_BYTES + 1 }),
        ),
        (
            "bytes count, not characters",
            vec!["é".repeat(MAX_ENTRY_BYTES / 2 + 1)],
            Err(RuleError::EntryBytes { position: 0, got: MAX_ENTRY_BYTES + 2 }),
        ),
        ("a body as long as allowed", vec![entry(MAX_ENTRY_BYTES); MAX_BODY_BYTES / MAX_ENTRY_BYTES], Ok(())),
        (
            "a body too long by one byte",
            [vec![entry(MAX_ENTRY_BYTES); MAX_BODY_BYTES / MAX_ENTRY_BYTES], vec![entry(1)]].concat(),
            Err(RuleError::BodyBytes { got: MAX_BODY_BYTES + 1 }),
        ),
        ("a digest as an entry", vec![upper.clone()], ambiguous(0)),
        ("a digest behind others", vec![entry(1), entry(2), upper.clone()], ambiguous(2)),
        ("two digests in one entry", vec![pair.clone()], ambiguous(0)),
        ("64 digits", vec!["1".repeat(64)], ambiguous(0)),
        ("a digest in lower case", vec![upper.to_lowercase()], Ok(())),
        ("a digest with one lower-case letter", vec![format!("a{}", &upper[1..])], Ok(())),
        ("a digest with a line break", vec![format!("{upper}\n")], Ok(())),
        ("63 characters", vec![upper[1..].to_owned()], Ok(())),
        ("127 characters", vec![pair[1..].to_owned()], Ok(())),
        ("192 characters", vec![upper.repeat(3)], Ok(())),
        ("64 bytes that are not ASCII", vec!["é".repeat(32)], Ok(())),
    ];
    for (case, body, wanted) in cases {
        assert_eq!(check_body(&body), wanted, "{case}");
        let merkle_root = dolmen::ledger::merkle::root(&body).unwrap_or(MerkleRoot([0; 32]));
        let header = Header { merkle_root, ..child(&["x"]).header };
        let judged = check_alone(Block { header, body }, NOW).map(|_| ());
        assert_eq!(judged, wanted, "{case}, in a block");
    }
}

#[test]
fn a_root_of_another_body_is_refused_with_both_roots() {
    let mut block = child(&["a", "b"]);
    block.header.merkle_root = root_of(&texts(&["b", "a"]));
    let wanted =
        RuleError::MerkleRootMismatch { got: root_of(&texts(&["b", "a"])), wanted: root_of(&texts(&["a", "b"])) };
    assert_eq!(check_alone(block, NOW), Err(wanted));
}

#[test]
fn a_block_may_be_two_hours_ahead_and_no_more() {
    let at = |seconds: u64| block_on(genesis::tip(), UnixTime(seconds), texts(&["x"]));
    let limit = NOW.0 + MAX_SECONDS_AHEAD;
    assert!(check_alone(at(limit), NOW).is_ok(), "just in time");
    let wanted = RuleError::TimeAhead { got: UnixTime(limit + 1), now: NOW };
    assert_eq!(check_alone(at(limit + 1), NOW), Err(wanted), "one second too far");
    assert!(check_alone(at(0), NOW).is_ok(), "the past is never judged");
    assert!(check_alone(at(MAX_SAFE_INTEGER), UnixTime(u64::MAX)).is_ok(), "a clock at its end does not overflow");
}

#[test]
fn a_checked_block_is_the_block_with_its_hash() {
    let block = child(&["Hello"]);
    let text = format!("1.0.01{}{}{}", genesis::tip().hash, NOW, root_text(&block.body));
    let checked = check_alone(block.clone(), NOW).expect("a good block");
    assert_eq!(checked.hash().to_string(), hex::encode(Sha256::digest(text)));
    assert_eq!(checked.block(), &block);
    assert_eq!((checked.height(), checked.parent()), (Height(1), genesis::tip().hash));
    assert_eq!(checked.tip(), Tip { height: Height(1), hash: checked.hash() });
}

// ---- The block with its parent.

#[test]
fn a_block_follows_its_parent_by_index_and_by_hash() {
    let parent = genesis::tip();
    let stranger = BlockHash([7; 32]);
    let at = |height, hash| Tip { height: Height(height), hash };
    let index = |got, wanted| Err(RuleError::IndexNotNext { got: Height(got), wanted: Height(wanted) });
    let cases = [
        ("a child", parent, Ok(())),
        ("another block at the parent's height", at(1, parent.hash), index(1, 2)),
        ("a gap below", at(5, parent.hash), index(1, 6)),
        (
            "another parent at the same height",
            at(0, stranger),
            Err(RuleError::PreviousHashMismatch { got: parent.hash, wanted: stranger }),
        ),
        ("both wrong: the index is named", at(1, stranger), index(1, 2)),
    ];
    let block = checked(child(&["x"]));
    for (case, parent, wanted) in cases {
        assert_eq!(check_with_parent(&block, parent), wanted, "{case}");
    }
}

#[test]
fn a_run_is_judged_pair_by_pair() {
    let first = checked(block_on(genesis::tip(), NOW, texts(&["1"])));
    let second = checked(block_on(first.tip(), NOW, texts(&["2"])));
    let third = checked(block_on(second.tip(), NOW, texts(&["3"])));
    let other = checked(block_on(genesis::tip(), NOW, texts(&["other"])));
    let run = |blocks: &[&CheckedBlock]| check_run(blocks.iter().copied(), genesis::tip());
    let index = |got, wanted| Err(RuleError::IndexNotNext { got: Height(got), wanted: Height(wanted) });
    let mismatch = Err(RuleError::PreviousHashMismatch { got: first.hash(), wanted: other.hash() });
    let cases = [
        ("no block at all", run(&[]), Err(RuleError::NoBlocks)),
        ("one child", run(&[&first]), Ok(first.tip())),
        ("three in a row", run(&[&first, &second, &third]), Ok(third.tip())),
        ("the first does not follow", run(&[&second]), index(2, 1)),
        ("one is missing", run(&[&first, &third]), index(3, 2)),
        ("one comes twice", run(&[&first, &first]), index(1, 2)),
        ("the wrong way round", run(&[&second, &first]), index(2, 1)),
        ("the second follows another first", run(&[&other, &second]), mismatch),
    ];
    for (case, got, wanted) in cases {
        assert_eq!(got, wanted, "{case}");
    }
}

#[test]
fn another_genesis_is_another_network() {
    let mut block = genesis::block().block().clone();
    block.header.time = UnixTime(genesis::TIME.0 + 1);
    let block = checked(block);
    let wanted = RuleError::GenesisMismatch { got: block.hash(), wanted: genesis::tip().hash };
    assert_eq!(rules::is_genesis(&block), Err(wanted));
}

/// Nothing stands between the fields of a header when it is hashed: a digit moved from one field to the next gives another
/// header with the same hash.
#[test]
fn a_block_with_the_hash_of_genesis_is_not_genesis() {
    let first = genesis::block();
    let moved = [
        ("a zero moved from the index to the version", "1.0.00", 0, format!("{}1", "0".repeat(63)), 630_907_567),
        ("two digits moved", "1.0.000", 0, format!("{}16", "0".repeat(62)), 30_907_567),
    ];
    for (case, version, index, previous_hash, time) in moved {
        let root = first.header().merkle_root.to_string();
        let block = Block::from_parts(version, index, &previous_hash, time, &root, first.body().to_vec());
        let block = checked(block.expect("well formed"));
        assert_eq!(block.hash(), first.hash(), "{case}: the hash is the same");
        assert_ne!(block, *first, "{case}: the block is not");
        assert!(rules::is_genesis(&block).is_err(), "{case}");
    }
}

#[test]
fn a_relative_with_the_same_hash_does_not_follow_the_parent() {
    // A parent whose hash begins with the index of its child, so that the fields can be cut one digit later.
    let parent = Tip { height: Height(0), hash: BlockHash([0x1f; 32]) };
    let block = checked(block_on(parent, NOW, texts(&["x"])));
    check_with_parent(&block, parent).expect("the block itself follows");
    let (hash, time) = (parent.hash.to_string(), NOW.to_string());
    let moved = format!("{}{}", &hash[1..], &time[..1]);
    let rest = time[1..].parse().expect("digits");
    let relative = Block::from_parts("1.0.01", 1, &moved, rest, &root_text(block.body()), block.body().to_vec());
    let relative = checked(relative.expect("well formed"));
    assert_eq!(relative.hash(), block.hash());
    assert_ne!(relative, block);
    let wanted = RuleError::PreviousHashMismatch { got: relative.parent(), wanted: parent.hash };
    assert_eq!(check_with_parent(&relative, parent), Err(wanted));
}

// ---- Blame and names.

/// One of each variant, with whether its sender must be broken or hostile.
fn every_error() -> Vec<(RuleError, bool, &'static str)> {
    let text = String::new;
    let (root, hash, tip) = (MerkleRoot([0; 32]), BlockHash::ZERO, Height(1));
    vec![
        (RuleError::NotABlock { reason: text() }, false, "not-a-block"),
        (RuleError::VersionForm { got: text() }, true, "version-form"),
        (RuleError::IndexRange { got: 0 }, true, "index-range"),
        (RuleError::PreviousHashForm { got: text() }, true, "previous-hash-form"),
        (RuleError::TimeRange { got: 0 }, true, "time-range"),
        (RuleError::MerkleRootForm { got: text() }, true, "merkle-root-form"),
        (RuleError::BodyEmpty, false, "body-empty"),
        (RuleError::BodyEntries { got: 0 }, false, "body-entries"),
        (RuleError::EntryBytes { position: 0, got: 0 }, false, "entry-bytes"),
        (RuleError::BodyBytes { got: 0 }, false, "body-bytes"),
        (RuleError::EntryAmbiguous { position: 0 }, false, "entry-ambiguous"),
        (RuleError::MerkleRootMismatch { got: root, wanted: root }, true, "merkle-root-mismatch"),
        (RuleError::TimeAhead { got: NOW, now: NOW }, false, "time-ahead"),
        (RuleError::IndexNotNext { got: tip, wanted: tip }, true, "index-not-next"),
        (RuleError::PreviousHashMismatch { got: hash, wanted: hash }, true, "previous-hash-mismatch"),
        (RuleError::GenesisMismatch { got: hash, wanted: hash }, true, "genesis-mismatch"),
        (RuleError::NoBlocks, true, "no-blocks"),
    ]
}

#[test]
fn senders_are_blamed_for_what_only_they_can_have_done() {
    for (error, at_fault, name) in every_error() {
        assert_eq!(error.sender_at_fault(), at_fault, "{error}");
        assert_eq!(error.name(), name);
    }
}

#[test]
fn a_refusal_says_what_was_found_and_what_was_wanted() {
    let cases = [
        (RuleError::BodyEmpty, "the body has no entry; at least one is wanted"),
        (RuleError::BodyEntries { got: 10_001 }, "the body has 10001 entries; at most 10000 are allowed"),
        (RuleError::EntryBytes { position: 3, got: 65_537 }, "entry 3 has 65537 bytes; at most 65536 are allowed"),
        (
            RuleError::IndexNotNext { got: Height(5), wanted: Height(4) },
            "index is 5, but the block after its parent has 4",
        ),
        (
            RuleError::VersionForm { got: "\u{1b}[2J".to_owned() },
            "version \"\\u{1b}[2J\" is not of the form digits.digits.digits with at most 32 characters",
        ),
    ];
    for (error, wanted) in cases {
        assert_eq!(error.to_string(), wanted);
    }
}
