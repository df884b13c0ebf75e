//! The node among hostile and broken peers and clients: what it must do, case by case, over raw sockets.
//!
//! A case is a name, an attack, and what must become of the attacker's link. After each one the [arena](arena) looks at
//! the rest: the node answers `/livez` all the while, takes no more memory than is allowed, keeps its tip unless the case
//! says otherwise, mines, and an honest peer beside it follows; at the end nothing that was acknowledged is missing.

#[path = "../support/mod.rs"]
mod support;

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

/// Floods, and bytes that come one at a time.
mod floods;

/// Messages that could go round in circles.
mod loops;
