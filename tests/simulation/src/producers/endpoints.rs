//! What operators do to endpoints: create, change, enable and disable, rotate their secrets, delete.

use super::deliveries::recover_of;
use super::{organization, some_endpoint, submit};
use crate::run::World;
use stormhook_engine::Engine;
use stormhook_store::endpoint::{EndpointChange, Ordering, Seed, Settings, TypePattern};
use stormhook_store::{
    CreateEndpoint, DeleteEndpoint, EndpointId, NewEndpoint, RotateSecret, UpdateEndpoint,
};
use stormhook_testkit::random::Random;
use stormhook_verifier::Secret;

const PATTERNS: [&str; 6] = [
    "*",
    "*",
    "order.*",
    "order.paid",
    "stock.low",
    "stormhook.endpoint.disabled",
];

fn secret(random: &mut Random) -> (Secret, Seed) {
    let byte = u8::try_from(random.below(256)).unwrap();
    (
        Secret::from_random(&[byte; 32]),
        Seed::from_random(&[byte; 32]),
    )
}

fn url(world: &mut World) -> String {
    format!(
        "https://p{}.example/hooks",
        world.random.below(world.plan.partners)
    )
}

fn patterns(random: &mut Random) -> Vec<TypePattern> {
    let at = usize::try_from(random.below(PATTERNS.len() as u64)).unwrap();
    let mut patterns = vec![TypePattern::parse(PATTERNS[at]).unwrap()];
    if random.one_in(4) {
        patterns.push(TypePattern::parse("stormhook.endpoint.disabled").unwrap());
    }
    patterns
}

fn rate(random: &mut Random) -> Option<f64> {
    [None, None, None, Some(0.2), Some(3.0), Some(50.0)][usize::try_from(random.below(6)).unwrap()]
}

fn ordering(random: &mut Random) -> Ordering {
    if random.one_in(3) {
        Ordering::Fifo
    } else {
        Ordering::Parallel
    }
}

pub(super) fn create_endpoint(world: &mut World, engine: &Engine) {
    let organization = organization(world);
    let url = url(world);
    let random = &mut world.random;
    let (secret, seed) = secret(random);
    let new = NewEndpoint {
        id: engine.new_endpoint_id(),
        organization,
        settings: Settings {
            url,
            event_types: patterns(random),
            active: !random.one_in(8),
            rate_limit_per_second: rate(random),
            ordering: ordering(random),
            ..Settings::default()
        },
        secret,
        seed: random.one_in(8).then_some(seed),
    };
    let engine = engine.clone();
    submit(world, "create", async move {
        engine.submit(CreateEndpoint::from(new)).await
    });
}

pub(super) fn change_endpoint(world: &mut World, engine: &Engine) {
    let Some(id) = some_endpoint(world) else {
        return;
    };
    let url = url(world);
    let random = &mut world.random;
    let mut change = EndpointChange::default();
    match random.below(10) {
        0..4 => change.active = Some(false),
        4..7 => {
            change.active = Some(true);
            change.discard_held = random.one_in(3);
        }
        7 => change.rate_limit_per_second = Some(rate(random)),
        8 => change.ordering = Some(ordering(random)),
        _ => {
            change.url = Some(url);
            change.event_types = Some(patterns(random));
        }
    }
    update(world, engine, id, change);
    if world.random.one_in(3) {
        let change = EndpointChange {
            active: Some(true),
            discard_held: world.random.one_in(3),
            ..EndpointChange::default()
        };
        update(world, engine, id, change);
    }
    // An operator who discarded too much requests a recovery while some of it is on the wire.
    if world.random.one_in(4) {
        recover_of(world, engine, id);
    }
}

/// Enables every disabled endpoint, so that held deliveries are sent.
pub(crate) fn switch_on_all(world: &mut World, engine: &Engine) {
    let off: Vec<_> = {
        let oracle = world.oracle();
        let off = oracle.endpoints.values();
        let off = off.filter(|e| !e.active && e.deleted_at.is_none());
        off.map(|e| e.id).collect()
    };
    for id in off {
        let change = EndpointChange {
            active: Some(true),
            ..EndpointChange::default()
        };
        update(world, engine, id, change);
    }
}

fn update(world: &mut World, engine: &Engine, id: EndpointId, change: EndpointChange) {
    let change = Box::new(change);
    let engine = engine.clone();
    let update = UpdateEndpoint { id, change };
    submit(world, "change", async move {
        engine.update_endpoint(update).await
    });
}

pub(super) fn delete_endpoint(world: &mut World, engine: &Engine) {
    if let Some(id) = some_endpoint(world) {
        let engine = engine.clone();
        let delete = DeleteEndpoint { id };
        submit(world, "delete", async move { engine.submit(delete).await });
    }
}

pub(super) fn rotate(world: &mut World, engine: &Engine) {
    let Some(id) = some_endpoint(world) else {
        return;
    };
    let (secret, seed) = secret(&mut world.random);
    let overlap_ms = world.random.below(3) * 3_600_000;
    let engine = engine.clone();
    let rotate = RotateSecret {
        id,
        secret,
        seed,
        overlap_ms,
    };
    submit(world, "rotate", async move { engine.submit(rotate).await });
}
