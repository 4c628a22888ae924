//! Whether a delivery has the headers that the contract requires. Every delivery is checked; the MACs of a
//! sample are recomputed with the verifier crate, because the sink shares its cores with what is measured.

use hyper::HeaderMap;
use stormhook_verifier::{StandardVerifier, StormcomVerifier, content_digest};

use crate::error::{Doing, Result};

/// The required headers of a delivery.
const REQUIRED: &[&str] = &[
    "x-stormcom-signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "content-digest",
    "x-stormcom-delivery",
];

/// Returns the first required header that is missing.
pub(crate) fn missing_header(headers: &HeaderMap) -> Option<&'static str> {
    REQUIRED
        .iter()
        .find(|name| !headers.contains_key(**name))
        .copied()
}

/// Recomputes a delivery's MACs and digest.
pub(crate) struct Check {
    standard: StandardVerifier,
    stormcom: StormcomVerifier,
}

impl Check {
    /// Creates a check with the secret of the benchmark's endpoints.
    pub(crate) fn new(secret: &str) -> Result<Self> {
        Ok(Self {
            standard: StandardVerifier::new(secret).doing("reading the bench's secret")?,
            stormcom: StormcomVerifier::new(secret).doing("reading the bench's secret")?,
        })
    }

    /// Returns what is wrong with a delivery, if anything.
    pub(crate) fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now_s: u64,
    ) -> std::result::Result<(), String> {
        let verified = self
            .standard
            .verify_at(headers, body, now_s)
            .map_err(|e| format!("webhook-signature: {e}"))?;
        if !verified.id.starts_with("evt_") {
            return Err(format!(
                "webhook-id: expected an event id, got {:?}",
                verified.id
            ));
        }
        self.stormcom
            .verify(headers, body)
            .map_err(|e| format!("x-stormcom-signature: {e}"))?;
        let digest = headers.get("content-digest").map(|value| value.as_bytes());
        if digest != Some(content_digest(body).as_bytes()) {
            return Err("content-digest isn't the body's SHA-256".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stormhook_verifier::{Secret, SigningKeys};

    use super::*;

    fn delivery(secret: &str, body: &[u8]) -> HeaderMap {
        let secret = Secret::parse(secret).unwrap();
        let keys = SigningKeys::new([&secret]);
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: String| {
            headers.insert(name, value.parse().unwrap());
        };
        put("webhook-id", "evt_1".to_owned());
        put("webhook-timestamp", "1750000000".to_owned());
        put(
            "webhook-signature",
            keys.standard_signature("evt_1", 1_750_000_000, body)
                .unwrap(),
        );
        put("x-stormcom-signature", keys.stormcom_signature(body));
        put("x-stormcom-delivery", "dlv_1".to_owned());
        put("content-digest", content_digest(body));
        headers
    }

    #[test]
    fn a_delivery_signed_with_the_benchs_secret_passes() {
        let headers = delivery(crate::bench::SECRET, b"{}");
        assert_eq!(missing_header(&headers), None);
        let check = Check::new(crate::bench::SECRET).unwrap();
        assert_eq!(check.verify(&headers, b"{}", 1_750_000_001), Ok(()));
    }

    #[test]
    fn a_delivery_with_another_body_or_without_a_header_is_bad() {
        let mut headers = delivery(crate::bench::SECRET, b"{}");
        let check = Check::new(crate::bench::SECRET).unwrap();
        assert!(check.verify(&headers, b"{ }", 1_750_000_001).is_err());
        headers.remove("x-stormcom-signature");
        assert_eq!(missing_header(&headers), Some("x-stormcom-signature"));
    }
}
