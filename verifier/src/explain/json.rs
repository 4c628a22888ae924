//! JSON text as it is spelled: its outermost members, and the same value with other spaces and escapes. Looks only at
//! tokens and parses no values; text that is not JSON yields something that matches nothing.

use alloc::vec::Vec;

/// More members than any envelope has.
const MEMBERS_MAX: usize = 16;

/// A member's name, without its quotes, and its value, both as they are spelled.
pub(super) type Member<'b> = (&'b [u8], &'b [u8]);

/// Returns the members of an object in order; `None` for anything else, and for too many members.
pub(super) fn members(body: &[u8]) -> Option<Vec<Member<'_>>> {
    let mut rest = body.trim_ascii().strip_prefix(b"{")?.trim_ascii_start();
    let mut members = Vec::new();
    while !rest.starts_with(b"}") {
        let (name, after) = string(rest)?;
        let after = after.trim_ascii_start().strip_prefix(b":")?;
        let (value, after) = value(after.trim_ascii_start())?;
        if members.len() == MEMBERS_MAX {
            return None;
        }
        members.push((name, value));
        rest = match after.strip_prefix(b",") {
            Some(after) => after.trim_ascii_start(),
            None => after,
        };
    }
    (rest.len() == 1).then_some(members)
}

/// Returns the text between the quotes, and the rest.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let mut is_escaped = false;
    let end = inner.iter().position(|byte| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    })?;
    let (inner, after) = inner.split_at_checked(end)?;
    Some((inner, after.strip_prefix(b"\"")?))
}

/// Returns the text up to the comma or bracket that ends the value, and the rest.
fn value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut depth = 0_usize;
    let mut rest = text;
    loop {
        match rest.first()? {
            b'"' => {
                rest = string(rest)?.1;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b',' | b'}' if depth == 0 => break,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        rest = rest.split_first()?.1;
    }
    let value = text.get(..text.len().checked_sub(rest.len())?)?;
    let value = value.trim_ascii_end();
    (!value.is_empty()).then_some((value, rest))
}

/// Returns compact JSON with a space after each comma and colon, as Python writes it.
pub(super) fn spaced(compact: &[u8]) -> Vec<u8> {
    let mut spaced = Vec::with_capacity(compact.len() * 2);
    let mut in_string = false;
    let mut is_escaped = false;
    for byte in compact {
        spaced.push(*byte);
        match byte {
            b'"' if !is_escaped => in_string = !in_string,
            b',' | b':' if !in_string => spaced.push(b' '),
            _ => {}
        }
        is_escaped = *byte == b'\\' && !is_escaped;
    }
    spaced
}

/// Returns JSON with all non-ASCII characters as `\uXXXX`, as Python and PHP write it.
pub(super) fn escaped(json: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut escaped = Vec::with_capacity(json.len());
    for chunk in json.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if let Ok(byte @ 0..0x80) = u8::try_from(letter) {
                escaped.push(byte);
                continue;
            }
            for unit in letter.encode_utf16(&mut [0; 2]) {
                escaped.extend_from_slice(b"\\u");
                let digits = [12, 8, 4, 0].map(|shift| usize::from(*unit >> shift) & 0xF);
                escaped.extend(digits.iter().filter_map(|digit| DIGITS.get(*digit)));
            }
        }
        escaped.extend_from_slice(chunk.invalid());
    }
    escaped
}

/// Returns JSON without whitespace between its tokens and, unless escapes are kept, with `\/` and the non-ASCII escapes
/// decoded, as most writers do. Text that is not JSON yields something that matches nothing.
pub(super) fn compact(body: &[u8], keeps_escapes: bool) -> Vec<u8> {
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

/// Copies what follows a backslash and returns the rest.
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

/// Parses `uXXXX`, or two of them for a surrogate pair (RFC 8259, section 7).
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
    // `from_str_radix` accepts a sign.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}
