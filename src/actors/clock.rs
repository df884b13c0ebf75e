//! The one place where the node reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::ledger::UnixTime;
use crate::ledger::outbox::Millis;

/// Time since 1970; zero on a machine whose clock stands before it.
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Unix seconds, rounded up as the tutorial does.
#[must_use]
pub fn unix_time() -> UnixTime {
    let now = since_epoch();
    UnixTime(now.as_secs() + u64::from(now.subsec_nanos() > 0))
}

/// Unix milliseconds.
#[must_use]
pub fn unix_millis() -> Millis {
    // Milliseconds fit into 64 bits for 500 million years.
    since_epoch().as_millis() as Millis
}

/// A clock that does not go back, in milliseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts at zero.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds so far.
    #[must_use]
    pub fn millis(&self) -> Millis {
        self.0.elapsed().as_millis() as Millis
    }

    /// Microseconds so far.
    #[must_use]
    pub fn micros(&self) -> u64 {
        // Microseconds fit into 64 bits for 500,000 years.
        self.0.elapsed().as_micros() as u64
    }
}
