//! The connections of the HTTP port: how many there may be, and which goes when there are too many.
//!
//! A connection costs a client nothing, and one that says nothing is closed after some seconds only. So when there are too
//! many, the one goes on which nothing has begun or ended for the longest time: a request is answered within milliseconds,
//! and one that trickles in is not. Streams are not touched; they have limits of their own.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::dev::Extensions;

use crate::actors::session::{Socket, keep_socket};

/// Connections at once. At some 30 KiB each they take a quarter of the memory that an attack may cost, and with two file
/// descriptors each they leave room below the 4,096 that most systems grant.
pub const MAX_CONNECTIONS: usize = 1_024;

/// The connections of a server, for all its threads.
#[derive(Debug)]
pub struct Connections(Mutex<Seats<Socket>>);

impl Default for Connections {
    fn default() -> Self {
        Self(Mutex::new(Seats::new(MAX_CONNECTIONS)))
    }
}

impl Connections {
    fn seats(&self) -> MutexGuard<'_, Seats<Socket>> {
        // Counts of a thread that panicked are counts all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For `HttpServer::on_connect`: gives the connection a place, and shuts another if there are too many.
    pub fn take_in(self: &Arc<Self>, connection: &dyn Any, extensions: &mut Extensions) {
        keep_socket(connection, extensions);
        // Without a spare file descriptor there is none, and the connection is not counted.
        let Some(socket) = extensions.get::<Socket>().cloned() else { return };
        let (seat, over) = self.seats().enter(socket.clone());
        over.inspect(Socket::shut);
        extensions.insert(Rc::new(Place { connections: self.clone(), socket, seat: Cell::new(Some(seat)) }));
    }
}

/// A connection's place, until it is dropped.
pub struct Place {
    connections: Arc<Connections>,
    socket: Socket,
    /// `None` once it streams.
    seat: Cell<Option<Seat>>,
}

impl Place {
    /// A request has begun or was answered.
    pub fn stir(&self) {
        let Some(seat) = self.seat.get() else { return };
        let mut seats = self.connections.seats();
        if seats.leave(seat) {
            let (seat, _) = seats.enter(self.socket.clone());
            self.seat.set(Some(seat));
        }
    }

    /// The answer is a stream.
    pub fn stream(&self) {
        if let Some(seat) = self.seat.take() {
            self.connections.seats().leave(seat);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stream();
    }
}

/// Names a seat; later ones are larger.
type Seat = u64;

/// Who sits, the longest first. Generic over what shuts a connection.
#[derive(Debug)]
struct Seats<S> {
    limit: usize,
    taken: BTreeMap<Seat, S>,
    next: Seat,
}

impl<S> Seats<S> {
    fn new(limit: usize) -> Self {
        Self { limit, taken: BTreeMap::new(), next: 0 }
    }

    /// Takes a seat. Answers who has to go for it.
    fn enter(&mut self, who: S) -> (Seat, Option<S>) {
        let seat = self.next;
        self.next += 1;
        self.taken.insert(seat, who);
        let over = self.taken.len() > self.limit;
        (seat, over.then(|| self.taken.pop_first()).flatten().map(|(_, who)| who))
    }

    /// Gives a seat back. Answers whether it was still had.
    fn leave(&mut self, seat: Seat) -> bool {
        self.taken.remove(&seat).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_been_still_for_the_longest_time_goes() {
        let mut seats = Seats::new(3);
        let [a, b, c] = ["a", "b", "c"].map(|name| seats.enter(name).0);
        assert!(seats.leave(a));
        let (a, over) = seats.enter("a");
        assert_eq!(over, None, "it has only moved to the end");
        assert_eq!(seats.enter("d").1, Some("b"));
        assert!(!seats.leave(b), "it has no seat any more");
        assert!(seats.leave(c) && seats.leave(a));
        assert_eq!(seats.enter("e").1, None, "there is room again");
        assert_eq!(seats.taken.len(), 2);
    }
}
