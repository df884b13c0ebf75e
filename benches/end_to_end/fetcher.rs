//! The ceiling of catching up: a bare program that fetches a chain from a native peer and verifies it on two threads. It has
//! no chain and writes nothing.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use dolmen::ledger::{Height, UnixTime, genesis};
use dolmen::peer::message::{self, Hello, NodeId, Nonce, Text};
use dolmen::peer::native::{self, Frame};
use tungstenite::Message;

use crate::process::{Node, address_in};

/// Batches that may be on their way.
const IN_FLIGHT: u32 = 8;

/// The first byte of a native frame with a batch.
const BATCH: u8 = 6;

/// Blocks per second from the dial to the last one that is verified.
pub fn fetched_per_second(peer: &Node, blocks: u64) -> f64 {
    let begun = Instant::now();
    let url = peer.url();
    let socket = TcpStream::connect(address_in(&url)).expect("the peer listens");
    socket.set_nodelay(true).expect("a TCP socket");
    let end = socket.try_clone().expect("a TCP socket");
    let (mut link, _) = tungstenite::client(format!("{url}/"), socket).expect("a handshake");
    link.send(Message::text(message::hello(&hello()))).expect("the peer reads");
    let verified = AtomicU64::new(0);
    let verify = |batches: mpsc::Receiver<Message>| {
        for batch in batches {
            let read = native::decode(&batch.into_data(), UnixTime(u64::MAX >> 12)).expect("a good frame");
            let Frame::Batch(batch) = read else { panic!("{read:?} is no batch") };
            let count = batch.blocks.len() as u64;
            if verified.fetch_add(count, Ordering::Relaxed) + count >= blocks {
                end.shutdown(Shutdown::Both).expect("a link");
            }
        }
    };
    thread::scope(|scope| {
        let threads = [(); 2].map(|()| {
            let (queue, batches) = mpsc::channel();
            scope.spawn(|| verify(batches));
            queue
        });
        let mut turn = threads.iter().cycle();
        while let Ok(said) = link.read() {
            let answer = match &said {
                Message::Text(text) => match message::parse(text) {
                    Ok(Text::Hello(peer)) => Frame::Fetch { from: Height(1), upto: peer.tip, batches: IN_FLIGHT },
                    _ => continue,
                },
                Message::Binary(frame) if frame.first() == Some(&BATCH) => {
                    turn.next().expect("a cycle").send(said).expect("somebody verifies");
                    Frame::More { batches: 1 }
                }
                _ => continue,
            };
            // Whoever has all of it hangs up, maybe before this.
            let _ = link.send(Message::binary(native::encode(&answer)));
        }
    });
    assert!(verified.into_inner() >= blocks, "the peer has hung up");
    blocks as f64 / begun.elapsed().as_secs_f64()
}

fn hello() -> Hello {
    Hello {
        protocol: message::PROTOCOL,
        node: NodeId(1),
        nonce: Nonce(1),
        genesis: genesis::tip().hash,
        port: 1,
        tip: genesis::tip(),
        agent: "a bare fetcher".to_owned(),
        challenge: None,
    }
}
