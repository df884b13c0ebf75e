//! The ledger driven by a stranger: runs of blocks in any order, staged branches, mining in between. The tip never gets
//! worse, the chain holds together, and what was acknowledged is on it once or waits.
#![no_main]

use std::collections::{HashMap, HashSet};

use arbitrary::Arbitrary;
use dolmen::NOW;
use dolmen::ledger::Tip;
use dolmen::ledger::chain::{ImportError, Origin};
use dolmen::ledger::genesis;
use dolmen::ledger::keeper::{Keeper, MineError, MineRequest, OperatorError, Staged};
use dolmen::ledger::rules::check_run;
use dolmen::ledger::storage::SubmissionId;
use dolmen::memory_storage::{MemoryStaging, MemoryStorage};
use dolmen::tree::{Place, Run, tree};
use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand::rngs::StdRng;

#[derive(Debug, Arbitrary)]
enum Step {
    Import {
        run: Run,
        trusted: bool,
    },
    /// A run that does not hang together.
    Broken {
        one: Run,
        other: Run,
    },
    Mine {
        entries: Vec<u8>,
        key: Option<u8>,
    },
    Remine,
    Stage(Place),
    Append(Run),
    Switch {
        trusted: bool,
    },
    Adopt(Place),
    Requeue(Place),
}

fn origin(trusted: bool) -> Origin {
    if trusted { Origin::Trusted } else { Origin::Stranger }
}

fuzz_target!(|input: (u8, Vec<Step>)| {
    let (max_reorg, steps) = input;
    let mut world = World {
        keeper: Keeper::open(MemoryStorage::new(), max_reorg.into()).expect("maps"),
        staged: None,
        rng: StdRng::seed_from_u64(3),
        acknowledged: HashMap::new(),
    };
    for step in steps.into_iter().take(40) {
        let before = world.keeper.tip();
        world.step(step);
        let after = world.keeper.tip();
        assert!(after == before || after.beats(&before), "the tip got worse: {before} to {after}");
    }
    world.check();
});

struct World {
    keeper: Keeper<MemoryStorage>,
    staged: Option<Staged<MemoryStaging>>,
    rng: StdRng,
    /// Submissions, and the number of their entries.
    acknowledged: HashMap<SubmissionId, usize>,
}

fn not_storage<T>(result: &Result<T, ImportError>) {
    assert!(!matches!(result, Err(ImportError::Storage(_))), "maps do not fail");
}

impl World {
    fn step(&mut self, step: Step) {
        let Self { keeper, staged, rng, acknowledged } = self;
        match step {
            Step::Import { run, trusted } => not_storage(&keeper.import(&run.blocks(), origin(trusted), rng)),
            Step::Broken { one, other } => {
                let mut run = one.blocks();
                run.extend(other.blocks());
                not_storage(&keeper.import(&run, Origin::Stranger, rng));
            }
            Step::Mine { entries, key } => {
                let entries: Vec<String> = entries.iter().take(5).map(|entry| format!("mined {entry}")).collect();
                let count = entries.len();
                let key = key.map(|key| format!("key {key}"));
                let (answers, _) = keeper.mine(vec![MineRequest { entries, key }], NOW);
                match answers.into_iter().next().expect("one answer") {
                    Ok(mined) => drop(acknowledged.insert(mined.submission, count)),
                    Err(MineError::Rule(_)) => assert_eq!(count, 0),
                    Err(MineError::KeyReused) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Remine => drop(keeper.remine(NOW).expect("maps")),
            Step::Stage(place) => {
                // The sync only stages above what it has seen on our chain.
                let fork = place.tip();
                if keeper.storage().chain().iter().any(|block| block.tip() == fork) {
                    *staged = Some(keeper.stage(fork).expect("maps"));
                }
            }
            Step::Append(run) => {
                if let Some(mut branch) = staged.take() {
                    let result = keeper.stage_append(&mut branch, &run.blocks());
                    not_storage(&result);
                    *staged = result.is_ok().then_some(branch);
                }
            }
            Step::Switch { trusted } => {
                if let Some(branch) = staged.take() {
                    not_storage(&keeper.switch(branch, origin(trusted), rng));
                }
            }
            Step::Adopt(place) => {
                let result = keeper.adopt_side(&place.tip().hash);
                assert!(!matches!(result, Err(OperatorError::Storage(_) | OperatorError::Mine(_))), "{result:?}");
            }
            Step::Requeue(place) => {
                let result = keeper.requeue(&place.tip().hash, NOW);
                assert!(!matches!(result, Err(OperatorError::Storage(_) | OperatorError::Mine(_))), "{result:?}");
            }
        }
    }

    fn check(mut self) {
        let chain = self.keeper.storage().chain();
        assert_eq!(*chain[0], *genesis::block());
        if chain.len() > 1 {
            let above = chain[1..].iter().map(AsRef::as_ref);
            assert_eq!(check_run(above, genesis::tip()), Ok(self.keeper.tip()));
        }
        assert!(self.keeper.remine(NOW).is_ok());
        let mut placed = HashSet::new();
        for block in self.keeper.storage().chain() {
            let here = dolmen::ledger::storage::Storage::placed_in(self.keeper.storage(), &block.hash()).expect("maps");
            for place in here {
                assert!(placed.insert(place.submission), "a submission is on the chain twice");
            }
        }
        for submission in self.acknowledged.keys() {
            assert!(placed.contains(submission), "an acknowledged submission is not on the chain");
        }
        // Whatever came before: once a trusted peer sends all there is, the best of it is the tip or beaten by our own.
        let best = self.offer_everything();
        let tip = self.keeper.tip();
        assert!(tip == best || tip.beats(&best));
    }

    fn offer_everything(&mut self) -> Tip {
        let mut best = genesis::tip();
        for branch in tree() {
            not_storage(&self.keeper.import(branch, Origin::Trusted, &mut self.rng));
            let end = branch[branch.len() - 1].tip();
            if end.beats(&best) {
                best = end;
            }
        }
        best
    }
}
