//! The acceptance rules from outside: each refusal with its exact error, how strictly JSON is read, and what holds for
//! any block that a stranger may send.
//!
//! Blocks are built here by hand, with hashes and roots of this file's own making, so that a fault in the code under test
//! cannot hide in the data.

use dolmen::ledger::block::{Block, CheckedBlock, Header, Height, Tip, UnixTime, Version};
use dolmen::ledger::{MerkleRoot, genesis, json, rules};
use sha2::{Digest, Sha256};

/// Each rule, its exact error, and who is to blame.
mod table;

/// How strictly JSON is read.
mod strict;

/// What holds for any block and any text.
mod prop;

/// One hash, one header; and mining and judging are one opinion.
mod mined;

const NOW: UnixTime = UnixTime(1_700_000_000);

fn texts(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|&entry| entry.to_owned()).collect()
}

fn upper_sha256(data: &[u8]) -> String {
    hex::encode_upper(Sha256::digest(data))
}

/// The design's Merkle root in its plainest form, for bodies without ambiguous entries.
fn root_text(body: &[String]) -> String {
    let mut row: Vec<String> = body.iter().map(|entry| upper_sha256(entry.as_bytes())).collect();
    while row.len() > 1 {
        row = row
            .chunks(2)
            .map(|pair| if pair.len() == 2 { upper_sha256(pair.concat().as_bytes()) } else { pair[0].clone() })
            .collect();
    }
    row.pop().unwrap_or_else(|| "0".repeat(64))
}

fn root_of(body: &[String]) -> MerkleRoot {
    MerkleRoot::from_hex(&root_text(body)).expect("upper-case hex of a digest")
}

fn block_on(parent: Tip, time: UnixTime, body: Vec<String>) -> Block {
    let header = Header {
        version: Version::mined(),
        index: Height(parent.height.0 + 1),
        previous_hash: parent.hash,
        time,
        merkle_root: root_of(&body),
    };
    Block { header, body }
}

fn child(body: &[&str]) -> Block {
    block_on(genesis::tip(), NOW, texts(body))
}

/// The text of the block that most cases below spoil.
fn good_text() -> String {
    json::to_string(&child(&["Hello"]))
}

/// A mutation that must hit, or the case tests nothing.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is in {text:?}");
    text.replacen(from, to, 1)
}

/// A block that obeys the rules by itself.
fn checked(block: Block) -> CheckedBlock {
    rules::check_alone(block, NOW).expect("a block that is good by itself")
}
