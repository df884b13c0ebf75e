//! Waiting for what must happen, with a deadline and a sentence. The only place in the tests that polls.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for anything that happens at all on a loaded machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(5);

/// Looks until there is something; panics at the deadline with what was awaited.
pub fn until<T>(deadline: Duration, what: impl Display, look: impl FnMut() -> Option<T>) -> T {
    try_until(deadline, look).unwrap_or_else(|| panic!("waited {deadline:?} in vain for {what}"))
}

/// Looks until there is something; `None` at the deadline.
pub fn try_until<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(INTERVAL);
    }
}
