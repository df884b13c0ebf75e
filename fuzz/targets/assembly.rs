//! Frames to messages: what the assembler joins is what a plain list of parts joins, and it never keeps more than it may;
//! the guard says the same of a stream however it is cut.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use dolmen::peer::assembly::{Assembler, AssemblyError, Guard, Limits, Message, Piece};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    limit: u16,
    later: u16,
    pieces: Vec<(Kind, Vec<u8>)>,
    stream: Vec<u8>,
    cuts: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Kind {
    Text,
    Binary,
    FirstText,
    FirstBinary,
    Continue,
    Last,
}

fuzz_target!(|input: Input| {
    pieces(&input);
    stream(&input);
});

fn pieces(input: &Input) {
    let limit = usize::from(input.limit);
    let mut assembler = Assembler::default();
    // What has begun: whether it is text, and its bytes.
    let mut begun: Option<(bool, Vec<u8>)> = None;
    for (kind, bytes) in &input.pieces {
        let part = Bytes::from(bytes.clone());
        let piece = match kind {
            Kind::Text => Piece::Text(part),
            Kind::Binary => Piece::Binary(part),
            Kind::FirstText => Piece::FirstText(part),
            Kind::FirstBinary => Piece::FirstBinary(part),
            Kind::Continue => Piece::Continue(part),
            Kind::Last => Piece::Last(part),
        };
        let got = assembler.push(piece, limit);
        let begins = !matches!(kind, Kind::Continue | Kind::Last);
        if begins == begun.is_some() {
            assert_eq!(got, Err(AssemblyError::Order));
            return;
        }
        let (text, mut whole) = begun.take().unwrap_or((matches!(kind, Kind::Text | Kind::FirstText), Vec::new()));
        whole.extend_from_slice(bytes);
        if whole.len() > limit {
            assert!(matches!(got, Err(AssemblyError::TooLong { .. })), "{got:?}");
            return;
        }
        if matches!(kind, Kind::FirstText | Kind::FirstBinary | Kind::Continue) {
            assert_eq!(got, Ok(None));
            assert!(assembler.inside());
            begun = Some((text, whole));
            continue;
        }
        assert!(!assembler.inside());
        match (text, String::from_utf8(whole.clone())) {
            (true, Ok(whole)) => assert_eq!(got, Ok(Some(Message::Text(whole.into())))),
            (true, Err(_)) => {
                assert_eq!(got, Err(AssemblyError::NotUtf8));
                return;
            }
            (false, _) => assert_eq!(got, Ok(Some(Message::Binary(whole.into())))),
        }
    }
}

fn stream(input: &Input) {
    let limits = Limits { first: input.limit.into(), later: input.later.into() };
    let mut whole = Guard::default();
    let verdict = whole.check(&input.stream, limits);
    let mut cut = Guard::default();
    let (mut rest, mut cuts) = (&input.stream[..], input.cuts.iter().cycle());
    let mut in_parts = Ok(());
    while !rest.is_empty() && in_parts.is_ok() {
        let count = cuts.next().map_or(1, |count| usize::from(*count).max(1)).min(rest.len());
        let (part, after) = rest.split_at(count);
        in_parts = cut.check(part, limits);
        rest = after;
    }
    assert_eq!(verdict, in_parts);
    assert!(verdict.is_err() || whole.inside() == cut.inside());
}
