//! Telling peers of our own chain, each in its way.

use super::{Action, LinkId, Say, Sync, View, frame};
use crate::ledger::keeper::Update;
use crate::ledger::{Height, SharedBlock};
use crate::peer::limits::{MAX_BATCH_BLOCKS, MAX_BATCH_BYTES, SESSION_QUEUE, SESSION_QUEUE_BYTES};
use crate::peer::native::{Blocks, Frame};
impl Sync {
    /// Our best chain has changed: tells every peer, each in its way. Blocks go to none that has them; a native peer that
    /// sent them hears that we hold them.
    pub fn updated(&mut self, update: &Update, view: &impl View) -> Vec<Action> {
        let mut actions = Vec::new();
        let grew = update.fork == update.old;
        let bytes: usize = update.entered.iter().map(|block| block.block().compact_bytes()).sum();
        let tellable = grew && !update.entered.is_empty() && bytes <= SESSION_QUEUE_BYTES / 2;
        for (&id, link) in &mut self.links {
            if !grew {
                // What was refused or parked against the old chain may fit the new one.
                link.hold = 0;
            }
            let told = link.told.replace(update.new);
            if link.tip == Some(update.new) {
                // The peer told us, or was faster. A native one waits to hear that we hold it too; blocks never go back.
                if link.native && told != Some(update.new) {
                    actions.push(frame(id, Frame::Tip(update.new)));
                }
                continue;
            }
            if link.native {
                let follows = told == Some(update.old) || link.tip == Some(update.old);
                // A peer that is further may have sent these blocks itself.
                let further = link.tip.is_some_and(|tip| tip.beats(&update.new));
                if tellable && follows && !further {
                    push(id, update, &mut actions);
                } else {
                    actions.push(frame(id, Frame::Tip(update.new)));
                }
            } else if tellable && update.entered.len() <= SESSION_QUEUE / 2 {
                let news = update.entered.iter().skip_while(|block| {
                    link.tip.is_some_and(|tip| tip.height >= block.height() && tip.height <= update.new.height)
                        && view.hash_at(link.tip.map_or(Height::GENESIS, |tip| tip.height))
                            == link.tip.map(|tip| tip.hash)
                });
                actions.extend(news.map(|block| Action::Send(id, Say::Block(block.clone()))));
            } else {
                actions.push(Action::Send(id, Say::LastBlock));
            }
        }
        self.consider(view, &mut actions);
        actions
    }

    /// The peer could not be sent everything: what it was told last is not known any more.
    pub fn lost_track(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.told = None;
        }
    }
}

/// New blocks as frames that each stay within a batch.
fn push(link: LinkId, update: &Update, actions: &mut Vec<Action>) {
    let mut after = update.old;
    let mut blocks: Vec<SharedBlock> = Vec::new();
    let mut bytes = 0;
    for block in &update.entered {
        let more = block.block().compact_bytes();
        if !blocks.is_empty() && (bytes + more > MAX_BATCH_BYTES || blocks.len() >= MAX_BATCH_BLOCKS) {
            let run = Blocks { after, blocks: std::mem::take(&mut blocks) };
            after = run.tip();
            bytes = 0;
            actions.push(frame(link, Frame::Push(run)));
        }
        bytes += more;
        blocks.push(block.clone());
    }
    if !blocks.is_empty() {
        actions.push(frame(link, Frame::Push(Blocks { after, blocks })));
    }
}
