//! The key that signs `v1a`: an ed25519 key pair, as text. Defines its form; never prints one, and leaves none in
//! memory.

use alloc::string::String;
use core::fmt;

use base64ct::{Base64, Encoding};
use ed25519_dalek::SigningKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign_byupdate};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::encoded::{decode, invalid};
use crate::error::VerifyError;
use crate::items::{POINT_BASE64_BYTES, POINT_BYTES};
use crate::public_key::PUBLIC_PREFIX;

/// The prefix of a private key in the Standard Webhooks specification.
const PRIVATE_PREFIX: &str = "whsk_";
/// Length of a seed in bytes (RFC 8032, section 5.1.5).
const SEED_BYTES: usize = 32;
const PUBLIC_BASE64_BYTES: usize = 44;

/// An ed25519 private key, for signing `v1a`. Wiped when dropped, and never printed.
///
/// ```
/// use stormhook_verifier::{PrivateKey, StandardVerifier, SigningKeys};
///
/// let key = PrivateKey::from_seed([7; 32]); // 32 bytes from the operating system's generator
/// let keys = SigningKeys::with_ed25519([], [&key]);
/// let signature = keys.standard_signature("evt_1", 1_750_000_000, b"{}").unwrap();
/// assert!(signature.starts_with("v1a,"));
///
/// // The receiver holds only the public key.
/// let verifier = StandardVerifier::new(&key.public_key())?;
/// let headers = [("webhook-id", "evt_1"), ("webhook-timestamp", "1750000000"), ("webhook-signature", &signature)];
/// assert!(verifier.verify_at(&headers, b"{}", 1_750_000_000).is_ok());
/// # Ok::<(), stormhook_verifier::VerifyError>(())
/// ```
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// Returns the key for 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: [u8; SEED_BYTES]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(SigningKey::from_bytes(&seed))
    }

    /// Parses `whsk_` and base64 of 32 bytes (the seed) or of 64 (seed and public key).
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`], which describes the form of a private key.
    pub fn parse(text: &str) -> Result<Self, VerifyError> {
        let encoded = text.strip_prefix(PRIVATE_PREFIX).ok_or(invalid(
            "a private key begins with `whsk_`; this one doesn't",
        ))?;
        let bytes = decode(encoded.as_bytes()).map_err(|_undecodable| {
            invalid("a private key is `whsk_` and standard base64 of 32 or 64 bytes")
        })?;
        if let Ok(seed) = <[u8; SEED_BYTES]>::try_from(&*bytes) {
            return Ok(Self::from_seed(seed));
        }
        let pair = Zeroizing::new(<[u8; 2 * SEED_BYTES]>::try_from(&*bytes).map_err(
            |_length| invalid("a private key is `whsk_` and standard base64 of 32 or 64 bytes"),
        )?);
        SigningKey::from_keypair_bytes(&pair)
            .map(Self)
            .map_err(|_mismatch| invalid("the two halves of this private key don't match"))
    }

    /// Returns the seed, for storage.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; SEED_BYTES]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Returns `whsk_` and base64 of seed and public key, which only the sender may hold.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(self.0.to_keypair_bytes());
        let mut encoded = Zeroizing::new([0_u8; POINT_BASE64_BYTES]);
        let encoded = Base64::encode(&*pair, &mut *encoded).unwrap_or_default();
        // Sized in advance: a text that grows would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(
            PRIVATE_PREFIX.len() + POINT_BASE64_BYTES,
        ));
        text.push_str(PRIVATE_PREFIX);
        text.push_str(encoded);
        text
    }

    /// Returns `whpk_` and base64 of the public key, for receivers.
    #[must_use]
    pub fn public_key(&self) -> String {
        let mut encoded = [0_u8; PUBLIC_BASE64_BYTES];
        let encoded = Base64::encode(self.0.verifying_key().as_bytes(), &mut encoded);
        [PUBLIC_PREFIX, encoded.unwrap_or_default()].concat()
    }

    /// Returns the signature of the parts, one after the other, in base64.
    pub(crate) fn sign(&self, message: &[&[u8]]) -> Option<Signed> {
        let expanded = ExpandedSecretKey::from(self.0.as_bytes());
        let update = |hash: &mut Sha512| {
            for part in message {
                hash.update(part);
            }
            Ok(())
        };
        let key = self.0.verifying_key();
        let signature = raw_sign_byupdate::<Sha512, _>(&expanded, update, &key).ok()?;
        Some(Signed(signature.to_bytes()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// An ed25519 signature.
pub(crate) struct Signed([u8; POINT_BYTES]);

impl Signed {
    /// Appends it in padded standard base64.
    pub(crate) fn push_to(&self, text: &mut String) {
        let mut encoded = [0_u8; POINT_BASE64_BYTES];
        text.push_str(Base64::encode(&self.0, &mut encoded).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;
