//! The gate of a closed cluster: links whose peer has not proven yet that it holds the key.
//!
//! Drives the [`Handshake`] of each. Until it is through, a link is in no other book: nothing is answered, nothing is taken,
//! and neither HELLO says where its chain ends.

use actix::prelude::*;
use actix_http::ws::CloseCode;
use rand::RngExt;
use tracing::{debug, info, warn};

use super::PeerManager;
use crate::actors::session::Out;
use crate::ledger::chain::Origin;
use crate::ledger::genesis;
use crate::ledger::outbox::Millis;
use crate::peer::conduct::Offence;
use crate::peer::incoming::Incoming;
use crate::peer::limits::{MAX_UNASKED_MESSAGE, PROOF_TIMEOUT};
use crate::peer::links::Direction;
use crate::peer::message::{self, Challenge, Hello};
use crate::peer::proof::{ClusterKey, Handshake, Refused, Role, Step};
use crate::peer::sync::LinkId;

/// How long a refused peer may take to read why, before its socket is shut.
const GOODBYE: Millis = 1_000;

/// A link on its way to being open.
#[derive(Debug)]
pub(super) struct Gate {
    handshake: Handshake,
    /// How far the peer is trusted once it is through.
    origin: Origin,
    /// When the link opened.
    since: Millis,
    /// When it was refused; nothing is heard from it any more.
    refused: Option<Millis>,
}

impl PeerManager {
    /// Closes the gate before a link that has just opened; what is to be said on it.
    pub(super) fn close_gate(
        &mut self,
        id: LinkId,
        key: ClusterKey,
        direction: &Direction,
        origin: Origin,
        hello: Hello,
        now: Millis,
    ) -> Hello {
        let role = if *direction == Direction::Inbound { Role::Listener } else { Role::Dialler };
        // Strangers need not know how long our chain is; a proven peer is told at once.
        let hello = Hello { tip: genesis::tip(), challenge: Some(Challenge(self.rng.random())), ..hello };
        let handshake = Handshake::new(key, role, hello.clone());
        self.gates.insert(id, Gate { handshake, origin, since: now, refused: None });
        hello
    }

    /// Hears a peer that has not proven itself.
    pub(super) fn at_gate(&mut self, id: LinkId, incoming: Incoming, ctx: &mut Context<Self>) {
        let Some(gate) = self.gates.get_mut(&id).filter(|gate| gate.refused.is_none()) else { return };
        let step = match incoming {
            Incoming::Hello(hello) if hello.genesis == genesis::tip().hash => gate.handshake.hello(hello),
            // Which says why it is closed.
            Incoming::Hello(hello) => return self.introduce(id, hello, ctx),
            Incoming::Proof(proof) => gate.handshake.proof(&proof),
            // Whoever is no member asks this first; a member does not.
            Incoming::QueryLast | Incoming::Unknown(_) => return,
            Incoming::QueryAll => Err(Refused::Early("QUERY_ALL")),
            Incoming::Blocks(_) => Err(Refused::Early("blocks")),
            Incoming::Frame(_) => Err(Refused::Early("a native frame")),
        };
        match step {
            Ok(Step::Wait) => {}
            Ok(Step::Prove(proof)) => self.send(id, Out::Text(message::proof(&proof).into())),
            Ok(Step::Proven { answer, peer }) => {
                if let Some(proof) = answer {
                    self.send(id, Out::Text(message::proof(&proof).into()));
                }
                self.open_gate(id, peer, ctx);
            }
            Err(refused) => self.refuse(id, refused),
        }
    }

    fn open_gate(&mut self, id: LinkId, peer: Hello, ctx: &mut Context<Self>) {
        let Some(gate) = self.gates.remove(&id) else { return };
        debug!(link = id, node = %peer.node, "the peer holds the cluster key");
        if let Some(link) = self.links.get(id) {
            link.handle.line().allow(MAX_UNASKED_MESSAGE);
        }
        self.sync.opened(id, gate.origin, genesis::tip());
        self.introduce(id, peer, ctx);
    }

    /// Ends a link whose peer does not get in, and says why.
    fn refuse(&mut self, id: LinkId, refused: Refused) {
        let now = self.now();
        let Some(gate) = self.gates.get_mut(&id) else { return };
        gate.refused = Some(now);
        let Some(link) = self.links.get(id) else { return };
        let remote = link.remote;
        let reason = refused.to_string();
        let dialled = match &link.direction {
            Direction::Inbound => None,
            Direction::Outbound(peer) => Some(peer.clone()),
        };
        match dialled {
            // Somebody here wants this link.
            Some(peer) => warn!(link = id, %peer, reason, "peer refused: this cluster is closed"),
            None if self.logs("peer refused") => {
                info!(link = id, %remote, reason, "peer refused: this cluster is closed");
            }
            None => {}
        }
        self.close(id, CloseCode::Policy, "closed cluster: a proof of its key is needed");
        self.note_offence(remote.ip(), &Offence::NoKey);
    }

    /// Refuses peers that have not proven themselves in time, and shuts the sockets of those that do not go.
    pub(super) fn judge_gates(&mut self, now: Millis) {
        // A duration of seconds fits.
        let patience = PROOF_TIMEOUT.as_millis() as Millis;
        let (mut late, mut stuck) = (Vec::new(), Vec::new());
        for (&id, gate) in &self.gates {
            match gate.refused {
                None if now.saturating_sub(gate.since) > patience => late.push(id),
                Some(since) if now.saturating_sub(since) > GOODBYE => stuck.push(id),
                None | Some(_) => {}
            }
        }
        for id in late {
            self.refuse(id, Refused::Late);
        }
        for id in stuck {
            if let Some(link) = self.links.get(id) {
                link.handle.kill();
            }
        }
    }
}
