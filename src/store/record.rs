//! What a record says: blocks, changes of tip, the outbox.
//!
//! Owns the records' payloads and nothing else; where they stand and how they are checked is in [`segment`](super::segment).
//!
//! | kind | name | payload |
//! | --- | --- | --- |
//! | 1 | block | *block* |
//! | 2 | own block | count, then so many *placed*, then *block* |
//! | 3 | change | nothing: the blocks of the group follow the parent of the first. Or: fork height, fork hash, count, so many hashes of revived blocks; the blocks of the group follow these |
//! | 4 | adopt | fork height, fork hash, tip height, tip hash, count, so many of {segment, number of its blocks} |
//! | 5 | forget | count, so many hashes |
//! | 6 | outbox | count, so many *submissions* that wait from now on; count, so many that wait no more |
//! | 7 | park | count, so many hashes |
//! | 8 | closed | nothing: the store was closed in good order |
//! | 9 | restored | *block*, one of the best chain whose first record was broken |
//! | 10 | restored own block | count, so many places of the records that it replaces {segment, offset}; then as *own block* |
//!
//! *block*:
//!
//! | field | form |
//! | --- | --- |
//! | flags | 1 byte; 1 says that a version follows, else it is `1.0.0` |
//! | version | length, text |
//! | index, time | varint, varint |
//! | previous hash, merkle root | 32 bytes, 32 bytes |
//! | body | count, so many of {length, UTF-8} |
//!
//! *placed*: flags (1 byte; 1: the submission is named for this place in this block; 2: a key follows), *submission* if
//! flag 1 is not set, position, entries, key (32 bytes). *submission*: block hash, position. Numbers, counts and lengths
//! are varints. A block's own hash is not written: it follows from the header.

use super::codec::{Input, put_len, put_varint};
use super::segment::RECORD_HEADER;
use crate::ledger::block::{Block, BlockView, CheckedBlock, Header, Height, Tip, UnixTime, Version};
use crate::ledger::hash::{BlockHash, DIGEST_BYTES, MerkleRoot};
use crate::ledger::limits::{MAX_SAFE_INTEGER, MAX_VERSION_CHARS};
use crate::ledger::storage::{Placed, SubmissionId};

const HAS_VERSION: u8 = 1;
const NAMED_HERE: u8 = 1;
const HAS_KEY: u8 = 2;

/// The fewest bytes that a *placed* takes.
const PLACED_MIN: usize = 3;

/// The fewest bytes that a *submission* takes.
const SUBMISSION_MIN: usize = DIGEST_BYTES + 1;

/// The fewest bytes of payload that a *block* takes.
const BLOCK_MIN: usize = 1 + 1 + 1 + DIGEST_BYTES + DIGEST_BYTES + 1;

/// The fewest bytes that a block takes in the log.
pub(super) const BLOCK_RECORD_MIN: u64 = (RECORD_HEADER + BLOCK_MIN) as u64;

/// What a record is about. The numbers are on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Block = 1,
    OwnBlock = 2,
    Change = 3,
    Adopt = 4,
    Forget = 5,
    Outbox = 6,
    Park = 7,
    Closed = 8,
    Restored = 9,
    RestoredOwn = 10,
}

impl Kind {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Block,
            2 => Self::OwnBlock,
            3 => Self::Change,
            4 => Self::Adopt,
            5 => Self::Forget,
            6 => Self::Outbox,
            7 => Self::Park,
            8 => Self::Closed,
            9 => Self::Restored,
            10 => Self::RestoredOwn,
            _ => return None,
        })
    }

    /// Whether such a record holds a block with what this node placed in it.
    pub(super) fn is_own(self) -> bool {
        matches!(self, Self::OwnBlock | Self::RestoredOwn)
    }
}

/// A block that this node mined, as a record of either kind holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OwnBlock {
    pub(super) block: Block,
    pub(super) hash: BlockHash,
    pub(super) placed: Vec<Placed>,
    /// Where the broken records are in whose place this one was written.
    pub(super) replaces: Vec<(u32, u32)>,
}

/// What is remembered of a block without its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outline {
    pub(super) hash: BlockHash,
    pub(super) parent: BlockHash,
    pub(super) height: Height,
    /// Bytes of its entries.
    pub(super) bytes: u64,
}

impl Outline {
    pub(super) fn of(block: &CheckedBlock) -> Self {
        Self {
            hash: block.hash(),
            parent: block.parent(),
            height: block.height(),
            bytes: block.block().body_bytes() as u64,
        }
    }

    pub(super) fn tip(&self) -> Tip {
        Tip { height: self.height, hash: self.hash }
    }
}

/// How the best chain changes by the blocks of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// They follow the parent of the first.
    Follow,
    /// They follow the revived blocks, which follow the fork.
    Turn { fork: Tip, revived: Vec<BlockHash> },
}

/// A staged branch that became the best chain above its fork.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Adopt {
    pub(super) fork: Tip,
    pub(super) tip: Tip,
    /// Where its blocks are: segment and number of blocks in it.
    pub(super) runs: Vec<(u32, u64)>,
}

/// The outbox's part of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Outbox {
    pub(super) pending: Vec<SubmissionId>,
    pub(super) satisfied: Vec<SubmissionId>,
}

// ---- Writing.

pub(super) fn put_block(out: &mut Vec<u8>, block: &Block) {
    let header = &block.header;
    let version = header.version.as_str();
    if version == Version::MINED {
        out.push(0);
    } else {
        out.push(HAS_VERSION);
        put_text(out, version);
    }
    put_varint(out, header.index.0);
    put_varint(out, header.time.0);
    out.extend_from_slice(&header.previous_hash.0);
    out.extend_from_slice(&header.merkle_root.0);
    put_len(out, block.body.len());
    for entry in &block.body {
        put_text(out, entry);
    }
}

pub(super) fn put_own_block(out: &mut Vec<u8>, block: &CheckedBlock, placed: &[Placed]) {
    put_len(out, placed.len());
    for placed in placed {
        put_placed(out, block.hash(), placed);
    }
    put_block(out, block.block());
}

pub(super) fn put_restored_own(out: &mut Vec<u8>, block: &CheckedBlock, placed: &[Placed], replaces: &[(u32, u32)]) {
    put_len(out, replaces.len());
    for (segment, offset) in replaces {
        put_varint(out, (*segment).into());
        put_varint(out, (*offset).into());
    }
    put_own_block(out, block, placed);
}

fn put_placed(out: &mut Vec<u8>, block: BlockHash, placed: &Placed) {
    let named_here = placed.submission == SubmissionId { block, position: placed.position };
    let mut flags = 0;
    if named_here {
        flags |= NAMED_HERE;
    }
    if placed.key.is_some() {
        flags |= HAS_KEY;
    }
    out.push(flags);
    if !named_here {
        put_submission(out, &placed.submission);
    }
    put_varint(out, placed.position.into());
    put_varint(out, placed.entries.into());
    if let Some(key) = &placed.key {
        out.extend_from_slice(key);
    }
}

pub(super) fn put_change(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Follow => {}
        Change::Turn { fork, revived } => {
            put_tip(out, fork);
            put_hashes(out, revived);
        }
    }
}

pub(super) fn put_adopt(out: &mut Vec<u8>, adopt: &Adopt) {
    put_tip(out, &adopt.fork);
    put_tip(out, &adopt.tip);
    put_len(out, adopt.runs.len());
    for (segment, blocks) in &adopt.runs {
        put_varint(out, (*segment).into());
        put_varint(out, *blocks);
    }
}

pub(super) fn put_hashes(out: &mut Vec<u8>, hashes: &[BlockHash]) {
    put_len(out, hashes.len());
    for hash in hashes {
        out.extend_from_slice(&hash.0);
    }
}

pub(super) fn put_outbox(out: &mut Vec<u8>, pending: &[SubmissionId], satisfied: &[SubmissionId]) {
    for submissions in [pending, satisfied] {
        put_len(out, submissions.len());
        for submission in submissions {
            put_submission(out, submission);
        }
    }
}

fn put_submission(out: &mut Vec<u8>, submission: &SubmissionId) {
    out.extend_from_slice(&submission.block.0);
    put_varint(out, submission.position.into());
}

fn put_tip(out: &mut Vec<u8>, tip: &Tip) {
    put_varint(out, tip.height.0);
    out.extend_from_slice(&tip.hash.0);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_len(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

// ---- Reading: `None` is a payload that this program never wrote.

/// The block of a record of kind block.
pub(super) fn read_block(payload: &[u8]) -> Option<Block> {
    whole(payload, block)
}

/// The block of a record of any kind that holds one, its texts where they stand.
pub(super) fn read_view(kind: Kind, payload: &[u8]) -> Option<BlockView<'_>> {
    whole(payload, |input| {
        if kind == Kind::RestoredOwn {
            replaced(input)?;
        }
        if kind.is_own() {
            skip_placed_list(input)?;
        }
        let header = header(input)?;
        let count = input.count(1)?;
        let mut body = Vec::with_capacity(count);
        for _ in 0..count {
            body.push(text(input)?);
        }
        Some(BlockView { header, body })
    })
}

/// What a record of either kind of own block holds.
pub(super) fn read_own_block(kind: Kind, payload: &[u8]) -> Option<OwnBlock> {
    whole(payload, |input| {
        let replaces = match kind {
            Kind::OwnBlock => Vec::new(),
            Kind::RestoredOwn => replaced(input)?,
            _ => return None,
        };
        let raw = raw_placed_list(input)?;
        let block = block(input)?;
        let hash = block.header.hash();
        let placed = raw.into_iter().map(|raw| raw.within(hash)).collect();
        Some(OwnBlock { block, hash, placed, replaces })
    })
}

/// What is remembered of the block of any kind, without its texts being copied, and what is placed in it.
pub(super) fn read_outline(kind: Kind, payload: &[u8]) -> Option<(Outline, Vec<Placed>)> {
    whole(payload, |input| {
        if kind == Kind::RestoredOwn {
            replaced(input)?;
        }
        let raw = if kind.is_own() { raw_placed_list(input)? } else { Vec::new() };
        let header = header(input)?;
        let bytes = body_bytes(input)?;
        let hash = header.hash();
        let outline = Outline { hash, parent: header.previous_hash, height: header.index, bytes };
        Some((outline, raw.into_iter().map(|raw| raw.within(hash)).collect()))
    })
}

pub(super) fn read_change(payload: &[u8]) -> Option<Change> {
    if payload.is_empty() {
        return Some(Change::Follow);
    }
    whole(payload, |input| Some(Change::Turn { fork: tip(input)?, revived: hashes(input)? }))
}

pub(super) fn read_adopt(payload: &[u8]) -> Option<Adopt> {
    whole(payload, |input| {
        let (fork, tip) = (tip(input)?, tip(input)?);
        let count = input.count(2)?;
        let runs = (0..count).map(|_| Some((input.varint_u32()?, input.varint()?))).collect::<Option<_>>()?;
        Some(Adopt { fork, tip, runs })
    })
}

pub(super) fn read_hashes(payload: &[u8]) -> Option<Vec<BlockHash>> {
    whole(payload, hashes)
}

pub(super) fn read_outbox(payload: &[u8]) -> Option<Outbox> {
    whole(payload, |input| Some(Outbox { pending: submissions(input)?, satisfied: submissions(input)? }))
}

/// Reads a payload to its very end.
fn whole<'a, T>(payload: &'a [u8], read: impl FnOnce(&mut Input<'a>) -> Option<T>) -> Option<T> {
    let mut input = Input::new(payload);
    let value = read(&mut input)?;
    input.is_empty().then_some(value)
}

fn block(input: &mut Input<'_>) -> Option<Block> {
    let header = header(input)?;
    let count = input.count(1)?;
    let mut body = Vec::with_capacity(count);
    for _ in 0..count {
        body.push(text(input)?.to_owned());
    }
    Some(Block { header, body })
}

fn header(input: &mut Input<'_>) -> Option<Header> {
    let version = match input.u8()? {
        0 => Version::mined(),
        HAS_VERSION => version(input)?,
        _ => return None,
    };
    let index = Height(safe_integer(input)?);
    let time = UnixTime(safe_integer(input)?);
    let previous_hash = input.hash()?;
    let merkle_root = MerkleRoot(input.array()?);
    Some(Header { version, index, previous_hash, time, merkle_root })
}

fn version(input: &mut Input<'_>) -> Option<Version> {
    let version = text(input)?;
    (version.len() <= MAX_VERSION_CHARS).then(|| Version::parse(version)).flatten()
}

fn safe_integer(input: &mut Input<'_>) -> Option<u64> {
    input.varint().filter(|number| *number <= MAX_SAFE_INTEGER)
}

fn body_bytes(input: &mut Input<'_>) -> Option<u64> {
    let mut bytes = 0;
    for _ in 0..input.count(1)? {
        let len = input.count(1)?;
        input.bytes(len)?;
        bytes += len as u64;
    }
    Some(bytes)
}

fn text<'a>(input: &mut Input<'a>) -> Option<&'a str> {
    let len = input.count(1)?;
    std::str::from_utf8(input.bytes(len)?).ok()
}

/// A *placed* before the hash of its block is known.
struct RawPlaced {
    submission: Option<SubmissionId>,
    position: u32,
    entries: u32,
    key: Option<[u8; 32]>,
}

impl RawPlaced {
    fn within(self, block: BlockHash) -> Placed {
        let Self { submission, position, entries, key } = self;
        Placed { submission: submission.unwrap_or(SubmissionId { block, position }), position, entries, key }
    }
}

/// The places of the records that one replaces.
fn replaced(input: &mut Input<'_>) -> Option<Vec<(u32, u32)>> {
    (0..input.count(2)?).map(|_| Some((input.varint_u32()?, input.varint_u32()?))).collect()
}

fn skip_placed_list(input: &mut Input<'_>) -> Option<()> {
    for _ in 0..input.count(PLACED_MIN)? {
        raw_placed(input)?;
    }
    Some(())
}

fn raw_placed_list(input: &mut Input<'_>) -> Option<Vec<RawPlaced>> {
    let count = input.count(PLACED_MIN)?;
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        list.push(raw_placed(input)?);
    }
    Some(list)
}

fn raw_placed(input: &mut Input<'_>) -> Option<RawPlaced> {
    let flags = input.u8()?;
    if flags & !(NAMED_HERE | HAS_KEY) != 0 {
        return None;
    }
    let submission = if flags & NAMED_HERE == 0 { Some(submission(input)?) } else { None };
    let (position, entries) = (input.varint_u32()?, input.varint_u32()?);
    let key = if flags & HAS_KEY == 0 { None } else { Some(input.array()?) };
    Some(RawPlaced { submission, position, entries, key })
}

fn submission(input: &mut Input<'_>) -> Option<SubmissionId> {
    Some(SubmissionId { block: input.hash()?, position: input.varint_u32()? })
}

fn submissions(input: &mut Input<'_>) -> Option<Vec<SubmissionId>> {
    (0..input.count(SUBMISSION_MIN)?).map(|_| submission(input)).collect()
}

fn tip(input: &mut Input<'_>) -> Option<Tip> {
    Some(Tip { height: Height(safe_integer(input)?), hash: input.hash()? })
}

fn hashes(input: &mut Input<'_>) -> Option<Vec<BlockHash>> {
    (0..input.count(DIGEST_BYTES)?).map(|_| input.hash()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{genesis, rules};

    fn block(version: &str, body: &[&str]) -> CheckedBlock {
        let body: Vec<String> = body.iter().map(ToString::to_string).collect();
        let header = Header {
            version: Version::parse(version).expect("three numbers"),
            index: Height(300),
            previous_hash: BlockHash([7; 32]),
            time: UnixTime(1_700_000_000),
            merkle_root: crate::ledger::merkle::root(&body).expect("entries"),
        };
        rules::check_alone(Block { header, body }, UnixTime(1_700_000_000)).expect("a good block")
    }

    #[test]
    fn blocks_come_back_whole_and_cut_ones_never() {
        for block in [block("1.0.0", &["a"]), block("2.10.3", &["", "ä", "three"]), (*genesis::block()).clone()] {
            let mut payload = Vec::new();
            put_block(&mut payload, block.block());
            assert!(payload.len() >= BLOCK_MIN);
            assert_eq!(read_block(&payload).as_ref(), Some(block.block()));
            assert_eq!(read_outline(Kind::Block, &payload), Some((Outline::of(&block), vec![])));
            assert_eq!(read_view(Kind::Block, &payload), Some(BlockView::from(block.block())));
            for cut in 0..payload.len() {
                assert_eq!(read_block(&payload[..cut]), None, "cut at {cut}");
                assert_eq!(read_outline(Kind::Block, &payload[..cut]), None, "cut at {cut}");
                assert_eq!(read_view(Kind::Block, &payload[..cut]), None, "cut at {cut}");
            }
            payload.push(0);
            assert_eq!(read_block(&payload), None, "one byte too many");
        }
    }

    #[test]
    fn own_blocks_come_back_with_what_is_placed_in_them() {
        let block = block("1.0.0", &["a", "b", "c"]);
        let placed = vec![
            Placed {
                submission: SubmissionId { block: block.hash(), position: 0 },
                position: 0,
                entries: 1,
                key: Some([9; 32]),
            },
            Placed {
                submission: SubmissionId { block: BlockHash([3; 32]), position: 4 },
                position: 1,
                entries: 2,
                key: None,
            },
        ];
        let mut payload = Vec::new();
        put_own_block(&mut payload, &block, &placed);
        let own = OwnBlock { block: block.block().clone(), hash: block.hash(), placed, replaces: vec![] };
        comes_back(Kind::OwnBlock, &payload, &own);

        let own = OwnBlock { replaces: vec![(3, 128), (1, u32::MAX)], ..own };
        let mut payload = Vec::new();
        put_restored_own(&mut payload, &block, &own.placed, &own.replaces);
        comes_back(Kind::RestoredOwn, &payload, &own);
    }

    fn comes_back(kind: Kind, payload: &[u8], own: &OwnBlock) {
        assert_eq!(read_own_block(kind, payload).as_ref(), Some(own));
        let (outline, placed) = read_outline(kind, payload).expect("is whole");
        assert_eq!((outline.hash, &placed), (own.hash, &own.placed));
        assert_eq!(read_view(kind, payload), Some(BlockView::from(&own.block)));
        for cut in 0..payload.len() {
            assert_eq!(read_own_block(kind, &payload[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn the_other_kinds_come_back() {
        let tip = |n: u64| Tip { height: Height(n), hash: BlockHash([n as u8; 32]) };
        for change in [
            Change::Follow,
            Change::Turn { fork: tip(3), revived: vec![] },
            Change::Turn { fork: tip(0), revived: vec![BlockHash([1; 32]), BlockHash([2; 32])] },
        ] {
            let mut payload = Vec::new();
            put_change(&mut payload, &change);
            assert_eq!(read_change(&payload), Some(change));
        }
        let adopt = Adopt { fork: tip(3), tip: tip(200), runs: vec![(7, 100), (8, 97)] };
        let mut payload = Vec::new();
        put_adopt(&mut payload, &adopt);
        assert_eq!(read_adopt(&payload), Some(adopt));

        let pending = vec![SubmissionId { block: BlockHash([1; 32]), position: 2 }];
        let satisfied = vec![SubmissionId { block: BlockHash([2; 32]), position: 300 }; 2];
        let mut payload = Vec::new();
        put_outbox(&mut payload, &pending, &satisfied);
        assert_eq!(read_outbox(&payload), Some(Outbox { pending, satisfied }));

        assert_eq!(read_hashes(&[0xff, 0xff, 0xff, 0xff, 0x0f]), None, "a count that nothing stands behind");
    }
}
