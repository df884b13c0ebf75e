//! One hash, one header; and mining and judging are one opinion. A failure prints the smallest case and the seed.

use dolmen::ledger::block::{Block, CheckedBlock, Header, Height, Tip, UnixTime, Version};
use dolmen::ledger::keeper::{Keeper, MineError, MineRequest};
use dolmen::ledger::limits::MAX_SECONDS_AHEAD;
use dolmen::ledger::rules::{RuleError, check_alone, check_body, check_with_parent, is_genesis};
use dolmen::ledger::{BlockHash, MerkleRoot, genesis, json, merkle};
use proptest::collection::vec;
use proptest::prelude::*;

use super::NOW;

#[path = "../support/memory_storage.rs"]
#[allow(dead_code)]
mod memory_storage;

use memory_storage::MemoryStorage;

/// Every header whose fields, written one after the other, make this text: the same hash by construction. The body is the
/// same, too, so that nothing but the header can tell them apart.
fn twins(preimage: &str, body: &[String]) -> Vec<Block> {
    let mut all = Vec::new();
    let end = preimage.len() - 64;
    for parent_at in 1..end.saturating_sub(64) {
        for index_at in 1..parent_at {
            let (version, index) = (&preimage[..index_at], &preimage[index_at..parent_at]);
            let (parent, time) = (&preimage[parent_at..parent_at + 64], &preimage[parent_at + 64..end]);
            let exact = |digits: &str| digits.parse::<u64>().ok().filter(|number| number.to_string() == digits);
            let (Some(index), Some(time)) = (exact(index), exact(time)) else { continue };
            let root = &preimage[end..];
            all.extend(Block::from_parts(version, index, parent, time, root, body.to_vec()));
        }
    }
    all
}

fn accepted(block: &Block, parent: Tip) -> bool {
    check_alone(block.clone(), UnixTime(u64::MAX)).is_ok_and(|block| check_with_parent(&block, parent).is_ok())
}

/// Parents with many digits, which are what could move from one field into another.
fn parent() -> impl Strategy<Value = Tip> {
    let digit = prop_oneof![4 => 0..10u8, 1 => 0..16u8];
    let height = prop_oneof![0..10u64, 0..200_000u64, Just(111_111_111u64)];
    (height, vec(digit, 64)).prop_map(|(height, digits)| {
        let text: String = digits.iter().map(|digit| format!("{digit:x}")).collect();
        Tip { height: Height(height), hash: BlockHash::from_hex(&text).expect("64 digits") }
    })
}

/// A good block on a parent.
fn on(parent: Tip, version: &str, time: u64, body: Vec<String>) -> Block {
    let root = merkle::root(&body).expect("an entry").to_string();
    Block::from_parts(version, parent.height.0 + 1, &parent.hash.to_string(), time, &root, body).expect("good fields")
}

fn mined(body: &[String]) -> (Tip, Result<CheckedBlock, MineError>) {
    mined_at(body, NOW)
}

/// What a node mines of these entries on its one block, by its clock.
fn mined_at(body: &[String], clock: UnixTime) -> (Tip, Result<CheckedBlock, MineError>) {
    let mut keeper = Keeper::open(MemoryStorage::new(), 1_000).expect("maps");
    let first = MineRequest { entries: vec!["first".to_owned()], key: None };
    let (answers, _) = keeper.mine(vec![first], NOW);
    answers.into_iter().for_each(|answer| drop(answer.expect("a good body")));
    let second = MineRequest { entries: body.to_vec(), key: None };
    let (mut answers, _) = keeper.mine(vec![second], clock);
    let parent = keeper.storage().chain()[1].tip();
    (parent, answers.remove(0).map(|mined| (*mined.block).clone()))
}

/// A field of a block as it should be, or as another block would have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Right,
    Wrong,
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![4 => Just(Field::Right), 1 => Just(Field::Wrong)]
}

fn entries() -> impl Strategy<Value = Vec<String>> {
    let entry = prop_oneof![8 => any::<String>(), 1 => "[0-9A-F]{64}", 1 => "[0-9A-F]{128}"];
    vec(entry, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_all_headers_with_one_hash_one_follows_the_parent(
        parent in parent(), version in "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,9}", time in 0..=20_000_000_000u64
    ) {
        let block = on(parent, &version, time, vec!["x".to_owned()]);
        let twins = twins(&block.header.preimage(), &block.body);
        prop_assert!(twins.contains(&block));
        for twin in twins {
            prop_assert_eq!(twin.header.hash(), block.header.hash());
            prop_assert_eq!(accepted(&twin, parent), twin == block, "{:?} and {:?}", twin, block);
        }
    }

    #[test]
    fn what_is_mined_is_accepted_and_what_is_refused_is_not_mined(body in vec(any::<String>(), 0..6), digest in "[0-9A-F]{64}") {
        for body in [body.clone(), [body, vec![digest]].concat()] {
            let (parent, answer) = mined(&body);
            match (check_body(&body), answer) {
                (Ok(()), Ok(block)) => {
                    let read = json::parse_block(&json::to_string(block.block()));
                    prop_assert_eq!(read.as_ref(), Ok(block.block()));
                    let judged = check_alone(block.block().clone(), NOW);
                    prop_assert_eq!(judged.as_ref(), Ok(&block));
                    prop_assert_eq!(check_with_parent(&block, parent), Ok(()));
                }
                (Err(wanted), Err(MineError::Rule(got))) => prop_assert_eq!(got, wanted),
                (verdict, answer) => prop_assert!(false, "{:?} and {:?}", verdict, answer),
            }
        }
    }

    /// Nothing is accepted but what a node would have mined whose clock stood at the block's time and whose program had the
    /// block's version; and all of that is.
    #[test]
    fn what_is_accepted_is_what_would_be_mined(
        (body, other) in (entries(), entries()), version in "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}",
        ahead in prop_oneof![Just(0), Just(MAX_SECONDS_AHEAD), Just(MAX_SECONDS_AHEAD + 1), 0..=NOW.0],
        (index, previous, root) in (field(), field(), field()), by in 1..=3u64
    ) {
        let time = UnixTime(if ahead <= MAX_SECONDS_AHEAD + 1 { NOW.0 + ahead } else { ahead });
        let (parent, mined) = mined_at(&body, time);
        let header = Header {
            version: Version::parse(&version).expect("three numbers"),
            index: Height(parent.height.0 + if index == Field::Right { 1 } else { 1 + by }),
            previous_hash: if previous == Field::Right { parent.hash } else { genesis::tip().hash },
            time,
            merkle_root: merkle::root(if root == Field::Right { &body } else { &other }).unwrap_or(MerkleRoot([0; 32])),
        };
        let block = Block { header, body };
        let accepted = check_alone(block.clone(), NOW).and_then(|block| check_with_parent(&block, parent).map(|()| block));
        let wanted = mined.ok().filter(|_| ahead != MAX_SECONDS_AHEAD + 1).map(|mined| {
            let mut mined = mined.block().clone();
            mined.header.version = block.header.version.clone();
            mined
        });
        prop_assert_eq!(accepted.is_ok(), wanted.as_ref() == Some(&block), "{:?} and {:?}", accepted, wanted);
    }

    #[test]
    fn a_mined_block_with_one_field_changed_is_refused_by_that_fields_rule(
        body in vec("[a-z]{0,8}", 1..6), bit in 0..256usize, by in 1..1_000u64
    ) {
        let (parent, answer) = mined(&body);
        let good = answer.expect("a good body");
        let flip = |mut digest: [u8; 32]| { digest[bit / 8] ^= 1 << (bit % 8); digest };
        let judge = |change: &dyn Fn(&mut Block)| {
            let mut block = good.block().clone();
            change(&mut block);
            check_alone(block, NOW).and_then(|block| check_with_parent(&block, parent))
        };
        let wanted = good.height();
        let got = Height(wanted.0 + by);
        prop_assert_eq!(judge(&|block| block.header.index = got), Err(RuleError::IndexNotNext { got, wanted }));
        let got = BlockHash(flip(parent.hash.0));
        let error = RuleError::PreviousHashMismatch { got, wanted: parent.hash };
        prop_assert_eq!(judge(&|block| block.header.previous_hash = got), Err(error));
        let late = UnixTime(NOW.0 + MAX_SECONDS_AHEAD + by);
        prop_assert_eq!(judge(&|block| block.header.time = late), Err(RuleError::TimeAhead { got: late, now: NOW }));
        let root = good.header().merkle_root;
        let got = MerkleRoot(flip(root.0));
        let error = RuleError::MerkleRootMismatch { got, wanted: root };
        prop_assert_eq!(judge(&|block| block.header.merkle_root = got), Err(error));
        let longer = [body.clone(), vec!["more".to_owned()]].concat();
        let error = RuleError::MerkleRootMismatch { got: root, wanted: merkle::root(&longer).expect("entries") };
        prop_assert_eq!(judge(&|block| block.body.push("more".to_owned())), Err(error));
        prop_assert_eq!(judge(&|block| block.body.clear()), Err(RuleError::BodyEmpty));
    }
}

/// Genesis has no parent that holds its fields in place: it is known by all of them, not by its hash.
#[test]
fn of_all_headers_with_the_hash_of_genesis_one_is_genesis() {
    let genesis = genesis::block();
    let twins = twins(&genesis.header().preimage(), genesis.body());
    assert!(twins.len() > 1, "digits of genesis can move: {}", twins.len());
    for twin in twins {
        let checked = check_alone(twin.clone(), UnixTime(u64::MAX)).expect("good alone");
        assert_eq!(checked.hash(), genesis.hash());
        assert_eq!(is_genesis(&checked).is_ok(), twin == *genesis.block(), "{twin:?}");
    }
}
