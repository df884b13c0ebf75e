//! How peers behave: points for what they do wrong, and bans for those who go on.
//!
//! Owns a record for each network address that misbehaved. Refuses to know links and clocks: what happened and when come
//! in. An address and not a node is judged, because a node's name is whatever it says; and this machine's own loopback
//! address is never banned, because every program on the machine shares it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::incoming::ReadError;
use super::sync::Fault;

/// Unix seconds: bans outlive the process.
pub type Seconds = u64;

/// Points at which an address is banned.
const BAN_AT: u32 = 100;

/// Points are halved every ten minutes: what happened yesterday does not count.
const HALF_LIFE: Seconds = 600;

/// The first ban.
const FIRST_BAN: Seconds = 600;

/// The longest ban; each is twice as long as the one before.
const LONGEST_BAN: Seconds = 24 * 60 * 60;

/// Addresses of which a record is kept; beyond it the one with the fewest points is forgotten.
const MAX_RECORDS: usize = 4096;

/// Something that a peer did wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Offence {
    /// It said something that is none of the protocol, or holds a block that no honest node makes.
    Misread(ReadError),
    /// The sync found it at fault.
    Fault(Fault),
    /// A message longer than it may be, frames out of order, or one that never ended.
    Framing,
    /// It does not read what it is sent.
    NotReading,
    /// It opened a link and said nothing on it.
    Silent,
    /// It sends more than a node can have to say.
    Flood,
    /// It wants into a closed cluster without its key.
    NoKey,
}

impl Offence {
    /// What it costs. Zero for what honest peers do; 100 is a ban at once.
    #[must_use]
    pub fn points(&self) -> u32 {
        match self {
            Self::Misread(error) if !error.sender_at_fault() => 0,
            Self::Misread(ReadError::Text(_) | ReadError::Frame(_) | ReadError::Rule(_)) => 40,
            Self::Fault(Fault::Rule(_)) => 50,
            Self::Fault(Fault::Protocol(_)) => 40,
            // Machines fall asleep and cables are pulled.
            Self::Fault(Fault::Stalled) | Self::NotReading | Self::Silent => 10,
            // A node that was given the wrong file dials on until somebody notices; a guess takes longer than the world.
            Self::NoKey => 5,
            Self::Framing => 40,
            Self::Flood => 20,
        }
    }
}

/// What is known of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Points, as of `at`.
    points: u32,
    /// When the points were counted last.
    at: Seconds,
    /// Until when it is banned; in the past when it is not.
    banned_until: Seconds,
    /// How often it was banned.
    bans: u32,
}

impl Record {
    fn points_at(&self, now: Seconds) -> u32 {
        let halvings = now.saturating_sub(self.at) / HALF_LIFE;
        // Shifting by 32 or more is what leaves nothing.
        u32::try_from(halvings).ok().and_then(|shift| self.points.checked_shr(shift)).unwrap_or(0)
    }
}

/// The records.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Conduct {
    records: BTreeMap<IpAddr, Record>,
}

/// What an offence led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The points now.
    Noted(u32),
    /// Banned until this time.
    Banned(Seconds),
}

impl Conduct {
    /// Counts an offence.
    pub fn note(&mut self, address: IpAddr, offence: &Offence, now: Seconds) -> Verdict {
        let address = address.to_canonical();
        let cost = offence.points();
        if cost == 0 {
            return Verdict::Noted(self.points(address, now));
        }
        if !self.records.contains_key(&address) {
            self.make_room(now);
        }
        let record = self.records.entry(address).or_default();
        record.points = record.points_at(now).saturating_add(cost);
        record.at = now;
        if record.points < BAN_AT || is_own(address) {
            return Verdict::Noted(record.points);
        }
        let length = (FIRST_BAN << record.bans.min(16)).min(LONGEST_BAN);
        record.points = 0;
        record.bans = record.bans.saturating_add(1);
        record.banned_until = now.saturating_add(length);
        Verdict::Banned(record.banned_until)
    }

    fn make_room(&mut self, now: Seconds) {
        if self.records.len() < MAX_RECORDS {
            return;
        }
        let least = |(_, record): &(&IpAddr, &Record)| (record.banned_until.max(now), record.points_at(now));
        if let Some(address) = self.records.iter().min_by_key(least).map(|(address, _)| *address) {
            self.records.remove(&address);
        }
    }

    /// An operator's ban. Answers until when it lasts.
    pub fn ban(&mut self, address: IpAddr, seconds: Seconds, now: Seconds) -> Seconds {
        self.make_room(now);
        let record = self.records.entry(address.to_canonical()).or_default();
        record.banned_until = now.saturating_add(seconds);
        record.banned_until
    }

    /// Forgets everything about an address. Answers whether there was anything.
    pub fn forgive(&mut self, address: IpAddr) -> bool {
        self.records.remove(&address.to_canonical()).is_some()
    }

    /// Until when an address is banned; `None` if it is not.
    #[must_use]
    pub fn banned(&self, address: IpAddr, now: Seconds) -> Option<Seconds> {
        self.records.get(&address.to_canonical()).map(|record| record.banned_until).filter(|until| *until > now)
    }

    /// The points of an address.
    #[must_use]
    pub fn points(&self, address: IpAddr, now: Seconds) -> u32 {
        self.records.get(&address.to_canonical()).map_or(0, |record| record.points_at(now))
    }

    /// All bans that last.
    pub fn bans(&self, now: Seconds) -> impl Iterator<Item = (IpAddr, Seconds)> {
        self.records
            .iter()
            .filter(move |(_, record)| record.banned_until > now)
            .map(|(address, record)| (*address, record.banned_until))
    }
}

/// The address that every program of this machine has by default.
fn is_own(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::LOCALHOST) || address == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::rules::RuleError;
    use crate::peer::message::MessageError;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn nonsense() -> Offence {
        Offence::Misread(ReadError::Text(MessageError::Form("x".into())))
    }

    #[test]
    fn repetition_is_banned_for_twice_as_long_each_time() {
        let mut conduct = Conduct::default();
        let peer = address("10.0.0.1");
        let mut now = 1_000_000;
        for length in [600, 1200, 2400] {
            assert_eq!(conduct.note(peer, &nonsense(), now), Verdict::Noted(40));
            assert_eq!(conduct.note(peer, &nonsense(), now), Verdict::Noted(80));
            assert_eq!(conduct.note(peer, &nonsense(), now), Verdict::Banned(now + length));
            assert_eq!(conduct.banned(peer, now + length - 1), Some(now + length));
            assert_eq!(conduct.banned(peer, now + length), None, "a ban ends");
            now += length;
        }
        assert_eq!(conduct.banned(address("10.0.0.2"), now), None, "others are not concerned");
    }

    #[test]
    fn points_fade() {
        let mut conduct = Conduct::default();
        let peer = address("10.0.0.1");
        conduct.note(peer, &nonsense(), 0);
        conduct.note(peer, &nonsense(), 0);
        assert_eq!((conduct.points(peer, 599), conduct.points(peer, 600), conduct.points(peer, 1800)), (80, 40, 10));
        assert_eq!(conduct.points(peer, u64::MAX), 0);
        assert_eq!(conduct.note(peer, &nonsense(), 600), Verdict::Noted(80));
    }

    #[test]
    fn what_the_tutorial_makes_a_peer_do_costs_nothing() {
        let mut conduct = Conduct::default();
        let peer = address("10.0.0.1");
        for rule in [
            RuleError::BodyEmpty,
            RuleError::EntryAmbiguous { position: 0 },
            RuleError::EntryBytes { position: 0, got: 1 << 20 },
        ] {
            for _ in 0..100 {
                assert_eq!(conduct.note(peer, &Offence::Misread(ReadError::Rule(rule.clone())), 0), Verdict::Noted(0));
            }
        }
    }

    #[test]
    fn this_machine_is_never_banned_but_its_other_addresses_are() {
        let mut conduct = Conduct::default();
        for _ in 0..10 {
            assert!(matches!(conduct.note(address("127.0.0.1"), &nonsense(), 0), Verdict::Noted(_)));
            assert!(matches!(conduct.note(address("::ffff:127.0.0.1"), &nonsense(), 0), Verdict::Noted(_)));
        }
        conduct.note(address("127.0.0.2"), &nonsense(), 0);
        conduct.note(address("127.0.0.2"), &nonsense(), 0);
        assert_eq!(conduct.note(address("127.0.0.2"), &nonsense(), 0), Verdict::Banned(600));
    }

    #[test]
    fn an_operator_bans_and_forgives() {
        let mut conduct = Conduct::default();
        assert_eq!(conduct.ban(address("::ffff:10.0.0.1"), 60, 100), 160);
        assert_eq!(conduct.banned(address("10.0.0.1"), 159), Some(160));
        assert_eq!(conduct.bans(100).collect::<Vec<_>>(), [(address("10.0.0.1"), 160)]);
        let text = serde_json::to_string(&conduct).expect("JSON");
        assert_eq!(serde_json::from_str::<Conduct>(&text).expect("the same"), conduct);
        assert!(conduct.forgive(address("10.0.0.1")));
        assert_eq!(conduct.banned(address("10.0.0.1"), 100), None);
    }

    #[test]
    fn records_are_bounded_and_bans_are_kept_longest() {
        let mut conduct = Conduct::default();
        conduct.ban(address("1.1.1.1"), 1000, 0);
        for number in 0..10_000u32 {
            conduct.note(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)), &nonsense(), 0);
        }
        assert_eq!(conduct.records.len(), MAX_RECORDS);
        assert!(conduct.banned(address("1.1.1.1"), 0).is_some());
    }
}
