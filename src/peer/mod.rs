//! Peers: what is said on a link, who is dialled, and how two nodes come to the same chain.
//!
//! Owns the protocol, the address book and the sync state machine, all as plain data and plain structs. Refuses to know
//! sockets, actors, clocks and storage: bytes and time come in, messages and intentions go out. Uses `ledger` only.
//!
//! Reading order: [`message`] (text frames: the tutorial's, and HELLO), [`native`] (binary frames between dolmen
//! nodes), [`assembly`] and [`incoming`] (from frames to judged messages), [`sync`] (state x event -> actions),
//! [`address`], [`book`] and [`reach`] (whom to dial, and when), [`links`] (who is linked), [`conduct`] (who misbehaves),
//! [`refused`] (whose blocks were refused, and why), [`limits`].

pub mod limits;

pub mod chain_text;
pub mod message;
pub mod native;

pub mod assembly;
pub mod incoming;

pub mod sync;

pub mod address;
pub mod book;
pub mod conduct;
pub mod links;
pub mod reach;
pub mod refused;
