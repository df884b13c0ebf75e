//! Branches near the tip: native peers that mine on their own and always know better than the node.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dolmen::ledger::{BlockHash, Height, Tip};

use super::attacks::{Attack, introduced, push};
use super::field::{Field, get};
use super::hose::Tally;
use super::stranger::{BINARY, frame};
use super::support::blocks;

/// On so many links in turn: a branch that leaves the node's chain at most `deepest` blocks below its tip and is longer by
/// `longer`, made new each time.
pub fn near_the_tip(field: &Field, tally: &Arc<Tally>, links: usize, deepest: u64, longer: u64) -> Attack {
    let (http, p2p, tally) = (field.node.http_port(), field.node.p2p_port(), Arc::clone(tally));
    let mut sockets: Vec<_> = (0..links).map(|_| None).collect();
    let mut round = 0;
    Box::new(move || {
        round += 1;
        let socket = &mut sockets[round % links];
        if socket.is_none() {
            *socket = tally.connect(p2p).filter(|mut socket| socket.write_all(&introduced()).is_ok());
        }
        let depth = rand::random_range(1..=deepest);
        let (Some(open), Some((fork, index))) = (socket.as_mut(), fork(http, depth)) else { return false };
        let run = blocks::run(fork, &format!("rival {round}"), (index - fork.height.0 + longer) as usize);
        let bytes = frame(BINARY, &push(fork, run));
        match open.write_all(&bytes) {
            Ok(()) => _ = tally.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed),
            Err(_) => *socket = None,
        }
        true
    })
}

/// The block so far below the tip, and the tip's index.
fn fork(http: u16, depth: u64) -> Option<(Tip, u64)> {
    let status = get(http, "/status")?;
    let index = status["tip"]["index"].as_u64()?;
    let height = index.saturating_sub(depth);
    let above = get(http, &format!("/blocks/{}", height + 1))?;
    let hash = BlockHash::from_hex(above["header"]["previousHash"].as_str()?)?;
    Some((Tip { height: Height(height), hash }, index))
}
