//! Room for links: how many there may be, who gets the last, and how fast sockets may come.
//!
//! Owns the counts and the rule that some room is kept for addresses where peers live that the operator named, so that
//! strangers cannot fill the node. Loopback counts only against the total: all programs of a machine share it. Refuses to
//! know sockets and clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use governor::RateLimiter;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use thiserror::Error;

use super::bucket::{Bucket, Rate, Told};
use super::limits::{MAX_INBOUND, MAX_OUTBOUND, MAX_PER_ADDRESS};
use crate::ledger::outbox::Millis;

/// Sockets from all strangers together: each costs about a tenth of a millisecond, and every one of a whole cluster that
/// starts at once is let in.
const SOCKETS: Rate = Rate::per_second(500, 1_000);

/// Sockets from one address that is not loopback: a peer that is restarted again and again, or several behind one router.
const SOCKETS_PER_ADDRESS: Rate = Rate::per_second(2, 20);

/// For each link that may be open there may be so many sockets that are on their way to become one.
const SOCKETS_PER_LINK: usize = 4;

/// One in so many inbound links is kept for peers that the operator named.
const KEPT: usize = 8;

/// Addresses whose rate is remembered: beyond it the ones are forgotten that have been quiet. An address is quiet after ten
/// seconds, in which no more than 6,000 sockets are let in.
const MAX_REMEMBERED: usize = 8_192;

/// How many links there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slots {
    /// Links that others open.
    pub inbound: usize,
    /// Links that we open.
    pub outbound: usize,
    /// Inbound links from one address that is not loopback.
    pub per_address: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Self { inbound: MAX_INBOUND, outbound: MAX_OUTBOUND, per_address: MAX_PER_ADDRESS }
    }
}

/// Why there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Full {
    /// Too many links in all.
    #[error("there are as many inbound links as may be")]
    Total,
    /// What room there is is kept for peers that the operator named.
    #[error("the last inbound links are kept for configured peers")]
    Kept,
    /// Too many from one address.
    #[error("there are as many links from this address as may be")]
    Address,
    /// Too many in a short time.
    #[error("connections come too fast")]
    TooFast,
}

/// Who asks for a link, and what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Whether a configured peer lives at the address.
    pub known: bool,
    /// Whether it is this machine.
    pub loopback: bool,
    /// All that are open.
    pub open: usize,
    /// Of these, the ones from addresses where no configured peer lives.
    pub strangers: usize,
    /// Of these, the ones from the same address.
    pub same: usize,
}

impl Slots {
    /// Inbound links that are kept for configured peers.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.inbound / KEPT
    }

    /// Whether one more inbound link has room.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, asked: Asked) -> Result<(), Full> {
        room(self.inbound, self.kept(), self.per_address, asked)
    }

    /// Sockets that may be open at the peer port.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.inbound.saturating_mul(SOCKETS_PER_LINK)
    }
}

fn room(total: usize, kept: usize, per_address: usize, asked: Asked) -> Result<(), Full> {
    if asked.open >= total {
        Err(Full::Total)
    } else if asked.known {
        Ok(())
    } else if asked.strangers >= total - kept {
        Err(Full::Kept)
    } else if !asked.loopback && asked.same >= per_address {
        Err(Full::Address)
    } else {
        Ok(())
    }
}

/// The peer port's entrance: judges sockets before a byte of them is read.
#[derive(Debug)]
pub struct Entrance {
    slots: Slots,
    open: BTreeMap<IpAddr, usize>,
    /// Addresses where configured peers live.
    known: BTreeSet<IpAddr>,
    all: Bucket,
    each: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, Told, NoOpMiddleware<Nanos>>,
}

impl Entrance {
    /// The entrance of a node with so many links.
    #[must_use]
    pub fn new(slots: Slots) -> Self {
        Self {
            slots,
            open: BTreeMap::new(),
            known: BTreeSet::new(),
            all: Bucket::new(SOCKETS),
            each: RateLimiter::hashmap_with_clock(SOCKETS_PER_ADDRESS.quota(), Told::default()),
        }
    }

    /// A configured peer lives at this address.
    pub fn know(&mut self, address: IpAddr) {
        self.known.insert(address.to_canonical());
    }

    /// Whether a configured peer lives at this address.
    #[must_use]
    pub fn knows(&self, address: IpAddr) -> bool {
        self.known.contains(&address.to_canonical())
    }

    /// A socket has opened.
    ///
    /// # Errors
    /// It is to be closed at once, and [`Entrance::leave`] is not to be called for it.
    pub fn enter(&mut self, address: IpAddr, now: Millis) -> Result<(), Full> {
        let address = address.to_canonical();
        let known = self.knows(address);
        let strangers = self.open.iter().filter(|(address, _)| !self.known.contains(address)).map(|(_, count)| count);
        let asked = Asked {
            known,
            loopback: address.is_loopback(),
            open: self.open.values().sum(),
            strangers: strangers.sum(),
            same: self.open.get(&address).copied().unwrap_or(0),
        };
        let times = |count: usize| count.saturating_mul(SOCKETS_PER_LINK);
        room(self.slots.sockets(), times(self.slots.kept()), times(self.slots.per_address), asked)?;
        // Its own share first: what one address is refused is not taken from the others.
        if !known && !((asked.loopback || self.may_come(address, now)) && self.all.take(now)) {
            return Err(Full::TooFast);
        }
        *self.open.entry(address).or_insert(0) += 1;
        Ok(())
    }

    fn may_come(&self, address: IpAddr, now: Millis) -> bool {
        self.each.clock().set(now);
        if self.each.len() > MAX_REMEMBERED {
            self.each.retain_recent();
        }
        self.each.check_key(&one_household(address)).is_ok()
    }

    /// A socket that was let in has closed.
    pub fn leave(&mut self, address: IpAddr) {
        let address = address.to_canonical();
        let Some(count) = self.open.get_mut(&address) else { return };
        *count -= 1;
        if *count == 0 {
            self.open.remove(&address);
        }
    }
}

/// What one household or server is given: an address, or 2^64 of them.
fn one_household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn strangers_leave_room_for_configured_peers() {
        let slots = Slots { inbound: 16, outbound: 4, per_address: 3 };
        assert_eq!(slots.kept(), 2);
        let stranger = Asked { known: false, loopback: false, open: 0, strangers: 0, same: 0 };
        for (what, asked, wanted) in [
            ("the first", stranger, Ok(())),
            ("the last", Asked { open: 13, strangers: 13, ..stranger }, Ok(())),
            ("one too many", Asked { open: 14, strangers: 14, ..stranger }, Err(Full::Kept)),
            ("from loopback", Asked { open: 14, strangers: 14, loopback: true, ..stranger }, Err(Full::Kept)),
            ("beside known ones", Asked { open: 15, strangers: 13, ..stranger }, Ok(())),
            ("a known one", Asked { known: true, open: 14, strangers: 14, ..stranger }, Ok(())),
            ("the last known one", Asked { known: true, open: 15, strangers: 14, ..stranger }, Ok(())),
            ("one too many even so", Asked { known: true, open: 16, strangers: 14, ..stranger }, Err(Full::Total)),
            ("the third from an address", Asked { same: 2, ..stranger }, Ok(())),
            ("the fourth", Asked { same: 3, ..stranger }, Err(Full::Address)),
            ("the fourth from this machine", Asked { same: 3, loopback: true, ..stranger }, Ok(())),
            ("the fourth from a known address", Asked { same: 3, known: true, ..stranger }, Ok(())),
        ] {
            assert_eq!(slots.admit(asked), wanted, "{what}");
        }
        let tiny = Slots { inbound: 1, outbound: 0, per_address: 1 };
        assert_eq!((tiny.kept(), tiny.admit(stranger)), (0, Ok(())));
    }

    #[test]
    fn a_flood_of_connects_from_one_address_leaves_room_for_others() {
        let mut entrance = Entrance::new(Slots::default());
        let (evil, good) = (address("10.0.0.1"), address("10.0.0.2"));
        let mut entered = 0;
        for now in 0..10_000 {
            if entrance.enter(evil, now).is_ok() {
                entrance.leave(evil);
                entered += 1;
            }
        }
        assert_eq!(entered, 20 + 19, "twenty at once, two a second");
        let all = (0..2_000).filter(|_| entrance.enter(evil, 10_000).is_ok() || entrance.all.take(10_000)).count();
        assert_eq!(all, 1_000, "what one was refused is there for all others");
        assert_eq!(entrance.enter(good, 10_100), Ok(()));
        assert_eq!(entrance.enter(evil, 10_100), Err(Full::TooFast));
        assert_eq!(entrance.enter(evil, 10_500), Ok(()));
        entrance.know(evil);
        assert!((0..100).all(|_| entrance.enter(evil, 10_500).is_ok()), "a named peer may come as it likes");
    }

    #[test]
    fn a_thousand_idle_sockets_are_not_held() {
        let mut entrance = Entrance::new(Slots::default());
        let local = address("127.0.0.1");
        let let_in = (0..1_000).filter(|_| entrance.enter(local, 0).is_ok()).count();
        assert_eq!(let_in, 256 - 32);
        assert_eq!(entrance.enter(local, 0), Err(Full::Kept));
        entrance.know(address("10.0.0.3"));
        let known = (0..100).filter(|_| entrance.enter(address("::ffff:10.0.0.3"), 0).is_ok()).count();
        assert_eq!(known, 32, "what was kept");
        entrance.leave(local);
        assert_eq!(entrance.enter(local, 0), Ok(()));
        (0..let_in).for_each(|_| entrance.leave(local));
        (0..known).for_each(|_| entrance.leave(address("10.0.0.3")));
        entrance.leave(local);
        assert!(entrance.open.is_empty());
    }

    #[test]
    fn all_of_a_network_are_one_and_few_are_remembered() {
        let mut entrance = Entrance::new(Slots::default());
        let let_in = |entrance: &mut Entrance, address: IpAddr, now| {
            let entered = entrance.enter(address, now).is_ok();
            if entered {
                entrance.leave(address);
            }
            entered
        };
        let one = (0..100u128).filter(|n| let_in(&mut entrance, IpAddr::from(((0xfd00 << 112) + n).to_be_bytes()), 0));
        assert_eq!(one.count(), 20, "one network of six is one household");
        for n in 0..100_000u32 {
            let_in(&mut entrance, IpAddr::from((0x0a00_0000 + n).to_be_bytes()), u64::from(n) * 2);
        }
        assert!(entrance.each.len() <= MAX_REMEMBERED + 1, "{}", entrance.each.len());
    }
}
