//! Inbound sessions: WebSocket actors on the peer server's workers. The only file that knows actix-web-actors.
//!
//! The surprise: the actor is the response's body, so while its peer does not read it is not polled at all. Whoever wants
//! to end such a link must do it by the socket, which [`keep_socket`] puts aside when the connection opens.

use std::any::Any;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;

use actix::prelude::*;
use actix_http::ws::{Codec, ProtocolError};
use actix_web::dev::Extensions;
use actix_web::error::PayloadError;
use actix_web::{HttpRequest, HttpResponse, http, web};
use actix_web_actors::ws;
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::{Stream, StreamExt};

use super::{Core, Deliver, Line, Out, Session, continuation, end, register, take};
use crate::actors::clock::Stopwatch;
use crate::actors::peers::PeerManager;
use crate::metrics::Metrics;
use crate::peer::assembly::{Guard, Piece};
use crate::peer::limits::{MAX_CHAIN_MESSAGE, SESSION_QUEUE};
use crate::peer::links::Direction;

/// What the peer server's route needs.
#[derive(Clone)]
pub struct Door {
    /// Who is told of new links.
    pub manager: Addr<PeerManager>,
    /// The node's clock.
    pub stopwatch: Stopwatch,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A connection's socket, put aside so that it can be shut from outside.
#[derive(Clone)]
struct Socket(Arc<TcpStream>);

/// For `HttpServer::on_connect`: keeps a handle to the connection's socket.
pub fn keep_socket(connection: &dyn Any, extensions: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>() else { return };
    // Without a spare file descriptor the link works all the same; only a peer that never reads stays until it goes.
    if let Ok(descriptor) = stream.as_fd().try_clone_to_owned() {
        extensions.insert(Socket(Arc::new(TcpStream::from(descriptor))));
    }
}

/// The route `/` of the peer server: upgrades to a link.
///
/// # Errors
/// 403 for a browser's request, 400 for one that is no WebSocket handshake.
pub async fn accept(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Result<HttpResponse, actix_web::Error> {
    if request.headers().contains_key(http::header::ORIGIN) {
        return Ok(HttpResponse::Forbidden().body("peers send no Origin: a browser's page may not open a link\n"));
    }
    let Some(remote) = request.peer_addr() else {
        return Ok(HttpResponse::BadRequest().body("no peer address\n"));
    };
    let socket = request.conn_data::<Socket>().map(|socket| socket.0.clone());
    let core = Core::new(door.manager.clone(), door.stopwatch, door.metrics.clone(), remote);
    let payload = guarded(payload, core.line.clone());
    // The guard judges what a frame announces; the codec's own limit is only the highest there is.
    ws::WsResponseBuilder::new(Inbound { core, socket }, &request, payload)
        .codec(Codec::new().max_size(MAX_CHAIN_MESSAGE))
        .start()
}

/// The payload, ended by an error at the first frame that announces too much.
fn guarded(payload: web::Payload, line: Arc<Line>) -> impl Stream<Item = Result<Bytes, PayloadError>> {
    let mut guard = Guard::default();
    payload.map(move |chunk| {
        let chunk = chunk?;
        guard.check(&chunk, line.limits()).inspect_err(|_| line.note_offence())?;
        if guard.inside() {
            line.note_heard(true);
        }
        Ok(chunk)
    })
}

/// An inbound session.
struct Inbound {
    core: Core,
    socket: Option<Arc<TcpStream>>,
}

impl Session for Inbound {
    fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    fn end(&mut self, ctx: &mut Self::Context) {
        ctx.close(None);
        ctx.stop();
    }
}

impl Actor for Inbound {
    type Context = ws::WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // The line counts what waits and refuses more than the queue's bound; the mailbox must only not be smaller.
        ctx.set_mailbox_capacity(2 * SESSION_QUEUE);
        let message = self.core.register(Direction::Inbound, ctx.address().recipient(), self.socket.clone());
        register(self, message, ctx);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        self.core.leave();
        Running::Stop
    }
}

impl StreamHandler<Result<ws::Message, ProtocolError>> for Inbound {
    fn handle(&mut self, frame: Result<ws::Message, ProtocolError>, ctx: &mut Self::Context) {
        match frame {
            Ok(ws::Message::Text(text)) => take(self, Piece::Text(text.into_bytes()), ctx),
            Ok(ws::Message::Binary(bytes)) => take(self, Piece::Binary(bytes), ctx),
            Ok(ws::Message::Continuation(item)) => take(self, continuation(item), ctx),
            Ok(ws::Message::Ping(payload)) => {
                self.core.hear();
                ctx.pong(&payload);
            }
            Ok(ws::Message::Pong(payload)) => self.core.pong(&payload),
            Ok(ws::Message::Close(_)) => end(self, "closed by the peer", ctx),
            Ok(ws::Message::Nop) => {}
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

impl Handler<Deliver> for Inbound {
    type Result = ();

    fn handle(&mut self, Deliver(out): Deliver, ctx: &mut Self::Context) {
        self.core.line.unqueue(out.len());
        match out {
            // Text comes from our own encoders; if it were not UTF-8 the link would be of no use.
            Out::Text(bytes) => match ByteString::try_from(bytes) {
                Ok(text) => ctx.text(text),
                Err(_) => self.end(ctx),
            },
            Out::Binary(bytes) => ctx.binary(bytes),
            Out::Ping => ctx.ping(&self.core.ping()),
            Out::Close(reason) => {
                ctx.close(reason);
                ctx.stop();
            }
            Out::Abort => ctx.stop(),
        }
    }
}
