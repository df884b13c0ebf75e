//! HELLO: its fields one by one, good and bad, in a frame that is otherwise right.
#![no_main]

use arbitrary::Arbitrary;
use dolmen::peer::message::{Text, hello, parse};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Fields<'a> {
    protocol: u64,
    node: Hex<'a>,
    nonce: Hex<'a>,
    genesis: Hex<'a>,
    port: u64,
    index: u64,
    hash: Hex<'a>,
    agent: &'a str,
    more: Option<&'a str>,
}

#[derive(Debug, Arbitrary)]
enum Hex<'a> {
    Good(u8),
    Any(&'a str),
}

impl Hex<'_> {
    fn text(&self, width: usize) -> String {
        match self {
            Self::Good(digit) => format!("{:x}", digit % 16).repeat(width),
            Self::Any(text) => (*text).to_owned(),
        }
    }
}

fuzz_target!(|fields: Fields<'_>| {
    let quote = |text: &str| serde_json::to_string(text).expect("a string");
    let Fields { protocol, node, nonce, genesis, port, index, hash, agent, more } = &fields;
    let frame = format!(
        r#"{{"type":16,"data":{{"protocol":{protocol},"node":{},"nonce":{},"genesis":{},"port":{port},"tip":{{"index":{index},"hash":{}}},"agent":{}{}}}}}"#,
        quote(&node.text(32)),
        quote(&nonce.text(16)),
        quote(&genesis.text(64)),
        quote(&hash.text(64)),
        quote(agent),
        more.map(|more| format!(",{}:0", quote(more))).unwrap_or_default(),
    );
    let good = |hex: &Hex<'_>, width| {
        let text = hex.text(width);
        text.len() == width && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    let fields_twice =
        more.is_some_and(|more| ["protocol", "node", "nonce", "genesis", "port", "tip", "agent"].contains(&more));
    let wanted = *protocol <= u32::MAX.into()
        && good(node, 32)
        && good(nonce, 16)
        && good(genesis, 64)
        && *port <= u16::MAX.into()
        && *index < 1 << 53
        && good(hash, 64)
        && !fields_twice;
    match parse(&frame) {
        Ok(Text::Hello(read)) => {
            assert!(wanted, "{frame} is taken");
            assert!(read.agent.chars().count() <= 64 && !read.agent.contains(char::is_control));
            assert_eq!(parse(&hello(&read)), Ok(Text::Hello(read)));
        }
        Ok(other) => panic!("{frame} is read as {other:?}"),
        Err(error) => assert!(!wanted, "{frame} is refused: {error}"),
    }
});
