//! The key that verifies `v1a`: an ed25519 public key, as text. Defines its form and how a signature is verified: as in
//! RFC 8032, with strict choices where it leaves some open, so that all verifiers agree. Without the feature `ed25519`
//! every such key is refused with an error that says so.

use crate::encoded::invalid;
use crate::error::VerifyError;

/// The prefix of a public key in the Standard Webhooks specification.
pub(crate) const PUBLIC_PREFIX: &str = "whpk_";

/// An ed25519 public key. It is not secret.
#[derive(Clone, Debug)]
pub struct PublicKey(
    #[cfg(feature = "ed25519")] ed25519_dalek::VerifyingKey,
    #[cfg(not(feature = "ed25519"))] core::convert::Infallible,
);

impl PublicKey {
    /// Whether the text has the prefix of a public key.
    pub(crate) fn is_meant_by(text: &str) -> bool {
        text.starts_with(PUBLIC_PREFIX)
    }
}

#[cfg(not(feature = "ed25519"))]
impl PublicKey {
    pub(crate) fn parse(_text: &str) -> Result<Self, VerifyError> {
        Err(invalid(
            "a public key (`whpk_`) needs this library's ed25519 build: the crate's feature `ed25519`, the package's `/ed25519`",
        ))
    }

    pub(crate) fn verifies(&self, _message: &[&[u8]], _signature: &[u8; 64]) -> bool {
        match self.0 {}
    }
}

#[cfg(feature = "ed25519")]
impl PublicKey {
    /// Parses `whpk_` and padded or unpadded standard base64 of 32 bytes.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`].
    pub fn parse(text: &str) -> Result<Self, VerifyError> {
        let encoded = text.strip_prefix(PUBLIC_PREFIX).unwrap_or(text);
        let bytes: Option<[u8; 32]> = crate::encoded::decode(encoded.as_bytes())
            .ok()
            .and_then(|bytes| (*bytes).try_into().ok());
        let Some(bytes) = bytes else {
            return Err(invalid(
                "a public key is `whpk_` and standard base64 of 32 bytes",
            ));
        };
        match ed25519_dalek::VerifyingKey::from_bytes(&bytes) {
            // With a key of small order one signature matches every message.
            Ok(key) if is_canonical(&bytes) && !key.is_weak() => Ok(Self(key)),
            _ => Err(invalid("these 32 bytes are not an ed25519 public key")),
        }
    }

    /// Whether this key made the signature of the parts, one after the other.
    pub(crate) fn verifies(&self, message: &[&[u8]], signature: &[u8; 64]) -> bool {
        let Some(mut check) = self.start(signature) else {
            return false;
        };
        for part in message {
            check.update(part);
        }
        check.finish()
    }

    /// Starts a message that arrives in pieces; `None` if the signature can't be valid.
    ///
    /// The stream checks that `s` is reduced and that `R` is canonical; this checks that `R` is not of small order.
    #[must_use]
    pub fn start(&self, signature: &[u8; 64]) -> Option<RunningCheck> {
        let r: &[u8; 32] = signature.first_chunk()?;
        let r = ed25519_dalek::VerifyingKey::from_bytes(r).ok()?;
        if r.is_weak() {
            return None;
        }
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_stream(&signature).ok().map(RunningCheck)
    }
}

/// Whether the point's y is below p = 2^255 - 19 (255 bits), as RFC 8032, section 5.1.3, requires; the library reduces
/// it modulo p.
#[cfg(feature = "ed25519")]
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [lowest, between @ .., highest] = bytes;
    let has_all_bits = highest & 0x7f == 0x7f && between.iter().all(|byte| *byte == 0xff);
    !has_all_bits || *lowest < 0xed
}

/// A signature being verified.
#[cfg(feature = "ed25519")]
pub struct RunningCheck(ed25519_dalek::StreamVerifier);

#[cfg(feature = "ed25519")]
impl core::fmt::Debug for RunningCheck {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RunningCheck(…)")
    }
}

#[cfg(feature = "ed25519")]
impl RunningCheck {
    /// Adds the next piece of the message.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Whether it is the key's signature of all pieces, one after the other.
    #[must_use]
    pub fn finish(self) -> bool {
        self.0.finalize_and_verify().is_ok()
    }
}

#[cfg(all(test, feature = "ed25519"))]
mod tests {
    use super::{PublicKey, is_canonical};

    #[test]
    fn a_y_is_canonical_below_p_whatever_its_sign() {
        let with_ends = |lowest, between, highest| {
            let mut bytes = [between; 32];
            bytes[0] = lowest;
            bytes[31] = highest;
            bytes
        };
        for highest in [0x7f, 0xff] {
            for lowest in 0xed..=0xff {
                assert!(!is_canonical(&with_ends(lowest, 0xff, highest)));
                assert!(is_canonical(&with_ends(lowest, 0xfe, highest)));
                assert!(is_canonical(&with_ends(lowest, 0xff, highest - 1)));
            }
            assert!(is_canonical(&with_ends(0xec, 0xff, highest)));
            assert!(is_canonical(&with_ends(0x00, 0xff, highest)));
        }
        assert!(is_canonical(&[0; 32]));
    }

    #[test]
    fn a_check_in_progress_prints_nothing_of_it() {
        // The base point (RFC 8032, section 5.1), as key and as R.
        let mut point = [0x66; 32];
        point[0] = 0x58;
        let key = <base64ct::Base64 as base64ct::Encoding>::encode_string(&point);
        let key = PublicKey::parse(&key).unwrap();
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&point);
        let check = key.start(&signature).unwrap();
        assert_eq!(alloc::format!("{check:?}"), "RunningCheck(…)");
    }
}
