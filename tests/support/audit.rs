//! A chain as a node writes it, verified from genesis on by the stand-in's own hashes and Merkle roots.

use std::collections::HashMap;

use super::js::Js;
use super::tutorial;

/// A chain in which everything fits, and how often it holds each entry.
pub struct Audit {
    counts: HashMap<String, u64>,
    tip: (u64, String),
}

impl Audit {
    /// Verifies the text of a whole chain: indexes without a gap, hashes, roots, entries that are texts. Panics with the
    /// block that does not fit.
    pub fn of(text: &str) -> Self {
        let chain = Js::parse(text).expect("a chain is JSON");
        let blocks = chain.elements().expect("a chain is an array");
        let mut counts = HashMap::new();
        let mut previous = "0".repeat(64);
        for (place, block) in blocks.iter().enumerate() {
            let header = block.get("header").unwrap_or_else(|| panic!("block {place} has a header"));
            let field = |name| header.get(name).unwrap_or_else(|| panic!("block {place} has {name}"));
            assert_eq!(field("index").integer(), Some(place as u64), "the index of block {place}");
            assert_eq!(field("previousHash").text(), Some(previous.as_str()), "the parent of block {place}");
            let body = block.get("body").and_then(Js::elements).unwrap_or_else(|| panic!("block {place} has a body"));
            assert!(!body.is_empty(), "block {place} has an entry");
            let root = tutorial::merkle_root(body);
            assert_eq!(field("merkleRoot").text(), Some(root.as_str()), "the root of block {place}");
            for entry in body {
                let entry = entry.text().unwrap_or_else(|| panic!("an entry of block {place} is a text"));
                *counts.entry(entry.to_owned()).or_default() += 1;
            }
            previous = tutorial::hash(block);
        }
        let height = blocks.len().checked_sub(1).expect("a chain has its genesis");
        Self { counts, tip: (height as u64, previous) }
    }

    /// Index and hash of the last block.
    pub fn tip(&self) -> (u64, String) {
        self.tip.clone()
    }

    /// How often an entry stands in the chain.
    pub fn count(&self, entry: &str) -> u64 {
        self.counts.get(entry).copied().unwrap_or_default()
    }

    /// Panics unless each of these entries stands in the chain once, with those that do not.
    pub fn assert_once<'a>(&self, entries: impl IntoIterator<Item = &'a String>) {
        let (mut lost, mut twice, mut all) = (Vec::new(), Vec::new(), 0);
        for entry in entries {
            all += 1;
            match self.count(entry) {
                0 => lost.push(entry),
                1 => {}
                _ => twice.push(entry),
            }
        }
        let some = |list: &[&String]| list.iter().take(5).map(|entry| (*entry).clone()).collect::<Vec<_>>();
        assert!(
            lost.is_empty() && twice.is_empty(),
            "of {all} acknowledged entries {} are lost ({:?} …) and {} are there twice ({:?} …)",
            lost.len(),
            some(&lost),
            twice.len(),
            some(&twice)
        );
    }
}
