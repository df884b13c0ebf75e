//! Events as text: `id`, `event` and `data`, the data in one line of JSON.

use std::io::Write;

use serde_json::{Value, json};

use super::links::Change;
use crate::actors::peers::PeerRow;
use crate::http::mine::receipt_id;
use crate::http::peers::row_json;
use crate::http::status::{sync_json, tip_json};
use crate::ledger::feed::{Event, Reorg};
use crate::ledger::{Tip, json as block_json};
use crate::peer::sync::progress::Progress;

/// An event's id: the last block that its reader knows.
pub(super) fn id(tip: Tip) -> String {
    format!("{}-{}", tip.height, tip.hash)
}

/// The beginning of every stream: a comment that lets a proxy pass the head on, and how soon to come back after a break.
pub(super) fn greeting() -> Vec<u8> {
    b": events\nretry: 1000\n\n".to_vec()
}

/// A comment, which readers ignore.
pub(super) fn heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n\n");
}

/// An event of the chain.
pub(super) fn chain(event: &Event, out: &mut Vec<u8>) {
    let at = event.position();
    match event {
        Event::Block(block) => {
            head(at, "block", out);
            // Writing into memory cannot fail.
            let _ = write!(out, r#"{{"hash":"{}","block":"#, block.hash());
            block_json::write(block.block(), out);
            out.extend_from_slice(b"}\n\n");
        }
        Event::Reorg(reorg) => line(at, "reorg", &reorg_json(reorg), out),
        Event::Reset { unknown, tip } => {
            line(at, "reset", &json!({ "unknown": tip_json(*unknown), "tip": tip_json(*tip) }), out);
        }
        Event::Skipped { from, to } => {
            line(at, "skipped", &json!({ "from": tip_json(*from), "to": tip_json(*to) }), out);
        }
    }
}

fn reorg_json(reorg: &Reorg) -> Value {
    let tips = |tips: &[Tip]| tips.iter().copied().map(tip_json).collect::<Vec<Value>>();
    json!({
        "old": tip_json(reorg.old),
        "fork": tip_json(reorg.fork),
        "new": tip_json(reorg.new),
        "depth": reorg.depth(),
        "length": reorg.length(),
        "left": tips(&reorg.left),
        "entered": tips(&reorg.entered),
        "requeued": reorg.requeued.iter().map(receipt_id).collect::<Vec<String>>(),
    })
}

/// What became of a peer.
pub(super) fn peer(at: Tip, change: Change, row: &PeerRow, out: &mut Vec<u8>) {
    let change = match change {
        Change::Linked => "linked",
        Change::Changed => "changed",
        Change::Closed => "closed",
    };
    line(at, "peer", &json!({ "change": change, "peer": row_json(row) }), out);
}

/// How far the branch is that is being fetched.
pub(super) fn sync(at: Tip, sync: Option<Progress>, out: &mut Vec<u8>) {
    line(at, "sync", &sync.map_or(Value::Null, sync_json), out);
}

fn line(at: Tip, kind: &str, data: &Value, out: &mut Vec<u8>) {
    head(at, kind, out);
    // Writing into memory cannot fail, and JSON has no line breaks of its own.
    let _ = write!(out, "{data}\n\n");
}

fn head(at: Tip, kind: &str, out: &mut Vec<u8>) {
    // Writing into memory cannot fail.
    let _ = write!(out, "id: {}\nevent: {kind}\ndata: ", id(at));
}
