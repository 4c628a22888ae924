//! The base64 of a key, secret or public: what is accepted, up to which length, and why a text is refused. The use of
//! the key is decided elsewhere. The bytes are wiped.

use core::ops::Deref;

use base64ct::{Base64Unpadded, Encoding};
use zeroize::Zeroizing;

use crate::error::VerifyError;

/// Length of the longest key of either scheme.
pub(crate) const KEY_MAX_BYTES: usize = 256;
/// Length of the longest key in padded base64.
const ENCODED_MAX_BYTES: usize = KEY_MAX_BYTES.div_ceil(3) * 4;

/// The error of a text that is not a key.
pub(crate) const fn invalid(reason: &'static str) -> VerifyError {
    VerifyError::InvalidSecret { reason }
}

/// The bytes of a key, wiped on drop.
pub(crate) struct KeyBytes {
    buffer: Zeroizing<[u8; ENCODED_MAX_BYTES]>,
    used: usize,
}

impl Deref for KeyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(..self.used).unwrap_or_default()
    }
}

/// Why a text is not the base64 of a key.
pub(crate) enum Undecodable {
    Empty,
    TooLong,
    NotBase64,
}

/// Decodes standard base64, padded or not.
pub(crate) fn decode(encoded: &[u8]) -> Result<KeyBytes, Undecodable> {
    if encoded.is_empty() {
        return Err(Undecodable::Empty);
    }
    if encoded.len() > ENCODED_MAX_BYTES {
        return Err(Undecodable::TooLong);
    }
    let bare = encoded.strip_suffix(b"=").unwrap_or(encoded);
    let bare = bare.strip_suffix(b"=").unwrap_or(bare);
    let padding = encoded.len() - bare.len();
    if padding > 0 && !encoded.len().is_multiple_of(4) {
        return Err(Undecodable::NotBase64);
    }
    let mut buffer = Zeroizing::new([0; ENCODED_MAX_BYTES]);
    let decoded = Base64Unpadded::decode(bare, &mut *buffer);
    let used = decoded.map_err(|_invalid| Undecodable::NotBase64)?.len();
    Ok(KeyBytes { buffer, used })
}
