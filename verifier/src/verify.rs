//! The receiving half: whether a delivery is what its sender signed, and when. Decides in the order secret, headers present, id,
//! timestamp's form, timestamp's window, signatures' form, code: all of the header before a byte of the body is hashed.
//! Checking allocates nothing, reads no clock but in [`StandardVerifier::verify`], and never panics.

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

/// The name that scheme A's header has unless the sender was configured otherwise.
pub const STORMCOM_HEADER: &str = "x-stormcom-signature";
/// The event's id, the same on every attempt.
pub(crate) const ID_HEADER: &str = "webhook-id";
/// Unix seconds of this attempt.
pub(crate) const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Stands for a header whose lines are too long together.
static TOO_LONG: [u8; VALUE_MAX_BYTES + 1] = [b'.'; VALUE_MAX_BYTES + 1];
/// The list of signatures of scheme B.
pub(crate) const SIGNATURE_HEADER: &str = "webhook-signature";

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
    keys: Vec<Key>,
    tolerance: Tolerance,
}

impl StandardVerifier {
    /// Takes one secret: base64 of 24 to 256 bytes, with or without `whsec_`, padded or not. With the feature `ed25519` it may be a
    /// public key instead, `whpk_` and base64 of 32 bytes, which checks `v1a` signatures and lets the receiver hold nothing secret.
    ///
    /// # Errors
    /// [`VerifyError::InvalidSecret`] or [`VerifyError::SecretTooShort`].
    pub fn new(secret: &str) -> Result<Self, VerifyError> {
        Self::with_secrets([secret])
    }

    /// Takes 1 to 16 secrets or public keys, for the time of a rotation.
    ///
    /// # Errors
    /// The first unusable one's [`VerifyError::InvalidSecret`] or [`VerifyError::SecretTooShort`].
    pub fn with_secrets<S: AsRef<str>>(
        secrets: impl IntoIterator<Item = S>,
    ) -> Result<Self, VerifyError> {
        Ok(Self {
            keys: key::prepare_all(secrets, Key::parse)?,
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
            keys: key::prepare_all(secrets, |secret| key::stormcom_key(secret.as_bytes()))?,
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

/// What stands under a name, joined where it came in several lines; empty where it is absent, over the bound where it is too long.
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

/// The value of a header that may stand once. Said twice it is what no id and no timestamp can be.
fn single<'h, H: Headers + ?Sized>(headers: &'h H, name: &str) -> &'h [u8] {
    match Field::of(headers, name) {
        Field::Absent => b"",
        Field::Once(value) => value,
        Field::Repeated => b",",
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
