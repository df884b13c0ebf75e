//! How a node and its peers come to the same chain, step by step: the [`Sync`] alone, with what it asks for written down.
//!
//! Each step is an event with the actions that it must cause, all of them and in order; a failure prints its sentence.

use blocks::{NOW, run, tip_of};
use dolmen::ledger::block::{Height, SharedBlock, Tip};
use dolmen::ledger::chain::{ImportError, Origin};
use dolmen::ledger::keeper::{Imported, Update};
use dolmen::ledger::outbox::Millis;
use dolmen::ledger::rules::RuleError;
use dolmen::ledger::storage::StorageError;
use dolmen::ledger::{BlockHash, genesis};
use dolmen::peer::native::{Blocks, Frame};
use dolmen::peer::sync::{Action, Fault, LinkId, Say, Sync, Ticket, View};

/// Blocks that obey the rules.
#[path = "../support/blocks.rs"]
#[allow(dead_code, reason = "the blocks serve several tests")]
mod blocks;

/// With tutorial peers.
mod tutorial;

/// Fetching a branch from native peers.
mod fetch;

/// What a stranger may have us fetch.
mod strangers;

/// Serving a branch, and telling of our own chain.
mod serve;

/// Damaged blocks are fetched again.
mod heal;

/// Two and three nodes over wires.
mod wire;

#[path = "../support/memory_storage.rs"]
#[allow(dead_code, reason = "the storage serves several tests")]
mod memory_storage;

/// A node's sync and ledger, driven.
#[path = "../support/sync_driver.rs"]
mod sync_driver;

/// Our chain.
struct Chain(Vec<SharedBlock>);

impl Chain {
    fn of(above: &[SharedBlock]) -> Self {
        Self([&[genesis::block()], above].concat())
    }
}

impl View for Chain {
    fn tip(&self) -> Tip {
        tip_of(&self.0)
    }

    fn hash_at(&self, height: Height) -> Option<BlockHash> {
        self.0.get(usize::try_from(height.0).ok()?).map(|block| block.hash())
    }
}

/// A sync with our chain, and the time.
struct Node {
    sync: Sync,
    ours: Chain,
    now: Millis,
}

/// Fails with the step's sentence.
#[track_caller]
fn step(sentence: &str, got: Vec<Action>, wanted: Vec<Action>) {
    assert_eq!(got, wanted, "{sentence}");
}

impl Node {
    fn new(ours: &[SharedBlock]) -> Self {
        Self { sync: Sync::new(1_000), ours: Chain::of(ours), now: 0 }
    }

    /// With a link that has said nothing yet.
    fn link(&mut self, link: LinkId, origin: Origin) {
        self.sync.opened(link, origin, self.ours.tip());
    }

    /// With a link to a native peer.
    fn native(&mut self, link: LinkId, tip: Tip) -> Vec<Action> {
        self.link(link, Origin::Stranger);
        self.sync.introduced(link, tip, &self.ours)
    }

    fn frame(&mut self, link: LinkId, frame: Frame) -> Vec<Action> {
        self.sync.frame(link, frame, &self.ours)
    }

    fn staged(&mut self, link: LinkId, ticket: Ticket, at: Option<Tip>) -> Vec<Action> {
        self.sync.staged(link, ticket, Ok(at), &self.ours)
    }

    fn tick(&mut self, after: Millis) -> Vec<Action> {
        self.now += after;
        self.sync.tick(self.now, &self.ours)
    }

    /// Our chain becomes another; says what the sync does.
    fn becomes(&mut self, above: &[SharedBlock]) -> Vec<Action> {
        let update = self.update(above);
        self.sync.updated(&update, &self.ours)
    }

    fn update(&mut self, above: &[SharedBlock]) -> Update {
        let new = Chain::of(above);
        let shared = self.ours.0.iter().zip(&new.0).take_while(|(old, new)| old == new).count();
        let update = Update {
            old: self.ours.tip(),
            fork: tip_of(&new.0[..shared]),
            new: new.tip(),
            left: self.ours.0[shared..].iter().map(|block| block.hash()).collect(),
            entered: new.0[shared..].to_vec(),
            requeued: 0,
        };
        self.ours = new;
        update
    }

    /// The ledger has taken this run of a peer.
    fn imported(&mut self, link: LinkId, tip: Tip, result: Result<Imported, ImportError>) -> Vec<Action> {
        self.sync.imported(link, tip, result.as_ref(), &self.ours)
    }
}

fn send(link: LinkId, frame: Frame) -> Action {
    Action::Send(link, Say::Frame(frame))
}

fn import(link: LinkId, blocks: &[SharedBlock]) -> Action {
    Action::Import { link, blocks: blocks.to_vec(), origin: Origin::Stranger }
}

fn close(link: LinkId, why: &'static str) -> Action {
    Action::Close { link, fault: Fault::Protocol(why) }
}

/// The run as a part of a chain.
fn part(run: &[SharedBlock]) -> Blocks {
    let after = Tip { height: Height(run[0].height().0 - 1), hash: run[0].parent() };
    Blocks { after, blocks: run.to_vec() }
}

fn full_disk() -> ImportError {
    ImportError::Storage(StorageError::Full("told to".into()))
}

fn broken() -> ImportError {
    ImportError::Rule(RuleError::NoBlocks)
}
