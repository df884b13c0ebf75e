//! `dolmen watch`: what happens on a node, as it happens, until Ctrl-C.
//!
//! Follows `GET /events`, and goes on where it was after a break. A node that has none is looked at again and again
//! instead. `screen` shows what either brings, in the words of the events.

mod poll;
mod screen;

use std::pin::pin;
use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{ClientArgs, blocks};
use crate::client::events::{Followed, Follower};
use crate::client::{Client, ClientError};
use crate::exit::{FAILURE, Failure};
use crate::signals::Signals;
use poll::Poller;
use screen::Screen;

/// Blocks that people are shown at once when they did not ask for old ones; of more only how many they were.
const MAX_SHOWN: u64 = 200;

/// Between two drawings of the line that is redrawn.
const TICK: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Milliseconds between two looks at a node that has no /events
    #[arg(long, value_name = "MILLIS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    interval: u64,
    /// Begin with the block at this index instead of the next one
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    #[command(flatten)]
    client: ClientArgs,
}

/// Something to show.
enum Happening {
    /// An event as `GET /events` has it: its name and its data.
    Event(String, Value),
    /// The node cannot be asked for now.
    Away(ClientError),
    /// It can again; all its peers are told anew.
    Back,
    /// The node has no events, and is asked otherwise from here on.
    Polling,
}

impl WatchArgs {
    pub fn run(&self) -> Result<(), Failure> {
        self.client.run(async |client, out| {
            let mut signals = Signals::listen().map_err(|error| Failure::new(FAILURE, error))?;
            let after = self.after(client).await?;
            let behind = (self.from.is_none() && out.is_table()).then_some(MAX_SHOWN);
            let mut screen = Screen::new(client, out, self.from.unwrap_or(after.index + 1));
            screen.begin(after.index, &after.hash)?;
            if self.from == Some(0) {
                let genesis = client.get_json("/blocks/0").await?;
                screen.show(Happening::Event("block".to_owned(), json!({ "hash": after.hash, "block": genesis })))?;
            }
            let source = Source {
                client,
                interval: Duration::from_millis(self.interval),
                follower: Follower::new(client, Some(format!("{}-{}", after.index, after.hash)), behind),
                poller: None,
                last: after,
            };
            // A stream, so that a wait that is left for a tick or a signal goes on afterwards.
            let mut happenings = pin!(stream::unfold(source, async |mut source| Some((source.next().await, source))));
            let mut ticks = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    Some(happening) = happenings.next() => screen.show(happening?)?,
                    _ = ticks.tick() => screen.tick(),
                    () = signals.first() => return Ok(()),
                }
            }
        })
    }

    /// The last block that is not to be shown any more.
    async fn after(&self, client: &Client) -> Result<Place, Failure> {
        let status = client.get_json("/status").await?;
        let tip = Place::of(&status["tip"]);
        let index = match self.from {
            Some(from) if from <= tip.index => from.saturating_sub(1),
            _ => return Ok(tip),
        };
        let hash = blocks::hash_at(client, index).await?.unwrap_or_default();
        Ok(Place { index, hash })
    }
}

/// A block's index and hash, as the node writes them.
#[derive(Clone, Default)]
struct Place {
    index: u64,
    hash: String,
}

impl Place {
    fn of(tip: &Value) -> Self {
        let hash = tip["hash"].as_str().unwrap_or_default().to_owned();
        Self { index: tip["index"].as_u64().unwrap_or_default(), hash }
    }
}

/// Where happenings come from.
struct Source<'a> {
    client: &'a Client,
    interval: Duration,
    follower: Follower,
    /// In the follower's place, once the node has said that it has no events.
    poller: Option<Poller<'a>>,
    /// Where the poller begins.
    last: Place,
}

impl Source<'_> {
    async fn next(&mut self) -> Result<Happening, Failure> {
        if let Some(poller) = &mut self.poller {
            return poller.next().await;
        }
        match self.follower.next().await {
            Ok(Followed::Event(event)) => {
                let data = serde_json::from_str(&event.data).map_err(|error| {
                    Failure::new(FAILURE, format!("an event of {} is no JSON: {error}", self.client.url()))
                })?;
                Ok(Happening::Event(event.kind, data))
            }
            Ok(Followed::Away(error)) => Ok(Happening::Away(error)),
            Ok(Followed::Back) => Ok(Happening::Back),
            Err(ClientError::Refused { status: 404, .. }) => {
                self.poller = Some(Poller::new(self.client, self.last.clone(), self.interval));
                Ok(Happening::Polling)
            }
            Err(error) => Err(error.into()),
        }
    }
}
