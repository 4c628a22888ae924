//! Undoes what middleware does to bodies: returns the bodies that may have been the signed one, without deciding which
//! one was. At most fourteen; none for a body over 1 MiB.

use alloc::vec::Vec;

use super::finding::BodyChange;
use super::json::{self, Member};

/// The largest body that is rewritten in search of the signed one.
const BODY_MAX_BYTES: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
const DATA: &[u8] = b"data";
/// The members at the top of a delivery's body, in order.
const ENVELOPE: [&[u8]; 6] = [
    b"id",
    b"type",
    b"timestamp",
    b"organizationId",
    b"sequence",
    DATA,
];

/// Returns the bodies that the received one may have been before.
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
    let compact = [true, false].map(|keeps_escapes| json::compact(body, keeps_escapes));
    for original in compact.into_iter().chain(envelopes(body)) {
        let is_new = originals.iter().all(|(_, known)| *known != original);
        if is_new && original != body {
            originals.push((BodyChange::JsonSpelling, original));
        }
    }
    originals
}

/// Whether the members of the envelope are at the top, but not as the daemon writes them: complete, in its order, and
/// with nothing between them. `data` is not considered: its bytes are the producer's.
pub(super) fn looks_reserialised(body: &[u8]) -> bool {
    if body.len() > BODY_MAX_BYTES {
        return false;
    }
    let Some(members) = json::members(body) else {
        return false;
    };
    let are_ours = members.iter().all(|(name, _)| ENVELOPE.contains(name));
    are_ours && envelope(&members, None).as_deref() != Some(body)
}

/// Returns the envelope as the daemon writes it, with these members, and with another `data` if one is given. `None`
/// unless each member appears once and there is no other.
/// member is there once and no other.
fn envelope(members: &[Member<'_>], data: Option<&[u8]>) -> Option<Vec<u8>> {
    if members.len() != ENVELOPE.len() {
        return None;
    }
    let mut body = Vec::new();
    for name in ENVELOPE {
        let (_, value) = members.iter().find(|(found, _)| *found == name)?;
        let value = data.filter(|_| name == DATA).unwrap_or(value);
        body.push(if body.is_empty() { b'{' } else { b',' });
        body.extend_from_slice(&[b"\"", name, b"\":", value].concat());
    }
    body.push(b'}');
    Some(body)
}

/// Returns the envelope in the daemon's order, around `data` as received and as it may have been spelled before:
/// without spaces, or with those and the escapes that other languages' writers add.
fn envelopes(body: &[u8]) -> Vec<Vec<u8>> {
    let Some(members) = json::members(body) else {
        return Vec::new();
    };
    let Some((_, data)) = members.iter().find(|(name, _)| *name == DATA) else {
        return Vec::new();
    };
    let compact = json::compact(data, true);
    let spellings = [
        data.to_vec(),
        json::compact(data, false),
        json::escaped(&compact),
        json::spaced(&compact),
        json::spaced(&json::escaped(&compact)),
        compact,
    ];
    spellings
        .iter()
        .filter_map(|data| envelope(&members, Some(data)))
        .collect()
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
