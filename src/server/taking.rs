//! How a client takes what waits for it, and until when.
//!
//! Owns the [`Taking`]: what has to be taken in which time. Refuses to know sockets and clocks.

use std::time::{Duration, Instant};

/// How long a client may take nothing although something waits for it.
pub const STALL: Duration = Duration::from_secs(10);

/// What a client takes at the least in [`PERIOD`] while something waits for it: 17 KiB a second, a tenth of a slow mobile
/// line. Who takes a few bytes now and then would hold for days what others want.
const LEAST: usize = 1024 * 1024;

/// See [`LEAST`].
const PERIOD: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub struct Taking {
    /// Since when nothing was taken.
    nothing: Option<Instant>,
    /// Since when less than [`LEAST`] was taken.
    little: Option<Instant>,
    /// Bytes that were taken since then.
    taken: usize,
}

impl Taking {
    /// So many bytes were taken, and so many are left.
    pub fn took(&mut self, bytes: usize, left: usize) {
        self.nothing = None;
        self.taken += bytes;
        if left == 0 || self.taken >= LEAST {
            self.little = None;
        }
    }

    /// Nothing is taken at present. Answers until when that may go on.
    pub fn waits(&mut self, now: Instant) -> Instant {
        let nothing = *self.nothing.get_or_insert(now);
        let little = *self.little.get_or_insert_with(|| {
            self.taken = 0;
            now
        });
        (nothing + STALL).min(little + PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_takes_nothing_has_ten_seconds() {
        let (mut taking, now) = (Taking::default(), Instant::now());
        assert_eq!(taking.waits(now), now + STALL);
        assert_eq!(taking.waits(now + SECOND), now + STALL, "it goes on");
        taking.took(1, 100);
        assert_eq!(taking.waits(now + 9 * SECOND), now + 19 * SECOND);
    }

    #[test]
    fn who_takes_little_has_a_minute() {
        let (mut taking, now) = (Taking::default(), Instant::now());
        for second in (0..60).step_by(5) {
            let until = taking.waits(now + second * SECOND);
            assert_eq!(until, now + (second * SECOND + STALL).min(PERIOD), "after {second} s");
            taking.took(LEAST / 16, 100);
        }
        assert_eq!(taking.waits(now + 59 * SECOND), now + PERIOD);
        taking.took(LEAST / 4, 100);
        assert_eq!(taking.waits(now + 59 * SECOND), now + 69 * SECOND, "that was enough: another minute begins");
        taking.took(1, 100);
        assert_eq!(taking.waits(now + 118 * SECOND), now + 119 * SECOND, "and in it nothing of before counts");
    }

    #[test]
    fn who_has_taken_all_is_not_held_to_it_later() {
        let (mut taking, now) = (Taking::default(), Instant::now());
        taking.waits(now);
        taking.took(100, 0);
        let later = now + 1_000 * SECOND;
        assert_eq!(taking.waits(later), later + STALL);
        for second in (0..60).step_by(5) {
            taking.took(1, 1);
            taking.waits(later + second * SECOND);
        }
        assert_eq!(taking.waits(later + 59 * SECOND), later + PERIOD);
    }
}
