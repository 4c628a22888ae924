//! From a secret's text to a key that verifies. Decides what a receiver may pass as a secret, more freely than what the
//! API takes; never keeps the text, and never lets an empty key through, under which anyone could sign.

use alloc::vec::Vec;

use base64ct::{Base64, Base64Unpadded, Encoding};
use zeroize::Zeroizing;

use crate::error::VerifyError;
use crate::mac::PreparedKey;
use crate::secret::STANDARD_PREFIX;

/// Most secrets a verifier takes: four are live at most, so this is room to spare and a bound on hashing.
const SECRETS_MAX: usize = 16;
/// Longest key of either scheme.
const KEY_MAX_BYTES: usize = 256;
/// Shortest key of scheme B (Standard Webhooks 1.0).
const STANDARD_MIN_BYTES: usize = 24;
/// Base64 of the longest key, padded.
const ENCODED_MAX_BYTES: usize = KEY_MAX_BYTES.div_ceil(3) * 4;

const fn invalid(reason: &'static str) -> VerifyError {
    VerifyError::InvalidSecret { reason }
}

/// The key of scheme A: the text itself.
pub(crate) fn stormcom_key(secret: &str) -> Result<PreparedKey, VerifyError> {
    match secret.len() {
        0 => Err(invalid("it is empty")),
        1..=KEY_MAX_BYTES => Ok(PreparedKey::new(secret.as_bytes())),
        _ => Err(invalid("it is over 256 bytes long")),
    }
}

/// The key of scheme B: the bytes under the base64, prefix and padding optional.
pub(crate) fn standard_key(secret: &str) -> Result<PreparedKey, VerifyError> {
    standard_key_bytes(secret).map(|bytes| PreparedKey::new(&bytes))
}

/// The same, as bytes.
pub(crate) fn standard_key_bytes(secret: &str) -> Result<Zeroizing<Vec<u8>>, VerifyError> {
    let encoded = secret.strip_prefix(STANDARD_PREFIX).unwrap_or(secret);
    if encoded.is_empty() {
        return Err(invalid("it is empty"));
    }
    if encoded.len() > ENCODED_MAX_BYTES {
        return Err(invalid("it decodes to over 256 bytes"));
    }
    let decoded = if encoded.ends_with('=') {
        Base64::decode_vec(encoded)
    } else {
        Base64Unpadded::decode_vec(encoded)
    };
    let bytes = Zeroizing::new(decoded.map_err(|_invalid| {
        invalid("this scheme takes `whsec_` followed by standard base64 (A-Z a-z 0-9 + /)")
    })?);
    match bytes.len() {
        found_bytes @ 0..STANDARD_MIN_BYTES => Err(VerifyError::SecretTooShort { found_bytes }),
        STANDARD_MIN_BYTES..=KEY_MAX_BYTES => Ok(bytes),
        _ => Err(invalid("it decodes to over 256 bytes")),
    }
}

/// Every secret made a key, or the first one's error.
pub(crate) fn prepare_all<S: AsRef<str>>(
    secrets: impl IntoIterator<Item = S>,
    prepare: fn(&str) -> Result<PreparedKey, VerifyError>,
) -> Result<Vec<PreparedKey>, VerifyError> {
    let mut keys = Vec::new();
    for secret in secrets {
        if keys.len() == SECRETS_MAX {
            return Err(invalid("over 16 were given"));
        }
        keys.push(prepare(secret.as_ref())?);
    }
    if keys.is_empty() {
        return Err(invalid("none was given"));
    }
    Ok(keys)
}
