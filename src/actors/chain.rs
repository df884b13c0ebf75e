//! ChainActor: the one writer. Owns the [`Keeper`] with the store, on an arbiter of its own.
//!
//! Translates messages into calls of the keeper and publishes changes. Mining is committed in groups: what stands in the
//! mailbox is collected, and a flush that runs once the mailbox is empty makes one durable write of it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::dev::{MessageResponse, OneshotSender};
use actix::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tracing::{debug, error, info};

use super::clock::{self, Stopwatch};
use super::peers::ChainChanged;
use crate::ledger::chain::{Branch, ImportError, Origin};
use crate::ledger::keeper::{
    Imported, Keeper, MineError, MineRequest, Mined, OperatorError, Staged, Update, Whereabouts as Place,
};
use crate::ledger::storage::{Storage, StorageError, SubmissionId};
use crate::ledger::{BlockHash, Height, SharedBlock, Tip, UnixTime};
use crate::metrics::{BlockSource, Metrics};
use crate::store::{Sizes, Snapshot, Store};

/// Reorgs that are remembered, for people.
const KEPT_REORGS: usize = 16;

/// Messages that may wait: at 16, the default, senders would take turns and groups stay small.
const MAILBOX: usize = 4096;

// ---- Messages.

/// Mine these entries into a block of their own. Answered once the block is durable.
#[derive(Debug, Message)]
#[rtype(result = "Result<Mined, MineError>")]
pub struct Mine(pub MineRequest);

/// The end of the best chain.
#[derive(Debug, Message)]
#[rtype(result = "Tip")]
pub struct GetTip;

/// The best chain as it stands, to be read at leisure; never a copy. `None` once the node is stopping.
#[derive(Debug, Message)]
#[rtype(result = "Option<Snapshot>")]
pub struct GetBlocks;

/// Take a run of blocks, each the child of the one before.
#[derive(Debug, Message)]
#[rtype(result = "Result<Imported, ImportError>")]
pub struct ImportBlocks {
    /// The run.
    pub blocks: Vec<SharedBlock>,
    /// How far the sender is trusted.
    pub origin: Origin,
}

/// Add blocks to the staged branch that begins at `fork`; begins it anew if their parent is `fork`. Answers where it ends
/// now, or `None` if the blocks do not continue what is staged.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<Tip>, ImportError>")]
pub struct StageBlocks {
    /// Where the branch leaves the best chain.
    pub fork: Tip,
    /// Parent of the first block.
    pub after: Tip,
    /// The blocks.
    pub blocks: Vec<SharedBlock>,
}

/// Make the staged branch the best chain, if it still is better.
#[derive(Debug, Message)]
#[rtype(result = "Result<Imported, ImportError>")]
pub struct SwitchBranch {
    /// How far the sender is trusted.
    pub origin: Origin,
}

/// Give the staged branch up.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DropBranch;

/// Write blocks of the best chain again that are broken on the disk, in this order.
#[derive(Debug, Message)]
#[rtype(result = "Restored")]
pub struct RestoreBlocks(pub Vec<SharedBlock>);

/// Answer to [`RestoreBlocks`].
#[derive(Clone, Debug, MessageResponse)]
pub struct Restored {
    /// The blocks that were begun with; all are durable, but for the last if there is an error.
    pub heights: Vec<Height>,
    /// Why the last was not written.
    pub error: Option<StorageError>,
}

/// Where a submission is.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<Place>, StorageError>")]
pub struct Whereabouts(pub SubmissionId);

/// The kept branches off the best chain.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Branch>, StorageError>")]
pub struct GetBranches;

/// Make a kept branch the best chain, whatever it undoes.
#[derive(Debug, Message)]
#[rtype(result = "Result<Arc<Update>, OperatorError>")]
pub struct AdoptBranch(pub BlockHash);

/// Mine the entries of another node's side blocks again, up to this one.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Mined>, OperatorError>")]
pub struct Requeue(pub BlockHash);

/// The last changes of the best chain in which blocks left it, newest first.
#[derive(Debug, Message)]
#[rtype(result = "Vec<PastReorg>")]
pub struct GetReorgs;

/// A change in which blocks left the best chain.
#[derive(Clone, Copy, Debug)]
pub struct PastReorg {
    /// When it happened.
    pub time: UnixTime,
    /// The last block that left.
    pub old: Tip,
    /// The common ancestor.
    pub fork: Tip,
    /// The last block that entered.
    pub new: Tip,
    /// Submissions that wait to be mined again because of it.
    pub requeued: usize,
}

/// Numbers for people.
#[derive(Debug, Message)]
#[rtype(result = "Stats")]
pub struct GetStats;

/// Answer to [`GetStats`].
#[derive(Clone, Debug, MessageResponse)]
pub struct Stats {
    /// The end of the best chain, of the same moment as the rest.
    pub tip: Tip,
    /// Submissions that wait to be mined again.
    pub outbox: usize,
    /// Blocks kept off the best chain.
    pub side_blocks: usize,
    /// Branches that wait for an operator.
    pub parked: usize,
    /// Changes of the best chain in which blocks left, since the start.
    pub reorgs: u64,
    /// Why nothing more is written, if the store failed.
    pub failed: Option<String>,
    /// Bytes on disk.
    pub sizes: Sizes,
}

/// The end of the best chain, now and whenever it changes; who looks seldom sees only the last one.
#[derive(Debug, Message)]
#[rtype(result = "watch::Receiver<Tip>")]
pub struct WatchTip;

/// Tell this address of every change from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Subscribe(pub Recipient<ChainChanged>);

/// Write what is left to write, and stop.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Close;

/// Sent to oneself: commit what has been collected.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Flush;

// ---- The actor.

/// A caller of [`Mine`] that waits for its block.
type Waiting = (MineRequest, Option<OneshotSender<Result<Mined, MineError>>>);

/// What has been collected since the last flush.
#[derive(Default)]
struct Collected {
    waiting: Vec<Waiting>,
    /// When the first of it came.
    since: Option<Instant>,
}

/// Shared with [`Queued`] on the same thread.
type Queue = Rc<RefCell<Collected>>;

/// The one writer.
pub struct ChainActor {
    /// `None` only after [`Close`].
    keeper: Option<Keeper<Store>>,
    queue: Queue,
    metrics: Arc<Metrics>,
    /// Entries of the staged branch, for the metrics.
    staged_entries: u64,
    subscribers: Vec<Recipient<ChainChanged>>,
    /// For readers that only want to be woken: costs the same however many they are, and however slow.
    tips: watch::Sender<Tip>,
    /// The branch that a peer is sending.
    staged: Option<Staged<<Store as Storage>::Staging>>,
    /// Whether a timer for the outbox is running.
    remine_scheduled: bool,
    stopwatch: Stopwatch,
    rng: StdRng,
    reorgs: u64,
    /// The newest first.
    past_reorgs: VecDeque<PastReorg>,
    failed: Option<String>,
}

impl ChainActor {
    /// The writer of this ledger.
    #[must_use]
    pub fn new(keeper: Keeper<Store>, metrics: Arc<Metrics>) -> Self {
        Self {
            tips: watch::Sender::new(keeper.tip()),
            keeper: Some(keeper),
            queue: Queue::default(),
            metrics,
            staged_entries: 0,
            subscribers: Vec::new(),
            staged: None,
            remine_scheduled: false,
            stopwatch: Stopwatch::start(),
            rng: StdRng::from_rng(&mut rand::rng()),
            reorgs: 0,
            past_reorgs: VecDeque::new(),
            failed: None,
        }
    }

    fn keeper(&mut self) -> Result<&mut Keeper<Store>, StorageError> {
        self.keeper.as_mut().ok_or_else(closed)
    }

    /// Takes note of a storage error, loudly once.
    fn note_failure(&mut self, error: &StorageError) {
        let text = error.to_string();
        if self.failed.as_ref() != Some(&text) {
            error!(reason = %text, "store failed");
        }
        self.failed = Some(text);
    }

    /// Tells everybody of a change that has become durable.
    fn publish(&mut self, update: Update, source: BlockSource, ctx: &mut Context<Self>) -> Arc<Update> {
        self.failed = None;
        self.count(&update, source);
        if update.depth() > 0 {
            self.reorgs += 1;
            let Update { old, fork, new, requeued, .. } = update;
            self.past_reorgs.truncate(KEPT_REORGS - 1);
            self.past_reorgs.push_front(PastReorg { time: clock::unix_time(), old, fork, new, requeued });
            info!(depth = update.depth(), fork = %update.fork.height, tip = %update.new, requeued = update.requeued, "reorg");
        }
        self.tips.send_replace(update.new);
        let update = Arc::new(update);
        for subscriber in &self.subscribers {
            // One message per durable write to an actor that never blocks: its mailbox cannot grow without bound.
            subscriber.do_send(ChainChanged(update.clone()));
        }
        self.schedule_remine(ctx);
        update
    }

    fn count(&self, update: &Update, source: BlockSource) {
        let blocks = update.new.height.0 - update.fork.height.0;
        // Of a long branch only the number of blocks is told; its entries were counted when it was staged.
        let entries = match update.entered.as_slice() {
            [] => self.staged_entries,
            blocks => blocks.iter().map(|block| block.body().len() as u64).sum(),
        };
        self.metrics.changed(source, blocks, entries, update.depth(), update.requeued as u64);
    }

    fn schedule_remine(&mut self, ctx: &mut Context<Self>) {
        let now = self.stopwatch.millis();
        let Some(keeper) = &mut self.keeper else { return };
        if self.remine_scheduled {
            return;
        }
        let Some(due) = keeper.remine_due(now, &mut self.rng) else { return };
        self.remine_scheduled = true;
        ctx.run_later(Duration::from_millis(due.saturating_sub(now)), |actor, ctx| actor.remine(ctx));
    }

    fn remine(&mut self, ctx: &mut Context<Self>) {
        self.remine_scheduled = false;
        let now = self.stopwatch.millis();
        let Some(keeper) = &mut self.keeper else { return };
        let waiting = keeper.outbox_len();
        match keeper.remine_if_due(now, clock::unix_time(), &mut self.rng) {
            Ok(Some(update)) => {
                let submissions = waiting - keeper.outbox_len();
                info!(submissions, tip = %update.new, "mined again after a reorg");
                let _ = self.publish(update, BlockSource::Outbox, ctx);
            }
            Ok(None) => self.schedule_remine(ctx),
            Err(MineError::Storage(error)) => {
                self.note_failure(&error);
                self.schedule_remine(ctx);
            }
            Err(error) => {
                error!(%error, "cannot mine again");
                self.schedule_remine(ctx);
            }
        }
    }

    fn flush(&mut self, ctx: &mut Context<Self>) {
        let Collected { waiting, since } = self.queue.take();
        let begun = Instant::now();
        if let Some(since) = since {
            self.metrics.mailbox_wait.observe_time(begun - since);
        }
        let (requests, callers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        let Some(keeper) = &mut self.keeper else {
            for caller in callers.into_iter().flatten() {
                let _ = caller.send(Err(closed().into()));
            }
            return;
        };
        let (answers, update) = keeper.mine(requests, clock::unix_time());
        // Nothing is written for what is refused, or was mined before under its key.
        if let Some(update) = &update {
            self.metrics.commit_seconds.observe_time(begun.elapsed());
            self.metrics.commit_blocks.observe_count(update.new.height.0 - update.fork.height.0);
        }
        for answer in &answers {
            if let Err(MineError::Rule(rule)) = answer {
                self.metrics.refused(rule.name());
            }
        }
        if let Some(Err(MineError::Storage(error))) = answers.iter().find(|answer| is_storage_error(answer)) {
            let error = error.clone();
            self.note_failure(&error);
        }
        for (caller, answer) in callers.into_iter().zip(answers) {
            // A caller that went away does not want its answer.
            let _ = caller.map(|caller| caller.send(answer));
        }
        if let Some(update) = update {
            let blocks = update.new.height.0 - update.fork.height.0;
            debug!(index = update.new.height.0, hash = %update.new.hash, blocks, "block mined");
            let _ = self.publish(update, BlockSource::Mined, ctx);
        }
    }

    fn stage(&mut self, StageBlocks { fork, after, blocks }: StageBlocks) -> Result<Option<Tip>, ImportError> {
        if after == fork
            && let Some(old) = self.staged.take()
        {
            self.keeper()?.discard(old);
        }
        let mut staged = match self.staged.take() {
            Some(staged) => staged,
            None if after == fork => {
                self.staged_entries = 0;
                self.keeper()?.stage(fork)?
            }
            None => return Ok(None),
        };
        if staged.tip() != after {
            self.staged = Some(staged);
            return Ok(None);
        }
        let result = self.keeper()?.stage_append(&mut staged, &blocks);
        let tip = staged.tip();
        match result {
            Ok(()) => {
                self.staged = Some(staged);
                self.metrics.staged_blocks.inc_by(blocks.len() as u64);
                self.staged_entries += blocks.iter().map(|block| block.body().len() as u64).sum::<u64>();
                Ok(Some(tip))
            }
            Err(error) => {
                self.keeper()?.discard(staged);
                Err(error)
            }
        }
    }

    fn imported(&mut self, outcome: &Result<Imported, ImportError>, ctx: &mut Context<Self>) {
        match outcome {
            Ok(Imported::Changed(update)) => drop(self.publish(update.clone(), BlockSource::Peer, ctx)),
            Err(ImportError::Rule(rule)) => self.metrics.refused(rule.name()),
            Ok(Imported::Known | Imported::Unconnected | Imported::Side | Imported::Parked { .. }) => {}
            Err(ImportError::Storage(error)) => self.note_failure(&error.clone()),
        }
    }
}

fn closed() -> StorageError {
    StorageError::Failed("the node is stopping".into())
}

fn is_storage_error(answer: &Result<Mined, MineError>) -> bool {
    matches!(answer, Err(MineError::Storage(_)))
}

impl Actor for ChainActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.schedule_remine(ctx);
    }
}

/// Puts a request into the queue instead of answering: the flush answers.
pub struct Queued {
    request: MineRequest,
    queue: Queue,
}

impl MessageResponse<ChainActor, Mine> for Queued {
    fn handle(self, ctx: &mut Context<ChainActor>, caller: Option<OneshotSender<Result<Mined, MineError>>>) {
        let mut queue = self.queue.borrow_mut();
        if queue.waiting.is_empty() {
            queue.since = Some(Instant::now());
            // Runs after the mailbox is drained: the group is whatever stood in it.
            ctx.notify(Flush);
        }
        queue.waiting.push((self.request, caller));
    }
}

impl Handler<Mine> for ChainActor {
    type Result = Queued;

    fn handle(&mut self, Mine(request): Mine, _: &mut Self::Context) -> Queued {
        Queued { request, queue: self.queue.clone() }
    }
}

impl Handler<Flush> for ChainActor {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) {
        self.flush(ctx);
    }
}

impl Handler<GetTip> for ChainActor {
    type Result = MessageResult<GetTip>;

    fn handle(&mut self, _: GetTip, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.keeper.as_ref().map_or_else(crate::ledger::genesis::tip, Keeper::tip))
    }
}

impl Handler<GetBlocks> for ChainActor {
    type Result = Option<Snapshot>;

    fn handle(&mut self, _: GetBlocks, _: &mut Self::Context) -> Self::Result {
        Some(self.keeper.as_ref()?.storage().reader().snapshot())
    }
}

impl Handler<ImportBlocks> for ChainActor {
    type Result = Result<Imported, ImportError>;

    fn handle(&mut self, ImportBlocks { blocks, origin }: ImportBlocks, ctx: &mut Self::Context) -> Self::Result {
        let Some(keeper) = &mut self.keeper else { return Err(closed().into()) };
        let begun = Instant::now();
        let outcome = keeper.import(&blocks, origin, &mut self.rng);
        if matches!(outcome, Ok(Imported::Changed(_) | Imported::Side | Imported::Parked { .. })) {
            self.metrics.commit_seconds.observe_time(begun.elapsed());
            self.metrics.commit_blocks.observe_count(blocks.len() as u64);
        }
        self.imported(&outcome, ctx);
        outcome
    }
}

impl Handler<StageBlocks> for ChainActor {
    type Result = Result<Option<Tip>, ImportError>;

    fn handle(&mut self, message: StageBlocks, _: &mut Self::Context) -> Self::Result {
        let outcome = self.stage(message);
        if let Err(ImportError::Storage(error)) = &outcome {
            self.note_failure(&error.clone());
        }
        outcome
    }
}

impl Handler<SwitchBranch> for ChainActor {
    type Result = Result<Imported, ImportError>;

    fn handle(&mut self, SwitchBranch { origin }: SwitchBranch, ctx: &mut Self::Context) -> Self::Result {
        let Some(keeper) = &mut self.keeper else { return Err(closed().into()) };
        let Some(staged) = self.staged.take() else { return Ok(Imported::Known) };
        let outcome = keeper.switch(staged, origin, &mut self.rng);
        self.imported(&outcome, ctx);
        outcome
    }
}

impl Handler<DropBranch> for ChainActor {
    type Result = ();

    fn handle(&mut self, _: DropBranch, _: &mut Self::Context) {
        if let (Some(staged), Some(keeper)) = (self.staged.take(), &mut self.keeper) {
            keeper.discard(staged);
        }
    }
}

impl Handler<RestoreBlocks> for ChainActor {
    type Result = Restored;

    fn handle(&mut self, RestoreBlocks(blocks): RestoreBlocks, _: &mut Self::Context) -> Restored {
        let mut restored = Restored { heights: Vec::new(), error: None };
        for block in blocks {
            restored.heights.push(block.height());
            let written = self.keeper().and_then(|keeper| keeper.storage_mut().restore(&block));
            if let Err(error) = written {
                restored.error = Some(error);
                break;
            }
        }
        restored
    }
}

impl Handler<Whereabouts> for ChainActor {
    type Result = Result<Option<Place>, StorageError>;

    fn handle(&mut self, Whereabouts(submission): Whereabouts, _: &mut Self::Context) -> Self::Result {
        self.keeper()?.whereabouts(&submission)
    }
}

impl Handler<GetBranches> for ChainActor {
    type Result = Result<Vec<Branch>, StorageError>;

    fn handle(&mut self, _: GetBranches, _: &mut Self::Context) -> Self::Result {
        self.keeper()?.branches()
    }
}

impl Handler<AdoptBranch> for ChainActor {
    type Result = Result<Arc<Update>, OperatorError>;

    fn handle(&mut self, AdoptBranch(hash): AdoptBranch, ctx: &mut Self::Context) -> Self::Result {
        let update = self.keeper()?.adopt_side(&hash)?;
        Ok(self.publish(update, BlockSource::Operator, ctx))
    }
}

impl Handler<Requeue> for ChainActor {
    type Result = Result<Vec<Mined>, OperatorError>;

    fn handle(&mut self, Requeue(hash): Requeue, ctx: &mut Self::Context) -> Self::Result {
        let (mined, update) = self.keeper()?.requeue(&hash, clock::unix_time())?;
        if let Some(update) = update {
            let _ = self.publish(update, BlockSource::Operator, ctx);
        }
        Ok(mined)
    }
}

impl Handler<GetReorgs> for ChainActor {
    type Result = Vec<PastReorg>;

    fn handle(&mut self, _: GetReorgs, _: &mut Self::Context) -> Self::Result {
        self.past_reorgs.iter().copied().collect()
    }
}

impl Handler<GetStats> for ChainActor {
    type Result = Stats;

    fn handle(&mut self, _: GetStats, _: &mut Self::Context) -> Stats {
        if self.failed.is_some() && self.keeper().is_ok_and(|keeper| keeper.storage_mut().probe().is_ok()) {
            // Whoever waits for a ready node sends it nothing that could find out.
            info!("the store can be written again");
            self.failed = None;
        }
        Stats {
            tip: self.keeper.as_ref().map_or_else(crate::ledger::genesis::tip, Keeper::tip),
            outbox: self.keeper.as_ref().map_or(0, Keeper::outbox_len),
            side_blocks: self.keeper.as_ref().map_or(0, Keeper::side_blocks),
            parked: self.keeper.as_ref().map_or(0, Keeper::parked),
            reorgs: self.reorgs,
            failed: self.failed.clone(),
            sizes: self.keeper.as_ref().map(|keeper| keeper.storage().sizes()).unwrap_or_default(),
        }
    }
}

impl Handler<WatchTip> for ChainActor {
    type Result = MessageResult<WatchTip>;

    fn handle(&mut self, _: WatchTip, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.tips.subscribe())
    }
}

impl Handler<Subscribe> for ChainActor {
    type Result = ();

    fn handle(&mut self, Subscribe(subscriber): Subscribe, _: &mut Self::Context) {
        self.subscribers.push(subscriber);
    }
}

impl Handler<Close> for ChainActor {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        self.flush(ctx);
        let Some(mut keeper) = self.keeper.take() else { return };
        if let Some(staged) = self.staged.take() {
            keeper.discard(staged);
        }
        if let Err(error) = keeper.into_storage().close() {
            error!(%error, "the store could not be closed cleanly; the next start will clean up");
        }
        ctx.stop();
    }
}
