//! Reads the statuses of HTTP/2 responses beside the h2 library. h2 drops a response whose headers it finds malformed
//! (for example `Connection`, or names in capitals), but the status decides an attempt, and it comes first (RFC 9113,
//! section 8.3). So this module reads the start of each HEADERS frame.
//!
//! It finds statuses that don't depend on earlier frames: those in the static table (RFC 7541, appendix A) and
//! literals.

use std::collections::VecDeque;

/// How many responses are remembered: all that one connection may owe, and some more.
const REMEMBERED: usize = 128;
/// How much of a header block is read.
const BLOCK_BYTES: usize = 16;
const FRAME_HEAD_BYTES: usize = 9;

const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Follows the frames of one direction.
pub(super) struct Statuses {
    head: [u8; FRAME_HEAD_BYTES],
    /// How much of a frame header has arrived; all of it while within a frame.
    have: usize,
    /// How much of its payload is still to come.
    left: usize,
    /// The start of the payload of HEADERS.
    block: Vec<u8>,
    seen: VecDeque<(u32, u16)>,
}

impl Default for Statuses {
    fn default() -> Self {
        Self {
            head: [0; FRAME_HEAD_BYTES],
            have: 0,
            left: 0,
            block: Vec::with_capacity(BLOCK_BYTES),
            seen: VecDeque::new(),
        }
    }
}

impl Statuses {
    /// Reads bytes as they arrive.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.have < FRAME_HEAD_BYTES {
                let (taken, rest) = bytes.split_at(bytes.len().min(FRAME_HEAD_BYTES - self.have));
                if let Some(place) = self.head.get_mut(self.have..self.have + taken.len()) {
                    place.copy_from_slice(taken);
                }
                self.have += taken.len();
                bytes = rest;
                if self.have == FRAME_HEAD_BYTES {
                    let [a, b, c, ..] = self.head;
                    self.left = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(0);
                    self.block.clear();
                }
            }
            let (payload, rest) = bytes.split_at(bytes.len().min(self.left));
            self.left -= payload.len();
            bytes = rest;
            if self.head[3] == HEADERS {
                let room = BLOCK_BYTES - self.block.len();
                let kept = payload.get(..room.min(payload.len())).unwrap_or_default();
                self.block.extend_from_slice(kept);
            }
            if self.have == FRAME_HEAD_BYTES && self.left == 0 {
                self.frame_ended();
                self.have = 0;
            }
        }
    }

    /// Returns the final status of this stream, if it was seen.
    pub(super) fn of(&self, stream: u32) -> Option<u16> {
        let mut newest = self.seen.iter().rev();
        newest.find(|(id, _)| *id == stream).map(|(_, code)| *code)
    }

    fn frame_ended(&mut self) {
        let [_, _, _, HEADERS, flags, id @ ..] = self.head else {
            return;
        };
        let padding = usize::from(flags & PADDED != 0);
        let priority = if flags & PRIORITY != 0 { 5 } else { 0 };
        let block = self.block.get(padding + priority..).unwrap_or_default();
        if let Some(code) = status(block).filter(|code| *code >= 200) {
            if self.seen.len() >= REMEMBERED {
                self.seen.pop_front();
            }
            self.seen
                .push_back((u32::from_be_bytes(id) & 0x7fff_ffff, code));
        }
    }
}

/// Returns the status at the start of a header block.
fn status(mut block: &[u8]) -> Option<u16> {
    // The receiver may first announce the size of its table (RFC 7541, section 6.3).
    while let [size, rest @ ..] = block
        && size & 0xe0 == 0x20
    {
        block = rest;
        if size & 0x1f == 0x1f {
            let end = block.iter().position(|byte| byte & 0x80 == 0)?;
            block = block.get(end + 1..)?;
        }
    }
    let (first, rest) = block.split_first()?;
    let by_name = match first {
        0x88 => return Some(200),
        0x89 => return Some(204),
        0x8a => return Some(206),
        0x8b => return Some(304),
        0x8c => return Some(400),
        0x8d => return Some(404),
        0x8e => return Some(500),
        0x40..=0x7f => first & 0x3f,
        0x00..=0x1f => first & 0x0f,
        _ => return None,
    };
    if !(8..=14).contains(&by_name) {
        return None;
    }
    let (length, value) = rest.split_first()?;
    let value = value.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        let digits: [u8; 3] = value.try_into().ok()?;
        digits.iter().try_fold(0, |code: u16, digit| {
            let digit = char::from(*digit).to_digit(10)?;
            Some(code * 10 + u16::try_from(digit).ok()?)
        })
    } else {
        huffman_digits(value)
    }
}

/// Decodes three digits in Huffman code (RFC 7541, appendix B): 0 to 2 have five bits, the others six, from 0b011001.
fn huffman_digits(value: &[u8]) -> Option<u16> {
    if value.len() > 3 {
        return None;
    }
    let mut bits = value
        .iter()
        .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let mut left = 8 * value.len();
    bits = bits
        .checked_shl(u32::try_from(32 - left).ok()?)
        .unwrap_or(0);
    let mut code = 0;
    for _ in 0..3 {
        let (digit, width) = match bits >> 27 {
            short @ 0..=2 => (short, 5),
            _ => ((bits >> 26).checked_sub(0b011_001)? + 3, 6),
        };
        left = left.checked_sub(width)?;
        bits <<= width;
        code = code * 10 + u16::try_from(digit).ok().filter(|digit| *digit <= 9)?;
    }
    (left < 8).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap();
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend(payload);
        frame
    }

    #[test]
    fn statuses_are_found_as_far_as_they_depend_on_nothing_before() {
        for (block, expected) in [
            (&b"\x88rest"[..], Some(200)),
            (b"\x8e", Some(500)),
            (b"\x20\x3f\xe1\x1f\x89", Some(204)),
            (b"\x48\x03202", Some(202)),
            (b"\x08\x03503", Some(503)),
            (b"\x18\x03410", Some(410)),
            // As in RFC 7541, appendix C.6: 302 and 307.
            (b"\x48\x82\x64\x02", Some(302)),
            (b"\x48\x83\x64\x0e\xff", Some(307)),
            (b"\xbe", None),
            (b"\x40\x01a\x01b", None),
            (b"\x48\x032x2", None),
            (b"\x48\x0320", None),
            (b"\x48\x84\x64\x02\xff\xff", None),
            (b"\x3f\xff\xff", None),
            (b"", None),
        ] {
            assert_eq!(status(block), expected, "{block:x?}");
        }
    }

    #[test]
    fn every_status_is_read_from_huffmans_code() {
        for code in 100..=999_u16 {
            let (mut bits, mut width) = (0_u32, 0);
            for digit in [code / 100, code / 10 % 10, code % 10] {
                let (value, more) = if digit < 3 {
                    (digit, 5)
                } else {
                    (digit - 3 + 0b011_001, 6)
                };
                bits = bits << more | u32::from(value);
                width += more;
            }
            let padding = (8 - width % 8) % 8;
            bits = bits << padding | ((1 << padding) - 1);
            let bytes = bits.to_be_bytes();
            let value = &bytes[4 - (width + padding) / 8..];
            assert_eq!(huffman_digits(value), Some(code));
        }
    }

    #[test]
    fn frames_are_followed_however_their_bytes_arrive() {
        let all = [
            frame(4, 0, 0, &[0; 12]),
            frame(HEADERS, 4, 1, b"\x48\x03103"),
            frame(HEADERS, 4, 1, b"\x88\x40\x01a\x01b and so on"),
            frame(0, 0, 1, &[0x8e; 40]),
            frame(HEADERS, 5, 1, b"\x40\x01a\x01b"),
            frame(HEADERS, PADDED | PRIORITY, 3, b"\x01\0\0\0\0\0\x8c\0"),
            frame(0, 1, 3, b""),
            frame(HEADERS, 4, 5, b""),
            frame(HEADERS, 4, 7, b"\x89"),
        ]
        .concat();
        for size in 1..=all.len() {
            let mut statuses = Statuses::default();
            all.chunks(size).for_each(|piece| statuses.feed(piece));
            let seen = [1, 3, 5, 7].map(|id| statuses.of(id));
            assert_eq!(seen, [Some(200), Some(400), None, Some(204)], "{size}");
        }
    }

    #[test]
    fn no_more_is_remembered_than_the_bound() {
        let mut statuses = Statuses::default();
        for id in 0..1_000 {
            statuses.feed(&frame(HEADERS, 4, id, b"\x88"));
            assert!(statuses.seen.len() <= REMEMBERED);
        }
        assert_eq!((statuses.of(0), statuses.of(999)), (None, Some(200)));
    }
}
