//! The connections of a port: how many there may be, and which goes when there are too many.
//!
//! A connection costs a client nothing, and one that says nothing is closed after some seconds only. So when there are too
//! many, the one goes on which nothing has begun or ended for the longest time: a request is answered within milliseconds,
//! and one that trickles in is not. Callers that wait for an answer go last. Streams are not counted; they have limits of
//! their own.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::socket::Socket;

/// The connections of a port, for all its threads.
#[derive(Debug)]
pub struct Places(Mutex<Seats<Socket>>);

impl Places {
    /// So many at once.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Seats::new(limit))))
    }

    fn seats(&self) -> MutexGuard<'_, Seats<Socket>> {
        // Counts of a thread that panicked are counts all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new connection a place, and shuts another if there are too many.
    #[must_use]
    pub fn take(self: &Arc<Self>, socket: Socket) -> Place {
        let (seat, over) = self.seats().enter(Waits::Us, socket);
        over.inspect(Socket::shut);
        Place { places: self.clone(), seat: Cell::new(Some(seat)) }
    }
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    /// `None` once it needs none.
    seat: Cell<Option<Seat>>,
}

impl Place {
    /// Something has begun or ended on the connection; `answer` says whether its other end waits for an answer now.
    pub fn stir(&self, answer: bool) {
        let Some(seat) = self.seat.get() else { return };
        let waits = if answer { Waits::Them } else { Waits::Us };
        self.seat.set(self.places.seats().stir(seat, waits));
    }

    /// It counts no more.
    pub fn leave(&self) {
        if let Some(seat) = self.seat.take() {
            self.places.seats().leave(seat);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Who waits for whom on a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Waits {
    /// We for a request, or the rest of it.
    Us,
    /// They for an answer.
    Them,
}

/// Names a seat: the one to be given up first is the smallest.
type Seat = (Waits, u64);

/// Who sits, whoever goes next first. Generic over what shuts a connection.
#[derive(Debug)]
struct Seats<S> {
    limit: usize,
    taken: BTreeMap<Seat, S>,
    next: u64,
}

impl<S> Seats<S> {
    fn new(limit: usize) -> Self {
        Self { limit, taken: BTreeMap::new(), next: 0 }
    }

    /// Takes a seat. Answers who has to go for it.
    fn enter(&mut self, waits: Waits, who: S) -> (Seat, Option<S>) {
        let over = if self.taken.len() < self.limit { None } else { self.taken.pop_first() };
        (self.sit(waits, who), over.map(|(_, who)| who))
    }

    fn sit(&mut self, waits: Waits, who: S) -> Seat {
        let seat = (waits, self.next);
        self.next += 1;
        self.taken.insert(seat, who);
        seat
    }

    /// Moves to the end of those who wait alike, unless the seat was given up.
    fn stir(&mut self, seat: Seat, waits: Waits) -> Option<Seat> {
        let who = self.taken.remove(&seat)?;
        Some(self.sit(waits, who))
    }

    /// Gives a seat back.
    fn leave(&mut self, seat: Seat) {
        self.taken.remove(&seat);
    }
}

#[cfg(test)]
mod tests {
    use super::Waits::{Them, Us};
    use super::*;

    #[test]
    fn who_has_been_still_for_the_longest_time_goes() {
        let mut seats = Seats::new(3);
        let [a, b, c] = ["a", "b", "c"].map(|name| seats.enter(Us, name).0);
        let a = seats.stir(a, Us).expect("it has only moved to the end");
        assert_eq!(seats.enter(Us, "d").1, Some("b"));
        assert_eq!(seats.stir(b, Us), None, "it has no seat any more");
        seats.leave(c);
        seats.leave(a);
        assert_eq!(seats.enter(Us, "e").1, None, "there is room again");
        assert_eq!(seats.taken.len(), 2);
    }

    #[test]
    fn who_waits_for_an_answer_goes_last() {
        let mut seats = Seats::new(3);
        let [a, b, _] = ["a", "b", "c"].map(|name| seats.enter(Us, name).0);
        let a = seats.stir(a, Them).expect("a seat");
        let b = seats.stir(b, Them).expect("a seat");
        assert_eq!(["d", "e"].map(|name| seats.enter(Us, name).1), [Some("c"), Some("d")]);
        let b = seats.stir(b, Us).expect("a seat");
        assert_eq!(seats.stir(b, Them).map(|(waits, _)| waits), Some(Them));
        assert_eq!(seats.enter(Us, "f").1, Some("e"));
        assert!(seats.stir(a, Us).is_some());
    }

    #[test]
    fn one_place_is_enough_for_whoever_came_last() {
        let mut seats = Seats::new(1);
        assert_eq!(seats.enter(Us, "a").1, None);
        assert_eq!(seats.enter(Us, "b").1, Some("a"));
    }
}
