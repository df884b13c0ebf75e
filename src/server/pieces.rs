//! How a request comes in: at once, in some pieces, or in crumbs.
//!
//! A byte that comes alone costs a worker as much as a short request does: it is woken, asks the system and looks at what it
//! has. A thousand clients that send byte after byte would keep a core busy and everybody waiting. So once a request has come
//! in many small pieces, what follows is left where it is for a moment, and read together.
//!
//! Owns the [`Pieces`]: when to pause. Refuses to know sockets and clocks.

use std::time::Duration;

/// Bytes of a piece that is worth its reading: less than any network's packets hold.
const SMALL: usize = 512;

/// Small pieces of a head or of a body that are read as they come: who types has lines, who writes part by part has some.
const AS_THEY_COME: u32 = 16;

/// How long the next are left together. Nobody who types sees it, and who sends steadily is only read in larger pieces.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug, Default)]
pub struct Pieces {
    small: u32,
}

impl Pieces {
    /// A head or a body begins.
    pub fn begin(&mut self) {
        self.small = 0;
    }

    /// A piece of so many bytes was read. Answers how long nothing is to be read now.
    pub fn read(&mut self, bytes: usize) -> Option<Duration> {
        if bytes >= SMALL {
            return None;
        }
        self.small = self.small.saturating_add(1);
        (self.small > AS_THEY_COME).then_some(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_small_pieces_of_one_request_are_held_up() {
        let mut pieces = Pieces::default();
        assert!((0..16).all(|_| pieces.read(1).is_none()));
        assert_eq!(pieces.read(1), Some(PAUSE));
        assert_eq!(pieces.read(511), Some(PAUSE));
        assert_eq!(pieces.read(512), None, "it was worth it");
        assert_eq!(pieces.read(511), Some(PAUSE), "the others are not forgotten");
        pieces.begin();
        assert!((0..16).all(|_| pieces.read(511).is_none()));
        assert_eq!(pieces.read(511), Some(PAUSE));
        pieces.begin();
        assert!((0..1_000_000).all(|_| pieces.read(512).is_none()));
    }
}
