//! The strict reader of blocks, against a second one: both take the same texts and read the same from them.
#![no_main]

use dolmen::ledger::{Block, json};
use dolmen::second::{self, Json, Plain};
use libfuzzer_sys::fuzz_target;

fn plain(block: &Block) -> Plain {
    Plain {
        version: block.header.version.as_str().to_owned(),
        index: block.header.index.0,
        previous_hash: block.header.previous_hash.to_string(),
        time: block.header.time.0,
        merkle_root: block.header.merkle_root.to_string(),
        body: block.body.clone(),
    }
}

fuzz_target!(|text: &str| {
    let second = second::json(text);
    let wanted = second.as_ref().and_then(second::block);
    let got = json::parse_block(text);
    assert_eq!(got.as_ref().ok().map(plain), wanted, "{got:?}");
    if let Ok(block) = &got {
        let written = json::to_string(block);
        assert_eq!(written, second::write(&plain(block)));
        assert_eq!(json::parse_block(&written).as_ref(), Ok(block));
    }
    let wanted_list = match &second {
        Some(Json::List(list)) => list.iter().map(second::block).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    let list = json::parse_blocks(text);
    assert_eq!(list.as_ref().ok().map(|list| list.iter().map(plain).collect()), wanted_list, "{list:?}");
});
