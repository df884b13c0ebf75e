//! What an operator watches: the metrics, the description of the API, the log.

#[path = "../support/mod.rs"]
mod support;

mod api;
mod log;
mod metrics;
mod observe;
mod prometheus;
