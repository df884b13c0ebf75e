//! Whole chains for tutorial peers: who gets one, and when.
//!
//! A chain of 100,000 blocks is 30 MB of text, and a tutorial peer asks for it with twenty bytes. So only a few are under
//! way at once in the whole node, each peer has at most one waiting whatever it asks, and who got much waits longer for the
//! next. Nobody is refused: a peer that is told its last block instead would only ask again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::bucket::{Bucket, Rate};
use super::limits::{CHAIN_TIMEOUT, MAX_CHAINS_SENT};
use super::sync::LinkId;
use crate::ledger::Tip;
use crate::ledger::outbox::Millis;

/// KiB of chains that one peer is sent: one of the longest at once, and then 8 MiB a second. A tutorial peer that has lost
/// some tosses in a row does not notice while chains are short.
const SENT_KIB: Rate = Rate::per_second(8 * 1024, 128 * 1024);

/// What the shortest chain costs, in KiB: at most 128 answers a second.
const LEAST_KIB: u32 = 64;

#[derive(Debug)]
struct Asker {
    bucket: Bucket,
    /// When the next chain may go.
    ready: Millis,
}

#[derive(Debug)]
struct UnderWay {
    /// Where the chain ends.
    tip: Tip,
    /// When it was begun to be put together, or handed to the link.
    since: Millis,
    /// Whether the link has it.
    sent: bool,
}

/// The questions for our whole chain.
#[derive(Debug, Default)]
pub struct ChainAnswers {
    wanted: VecDeque<LinkId>,
    under_way: BTreeMap<LinkId, UnderWay>,
    askers: BTreeMap<LinkId, Asker>,
}

impl ChainAnswers {
    /// A peer asks for our chain, which ends in `tip`. The same chain is not sent twice at once.
    pub fn asked(&mut self, link: LinkId, tip: Tip) {
        let on_its_way = self.under_way.get(&link).is_some_and(|sent| sent.tip == tip);
        if !on_its_way && !self.wanted.contains(&link) {
            self.wanted.push_back(link);
        }
    }

    /// The peer whose turn it is, if one more chain may go; it counts as under way from here on, as the chain that ends in
    /// `tip`.
    pub fn next(&mut self, tip: Tip, now: Millis) -> Option<LinkId> {
        if self.under_way.len() >= MAX_CHAINS_SENT {
            return None;
        }
        let ready = |link: &LinkId| {
            !self.under_way.contains_key(link) && self.askers.get(link).is_none_or(|asker| asker.ready <= now)
        };
        let place = self.wanted.iter().position(ready)?;
        let link = self.wanted.remove(place)?;
        self.under_way.insert(link, UnderWay { tip, since: now, sent: false });
        Some(link)
    }

    /// The chain for this peer has so many bytes, and is handed to its link.
    pub fn sent(&mut self, link: LinkId, bytes: usize, now: Millis) {
        let Some(under_way) = self.under_way.get_mut(&link) else { return };
        (under_way.sent, under_way.since) = (true, now);
        let asker = self.askers.entry(link).or_insert_with(|| Asker { bucket: Bucket::new(SENT_KIB), ready: 0 });
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).max(LEAST_KIB);
        asker.ready = now + asker.bucket.spend(kib, now);
    }

    /// The peer has taken its chain, or gets none.
    pub fn ended(&mut self, link: LinkId) {
        self.under_way.remove(&link);
    }

    /// Whether no chain is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether this peer's link has a chain to send.
    #[must_use]
    pub fn is_sending(&self, link: LinkId) -> bool {
        self.under_way.get(&link).is_some_and(|under_way| under_way.sent)
    }

    /// Whether a peer takes so long for its chain that others wait in vain.
    #[must_use]
    pub fn overdue(&self, link: LinkId, now: Millis) -> bool {
        let late = |it: &UnderWay| it.sent && Duration::from_millis(now.saturating_sub(it.since)) > CHAIN_TIMEOUT;
        self.under_way.get(&link).is_some_and(late)
    }

    /// A link is gone.
    pub fn closed(&mut self, link: LinkId) {
        self.wanted.retain(|waiting| *waiting != link);
        self.under_way.remove(&link);
        self.askers.remove(&link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{BlockHash, Height};

    fn tip(height: u64) -> Tip {
        Tip { height: Height(height), hash: BlockHash([1; 32]) }
    }

    /// 30 MB, as 100,000 blocks have.
    const LONG: usize = 30_000_000;

    #[test]
    fn two_hundred_questions_are_two_answers() {
        let mut answers = ChainAnswers::default();
        (0..200).for_each(|_| answers.asked(1, tip(5)));
        assert_eq!(answers.next(tip(5), 0), Some(1));
        (0..200).for_each(|_| answers.asked(1, tip(5)));
        assert_eq!(answers.next(tip(5), 0), None, "it is on its way");
        (0..200).for_each(|_| answers.asked(1, tip(6)));
        assert_eq!(answers.next(tip(6), 0), None, "one at a time");
        answers.ended(1);
        assert_eq!(answers.next(tip(6), 0), Some(1), "the chain has grown");
        answers.ended(1);
        assert_eq!(answers.next(tip(6), 0), None);
    }

    #[test]
    fn few_are_under_way_at_once_and_each_has_its_turn() {
        let mut answers = ChainAnswers::default();
        for link in [3, 1, 2, 4] {
            answers.asked(link, tip(5));
        }
        assert_eq!([0; 3].map(|_| answers.next(tip(5), 0)), [Some(3), Some(1), None]);
        assert!(!answers.is_sending(3) && !answers.is_idle());
        answers.sent(3, LONG, 0);
        assert!(answers.is_sending(3) && !answers.is_sending(1));
        answers.ended(3);
        answers.asked(3, tip(5));
        assert_eq!([0; 2].map(|_| answers.next(tip(5), 0)), [Some(2), None], "who had one stands behind");
        answers.closed(4);
        answers.closed(1);
        assert_eq!([0; 2].map(|_| answers.next(tip(5), 0)), [Some(3), None]);
    }

    #[test]
    fn who_was_sent_much_waits_and_others_do_not_wait_for_him() {
        let mut answers = ChainAnswers::default();
        let mut sent = 0;
        let ask = |answers: &mut ChainAnswers, link, now| {
            answers.asked(link, tip(now));
            let got = answers.next(tip(now), now) == Some(link);
            answers.sent(link, LONG, now);
            answers.ended(link);
            got
        };
        for now in 0..100_000 {
            sent += u32::from(ask(&mut answers, 1, now));
        }
        assert_eq!(sent, 5 + 28, "four at once, one on credit, and then 8 MiB a second");
        answers.closed(1);
        for now in 0..10 {
            answers.asked(2, tip(now));
            assert_eq!(answers.next(tip(now), now), Some(2));
            answers.sent(2, 100, now);
            answers.ended(2);
        }
    }

    #[test]
    fn a_peer_that_does_not_read_is_overdue() {
        let mut answers = ChainAnswers::default();
        answers.asked(1, tip(5));
        answers.next(tip(5), 0);
        answers.sent(1, LONG, 1_000);
        assert!(!answers.overdue(1, 61_000));
        assert!(answers.overdue(1, 61_001));
        assert!(!answers.overdue(2, 61_001));
        answers.ended(1);
        assert!(!answers.overdue(1, 61_001));
    }
}
