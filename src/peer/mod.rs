//! Peers: what is said on a link, who is dialled, and how two nodes come to the same chain.
//!
//! Owns the protocol, the address book and the sync state machine, all as plain data and plain structs. Refuses to know
//! sockets, actors, clocks and storage: bytes and time come in, messages and intentions go out. Uses `ledger`, and
//! [`text`](crate::text), which knows what people's terminals must not be shown.
//!
//! Reading order: [`message`] (text frames: the tutorial's, HELLO and PROOF), [`proof`] (closed clusters), [`native`]
//! (binary frames between dolmen nodes), [`assembly`] and [`incoming`] (from frames to judged messages), [`sync`] (state x
//! event -> actions), [`address`], [`book`] and [`reach`] (whom to dial, and when), [`links`] and [`slots`] (who is linked,
//! and how many may be), [`conduct`] (who misbehaves), [`refused`] (whose blocks were refused, and why), [`bucket`],
//! [`pace`], [`turns`], [`answers`], [`chain_text`] and [`budget`] (how much of our time, wire and memory a peer gets),
//! [`limits`].

pub mod limits;

pub mod chain_text;
pub mod message;
pub mod native;
pub mod proof;

pub mod assembly;
pub mod incoming;

pub mod sync;

pub mod address;
pub mod book;
pub mod conduct;
pub mod links;
pub mod reach;
pub mod refused;
pub mod slots;

pub mod answers;
pub mod bucket;
pub mod budget;
pub mod pace;
pub mod turns;
