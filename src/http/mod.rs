//! HTTP: one file per group of routes. Routes translate, ask an actor or a snapshot, and answer; they decide nothing.
//!
//! Errors are `application/problem+json` ([`problem`]); a failed request changes nothing.

pub mod answer;
pub mod bans;
pub mod blocks;
pub mod bodies;
pub mod events;
pub mod explorer;
pub mod forks;
pub mod guard;
pub mod metrics;
pub mod mine;
pub mod openapi;
pub mod peers;
pub mod problem;
pub mod reads;
pub mod room;
pub mod schema;
pub mod search;
pub mod status;

use std::future::ready;
use std::sync::Arc;

use actix::Addr;
use actix_web::guard::{Any, Get, Head};
use actix_web::http::header::{self, HeaderValue};
use actix_web::{Route, web};

use crate::actors::chain::ChainActor;
use crate::actors::clock::Stopwatch;
use crate::actors::peers::PeerManager;
use crate::metrics::Metrics;
use crate::peer::slots::Slots;
use crate::store::Reader;
use problem::Problem;
use prometheus_client::registry::Registry;

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
    /// Who reads much of it.
    pub reads: reads::Reads,
    /// Time since the start.
    pub stopwatch: Stopwatch,
    /// How many links there may be.
    pub slots: Slots,
    /// Blocks that a stranger's branch may undo.
    pub max_reorg: u64,
    /// Whether peers behind `wss://` can be dialled.
    pub dials_tls: bool,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is counted, as it is written.
    pub registry: Arc<Registry>,
}

/// A route as others know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteName {
    /// Its pattern.
    pub path: &'static str,
    /// The methods that it knows, as `Allow` lists them.
    pub methods: &'static str,
}

/// The names of all routes.
#[must_use]
pub fn route_names() -> Vec<RouteName> {
    table().iter().map(|Entry { path, methods, .. }| RouteName { path, methods }).collect()
}

/// A route and what answers it.
struct Entry {
    path: &'static str,
    methods: &'static str,
    resource: actix_web::Resource,
}

impl Entry {
    /// With a second method.
    fn and(self, route: Route) -> Self {
        Self { resource: self.resource.route(route), ..self }
    }
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
        );
    // Asked in this order: fixed paths are compared, and only then are patterns tried.
    let (patterns, fixed): (Vec<_>, Vec<_>) = table().into_iter().partition(|entry| entry.path.contains('{'));
    for Entry { resource, .. } in fixed.into_iter().chain(patterns) {
        service.service(resource);
    }
    service.default_service(web::to(async || {
        Problem::not_found("there is no such route; GET / shows what there is").response()
    }));
}

/// Every route there is: the one list that routing, the metrics and the test of the API's description go by.
fn table() -> Vec<Entry> {
    vec![
        reading("/", web::to(explorer::page)),
        reading("/explorer/{name}", web::to(explorer::part)),
        reading("/blocks", web::to(blocks::list)),
        reading("/blocks/{name}", web::to(blocks::one)),
        resource("/events", "GET", web::get().to(events::follow)),
        reading("/search", web::to(search::search)),
        resource("/mineBlock", "POST", web::post().to(mine::mine)),
        reading("/receipts/{id}", web::to(mine::receipt)),
        resource("/addPeers", "POST", web::post().to(peers::add)),
        reading("/peers", web::to(peers::list)),
        reading("/refused", web::to(peers::refused)),
        resource("/peers/{id}", "DELETE", web::delete().to(peers::remove)),
        resource("/bans", "GET, HEAD, POST", web::post().to(bans::ban))
            .and(Route::new().guard(Any(Get()).or(Head())).to(bans::list)),
        resource("/bans/{address}", "DELETE", web::delete().to(bans::unban)),
        reading("/version", web::to(status::version)),
        reading("/status", web::to(status::status)),
        reading("/forks", web::to(forks::list)),
        reading("/reorgs", web::to(forks::reorgs)),
        resource("/forks/{hash}/adopt", "POST", web::post().to(forks::adopt)),
        resource("/forks/{hash}/requeue", "POST", web::post().to(forks::requeue)),
        reading("/livez", web::to(status::live)),
        reading("/readyz", web::to(status::ready)),
        reading("/metrics", web::to(metrics::metrics)),
        reading("/openapi.json", web::to(openapi::document)),
        reading("/docs", web::to(explorer::docs)),
    ]
}

/// A path that is read: by GET, or by HEAD, which answers the same without a body.
fn reading(path: &'static str, route: Route) -> Entry {
    resource(path, "GET, HEAD", route.guard(Any(Get()).or(Head())))
}

/// A path with one route; callers with other methods are told which there are.
fn resource(path: &'static str, methods: &'static str, route: Route) -> Entry {
    let resource = web::resource(path).route(route).default_service(web::to(move || {
        let problem = Problem::new(405, format!("this route does not know that method; it knows {methods}"));
        let mut response = problem.response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
        ready(response)
    }));
    Entry { path, methods, resource }
}
