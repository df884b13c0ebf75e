//! The actors: they own what moves and talk; the thinking is in `ledger` and `peer`.
//!
//! | message | who sends | who handles | what comes back |
//! | --- | --- | --- | --- |
//! | [`chain::Mine`] | HTTP | ChainActor | the block, once durable |
//! | [`chain::GetTip`], [`chain::GetBlocks`] | embedders, tests | ChainActor | tip, snapshot |
//! | [`chain::GetStats`], [`chain::GetBranches`], [`chain::GetReorgs`], [`chain::Whereabouts`] | HTTP | ChainActor | numbers, branches, reorgs, a place |
//! | [`chain::WatchTip`] | node | ChainActor | the tip, now and whenever it changes |
//! | [`chain::AdoptBranch`], [`chain::Requeue`] | HTTP | ChainActor | the change, the blocks |
//! | [`chain::ImportBlocks`] | PeerManager | ChainActor | what came of them |
//! | [`chain::StageBlocks`], [`chain::SwitchBranch`], [`chain::DropBranch`] | PeerManager | ChainActor | new end, what came of it |
//! | [`chain::RestoreBlocks`] | PeerManager | ChainActor | what was written |
//! | [`chain::Subscribe`], [`chain::Close`] | node | ChainActor | nothing |
//! | [`peers::ChainChanged`] | ChainActor | PeerManager | nothing |
//! | [`peers::AddPeers`], [`peers::ListPeers`], [`peers::DropPeer`], [`peers::GetSync`], [`peers::GetRepair`] | HTTP | PeerManager | rows, numbers |
//! | [`peers::GetRefused`] | HTTP | PeerManager | blocks of peers that were refused |
//! | [`peers::ListBans`], [`peers::Ban`], [`peers::Unban`] | HTTP | PeerManager | bans; until when; whether there was one |
//! | [`peers::CountHolders`], [`peers::AwaitHolders`] | HTTP | PeerManager | a number; that peers hold a block |
//! | [`peers::Register`], [`peers::Received`], [`peers::Unregister`] | PeerSession | PeerManager | the link's id; nothing |
//! | [`peers::Stop`] | node | PeerManager | nothing |
//! | [`session::Deliver`] | PeerManager | PeerSession | nothing |
//!
//! ChainActor lives on an arbiter of its own, PeerManager and the outbound sessions on another, inbound sessions on the
//! peer server's workers. Addresses are passed in at construction. [`scrub::Scrubber`] takes no messages: it reads the
//! chain again and again, and what it meets broken is noted by the store for PeerManager to fetch again.

pub mod chain;
pub mod clock;
pub mod flood;
pub mod peers;
pub mod replication;
pub mod scrub;
pub mod session;
