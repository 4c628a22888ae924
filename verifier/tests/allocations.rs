//! That checking a delivery allocates nothing, whatever comes: the bound that the crate's documentation promises.

#![allow(
    clippy::expect_used,
    reason = "a fixture that can't be made must stop the test"
)]

use allocation_counter::measure;
use stormhook_verifier::{Secret, SigningKeys, StandardVerifier, StormcomVerifier};

const NOW_S: u64 = 1_750_000_000;
const SECRET: &str = "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=";
const OTHER: &str = "whsec_b3RoZXItc3Rvcm1ob29rLXNlY3JldC0zMmJ5dGVzISE=";

/// The headers of the Standard scheme with this signature, once in one line and once in two.
fn requests(signature: &str) -> [Vec<(&'static str, String)>; 2] {
    let head = [
        ("webhook-id", "evt_1".to_owned()),
        ("webhook-timestamp", NOW_S.to_string()),
    ];
    let line = ("webhook-signature", signature.to_owned());
    let other = ("Webhook-Signature", "v2,another".to_owned());
    let one = [&head[..], core::slice::from_ref(&line)].concat();
    let two = [&head[..], &[line, other]].concat();
    [one, two]
}

#[track_caller]
fn expect_none(what: &str, check: impl FnOnce()) {
    let counted = measure(check);
    assert_eq!(counted.count_total, 0, "{what}: {counted:?}");
}

#[test]
fn counting_counts() {
    assert!(measure(|| drop(vec![0_u8; 100])).count_total > 0);
}

#[test]
fn checking_scheme_b_allocates_nothing() {
    let secret = Secret::parse(SECRET).expect("a secret");
    let body = vec![b'x'; 70_000];
    let right = SigningKeys::new([&secret])
        .standard_signature("evt_1", NOW_S, &body)
        .expect("signed");
    let verifier = StandardVerifier::with_secrets([OTHER, SECRET]).expect("secrets");
    let long = "v1,x ".repeat(2_000);
    for signature in [
        &right,
        "v1,AAAA",
        "v2,x",
        "",
        &long,
        &right.replace('A', "B"),
    ] {
        for headers in requests(signature) {
            expect_none(signature, || {
                for now_s in [NOW_S, NOW_S + 301] {
                    let _ = verifier.verify_at(&headers, &body, now_s);
                }
            });
        }
    }
    let [headers, _] = requests(&right);
    let verified = verifier.verify_at(&headers, &body, NOW_S);
    assert!(verified.is_ok(), "the signature that was counted is right");
}

#[test]
fn checking_scheme_a_allocates_nothing() {
    let secret = Secret::parse(SECRET).expect("a secret");
    let body = vec![b'x'; 70_000];
    let right = SigningKeys::new([&secret]).stormcom_signature(&body);
    let verifier = StormcomVerifier::with_secrets([OTHER, SECRET]).expect("secrets");
    for signature in [&right, "sha256=00", "md5=00", ""] {
        let line = ("X-StormCom-Signature", signature.to_owned());
        for headers in [vec![line.clone()], vec![line.clone(), line]] {
            expect_none(signature, || {
                let _ = verifier.verify(&headers, &body);
            });
        }
    }
}

#[test]
fn a_signature_header_is_made_in_memory_that_is_sized_once() {
    let secrets = [SECRET, OTHER].map(|text| Secret::parse(text).expect("a secret"));
    let keys = SigningKeys::new(&secrets);
    let counted = measure(|| drop(keys.stormcom_signature(b"{}")));
    assert_eq!(counted.count_total, 1, "{counted:?}");
    let counted = measure(|| drop(keys.standard_signature("evt_1", NOW_S, b"{}")));
    assert_eq!(counted.count_total, 2, "it and the timestamp: {counted:?}");
}

#[cfg(feature = "http")]
#[test]
fn checking_a_header_map_allocates_nothing() {
    let secret = Secret::parse(SECRET).expect("a secret");
    let right = SigningKeys::new([&secret])
        .standard_signature("evt_1", NOW_S, b"{}")
        .expect("signed");
    let verifier = StandardVerifier::new(SECRET).expect("a secret");
    for pairs in requests(&right) {
        let mut headers = http::HeaderMap::new();
        for (name, value) in pairs {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        expect_none("a header map", || {
            let outcome = verifier.verify_at(&headers, b"{}", NOW_S);
            assert!(outcome.is_ok());
        });
    }
}

#[cfg(feature = "ed25519")]
#[test]
fn checking_v1a_allocates_nothing() {
    use stormhook_verifier::PrivateKey;

    let keys = [1, 2, 3].map(|seed| PrivateKey::from_seed([seed; 32]));
    let body = vec![b'x'; 70_000];
    let right = SigningKeys::with_ed25519([], &keys)
        .standard_signature("evt_1", NOW_S, &body)
        .expect("signed");
    let public = keys.each_ref().map(PrivateKey::public_key);
    let [_, _, last] = &public;
    let verifier = StandardVerifier::with_secrets([OTHER, last]).expect("keys");
    for signature in [&right, "v1a,AAAA", "v1,AAAA", &right.replace('A', "B")] {
        for headers in requests(signature) {
            expect_none(signature, || {
                let _ = verifier.verify_at(&headers, &body, NOW_S);
            });
        }
    }
    let [headers, _] = requests(&right);
    assert!(verifier.verify_at(&headers, &body, NOW_S).is_ok());
}
