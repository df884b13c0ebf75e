//! Messages of peers into the sync, and what the sync asks for out again.

use actix::fut::{ActorFutureExt, wrap_future};
use actix::prelude::*;
use bytes::Bytes;
use tracing::field::display;
use tracing::{debug, info, warn};

use super::{PeerManager, READ_BYTES};
use crate::actors::chain::{DropBranch, ImportBlocks, RestoreBlocks, Restored, StageBlocks, SwitchBranch};
use crate::actors::clock;
use crate::actors::session::Out;
use crate::ledger::chain::{ImportError, Origin};
use crate::ledger::keeper::Imported;
use crate::ledger::outbox::Millis;
use crate::ledger::rules::RuleError;
use crate::ledger::{Height, SharedBlock, Tip};
use crate::peer::chain_text::ChainText;
use crate::peer::conduct::Offence;
use crate::peer::incoming::{Incoming, ReadError};
use crate::peer::limits::{MAX_BATCH_BLOCKS, MAX_BATCH_BYTES, MAX_CHAIN_MESSAGE};
use crate::peer::links::Direction;
use crate::peer::message;
use crate::peer::native::{self, BatchEncoder, Blocks, Frame, FrameError};
use crate::peer::pace::{Flooded, Heard};
use crate::peer::sync::{Action, Fault, LinkId, Say, Ticket, View};
use crate::store::Snapshot;

impl PeerManager {
    /// Answers for how many milliseconds nothing more should be read from this peer.
    pub(super) fn received(
        &mut self,
        id: LinkId,
        read: Result<Incoming, ReadError>,
        ctx: &mut Context<Self>,
    ) -> Millis {
        let now = self.now();
        if self.dropped.contains(&id) {
            return 0;
        }
        match read {
            Ok(incoming) => match self.hear(id, Heard::of(&incoming, self.sync.peer_tip(id)), now) {
                Ok(wait) => {
                    self.take(id, incoming, ctx);
                    wait
                }
                Err(flooded) => {
                    self.offence(id, &Offence::Flood, &flooded.to_string());
                    0
                }
            },
            Err(error) => {
                self.misread(id, error);
                0
            }
        }
    }

    /// Counts what a peer says; a peer that the operator named may say what it likes.
    fn hear(&mut self, id: LinkId, heard: Option<Heard>, now: Millis) -> Result<Millis, Flooded> {
        let Some(patience) = self.patience.get_mut(&id) else { return Ok(0) };
        match heard {
            Some(heard) => patience.hear(heard, now).map(|wait| wait.max(patience.wait(now))),
            None => Ok(patience.wait(now)),
        }
    }

    /// Our chain has taken blocks, which every peer may now repeat.
    pub(super) fn all_earn(&mut self, blocks: u64) {
        let times = usize::try_from(blocks).unwrap_or(usize::MAX);
        self.patience.values_mut().for_each(|patience| patience.earn(times));
    }

    fn take(&mut self, id: LinkId, incoming: Incoming, ctx: &mut Context<Self>) {
        let now = self.now();
        if self.gates.contains_key(&id) {
            return self.at_gate(id, incoming, ctx);
        }
        let view = self.view();
        let actions = match incoming {
            Incoming::Hello(hello) => return self.introduce(id, hello, ctx),
            Incoming::QueryLast => {
                self.first_message(id);
                self.sync.asked_last(id, &view)
            }
            Incoming::QueryAll => self.sync.asked_all(id, &view),
            Incoming::Blocks(blocks) => self.sync.blocks(id, blocks),
            Incoming::Frame(Frame::Addresses(list)) => {
                let Some(teller) = self.links.get(id).map(|link| link.remote.ip()) else { return };
                for address in list.iter().filter_map(|text| text.parse().ok()) {
                    self.book.learn(address, teller, now);
                }
                return;
            }
            Incoming::Frame(frame) => {
                let actions = self.sync.frame(id, frame, &view);
                self.answer_waiting(false);
                actions
            }
            Incoming::Proof(_) => {
                debug!(link = id, "a proof that nobody asked for is ignored");
                return;
            }
            Incoming::Unknown(kind) => {
                debug!(link = id, kind, "message of an unknown type is ignored");
                return;
            }
        };
        self.perform(actions, ctx);
    }

    /// The peer has said something sensible: its address works.
    pub(super) fn first_message(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id).filter(|link| link.hello.is_none()) else { return };
        if let Direction::Outbound(address) = link.direction.clone() {
            self.book.introduced(&address, None);
        }
    }

    fn misread(&mut self, id: LinkId, error: ReadError) {
        if let ReadError::Rule(rule) | ReadError::Frame(FrameError::Rule { rule, .. }) = &error {
            self.parts.metrics.refused(rule.name());
        }
        let reason = error.to_string();
        if let Some(rule) = error.rule() {
            self.note_refused(id, None, rule);
        }
        if error.sender_at_fault() {
            self.offence(id, &Offence::Misread(error), &reason);
        } else if self.logs("message refused") {
            let remote = self.links.get(id).map(|link| link.remote);
            info!(link = id, from = remote.map(display), reason, "message refused");
        }
    }

    /// Remembers for people what was refused, and why.
    fn note_refused(&mut self, id: LinkId, block: Option<Tip>, rule: &RuleError) {
        let remote = self.links.get(id).map_or_else(String::new, |link| link.remote.to_string());
        self.refused.note(clock::unix_time(), &remote, block, rule);
    }

    fn note_import_error(&mut self, id: LinkId, block: Option<Tip>, error: &ImportError) {
        match error {
            ImportError::Rule(rule) => self.note_refused(id, block, rule),
            // Our own disk's fault, which is reported elsewhere.
            ImportError::Storage(_) => {}
        }
    }

    // ---- Carrying out what the sync asks for.

    pub(super) fn perform(&mut self, actions: Vec<Action>, ctx: &mut Context<Self>) {
        for action in actions {
            match action {
                Action::Send(id, say) => self.say(id, say, ctx),
                Action::Import { link, blocks, origin } => self.import(link, ImportBlocks { blocks, origin }, ctx),
                Action::Stage { link, ticket, fork, blocks: Blocks { after, blocks } } => {
                    self.stage(link, ticket, StageBlocks { fork, after, blocks }, ctx);
                }
                Action::Switch { link, ticket, origin } => self.switch(link, ticket, origin, ctx),
                Action::PassOver { link, tip, depth } => {
                    let from = self.links.get(link).map(|link| display(link.remote));
                    if self.logs("branch passed over") {
                        warn!(link, from, %tip, depth, "a stranger's branch is longer than is kept beside the chain and \
                            is not fetched; name the peer with /addPeers if it is to be taken over");
                    }
                }
                // Lost only when the chain's actor is gone, and the staged branch with it.
                Action::Unstage => self.parts.chain.do_send(DropBranch),
                Action::Serve { link, from, upto } => self.serve(link, from, upto, ctx),
                Action::Restore { link, blocks } => self.restore(link, blocks, ctx),
                Action::Close { link, fault } => self.drop_peer(link, fault),
            }
        }
    }

    fn drop_peer(&mut self, id: LinkId, fault: Fault) {
        let reason = fault.to_string();
        self.offence(id, &Offence::Fault(fault), &reason);
    }

    fn import(&mut self, id: LinkId, message: ImportBlocks, ctx: &mut Context<Self>) {
        match message.origin {
            Origin::Trusted => self.import_now(id, message, ctx),
            // A run without blocks would never be done.
            Origin::Stranger if message.blocks.is_empty() => {}
            Origin::Stranger => {
                self.imports.wait(id, message);
                self.import_next(ctx);
            }
        }
    }

    fn import_next(&mut self, ctx: &mut Context<Self>) {
        if let Some((id, message)) = self.imports.begin() {
            self.import_now(id, message, ctx);
        }
    }

    fn import_now(&mut self, id: LinkId, message: ImportBlocks, ctx: &mut Context<Self>) {
        let origin = message.origin;
        let Some(tip) = message.blocks.last().map(|block| block.tip()) else { return };
        let remote = self.links.get(id).map(|link| link.remote);
        let blocks = message.blocks.len() as u64;
        ctx.spawn(wrap_future::<_, Self>(self.parts.chain.send(message)).map(move |answer, manager, ctx| {
            let Ok(result) = answer else { return };
            if origin == Origin::Stranger {
                manager.imports.done();
                manager.import_next(ctx);
            }
            let now = manager.now();
            let heard = match &result {
                Ok(Imported::Changed(update)) => {
                    if manager.logs("block accepted") {
                        let blocks = update.new.height.0 - update.fork.height.0;
                        info!(index = update.new.height.0, hash = %update.new.hash, blocks, from = remote.map(display), "block accepted");
                    }
                    None
                }
                Ok(Imported::Known) => Some(Heard::Earned),
                Ok(Imported::Side) => {
                    manager.all_earn(blocks);
                    Some(Heard::Fruitless)
                }
                Ok(Imported::Parked { depth }) => {
                    manager.note_parked(id, Some(tip), *depth);
                    Some(Heard::Fruitless)
                }
                Ok(Imported::Unconnected) => Some(Heard::Fruitless),
                Err(error) => {
                    if manager.logs("blocks refused") {
                        info!(link = id, from = remote.map(display), block = %tip, reason = %error, "blocks refused");
                    }
                    manager.note_import_error(id, Some(tip), error);
                    Some(Heard::Fruitless)
                }
            };
            if let Err(flooded) = manager.hear(id, heard, now) {
                manager.offence(id, &Offence::Flood, &flooded.to_string());
            }
            let actions = manager.sync.imported(id, tip, result.as_ref(), &manager.view());
            manager.perform(actions, ctx);
        }));
    }

    fn note_parked(&mut self, id: LinkId, tip: Option<Tip>, depth: u64) {
        let from = self.links.get(id).map(|link| display(link.remote));
        if self.logs("branch parked") {
            warn!(
                link = id,
                from,
                tip = tip.map(display),
                depth,
                "a longer branch was parked: it would undo too many \
                blocks and comes from a stranger; dolmen adopt takes it over"
            );
        }
    }

    fn stage(&mut self, id: LinkId, ticket: Ticket, message: StageBlocks, ctx: &mut Context<Self>) {
        let tip = message.blocks.last().map(|block| block.tip());
        ctx.spawn(wrap_future::<_, Self>(self.parts.chain.send(message)).map(move |answer, manager, ctx| {
            let Ok(result) = answer else { return };
            if let Err(error) = &result {
                manager.note_import_error(id, tip, error);
            }
            manager.now();
            let actions = manager.sync.staged(id, ticket, result, &manager.view());
            manager.perform(actions, ctx);
        }));
    }

    fn switch(&mut self, id: LinkId, ticket: Ticket, origin: Origin, ctx: &mut Context<Self>) {
        let switch = self.parts.chain.send(SwitchBranch { origin });
        ctx.spawn(wrap_future::<_, Self>(switch).map(move |answer, manager, ctx| {
            let Ok(result) = answer else { return };
            manager.now();
            let from = manager.links.get(id).map(|link| display(link.remote));
            match &result {
                Ok(Imported::Changed(update)) => {
                    let blocks = update.new.height.0 - update.fork.height.0;
                    info!(index = update.new.height.0, hash = %update.new.hash, blocks, from, "branch accepted");
                }
                Err(error) => {
                    if manager.logs("branch refused") {
                        info!(link = id, from, reason = %error, "branch refused");
                    }
                    manager.note_import_error(id, None, error);
                }
                Ok(Imported::Parked { depth }) => manager.note_parked(id, None, *depth),
                Ok(_) => {}
            }
            let actions = manager.sync.switched(id, ticket, result.as_ref(), &manager.view());
            manager.perform(actions, ctx);
        }));
    }

    fn restore(&mut self, id: LinkId, blocks: Vec<SharedBlock>, ctx: &mut Context<Self>) {
        let restoring = self.parts.chain.send(RestoreBlocks(blocks));
        ctx.spawn(wrap_future::<_, Self>(restoring).map(move |answer, manager, _| {
            let Ok(Restored { heights, error }) = answer else { return };
            manager.now();
            match &error {
                None => {
                    // Highest first.
                    let (first, last) = (heights.last().map(|height| height.0), heights.first().map(|height| height.0));
                    info!(
                        link = id,
                        first,
                        last,
                        blocks = heights.len(),
                        "damaged blocks were fetched again and written"
                    );
                }
                Some(error) => warn!(link = id, %error, "a damaged block could not be written again"),
            }
            manager.sync.restored(&heights, error.as_ref());
        }));
    }

    pub(super) fn say(&mut self, id: LinkId, say: Say, ctx: &mut Context<Self>) {
        if let (Say::QueryAll | Say::LastBlock | Say::Block(_), Some(patience)) = (&say, self.patience.get_mut(&id)) {
            patience.earn(1);
        }
        match say {
            Say::QueryAll => {
                if let Some(link) = self.links.get(id) {
                    link.handle.line().allow(MAX_CHAIN_MESSAGE);
                }
                self.send(id, Out::Text(message::query_all().into()));
            }
            Say::LastBlock => {
                let snapshot = self.parts.reader.snapshot();
                match snapshot.block_at(snapshot.tip().height) {
                    Ok(Some(block)) => self.send(id, Out::Text(message::response_block(block.block()).into())),
                    Ok(None) => {}
                    Err(error) => warn!(%error, "cannot read the last block"),
                }
            }
            Say::WholeChain => {
                self.chains.asked(id, self.view().tip());
                self.make_chains(ctx);
            }
            Say::Block(block) => self.send(id, Out::Text(message::response_block(block.block()).into())),
            Say::Frame(frame) => self.send(id, Out::Binary(native::encode(&frame).into())),
        }
    }

    pub(super) fn send(&mut self, id: LinkId, out: Out) {
        let _ = self.deliver(id, out);
    }

    /// Sends, unless the peer has too much to read already: then it is told only the tip, once it has read.
    pub(super) fn deliver(&mut self, id: LinkId, out: Out) -> bool {
        let now = self.parts.shared.stopwatch.millis();
        let Some(link) = self.links.get(id) else { return false };
        let sent = !self.lagging.contains_key(&id) && link.handle.send(out);
        if !sent {
            self.lagging.entry(id).or_insert(now);
            self.sync.lost_track(id);
        }
        sent
    }

    /// Puts whole chains together for tutorial peers, one after the other, and sends as many at once as may be under way.
    pub(super) fn make_chains(&mut self, ctx: &mut Context<Self>) {
        let now = self.now();
        if self.chains.is_idle() {
            self.chain_text = None;
        }
        while !self.making {
            let snapshot = self.parts.reader.snapshot();
            let tip = snapshot.tip();
            let Some(id) = self.chains.next(tip, now) else { return };
            if let Some((_, text)) = self.chain_text.as_ref().filter(|(end, _)| *end == tip) {
                let text = text.clone();
                self.send_chain(id, text);
                continue;
            }
            self.making = true;
            let making = self.parts.shared.clone().read(Origin::Stranger, move || chain_text(&snapshot));
            ctx.spawn(wrap_future::<_, Self>(making).map(move |made, manager, ctx| {
                manager.making = false;
                match made.unwrap_or_else(|_| Err("the node is stopping".to_owned())) {
                    Ok(text) => {
                        manager.chain_text = Some((tip, text.clone()));
                        manager.send_chain(id, text);
                    }
                    Err(reason) => {
                        warn!(link = id, reason, "the whole chain cannot be sent; the last block is");
                        let now = manager.now();
                        manager.chains.sent(id, MAX_CHAIN_MESSAGE, now);
                        manager.chains.ended(id);
                        manager.say(id, Say::LastBlock, ctx);
                    }
                }
                manager.make_chains(ctx);
            }));
        }
    }

    fn send_chain(&mut self, id: LinkId, text: Bytes) {
        let now = self.now();
        self.chains.sent(id, text.len(), now);
        if !self.deliver(id, Out::Text(text)) {
            self.chains.ended(id);
        }
    }

    fn serve(&mut self, id: LinkId, from: Height, upto: Tip, ctx: &mut Context<Self>) {
        let snapshot = self.parts.reader.snapshot();
        let origin = if self.patience.contains_key(&id) { Origin::Stranger } else { Origin::Trusted };
        let reading = self.parts.shared.clone().read(origin, move || batch(&snapshot, from, upto));
        ctx.spawn(wrap_future::<_, Self>(reading).map(move |read, manager, ctx| {
            let next = match read.unwrap_or_else(|_| Err("the node is stopping".to_owned())) {
                Ok(Some((bytes, next))) => manager.deliver(id, Out::Binary(bytes)).then_some(next),
                Ok(None) => None,
                Err(error) => {
                    warn!(link = id, error, %from, "cannot read blocks for a peer");
                    None
                }
            };
            let actions = manager.sync.served(id, from, next);
            manager.perform(actions, ctx);
        }));
    }
}

/// The whole chain as a message for a tutorial peer.
fn chain_text(snapshot: &Snapshot) -> Result<Bytes, String> {
    let mut text = ChainText::default();
    let mut from = Height::GENESIS;
    while from <= snapshot.tip().height {
        let blocks = snapshot.blocks(from, MAX_BATCH_BLOCKS, READ_BYTES).map_err(|error| error.to_string())?;
        let Some(last) = blocks.last() else { break };
        from = last.height().next();
        for block in &blocks {
            text.push(block).map_err(|_| format!("it is longer than {MAX_CHAIN_MESSAGE} bytes"))?;
        }
    }
    text.finish().map(Bytes::from).ok_or_else(|| "it is empty".to_owned())
}

/// The next batch of the chain that ends in `upto`, and the height after it; `None` if that is not our chain.
fn batch(snapshot: &Snapshot, from: Height, upto: Tip) -> Result<Option<(Bytes, Height)>, String> {
    let say = |error: crate::ledger::storage::StorageError| error.to_string();
    if from == Height::GENESIS || from > upto.height || snapshot.hash_at(upto.height).map_err(say)? != Some(upto.hash) {
        return Ok(None);
    }
    let parent = Height(from.0 - 1);
    let Some(hash) = snapshot.hash_at(parent).map_err(say)? else { return Ok(None) };
    let wanted = usize::try_from(upto.height.0 - parent.0).unwrap_or(usize::MAX).min(MAX_BATCH_BLOCKS);
    let mut batch = BatchEncoder::after(Tip { height: parent, hash });
    snapshot.views(from, wanted, MAX_BATCH_BYTES, &mut |hash, block| batch.push(hash, &block)).map_err(say)?;
    Ok(batch.finish().map(|(bytes, tip)| (bytes.into(), tip.height.next())))
}
