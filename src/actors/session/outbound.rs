//! Outbound sessions: an awc connection, framed, with a writer of its own.
//!
//! The surprise: awc's sink would queue without bound, so frames wait in a channel whose length the line counts, and leave
//! the count only when they are written.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;
use actix_codec::{Decoder, Encoder, Framed};
use actix_http::ws::{Codec, Frame, Message, ProtocolError};
use actix_tls::connect::{ConnectError, ConnectInfo, Connection, ConnectorService};
use actix_web::dev::{Service, fn_service};
use actix_web::rt::net::TcpStream;
use awc::BoxedSocket;
use awc::error::{SendRequestError, WsClientError};
use awc::http::Uri;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use rustls::ClientConfig;
use tokio::sync::mpsc;

use super::socket::notice_silence;
use super::{Core, Deliver, LONG, Line, MAKES_ROOM, Out, Session, Shared, continuation, end, pieces, register, take};
use crate::actors::peers::PeerManager;
use crate::peer::address::{PeerAddress, Scheme};
use crate::peer::assembly::{Piece, allow, announced};
use crate::peer::conduct::Offence;
use crate::peer::limits::{HANDSHAKE_TIMEOUT, MAX_CHAIN_MESSAGE};
use crate::peer::links::Direction;
use crate::peer::reach;
use crate::tls::{self, TlsError};

/// How long the last words of a link may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why there is no link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DialError {
    /// The peer is away: it happens.
    Away(String),
    /// TLS does not come about: somebody has to look at certificates.
    Tls(String),
}

impl DialError {
    fn away(error: impl ToString) -> Self {
        Self::Away(error.to_string())
    }
}

/// Dials a peer and starts a session for it, which registers itself. `tls` says whom to trust behind `wss://`.
///
/// # Errors
/// Why there is no link, for the log.
pub async fn dial(
    address: PeerAddress,
    tls: Option<Arc<ClientConfig>>,
    manager: Addr<PeerManager>,
    shared: Arc<Shared>,
) -> Result<(), DialError> {
    let connect = async {
        let target = (address.host().trim_start_matches('[').trim_end_matches(']'), address.port());
        let builder = awc::Client::builder().disable_redirects().timeout(HANDSHAKE_TIMEOUT);
        let connector = awc::Connector::new().connector(fn_service(connect_socket));
        let client = match (address.scheme(), tls) {
            (Scheme::Plain, _) => builder.connector(connector).finish(),
            (Scheme::Tls, Some(tls)) => builder.connector(connector.rustls_0_23(tls)).finish(),
            (Scheme::Tls, None) => {
                let error = TlsError::NoAuthority { address: address.to_string() };
                return Err(DialError::Tls(error.to_string()));
            }
        };
        let mut failure = DialError::away("the name has no address");
        // Resolved once: the address that is dialled is the one that is shown.
        for remote in tokio::net::lookup_host(target).await.map_err(DialError::away)? {
            if let Err(reason) = reach::judge(remote.ip()) {
                failure = DialError::away(reason);
                continue;
            }
            let url = match address.scheme() {
                Scheme::Plain => format!("http://{remote}/"),
                // The certificate has to be for the name.
                Scheme::Tls => format!("https://{}:{}/", address.host(), address.port()),
            };
            let request = client.ws(url).address(remote).max_frame_size(MAX_CHAIN_MESSAGE);
            match request.connect().await {
                Ok((_, framed)) => return Ok((remote, framed)),
                Err(error) => failure = judge_failure(&error),
            }
        }
        Err(failure)
    };
    let (remote, framed) =
        tokio::time::timeout(HANDSHAKE_TIMEOUT, connect).await.map_err(|_| DialError::away("no answer in time"))??;
    Outbound::create(|ctx| start(Core::new(manager, shared, remote, None), address, framed, ctx));
    Ok(())
}

/// A plain connection whose silence is noticed.
async fn connect_socket(to: ConnectInfo<Uri>) -> Result<Connection<Uri, TcpStream>, ConnectError> {
    let connection = ConnectorService::default().call(to).await?;
    notice_silence(connection.io_ref());
    Ok(connection)
}

/// Tells a peer that is away from one whose certificate is not what it should be.
fn judge_failure(error: &WsClientError) -> DialError {
    let tls = match error {
        WsClientError::SendRequest(SendRequestError::Connect(awc::error::ConnectError::Io(error))) => {
            tls::explain(error)
        }
        _ => None,
    };
    tls.map_or_else(|| DialError::away(error), DialError::Tls)
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
        line.begin(length);
        let sent = match message {
            Message::Close(_) => tokio::time::timeout(GOODBYE, sink.send(message)).await.unwrap_or(Ok(())),
            Message::Text(text) if length > LONG => write_long(&mut sink, text.into_bytes()).await,
            short => sink.send(short).await,
        };
        line.done();
        if last || sent.is_err() {
            return;
        }
    }
}

async fn write_long(
    sink: &mut SplitSink<Framed<BoxedSocket, Guarded>, Message>,
    text: Bytes,
) -> Result<(), ProtocolError> {
    for piece in pieces(text) {
        sink.send(Message::Continuation(piece)).await?;
    }
    Ok(())
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
                self.line.blame(Offence::Framing, &error);
                return Err(ProtocolError::Io(io::Error::other(error)));
            }
        }
        let frame = self.codec.decode(bytes)?;
        self.known |= matches!(frame, Some(Frame::Text(_) | Frame::Binary(_)));
        let partial = if frame.is_none() { bytes.len() } else { 0 };
        if partial > 0 {
            self.line.note_heard(true);
        }
        if !self.line.hold_partial(partial) {
            return Err(ProtocolError::Io(io::Error::other(MAKES_ROOM)));
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
            Ok(Frame::Ping(payload)) => match self.core.hear() {
                // A peer that asks without reading gets no more answers than fit.
                Ok(()) if self.core.line.queue(0) => self.enqueue(Message::Pong(payload), 0),
                Ok(()) => {}
                Err(flooded) => end(self, &flooded.to_string(), ctx),
            },
            Ok(Frame::Pong(payload)) => {
                if let Err(flooded) = self.core.pong(&payload) {
                    end(self, &flooded.to_string(), ctx);
                }
            }
            Ok(Frame::Close(reason)) => {
                self.core.line.note_goodbye(reason.as_ref());
                end(self, "closed by the peer", ctx);
            }
            Err(error) => {
                // What the socket says is nobody's fault, but for bytes that can be no frame.
                if !matches!(&error, ProtocolError::Io(error) if error.kind() != io::ErrorKind::InvalidData) {
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
