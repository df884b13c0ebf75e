//! The tutorial's cases at actor level: real nodes in one process, driven by messages to their actors.

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use dolmen::actors::chain::{GetBlocks, GetTip, Mine};
use dolmen::actors::peers::{AddPeers, ListPeers};
use dolmen::config::Config;
use dolmen::ledger::keeper::{MineError, MineRequest};
use dolmen::ledger::rules::RuleError;
use dolmen::ledger::{Height, SharedBlock, Tip, genesis};
use dolmen::node::Node;
use dolmen::peer::address::PeerAddress;
use support::tutorial::TutorialPeer;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// A node with a folder of its own.
struct Running {
    node: Option<Node>,
    config: Config,
    _home: TempDir,
}

impl Running {
    async fn start() -> Self {
        let home = TempDir::with_prefix("dolmen-actors-").expect("a temporary directory");
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = Config { http: free, p2p: free, data_dir: home.path().join("data"), ..Config::default() };
        let node = Node::start(&config).await.expect("a node starts on free ports");
        let config = Config { http: node.http_address(), p2p: node.p2p_address(), ..config };
        Self { node: Some(node), config, _home: home }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("the node runs")
    }

    async fn stop(&mut self) {
        self.node.take().expect("the node runs").stop().await;
    }

    async fn restart(&mut self) {
        self.node = Some(Node::start(&self.config).await.expect("a node starts again"));
    }

    fn address(&self) -> PeerAddress {
        PeerAddress::new("127.0.0.1", self.config.p2p.port())
    }

    async fn join(&self, other: &Self) {
        self.dial(other.address()).await;
    }

    async fn dial(&self, address: PeerAddress) {
        self.node().peers().send(AddPeers(vec![address])).await.expect("the peer manager lives");
    }

    async fn mine(&self, entry: &str) -> SharedBlock {
        self.try_mine(vec![entry.to_owned()]).await.expect("a good entry is mined")
    }

    async fn try_mine(&self, entries: Vec<String>) -> Result<SharedBlock, MineError> {
        let request = MineRequest { entries, key: None };
        self.node().chain().send(Mine(request)).await.expect("the chain lives").map(|mined| mined.block)
    }

    async fn tip(&self) -> Tip {
        self.node().chain().send(GetTip).await.expect("the chain lives")
    }

    async fn blocks(&self) -> Vec<SharedBlock> {
        let snapshot = self.node().chain().send(GetBlocks).await.expect("the chain lives").expect("the node runs");
        snapshot.blocks(Height::GENESIS, usize::MAX, usize::MAX).expect("the chain can be read")
    }

    async fn links(&self) -> usize {
        let rows = self.node().peers().send(ListPeers).await.expect("the peer manager lives");
        rows.iter().filter(|row| row.link.is_some()).count()
    }
}

/// Looks again until the deadline: the events come from other threads.
async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !look().await {
        assert!(Instant::now() < deadline, "waited {SOON:?} in vain for {what}");
        actix_web::rt::task::yield_now().await;
    }
}

async fn equal_at(nodes: &[&Running], height: u64) {
    until("one chain", async || {
        let first = nodes[0].tip().await;
        let mut all = first.height == Height(height);
        for node in nodes {
            all &= node.tip().await == first;
        }
        all
    })
    .await;
    let first = nodes[0].blocks().await;
    assert_eq!(first.len() as u64, height + 1);
    for node in nodes {
        assert_eq!(node.blocks().await, first);
    }
}

#[actix_web::test]
async fn case_1_two_are_joined_and_mine_on_either_side() {
    let (a, b) = (Running::start().await, Running::start().await);
    b.join(&a).await;
    until("a link", async || a.links().await == 1).await;
    let first = a.mine("from the first").await;
    assert_eq!((first.height(), first.parent()), (Height(1), genesis::tip().hash));
    equal_at(&[&a, &b], 1).await;
    b.mine("from the second").await;
    equal_at(&[&a, &b], 2).await;
}

#[actix_web::test]
async fn case_2_the_second_comes_late_and_then_mines() {
    let a = Running::start().await;
    for entry in ["one", "two", "three"] {
        a.mine(entry).await;
    }
    let b = Running::start().await;
    b.join(&a).await;
    equal_at(&[&a, &b], 3).await;
    b.mine("four").await;
    equal_at(&[&a, &b], 4).await;
}

#[actix_web::test]
async fn case_3_one_of_a_star_is_away_while_the_others_mine() {
    let (centre, other, mut away) = (Running::start().await, Running::start().await, Running::start().await);
    other.join(&centre).await;
    away.join(&centre).await;
    until("two links", async || centre.links().await == 2).await;
    centre.mine("all are there").await;
    equal_at(&[&centre, &other, &away], 1).await;
    away.stop().await;
    centre.mine("away 1").await;
    equal_at(&[&centre, &other], 2).await;
    other.mine("away 2").await;
    away.restart().await;
    equal_at(&[&centre, &other, &away], 3).await;
    away.mine("back").await;
    equal_at(&[&centre, &other, &away], 4).await;
}

#[actix_web::test]
async fn case_4_a_line_of_three_is_mined_at_both_ends() {
    let (left, middle, right) = (Running::start().await, Running::start().await, Running::start().await);
    left.join(&middle).await;
    right.join(&middle).await;
    until("two links", async || middle.links().await == 2).await;
    left.mine("left").await;
    equal_at(&[&left, &middle, &right], 1).await;
    right.mine("right").await;
    equal_at(&[&left, &middle, &right], 2).await;
    assert_eq!((left.links().await, right.links().await), (1, 1), "a line stays a line");
}

#[actix_web::test]
async fn a_tutorial_peer_and_a_node_share_a_chain() {
    let (node, peer) = (Running::start().await, TutorialPeer::start(support::tutorial::Options::default()));
    peer.mine(&["one"]);
    peer.mine(&["two"]);
    node.dial(PeerAddress::new("127.0.0.1", peer.port())).await;
    until("the peer's chain", async || node.tip().await.height == Height(2)).await;
    node.mine("three").await;
    until("our block on the peer", async || peer.tip().0 == 3).await;
    assert_eq!(peer.tip().1, node.tip().await.hash.to_string());
    peer.assert_alive();
}

#[actix_web::test]
async fn mining_is_refused_with_the_rule_and_changes_nothing() {
    let node = Running::start().await;
    let refused = node.try_mine(Vec::new()).await.expect_err("an empty body");
    assert!(matches!(refused, MineError::Rule(RuleError::BodyEmpty)), "{refused:?}");
    let refused = node.try_mine(vec!["ok".into(), "A".repeat(64)]).await.expect_err("an ambiguous entry");
    assert!(matches!(refused, MineError::Rule(RuleError::EntryAmbiguous { position: 1 })), "{refused:?}");
    assert_eq!(node.tip().await, genesis::tip());
}

/// What stands in the mailbox goes into one durable write, one block per request, and every caller gets its own block.
#[actix_web::test]
async fn many_at_once_get_one_block_each_in_one_chain() {
    let node = Running::start().await;
    let request = |number: usize| Mine(MineRequest { entries: vec![format!("entry {number}")], key: None });
    let asked: Vec<_> = (0..500).map(|number| node.node().chain().send(request(number))).collect();
    let mut heights = Vec::new();
    for (number, answer) in asked.into_iter().enumerate() {
        let block = answer.await.expect("the chain lives").expect("mined").block;
        assert_eq!(block.body(), [format!("entry {number}")]);
        heights.push(block.height().0);
    }
    heights.sort_unstable();
    assert_eq!(heights, (1..=500).collect::<Vec<u64>>());
    assert_eq!(node.tip().await.height, Height(500));
}

#[actix_web::test]
async fn a_double_and_a_self_connection_are_resolved() {
    let (a, b) = (Running::start().await, Running::start().await);
    a.join(&b).await;
    b.join(&a).await;
    a.join(&a).await;
    a.dial(PeerAddress::new("localhost", b.config.p2p.port())).await;
    until("one link", async || a.links().await == 1 && b.links().await == 1).await;
    a.mine("once").await;
    equal_at(&[&a, &b], 1).await;
    until("still one link", async || a.links().await == 1 && b.links().await == 1).await;
}

#[actix_web::test]
async fn everything_survives_a_restart() {
    let mut node = Running::start().await;
    for number in 0..20 {
        node.mine(&format!("entry {number}")).await;
    }
    let before = node.blocks().await;
    node.stop().await;
    node.restart().await;
    assert_eq!(node.blocks().await, before);
    assert_eq!(node.mine("after").await.height(), Height(21));
}
