//! A node: all wiring, used by `dolmen node`, by `devnet` and by tests. Many fit into one process.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_web::dev::{Extensions, Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use prometheus_client::registry::Registry;
use rustls::{ClientConfig, ServerConfig};
use thiserror::Error;
use tracing::{error, info, warn};

use crate::actors::chain::{self, ChainActor};
use crate::actors::clock::Stopwatch;
use crate::actors::peers::{self, PeerManager};
use crate::actors::scrub::Scrubber;
use crate::actors::session::{Door, Shared, accept, admit, turn};
use crate::config::Config;
use crate::http;
use crate::http::events::Events;
use crate::http::guard::Guard;
use crate::ledger::keeper::Keeper;
use crate::ledger::storage::StorageError;
use crate::metrics::Metrics;
use crate::peer::address::{PeerAddress, Scheme};
use crate::peer::limits::HANDSHAKE_TIMEOUT;
use crate::server::places::Places;
use crate::server::socket::duplicate;
use crate::server::turnstile::Turnstile;
use crate::server::{Settings, serve};
use crate::store::{OpenError, OpenReport, Options, Reader, Store, disk::RealDisk};
use crate::tls::{self, TlsError};

/// How long requests that are being answered may take once the node stops.
const GRACE_SECONDS: u64 = 3;

/// Threads that answer HTTP: answers are short, long reads happen elsewhere.
const HTTP_WORKERS: usize = 2;

/// Sockets at a port that are about to be closed.
const REFUSED_SOCKETS: usize = 64;

/// Connections that the system holds until they are accepted. The standard library has it hold 128, and when a crowd comes it
/// drops the others' first packets, an honest caller's too, who tries again after a second; a thousand are accepted within
/// some hundredths of one.
const BACKLOG: i32 = 1_024;

/// File with the address book in the data dir.
const BOOK_FILE: &str = "peers.json";

/// Why a node did not start, in one sentence.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen for {what} on {address}: {error}; choose another with {flag}")]
    Listen {
        /// What was to be listened for.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
        /// The flag that chooses it.
        flag: &'static str,
    },
    /// The data dir cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store can be opened but not read.
    #[error("the store in {dir} cannot be read: {error}")]
    Read {
        /// The data dir.
        dir: PathBuf,
        /// What went wrong.
        error: StorageError,
    },
    /// TLS cannot be spoken as it was asked for.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system gives no threads.
    #[error("cannot start: {0}")]
    System(String),
}

/// A running node. Lives in an actix `System`; dropping it stops nothing, [`Node::stop`] does.
pub struct Node {
    http_address: SocketAddr,
    p2p_address: SocketAddr,
    data_dir: PathBuf,
    chain: Addr<ChainActor>,
    peers: Addr<PeerManager>,
    reader: Reader,
    events: Events,
    http_server: ServerHandle,
    p2p_server: ServerHandle,
    arbiters: Vec<Arbiter>,
}

impl Node {
    /// Starts a node: when this returns, its chain is readable and both ports answer.
    ///
    /// # Errors
    /// A taken port or an unusable data dir; nothing is left running.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let stopwatch = Stopwatch::start();
        let Tls { identity, dial } = load_tls(config)?;
        let dials_tls = dial.is_some();
        let http_listener = listen(config.http, "HTTP", "--http")?;
        let p2p_listener = listen(config.p2p, "peers", "--p2p")?;
        let local = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
        let http_address = local(&http_listener, config.http);
        let p2p_address = local(&p2p_listener, config.p2p);

        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::register(&mut registry, http::route_names().iter().map(|route| route.path)));
        let keeper = open(config).await?;
        let reader = keeper.storage().reader();
        let tip = keeper.tip();
        let chain_arbiter = Arbiter::new();
        let counted = metrics.clone();
        let chain = ChainActor::start_in_arbiter(&chain_arbiter.handle(), move |_| ChainActor::new(keeper, counted));
        let peers_arbiter = Arbiter::new();
        let shared = Shared::new(stopwatch, config.slots, metrics.clone());
        let parts = peers::Parts {
            chain: chain.clone(),
            reader: reader.clone(),
            shared: shared.clone(),
            slots: config.slots,
            max_reorg: config.max_reorg,
            port: p2p_address.port(),
            book_file: config.data_dir.join(BOOK_FILE),
            peers: config.peers.clone(),
            cluster_key: config.cluster_key.clone(),
            tls: dial,
            scheme: if identity.is_some() { Scheme::Tls } else { Scheme::Plain },
            metrics: metrics.clone(),
        };
        let manager = PeerManager::start_in_arbiter(&peers_arbiter.handle(), move |_| PeerManager::new(parts));
        if config.scrub_rate > 0 {
            let (reader, rate) = (reader.clone(), config.scrub_rate.saturating_mul(1024));
            Scrubber::start_in_arbiter(&peers_arbiter.handle(), move |_| Scrubber::new(reader, rate));
        }
        chain.do_send(chain::Subscribe(manager.clone().recipient()));

        let events = Events::start(&chain, manager.clone()).await;
        let events = events.map_err(|error| StartError::System(error.to_string()))?;
        let app = http::App {
            chain: chain.clone(),
            peers: manager.clone(),
            reader: reader.clone(),
            events: events.clone(),
            reads: http::reads::Reads::default(),
            stopwatch,
            slots: config.slots,
            max_reorg: config.max_reorg,
            dials_tls,
            metrics: metrics.clone(),
            registry: Arc::new(registry),
        };
        let guard = Guard::new(config.allowed_hosts.clone(), config.api_token.clone());
        if guard.token.is_none() && !http_address.ip().is_loopback() {
            warn!(http = %http_address, "HTTP listens beyond this machine without a token: whoever reaches it can mine; \
                set --api-token-file, or listen on 127.0.0.1");
        }
        let http_server = serve_http(http_listener, app, guard, config.max_clients, identity.clone())
            .map_err(|error| StartError::System(error.to_string()))?;
        let door = Door { manager: manager.clone(), shared };
        let p2p_server = serve_peers(p2p_listener, door, config.slots.sockets(), identity.clone())
            .map_err(|error| StartError::System(error.to_string()))?;
        let (http_handle, p2p_handle) = (http_server.handle(), p2p_server.handle());
        actix_web::rt::spawn(http_server);
        actix_web::rt::spawn(p2p_server);
        info!(http = %http_address, p2p = %p2p_address, tls = identity.is_some(), closed = config.cluster_key.is_some(),
            data_dir = %config.data_dir.display(), %tip, max_inbound = config.slots.inbound,
            max_outbound = config.slots.outbound, max_reorg = config.max_reorg,
            millis = stopwatch.millis(), "node ready");
        Ok(Self {
            http_address,
            p2p_address,
            data_dir: config.data_dir.clone(),
            chain,
            peers: manager,
            reader,
            events,
            http_server: http_handle,
            p2p_server: p2p_handle,
            arbiters: vec![chain_arbiter, peers_arbiter],
        })
    }

    /// Where HTTP answers.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where peers are answered.
    #[must_use]
    pub fn p2p_address(&self) -> SocketAddr {
        self.p2p_address
    }

    /// Where the chain is kept.
    #[must_use]
    pub fn data_dir(&self) -> &PathBuf {
        &self.data_dir
    }

    /// The one writer.
    #[must_use]
    pub fn chain(&self) -> &Addr<ChainActor> {
        &self.chain
    }

    /// The links.
    #[must_use]
    pub fn peers(&self) -> &Addr<PeerManager> {
        &self.peers
    }

    /// The chain, to be read from any thread.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Stops taking requests, says goodbye to peers, and closes the store.
    pub async fn stop(self) {
        self.events.stop();
        let graceful = tokio::time::timeout(Duration::from_secs(GRACE_SECONDS), self.http_server.stop(true));
        if graceful.await.is_err() {
            warn!("requests that took too long were cut off");
        }
        // An actor that is gone already needs no notice.
        let _ = self.peers.send(peers::Stop).await;
        self.p2p_server.stop(false).await;
        let _ = self.chain.send(chain::Close).await;
        for arbiter in self.arbiters {
            arbiter.stop();
        }
        info!(data_dir = %self.data_dir.display(), "node stopped");
    }
}

fn listen(address: SocketAddr, what: &'static str, flag: &'static str) -> Result<TcpListener, StartError> {
    let failed = |error| StartError::Listen { what, address, error, flag };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    rustix::net::listen(&listener, BACKLOG).map_err(|error| failed(error.into()))?;
    Ok(listener)
}

async fn open(config: &Config) -> Result<Keeper<Store>, StartError> {
    let dir = config.data_dir.clone();
    let max_reorg = config.max_reorg;
    let opening = web::block(move || {
        let (store, report) = Store::open(&dir, Arc::new(RealDisk), Options::default())?;
        log_report(&report);
        Keeper::open(store, max_reorg).map_err(|error| StartError::Read { dir, error })
    });
    opening.await.map_err(|error| StartError::System(error.to_string()))?
}

/// Says what opening the store has found, loudly where somebody should look.
fn log_report(report: &OpenReport) {
    if let Some(reason) = &report.rebuilt {
        info!(reason, groups = report.replayed, "the derived tables were rebuilt from the log");
    }
    if let Some(cut) = &report.cut {
        let kept = cut.kept.as_ref().map(|path| tracing::field::display(path.display()));
        warn!(
            file = cut.file,
            offset = cut.offset,
            bytes = cut.bytes,
            kept,
            "an unfinished write at the end of the log was cut off; it was never acknowledged"
        );
    }
    for damage in &report.damage {
        error!(file = damage.file, offset = damage.offset, what = damage.what, "the log is damaged");
    }
}

/// What a node speaks TLS with.
struct Tls {
    /// As a server, on both ports.
    identity: Option<ServerConfig>,
    /// As a client, to peers.
    dial: Option<Arc<ClientConfig>>,
}

fn load_tls(config: &Config) -> Result<Tls, TlsError> {
    tls::install();
    let identity = config.tls.identity.as_ref().map(|(cert, key)| tls::server(cert, key)).transpose()?;
    let dial = config.tls.ca.as_deref().map(tls::client).transpose()?;
    let secure = |address: &&PeerAddress| address.scheme() == Scheme::Tls;
    if let (None, Some(address)) = (&dial, config.peers.iter().find(secure)) {
        return Err(TlsError::NoAuthority { address: address.to_string() });
    }
    Ok(Tls { identity, dial })
}

fn serve_http(
    listener: TcpListener,
    app: http::App,
    guard: Guard,
    max_clients: usize,
    tls: Option<ServerConfig>,
) -> io::Result<Server> {
    let places = Places::new(max_clients);
    let opened = move |connection: &dyn Any, _: Option<SocketAddr>, extensions: &mut Extensions| {
        // Without a spare file descriptor there is no handle to the socket, and the connection is not counted.
        if let (Some(socket), Some(turnstile)) = (duplicate(connection), extensions.get::<Rc<Turnstile>>()) {
            turnstile.take_place(places.take(socket.into()));
        }
    };
    let settings = Settings {
        workers: HTTP_WORKERS,
        // Of each worker, so that those that have to go are closed at once and do not wait in line before others.
        connections: max_clients + REFUSED_SOCKETS,
        patience: HANDSHAKE_TIMEOUT,
        grace_seconds: GRACE_SECONDS,
        tls,
    };
    serve(listener, settings, Arc::new(opened), move || {
        App::new()
            .app_data(web::Data::new(app.clone()))
            .app_data(web::Data::new(guard.clone()))
            .configure(http::routes)
            .wrap(from_fn(http::guard::guard))
            .wrap(from_fn(http::metrics::observe))
    })
}

fn serve_peers(listener: TcpListener, door: Door, sockets: usize, tls: Option<ServerConfig>) -> io::Result<Server> {
    let shared = door.shared.clone();
    let opened = move |connection: &dyn Any, remote: Option<SocketAddr>, extensions: &mut Extensions| {
        admit(connection, remote, extensions, &shared);
    };
    let settings = Settings {
        workers: 1,
        // Some more than may stay, so that those beyond are closed at once and do not wait in line before others.
        connections: sockets + REFUSED_SOCKETS,
        patience: HANDSHAKE_TIMEOUT,
        grace_seconds: 1,
        tls,
    };
    serve(listener, settings, Arc::new(opened), move || {
        App::new()
            .app_data(web::Data::new(door.clone()))
            .service(web::resource("/").route(web::get().to(accept)))
            .wrap(from_fn(turn))
    })
}
