//! Golden vectors: figures that the tutorial's own JavaScript libraries computed, against ours.
//!
//! `vectors/tutorial-chain.json` is the only input; nothing here is computed by the code under test and then believed.

use dolmen::ledger::block::{self, Block, CheckedBlock, Tip, UnixTime};
use dolmen::ledger::rules::{self, RuleError};
use dolmen::ledger::{genesis, json, merkle};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Later than every block of the vectors.
const NOW: UnixTime = UnixTime(1_700_000_000);

#[derive(Deserialize)]
struct Vectors {
    merkle: Vec<MerkleVector>,
    chain: Vec<ChainVector>,
    headers: Vec<HeaderVector>,
}

#[derive(Deserialize)]
struct MerkleVector {
    body: Vec<String>,
    root: String,
}

#[derive(Deserialize)]
struct ChainVector {
    json: String,
    hash: String,
}

/// A header whose fields need not have the right form: the formula alone is asked.
#[derive(Deserialize)]
struct HeaderVector {
    header: LooseHeader,
    hash: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LooseHeader {
    version: String,
    index: u64,
    previous_hash: String,
    time: u64,
    merkle_root: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors/tutorial-chain.json")).expect("the vectors are JSON of a known shape")
}

fn sha256_hex(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

#[test]
fn merkle_roots_are_the_original_librarys() {
    let vectors = vectors().merkle;
    assert!(vectors.len() >= 20, "the vectors are all there");
    for MerkleVector { body, root } in vectors {
        let got = merkle::root(&body).expect("no vector has an empty body");
        assert_eq!(got.to_string(), root, "body of {}: {:?}", body.len(), body.first());
    }
    assert_eq!(merkle::root(&[]), None, "an empty body has no tree");
}

#[test]
fn header_hashes_are_the_tutorials() {
    for HeaderVector { header, hash } in vectors().headers {
        let LooseHeader { version, index, previous_hash, time, merkle_root } = header;
        let preimage = block::preimage(&version, index, &previous_hash, time, &merkle_root);
        assert_eq!(sha256_hex(&preimage), hash, "{preimage}");
    }
}

#[test]
fn blocks_are_read_written_and_hashed_as_in_the_tutorial() {
    for ChainVector { json: text, hash } in vectors().chain {
        let block = json::parse_block(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(json::to_string(&block), text, "written as it was read");
        assert_eq!(serde_json::to_string(&block).expect("a block has a text"), text, "serde writes the same");
        assert_eq!(block.header.hash().to_string(), hash, "{text}");
        assert_eq!(sha256_hex(&block.header.preimage()), hash, "the pre-image that people are shown: {text}");

        let loose: serde_json::Value = serde_json::from_str(&text).expect("a vector is JSON");
        let header = &loose["header"];
        assert_eq!(block.header.version.as_str(), header["version"]);
        assert_eq!(block.header.index.0, header["index"]);
        assert_eq!(block.header.previous_hash.to_string(), header["previousHash"].as_str().expect("text"));
        assert_eq!(block.header.time.0, header["time"]);
        assert_eq!(block.header.merkle_root.to_string(), header["merkleRoot"].as_str().expect("text"));
        assert_eq!(block.body, serde_json::from_value::<Vec<String>>(loose["body"].clone()).expect("texts"));
    }
}

#[test]
fn a_whole_chain_is_read_and_written_as_one_array() {
    let texts: Vec<String> = vectors().chain.into_iter().map(|vector| vector.json).collect();
    let array = format!("[{}]", texts.join(","));
    let blocks = json::parse_blocks(&array).expect("an array of good blocks");
    assert_eq!(blocks.len(), texts.len());
    assert_eq!(json::array_to_string(&blocks), array);
    assert_eq!(json::array_to_string([]), "[]");
    assert_eq!(json::parse_blocks(" [ ] ").expect("an empty array"), []);
}

#[test]
fn genesis_is_the_tutorials_as_text() {
    let first = &vectors().chain[0];
    let genesis = genesis::block();
    assert_eq!(json::to_string(genesis.block()), first.json);
    assert_eq!(genesis.hash().to_string(), first.hash);
    assert_eq!(genesis.hash().to_string(), "f087ad9b4600afd1c6451654a7df0f0f20795c95825c097a25469b7cf5287feb");
    assert_eq!(genesis::tip(), genesis.tip());
    assert_eq!(rules::is_genesis(&genesis), Ok(()));
    let judged = rules::check_alone(genesis.block().clone(), genesis::TIME).expect("genesis obeys the rules");
    assert_eq!(judged, *genesis);
}

/// The blocks of the vectors, all valid to the tutorial; dolmen takes them in order up to the first ambiguous one.
#[test]
fn the_vectors_chain_is_valid_up_to_its_ambiguous_block() {
    let mut tip: Option<Tip> = None;
    let mut refused = Vec::new();
    for ChainVector { json: text, hash } in vectors().chain {
        let block = json::parse_block(&text).expect("well formed");
        let index = block.header.index;
        match rules::check_alone(block, NOW) {
            Ok(block) => {
                assert_eq!(block.hash().to_string(), hash);
                match tip {
                    None => rules::is_genesis(&block).expect("the first is genesis"),
                    Some(parent) => rules::check_with_parent(&block, parent).expect("each follows the one before"),
                }
                tip = Some(block.tip());
            }
            Err(error) => refused.push((index.0, error)),
        }
    }
    assert_eq!(refused, [(6, RuleError::EntryAmbiguous { position: 0 })]);
    assert_eq!(tip.map(|tip| tip.height.0), Some(5));
}

/// The original library gives these bodies the root of another body, so a root alone would not say which is meant.
#[test]
fn bodies_that_share_a_root_with_another_are_refused() {
    let digest = "A6D72BAA3DB900B03E70DF880E503E9164013B4D9A470853EDC115776323A098";
    let mut ambiguous = Vec::new();
    for MerkleVector { body, .. } in vectors().merkle {
        match rules::check_body(&body) {
            Ok(()) => {}
            Err(RuleError::EntryAmbiguous { position }) => ambiguous.push((position, body)),
            // One vector is longer than what dolmen takes.
            Err(error) => assert_eq!(error, RuleError::EntryBytes { position: 0, got: 100_000 }),
        }
    }
    assert_eq!(ambiguous, [(0, vec![digest.to_owned()]), (0, vec![digest.to_owned(), "x".to_owned()])]);
}

#[test]
fn a_checked_block_writes_the_same_text() {
    for ChainVector { json: text, .. } in vectors().chain.into_iter().take(6) {
        let block: Block = json::parse_block(&text).expect("well formed");
        let checked: CheckedBlock = rules::check_alone(block, NOW).expect("valid");
        assert_eq!(serde_json::to_string(&checked).expect("a block has a text"), text);
    }
}
