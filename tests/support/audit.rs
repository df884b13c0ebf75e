//! A chain as a node writes it, verified from genesis on by the stand-in's own hashes and Merkle roots.

use std::collections::HashMap;

use super::js::Js;
use super::tutorial;

/// A chain in which everything fits, and how often it holds each entry.
pub struct Audit {
    counts: HashMap<String, u64>,
    /// Number of blocks so far.
    blocks: usize,
    /// Hash of the last one.
    last: String,
}

impl Audit {
    /// Verifies the text of a whole chain: indexes without a gap, hashes, roots, entries that are texts. Panics with the
    /// block that does not fit.
    pub fn of(text: &str) -> Self {
        let mut audit = Self { counts: HashMap::new(), blocks: 0, last: "0".repeat(64) };
        audit.extend(text);
        assert!(audit.blocks > 0, "a chain has its genesis");
        audit
    }

    /// Verifies the text of what follows.
    pub fn extend(&mut self, text: &str) {
        let chain = Js::parse(text).expect("a chain is JSON");
        for block in chain.elements().expect("a chain is an array") {
            let place = self.blocks;
            let header = block.get("header").unwrap_or_else(|| panic!("block {place} has a header"));
            let field = |name| header.get(name).unwrap_or_else(|| panic!("block {place} has {name}"));
            assert_eq!(field("index").integer(), Some(place as u64), "the index of block {place}");
            assert_eq!(field("previousHash").text(), Some(self.last.as_str()), "the parent of block {place}");
            let body = block.get("body").and_then(Js::elements).unwrap_or_else(|| panic!("block {place} has a body"));
            assert!(!body.is_empty(), "block {place} has an entry");
            let root = tutorial::merkle_root(body);
            assert_eq!(field("merkleRoot").text(), Some(root.as_str()), "the root of block {place}");
            for entry in body {
                let entry = entry.text().unwrap_or_else(|| panic!("an entry of block {place} is a text"));
                *self.counts.entry(entry.to_owned()).or_default() += 1;
            }
            self.last = tutorial::hash(block);
            self.blocks += 1;
        }
    }

    /// Number of blocks so far, which is the index of the next one.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Index and hash of the last block.
    pub fn tip(&self) -> (u64, String) {
        (self.blocks as u64 - 1, self.last.clone())
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
