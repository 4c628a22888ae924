//! What middleware does to bodies, undone: which bodies may have been the signed one. Decides nothing about which of them was;
//! makes at most eight, none from a body over 1 MiB.

use alloc::vec::Vec;

use super::finding::BodyChange;

/// Largest body that is rewritten in search of the signed one.
const BODY_MAX_BYTES: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Bodies that the received one may have been before.
pub(super) fn originals(body: &[u8]) -> Vec<(BodyChange, Vec<u8>)> {
    let mut originals = Vec::new();
    if body.len() > BODY_MAX_BYTES {
        return originals;
    }
    if let Some(rest) = body.strip_suffix(b"\n") {
        let bare = rest.strip_suffix(b"\r").unwrap_or(rest);
        originals.push((BodyChange::FinalLineEnd, bare.to_vec()));
    } else {
        originals.push((BodyChange::FinalLineEnd, [body, b"\n"].concat()));
        originals.push((BodyChange::FinalLineEnd, [body, b"\r\n"].concat()));
    }
    let unix = to_lf(body);
    if unix != body {
        originals.push((BodyChange::LineEnds, unix.clone()));
    }
    if unix.contains(&b'\n') {
        originals.push((BodyChange::LineEnds, to_crlf(&unix)));
    }
    let unmarked = body.strip_prefix(BYTE_ORDER_MARK);
    let marked = || [BYTE_ORDER_MARK, body].concat();
    originals.push((
        BodyChange::ByteOrderMark,
        unmarked.map_or_else(marked, <[u8]>::to_vec),
    ));
    for keeps_escapes in [true, false] {
        let compact = compact_json(body, keeps_escapes);
        if compact != body {
            originals.push((BodyChange::JsonSpelling, compact));
        }
    }
    originals
}

/// Spaces between tokens, or another first key than the one deliveries begin with.
pub(super) fn looks_reserialised(body: &[u8]) -> bool {
    body.len() <= BODY_MAX_BYTES
        && body.trim_ascii_start().starts_with(b"{")
        && (!body.starts_with(b"{\"id\":") || compact_json(body, true) != body)
}

fn to_lf(body: &[u8]) -> Vec<u8> {
    let next = body.iter().skip(1).map(Some).chain([None]);
    body.iter()
        .zip(next)
        .filter(|(byte, next)| **byte != b'\r' || *next != Some(&b'\n'))
        .map(|(byte, _)| *byte)
        .collect()
}

fn to_crlf(unix: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(unix.len() * 2);
    for byte in unix {
        if *byte == b'\n' {
            text.push(b'\r');
        }
        text.push(*byte);
    }
    text
}

/// JSON without whitespace between its tokens and, unless kept, with `\/` and the escapes beyond ASCII spelled out, as most
/// writers do. What is no JSON comes out as something that fits nothing.
fn compact_json(body: &[u8], keeps_escapes: bool) -> Vec<u8> {
    let mut compact = Vec::with_capacity(body.len());
    let mut rest = body;
    let mut in_string = false;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => continue,
            b'\\' if in_string => {
                rest = copy_escape(after, keeps_escapes, &mut compact);
                continue;
            }
            _ => {}
        }
        compact.push(*byte);
    }
    compact
}

/// Copies what follows a backslash and answers what is left.
fn copy_escape<'b>(after: &'b [u8], keeps_escapes: bool, to: &mut Vec<u8>) -> &'b [u8] {
    if !keeps_escapes {
        if let Some(rest) = after.strip_prefix(b"/") {
            to.push(b'/');
            return rest;
        }
        if let Some((letter, rest)) = unicode_escape(after).filter(|(letter, _)| !letter.is_ascii())
        {
            to.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            return rest;
        }
    }
    to.push(b'\\');
    match after.split_first() {
        Some((byte, rest)) => {
            to.push(*byte);
            rest
        }
        None => after,
    }
}

/// `uXXXX`, or two of them for a surrogate pair (RFC 8259, section 7).
fn unicode_escape(after: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = code_unit(after)?;
    if let Some(letter) = char::from_u32(u32::from(first)) {
        return Some((letter, rest));
    }
    let (second, rest) = code_unit(rest.strip_prefix(b"\\")?)?;
    let letter = char::decode_utf16([first, second]).next()?.ok()?;
    Some((letter, rest))
}

fn code_unit(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = text.strip_prefix(b"u")?.split_at_checked(4)?;
    let digits = core::str::from_utf8(digits).ok()?;
    // `from_str_radix` takes a sign.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}
