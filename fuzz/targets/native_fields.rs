//! Each native frame from its fields (Tip, Push, Locate, Located, Fetch, More, Batch, Gone, Addresses), good or at the
//! limits: what is encoded is read back the same or refused for the right reason, and so is what was spoiled on the way.
#![no_main]

use arbitrary::Arbitrary;
use dolmen::NOW;
use dolmen::ledger::Height;
use dolmen::peer::limits::{MAX_ADDRESSES, MAX_LOCATOR};
use dolmen::peer::native::{Blocks, Frame, FrameError, decode, encode};
use dolmen::tree::{Place, Run};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Fields<'a> {
    Tip(Place),
    Push(Run),
    Locate(Vec<Place>),
    Located(Option<Place>, Place),
    Fetch(u64, Place, u32),
    More(u32),
    Batch(Run),
    Gone,
    Addresses(Vec<&'a str>),
}

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    fields: Fields<'a>,
    spoil: Option<(u16, u8)>,
}

fn run(run: Run) -> Blocks {
    Blocks { after: run.parent(), blocks: run.blocks() }
}

fuzz_target!(|input: Input<'_>| {
    let frame = match input.fields {
        Fields::Tip(place) => Frame::Tip(place.tip()),
        Fields::Push(blocks) => Frame::Push(run(blocks)),
        Fields::Locate(places) => Frame::Locate(places.into_iter().map(Place::tip).collect()),
        Fields::Located(common, tip) => Frame::Located { common: common.map(Place::tip), tip: tip.tip() },
        Fields::Fetch(from, upto, batches) => Frame::Fetch { from: Height(from), upto: upto.tip(), batches },
        Fields::More(batches) => Frame::More { batches },
        Fields::Batch(blocks) => Frame::Batch(run(blocks)),
        Fields::Gone => Frame::Gone,
        Fields::Addresses(list) => Frame::Addresses(list.into_iter().map(str::to_owned).collect()),
    };
    let mut bytes = encode(&frame);
    if let Some((at, with)) = input.spoil {
        let at = at as usize % bytes.len();
        bytes[at] ^= with;
        if let Ok(read) = decode(&bytes, NOW) {
            assert_eq!(decode(&encode(&read), NOW), Ok(read));
        }
        return;
    }
    let beyond = match &frame {
        Frame::Locate(places) => places.len() > MAX_LOCATOR,
        Frame::Addresses(list) => list.len() > MAX_ADDRESSES,
        Frame::Fetch { from, .. } => from.0 >= 1 << 53,
        _ => false,
    };
    match decode(&bytes, NOW) {
        Ok(read) => assert!(!beyond && read == frame),
        Err(FrameError::Bounds(_)) => assert!(beyond),
        Err(error) => panic!("{frame:?} is refused: {error}"),
    }
});
