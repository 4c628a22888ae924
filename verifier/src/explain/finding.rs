//! What may be said about a delivery that was refused. Decides the wording and the stable codes; a finding never holds any of the secret
//! or of a signature that would have been right, so it may be logged.

use alloc::string::String;
use core::fmt;

/// How the received body differs from the one that was signed, proven by a signature or digest that fits once it is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyChange {
    /// A line end was added at the end, or taken away.
    FinalLineEnd,
    /// LF became CRLF, or the reverse.
    LineEnds,
    /// A byte order mark was put in front, or taken away.
    ByteOrderMark,
    /// JSON was parsed and written again, with other spaces or escapes.
    JsonSpelling,
}

/// A likely reason, most certain first in [`Explanation::findings`](super::Explanation::findings). `Display` says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// `content-digest` is there and differs: the body isn't the one that was sent.
    BodyChanged,
    /// `content-digest` fits the body, so the secret is at fault.
    WrongSecret,
    /// No signature fits, and there is no `content-digest` to tell a wrong secret from a changed body.
    WrongSecretOrBody,
    /// What exactly was done to the body.
    BodyRewritten(BodyChange),
    /// The body's outermost members are not as the daemon writes them: it was parsed and written again.
    LooksReserialised,
    /// The body is empty, and wasn't when it was sent.
    BodyConsumed,
    /// The body holds U+FFFD: bytes were decoded to a string.
    BodyDecodedLossily,
    /// Signed with the whole text as key, where the scheme decodes the base64 after `whsec_`.
    KeyNotDecoded,
    /// Signed with decoded bytes as key, where the scheme takes the text as shown.
    KeyDecoded,
    /// The secret fits without the spaces, line ends or quotes around it.
    SecretHasBlanks,
    /// The secret fits once `whsec_` stands before it, or no longer does.
    SecretPrefix,
    /// The secret is a public key (`whpk_`), which neither scheme A nor `v1` can use, nor a build without the feature `ed25519`.
    SecretIsPublicKey,
    /// The right signature, in hex where base64 is due.
    HexForBase64,
    /// The right signature, in base64 where hex is due.
    Base64ForHex,
    /// The right signature, in other letters, padding, quotes or without its prefix.
    Respelled,
    /// All fits but the time: the delivery is older than allowed.
    ClockBehindSender {
        /// Seconds from the delivery's timestamp to now.
        age_s: u64,
    },
    /// All fits but the time: the delivery comes from the future.
    ClockAheadOfSender {
        /// Seconds from now to the delivery's timestamp.
        ahead_s: u64,
    },
    /// The timestamp has 13 digits: milliseconds.
    TimestampInMilliseconds,
    /// A header of the scheme came under another name.
    HeaderRenamed {
        /// The name that is due.
        expected: String,
        /// The name found, escaped and cut to 64 characters.
        found: String,
    },
    /// A header that may stand once stands twice.
    HeaderRepeated {
        /// Its name.
        name: &'static str,
    },
    /// The id holds a dot, so that `{id}.{timestamp}.{body}` could be split in two ways.
    DotInId,
}

impl Finding {
    /// The finding's name, the same in every version.
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
                "the body is as it was sent (`content-digest` fits), so the secret is wrong: take this endpoint's current one, not another endpoint's or an old one"
            }
            Self::WrongSecretOrBody => {
                "no signature fits, and without `content-digest` a wrong secret can't be told from a changed body: check both, the secret first"
            }
            Self::BodyRewritten(change) => change.advice(),
            Self::LooksReserialised => {
                "the body's outermost members are not written as they are sent (`id`, `type`, `timestamp`, `organizationId`, `sequence`, `data`, nothing between them), so it was parsed and written again; verify the raw bytes and parse afterwards"
            }
            Self::BodyConsumed => {
                "the body is empty: something read it first; verify where the raw body is still there"
            }
            Self::BodyDecodedLossily => {
                "the body holds U+FFFD, which stands for bytes lost when text was decoded; read the body as bytes"
            }
            Self::KeyNotDecoded => {
                "the signature was made with the whole text of the secret; `webhook-signature` is made with the bytes under the base64 after `whsec_`"
            }
            Self::KeyDecoded => {
                "the signature was made with the decoded secret; this scheme takes the text as shown, `whsec_` included"
            }
            Self::SecretHasBlanks => {
                "the secret fits without the spaces, line ends or quotes around it; remove them where it is configured"
            }
            Self::SecretPrefix => {
                "the secret's `whsec_` was lost or added; configure the text exactly as it is shown"
            }
            Self::SecretIsPublicKey => {
                "this is a public key (`whpk_`), which checks `v1a` signatures alone, in a build with ed25519; `x-stormcom-signature` and `v1` need the endpoint's secret (`whsec_`)"
            }
            Self::HexForBase64 => "the right signature, but in hex; send padded standard base64",
            Self::Base64ForHex => "the right signature, but in base64; send lowercase hex",
            Self::Respelled => {
                "the right signature, but not its exact form: letter case, alphabet, padding, quotes or prefix were changed on the way"
            }
            Self::ClockBehindSender { .. } => {
                "the time lies further back than allowed: set this machine's clock (NTP), or the delivery was held up or is a replay"
            }
            Self::ClockAheadOfSender { .. } => {
                "the time lies further ahead than allowed: this machine's clock is slow or the sender's fast; set it (NTP)"
            }
            Self::TimestampInMilliseconds => {
                "`webhook-timestamp` has 13 digits, which is milliseconds; the scheme has seconds"
            }
            Self::HeaderRenamed { .. } => {
                "a header came under another name: tell the proxy or framework to pass it unchanged"
            }
            Self::HeaderRepeated { .. } => {
                "a header stands twice: something on the way adds its own"
            }
            Self::DotInId => {
                "`webhook-id` holds a dot, with which an old delivery can be shown as a fresh one; it is refused whatever its signature"
            }
        }
    }
}

impl BodyChange {
    fn advice(self) -> &'static str {
        match self {
            Self::FinalLineEnd => {
                "a line end was added to or taken from the end of the body; pass the bytes exactly as received"
            }
            Self::LineEnds => "the body's line ends were converted; read it as bytes, not as text",
            Self::ByteOrderMark => {
                "a byte order mark was added to or taken from the body; read it as bytes, not as text"
            }
            Self::JsonSpelling => {
                "the body is JSON that was parsed and written again; verify the raw bytes and parse afterwards"
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
