//! The findings about a refused delivery: their wording and stable codes. A finding never holds any part of the secret
//! or of a valid signature, so it may be logged.

use alloc::string::String;
use core::fmt;

/// How the received body differs from the signed one, proven by a signature or digest that matches once the change is
/// undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyChange {
    /// A line end was added to or removed from the end.
    FinalLineEnd,
    /// LF became CRLF, or the reverse.
    LineEnds,
    /// A byte order mark was added to or removed from the start.
    ByteOrderMark,
    /// JSON was parsed and serialized again, with other spaces or escapes.
    JsonSpelling,
}

/// A likely reason, the most certain first in [`Explanation::findings`](super::Explanation::findings). `Display` says
/// what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// `content-digest` is present and differs: the body isn't the one that was sent.
    BodyChanged,
    /// `content-digest` matches the body, so the secret is wrong.
    WrongSecret,
    /// No signature matches, and there is no `content-digest` to distinguish a wrong secret from a changed body.
    WrongSecretOrBody,
    /// The exact change to the body.
    BodyRewritten(BodyChange),
    /// The body's outermost members are not as the daemon writes them: it was parsed and serialized again.
    LooksReserialised,
    /// The body is empty, but wasn't when it was sent.
    BodyConsumed,
    /// The body contains U+FFFD: bytes were decoded to a string.
    BodyDecodedLossily,
    /// Signed with the whole text as key, although the scheme decodes the base64 after `whsec_`.
    KeyNotDecoded,
    /// Signed with the decoded bytes as key, although the scheme uses the text as shown.
    KeyDecoded,
    /// The secret matches without the spaces, line ends or quotes around it.
    SecretHasBlanks,
    /// The secret matches once `whsec_` is added or removed.
    SecretPrefix,
    /// The secret is a public key (`whpk_`), which neither the StormCom scheme nor `v1` can use, nor a build without
    /// the feature `ed25519`.
    SecretIsPublicKey,
    /// A valid signature, but in hex instead of base64.
    HexForBase64,
    /// A valid signature, but in base64 instead of hex.
    Base64ForHex,
    /// A valid signature, but with changed letter case, padding or quotes, or without its prefix.
    Respelled,
    /// Everything matches except the time: the delivery is older than allowed.
    ClockBehindSender {
        /// Seconds from the delivery's timestamp to now.
        age_s: u64,
    },
    /// Everything matches except the time: the delivery is from the future.
    ClockAheadOfSender {
        /// Seconds from now to the delivery's timestamp.
        ahead_s: u64,
    },
    /// The timestamp has 13 digits: milliseconds.
    TimestampInMilliseconds,
    /// A header of the scheme arrived under another name.
    HeaderRenamed {
        /// The expected name.
        expected: String,
        /// The name found, escaped and truncated to 64 characters.
        found: String,
    },
    /// A header that may appear only once appears twice.
    HeaderRepeated {
        /// Its name.
        name: &'static str,
    },
    /// The id contains a dot, so that `{id}.{timestamp}.{body}` could be split in two ways.
    DotInId,
}

impl Finding {
    /// Returns the finding's name, the same in every version.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BodyChanged => "body_changed",
            Self::WrongSecret => "wrong_secret",
            Self::WrongSecretOrBody => "wrong_secret_or_body",
            Self::BodyRewritten(BodyChange::FinalLineEnd) => "body_final_line_end",
            Self::BodyRewritten(BodyChange::LineEnds) => "body_line_ends",
            Self::BodyRewritten(BodyChange::ByteOrderMark) => "body_byte_order_mark",
            Self::BodyRewritten(BodyChange::JsonSpelling) => "json_reserialised",
            Self::LooksReserialised => "looks_reserialised",
            Self::BodyConsumed => "body_consumed",
            Self::BodyDecodedLossily => "body_decoded_lossily",
            Self::KeyNotDecoded => "key_not_decoded",
            Self::KeyDecoded => "key_decoded",
            Self::SecretHasBlanks => "secret_has_blanks",
            Self::SecretPrefix => "secret_prefix",
            Self::SecretIsPublicKey => "secret_is_public_key",
            Self::HexForBase64 => "hex_for_base64",
            Self::Base64ForHex => "base64_for_hex",
            Self::Respelled => "signature_respelled",
            Self::ClockBehindSender { .. } => "delivery_too_old",
            Self::ClockAheadOfSender { .. } => "delivery_too_new",
            Self::TimestampInMilliseconds => "timestamp_in_milliseconds",
            Self::HeaderRenamed { .. } => "header_renamed",
            Self::HeaderRepeated { .. } => "header_repeated",
            Self::DotInId => "dot_in_id",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::BodyChanged => {
                "the body is not the one that was sent: `content-digest` differs; verify the raw bytes, before any parser or middleware"
            }
            Self::WrongSecret => {
                "the body is the one that was sent (`content-digest` matches), so the secret is wrong: use this endpoint's current one, not another endpoint's or an old one"
            }
            Self::WrongSecretOrBody => {
                "no signature matches, and without `content-digest` a wrong secret can't be distinguished from a changed body: check both, the secret first"
            }
            Self::BodyRewritten(change) => change.advice(),
            Self::LooksReserialised => {
                "the body's outermost members are not written as they are sent (`id`, `type`, `timestamp`, `organizationId`, `sequence`, `data`, nothing between them), so it was parsed and serialized again; verify the raw bytes and parse afterwards"
            }
            Self::BodyConsumed => {
                "the body is empty: something read it first; verify before the raw body is consumed"
            }
            Self::BodyDecodedLossily => {
                "the body contains U+FFFD, which marks bytes lost when it was decoded as text; read the body as bytes"
            }
            Self::KeyNotDecoded => {
                "the signature was made with the whole text of the secret; `webhook-signature` is made with the bytes that the base64 after `whsec_` decodes to"
            }
            Self::KeyDecoded => {
                "the signature was made with the decoded secret; this scheme uses the text as shown, including `whsec_`"
            }
            Self::SecretHasBlanks => {
                "the secret matches without the spaces, line ends or quotes around it; remove them where it is configured"
            }
            Self::SecretPrefix => {
                "the secret's `whsec_` was lost or added; configure the text exactly as it is shown"
            }
            Self::SecretIsPublicKey => {
                "this is a public key (`whpk_`), which verifies only `v1a` signatures, in a build with ed25519; `x-stormcom-signature` and `v1` need the endpoint's secret (`whsec_`)"
            }
            Self::HexForBase64 => "a valid signature, but in hex; send padded standard base64",
            Self::Base64ForHex => "a valid signature, but in base64; send lowercase hex",
            Self::Respelled => {
                "a valid signature, but not in its exact form: letter case, alphabet, padding, quotes or prefix were changed in transit"
            }
            Self::ClockBehindSender { .. } => {
                "the time is further in the past than allowed: set this machine's clock (NTP); otherwise the delivery was delayed or is a replay"
            }
            Self::ClockAheadOfSender { .. } => {
                "the time is further in the future than allowed: this machine's clock is slow or the sender's is fast; set it (NTP)"
            }
            Self::TimestampInMilliseconds => {
                "`webhook-timestamp` has 13 digits, which means milliseconds; the scheme uses seconds"
            }
            Self::HeaderRenamed { .. } => {
                "a header arrived under another name: configure the proxy or framework to pass it unchanged"
            }
            Self::HeaderRepeated { .. } => {
                "a header appears twice: something in between adds its own"
            }
            Self::DotInId => {
                "`webhook-id` contains a dot, which would let an old delivery pass as a new one; it is refused whatever its signature"
            }
        }
    }
}

impl BodyChange {
    fn advice(self) -> &'static str {
        match self {
            Self::FinalLineEnd => {
                "a line end was added to or removed from the end of the body; pass the bytes exactly as received"
            }
            Self::LineEnds => "the body's line ends were converted; read it as bytes, not as text",
            Self::ByteOrderMark => {
                "a byte order mark was added to or removed from the body; read it as bytes, not as text"
            }
            Self::JsonSpelling => {
                "the body is JSON that was parsed and serialized again; verify the raw bytes and parse afterwards"
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.advice())?;
        match self {
            Self::ClockBehindSender { age_s } => write!(f, " ({age_s} s old)"),
            Self::ClockAheadOfSender { ahead_s } => write!(f, " ({ahead_s} s ahead)"),
            Self::HeaderRenamed { expected, found } => {
                write!(f, " (expected `{expected}`, found `{found}`)")
            }
            Self::HeaderRepeated { name } => write!(f, " (`{name}`)"),
            _ => Ok(()),
        }
    }
}
