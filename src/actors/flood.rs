//! Log lines that strangers can cause, counted instead of repeated: the first few of an interval are written, the others
//! are counted, and their number is told once. Pure: the time is an argument.

use std::collections::BTreeMap;

use crate::ledger::outbox::Millis;

/// Lines of one kind in an interval: enough to see what is going on.
const FIRST: u64 = 20;

/// An interval, in milliseconds: a flood then writes a few lines a second, and a person need not wait long for the count.
const INTERVAL: Millis = 10_000;

/// Counts lines by their kind.
#[derive(Clone, Debug, Default)]
pub struct Flood(BTreeMap<&'static str, Count>);

#[derive(Clone, Copy, Debug)]
struct Count {
    /// When the interval began.
    since: Millis,
    /// Lines in it.
    lines: u64,
}

impl Flood {
    /// Whether one more line of this kind is to be written.
    #[must_use]
    pub fn admits(&mut self, kind: &'static str, now: Millis) -> bool {
        let count = self.0.entry(kind).or_insert(Count { since: now, lines: 0 });
        count.lines += 1;
        count.lines <= FIRST
    }

    /// Ends the intervals that are over: how many lines of which kinds were not written.
    pub fn missed(&mut self, now: Millis) -> Vec<(&'static str, u64)> {
        let over = self.0.extract_if(.., |_, count| now.saturating_sub(count.since) >= INTERVAL);
        over.filter_map(|(kind, count)| Some((kind, count.lines.checked_sub(FIRST).filter(|more| *more > 0)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_written_and_the_others_counted_once() {
        let mut flood = Flood::default();
        assert_eq!((0..1_254).filter(|line| flood.admits("a", *line)).count(), 20);
        assert!(flood.admits("b", 5_000), "each kind has its own count");
        assert_eq!(flood.missed(9_999), []);
        assert_eq!(flood.missed(10_000), [("a", 1_234)]);
        assert_eq!(flood.missed(60_000), [], "b had nothing to tell");
        assert_eq!((0..30).filter(|_| flood.admits("a", 70_000)).count(), 20, "a new interval");
        assert_eq!(flood.missed(80_000), [("a", 10)]);
    }
}
