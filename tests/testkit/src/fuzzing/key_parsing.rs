//! Texts as secrets and keys: an accepted one can be used, and every verifier accepts what the API accepts.

use super::request::NOW_S;
use stormhook_verifier::{
    PrivateKey, Secret, SigningKeys, StandardVerifier, StormcomVerifier, verify_stormcom,
};

fn verifies(keys: &SigningKeys, verifier: &StandardVerifier) {
    let signature = keys.standard_signature("evt_1", NOW_S, b"{}").unwrap();
    let now = NOW_S.to_string();
    let headers = [
        ("webhook-id", "evt_1"),
        ("webhook-timestamp", &now),
        ("webhook-signature", &signature),
    ];
    let _ = verifier.verify_at(&headers, b"{}", NOW_S).unwrap();
    assert!(verifier.verify_at(&headers, b"{ }", NOW_S).is_err());
}

pub(super) fn run(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return;
    };
    let standard = StandardVerifier::new(text);
    let usable = (1..=256).contains(&text.len());
    assert_eq!(StormcomVerifier::new(text).is_ok(), usable);
    if let Ok(secret) = Secret::parse(text) {
        let keys = SigningKeys::new([&secret]);
        let headers = [("x-stormcom-signature", keys.stormcom_signature(b"{}"))];
        verify_stormcom(&headers, b"{}", text).unwrap();
        if text.starts_with("whsec_") {
            verifies(&keys, standard.as_ref().unwrap());
        }
    }
    if let Ok(key) = PrivateKey::parse(text) {
        assert!(standard.is_err(), "a private key can't verify");
        let verifier = StandardVerifier::new(&key.public_key()).unwrap();
        verifies(&SigningKeys::with_ed25519([], [&key]), &verifier);
        let again = PrivateKey::parse(&key.expose()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
    }
    if text.starts_with("whpk_") && standard.is_ok() {
        // 32 bytes are 43 characters, and the padding is optional.
        assert!((48..=49).contains(&text.len()));
    }
}
