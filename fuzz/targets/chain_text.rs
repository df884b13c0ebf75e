//! A RESPONSE_BLOCK: a string that holds an array of blocks, read to the end; and the same message built block by block.
#![no_main]

use dolmen::NOW;
use dolmen::peer::assembly::Message;
use dolmen::peer::chain_text::ChainText;
use dolmen::peer::incoming::{Incoming, read};
use dolmen::peer::message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|array: &str| {
    match read(Message::Text(message::response_text(array).into()), NOW) {
        Ok(Incoming::Blocks(blocks)) => {
            assert!(!blocks.is_empty());
            let mut text = ChainText::default();
            for block in &blocks {
                text.push(block).expect("no longer than what was read");
            }
            let built = String::from_utf8(text.finish().expect("at least one block")).expect("JSON is UTF-8");
            assert_eq!(read(Message::Text(built.into()), NOW), Ok(Incoming::Blocks(blocks)));
        }
        Ok(other) => panic!("RESPONSE_BLOCK is read as {other:?}"),
        Err(error) => drop((error.sender_at_fault(), error.to_string())),
    }
});
