//! Inbound sessions: WebSocket actors on the peer server's workers. The only file that knows actix-web-actors.
//!
//! The surprise: the actor is the response's body, so while its peer does not read it is not polled at all. Whoever wants
//! to end such a link must do it by the socket, which is put aside when the connection opens.

use std::any::Any;
use std::cell::Cell;
use std::future::ready;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix::fut::ActorFuture;
use actix::prelude::{Actor, ActorContext, Addr, AsyncContext, Handler, Running, StreamHandler};
use actix_http::ws::{Codec, Item, ProtocolError};
use actix_web::body::MessageBody;
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse, http, web};
use actix_web_actors::ws;
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::{Stream, StreamExt, stream};
use tracing::debug;

use super::shared::Admission;
use super::socket::notice_silence;
use super::{Core, Deliver, LONG, Line, MAKES_ROOM, Out, Session, Shared, continuation, end, pieces, register, take};
use crate::actors::peers::PeerManager;
use crate::peer::assembly::{Guard, Piece, Splitter};
use crate::peer::conduct::Offence;
use crate::peer::limits::{MAX_CHAIN_MESSAGE, SESSION_QUEUE};
use crate::peer::links::Direction;
use crate::server::Length;
use crate::server::socket::{Socket, duplicate};
use crate::server::turnstile::Turnstile;

/// What the peer server's route needs.
#[derive(Clone)]
pub struct Door {
    /// Who is told of new links.
    pub manager: Addr<PeerManager>,
    /// What the node's sessions share.
    pub shared: Arc<Shared>,
}

/// For the peer server: keeps a handle to the socket, and asks whether there is room.
pub fn admit(connection: &dyn Any, remote: Option<SocketAddr>, extensions: &mut Extensions, shared: &Arc<Shared>) {
    let Some(socket) = duplicate(connection) else { return };
    notice_silence(&socket);
    match remote.map(|remote| Admission::ask(shared, remote.ip())) {
        Some(Ok(admission)) => drop(extensions.insert(Arc::new(admission))),
        Some(Err(reason)) => {
            debug!(remote = remote.map(tracing::field::display), %reason, "connection refused");
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        // One whose other end is not known any more is closed already.
        None => {}
    }
    extensions.insert(Socket::from(socket));
}

/// For the peer server: one request at a time on a connection, until it has become a link.
///
/// # Errors
/// Whatever the route answers with.
pub async fn turn(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let turnstile = request.conn_data::<Rc<Turnstile>>().cloned();
    // A body is read to its end or not at all: the route takes none but a link's frames.
    let turn = turnstile.as_ref().map(|turnstile| turnstile.begin(Length::Bytes(0)));
    let response = next.call(request).await?;
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        turnstile.iter().for_each(|turnstile| turnstile.become_link());
    } else {
        drop(turn);
    }
    Ok(response)
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
    let socket = request.conn_data::<Socket>().map(|socket| socket.tcp().clone());
    let core = Core::new(door.manager.clone(), door.shared.clone(), remote, socket.clone());
    let cut = Rc::new(Cell::new(false));
    let unread = Rc::new(Cell::new(0));
    let payload = guarded(payload, core.line.clone(), cut.clone(), unread.clone());
    // The guard judges what a frame announces; the codec's own limit is only the highest there is.
    ws::WsResponseBuilder::new(Inbound { core, socket, cut, unread }, &request, payload)
        .codec(Codec::new().max_size(MAX_CHAIN_MESSAGE))
        .start()
}

/// The payload, ended by an error at the first frame that announces too much; `cut` says that it was. A connection that was
/// cut by its other end is its end and no error: on an error what came before and was not looked at yet would be thrown away.
///
/// Nothing is handed on while whole frames are `unread`: the codec's stream takes all that it can get before each frame, and
/// would collect the frames of a peer that sends faster than it is heard.
fn guarded(
    payload: web::Payload,
    line: Arc<Line>,
    cut: Rc<Cell<bool>>,
    unread: Rc<Cell<usize>>,
) -> impl Stream<Item = Result<Bytes, PayloadError>> {
    let (mut guard, mut splitter) = (Guard::default(), Splitter::default());
    let frames = unread.clone();
    let mut check = move |chunk: Result<Bytes, PayloadError>| {
        let chunk = chunk?;
        guard.check(&chunk, line.limits()).inspect_err(|error| line.blame(Offence::Framing, error))?;
        if guard.inside() {
            line.note_heard(true);
        }
        let chunk = splitter.split(chunk);
        if !line.hold_partial(splitter.held()) {
            return Err(io::Error::other(MAKES_ROOM).into());
        }
        frames.set(splitter.take_frames());
        Ok(chunk)
    };
    let whole = payload.take_while(|chunk| ready(!matches!(chunk, Err(PayloadError::Incomplete(_)))));
    let mut chunks = whole.map(move |chunk| check(chunk).inspect_err(|_| cut.set(true)));
    stream::poll_fn(move |task| if unread.get() > 0 { Poll::Pending } else { chunks.poll_next_unpin(task) })
}

/// An inbound session.
struct Inbound {
    core: Core,
    socket: Option<Arc<TcpStream>>,
    /// Whether the payload has ended by an error, which says all there is to say. Any other is the codec's: the peer's fault.
    cut: Rc<Cell<bool>>,
    /// Whole frames that the codec has and that were not heard yet.
    unread: Rc<Cell<usize>>,
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
        self.unread.set(self.unread.get().saturating_sub(1));
        match frame {
            Ok(ws::Message::Text(text)) => take(self, Piece::Text(text.into_bytes()), ctx),
            Ok(ws::Message::Binary(bytes)) => take(self, Piece::Binary(bytes), ctx),
            Ok(ws::Message::Continuation(item)) => take(self, continuation(item), ctx),
            Ok(ws::Message::Ping(payload)) => match self.core.hear() {
                Ok(()) => ctx.pong(&payload),
                Err(flooded) => end(self, &flooded.to_string(), ctx),
            },
            Ok(ws::Message::Pong(payload)) => {
                if let Err(flooded) = self.core.pong(&payload) {
                    end(self, &flooded.to_string(), ctx);
                }
            }
            Ok(ws::Message::Close(reason)) => {
                self.core.line.note_goodbye(reason.as_ref());
                end(self, "closed by the peer", ctx);
            }
            Ok(ws::Message::Nop) => {}
            Err(error) => {
                if !self.cut.get() {
                    self.core.line.blame(Offence::Framing, &error);
                }
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
        let out = match out {
            Out::Text(bytes) if bytes.len() > LONG => {
                self.core.line.begin(bytes.len());
                ctx.wait(InPieces(Box::new(pieces(bytes))));
                return;
            }
            short => short,
        };
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

/// Sends a long message: one frame each time that the connection wants more of its body. Nothing else of the session goes
/// on meanwhile.
struct InPieces(Box<dyn Iterator<Item = Item>>);

impl ActorFuture<Inbound> for InPieces {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        session: &mut Inbound,
        ctx: &mut <Inbound as Actor>::Context,
        task: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(piece) = self.0.next() else {
            session.core.line.done();
            return Poll::Ready(());
        };
        ctx.write_raw(ws::Message::Continuation(piece));
        // Asked for more as soon as this frame has left the body.
        task.waker().wake_by_ref();
        Poll::Pending
    }
}
