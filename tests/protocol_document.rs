//! The examples of `docs/protocol.md` are what this program says: whoever writes another node from that page alone can check
//! it by them. They were made by another program, which was written from the page.

use dolmen::ledger::block::UnixTime;
use dolmen::ledger::{Block, Height, Tip, genesis, json};
use dolmen::peer::message::{Challenge, Hello, NodeId, Nonce};
use dolmen::peer::native::{self, Blocks, Frame};
use dolmen::peer::proof::{ClusterKey, Handshake, Role, Step};

const PAGE: &str = include_str!("../docs/protocol.md");

/// The only line of the page in a table whose first cell is this; its second cell without the marks of code.
fn cell(name: &str) -> &'static str {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.strip_prefix(name)?.strip_prefix(" | `"));
    let found: Vec<&str> = rows.filter_map(|rest| rest.strip_suffix("` |")).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found[0]
}

/// The block of the page's second example.
fn example() -> Block {
    let blocks: Vec<&str> = PAGE.lines().filter_map(|line| line.strip_prefix("    {\"header\"")).collect();
    assert_eq!(blocks.len(), 2, "genesis and one above it");
    assert_eq!(format!("{{\"header\"{}", blocks[0]), json::to_string(genesis::block().block()));
    let text = format!("{{\"header\"{}", blocks[1]);
    let block = json::parse_block(&text).expect("a block");
    assert_eq!(json::to_string(&block), text);
    block
}

#[test]
fn the_blocks_have_the_hashes_that_the_page_says() {
    let tip = Tip { height: Height(1), hash: example().header.hash() };
    for hash in [genesis::tip().hash, tip.hash] {
        assert!(PAGE.contains(&format!("with the hash `{hash}`")), "{hash}");
    }
}

#[test]
fn the_frames_are_the_bytes_that_the_page_says() {
    let block = example();
    let now = UnixTime(block.header.time.0);
    let tip = Tip { height: Height(1), hash: block.header.hash() };
    let blocks = vec![dolmen::ledger::rules::check_alone(block, now).expect("it keeps the rules").into()];
    for (name, frame) in [
        ("Tip, height 1", Frame::Tip(tip)),
        ("Push of it on genesis", Frame::Push(Blocks { after: genesis::tip(), blocks })),
        ("Locate, at genesis", Frame::Locate(vec![genesis::tip()])),
        ("Located, common genesis", Frame::Located { common: Some(genesis::tip()), tip }),
        ("Fetch from 1, three batches", Frame::Fetch { from: Height(1), upto: tip, batches: 3 }),
        ("More, one batch", Frame::More { batches: 1 }),
        ("Gone", Frame::Gone),
        ("Addresses, one", Frame::Addresses(vec!["ws://10.0.0.2:6005".to_owned()])),
    ] {
        let bytes = cell(name);
        assert_eq!(hex::encode(native::encode(&frame)), bytes, "{name}");
        assert_eq!(native::decode(&hex::decode(bytes).expect("hex"), now).expect("a frame"), frame, "{name}");
    }
}

#[test]
fn the_proofs_are_those_that_the_page_says() {
    let hello = |node: u8, nonce, challenge, port| Hello {
        protocol: 1,
        node: NodeId(u128::from_be_bytes([node; 16])),
        nonce: Nonce(nonce),
        genesis: genesis::tip().hash,
        port,
        tip: genesis::tip(),
        agent: String::new(),
        challenge: Some(Challenge([challenge; 32])),
    };
    let key = || ClusterKey::parse(&"0f".repeat(32)).expect("a key");
    let (dialler, listener) = (hello(0x11, 7, 0xaa, 6006), hello(0x22, 2, 0xbb, 6005));
    let mut dialling = Handshake::new(key(), Role::Dialler, dialler.clone());
    let mut listening = Handshake::new(key(), Role::Listener, listener.clone());
    let Ok(Step::Prove(proof)) = dialling.hello(listener) else { panic!("the dialler proves itself first") };
    assert_eq!(hex::encode(proof.0), cell("dialler"));
    assert_eq!(listening.hello(dialler), Ok(Step::Wait));
    let Ok(Step::Proven { answer: Some(answer), .. }) = listening.proof(&proof) else { panic!("it is good") };
    assert_eq!(hex::encode(answer.0), cell("listener"));
}
