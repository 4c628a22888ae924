//! What the command line asks of the verifier crate: is this request signed rightly, by each scheme, and if not, why.
//!
//! Decides which schemes a request is held to. The checks themselves are the verifier's alone.

use stormhook_verifier::{
    Finding, STORMCOM_HEADER, StandardVerifier, StormcomVerifier, Tolerance, VerifyError,
    content_digest, explain_with,
};

use super::failure::Failure;

/// What a secret begins with that both schemes take.
const STANDARD_PREFIX: &str = "whsec_";
/// What a public key begins with.
const PUBLIC_PREFIX: &str = "whpk_";
/// What an ed25519 signature begins with.
const ED25519_PREFIX: &[u8] = b"v1a,";
const SIGNATURE_HEADER: &str = "webhook-signature";

/// A received header: name and raw value.
pub(crate) type Header = (String, Vec<u8>);

/// Which schemes a request has to satisfy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Those whose signature it carries, and at least one.
    Carried,
    /// All that stormhook sends under this kind of secret.
    Complete,
}

/// One scheme's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The header that was judged.
    pub(crate) scheme: String,
    /// What came out.
    pub(crate) judged: Judged,
}

/// What a header is worth under what is known of the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It is signed rightly.
    Valid,
    /// It is not.
    Wrong(Wrong),
    /// Neither can be told with this secret or public key; says what can.
    NotCheckable(&'static str),
}

/// What is wrong with a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The stable code.
    pub(crate) code: &'static str,
    /// In words, with what to do.
    pub(crate) detail: String,
}

/// What signatures are checked with, by how its text begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A `whsec_` secret, for both schemes.
    Standard,
    /// Any other secret, for `x-stormcom-signature` alone.
    Plain,
    /// A `whpk_` public key, for the `v1a` items of `webhook-signature` alone.
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

/// Verifies requests under one secret or public key.
#[derive(Debug)]
pub(crate) struct Checker {
    stormcom: Result<StormcomVerifier, VerifyError>,
    stormcom_header: String,
    standard: Result<StandardVerifier, VerifyError>,
    kind: Kind,
}

impl Checker {
    /// A checker for this secret, whatever it is worth: one that is none makes every verdict say so.
    pub(crate) fn new(secret: &str, tolerance: Tolerance, stormcom_header: Option<&str>) -> Self {
        let header = stormcom_header
            .unwrap_or(STORMCOM_HEADER)
            .to_ascii_lowercase();
        let kind = Kind::of(secret);
        // A secret without the prefix has no key for this scheme unless it happens to be base64.
        let standard = StandardVerifier::new(secret).map(|verifier| verifier.tolerance(tolerance));
        // The other scheme would take any text as a key; one with a prefix and no key behind it was never an endpoint's.
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

    /// The same, where nothing can be done without a secret that is one.
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

    /// What it checks with, in a word.
    pub(crate) fn noun(&self) -> &'static str {
        self.kind.noun()
    }

    /// Every scheme's verdict on a request.
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
                "not checkable with a public key: whoever checks it needs the endpoint's secret",
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
        // What an endpoint whose secret is none of `whsec_` sends with ed25519: no part of it is made with the secret.
        if self.kind == Kind::Plain && holds_ed25519_alone(headers) {
            return Judged::NotCheckable(
                "signed with ed25519 alone: not checkable with this secret, but with the endpoint's public key (`whpk_…`)",
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

/// Whether `webhook-signature` is there and every item of it begins with `v1a,`.
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

/// The verifier's words, which are about secrets, or the same about a public key.
fn detail(error: VerifyError, kind: Kind, headers: &[Header], body: &[u8]) -> String {
    match (error, kind) {
        (VerifyError::NoMatch, _) => no_match(kind, headers, body),
        (VerifyError::InvalidSecret { reason }, Kind::Public) => format!(
            "the public key is not usable: {reason}; pass it as `stormhook endpoint show ENDPOINT` shows it, without quotes, spaces or line ends"
        ),
        (VerifyError::UnsupportedSignature, Kind::Public) => {
            "there is no ed25519 signature among them, none that begins with `v1a,`: ask for them with `stormhook endpoint update ENDPOINT --ed25519 true`, or check with the endpoint's secret".to_owned()
        }
        (VerifyError::MalformedSignature, Kind::Public) => {
            "the signature header holds a signature that is cut, re-encoded or has something added: expected `v1a,` and 88 characters of padded base64".to_owned()
        }
        (other, _) => other.to_string(),
    }
}

/// What likely happened to a request that was refused, as code and advice. Hashes the body many times: for a person at a desk.
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

/// The same for a public key: nothing is said of the scheme that has none, so its header is kept from the search.
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

/// Whether something is signed rightly and nothing wrongly.
pub(crate) fn all_good(verdicts: &[Verdict]) -> bool {
    let is_valid = |verdict: &Verdict| verdict.judged == Judged::Valid;
    let is_wrong = |verdict: &Verdict| matches!(verdict.judged, Judged::Wrong(_));
    verdicts.iter().any(is_valid) && !verdicts.iter().any(is_wrong)
}

/// `content-digest` (RFC 9530) proves nothing about the sender, but tells a changed body from a wrong secret.
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
                "no signature matches, and the body is as it was sent: the {noun} is another endpoint's, or an old one; take the one that `{show}` shows"
            )
        }
        Some(_) => {
            "no signature matches, and the body is not the one that was sent: verify the raw bytes as received, before anything parses or re-encodes them".to_owned()
        }
        None => format!(
            "no signature matches: the {noun} is another endpoint's or an old one, or the body is not the raw bytes that were received; the header content-digest tells which"
        ),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use stormhook_verifier::{PrivateKey, Secret, SigningKeys};

    use super::*;

    pub(crate) const SECRET: &str = "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=";
    pub(crate) const NOW_S: u64 = 1_767_323_045;

    /// The headers of a delivery signed as the daemon signs it.
    pub(crate) fn signed(secret: &str, body: &[u8], now_s: u64) -> Vec<Header> {
        let secret = Secret::parse(secret).unwrap();
        headers_of(&SigningKeys::new([&secret]), body, now_s)
    }

    /// The same with ed25519, and the public key.
    pub(crate) fn signed_with_ed25519(
        secret: &str,
        body: &[u8],
        now_s: u64,
    ) -> (Vec<Header>, String) {
        let (secret, key) = (
            Secret::parse(secret).unwrap(),
            PrivateKey::from_seed([7; 32]),
        );
        let keys = SigningKeys::with_ed25519([&secret], [&key]);
        (headers_of(&keys, body, now_s), key.public_key())
    }

    fn headers_of(keys: &SigningKeys, body: &[u8], now_s: u64) -> Vec<Header> {
        let mut headers = vec![
            ("webhook-id".to_owned(), b"evt_1".to_vec()),
            (
                "webhook-timestamp".to_owned(),
                now_s.to_string().into_bytes(),
            ),
            (
                "X-Stormcom-Signature".to_owned(),
                keys.stormcom_signature(body).into_bytes(),
            ),
            (
                "content-digest".to_owned(),
                content_digest(body).into_bytes(),
            ),
        ];
        if let Some(signature) = keys.standard_signature("evt_1", now_s, body) {
            headers.push(("webhook-signature".to_owned(), signature.into_bytes()));
        }
        headers
    }

    fn codes(verdicts: &[Verdict]) -> Vec<Option<&'static str>> {
        verdicts
            .iter()
            .map(|verdict| match &verdict.judged {
                Judged::Valid => None,
                Judged::Wrong(wrong) => Some(wrong.code),
                Judged::NotCheckable(_) => Some("not checkable"),
            })
            .collect()
    }

    fn detail_of(verdict: &Verdict) -> &str {
        match &verdict.judged {
            Judged::Wrong(wrong) => &wrong.detail,
            other => panic!("not wrong: {other:?}"),
        }
    }

    fn checker(secret: &str) -> Checker {
        Checker::new(secret, Tolerance::default(), None)
    }

    #[test]
    fn a_delivery_passes_by_both_schemes() {
        let verdicts = checker(SECRET).check(
            &signed(SECRET, b"{}", NOW_S),
            b"{}",
            NOW_S + 10,
            Demand::Complete,
        );
        assert_eq!(codes(&verdicts), [None, None]);
        assert!(all_good(&verdicts));
    }

    #[test]
    fn a_changed_body_is_told_from_a_wrong_secret() {
        let headers = signed(SECRET, b"{}", NOW_S);
        let verdicts = checker(SECRET).check(&headers, b"{ }", NOW_S, Demand::Complete);
        assert_eq!(codes(&verdicts), [Some("no_match"), Some("no_match")]);
        assert!(detail_of(&verdicts[0]).contains("the body is not the one that was sent"));
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let verdicts = checker(other).check(&headers, b"{}", NOW_S, Demand::Complete);
        assert!(detail_of(&verdicts[1]).contains("the secret is another endpoint's"));
    }

    #[test]
    fn a_secret_that_is_none_is_told_as_such_by_every_scheme() {
        let headers = signed(SECRET, b"{}", NOW_S);
        for (secret, code) in [
            ("", "invalid_secret"),
            ("whsec_", "invalid_secret"),
            ("whsec_not base64!", "invalid_secret"),
            ("whsec_c2hvcnQ=", "secret_too_short"),
        ] {
            let verdicts = checker(secret).check(&headers, b"{}", NOW_S, Demand::Carried);
            assert_eq!(codes(&verdicts), [Some(code), Some(code)], "{secret:?}");
            let usable = Checker::of_usable(secret, Tolerance::default(), None);
            assert_eq!(usable.unwrap_err().status(), 2, "{secret:?}");
        }
    }

    #[test]
    fn no_verdict_speaks_of_the_library() {
        let mut headers = signed(SECRET, b"{}", NOW_S);
        headers.retain(|(name, _)| name != "content-digest");
        for verdict in checker(SECRET).check(&headers, b"{ }", NOW_S, Demand::Carried) {
            assert_eq!(codes(std::slice::from_ref(&verdict)), [Some("no_match")]);
            let detail = detail_of(&verdict);
            assert!(!detail.contains("explain"), "{detail}");
            assert!(detail.contains("content-digest"), "{detail}");
        }
    }

    #[test]
    fn a_missing_scheme_is_wrong_only_where_all_are_demanded() {
        let mut headers = signed(SECRET, b"{}", NOW_S);
        headers.retain(|(name, _)| name != "webhook-signature");
        assert_eq!(
            codes(&checker(SECRET).check(&headers, b"{}", NOW_S, Demand::Carried)),
            [None]
        );
        assert_eq!(
            codes(&checker(SECRET).check(&headers, b"{}", NOW_S, Demand::Complete)),
            [None, Some("missing_signature")]
        );
    }

    #[test]
    fn no_signature_at_all_is_never_good() {
        for demand in [Demand::Carried, Demand::Complete] {
            let verdicts = checker(SECRET).check(&[], b"{}", NOW_S, demand);
            assert!(!all_good(&verdicts), "{demand:?}");
        }
        assert!(!all_good(&[]));
    }

    #[test]
    fn a_plain_secret_has_only_the_first_scheme() {
        let secret = "a plain secret!!".replace(' ', "-");
        let verdicts = checker(&secret).check(
            &signed(&secret, b"{}", NOW_S),
            b"{}",
            NOW_S,
            Demand::Complete,
        );
        assert_eq!(codes(&verdicts), [None]);
    }

    const PLAIN: &str = "a-secret-of-their-own";

    #[test]
    fn a_public_key_judges_its_own_signature_and_leaves_the_other_header_alone() {
        for secret in [SECRET, PLAIN] {
            let (headers, key) = signed_with_ed25519(secret, b"{}", NOW_S);
            for demand in [Demand::Carried, Demand::Complete] {
                let verdicts = checker(&key).check(&headers, b"{}", NOW_S, demand);
                assert_eq!(codes(&verdicts), [Some("not checkable"), None]);
                assert!(all_good(&verdicts));
                let verdicts = checker(secret).check(&headers, b"{}", NOW_S, demand);
                assert!(all_good(&verdicts), "{secret} {verdicts:?}");
            }
            let changed = checker(&key).check(&headers, b"{ }", NOW_S, Demand::Carried);
            assert_eq!(codes(&changed), [Some("not checkable"), Some("no_match")]);
        }
    }

    #[test]
    fn what_no_signature_can_be_checked_of_is_never_good() {
        let (mut headers, key) = signed_with_ed25519(PLAIN, b"{}", NOW_S);
        headers.retain(|(name, _)| name == "X-Stormcom-Signature");
        let verdicts = checker(&key).check(&headers, b"{}", NOW_S, Demand::Carried);
        assert_eq!(
            codes(&verdicts),
            [Some("not checkable"), Some("missing_id")]
        );
        assert!(!all_good(&verdicts));
        let (mut headers, _) = signed_with_ed25519(PLAIN, b"{}", NOW_S);
        headers.retain(|(name, _)| name != "X-Stormcom-Signature");
        let verdicts = checker(PLAIN).check(&headers, b"{}", NOW_S, Demand::Carried);
        assert_eq!(codes(&verdicts), [Some("not checkable")]);
        assert!(!all_good(&verdicts));
    }

    #[test]
    fn what_is_wrong_under_a_public_key_is_said_of_a_public_key() {
        let (headers, key) = signed_with_ed25519(SECRET, b"{}", NOW_S);
        let told = |key: &str, headers: &[Header], code: &str| {
            let verdicts = checker(key).check(headers, b"{}", NOW_S, Demand::Carried);
            assert_eq!(codes(&verdicts), [Some("not checkable"), Some(code)]);
            detail_of(&verdicts[1]).to_owned()
        };
        let other = PrivateKey::from_seed([8; 32]).public_key();
        let detail = told(&other, &headers, "no_match");
        assert!(
            detail.contains("the public key is another endpoint's"),
            "{detail}"
        );
        let hmac_alone = signed(SECRET, b"{}", NOW_S);
        let detail = told(&key, &hmac_alone, "unsupported_signature");
        assert!(detail.contains("--ed25519 true"), "{detail}");
        let detail = told("whpk_c2hvcnQ=", &headers, "invalid_secret");
        assert!(detail.contains("a public key is `whpk_`"), "{detail}");
        let usable = Checker::of_usable("whpk_c2hvcnQ=", Tolerance::default(), None);
        assert_eq!(usable.unwrap_err().status(), 2);
        Checker::of_usable(&key, Tolerance::default(), None).unwrap();
        let mut cut = headers.clone();
        let (_, value) = cut.last_mut().unwrap();
        value.truncate(value.len() - 4);
        let detail = told(&key, &cut, "malformed_signature");
        assert!(detail.contains("`v1a,` and 88 characters"), "{detail}");
    }

    #[test]
    fn findings_about_a_public_key_leave_secrets_out() {
        let (headers, key) = signed_with_ed25519(SECRET, b"{}", NOW_S);
        let found = |key: &str, body: &[u8], now_s: u64| {
            let found = findings(key, &headers, body, now_s, Tolerance::default(), None);
            assert!(
                found.iter().all(|(_, text)| !text.contains("secret")),
                "{found:?}"
            );
            found.into_iter().map(|(code, _)| code).collect::<Vec<_>>()
        };
        let other = PrivateKey::from_seed([8; 32]).public_key();
        assert_eq!(found(&other, b"{}", NOW_S), ["wrong_secret"]);
        let changed = found(&key, b"{}\n", NOW_S);
        for code in ["body_changed", "body_final_line_end"] {
            assert!(changed.contains(&code), "{changed:?}");
        }
        assert_eq!(found(&key, b"{}", NOW_S + 1_000), ["delivery_too_old"]);
    }
}
