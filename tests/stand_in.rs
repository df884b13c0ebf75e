//! The stand-in for the tutorial's node, tested by itself: who trusts a test must be able to trust what it tests against.

mod support;

use std::net::TcpStream;
use std::time::Duration;

use support::js::Js;
use support::tutorial::{self, Coin, MAX_MESSAGE_BYTES, Options, QUERY_ALL, QUERY_LAST, RESPONSE_BLOCK, TutorialPeer};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

const SOON: Duration = Duration::from_secs(20);

fn peer() -> TutorialPeer {
    TutorialPeer::start(Options::default())
}

/// A link of our own to a stand-in, past its opening QUERY_LAST.
fn link(peer: &TutorialPeer) -> WebSocket<MaybeTlsStream<TcpStream>> {
    let (mut link, _) = tungstenite::connect(peer.url()).expect("the stand-in listens");
    if let MaybeTlsStream::Plain(socket) = link.get_ref() {
        socket.set_read_timeout(Some(SOON)).expect("a timeout above zero");
    }
    assert_eq!(read(&mut link), r#"{"type":0,"data":null}"#);
    link
}

fn read(link: &mut WebSocket<MaybeTlsStream<TcpStream>>) -> String {
    match link.read().expect("a message in time") {
        Message::Text(text) => text.to_string(),
        other => panic!("the tutorial sends text, not {other:?}"),
    }
}

fn send(link: &mut WebSocket<MaybeTlsStream<TcpStream>>, text: &str) {
    link.send(Message::text(text)).expect("the link is open");
}

#[test]
fn its_hashes_and_roots_are_the_original_librarys() {
    let vectors = Js::parse(include_str!("vectors/tutorial-chain.json")).expect("JSON");
    let list = |name| vectors.get(name).and_then(Js::elements).expect("a list");
    for vector in list("merkle") {
        let body = vector.get("body").and_then(Js::elements).expect("a body");
        assert_eq!(vector.get("root").and_then(Js::text), Some(&*tutorial::merkle_root(body)));
    }
    for vector in list("chain") {
        let block = vector.get("block").expect("a block");
        assert_eq!(vector.get("hash").and_then(Js::text), Some(&*tutorial::hash(block)));
        assert_eq!(vector.get("json").and_then(Js::text), Some(&*block.stringify()));
    }
    for vector in list("headers") {
        assert_eq!(vector.get("hash").and_then(Js::text), Some(&*tutorial::hash(vector)));
    }
}

#[test]
fn it_starts_with_genesis_and_answers_queries() {
    let peer = peer();
    let genesis = r#"[{"header":{"version":"1.0.0","index":0,"previousHash":"0000000000000000000000000000000000000000000000000000000000000000","time":1630907567,"merkleRoot":"725C20214587B0DCD5FBF0DCA637904A97A142E89F4A06F55F6B191E333F6B1C"},"body":["hello block"]}]"#;
    assert_eq!(peer.chain().text(), genesis);
    assert_eq!(peer.tip(), (0, "f087ad9b4600afd1c6451654a7df0f0f20795c95825c097a25469b7cf5287feb".to_owned()));

    let mut link = link(&peer);
    let answer = |data: &str| Js::Object(vec![("type".into(), 2.into()), ("data".into(), data.into())]).stringify();
    send(&mut link, r#"{"type":0,"data":null}"#);
    assert_eq!(read(&mut link), answer(genesis));
    let mined = peer.mine(&["Hello"]);
    assert_eq!(read(&mut link), answer(&format!("[{mined}]")), "a mined block is told to all links");
    send(&mut link, r#"{"type":1,"data":null}"#);
    assert_eq!(read(&mut link), answer(&peer.chain().text()));
    assert_eq!((peer.received(QUERY_LAST), peer.received(QUERY_ALL)), (1, 1));
    assert_eq!((peer.sent(QUERY_LAST), peer.sent(RESPONSE_BLOCK)), (1, 3));
    peer.assert_alive();
}

#[test]
fn two_agree_on_the_longer_chain_and_follow_each_other() {
    let (long, short) = (peer(), peer());
    long.mine(&["1"]);
    long.mine(&["2", "two"]);
    short.mine(&["lost"]);
    short.dial(long.port());
    short.wait_for("the longer chain", SOON, |chain| *chain == long.chain());
    assert!(!short.chain().contains("lost") && short.chain().contains("two"));
    short.mine(&["3"]);
    long.wait_for("the next block", SOON, |chain| *chain == short.chain());
    assert_eq!((long.links(), short.links()), (1, 1));
    assert_eq!(long.tip().0, 3);
    long.assert_alive();
    short.assert_alive();
}

#[test]
fn a_fair_coin_loses_now_and_then_and_the_same_seed_tosses_the_same() {
    let long = peer();
    long.mine_quietly(2);
    let outcome = |seed| {
        let short = TutorialPeer::start(Options { seed, coin: Coin::Fair });
        let mut link = link(&short);
        let chain = Js::Object(vec![("type".into(), 2.into()), ("data".into(), long.chain().text().as_str().into())]);
        send(&mut link, &chain.stringify());
        short.wait_received(RESPONSE_BLOCK, 1, SOON);
        short.tip().0 == 2
    };
    let first: Vec<bool> = (0..16).map(outcome).collect();
    let second: Vec<bool> = (0..16).map(outcome).collect();
    assert_eq!(first, second);
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
}

#[test]
fn it_asks_for_all_when_a_single_block_does_not_connect_and_refuses_what_is_not_valid() {
    let peer = peer();
    let mut link = link(&peer);
    let blocks = |blocks: Vec<Js>| {
        let data = Js::String(Js::Array(blocks).stringify());
        Js::Object(vec![("type".into(), 2.into()), ("data".into(), data)]).stringify()
    };
    let zeros = "0".repeat(64);
    send(&mut link, &blocks(vec![tutorial::block("1.0.0", 7, &zeros, 1, vec!["far".into()])]));
    assert_eq!(read(&mut link), r#"{"type":1,"data":null}"#);

    let genesis = peer.chain().last().clone();
    let next = tutorial::block("1.0.0", 1, &tutorial::hash(&genesis), 1, vec!["x".into()]);
    let spoiled = Js::parse(&next.stringify().replace("\"x\"", "\"y\"")).expect("JSON");
    send(&mut link, &blocks(vec![spoiled.clone()]));
    let reordered = genesis.stringify().replace(r#""version":"1.0.0","index":0"#, r#""index":0,"version":"1.0.0""#);
    let after = tutorial::block("1.0.0", 2, &tutorial::hash(&next), 1, vec!["z".into()]);
    send(&mut link, &blocks(vec![genesis.clone(), spoiled, after.clone()]));
    send(&mut link, &blocks(vec![Js::parse(&reordered).expect("JSON"), next.clone(), after.clone()]));
    send(&mut link, r#"{"type":16,"data":{"anything":1}}"#);
    send(&mut link, r#"{"no":"type"}"#);
    peer.wait_received(16, 1, SOON);
    assert_eq!(peer.tip().0, 0, "a wrong root and a genesis with other key order are refused");

    send(&mut link, &blocks(vec![genesis, next, after]));
    peer.wait_for("the valid chain", SOON, |chain| chain.tip().0 == 2);
    peer.assert_alive();
}

#[test]
fn it_crashes_where_the_original_does() {
    let cases = [
        ("a binary frame", Message::binary(&b"{\"type\":0,\"data\":null}"[..])),
        ("no JSON", Message::text("hello")),
        ("an empty text", Message::text("")),
        ("null", Message::text("null")),
        ("an empty block array", Message::text(r#"{"type":2,"data":"[]"}"#)),
        ("null data", Message::text(r#"{"type":2,"data":null}"#)),
        ("no data", Message::text(r#"{"type":2}"#)),
        ("a block without a header", Message::text(r#"{"type":2,"data":"[{}]"}"#)),
    ];
    for (case, message) in cases {
        let peer = peer();
        let mut link = link(&peer);
        link.send(message).expect("the link is open");
        let reason = peer.wait_crash(SOON);
        assert!(!reason.is_empty(), "{case}");
        assert_eq!(peer.links(), 0, "{case}: everything is closed");
        assert!(link.read().is_err(), "{case}: the link is gone");
        assert!(peer.try_dial(peer.port()).is_err(), "{case}: nobody listens");
    }
}

#[test]
fn a_message_beyond_what_ws_accepts_breaks_the_link_and_nothing_else() {
    let peer = peer();
    let mut link = link(&peer);
    // Only the frame's header: text, masked, with a length of its own in eight bytes.
    let mut frame = vec![0x81, 0xff];
    frame.extend((MAX_MESSAGE_BYTES as u64 + 1).to_be_bytes());
    frame.extend([0; 4]);
    std::io::Write::write_all(link.get_mut(), &frame).expect("the link is open");
    peer.wait_links(0, SOON);
    assert_eq!(peer.oversize(), 1);
    peer.assert_alive();
    self::link(&peer);
}

#[test]
fn links_can_be_cut_and_opened_again() {
    let (one, two) = (peer(), peer());
    one.dial(two.port());
    two.wait_links(1, SOON);
    one.disconnect_all();
    two.wait_links(0, SOON);
    one.mine(&["while apart"]);
    two.dial(one.port());
    two.wait_for("what was mined while apart", SOON, |chain| *chain == one.chain());
    one.stop();
    two.wait_links(0, SOON);
    two.assert_alive();
}
