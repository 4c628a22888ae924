//! Signing and verifying 1 KiB, compared with the bare HMAC or ed25519 operation that every implementation needs.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and panics on a wrong fixture"
)]

mod support;

use criterion::Criterion;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::hint::black_box;
use stormhook_verifier::{
    PrivateKey, Secret, SigningKeys, StandardVerifier, StormcomVerifier, content_digest,
};
use support::fixture::{ID, KEY, NOW_S, SECRET, SEED, requests};
use support::run::Run;

const GROUP: &str = "signatures";

fn sign(criterion: &mut Criterion, body: &[u8]) {
    let secret = Secret::parse(SECRET).expect("a secret");
    let keys = SigningKeys::new([&secret]);
    let with_key = SigningKeys::with_ed25519([], [&PrivateKey::from_seed(SEED)]);
    let mut group = criterion.benchmark_group(GROUP);
    group.bench_function("sign v1", |b| {
        b.iter(|| keys.standard_signature(ID, NOW_S, black_box(body)));
    });
    group.bench_function("sign stormcom", |b| {
        b.iter(|| keys.stormcom_signature(black_box(body)));
    });
    group.bench_function("digest", |b| b.iter(|| content_digest(black_box(body))));
    group.bench_function("sign v1a", |b| {
        b.iter(|| with_key.standard_signature(ID, NOW_S, black_box(body)));
    });
    group.finish();
}

fn verify(criterion: &mut Criterion, body: &[u8]) {
    let secret = Secret::parse(SECRET).expect("a secret");
    let private = PrivateKey::from_seed(SEED);
    let keys = SigningKeys::new([&secret]);
    let with_key = SigningKeys::with_ed25519([], [&private]);
    let headers = |signature: Option<String>| {
        [
            ("webhook-id", ID.to_owned()),
            ("webhook-timestamp", NOW_S.to_string()),
            ("webhook-signature", signature.expect("signed")),
            ("x-stormcom-signature", keys.stormcom_signature(body)),
        ]
    };
    let v1 = headers(keys.standard_signature(ID, NOW_S, body));
    let v1a = headers(with_key.standard_signature(ID, NOW_S, body));
    let by_secret = StandardVerifier::new(SECRET).expect("a secret");
    let by_key = StandardVerifier::new(&private.public_key()).expect("a key");
    let stormcom = StormcomVerifier::new(SECRET).expect("a secret");
    let mut group = criterion.benchmark_group(GROUP);
    group.bench_function("verify v1", |b| {
        b.iter(|| assert!(by_secret.verify_at(&v1, black_box(body), NOW_S).is_ok()));
    });
    group.bench_function("verify stormcom", |b| {
        b.iter(|| assert!(stormcom.verify(&v1, black_box(body)).is_ok()));
    });
    group.bench_function("verify v1a", |b| {
        b.iter(|| assert!(by_key.verify_at(&v1a, black_box(body), NOW_S).is_ok()));
    });
    group.finish();
}

/// The same operations without anything around them.
fn bare(criterion: &mut Criterion, body: &[u8]) {
    let head = format!("{ID}.{NOW_S}.");
    let key = Hmac::<Sha256>::new_from_slice(KEY).expect("any length");
    let tag = |head: &str, body: &[u8]| {
        let mut mac = key.clone();
        mac.update(head.as_bytes());
        mac.update(body);
        mac.finalize().into_bytes()
    };
    let private = SigningKey::from_bytes(&SEED);
    let message = [head.as_bytes(), body].concat();
    let signature = private.sign(&message);
    let public = private.verifying_key();
    let mut group = criterion.benchmark_group(GROUP);
    group.bench_function("hmac", |b| b.iter(|| tag(&head, black_box(body))));
    group.bench_function("hmac of the body", |b| b.iter(|| tag("", black_box(body))));
    group.bench_function("ed25519 sign", |b| {
        b.iter(|| private.sign(black_box(&message)));
    });
    group.bench_function("ed25519 verify", |b| {
        b.iter(|| {
            let outcome = public.verify_strict(black_box(&message), &signature);
            assert!(outcome.is_ok());
        });
    });
    group.finish();
}

fn main() {
    let run = Run::begin();
    let requests = requests(1);
    let body = &*requests[0];
    let mut criterion = run.criterion();
    sign(&mut criterion, body);
    bare(&mut criterion, body);
    verify(&mut criterion, body);
    criterion.final_summary();
    run.ratios(GROUP, &["sign v1", "verify v1"], "hmac");
    run.ratios(
        GROUP,
        &["sign stormcom", "verify stormcom"],
        "hmac of the body",
    );
    run.ratios(GROUP, &["sign v1a"], "ed25519 sign");
    run.ratios(GROUP, &["verify v1a"], "ed25519 verify");
}
