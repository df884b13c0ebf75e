//! Whose turn it is: what several links want done, one at a time, and each link in its turn.
//!
//! Generic over what is done. A link that wants much waits for itself and not others for it.

use std::collections::{BTreeMap, VecDeque};

use super::sync::LinkId;

/// What waits, and whether something is being done.
#[derive(Debug)]
pub struct Turns<T> {
    /// No link has an empty queue.
    waiting: BTreeMap<LinkId, VecDeque<T>>,
    /// Whose turn it was last.
    last: LinkId,
    busy: bool,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), last: 0, busy: false }
    }
}

impl<T> Turns<T> {
    /// A link wants one more thing done.
    pub fn wait(&mut self, link: LinkId, thing: T) {
        self.waiting.entry(link).or_default().push_back(thing);
    }

    /// What is to be done now, if nothing else is; it counts as being done until [`Turns::done`].
    pub fn begin(&mut self) -> Option<(LinkId, T)> {
        if self.busy {
            return None;
        }
        let after = self.waiting.range(self.last + 1..).next().or_else(|| self.waiting.iter().next());
        let link = *after?.0;
        let queue = self.waiting.get_mut(&link)?;
        let thing = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&link);
        }
        (self.last, self.busy) = (link, true);
        Some((link, thing))
    }

    /// It is done.
    pub fn done(&mut self) {
        self.busy = false;
    }

    /// A link is gone, and what it wanted is not done any more.
    pub fn closed(&mut self, link: LinkId) {
        self.waiting.remove(&link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done, in order.
    fn all(turns: &mut Turns<char>) -> String {
        std::iter::from_fn(|| {
            turns.done();
            turns.begin().map(|(_, thing)| thing)
        })
        .collect()
    }

    #[test]
    fn who_wants_much_waits_for_itself() {
        let mut turns = Turns::default();
        "abcde".chars().for_each(|thing| turns.wait(7, thing));
        assert_eq!(turns.begin(), Some((7, 'a')));
        assert_eq!(turns.begin(), None, "one at a time");
        turns.wait(3, 'x');
        turns.wait(9, 'y');
        turns.wait(9, 'z');
        assert_eq!(all(&mut turns), "yxbzcde");
        assert!(turns.waiting.is_empty());
    }

    #[test]
    fn what_a_link_wanted_goes_with_it() {
        let mut turns = Turns::default();
        turns.wait(1, 'a');
        turns.wait(2, 'b');
        turns.closed(1);
        turns.closed(5);
        assert_eq!(all(&mut turns), "b");
    }
}
