//! HTTP: one file per group of routes. Routes translate, ask an actor or a snapshot, and answer; they decide nothing.
//!
//! Errors are `application/problem+json` ([`problem`]); a failed request changes nothing.

pub mod blocks;
pub mod explorer;
pub mod forks;
pub mod guard;
pub mod mine;
pub mod peers;
pub mod problem;
pub mod status;

use actix::Addr;
use actix_web::web;

use crate::actors::chain::ChainActor;
use crate::actors::clock::Stopwatch;
use crate::actors::peers::PeerManager;
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
    /// Time since the start.
    pub stopwatch: Stopwatch,
}

/// All routes.
pub fn routes(service: &mut web::ServiceConfig) {
    service
        .app_data(web::PayloadConfig::new(MAX_REQUEST_BODY))
        .service(resource("/", web::get().to(explorer::page)))
        .service(resource("/blocks", web::get().to(blocks::list)))
        .service(resource("/blocks/{name}", web::get().to(blocks::one)))
        .service(resource("/mineBlock", web::post().to(mine::mine)))
        .service(resource("/receipts/{id}", web::get().to(mine::receipt)))
        .service(resource("/addPeers", web::post().to(peers::add)))
        .service(resource("/peers", web::get().to(peers::list)))
        .service(resource("/peers/{id}", web::delete().to(peers::remove)))
        .service(resource("/version", web::get().to(status::version)))
        .service(resource("/status", web::get().to(status::status)))
        .service(resource("/forks", web::get().to(forks::list)))
        .service(resource("/forks/{hash}/adopt", web::post().to(forks::adopt)))
        .service(resource("/forks/{hash}/requeue", web::post().to(forks::requeue)))
        .service(resource("/livez", web::get().to(status::live)))
        .service(resource("/readyz", web::get().to(status::ready)))
        .default_service(web::to(async || {
            Problem::not_found("there is no such route; GET / shows what there is").response()
        }));
}

/// A path with one method; other methods are told so.
fn resource(path: &str, route: actix_web::Route) -> actix_web::Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(async || Problem::new(405, "this route does not know that method").response()))
}
