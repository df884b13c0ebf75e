//! The links as readers of events see them: looked at for all readers at once, and only while there is one.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::actors::peers::{GetSync, ListPeers, PeerManager, PeerRow};
use crate::peer::sync::progress::Progress;

/// Time between two looks: people see it as at once.
const INTERVAL: Duration = Duration::from_millis(500);

/// The links at one moment.
#[derive(PartialEq, Debug, Default)]
pub(super) struct Seen {
    pub(super) peers: Vec<PeerRow>,
    pub(super) sync: Option<Progress>,
}

/// What became of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Linked,
    Changed,
    Closed,
}

/// Looks until the node stops.
pub(super) async fn look_on(
    peers: Addr<PeerManager>,
    seen: Arc<watch::Sender<Arc<Seen>>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(INTERVAL) => {}
        }
        if seen.receiver_count() > 0 {
            look(&peers, &seen).await;
        }
    }
}

/// Looks once, and says so if anything has changed.
pub(super) async fn look(peers: &Addr<PeerManager>, seen: &watch::Sender<Arc<Seen>>) {
    // No answer means that the node is stopping.
    let (Ok(peers), Ok(sync)) = (peers.send(ListPeers).await, peers.send(GetSync).await) else { return };
    let now = Seen { peers, sync };
    seen.send_if_modified(|seen| {
        let changed = **seen != now;
        if changed {
            *seen = Arc::new(now);
        }
        changed
    });
}

/// What changed from one moment to another, each with the row that tells it best: those that left first.
pub(super) fn changes<'a>(before: &'a [PeerRow], after: &'a [PeerRow]) -> Vec<(Change, &'a PeerRow)> {
    let in_other = |rows: &'a [PeerRow], row: &PeerRow| rows.iter().find(|other| same(other, row));
    let closed = before.iter().filter(|row| in_other(after, row).is_none()).map(|row| (Change::Closed, row));
    let others = after.iter().filter_map(|row| match in_other(before, row) {
        None => Some((Change::Linked, row)),
        Some(old) if old != row => Some((Change::Changed, row)),
        Some(_) => None,
    });
    closed.chain(others).collect()
}

/// Whether two rows tell of one link, or of one address that is being dialled.
fn same(one: &PeerRow, other: &PeerRow) -> bool {
    one.link == other.link && (one.link.is_some() || one.address == other.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(link: Option<u64>, address: &str, latency: Option<f64>) -> PeerRow {
        PeerRow {
            link,
            address: address.into(),
            direction: None,
            kind: "native",
            tip: None,
            agent: None,
            latency,
            since: None,
            failures: None,
            score: None,
        }
    }

    #[test]
    fn what_changed_is_told_and_nothing_else() {
        let before = [row(Some(1), "a", None), row(Some(2), "b", None), row(None, "c", None), row(None, "d", None)];
        let after =
            [row(Some(1), "a", None), row(Some(2), "b", Some(1.0)), row(None, "d", None), row(Some(3), "c", None)];
        let told: Vec<(Change, &str)> =
            changes(&before, &after).into_iter().map(|(change, row)| (change, row.address.as_str())).collect();
        assert_eq!(told, [(Change::Closed, "c"), (Change::Changed, "b"), (Change::Linked, "c")]);
        assert_eq!(changes(&after, &after), []);
    }
}
