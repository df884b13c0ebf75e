//! What PeerManager is told and asked, and what it answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use actix::prelude::*;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::actors::session::Handle;
use crate::ledger::Tip;
use crate::ledger::keeper::Update;
use crate::ledger::outbox::Millis;
use crate::peer::address::PeerAddress;
use crate::peer::incoming::{Incoming, ReadError};
use crate::peer::links::Direction;
use crate::peer::refused::Refused;
use crate::peer::slots::Full;
use crate::peer::sync::progress::Progress;
use crate::peer::sync::{LinkId, Repair};

/// The best chain has changed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ChainChanged(pub Arc<Update>);

/// Link with these peers, now and whenever the link is lost. Answered at once.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AddPeers(pub Vec<PeerAddress>);

/// The links, and the addresses without one.
#[derive(Debug, Message)]
#[rtype(result = "Vec<PeerRow>")]
pub struct ListPeers;

/// End a link and forget its address. Answers whether there was such a link.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct DropPeer(pub LinkId);

/// The bans that last, each until a Unix time in seconds.
#[derive(Debug, Message)]
#[rtype(result = "Vec<(IpAddr, u64)>")]
pub struct ListBans;

/// Ban an address for some seconds and end its links. Answers until when.
#[derive(Debug, Message)]
#[rtype(result = "u64")]
pub struct Ban {
    /// The address.
    pub address: IpAddr,
    /// For how long.
    pub seconds: u64,
}

/// Forget a ban, and what led to it. Answers whether there was anything.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Unban(pub IpAddr);

/// How far the branch is that is being fetched.
#[derive(Debug, Message)]
#[rtype(result = "Option<Progress>")]
pub struct GetSync;

/// How far broken blocks are fetched again.
#[derive(Debug, Message)]
#[rtype(result = "Repair")]
pub struct GetRepair;

/// The blocks of peers that were refused last, newest first.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Refused>")]
pub struct GetRefused;

/// How many native peers have said that their best chain holds this block of ours.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub struct CountHolders(pub Tip);

/// Wait until this many native peers hold a block, or until it is no longer on our best chain; without a block, until our
/// chain changes.
#[derive(Debug, Message)]
#[rtype(result = "Result<Awaited, oneshot::error::RecvError>")]
pub struct AwaitHolders {
    /// The block.
    pub block: Option<Tip>,
    /// How many peers.
    pub peers: usize,
}

/// Answer to [`AwaitHolders`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// That many hold it.
    Held,
    /// Our chain has changed, and the block may have left it.
    Changed,
}

/// A session has opened.
#[derive(Debug, Message)]
#[rtype(result = "Result<LinkId, Refusal>")]
pub struct Register {
    /// Who dialled.
    pub direction: Direction,
    /// The socket's other end.
    pub remote: SocketAddr,
    /// How to speak to the session.
    pub handle: Handle,
}

/// A session has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Unregister {
    /// Which.
    pub link: LinkId,
}

/// A session has read a message, or could not. Answers for how many milliseconds it should read nothing more.
#[derive(Debug, Message)]
#[rtype(result = "Millis")]
pub struct Received {
    /// On which link.
    pub link: LinkId,
    /// The message.
    pub read: Result<Incoming, ReadError>,
}

/// A ping was answered.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Latency {
    /// On which link.
    pub link: LinkId,
    /// After how many milliseconds.
    pub millis: f64,
}

/// Close every link and dial no more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Why a link may not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// There is no room.
    #[error(transparent)]
    Full(Full),
    /// The address is banned.
    #[error("this address is banned")]
    Banned,
    /// The node is about to stop.
    #[error("the node is stopping")]
    Stopping,
}

/// A row of [`ListPeers`].
#[derive(Clone, PartialEq, Debug)]
pub struct PeerRow {
    /// The link; `None` for an address without one.
    pub link: Option<LinkId>,
    /// Where the peer was dialled, or the socket's other end.
    pub address: String,
    /// Who dialled; `None` without a link.
    pub direction: Option<&'static str>,
    /// `native`, `tutorial`, `unproven` before it has shown the cluster's key, or `connecting` without a link.
    pub kind: &'static str,
    /// The peer's tip, as far as it has told us.
    pub tip: Option<Tip>,
    /// What program a native peer runs.
    pub agent: Option<String>,
    /// How long the last ping took, in milliseconds.
    pub latency: Option<f64>,
    /// When the link opened, in Unix milliseconds.
    pub since: Option<Millis>,
    /// Failed dials since the last link; only without a link.
    pub failures: Option<u32>,
    /// Points for misbehaviour of the address; only with a link.
    pub score: Option<u32>,
}
