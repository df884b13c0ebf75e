//! What an attack may cost everybody else.

/// Bytes of memory that a node may grow by.
pub const MAX_GROWTH: u64 = 128 << 20;

/// Milliseconds until `/livez` is answered, at the 99th of 100: what a load balancer and a person still call alive.
pub const MAX_LIVEZ_MILLIS: f64 = 50.0;

/// An honest write takes at most so many times as long as a calm one, both at the 99th of 100.
pub const MAX_SLOWDOWN: f64 = 2.0;

/// Milliseconds below which a calm write counts as having taken so long: what a common disk takes to sync once. Where a disk
/// answers in a tenth of that, a write under attack is a matter of how the system shares two busy cores between the node and
/// those who attack it, call it and measure it.
pub const LEAST_CALM_MILLIS: f64 = 10.0;
