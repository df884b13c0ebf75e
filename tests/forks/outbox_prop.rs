//! Two nodes mine and exchange blocks at random: nothing acknowledged is ever lost, or twice on any chain.

use std::collections::{BTreeMap, BTreeSet};

use dolmen::ledger::chain::Origin;
use dolmen::ledger::keeper::{Keeper, Whereabouts};
use dolmen::ledger::storage::SubmissionId;
use proptest::collection::vec;
use proptest::prelude::*;

use super::memory_storage::MemoryStorage;
use super::{NOW, config, keeper, mine, rng};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// This node mines one entry.
    Mine(usize),
    /// This node is given the other's last blocks, so many, in one run.
    Hear(usize, usize),
    /// The same, staged from where the chains part.
    HearStaged(usize),
    /// This node mines again what it lost.
    Remine(usize),
    /// This node ends and starts again.
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2usize).prop_map(Step::Mine),
        4 => (0..2usize, 1..30usize).prop_map(|(node, blocks)| Step::Hear(node, blocks)),
        1 => (0..2usize).prop_map(Step::HearStaged),
        3 => (0..2usize).prop_map(Step::Remine),
        1 => (0..2usize).prop_map(Step::Restart),
    ]
}

struct Two {
    nodes: Vec<Keeper<MemoryStorage>>,
    /// What each node has acknowledged.
    acknowledged: [BTreeMap<String, SubmissionId>; 2],
}

impl Two {
    fn step(&mut self, step: Step) {
        match step {
            Step::Mine(node) => {
                let entry = format!("{node} {}", self.acknowledged[node].len());
                let mined = mine(&mut self.nodes[node], &[&entry]);
                self.acknowledged[node].insert(entry, mined.submission);
            }
            Step::Hear(node, blocks) => {
                let chain = self.nodes[1 - node].storage().chain();
                let run = chain[chain.len().saturating_sub(blocks)..].to_vec();
                self.nodes[node].import(&run, Origin::Stranger, &mut rng(0)).expect("good blocks");
            }
            Step::HearStaged(node) => {
                let theirs = self.nodes[1 - node].storage().chain().to_vec();
                let keeper = &mut self.nodes[node];
                let shared = keeper.storage().chain().iter().zip(&theirs).take_while(|(a, b)| a == b).count();
                if shared == theirs.len() {
                    return;
                }
                let mut staged = keeper.stage(theirs[shared - 1].tip()).expect("maps");
                keeper.stage_append(&mut staged, &theirs[shared..]).expect("good blocks");
                keeper.switch(staged, Origin::Stranger, &mut rng(0)).expect("good blocks");
            }
            Step::Remine(node) => drop(self.nodes[node].remine(NOW).expect("maps")),
            Step::Restart(node) => {
                let old = std::mem::replace(&mut self.nodes[node], keeper(1_000));
                self.nodes[node] = Keeper::open(old.into_storage(), 1_000).expect("maps");
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (keeper, acknowledged) in self.nodes.iter().zip(&self.acknowledged) {
            let mut seen = BTreeSet::new();
            for entry in keeper.storage().chain().iter().flat_map(|block| block.body()) {
                prop_assert!(seen.insert(entry.clone()), "{} is there twice", entry);
            }
            let mut waiting = 0;
            for (entry, submission) in acknowledged {
                match keeper.whereabouts(submission).expect("maps") {
                    Some(Whereabouts::Included { height, position, .. }) => {
                        let block = &keeper.storage().chain()[height.0 as usize];
                        prop_assert_eq!(&block.body()[position as usize], entry);
                    }
                    Some(Whereabouts::Orphaned { .. }) => {
                        prop_assert!(!seen.contains(entry));
                        waiting += 1;
                    }
                    None => prop_assert!(false, "{} is lost", entry),
                }
            }
            prop_assert_eq!(keeper.outbox_len(), waiting);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn what_was_acknowledged_is_on_every_chain_once_in_the_end(steps in vec(step(), 1..60)) {
        let mut two = Two { nodes: vec![keeper(1_000), keeper(1_000)], acknowledged: Default::default() };
        for step in steps {
            two.step(step);
            two.check()?;
        }
        // One mines again at a time, as random delays have it sooner or later.
        for _ in 0..3 {
            for node in [0, 1] {
                two.step(Step::Hear(0, usize::MAX));
                two.step(Step::Hear(1, usize::MAX));
                two.step(Step::Remine(node));
                two.check()?;
            }
        }
        two.step(Step::Hear(0, usize::MAX));
        prop_assert_eq!(two.nodes[0].tip(), two.nodes[1].tip());
        prop_assert_eq!((two.nodes[0].outbox_len(), two.nodes[1].outbox_len()), (0, 0));
        let on_chain: BTreeSet<&String> = two.nodes[0].storage().chain().iter().flat_map(|block| block.body()).collect();
        for entry in two.acknowledged.iter().flat_map(BTreeMap::keys) {
            prop_assert!(on_chain.contains(entry));
        }
    }
}
