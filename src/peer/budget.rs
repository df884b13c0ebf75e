//! What the unfinished messages of all strangers may take of memory together.
//!
//! Each message has a limit of its own; many strangers with a large message each that never ends would still fill the
//! memory. When all together are over the limit, the greediest goes, so that an honest peer's small message always fits
//! between those of many greedy ones.

use std::collections::{BTreeMap, BTreeSet};

/// Names a socket.
pub type Holder = u64;

/// What is held, and by whom. Generic over what ends a socket.
#[derive(Debug)]
pub struct Budget<S> {
    limit: usize,
    held: BTreeMap<Holder, usize>,
    sum: usize,
    /// How the sockets end that hold something or may.
    ends: BTreeMap<Holder, S>,
    /// Who has to go and may not know yet.
    evicted: BTreeSet<Holder>,
    /// How those end that have to go since [`Budget::take_evicted`].
    to_end: Vec<S>,
    next: Holder,
}

impl<S> Budget<S> {
    /// So many bytes for all.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let (held, ends, evicted) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { limit, held, sum: 0, ends, evicted, to_end: Vec::new(), next: 0 }
    }

    /// A name for a new socket that ends like this.
    pub fn enter(&mut self, end: S) -> Holder {
        self.next += 1;
        self.ends.insert(self.next, end);
        self.next
    }

    /// A socket holds so many bytes now. Answers whether it may go on.
    pub fn hold(&mut self, holder: Holder, bytes: usize) -> bool {
        if self.evicted.contains(&holder) {
            return false;
        }
        self.put(holder, bytes);
        while self.sum > self.limit {
            // Of two that hold as much, the later one.
            let Some(greediest) = self.held.iter().max_by_key(|(holder, bytes)| (**bytes, **holder)) else { break };
            let greediest = *greediest.0;
            self.put(greediest, 0);
            self.evicted.insert(greediest);
            self.to_end.extend(self.ends.remove(&greediest));
        }
        !self.evicted.contains(&holder)
    }

    fn put(&mut self, holder: Holder, bytes: usize) {
        let before = if bytes == 0 { self.held.remove(&holder) } else { self.held.insert(holder, bytes) };
        self.sum = self.sum - before.unwrap_or(0) + bytes;
    }

    /// How those end that have to go since this was asked last. What they hold is no longer counted, and is to be given up
    /// at once.
    pub fn take_evicted(&mut self) -> Vec<S> {
        std::mem::take(&mut self.to_end)
    }

    /// Whether a socket has to go.
    #[must_use]
    pub fn is_evicted(&self, holder: Holder) -> bool {
        self.evicted.contains(&holder)
    }

    /// Whether anybody has to go.
    #[must_use]
    pub fn any_evicted(&self) -> bool {
        !self.evicted.is_empty()
    }

    /// A socket is gone.
    pub fn leave(&mut self, holder: Holder) {
        self.put(holder, 0);
        self.ends.remove(&holder);
        self.evicted.remove(&holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greediest_goes_and_the_small_stay() {
        let mut budget = Budget::new(100);
        let [small, large, larger] = ["small", "large", "larger"].map(|name| budget.enter(name));
        assert!(budget.hold(small, 10));
        assert!(budget.hold(large, 40));
        assert!(budget.hold(larger, 50));
        assert!(!budget.any_evicted(), "just as much as there is");
        assert!(budget.hold(small, 11), "one more byte, and another goes");
        assert_eq!([small, large, larger].map(|holder| budget.is_evicted(holder)), [false, false, true]);
        assert_eq!((budget.take_evicted(), budget.take_evicted()), (vec!["larger"], vec![]));
        assert!(!budget.hold(larger, 1), "and does not come back");
        assert_eq!((budget.sum, budget.held.len()), (51, 2));
        assert!(!budget.hold(large, 90), "the greediest may be who asks");
        assert_eq!(budget.take_evicted(), ["large"]);
        budget.leave(large);
        budget.leave(larger);
        budget.leave(small);
        assert_eq!((budget.sum, budget.held.len(), budget.ends.len(), budget.any_evicted()), (0, 0, 0, false));
    }

    #[test]
    fn what_was_finished_is_free_again() {
        let mut budget = Budget::new(100);
        let peer = budget.enter(());
        for _ in 0..10 {
            assert!(budget.hold(peer, 60));
            assert!(budget.hold(peer, 100));
            assert!(budget.hold(peer, 0));
        }
        assert_eq!((budget.sum, budget.held.len()), (0, 0));
    }

    #[test]
    fn of_equals_the_later_goes() {
        let mut budget = Budget::new(100);
        let holders = [0; 3].map(|_| budget.enter(()));
        assert_eq!(holders.map(|holder| budget.hold(holder, 40)), [true, true, false]);
    }
}
