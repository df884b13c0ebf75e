//! Long messages that are judged on other threads, and told in the order in which they came.
//!
//! Owns what is being judged and what came behind it. A peer that the operator named is read further meanwhile, so that two
//! cores judge the batches of one long chain; of a stranger no further frame is read before.

use std::future::ready;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix::fut::{ActorFuture, wrap_future};
use actix::prelude::*;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use super::{MAKES_ROOM, STOPPING, Session, end, pause};
use crate::actors::peers::Received;
use crate::helpers::NotDone;
use crate::ledger::chain::Origin;
use crate::peer::incoming::{Incoming, ReadError};
use crate::peer::limits::MAX_NATIVE_FRAME;

/// Batches of one peer that are judged at once: as many as small machines have cores.
const AT_ONCE: usize = 2;

/// What a message turned out to be.
pub(super) type Read = Result<Incoming, ReadError>;

/// Judges a message; `None` if it was given up to make room.
type Judged = Pin<Box<dyn Future<Output = Result<Option<Read>, NotDone>>>>;

/// See the module.
#[derive(Default)]
pub(super) struct Judging {
    ahead: FuturesOrdered<Judged>,
    /// Whether somebody waits for what is ahead although the peer is read further.
    awaited: bool,
}

/// How many messages of so many bytes may be ahead while a peer is read further. Those that are longer than a batch are
/// whole chains, whose blocks take several times as much in memory.
fn bound(origin: Origin, bytes: usize) -> usize {
    match origin {
        Origin::Trusted if bytes <= MAX_NATIVE_FRAME => AT_ONCE,
        Origin::Trusted | Origin::Stranger => 1,
    }
}

/// A message of so many bytes is judged on another thread.
pub(super) fn judge<S: Session>(
    session: &mut S,
    bytes: usize,
    judged: impl Future<Output = Result<Option<Read>, NotDone>> + 'static,
    ctx: &mut S::Context,
) {
    let bound = bound(session.core().line.origin(), bytes);
    let judging = &mut session.core().judging;
    judging.ahead.push_back(Box::pin(judged));
    for _ in bound..=judging.ahead.len() {
        ctx.wait(Next);
    }
    if bound > 1 && !std::mem::replace(&mut judging.awaited, true) {
        ctx.spawn(All);
    }
}

/// A message was read. It is told after those that came before it.
pub(super) fn tell<S: Session>(session: &mut S, read: Read, ctx: &mut S::Context) {
    let judging = &mut session.core().judging;
    if judging.ahead.is_empty() {
        tell_now(session, read, ctx);
    } else {
        judging.ahead.push_back(Box::pin(ready(Ok(Some(read)))));
        ctx.wait(Next);
    }
}

/// Tells PeerManager and waits for it: a peer that sends faster than we think is slowed down.
fn tell_now<S: Session>(session: &mut S, read: Read, ctx: &mut S::Context) {
    let core = session.core();
    let Some(link) = core.link else { return };
    let told = core.manager.send(Received { link, read });
    ctx.wait(wrap_future::<_, S>(told).map(|result, session, ctx| match result {
        Ok(wait) => pause::<S>(wait, ctx),
        Err(_) => end(session, STOPPING, ctx),
    }));
}

/// Tells of the first message ahead, once it is judged. Answers whether there was one.
fn poll_first<S: Session>(session: &mut S, ctx: &mut S::Context, task: &mut Context<'_>) -> Poll<bool> {
    let judging = &mut session.core().judging;
    Poll::Ready(match std::task::ready!(judging.ahead.poll_next_unpin(task)) {
        None => false,
        Some(judged) => {
            session.core().line.hold_joined(0);
            match judged {
                Ok(Some(read)) => tell_now(session, read, ctx),
                Ok(None) => end(session, MAKES_ROOM, ctx),
                Err(_) => end(session, STOPPING, ctx),
            }
            true
        }
    })
}

/// Until the first message ahead is told.
struct Next;

impl<S: Session> ActorFuture<S> for Next {
    type Output = ();

    fn poll(self: Pin<&mut Self>, session: &mut S, ctx: &mut S::Context, task: &mut Context<'_>) -> Poll<()> {
        poll_first(session, ctx, task).map(drop)
    }
}

/// Until all messages ahead are told.
struct All;

impl<S: Session> ActorFuture<S> for All {
    type Output = ();

    fn poll(self: Pin<&mut Self>, session: &mut S, ctx: &mut S::Context, task: &mut Context<'_>) -> Poll<()> {
        if std::task::ready!(poll_first(session, ctx, task)) {
            // The next one when PeerManager has answered.
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        session.core().judging.awaited = false;
        Poll::Ready(())
    }
}
