//! The acceptance rules: one function each, named for what holds when it returns `Ok`, and one variant of [`RuleError`].
//!
//! Sorted by the context they need: the [shape](Block::from_parts) of the fields, the block alone, the block with its
//! parent. The variants are the list of rules. Clock and parent are arguments.

use thiserror::Error;

use super::block::{Block, CheckedBlock, Header, Height, Tip, UnixTime, Version, is_safe_integer};
use super::genesis;
use super::hash::{BlockHash, MerkleRoot};
use super::limits::{
    MAX_BODY_BYTES, MAX_BODY_ENTRIES, MAX_ENTRY_BYTES, MAX_SAFE_INTEGER, MAX_SECONDS_AHEAD, MAX_VERSION_CHARS,
};
use super::merkle;

/// A rule that a block broke, with what was found and what was wanted.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RuleError {
    /// The text is not JSON of a block: a type or a field is wrong, or a number is one that programs read differently.
    #[error("not a block: {reason}")]
    NotABlock {
        /// What the JSON parser found, and where.
        reason: String,
    },
    /// The version is not `digits.digits.digits`.
    #[error("version {got:?} is not of the form digits.digits.digits with at most {MAX_VERSION_CHARS} characters")]
    VersionForm {
        /// The version's text, cut to 64 characters.
        got: String,
    },
    /// The index is beyond what JavaScript counts exactly.
    #[error("index {got} is above {MAX_SAFE_INTEGER}")]
    IndexRange {
        /// The block's index.
        got: u64,
    },
    /// The parent's hash is not 64 lower-case hex characters.
    #[error("previousHash {got:?} is not 64 lower-case hex characters")]
    PreviousHashForm {
        /// The field's text, cut to 64 characters.
        got: String,
    },
    /// The time is beyond what JavaScript counts exactly.
    #[error("time {got} is above {MAX_SAFE_INTEGER}")]
    TimeRange {
        /// The block's time.
        got: u64,
    },
    /// The root is not 64 upper-case hex characters.
    #[error("merkleRoot {got:?} is not 64 upper-case hex characters")]
    MerkleRootForm {
        /// The field's text, cut to 64 characters.
        got: String,
    },
    /// There is nothing in the body.
    #[error("the body has no entry; at least one is wanted")]
    BodyEmpty,
    /// There are too many entries.
    #[error("the body has {got} entries; at most {MAX_BODY_ENTRIES} are allowed")]
    BodyEntries {
        /// Entries in the body.
        got: usize,
    },
    /// One entry is too long.
    #[error("entry {position} has {got} bytes; at most {MAX_ENTRY_BYTES} are allowed")]
    EntryBytes {
        /// The entry's place in the body, from 0.
        position: usize,
        /// Its bytes in UTF-8.
        got: usize,
    },
    /// All entries together are too long.
    #[error("the body has {got} bytes; at most {MAX_BODY_BYTES} are allowed")]
    BodyBytes {
        /// Bytes of all entries in UTF-8.
        got: usize,
    },
    /// An entry could stand for a node of the Merkle tree.
    #[error(
        "entry {position} is 64 or 128 characters of upper-case hex, which another body with the same Merkle root could \
         hide behind; write it in lower case or with a prefix"
    )]
    EntryAmbiguous {
        /// The entry's place in the body, from 0.
        position: usize,
    },
    /// The root does not belong to the body.
    #[error("merkleRoot is {got}, but the body's root is {wanted}")]
    MerkleRootMismatch {
        /// What the header says.
        got: MerkleRoot,
        /// What the body gives.
        wanted: MerkleRoot,
    },
    /// The block says that it was mined in the future.
    #[error("time {got} is more than {MAX_SECONDS_AHEAD} s ahead of this node's clock, {now}")]
    TimeAhead {
        /// What the header says.
        got: UnixTime,
        /// Our clock.
        now: UnixTime,
    },
    /// The height does not follow from the parent's.
    #[error("index is {got}, but the block after its parent has {wanted}")]
    IndexNotNext {
        /// What the header says.
        got: Height,
        /// The parent's height and one.
        wanted: Height,
    },
    /// The block does not follow the parent.
    #[error("previousHash is {got}, but the parent's hash is {wanted}")]
    PreviousHashMismatch {
        /// What the header says.
        got: BlockHash,
        /// The parent's hash.
        wanted: BlockHash,
    },
    /// A chain begins with another block than the network's genesis.
    #[error("the chain begins with block {got}, but genesis is {wanted}: this is another network")]
    GenesisMismatch {
        /// Hash of the first block.
        got: BlockHash,
        /// Hash of genesis.
        wanted: BlockHash,
    },
    /// A message that must hold blocks holds none.
    #[error("the list of blocks is empty")]
    NoBlocks,
}

impl RuleError {
    /// Whether only a broken or hostile sender can have sent such a block. A tutorial node takes whatever its user posts, so
    /// what its users can cause is refused without blame.
    #[must_use]
    pub fn sender_at_fault(&self) -> bool {
        match self {
            // The tutorial mines any JSON that its user posts: objects, huge texts, digests as entries, empty bodies.
            Self::NotABlock { .. }
            | Self::BodyEmpty
            | Self::BodyEntries { .. }
            | Self::EntryBytes { .. }
            | Self::BodyBytes { .. }
            | Self::EntryAmbiguous { .. } => false,
            // One of two clocks is wrong, and it may be ours.
            Self::TimeAhead { .. } => false,
            Self::VersionForm { .. }
            | Self::IndexRange { .. }
            | Self::PreviousHashForm { .. }
            | Self::TimeRange { .. }
            | Self::MerkleRootForm { .. }
            | Self::MerkleRootMismatch { .. }
            | Self::IndexNotNext { .. }
            | Self::PreviousHashMismatch { .. }
            | Self::GenesisMismatch { .. }
            | Self::NoBlocks => true,
        }
    }

    /// What was found and what was wanted, for whoever explains the rule; `None` where the sentence alone says it.
    #[must_use]
    pub fn got_and_wanted(&self) -> Option<(String, String)> {
        let pair = |got: &dyn ToString, wanted: &dyn ToString| Some((got.to_string(), wanted.to_string()));
        let at_most = |got: &dyn ToString, limit: u64| pair(got, &format!("at most {limit}"));
        match self {
            Self::NotABlock { .. } | Self::EntryAmbiguous { .. } => None,
            Self::VersionForm { got } => pair(got, &"digits.digits.digits"),
            Self::IndexRange { got } | Self::TimeRange { got } => at_most(got, MAX_SAFE_INTEGER),
            Self::PreviousHashForm { got } => pair(got, &"64 lower-case hex characters"),
            Self::MerkleRootForm { got } => pair(got, &"64 upper-case hex characters"),
            Self::BodyEmpty => pair(&0, &"at least 1"),
            Self::BodyEntries { got } => at_most(got, MAX_BODY_ENTRIES as u64),
            Self::EntryBytes { got, .. } => at_most(got, MAX_ENTRY_BYTES as u64),
            Self::BodyBytes { got } => at_most(got, MAX_BODY_BYTES as u64),
            Self::MerkleRootMismatch { got, wanted } => pair(got, wanted),
            Self::TimeAhead { got, now } => at_most(&got.0, now.0.saturating_add(MAX_SECONDS_AHEAD)),
            Self::IndexNotNext { got, wanted } => pair(got, wanted),
            Self::PreviousHashMismatch { got, wanted } | Self::GenesisMismatch { got, wanted } => pair(got, wanted),
            Self::NoBlocks => pair(&0, &"at least 1"),
        }
    }

    /// A short fixed name of the rule, for metrics and for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotABlock { .. } => "not-a-block",
            Self::VersionForm { .. } => "version-form",
            Self::IndexRange { .. } => "index-range",
            Self::PreviousHashForm { .. } => "previous-hash-form",
            Self::TimeRange { .. } => "time-range",
            Self::MerkleRootForm { .. } => "merkle-root-form",
            Self::BodyEmpty => "body-empty",
            Self::BodyEntries { .. } => "body-entries",
            Self::EntryBytes { .. } => "entry-bytes",
            Self::BodyBytes { .. } => "body-bytes",
            Self::EntryAmbiguous { .. } => "entry-ambiguous",
            Self::MerkleRootMismatch { .. } => "merkle-root-mismatch",
            Self::TimeAhead { .. } => "time-ahead",
            Self::IndexNotNext { .. } => "index-not-next",
            Self::PreviousHashMismatch { .. } => "previous-hash-mismatch",
            Self::GenesisMismatch { .. } => "genesis-mismatch",
            Self::NoBlocks => "no-blocks",
        }
    }
}

// ---- Shape: each field as text or number becomes its type.

impl Block {
    /// A block from its fields as they stand in JSON.
    ///
    /// # Errors
    /// The first field that has a wrong form.
    pub fn from_parts(
        version: &str,
        index: u64,
        previous_hash: &str,
        time: u64,
        merkle_root: &str,
        body: Vec<String>,
    ) -> Result<Self, RuleError> {
        let header = Header {
            version: version_is_three_numbers(version)?,
            index: index_is_exact(index)?,
            previous_hash: previous_hash_is_lower_hex(previous_hash)?,
            time: time_is_exact(time)?,
            merkle_root: merkle_root_is_upper_hex(merkle_root)?,
        };
        Ok(Self { header, body })
    }
}

/// The form of each text and number of a header by itself, for whoever wants to know all that are wrong.
pub(super) fn forms(
    version: &str,
    index: u64,
    previous_hash: &str,
    time: u64,
    merkle_root: &str,
) -> [Result<(), RuleError>; 5] {
    [
        version_is_three_numbers(version).map(drop),
        index_is_exact(index).map(drop),
        previous_hash_is_lower_hex(previous_hash).map(drop),
        time_is_exact(time).map(drop),
        merkle_root_is_upper_hex(merkle_root).map(drop),
    ]
}

fn version_is_three_numbers(version: &str) -> Result<Version, RuleError> {
    Version::parse(version).ok_or_else(|| RuleError::VersionForm { got: cut(version) })
}

fn index_is_exact(index: u64) -> Result<Height, RuleError> {
    if is_safe_integer(index) { Ok(Height(index)) } else { Err(RuleError::IndexRange { got: index }) }
}

fn previous_hash_is_lower_hex(text: &str) -> Result<BlockHash, RuleError> {
    BlockHash::from_hex(text).ok_or_else(|| RuleError::PreviousHashForm { got: cut(text) })
}

fn time_is_exact(time: u64) -> Result<UnixTime, RuleError> {
    if is_safe_integer(time) { Ok(UnixTime(time)) } else { Err(RuleError::TimeRange { got: time }) }
}

fn merkle_root_is_upper_hex(text: &str) -> Result<MerkleRoot, RuleError> {
    MerkleRoot::from_hex(text).ok_or_else(|| RuleError::MerkleRootForm { got: cut(text) })
}

/// Enough of a stranger's text to recognise it, and no more.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

// ---- The block alone.

/// Judges everything about a block that needs neither parent nor chain, cheapest first, and computes its hash.
///
/// # Errors
/// The first rule that the block breaks.
pub fn check_alone(block: Block, now: UnixTime) -> Result<CheckedBlock, RuleError> {
    check_body(&block.body)?;
    time_is_not_ahead(block.header.time, now)?;
    merkle_root_matches(&block)?;
    let hash = block.header.hash();
    Ok(CheckedBlock::trusted(block, hash))
}

/// Every rule of [`check_alone`] that a block breaks.
pub(super) fn broken_alone(block: &Block, now: UnixTime) -> Vec<RuleError> {
    let body = &block.body;
    let judged = [
        body_is_not_empty(body),
        body_has_few_entries(body),
        entries_are_short(body),
        body_is_short(body),
        entries_are_unambiguous(body),
        time_is_not_ahead(block.header.time, now),
        // An empty body has no root.
        if body.is_empty() { Ok(()) } else { merkle_root_matches(block) },
    ];
    judged.into_iter().filter_map(Result::err).collect()
}

/// Every rule of [`check_with_parent`] that a block breaks.
pub(super) fn broken_with_parent(block: &CheckedBlock, parent: Tip) -> Vec<RuleError> {
    [index_is_next(block, parent), previous_hash_is_parents(block, parent)]
        .into_iter()
        .filter_map(Result::err)
        .collect()
}

/// As [`check_alone`], for a block whose body was judged and whose root was just computed from it.
///
/// # Errors
/// The first rule that the header breaks.
pub(crate) fn check_derived(block: Block, now: UnixTime) -> Result<CheckedBlock, RuleError> {
    time_is_not_ahead(block.header.time, now)?;
    let hash = block.header.hash();
    Ok(CheckedBlock::trusted(block, hash))
}

/// Judges the numbers of a header that did not come as JSON.
///
/// # Errors
/// The number that JavaScript could not count.
pub fn check_numbers(index: u64, time: u64) -> Result<(), RuleError> {
    index_is_exact(index)?;
    time_is_exact(time)?;
    Ok(())
}

/// Judges a body before it has a header: what mining asks first.
///
/// # Errors
/// The first rule that the body breaks.
pub fn check_body(body: &[String]) -> Result<(), RuleError> {
    body_is_not_empty(body)?;
    body_has_few_entries(body)?;
    entries_are_short(body)?;
    body_is_short(body)?;
    entries_are_unambiguous(body)
}

fn body_is_not_empty(body: &[String]) -> Result<(), RuleError> {
    if body.is_empty() { Err(RuleError::BodyEmpty) } else { Ok(()) }
}

fn body_has_few_entries(body: &[String]) -> Result<(), RuleError> {
    if body.len() > MAX_BODY_ENTRIES { Err(RuleError::BodyEntries { got: body.len() }) } else { Ok(()) }
}

fn entries_are_short(body: &[String]) -> Result<(), RuleError> {
    match body.iter().position(|entry| entry.len() > MAX_ENTRY_BYTES) {
        Some(position) => Err(RuleError::EntryBytes { position, got: body[position].len() }),
        None => Ok(()),
    }
}

fn body_is_short(body: &[String]) -> Result<(), RuleError> {
    let got = body.iter().map(String::len).sum();
    if got > MAX_BODY_BYTES { Err(RuleError::BodyBytes { got }) } else { Ok(()) }
}

fn entries_are_unambiguous(body: &[String]) -> Result<(), RuleError> {
    match body.iter().position(|entry| merkle::is_ambiguous(entry)) {
        Some(position) => Err(RuleError::EntryAmbiguous { position }),
        None => Ok(()),
    }
}

fn time_is_not_ahead(time: UnixTime, now: UnixTime) -> Result<(), RuleError> {
    if time.0 > now.0.saturating_add(MAX_SECONDS_AHEAD) { Err(RuleError::TimeAhead { got: time, now }) } else { Ok(()) }
}

fn merkle_root_matches(block: &Block) -> Result<(), RuleError> {
    let wanted = merkle::root(&block.body).ok_or(RuleError::BodyEmpty)?;
    let got = block.header.merkle_root;
    if got == wanted { Ok(()) } else { Err(RuleError::MerkleRootMismatch { got, wanted }) }
}

// ---- The block with its parent.

/// Judges whether a block follows its parent.
///
/// # Errors
/// The first rule that the pair breaks.
pub fn check_with_parent(block: &CheckedBlock, parent: Tip) -> Result<(), RuleError> {
    index_is_next(block, parent)?;
    previous_hash_is_parents(block, parent)
}

fn index_is_next(block: &CheckedBlock, parent: Tip) -> Result<(), RuleError> {
    let (got, wanted) = (block.height(), parent.height.next());
    if got == wanted { Ok(()) } else { Err(RuleError::IndexNotNext { got, wanted }) }
}

fn previous_hash_is_parents(block: &CheckedBlock, parent: Tip) -> Result<(), RuleError> {
    let (got, wanted) = (block.parent(), parent.hash);
    if got == wanted { Ok(()) } else { Err(RuleError::PreviousHashMismatch { got, wanted }) }
}

/// Judges whether a block is the network's genesis.
///
/// # Errors
/// [`RuleError::GenesisMismatch`] if it is another.
pub fn is_genesis(block: &CheckedBlock) -> Result<(), RuleError> {
    let genesis = genesis::block();
    // The hash alone does not name genesis: no parent holds its fields in place, so a digit of the header can move from
    // one field to the next under the same hash.
    if *block == *genesis {
        Ok(())
    } else {
        Err(RuleError::GenesisMismatch { got: block.hash(), wanted: genesis.hash() })
    }
}

/// Judges a run of blocks: the first follows `parent`, each other follows the one before it.
///
/// # Errors
/// The first rule that a pair breaks, or [`RuleError::NoBlocks`].
pub fn check_run<'a>(blocks: impl IntoIterator<Item = &'a CheckedBlock>, parent: Tip) -> Result<Tip, RuleError> {
    let mut last = None;
    for block in blocks {
        check_with_parent(block, last.unwrap_or(parent))?;
        last = Some(block.tip());
    }
    last.ok_or(RuleError::NoBlocks)
}
