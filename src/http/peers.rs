//! `POST /addPeers`, `GET /peers`, `DELETE /peers/{id}`.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::App;
use super::bodies::Peers;
use super::mine::{Body, body_of};
use super::problem::Problem;
use super::schema;
use super::status::tip_json;
use crate::actors::peers::{AddPeers, DropPeer, GetRefused, ListPeers, PeerRow};
use crate::peer::address::{PeerAddress, Scheme};
use crate::peer::limits::MAX_ADDRESSES;
use crate::peer::refused::Refused;
use crate::tls::TlsError;

/// Links with each peer, now and whenever the link is lost. All addresses are good, or none is taken.
#[utoipa::path(
    post,
    path = "/addPeers",
    tag = "peers",
    request_body = schema::Peers,
    responses((status = 200, description = "One row for each address", body = [schema::AddedPeer])),
)]
pub async fn add(app: web::Data<App>, body: Body) -> Result<HttpResponse, Problem> {
    let Peers { peers } = body_of(&app, body, r#"{"peers":["ws://localhost:6006"]}"#).await?;
    if peers.is_empty() || peers.len() > MAX_ADDRESSES {
        return Err(Problem::bad_request(format!("name 1 to {MAX_ADDRESSES} peers at once")));
    }
    let parsed: Result<Vec<PeerAddress>, _> = peers.iter().map(|text| text.parse()).collect();
    let addresses = parsed.map_err(|error| Problem::bad_request(error.to_string()))?;
    let secure = |address: &&PeerAddress| address.scheme() == Scheme::Tls;
    if let Some(address) = addresses.iter().find(secure).filter(|_| !app.dials_tls) {
        let error = TlsError::NoAuthority { address: address.to_string() };
        return Err(Problem::bad_request(format!("{error}; start the node with it, or use ws://")));
    }
    let rows: Vec<Value> = peers
        .iter()
        .zip(&addresses)
        .map(|(peer, address)| json!({ "peer": peer, "address": address, "status": "connecting" }))
        .collect();
    app.peers.send(AddPeers(addresses)).await?;
    Ok(HttpResponse::Ok().json(rows))
}

/// The links, and the configured addresses without one.
#[utoipa::path(
    get,
    path = "/peers",
    tag = "peers",
    responses((status = 200, description = "One row for each link", body = [schema::Peer])),
)]
pub async fn list(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let rows = app.peers.send(ListPeers).await?;
    Ok(HttpResponse::Ok().json(rows.iter().map(row_json).collect::<Vec<Value>>()))
}

pub(super) fn row_json(row: &PeerRow) -> Value {
    json!({
        "id": row.link,
        "address": row.address,
        "direction": row.direction,
        "kind": row.kind,
        "tip": row.tip.map(|tip| json!({ "index": tip.height, "hash": tip.hash.to_string() })),
        "agent": row.agent,
        "latencyMs": row.latency,
        "since": row.since,
        "failures": row.failures,
        "score": row.score,
    })
}

/// Blocks of peers that were refused last, newest first: by which rule, what was found and what was wanted.
#[utoipa::path(
    get,
    path = "/refused",
    tag = "peers",
    responses((status = 200, description = "The newest first", body = [schema::Refused])),
)]
pub async fn refused(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let refused = app.peers.send(GetRefused).await?;
    Ok(HttpResponse::Ok().json(refused.iter().map(refused_json).collect::<Vec<Value>>()))
}

fn refused_json(refused: &Refused) -> Value {
    let (got, wanted) = refused.rule.got_and_wanted().unzip();
    json!({
        "time": refused.time.0,
        "remote": refused.remote,
        "block": refused.block.map(tip_json),
        "rule": refused.rule.name(),
        "detail": refused.rule.to_string(),
        "got": got,
        "wanted": wanted,
        "times": refused.times,
    })
}

/// Ends a link, and forgets its address if we dialled it.
#[utoipa::path(
    delete,
    path = "/peers/{id}",
    tag = "peers",
    params(("id" = u64, Path, format = "uint64", description = "The link's number", example = 1)),
    responses(
        (status = 204, description = "The link was ended"),
        (status = 404, description = "There is no such link", body = schema::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn remove(app: web::Data<App>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let number = || Problem::bad_request("a peer's id is a number, as GET /peers gives it");
    let id = id.parse().map_err(|_| number())?;
    if app.peers.send(DropPeer(id)).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(Problem::not_found(format!("there is no link {id}")))
    }
}
