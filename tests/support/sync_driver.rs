//! A node's sync and ledger driven as its actors drive them: what [`Sync`] wants of the ledger waits until the test has it done.
//!
//! Owns the queue of that work and the staged branch. Refuses to know links: what is for a peer is handed back to the test,
//! which decides who hears it and when. Nothing here checks anything.

use std::collections::VecDeque;

use dolmen::ledger::chain::{ImportError, Origin};
use dolmen::ledger::keeper::{Imported, Keeper, MineRequest, Staged, Update};
use dolmen::ledger::{BlockHash, Height, SharedBlock, Tip};
use dolmen::peer::native::Blocks;
use dolmen::peer::sync::{Action, LinkId, Sync, Ticket, View};
use rand::rngs::StdRng;

use crate::NOW;
use crate::memory_storage::{MemoryStaging, MemoryStorage};

/// Our chain, as [`Sync`] looks at it.
pub struct Ours<'a>(&'a MemoryStorage);

impl View for Ours<'_> {
    fn tip(&self) -> Tip {
        self.0.chain().last().expect("genesis").tip()
    }

    fn hash_at(&self, height: Height) -> Option<BlockHash> {
        self.0.chain().get(usize::try_from(height.0).ok()?).map(|block| block.hash())
    }
}

/// What waits for the ledger or the disk.
pub enum Work {
    Import(LinkId, Vec<SharedBlock>, Origin),
    Stage(LinkId, Ticket, Tip, Blocks),
    Switch(LinkId, Ticket, Origin),
    Unstage,
    Serve(LinkId, Height, Tip),
}

/// What came of it. Sync hears of a change of the chain before it hears of the answer.
pub enum Done {
    Imported(LinkId, Tip, Result<Imported, ImportError>),
    Staged(LinkId, Ticket, Result<Option<Tip>, ImportError>),
    Switched(LinkId, Ticket, Result<Imported, ImportError>),
    Unstaged,
    /// Blocks from a height on, if there were any to send.
    Served(LinkId, Height, Option<Blocks>),
}

impl Done {
    /// How the chain has changed, if it has.
    pub fn update(&self) -> Option<&Update> {
        match self {
            Self::Imported(_, _, Ok(Imported::Changed(update)))
            | Self::Switched(_, _, Ok(Imported::Changed(update))) => Some(update),
            _ => None,
        }
    }
}

/// Sync, ledger, and what is between them.
pub struct Node {
    pub keeper: Keeper<MemoryStorage>,
    pub sync: Sync,
    staged: Option<Staged<MemoryStaging>>,
    work: VecDeque<Work>,
}

impl Node {
    /// A node with genesis alone that parks what would undo more blocks than `max_reorg`.
    pub fn new(max_reorg: u64) -> Self {
        Self {
            keeper: Keeper::open(MemoryStorage::new(), max_reorg).expect("maps"),
            sync: Sync::new(max_reorg),
            staged: None,
            work: VecDeque::new(),
        }
    }

    /// What waits, in order.
    pub fn waiting(&self) -> &VecDeque<Work> {
        &self.work
    }

    /// Tells Sync something beside our chain as it is now.
    pub fn ask(&mut self, ask: impl FnOnce(&mut Sync, &Ours<'_>) -> Vec<Action>) -> Vec<Action> {
        ask(&mut self.sync, &Ours(self.keeper.storage()))
    }

    /// Mines an entry and tells Sync.
    pub fn mine(&mut self, entry: String) -> Vec<Action> {
        let (_, update) = self.keeper.mine(vec![MineRequest { entries: vec![entry], key: None }], NOW);
        let update = update.expect("a block");
        self.ask(|sync, view| sync.updated(&update, view))
    }

    /// Lets what is for the ledger wait; hands back what is not.
    pub fn queue(&mut self, action: Action) -> Option<Action> {
        self.work.push_back(match action {
            Action::Import { link, blocks, origin } => Work::Import(link, blocks, origin),
            Action::Stage { link, ticket, fork, blocks } => Work::Stage(link, ticket, fork, blocks),
            Action::Switch { link, ticket, origin } => Work::Switch(link, ticket, origin),
            Action::Unstage => Work::Unstage,
            Action::Serve { link, from, upto } => Work::Serve(link, from, upto),
            other @ (Action::Send(..) | Action::PassOver { .. } | Action::Restore { .. } | Action::Close { .. }) => {
                return Some(other);
            }
        });
        None
    }

    /// Does what has waited longest. A batch to be served has at most `batch` blocks.
    pub fn work(&mut self, rng: &mut StdRng, batch: usize) -> Option<Done> {
        let Self { keeper, staged, .. } = self;
        Some(match self.work.pop_front()? {
            Work::Import(link, blocks, origin) => {
                let tip = blocks.last().expect("a block").tip();
                Done::Imported(link, tip, keeper.import(&blocks, origin, rng))
            }
            Work::Switch(link, ticket, origin) => {
                let result = staged.take().map_or(Ok(Imported::Known), |staged| keeper.switch(staged, origin, rng));
                Done::Switched(link, ticket, result)
            }
            Work::Stage(link, ticket, fork, Blocks { after, blocks }) => {
                if after == fork {
                    *staged = Some(keeper.stage(fork).expect("maps"));
                }
                let result = match staged.as_mut().filter(|staged| staged.tip() == after) {
                    Some(staged) => keeper.stage_append(staged, &blocks).map(|()| Some(staged.tip())),
                    None => Ok(None),
                };
                Done::Staged(link, ticket, result)
            }
            Work::Unstage => {
                *staged = None;
                Done::Unstaged
            }
            Work::Serve(link, from, upto) => Done::Served(link, from, self.batch(from, upto, batch)),
        })
    }

    fn batch(&self, from: Height, upto: Tip, most: usize) -> Option<Blocks> {
        let chain = self.keeper.storage().chain();
        let (start, end) = (usize::try_from(from.0).ok()?, usize::try_from(upto.height.0).ok()?);
        let ours = chain.get(end).is_some_and(|block| block.tip() == upto) && (1..=end).contains(&start);
        let stop = (end + 1).min(start + most);
        ours.then(|| Blocks { after: chain[start - 1].tip(), blocks: chain[start..stop].to_vec() })
    }

    /// Tells Sync what came of its work.
    pub fn tell(&mut self, done: Done) -> Vec<Action> {
        self.ask(|sync, view| match done {
            Done::Imported(link, tip, result) => sync.imported(link, tip, result.as_ref(), view),
            Done::Switched(link, ticket, result) => sync.switched(link, ticket, result.as_ref(), view),
            Done::Staged(link, ticket, result) => sync.staged(link, ticket, result, view),
            Done::Served(link, from, batch) => sync.served(link, from, batch.map(|batch| batch.tip().height.next())),
            Done::Unstaged => Vec::new(),
        })
    }
}
