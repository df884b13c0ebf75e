//! The body of every answer: handed on in pieces, and with what its request holds of the node until the last is.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use super::room::Room;
use crate::server::turnstile::Turn;

/// Bytes that are handed on at once: the connection's buffer then never holds a second copy of a large body.
const PIECE: usize = 32 * 1024;

/// See the module.
pub struct Answer {
    body: BoxBody,
    /// What is left of what the body gave last.
    rest: Bytes,
    /// The next request on the connection is read once this is dropped.
    _turn: Option<Turn>,
    _room: Room,
}

impl Answer {
    /// An answer that holds its turn and its room.
    pub fn new(body: BoxBody, turn: Option<Turn>, room: Room) -> Self {
        Self { body, rest: Bytes::new(), _turn: turn, _room: room }
    }
}

impl MessageBody for Answer {
    type Error = Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            match Pin::new(&mut this.body).poll_next(task) {
                Poll::Ready(Some(Ok(bytes))) => this.rest = bytes,
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(actix_web::error::ErrorInternalServerError(error))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(piece)))
    }
}
