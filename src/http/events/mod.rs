//! `GET /events`: what happens, as server-sent events.
//!
//! | event | data |
//! | --- | --- |
//! | `block` | `{"hash","block"}`: the block after the one before |
//! | `reorg` | `{"old","fork","new","depth","length","left","entered","requeued"}`: blocks above `fork` left the best chain |
//! | `reset` | `{"unknown","tip"}`: the block to go on from is unknown here; it goes on from the tip |
//! | `skipped` | `{"from","to"}`: blocks passed over, only with `?behind=N` |
//! | `peer` | `{"change":"linked"\|"changed"\|"closed","peer"}`: all peers at the beginning, then changes |
//! | `sync` | `{"peer","from","at","target"}` or `null`: how far the branch is that is being fetched |
//!
//! Every event's id is the last block that the reader then knows, `<index>-<hash>`: whoever sends it back, in the header
//! `Last-Event-ID` or as `?lastEventId=`, goes on from there (see [`crate::ledger::feed`]). The blocks that enter by a reorg
//! follow it as `block` events.
//!
//! Nothing is kept for a reader. A task of its own reads the chain in bounded steps and hands on one chunk at a time; a
//! reader that takes none for [`STALL`] is cut off, and may come back and go on.

mod links;
mod text;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Addr, MailboxError};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use super::App;
use super::problem::Problem;
use crate::actors::chain::{ChainActor, WatchTip};
use crate::actors::peers::PeerManager;
use crate::ledger::feed::{Feed, Step};
use crate::ledger::{BlockHash, Height, Tip};
use crate::server::taking::STALL;
use crate::store::Reader;
use links::Seen;

/// Readers at once. Each holds at most two chunks, one block of 1 MiB escaped sixfold in the worst case.
pub const MAX_READERS: usize = 32;

/// Silence after which a comment shows both sides that the line still works.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Rest after everything was told, so that blocks mined one by one are told together.
const REST: Duration = Duration::from_millis(20);

/// The most blocks that a reader can ask not to fall behind.
const MAX_BEHIND: u64 = 1_000_000;

/// What all readers share.
#[derive(Clone)]
pub struct Events {
    tips: watch::Receiver<Tip>,
    seen: Arc<watch::Sender<Arc<Seen>>>,
    peers: Addr<PeerManager>,
    seats: Arc<Semaphore>,
    stop: Arc<watch::Sender<bool>>,
}

impl Events {
    /// Begins to look at the chain and the links. Runs on the caller's arbiter until [`Events::stop`].
    ///
    /// # Errors
    /// The chain's actor is gone.
    pub async fn start(chain: &Addr<ChainActor>, peers: Addr<PeerManager>) -> Result<Self, MailboxError> {
        let tips = chain.send(WatchTip).await?;
        let events = Self {
            tips,
            seen: Arc::new(watch::Sender::new(Arc::default())),
            peers,
            seats: Arc::new(Semaphore::new(MAX_READERS)),
            stop: Arc::new(watch::Sender::new(false)),
        };
        actix_web::rt::spawn(links::look_on(events.peers.clone(), events.seen.clone(), events.stop.subscribe()));
        Ok(events)
    }

    /// Ends every reader's stream, so that the server need not wait for them.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Where a reader wants to go on, and how.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    last_event_id: Option<String>,
    behind: Option<String>,
}

/// The stream, from now on or from the event that the reader names.
#[utoipa::path(
    get,
    path = "/events",
    tag = "chain",
    params(
        ("Last-Event-ID" = Option<String>, Header, pattern = "^[0-9]{1,16}-[0-9a-f]{64}$", description = "The last event that the reader knows"),
        ("lastEventId" = Option<String>, Query, pattern = "^[0-9]{1,16}-[0-9a-f]{64}$", description = "The same, for readers that cannot set headers"),
        ("behind" = Option<u64>, Query, maximum = 1_000_000, description = "Passes over all but so many of the newest blocks"),
    ),
    responses(
        (status = 200, description = "Events without end: block, reorg, peer, sync, reset, skipped", body = String, content_type = "text/event-stream"),
    ),
)]
pub async fn follow(
    app: web::Data<App>,
    request: HttpRequest,
    wish: web::Query<Wish>,
) -> Result<HttpResponse, Problem> {
    let header = request.headers().get("Last-Event-ID");
    // The header comes from a reader that was cut off, and is newer than the address that it still has.
    let named = match header {
        Some(value) => Some(value.to_str().map_err(|_| no_position())?),
        None => wish.last_event_id.as_deref(),
    };
    let at = match named {
        Some(text) => position(text).ok_or_else(no_position)?,
        None => app.reader.tip(),
    };
    let feed = match wish.behind.as_deref().map(behind).transpose()? {
        Some(behind) => Feed::keeping_up(at, behind),
        None => Feed::new(at),
    };
    let full = |_| Problem::busy(format!("{MAX_READERS} readers follow the events already; try again later"), 5);
    let seat = app.events.seats.clone().try_acquire_owned().map_err(full)?;
    let (chunks, mut body) = mpsc::channel(1);
    let teller = Teller {
        feed,
        seen: Arc::default(),
        synced: false,
        reader: app.reader.clone(),
        events: app.events.clone(),
        remote: request.peer_addr(),
        _seat: seat,
    };
    actix_web::rt::spawn(teller.tell(chunks));
    let body = stream::poll_fn(move |context| body.poll_recv(context).map(|chunk| chunk.map(Ok::<Bytes, Problem>)));
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream; charset=utf-8")
        .insert_header(("Cache-Control", "no-cache"))
        // Asks a proxy not to hold events back.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body))
}

/// An id as text: index, dash, hash.
fn position(text: &str) -> Option<Tip> {
    let (index, hash) = text.split_once('-')?;
    let digits = !index.is_empty() && index.bytes().all(|c| c.is_ascii_digit());
    let height = Height(index.parse().ok().filter(|_| digits)?);
    Some(Tip { height, hash: BlockHash::from_hex(hash)? })
}

fn no_position() -> Problem {
    Problem::bad_request("an event's id is a block's index, a dash and its hash, as the events carry it")
}

fn behind(text: &str) -> Result<u64, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|blocks| digits && *blocks <= MAX_BEHIND).ok_or_else(|| {
        Problem::bad_request(format!("behind is a number of blocks up to {MAX_BEHIND}; for example /events?behind=100"))
    })
}

/// Tells one reader.
struct Teller {
    feed: Feed,
    /// The links as the reader knows them.
    seen: Arc<Seen>,
    /// Whether the reader has been told of them at all.
    synced: bool,
    reader: Reader,
    events: Events,
    remote: Option<SocketAddr>,
    _seat: OwnedSemaphorePermit,
}

impl Teller {
    /// Until the reader goes, is too slow, or the node stops.
    async fn tell(mut self, chunks: mpsc::Sender<Bytes>) {
        let (mut tips, mut seen) = (self.events.tips.clone(), self.events.seen.subscribe());
        let mut stop = self.events.stop.subscribe();
        let mut text = text::greeting();
        links::look(&self.events.peers, &self.events.seen).await;
        loop {
            tips.mark_unchanged();
            self.tell_links(&seen.borrow_and_update().clone(), &mut text);
            let Some(more) = self.tell_chain(&mut text).await else { return };
            if !text.is_empty() {
                let told = chunks.send(Bytes::from(std::mem::take(&mut text)));
                let begun = Instant::now();
                tokio::select! {
                    told = told => match told {
                        Ok(()) => {}
                        // The reader went away, or was cut off by its connection.
                        Err(_) if begun.elapsed() < STALL / 2 => return,
                        Err(_) => {
                            let (remote, at) = (self.remote, self.feed.position());
                            info!(?remote, %at, "reader of events dropped: it does not read");
                            return;
                        }
                    },
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
            if more {
                continue;
            }
            tokio::select! {
                () = chunks.closed() => return,
                _ = stop.wait_for(|stop| *stop) => return,
                // The chain's actor is gone: the node is stopping.
                changed = tips.changed() => if changed.is_err() { return } else { sleep(REST).await },
                _ = seen.changed() => {}
                () = sleep(HEARTBEAT) => text::heartbeat(&mut text),
            }
        }
    }

    /// The next step of the chain; `None` if it cannot be read.
    async fn tell_chain(&mut self, text: &mut Vec<u8>) -> Option<bool> {
        let snapshot = self.reader.snapshot();
        let mut feed = std::mem::replace(&mut self.feed, Feed::new(snapshot.tip()));
        let mut out = std::mem::take(text);
        let step = web::block(move || {
            let step = feed.step(&snapshot).map(|Step { events, more }| {
                events.iter().for_each(|event| text::chain(event, &mut out));
                (out, more)
            });
            (feed, step)
        });
        // Fails only while the node stops.
        let (feed, step) = step.await.ok()?;
        self.feed = feed;
        match step {
            Ok((out, more)) => {
                *text = out;
                Some(more)
            }
            Err(error) => {
                warn!(%error, at = %self.feed.position(), "events end: the chain cannot be read");
                None
            }
        }
    }

    fn tell_links(&mut self, seen: &Arc<Seen>, text: &mut Vec<u8>) {
        if self.synced && Arc::ptr_eq(seen, &self.seen) {
            return;
        }
        let at = self.feed.position();
        for (change, row) in links::changes(&self.seen.peers, &seen.peers) {
            text::peer(at, change, row, text);
        }
        if !self.synced || self.seen.sync != seen.sync {
            text::sync(at, seen.sync, text);
        }
        self.seen = Arc::clone(seen);
        self.synced = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::genesis;

    #[test]
    fn an_id_is_read_back_as_it_is_written_and_nothing_else_is() {
        let tip = genesis::tip();
        assert_eq!(position(&text::id(tip)), Some(tip));
        let hash = tip.hash;
        for text in [
            "",
            "-",
            "0",
            &format!("-{hash}"),
            &format!("+1-{hash}"),
            "1-abc",
            &format!("1-{hash}0"),
            &format!(" 1-{hash}"),
        ] {
            assert_eq!(position(text), None, "{text:?}");
        }
    }
}
