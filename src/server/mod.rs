//! How both ports are served: HTTP/1.1 on a listener, plain or in TLS, with one request at a time on each connection.
//!
//! The HTTP library's own server hands sockets to it as they are; here a [`turnstile`] stands between them. Everything else
//! is as there: workers with an application each, connections that are told when the server stops.

mod line;
mod pieces;
pub mod places;
mod reading;
pub mod socket;
pub mod taking;
pub mod turnstile;

use std::any::Any;
use std::fmt;
use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::body::BoxBody;
use actix_http::h1::H1Service;
use actix_http::{HttpService, Request, Response};
use actix_server::{GracefulShutdownSignal, Server, ServerBuilder};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_tls::accept::rustls_0_23::{Acceptor, TlsStream};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Extensions};
use actix_web::rt::net::TcpStream;
use line::Line;
use rustls::ServerConfig;
use turnstile::Turning;

pub use reading::Length;

/// How long a connection lingers on which an answer came before the whole request: it is read and forgotten meanwhile, since
/// a client that still sends would not see the answer otherwise.
const LINGER: Duration = Duration::from_secs(1);

/// What has to be known of a server.
pub struct Settings {
    /// Threads that answer.
    pub workers: usize,
    /// Connections that each of them may have.
    pub connections: usize,
    /// How long the first request's head may take, and the handshake before it.
    pub patience: Duration,
    /// How long requests that are being answered may take once the server stops.
    pub grace_seconds: u64,
    /// TLS, if that is spoken.
    pub tls: Option<ServerConfig>,
}

/// What is done with each connection that opens. It is shown the TCP socket or the TLS stream and its other end, and may put
/// aside what requests are to know; the [`turnstile`] is there already.
pub type Opened = dyn Fn(&dyn Any, Option<SocketAddr>, &mut Extensions) + Send + Sync;

/// Serves an application on a listener.
///
/// # Errors
/// The listener cannot be used.
pub fn serve<I, S, B>(
    listener: TcpListener,
    settings: Settings,
    opened: Arc<Opened>,
    factory: impl Fn() -> I + Send + Clone + 'static,
) -> io::Result<Server>
where
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Error = actix_web::Error, InitError = ()> + 'static,
    S::Response: Into<Response<B>> + 'static,
    S::Service: Service<Request, Future: 'static> + 'static,
    B: MessageBody + 'static,
{
    let Settings { workers, connections, patience, grace_seconds, tls } = settings;
    let builder = ServerBuilder::default()
        .workers(workers)
        .max_concurrent_connections(connections)
        .shutdown_timeout(grace_seconds)
        .disable_signals();
    let stop = builder.graceful_shutdown_signal();
    let app = move || {
        let app = factory().into_factory().map_err(|error: actix_web::Error| error.error_response());
        // Nothing here goes by the server's own name and address.
        map_config(app, |()| AppConfig::default())
    };
    let server = match tls {
        None => builder.listen("plain", listener, move || {
            let line = Line::open();
            fn_service(move |socket: TcpStream| {
                let remote = socket.peer_addr().ok();
                ready(Ok((Turning::new(socket, remote, line.clone()), remote)))
            })
            .and_then(library(app(), patience, stop.clone(), opened.clone()))
        })?,
        Some(tls) => builder.listen("tls", listener, move || {
            let line = Line::open();
            let mut acceptor = Acceptor::new(tls.clone());
            acceptor.set_handshake_timeout(patience);
            acceptor
                .map_err(|error| io::Error::other(format!("{error:?}")))
                .and_then(fn_service(move |socket: TlsStream<TcpStream>| {
                    let remote = socket.get_ref().0.peer_addr().ok();
                    ready(Ok((Turning::new(socket, remote, line.clone()), remote)))
                }))
                .and_then(
                    library(app(), patience, stop.clone(), opened.clone())
                        .map_err(|error| io::Error::other(error.to_string())),
                )
        })?,
    };
    Ok(server.run())
}

/// The HTTP library on connections of one kind.
fn library<C, S, B>(
    app: S,
    patience: Duration,
    stop: GracefulShutdownSignal,
    opened: Arc<Opened>,
) -> H1Service<Turning<C>, S, B>
where
    C: 'static,
    S: ServiceFactory<Request, Config = (), InitError: fmt::Debug>,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::Response: Into<Response<B>> + 'static,
    S::Service: Service<Request, Future: 'static>,
    B: MessageBody + 'static,
{
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let stop = stop.clone();
            async move { stop.notified().await }
        })
        .client_request_timeout(patience)
        .client_disconnect_timeout(LINGER)
        .on_connect_ext(move |connection: &Turning<C>, extensions: &mut Extensions| {
            extensions.insert(connection.turnstile().clone());
            opened(connection.socket(), connection.remote(), extensions);
        })
        .h1(app)
}
