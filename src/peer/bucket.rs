//! Token buckets: how much may come at once, and how much in the long run.
//!
//! The counting is `governor`'s; the time is an argument, so that a bucket can be tested and simulated. A bucket is spent
//! from after the fact: what has come has come, and the answer is how long to read nothing more.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::ledger::outbox::Millis;

/// A bucket's size and how fast it fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// One token each so long.
    every: Duration,
    /// Tokens in a full bucket.
    burst: NonZeroU32,
}

impl Rate {
    /// So many tokens a second, and so many at once. Zero counts as one.
    #[must_use]
    pub const fn per_second(tokens: u32, burst: u32) -> Self {
        let tokens = if tokens == 0 { 1 } else { tokens };
        let burst = match NonZeroU32::new(burst) {
            Some(burst) => burst,
            None => NonZeroU32::MIN,
        };
        // At most a second's nanoseconds: fits.
        Self { every: Duration::from_nanos(1_000_000_000 / tokens as u64), burst }
    }

    pub(super) fn quota(self) -> Quota {
        // A period of zero, for more than 10^9 tokens a second, is no limit worth having: the shortest there is, then.
        let quota = Quota::with_period(self.every).unwrap_or(Quota::per_second(NonZeroU32::MAX));
        quota.allow_burst(self.burst)
    }
}

/// The time that the limiter is told.
#[derive(Debug, Default)]
pub(super) struct Told(Cell<Millis>);

impl Told {
    pub(super) fn set(&self, now: Millis) {
        self.0.set(self.0.get().max(now));
    }
}

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.get().saturating_mul(1_000_000))
    }
}

/// A bucket, full at first.
pub struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>,
    burst: u32,
    /// Tokens that were spent and not there.
    owed: u32,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let limiter = RateLimiter::direct_with_clock(rate.quota(), Told::default());
        Self { limiter, burst: rate.burst.get(), owed: 0 }
    }

    /// Spends tokens, also ones that are not there: answers for how many milliseconds nothing more should be spent. A debt
    /// never exceeds the bucket's size.
    pub fn spend(&mut self, tokens: u32, now: Millis) -> Millis {
        self.limiter.clock().set(now);
        // The old debt by itself: together with the new one it might never be paid.
        self.pay();
        self.owed = self.owed.saturating_add(tokens).min(self.burst);
        self.pay()
    }

    /// Pays the debt if there are tokens enough; else answers when there are.
    fn pay(&mut self) -> Millis {
        let Some(owed) = NonZeroU32::new(self.owed) else { return 0 };
        match self.limiter.check_n(owed) {
            Ok(Ok(())) => {
                self.owed = 0;
                0
            }
            Ok(Err(not_yet)) => {
                let wait = not_yet.wait_time_from(self.limiter.clock().now());
                // A bucket fills within minutes: fits.
                (wait.as_micros().div_ceil(1000) as Millis).max(1)
            }
            // Never: a debt is cut to the bucket's size.
            Err(_) => 0,
        }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Millis) -> bool {
        self.limiter.clock().set(now);
        self.limiter.check().is_ok()
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("burst", &self.burst).field("owed", &self.owed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_is_spent_at_once_and_then_at_its_rate() {
        let mut bucket = Bucket::new(Rate::per_second(10, 5));
        for token in 0..5 {
            assert_eq!(bucket.spend(1, 0), 0, "token {token}");
        }
        assert_eq!(bucket.spend(1, 0), 100, "the sixth has come all the same, and is waited for");
        assert_eq!(bucket.spend(0, 99), 1, "not yet");
        assert_eq!(bucket.spend(0, 100), 0, "paid");
        assert_eq!(bucket.spend(1, 100), 100);
        assert_eq!(bucket.spend(4, 60_000), 0, "after a long time the debt is paid and the bucket full");
        assert_eq!(bucket.spend(1, 60_000), 100);
    }

    #[test]
    fn a_debt_is_no_larger_than_the_bucket() {
        let mut bucket = Bucket::new(Rate::per_second(10, 5));
        assert_eq!(bucket.spend(u32::MAX, 0), 0, "the whole bucket at once");
        assert_eq!(bucket.spend(u32::MAX, 0), 500);
        assert_eq!(bucket.spend(u32::MAX, 0), 500);
    }

    #[test]
    fn who_waits_as_told_spends_at_the_rate() {
        let mut bucket = Bucket::new(Rate::per_second(10, 5));
        let (mut now, mut spent) = (0, 0);
        while now < 100_000 {
            now += bucket.spend(3, now);
            spent += 3;
        }
        assert_eq!(spent, 1_005, "what the bucket held, and ten a second");
    }

    #[test]
    fn what_is_only_taken_is_never_owed() {
        let mut bucket = Bucket::new(Rate::per_second(10, 2));
        assert_eq!([bucket.take(0), bucket.take(0), bucket.take(0), bucket.take(99)], [true, true, false, false]);
        assert_eq!([bucket.take(100), bucket.take(100)], [true, false]);
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(Rate::per_second(1000, 1));
        assert!(bucket.take(1000));
        assert!(!bucket.take(0));
        assert!(bucket.take(1001));
    }
}
