//! Outbound sessions: an awc connection, framed, with a writer of its own.
//!
//! The surprise: awc's sink would queue without bound, so frames wait in a channel whose length the line counts, and leave
//! the count only when they are written.

use std::io;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;
use actix_codec::{Decoder, Encoder, Framed};
use actix_http::ws::{Codec, Frame, Message, ProtocolError};
use awc::BoxedSocket;
use bytes::BytesMut;
use bytestring::ByteString;
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use std::sync::Arc;
use tokio::sync::mpsc;

use super::{Core, Deliver, Line, Out, Session, continuation, end, register, take};
use crate::actors::clock::Stopwatch;
use crate::actors::peers::PeerManager;
use crate::metrics::Metrics;
use crate::peer::address::PeerAddress;
use crate::peer::assembly::{Piece, allow, announced};
use crate::peer::limits::{HANDSHAKE_TIMEOUT, MAX_CHAIN_MESSAGE};
use crate::peer::links::Direction;
use crate::peer::reach;

/// How long the last words of a link may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Dials a peer and starts a session for it, which registers itself.
///
/// # Errors
/// Why there is no link, for the log.
pub async fn dial(
    address: PeerAddress,
    manager: Addr<PeerManager>,
    stopwatch: Stopwatch,
    metrics: Arc<Metrics>,
) -> Result<(), String> {
    let connect = async {
        let target = (address.host().trim_start_matches('[').trim_end_matches(']'), address.port());
        let client = awc::Client::builder().disable_redirects().timeout(HANDSHAKE_TIMEOUT).finish();
        let mut failure = "the name has no address".to_owned();
        // Resolved once: the address that is dialled is the one that is shown.
        for remote in tokio::net::lookup_host(target).await.map_err(|error| error.to_string())? {
            if let Err(reason) = reach::judge(remote.ip()) {
                failure = reason.to_string();
                continue;
            }
            let request = client.ws(format!("http://{remote}/")).max_frame_size(MAX_CHAIN_MESSAGE);
            match request.connect().await {
                Ok((_, framed)) => return Ok((remote, framed)),
                Err(error) => failure = error.to_string(),
            }
        }
        Err(failure)
    };
    let (remote, framed) =
        tokio::time::timeout(HANDSHAKE_TIMEOUT, connect).await.map_err(|_| "no answer in time".to_owned())??;
    Outbound::create(|ctx| {
        let core = Core::new(manager, stopwatch, metrics, remote);
        start(core, address, framed, ctx)
    });
    Ok(())
}

fn start(
    core: Core,
    address: PeerAddress,
    framed: Framed<BoxedSocket, Codec>,
    ctx: &mut Context<Outbound>,
) -> Outbound {
    let line = core.line.clone();
    let (sink, stream) = framed.into_map_codec(|codec| Guarded { codec, line: line.clone(), known: false }).split();
    ctx.add_stream(stream);
    let (queue, waiting) = mpsc::unbounded_channel();
    ctx.spawn(wrap_future::<_, Outbound>(write(sink, waiting, line)).map(|(), session: &mut Outbound, ctx| {
        end(session, "the connection cannot be written to", ctx);
    }));
    Outbound { core, address, queue }
}

/// Writes what waits, until the link ends.
async fn write(
    mut sink: SplitSink<Framed<BoxedSocket, Guarded>, Message>,
    mut waiting: mpsc::UnboundedReceiver<(Message, usize)>,
    line: Arc<Line>,
) {
    while let Some((message, length)) = waiting.recv().await {
        let last = matches!(message, Message::Close(_));
        let sent = if last {
            tokio::time::timeout(GOODBYE, sink.send(message)).await.unwrap_or(Ok(()))
        } else {
            sink.send(message).await
        };
        line.unqueue(length);
        if last || sent.is_err() {
            return;
        }
    }
}

/// The WebSocket codec behind a judgement of what each frame announces.
struct Guarded {
    codec: Codec,
    line: Arc<Line>,
    /// Whether a whole message has come.
    known: bool,
}

impl Decoder for Guarded {
    type Item = Frame;
    type Error = ProtocolError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame>, ProtocolError> {
        if let Some((_, payload)) = announced(bytes) {
            let limits = self.line.limits();
            let limit = if self.known { limits.later } else { limits.first };
            if let Err(error) = allow(payload, limit) {
                self.line.note_offence();
                return Err(ProtocolError::Io(io::Error::other(error)));
            }
        }
        let frame = self.codec.decode(bytes)?;
        self.known |= matches!(frame, Some(Frame::Text(_) | Frame::Binary(_)));
        if frame.is_none() && !bytes.is_empty() {
            self.line.note_heard(true);
        }
        Ok(frame)
    }
}

impl Encoder<Message> for Guarded {
    type Error = ProtocolError;

    fn encode(&mut self, message: Message, bytes: &mut BytesMut) -> Result<(), ProtocolError> {
        self.codec.encode(message, bytes)
    }
}

/// An outbound session.
struct Outbound {
    core: Core,
    address: PeerAddress,
    /// Bounded by the line's count, not by itself.
    queue: mpsc::UnboundedSender<(Message, usize)>,
}

impl Session for Outbound {
    fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    fn end(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Actor for Outbound {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let direction = Direction::Outbound(self.address.clone());
        let message = self.core.register(direction, ctx.address().recipient(), None);
        register(self, message, ctx);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        self.core.leave();
        Running::Stop
    }
}

impl StreamHandler<Result<Frame, ProtocolError>> for Outbound {
    fn handle(&mut self, frame: Result<Frame, ProtocolError>, ctx: &mut Self::Context) {
        match frame {
            Ok(Frame::Text(bytes)) => take(self, Piece::Text(bytes), ctx),
            Ok(Frame::Binary(bytes)) => take(self, Piece::Binary(bytes), ctx),
            Ok(Frame::Continuation(item)) => take(self, continuation(item), ctx),
            Ok(Frame::Ping(payload)) => {
                self.core.hear();
                // A peer that asks without reading gets no more answers than fit.
                if self.core.line.queue(0) {
                    self.enqueue(Message::Pong(payload), 0);
                }
            }
            Ok(Frame::Pong(payload)) => self.core.pong(&payload),
            Ok(Frame::Close(_)) => end(self, "closed by the peer", ctx),
            Err(error) => {
                self.core.line.note_error(&error);
                end(self, &error.to_string(), ctx);
            }
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        end(self, "the connection ended", ctx);
    }
}

impl Outbound {
    fn enqueue(&self, message: Message, length: usize) {
        // The writer is gone only when the session is about to stop.
        let _ = self.queue.send((message, length));
    }
}

impl Handler<Deliver> for Outbound {
    type Result = ();

    fn handle(&mut self, Deliver(out): Deliver, ctx: &mut Self::Context) {
        let length = out.len();
        match out {
            // Text comes from our own encoders; if it were not UTF-8 the link would be of no use.
            Out::Text(bytes) => match ByteString::try_from(bytes) {
                Ok(text) => self.enqueue(Message::Text(text), length),
                Err(_) => ctx.stop(),
            },
            Out::Binary(bytes) => self.enqueue(Message::Binary(bytes), length),
            Out::Ping => self.enqueue(Message::Ping(self.core.ping()), length),
            Out::Close(reason) => self.enqueue(Message::Close(reason), length),
            Out::Abort => ctx.stop(),
        }
    }
}
