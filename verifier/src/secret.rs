//! An endpoint's secret as the API accepts and shows it. Defines which texts are secrets; never prints one, compares
//! them only in constant time, and leaves none in memory.

use alloc::string::String;
use core::fmt;

use base64ct::{Base64, Encoding};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::mac::base64_of_32;

/// The prefix of a secret in the Standard Webhooks specification.
pub(crate) const STANDARD_PREFIX: &str = "whsec_";
/// Allowed length in bytes of a decoded `whsec_` secret (Standard Webhooks 1.0, "Symmetric").
const STANDARD_BYTES: core::ops::RangeInclusive<usize> = 24..=64;
/// Allowed length in characters of any other secret.
const PLAIN_CHARS: core::ops::RangeInclusive<usize> = 16..=256;
/// Length of 64 bytes in padded base64: nothing longer is decoded.
const STANDARD_TEXT_MAX: usize = 88;

/// Why a text is not a secret. Never holds any part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It begins with `whsec_`, but what follows is not padded standard base64.
    #[error(
        "a secret that begins with `whsec_` must continue with standard base64 (A-Z a-z 0-9 + /, padded with `=`); \
         send one like that, or one of 16 to 256 visible ASCII characters without that prefix"
    )]
    NotBase64,
    /// It begins with `whsec_`, but the base64 decodes to too few or too many bytes.
    #[error(
        "a secret that begins with `whsec_` must decode to 24 to 64 bytes, not {found_bytes}; generate one with `openssl rand -base64 32`"
    )]
    StandardLength {
        /// Bytes after decoding; for text that is too long to be decoded, the number it would have.
        found_bytes: usize,
    },
    /// Too short or too long.
    #[error(
        "a secret must be 16 to 256 visible ASCII characters or `whsec_` and base64 of 24 to 64 bytes; this one has {found_chars} characters"
    )]
    PlainLength {
        /// Characters found.
        found_chars: usize,
    },
    /// A space, a control character, or a non-ASCII character.
    #[error(
        "a secret must contain only visible ASCII (`!` to `~`), unlike character {position} of this one; remove spaces, line ends and accents"
    )]
    NotVisibleAscii {
        /// The position of the character, from 1.
        position: usize,
    },
}

impl SecretError {
    /// Returns a name that is stable across versions.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotBase64 => "secret_not_base64",
            Self::StandardLength { .. } | Self::PlainLength { .. } => "secret_length",
            Self::NotVisibleAscii { .. } => "secret_not_visible_ascii",
        }
    }
}

/// The secret that signs an endpoint's deliveries.
///
/// Either `whsec_` and padded base64 of 24 to 64 bytes, which both signature schemes can use, or any other text of 16
/// to 256 visible ASCII characters, only for `x-stormcom-signature`.
///
/// It is wiped when dropped, can't be printed, and has no `==`.
///
/// ```
/// use stormhook_verifier::Secret;
///
/// let made = Secret::from_random(&[7; 32]); // 32 bytes from the operating system's generator
/// assert!(made.expose().starts_with("whsec_"));
/// assert_eq!(format!("{made:?}"), "Secret(…)");
///
/// let brought = Secret::parse("correct-horse-battery-staple")?;
/// assert!(Secret::parse("whsec_garbage!").is_err());
/// # Ok::<(), stormhook_verifier::SecretError>(())
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Parses a secret chosen by a caller.
    ///
    /// # Errors
    /// [`SecretError`], which says what a secret must look like and how this text differs.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        match text.strip_prefix(STANDARD_PREFIX) {
            Some(encoded) => drop(decode_standard(encoded)?),
            None => check_plain(text)?,
        }
        Ok(Self(Zeroizing::new(String::from(text))))
    }

    /// Whether both are the same secret, in a time that reveals only their lengths.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }

    /// Returns a `whsec_` secret of 32 random bytes.
    #[must_use]
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        let mut encoded = base64_of_32(bytes);
        // Sized in advance: a text that grows would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(STANDARD_PREFIX.len() + encoded.len()));
        text.push_str(STANDARD_PREFIX);
        text.push_str(core::str::from_utf8(&encoded).unwrap_or_default());
        encoded.zeroize();
        Self(text)
    }

    /// Returns the secret itself, to store it or show it to its owner.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the key of the Standard scheme, if there is one.
    pub(crate) fn standard_key(&self) -> Option<Zeroizing<alloc::vec::Vec<u8>>> {
        let encoded = self.0.strip_prefix(STANDARD_PREFIX)?;
        decode_standard(encoded).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn decode_standard(encoded: &str) -> Result<Zeroizing<alloc::vec::Vec<u8>>, SecretError> {
    if encoded.len() > STANDARD_TEXT_MAX {
        return Err(SecretError::StandardLength {
            found_bytes: encoded.len() / 4 * 3,
        });
    }
    let bytes =
        Zeroizing::new(Base64::decode_vec(encoded).map_err(|_invalid| SecretError::NotBase64)?);
    if STANDARD_BYTES.contains(&bytes.len()) {
        Ok(bytes)
    } else {
        Err(SecretError::StandardLength {
            found_bytes: bytes.len(),
        })
    }
}

fn check_plain(text: &str) -> Result<(), SecretError> {
    if let Some(at) = text.chars().position(|c| !c.is_ascii_graphic()) {
        return Err(SecretError::NotVisibleAscii { position: at + 1 });
    }
    if PLAIN_CHARS.contains(&text.len()) {
        Ok(())
    } else {
        Err(SecretError::PlainLength {
            found_chars: text.len(),
        })
    }
}
