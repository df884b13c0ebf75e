//! A stream of frames whose long ones are cut: the same frames otherwise, the same payloads, and it does not matter in which
//! pieces the stream came.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use dolmen::peer::assembly::{Splitter, announced};
use libfuzzer_sys::fuzz_target;

/// The longest payload of a frame with data that comes out.
const PART: usize = 16 * 1024;

#[derive(Debug, Arbitrary)]
struct Input {
    frames: Vec<Planned>,
    /// What follows them, which may be no frame at all.
    rest: Vec<u8>,
    /// Bytes of each piece of the stream, in turn.
    pieces: Vec<u16>,
    /// The second way in which the same stream is cut into pieces.
    others: Vec<u16>,
    /// Bytes that are missing at the end.
    missing: u8,
}

#[derive(Debug, Arbitrary)]
struct Planned {
    first: u8,
    mask: Option<[u8; 4]>,
    /// Bytes of the payload: few, or so many KiB, at most three parts, and some more.
    long: (u8, u8),
    /// Whether the length is written with more bytes than it needs.
    wide: bool,
    seed: u8,
}

/// A frame as it stands in a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Frame {
    first: u8,
    mask: Option<[u8; 4]>,
    payload: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let mut stream = Vec::new();
    for planned in input.frames.iter().take(4) {
        planned.put(&mut stream);
    }
    stream.extend_from_slice(&input.rest);
    stream.truncate(stream.len().saturating_sub(input.missing.into()));

    let (out, ends) = split(&stream, &input.pieces);
    let (again, ends_again) = split(&stream, &input.others);
    assert!((&out, ends) == (&again, ends_again), "the pieces of the stream matter");

    let (came, _) = frames(&stream);
    let (went, left) = frames(&out);
    assert_eq!(ends, went.len(), "frames that were counted");
    let wanted: Vec<Frame> = came.iter().flat_map(Frame::cut).collect();
    // Of a frame that is not whole, whole parts may have come.
    let (whole, parts) = went.split_at_checked(wanted.len()).expect("every whole frame comes out");
    assert!(whole == wanted, "other frames come out");
    assert!(parts.iter().all(|part| part.payload.len() == PART && part.first & 0x80 == 0));
    if let Some((header, payload)) = announced(left) {
        assert!(left.len() - header < usize::try_from(payload).unwrap_or(usize::MAX));
    }
});

/// What a stream in such pieces becomes, and how many frames have come to their end.
fn split(stream: &[u8], pieces: &[u16]) -> (Vec<u8>, usize) {
    let mut splitter = Splitter::default();
    let (mut out, mut ends) = (Vec::new(), 0);
    let (mut rest, mut pieces) = (stream, pieces.iter().cycle());
    while !rest.is_empty() {
        let count = pieces.next().map_or(rest.len(), |count| usize::from(*count).max(1)).min(rest.len());
        let (piece, after) = rest.split_at(count);
        out.extend_from_slice(&splitter.split(Bytes::copy_from_slice(piece)));
        ends += splitter.take_frames();
        rest = after;
    }
    (out, ends)
}

/// The whole frames of a stream, and what follows them.
fn frames(mut stream: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((header, payload)) = announced(stream) {
        let Some(end) = usize::try_from(payload).ok().and_then(|payload| header.checked_add(payload)) else { break };
        let Some((frame, rest)) = stream.split_at_checked(end) else { break };
        let mask: Option<[u8; 4]> =
            (frame[1] & 0x80 != 0).then(|| frame[header - 4..header].try_into().expect("four bytes"));
        let mut payload = frame[header..].to_vec();
        if let Some(mask) = mask {
            payload.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= mask[at % 4]);
        }
        frames.push(Frame { first: frame[0], mask, payload });
        stream = rest;
    }
    (frames, stream)
}

impl Planned {
    fn put(&self, stream: &mut Vec<u8>) {
        let length = usize::from(self.long.0.saturating_sub(200) % 48) * 1024 + usize::from(self.long.1);
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        stream.push(self.first);
        match (u16::try_from(length), u8::try_from(length)) {
            (_, Ok(short)) if short < 126 && !self.wide => stream.push(masked | short),
            (Ok(length), _) if !self.wide => {
                stream.push(masked | 126);
                stream.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                stream.push(masked | 127);
                stream.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        stream.extend(self.mask.iter().flatten());
        let pattern: Vec<u8> = (0..=u8::MAX).map(|at| at.wrapping_mul(self.seed)).collect();
        (0..length / 256).for_each(|_| stream.extend_from_slice(&pattern));
        stream.extend_from_slice(&pattern[..length % 256]);
    }
}

impl Frame {
    /// The frames that it becomes.
    fn cut(&self) -> Vec<Self> {
        if self.mask.is_none() || self.first & 0x7f > 2 || self.payload.len() <= PART {
            return vec![self.clone()];
        }
        let count = self.payload.len().div_ceil(PART);
        let part = |(at, payload): (usize, &[u8])| {
            let fin = if at + 1 == count { self.first & 0x80 } else { 0 };
            let opcode = if at == 0 { self.first & 0x7f } else { 0 };
            Self { first: fin | opcode, mask: self.mask, payload: payload.to_vec() }
        };
        self.payload.chunks(PART).enumerate().map(part).collect()
    }
}
