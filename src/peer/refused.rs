//! The blocks of peers that were refused last, for people who ask why.
//!
//! Owns a short list. Refuses to judge: it is told what was refused and by which rule. What comes again and again is
//! counted, not repeated, so that a flood does not wash the rest away.

use std::collections::VecDeque;

use crate::ledger::rules::RuleError;
use crate::ledger::{Tip, UnixTime};

/// Refusals that are kept: a screen full.
pub const MAX_REFUSED: usize = 32;

/// Blocks that were refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// When it happened last.
    pub time: UnixTime,
    /// Who sent them: the socket's other end.
    pub remote: String,
    /// The last block of the message, as far as it was understood.
    pub block: Option<Tip>,
    /// The rule that was broken.
    pub rule: RuleError,
    /// How often the same sender broke the same rule in a row.
    pub times: u64,
}

/// The refusals, newest last.
#[derive(Debug, Default)]
pub struct RefusedBlocks(VecDeque<Refused>);

impl RefusedBlocks {
    /// Takes note of a refusal.
    pub fn note(&mut self, time: UnixTime, remote: &str, block: Option<Tip>, rule: &RuleError) {
        if let Some(last) = self.0.back_mut()
            && last.remote == remote
            && last.rule.name() == rule.name()
        {
            *last = Refused { time, remote: remote.to_owned(), block, rule: rule.clone(), times: last.times + 1 };
            return;
        }
        if self.0.len() == MAX_REFUSED {
            self.0.pop_front();
        }
        self.0.push_back(Refused { time, remote: remote.to_owned(), block, rule: rule.clone(), times: 1 });
    }

    /// What is kept, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Refused> {
        self.0.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_counted_and_the_oldest_go() {
        let mut refused = RefusedBlocks::default();
        for n in 0..100 {
            refused.note(UnixTime(n), "a", None, &RuleError::BodyEmpty);
        }
        let [only] = refused.iter().collect::<Vec<_>>()[..] else { panic!("one row") };
        assert_eq!((only.times, only.time), (100, UnixTime(99)));
        for n in 0..MAX_REFUSED {
            refused.note(UnixTime(n as u64), &n.to_string(), None, &RuleError::NoBlocks);
        }
        assert_eq!(refused.iter().count(), MAX_REFUSED);
        assert_eq!(refused.iter().next().map(|row| row.remote.clone()), Some((MAX_REFUSED - 1).to_string()));
        assert!(refused.iter().all(|row| row.rule == RuleError::NoBlocks));
    }
}
