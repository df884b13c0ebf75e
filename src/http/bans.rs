//! `GET /bans`, `POST /bans`, `DELETE /bans/{address}`: who may not link with this node.

use std::net::IpAddr;

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::App;
use super::bodies::Wish;
use super::mine::{Body, body_of};
use super::problem::Problem;
use super::schema;
use crate::actors::peers::{Ban, ListBans, Unban};

/// How long an operator's ban lasts unless they say.
const DEFAULT_SECONDS: u64 = 24 * 60 * 60;

fn address_of(text: &str) -> Result<IpAddr, Problem> {
    text.parse().map_err(|_| Problem::bad_request("a ban is for a network address like 10.0.0.7 or fd00::7"))
}

/// The bans that last.
#[utoipa::path(
    get,
    path = "/bans",
    tag = "peers",
    responses((status = 200, description = "The bans that last", body = [schema::Ban])),
)]
pub async fn list(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let bans = app.peers.send(ListBans).await?;
    let rows: Vec<Value> = bans.iter().map(|(address, until)| json!({ "address": address, "until": until })).collect();
    Ok(HttpResponse::Ok().json(rows))
}

/// Bans an address and ends its links.
#[utoipa::path(
    post,
    path = "/bans",
    tag = "peers",
    request_body = schema::BanWish,
    responses((status = 200, description = "The ban", body = schema::Ban)),
)]
pub async fn ban(app: web::Data<App>, body: Body) -> Result<HttpResponse, Problem> {
    let Wish { address, seconds } = body_of(&app, body, r#"{"address":"10.0.0.7","seconds":3600}"#).await?;
    let address = address_of(&address)?;
    let until = app.peers.send(Ban { address, seconds: seconds.unwrap_or(DEFAULT_SECONDS) }).await?;
    Ok(HttpResponse::Ok().json(json!({ "address": address, "until": until })))
}

/// Forgets a ban, and what led to it.
#[utoipa::path(
    delete,
    path = "/bans/{address}",
    tag = "peers",
    params(("address" = String, Path, description = "A network address", example = "10.0.0.7")),
    responses(
        (status = 204, description = "The ban is forgotten"),
        (status = 404, description = "Nothing is known against the address", body = schema::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn unban(app: web::Data<App>, address: web::Path<String>) -> Result<HttpResponse, Problem> {
    let address = address_of(&address)?;
    if app.peers.send(Unban(address)).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(Problem::not_found(format!("nothing is known against {address}")))
    }
}
