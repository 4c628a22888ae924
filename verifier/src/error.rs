//! Why a delivery was refused. Decides the stable codes; never carries any of a secret or of an expected signature.

/// Why a delivery was refused, or why no verifier could be made. [`code`](VerifyError::code) stays the same over versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The secret given to the verifier is none: the receiver's own configuration is at fault.
    #[error(
        "the secret is not usable: {reason}; pass the endpoint's secret as it is shown, without quotes, spaces or line ends"
    )]
    InvalidSecret {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The secret given to the verifier decodes to too few bytes: the receiver's own configuration is at fault.
    #[error(
        "the secret decodes to {found_bytes} bytes and must have at least 24; pass the whole of it, or rotate it"
    )]
    SecretTooShort {
        /// Bytes after decoding.
        found_bytes: usize,
    },
    /// `webhook-id` is absent or empty.
    #[error(
        "the header `webhook-id` is missing; see that the proxy in front passes the `webhook-*` headers on"
    )]
    MissingId,
    /// `webhook-timestamp` is absent or empty.
    #[error(
        "the header `webhook-timestamp` is missing; see that the proxy in front passes the `webhook-*` headers on"
    )]
    MissingTimestamp,
    /// The signature header is absent or holds no item.
    #[error(
        "the signature header is missing or empty; see that the proxy in front passes it on, and under this name"
    )]
    MissingSignature,
    /// `webhook-id` is repeated, or not 1 to 256 visible ASCII characters without comma and dot.
    #[error(
        "the header `webhook-id` must be there once, with 1 to 256 visible ASCII characters other than `,` and `.`; refuse the request"
    )]
    MalformedId,
    /// `webhook-timestamp` is repeated, or not canonical decimal.
    #[error(
        "the header `webhook-timestamp` must be there once, as unix seconds of at most 12 digits without sign, space or leading zero; refuse the request"
    )]
    MalformedTimestamp,
    /// The attempt was made longer ago than the tolerance.
    #[error(
        "the delivery was signed {age_s} s ago, more than the {tolerance_s} s allowed; check this machine's clock, else refuse it as a replay"
    )]
    TimestampTooOld {
        /// Seconds from the timestamp to now.
        age_s: u64,
        /// Seconds allowed.
        tolerance_s: u64,
    },
    /// The attempt lies further in the future than the tolerance.
    #[error(
        "the delivery was signed {ahead_s} s in the future, more than the {tolerance_s} s allowed; check this machine's clock"
    )]
    TimestampTooNew {
        /// Seconds from now to the timestamp.
        ahead_s: u64,
        /// Seconds allowed.
        tolerance_s: u64,
    },
    /// An item of this scheme's version does not have its exact form, and no other item matches.
    #[error(
        "the signature header holds a signature that is cut, re-encoded or has something added: expected `sha256=` and 64 lowercase hex digits, or `v1,` and 44 characters of padded base64"
    )]
    MalformedSignature,
    /// Every item is of an unknown version or algorithm.
    #[error(
        "the signature header holds no signature that this scheme knows: expected an item that begins with `sha256=`, or with `v1,`"
    )]
    UnsupportedSignature,
    /// More signatures than any sender has live secrets.
    #[error(
        "the signature header has over 32 items or 4,096 bytes, more than any sender makes; refuse the request"
    )]
    TooManySignatures,
    /// Well formed, but made with another key or over another body.
    #[error(
        "no signature matches: the body is not the raw bytes that were received, or the secret is another endpoint's or an old one; `explain` tells which"
    )]
    NoMatch,
}

impl VerifyError {
    /// The error's name, the same in every version and every language.
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
