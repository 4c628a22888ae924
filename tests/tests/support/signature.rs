//! Signatures as a receiver checks them, by the two published schemes and plain HMAC, without the project's verifier,
//! so that a mistake in it can't hide here.

use super::Recorded;
use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use rustls::SignatureScheme;
use sha2::{Digest, Sha256};

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length is fine");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether an ed25519 signature is valid for this message, according to the library behind TLS.
fn is_ed25519(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let provider = rustls::crypto::ring::default_provider();
    let mut known = provider.signature_verification_algorithms.mapping.iter();
    let (_, algorithms) = known
        .find(|(scheme, _)| *scheme == SignatureScheme::ED25519)
        .expect("TLS knows ed25519");
    algorithms[0]
        .verify_signature(public, message, signature)
        .is_ok()
}

/// Returns what a delivery's `webhook-signature` covers.
fn signed_content(delivery: &Recorded) -> Vec<u8> {
    let id = delivery.header("webhook-id");
    let timestamp = delivery.header("webhook-timestamp");
    let mut content = format!("{id}.{timestamp}.").into_bytes();
    content.extend_from_slice(&delivery.body);
    content
}

/// Checks a delivery against the live secrets, newest first: exactly their signatures, in that order, under both
/// schemes, and the digest of the body.
pub(crate) fn verify(delivery: &Recorded, secrets: &[&str]) {
    verify_with_keys(delivery, secrets, &[]);
}

/// The same for an endpoint with these public keys, newest first: a `v1a` item of each follows those of the secrets.
pub(crate) fn verify_with_keys(delivery: &Recorded, secrets: &[&str], keys: &[&str]) {
    let expected: Vec<String> = secrets
        .iter()
        .map(|secret| {
            let mac = hmac_sha256(secret.as_bytes(), &[&delivery.body]);
            format!("sha256={}", hex(&mac))
        })
        .collect();
    assert_eq!(
        delivery.header("x-stormcom-signature"),
        expected.join(","),
        "x-stormcom-signature of the body"
    );

    let content = signed_content(delivery);
    let signed: Vec<String> = secrets
        .iter()
        .filter_map(|secret| secret.strip_prefix("whsec_"))
        .map(|encoded| {
            let key = Base64::decode_vec(encoded).expect("a shown secret is base64");
            let mac = hmac_sha256(&key, &[&content]);
            format!("v1,{}", Base64::encode_string(&mac))
        })
        .collect();
    let value = delivery.header_opt("webhook-signature");
    let items: Vec<&str> = value.iter().flat_map(|it| it.split(' ')).collect();
    assert_eq!(items.len(), signed.len() + keys.len(), "{items:?}");
    let (hmac, ed25519) = items.split_at(signed.len());
    assert_eq!(
        hmac, signed,
        "webhook-signature over id, timestamp and body"
    );
    for (item, key) in ed25519.iter().zip(keys) {
        let signature = item.strip_prefix("v1a,").expect("an ed25519 signature");
        let signature = Base64::decode_vec(signature).expect("it is base64");
        let public = key.strip_prefix("whpk_").expect("a public key");
        let public = Base64::decode_vec(public).expect("it is base64");
        assert!(
            is_ed25519(&public, &content, &signature),
            "{item} under {key}"
        );
    }
    assert_eq!(
        delivery.header("content-digest"),
        format!(
            "sha-256=:{}:",
            Base64::encode_string(&sha256(&delivery.body))
        ),
        "content-digest of the body"
    );
}
