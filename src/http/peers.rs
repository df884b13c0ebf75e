//! `POST /addPeers`, `GET /peers`, `DELETE /peers/{id}`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::mine::{Body, body_of};
use super::problem::Problem;
use super::schema;
use crate::actors::peers::{AddPeers, DropPeer, ListPeers, PeerRow};
use crate::peer::address::PeerAddress;
use crate::peer::limits::MAX_ADDRESSES;

#[derive(Deserialize)]
struct Peers {
    peers: Vec<String>,
}

/// Links with each peer, now and whenever the link is lost. All addresses are good, or none is taken.
#[utoipa::path(
    post,
    path = "/addPeers",
    tag = "peers",
    request_body = schema::Peers,
    responses((status = 200, description = "One row for each address", body = [schema::AddedPeer])),
)]
pub async fn add(app: web::Data<App>, body: Body) -> Result<HttpResponse, Problem> {
    let Peers { peers } = body_of(body, r#"{"peers":["ws://localhost:6006"]}"#)?;
    if peers.is_empty() || peers.len() > MAX_ADDRESSES {
        return Err(Problem::bad_request(format!("name 1 to {MAX_ADDRESSES} peers at once")));
    }
    let parsed: Result<Vec<PeerAddress>, _> = peers.iter().map(|text| text.parse()).collect();
    let addresses = parsed.map_err(|error| Problem::bad_request(error.to_string()))?;
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
    Ok(HttpResponse::Ok().json(rows.iter().map(row).collect::<Vec<Value>>()))
}

fn row(row: &PeerRow) -> Value {
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

/// Ends a link, and forgets its address if we dialled it.
#[utoipa::path(
    delete,
    path = "/peers/{id}",
    tag = "peers",
    params(("id" = u64, Path, description = "The link's number")),
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
