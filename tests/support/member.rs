//! A member of a mixed network: a dolmen process or the stand-in for the tutorial's node, driven alike.

use super::process::{NodeOptions, NodeProcess};
use super::tutorial::{Coin, Options, TutorialPeer};
use super::wait;

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The real binary.
    Dolmen,
    /// The stand-in, with its coin and seed.
    Tutorial(Coin, u64),
}

/// A running member.
pub enum Member {
    Dolmen(Box<NodeProcess>),
    Tutorial(TutorialPeer),
}

impl Member {
    pub fn start(kind: Kind) -> Self {
        match kind {
            Kind::Dolmen => Self::Dolmen(Box::new(NodeProcess::start(NodeOptions::new()))),
            Kind::Tutorial(coin, seed) => Self::Tutorial(TutorialPeer::start(Options { seed, coin })),
        }
    }

    /// Mines one entry.
    pub fn mine(&self, entry: &str) {
        match self {
            Self::Dolmen(node) => drop(super::mine(node, entry)),
            Self::Tutorial(peer) => drop(peer.mine(&[entry])),
        }
    }

    /// Has this member dial another.
    pub fn join(&self, other: &Self) {
        match self {
            Self::Dolmen(node) => super::add_peer(node, &format!("ws:localhost:{}", other.p2p_port())),
            Self::Tutorial(peer) => peer.dial(other.p2p_port()),
        }
    }

    fn p2p_port(&self) -> u16 {
        match self {
            Self::Dolmen(node) => node.p2p_port(),
            Self::Tutorial(peer) => peer.port(),
        }
    }

    pub fn tip(&self) -> (u64, String) {
        match self {
            Self::Dolmen(node) => super::tip(node),
            Self::Tutorial(peer) => {
                peer.assert_alive();
                peer.tip()
            }
        }
    }

    /// The whole chain, as text.
    pub fn chain(&self) -> String {
        match self {
            Self::Dolmen(node) => super::blocks(node),
            Self::Tutorial(peer) => peer.chain().text(),
        }
    }

    /// Number of live links, of either direction.
    pub fn links(&self) -> usize {
        match self {
            Self::Dolmen(node) => {
                let status = node.get("/status").expect(200).json();
                status["peers"]["linked"].as_u64().expect("a number of links") as usize
            }
            Self::Tutorial(peer) => peer.links(),
        }
    }

    /// Is away: a node's process ends, a stand-in, which keeps nothing on disk, loses its links.
    pub fn leave(&mut self) {
        match self {
            Self::Dolmen(node) => assert!(node.terminate().success(), "a node that is told to stop exits with 0"),
            Self::Tutorial(peer) => peer.disconnect_all(),
        }
    }

    /// Is back, and joined with a member that it knew before. A node remembers by itself whom it dialled.
    pub fn come_back(&mut self, to: &Self) {
        match self {
            Self::Dolmen(node) => node.restart(),
            Self::Tutorial(peer) => peer.dial(to.p2p_port()),
        }
    }
}

/// Waits until all members have one and the same chain, byte for byte, that ends at this index.
pub fn wait_equal_at(members: &[&Member], index: u64) {
    let mut tips = Vec::new();
    let equal = wait::try_until(wait::SOON, || {
        tips = members.iter().map(|member| member.tip()).collect();
        tips.iter().all(|tip| *tip == tips[0] && tip.0 == index).then_some(())
    });
    assert!(equal.is_some(), "waited {:?} in vain for one chain that ends at {index}: {tips:?}", wait::SOON);
    let first = members[0].chain();
    for member in members {
        assert_eq!(member.chain(), first);
    }
}

/// Waits until a member has a number of links.
pub fn wait_links(member: &Member, links: usize) {
    wait::until(wait::SOON, format!("{links} links"), || (member.links() == links).then_some(()));
}
