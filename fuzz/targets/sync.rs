//! One node's sync and ledger against links that say anything in any order, with the ledger's answers as late as they like.
//! No batch is taken beyond the window, nothing is said to a link that is gone, work for the ledger is bounded, and the tip
//! never gets worse.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use dolmen::NOW;
use dolmen::ledger::chain::{ImportError, Origin};
use dolmen::ledger::{Height, Tip};
use dolmen::peer::limits::BATCHES_IN_FLIGHT;
use dolmen::peer::native::{Blocks, Frame, decode};
use dolmen::peer::sync::{Action, LinkId, Say};
use dolmen::sync_driver::{Done, Node, Work};
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
    node: Node,
    links: BTreeMap<LinkId, Asked>,
    /// How often each of four places had a link.
    opened: [u64; 4],
    rng: StdRng,
    now: u64,
}

fuzz_target!(|events: Vec<Event<'_>>| {
    let mut world =
        World { node: Node::new(10), links: BTreeMap::new(), opened: [0; 4], rng: StdRng::seed_from_u64(5), now: 0 };
    for event in events.into_iter().take(60) {
        let before = world.node.keeper.tip();
        world.event(event);
        let after = world.node.keeper.tip();
        assert!(after == before || after.beats(&before), "the tip got worse: {before} to {after}");
    }
    while world.work() {}
});

fn origin(trusted: bool) -> Origin {
    if trusted { Origin::Trusted } else { Origin::Stranger }
}

impl World {
    fn event(&mut self, event: Event<'_>) {
        // A link that opens again is another link.
        let id = |link: u8| LinkId::from(link % 4) + 4 * self.opened[link as usize % 4];
        let Self { node, links, .. } = self;
        let actions = match event {
            Event::Open { link, trusted } => {
                if links.contains_key(&id(link)) {
                    return;
                }
                self.opened[link as usize % 4] += 1;
                let id = LinkId::from(link % 4) + 4 * self.opened[link as usize % 4];
                links.insert(id, Asked::default());
                node.sync.opened(id, origin(trusted), node.keeper.tip());
                return;
            }
            Event::Hello { link, tip } => {
                let Some(asked) = links.get_mut(&id(link)) else { return };
                asked.native = true;
                node.ask(|sync, view| sync.introduced(id(link), tip.tip(), view))
            }
            Event::Close(link) => {
                links.remove(&id(link));
                node.ask(|sync, view| sync.closed(id(link), view))
            }
            Event::Said { link, frame } => {
                let Some(asked) = links.get(&id(link)) else { return };
                let Some(frame) = said(frame, asked) else { return };
                node.ask(|sync, view| sync.frame(id(link), frame, view))
            }
            Event::Blocks { link, run } => node.ask(|sync, _| sync.blocks(id(link), run.blocks())),
            Event::AskedLast(link) if links.contains_key(&id(link)) => {
                node.ask(|sync, view| sync.asked_last(id(link), view))
            }
            Event::AskedAll(link) if links.contains_key(&id(link)) => {
                node.ask(|sync, view| sync.asked_all(id(link), view))
            }
            Event::AskedLast(_) | Event::AskedAll(_) => return,
            Event::Trust { link, trusted } => return node.sync.set_origin(id(link), origin(trusted)),
            Event::Work(count) => {
                return (0..count % 8).for_each(|_| {
                    let _ = self.work();
                });
            }
            Event::Mine(entry) => node.mine(format!("ours {entry}")),
            Event::Time(millis) => {
                self.now += u64::from(millis);
                node.ask(|sync, view| sync.tick(self.now, view))
            }
            Event::LostTrack(link) => return node.sync.lost_track(id(link)),
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
            let asked = link.and_then(|link| self.links.get_mut(&link));
            match (&action, asked) {
                (Action::Import { .. }, Some(asked)) => {
                    asked.importing += 1;
                    assert!(asked.importing <= 17, "a flood fills memory");
                }
                (Action::Stage { .. }, Some(asked)) => {
                    assert!(asked.window > 0, "a batch is taken beyond the window");
                    asked.window -= 1;
                }
                (Action::Serve { .. }, Some(asked)) => {
                    asked.serving += 1;
                    assert!(asked.serving <= 1, "two batches are read for one peer at once");
                }
                _ => {}
            }
            match self.node.queue(action) {
                None => {
                    let staging = self.node.waiting().iter().filter(|work| matches!(work, Work::Stage(..))).count();
                    assert!(staging <= BATCHES_IN_FLIGHT as usize, "more batches wait than may be under way");
                }
                Some(Action::Send(link, say)) => self.say(link, say),
                Some(Action::Close { link, fault }) => {
                    assert!(!fault.to_string().is_empty());
                    self.links.remove(&link);
                    let actions = self.node.ask(|sync, view| sync.closed(link, view));
                    self.perform(actions);
                }
                // Only people are told.
                Some(Action::PassOver { .. }) => {}
                Some(other) => panic!("nothing is damaged here, and {other:?} is wanted"),
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

    /// The ledger does one thing; whether there was one.
    fn work(&mut self) -> bool {
        let Some(done) = self.node.work(&mut self.rng, 3) else { return false };
        let failed = match &done {
            Done::Imported(_, _, result) | Done::Switched(_, _, result) => {
                matches!(result, Err(ImportError::Storage(_)))
            }
            Done::Staged(_, _, result) => matches!(result, Err(ImportError::Storage(_))),
            Done::Unstaged | Done::Served(..) => false,
        };
        assert!(!failed, "maps do not fail");
        match &done {
            Done::Imported(link, ..) => self.count(*link, |asked| &mut asked.importing),
            Done::Served(link, ..) => self.count(*link, |asked| &mut asked.serving),
            Done::Staged(..) | Done::Switched(..) | Done::Unstaged => {}
        }
        if let Some(update) = done.update() {
            let actions = self.node.ask(|sync, view| sync.updated(update, view));
            self.perform(actions);
        }
        let actions = self.node.tell(done);
        self.perform(actions);
        true
    }

    /// One thing less is under way.
    fn count(&mut self, link: LinkId, what: impl Fn(&mut Asked) -> &mut u32) {
        if let Some(asked) = self.links.get_mut(&link) {
            *what(asked) -= 1;
        }
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
