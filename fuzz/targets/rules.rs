//! Merkle tree, block hash and acceptance rules, against a second implementation: blocks that are nearly right.
#![no_main]

use arbitrary::Arbitrary;
use dolmen::NOW;
use dolmen::ledger::rules::{check_alone, check_body};
use dolmen::ledger::{json, merkle};
use dolmen::second::{self, Plain};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    version: Option<&'a str>,
    index: u64,
    parent: u8,
    /// Seconds before or after the latest allowed time.
    time: i32,
    body: Vec<Entry<'a>>,
    spoil: Spoil,
}

#[derive(Debug, Arbitrary)]
enum Entry<'a> {
    Text(&'a str),
    /// The digest of an entry, as the tree holds it: once, or two of them side by side.
    Digest(&'a str),
    TwoDigests(&'a str, &'a str),
    /// So many characters.
    Long(u32),
}

#[derive(Debug, Arbitrary)]
enum Spoil {
    Not,
    Root(u8),
    Swap(u8, u8),
    Repeat,
    Drop(u8),
}

impl Entry<'_> {
    fn text(&self) -> String {
        let digest = |text: &str| second::root(&[text.to_owned()]);
        match self {
            Self::Text(text) => (*text).to_owned(),
            Self::Digest(text) => digest(text),
            Self::TwoDigests(a, b) => digest(a) + &digest(b),
            // Rare, since it takes long.
            Self::Long(count) if count % 512 == 7 => "x".repeat(65_530 + *count as usize / 512 % 12),
            Self::Long(count) => "x".repeat(*count as usize % 200),
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let mut body: Vec<String> = input.body.iter().take(20).map(Entry::text).collect();
    let mut root = if body.is_empty() { "0".repeat(64) } else { second::root(&body) };
    if let Spoil::Root(digit) = input.spoil {
        let at = digit as usize % 64;
        root.replace_range(at..=at, "7");
    }
    match input.spoil {
        Spoil::Swap(a, b) if !body.is_empty() => {
            let count = body.len();
            body.swap(a as usize % count, b as usize % count);
        }
        Spoil::Repeat => body.extend(body.last().cloned()),
        Spoil::Drop(at) if !body.is_empty() => drop(body.remove(at as usize % body.len())),
        _ => {}
    }
    let plain = Plain {
        version: input.version.unwrap_or("1.0.0").to_owned(),
        index: input.index,
        previous_hash: format!("{:x}", input.parent % 16).repeat(64),
        time: (NOW.0 + 7200).saturating_add_signed(input.time.into()),
        merkle_root: root,
        body,
    };
    let text = second::write(&plain);
    let shaped = second::json(&text).as_ref().and_then(second::block);
    let block = match json::parse_block(&text) {
        Ok(block) => block,
        Err(error) => {
            assert_eq!(shaped, None, "{error}");
            return;
        }
    };
    assert_eq!(shaped.as_ref(), Some(&plain));
    assert_eq!(json::to_string(&block), text);
    assert_eq!(
        merkle::root(&block.body).map(|root| root.to_string()),
        (!plain.body.is_empty()).then(|| second::root(&plain.body))
    );
    let body_judged = check_body(&block.body);
    match check_alone(block.clone(), NOW) {
        Ok(checked) => {
            assert!(second::is_good(&plain, NOW.0), "{plain:?} is taken");
            assert_eq!(body_judged, Ok(()));
            assert_eq!(checked.hash().to_string(), second::hash(&plain));
        }
        Err(error) => assert!(!second::is_good(&plain, NOW.0), "{plain:?} is refused: {error}"),
    }
});
