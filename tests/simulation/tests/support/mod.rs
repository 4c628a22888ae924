//! What the tests of single turns start from.

use stormhook_store::endpoint::{CustomHeaders, Ordering, TypePattern};
use stormhook_store::{EndpointId, NewEndpoint, NewEvent};
use stormhook_verifier::Secret;

/// An endpoint that takes everything of `org`.
pub(crate) fn endpoint(id: EndpointId) -> NewEndpoint {
    NewEndpoint {
        id,
        organization: "org".to_owned(),
        url: "https://partner.example/hooks".to_owned(),
        event_types: vec![TypePattern::All],
        active: true,
        description: None,
        headers: CustomHeaders::default(),
        rate_limit_per_second: None,
        ordering: Ordering::Parallel,
        secret: Secret::from_random(&[1; 32]),
        seed: None,
    }
}

/// An event of `org`.
pub(crate) fn event() -> NewEvent {
    NewEvent {
        organization: "org".to_owned(),
        event_type: "order.created".to_owned(),
        timestamp: None,
        idempotency_key: None,
        data: b"1".to_vec(),
    }
}
