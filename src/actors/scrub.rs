//! Scrubber: goes over the chain on disk again and again, slowly, so that damage is met before somebody needs the block.
//!
//! Owns the place that it has come to. What is broken is noted by the store as it is read; PeerManager takes it from there
//! and fetches it again. Reads happen on another thread, a step at a time.

use std::time::{Duration, Instant};

use actix::fut::{ActorFutureExt, wrap_future};
use actix::prelude::*;
use tracing::{debug, warn};

use crate::ledger::Height;
use crate::ledger::storage::StorageError;
use crate::store::{Reader, Scrubbed};

/// Blocks of one step: a few milliseconds of one core.
const STEP_BLOCKS: u64 = 1_000;

/// Bytes of one step, and so about what is read in one go.
const STEP_BYTES: u64 = 256 * 1024;

/// What a block costs besides its bytes, in bytes: judging many small ones is work, too.
const BLOCK_COST: u64 = 128;

/// From the beginning of one pass to the next at least: a short chain is not read for ever.
const PASS: Duration = Duration::from_secs(3600);

/// Reads the chain again, this many bytes a second.
pub struct Scrubber {
    reader: Reader,
    /// Bytes per second, at least one.
    rate: u64,
    next: Height,
    /// When the pass began.
    began: Instant,
    broken: usize,
}

impl Scrubber {
    /// One that has not begun.
    #[must_use]
    pub fn new(reader: Reader, rate: u64) -> Self {
        Self { reader, rate: rate.max(1), next: Height::GENESIS, began: Instant::now(), broken: 0 }
    }

    fn step(&mut self, ctx: &mut Context<Self>) {
        let (snapshot, from) = (self.reader.snapshot(), self.next);
        let reading = actix_web::web::block(move || snapshot.scrub(from, STEP_BLOCKS, STEP_BYTES));
        ctx.spawn(wrap_future::<_, Self>(reading).map(move |read, scrubber, ctx| {
            let pause = match read {
                Ok(read) => scrubber.pause_after(from, read),
                // The node is stopping.
                Err(_) => return,
            };
            ctx.run_later(pause, Self::step);
        }));
    }

    /// Takes note of a step; how long to wait until the next.
    fn pause_after(&mut self, from: Height, read: Result<Scrubbed, StorageError>) -> Duration {
        let scrubbed = match read {
            Ok(scrubbed) => scrubbed,
            Err(error) => {
                warn!(%error, %from, "the chain cannot be scrubbed for now");
                return PASS;
            }
        };
        for (height, why) in &scrubbed.broken {
            debug!(%height, why, "a damaged block");
        }
        self.broken += scrubbed.broken.len();
        if let Some(next) = scrubbed.next {
            let blocks = next.0.saturating_sub(from.0);
            self.next = next;
            let cost = scrubbed.bytes.saturating_add(blocks.saturating_mul(BLOCK_COST));
            return Duration::from_millis(cost.saturating_mul(1000) / self.rate);
        }
        debug!(broken = self.broken, seconds = self.began.elapsed().as_secs(), "the chain was scrubbed to its end");
        let pause = PASS.saturating_sub(self.began.elapsed());
        // The next pass begins when this pause is over.
        (self.next, self.began, self.broken) = (Height::GENESIS, Instant::now() + pause, 0);
        pause
    }
}

impl Actor for Scrubber {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.step(ctx);
    }
}
