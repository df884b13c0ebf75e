//! The feed: whoever follows it step by step, goes away and comes back has the best chain, with nothing missing and nothing
//! twice, whatever happened meanwhile.

use dolmen::ledger::feed::{Event, Feed, MAX_LISTED, Reorg, Step, View};
use dolmen::ledger::storage::{Storage, StorageError, SubmissionId};
use dolmen::ledger::{BlockHash, Height, SharedBlock, Tip, genesis};
use rand::RngExt;

use super::memory_storage::MemoryStorage;
use super::{block, hashes, keeper, mine, rng, run, take, tip_of};

impl View for MemoryStorage {
    fn tip(&self) -> Tip {
        Storage::tip(self)
    }

    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, StorageError> {
        Storage::hash_at(self, height)
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<(SharedBlock, Option<Height>)>, StorageError> {
        let height = self.height_of(hash)?;
        Ok(Storage::block(self, hash)?.map(|block| (block, height)))
    }

    fn blocks(&self, from: Height, max_blocks: usize, _: usize) -> Result<Vec<SharedBlock>, StorageError> {
        let from = usize::try_from(from.0).unwrap_or(usize::MAX).min(self.chain().len());
        Ok(self.chain()[from..].iter().take(max_blocks).cloned().collect())
    }

    fn waiting_of(&self, block: &BlockHash) -> Result<Vec<SubmissionId>, StorageError> {
        let pending = self.pending()?;
        let placed = self.placed_in(block)?.into_iter().map(|placed| placed.submission);
        Ok(placed.filter(|submission| pending.contains(submission)).collect())
    }
}

/// What a reader makes of the events: a chain that it builds by the two rules that the feed promises.
struct Follower {
    chain: Vec<Tip>,
    resets: usize,
}

impl Follower {
    fn new() -> Self {
        Self { chain: vec![genesis::tip()], resets: 0 }
    }

    fn last(&self) -> Tip {
        *self.chain.last().expect("genesis")
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Block(block) => {
                assert_eq!((block.parent(), block.height()), (self.last().hash, self.last().height.next()));
                self.chain.push(block.tip());
            }
            Event::Reorg(reorg) => {
                assert_eq!(reorg.old, self.last());
                let kept = reorg.fork.height.0 as usize + 1;
                assert_eq!(self.chain[kept - 1], reorg.fork);
                assert_eq!(reorg.left[..], self.chain[kept..][..reorg.left.len()]);
                assert_eq!(reorg.left.len(), MAX_LISTED.min(self.chain.len() - kept));
                assert_eq!(reorg.depth() as usize, self.chain.len() - kept);
                self.chain.truncate(kept);
            }
            Event::Reset { unknown, .. } => {
                assert_eq!(*unknown, self.last());
                self.resets += 1;
            }
            Event::Skipped { .. } => panic!("nobody asked to skip"),
        }
        assert!(matches!(event, Event::Reset { .. }) || event.position() == self.last());
    }
}

/// Steps until there is nothing more to tell.
fn drain(feed: &mut Feed, view: &impl View) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..1_000 {
        let Step { events: new, more } = feed.step(view).expect("maps do not fail");
        events.extend(new);
        if !more {
            return events;
        }
    }
    panic!("the feed does not come to an end: {events:?}");
}

#[test]
fn a_reader_goes_on_from_the_block_it_names() {
    let mut keeper = keeper(1_000);
    let chain = run(genesis::tip(), "a", 5);
    take(&mut keeper, &chain);
    for from in 0..chain.len() {
        let mut feed = Feed::new(chain[from].tip());
        let told = drain(&mut feed, keeper.storage());
        let wanted: Vec<Event> = chain[from + 1..].iter().cloned().map(Event::Block).collect();
        assert_eq!(told, wanted, "from block {from}");
        assert_eq!(feed.position(), tip_of(&chain));
    }
}

#[test]
fn a_reorg_takes_back_to_the_common_ancestor_and_names_what_waits() {
    let mut keeper = keeper(1_000);
    let common = run(genesis::tip(), "common", 3);
    take(&mut keeper, &common);
    let first = mine(&mut keeper, &["ours 1"]);
    let second = mine(&mut keeper, &["ours 2"]);
    let theirs = run(tip_of(&common), "theirs", 3);
    take(&mut keeper, &theirs);
    let mut feed = Feed::new(second.block.tip());
    let mut told = drain(&mut feed, keeper.storage());
    let reorg = Event::Reorg(Reorg {
        old: second.block.tip(),
        fork: tip_of(&common),
        new: tip_of(&theirs),
        left: vec![first.block.tip(), second.block.tip()],
        entered: theirs.iter().map(|block| block.tip()).collect(),
        requeued: vec![first.submission, second.submission],
    });
    assert_eq!(told.remove(0), reorg);
    assert_eq!(told, theirs.iter().cloned().map(Event::Block).collect::<Vec<_>>());
    // The reorg's own id: who has read that far and no further gets the blocks, and no second reorg.
    let mut feed = Feed::new(reorg.position());
    assert_eq!(drain(&mut feed, keeper.storage()), told);
}

#[test]
fn a_reader_of_an_unknown_block_is_told_so_once_and_goes_on_from_the_tip() {
    let mut keeper = keeper(1_000);
    let chain = run(genesis::tip(), "a", 3);
    take(&mut keeper, &chain);
    let stranger = block(genesis::tip(), "never seen").tip();
    let hash = hashes(&chain)[1];
    // A hash on the chain and one beside it, each with a height that is not its own.
    let rivals = run(genesis::tip(), "b", 4);
    take(&mut keeper, &rivals);
    let names = [
        stranger,
        Tip { height: Height(1 << 52), hash: stranger.hash },
        Tip { height: Height(7), hash },
        Tip { height: Height(3), hash: rivals[0].hash() },
    ];
    for unknown in names {
        let mut feed = Feed::new(unknown);
        let tip = tip_of(&rivals);
        assert_eq!(drain(&mut feed, keeper.storage()), [Event::Reset { unknown, tip }], "{unknown}");
        assert_eq!(drain(&mut feed, keeper.storage()), []);
    }
}

#[test]
fn a_reader_that_wants_to_keep_up_passes_over_what_is_old() {
    let mut keeper = keeper(1_000);
    let chain = run(genesis::tip(), "a", 20);
    take(&mut keeper, &chain);
    let mut feed = Feed::keeping_up(genesis::tip(), 5);
    let told = drain(&mut feed, keeper.storage());
    assert_eq!(told[0], Event::Skipped { from: genesis::tip(), to: chain[14].tip() });
    assert_eq!(told[1..], chain[15..].iter().cloned().map(Event::Block).collect::<Vec<_>>());
    let more = run(tip_of(&chain), "b", 5);
    take(&mut keeper, &more);
    assert_eq!(drain(&mut feed, keeper.storage()), more.into_iter().map(Event::Block).collect::<Vec<_>>());
}

/// The way down takes several steps; meanwhile the reader's branch becomes the best again, and then another.
#[test]
fn a_chain_that_turns_back_during_a_long_way_down_is_followed() {
    let mut keeper = keeper(10_000);
    let ours = run(genesis::tip(), "ours", 1_400);
    take(&mut keeper, &ours);
    let theirs = run(genesis::tip(), "theirs", 1_401);
    take(&mut keeper, &theirs);
    let mut follower = Follower::new();
    follower.chain.extend(ours.iter().map(|block| block.tip()));
    let mut feed = Feed::new(tip_of(&ours));
    let step = feed.step(keeper.storage()).expect("maps do not fail");
    assert!(step.events.is_empty() && step.more, "one step does not suffice");
    // Our branch comes back, for all but its last hundred blocks.
    let back = run(ours[1_299].tip(), "back", 200);
    take(&mut keeper, &back);
    let events = drain(&mut feed, keeper.storage());
    assert!(matches!(&events[0], Event::Reorg(reorg) if reorg.depth() == 100), "{:?}", events.first());
    events.iter().for_each(|event| follower.take(event));
    assert_eq!(follower.last(), tip_of(&back));
}

#[test]
fn whoever_follows_at_random_has_the_best_chain() {
    for seed in 0..200 {
        let mut random = rng(seed);
        let mut node = keeper(10_000);
        let mut follower = Follower::new();
        let mut feed = Feed::new(genesis::tip());
        for turn in 0..60 {
            match random.random_range(0..10) {
                0..4 => drop(mine(&mut node, &[&format!("mined {turn}")])),
                4..6 => {
                    // A longer branch from somewhere below, often from a block that this node mined.
                    let tip = Storage::tip(node.storage()).height.0;
                    let fork = random.random_range(tip.saturating_sub(8)..=tip);
                    let parent = node.storage().chain()[fork as usize].tip();
                    let length = (tip - fork + 1 + random.random_range(0..3)) as usize;
                    take(&mut node, &run(parent, &format!("turn {turn}"), length));
                }
                6 => drop(node.remine(super::NOW).expect("maps do not fail")),
                7 => {
                    // The reader goes away and comes back with the last id it has read.
                    feed = Feed::new(follower.last());
                }
                _ => {
                    let step = feed.step(node.storage()).expect("maps do not fail");
                    // Cut off in the middle of what was sent, it has read only the first part.
                    let read = random.random_range(0..=step.events.len());
                    step.events[..read].iter().for_each(|event| follower.take(event));
                    feed = if read < step.events.len() { Feed::new(follower.last()) } else { feed };
                }
            }
        }
        drain(&mut feed, node.storage()).iter().for_each(|event| follower.take(event));
        let wanted: Vec<Tip> = node.storage().chain().iter().map(|block| block.tip()).collect();
        assert_eq!((follower.chain, follower.resets), (wanted, 0), "seed {seed}");
    }
}
