//! The form of each header's value: an id, a timestamp, a list of signatures. Decides by the bytes alone; never looks
//! at a key, a clock or a body.

/// The prefix of each value of the StormCom scheme.
pub(crate) const HEX_PREFIX: &str = "sha256=";
/// The prefix of each HMAC token of the Standard scheme.
pub(crate) const BASE64_PREFIX: &str = "v1,";
/// The prefix of each ed25519 token of the Standard scheme.
pub(crate) const ED25519_PREFIX: &str = "v1a,";
/// The last second that twelve digits can express.
pub(crate) const TIMESTAMP_MAX_S: u64 = 999_999_999_999;
/// Length of the longest id.
const ID_MAX_BYTES: usize = 256;
/// The maximum number of digits of a timestamp.
const TIMESTAMP_MAX_DIGITS: usize = 12;

/// Whether a value is 1 to 256 visible ASCII characters except the comma, which joins repeated headers, and the dot:
/// with a dot in the id, `{id}.{timestamp}.{body}` could be split in two ways, and an old message could pass as a new
/// one.
pub(crate) fn is_id(value: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_graphic() & !matches!(byte, b',' | b'.');
    // All bytes together: a branch for each would cost more than the result.
    (1..=ID_MAX_BYTES).contains(&value.len())
        && value.iter().fold(true, |all, byte| all & is_allowed(byte))
}

/// Parses Unix seconds in canonical decimal: 1 to 12 digits without a leading zero.
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
