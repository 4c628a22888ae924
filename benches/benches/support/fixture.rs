//! Fixed inputs: the same events, endpoint and secret in every run, so that figures of two runs are about the same
//! work.

use bytes::Bytes;
use http::HeaderName;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::sync::Arc;
use stormhook_benches::bodies::{self, Kind};
use stormhook_engine::payload::Partner;
use stormhook_engine::transport::{Destination, Transport};
use stormhook_store::endpoint::{LiveSecret, Seed, Settings, TypePattern};
use stormhook_store::{
    Attempt, AttemptOutcome, DeliveryId, Endpoint, EndpointId, Event, EventId, NewEvent, NextStep,
    QueueEntry, Settle, Slot, Timestamp, Trigger, UnixMs,
};
use stormhook_verifier::Secret;

pub(crate) const SECRET: &str = "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=";
/// The key in the secret's base64.
pub(crate) const KEY: &[u8] = b"stormhook-example-secret-32bytes";
pub(crate) const SEED: [u8; 32] = [7; 32];
pub(crate) const ID: &str = "evt_01JXS7V2F3Q8Z5N4M6K7P9R0TA";
pub(crate) const NOW_S: u64 = 1_750_000_000;
pub(crate) const NOW: UnixMs = UnixMs(NOW_S * 1_000);

/// A small generator: ids must look random, but be the same in every run.
pub(crate) struct Draw(SplitMix64);

impl Draw {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

/// Requests of 1,024 bytes, for this many organizations in turn.
pub(crate) fn requests(organizations: usize) -> Vec<Bytes> {
    bodies::pool(Kind::Kib, "org_bench", organizations)
}

/// The organizations of [`requests`].
pub(crate) fn organizations(count: usize) -> Vec<String> {
    match count {
        1 => vec!["org_bench".to_owned()],
        _ => (0..count).map(|at| format!("org_bench{at}")).collect(),
    }
}

/// Returns an event as the daemon reads it.
pub(crate) fn read(request: &[u8]) -> NewEvent {
    stormhook_daemon::http::read_event(request).expect("an accepted request")
}

/// Returns the event as the store has it.
pub(crate) fn stored(new: NewEvent, id: EventId) -> Event {
    Event {
        id,
        organization: new.organization,
        event_type: new.event_type,
        timestamp: Timestamp::from(NOW),
        timestamp_text: None,
        idempotency_key: None,
        deliveries: 1,
        data: Some(new.data),
    }
}

pub(crate) fn endpoint(slot: Slot, seed: Option<Seed>) -> Endpoint {
    let secret = Secret::parse(SECRET).expect("a secret");
    Endpoint {
        id: EndpointId(u128::from(slot.0)),
        slot,
        organization: "org_bench".to_owned(),
        settings: Settings {
            url: "https://partner.example/hooks".to_owned(),
            event_types: vec![TypePattern::All],
            active: true,
            ..Settings::default()
        },
        secrets: vec![LiveSecret {
            secret,
            seed,
            until: None,
        }],
        sealed: None,
        created_at: NOW,
        updated_at: NOW,
        deleted_at: None,
    }
}

/// Returns an endpoint prepared for sending.
pub(crate) fn partner(seed: Option<Seed>) -> Partner {
    let name = HeaderName::from_static("x-stormcom-signature");
    let endpoint = Arc::new(endpoint(Slot(0), seed));
    Partner::new(&endpoint, &Nowhere, name, NOW)
}

/// Returns an open delivery: every second one waits for a retry, the others for their first attempt.
pub(crate) fn waiting(slot: Slot, sequence: u64, due: UnixMs, draw: &mut Draw) -> QueueEntry {
    let event = EventId(u128::from(due.0) << 80 | draw.wide() >> 48);
    let retrying = sequence % 2 == 1;
    QueueEntry {
        id: DeliveryId { event, slot },
        due,
        sequence,
        retrying,
        fresh: !retrying,
        later_round: false,
        trigger: Trigger::Schedule,
    }
}

/// Returns a first attempt that was answered with 204 after 5 ms.
pub(crate) fn settle(delivery: DeliveryId, now: UnixMs) -> Settle {
    Settle {
        delivery,
        attempt: Attempt {
            number: 0,
            round: 0,
            trigger: Trigger::Schedule,
            started_at: now,
            duration_ms: 5,
            outcome: AttemptOutcome::Success,
            response_code: Some(204),
            response_excerpt: None,
            error: None,
            reconnected: false,
        },
        duration_us: 5_000,
        ended_at: now,
        next_step: NextStep::Success,
        disable: None,
    }
}

/// Nothing is sent: only the headers are measured.
struct Nowhere;

impl Transport for Nowhere {
    fn destination(&self, endpoint: &Settings) -> Result<Arc<dyn Destination>, String> {
        Err(format!("{} is nowhere", endpoint.url))
    }
}
