//! From a failing plan to a short one: leaves things out as long as the run still fails.
//!
//! Links stay: nodes that cannot reach each other would fail in another way.

use super::plan::Plan;
use super::{Outcome, run};

/// Runs at the most, so that an hour is never spent on a failure.
const MOST_RUNS: usize = 400;

/// The shortest plan found that fails, with how it fails.
pub fn shrink(plan: Plan) -> (Plan, Outcome) {
    let mut shrinker = Shrinker { runs: 0, outcome: run(plan.clone(), false), plan };
    loop {
        let size = shrinker.plan.size();
        shrinker.list(|plan| &mut plan.writes);
        shrinker.list(|plan| &mut plan.crashes);
        shrinker.list(|plan| &mut plan.cuts);
        shrinker.list(|plan| &mut plan.resets);
        shrinker.list(|plan| &mut plan.fulls);
        shrinker.list(|plan| &mut plan.foreign);
        shrinker.drop_tutorials();
        shrinker.drop_last_node();
        if shrinker.plan.size() == size || shrinker.runs >= MOST_RUNS {
            return (shrinker.plan, shrinker.outcome);
        }
    }
}

struct Shrinker {
    plan: Plan,
    outcome: Outcome,
    runs: usize,
}

impl Shrinker {
    fn keep_if_it_fails(&mut self, plan: Plan) -> bool {
        if self.runs >= MOST_RUNS || plan.natives == 0 {
            return false;
        }
        self.runs += 1;
        let outcome = run(plan.clone(), false);
        // Another failure than the first may only come from what was left out.
        let kind = |outcome: &Outcome| outcome.violation.as_deref().map(kind);
        let fails = outcome.violation.is_some() && kind(&outcome) == kind(&self.outcome);
        if fails {
            (self.plan, self.outcome) = (plan, outcome);
        }
        fails
    }

    /// Leaves out halves, quarters, and so on down to single items.
    fn list<T: Clone>(&mut self, of: impl Fn(&mut Plan) -> &mut Vec<T>) {
        let mut chunk = of(&mut self.plan).len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < of(&mut self.plan).len() {
                let mut plan = self.plan.clone();
                let list = of(&mut plan);
                let end = (at + chunk).min(list.len());
                list.drain(at..end);
                if !self.keep_if_it_fails(plan) {
                    at += chunk;
                }
            }
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
        }
    }

    fn drop_tutorials(&mut self) {
        let mut plan = self.plan.clone();
        let natives = plan.natives;
        plan.tutorials = 0;
        plan.foreign.clear();
        plan.edges.retain(|(_, b)| *b < natives);
        let _ = self.keep_if_it_fails(plan);
    }

    fn drop_last_node(&mut self) {
        while self.plan.natives > 2 && self.plan.tutorials == 0 {
            let mut plan = self.plan.clone();
            plan.natives -= 1;
            let last = plan.natives;
            plan.edges.retain(|(a, b)| *a != last && *b != last);
            plan.writes.retain(|write| write.node != last);
            plan.crashes.retain(|crash| crash.node != last);
            plan.fulls.retain(|full| full.node != last);
            if !self.keep_if_it_fails(plan) {
                return;
            }
        }
    }
}

/// The sort of a failure: its words without names and numbers.
fn kind(text: &str) -> String {
    let word = |word: &&str| word.chars().all(|c| c.is_alphabetic() || c == ',');
    text.split(' ').filter(word).take(6).collect::<Vec<_>>().join(" ")
}
