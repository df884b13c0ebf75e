//! A deterministic simulator: many nodes in one thread, on simulated time, disks and links.
//!
//! The nodes are the product's plain structs, [`Keeper`](dolmen::ledger::keeper::Keeper),
//! [`Sync`](dolmen::peer::sync::Sync), `Links` and `Book`, and the frames between them are real bytes. Only the actors are
//! replaced, by the thin copy in [`native`]. Shared by `tests/simulator.rs` and `examples/simulate.rs`.
//!
//! Reading order: [`plan`] (what happens), [`world`] (time, links, clients), [`native`] and [`tutorial`] (nodes), [`disk`],
//! [`wire`], [`check`] (what is promised), [`shrink`], [`scale`].
#![allow(dead_code, reason = "the test and the command each use their part")]

pub mod plan;

pub mod world;

pub mod native;

pub mod tutorial;

pub mod disk;

pub mod wire;

pub mod check;

pub mod shrink;

pub mod scale;

#[path = "../support/memory_storage.rs"]
mod memory_storage;

use plan::Plan;
use world::{Stats, World};

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The broken promise, if there is one.
    pub violation: Option<String>,
    /// Hash of everything that happened.
    pub log: u64,
    /// What the run was like.
    pub stats: Stats,
}

impl Outcome {
    /// A run without a fork or without an acknowledgement proves nothing.
    pub fn is_void(&self) -> bool {
        self.stats.reorgs == 0 || self.stats.acknowledged == 0
    }
}

/// Runs a plan and looks at the end.
pub fn run(plan: Plan, trace: bool) -> Outcome {
    let mut world = World::new(plan, trace);
    world.run();
    check::after_healing(&mut world);
    world.stats.height = world.best().map_or(0, |tip| tip.height.0);
    world.stats.remined = world.registry.again;
    Outcome { violation: world.violation.clone(), log: world.log_hash(), stats: world.stats }
}

/// Many runs in a few figures.
#[derive(Clone, Copy, Default, Debug)]
pub struct Summary {
    pub runs: u64,
    pub void: u64,
    pub total: Stats,
    /// Longest healing, in simulated milliseconds.
    pub slowest: u64,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        let (sum, one) = (&mut self.total, &outcome.stats);
        self.runs += 1;
        self.void += u64::from(outcome.is_void());
        self.slowest = self.slowest.max(one.healing);
        sum.nodes += one.nodes;
        sum.writes += one.writes;
        sum.acknowledged += one.acknowledged;
        sum.crashes += one.crashes;
        sum.reorgs += one.reorgs;
        sum.deepest = sum.deepest.max(one.deepest);
        sum.cuts += one.cuts;
        sum.resets += one.resets;
        sum.remined += one.remined;
        sum.staged += one.staged;
        sum.repeats += one.repeats;
        sum.height += one.height;
        sum.messages += one.messages;
        sum.events += one.events;
        sum.healing += one.healing;
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { runs, void, total, slowest } = self;
        let share = 100.0 * *void as f64 / (*runs).max(1) as f64;
        writeln!(f, "{runs} runs, {void} void ({share:.1} %): nothing forked or nothing was acknowledged")?;
        writeln!(
            f,
            "{} nodes, {} writes, {} acknowledged, {} repeated, {} mined again",
            total.nodes, total.writes, total.acknowledged, total.repeats, total.remined
        )?;
        writeln!(f, "{} crashes, {} partitions, {} links broken", total.crashes, total.cuts, total.resets)?;
        writeln!(
            f,
            "{} reorgs, deepest {}, {} of staged branches, {} blocks on the chains",
            total.reorgs, total.deepest, total.staged, total.height
        )?;
        write!(
            f,
            "{} messages, {} events, healed after {:.1} s on average, {:.1} s at most",
            total.messages,
            total.events,
            total.healing as f64 / 1000.0 / (*runs).max(1) as f64,
            *slowest as f64 / 1000.0
        )
    }
}
