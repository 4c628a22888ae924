//! An endpoint, an event and an attempt's end that tests use as a start.

use std::sync::Arc;
use stormhook_store::endpoint::{ClientCertificate, ClientKey, EndpointTls, Settings, TypePattern};
use stormhook_store::{
    Attempt, AttemptOutcome, DeliveryId, EndpointId, NewEndpoint, NewEvent, NextStep, Settle,
    Trigger, UnixMs,
};
use stormhook_verifier::Secret;

/// 2026-01-02T03:04:05Z.
pub const START: UnixMs = UnixMs(1_767_323_045_000);

pub fn secret(n: u8) -> Secret {
    Secret::from_random(&[n; 32])
}

/// TLS settings with certificates that are none: a store doesn't read them.
pub fn tls(n: u8) -> Arc<EndpointTls> {
    let client = ClientCertificate {
        chain: vec![vec![n; 300], vec![0; 2]],
        key: ClientKey::new(vec![n; 40]),
    };
    let tls = EndpointTls::new(Some(client), vec![vec![n, 1], vec![n, 2]]);
    Arc::new(tls.expect("there are settings"))
}

pub fn event(organization: &str, event_type: &str) -> NewEvent {
    NewEvent {
        organization: organization.to_owned(),
        event_type: event_type.to_owned(),
        timestamp: None,
        idempotency_key: None,
        data: br#"{"orderId":1001}"#.to_vec(),
    }
}

pub fn new_endpoint(id: EndpointId, organization: &str, types: &[&str]) -> NewEndpoint {
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

/// An attempt that ended at `ended_at` after 40 ms.
pub fn settle(delivery: DeliveryId, next_step: NextStep, ended_at: UnixMs) -> Settle {
    let (outcome, code) = match next_step {
        NextStep::Success => (AttemptOutcome::Success, Some(204)),
        NextStep::Gone => (AttemptOutcome::HttpStatus, Some(410)),
        NextStep::Interrupted => (AttemptOutcome::Interrupted, None),
        NextStep::RetryAt(_) | NextStep::GiveUp => (AttemptOutcome::HttpStatus, Some(503)),
    };
    Settle {
        delivery,
        attempt: Attempt {
            number: 0,
            round: 0,
            trigger: Trigger::Schedule,
            started_at: UnixMs(ended_at.0.saturating_sub(40)),
            duration_ms: 40,
            outcome,
            response_code: code,
            response_excerpt: (code == Some(503)).then(|| b"down".to_vec()),
            error: None,
            reconnected: false,
        },
        duration_us: 40_000,
        ended_at,
        next_step,
        disable: None,
    }
}
