//! The signature debugger: which step refuses a delivery, and the likely reason. It makes no trust decisions: it runs
//! the verifiers, which do. It hashes a body many times: for interactive use, never for each request.

mod finding;
mod inquiry;
mod json;
mod rewrite;
mod search;

use alloc::vec::Vec;
use core::fmt;

pub use finding::{BodyChange, Finding};
use inquiry::{Inquiry, digest_of};

use crate::error::VerifyError;
use crate::headers::Headers;
use crate::tolerance::Tolerance;
use crate::verify::{STORMCOM_HEADER, StandardVerifier, StormcomVerifier};

/// A step of verification, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The secret is usable.
    Secret,
    /// The scheme's headers are present.
    HeadersPresent,
    /// `webhook-id` is well formed.
    IdForm,
    /// `webhook-timestamp` is well formed.
    TimestampForm,
    /// The timestamp is close enough to now.
    TimestampWindow,
    /// The signature header is well formed.
    SignatureForm,
    /// A signature matches key and body.
    Signature,
}

impl Step {
    /// Returns its name, the same in every version.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::HeadersPresent => "headers_present",
            Self::IdForm => "id_form",
            Self::TimestampForm => "timestamp_form",
            Self::TimestampWindow => "timestamp_window",
            Self::SignatureForm => "signature_form",
            Self::Signature => "signature",
        }
    }
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// The step passed.
    Passed,
    /// Verification failed here.
    Failed(VerifyError),
    /// An earlier step failed.
    NotReached,
}

/// The result of one scheme's verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemeReport {
    /// The verifier's own result.
    pub result: Result<(), VerifyError>,
    steps: &'static [Step],
}

const STANDARD_STEPS: &[Step] = &[
    Step::Secret,
    Step::HeadersPresent,
    Step::IdForm,
    Step::TimestampForm,
    Step::TimestampWindow,
    Step::SignatureForm,
    Step::Signature,
];
const STORMCOM_STEPS: &[Step] = &[
    Step::Secret,
    Step::HeadersPresent,
    Step::SignatureForm,
    Step::Signature,
];

impl SchemeReport {
    /// Returns the scheme's steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = (Step, StepOutcome)> + use<> {
        let failed = self.result.err().map(|error| (step_of(error), error));
        self.steps.iter().map(move |step| {
            let outcome = match failed {
                Some((at, error)) if *step == at => StepOutcome::Failed(error),
                Some((at, _)) if *step > at => StepOutcome::NotReached,
                _ => StepOutcome::Passed,
            };
            (*step, outcome)
        })
    }

    /// Returns the step that failed.
    #[must_use]
    pub fn failed_step(&self) -> Option<Step> {
        self.result.err().map(step_of)
    }
}

/// Whether `content-digest` matches the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentDigest {
    /// The body is the one that was sent.
    Fits,
    /// The body is a different one.
    Differs,
    /// There is no `sha-256` digest.
    Absent,
}

impl ContentDigest {
    /// Returns its name, the same in every version.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::Differs => "differs",
            Self::Absent => "absent",
        }
    }
}

/// Why a delivery is or isn't accepted, step by step. Contains no secret and no signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// `webhook-signature`.
    pub standard: SchemeReport,
    /// `x-stormcom-signature`.
    pub stormcom: SchemeReport,
    /// Whether the body is the one that was sent.
    pub content_digest: ContentDigest,
    /// The likely reasons, each once. Empty if nothing is wrong.
    pub findings: Vec<Finding>,
}

/// Returns which step refuses a delivery and why, with the default tolerance and header names. With the feature
/// `ed25519`, also accepts a public key (`whpk_`) as the secret.
///
/// The explanation contains no secret; show it to the developer of the receiver.
///
/// ```
/// use stormhook_verifier::{Finding, Secret, SigningKeys, content_digest, explain};
///
/// let secret = Secret::parse("whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=")?;
/// let sent = br#"{"id":"evt_1","data":{"total":10}}"#;
/// let signature = SigningKeys::new([&secret]).stormcom_signature(sent);
/// let digest = content_digest(sent);
/// let headers = [("x-stormcom-signature", &signature), ("content-digest", &digest)];
///
/// // A framework parsed the body and serialized it again.
/// let received = br#"{"id": "evt_1", "data": {"total": 10}}"#;
/// let explanation = explain(&headers, received, secret.expose(), 1_750_000_000);
/// let codes: Vec<_> = explanation.findings.iter().map(Finding::code).collect();
/// assert_eq!(codes, ["json_reserialised", "body_changed"]);
/// println!("{explanation}");
/// # Ok::<(), stormhook_verifier::SecretError>(())
/// ```
pub fn explain<H: Headers + ?Sized>(
    headers: &H,
    body: &[u8],
    secret: &str,
    now_s: u64,
) -> Explanation {
    let tolerance = Tolerance::default();
    explain_with(headers, body, secret, now_s, tolerance, STORMCOM_HEADER)
}

/// As [`explain`], with the tolerance and the name of the StormCom header that the receiver is configured with.
pub fn explain_with<H: Headers + ?Sized>(
    headers: &H,
    body: &[u8],
    secret: &str,
    now_s: u64,
    tolerance: Tolerance,
    stormcom_header: &str,
) -> Explanation {
    let standard = StandardVerifier::new(secret).and_then(|verifier| {
        let verifier = verifier.tolerance(tolerance);
        verifier.verify_at(headers, body, now_s).map(|_verified| ())
    });
    let stormcom = StormcomVerifier::new(secret)
        .and_then(|verifier| verifier.header(stormcom_header).verify(headers, body));
    let content_digest = digest_of(headers, body);
    let mut inquiry = Inquiry {
        headers,
        body,
        content_digest,
        findings: Vec::new(),
    };
    inquiry.without_a_key(standard, stormcom, stormcom_header);
    inquiry.signatures(standard, stormcom, secret, stormcom_header);
    inquiry.public_key(standard, stormcom, secret);
    Explanation {
        standard: SchemeReport {
            result: standard,
            steps: STANDARD_STEPS,
        },
        stormcom: SchemeReport {
            result: stormcom,
            steps: STORMCOM_STEPS,
        },
        content_digest,
        findings: inquiry.findings,
    }
}

fn step_of(error: VerifyError) -> Step {
    match error {
        VerifyError::InvalidSecret { .. } | VerifyError::SecretTooShort { .. } => Step::Secret,
        VerifyError::MissingId | VerifyError::MissingTimestamp | VerifyError::MissingSignature => {
            Step::HeadersPresent
        }
        VerifyError::MalformedId => Step::IdForm,
        VerifyError::MalformedTimestamp => Step::TimestampForm,
        VerifyError::TimestampTooOld { .. } | VerifyError::TimestampTooNew { .. } => {
            Step::TimestampWindow
        }
        VerifyError::MalformedSignature
        | VerifyError::UnsupportedSignature
        | VerifyError::TooManySignatures => Step::SignatureForm,
        VerifyError::NoMatch => Step::Signature,
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, report) in [
            ("webhook-signature", &self.standard),
            ("x-stormcom-signature", &self.stormcom),
        ] {
            match report.result {
                Ok(()) => writeln!(f, "{name}: ok")?,
                Err(error) => writeln!(f, "{name}: {}: {error}", error.code())?,
            }
        }
        for finding in &self.findings {
            writeln!(f, "{}: {finding}", finding.code())?;
        }
        Ok(())
    }
}
