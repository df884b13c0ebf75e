//! Serving a branch to a peer that fetches it.

use super::{Action, Link, LinkId, MAX_CREDIT, Serving, Sync, View, frame};
use crate::ledger::{Height, Tip};
use crate::peer::native::Frame;
impl Sync {
    pub(super) fn fetch(&mut self, link: LinkId, from: Height, upto: Tip, batches: u32, actions: &mut Vec<Action>) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let busy = state.serving.as_ref().is_some_and(|serving| serving.busy);
        state.serving = Some(Serving { next: from, upto, credit: batches.min(MAX_CREDIT), busy });
        serve(link, state, actions);
    }

    pub(super) fn more(&mut self, link: LinkId, batches: u32, actions: &mut Vec<Action>) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if let Some(serving) = &mut state.serving {
            serving.credit = serving.credit.saturating_add(batches).min(MAX_CREDIT);
        }
        serve(link, state, actions);
    }

    /// A batch that began at `from` was sent, and `next` is the height after it; or our chain is no longer the one that was
    /// asked for.
    pub fn served(&mut self, link: LinkId, from: Height, next: Option<Height>) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(state) = self.links.get_mut(&link) else { return actions };
        let Some(serving) = &mut state.serving else { return actions };
        serving.busy = false;
        if serving.next == from {
            match next {
                Some(next) if next <= serving.upto.height => serving.next = next,
                Some(_) => state.serving = None,
                None => {
                    state.serving = None;
                    actions.push(frame(link, Frame::Gone));
                }
            }
        }
        serve(link, state, &mut actions);
        actions
    }
}

fn serve(link: LinkId, state: &mut Link, actions: &mut Vec<Action>) {
    let Some(serving) = &mut state.serving else { return };
    if serving.busy || serving.credit == 0 {
        return;
    }
    serving.busy = true;
    serving.credit -= 1;
    actions.push(Action::Serve { link, from: serving.next, upto: serving.upto });
}

/// Answers Locate: the first place that is on our chain.
pub(super) fn located(link: LinkId, places: &[Tip], view: &impl View) -> Action {
    let common = places.iter().copied().find(|place| view.hash_at(place.height) == Some(place.hash));
    frame(link, Frame::Located { common, tip: view.tip() })
}
