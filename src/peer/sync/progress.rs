//! How far fetching a branch is, said to people now and then.
//!
//! Owns when a line is due and what it counts. Refuses to know clocks and logs: time comes in, a line goes out.

use super::{LinkId, Millis};
use crate::ledger::Height;

/// A fetch that takes less than this is not worth a line.
const WORTH_A_LINE: Millis = 1_000;

/// Time between two lines.
const BETWEEN_LINES: Millis = 2_000;

/// How far fetching a branch is, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The peer that it is fetched from.
    pub link: LinkId,
    /// Height where the branch begins.
    pub from: Height,
    /// Height that has arrived.
    pub at: Height,
    /// Height where it ends.
    pub target: Height,
}

impl Progress {
    /// Part of the branch that has arrived, in percent, rounded down.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let (part, whole) = (self.at.0.saturating_sub(self.from.0), self.target.0.saturating_sub(self.from.0));
        // Heights are below 2^53, so a hundred times one fits.
        (part * 100).checked_div(whole).unwrap_or(100)
    }
}

/// What there is to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// A branch is being fetched.
    Fetching {
        /// How far it is.
        progress: Progress,
        /// Blocks that arrived in a second, since the line before or the beginning.
        per_second: u64,
    },
    /// Nothing is being fetched any more, after lines that said so.
    Ended {
        /// How far it was when it was last looked at.
        progress: Progress,
        /// How long it took.
        millis: Millis,
    },
}

/// Decides when to say something.
#[derive(Debug, Default)]
pub struct Lines {
    fetch: Option<Fetch>,
}

#[derive(Clone, Copy, Debug)]
struct Fetch {
    begun: Millis,
    /// What the next line counts from.
    since: (Millis, Height),
    said: bool,
    latest: Progress,
}

impl Lines {
    /// Looks at how far the fetch is, if there is one; what is to be said now.
    pub fn look(&mut self, progress: Option<Progress>, now: Millis) -> Option<Line> {
        let Some(progress) = progress else {
            let fetch = self.fetch.take()?;
            let ended = Line::Ended { progress: fetch.latest, millis: now.saturating_sub(fetch.begun) };
            return fetch.said.then_some(ended);
        };
        let begun = Fetch { begun: now, since: (now, progress.at), said: false, latest: progress };
        let fetch = self.fetch.get_or_insert(begun);
        if progress.at < fetch.latest.at {
            // Another branch, or the same from its beginning.
            fetch.since = (now, progress.at);
        }
        fetch.latest = progress;
        let elapsed = now.saturating_sub(fetch.since.0);
        if elapsed < if fetch.said { BETWEEN_LINES } else { WORTH_A_LINE } {
            return None;
        }
        let blocks = progress.at.0.saturating_sub(fetch.since.1.0);
        fetch.since = (now, progress.at);
        fetch.said = true;
        Some(Line::Fetching { progress, per_second: blocks.saturating_mul(1_000) / elapsed.max(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at: u64) -> Option<Progress> {
        Some(Progress { link: 1, from: Height(100), at: Height(at), target: Height(1_100) })
    }

    fn fetching(height: u64, per_second: u64) -> Option<Line> {
        at(height).map(|progress| Line::Fetching { progress, per_second })
    }

    #[test]
    fn a_short_fetch_is_not_mentioned() {
        let mut lines = Lines::default();
        assert_eq!(lines.look(None, 0), None);
        assert_eq!(lines.look(at(100), 10), None);
        assert_eq!(lines.look(at(900), 1_009), None);
        assert_eq!(lines.look(None, 1_010), None);
    }

    #[test]
    fn a_long_one_is_mentioned_now_and_then_and_at_its_end() {
        let mut lines = Lines::default();
        assert_eq!(lines.look(at(100), 1_000), None);
        assert_eq!(lines.look(at(400), 2_000), fetching(400, 300));
        assert_eq!(lines.look(at(500), 3_999), None);
        assert_eq!(lines.look(at(600), 4_000), fetching(600, 100));
        assert_eq!(lines.look(at(600), 6_000), fetching(600, 0), "it stands still");
        assert_eq!(lines.look(at(150), 7_000), None, "from its beginning once more");
        assert_eq!(lines.look(at(250), 9_000), fetching(250, 50));
        let progress = at(250).expect("some");
        assert_eq!(lines.look(None, 9_050), Some(Line::Ended { progress, millis: 8_050 }));
        assert_eq!(lines.look(None, 9_100), None, "said once");
    }

    #[test]
    fn percent_is_of_the_branch() {
        let percent = |from, at, target| {
            Progress { link: 1, from: Height(from), at: Height(at), target: Height(target) }.percent()
        };
        assert_eq!([percent(0, 0, 3), percent(0, 2, 3), percent(0, 3, 3)], [0, 66, 100]);
        assert_eq!([percent(100, 100, 200), percent(100, 150, 200), percent(7, 7, 7)], [0, 50, 100]);
    }
}
