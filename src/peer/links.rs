//! The register of live links: who is at the other end, and which of two links to one node stays.
//!
//! Owns what is shown of a link and the rules for links to oneself and double links. Generic over the handle through which
//! a link is spoken to, so that tests can use strings.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::address::PeerAddress;
use super::message::{Hello, NodeId, Nonce};
use super::sync::LinkId;
use crate::ledger::outbox::Millis;

/// Who dialled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The peer.
    Inbound,
    /// We, at this address.
    Outbound(PeerAddress),
}

/// A live link.
#[derive(Clone, Debug)]
pub struct Link<H> {
    /// How to speak on it.
    pub handle: H,
    /// Who dialled.
    pub direction: Direction,
    /// The socket's other end.
    pub remote: SocketAddr,
    /// Our number for it, which we said in HELLO; later links have larger ones.
    pub nonce: Nonce,
    /// What the peer said of itself; `None` for a tutorial peer, or not yet.
    pub hello: Option<Hello>,
    /// When it opened, Unix milliseconds.
    pub since: Millis,
    /// How long the last answer to a ping took, in milliseconds.
    pub latency: Option<f64>,
}

/// What a HELLO means for the links there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Introduction {
    /// A new peer.
    New,
    /// The link leads to this very node.
    Oneself,
    /// There is another link to that node; this one of the two is to be closed.
    Double {
        /// The link to close.
        close: LinkId,
    },
    /// The link is not known, or has said HELLO before.
    Again,
}

/// The live links.
#[derive(Debug)]
pub struct Links<H> {
    own: NodeId,
    links: BTreeMap<LinkId, Link<H>>,
}

impl<H> Links<H> {
    /// No links yet of the node that is called `own`.
    #[must_use]
    pub fn new(own: NodeId) -> Self {
        Self { own, links: BTreeMap::new() }
    }

    /// Adds a link.
    pub fn add(&mut self, id: LinkId, link: Link<H>) {
        self.links.insert(id, link);
    }

    /// Takes a link out.
    pub fn remove(&mut self, id: LinkId) -> Option<Link<H>> {
        self.links.remove(&id)
    }

    /// A link.
    #[must_use]
    pub fn get(&self, id: LinkId) -> Option<&Link<H>> {
        self.links.get(&id)
    }

    /// A link, to be changed.
    pub fn get_mut(&mut self, id: LinkId) -> Option<&mut Link<H>> {
        self.links.get_mut(&id)
    }

    /// All links, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (LinkId, &Link<H>)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    /// Number of links.
    #[must_use]
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there is no link.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Number of links that others opened.
    #[must_use]
    pub fn inbound(&self) -> usize {
        self.links.values().filter(|link| link.direction == Direction::Inbound).count()
    }

    /// Number of inbound links from one address.
    #[must_use]
    pub fn inbound_from(&self, remote: SocketAddr) -> usize {
        let same = |link: &&Link<H>| link.direction == Direction::Inbound && link.remote.ip() == remote.ip();
        self.links.values().filter(same).count()
    }

    /// Whether a node has a link.
    #[must_use]
    pub fn has_node(&self, node: NodeId) -> bool {
        self.links.values().any(|link| link.hello.as_ref().is_some_and(|hello| hello.node == node))
    }

    /// The peer has said HELLO. Of two links to one node, the one stays that the node with the smaller id dialled; of two
    /// that the same node dialled, the one whose dialler's nonce is larger, the younger: who dials again has lost the older,
    /// even when this end has not noticed yet. Both ends come to the same answer, whichever HELLO arrives first.
    pub fn introduce(&mut self, id: LinkId, hello: Hello) -> Introduction {
        let Some(link) = self.links.get(&id) else { return Introduction::Again };
        if link.hello.is_some() {
            return Introduction::Again;
        }
        if hello.node == self.own {
            return Introduction::Oneself;
        }
        let rank = rank(self.own, link, &hello);
        let others = self.links.iter().filter_map(|(&other, link)| {
            let hello = link.hello.as_ref().filter(|known| known.node == hello.node)?;
            Some((other, self::rank(self.own, link, hello)))
        });
        // The best of them, since one that has lost already may not be closed yet.
        let other = others.min_by_key(|(_, rank)| *rank);
        if let Some(link) = self.links.get_mut(&id) {
            link.hello = Some(hello);
        }
        match other {
            None => Introduction::New,
            Some((other, others_rank)) => Introduction::Double { close: if rank < others_rank { other } else { id } },
        }
    }
}

/// The smaller stays.
fn rank<H>(own: NodeId, link: &Link<H>, hello: &Hello) -> (NodeId, Reverse<Nonce>) {
    match link.direction {
        Direction::Inbound => (hello.node, Reverse(hello.nonce)),
        Direction::Outbound(_) => (own, Reverse(link.nonce)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::genesis;

    fn hello(node: u128, nonce: u64) -> Hello {
        let tip = genesis::tip();
        Hello {
            protocol: 1,
            node: NodeId(node),
            nonce: Nonce(nonce),
            genesis: tip.hash,
            port: 1,
            tip,
            agent: String::new(),
            challenge: None,
        }
    }

    fn link(direction: Direction, nonce: u64) -> Link<&'static str> {
        let remote = SocketAddr::from(([127, 0, 0, 1], 9));
        Link { handle: "", direction, remote, nonce: Nonce(nonce), hello: None, since: 0, latency: None }
    }

    fn outbound() -> Direction {
        Direction::Outbound(PeerAddress::new("localhost", 1))
    }

    /// Two nodes dial each other; link `a` is dialled by node 1 and `b` by node 2. Whatever order the HELLOs come in, both
    /// close `b`.
    #[test]
    fn both_ends_keep_the_link_of_the_smaller_node() {
        for (own, peer, a, b) in [(1, 2, outbound(), Direction::Inbound), (2, 1, Direction::Inbound, outbound())] {
            for order in [[10, 20], [20, 10]] {
                let mut links = Links::new(NodeId(own));
                links.add(10, link(a.clone(), 1));
                links.add(20, link(b.clone(), 2));
                assert_eq!(links.introduce(order[0], hello(peer, 3)), Introduction::New);
                assert_eq!(
                    links.introduce(order[1], hello(peer, 4)),
                    Introduction::Double { close: 20 },
                    "{own} {order:?}"
                );
            }
        }
    }

    /// Node 1 dials node 2 twice, with nonces 6 and 5: both ends close the older, whatever the other's nonces are.
    #[test]
    fn both_ends_keep_the_younger_of_two_links_that_one_dialled() {
        for order in [[10, 20], [20, 10]] {
            let nonce = |id| if id == 10 { 6 } else { 5 };
            let mut dialler = Links::new(NodeId(1));
            let mut other = Links::new(NodeId(2));
            for id in [10, 20] {
                dialler.add(id, link(outbound(), nonce(id)));
                other.add(id, link(Direction::Inbound, 100 - id));
            }
            assert_eq!(dialler.introduce(order[0], hello(2, 50)), Introduction::New);
            assert_eq!(dialler.introduce(order[1], hello(2, 40)), Introduction::Double { close: 20 });
            assert_eq!(other.introduce(order[0], hello(1, nonce(order[0]))), Introduction::New);
            assert_eq!(other.introduce(order[1], hello(1, nonce(order[1]))), Introduction::Double { close: 20 });
        }
    }

    /// The first link has lost already and is not closed yet; it must not win against a third in place of the best.
    #[test]
    fn a_third_link_is_judged_against_the_best() {
        for (third, close) in [(9, 20), (7, 30), (1, 30)] {
            let mut links = Links::new(NodeId(1));
            for (id, nonce) in [(10, 5), (20, 8), (30, third)] {
                links.add(id, link(outbound(), nonce));
            }
            assert_eq!(links.introduce(10, hello(2, 0)), Introduction::New);
            assert_eq!(links.introduce(20, hello(2, 0)), Introduction::Double { close: 10 });
            assert_eq!(links.introduce(30, hello(2, 0)), Introduction::Double { close }, "nonce {third}");
        }
    }

    #[test]
    fn oneself_and_repetition_are_seen() {
        let mut links = Links::new(NodeId(1));
        links.add(10, link(outbound(), 1));
        assert_eq!(links.introduce(10, hello(1, 2)), Introduction::Oneself);
        assert_eq!(links.introduce(10, hello(2, 2)), Introduction::New);
        assert_eq!(links.introduce(10, hello(3, 2)), Introduction::Again);
        assert_eq!(links.introduce(11, hello(3, 2)), Introduction::Again);
    }
}
