//! Signatures as a partner checks them, from the two published schemes and plain HMAC: not the
//! project's verifier, so that a mistake there can't hide here.

use super::Recorded;
use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
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

/// Checks a delivery against the live secrets, newest first: exactly their signatures, in that
/// order, under both schemes, and the digest of the body.
pub(crate) fn verify(delivery: &Recorded, secrets: &[&str]) {
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

    let id = delivery.header("webhook-id");
    let timestamp = delivery.header("webhook-timestamp");
    let signed: Vec<String> = secrets
        .iter()
        .filter_map(|secret| secret.strip_prefix("whsec_"))
        .map(|encoded| {
            let key = Base64::decode_vec(encoded).expect("a shown secret is base64");
            let content = [
                id.as_bytes(),
                b".",
                timestamp.as_bytes(),
                b".",
                &delivery.body,
            ];
            format!("v1,{}", Base64::encode_string(&hmac_sha256(&key, &content)))
        })
        .collect();
    assert_eq!(
        delivery.header_opt("webhook-signature").unwrap_or_default(),
        signed.join(" "),
        "webhook-signature over id, timestamp and body"
    );
    assert_eq!(
        delivery.header("content-digest"),
        format!(
            "sha-256=:{}:",
            Base64::encode_string(&sha256(&delivery.body))
        ),
        "content-digest of the body"
    );
}
