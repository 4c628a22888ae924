//! The signature debugger: it agrees with the verifiers, repeats nothing, and reveals neither secret nor signature.

use super::request::{NOW_S, Request};
use stormhook_verifier::{
    Secret, SigningKeys, Tolerance, explain, verify_standard, verify_stormcom,
};

pub(super) fn run(bytes: &[u8]) {
    let request = Request::read(bytes);
    let (headers, body, secret) = (&request.headers, request.body, &*request.secret);
    let explanation = explain(headers, body, secret, NOW_S);
    let tolerance = Tolerance::default();
    let standard = verify_standard(headers, body, secret, NOW_S, tolerance).map(|_| ());
    assert_eq!(explanation.standard.result, standard);
    let stormcom = verify_stormcom(headers, body, secret);
    assert_eq!(explanation.stormcom.result, stormcom);
    for (at, finding) in explanation.findings.iter().enumerate() {
        assert!(!explanation.findings[..at].contains(finding));
    }
    let shown = format!("{explanation} {explanation:?}");
    // Names of headers are shown, so a secret in one is not a leak.
    let is_named = |text: &str| headers.iter().any(|(name, _)| name.contains(text));
    if let Ok(parsed) = Secret::parse(secret) {
        let right = SigningKeys::new([&parsed]).stormcom_signature(body);
        assert!(is_named(&right) || !shown.contains(&right));
        let bare = secret.trim_start_matches("whsec_");
        assert!(bare.len() < 24 || is_named(bare) || !shown.contains(bare));
    }
}
