//! Callers: they send events and create endpoints, through any daemon.

use super::World;
use super::oracle::Answer;
use super::stage::with;
use std::sync::Arc;
use stormhook_engine::dispatch::CommandError;
use stormhook_engine::writer::SubmitError;
use stormhook_store::endpoint::{Ordering, Seed, Settings, TypePattern};
use stormhook_store::{Accepted, CreateEndpoint, NewEndpoint, NewEvent};
use stormhook_verifier::Secret;

/// Returns a daemon that runs: usually the one that has the organization.
fn some_daemon(world: &mut World, organization: &str) -> Option<u64> {
    let shard = stormhook_postgres::cluster::Shard::of(organization);
    let owner = with(&world.shared, |stage| {
        let tables = &stage.database.tables;
        let owner = tables.shards.get(&i16::from(shard.0))?.owner?;
        Some(tables.seats.get(&owner)?.daemon.as_u128())
    });
    let running = world.daemons.iter();
    let running = running.filter(|(_, daemon)| daemon.engine().is_some());
    let running: Vec<u64> = running.map(|(number, _)| *number).collect();
    let is_owner = |number: &&u64| Some(u128::from(**number) + 1) == owner;
    if let Some(owner) = running.iter().find(is_owner)
        && !world.random.one_in(5)
    {
        return Some(*owner);
    }
    let at = world.random.below(running.len() as u64);
    running.get(usize::try_from(at).unwrap()).copied()
}

fn some_organization(world: &mut World) -> String {
    format!("o{}", world.random.below(world.plan.organizations))
}

pub(super) fn send_event(world: &mut World) {
    let organization = some_organization(world);
    let Some(daemon) = some_daemon(world, &organization) else {
        return;
    };
    let number = world.next_event;
    world.next_event += 1;
    let key = world.random.one_in(4);
    let filling = "x".repeat(usize::try_from(world.random.below(400)).unwrap());
    let event = NewEvent {
        organization,
        event_type: "order.created".to_owned(),
        timestamp: None,
        idempotency_key: key.then(|| format!("key-{number}")),
        data: format!("{{\"n\":{number},\"x\":\"{filling}\"}}").into_bytes(),
    };
    let daemon = &world.daemons[&daemon];
    let engine = daemon.engine().expect("it runs");
    let shared = Arc::clone(&world.shared);
    daemon.call(async move {
        let answer = match engine.submit(event).await {
            Ok(Accepted { event, .. }) => Answer::Stored(event.id),
            // Whether it is stored is not known.
            Err(CommandError::Submit(SubmitError::StoreFailed)) => return,
            Err(_) => Answer::NotStored,
        };
        with(&shared, |stage| stage.oracle.answered(number, answer));
    });
}

pub(super) fn create_endpoint(world: &mut World) {
    let organization = some_organization(world);
    let Some(daemon) = some_daemon(world, &organization) else {
        return;
    };
    world.endpoints += 1;
    let random = &mut world.random;
    let byte = u8::try_from(random.below(256)).unwrap();
    let receiver = random.below(world.plan.receivers);
    let ordering = if random.one_in(2) {
        Ordering::Fifo
    } else {
        Ordering::Parallel
    };
    let daemon = &world.daemons[&daemon];
    let engine = daemon.engine().expect("it runs");
    // By the daemon's clock, which goes only where it runs.
    let new = move |id| NewEndpoint {
        id,
        organization,
        settings: Settings {
            url: format!("https://p{receiver}.example/hooks"),
            event_types: vec![TypePattern::parse("*").unwrap()],
            active: true,
            ordering,
            ..Settings::default()
        },
        secret: Secret::from_random(&[byte; 32]),
        seed: Some(Seed::from_random(&[byte; 32])).filter(|_| byte < 10),
    };
    daemon.call(async move {
        let new = new(engine.new_endpoint_id());
        let _created = engine.submit(CreateEndpoint::from(new)).await;
    });
}
