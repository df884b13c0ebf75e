//! Three nodes in a line: how long a block that was acknowledged on one end takes to be readable at the other.

use std::thread;
use std::time::{Duration, Instant};

use crate::load::quantile;
use crate::process::Node;
use crate::report::{Bound, Report};
use crate::{Sizes, chain};

/// Blocks that are timed.
const SAMPLES: u64 = 400;

pub fn measure(_: &Sizes, report: &mut Report) {
    let dirs = [chain::fresh(), chain::fresh(), chain::fresh()];
    let first = Node::start(dirs[0].path(), &[]);
    let middle = Node::start(dirs[1].path(), &[&first]);
    let last = Node::start(dirs[2].path(), &[&middle]);
    middle.wait_linked(2);
    last.wait_linked(1);
    let (mut writer, mut reader) = (first.client(), last.client());
    let mut spans = Vec::new();
    let mut mined = Vec::new();
    for number in 1..=SAMPLES + 20 {
        let sent = Instant::now();
        let answer = writer.post("/mineBlock", &format!(r#"{{"data":["{}"]}}"#, chain::entry(number)));
        let acknowledged = Instant::now();
        assert_eq!(answer.status, 200);
        while reader.get(&format!("/blocks/{number}")).status != 200 {}
        // The first ones pay for cold caches and for what the links have to say to each other.
        if number > 20 {
            spans.push(acknowledged.elapsed().as_secs_f64() * 1e3);
            mined.push((acknowledged - sent).as_secs_f64() * 1e3);
        }
        thread::sleep(Duration::from_millis(5));
    }
    spans.sort_by(f64::total_cmp);
    mined.sort_by(f64::total_cmp);
    let beside = format!("the 200 itself takes {:.2} ms", quantile(&mined, 0.5));
    report.target("line of three, 200 to readable, p50", quantile(&spans, 0.5), "ms", Bound::AtMost, 1.0, &beside);
    report.target("line of three, 200 to readable, p99", quantile(&spans, 0.99), "ms", Bound::AtMost, 5.0, "");
}
