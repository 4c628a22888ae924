//! A whole request with its own secret: its explanation, and that the same body, correctly signed, is accepted.

use super::request::{NOW_S, Request};
use stormhook_verifier::{Secret, SigningKeys, Tolerance, verify_standard, verify_stormcom};

pub(super) fn run(bytes: &[u8]) {
    let request = Request::read(bytes);
    let (headers, body, secret) = (&request.headers, request.body, &*request.secret);
    let tolerance = Tolerance::Seconds(300);
    let outcome = verify_standard(headers, body, secret, NOW_S, tolerance);
    let _ = verify_stormcom(headers, body, secret);
    let Ok(parsed) = Secret::parse(secret) else {
        return;
    };
    let keys = SigningKeys::new([&parsed]);
    if let Ok(verified) = outcome {
        assert!(verified.timestamp_s.abs_diff(NOW_S) <= 300);
        assert!(!verified.id.contains('.'));
        // A verifier also accepts public keys and bare base64, with which no sender signs `v1`.
        let is_senders = secret.starts_with("whsec_");
        assert!(!is_senders || request.is_signed_by(&keys, verified.id, verified.timestamp_s));
    }
    let signed = [("X-Stormcom-Signature", keys.stormcom_signature(body))];
    verify_stormcom(&signed, body, secret).unwrap();
    let id = String::from_utf8_lossy(&request.joined("webhook-id")).into_owned();
    if let Some(signature) = keys.standard_signature(&id, NOW_S, body) {
        let signed = [
            ("webhook-id", id.clone()),
            ("webhook-timestamp", NOW_S.to_string()),
            ("webhook-signature", signature),
        ];
        let verified = verify_standard(&signed, body, secret, NOW_S, tolerance).unwrap();
        assert_eq!(verified.id, id);
    }
}
