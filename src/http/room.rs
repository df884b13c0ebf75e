//! Room for what is large: bodies of requests while they are read, and of answers while they wait to be taken.
//!
//! What is small always has room. So a thousand callers are bounded by what one may have of small things, and all together
//! by the room for large ones; whoever finds none is told to come again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::problem::Problem;

/// See the module.
#[derive(Debug)]
pub struct Rooms {
    /// Bytes of all large things together.
    limit: usize,
    /// Bytes up to which a thing is small.
    small: usize,
    taken: AtomicUsize,
}

/// Room for one thing, given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    rooms: Arc<Rooms>,
    bytes: usize,
}

impl Rooms {
    /// So many bytes for all things of more than `small`.
    #[must_use]
    pub fn new(limit: usize, small: usize) -> Arc<Self> {
        Arc::new(Self { limit, small, taken: AtomicUsize::new(0) })
    }

    /// Takes room for so many bytes.
    ///
    /// # Errors
    /// There is none; `what` is a sentence that says of what there is too much.
    pub fn take(self: &Arc<Self>, bytes: usize, what: &str) -> Result<Room, Problem> {
        let bytes = if bytes > self.small { bytes } else { 0 };
        let more = |taken: usize| taken.checked_add(bytes).filter(|sum| bytes == 0 || *sum <= self.limit);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Room { rooms: self.clone(), bytes }),
            Err(_) => Err(Problem::overloaded(format!("{what}; try again in a moment"))),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.rooms.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_things_have_their_room_and_small_ones_always_fit() {
        let rooms = Rooms::new(100, 10);
        let mut large: Vec<Room> = (0..4).map(|_| rooms.take(25, "full").expect("room")).collect();
        for bytes in [11, 25, usize::MAX] {
            let refused = rooms.take(bytes, "full").expect_err("full").response();
            assert_eq!(refused.status(), 503, "{bytes}");
            assert_eq!(refused.headers().get("Retry-After").expect("a time"), "1", "{bytes}");
        }
        assert!((0..1_000).all(|_| rooms.take(10, "full").is_ok()));
        large.pop();
        let other = rooms.take(25, "full").expect("room again");
        assert!(rooms.take(11, "full").is_err());
        drop((other, large));
        assert_eq!(rooms.taken.load(Ordering::Relaxed), 0);
    }
}
