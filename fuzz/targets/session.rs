//! What a session does with a peer's bytes, one after the other: frames, messages, judgement, points. The framing of RFC
//! 6455 is read here a second time, so that everything behind the socket's codec is reached from plain bytes.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use dolmen::NOW;
use dolmen::peer::assembly::{Assembler, Guard, Limits, Message, Piece, announced};
use dolmen::peer::conduct::{Conduct, Offence, Verdict};
use dolmen::peer::incoming::{Incoming, read};
use libfuzzer_sys::fuzz_target;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

fuzz_target!(|input: (u16, u16, Vec<u8>)| {
    let (first, later, stream) = input;
    let limits = Limits { first: first.into(), later: later.into() };
    let mut conduct = Conduct::default();
    let offence = links(&stream, limits, &mut conduct);
    if let Some(offence) = offence {
        let before = conduct.points(PEER, NOW.0);
        match conduct.note(PEER, &offence, NOW.0) {
            Verdict::Noted(points) => assert_eq!(points, before + offence.points()),
            Verdict::Banned(until) => assert!(until > NOW.0 && before + offence.points() >= 100),
        }
    }
});

/// Reads the stream; the offence that ended it.
fn links(mut stream: &[u8], limits: Limits, conduct: &mut Conduct) -> Option<Offence> {
    let (mut guard, mut assembler, mut known) = (Guard::default(), Assembler::default(), false);
    if guard.check(stream, limits).is_err() {
        return Some(Offence::Framing);
    }
    while let Some((header, payload)) = announced(stream) {
        let end = usize::try_from(payload).ok().and_then(|payload| header.checked_add(payload))?;
        let body = Bytes::copy_from_slice(stream.get(header..end)?);
        let piece = match stream[0] {
            0x81 => Piece::Text(body),
            0x82 => Piece::Binary(body),
            0x01 => Piece::FirstText(body),
            0x02 => Piece::FirstBinary(body),
            0x00 => Piece::Continue(body),
            0x80 => Piece::Last(body),
            // The codec answers control frames and refuses the rest.
            _ => return Some(Offence::Framing),
        };
        stream = &stream[end..];
        let limit = if known { limits.later } else { limits.first };
        let message = match assembler.push(piece, limit) {
            Ok(None) => continue,
            Ok(Some(message)) => message,
            Err(_) => return Some(Offence::Framing),
        };
        known = true;
        let length = match &message {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) => bytes.len(),
        };
        assert!(length <= limits.first.max(limits.later), "a message longer than any limit");
        match read(message, NOW) {
            Ok(Incoming::Blocks(blocks)) => assert!(!blocks.is_empty()),
            Ok(_) => {}
            Err(error) => {
                let honest = !error.sender_at_fault();
                let offence = Offence::Misread(error);
                assert_eq!(offence.points() == 0, honest);
                if honest {
                    let before = conduct.points(PEER, NOW.0);
                    let _ = conduct.note(PEER, &offence, NOW.0);
                    assert_eq!(conduct.points(PEER, NOW.0), before, "an honest peer is never punished");
                } else {
                    return Some(offence);
                }
            }
        }
    }
    None
}
