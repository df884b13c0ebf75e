//! HTTP: one file per group of routes. Routes translate, ask an actor or a snapshot, and answer; they decide nothing.
//!
//! Errors are `application/problem+json` ([`problem`]); a failed request changes nothing.

pub mod bans;
pub mod blocks;
pub mod bodies;
pub mod events;
pub mod explorer;
pub mod forks;
pub mod guard;
pub mod mine;
pub mod peers;
pub mod problem;
pub mod search;
pub mod status;

use std::future::ready;

use actix::Addr;
use actix_web::guard::{Any, Get, Head};
use actix_web::http::header::{self, HeaderValue};
use actix_web::{Route, web};

use crate::actors::chain::ChainActor;
use crate::actors::clock::Stopwatch;
use crate::actors::peers::PeerManager;
use crate::peer::slots::Slots;
use crate::store::Reader;
use problem::Problem;

/// Bytes of a request's body: a full block's entries of 1 MiB, escaped twice over.
pub const MAX_REQUEST_BODY: usize = 2 * 1024 * 1024;

/// What the routes need.
#[derive(Clone)]
pub struct App {
    /// The one writer.
    pub chain: Addr<ChainActor>,
    /// The links.
    pub peers: Addr<PeerManager>,
    /// The chain, to be read.
    pub reader: Reader,
    /// What happens, for whoever follows it.
    pub events: events::Events,
    /// Time since the start.
    pub stopwatch: Stopwatch,
    /// How many links there may be.
    pub slots: Slots,
    /// Blocks that a stranger's branch may undo.
    pub max_reorg: u64,
    /// Whether peers behind `wss://` can be dialled.
    pub dials_tls: bool,
}

/// All routes.
pub fn routes(service: &mut web::ServiceConfig) {
    service
        .app_data(web::PayloadConfig::new(MAX_REQUEST_BODY))
        .app_data(web::QueryConfig::default().error_handler(|error, _| {
            Problem::bad_request(format!("the part of the address behind ? does not fit: {error}")).into()
        }))
        .app_data(
            web::PathConfig::default()
                .error_handler(|error, _| Problem::bad_request(format!("the address does not fit: {error}")).into()),
        )
        .service(reading("/", web::to(explorer::page)))
        .service(reading("/explorer/{name}", web::to(explorer::part)))
        .service(reading("/blocks", web::to(blocks::list)))
        .service(reading("/blocks/{name}", web::to(blocks::one)))
        .service(resource("/events", "GET", web::get().to(events::follow)))
        .service(reading("/search", web::to(search::search)))
        .service(resource("/mineBlock", "POST", web::post().to(mine::mine)))
        .service(reading("/receipts/{id}", web::to(mine::receipt)))
        .service(resource("/addPeers", "POST", web::post().to(peers::add)))
        .service(reading("/peers", web::to(peers::list)))
        .service(reading("/refused", web::to(peers::refused)))
        .service(resource("/peers/{id}", "DELETE", web::delete().to(peers::remove)))
        .service(
            resource("/bans", "GET, HEAD, POST", web::post().to(bans::ban))
                .route(Route::new().guard(Any(Get()).or(Head())).to(bans::list)),
        )
        .service(resource("/bans/{address}", "DELETE", web::delete().to(bans::unban)))
        .service(reading("/version", web::to(status::version)))
        .service(reading("/status", web::to(status::status)))
        .service(reading("/forks", web::to(forks::list)))
        .service(resource("/forks/{hash}/adopt", "POST", web::post().to(forks::adopt)))
        .service(resource("/forks/{hash}/requeue", "POST", web::post().to(forks::requeue)))
        .service(reading("/livez", web::to(status::live)))
        .service(reading("/readyz", web::to(status::ready)))
        .default_service(web::to(async || {
            Problem::not_found("there is no such route; GET / shows what there is").response()
        }));
}

/// A path that is read: by GET, or by HEAD, which answers the same without a body.
fn reading(path: &str, route: Route) -> actix_web::Resource {
    resource(path, "GET, HEAD", route.guard(Any(Get()).or(Head())))
}

/// A path with one route; callers with other methods are told which there are.
fn resource(path: &str, methods: &'static str, route: Route) -> actix_web::Resource {
    web::resource(path).route(route).default_service(web::to(move || {
        let problem = Problem::new(405, format!("this route does not know that method; it knows {methods}"));
        let mut response = problem.response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
        ready(response)
    }))
}
