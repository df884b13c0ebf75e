//! From WebSocket frames to whole messages, judging lengths before anything is kept.
//!
//! Owns the [`Guard`] over declared frame lengths, the [`Splitter`] of long frames and the [`Assembler`] of continuation
//! frames. Refuses to know sockets: bytes and frames come in. The limits are arguments, since what a peer may send changes
//! while it is known better.

use bytes::Bytes;
use bytestring::ByteString;
use thiserror::Error;

/// The longest frame header: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// Bytes of a control frame's payload, by RFC 6455.
const MAX_CONTROL: u64 = 125;

/// Why frames give no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AssemblyError {
    /// The message is, or says that it will be, longer than this peer may send now.
    #[error("a message of {got} bytes; {limit} are allowed now")]
    TooLong {
        /// Its length as far as it is known.
        got: u64,
        /// What was allowed.
        limit: usize,
    },
    /// A text message that is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A continuation without a beginning, or a beginning inside a message.
    #[error("frames out of order")]
    Order,
}

/// Length of the header that begins `bytes`, and of the payload that it announces; `None` while the header is incomplete.
#[must_use]
pub fn announced(bytes: &[u8]) -> Option<(usize, u64)> {
    let second = *bytes.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (length_bytes, payload) = match second & 0x7f {
        126 => (2, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (8, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (0, u64::from(short)),
    };
    let header = 2 + length_bytes + mask;
    (bytes.len() >= header).then_some((header, payload))
}

/// Whether a frame that announces this payload may come.
///
/// # Errors
/// [`AssemblyError::TooLong`].
pub fn allow(payload: u64, limit: usize) -> Result<(), AssemblyError> {
    // A control frame is always allowed: the codec judges its length, and a small limit must not stop a ping.
    if payload > (limit as u64).max(MAX_CONTROL) {
        return Err(AssemblyError::TooLong { got: payload, limit });
    }
    Ok(())
}

/// Watches a stream of bytes for frames that announce more than is allowed.
#[derive(Debug, Default)]
pub struct Guard {
    header: Vec<u8>,
    /// Bytes of the current frame's payload that are still to come.
    payload: u64,
    /// Whole messages in one frame that were announced.
    messages: u64,
}

/// Whether a frame's first byte says that it holds a whole message.
#[must_use]
pub fn is_whole_message(first_byte: u8) -> bool {
    matches!(first_byte, 0x81 | 0x82)
}

impl Guard {
    /// Judges the next bytes of the stream.
    ///
    /// # Errors
    /// [`AssemblyError::TooLong`] as soon as a frame's header is complete; the stream is then to be ended.
    pub fn check(&mut self, mut bytes: &[u8], limits: Limits) -> Result<(), AssemblyError> {
        while !bytes.is_empty() {
            if self.payload > 0 {
                // The smaller of the two fits into both types.
                let skip = self.payload.min(bytes.len() as u64);
                self.payload -= skip;
                bytes = &bytes[skip as usize..];
                continue;
            }
            let before = self.header.len();
            self.header.extend_from_slice(&bytes[..bytes.len().min(MAX_HEADER - before)]);
            match announced(&self.header) {
                Some((length, payload)) => {
                    allow(payload, if self.messages == 0 { limits.first } else { limits.later })?;
                    self.messages += u64::from(is_whole_message(self.header[0]));
                    self.header.clear();
                    self.payload = payload;
                    bytes = &bytes[length - before..];
                }
                // Fewer than 14 bytes and no header yet: all of `bytes` was taken.
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether a frame has begun and is not complete.
    #[must_use]
    pub fn inside(&self) -> bool {
        self.payload > 0 || !self.header.is_empty()
    }
}

/// Cuts long frames of messages into short ones that say the same: a frame and some that continue it.
///
/// The codec behind it collects a frame in a buffer that it keeps, and the largest frame so far would stay in memory for as
/// long as the link does, uncounted. What is cut is joined by the [`Assembler`], whose buffer is counted and given up.
#[derive(Debug, Default)]
pub struct Splitter {
    /// What has come of a frame's header that is not complete.
    header: Vec<u8>,
    /// The first byte of the frame that is being cut.
    first: u8,
    mask: [u8; 4],
    /// Bytes of the frame's payload that are still to come after the current part.
    left: u64,
    /// Bytes of the current part that are still to come.
    part: u64,
    /// Of the current part, the ones that have come.
    come: u64,
    /// Frames that have come to their end since [`Splitter::take_frames`].
    frames: usize,
}

/// Bytes of a part of a frame that was cut: a multiple of four, so that the mask of the whole goes on in each.
const PART: u64 = 16 * 1024;

impl Splitter {
    /// The same stream with no long frame in it. The bytes of a header are held back until it is complete.
    pub fn split(&mut self, bytes: Bytes) -> Bytes {
        let mut out = Vec::new();
        // All before `at` was looked at, and all before `told` is in `out`, unless nothing had to be changed so far.
        let (mut at, mut told) = (0, 0);
        while at < bytes.len() {
            if self.part > 0 {
                // The smaller of the two fits into both types.
                let some = self.part.min((bytes.len() - at) as u64);
                self.part -= some;
                self.come += some;
                self.frames += usize::from(self.part == 0);
                at += some as usize;
                continue;
            }
            if self.left > 0 {
                out.extend_from_slice(&bytes[told..at]);
                told = at;
                self.next_part(0, &mut out);
                continue;
            }
            let before = self.header.len();
            self.header.extend_from_slice(&bytes[at..bytes.len().min(at + MAX_HEADER - before)]);
            let Some((length, payload)) = announced(&self.header) else {
                // Fewer than 14 bytes and no header yet: all the rest was taken.
                out.extend_from_slice(&bytes[told..at]);
                return out.into();
            };
            let long = payload > PART && is_masked_data(&self.header);
            if long || before > 0 {
                out.extend_from_slice(&bytes[told..at]);
                told = at + length - before;
            }
            at += length - before;
            if long {
                self.first = self.header[0];
                self.mask.copy_from_slice(&self.header[length - 4..length]);
                self.left = payload;
                self.next_part(self.first & !FIN, &mut out);
            } else {
                if before > 0 {
                    out.extend_from_slice(&self.header[..length]);
                }
                (self.part, self.come) = (payload, 0);
                self.frames += usize::from(payload == 0);
            }
            self.header.clear();
        }
        if told == 0 && out.is_empty() {
            return bytes;
        }
        out.extend_from_slice(&bytes[told..]);
        out.into()
    }

    /// Begins a part of the frame that is being cut; `opcode` is that of a continuation unless it is the first.
    fn next_part(&mut self, opcode: u8, out: &mut Vec<u8>) {
        self.part = self.left.min(PART);
        self.left -= self.part;
        self.come = 0;
        let fin = if self.left == 0 { self.first & FIN } else { 0 };
        out.extend_from_slice(&[fin | opcode, MASKED | 126]);
        // A part is below 2^16.
        out.extend_from_slice(&(self.part as u16).to_be_bytes());
        out.extend_from_slice(&self.mask);
    }

    /// Frames that have come to their end since this was asked last.
    pub fn take_frames(&mut self) -> usize {
        std::mem::take(&mut self.frames)
    }

    /// Bytes that have come of a frame that is not complete.
    #[must_use]
    pub fn held(&self) -> usize {
        // What has come is in memory, so its length fits.
        if self.part > 0 { self.come as usize } else { 0 }
    }
}

/// The bit of a header's first byte that says that a message ends with the frame.
const FIN: u8 = 0x80;

/// The bit of a header's second byte that says that the payload is masked.
const MASKED: u8 = 0x80;

/// Whether a header is that of a frame that carries a message or a part of one, with nothing about it that the codec refuses.
fn is_masked_data(header: &[u8]) -> bool {
    header[0] & !FIN <= 2 && header[1] & MASKED != 0
}

/// How long messages may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The first, before anything is known of the peer.
    pub first: usize,
    /// Every other.
    pub later: usize,
}

/// A frame that carries a message or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// A whole text message.
    Text(Bytes),
    /// A whole binary message.
    Binary(Bytes),
    /// The beginning of a text message.
    FirstText(Bytes),
    /// The beginning of a binary message.
    FirstBinary(Bytes),
    /// A further part.
    Continue(Bytes),
    /// The last part.
    Last(Bytes),
}

impl Piece {
    /// Bytes of its payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(bytes)
            | Self::Binary(bytes)
            | Self::FirstText(bytes)
            | Self::FirstBinary(bytes)
            | Self::Continue(bytes)
            | Self::Last(bytes) => bytes.len(),
        }
    }
}

/// A whole message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Text; not copied, since it can be a whole chain.
    Text(ByteString),
    /// Bytes.
    Binary(Bytes),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Text,
    Binary,
}

/// A message that has begun and is not complete.
#[derive(Debug)]
struct Begun {
    kind: Kind,
    /// What has come, in pieces of [`BLOCK`]: one that grew as a whole would be moved again and again, and leave holes in the
    /// memory that are larger than all that is counted.
    blocks: Vec<Vec<u8>>,
    /// Bytes that have come.
    length: usize,
}

/// Bytes that are kept together of a message that is not complete.
const BLOCK: usize = 64 * 1024;

impl Begun {
    fn extend(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len();
        while !bytes.is_empty() {
            if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
                // The first grows, since most messages are short.
                let room = if self.blocks.is_empty() { 0 } else { BLOCK };
                self.blocks.push(Vec::with_capacity(room));
            }
            // There is one that is not full.
            let Some(block) = self.blocks.last_mut() else { return };
            let (some, rest) = bytes.split_at(bytes.len().min(BLOCK - block.len()));
            block.extend_from_slice(some);
            bytes = rest;
        }
    }

    /// All of it as one.
    fn whole(mut self) -> Vec<u8> {
        if self.blocks.len() == 1 {
            return self.blocks.pop().unwrap_or_default();
        }
        let mut whole = Vec::with_capacity(self.length);
        // Each is given up once it was copied.
        self.blocks.into_iter().for_each(|block| whole.extend_from_slice(&block));
        whole
    }
}

/// Joins the parts of messages.
#[derive(Debug, Default)]
pub struct Assembler {
    begun: Option<Begun>,
}

impl Assembler {
    /// Takes the next frame; answers with a message when it is whole.
    ///
    /// # Errors
    /// The message is too long, out of order or not text; the link is then to be ended.
    pub fn push(&mut self, piece: Piece, limit: usize) -> Result<Option<Message>, AssemblyError> {
        match piece {
            Piece::Text(bytes) => self.whole(Kind::Text, bytes, limit).map(Some),
            Piece::Binary(bytes) => self.whole(Kind::Binary, bytes, limit).map(Some),
            Piece::FirstText(bytes) => self.begin(Kind::Text, &bytes, limit).map(|()| None),
            Piece::FirstBinary(bytes) => self.begin(Kind::Binary, &bytes, limit).map(|()| None),
            Piece::Continue(bytes) => self.go_on(&bytes, limit).map(|()| None),
            Piece::Last(bytes) => {
                self.go_on(&bytes, limit)?;
                let begun = self.begun.take().ok_or(AssemblyError::Order)?;
                message(begun.kind, begun.whole().into()).map(Some)
            }
        }
    }

    /// Whether a message has begun and is not complete.
    #[must_use]
    pub fn inside(&self) -> bool {
        self.begun.is_some()
    }

    /// Bytes of a message that has begun and is not complete.
    #[must_use]
    pub fn held(&self) -> usize {
        self.begun.as_ref().map_or(0, |begun| begun.length)
    }

    fn whole(&mut self, kind: Kind, bytes: Bytes, limit: usize) -> Result<Message, AssemblyError> {
        if self.begun.is_some() {
            return Err(AssemblyError::Order);
        }
        fits(bytes.len(), limit)?;
        message(kind, bytes)
    }

    fn begin(&mut self, kind: Kind, bytes: &[u8], limit: usize) -> Result<(), AssemblyError> {
        if self.begun.is_some() {
            return Err(AssemblyError::Order);
        }
        fits(bytes.len(), limit)?;
        let begun = self.begun.insert(Begun { kind, blocks: Vec::new(), length: 0 });
        begun.extend(bytes);
        Ok(())
    }

    fn go_on(&mut self, bytes: &[u8], limit: usize) -> Result<(), AssemblyError> {
        let begun = self.begun.as_mut().ok_or(AssemblyError::Order)?;
        fits(begun.length + bytes.len(), limit)?;
        begun.extend(bytes);
        Ok(())
    }
}

fn fits(got: usize, limit: usize) -> Result<(), AssemblyError> {
    if got > limit { Err(AssemblyError::TooLong { got: got as u64, limit }) } else { Ok(()) }
}

fn message(kind: Kind, bytes: Bytes) -> Result<Message, AssemblyError> {
    match kind {
        Kind::Binary => Ok(Message::Binary(bytes)),
        Kind::Text => ByteString::try_from(bytes).map(Message::Text).map_err(|_| AssemblyError::NotUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(limit: usize) -> Limits {
        Limits { first: limit, later: limit }
    }

    #[test]
    fn only_the_first_message_is_held_to_the_first_limit() {
        let limits = Limits { first: 10, later: 1000 };
        let stream: Vec<u8> = [10, 1000].into_iter().flat_map(frame).collect();
        for chunk in [1, 5, stream.len()] {
            let mut guard = Guard::default();
            assert!(stream.chunks(chunk).all(|bytes| guard.check(bytes, limits).is_ok()), "chunks of {chunk}");
        }
        let too_long = Err(AssemblyError::TooLong { got: 200, limit: 10 });
        assert_eq!(Guard::default().check(&frame(200), limits), too_long);
    }

    /// A masked client frame.
    fn frame(payload: usize) -> Vec<u8> {
        let mut bytes = vec![0x82];
        match payload {
            0..=125 => bytes.push(0x80 | payload as u8),
            126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.extend((0..payload).map(|place| (place % 251) as u8));
        bytes
    }

    #[test]
    fn the_guard_finds_the_long_frame_in_every_chunk_size() {
        let stream: Vec<u8> = [0, 1, 125, 126, 300, 70_000, 70_001].into_iter().flat_map(frame).collect();
        for chunk in [1, 2, 3, 7, 13, 14, 15, 64, 1000, stream.len()] {
            let mut guard = Guard::default();
            let verdicts: Vec<_> = stream.chunks(chunk).map(|bytes| guard.check(bytes, same(70_000))).collect();
            let bad = verdicts.iter().position(Result::is_err).expect("the last frame is too long");
            assert_eq!(verdicts[bad], Err(AssemblyError::TooLong { got: 70_001, limit: 70_000 }), "chunks of {chunk}");
            let header_end = stream.len() - 70_001;
            assert_eq!(bad, (header_end - 1) / chunk, "chunks of {chunk}: as soon as the header is complete");
            let mut guard = Guard::default();
            assert!(stream.chunks(chunk).all(|bytes| guard.check(bytes, same(70_001)).is_ok()));
            assert!(!guard.inside());
        }
    }

    /// The frames of a stream: first byte and unmasked payload of each.
    fn frames(mut stream: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((header, payload)) = announced(stream) {
            let (mask, rest) = (&stream[header - 4..header], &stream[header..]);
            let payload = rest[..payload as usize].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            let payload: Vec<u8> = payload.collect();
            frames.push((stream[0], payload));
            stream = &rest[frames[frames.len() - 1].1.len()..];
        }
        assert!(stream.is_empty(), "whole frames");
        frames
    }

    #[test]
    fn long_frames_are_cut_and_say_the_same_in_every_chunk_size() {
        let part = PART as usize;
        let lengths = [0, 1, 126, part, part + 1, 70_000, 3 * part, 3 * part + 5, 7];
        // Payloads that differ in each place, so that a mask out of step shows.
        let stream: Vec<u8> = lengths.into_iter().flat_map(frame).collect();
        let whole = frames(&stream);
        for chunk in [1, 2, 3, 13, 14, 15, 1_000, 40_000, stream.len()] {
            let mut splitter = Splitter::default();
            let mut cut = Vec::new();
            for bytes in stream.chunks(chunk) {
                cut.extend_from_slice(&splitter.split(Bytes::copy_from_slice(bytes)));
                assert!(splitter.held() < part);
            }
            let cut = frames(&cut);
            assert_eq!((splitter.take_frames(), splitter.take_frames(), splitter.held()), (cut.len(), 0, 0));
            assert!(cut.iter().all(|(_, payload)| payload.len() <= part), "chunks of {chunk}");
            let mut joined: Vec<(u8, Vec<u8>)> = Vec::new();
            for (first, payload) in cut {
                match joined.last_mut().filter(|_| first & !FIN == 0) {
                    None => joined.push((first, payload)),
                    Some((begun, before)) => {
                        *begun |= first & FIN;
                        before.extend(payload);
                    }
                }
            }
            assert_eq!(joined, whole, "chunks of {chunk}");
        }
    }

    #[test]
    fn what_is_short_or_no_part_of_a_message_passes_as_it_is() {
        for frame in [frame(300), frame(PART as usize)] {
            assert_eq!(Splitter::default().split(frame.clone().into()), frame);
        }
        // A long control frame and an unmasked one are the codec's to refuse.
        for (first, second) in [(0x89, 0xff), (0x82, 0x7f)] {
            let mut stream = vec![first, second, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
            stream.extend([7; 100]);
            assert_eq!(Splitter::default().split(stream.clone().into()), stream);
        }
    }

    #[test]
    fn what_is_held_of_a_frame_is_known_in_every_chunk_size() {
        let stream = frame(1_000);
        let header = stream.len() - 1_000;
        for chunk in [1, 7, 100, 1_007] {
            let mut splitter = Splitter::default();
            let mut at = 0;
            for bytes in stream.chunks(chunk) {
                splitter.split(Bytes::copy_from_slice(bytes));
                at += bytes.len();
                let wanted = if at == stream.len() { 0 } else { at.saturating_sub(header) };
                assert_eq!(splitter.held(), wanted, "after {at} bytes in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn a_gibibyte_is_refused_by_its_header_alone() {
        let header = [0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4];
        let wanted = Err(AssemblyError::TooLong { got: 1 << 30, limit: 4096 });
        assert_eq!(Guard::default().check(&header, same(4096)), wanted);
        assert_eq!(announced(&header[..9]), None);
    }

    #[test]
    fn parts_become_one_message_and_their_sum_is_limited() {
        let mut assembler = Assembler::default();
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(assembler.push(Piece::FirstText(bytes("he")), 5), Ok(None));
        assert!(assembler.inside());
        assert_eq!(assembler.push(Piece::Continue(bytes("ll")), 5), Ok(None));
        assert_eq!(assembler.push(Piece::Last(bytes("o")), 5), Ok(Some(Message::Text("hello".into()))));
        assert!(!assembler.inside());
        assert_eq!(assembler.push(Piece::FirstBinary(bytes("1234")), 5), Ok(None));
        let wanted = Err(AssemblyError::TooLong { got: 6, limit: 5 });
        assert_eq!(assembler.push(Piece::Continue(bytes("56")), 5), wanted);
    }

    #[test]
    fn a_long_message_is_joined_of_parts_of_any_length() {
        let whole: Vec<u8> = (0..3 * BLOCK + 7).map(|place| (place % 251) as u8).collect();
        for part in [1_000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3] {
            let mut assembler = Assembler::default();
            let mut parts = whole.chunks(part).map(Bytes::copy_from_slice);
            let first = parts.next().expect("a part");
            assert_eq!(assembler.push(Piece::FirstBinary(first), whole.len()), Ok(None));
            parts.for_each(|part| assert_eq!(assembler.push(Piece::Continue(part), whole.len()), Ok(None)));
            assert_eq!(assembler.held(), whole.len());
            let joined = assembler.push(Piece::Last(Bytes::new()), whole.len());
            assert_eq!(joined, Ok(Some(Message::Binary(whole.clone().into()))), "parts of {part}");
        }
    }

    #[test]
    fn frames_out_of_order_are_refused() {
        let part = || Bytes::from_static(b"x");
        let order = Err(AssemblyError::Order);
        assert_eq!(Assembler::default().push(Piece::Continue(part()), 9), order);
        assert_eq!(Assembler::default().push(Piece::Last(part()), 9), order);
        for second in [Piece::Text(part()), Piece::Binary(part()), Piece::FirstText(part()), Piece::FirstBinary(part())]
        {
            let mut assembler = Assembler::default();
            assert_eq!(assembler.push(Piece::FirstText(part()), 9), Ok(None));
            assert_eq!(assembler.push(second, 9), order);
        }
    }

    #[test]
    fn text_must_be_utf8() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(Piece::Text(Bytes::from_static(b"\xff")), 9), Err(AssemblyError::NotUtf8));
        // A character may be split between frames.
        assert_eq!(assembler.push(Piece::FirstText(Bytes::from_static(b"\xed\x95")), 9), Ok(None));
        assert_eq!(assembler.push(Piece::Last(Bytes::from_static(b"\x9c")), 9), Ok(Some(Message::Text("한".into()))));
    }
}
