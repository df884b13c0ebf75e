//! The address book: which peers to dial, and when.
//!
//! Owns the known addresses, their origin and the backoff of each. Refuses to know sockets and clocks: time and randomness
//! are arguments. An address that an operator named is redialled for ever; one that a peer told us is a spare that is
//! dialled only while no link is up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::address::PeerAddress;
use super::limits::{MAX_ADDRESSES, MAX_LEARNED, MAX_LEARNED_FROM_ONE, MAX_OUTBOUND};
use super::message::NodeId;
use crate::ledger::chain::Origin;
use crate::ledger::outbox::Millis;

/// The first wait after a failure: a peer that is just being restarted is back in about this time.
const FIRST_WAIT: Millis = 250;

/// The longest wait after failures: a peer that comes back after a week is linked within this time.
const LONGEST_WAIT: Millis = 30_000;

/// Failures in a row after which an address that nobody configured may be forgotten for another.
const DEAD: u32 = 8;

/// How an address came into the book.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// By `--peer`, `/addPeers` or the configuration.
    Configured,
    /// From another peer.
    Learned,
}

/// What a known address is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not before this time.
    Waiting(Millis),
    /// A dial is under way.
    Dialling,
    /// A link is up, by our dial.
    Linked,
    /// It is this very node: never dialled.
    Oneself,
}

#[derive(Clone, Debug)]
struct Entry {
    source: Source,
    /// The network address of the peer that told of it, since the start.
    teller: Option<IpAddr>,
    state: State,
    /// Failures since the last link.
    failures: u32,
    /// The node that answered there last.
    node: Option<NodeId>,
}

/// The known addresses.
#[derive(Debug)]
pub struct Book {
    entries: BTreeMap<PeerAddress, Entry>,
    /// Links that we open.
    outbound: usize,
}

impl Default for Book {
    fn default() -> Self {
        Self::new(MAX_OUTBOUND)
    }
}

/// An address as it is kept on disk.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// The address.
    pub address: PeerAddress,
    /// How it came.
    pub source: Source,
}

impl Book {
    /// An empty book of a node that opens so many links.
    #[must_use]
    pub fn new(outbound: usize) -> Self {
        Self { entries: BTreeMap::new(), outbound }
    }

    /// Adds an address; a configured one stays configured. Answers whether the book changed.
    pub fn add(&mut self, address: PeerAddress, source: Source, now: Millis) -> bool {
        if let Some(entry) = self.entries.get_mut(&address) {
            let raised = source == Source::Configured && entry.source != Source::Configured;
            if raised {
                entry.source = source;
            }
            if source == Source::Configured && matches!(entry.state, State::Waiting(_)) {
                // The operator says it again: try now.
                entry.state = State::Waiting(now);
            }
            return raised;
        }
        if source == Source::Learned && self.learned() >= MAX_LEARNED && !self.forget_a_dead_one() {
            return false;
        }
        let entry = Entry { source, teller: None, state: State::Waiting(now), failures: 0, node: None };
        self.entries.insert(address, entry);
        true
    }

    /// Adds an address that a peer at a network address told of. No teller has more than its share, or pushes out what
    /// others told. Answers whether the book changed.
    pub fn learn(&mut self, address: PeerAddress, teller: IpAddr, now: Millis) -> bool {
        let teller = teller.to_canonical();
        let told = self.entries.values().filter(|entry| entry.teller == Some(teller)).count();
        if self.entries.contains_key(&address) || told >= MAX_LEARNED_FROM_ONE {
            return false;
        }
        let added = self.add(address.clone(), Source::Learned, now);
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.teller = Some(teller);
        }
        added
    }

    /// Makes room by an address that was dialled in vain again and again.
    fn forget_a_dead_one(&mut self) -> bool {
        let dead = |(_, entry): &(&PeerAddress, &Entry)| entry.source == Source::Learned && entry.failures >= DEAD;
        let Some(address) = self.entries.iter().find(dead).map(|(address, _)| address.clone()) else { return false };
        self.entries.remove(&address).is_some()
    }

    /// Takes an address out. Answers whether it was there.
    pub fn remove(&mut self, address: &PeerAddress) -> bool {
        self.entries.remove(address).is_some()
    }

    /// The operator of the node at this address has ended the link: forgotten, unless our own operator named it.
    pub fn dismissed(&mut self, address: &PeerAddress) {
        if self.entries.get(address).is_some_and(|entry| entry.source == Source::Learned) {
            self.entries.remove(address);
        }
    }

    fn learned(&self) -> usize {
        self.entries.values().filter(|entry| entry.source == Source::Learned).count()
    }

    /// How far a peer at this address is trusted.
    #[must_use]
    pub fn origin(&self, address: &PeerAddress) -> Origin {
        match self.entries.get(address) {
            Some(Entry { source: Source::Configured, .. }) => Origin::Trusted,
            _ => Origin::Stranger,
        }
    }

    /// How far a node is trusted that may have dialled us: as the address where it answered last.
    #[must_use]
    pub fn origin_of(&self, node: NodeId) -> Origin {
        let named = |entry: &Entry| entry.source == Source::Configured && entry.node == Some(node);
        if self.entries.values().any(named) { Origin::Trusted } else { Origin::Stranger }
    }

    /// The addresses to dial now; each counts as being dialled from here on. `linked` tells which nodes have a link already,
    /// by whoever's dial, and `links` how many links there are in all.
    pub fn due(&mut self, now: Millis, links: usize, linked: impl Fn(NodeId) -> bool) -> Vec<PeerAddress> {
        let busy = |entry: &&Entry| matches!(entry.state, State::Dialling | State::Linked);
        let mut room = self.outbound.saturating_sub(self.entries.values().filter(busy).count());
        let mut due = Vec::new();
        for wanted in [Source::Configured, Source::Learned] {
            if wanted == Source::Learned && links > 0 {
                break;
            }
            for (address, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.source == wanted) {
                let ready = matches!(entry.state, State::Waiting(at) if at <= now);
                if !ready || room == 0 || entry.node.is_some_and(&linked) {
                    continue;
                }
                entry.state = State::Dialling;
                room -= 1;
                due.push(address.clone());
            }
        }
        due
    }

    /// The dial led to a link.
    pub fn linked(&mut self, address: &PeerAddress) {
        if let Some(entry) = self.entries.get_mut(address) {
            entry.state = State::Linked;
        }
    }

    /// The peer at this address has said which node it is: the link works.
    pub fn introduced(&mut self, address: &PeerAddress, node: Option<NodeId>) {
        if let Some(entry) = self.entries.get_mut(address) {
            entry.failures = 0;
            entry.node = node;
        }
    }

    /// It is this very node.
    pub fn oneself(&mut self, address: &PeerAddress) {
        if let Some(entry) = self.entries.get_mut(address) {
            entry.state = State::Oneself;
        }
    }

    /// The dial failed, or the link ended: again after a wait that doubles each time, shortened at random by up to half so
    /// that nodes which lost each other do not come back in step.
    pub fn lost(&mut self, address: &PeerAddress, now: Millis, rng: &mut impl Rng) {
        let Some(entry) = self.entries.get_mut(address) else { return };
        if entry.state == State::Oneself {
            return;
        }
        let wait = (FIRST_WAIT << entry.failures.min(16)).min(LONGEST_WAIT);
        entry.failures = entry.failures.saturating_add(1);
        entry.state = State::Waiting(now + rng.random_range(wait / 2..=wait));
    }

    /// Addresses where we have a link now, to tell other peers.
    #[must_use]
    pub fn worth_telling(&self) -> Vec<String> {
        let linked = self.entries.iter().filter(|(_, entry)| entry.state == State::Linked);
        linked.map(|(address, _)| address.to_string()).take(MAX_ADDRESSES).collect()
    }

    /// The node that answered at an address last.
    #[must_use]
    pub fn node(&self, address: &PeerAddress) -> Option<NodeId> {
        self.entries.get(address)?.node
    }

    /// Addresses without a link, with their failures so far, for people.
    pub fn unlinked(&self) -> impl Iterator<Item = (&PeerAddress, Source, u32)> {
        self.entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Waiting(_) | State::Dialling))
            .map(|(address, entry)| (address, entry.source, entry.failures))
    }

    /// The book as it is kept on disk.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let line = |(address, entry): (&PeerAddress, &Entry)| Line { address: address.clone(), source: entry.source };
        self.entries.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn address(port: u16) -> PeerAddress {
        PeerAddress::new("127.0.0.1", port)
    }

    fn nobody(_: NodeId) -> bool {
        false
    }

    #[test]
    fn a_lost_peer_is_redialled_with_doubling_waits_that_differ() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut book = Book::default();
        assert!(book.add(address(1), Source::Configured, 0));
        assert_eq!(book.due(0, 0, nobody), [address(1)]);
        assert_eq!(book.due(0, 0, nobody), [], "it is being dialled");
        let mut now = 0;
        for failures in 0..12 {
            book.lost(&address(1), now, &mut rng);
            let longest = (250u64 << failures).min(30_000);
            assert_eq!(book.due(now + longest / 2 - 1, 0, nobody), [], "too early after {failures} failures");
            assert_eq!(book.due(now + longest, 0, nobody), [address(1)], "after {failures} failures");
            now += longest;
        }
        book.linked(&address(1));
        book.introduced(&address(1), Some(NodeId(5)));
        book.lost(&address(1), now, &mut rng);
        assert_eq!(book.due(now + 250, 0, nobody), [address(1)], "a link that worked resets the wait");
    }

    #[test]
    fn a_node_that_is_linked_already_or_is_oneself_is_not_dialled() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut book = Book::default();
        book.add(address(1), Source::Configured, 0);
        book.due(0, 0, nobody);
        book.introduced(&address(1), Some(NodeId(5)));
        book.lost(&address(1), 0, &mut rng);
        assert_eq!(book.due(60_000, 1, |node| node == NodeId(5)), []);
        assert_eq!(book.due(60_000, 0, nobody), [address(1)]);
        book.oneself(&address(1));
        book.lost(&address(1), 60_000, &mut rng);
        assert_eq!(book.due(u64::MAX, 0, nobody), []);
    }

    #[test]
    fn who_was_sent_away_does_not_come_back_unless_told_to() {
        let mut book = Book::default();
        book.add(address(1), Source::Learned, 0);
        book.add(address(2), Source::Configured, 0);
        (1..=3).for_each(|port| book.dismissed(&address(port)));
        assert_eq!(book.due(0, 0, nobody), [address(2)]);
    }

    #[test]
    fn learned_addresses_are_spares() {
        let mut book = Book::default();
        assert!(book.add(address(1), Source::Learned, 0));
        assert!(!book.add(address(1), Source::Learned, 0));
        assert_eq!(book.origin(&address(1)), Origin::Stranger);
        assert_eq!(book.due(0, 1, nobody), [], "a link is up");
        assert_eq!(book.due(0, 0, nobody), [address(1)]);
        assert!(book.add(address(1), Source::Configured, 0), "the operator names it");
        assert_eq!(book.origin(&address(1)), Origin::Trusted);
        for port in 2..=10_000 {
            book.add(address(port), Source::Learned, 0);
        }
        assert_eq!(book.entries.len(), 1 + MAX_LEARNED);
    }

    #[test]
    fn a_teller_has_its_share_and_pushes_nobody_out() {
        let teller = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut book = Book::default();
        assert!(book.learn(address(1), teller(1), 0));
        let told = (1..=1_000).filter(|&port| book.learn(address(port), teller(2), 0)).count();
        assert_eq!(told, MAX_LEARNED_FROM_ONE);
        assert!(
            !book.learn(address(2_000), "::ffff:10.0.0.2".parse().expect("an address"), 0),
            "the same in other words"
        );
        for n in 3..=100 {
            for port in 0..40 {
                let _ = book.learn(address(u16::from(n) * 40 + port), teller(n), 0);
            }
        }
        assert_eq!(book.entries.len(), MAX_LEARNED);
        assert!(book.entries.contains_key(&address(1)), "nobody was pushed out");
        let mut rng = StdRng::seed_from_u64(3);
        (0..DEAD).for_each(|_| book.lost(&address(1), 0, &mut rng));
        assert!(book.learn(address(60_000), teller(101), 0), "but what is never there makes room");
        assert!(!book.entries.contains_key(&address(1)));
        assert!(book.add(address(60_001), Source::Configured, 0), "the operator always has room");
    }

    #[test]
    fn no_more_are_dialled_than_links_are_allowed() {
        let mut book = Book::default();
        for port in 1..=40 {
            book.add(address(port), Source::Configured, 0);
        }
        assert_eq!(book.due(0, 0, nobody).len(), MAX_OUTBOUND);
        assert_eq!(book.due(0, 0, nobody).len(), 0);
    }
}
