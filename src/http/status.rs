//! `GET /version`, `/status`, `/livez`, `/readyz`: how the node is.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::App;
use super::problem::Problem;
use super::schema;
use crate::actors::chain::GetStats;
use crate::actors::peers::{GetRepair, GetSync, ListPeers, PeerRow};
use crate::ledger::{Tip, Version};
use crate::peer::sync::progress::Progress;

/// The version of the blocks that are mined, as the tutorial answers; the program's own is in a header.
#[utoipa::path(
    get,
    path = "/version",
    tag = "node",
    responses((status = 200, description = "The version of blocks that are mined", body = String, content_type = "text/plain; charset=utf-8", headers(
        ("Dolmen-Version" = String, description = "The program's version"),
    ))),
)]
pub async fn version() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header(("Dolmen-Version", env!("CARGO_PKG_VERSION")))
        .body(Version::MINED)
}

/// The node in one object.
#[utoipa::path(
    get,
    path = "/status",
    tag = "node",
    responses((status = 200, description = "The node in one object", body = schema::Status)),
)]
pub async fn status(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let peers = app.peers.send(ListPeers).await?;
    let sync = app.peers.send(GetSync).await?;
    let repair = app.peers.send(GetRepair).await?;
    // Tip and outbox of one moment: whoever waits for an empty outbox must see the chain that goes with it.
    let stats = app.chain.send(GetStats).await?;
    let tip = stats.tip;
    let count = |wanted: fn(&PeerRow) -> bool| peers.iter().filter(|row| wanted(row)).count();
    Ok(HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "tip": tip_json(tip),
        "blocks": tip.height.0 + 1,
        "peers": {
            "linked": count(|row| row.link.is_some()),
            "native": count(|row| row.kind == "native"),
            "tutorial": count(|row| row.kind == "tutorial"),
            "connecting": count(|row| row.kind == "connecting"),
        },
        "sync": sync.map(sync_json),
        "repair": { "wanted": repair.wanted, "healed": repair.healed },
        "outbox": stats.outbox,
        "sideBlocks": stats.side_blocks,
        "parkedBranches": stats.parked,
        "reorgs": stats.reorgs,
        "limits": {
            "maxReorg": app.max_reorg,
            "maxInbound": app.slots.inbound,
            "maxOutbound": app.slots.outbound,
            "maxPerAddress": app.slots.per_address,
        },
        "writable": stats.failed.is_none(),
        "problem": stats.failed,
        "uptimeSeconds": app.stopwatch.millis() / 1000,
    })))
}

pub(super) fn sync_json(sync: Progress) -> Value {
    json!({ "peer": sync.link, "from": sync.from, "at": sync.at, "target": sync.target })
}

pub(super) fn tip_json(tip: Tip) -> Value {
    json!({ "index": tip.height, "hash": tip.hash.to_string() })
}

/// 200 as long as the process answers.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "node",
    responses((status = 200, description = "The process answers", body = String, content_type = "text/plain; charset=utf-8")),
)]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// 200 when entries can be taken, 503 and why otherwise.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "node",
    responses(
        (status = 200, description = "Entries can be taken", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 503, description = "Why they cannot", body = schema::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn ready(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    match app.chain.send(GetStats).await?.failed {
        None => Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")),
        Some(reason) => Err(Problem::new(503, reason)),
    }
}
