//! Why a delivery was refused. Defines the stable codes. Never holds any part of a secret or of an expected signature.

/// Why a delivery was refused, or why a verifier could not be created. [`code`](VerifyError::code) is stable across
/// versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The secret given to the verifier is invalid: the receiver's own configuration is wrong.
    #[error(
        "the secret is invalid: {reason}; pass the endpoint's secret as it is shown, without quotes, spaces or line ends"
    )]
    InvalidSecret {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The secret given to the verifier decodes to too few bytes: the receiver's own configuration is wrong.
    #[error(
        "the secret decodes to {found_bytes} bytes and must have at least 24; pass the whole secret, or rotate it"
    )]
    SecretTooShort {
        /// The number of decoded bytes.
        found_bytes: usize,
    },
    /// `webhook-id` is absent or empty.
    #[error(
        "the header `webhook-id` is missing; check that the proxy in front passes the `webhook-*` headers"
    )]
    MissingId,
    /// `webhook-timestamp` is absent or empty.
    #[error(
        "the header `webhook-timestamp` is missing; check that the proxy in front passes the `webhook-*` headers"
    )]
    MissingTimestamp,
    /// The signature header is absent or has no items.
    #[error(
        "the signature header is missing or empty; check that the proxy in front passes it, and under this name"
    )]
    MissingSignature,
    /// `webhook-id` is repeated, or not 1 to 256 visible ASCII characters without comma and dot.
    #[error(
        "the header `webhook-id` must appear once, with 1 to 256 visible ASCII characters other than `,` and `.`; refuse the request"
    )]
    MalformedId,
    /// `webhook-timestamp` is repeated, or not canonical decimal.
    #[error(
        "the header `webhook-timestamp` must appear once, as Unix seconds of at most 12 digits without sign, space or leading zero; refuse the request"
    )]
    MalformedTimestamp,
    /// The attempt is older than the tolerance.
    #[error(
        "the delivery was signed {age_s} s ago, more than the {tolerance_s} s allowed; check this machine's clock; if it is correct, refuse the delivery as a replay"
    )]
    TimestampTooOld {
        /// Seconds from the timestamp to now.
        age_s: u64,
        /// Seconds allowed.
        tolerance_s: u64,
    },
    /// The attempt is further in the future than the tolerance.
    #[error(
        "the delivery was signed {ahead_s} s in the future, more than the {tolerance_s} s allowed; check this machine's clock"
    )]
    TimestampTooNew {
        /// Seconds from now to the timestamp.
        ahead_s: u64,
        /// Seconds allowed.
        tolerance_s: u64,
    },
    /// An item of this scheme's version is malformed, and no other item matches.
    #[error(
        "the signature header holds a signature that was truncated, re-encoded or extended: expected `sha256=` and 64 lowercase hex digits, or `v1,` and 44 characters of padded base64"
    )]
    MalformedSignature,
    /// All items are of an unknown version or algorithm.
    #[error(
        "the signature header holds no signature of this scheme: expected an item that begins with `sha256=`, or with `v1,`"
    )]
    UnsupportedSignature,
    /// More signatures than any sender has secrets.
    #[error(
        "the signature header has more than 32 items or 4,096 bytes, which no sender produces; refuse the request"
    )]
    TooManySignatures,
    /// Well formed, but made with another key or for another body.
    #[error(
        "no signature matches: the body is not the raw bytes that were received, or the secret is another endpoint's or an old one; `explain` shows which"
    )]
    NoMatch,
}

impl VerifyError {
    /// Returns the error's name, the same in every version and language.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidSecret { .. } => "invalid_secret",
            Self::SecretTooShort { .. } => "secret_too_short",
            Self::MissingId => "missing_id",
            Self::MissingTimestamp => "missing_timestamp",
            Self::MissingSignature => "missing_signature",
            Self::MalformedId => "malformed_id",
            Self::MalformedTimestamp => "malformed_timestamp",
            Self::TimestampTooOld { .. } => "timestamp_too_old",
            Self::TimestampTooNew { .. } => "timestamp_too_new",
            Self::MalformedSignature => "malformed_signature",
            Self::UnsupportedSignature => "unsupported_signature",
            Self::TooManySignatures => "too_many_signatures",
            Self::NoMatch => "no_match",
        }
    }
}
