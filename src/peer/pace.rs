//! How fast a peer may talk: buckets of frames and bytes for its socket, and of what it says for its link.
//!
//! Owns the rates with their reasons, and which of them is paid by what. Refuses to know sockets, links and clocks. Two
//! answers are possible: *wait*, for what an honest peer may do in a hurry, so that its messages are read more slowly; and
//! [`Flooded`], for what no honest peer does so often.
//!
//! What the tutorial makes a peer do is never held against it: QUERY_ALL for each of our blocks that does not fit its chain,
//! and each new block once, also when we have it already. So every block that we tell earns a question, and every block
//! that our chain takes earns a repetition.

use thiserror::Error;

use super::bucket::{Bucket, Rate};
use super::incoming::Incoming;
use super::native::Frame;
use crate::ledger::Tip;
use crate::ledger::outbox::Millis;

/// Frames of a stranger: twice what a disk can commit in groups, and three times what the tutorial's program can mine.
pub const STRANGER_FRAMES: Rate = Rate::per_second(10_000, 20_000);

/// KiB of a stranger's frames: a chain of 100 MiB comes at once, and a branch at 300,000 small blocks a second.
pub const STRANGER_KIB: Rate = Rate::per_second(32 * 1024, 128 * 1024);

/// Frames of a peer that the operator named: only a peer that has lost its mind sends more.
pub const TRUSTED_FRAMES: Rate = Rate::per_second(100_000, 200_000);

/// KiB of frames of a peer that the operator named: more than two cores can verify.
pub const TRUSTED_KIB: Rate = Rate::per_second(1024 * 1024, 2 * 1024 * 1024);

/// Pings, pongs and the like: an honest peer sends one in some seconds, and answers ours.
pub const CONTROL: Rate = Rate::per_second(10, 100);

/// Messages that bring nothing: questions that were not earned, unknown types, repetitions. An honest peer says a handful
/// when a link opens.
pub const TALK: Rate = Rate::per_second(10, 300);

/// Locate and Fetch: each reads up to 70 places of the chain, or a megabyte. A peer that falls behind again and again asks
/// once for each time that it has caught up.
pub const QUERIES: Rate = Rate::per_second(100, 200);

/// Blocks that do not change our chain: a peer that mines on a branch of its own sends one a block, and is read more slowly
/// when it mines faster.
pub const FRUITLESS: Rate = Rate::per_second(500, 2_000);

/// Earned questions and repetitions that are remembered: as many as messages can be on their way.
const MAX_EARNED: u32 = 65_536;

/// More than an honest peer has to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("says the same or nothing again and again")]
pub struct Flooded;

/// The pace of one socket.
#[derive(Debug)]
pub struct Pace {
    frames: Bucket,
    kib: Bucket,
    control: Bucket,
    trusted: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            frames: Bucket::new(STRANGER_FRAMES),
            kib: Bucket::new(STRANGER_KIB),
            control: Bucket::new(CONTROL),
            trusted: false,
        }
    }
}

impl Pace {
    /// The operator has named this peer: its buckets are wide from now on.
    pub fn trust(&mut self) {
        if !self.trusted {
            *self = Self {
                frames: Bucket::new(TRUSTED_FRAMES),
                kib: Bucket::new(TRUSTED_KIB),
                control: Bucket::new(CONTROL),
                trusted: true,
            };
        }
    }

    /// A frame of a message came. Answers for how many milliseconds to read nothing more.
    pub fn frame(&mut self, bytes: usize, now: Millis) -> Millis {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.frames.spend(1, now).max(self.kib.spend(kib, now))
    }

    /// A control frame came.
    ///
    /// # Errors
    /// There were too many.
    pub fn control(&mut self, now: Millis) -> Result<(), Flooded> {
        if self.control.take(now) { Ok(()) } else { Err(Flooded) }
    }
}

/// What a peer has said, as far as it is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A question for the whole chain, or a block that we have: fine as often as it was earned.
    Earned,
    /// Anything else that brings nothing.
    Talk,
    /// A question that costs reading.
    Query,
    /// A block that did not change our chain.
    Fruitless,
}

impl Heard {
    /// What a message counts as, from a peer whose tip is known to be `told`; `None` if it counts as nothing before it is
    /// known what came of it.
    #[must_use]
    pub fn of(incoming: &Incoming, told: Option<Tip>) -> Option<Self> {
        match incoming {
            Incoming::QueryAll => Some(Self::Earned),
            Incoming::Hello(_) | Incoming::Proof(_) | Incoming::QueryLast | Incoming::Unknown(_) => Some(Self::Talk),
            Incoming::Frame(frame) => match frame {
                Frame::Tip(tip) => (told == Some(*tip)).then_some(Self::Earned),
                Frame::Locate(_) | Frame::Fetch { .. } => Some(Self::Query),
                Frame::Addresses(_) => Some(Self::Talk),
                Frame::Push(_) | Frame::Batch(_) | Frame::Located { .. } | Frame::More { .. } | Frame::Gone => None,
            },
            Incoming::Blocks(_) => None,
        }
    }
}

/// What is thought of the things that are said on one link.
#[derive(Debug)]
pub struct Patience {
    talk: Bucket,
    queries: Bucket,
    fruitless: Bucket,
    earned: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { talk: Bucket::new(TALK), queries: Bucket::new(QUERIES), fruitless: Bucket::new(FRUITLESS), earned: 0 }
    }
}

impl Patience {
    /// We told the peer a block, or our chain took one: it may ask, or repeat, once more.
    pub fn earn(&mut self, times: usize) {
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.earned = self.earned.saturating_add(times).min(MAX_EARNED);
    }

    /// The peer said something. Answers for how many milliseconds to read nothing more.
    ///
    /// # Errors
    /// It says more than a node can have to say.
    pub fn hear(&mut self, heard: Heard, now: Millis) -> Result<Millis, Flooded> {
        match heard {
            Heard::Earned if self.earned > 0 => self.earned -= 1,
            Heard::Earned | Heard::Talk if !self.talk.take(now) => return Err(Flooded),
            Heard::Earned | Heard::Talk => {}
            Heard::Query => return Ok(self.queries.spend(1, now)),
            Heard::Fruitless => return Ok(self.fruitless.spend(1, now)),
        }
        Ok(0)
    }

    /// For how many milliseconds to read nothing more because of what did not change our chain.
    pub fn wait(&mut self, now: Millis) -> Millis {
        self.fruitless.spend(0, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Height, genesis};
    use crate::peer::message::Proof;
    use crate::peer::native::Blocks;

    #[test]
    fn a_stranger_is_slowed_down_and_a_named_peer_is_not() {
        // A second of each: frames of some bytes, and whether they must wait.
        for (what, frames, bytes, stranger_waits, trusted_waits) in [
            ("a native peer that pushes 30,000 blocks in 300 frames", 300, 10_000, false, false),
            ("a tutorial peer that mines 3,464 blocks", 3_464, 360, false, false),
            ("a node that commits 5,000 groups", 5_000, 300, false, false),
            ("a chain of 100 MiB", 1, 100 << 20, false, false),
            ("a flood of small frames", 40_000, 10, true, false),
            ("a flood of full messages", 1_000, 1 << 20, true, false),
            ("a flood of everything", 400_000, 1 << 20, true, true),
        ] {
            let (mut stranger, mut trusted) = (Pace::default(), Pace::default());
            trusted.trust();
            let (mut waits, mut trusted_wait) = (false, false);
            for n in 0..frames {
                let now = n * 1000 / frames;
                waits |= stranger.frame(bytes, now) > 0;
                trusted_wait |= trusted.frame(bytes, now) > 0;
            }
            assert_eq!((waits, trusted_wait), (stranger_waits, trusted_waits), "{what}");
        }
    }

    #[test]
    fn to_be_trusted_twice_refills_nothing() {
        let mut pace = Pace::default();
        pace.trust();
        while pace.frame(1 << 30, 0) == 0 {}
        pace.trust();
        assert!(pace.frame(1, 0) > 0);
    }

    #[test]
    fn pings_without_end_are_a_flood() {
        let mut pace = Pace::default();
        assert_eq!((0..1_000).position(|_| pace.control(0).is_err()), Some(100));
        assert_eq!(pace.control(100), Ok(()), "it is over when they end");
        let mut pace = Pace::default();
        assert!((0..10_000).all(|second| pace.control(second * 1_000).is_ok()), "one a second is fine for ever");
    }

    #[test]
    fn what_the_tutorial_makes_a_peer_do_is_never_a_flood() {
        let mut patience = Patience::default();
        for block in 0..100_000 {
            let now = block / 4;
            // We tell it a block that does not connect, and it asks; and it tells us one that came to us by another link.
            patience.earn(1);
            assert_eq!(patience.hear(Heard::Earned, now), Ok(0));
            patience.earn(1);
            assert_eq!(patience.hear(Heard::Earned, now), Ok(0));
        }
    }

    #[test]
    fn questions_that_were_not_earned_are_a_flood_at_last() {
        for heard in [Heard::Earned, Heard::Talk] {
            let mut patience = Patience::default();
            let flooded = (0..1_000).position(|_| patience.hear(heard, 0).is_err());
            assert_eq!(flooded, Some(300), "{heard:?}");
        }
        let mut patience = Patience::default();
        patience.earn(usize::MAX);
        let flooded = (0..1_000_000).position(|_| patience.hear(Heard::Earned, 0).is_err());
        assert_eq!(flooded, Some(65_536 + 300), "what was earned is bounded");
    }

    #[test]
    fn each_message_counts_as_what_it_costs_and_brings() {
        let tip = genesis::tip();
        let other = Tip { height: Height(7), ..tip };
        let none = || Blocks { after: tip, blocks: Vec::new() };
        let frame = Incoming::Frame;
        for (what, incoming, wanted) in [
            ("QUERY_LAST", Incoming::QueryLast, Some(Heard::Talk)),
            ("QUERY_ALL", Incoming::QueryAll, Some(Heard::Earned)),
            ("a proof", Incoming::Proof(Proof([0; 32])), Some(Heard::Talk)),
            ("an unknown type", Incoming::Unknown(77), Some(Heard::Talk)),
            ("blocks", Incoming::Blocks(Vec::new()), None),
            ("the tip that it told before", frame(Frame::Tip(tip)), Some(Heard::Earned)),
            ("a new tip", frame(Frame::Tip(other)), None),
            ("Push", frame(Frame::Push(none())), None),
            ("Locate", frame(Frame::Locate(vec![tip])), Some(Heard::Query)),
            ("Located", frame(Frame::Located { common: None, tip }), None),
            ("Fetch", frame(Frame::Fetch { from: Height(1), upto: tip, batches: 1 }), Some(Heard::Query)),
            ("More", frame(Frame::More { batches: 1 }), None),
            ("Batch", frame(Frame::Batch(none())), None),
            ("Gone", frame(Frame::Gone), None),
            ("addresses", frame(Frame::Addresses(Vec::new())), Some(Heard::Talk)),
        ] {
            assert_eq!(Heard::of(&incoming, Some(tip)), wanted, "{what}");
        }
        assert_eq!(Heard::of(&frame(Frame::Tip(tip)), None), None, "the first tip of a link is news");
    }

    #[test]
    fn costly_questions_and_fruitless_blocks_wait() {
        let mut patience = Patience::default();
        let waits: Vec<Millis> = (0..202).map(|_| patience.hear(Heard::Query, 0).expect("no flood")).collect();
        assert_eq!(waits[199..], [0, 10, 20]);
        let mut patience = Patience::default();
        assert!((0..2_000).all(|_| patience.hear(Heard::Fruitless, 0) == Ok(0)));
        assert_eq!(patience.hear(Heard::Fruitless, 0), Ok(2));
        assert_eq!((patience.wait(0), patience.wait(2)), (2, 0));
    }
}
