//! A native frame of any kind, from bytes.
#![no_main]

use dolmen::NOW;
use dolmen::ledger::rules::{check_alone, check_run};
use dolmen::peer::limits::{MAX_ADDRESSES, MAX_LOCATOR};
use dolmen::peer::native::{Frame, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(frame) = decode(bytes, NOW) else { return };
    match &frame {
        Frame::Push(run) | Frame::Batch(run) => {
            assert_eq!(check_run(run.blocks.iter().map(AsRef::as_ref), run.after), Ok(run.tip()));
            for block in &run.blocks {
                assert_eq!(check_alone(block.block().clone(), NOW).as_ref(), Ok(&**block));
            }
        }
        Frame::Locate(places) => assert!(places.len() <= MAX_LOCATOR),
        Frame::Addresses(list) => assert!(list.len() <= MAX_ADDRESSES),
        Frame::Tip(_) | Frame::Located { .. } | Frame::Fetch { .. } | Frame::More { .. } | Frame::Gone => {}
    }
    assert_eq!(decode(&encode(&frame), NOW), Ok(frame));
});
