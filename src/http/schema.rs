//! What requests and answers look like, for the description of the API. The routes write their answers themselves; a test
//! holds every answer of a real node to these.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A block, as the tutorial writes it.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Block {
    /// What the block's hash is taken over.
    pub header: Header,
    /// The entries, in order.
    #[schema(min_items = 1, max_items = 10_000)]
    pub body: Vec<String>,
}

/// A block's header.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Version of the program that mined it.
    #[schema(example = "1.0.0")]
    pub version: String,
    /// Its place in the chain; genesis has 0.
    pub index: u64,
    /// Hash of the block before, 64 lower-case hex characters; zeros in genesis.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub previous_hash: String,
    /// When it was mined, in Unix seconds.
    pub time: u64,
    /// Root of the entries' Merkle tree, 64 upper-case hex characters.
    #[schema(pattern = "^[0-9A-F]{64}$")]
    pub merkle_root: String,
}

/// The end of a chain.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Tip {
    /// Index of the last block.
    pub index: u64,
    /// Its hash.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub hash: String,
}

/// What is to be mined.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Entries {
    /// The entries of one block: each at most 64 KiB, all together at most 1 MiB.
    #[schema(min_items = 1, max_items = 10_000, example = json!(["Hello"]))]
    pub data: Vec<String>,
}

/// Where a submission is now.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The submission's name.
    pub id: String,
    /// `included` in the best chain, or `orphaned` and about to be mined again.
    #[schema(pattern = "^(included|orphaned)$")]
    pub status: String,
    /// Hash of the block that holds it.
    pub block: String,
    /// The block's index; only when included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Place of its first entry in the block's body; only when included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// Blocks from that one to the tip, itself included; only when included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u64>,
    /// Native peers that hold the block; only when included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<u64>,
}

/// Peers to link with.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Peers {
    /// Their addresses.
    #[schema(min_items = 1, example = json!(["ws://localhost:6006"]))]
    pub peers: Vec<String>,
}

/// An address that was taken.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct AddedPeer {
    /// As it was asked for.
    pub peer: String,
    /// As it is understood.
    pub address: String,
    /// `connecting`.
    pub status: String,
}

/// A link, or an address without one.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The link's number.
    pub id: Option<u64>,
    /// Where the peer was dialled, or the connection's other end.
    pub address: String,
    /// `inbound` or `outbound`.
    pub direction: Option<String>,
    /// `native`, `tutorial` or `connecting`.
    pub kind: String,
    /// The peer's tip, as far as it has told.
    pub tip: Option<Tip>,
    /// What program a native peer runs.
    pub agent: Option<String>,
    /// How long the last ping took.
    pub latency_ms: Option<f64>,
    /// When the link opened, in Unix milliseconds.
    pub since: Option<u64>,
    /// Failed dials since the last link.
    pub failures: Option<u64>,
    /// Points for misbehaviour.
    pub score: Option<u64>,
}

/// An address to be banned.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct BanWish {
    /// A network address.
    #[schema(example = "10.0.0.7")]
    pub address: String,
    /// For how long; a day without.
    #[schema(format = "uint64")]
    pub seconds: Option<u64>,
}

/// A ban.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Ban {
    /// The address.
    pub address: String,
    /// Until when, in Unix seconds.
    pub until: u64,
}

/// The node in one object.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The end of the best chain.
    pub tip: Tip,
    /// Blocks of the best chain.
    pub blocks: u64,
    /// Links, counted.
    pub peers: PeerCounts,
    /// The branch that is being fetched, if one is.
    pub sync: Option<SyncProgress>,
    /// Damaged blocks, and how many were fetched again.
    pub repair: Repair,
    /// Submissions that wait to be mined again.
    pub outbox: u64,
    /// Blocks kept off the best chain.
    pub side_blocks: u64,
    /// Branches that wait for an operator.
    pub parked_branches: u64,
    /// Changes of the best chain in which blocks left, since the start.
    pub reorgs: u64,
    /// What bounds this node's links and reorgs.
    pub limits: Limits,
    /// Whether entries can be taken.
    pub writable: bool,
    /// Why not.
    pub problem: Option<String>,
    /// Since the start.
    pub uptime_seconds: u64,
}

/// Links, counted.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct PeerCounts {
    /// All of them.
    pub linked: u64,
    /// With dolmen nodes.
    pub native: u64,
    /// With nodes of the tutorial.
    pub tutorial: u64,
    /// Addresses without a link.
    pub connecting: u64,
}

/// How far a branch is that is being fetched.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct SyncProgress {
    /// The link that it comes from.
    pub peer: u64,
    /// Index where it begins.
    pub from: u64,
    /// Index that has arrived.
    pub at: u64,
    /// Index where it ends.
    pub target: u64,
}

/// Damaged blocks.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Repair {
    /// That are still to be fetched again.
    pub wanted: u64,
    /// That were fetched again since the start.
    pub healed: u64,
}

/// What bounds a node's links and reorgs.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Blocks that a stranger's branch may undo.
    pub max_reorg: u64,
    /// Links that others may open.
    pub max_inbound: u64,
    /// Links that this node opens.
    pub max_outbound: u64,
    /// Links that others may open from one address.
    pub max_per_address: u64,
}

/// Entries that contain a text.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// They, newest first.
    pub found: Vec<FoundEntry>,
    /// The highest block that was looked at; nothing if none was.
    pub from: Option<u64>,
    /// The lowest block that was looked at.
    pub to: u64,
    /// `before` for going on; nothing at genesis.
    pub next: Option<u64>,
}

/// An entry that contains a text.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct FoundEntry {
    /// Index of its block.
    pub index: u64,
    /// The block's hash.
    pub hash: String,
    /// Its place in the block's body.
    pub position: u64,
    /// The part of it around the text.
    pub entry: String,
}

/// A peer's block that was refused.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// When, the last time, in Unix seconds.
    pub time: u64,
    /// Who sent it.
    pub remote: String,
    /// The block, if it is known.
    pub block: Option<Tip>,
    /// The rule that it breaks.
    pub rule: String,
    /// That in a sentence.
    pub detail: String,
    /// What was found.
    pub got: Option<String>,
    /// What the rule wants.
    pub wanted: Option<String>,
    /// How often it came.
    pub times: u64,
}

/// Branches off the best chain.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Forks {
    /// The end of the best chain.
    pub best: Tip,
    /// The kept branches, highest first.
    pub branches: Vec<Branch>,
}

/// A kept branch.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Branch {
    /// Its last block.
    pub tip: Tip,
    /// The block of the best chain that it leaves from.
    pub fork: Tip,
    /// Its blocks.
    pub length: u64,
    /// Since its last block was mined.
    pub age_seconds: u64,
    /// Whether it waits for an operator.
    pub parked: bool,
}

/// A change in which blocks left the best chain.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Reorg {
    /// When, in Unix seconds.
    pub time: u64,
    /// The last block that left.
    pub old: Tip,
    /// The common ancestor.
    pub fork: Tip,
    /// The last block that entered.
    pub new: Tip,
    /// Blocks that left.
    pub depth: u64,
    /// Blocks that entered.
    pub length: u64,
    /// Submissions that waited to be mined again because of it.
    pub requeued: u64,
}

/// A branch that was taken over.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Adopted {
    /// The tip now.
    pub tip: Tip,
    /// The block that the two chains share.
    pub fork: Tip,
    /// Blocks that left the best chain.
    pub undone: u64,
    /// Submissions that wait to be mined again.
    pub requeued: u64,
}

/// Entries that were mined again.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Requeued {
    /// The new submission's name.
    pub receipt: String,
    /// Index of its block.
    pub index: u64,
    /// The block's hash.
    pub block: String,
}

/// Why a request failed (RFC 9457). Nothing has changed then.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank`.
    pub r#type: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// A sentence that says what to do.
    pub detail: String,
    /// The acceptance rule that was broken, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub got: Option<String>,
    /// What the rule wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
}
