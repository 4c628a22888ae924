//! Turns a secret's text into a key that verifies. Accepts more texts than the API does; never keeps the text, never
//! allocates for it, and never accepts an empty key, with which anyone could sign.

use alloc::vec::Vec;

use crate::encoded::{KEY_MAX_BYTES, KeyBytes, Undecodable, decode, invalid};
use crate::error::VerifyError;
use crate::items::Versions;
use crate::mac::PreparedKey;
use crate::public_key::PublicKey;
use crate::secret::STANDARD_PREFIX;

/// The maximum number of secrets of a verifier: at most four are live, so this leaves room and still bounds hashing.
const SECRETS_MAX: usize = 16;
/// Length of the shortest key of the Standard scheme (Standard Webhooks 1.0).
const STANDARD_MIN_BYTES: usize = 24;

/// What verifies a signature of the Standard scheme.
#[derive(Clone)]
pub(crate) enum Key {
    /// From a `whsec_` secret: verifies `v1`.
    Hmac(PreparedKey),
    /// From a `whpk_` public key: verifies `v1a`.
    Ed25519(PublicKey),
}

impl Key {
    /// Parses the text of either.
    pub(crate) fn parse(text: &str) -> Result<Self, VerifyError> {
        if PublicKey::is_meant_by(text) {
            return PublicKey::parse(text).map(Self::Ed25519);
        }
        standard_key(text.as_bytes()).map(Self::Hmac)
    }

    /// Returns the versions of signature that these keys can verify.
    pub(crate) fn versions(keys: &[Self]) -> Versions {
        Versions {
            hmac: keys.iter().any(|key| matches!(key, Self::Hmac(_))),
            ed25519: keys.iter().any(|key| matches!(key, Self::Ed25519(_))),
        }
    }
}

impl PreparedKey {
    /// Returns the key of the StormCom scheme: the secret's text.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`].
    pub fn stormcom(secret: &[u8]) -> Result<Self, VerifyError> {
        stormcom_key(secret)
    }

    /// Returns the key of the Standard scheme's `v1`: the bytes that the base64 of a secret decodes to.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`] or [`VerifyError::SecretTooShort`].
    pub fn standard(secret: &[u8]) -> Result<Self, VerifyError> {
        standard_key(secret)
    }
}

/// Returns the key of the StormCom scheme: the text itself.
pub(crate) fn stormcom_key(secret: &[u8]) -> Result<PreparedKey, VerifyError> {
    match secret.len() {
        0 => Err(invalid("it is empty")),
        1..=KEY_MAX_BYTES => Ok(PreparedKey::new(secret)),
        _ => Err(invalid("it is longer than 256 bytes")),
    }
}

/// Returns the key of the Standard scheme: the decoded base64, with prefix and padding optional.
pub(crate) fn standard_key(secret: &[u8]) -> Result<PreparedKey, VerifyError> {
    standard_key_bytes(secret).map(|bytes| PreparedKey::new(&bytes))
}

/// Returns the same as bytes.
pub(crate) fn standard_key_bytes(secret: &[u8]) -> Result<KeyBytes, VerifyError> {
    let encoded = secret
        .strip_prefix(STANDARD_PREFIX.as_bytes())
        .unwrap_or(secret);
    let bytes = decode(encoded).map_err(|reason| {
        invalid(match reason {
            Undecodable::Empty => "it is empty",
            Undecodable::TooLong => "it decodes to more than 256 bytes",
            Undecodable::NotBase64 => {
                "this scheme expects `whsec_` followed by standard base64 (A-Z a-z 0-9 + /)"
            }
        })
    })?;
    match bytes.len() {
        found_bytes @ 0..STANDARD_MIN_BYTES => Err(VerifyError::SecretTooShort { found_bytes }),
        STANDARD_MIN_BYTES..=KEY_MAX_BYTES => Ok(bytes),
        _ => Err(invalid("it decodes to more than 256 bytes")),
    }
}

/// Turns every secret into a key, or returns the first error.
pub(crate) fn prepare_all<S: AsRef<str>, K>(
    secrets: impl IntoIterator<Item = S>,
    prepare: fn(&str) -> Result<K, VerifyError>,
) -> Result<Vec<K>, VerifyError> {
    let mut keys = Vec::new();
    for secret in secrets {
        if keys.len() == SECRETS_MAX {
            return Err(invalid("more than 16 were passed"));
        }
        keys.push(prepare(secret.as_ref())?);
    }
    if keys.is_empty() {
        return Err(invalid("none was passed"));
    }
    Ok(keys)
}
