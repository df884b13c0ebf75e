//! The links of PeerManager: who may join, who is who, and who is dropped.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use actix::prelude::*;
use actix_http::ws::{CloseCode, CloseReason};
use tracing::{debug, info, warn};

use super::{PeerManager, Refusal, Register, TICK};
use crate::actors::clock;
use crate::actors::session::{Handle, MAKES_ROOM, Out};
use crate::ledger::chain::Origin;
use crate::ledger::genesis;
use crate::ledger::outbox::Millis;
use crate::peer::address::PeerAddress;
use crate::peer::conduct::{Offence, Verdict};
use crate::peer::limits::{
    IDLE_TIMEOUT, LAG_TIMEOUT, MAX_FIRST_MESSAGE, MAX_UNASKED_MESSAGE, MESSAGE_TIMEOUT, PING_AFTER, SILENCE_TIMEOUT,
};
use crate::peer::links::{Direction, Introduction, Link};
use crate::peer::message::{self, Hello, NodeId, Nonce, PROTOCOL};
use crate::peer::native::{self, Frame};
use crate::peer::pace::Patience;
use crate::peer::sync::{LinkId, Say, View};

impl PeerManager {
    pub(super) fn register(&mut self, Register { direction, remote, handle }: Register) -> Result<LinkId, Refusal> {
        let now = self.now();
        let refusal = self.refusal(&direction, remote);
        if let (Some(refusal), Direction::Outbound(address)) = (refusal, &direction) {
            self.book.lost(address, now, &mut self.rng);
            return Err(refusal);
        }
        if let Some(refusal) = refusal {
            debug!(%remote, reason = %refusal, "link refused");
            return Err(refusal);
        }
        let origin = match &direction {
            Direction::Outbound(address) => {
                self.book.linked(address);
                let origin = self.book.origin(address);
                if origin == Origin::Trusted {
                    handle.line().trust();
                    self.parts.shared.entrance().know(remote.ip());
                }
                origin
            }
            Direction::Inbound => Origin::Stranger,
        };
        let id = self.next_link;
        self.next_link += 1;
        let nonce = Nonce(id);
        let tip = self.view().tip();
        let hello = Hello {
            protocol: PROTOCOL,
            node: self.node,
            nonce,
            genesis: genesis::tip().hash,
            port: self.parts.port,
            tip,
            agent: concat!("dolmen/", env!("CARGO_PKG_VERSION")).to_owned(),
            challenge: None,
        };
        let since = clock::unix_millis();
        if let Some(key) = self.parts.cluster_key.clone() {
            let hello = self.close_gate(id, key, &direction, origin, hello, now);
            handle.line().allow(MAX_FIRST_MESSAGE);
            let _ = handle.send(Out::Text(message::hello(&hello).into()));
        } else {
            // A queue that was just made has room.
            let _ = handle.send(Out::Text(message::query_last().into()))
                && handle.send(Out::Text(message::hello(&hello).into()));
            self.sync.opened(id, origin, tip);
        }
        self.links.add(id, Link { handle, direction, remote, nonce, hello: None, since, latency: None });
        if origin == Origin::Stranger {
            self.patience.insert(id, Patience::default());
        }
        debug!(link = id, %remote, "link opened");
        Ok(id)
    }

    fn refusal(&self, direction: &Direction, remote: SocketAddr) -> Option<Refusal> {
        if self.stopping {
            return Some(Refusal::Stopping);
        }
        match direction {
            _ if self.conduct.banned(remote.ip(), clock::unix_time().0).is_some() => Some(Refusal::Banned),
            Direction::Outbound(_) => None,
            Direction::Inbound => {
                let entrance = self.parts.shared.entrance();
                let asked = self.links.asked(remote.ip(), |address| entrance.knows(address));
                self.parts.slots.admit(asked).err().map(Refusal::Full)
            }
        }
    }

    pub(super) fn unregister(&mut self, id: LinkId, ctx: &mut Context<Self>) {
        let now = self.now();
        let spare = self.listening_address(id);
        let Some(link) = self.links.remove(id) else { return };
        if let Direction::Outbound(address) = &link.direction {
            self.book.lost(address, now, &mut self.rng);
        }
        if link.handle.line().dismissed() {
            let address = match &link.direction {
                Direction::Outbound(address) => Some(address),
                Direction::Inbound => spare.as_ref(),
            };
            address.into_iter().for_each(|address| self.book.dismissed(address));
        }
        self.lagging.remove(&id);
        self.chains.closed(id);
        self.imports.closed(id);
        self.patience.remove(&id);
        let known = self.dropped.remove(&id);
        self.gates.remove(&id);
        if let Some((offence, reason)) = link.handle.line().fault() {
            self.say_dropped(id, link.remote, reason, offence.points());
            self.note_offence(link.remote.ip(), offence);
        } else if link.handle.line().makes_room() && !known {
            self.say_dropped(id, link.remote, MAKES_ROOM, 0);
        }
        if self.logs("link closed") {
            info!(link = id, remote = %link.remote, "link closed");
        }
        let actions = self.sync.closed(id, &self.view());
        self.perform(actions, ctx);
    }

    /// Counts what a peer did wrong, once for each link, says so in the log, and ends the link.
    pub(super) fn offence(&mut self, id: LinkId, offence: &Offence, reason: &str) {
        let Some(link) = self.links.get(id) else { return };
        let remote = link.remote;
        if !self.dropped.insert(id) {
            return;
        }
        self.say_dropped(id, remote, reason, offence.points());
        self.close(id, CloseCode::Policy, "dropped for breaking the protocol");
        self.note_offence(remote.ip(), offence);
    }

    /// Says who was dropped and why: all of it only to those who want to see everything.
    fn say_dropped(&mut self, link: LinkId, remote: SocketAddr, reason: &str, points: u32) {
        if self.logs("peer dropped") {
            warn!(link, %remote, reason, points, "peer dropped");
        } else {
            debug!(link, %remote, reason, points, "peer dropped");
        }
    }

    pub(super) fn note_offence(&mut self, address: IpAddr, offence: &Offence) {
        if let Verdict::Banned(until) = self.conduct.note(address, offence, clock::unix_time().0) {
            self.parts.metrics.bans.inc();
            warn!(%address, until, "address banned");
            self.enforce(address);
        }
    }

    /// Ends the links of an address that has just been banned, and remembers the ban.
    pub(super) fn enforce(&mut self, address: IpAddr) {
        let theirs = |link: &Link<Handle>| link.remote.ip().to_canonical() == address.to_canonical();
        let links: Vec<LinkId> = self.links.iter().filter(|(_, link)| theirs(link)).map(|(id, _)| id).collect();
        for id in links {
            self.close(id, CloseCode::Policy, "banned");
        }
        self.keep_book();
    }

    pub(super) fn close(&mut self, id: LinkId, code: CloseCode, reason: &str) {
        if let Some(link) = self.links.get(id) {
            link.handle.close(Some(CloseReason::from((code, reason.to_owned()))));
        }
    }

    pub(super) fn introduce(&mut self, id: LinkId, hello: Hello, ctx: &mut Context<Self>) {
        if hello.genesis != genesis::tip().hash {
            if self.logs("peer of another network") {
                warn!(link = id, genesis = %hello.genesis, "peer of another network");
            }
            self.close(id, CloseCode::Policy, "another genesis");
            return;
        }
        if self.parts.cluster_key.is_none() && hello.challenge.is_some() {
            if self.logs("peer of a closed cluster") {
                warn!(
                    link = id,
                    agent = hello.agent,
                    "peer of a closed cluster: start this node with its --cluster-key-file"
                );
            }
            self.close(id, CloseCode::Policy, "this node has no cluster key");
            return;
        }
        if hello.protocol != PROTOCOL {
            if self.logs("another native protocol") {
                info!(
                    link = id,
                    protocol = hello.protocol,
                    agent = hello.agent,
                    "peer speaks another native protocol; the tutorial's is spoken with it"
                );
            }
            self.first_message(id);
            return;
        }
        let address = self.links.get(id).and_then(|link| match &link.direction {
            Direction::Outbound(address) => Some(address.clone()),
            Direction::Inbound => None,
        });
        let introduction = self.links.introduce(id, hello.clone());
        if introduction == Introduction::Oneself {
            if let Some(address) = &address {
                info!(peer = %address, "this address is this node itself; it is not dialled again");
                self.book.oneself(address);
            }
            self.close(id, CloseCode::Normal, "this is the same node");
            return;
        }
        if let Some(address) = &address {
            self.book.introduced(address, Some(hello.node));
        }
        match introduction {
            Introduction::Double { close } => {
                debug!(link = close, "a second link to the same node is closed");
                for heir in self.links.heirs(close, |address| self.book.origin(address) == Origin::Trusted) {
                    self.trust(heir);
                }
                self.close(close, CloseCode::Normal, "there is another link");
                if close == id {
                    // Its node may have dialled anew because the link that stays is dead: that shows in some seconds,
                    // once there is something to acknowledge, and then its next dial succeeds.
                    self.ping_node(hello.node);
                    return;
                }
            }
            Introduction::New if !self.logs("native peer") => {}
            Introduction::New => {
                info!(link = id, node = %hello.node, tip = %hello.tip, agent = hello.agent, "native peer");
            }
            Introduction::Again | Introduction::Oneself => return,
        }
        if self.book.origin_of(hello.node) == Origin::Trusted {
            // A node that the operator named, whoever dialled this time.
            self.trust(id);
        }
        if let Some(link) = self.links.get(id) {
            let _ = link.handle.send(Out::Ping);
            let known = self.book.worth_telling();
            if !known.is_empty() {
                let _ = link.handle.send(Out::Binary(native::encode(&Frame::Addresses(known)).into()));
            }
        }
        if let Some(spare) = self.listening_address(id) {
            let now = self.now();
            let teller = self.links.get(id).map(|link| link.remote.ip());
            teller.map(|teller| self.book.learn(spare, teller, now));
        }
        let actions = self.sync.introduced(id, hello.tip, &self.view());
        self.perform(actions, ctx);
    }

    /// The operator has named the peer at the other end.
    pub(super) fn trust(&mut self, id: LinkId) {
        self.sync.set_origin(id, Origin::Trusted);
        self.patience.remove(&id);
        if let Some(link) = self.links.get(id) {
            link.handle.line().trust();
        }
    }

    fn ping_node(&self, node: NodeId) {
        let to_node = |link: &&Link<Handle>| link.hello.as_ref().is_some_and(|hello| hello.node == node);
        for link in self.links.iter().map(|(_, link)| link).filter(to_node) {
            let _ = link.handle.send(Out::Ping);
        }
    }

    /// Where an inbound native peer listens.
    fn listening_address(&self, id: LinkId) -> Option<PeerAddress> {
        let link = self.links.get(id)?;
        let hello = link.hello.as_ref()?;
        if link.direction != Direction::Inbound || hello.port == 0 {
            return None;
        }
        let host = match link.remote.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => address.to_string(),
        };
        Some(PeerAddress::with_scheme(self.parts.scheme, &host, hello.port))
    }

    /// Pings quiet links, and drops ones that are dead, say nothing, are in the middle of an endless message, or do not read.
    pub(super) fn judge_lines(&mut self, now: Millis, ctx: &mut Context<Self>) {
        let millis = |duration: Duration| duration.as_millis() as Millis;
        let ping_after = millis(PING_AFTER);
        let (mut caught_up, mut faults) = (Vec::new(), Vec::new());
        let crowded = self.parts.shared.unfinished().any_evicted();
        for (id, link) in self.links.iter() {
            let line = link.handle.line();
            let quiet = now.saturating_sub(line.heard());
            let lasts = |since: Option<Millis>, limit: Duration| {
                since.is_some_and(|since| now.saturating_sub(since) > millis(limit))
            };
            let lags = self.lagging.get(&id).copied();
            let fault = if quiet > millis(IDLE_TIMEOUT) {
                Some(("nothing was heard", None))
            } else if lasts(line.silent(), SILENCE_TIMEOUT) {
                Some(("nothing was said", Some(Offence::Silent)))
            } else if lasts(line.begun(), MESSAGE_TIMEOUT) {
                Some(("a message took too long", Some(Offence::Framing)))
            } else if lasts(lags, LAG_TIMEOUT) || self.chains.overdue(id, now) {
                Some(("the peer does not read", Some(Offence::NotReading)))
            } else if crowded && line.makes_room() {
                Some((MAKES_ROOM, None))
            } else {
                None
            };
            if let Some((reason, offence)) = fault {
                link.handle.kill();
                faults.push((id, link.remote, reason, offence));
            } else if quiet > ping_after && quiet % ping_after < millis(TICK) {
                let _ = link.handle.send(Out::Ping);
            }
            if lags.is_some() && line.drained() {
                caught_up.push(id);
            }
            if self.chains.is_sending(id) && line.drained() {
                self.chains.ended(id);
            }
            if line.allowed() > MAX_UNASKED_MESSAGE && line.begun().is_none() && !self.sync.expects_chain(id) {
                line.allow(MAX_UNASKED_MESSAGE);
            }
        }
        for (id, remote, reason, offence) in faults {
            // Once for each link, which may take a moment to end.
            if self.dropped.insert(id) {
                self.say_dropped(id, remote, reason, offence.as_ref().map_or(0, Offence::points));
                offence.iter().for_each(|offence| self.note_offence(remote.ip(), offence));
            }
        }
        let tip = self.view().tip();
        for id in caught_up {
            self.lagging.remove(&id);
            let native = self.links.get(id).is_some_and(|link| link.hello.is_some());
            // Whatever it has missed: the tip is enough to ask for the rest.
            self.say(id, if native { Say::Frame(Frame::Tip(tip)) } else { Say::LastBlock }, ctx);
        }
    }
}
