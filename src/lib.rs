//! dolmen: one small blockchain node.

pub mod ledger;
