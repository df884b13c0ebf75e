//! `GET /metrics` in Prometheus' text format, and the middleware that times every answer.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::ACCEPT;
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, web};

use super::App;
use super::problem::Problem;
use crate::actors::chain::GetStats;
use crate::actors::peers::{GetRepair, GetSync, ListBans, ListPeers};
use crate::metrics::{NO_ROUTE, Reading};

/// The text that Prometheus asks for first.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The older text, for programs that ask for nothing else.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is counted, and what is read from the actors now: in OpenMetrics, or in Prometheus' older text for who asks
/// for `text/plain` alone.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "node",
    responses((status = 200, description = "The metrics, for Prometheus", content(
        (String = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (String = "text/plain; version=0.0.4; charset=utf-8"),
    ))),
)]
pub async fn metrics(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let rows = app.peers.send(ListPeers).await?;
    let banned = app.peers.send(ListBans).await?.len() as u64;
    let sync = app.peers.send(GetSync).await?;
    let repair = app.peers.send(GetRepair).await?;
    let stats = app.chain.send(GetStats).await?;
    let mut peers: HashMap<(&'static str, &'static str), u64> = HashMap::new();
    for row in &rows {
        if let Some(direction) = row.direction {
            *peers.entry((row.kind, direction)).or_default() += 1;
        }
    }
    app.metrics.read(&Reading {
        height: stats.tip.height.0,
        outbox: stats.outbox as u64,
        side_blocks: stats.side_blocks as u64,
        parked: stats.parked as u64,
        damaged: repair.wanted as u64,
        writable: stats.failed.is_none(),
        log_bytes: stats.sizes.log,
        index_bytes: stats.sizes.index,
        peers,
        banned,
        sync_left: sync.map_or(0, |sync| sync.target.0.saturating_sub(sync.at.0)),
        uptime: app.stopwatch.millis() / 1000,
    });
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &app.registry)
        .map_err(|_| Problem::new(500, "the metrics cannot be written"))?;
    let accepts = |kind: &str| {
        request.headers().get_all(ACCEPT).any(|value| value.to_str().is_ok_and(|value| value.contains(kind)))
    };
    Ok(if accepts("text/plain") && !accepts("openmetrics") {
        HttpResponse::Ok().content_type(PLAIN).body(plain(&text))
    } else {
        HttpResponse::Ok().content_type(OPEN_METRICS).body(text)
    })
}

/// OpenMetrics as Prometheus' older text: a counter is called by the name of its samples, and there are neither units nor an
/// end mark.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut counters = HashSet::new();
    for line in text.lines() {
        if let Some((name, "counter")) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            counters.insert(name);
        }
    }
    for line in text.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let named =
            ["# HELP ", "# TYPE "].iter().find_map(|word| Some((word, line.strip_prefix(word)?.split_once(' ')?)));
        let _ = match named {
            // Writing into memory cannot fail.
            Some((word, (name, rest))) if counters.contains(name) => writeln!(plain, "{word}{name}_total {rest}"),
            _ => writeln!(plain, "{line}"),
        };
    }
    plain
}

/// Times every request until its answer begins.
///
/// # Errors
/// Whatever the route answers with.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let begun = Instant::now();
    let app = request.app_data::<web::Data<App>>().cloned();
    let answer = next.call(request).await;
    if let Some(app) = app {
        // Asked only now: the router has found the route already. An error has lost its request.
        let (pattern, status) = match &answer {
            Ok(answer) => (answer.request().match_pattern(), answer.status()),
            Err(error) => (None, error.as_response_error().status_code()),
        };
        app.metrics.answered(pattern.as_deref().unwrap_or(NO_ROUTE), status.as_u16(), begun.elapsed());
    }
    answer
}
