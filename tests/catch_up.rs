//! Catching up with a native peer that fails or lies on the way. The peer is a program of this test, over real sockets.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use dolmen::ledger::block::{Height, SharedBlock, Tip};
use dolmen::ledger::{BlockHash, genesis};
use dolmen::peer::message::{self, Hello, NodeId, Nonce, PROTOCOL};
use dolmen::peer::native::{self, Blocks, Frame};
use support::blocks::{NOW, block};
use support::process::{NodeOptions, NodeProcess};
use support::{tip, wait};
use tungstenite::{Message, WebSocket};

const LONG: Duration = Duration::from_secs(120);
const BATCH: usize = 4_000;

/// The blocks of one chain, one after the other, the same whenever it is made.
struct Chain(Tip);

impl Chain {
    fn new() -> Self {
        Self(genesis::tip())
    }
}

impl Iterator for Chain {
    type Item = SharedBlock;

    fn next(&mut self) -> Option<SharedBlock> {
        let block = block(self.0, &format!("entry {}", self.0.height.next()));
        self.0 = block.tip();
        Some(block)
    }
}

/// The end of the chain after so many blocks.
fn end_of(blocks: usize) -> Tip {
    Chain::new().take(blocks).last().map_or(genesis::tip(), |block| block.tip())
}

/// A peer that serves the chain batch by batch, until what it does with one of them ends that.
struct Supplier<S: Read + Write> {
    link: WebSocket<S>,
    /// Where it says that its chain ends.
    tip: Tip,
    /// The places that it was asked for first.
    located: Vec<Tip>,
}

impl Supplier<TcpStream> {
    /// One that dials a node as a stranger.
    fn dial(node: &NodeProcess, tip: Tip) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", node.p2p_port())).expect("the node listens");
        socket.set_read_timeout(Some(LONG)).expect("a timeout above zero");
        let (link, _) = tungstenite::client(format!("{}/", node.p2p_url()), socket).expect("a link");
        Self::hello(link, tip, 1)
    }

    /// One that a node has dialled because it was told to.
    fn dialled(listener: &TcpListener, tip: Tip, nonce: u64) -> Self {
        let (socket, _) = listener.accept().expect("the node dials");
        socket.set_read_timeout(Some(LONG)).expect("a timeout above zero");
        Self::hello(tungstenite::accept(socket).expect("a handshake"), tip, nonce)
    }
}

impl<S: Read + Write> Supplier<S> {
    fn hello(link: WebSocket<S>, tip: Tip, nonce: u64) -> Self {
        let mut supplier = Self { link, tip, located: Vec::new() };
        let hello = Hello {
            protocol: PROTOCOL,
            node: NodeId(7),
            nonce: Nonce(nonce),
            genesis: genesis::tip().hash,
            port: 9,
            tip,
            agent: "catch_up test".to_owned(),
            challenge: None,
        };
        supplier.say(Message::text(message::hello(&hello)));
        supplier
    }

    fn say(&mut self, message: Message) {
        // A node that has had enough is seen by its end of the link.
        let _ = self.link.send(message);
    }

    fn frame(&mut self, frame: &Frame) {
        self.say(Message::binary(native::encode(frame)));
    }

    /// The next native frame; `None` when the node has ended the link.
    fn next(&mut self) -> Option<Frame> {
        loop {
            match self.link.read() {
                Ok(Message::Binary(bytes)) => {
                    return Some(native::decode(&bytes, NOW).expect("nodes send good frames"));
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Serves what is asked for. Before each batch `meddle` is shown its number, and may send something else and end it all.
    fn serve(&mut self, meddle: &mut dyn FnMut(&mut Self, usize, &mut Blocks) -> Then) {
        let (mut chain, mut number, mut credit) = (None, 0, 0);
        while let Some(frame) = self.next() {
            match frame {
                Frame::Locate(places) => {
                    // All that the node may have is of this chain.
                    let common = places.first().copied();
                    self.located = places;
                    self.frame(&Frame::Located { common, tip: self.tip });
                }
                Frame::Fetch { from, batches, .. } => {
                    chain = Some(Chain::new().skip(usize::try_from(from.0).expect("small") - 1).peekable());
                    credit = batches;
                }
                Frame::More { batches } => credit += batches,
                _ => {}
            }
            let Some(chain) = &mut chain else { continue };
            while credit > 0 {
                let Some(first) = chain.peek().filter(|first| first.height() <= self.tip.height) else { break };
                let after = Tip { height: Height(first.height().0 - 1), hash: first.parent() };
                let room = usize::try_from(self.tip.height.0 - after.height.0).expect("small");
                let mut run = Blocks { after, blocks: chain.by_ref().take(BATCH.min(room)).collect() };
                match meddle(self, number, &mut run) {
                    Then::Send => self.frame(&Frame::Batch(run)),
                    Then::Skip => {}
                    Then::End => return,
                }
                number += 1;
                credit -= 1;
            }
        }
    }
}

/// What a peer does with a batch of a number.
type Meddle<'m> = dyn FnMut(&mut Supplier<TcpStream>, usize, &mut Blocks) -> Then + 'm;

enum Then {
    /// Sends the batch, changed or not.
    Send,
    /// Leaves it out.
    Skip,
    /// Serves no more.
    End,
}

/// Files of branches that are collected.
fn staged(node: &NodeProcess) -> usize {
    fs::read_dir(node.data_dir().join("staging")).map_or(0, Iterator::count)
}

fn lone() -> NodeProcess {
    NodeProcess::start(NodeOptions::new())
}

/// Nothing of a refused branch is in the chain, and the node works.
fn assert_refused(node: &NodeProcess, reason: &str) {
    wait::until(LONG, format!("the reason {reason:?} in the log"), || node.log().contains(reason).then_some(()));
    assert_eq!(tip(node).0, 0, "nothing is adopted");
    support::mine(node, "still here");
    assert_eq!(tip(node).0, 1);
}

#[test]
fn what_follows_a_long_message_is_not_heard_before_it() {
    let node = NodeProcess::start(NodeOptions::new());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let body = format!(r#"{{"peers":["ws://127.0.0.1:{port}"]}}"#);
    assert_eq!(node.post_json("/addPeers", &body).status, 200);
    let mut peer = Supplier::dialled(&listener, genesis::tip(), 1);
    // Long ones are judged elsewhere, two at once, and short ones on the spot.
    let mut chain = Chain::new();
    for count in [3_000, 1, 2_000, 2_000, 2_000, 1, 1] {
        let after = chain.0;
        let blocks = chain.by_ref().take(count).collect();
        peer.frame(&Frame::Push(Blocks { after, blocks }));
    }
    wait::until(LONG, "the last block", || (tip(&node).0 == chain.0.height.0).then_some(()));
    drop(node);
    let asked: Vec<Frame> =
        std::iter::from_fn(|| peer.next()).filter(|frame| !matches!(frame, Frame::Tip(_))).collect();
    assert!(
        asked.iter().all(|frame| matches!(frame, Frame::Addresses(_))),
        "the node asks although nothing was missing: {asked:?}"
    );
}

#[test]
fn a_lie_in_the_last_batch_of_a_million_leaves_nothing() {
    const BLOCKS: usize = 1_000_000;
    let node = lone();
    let before = node.resident_bytes();
    let begun = Instant::now();
    let mut liar = Supplier::dial(&node, end_of(BLOCKS));
    let (mut most, mut seen) = (0, None);
    liar.serve(&mut |_, number, run| {
        most = most.max(node.resident_bytes());
        if number == 100 {
            // A fetch of less than a second is not worth a line.
            wait::until(LONG, "a line of progress", || node.log().contains("fetching blocks").then_some(()));
            seen = Some(node.get("/status").json()["sync"].take());
        }
        if (number + 1) * BATCH == BLOCKS {
            let last = run.blocks.len() - 1;
            let parent = run.blocks[last - 1].tip();
            run.blocks[last] = block(parent, "a lie");
        }
        Then::Send
    });
    eprintln!("refused after {:?}, at most {} MiB more", begun.elapsed(), most.saturating_sub(before) >> 20);
    wait::until(LONG, "the staged files to go", || (staged(&node) == 0).then_some(()));
    assert_refused(&node, "the branch does not end in the announced tip");
    assert!(most.saturating_sub(before) < 64 << 20, "{} bytes more than before", most.saturating_sub(before));
    let log = node.log();
    let lines = ["fetching blocks", "fetching ended"].map(|line| log.matches(line).count());
    assert!(lines[0] >= 1 && lines[1] == 1, "lines of progress, and one at the end: {lines:?}");
    let seen = seen.expect("a hundred batches were asked for");
    assert_eq!((&seen["from"], &seen["target"]), (&0.into(), &BLOCKS.into()), "{seen}");
    assert!(seen["at"].as_u64().is_some_and(|at| at > 0 && at < BLOCKS as u64), "{seen}");
}

#[test]
fn batches_that_are_lost_or_reordered_are_refused() {
    let lost = |_: &mut Supplier<TcpStream>, number, _: &mut Blocks| if number == 3 { Then::Skip } else { Then::Send };
    let swapped = |supplier: &mut Supplier<TcpStream>, number, run: &mut Blocks| {
        if number == 2 {
            let next = Chain(run.tip()).take(BATCH).collect();
            supplier.frame(&Frame::Batch(Blocks { after: run.tip(), blocks: next }));
        }
        Then::Send
    };
    let cases: [(&str, &mut Meddle<'_>); 2] = [("lost", &mut { lost }), ("swapped", &mut { swapped })];
    for (what, meddle) in cases {
        eprintln!("{what}");
        let node = lone();
        Supplier::dial(&node, end_of(10 * BATCH)).serve(meddle);
        assert_refused(&node, "a batch does not follow the one before");
    }
}

#[test]
fn a_peer_that_stops_in_the_middle_of_a_batch_is_gone_on_from() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let whole = end_of(10 * BATCH);
    let node = NodeProcess::start(NodeOptions::new().peer(&format!("ws://127.0.0.1:{port}")));

    let mut first = Supplier::dialled(&listener, whole, 1);
    first.serve(&mut |supplier, number, run| {
        if number < 6 {
            return Then::Send;
        }
        // A frame's header and the half of it; then the line is cut.
        let bytes = native::encode(&Frame::Batch(run.clone()));
        let length = u64::try_from(bytes.len()).expect("small").to_be_bytes();
        let socket = supplier.link.get_mut();
        let half = [&[0x82, 127][..], &length, &bytes[..bytes.len() / 2]].concat();
        socket.write_all(&half).expect("the node reads");
        Then::End
    });
    drop(first);
    assert_eq!(tip(&node).0, 0, "nothing is adopted yet");

    // What was fetched is not asked for again.
    let mut second = Supplier::dialled(&listener, whole, 2);
    let mut sent = 0;
    let serving = std::thread::spawn(move || {
        second.serve(&mut |_, _, run| {
            sent += run.blocks.len();
            Then::Send
        });
        (second.located, sent)
    });
    wait::until(LONG, "the node to be level", || {
        (tip(&node) == (whole.height.0, whole.hash.to_string())).then_some(())
    });
    drop(node);
    let (located, sent) = serving.join().expect("serves");
    let kept = located.first().expect("a place").height.0;
    assert!(kept >= BATCH as u64, "{located:?}");
    assert_eq!(sent as u64, whole.height.0 - kept);
    assert_eq!(located.last().map(|place| place.hash), Some(genesis::tip().hash));
}

#[test]
fn a_peer_that_fetches_and_does_not_read_takes_no_memory() {
    let node = lone();
    // Long entries, so that a few batches are more than sockets hold.
    let entry = "x".repeat(60_000);
    let blocks = 200;
    for _ in 0..blocks {
        support::mine(&node, &entry);
    }
    let before = node.resident_bytes();
    let (height, hash) = tip(&node);
    let upto = Tip { height: Height(height), hash: BlockHash::from_hex(&hash).expect("a hash") };
    let mut slow: Vec<_> = (0..8).map(|_| Supplier::dial(&node, genesis::tip())).collect();
    for peer in &mut slow {
        for _ in 0..20 {
            peer.frame(&Frame::Fetch { from: Height(1), upto, batches: 16 });
        }
    }
    // An honest peer beside them gets everything.
    let honest = NodeProcess::start(NodeOptions::new().peer(&node.p2p_url()));
    wait::until(LONG, "the honest peer to be level", || (tip(&honest) == tip(&node)).then_some(()));
    let grown = node.resident_bytes().saturating_sub(before);
    eprintln!("{} MiB for eight peers that do not read", grown >> 20);
    assert!(grown < 96 << 20, "{grown} bytes");
}
