//! The receiving half: whether a delivery is what its sender signed, and when. Decides in the order secret, headers present, id,
//! timestamp's form, timestamp's window, signatures' form, code: all of the header before a byte of the body is hashed.
//! Checking allocates nothing, reads no clock but in [`StandardVerifier::verify`], and never panics.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::error::VerifyError;
use crate::form;
use crate::headers::{Field, Headers, JoinBuffer, VALUE_MAX_BYTES, joined};
use crate::items::{Grammar, Item};
use crate::key;
use crate::mac::PreparedKey;

/// The name that scheme A's header has unless the sender was configured otherwise.
pub const STORMCOM_HEADER: &str = "x-stormcom-signature";
/// The event's id, the same on every attempt.
pub(crate) const ID_HEADER: &str = "webhook-id";
/// Unix seconds of this attempt.
pub(crate) const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The list of signatures of scheme B.
pub(crate) const SIGNATURE_HEADER: &str = "webhook-signature";

/// How far a delivery's timestamp may lie from now, in either direction. Five minutes unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// So many seconds; exactly so many still pass, and 0 means 0.
    Seconds(u64),
    /// Any age. An old delivery can then be sent again by whoever saw it: drop repeats of the id yourself.
    Unchecked,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::Seconds(300)
    }
}

/// What a delivery's signature vouches for beside the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "drop repeats by `id`: a delivery may come more than once"]
pub struct Verified<'h> {
    /// The event's id, the same on every attempt: drop what you have seen.
    pub id: &'h str,
    /// Unix seconds at which this attempt was signed.
    pub timestamp_s: u64,
}

/// Verifies Standard Webhooks signatures: `webhook-id`, `webhook-timestamp` and `webhook-signature`.
///
/// Make one at start and keep it: the keys are prepared once. Any signature under any of its secrets is success.
///
/// ```
/// use stormhook_verifier::{StandardVerifier, VerifyError};
///
/// let verifier = StandardVerifier::new("whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=")?;
/// # use stormhook_verifier::{Secret, SigningKeys};
/// # let secret = Secret::parse("whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=").unwrap();
/// # let signature = SigningKeys::new([&secret]).standard_signature("evt_1", 1_750_000_000, b"{}").unwrap();
/// let headers = [
///     ("webhook-id", "evt_1"),
///     ("webhook-timestamp", "1750000000"),
///     ("webhook-signature", signature.as_str()),
/// ];
/// let verified = verifier.verify_at(&headers, b"{}", 1_750_000_010)?;
/// assert_eq!(verified.id, "evt_1");
///
/// let changed = verifier.verify_at(&headers, b"{ }", 1_750_000_010);
/// assert_eq!(changed, Err(VerifyError::NoMatch));
/// # Ok::<(), VerifyError>(())
/// ```
#[derive(Clone)]
pub struct StandardVerifier {
    keys: Vec<PreparedKey>,
    tolerance: Tolerance,
}

impl StandardVerifier {
    /// Takes one secret: base64 of 24 to 256 bytes, with or without `whsec_`, padded or not.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`] or [`VerifyError::SecretTooShort`].
    pub fn new(secret: &str) -> Result<Self, VerifyError> {
        Self::with_secrets([secret])
    }

    /// Takes 1 to 16 secrets, for the time of a rotation.
    ///
    /// # Errors
    /// The first unusable secret's [`VerifyError::InvalidSecret`] or [`VerifyError::SecretTooShort`].
    pub fn with_secrets<S: AsRef<str>>(
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<Self, VerifyError> {
        Ok(Self {
            keys: key::prepare_all(secrets, key::standard_key)?,
            tolerance: Tolerance::default(),
        })
    }

    /// Sets how far the timestamp may lie from now.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Checks a delivery against the system's clock. `body` is the bytes as received, before any parsing.
    ///
    /// # Errors
    /// [`VerifyError`] says what is wrong; answer the request with 400 or 401.
    #[cfg(feature = "std")]
    pub fn verify<'h, H: Headers + ?Sized>(
        &self,
        headers: &'h H,
        body: &[u8],
    ) -> Result<Verified<'h>, VerifyError> {
        self.verify_at(headers, body, system_now_s())
    }

    /// Checks a delivery as of `now_s`, in unix seconds. `body` is the bytes as received, before any parsing.
    ///
    /// # Errors
    /// [`VerifyError`] says what is wrong; answer the request with 400 or 401.
    pub fn verify_at<'h, H: Headers + ?Sized>(
        &self,
        headers: &'h H,
        body: &[u8],
        now_s: u64,
    ) -> Result<Verified<'h>, VerifyError> {
        let id_field = Field::of(headers, ID_HEADER);
        let timestamp_field = Field::of(headers, TIMESTAMP_HEADER);
        if id_field.is_missing() {
            return Err(VerifyError::MissingId);
        }
        if timestamp_field.is_missing() {
            return Err(VerifyError::MissingTimestamp);
        }
        with_signatures(headers, SIGNATURE_HEADER, Grammar::Standard, |signatures| {
            let (id, timestamp, timestamp_s) = check_fields(id_field, timestamp_field)?;
            check_window(timestamp_s, now_s, self.tolerance)?;
            let message = [id.as_bytes(), b".", timestamp, b".", body];
            check_signatures(&self.keys, Grammar::Standard, signatures?, &message)?;
            Ok(Verified { id, timestamp_s })
        })
    }
}

/// Verifies `x-stormcom-signature`, which covers the body alone.
///
/// It does not stop a replay: whoever saw a delivery can send it again, at any time. Prefer [`StandardVerifier`], or check the body's own
/// `timestamp` and `id` and drop repeats.
///
/// ```
/// use stormhook_verifier::{StormcomVerifier, VerifyError};
///
/// let verifier = StormcomVerifier::new("It's a Secret to Everybody")?;
/// let headers = [(
///     "X-StormCom-Signature",
///     "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
/// )];
/// verifier.verify(&headers, b"Hello, World!")?;
/// # Ok::<(), VerifyError>(())
/// ```
#[derive(Clone)]
pub struct StormcomVerifier {
    keys: Vec<PreparedKey>,
    header: String,
}

impl StormcomVerifier {
    /// Takes one secret as it is shown, prefix included: 1 to 256 bytes, none of them decoded.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`].
    pub fn new(secret: &str) -> Result<Self, VerifyError> {
        Self::with_secrets([secret])
    }

    /// Takes 1 to 16 secrets, for the time of a rotation.
    ///
    /// # Errors
    /// The first unusable secret's [`VerifyError::InvalidSecret`].
    pub fn with_secrets<S: AsRef<str>>(
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<Self, VerifyError> {
        Ok(Self {
            keys: key::prepare_all(secrets, key::stormcom_key)?,
            header: String::from(STORMCOM_HEADER),
        })
    }

    /// Reads another header, where the sender was configured to use one.
    #[must_use]
    pub fn header(mut self, name: &str) -> Self {
        self.header = String::from(name);
        self
    }

    /// Checks a delivery. `body` is the bytes as received, before any parsing.
    ///
    /// # Errors
    /// [`VerifyError`] says what is wrong; answer the request with 400 or 401.
    pub fn verify<H: Headers + ?Sized>(&self, headers: &H, body: &[u8]) -> Result<(), VerifyError> {
        with_signatures(headers, &self.header, Grammar::Stormcom, |signatures| {
            check_signatures(&self.keys, Grammar::Stormcom, signatures?, &[body])
        })
    }
}

/// Verifies a Standard Webhooks delivery in one line. Keep a [`StandardVerifier`] where many come in.
///
/// # Errors
/// As [`StandardVerifier::new`] and [`StandardVerifier::verify_at`].
pub fn verify_standard<'h, H: Headers + ?Sized>(
    headers: &'h H,
    body: &[u8],
    secret: &str,
    now_s: u64,
    tolerance: Tolerance,
) -> Result<Verified<'h>, VerifyError> {
    StandardVerifier::new(secret)?
        .tolerance(tolerance)
        .verify_at(headers, body, now_s)
}

/// Verifies `x-stormcom-signature` in one line. Keep a [`StormcomVerifier`] where many come in.
///
/// # Errors
/// As [`StormcomVerifier::new`] and [`StormcomVerifier::verify`].
pub fn verify_stormcom<H: Headers + ?Sized>(
    headers: &H,
    body: &[u8],
    secret: &str,
) -> Result<(), VerifyError> {
    StormcomVerifier::new(secret)?.verify(headers, body)
}

impl fmt::Debug for StandardVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandardVerifier")
            .field("tolerance", &self.tolerance)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StormcomVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StormcomVerifier")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

/// Finds the signature header, on the stack where it came in several lines. A header that is too long is handed on
/// as an error, since the checks before that of its form come first.
fn with_signatures<T, H: Headers + ?Sized>(
    headers: &H,
    name: &str,
    grammar: Grammar,
    check: impl FnOnce(Result<&[u8], VerifyError>) -> Result<T, VerifyError>,
) -> Result<T, VerifyError> {
    let mut buffer: JoinBuffer;
    let signatures = match Field::of(headers, name) {
        Field::Absent => return Err(VerifyError::MissingSignature),
        Field::Once(value) => Some(value),
        Field::Repeated => {
            buffer = [0; VALUE_MAX_BYTES];
            joined(headers, name, &mut buffer)
        }
    };
    match signatures {
        Some(value) if grammar.is_blank(value) => Err(VerifyError::MissingSignature),
        Some(value) => check(Ok(value)),
        None => check(Err(VerifyError::TooManySignatures)),
    }
}

/// The forms of id and timestamp, in this order. Both fields are present.
pub(crate) fn check_fields<'h>(
    id: Field<'h>,
    timestamp: Field<'h>,
) -> Result<(&'h str, &'h [u8], u64), VerifyError> {
    let id = match id {
        Field::Once(id) if form::is_id(id) => id,
        _ => return Err(VerifyError::MalformedId),
    };
    let id = core::str::from_utf8(id).map_err(|_not_ascii| VerifyError::MalformedId)?;
    let Field::Once(text) = timestamp else {
        return Err(VerifyError::MalformedTimestamp);
    };
    let timestamp_s = form::timestamp_s(text).ok_or(VerifyError::MalformedTimestamp)?;
    Ok((id, text, timestamp_s))
}

pub(crate) fn check_window(
    timestamp_s: u64,
    now_s: u64,
    tolerance: Tolerance,
) -> Result<(), VerifyError> {
    let Tolerance::Seconds(tolerance_s) = tolerance else {
        return Ok(());
    };
    let age_s = now_s.saturating_sub(timestamp_s);
    let ahead_s = timestamp_s.saturating_sub(now_s);
    if age_s > tolerance_s {
        return Err(VerifyError::TimestampTooOld { age_s, tolerance_s });
    }
    if ahead_s > tolerance_s {
        return Err(VerifyError::TimestampTooNew {
            ahead_s,
            tolerance_s,
        });
    }
    Ok(())
}

/// Form first, then one code for each key, compared with every item that has the form.
pub(crate) fn check_signatures(
    keys: &[PreparedKey],
    grammar: Grammar,
    signatures: &[u8],
    message: &[&[u8]],
) -> Result<(), VerifyError> {
    let survey = grammar.survey(signatures)?;
    let is_signed = keys.iter().any(|key| {
        let tag = key.tag(message);
        let (hex, base64) = match grammar {
            Grammar::Stormcom => (Some(tag.hex()), None),
            Grammar::Standard => (None, Some(tag.base64())),
        };
        grammar.items(signatures).any(|item| match item {
            Item::Wellformed(code) => {
                hex.as_ref().is_some_and(|text| text.matches(code))
                    || base64.as_ref().is_some_and(|text| text.matches(code))
            }
            Item::Malformed | Item::Unknown => false,
        })
    });
    if is_signed {
        Ok(())
    } else {
        Err(survey.no_match())
    }
}

/// The one place that asks a clock, for callers that have `std` and nothing to inject.
#[cfg(feature = "std")]
#[expect(
    clippy::disallowed_methods,
    reason = "the convenience of the `std` feature; everything else takes `now_s`"
)]
fn system_now_s() -> u64 {
    // A clock before 1970 makes every delivery too new, which is the safe side.
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
