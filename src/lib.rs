//! dolmen: one small blockchain node.
//!
//! As a library it is a node in three lines, inside an actix system ([`examples/embed.rs`] does more with it):
//!
//! ```
//! # actix_web::rt::System::new().block_on(async {
//! # let dir = std::env::temp_dir().join(format!("dolmen-doc-{}", std::process::id()));
//! # let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
//! use dolmen::{config::Config, node::Node};
//! let node = Node::start(&Config { data_dir: dir.clone(), http: any, p2p: any, ..Config::default() }).await?;
//! println!("http://{}", node.http_address());
//! node.stop().await;
//! # std::fs::remove_dir_all(dir).ok();
//! # Ok::<(), dolmen::node::StartError>(()) }).unwrap();
//! ```
//!
//! [`examples/embed.rs`]: https://docs.rs/crate/dolmen/latest/source/examples/embed.rs
//!
//! It keeps a chain of text entries, shares it with its peers over WebSocket, and answers HTTP. This is the map of the
//! crate, in the order in which a newcomer should read it:
//!
//! - [`ledger`]: what a block is, what is accepted, which chain is best, what is never lost. Pure.
//! - [`peer`]: what nodes say to each other, and how they come to the same chain. Pure.
//! - [`store`]: the chain on disk: a log that is the truth, and what is derived from it.
//! - [`actors`]: who owns what moves, and who tells whom.
//! - [`http`]: the routes; [`metrics`]: what is counted; [`server`]: how both ports are served;
//!   [`helpers`]: threads for long work.
//! - [`node`]: all wiring; [`devnet`]: several nodes in one process.
//! - [`cli`], [`client`], [`config`], [`exit`], [`signals`], [`text`], [`tls`]: the rim.
//!
//! The layer rule: arrows point down only. `http` and `actors` use `store`, `peer` and `ledger`; `store` and `peer` use
//! `ledger`; `ledger` knows nothing of the others. `ledger` and `peer` have no sockets, files, clocks, threads, actors or
//! randomness of their own.

pub mod ledger;
pub mod peer;
pub mod store;

pub mod actors;
pub mod http;
pub mod metrics;
pub mod server;

pub mod helpers;

pub mod devnet;
pub mod node;

pub mod cli;
pub mod client;
pub mod config;
pub mod exit;
pub mod signals;
pub mod text;
pub mod tls;
