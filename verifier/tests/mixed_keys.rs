//! Secrets and public keys side by side, as a receiver holds them while a sender moves from one to the other.

#![cfg(feature = "ed25519")]
#![allow(
    clippy::expect_used,
    reason = "a fixture that can't be made must stop the test"
)]

use stormhook_verifier::{PrivateKey, Secret, SigningKeys, StandardVerifier, StormcomVerifier};

const NOW_S: u64 = 1_750_000_000;
const SECRET: &str = "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=";
const OTHER: &str = "whsec_b3RoZXItc3Rvcm1ob29rLXNlY3JldC0zMmJ5dGVzISE=";

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed([seed; 32])
}

fn signed(secrets: &[&str], keys: &[PrivateKey]) -> String {
    let parse = |text: &&str| Secret::parse(text).expect("a secret");
    let secrets: Vec<Secret> = secrets.iter().map(parse).collect();
    SigningKeys::with_ed25519(&secrets, keys)
        .standard_signature("evt_1", NOW_S, b"{}")
        .expect("something to sign with")
}

fn code(verifier: &StandardVerifier, signature: &str) -> &'static str {
    let headers = [
        ("webhook-id", "evt_1"),
        ("webhook-timestamp", "1750000000"),
        ("webhook-signature", signature),
    ];
    let outcome = verifier.verify_at(&headers, b"{}", NOW_S);
    outcome.map_or_else(|error| error.code(), |_| "ok")
}

#[test]
fn either_kind_of_signature_is_enough_for_a_receiver_with_both() {
    for both in [
        [SECRET, &key(1).public_key()],
        [&key(1).public_key(), SECRET],
    ] {
        let verifier = StandardVerifier::with_secrets(both).expect("keys");
        assert_eq!(code(&verifier, &signed(&[SECRET], &[])), "ok");
        assert_eq!(code(&verifier, &signed(&[], &[key(1)])), "ok");
        assert_eq!(code(&verifier, &signed(&[SECRET], &[key(1)])), "ok");
        assert_eq!(code(&verifier, &signed(&[OTHER], &[key(1)])), "ok");
        assert_eq!(code(&verifier, &signed(&[SECRET], &[key(2)])), "ok");
        assert_eq!(code(&verifier, &signed(&[OTHER], &[key(2)])), "no_match");
    }
}

#[test]
fn what_is_malformed_or_unknown_is_told_by_the_keys_there_are() {
    let hmac = StandardVerifier::new(SECRET).expect("a secret");
    let point = StandardVerifier::new(&key(1).public_key()).expect("a key");
    let both = StandardVerifier::with_secrets([SECRET, &key(1).public_key()]).expect("keys");
    for (signature, of_hmac, of_point, of_both) in [
        (
            "v1,AAAA",
            "malformed_signature",
            "unsupported_signature",
            "malformed_signature",
        ),
        (
            "v1a,AAAA",
            "unsupported_signature",
            "malformed_signature",
            "malformed_signature",
        ),
        (
            &*signed(&[OTHER], &[]),
            "no_match",
            "unsupported_signature",
            "no_match",
        ),
        (
            &*signed(&[], &[key(2)]),
            "unsupported_signature",
            "no_match",
            "no_match",
        ),
    ] {
        assert_eq!(code(&hmac, signature), of_hmac, "{signature}");
        assert_eq!(code(&point, signature), of_point, "{signature}");
        assert_eq!(code(&both, signature), of_both, "{signature}");
    }
}

#[test]
fn sixteen_keys_of_both_kinds_are_the_bound() {
    let public: Vec<String> = (1..=17).map(|seed| key(seed).public_key()).collect();
    let keys = |count: usize| {
        let secrets = [SECRET]
            .into_iter()
            .chain(public.iter().map(String::as_str));
        StandardVerifier::with_secrets(secrets.take(count))
    };
    let full = keys(16).expect("sixteen");
    assert_eq!(code(&full, &signed(&[], &[key(15)])), "ok");
    assert_eq!(code(&full, &signed(&[], &[key(16)])), "no_match");
    let code = keys(17).map(drop).map_err(|error| error.code());
    assert_eq!(code, Err("invalid_secret"));
    let one_bad = StandardVerifier::with_secrets([SECRET, "whpk_AAAA"]);
    assert!(one_bad.is_err(), "one that can't be used refuses all");
}

#[test]
fn four_v1a_items_are_tried_for_each_key() {
    let signature = signed(&[], &[key(1), key(2), key(3), key(4), key(5)]);
    for seed in 1..=5 {
        let verifier =
            StandardVerifier::with_secrets([key(9).public_key(), key(seed).public_key()])
                .expect("keys");
        let expected = if seed <= 4 { "ok" } else { "no_match" };
        assert_eq!(code(&verifier, &signature), expected, "{seed}");
    }
}

#[test]
fn a_signature_holds_each_secret_first_and_each_private_key_after() {
    let signature = signed(&[SECRET, OTHER], &[key(1), key(2)]);
    let versions: Vec<&str> = signature
        .split(' ')
        .filter_map(|item| Some(item.split_once(',')?.0))
        .collect();
    assert_eq!(versions, ["v1", "v1", "v1a", "v1a"]);
    assert_eq!(signature, signed(&[SECRET, OTHER], &[key(1), key(2)]));
}

#[test]
fn a_public_key_is_no_key_of_scheme_a_by_mistake() {
    // The StormCom scheme accepts any text: a public key used as a secret matches nothing that was signed with another
    // key.
    let verifier = StormcomVerifier::new(&key(1).public_key()).expect("any text");
    let secret = Secret::parse(SECRET).expect("a secret");
    let signature = SigningKeys::with_ed25519([&secret], [&key(1)]).stormcom_signature(b"{}");
    let headers = [("x-stormcom-signature", signature)];
    let outcome = verifier.verify(&headers, b"{}");
    assert_eq!(outcome.map_err(|error| error.code()), Err("no_match"));
}

#[test]
fn nothing_that_holds_a_private_key_prints_it() {
    use base64ct::Encoding as _;

    let private = key(7);
    let seed = base64ct::Base64::encode_string(&[7; 32]);
    let keys = SigningKeys::with_ed25519([], [&private]);
    let shown = format!("{private:?} {keys:?}");
    let bytes = format!("{:?}", [7_u8; 32]);
    assert!(!shown.contains(seed.trim_end_matches('=')), "{shown}");
    assert!(!shown.contains(&bytes), "{shown}");
    assert_eq!(shown, "PrivateKey(…) SigningKeys(…)");
    let error = PrivateKey::parse("whsk_c3Rvcm1ob29rLWV4YW1wbGU!").expect_err("refused");
    assert!(!format!("{error:?} {error}").contains("c3Rv"));
}
