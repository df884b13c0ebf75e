//! From nothing to the first answer, with a long chain.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::mine::mine;
use crate::load::{self, median};
use crate::process::Node;
use crate::report::{Bound, Report};
use crate::{Sizes, chain};

pub fn measure(sizes: &Sizes, report: &mut Report) {
    let dir = chain::dir(sizes.long);
    let tries = 2 * sizes.rounds + 1;
    let mut clean = Vec::new();
    for _ in 0..tries {
        let (node, millis) = first_answer(dir.path());
        clean.push(millis);
        node.stop();
    }
    let mut killed = Vec::new();
    let (mut node, _) = first_answer(dir.path());
    for number in 0..tries {
        // Some checkpoints and some more, so that there is something to go over again.
        load::run(node.http, 64, Duration::from_millis(400), mine(number as u64 * 1_000_000));
        thread::sleep(Duration::from_millis(20));
        node.kill();
        let millis;
        (node, millis) = first_answer(dir.path());
        killed.push(millis);
    }
    let worst = |list: &[f64]| format!("worst {:.0}", list.iter().copied().fold(0.0, f64::max));
    let work = |how: &str| format!("start with {} blocks, {how}", sizes.long);
    report.target(&work("clean"), median(&mut clean), "ms", Bound::AtMost, 50.0, &worst(&clean));
    report.target(&work("after kill -9"), median(&mut killed), "ms", Bound::AtMost, 200.0, &worst(&killed));
}

/// Starts a node; milliseconds until it has answered.
fn first_answer(dir: &Path) -> (Node, f64) {
    let begun = Instant::now();
    let node = Node::start(dir, &[]);
    assert_eq!(node.client().get("/blocks/tip").status, 200);
    (node, begun.elapsed().as_secs_f64() * 1e3)
}
