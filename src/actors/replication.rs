//! Waiting until other nodes hold a submission, wherever reorgs carry it meanwhile.

use std::time::Duration;

use actix::Addr;

use super::chain::{ChainActor, Whereabouts};
use super::peers::{AwaitHolders, Awaited, PeerManager};
use crate::ledger::Tip;
use crate::ledger::keeper::Whereabouts as Place;
use crate::ledger::storage::SubmissionId;

/// What came of waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replication {
    /// As many native peers as were asked for have said that their best chain holds the submission.
    Held,
    /// Time ran out first, or the node is stopping. The submission is durable here all the same.
    TimedOut,
}

/// Waits until `peers` native peers hold a submission of this node, at most for `timeout`.
pub async fn replicated(
    chain: &Addr<ChainActor>,
    manager: &Addr<PeerManager>,
    submission: SubmissionId,
    peers: usize,
    timeout: Duration,
) -> Replication {
    tokio::time::timeout(timeout, follow(chain, manager, submission, peers))
        .await
        .ok()
        .flatten()
        .unwrap_or(Replication::TimedOut)
}

/// Waits on the block that holds the submission, and on the next one when a reorg moves it. `None` when the node stops.
async fn follow(
    chain: &Addr<ChainActor>,
    manager: &Addr<PeerManager>,
    submission: SubmissionId,
    peers: usize,
) -> Option<Replication> {
    loop {
        let block = match chain.send(Whereabouts(submission)).await.ok()?.ok()?? {
            Place::Included { block, height, .. } => Some(Tip { height, hash: block }),
            Place::Orphaned { .. } => None,
        };
        match manager.send(AwaitHolders { block, peers }).await.ok()?.ok()? {
            Awaited::Held => return Some(Replication::Held),
            Awaited::Changed => {}
        }
    }
}
