//! Verifies requests with the verifier crate: whether the signature of each scheme is valid, and if not, why.
//!
//! Decides which schemes a request must satisfy. The verifier alone does the checks.

use stormhook_verifier::{
    Finding, STORMCOM_HEADER, StandardVerifier, StormcomVerifier, Tolerance, VerifyError,
    content_digest, explain_with,
};

use crate::failure::Failure;

/// The prefix of a secret that both schemes accept.
const STANDARD_PREFIX: &str = "whsec_";
/// The prefix of a public key.
const PUBLIC_PREFIX: &str = "whpk_";
/// The prefix of an ed25519 signature.
const ED25519_PREFIX: &[u8] = b"v1a,";
const SIGNATURE_HEADER: &str = "webhook-signature";

/// A received header: name and raw value.
pub(crate) type Header = (String, Vec<u8>);

/// Which schemes a request must satisfy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Those whose signature it carries, and at least one.
    Carried,
    /// All that stormhook sends with this kind of secret.
    Complete,
}

/// The result of one scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The header that was checked.
    pub(crate) scheme: String,
    /// The result.
    pub(crate) judged: Judged,
}

/// The result for one header, given what is known of the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judged {
    /// The signature is valid.
    Valid,
    /// The signature is invalid.
    Wrong(Wrong),
    /// It can't be checked with this secret or public key; says what can.
    NotCheckable(&'static str),
}

/// What is wrong with a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The stable code.
    pub(crate) code: &'static str,
    /// What is wrong, and what to do.
    pub(crate) detail: String,
}

/// The kind of secret or key, by its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A `whsec_` secret, for both schemes.
    Standard,
    /// Any other secret, only for `x-stormcom-signature`.
    Plain,
    /// A `whpk_` public key, only for the `v1a` items of `webhook-signature`.
    Public,
}

impl Kind {
    fn of(secret: &str) -> Self {
        if secret.starts_with(STANDARD_PREFIX) {
            Self::Standard
        } else if secret.starts_with(PUBLIC_PREFIX) {
            Self::Public
        } else {
            Self::Plain
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Standard | Self::Plain => "secret",
            Self::Public => "public key",
        }
    }
}

/// Verifies requests with one secret or public key.
#[derive(Debug)]
pub(crate) struct Checker {
    stormcom: Result<StormcomVerifier, VerifyError>,
    stormcom_header: String,
    standard: Result<StandardVerifier, VerifyError>,
    kind: Kind,
}

impl Checker {
    /// Returns a checker for this secret, usable or not: every verdict says so if it isn't.
    pub(crate) fn new(secret: &str, tolerance: Tolerance, stormcom_header: Option<&str>) -> Self {
        let header = stormcom_header
            .unwrap_or(STORMCOM_HEADER)
            .to_ascii_lowercase();
        let kind = Kind::of(secret);
        // A secret without the prefix has no key for this scheme unless it happens to be base64.
        let standard = StandardVerifier::new(secret).map(|verifier| verifier.tolerance(tolerance));
        // The other scheme would accept any text as a key, but a prefix without a key behind it was never an endpoint's
        // secret.
        let stormcom = match &standard {
            Err(error) if kind != Kind::Plain => Err(*error),
            _ => StormcomVerifier::new(secret).map(|verifier| verifier.header(&header)),
        };
        Self {
            stormcom,
            stormcom_header: header,
            standard,
            kind,
        }
    }

    /// The same, but fails if the secret is not usable.
    pub(crate) fn of_usable(
        secret: &str,
        tolerance: Tolerance,
        stormcom_header: Option<&str>,
    ) -> Result<Self, Failure> {
        let checker = Self::new(secret, tolerance, stormcom_header);
        match &checker.stormcom {
            Err(error) => {
                let detail = detail(*error, checker.kind, &[], b"");
                Err(Failure::Usage(format!("{detail} ({})", error.code())))
            }
            Ok(_) => Ok(checker),
        }
    }

    /// Returns the kind of key it checks with, in a word.
    pub(crate) fn noun(&self) -> &'static str {
        self.kind.noun()
    }

    /// Returns every scheme's verdict on a request.
    pub(crate) fn check(
        &self,
        headers: &[Header],
        body: &[u8],
        now_s: u64,
        demand: Demand,
    ) -> Vec<Verdict> {
        let carries = |name: &str| {
            headers
                .iter()
                .any(|(found, _)| found.eq_ignore_ascii_case(name))
        };
        let carries_stormcom = carries(&self.stormcom_header);
        let carries_standard = carries(SIGNATURE_HEADER);
        let neither = !carries_stormcom && !carries_standard;
        let complete = demand == Demand::Complete;
        let is_public = self.kind == Kind::Public;
        let mut verdicts = Vec::new();
        if carries_stormcom || (!is_public && (neither || complete)) {
            verdicts.push(Verdict {
                scheme: self.stormcom_header.clone(),
                judged: self.judge_stormcom(headers, body),
            });
        }
        let expects_standard = is_public || (complete && self.kind == Kind::Standard);
        if carries_standard || neither || expects_standard {
            verdicts.push(Verdict {
                scheme: SIGNATURE_HEADER.to_owned(),
                judged: self.judge_standard(headers, body, now_s),
            });
        }
        verdicts
    }

    fn judge_stormcom(&self, headers: &[Header], body: &[u8]) -> Judged {
        if self.kind == Kind::Public {
            return Judged::NotCheckable(
                "not checkable with a public key; use the endpoint's secret",
            );
        }
        let checked = self.stormcom.as_ref().map_err(|error| *error);
        self.judged(
            checked.and_then(|it| it.verify(headers, body)),
            headers,
            body,
        )
    }

    fn judge_standard(&self, headers: &[Header], body: &[u8], now_s: u64) -> Judged {
        // An endpoint with ed25519 and a secret without `whsec_` sends only this; no part of it is made with the
        // secret.
        if self.kind == Kind::Plain && holds_ed25519_alone(headers) {
            return Judged::NotCheckable(
                "signed only with ed25519: not checkable with this secret; use the endpoint's public key (`whpk_…`)",
            );
        }
        let checked = self.standard.as_ref().map_err(|error| *error);
        let checked = checked.and_then(|it| it.verify_at(headers, body, now_s));
        self.judged(checked.map(|_| ()), headers, body)
    }

    fn judged(&self, result: Result<(), VerifyError>, headers: &[Header], body: &[u8]) -> Judged {
        match result {
            Ok(()) => Judged::Valid,
            Err(error) => Judged::Wrong(Wrong {
                code: error.code(),
                detail: detail(error, self.kind, headers, body),
            }),
        }
    }
}

/// Whether `webhook-signature` is present and every item of it begins with `v1a,`.
fn holds_ed25519_alone(headers: &[Header]) -> bool {
    let lines = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(SIGNATURE_HEADER));
    let mut items = lines
        .flat_map(|(_, value)| value.split(|byte| *byte == b' '))
        .filter(|item| !item.is_empty())
        .peekable();
    items.peek().is_some() && items.all(|item| item.starts_with(ED25519_PREFIX))
}

/// Returns the verifier's words, which are about secrets, or the same about a public key.
fn detail(error: VerifyError, kind: Kind, headers: &[Header], body: &[u8]) -> String {
    match (error, kind) {
        (VerifyError::NoMatch, _) => no_match(kind, headers, body),
        (VerifyError::InvalidSecret { reason }, Kind::Public) => format!(
            "the public key is invalid: {reason}; pass it exactly as `stormhook endpoint show ENDPOINT` shows it, without quotes, spaces or line breaks"
        ),
        (VerifyError::UnsupportedSignature, Kind::Public) => {
            "no ed25519 signature (`v1a,…`) found: enable ed25519 with `stormhook endpoint update ENDPOINT --ed25519 true`, or check with the endpoint's secret".to_owned()
        }
        (VerifyError::MalformedSignature, Kind::Public) => {
            "the signature header holds a truncated, re-encoded or extended signature: expected `v1a,` and 88 characters of padded base64".to_owned()
        }
        (other, _) => other.to_string(),
    }
}

/// Explains what probably happened to a refused request, as code and advice. Hashes the body many times: only for
/// interactive use.
pub(crate) fn findings(
    secret: &str,
    headers: &[Header],
    body: &[u8],
    now_s: u64,
    tolerance: Tolerance,
    stormcom_header: Option<&str>,
) -> Vec<(&'static str, String)> {
    let header = stormcom_header.unwrap_or(STORMCOM_HEADER);
    if Kind::of(secret) == Kind::Public {
        return findings_of_public(secret, headers, body, now_s, tolerance, header);
    }
    explain_with(headers, body, secret, now_s, tolerance, header)
        .findings
        .iter()
        .map(|finding| (finding.code(), finding.to_string()))
        .collect()
}

/// The same for a public key: the StormCom scheme has none, so its header is left out of the search.
fn findings_of_public(
    key: &str,
    headers: &[Header],
    body: &[u8],
    now_s: u64,
    tolerance: Tolerance,
    stormcom_header: &str,
) -> Vec<(&'static str, String)> {
    let is_other = |(name, _): &&Header| !name.eq_ignore_ascii_case(stormcom_header);
    let headers: Vec<Header> = headers.iter().filter(is_other).cloned().collect();
    let is_of_standard = |finding: &&Finding| match finding {
        Finding::SecretIsPublicKey => false,
        Finding::HeaderRenamed { expected, .. } => expected != stormcom_header,
        _ => true,
    };
    explain_with(&headers[..], body, key, now_s, tolerance, stormcom_header)
        .findings
        .iter()
        .filter(is_of_standard)
        .map(|finding| {
            let advice = finding.to_string().replace("secret", Kind::Public.noun());
            (finding.code(), advice)
        })
        .collect()
}

/// Whether at least one signature is valid and none is invalid.
pub(crate) fn all_good(verdicts: &[Verdict]) -> bool {
    let is_valid = |verdict: &Verdict| verdict.judged == Judged::Valid;
    let is_wrong = |verdict: &Verdict| matches!(verdict.judged, Judged::Wrong(_));
    verdicts.iter().any(is_valid) && !verdicts.iter().any(is_wrong)
}

/// `content-digest` (RFC 9530) proves nothing about the sender, but distinguishes a changed body from a wrong secret.
fn no_match(kind: Kind, headers: &[Header], body: &[u8]) -> String {
    let digest = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-digest"));
    let noun = kind.noun();
    match digest {
        Some((_, digest)) if digest.as_slice() == content_digest(body).as_bytes() => {
            let show = match kind {
                Kind::Public => "stormhook endpoint show ENDPOINT",
                Kind::Standard | Kind::Plain => "stormhook endpoint show ENDPOINT --reveal-secret",
            };
            format!(
                "no signature matches, but the body is unchanged: the {noun} is another endpoint's or an old one; use the one that `{show}` prints"
            )
        }
        Some(_) => {
            "no signature matches, and the body is not the one that was sent: verify the raw bytes as received, before parsing or re-encoding".to_owned()
        }
        None => format!(
            "no signature matches: the {noun} is another endpoint's or an old one, or the body is not the raw bytes that were received; the content-digest header would tell which"
        ),
    }
}

#[cfg(test)]
pub(crate) mod tests;
