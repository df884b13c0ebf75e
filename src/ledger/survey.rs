//! Every rule that a block breaks, not only the first: for people who want to know what is wrong with a chain.
//!
//! Follows a chain block by block. A block that is refused is still the parent of the next, under the hash that its own
//! fields give, so that one broken block is not reported again for each that follows it.

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::block::{CheckedBlock, Height, Tip, UnixTime, preimage};
use super::hash::BlockHash;
use super::json::{self, Fields};
use super::rules::{self, RuleError};

/// What is known of the block that comes next.
#[derive(Clone, Copy, Debug)]
enum Parent {
    /// It is the first, and must be genesis.
    None,
    /// It must follow this block.
    Known(Tip),
    /// The one before it has no hash.
    Unreadable,
}

/// Follows a chain.
#[derive(Debug)]
pub struct Survey {
    parent: Parent,
    now: UnixTime,
}

impl Survey {
    /// Of a chain from genesis, or of what follows a block.
    #[must_use]
    pub fn new(after: Option<Tip>, now: UnixTime) -> Self {
        Self { parent: after.map_or(Parent::None, Parent::Known), now }
    }

    /// Judges the next block.
    ///
    /// # Errors
    /// Every rule that it breaks, in the order of [`rules`].
    pub fn next(&mut self, text: &str) -> Result<CheckedBlock, Vec<RuleError>> {
        let parent = self.parent;
        let Fields { block, forms, entries } = match json::parse_fields(text) {
            Ok(fields) => fields,
            Err(error) => {
                self.parent = claimed(text).map_or(Parent::Unreadable, Parent::Known);
                return Err(vec![error]);
            }
        };
        let known = forms.each_ref().map(Result::is_ok);
        let [_, index_is_known, previous_is_known, time_is_known, root_is_known] = known;
        let whole = entries == block.body.len();
        let mut broken: Vec<RuleError> = forms.into_iter().filter_map(Result::err).collect();
        broken.extend((!whole).then_some(RuleError::BodyEntries { got: entries }));
        // What stands in for a field of a wrong form, or for entries that were only counted, breaks no rule.
        broken.extend(rules::broken_alone(&block, self.now).into_iter().filter(|error| match error {
            RuleError::TimeAhead { .. } => time_is_known,
            RuleError::MerkleRootMismatch { .. } => root_is_known && whole,
            _ => true,
        }));
        let well_formed = known.iter().all(|known| *known);
        let tip = Tip { height: block.header.index, hash: block.header.hash() };
        let claim = if well_formed { Some(tip) } else { claimed(text) };
        self.parent = claim.map_or(Parent::Unreadable, Parent::Known);
        let block = CheckedBlock::trusted(block, tip.hash);
        match parent {
            Parent::None if well_formed => broken.extend(rules::is_genesis(&block).err()),
            Parent::Known(parent) => {
                broken.extend(rules::broken_with_parent(&block, parent).into_iter().filter(|error| match error {
                    RuleError::IndexNotNext { .. } => index_is_known,
                    RuleError::PreviousHashMismatch { .. } => previous_is_known,
                    _ => true,
                }));
            }
            Parent::None | Parent::Unreadable => {}
        }
        if broken.is_empty() { Ok(block) } else { Err(broken) }
    }
}

/// The end of the chain that a block claims to be, computed as the tutorial does whatever its fields hold.
fn claimed(text: &str) -> Option<Tip> {
    #[derive(Deserialize)]
    struct Claim {
        header: Header,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Header {
        version: Value,
        index: u64,
        previous_hash: Value,
        time: u64,
        merkle_root: Value,
    }
    let Claim { header } = serde_json::from_str(text).ok()?;
    let word = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
    let image = preimage(
        &word(&header.version),
        header.index,
        &word(&header.previous_hash),
        header.time,
        &word(&header.merkle_root),
    );
    Some(Tip { height: Height(header.index), hash: BlockHash(Sha256::digest(image).into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Block, genesis, merkle};

    const NOW: UnixTime = UnixTime(2_000_000_000);

    fn names(result: Result<CheckedBlock, Vec<RuleError>>) -> Vec<&'static str> {
        result.err().unwrap_or_default().iter().map(RuleError::name).collect()
    }

    fn child(parent: &Block, entry: &str) -> Block {
        let mut block = parent.clone();
        block.header.index = parent.header.index.next();
        block.header.previous_hash = parent.header.hash();
        block.body = vec![entry.to_owned()];
        block.header.merkle_root = merkle::root(&block.body).expect("an entry");
        block
    }

    #[test]
    fn every_broken_rule_is_named_and_the_chain_goes_on() {
        let genesis = genesis::block().block().clone();
        let good = child(&genesis, "good");
        let mut bad = child(&good, &"A".repeat(64));
        bad.body.push("x".repeat(70_000));
        bad.header.time = UnixTime(3_000_000_000);
        let after = child(&bad, "after");
        let mut lost = child(&after, "lost");
        lost.header.index = Height(9);
        lost.header.previous_hash = BlockHash::ZERO;
        let mut survey = Survey::new(None, NOW);
        for (block, wanted) in [
            (&genesis, &[][..]),
            (&good, &[]),
            (&bad, &["entry-bytes", "entry-ambiguous", "time-ahead", "merkle-root-mismatch"]),
            (&after, &["time-ahead"]),
            (&lost, &["time-ahead", "index-not-next", "previous-hash-mismatch"]),
        ] {
            assert_eq!(names(survey.next(&json::to_string(block))), wanted, "block {}", block.header.index);
        }
    }

    #[test]
    fn fields_of_wrong_forms_are_all_named() {
        let text = json::to_string(genesis::block().block());
        let text = text.replace("1.0.0", "one").replace("0000", "000g").replace("725C", "725c");
        let broken = names(Survey::new(None, NOW).next(&text));
        assert_eq!(broken, ["version-form", "previous-hash-form", "merkle-root-form"]);
    }

    #[test]
    fn a_wrong_form_hides_no_other_broken_rule() {
        let genesis = genesis::block().block().clone();
        let bad = Block { body: vec!["other".to_owned(), "x".repeat(70_000)], ..child(&genesis, "good") };
        let text = json::to_string(&bad);
        let follows = |text: &str| names(Survey::new(Some(tip(&genesis)), NOW).next(text));
        assert_eq!(follows(&text), ["entry-bytes", "merkle-root-mismatch"]);
        let version = text.replace("1.0.0", "one");
        assert_eq!(follows(&version), ["version-form", "entry-bytes", "merkle-root-mismatch"]);
        let root = version.replace(&bad.header.merkle_root.to_string(), "root");
        assert_eq!(
            follows(&root),
            ["version-form", "merkle-root-form", "entry-bytes"],
            "nobody knows what root it has"
        );
        let lost = json::to_string(&child(&genesis, "lost")).replace(r#""index":1"#, r#""index":9007199254740993"#);
        assert_eq!(follows(&lost), ["index-range"], "it is not also the wrong index");
        let many = Block { body: vec![String::new(); 10_001], ..genesis.clone() };
        let many = json::to_string(&many).replace("1.0.0", "one");
        assert_eq!(
            follows(&many),
            ["version-form", "body-entries", "index-not-next", "previous-hash-mismatch"],
            "of its root nothing is known"
        );
    }

    fn tip(block: &Block) -> Tip {
        Tip { height: block.header.index, hash: block.header.hash() }
    }

    #[test]
    fn what_is_no_block_of_ours_is_still_the_parent_of_the_next() {
        let genesis = genesis::block().block().clone();
        let middle = child(&genesis, "x");
        let after = child(&middle, "after");
        let strange = json::to_string(&middle).replace("\"x\"", "{\"a\":1}");
        let mut survey = Survey::new(None, NOW);
        assert_eq!(names(survey.next(&json::to_string(&genesis))), [""; 0]);
        assert_eq!(names(survey.next(&strange)), ["not-a-block"]);
        assert_eq!(names(survey.next(&json::to_string(&after))), [""; 0]);
        assert_eq!(names(survey.next("{}")), ["not-a-block"]);
        assert_eq!(names(survey.next(&json::to_string(&after))), [""; 0], "nothing is known of what it follows");
    }
}
