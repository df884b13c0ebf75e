//! Not of the node: a planted bug behind four bytes that no random input has. Whoever runs the targets runs this one first,
//! and believes the rest only if it crashes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"ston") {
        panic!("the canary was found");
    }
});
