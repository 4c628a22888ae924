//! An endpoint and an event as a starting point for tests.

use stormhook_store::endpoint::{Settings, TypePattern};
use stormhook_store::{EndpointId, NewEndpoint, NewEvent};
use stormhook_verifier::Secret;

pub(crate) fn secret(n: u8) -> Secret {
    Secret::from_random(&[n; 32])
}

pub(crate) fn event(organization: &str, event_type: &str) -> NewEvent {
    NewEvent {
        organization: organization.to_owned(),
        event_type: event_type.to_owned(),
        timestamp: None,
        idempotency_key: None,
        data: br#"{"orderId":1001}"#.to_vec(),
    }
}

pub(crate) fn new_endpoint(id: EndpointId, organization: &str, types: &[&str]) -> NewEndpoint {
    NewEndpoint {
        id,
        organization: organization.to_owned(),
        settings: Settings {
            url: "https://partner.example/hooks".to_owned(),
            event_types: types
                .iter()
                .map(|t| TypePattern::parse(t).expect("a pattern"))
                .collect(),
            active: true,
            ..Settings::default()
        },
        secret: secret(1),
        seed: None,
    }
}
