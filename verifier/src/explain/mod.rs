//! The signature debugger: which step refuses a delivery, and what likely happened. Decides nothing about trust: that is the verifiers' alone,
//! and this runs them. Hashes a body many times: for a person at a desk, never for each request.

mod finding;
mod rewrite;
mod search;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use finding::{BodyChange, Finding};

use crate::error::VerifyError;
use crate::headers::{Field, Headers, VALUE_MAX_BYTES, joined, shown};
use crate::items::Grammar;
use crate::mac::sha256_base64;
use crate::verify::{
    ID_HEADER, SIGNATURE_HEADER, STORMCOM_HEADER, StandardVerifier, StormcomVerifier,
    TIMESTAMP_HEADER, Tolerance,
};

const DIGEST_HEADER: &str = "content-digest";

/// A step of verifying, in the order taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The secret is usable.
    Secret,
    /// The scheme's headers are there.
    HeadersPresent,
    /// `webhook-id` has its form.
    IdForm,
    /// `webhook-timestamp` has its form.
    TimestampForm,
    /// The timestamp is near enough to now.
    TimestampWindow,
    /// The signature header has its form.
    SignatureForm,
    /// A signature fits key and body.
    Signature,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// Nothing to say.
    Passed,
    /// Verifying ends here.
    Failed(VerifyError),
    /// A step before it failed.
    NotReached,
}

/// What one scheme's verifier said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemeReport {
    /// The verifier's own answer.
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
    /// The scheme's steps, in order.
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

    /// The step that failed.
    #[must_use]
    pub fn failed_step(&self) -> Option<Step> {
        self.result.err().map(step_of)
    }
}

/// What `content-digest` says of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentDigest {
    /// The body is the one that was sent.
    Fits,
    /// The body is another one.
    Differs,
    /// There is no `sha-256` digest.
    Absent,
}

/// Why a delivery is or isn't accepted, step by step. Holds nothing secret and no signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// `webhook-signature`.
    pub standard: SchemeReport,
    /// `x-stormcom-signature`.
    pub stormcom: SchemeReport,
    /// Whether the body is the one that was sent.
    pub content_digest: ContentDigest,
    /// What likely happened, each once. Empty where nothing was found amiss.
    pub findings: Vec<Finding>,
}

/// Says which step refuses a delivery and why, with the default tolerance and header names.
///
/// The explanation holds nothing secret; show it to whoever configures the receiver.
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
/// // A framework parsed the body and wrote it again.
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

/// As [`explain`], with the tolerance and the name of scheme A's header that the receiver has configured.
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
    inquiry.headers_and_time(standard, stormcom, stormcom_header);
    inquiry.signatures(standard, stormcom, secret, stormcom_header);
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

fn digest_of<H: Headers + ?Sized>(headers: &H, body: &[u8]) -> ContentDigest {
    let Some(value) = value_of(headers, DIGEST_HEADER) else {
        return ContentDigest::Absent;
    };
    let expected = sha256_base64(body);
    // A dictionary of RFC 8941: other algorithms may stand beside.
    let digest = value
        .split(|byte| *byte == b',')
        .find_map(|member| member.trim_ascii().strip_prefix(b"sha-256=:"));
    match digest.and_then(|digest| digest.strip_suffix(b":")) {
        Some(digest) if expected.matches(digest) => ContentDigest::Fits,
        Some(_) => ContentDigest::Differs,
        None => ContentDigest::Absent,
    }
}

/// A header's value, joined where it was repeated; `None` where absent, empty or too long to be looked at.
fn value_of<H: Headers + ?Sized>(headers: &H, name: &str) -> Option<Vec<u8>> {
    let mut buffer = [0_u8; VALUE_MAX_BYTES];
    joined(headers, name, &mut buffer)
        .filter(|value| !value.is_empty())
        .map(<[u8]>::to_vec)
}

/// The search for what happened.
struct Inquiry<'r, H: ?Sized> {
    headers: &'r H,
    body: &'r [u8],
    content_digest: ContentDigest,
    findings: Vec<Finding>,
}

impl<H: Headers + ?Sized> Inquiry<'_, H> {
    fn note(&mut self, finding: Finding) {
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// What can be told without a key.
    fn headers_and_time(
        &mut self,
        standard: Result<(), VerifyError>,
        stormcom: Result<(), VerifyError>,
        stormcom_header: &str,
    ) {
        let names = [ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER];
        for (name, is_signature) in names
            .into_iter()
            .map(|name| (name, name == SIGNATURE_HEADER))
            .chain([(stormcom_header, true)])
        {
            let is_wanted = if name == stormcom_header {
                stormcom
            } else {
                standard
            }
            .is_err();
            if is_wanted && Field::of(self.headers, name).is_missing() {
                self.renamed(name, is_signature, stormcom_header);
            }
        }
        match standard {
            Err(VerifyError::TimestampTooOld { age_s, .. }) => {
                self.note(Finding::ClockBehindSender { age_s });
            }
            Err(VerifyError::TimestampTooNew { ahead_s, .. }) => {
                self.note(Finding::ClockAheadOfSender { ahead_s });
            }
            Err(VerifyError::MalformedId) => self.repeated_or(ID_HEADER, |id| {
                id.contains(&b'.').then_some(Finding::DotInId)
            }),
            Err(VerifyError::MalformedTimestamp) => self.repeated_or(TIMESTAMP_HEADER, |text| {
                let is_ms = text.len() == 13 && text.iter().all(u8::is_ascii_digit);
                is_ms.then_some(Finding::TimestampInMilliseconds)
            }),
            _ => {}
        }
    }

    fn repeated_or(&mut self, name: &'static str, judge: impl Fn(&[u8]) -> Option<Finding>) {
        match Field::of(self.headers, name) {
            Field::Repeated => self.note(Finding::HeaderRepeated { name }),
            Field::Once(value) => {
                if let Some(finding) = judge(value) {
                    self.note(finding);
                }
            }
            Field::Absent => {}
        }
    }

    /// Looks for a missing header under a name that proxies, CGI or other senders' libraries give it.
    fn renamed(&mut self, expected: &str, is_signature: bool, stormcom_header: &str) {
        let mut found = None;
        self.headers.each(&mut |name, value| {
            let is_own = [
                ID_HEADER,
                TIMESTAMP_HEADER,
                SIGNATURE_HEADER,
                stormcom_header,
            ]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own));
            if found.is_none() && !is_own && is_alias(name, expected) {
                found = Some((name, value));
            }
        });
        if let Some((name, value)) = found
            && (!is_signature || search::holds_code(value))
        {
            self.note(Finding::HeaderRenamed {
                expected: String::from(expected),
                found: shown(name),
            });
        }
    }

    /// What it takes a key to tell.
    fn signatures(
        &mut self,
        standard: Result<(), VerifyError>,
        stormcom: Result<(), VerifyError>,
        secret: &str,
        stormcom_header: &str,
    ) {
        if secret.trim_start().starts_with("whpk_") {
            self.note(Finding::SecretIsPublicKey);
        }
        let rewritten = rewrite::originals(self.body);
        let bodies: Vec<(Option<BodyChange>, &[u8])> = core::iter::once((None, self.body))
            .chain(rewritten.iter().map(|(how, body)| (Some(*how), &**body)))
            .collect();
        let id = value_of(self.headers, ID_HEADER).unwrap_or_default();
        let timestamp = value_of(self.headers, TIMESTAMP_HEADER).unwrap_or_default();
        let prefix: [&[u8]; 4] = [&id, b".", &timestamp, b"."];
        let schemes: [(Grammar, _, &str, &[&[u8]]); 2] = [
            (Grammar::Standard, standard, SIGNATURE_HEADER, &prefix),
            (Grammar::Stormcom, stormcom, stormcom_header, &[]),
        ];
        let mut is_explained = standard.is_ok() || stormcom.is_ok();
        let mut is_refused = false;
        for (grammar, result, name, prefix) in schemes {
            let value = value_of(self.headers, name);
            let (Err(_), Some(value)) = (result, value) else {
                continue;
            };
            let keys = search::keys(grammar, secret);
            match search::fit(grammar, &keys, &value, prefix, &bodies) {
                Some(fit) => {
                    is_explained |= fit.is_body_as_signed;
                    let is_proven = !fit.findings.is_empty();
                    for finding in fit.findings {
                        self.note(finding);
                    }
                    is_refused |= is_proven && !fit.is_body_as_signed;
                }
                None => is_refused = true,
            }
        }
        if is_refused && !is_explained {
            self.body_or_secret(&bodies);
        }
    }

    /// Where no key fits the body as it is: which of the two is wrong.
    fn body_or_secret(&mut self, bodies: &[(Option<BodyChange>, &[u8])]) {
        let is_known = |finding: &Finding| matches!(finding, Finding::BodyRewritten(_));
        let is_proven = self.findings.iter().any(is_known);
        match self.content_digest {
            ContentDigest::Fits => return self.note(Finding::WrongSecret),
            ContentDigest::Differs => self.note(Finding::BodyChanged),
            ContentDigest::Absent if !is_proven => self.note(Finding::WrongSecretOrBody),
            ContentDigest::Absent => {}
        }
        if is_proven {
            return;
        }
        let by_digest = bodies.iter().find_map(|(how, body)| {
            let is_sent = digest_of(self.headers, body) == ContentDigest::Fits;
            how.filter(|_| is_sent)
        });
        if let Some(how) = by_digest {
            // The body is told apart by its digest, and still no key fits.
            self.note(Finding::BodyRewritten(how));
            return self.note(Finding::WrongSecret);
        }
        if self.body.is_empty() {
            self.note(Finding::BodyConsumed);
        } else if self.body.windows(3).any(|bytes| bytes == b"\xEF\xBF\xBD") {
            self.note(Finding::BodyDecodedLossily);
        } else if rewrite::looks_reserialised(self.body) {
            self.note(Finding::LooksReserialised);
        }
    }
}

/// `HTTP_WEBHOOK_ID`, `x-original-webhook-id`, `svix-id`, `x-webhook-id`, `webhook_id`; for scheme A's header any that ends in `signature` or `signature-256`.
fn is_alias(name: &str, expected: &str) -> bool {
    const NAME_MAX_BYTES: usize = 128;
    if name.len() > NAME_MAX_BYTES {
        return false;
    }
    let name = name.to_ascii_lowercase().replace('_', "-");
    let expected = expected.to_ascii_lowercase();
    if name.ends_with(&expected) {
        return true;
    }
    match expected.strip_prefix("webhook-") {
        Some(kind) => name.strip_prefix("svix-") == Some(kind),
        None => {
            let is_signature = name.ends_with("signature") || name.ends_with("signature-256");
            is_signature && !name.contains("webhook") && !name.starts_with("svix")
        }
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
