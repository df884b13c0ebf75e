//! One node's sync and ledger against links that say anything in any order, with the ledger's answers as late as they like.
//! No batch is taken beyond the window, nothing is said to a link that is gone, work for the ledger is bounded, and the tip
//! never gets worse.
#![no_main]

use std::collections::{BTreeMap, VecDeque};

use arbitrary::Arbitrary;
use dolmen::NOW;
use dolmen::ledger::chain::{ImportError, Origin};
use dolmen::ledger::keeper::{Imported, Keeper, MineRequest, Staged};
use dolmen::ledger::{BlockHash, Height, SharedBlock, Tip};
use dolmen::memory_storage::{MemoryStaging, MemoryStorage};
use dolmen::peer::limits::BATCHES_IN_FLIGHT;
use dolmen::peer::native::{Blocks, Frame, decode};
use dolmen::peer::sync::{Action, LinkId, Say, Sync, Ticket, View};
use dolmen::tree::{Place, Run};
use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand::rngs::StdRng;

#[derive(Debug, Arbitrary)]
enum Event<'a> {
    Open {
        link: u8,
        trusted: bool,
    },
    Hello {
        link: u8,
        tip: Place,
    },
    Close(u8),
    Said {
        link: u8,
        frame: Said<'a>,
    },
    Blocks {
        link: u8,
        run: Run,
    },
    AskedLast(u8),
    AskedAll(u8),
    Trust {
        link: u8,
        trusted: bool,
    },
    /// So much of what waits for the ledger is done.
    Work(u8),
    Mine(u8),
    Time(u16),
    LostTrack(u8),
}

#[derive(Debug, Arbitrary)]
enum Said<'a> {
    Tip(Place),
    Push(Run),
    Locate(Vec<Place>),
    Located(Option<Place>, Place),
    /// The answer that an honest peer would give that has this branch.
    LocatedWell(Place),
    Fetch(u8, Place, u32),
    More(u32),
    Batch(Run),
    /// The blocks that were asked for last.
    BatchWell(u8),
    Gone,
    Bytes(&'a [u8]),
}

/// What waits for the ledger.
enum Work {
    Import(LinkId, Vec<SharedBlock>, Origin),
    Stage(LinkId, Ticket, Tip, Blocks),
    Switch(LinkId, Ticket, Origin),
    Unstage,
    Serve(LinkId, Height, Tip),
}

struct Ours<'a>(&'a MemoryStorage);

impl View for Ours<'_> {
    fn tip(&self) -> Tip {
        self.0.chain()[self.0.chain().len() - 1].tip()
    }

    fn hash_at(&self, height: Height) -> Option<BlockHash> {
        self.0.chain().get(usize::try_from(height.0).ok()?).map(|block| block.hash())
    }
}

/// What this side has asked of a link.
#[derive(Default)]
struct Asked {
    native: bool,
    located: Vec<Tip>,
    next: Option<Tip>,
    /// Batches that may still come.
    window: u32,
    importing: u32,
    serving: u32,
}

struct World {
    keeper: Keeper<MemoryStorage>,
    sync: Sync,
    staged: Option<Staged<MemoryStaging>>,
    work: VecDeque<Work>,
    links: BTreeMap<LinkId, Asked>,
    /// How often each of four places had a link.
    opened: [u64; 4],
    rng: StdRng,
    now: u64,
}

fuzz_target!(|events: Vec<Event<'_>>| {
    let mut world = World {
        keeper: Keeper::open(MemoryStorage::new(), 10).expect("maps"),
        sync: Sync::new(10),
        staged: None,
        work: VecDeque::new(),
        links: BTreeMap::new(),
        opened: [0; 4],
        rng: StdRng::seed_from_u64(5),
        now: 0,
    };
    for event in events.into_iter().take(60) {
        let before = world.keeper.tip();
        world.event(event);
        let after = world.keeper.tip();
        assert!(after == before || after.beats(&before), "the tip got worse: {before} to {after}");
    }
    while !world.work.is_empty() {
        world.work();
    }
});

impl World {
    fn event(&mut self, event: Event<'_>) {
        // A link that opens again is another link.
        let id = |link: u8| LinkId::from(link % 4) + 4 * self.opened[link as usize % 4];
        let tip = self.keeper.tip();
        let Self { keeper, sync, links, .. } = self;
        let view = Ours(keeper.storage());
        let actions = match event {
            Event::Open { link, trusted } => {
                if links.contains_key(&id(link)) {
                    return;
                }
                self.opened[link as usize % 4] += 1;
                let id = LinkId::from(link % 4) + 4 * self.opened[link as usize % 4];
                links.insert(id, Asked::default());
                sync.opened(id, if trusted { Origin::Trusted } else { Origin::Stranger }, tip);
                Vec::new()
            }
            Event::Hello { link, tip } => {
                let Some(asked) = links.get_mut(&id(link)) else { return };
                asked.native = true;
                sync.introduced(id(link), tip.tip(), &view)
            }
            Event::Close(link) => {
                links.remove(&id(link));
                sync.closed(id(link), &view)
            }
            Event::Said { link, frame } => {
                let Some(asked) = links.get(&id(link)) else { return };
                let Some(frame) = said(frame, asked) else { return };
                sync.frame(id(link), frame, &view)
            }
            Event::Blocks { link, run } => sync.blocks(id(link), run.blocks()),
            Event::AskedLast(link) if links.contains_key(&id(link)) => sync.asked_last(id(link), &view),
            Event::AskedAll(link) if links.contains_key(&id(link)) => sync.asked_all(id(link), &view),
            Event::AskedLast(_) | Event::AskedAll(_) => return,
            Event::Trust { link, trusted } => {
                sync.set_origin(id(link), if trusted { Origin::Trusted } else { Origin::Stranger });
                Vec::new()
            }
            Event::Work(count) => return (0..count % 8).for_each(|_| self.work()),
            Event::Mine(entry) => {
                let request = MineRequest { entries: vec![format!("ours {entry}")], key: None };
                let (_, update) = keeper.mine(vec![request], NOW);
                sync.updated(&update.expect("a block"), &Ours(keeper.storage()))
            }
            Event::Time(millis) => {
                self.now += u64::from(millis);
                sync.tick(self.now, &view)
            }
            Event::LostTrack(link) => {
                sync.lost_track(id(link));
                Vec::new()
            }
        };
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            let link = match &action {
                Action::Send(link, _) | Action::Import { link, .. } | Action::Stage { link, .. } => Some(*link),
                Action::Switch { link, .. } | Action::Serve { link, .. } | Action::Close { link, .. } => Some(*link),
                Action::PassOver { link, .. } | Action::Restore { link, .. } => Some(*link),
                Action::Unstage => None,
            };
            if let Some(link) = link {
                assert!(self.links.contains_key(&link), "{action:?} for a link that is gone");
            }
            match action {
                Action::Send(link, say) => self.say(link, say),
                Action::Import { link, blocks, origin } => {
                    let asked = self.links.get_mut(&link).expect("just asked");
                    asked.importing += 1;
                    assert!(asked.importing <= 17, "a flood fills memory");
                    self.work.push_back(Work::Import(link, blocks, origin));
                }
                Action::Stage { link, ticket, fork, blocks } => {
                    let asked = self.links.get_mut(&link).expect("just asked");
                    assert!(asked.window > 0, "a batch is taken beyond the window");
                    asked.window -= 1;
                    self.work.push_back(Work::Stage(link, ticket, fork, blocks));
                    let staging = self.work.iter().filter(|work| matches!(work, Work::Stage(..))).count();
                    assert!(staging <= BATCHES_IN_FLIGHT as usize, "more batches wait than may be under way");
                }
                Action::Switch { link, ticket, origin } => self.work.push_back(Work::Switch(link, ticket, origin)),
                Action::Unstage => self.work.push_back(Work::Unstage),
                // Only people are told.
                Action::PassOver { .. } => {}
                Action::Restore { .. } => panic!("nothing is damaged here that could be restored"),
                Action::Serve { link, from, upto } => {
                    let asked = self.links.get_mut(&link).expect("just asked");
                    asked.serving += 1;
                    assert!(asked.serving <= 1, "two batches are read for one peer at once");
                    self.work.push_back(Work::Serve(link, from, upto));
                }
                Action::Close { link, fault } => {
                    assert!(!fault.to_string().is_empty());
                    self.links.remove(&link);
                    let actions = self.sync.closed(link, &Ours(self.keeper.storage()));
                    self.perform(actions);
                }
            }
        }
    }

    fn say(&mut self, link: LinkId, say: Say) {
        let asked = self.links.get_mut(&link).expect("just asked");
        let Say::Frame(frame) = say else { return };
        assert!(asked.native, "a tutorial peer is sent no binary frame");
        match frame {
            Frame::Locate(places) => asked.located = places,
            Frame::Fetch { from, upto, batches } => {
                let parent = asked.located.iter().find(|place| place.height.next() == from);
                asked.next = parent.copied();
                asked.window = batches;
                assert!(batches <= BATCHES_IN_FLIGHT && upto.height >= from);
            }
            Frame::More { batches } => asked.window += batches,
            Frame::Tip(_)
            | Frame::Push(_)
            | Frame::Located { .. }
            | Frame::Batch(_)
            | Frame::Gone
            | Frame::Addresses(_) => {}
        }
    }

    fn work(&mut self) {
        let Some(work) = self.work.pop_front() else { return };
        let Self { keeper, sync, staged, rng, links, .. } = self;
        match work {
            Work::Import(link, blocks, origin) => {
                if let Some(asked) = links.get_mut(&link) {
                    asked.importing = asked.importing.saturating_sub(1);
                }
                let tip = blocks[blocks.len() - 1].tip();
                let result = keeper.import(&blocks, origin, rng);
                self.tell(result, |sync, result, view| sync.imported(link, tip, result, view));
            }
            Work::Switch(link, ticket, origin) => {
                let result = staged.take().map_or(Ok(Imported::Known), |staged| keeper.switch(staged, origin, rng));
                self.tell(result, |sync, result, view| sync.switched(link, ticket, result, view));
            }
            Work::Stage(link, ticket, fork, Blocks { after, blocks }) => {
                if after == fork {
                    *staged = Some(keeper.stage(fork).expect("maps"));
                }
                let result = match staged.as_mut().filter(|staged| staged.tip() == after) {
                    Some(staged) => keeper.stage_append(staged, &blocks).map(|()| Some(staged.tip())),
                    None => Ok(None),
                };
                let actions = sync.staged(link, ticket, result, &Ours(keeper.storage()));
                self.perform(actions);
            }
            Work::Unstage => *staged = None,
            Work::Serve(link, from, upto) => {
                if let Some(asked) = links.get_mut(&link) {
                    asked.serving = asked.serving.saturating_sub(1);
                }
                let chain = keeper.storage().chain();
                let end = usize::try_from(upto.height.0).unwrap_or(usize::MAX);
                let ours = chain.get(end).is_some_and(|block| block.tip() == upto) && from.0 > 0 && from <= upto.height;
                let next = ours.then(|| Height((from.0 + 3).min(upto.height.0 + 1)));
                let actions = sync.served(link, from, next);
                self.perform(actions);
            }
        }
    }

    fn tell(
        &mut self,
        result: Result<Imported, ImportError>,
        tell: impl Fn(&mut Sync, Result<&Imported, &ImportError>, &Ours<'_>) -> Vec<Action>,
    ) {
        assert!(!matches!(result, Err(ImportError::Storage(_))), "maps do not fail: {result:?}");
        if let Ok(Imported::Changed(update)) = &result {
            let actions = self.sync.updated(update, &Ours(self.keeper.storage()));
            self.perform(actions);
        }
        let actions = tell(&mut self.sync, result.as_ref(), &Ours(self.keeper.storage()));
        self.perform(actions);
    }
}

/// The frame, as it comes through the decoder.
fn said(frame: Said<'_>, asked: &Asked) -> Option<Frame> {
    let run = |run: Run| Blocks { after: run.parent(), blocks: run.blocks() };
    Some(match frame {
        Said::Tip(place) => Frame::Tip(place.tip()),
        Said::Push(blocks) => Frame::Push(run(blocks)),
        Said::Locate(places) => Frame::Locate(places.into_iter().map(Place::tip).take(70).collect()),
        Said::Located(common, tip) => Frame::Located { common: common.map(Place::tip), tip: tip.tip() },
        Said::LocatedWell(tip) => {
            let ancestor = |place: &&Tip| tip.chain().iter().any(|block| block.tip() == **place);
            Frame::Located { common: asked.located.iter().find(ancestor).copied(), tip: tip.tip() }
        }
        Said::Fetch(from, upto, batches) => Frame::Fetch { from: Height(from.into()), upto: upto.tip(), batches },
        Said::More(batches) => Frame::More { batches },
        Said::Batch(blocks) => Frame::Batch(run(blocks)),
        Said::BatchWell(branch) => {
            Frame::Batch(Blocks { after: asked.next?, blocks: Run::above(branch, asked.next?)? })
        }
        Said::Gone => Frame::Gone,
        Said::Bytes(bytes) => decode(bytes, NOW).ok()?,
    })
}
