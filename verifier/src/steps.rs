//! Verification in steps, for callers that receive a body in pieces or have it hashed elsewhere, such as the
//! WebAssembly build. Defines the order of the checks of a header: presence, id, timestamp's form, its window,
//! signatures' form. [`StandardVerifier`] and [`StormcomVerifier`] run these steps in sequence; use them if the whole
//! body is available.
//!
//! [`StandardVerifier`]: crate::StandardVerifier
//! [`StormcomVerifier`]: crate::StormcomVerifier
//!
//! ```
//! use stormhook_verifier::steps::{PreparedKey, Signatures};
//!
//! let key = PreparedKey::stormcom(b"It's a Secret to Everybody")?;
//! let header = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
//! let signatures = Signatures::stormcom(header)?; // before a byte of the body is read
//! let mut mac = key.start();
//! for piece in ["Hello, ", "World!"] {
//!     mac.update(piece.as_bytes());
//! }
//! assert!(signatures.hold(&mac.finish()));
//! # Ok::<(), stormhook_verifier::VerifyError>(())
//! ```

use crate::error::VerifyError;
use crate::form;
use crate::items::{Grammar, ITEMS_MAX};
use crate::tolerance::Tolerance;
use crate::verified::Verified;

pub use crate::items::Versions;
pub use crate::mac::{PreparedKey, RunningMac, Tag};
pub use crate::public_key::PublicKey;
#[cfg(feature = "ed25519")]
pub use crate::public_key::RunningCheck;

/// A delivery's signatures, well formed and not checked yet.
#[derive(Debug, Clone, Copy)]
pub struct Signatures<'v> {
    grammar: Grammar,
    versions: Versions,
    value: &'v [u8],
}

/// The three headers of the Standard scheme. One that arrived in several lines is joined by `, `; an absent one is
/// empty.
#[derive(Debug, Clone, Copy)]
pub struct StandardHead<'h, 'v> {
    /// `webhook-id`.
    pub id: &'h [u8],
    /// `webhook-timestamp`.
    pub timestamp: &'h [u8],
    /// `webhook-signature`; more than 4,096 bytes are refused.
    pub signatures: &'v [u8],
}

impl<'h, 'v> StandardHead<'h, 'v> {
    /// Checks everything that doesn't need the body: the id, the timestamp against `now_s`, the form of the signatures.
    ///
    /// # Errors
    /// [`VerifyError`], in the order of the checks.
    pub fn check(
        self,
        versions: Versions,
        now_s: u64,
        tolerance: Tolerance,
    ) -> Result<Signatures<'v>, VerifyError> {
        if self.id.is_empty() {
            return Err(VerifyError::MissingId);
        }
        if self.timestamp.is_empty() {
            return Err(VerifyError::MissingTimestamp);
        }
        if Grammar::Standard.is_blank(self.signatures) {
            return Err(VerifyError::MissingSignature);
        }
        if !form::is_id(self.id) {
            return Err(VerifyError::MalformedId);
        }
        let timestamp_s =
            form::timestamp_s(self.timestamp).ok_or(VerifyError::MalformedTimestamp)?;
        tolerance.check(timestamp_s, now_s)?;
        Signatures::checked_standard(self.signatures, versions).check()
    }

    /// Returns what the signatures cover, once one of them matches. Empty and 0 if the headers were not checked before.
    pub fn verified(&self) -> Verified<'h> {
        Verified {
            id: core::str::from_utf8(self.id).unwrap_or_default(),
            timestamp_s: form::timestamp_s(self.timestamp).unwrap_or_default(),
        }
    }

    /// Returns what is signed before the body: `{id}.{timestamp}.`.
    #[must_use]
    pub fn prefix(&self) -> [&'h [u8]; 4] {
        [self.id, b".", self.timestamp, b"."]
    }
}

impl<'v> Signatures<'v> {
    /// Returns those of the StormCom scheme. A header that arrived in several lines is joined by `, `; an absent one is
    /// empty.
    ///
    /// # Errors
    /// [`VerifyError`] about the header.
    pub fn stormcom(value: &'v [u8]) -> Result<Self, VerifyError> {
        if Grammar::Stormcom.is_blank(value) {
            return Err(VerifyError::MissingSignature);
        }
        Self::checked_stormcom(value).check()
    }

    /// Returns those of the Standard scheme that [`StandardHead::check`] has found well formed.
    #[must_use]
    pub fn checked_standard(value: &'v [u8], versions: Versions) -> Self {
        Self {
            grammar: Grammar::Standard,
            versions,
            value,
        }
    }

    /// Returns those of the StormCom scheme that [`Signatures::stormcom`] has found well formed.
    #[must_use]
    pub fn checked_stormcom(value: &'v [u8]) -> Self {
        Self {
            grammar: Grammar::Stormcom,
            versions: Versions::HMAC,
            value,
        }
    }

    fn check(self) -> Result<Self, VerifyError> {
        self.grammar.survey(self.value, self.versions)?;
        Ok(self)
    }

    /// Whether one of them is this code, in its exact spelling. Compared in constant time.
    #[must_use]
    pub fn hold(&self, tag: &Tag) -> bool {
        let mut codes = self.grammar.codes(self.value).take(ITEMS_MAX);
        match self.grammar {
            Grammar::Stormcom => {
                let right = tag.hex();
                codes.any(|code| right.matches(code))
            }
            Grammar::Standard => {
                let right = tag.base64();
                self.versions.hmac && codes.any(|code| right.matches(code))
            }
        }
    }

    /// Returns the ed25519 signatures to try, the first four at most.
    pub fn points(&self) -> impl Iterator<Item = [u8; 64]> + use<'v> {
        let (grammar, value) = (self.grammar, self.value);
        let is_asked = self.versions.ed25519;
        grammar.points(value).filter(move |_| is_asked)
    }

    /// Returns the error if no key matches.
    #[must_use]
    pub fn refusal(&self) -> VerifyError {
        match self.grammar.survey(self.value, self.versions) {
            Ok(survey) => survey.no_match(),
            Err(error) => error,
        }
    }
}
