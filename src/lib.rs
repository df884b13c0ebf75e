//! dolmen: one small blockchain node.

pub mod ledger;
pub mod peer;
pub mod store;
