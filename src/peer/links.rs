//! The register of live links: who is at the other end, and which of two links to one node stays.
//!
//! Owns what is shown of a link and the rules for links to oneself and double links. Generic over the handle through which
//! a link is spoken to, so that tests can use strings.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::address::PeerAddress;
use super::message::{Hello, NodeId, Nonce};
use super::slots::Asked;
use super::sync::LinkId;
use crate::ledger::outbox::Millis;

/// The WebSocket close code with which a node says that its operator has ended the link: the peer does not come back by
/// itself, unless its own operator named this node. From the range that RFC 6455 leaves to programs.
pub const DISMISSED: u16 = 4000;

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

    /// The inbound links as somebody sees them who asks for one more from `remote`. `knows` tells at which addresses
    /// configured peers live.
    #[must_use]
    pub fn asked(&self, remote: IpAddr, knows: impl Fn(IpAddr) -> bool) -> Asked {
        let inbound = || self.links.values().filter(|link| link.direction == Direction::Inbound);
        let remote = remote.to_canonical();
        Asked {
            known: knows(remote),
            loopback: remote.is_loopback(),
            open: inbound().count(),
            strangers: inbound().filter(|link| !knows(link.remote.ip())).count(),
            same: inbound().filter(|link| link.remote.ip().to_canonical() == remote).count(),
        }
    }

    /// The links to the node to which `closing` leads, if that was dialled at an address that `trusts` says the operator
    /// named: they are trusted too, also when the one that stays was dialled by the other side.
    #[must_use]
    pub fn heirs(&self, closing: LinkId, trusts: impl Fn(&PeerAddress) -> bool) -> Vec<LinkId> {
        let Some(closing) = self.links.get(&closing) else { return Vec::new() };
        let (Direction::Outbound(address), Some(hello)) = (&closing.direction, &closing.hello) else {
            return Vec::new();
        };
        if !trusts(address) {
            return Vec::new();
        }
        let same = |link: &Link<H>| link.hello.as_ref().is_some_and(|other| other.node == hello.node);
        self.links.iter().filter(|(_, link)| same(link)).map(|(id, _)| *id).collect()
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
    fn trust_goes_to_the_links_of_the_same_node() {
        let mut links = Links::new(NodeId(1));
        for (id, direction) in [(10, outbound()), (20, Direction::Inbound), (30, Direction::Inbound)] {
            links.add(id, link(direction, id));
        }
        assert!(links.heirs(10, |_| true).is_empty(), "it is not known yet who is there");
        for (id, node) in [(10, 2), (20, 2), (30, 3)] {
            links.introduce(id, hello(node, id));
        }
        let Direction::Outbound(named) = outbound() else { unreachable!("it is outbound") };
        assert_eq!(links.heirs(10, |address| *address == named), [10, 20]);
        assert!(links.heirs(10, |_| false).is_empty(), "nobody named it");
        assert!(links.heirs(20, |_| true).is_empty(), "it was not dialled");
        assert!(links.heirs(40, |_| true).is_empty(), "there is no such link");
    }

    #[test]
    fn inbound_links_are_counted_as_who_asks_sees_them() {
        let mut links = Links::new(NodeId(1));
        for (id, direction) in [(10, outbound()), (20, Direction::Inbound), (30, Direction::Inbound)] {
            links.add(id, link(direction, id));
        }
        let other: IpAddr = [10, 0, 0, 9].into();
        let home = links.get(20).expect("a link").remote.ip();
        let at = |address: IpAddr, known: bool| links.asked(address, |asked| known && asked == home);
        let seen = Asked { known: false, loopback: home.is_loopback(), open: 2, strangers: 2, same: 2 };
        assert_eq!(at(home, false), seen);
        assert_eq!(at(home, true), Asked { known: true, strangers: 0, ..seen });
        assert_eq!(at(other, true), Asked { loopback: false, strangers: 0, same: 0, ..seen });
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
