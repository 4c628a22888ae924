//! From a secret's text to a key that verifies. Decides what a receiver may pass as a secret, more freely than what the
//! API takes; never keeps the text, never allocates for it, and never lets an empty key through, under which anyone could sign.

use alloc::vec::Vec;

use crate::encoded::{KEY_MAX_BYTES, KeyBytes, Undecodable, decode, invalid};
use crate::error::VerifyError;
use crate::items::Versions;
use crate::mac::PreparedKey;
use crate::public_key::PublicKey;
use crate::secret::STANDARD_PREFIX;

/// Most secrets a verifier takes: four are live at most, so this is room to spare and a bound on hashing.
const SECRETS_MAX: usize = 16;
/// Shortest key of scheme B (Standard Webhooks 1.0).
const STANDARD_MIN_BYTES: usize = 24;

/// What a signature of scheme B is checked with.
#[derive(Clone)]
pub(crate) enum Key {
    /// From a `whsec_` secret: checks `v1`.
    Hmac(PreparedKey),
    /// From a `whpk_` public key: checks `v1a`.
    Ed25519(PublicKey),
}

impl Key {
    /// From the text of either.
    pub(crate) fn parse(text: &str) -> Result<Self, VerifyError> {
        if PublicKey::is_meant_by(text) {
            return PublicKey::parse(text).map(Self::Ed25519);
        }
        standard_key(text.as_bytes()).map(Self::Hmac)
    }

    /// The versions of signature that these keys can check.
    pub(crate) fn versions(keys: &[Self]) -> Versions {
        Versions {
            hmac: keys.iter().any(|key| matches!(key, Self::Hmac(_))),
            ed25519: keys.iter().any(|key| matches!(key, Self::Ed25519(_))),
        }
    }
}

impl PreparedKey {
    /// The key of scheme A: the secret's text.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`].
    pub fn stormcom(secret: &[u8]) -> Result<Self, VerifyError> {
        stormcom_key(secret)
    }

    /// The key of scheme B's `v1`: the bytes under the base64 of a secret.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`] or [`VerifyError::SecretTooShort`].
    pub fn standard(secret: &[u8]) -> Result<Self, VerifyError> {
        standard_key(secret)
    }
}

/// The key of scheme A: the text itself.
pub(crate) fn stormcom_key(secret: &[u8]) -> Result<PreparedKey, VerifyError> {
    match secret.len() {
        0 => Err(invalid("it is empty")),
        1..=KEY_MAX_BYTES => Ok(PreparedKey::new(secret)),
        _ => Err(invalid("it is over 256 bytes long")),
    }
}

/// The key of scheme B: the bytes under the base64, prefix and padding optional.
pub(crate) fn standard_key(secret: &[u8]) -> Result<PreparedKey, VerifyError> {
    standard_key_bytes(secret).map(|bytes| PreparedKey::new(&bytes))
}

/// The same, as bytes.
pub(crate) fn standard_key_bytes(secret: &[u8]) -> Result<KeyBytes, VerifyError> {
    let encoded = secret
        .strip_prefix(STANDARD_PREFIX.as_bytes())
        .unwrap_or(secret);
    let bytes = decode(encoded).map_err(|reason| {
        invalid(match reason {
            Undecodable::Empty => "it is empty",
            Undecodable::TooLong => "it decodes to over 256 bytes",
            Undecodable::NotBase64 => {
                "this scheme takes `whsec_` followed by standard base64 (A-Z a-z 0-9 + /)"
            }
        })
    })?;
    match bytes.len() {
        found_bytes @ 0..STANDARD_MIN_BYTES => Err(VerifyError::SecretTooShort { found_bytes }),
        STANDARD_MIN_BYTES..=KEY_MAX_BYTES => Ok(bytes),
        _ => Err(invalid("it decodes to over 256 bytes")),
    }
}

/// Every secret made a key, or the first one's error.
pub(crate) fn prepare_all<S: AsRef<str>, K>(
    secrets: impl IntoIterator<Item = S>,
    prepare: fn(&str) -> Result<K, VerifyError>,
) -> Result<Vec<K>, VerifyError> {
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
