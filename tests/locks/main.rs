//! What keeps strangers out, and what brings damaged blocks back: real nodes with a cluster key, with TLS, with broken disks.

#[path = "../support/mod.rs"]
mod support;

mod closed;
mod healing;
mod tls;
