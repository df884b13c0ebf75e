//! Two and three nodes over wires: whatever is delivered in whatever order, no honest node is ever dropped for a fault, the
//! talk comes to an end, and all have one chain.
//!
//! A failure prints the smallest case; the case is also written to `tests/sync_table/regressions.txt`.

use std::collections::{BTreeMap, VecDeque};

use dolmen::ledger::chain::Origin;
use dolmen::ledger::{SharedBlock, Tip};
use dolmen::peer::native::Frame;
use dolmen::peer::sync::{Action, LinkId, Say};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::sync_driver::{Done, Node};

/// What travels.
#[derive(Debug)]
enum Message {
    QueryLast,
    QueryAll,
    Blocks(Vec<SharedBlock>),
    Hello(Tip),
    Frame(Frame),
}

/// A wire between two nodes, with what is under way to the one and to the other. A link has the wire's number at both ends.
struct Wire {
    ends: [usize; 2],
    native: bool,
    under_way: [VecDeque<Message>; 2],
}

struct World {
    nodes: Vec<Node>,
    wires: BTreeMap<LinkId, Wire>,
    next_wire: LinkId,
    now: u64,
    rng: StdRng,
    delivered: usize,
}

impl World {
    fn new(nodes: usize, seed: u64) -> Self {
        let nodes = (0..nodes).map(|_| Node::new(1_000)).collect();
        let rng = StdRng::seed_from_u64(seed);
        Self { nodes, wires: BTreeMap::new(), next_wire: 1, now: 0, rng, delivered: 0 }
    }

    fn mine(&mut self, node: usize) {
        let entry = format!("{node} {}", self.rng.random::<u64>());
        let actions = self.nodes[node].mine(entry);
        self.perform(node, actions);
    }

    fn connect(&mut self, ends: [usize; 2], native: bool) {
        let link = self.next_wire;
        self.next_wire += 1;
        let mut under_way = [VecDeque::new(), VecDeque::new()];
        for (node, to) in [(ends[0], 1), (ends[1], 0)] {
            let tip = self.nodes[node].keeper.tip();
            self.nodes[node].sync.opened(link, Origin::Stranger, tip);
            under_way[to].push_back(Message::QueryLast);
            if native {
                under_way[to].push_back(Message::Hello(tip));
            }
        }
        self.wires.insert(link, Wire { ends, native, under_way });
    }

    fn cut(&mut self, link: LinkId) {
        let Some(wire) = self.wires.remove(&link) else { return };
        for node in wire.ends {
            let actions = self.nodes[node].ask(|sync, view| sync.closed(link, view));
            self.perform(node, actions);
        }
    }

    fn perform(&mut self, node: usize, actions: Vec<Action>) {
        for action in actions {
            match self.nodes[node].queue(action) {
                None => {}
                Some(Action::Send(link, say)) => self.say(node, link, say),
                Some(other) => panic!("node {node} is among honest peers with whole disks, and wants {other:?}"),
            }
        }
    }

    fn say(&mut self, node: usize, link: LinkId, say: Say) {
        let chain = self.nodes[node].keeper.storage().chain();
        let message = match say {
            Say::QueryAll => Message::QueryAll,
            Say::LastBlock => Message::Blocks(chain[chain.len() - 1..].to_vec()),
            Say::WholeChain => Message::Blocks(chain.to_vec()),
            Say::Block(block) => Message::Blocks(vec![block]),
            Say::Frame(frame) => Message::Frame(frame),
        };
        let Some(wire) = self.wires.get_mut(&link) else { return };
        assert!(wire.native || !matches!(message, Message::Frame(_)), "a tutorial peer is sent no binary frame");
        let to = usize::from(wire.ends[0] == node);
        wire.under_way[to].push_back(message);
    }

    fn hear(&mut self, node: usize, link: LinkId, message: Message) {
        let actions = self.nodes[node].ask(|sync, view| match message {
            Message::QueryLast => sync.asked_last(link, view),
            Message::QueryAll => sync.asked_all(link, view),
            Message::Blocks(blocks) => sync.blocks(link, blocks),
            Message::Hello(tip) => sync.introduced(link, tip, view),
            Message::Frame(frame) => sync.frame(link, frame, view),
        });
        self.perform(node, actions);
    }

    fn work(&mut self, node: usize) {
        let batch = self.rng.random_range(1..4);
        let Some(done) = self.nodes[node].work(&mut self.rng, batch) else { return };
        if let Some(update) = done.update() {
            let actions = self.nodes[node].ask(|sync, view| sync.updated(update, view));
            self.perform(node, actions);
        }
        if let Done::Served(link, _, Some(batch)) = &done {
            self.say(node, *link, Say::Frame(Frame::Batch(batch.clone())));
        }
        let actions = self.nodes[node].tell(done);
        self.perform(node, actions);
    }

    /// One thing that can happen happens. Answers whether there was one.
    fn turn(&mut self) -> bool {
        let wires = self.wires.iter().flat_map(|(&link, wire)| {
            [0, 1].into_iter().filter(|&to| !wire.under_way[to].is_empty()).map(move |to| (Some(link), to))
        });
        let busy =
            (0..self.nodes.len()).filter(|&node| !self.nodes[node].waiting().is_empty()).map(|node| (None, node));
        let can: Vec<(Option<LinkId>, usize)> = wires.chain(busy).collect();
        if can.is_empty() {
            return false;
        }
        self.delivered += 1;
        match can[self.rng.random_range(0..can.len())] {
            (None, node) => self.work(node),
            (Some(link), to) => {
                let wire = self.wires.get_mut(&link).expect("just listed");
                let node = wire.ends[to];
                let message = wire.under_way[to].pop_front().expect("just listed");
                self.hear(node, link, message);
            }
        }
        true
    }

    fn time(&mut self, millis: u64) {
        self.now += millis;
        for node in 0..self.nodes.len() {
            let now = self.now;
            let actions = self.nodes[node].ask(|sync, view| sync.tick(now, view));
            self.perform(node, actions);
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Mine { node: usize, count: usize },
    Connect { node: usize, native: bool },
    Cut { which: usize },
    Deliver { count: usize },
    Time { millis: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..3usize, 1..12usize).prop_map(|(node, count)| Event::Mine { node, count }),
        2 => (0..3usize, prop::bool::weighted(0.7)).prop_map(|(node, native)| Event::Connect { node, native }),
        2 => (0..8usize).prop_map(|which| Event::Cut { which }),
        6 => (1..40usize).prop_map(|count| Event::Deliver { count }),
        1 => (1..5_000u64).prop_map(|millis| Event::Time { millis }),
    ]
}

fn config() -> ProptestConfig {
    let persistence = FileFailurePersistence::Direct("tests/sync_table/regressions.txt");
    ProptestConfig { cases: 300, failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn linked_nodes_come_to_one_chain(
        nodes in 2..=3usize, seed in any::<u64>(), native in any::<[bool; 2]>(), events in vec(event(), 1..40)
    ) {
        let mut world = World::new(nodes, seed);
        for event in events {
            match event {
                Event::Mine { node, count } => (0..count).for_each(|_| world.mine(node % nodes)),
                Event::Connect { node, native } if world.wires.len() < 4 => {
                    world.connect([node % nodes, (node + 1) % nodes], native);
                }
                Event::Connect { .. } => {}
                Event::Cut { which } => {
                    let link = world.wires.keys().nth(which).copied();
                    link.into_iter().for_each(|link| world.cut(link));
                }
                Event::Deliver { count } => (0..count).for_each(|_| {
                    let _ = world.turn();
                }),
                Event::Time { millis } => world.time(millis),
            }
        }
        for node in 1..nodes {
            world.connect([node - 1, node], native[node - 1]);
        }
        let before = world.delivered;
        // Time for whatever has to be asked again.
        for _ in 0..20 {
            while world.turn() {
                prop_assert!(world.delivered < before + 50_000, "they talk for ever");
            }
            world.time(10_000);
        }
        let tips: Vec<Tip> = world.nodes.iter().map(|node| node.keeper.tip()).collect();
        prop_assert!(tips.iter().all(|tip| *tip == tips[0]), "{:?}", tips);
    }
}
