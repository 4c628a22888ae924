//! What the command line says about signed requests: by each scheme, with each kind of secret and key.

use stormhook_verifier::{PrivateKey, Secret, SigningKeys};

use super::*;

pub(crate) const SECRET: &str = "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=";
pub(crate) const NOW_S: u64 = 1_767_323_045;

/// Returns the headers of a delivery as the daemon signs it.
pub(crate) fn signed(secret: &str, body: &[u8], now_s: u64) -> Vec<Header> {
    let secret = Secret::parse(secret).unwrap();
    headers_of(&SigningKeys::new([&secret]), body, now_s)
}

/// The same with ed25519; also returns the public key.
pub(crate) fn signed_with_ed25519(secret: &str, body: &[u8], now_s: u64) -> (Vec<Header>, String) {
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
