//! What the command line asks of the verifier crate: is this request signed rightly, by each scheme, and if not, why.
//!
//! Decides which schemes a request is held to. The checks themselves are the verifier's alone.

use stormhook_verifier::{
    STORMCOM_HEADER, StandardVerifier, StormcomVerifier, Tolerance, VerifyError, content_digest,
    explain_with,
};

use super::failure::Failure;

/// What a secret begins with that both schemes take.
const STANDARD_PREFIX: &str = "whsec_";

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
    /// Nothing, or what is wrong.
    pub(crate) wrong: Option<Wrong>,
}

/// What is wrong with a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The stable code.
    pub(crate) code: &'static str,
    /// In words, with what to do.
    pub(crate) detail: String,
}

/// Verifies requests under one secret.
#[derive(Debug)]
pub(crate) struct Checker {
    stormcom: Result<StormcomVerifier, VerifyError>,
    stormcom_header: String,
    standard: Result<StandardVerifier, VerifyError>,
    prefixed: bool,
}

impl Checker {
    /// A checker for this secret, whatever it is worth: one that is none makes every verdict say so.
    pub(crate) fn new(secret: &str, tolerance: Tolerance, stormcom_header: Option<&str>) -> Self {
        let header = stormcom_header
            .unwrap_or(STORMCOM_HEADER)
            .to_ascii_lowercase();
        let prefixed = secret.starts_with(STANDARD_PREFIX);
        // A secret without the prefix has no key for this scheme unless it happens to be base64.
        let standard = StandardVerifier::new(secret).map(|verifier| verifier.tolerance(tolerance));
        // The other scheme would take any text as a key; one with the prefix and no key behind it was never an endpoint's.
        let stormcom = match &standard {
            Err(error) if prefixed => Err(*error),
            _ => StormcomVerifier::new(secret).map(|verifier| verifier.header(&header)),
        };
        Self {
            stormcom,
            stormcom_header: header,
            standard,
            prefixed,
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
            Err(error) => Err(Failure::Usage(format!("{error} ({})", error.code()))),
            Ok(_) => Ok(checker),
        }
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
        let carries_standard = carries("webhook-signature");
        let neither = !carries_stormcom && !carries_standard;
        let mut verdicts = Vec::new();
        if carries_stormcom || neither || demand == Demand::Complete {
            let result = match &self.stormcom {
                Ok(verifier) => verifier.verify(headers, body),
                Err(error) => Err(*error),
            };
            verdicts.push(verdict(&self.stormcom_header, result, headers, body));
        }
        if carries_standard || neither || (demand == Demand::Complete && self.prefixed) {
            let result = match &self.standard {
                Ok(verifier) => verifier.verify_at(headers, body, now_s).map(|_| ()),
                Err(error) => Err(*error),
            };
            verdicts.push(verdict("webhook-signature", result, headers, body));
        }
        verdicts
    }
}

fn verdict(
    scheme: &str,
    result: Result<(), VerifyError>,
    headers: &[Header],
    body: &[u8],
) -> Verdict {
    let wrong = result.err().map(|error| Wrong {
        code: error.code(),
        detail: match error {
            VerifyError::NoMatch => no_match(headers, body).to_owned(),
            other => other.to_string(),
        },
    });
    Verdict {
        scheme: scheme.to_owned(),
        wrong,
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
    let explanation = explain_with(headers, body, secret, now_s, tolerance, header);
    explanation
        .findings
        .iter()
        .map(|finding| (finding.code(), finding.to_string()))
        .collect()
}

/// Whether all verdicts are good; no verdict at all is not.
pub(crate) fn all_good(verdicts: &[Verdict]) -> bool {
    !verdicts.is_empty() && verdicts.iter().all(|verdict| verdict.wrong.is_none())
}

/// `content-digest` (RFC 9530) proves nothing about the sender, but tells a changed body from a wrong secret.
fn no_match(headers: &[Header], body: &[u8]) -> &'static str {
    let digest = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-digest"));
    match digest {
        Some((_, digest)) if digest.as_slice() == content_digest(body).as_bytes() => {
            "no signature matches, and the body is as it was sent: the secret is another endpoint's, or an old one; take the one that `stormhook endpoint show ENDPOINT --reveal-secret` shows"
        }
        Some(_) => {
            "no signature matches, and the body is not the one that was sent: verify the raw bytes as received, before anything parses or re-encodes them"
        }
        None => {
            "no signature matches: the secret is another endpoint's or an old one, or the body is not the raw bytes that were received; the header content-digest tells which"
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use stormhook_verifier::{Secret, SigningKeys};

    use super::*;

    pub(crate) const SECRET: &str = "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=";
    pub(crate) const NOW_S: u64 = 1_767_323_045;

    /// The headers of a delivery signed as the daemon signs it.
    pub(crate) fn signed(secret: &str, body: &[u8], now_s: u64) -> Vec<Header> {
        let secret = Secret::parse(secret).unwrap();
        let keys = SigningKeys::new([&secret]);
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
            .map(|verdict| verdict.wrong.as_ref().map(|wrong| wrong.code))
            .collect()
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
        assert!(
            verdicts[0]
                .wrong
                .as_ref()
                .unwrap()
                .detail
                .contains("the body is not the one that was sent")
        );
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let verdicts = checker(other).check(&headers, b"{}", NOW_S, Demand::Complete);
        assert!(
            verdicts[1]
                .wrong
                .as_ref()
                .unwrap()
                .detail
                .contains("the secret is another endpoint's")
        );
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
            let wrong = verdict.wrong.unwrap();
            assert_eq!(wrong.code, "no_match");
            assert!(!wrong.detail.contains("explain"), "{}", wrong.detail);
            assert!(wrong.detail.contains("content-digest"), "{}", wrong.detail);
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
}
