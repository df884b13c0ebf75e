//! The chain told to one reader: the events between the last thing that the reader knows and the best chain of now.
//!
//! Owns where a reader is. That is a block, nothing else: all that happened since follows from that block and the chain as
//! it stands, so nothing is stored for a reader, and who comes back after a restart or a reorg goes on where it was.
//! Refuses to know sockets and clocks: one caller brings a [`View`] for each step, and writes what comes back.
//!
//! The surprise: a reorg takes back, and does not bring. After it the reader stands at the common ancestor, and the blocks
//! that entered follow as ordinary blocks. A reader that drops all blocks above `fork` and adds every block has our chain.

use std::collections::VecDeque;

use super::block::{Height, SharedBlock, Tip};
use super::hash::BlockHash;
use super::storage::{StorageError, SubmissionId};

/// Blocks that one step tells: a step is short work between two looks at whoever reads.
pub const STEP_BLOCKS: usize = 500;

/// Bytes of entries that one step tells, or one block.
pub const STEP_BYTES: usize = 256 * 1024;

/// Blocks of a branch that one step goes down in search of the common ancestor.
const STEP_DOWN: usize = 500;

/// Blocks and submissions that a reorg lists, the lowest first; beyond, their number. As many as the default of
/// `--max-reorg`, so that nearly every reorg is listed whole.
pub const MAX_LISTED: usize = 1_000;

/// Looks at a block that moves between the best chain and a branch at this very moment, before it counts as unknown.
const LOOKS: u32 = 3;

/// The chain as a feed reads it: the best chain of one moment, and the blocks beside it.
pub trait View {
    /// The end of the chain.
    fn tip(&self) -> Tip;

    /// The hash at a height; `None` above the tip.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError>;

    /// A block of the chain with its height, or a block beside the chain.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn block(&self, hash: &BlockHash) -> Result<Option<(SharedBlock, Option<Height>)>, StorageError>;

    /// Blocks in sequence: at most `max_blocks` and about `max_bytes` bytes, but one if there is one; empty above the tip.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn blocks(&self, from: Height, max_blocks: usize, max_bytes: usize) -> Result<Vec<SharedBlock>, StorageError>;

    /// The submissions of this node that stand in a block and nowhere on the chain.
    ///
    /// # Errors
    /// Unreadable or damaged storage.
    fn waiting_of(&self, block: &BlockHash) -> Result<Vec<SubmissionId>, StorageError>;
}

/// What a reader is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The block after the one that the reader knows.
    Block(SharedBlock),
    /// Blocks left the best chain.
    Reorg(Reorg),
    /// The reader's block is unknown, so nobody can say what has happened since; it goes on from here.
    Reset {
        /// The block that is unknown.
        unknown: Tip,
        /// The end of the best chain.
        tip: Tip,
    },
    /// Blocks that a reader who wants to keep up is not told.
    Skipped {
        /// The last block that was told.
        from: Tip,
        /// The last block that is passed over.
        to: Tip,
    },
}

/// Blocks that left the best chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reorg {
    /// The reader's last block, which left.
    pub old: Tip,
    /// The common ancestor: the reader's last block now.
    pub fork: Tip,
    /// The end of the best chain.
    pub new: Tip,
    /// The blocks that left, lowest first, at most [`MAX_LISTED`]; the others are above these.
    pub left: Vec<Tip>,
    /// The blocks that entered, lowest first, at most [`MAX_LISTED`]; each is told as a block after this.
    pub entered: Vec<Tip>,
    /// Submissions of this node that stood in blocks that left and wait to be mined again, at most [`MAX_LISTED`].
    pub requeued: Vec<SubmissionId>,
}

impl Reorg {
    /// Number of blocks that left.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.old.height.0.saturating_sub(self.fork.height.0)
    }

    /// Number of blocks that entered.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.new.height.0.saturating_sub(self.fork.height.0)
    }
}

impl Event {
    /// The block that the reader knows once it has read this: the event's id.
    #[must_use]
    pub fn position(&self) -> Tip {
        match self {
            Self::Block(block) => block.tip(),
            Self::Reorg(reorg) => reorg.fork,
            Self::Reset { tip, .. } => *tip,
            Self::Skipped { to, .. } => *to,
        }
    }
}

/// What one step brought.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// In the order in which they are to be told.
    pub events: Vec<Event>,
    /// Whether there is more to do at once.
    pub more: bool,
}

/// Where one reader is.
#[derive(Debug)]
pub struct Feed {
    at: Tip,
    /// Passes over all but this many of the newest blocks instead of falling behind.
    keep_up: Option<u64>,
    descent: Option<Descent>,
    /// How often the reader's branch could not be followed in a row.
    misses: u32,
}

/// The way down from a block that left the best chain.
#[derive(Debug)]
struct Descent {
    next: BlockHash,
    left: VecDeque<Tip>,
    requeued: VecDeque<SubmissionId>,
}

impl Feed {
    /// For a reader that knows the chain up to a block and wants every event since.
    #[must_use]
    pub fn new(at: Tip) -> Self {
        Self { at, keep_up: None, descent: None, misses: 0 }
    }

    /// As [`Feed::new`], for a reader that would rather pass blocks over than be more than `behind` blocks behind.
    #[must_use]
    pub fn keeping_up(at: Tip, behind: u64) -> Self {
        Self { keep_up: Some(behind), ..Self::new(at) }
    }

    /// The last block that the reader has been told of.
    #[must_use]
    pub fn position(&self) -> Tip {
        self.at
    }

    /// The next events, and the reader's new place. Bounded work; a new view for each step is best.
    ///
    /// # Errors
    /// Unreadable or damaged storage; the reader stays where it was.
    pub fn step(&mut self, view: &impl View) -> Result<Step, StorageError> {
        let on_chain = view.hash_at(self.at.height)? == Some(self.at.hash);
        let step = if on_chain {
            self.descent = None;
            self.misses = 0;
            self.ahead(view)?
        } else {
            self.down(view)?
        };
        if let Some(last) = step.events.last() {
            self.at = last.position();
        }
        Ok(step)
    }

    /// The blocks above the reader's.
    fn ahead(&self, view: &impl View) -> Result<Step, StorageError> {
        let tip = view.tip();
        let mut from = self.at;
        let mut events = Vec::new();
        if let Some(behind) = self.keep_up
            && tip.height.0.saturating_sub(from.height.0) > behind
            && let height = Height(tip.height.0 - behind)
            && let Some(hash) = view.hash_at(height)?
        {
            let to = Tip { height, hash };
            events.push(Event::Skipped { from, to });
            from = to;
        }
        let blocks = view.blocks(from.height.next(), STEP_BLOCKS, STEP_BYTES)?;
        let more = blocks.last().is_some_and(|block| block.height() < tip.height);
        events.extend(blocks.into_iter().map(Event::Block));
        Ok(Step { events, more })
    }

    /// From the reader's block, which is not on the chain, towards the common ancestor.
    fn down(&mut self, view: &impl View) -> Result<Step, StorageError> {
        let mut descent = self.descent.take().unwrap_or_else(|| Descent {
            next: self.at.hash,
            left: VecDeque::new(),
            requeued: VecDeque::new(),
        });
        for _ in 0..STEP_DOWN {
            match view.block(&descent.next)? {
                Some((block, Some(_))) => return self.found(descent, block.tip(), view),
                Some((block, None)) if descent.next != self.at.hash || block.tip() == self.at => {
                    descent.pass(&block, view)?
                }
                // Beside the chain, but not at the height that the reader names.
                Some(_) => return Ok(self.reset(view)),
                None => {
                    self.misses += 1;
                    return Ok(if self.misses < LOOKS {
                        Step { events: Vec::new(), more: true }
                    } else {
                        self.reset(view)
                    });
                }
            }
        }
        self.descent = Some(descent);
        Ok(Step { events: Vec::new(), more: true })
    }

    fn found(&mut self, descent: Descent, fork: Tip, view: &impl View) -> Result<Step, StorageError> {
        let Some(lowest) = descent.left.front() else {
            // On the chain, but not at the height that the reader names.
            return Ok(self.reset(view));
        };
        if view.hash_at(fork.height.next())? == Some(lowest.hash) {
            // The chain has changed since the way down began: begin anew.
            return Ok(Step { events: Vec::new(), more: true });
        }
        let new = view.tip();
        let mut entered = Vec::new();
        for height in (fork.height.0 + 1..=new.height.0).take(MAX_LISTED) {
            let height = Height(height);
            entered.extend(view.hash_at(height)?.map(|hash| Tip { height, hash }));
        }
        let reorg =
            Reorg { old: self.at, fork, new, left: descent.left.into(), entered, requeued: descent.requeued.into() };
        Ok(Step { events: vec![Event::Reorg(reorg)], more: true })
    }

    fn reset(&mut self, view: &impl View) -> Step {
        self.misses = 0;
        Step { events: vec![Event::Reset { unknown: self.at, tip: view.tip() }], more: true }
    }
}

impl Descent {
    /// Takes note of a block that left, and goes on to its parent.
    fn pass(&mut self, block: &SharedBlock, view: &impl View) -> Result<(), StorageError> {
        self.left.push_front(block.tip());
        self.left.truncate(MAX_LISTED);
        for submission in view.waiting_of(&block.hash())?.into_iter().rev() {
            self.requeued.push_front(submission);
        }
        self.requeued.truncate(MAX_LISTED);
        self.next = block.parent();
        Ok(())
    }
}
