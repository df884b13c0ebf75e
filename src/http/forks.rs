//! `GET /forks`, `POST /forks/{hash}/adopt` and `/requeue`: branches off the best chain, and what an operator may do.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::App;
use super::mine::receipt_id;
use super::problem::Problem;
use super::schema;
use super::status::tip_json;
use crate::actors::chain::{AdoptBranch, GetBranches, GetReorgs, PastReorg, Requeue};
use crate::actors::clock;
use crate::ledger::{BlockHash, Tip};

/// The kept branches, highest first.
#[utoipa::path(
    get,
    path = "/forks",
    tag = "chain",
    responses((status = 200, description = "The kept branches, highest first", body = schema::Forks)),
)]
pub async fn list(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let branches = app.chain.send(GetBranches).await??;
    let now = clock::unix_time().0;
    let rows: Vec<Value> = branches
        .iter()
        .map(|branch| {
            json!({
                "tip": tip_json(branch.tip),
                "fork": tip_json(branch.fork),
                "length": branch.tip.height.0.saturating_sub(branch.fork.height.0),
                "ageSeconds": now.saturating_sub(branch.time.0),
                "parked": branch.parked,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "best": tip_json(app.reader.snapshot().tip()), "branches": rows })))
}

/// The last reorgs since the node started, newest first.
#[utoipa::path(
    get,
    path = "/reorgs",
    tag = "chain",
    responses((status = 200, description = "One row for each reorg, at most 16", body = [schema::Reorg])),
)]
pub async fn reorgs(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let reorgs = app.chain.send(GetReorgs).await?;
    Ok(HttpResponse::Ok().json(reorgs.iter().map(reorg_json).collect::<Vec<Value>>()))
}

fn reorg_json(reorg: &PastReorg) -> Value {
    let above = |tip: Tip| tip.height.0.saturating_sub(reorg.fork.height.0);
    json!({
        "time": reorg.time.0,
        "old": tip_json(reorg.old),
        "fork": tip_json(reorg.fork),
        "new": tip_json(reorg.new),
        "depth": above(reorg.old),
        "length": above(reorg.new),
        "requeued": reorg.requeued,
    })
}

fn hash_of(text: &str) -> Result<BlockHash, Problem> {
    BlockHash::from_hex(&text.to_ascii_lowercase()).ok_or_else(|| {
        Problem::bad_request("a branch is named by a block hash of 64 hex characters, as GET /forks gives it")
    })
}

/// Makes a kept branch the best chain, whatever it undoes.
#[utoipa::path(
    post,
    path = "/forks/{hash}/adopt",
    tag = "chain",
    request_body(content = Object, description = "Nothing has to be said: `{}`"),
    params(("hash" = String, Path, description = "Hash of the branch's last block", pattern = "^[0-9a-fA-F]{64}$")),
    responses(
        (status = 200, description = "What changed", body = schema::Adopted),
        (status = 404, description = "No such branch is kept", body = schema::Problem, content_type = "application/problem+json"),
        (status = 409, description = "The best chain is better", body = schema::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn adopt(app: web::Data<App>, hash: web::Path<String>) -> Result<HttpResponse, Problem> {
    let update = app.chain.send(AdoptBranch(hash_of(&hash)?)).await??;
    Ok(HttpResponse::Ok().json(json!({
        "tip": tip_json(update.new),
        "fork": tip_json(update.fork),
        "undone": update.depth(),
        "requeued": update.requeued,
    })))
}

/// Mines the entries of another node's side blocks again, up to this one.
#[utoipa::path(
    post,
    path = "/forks/{hash}/requeue",
    tag = "chain",
    request_body(content = Object, description = "Nothing has to be said: `{}`"),
    params(("hash" = String, Path, description = "Hash of the last block", pattern = "^[0-9a-fA-F]{64}$")),
    responses(
        (status = 200, description = "One row for each submission", body = [schema::Requeued]),
        (status = 404, description = "No such block is kept", body = schema::Problem, content_type = "application/problem+json"),
        (status = 422, description = "An entry breaks a rule", body = schema::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn requeue(app: web::Data<App>, hash: web::Path<String>) -> Result<HttpResponse, Problem> {
    let mined = app.chain.send(Requeue(hash_of(&hash)?)).await??;
    let rows: Vec<Value> = mined
        .iter()
        .map(|mined| {
            json!({ "receipt": receipt_id(&mined.submission), "index": mined.block.height(), "block": mined.block.hash().to_string() })
        })
        .collect();
    Ok(HttpResponse::Ok().json(rows))
}
