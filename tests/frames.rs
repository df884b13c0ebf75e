//! What peers send, from bytes to something judged: native frames in both directions, and how a whole message is read.
//!
//! A failure of a random test prints the smallest case; the case is also written to `tests/frames.regressions.txt`, which
//! is played first from then on.

use bytes::Bytes;
use dolmen::ledger::block::{Block, BlockView, Header, Height, SharedBlock, Tip, UnixTime, Version};
use dolmen::ledger::limits::{MAX_BODY_ENTRIES, MAX_ENTRY_BYTES, MAX_SAFE_INTEGER, MAX_SECONDS_AHEAD};
use dolmen::ledger::rules::{RuleError, check_alone};
use dolmen::ledger::{BlockHash, MerkleRoot, genesis, json, merkle};
use dolmen::peer::assembly::Message;
use dolmen::peer::incoming::{Incoming, ReadError, read};
use dolmen::peer::limits::{MAX_ADDRESSES, MAX_BATCH_BLOCKS, MAX_LOCATOR, MAX_NATIVE_FRAME};
use dolmen::peer::message::{self, Hello, MessageError, NodeId, Nonce};
use dolmen::peer::native::{BatchEncoder, Blocks, Frame, FrameError, decode, encode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;

const NOW: UnixTime = UnixTime(1_700_000_000);

fn config(cases: u32) -> ProptestConfig {
    let persistence = FileFailurePersistence::Direct("tests/frames.regressions.txt");
    ProptestConfig { cases, failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::default() }
}

fn block(parent: Tip, version: &str, time: u64, body: Vec<String>) -> Block {
    let header = Header {
        version: Version::parse(version).expect("a version"),
        index: parent.height.next(),
        previous_hash: parent.hash,
        time: UnixTime(time),
        merkle_root: merkle::root(&body).unwrap_or(MerkleRoot([0; 32])),
    };
    Block { header, body }
}

fn run(after: Tip, plan: Vec<(String, u64, Vec<String>)>) -> Blocks {
    let mut tip = after;
    let next = |(version, time, body): (String, u64, Vec<String>)| -> SharedBlock {
        let block = check_alone(block(tip, &version, time, body), NOW).expect("a good block");
        tip = block.tip();
        block.into()
    };
    Blocks { after, blocks: plan.into_iter().map(next).collect() }
}

fn small_run(count: usize) -> Blocks {
    run(genesis::tip(), (0..count).map(|n| ("1.0.0".to_owned(), n as u64, vec![n.to_string()])).collect())
}

// ---- Any frame.

fn tip() -> impl Strategy<Value = Tip> {
    let height = prop_oneof![0..1_000u64, 0..=MAX_SAFE_INTEGER, Just(MAX_SAFE_INTEGER)];
    (height, any::<[u8; 32]>()).prop_map(|(height, hash)| Tip { height: Height(height), hash: BlockHash(hash) })
}

fn blocks() -> impl Strategy<Value = Blocks> {
    let version = prop_oneof![2 => Just("1.0.0".to_owned()), 1 => "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,20}"];
    let time = prop_oneof![Just(0), 0..=NOW.0 + MAX_SECONDS_AHEAD];
    let entry = prop_oneof![any::<String>(), "[a-z]{0,300}"];
    let plan = vec((version, time, vec(entry, 1..5)), 1..8);
    (tip().prop_filter("room above", |tip| tip.height.0 < MAX_SAFE_INTEGER - 8), plan)
        .prop_map(|(after, plan)| run(after, plan))
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        tip().prop_map(Frame::Tip),
        blocks().prop_map(Frame::Push),
        vec(tip(), 0..=MAX_LOCATOR).prop_map(Frame::Locate),
        (proptest::option::of(tip()), tip()).prop_map(|(common, tip)| Frame::Located { common, tip }),
        (tip(), tip(), any::<u32>()).prop_map(|(from, upto, batches)| Frame::Fetch {
            from: from.height,
            upto,
            batches
        }),
        any::<u32>().prop_map(|batches| Frame::More { batches }),
        blocks().prop_map(Frame::Batch),
        Just(Frame::Gone),
        vec(".{0,30}", 0..=MAX_ADDRESSES).prop_map(Frame::Addresses),
    ]
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn what_is_encoded_is_decoded_the_same(frame in frame()) {
        prop_assert_eq!(decode(&encode(&frame), NOW), Ok(frame));
    }

    #[test]
    fn a_batch_of_blocks_that_are_only_looked_at_is_the_same_frame(run in blocks()) {
        let mut batch = BatchEncoder::after(run.after);
        run.blocks.iter().for_each(|block| batch.push(block.hash(), &BlockView::from(block.block())));
        let tip = run.tip();
        prop_assert_eq!(batch.finish(), Some((encode(&Frame::Batch(run)), tip)));
    }

    #[test]
    fn a_frame_that_was_cut_or_goes_on_is_none(frame in frame(), more in vec(any::<u8>(), 1..9)) {
        let bytes = encode(&frame);
        for end in 0..bytes.len() {
            let cut = decode(&bytes[..end], NOW);
            prop_assert!(matches!(cut, Err(FrameError::Form(_))), "cut at {}: {:?}", end, cut);
        }
        let longer = [bytes, more].concat();
        prop_assert_eq!(decode(&longer, NOW), Err(FrameError::Bounds("bytes follow the frame")));
    }

    #[test]
    fn random_bytes_are_never_a_panic(mut bytes in vec(any::<u8>(), 0..400), kind in 0..9u8) {
        let _ = decode(&bytes, NOW);
        bytes.insert(0, kind);
        let _ = decode(&bytes, NOW);
    }

    /// Whatever a spoiled frame is still read as, its blocks are good and it is encoded and read back the same.
    #[test]
    fn a_spoiled_frame_is_refused_or_some_frame(
        frame in frame(), spoils in vec((any::<Index>(), any::<u8>(), 0..3u8), 1..4)
    ) {
        let mut bytes = encode(&frame);
        for (at, with, how) in spoils {
            let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match how {
                0 if !bytes.is_empty() => bytes[at] = with,
                1 if !bytes.is_empty() => { bytes.remove(at); }
                _ => bytes.insert(at, with),
            }
        }
        if let Ok(read) = decode(&bytes, NOW) {
            if let Frame::Push(run) | Frame::Batch(run) = &read {
                for block in &run.blocks {
                    let alone = check_alone(block.block().clone(), NOW);
                    prop_assert_eq!(alone.as_ref(), Ok(&**block));
                }
            }
            prop_assert_eq!(decode(&encode(&read), NOW), Ok(read));
        }
    }
}

// ---- Limits and errors, by hand.

#[test]
fn a_batch_without_blocks_is_none() {
    assert_eq!(BatchEncoder::after(genesis::tip()).finish(), None);
}

/// A number as postcard writes it.
fn number(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn tip_bytes(tip: Tip) -> Vec<u8> {
    [number(tip.height.0), tip.hash.0.to_vec()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [number(text.len() as u64), text.as_bytes().to_vec()].concat()
}

/// A block as the head of the module says that it travels.
fn block_bytes(version: Option<&str>, time: u64, body: &[&str]) -> Vec<u8> {
    let version = version.map_or(vec![0], |version| [vec![1], text(version)].concat());
    let entries: Vec<u8> = body.iter().flat_map(|entry| text(entry)).collect();
    [version, number(time), number(body.len() as u64), entries].concat()
}

fn batch_bytes(after: Tip, last: BlockHash, count: u64, blocks: &[u8]) -> Vec<u8> {
    [vec![6], tip_bytes(after), last.0.to_vec(), number(count), blocks.to_vec()].concat()
}

fn high(height: u64) -> Tip {
    Tip { height: Height(height), hash: BlockHash([3; 32]) }
}

#[test]
fn a_batch_travels_as_the_table_says() {
    let plan = vec![("1.0.0".to_owned(), 7, vec!["a".to_owned()]), ("2.0.0".to_owned(), 300, vec![String::new(); 2])];
    let blocks = run(genesis::tip(), plan);
    let by_hand = [block_bytes(None, 7, &["a"]), block_bytes(Some("2.0.0"), 300, &["", ""])].concat();
    let by_hand = batch_bytes(genesis::tip(), blocks.tip().hash, 2, &by_hand);
    assert_eq!(encode(&Frame::Batch(blocks.clone())), by_hand);
    let spelled = [block_bytes(Some("1.0.0"), 7, &["a"]), block_bytes(Some("2.0.0"), 300, &["", ""])].concat();
    let spelled = batch_bytes(genesis::tip(), blocks.tip().hash, 2, &spelled);
    assert_eq!(decode(&spelled, NOW), Ok(Frame::Batch(blocks)), "the usual version may be spelled out");
}

#[test]
fn every_limit_is_reached_and_not_passed() {
    let locate = |count| decode(&encode(&Frame::Locate(vec![genesis::tip(); count])), NOW);
    assert!(locate(MAX_LOCATOR).is_ok());
    assert_eq!(locate(MAX_LOCATOR + 1), Err(FrameError::Bounds("the locator has too many places")));
    let addresses = |count| decode(&encode(&Frame::Addresses(vec![String::new(); count])), NOW);
    assert!(addresses(MAX_ADDRESSES).is_ok());
    assert_eq!(addresses(MAX_ADDRESSES + 1), Err(FrameError::Bounds("there are too many addresses")));
    let batch = |count| decode(&encode(&Frame::Batch(small_run(count))), NOW);
    assert!(batch(MAX_BATCH_BLOCKS).is_ok());
    assert_eq!(batch(MAX_BATCH_BLOCKS + 1), Err(FrameError::Bounds("a list of blocks is empty or too long")));
    assert_eq!(batch(0), Err(FrameError::Bounds("a list of blocks is empty or too long")));
    let long = |bytes: usize| decode(&vec![7; bytes], NOW);
    assert_eq!(long(1), Ok(Frame::Gone));
    assert_eq!(long(MAX_NATIVE_FRAME), Err(FrameError::Bounds("bytes follow the frame")));
    assert_eq!(long(MAX_NATIVE_FRAME + 1), Err(FrameError::Bounds("the frame is too long")));
}

#[test]
fn heights_that_the_format_cannot_count_are_refused_wherever_they_stand() {
    let fetch = |from, upto| Frame::Fetch { from: Height(from), upto: high(upto), batches: 1 };
    for beyond in [MAX_SAFE_INTEGER + 1, u64::MAX] {
        let frames = [
            Frame::Tip(high(beyond)),
            Frame::Locate(vec![high(1), high(beyond)]),
            Frame::Located { common: None, tip: high(beyond) },
            Frame::Located { common: Some(high(beyond)), tip: high(1) },
            fetch(beyond, 1),
            fetch(1, beyond),
        ];
        let refused = Err(FrameError::Bounds("a height is above 2^53 - 1"));
        for frame in frames {
            assert_eq!(decode(&encode(&frame), NOW), refused, "{frame:?}");
        }
        let run = batch_bytes(high(beyond), BlockHash::ZERO, 1, &block_bytes(None, 1, &["a"]));
        assert_eq!(decode(&run, NOW), refused);
    }
    assert!(decode(&encode(&Frame::Tip(high(MAX_SAFE_INTEGER))), NOW).is_ok());
}

#[test]
fn every_rule_that_a_block_can_break_is_named_with_its_height() {
    let digest = "A".repeat(64);
    let long = "x".repeat(MAX_ENTRY_BYTES + 1);
    let many = vec![""; MAX_BODY_ENTRIES + 1];
    let full = "x".repeat(MAX_ENTRY_BYTES);
    let heavy = vec![full.as_str(); 17];
    let late = NOW.0 + MAX_SECONDS_AHEAD + 1;
    let (ahead, beyond) = (UnixTime(late), MAX_SAFE_INTEGER + 1);
    let cases = [
        ("no entry", block_bytes(None, 1, &[]), RuleError::BodyEmpty),
        ("too many entries", block_bytes(None, 1, &many), RuleError::BodyEntries { got: MAX_BODY_ENTRIES + 1 }),
        (
            "a long entry",
            block_bytes(None, 1, &["a", &long]),
            RuleError::EntryBytes { position: 1, got: MAX_ENTRY_BYTES + 1 },
        ),
        ("a heavy body", block_bytes(None, 1, &heavy), RuleError::BodyBytes { got: 17 * MAX_ENTRY_BYTES }),
        ("a digest", block_bytes(None, 1, &[&digest]), RuleError::EntryAmbiguous { position: 0 }),
        ("from the future", block_bytes(None, late, &["a"]), RuleError::TimeAhead { got: ahead, now: NOW }),
        ("no time at all", block_bytes(None, beyond, &["a"]), RuleError::TimeRange { got: beyond }),
        ("no version", block_bytes(Some("1"), 1, &["a"]), RuleError::VersionForm { got: "1".to_owned() }),
    ];
    let good = block_bytes(None, 1, &["good"]);
    for (case, bytes, rule) in cases {
        let both = batch_bytes(genesis::tip(), BlockHash::ZERO, 2, &[good.clone(), bytes].concat());
        assert_eq!(decode(&both, NOW), Err(FrameError::Rule { height: Height(2), rule }), "{case}");
    }
    let top = batch_bytes(high(MAX_SAFE_INTEGER), BlockHash::ZERO, 1, &good);
    let rule = RuleError::IndexRange { got: MAX_SAFE_INTEGER + 1 };
    assert_eq!(decode(&top, NOW), Err(FrameError::Rule { height: Height(MAX_SAFE_INTEGER + 1), rule }));
}

#[test]
fn the_last_hash_says_whether_both_mean_the_same() {
    let got = run(genesis::tip(), vec![("1.0.0".to_owned(), 1, vec!["good".to_owned()])]).tip().hash;
    let bytes = batch_bytes(genesis::tip(), BlockHash([9; 32]), 1, &block_bytes(None, 1, &["good"]));
    assert_eq!(decode(&bytes, NOW), Err(FrameError::LastHash { got, wanted: BlockHash([9; 32]) }));
}

/// A process that believed these lengths would end at once.
#[test]
fn a_short_frame_that_claims_much_is_refused() {
    for claim in [1 << 20, 1 << 40, 1 << 60, u64::MAX] {
        let blocks = batch_bytes(genesis::tip(), BlockHash::ZERO, claim, &[]);
        let body = batch_bytes(genesis::tip(), BlockHash::ZERO, 1, &[vec![0, 1], number(claim)].concat());
        let entry = batch_bytes(genesis::tip(), BlockHash::ZERO, 1, &[vec![0, 1, 1], number(claim)].concat());
        let version = batch_bytes(genesis::tip(), BlockHash::ZERO, 1, &[vec![1], number(claim)].concat());
        let places = [vec![2], number(claim)].concat();
        let addresses = [vec![8], number(claim)].concat();
        for bytes in [blocks, body, entry, version, places, addresses] {
            let got = decode(&bytes, NOW);
            assert!(matches!(got, Err(FrameError::Form(_))), "{claim} in {bytes:?}: {got:?}");
        }
    }
}

#[test]
fn blocks_beyond_the_limit_are_not_even_read() {
    // 600,000 blocks of three bytes, the last spoiled: whoever read them all would find no frame.
    let mut blocks = [0, 1, 0].repeat(600_000);
    *blocks.last_mut().expect("bytes") = 0xff;
    let bytes = batch_bytes(genesis::tip(), BlockHash::ZERO, 600_000, &blocks);
    assert_eq!(decode(&bytes, NOW), Err(FrameError::Bounds("bytes follow the frame")));
}

#[test]
fn unknown_kinds_are_no_frames() {
    for kind in 9..=255u8 {
        assert!(matches!(decode(&[kind], NOW), Err(FrameError::Form(_))), "{kind}");
    }
    assert!(matches!(decode(&[], NOW), Err(FrameError::Form(_))));
}

// ---- Whole messages.

fn array(blocks: &[Block]) -> String {
    message::response_text(&json::array_to_string(blocks))
}

fn hello() -> Hello {
    let tip = genesis::tip();
    Hello {
        protocol: 1,
        node: NodeId(1),
        nonce: Nonce(2),
        genesis: tip.hash,
        port: 3,
        tip,
        agent: "a".to_owned(),
        challenge: None,
    }
}

#[test]
fn messages_are_read_to_the_end() {
    let shared = small_run(2);
    let plain: Vec<Block> = shared.blocks.iter().map(|block| block.block().clone()).collect();
    let frame = Frame::Push(shared.clone());
    let cases = [
        (Message::Text(message::query_last().into()), Incoming::QueryLast),
        (Message::Text(message::query_all().into()), Incoming::QueryAll),
        (Message::Text(message::hello(&hello()).into()), Incoming::Hello(hello())),
        (Message::Text(array(&plain).into()), Incoming::Blocks(shared.blocks)),
        (Message::Text(array(&[genesis::block().block().clone()]).into()), Incoming::Blocks(vec![genesis::block()])),
        (Message::Text("{\"type\":99,\"data\":[]}".into()), Incoming::Unknown(99)),
        (Message::Binary(encode(&frame).into()), Incoming::Frame(frame)),
    ];
    for (message, wanted) in cases {
        assert_eq!(read(message.clone(), NOW), Ok(wanted), "{message:?}");
    }
}

#[test]
fn what_cannot_be_read_says_why_and_whose_fault_it_is() {
    let mut root = block(genesis::tip(), "1.0.0", 1, vec!["a".to_owned()]);
    root.header.merkle_root = MerkleRoot([1; 32]);
    let wanted = merkle::root(&root.body).expect("an entry");
    let mismatch = RuleError::MerkleRootMismatch { got: MerkleRoot([1; 32]), wanted };
    let empty = block(genesis::tip(), "1.0.0", 1, vec![]);
    let digest = block(genesis::tip(), "1.0.0", 1, vec!["A".repeat(64)]);
    let late = block(genesis::tip(), "1.0.0", NOW.0 + MAX_SECONDS_AHEAD + 1, vec!["a".to_owned()]);
    let ahead = RuleError::TimeAhead { got: late.header.time, now: NOW };
    let good = block(genesis::tip(), "1.0.0", 1, vec!["a".to_owned()]);
    let ambiguous = RuleError::EntryAmbiguous { position: 0 };
    let exact = [
        ("a wrong root", array(&[good.clone(), root]), ReadError::Rule(mismatch), true),
        ("an empty body", array(&[empty]), ReadError::Rule(RuleError::BodyEmpty), false),
        ("a digest, as a tutorial's user may post", array(&[digest]), ReadError::Rule(ambiguous.clone()), false),
        ("from the future, as a wrong clock may say", array(&[late]), ReadError::Rule(ahead), false),
        ("no blocks", array(&[]), ReadError::Rule(RuleError::NoBlocks), true),
    ];
    for (case, text, wanted, at_fault) in exact {
        let got = read(Message::Text(text.into()), NOW).expect_err(case);
        assert_eq!((got.sender_at_fault(), got), (at_fault, wanted), "{case}");
    }
    type Kind = fn(&ReadError) -> bool;
    let form: Kind = |error| matches!(error, ReadError::Text(MessageError::Form(_)));
    let blocks_form: Kind = |error| matches!(error, ReadError::Text(MessageError::BlocksForm(_)));
    let hello_form: Kind = |error| matches!(error, ReadError::Text(MessageError::HelloForm(_)));
    let not_a_block: Kind = |error| matches!(error, ReadError::Rule(RuleError::NotABlock { .. }));
    let texts: [(&str, &str, Kind, bool); 6] = [
        ("no JSON", "x", form, true),
        ("JSON of another kind", "[0]", form, true),
        ("null for blocks", "{\"type\":2,\"data\":null}", blocks_form, true),
        ("half a HELLO", "{\"type\":16,\"data\":{\"protocol\":1}}", hello_form, true),
        ("a string that is no array", "{\"type\":2,\"data\":\"x\"}", not_a_block, false),
        ("an array of something else", "{\"type\":2,\"data\":\"[1]\"}", not_a_block, false),
    ];
    for (case, text, kind, at_fault) in texts {
        let got = read(Message::Text(text.into()), NOW).expect_err(case);
        assert!(kind(&got), "{case}: {got:?}");
        assert_eq!(got.sender_at_fault(), at_fault, "{case}");
    }
    let late = block_bytes(None, NOW.0 + MAX_SECONDS_AHEAD + 1, &["a"]);
    let frames: [(&str, Vec<u8>, Kind, bool); 5] = [
        ("no frame", vec![200], |error| matches!(error, ReadError::Frame(FrameError::Form(_))), true),
        ("a long one", vec![7; 9], |error| matches!(error, ReadError::Frame(FrameError::Bounds(_))), true),
        (
            "another hash",
            batch_bytes(genesis::tip(), BlockHash::ZERO, 1, &block_bytes(None, 1, &["a"])),
            |error| matches!(error, ReadError::Frame(FrameError::LastHash { .. })),
            true,
        ),
        (
            "a block from the future",
            batch_bytes(genesis::tip(), BlockHash::ZERO, 1, &late),
            |error| matches!(error, ReadError::Frame(FrameError::Rule { rule: RuleError::TimeAhead { .. }, .. })),
            false,
        ),
        (
            "a block without a version",
            batch_bytes(genesis::tip(), BlockHash::ZERO, 1, &block_bytes(Some("x"), 1, &["a"])),
            |error| matches!(error, ReadError::Frame(FrameError::Rule { rule: RuleError::VersionForm { .. }, .. })),
            true,
        ),
    ];
    for (case, bytes, kind, at_fault) in frames {
        let got = read(Message::Binary(Bytes::from(bytes)), NOW).expect_err(case);
        assert!(kind(&got), "{case}: {got:?}");
        assert_eq!(got.sender_at_fault(), at_fault, "{case}");
    }
}
