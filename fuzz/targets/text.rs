//! A tutorial message: a text frame.
#![no_main]

use dolmen::peer::message::{self, Text, hello, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(Text::Hello(read)) => assert_eq!(parse(&hello(&read)), Ok(Text::Hello(read)), "HELLO comes back as it was"),
        Ok(Text::Blocks(array)) => {
            assert_eq!(
                parse(&message::response_text(&array)),
                Ok(Text::Blocks(array)),
                "blocks come back as they were"
            );
        }
        Ok(Text::Proof(read)) => {
            assert_eq!(parse(&message::proof(&read)), Ok(Text::Proof(read)), "PROOF comes back as it was");
        }
        Ok(Text::QueryLast | Text::QueryAll | Text::Unknown(_)) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
