//! The node among hostile and broken peers and clients: what it must do, case by case, over raw sockets.
//!
//! A case is a name, an attack, and what must become of the attacker's link. After each one the [arena](arena) looks at
//! the rest: the node answers `/livez` all the while, takes no more memory than is allowed, keeps its tip unless the case
//! says otherwise, mines, and an honest peer beside it follows; at the end nothing that was acknowledged is missing. How
//! fast others are served meanwhile is measured by `benches/siege`, which no test does.

#[path = "../support/mod.rs"]
mod support;

/// What an attack may cost.
#[allow(dead_code, reason = "the times are measured by benches/siege")]
mod bounds;

/// Long chains.
#[path = "../../benches/end_to_end/chain.rs"]
#[allow(dead_code, reason = "each program uses its own part")]
mod chain;

/// The node under attack, the honest peer, and what is looked at.
mod arena;

/// An attacker's socket.
mod stranger;

/// WebSocket frames that should not be.
mod frames;

/// Messages that are none, or mean two things.
mod messages;

/// Blocks and chains that break a rule.
mod chains;

/// HTTP requests that should not be.
mod requests;

/// Addresses that nobody should dial.
mod urls;

/// Floods.
mod floods;

/// Bytes that come one at a time, and what nobody reads.
mod trickles;

/// Messages that could go round in circles.
mod loops;
