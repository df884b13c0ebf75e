//! A whole network in one process, to play with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use thiserror::Error;
use tracing::warn;

use crate::actors::peers::AddPeers;
use crate::config::Config;
use crate::node::{Node, StartError};
use crate::peer::address::PeerAddress;

/// What is to be started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of nodes.
    pub nodes: u16,
    /// HTTP port of the first; the others follow. 0 takes free ones.
    pub http_port: u16,
    /// Peer port of the first; the others follow. 0 takes free ones.
    pub p2p_port: u16,
    /// Where the chains are kept; `None` for a folder that is removed at the end.
    pub data_dir: Option<PathBuf>,
}

/// Why a network did not start.
#[derive(Debug, Error)]
pub enum DevnetError {
    /// A node did not start.
    #[error("node {number}: {error}")]
    Node {
        /// Which, from 1.
        number: u16,
        /// Why.
        error: StartError,
    },
    /// The ports do not fit below 65536.
    #[error("{nodes} nodes from port {port} on need ports above 65535")]
    Ports {
        /// Number of nodes.
        nodes: u16,
        /// The first port.
        port: u16,
    },
    /// No folder can be made.
    #[error("cannot make a folder for the chains: {0}")]
    Folder(std::io::Error),
}

/// A running network.
pub struct Devnet {
    nodes: Vec<Node>,
    dir: PathBuf,
    temporary: bool,
}

impl Devnet {
    /// Starts the nodes one after the other and joins each with those before it.
    ///
    /// # Errors
    /// A node did not start; those that did are stopped again.
    pub async fn start(plan: Plan) -> Result<Self, DevnetError> {
        let temporary = plan.data_dir.is_none();
        let dir = match &plan.data_dir {
            Some(dir) => dir.clone(),
            None => temporary_dir().map_err(DevnetError::Folder)?,
        };
        let mut devnet = Self { nodes: Vec::new(), dir, temporary };
        for number in 1..=plan.nodes {
            let started = match devnet.config(&plan, number) {
                Ok(config) => Node::start(&config).await.map_err(|error| DevnetError::Node { number, error }),
                Err(error) => Err(error),
            };
            match started {
                Ok(node) => devnet.nodes.push(node),
                Err(error) => {
                    devnet.stop().await;
                    return Err(error);
                }
            }
        }
        devnet.join().await;
        Ok(devnet)
    }

    fn config(&self, plan: &Plan, number: u16) -> Result<Config, DevnetError> {
        let port = |first: u16| match first {
            0 => Ok(0),
            _ => first.checked_add(number - 1).ok_or(DevnetError::Ports { nodes: plan.nodes, port: first }),
        };
        Ok(Config {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, port(plan.http_port)?)),
            p2p: SocketAddr::from((Ipv4Addr::LOCALHOST, port(plan.p2p_port)?)),
            data_dir: self.dir.join(format!("node{number}")),
            ..Config::default()
        })
    }

    async fn join(&self) {
        for (place, node) in self.nodes.iter().enumerate() {
            let earlier = self.nodes[..place].iter().map(|peer| {
                let address = peer.p2p_address();
                PeerAddress::new(&address.ip().to_string(), address.port())
            });
            // A node that has just started has not stopped yet.
            let _ = node.peers().send(AddPeers(earlier.collect())).await;
        }
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What to do next, for people.
    #[must_use]
    pub fn welcome(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{} nodes are joined. Each has the explorer and the API on its first address:\n",
            self.nodes.len()
        );
        for (place, node) in self.nodes.iter().enumerate() {
            let (http, p2p) = (node.http_address(), node.p2p_address());
            let _ = writeln!(text, "  node {}   http://{http}   peers ws://{p2p}", place + 1);
        }
        let kept = if self.temporary { "removed at the end; --data-dir DIR keeps them" } else { "kept" };
        let _ = writeln!(text, "\nChains: {} ({kept})\n\nTry:\n", self.dir.display());
        let first = self.nodes.first().map(Node::http_address);
        let last = self.nodes.last().map(Node::http_address);
        if let (Some(first), Some(last)) = (first, last) {
            let _ = writeln!(
                text,
                "  curl -H 'Content-Type: application/json' -d '{{\"data\":[\"Hello\"]}}' http://{first}/mineBlock\n  \
                 curl http://{last}/blocks\n  curl http://{first}/peers\n  curl http://{first}/status\n"
            );
        }
        text.push_str("Ctrl-C stops.");
        text
    }

    /// Stops all nodes.
    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            warn!(%error, dir = %self.dir.display(), "the chains' folder could not be removed");
        }
    }
}

/// A new folder below the system's one for such things.
fn temporary_dir() -> std::io::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("dolmen-devnet-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&dir)?;
    Ok(dir)
}
