//! The form of each header's value: what an id, a timestamp and a list of signatures look like, whoever made them.
//! Decides by the bytes alone; never looks at a key, a clock or a body.

/// What each value of scheme A begins with.
pub(crate) const HEX_PREFIX: &str = "sha256=";
/// What each HMAC token of scheme B begins with.
pub(crate) const BASE64_PREFIX: &str = "v1,";
/// What each ed25519 token of scheme B begins with.
pub(crate) const ED25519_PREFIX: &str = "v1a,";
/// The last second that twelve digits can say.
pub(crate) const TIMESTAMP_MAX_S: u64 = 999_999_999_999;
/// Longest id.
const ID_MAX_BYTES: usize = 256;
/// Most digits of a timestamp.
const TIMESTAMP_MAX_DIGITS: usize = 12;

/// 1 to 256 visible ASCII characters but the comma, which joins repeated headers, and the dot: with a dot in the id,
/// `{id}.{timestamp}.{body}` could be split in two ways, and an old message be shown as a fresh one.
pub(crate) fn is_id(value: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_graphic() & !matches!(byte, b',' | b'.');
    // All bytes at once: a branch for each would cost more than the answer.
    (1..=ID_MAX_BYTES).contains(&value.len())
        && value.iter().fold(true, |all, byte| all & is_allowed(byte))
}

/// Unix seconds in canonical decimal: 1 to 12 digits, none of them a leading zero.
pub(crate) fn timestamp_s(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > TIMESTAMP_MAX_DIGITS {
        return None;
    }
    if value.len() > 1 && value.first() == Some(&b'0') {
        return None;
    }
    value.iter().try_fold(0_u64, |seconds, byte| {
        byte.is_ascii_digit()
            .then(|| seconds * 10 + u64::from(byte - b'0'))
    })
}
