//! The receiving half: verifies that a delivery is what its sender signed, and when. The order is secret, headers
//! present, id, timestamp's form, timestamp's window, signatures' form, code: the whole header before a byte of the
//! body is hashed. Verifying allocates nothing, reads a clock only in [`StandardVerifier::verify`], and never panics.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::error::VerifyError;
use crate::headers::{Field, Headers, JoinBuffer, VALUE_MAX_BYTES, joined};
use crate::key::{self, Key};
use crate::mac::PreparedKey;
use crate::steps::{Signatures, StandardHead};
use crate::tolerance::Tolerance;
use crate::verified::Verified;

/// The default name of the StormCom header; the sender may be configured otherwise.
pub const STORMCOM_HEADER: &str = "x-stormcom-signature";
/// The event's id, the same on every attempt.
pub(crate) const ID_HEADER: &str = "webhook-id";
/// Unix seconds of this attempt.
pub(crate) const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Stands for a header whose lines together are too long.
static TOO_LONG: [u8; VALUE_MAX_BYTES + 1] = [b'.'; VALUE_MAX_BYTES + 1];
/// The list of signatures of the Standard scheme.
pub(crate) const SIGNATURE_HEADER: &str = "webhook-signature";

/// Verifies Standard Webhooks signatures: `webhook-id`, `webhook-timestamp` and `webhook-signature`.
///
/// Create one at startup and keep it: the keys are prepared once. One signature that matches one of its secrets is
/// enough.
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
    keys: Vec<Key>,
    tolerance: Tolerance,
}

impl StandardVerifier {
    /// Accepts one secret: base64 of 24 to 256 bytes, with or without `whsec_`, padded or not. With the feature
    /// `ed25519` it may be a public key instead, `whpk_` and base64 of 32 bytes, which verifies `v1a` signatures, so
    /// that the receiver holds no secret.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`] or [`VerifyError::SecretTooShort`].
    pub fn new(secret: &str) -> Result<Self, VerifyError> {
        Self::with_secrets([secret])
    }

    /// Accepts 1 to 16 secrets or public keys, for a rotation.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`] or [`VerifyError::SecretTooShort`] of the first unusable one.
    pub fn with_secrets<S: AsRef<str>>(
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<Self, VerifyError> {
        Ok(Self {
            keys: key::prepare_all(secrets, Key::parse)?,
            tolerance: Tolerance::default(),
        })
    }

    /// Sets how far the timestamp may differ from now.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Verifies a delivery against the system clock. `body` is the bytes as received, before any parsing.
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

    /// Verifies a delivery as of `now_s`, in Unix seconds. `body` is the bytes as received, before any parsing.
    ///
    /// # Errors
    /// [`VerifyError`] says what is wrong; answer the request with 400 or 401.
    pub fn verify_at<'h, H: Headers + ?Sized>(
        &self,
        headers: &'h H,
        body: &[u8],
        now_s: u64,
    ) -> Result<Verified<'h>, VerifyError> {
        let mut buffer = JoinBuffer::default();
        let head = StandardHead {
            id: single(headers, ID_HEADER),
            timestamp: single(headers, TIMESTAMP_HEADER),
            signatures: line(headers, SIGNATURE_HEADER, &mut buffer),
        };
        let versions = Key::versions(&self.keys);
        let signatures = head.check(versions, now_s, self.tolerance)?;
        let [id, dot, timestamp, last_dot] = head.prefix();
        let message = [id, dot, timestamp, last_dot, body];
        let fits = |key: &Key| match key {
            Key::Hmac(key) => signatures.hold(&key.tag(&message)),
            Key::Ed25519(key) => signatures.points().any(|it| key.verifies(&message, &it)),
        };
        if self.keys.iter().any(fits) {
            Ok(head.verified())
        } else {
            Err(signatures.refusal())
        }
    }
}

/// Verifies `x-stormcom-signature`, which covers only the body.
///
/// It doesn't prevent replays: anyone who saw a delivery can send it again, at any time. Prefer [`StandardVerifier`],
/// or check the body's own `timestamp` and `id` and skip repeats.
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
    /// Accepts one secret as shown, including its prefix: 1 to 256 bytes, not decoded.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`].
    pub fn new(secret: &str) -> Result<Self, VerifyError> {
        Self::with_secrets([secret])
    }

    /// Accepts 1 to 16 secrets, for a rotation.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`] of the first unusable secret.
    pub fn with_secrets<S: AsRef<str>>(
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<Self, VerifyError> {
        Ok(Self {
            keys: key::prepare_all(secrets, |secret| key::stormcom_key(secret.as_bytes()))?,
            header: String::from(STORMCOM_HEADER),
        })
    }

    /// Reads another header, if the sender is configured to use one.
    #[must_use]
    pub fn header(mut self, name: &str) -> Self {
        self.header = String::from(name);
        self
    }

    /// Verifies a delivery. `body` is the bytes as received, before any parsing.
    ///
    /// # Errors
    /// [`VerifyError`] says what is wrong; answer the request with 400 or 401.
    pub fn verify<H: Headers + ?Sized>(&self, headers: &H, body: &[u8]) -> Result<(), VerifyError> {
        let mut buffer = JoinBuffer::default();
        let signatures = Signatures::stormcom(line(headers, &self.header, &mut buffer))?;
        if self
            .keys
            .iter()
            .any(|key| signatures.hold(&key.tag(&[body])))
        {
            Ok(())
        } else {
            Err(signatures.refusal())
        }
    }
}

/// Verifies a Standard Webhooks delivery in one line. Keep a [`StandardVerifier`] if you receive many.
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

/// Verifies `x-stormcom-signature` in one line. Keep a [`StormcomVerifier`] if you receive many.
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

/// Returns the value of a name, joined if it arrived in several lines; empty if it is absent, and over the bound if it
/// is too long.
fn line<'h, H: Headers + ?Sized>(
    headers: &'h H,
    name: &str,
    buffer: &'h mut JoinBuffer,
) -> &'h [u8] {
    match Field::of(headers, name) {
        Field::Absent => b"",
        Field::Once(value) => value,
        Field::Repeated => joined(headers, name, buffer).unwrap_or(&TOO_LONG),
    }
}

/// Returns the value of a header that may appear once. If it appears twice, returns a value that is neither an id nor a
/// timestamp.
fn single<'h, H: Headers + ?Sized>(headers: &'h H, name: &str) -> &'h [u8] {
    match Field::of(headers, name) {
        Field::Absent => b"",
        Field::Once(value) => value,
        Field::Repeated => b",",
    }
}

/// The only place that reads a clock, for callers that have `std` and don't pass a time.
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
