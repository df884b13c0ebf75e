//! A node catches up with a peer of the tutorial's kind, which sends its whole chain as one message. The peer here has that
//! message ready, so the time is nearly our own share.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use dolmen::peer::chain_text::ChainText;
use dolmen::peer::message;
use tungstenite::Message;
use tungstenite::protocol::WebSocketConfig;

use crate::load::median;
use crate::process::Node;
use crate::report::{Bound, Report};
use crate::{Sizes, chain};

pub fn measure(sizes: &Sizes, report: &mut Report) {
    let blocks = sizes.tutorial;
    let run = chain::blocks(blocks);
    let mut text = ChainText::default();
    text.push(&dolmen::ledger::genesis::block()).expect("short enough");
    for block in &run {
        text.push(block).expect("short enough");
    }
    let whole = String::from_utf8(text.finish().expect("blocks")).expect("JSON");
    let last = message::response_block(run.last().expect("blocks").block());
    drop(run);
    let rounds: Vec<(f64, f64, f64)> = (0..sizes.rounds).map(|_| round(blocks, &last, &whole)).collect();
    let of = |figure: fn(&(f64, f64, f64)) -> f64| median(&mut rounds.iter().map(figure).collect::<Vec<_>>());
    let work = |what: &str| format!("catch up {blocks} from a tutorial peer{what}");
    let scale = blocks as f64 / 100_000.0;
    let megabytes = whole.len() as f64 / 1e6;
    let beside = format!("a message of {megabytes:.0} MB that is ready");
    report.target(&work(""), of(|round| round.0), "s", Bound::AtMost, 0.3 * scale, &beside);
    report.figure(&work(", processor"), of(|round| round.1), "s", "");
    let most = 4.0 * whole.len() as f64 / 1024.0 / 1024.0;
    report.target(&work(", peak memory above the start's"), of(|round| round.2), "MiB", Bound::AtMost, most, "");
}

/// Seconds from the question to the level tip, processor seconds, and MiB above those at the start.
fn round(blocks: u64, last: &str, whole: &str) -> (f64, f64, f64) {
    let dir = chain::fresh();
    let node = Node::start(dir.path(), &[]);
    let (before, memory) = (node.processor_seconds(), node.resident());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    thread::scope(|scope| {
        let peer = scope.spawn(move || answer(&listener, last, whole));
        node.add_peer(&format!("ws://127.0.0.1:{port}"));
        node.wait_height(blocks, Duration::from_millis(2));
        let level = Instant::now();
        let (processor, peak) = (node.processor_seconds() - before, node.peak() - memory);
        drop(node);
        let asked = peer.join().expect("the peer ran");
        ((level - asked).as_secs_f64(), processor, peak)
    })
}

/// Answers one link until it ends; when the whole chain was asked for.
fn answer(listener: &TcpListener, last: &str, whole: &str) -> Instant {
    let (stream, _) = listener.accept().expect("a link");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut asked = Instant::now();
    let config = WebSocketConfig::default();
    let mut link = tungstenite::accept_with_config(stream, Some(config)).expect("a handshake");
    while let Ok(received) = link.read() {
        let Message::Text(text) = received else { continue };
        if text.contains(r#""type":0"#) {
            let _ = link.send(Message::text(last));
        } else if text.contains(r#""type":1,"#) || text.contains(r#""type":1}"#) {
            asked = Instant::now();
            let _ = link.send(Message::text(whole));
        }
    }
    asked
}
