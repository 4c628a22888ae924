//! Headers as pairs and as a header map: the same answer, and never success without the one correct signature.

use super::request::{NOW_S, Request, SECRET, contains};
use std::sync::LazyLock;
use stormhook_verifier::{
    PrivateKey, Secret, SigningKeys, StandardVerifier, StormcomVerifier, Tolerance,
};

static KEYS: LazyLock<(SigningKeys, StandardVerifier, StormcomVerifier)> = LazyLock::new(|| {
    let (secret, key) = (
        Secret::parse(SECRET).unwrap(),
        PrivateKey::from_seed([7; 32]),
    );
    let both = [SECRET, &key.public_key()];
    (
        SigningKeys::with_ed25519([&secret], [&key]),
        StandardVerifier::with_secrets(both).unwrap(),
        StormcomVerifier::new(SECRET).unwrap(),
    )
});

pub(super) fn run(bytes: &[u8]) {
    let request = Request::read(bytes);
    let (keys, standard, stormcom) = &*KEYS;
    let mut map = http::HeaderMap::new();
    let fits = request.headers.len() < 1000
        && request.headers.iter().all(|(name, value)| {
            let name = http::HeaderName::from_bytes(name.as_bytes());
            let value = http::HeaderValue::from_bytes(value);
            let pair = name.ok().zip(value.ok());
            pair.is_some_and(|(name, value)| map.try_append(name, value).is_ok())
        });
    for tolerance in [Tolerance::Seconds(300), Tolerance::Unchecked] {
        let verifier = standard.clone().tolerance(tolerance);
        let outcome = verifier.verify_at(&request.headers, request.body, NOW_S);
        if let Ok(verified) = outcome {
            assert!(request.is_signed_by(keys, verified.id, verified.timestamp_s));
        }
        if fits {
            let mapped = verifier.verify_at(&map, request.body, NOW_S);
            assert_eq!(mapped.is_ok(), outcome.is_ok());
            assert_eq!(mapped.err(), outcome.err());
        }
    }
    let outcome = stormcom.verify(&request.headers, request.body);
    if outcome.is_ok() {
        let right = keys.stormcom_signature(request.body);
        assert!(contains(
            &request.joined("x-stormcom-signature"),
            right.as_bytes()
        ));
    }
    if fits {
        assert_eq!(stormcom.verify(&map, request.body), outcome);
    }
}
