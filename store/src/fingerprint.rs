//! Fingerprints of idempotency keys.

use crate::ids::EventId;
use serde::{Deserialize, Serialize};

/// 128 bits of SHA-256 over organization and idempotency key.
///
/// Endpoints have keys too, and two fingerprints for each: of the key, and of the key with the request. Both begin with
/// a byte that no event's key has, so that the two kinds never collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u128);

impl Fingerprint {
    /// Of an event's key.
    pub fn of(organization: &str, key: &str) -> Self {
        Self::over([organization.as_bytes(), &[0], key.as_bytes()])
    }

    /// Of the id that an event was given in an outbox. No organization is empty.
    pub fn of_emitted(id: EventId) -> Self {
        Self::over([&[0, 3], id.0.to_be_bytes().as_slice()])
    }

    /// Of the key that an endpoint was created with.
    pub fn of_endpoint(organization: &str, key: &str) -> Self {
        Self::over([organization.as_bytes(), &[0, 1], key.as_bytes()])
    }

    /// Of the same key with the digest of the request.
    pub fn of_request(organization: &str, key: &str, digest: &[u8; 32]) -> Self {
        Self::over([
            organization.as_bytes(),
            &[0, 2],
            digest.as_slice(),
            key.as_bytes(),
        ])
    }

    fn over<const N: usize>(parts: [&[u8]; N]) -> Self {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        let digest = hash.finalize();
        Self(
            digest
                .iter()
                .take(16)
                .fold(0, |acc, &b| (acc << 8) | u128::from(b)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_events_and_of_endpoints_never_meet() {
        let all = [
            Fingerprint::of("o", "k"),
            Fingerprint::of_endpoint("o", "k"),
            Fingerprint::of_request("o", "k", &[0; 32]),
            Fingerprint::of_request("o", "k", &[1; 32]),
            Fingerprint::of_endpoint("o", "l"),
            Fingerprint::of_emitted(EventId(0)),
            Fingerprint::of_emitted(EventId(1)),
        ];
        let apart: std::collections::HashSet<_> = all.into_iter().collect();
        assert_eq!(apart.len(), all.len());
    }

    #[test]
    fn organization_and_key_do_not_run_into_each_other() {
        assert_ne!(Fingerprint::of("a", "bc"), Fingerprint::of("ab", "c"));
    }
}
