//! The ledger: blocks, the rules that they must obey, and which chain of them is the best.
//!
//! Owns every decision about blocks. Refuses to know sockets, files, clocks, threads, actors and randomness of its own:
//! time, random numbers and storage come in as arguments. Depends on no other module of the crate.
//!
//! Reading order: [`hash`] and [`block`] (what a block is), [`merkle`], [`json`] (its one text form), [`rules`] (what is
//! accepted; [`survey`] names every broken one), [`chain`] (which tip is best, branches), [`storage`] (what is asked of
//! whoever keeps the blocks), [`outbox`] (nothing acknowledged is lost), [`keeper`] (all of it together, driven by one
//! caller), [`feed`] (the chain told to whoever follows it).

pub mod hash;

pub mod block;
pub mod genesis;
pub mod json;
pub mod limits;
pub mod merkle;
pub mod rules;
pub mod survey;

pub mod storage;

pub mod chain;
pub mod feed;
pub mod keeper;
pub mod outbox;

pub use block::{Block, CheckedBlock, Header, Height, SharedBlock, Tip, UnixTime, Version};
pub use hash::{BlockHash, MerkleRoot};
