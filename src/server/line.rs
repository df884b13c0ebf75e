//! The line of connections that have more to be read already: clients that send without waiting for answers.
//!
//! Each would be served again as soon as all others were, so that with two hundred of them whoever comes waits for two
//! hundred requests, at every step. So they stand in line, a few go at a time, and before the next few go the worker looks
//! for what else has come. They get what others leave, in their order; whoever waits for answers never stands here. Links
//! that send more than is read at once do.
//!
//! Owns who goes next, on one worker. Refuses to know what is read.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::yield_now;

/// How many go before the worker looks around: a look costs about a tenth of what these do.
const AT_ONCE: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub struct Line {
    waiting: RefCell<VecDeque<Weak<Stand>>>,
    /// That somebody stands here.
    filled: Notify,
}

/// A place in the line, left when it is dropped.
#[derive(Debug)]
pub struct Standing(Rc<Stand>);

#[derive(Debug)]
struct Stand {
    goes: Cell<bool>,
    task: RefCell<Waker>,
}

impl Line {
    /// An empty line. Must be called on the worker that it is for, which then looks after it.
    pub fn open() -> Rc<Self> {
        let line = Rc::<Self>::default();
        actix_web::rt::spawn(Rc::clone(&line).usher());
        line
    }

    /// Sends a few at a time. Nobody who is sent can hold the others up: whether they went is not asked.
    async fn usher(self: Rc<Self>) {
        loop {
            self.filled.notified().await;
            while !self.waiting.borrow().is_empty() {
                // The runtime looks for what has come before it goes on with who yields.
                yield_now().await;
                self.send(AT_ONCE);
            }
        }
    }

    fn send(&self, many: usize) {
        let mut sent = 0;
        while sent < many {
            let Some(next) = self.waiting.borrow_mut().pop_front() else { return };
            // Who has left is passed over.
            if let Some(next) = next.upgrade() {
                next.goes.set(true);
                next.task.borrow().wake_by_ref();
                sent += 1;
            }
        }
    }

    /// A place at the end of the line for a task, which is woken when it is its turn.
    pub fn stand(&self, task: Waker) -> Standing {
        let stand = Rc::new(Stand { goes: Cell::new(false), task: RefCell::new(task) });
        self.waiting.borrow_mut().push_back(Rc::downgrade(&stand));
        self.filled.notify_one();
        Standing(stand)
    }
}

impl Standing {
    /// Ready once it is this one's turn.
    pub fn poll(&self, task: &Context<'_>) -> Poll<()> {
        if self.0.goes.get() {
            return Poll::Ready(());
        }
        self.0.task.borrow_mut().clone_from(task.waker());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::task::LocalSet;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn goes(place: &Standing, task: &Waker) -> bool {
        place.poll(&Context::from_waker(task)).is_ready()
    }

    #[test]
    fn who_stands_is_sent_in_order_and_who_has_left_is_not_counted() {
        let (line, [first, other]) = (Line::default(), [(); 2].map(|()| Arc::<Wakes>::default()));
        let [first_task, other_task] = [&first, &other].map(|wakes| Waker::from(Arc::clone(wakes)));
        let mut standing: Vec<Option<Standing>> = (0..6).map(|_| Some(line.stand(first_task.clone()))).collect();
        let turns = |standing: &[Option<Standing>]| {
            standing.iter().flatten().map(|place| goes(place, &other_task)).collect::<Vec<bool>>()
        };
        line.send(2);
        assert_eq!(first.0.load(Ordering::Relaxed), 2);
        assert_eq!(turns(&standing), [true, true, false, false, false, false]);
        standing[2] = None;
        line.send(2);
        assert_eq!(turns(&standing), [true, true, true, true, false], "the third has left");
        assert_eq!(other.0.load(Ordering::Relaxed), 2, "the task is woken that asked last");
        line.send(2);
        assert_eq!(turns(&standing), [true; 5]);
        assert!(line.waiting.borrow().is_empty());
        line.send(2);
        assert!(!goes(&line.stand(first_task.clone()), &first_task), "who comes later is not sent by it");
    }

    #[tokio::test]
    async fn all_are_sent_although_nobody_says_that_he_went() {
        let tasks = LocalSet::new();
        let told = tasks.run_until(async {
            let line = Line::open();
            let standing: Vec<Standing> = (0..3 * AT_ONCE + 1).map(|_| line.stand(Waker::noop().clone())).collect();
            while !standing.iter().all(|place| goes(place, Waker::noop())) {
                yield_now().await;
            }
            standing.len()
        });
        assert_eq!(told.await, 13);
    }
}
