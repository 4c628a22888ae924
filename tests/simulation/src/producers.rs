//! Callers: services that submit events, and operators. Decides which call comes next, and whether its caller waits for
//! the answer. Each call is a task of its own, and its answer is reported to the oracle.

mod deliveries;
mod endpoints;
mod events;

use crate::oracle::Oracle;
use crate::run::World;
use deliveries::{cancel, ping, recover, replay, retry};
pub(crate) use endpoints::switch_on_all;
use endpoints::{change_endpoint, create_endpoint, delete_endpoint, rotate};
pub(crate) use events::Memory;
use events::send;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stormhook_engine::Engine;
use stormhook_engine::dispatch::CommandError;
use stormhook_store::{DeliveryId, EndpointId, EventId};
use stormhook_testkit::random::Random;
use tokio::time::sleep;

/// One caller in this many does not wait for its answer.
const GOES_AWAY: u64 = 16;

/// A caller does something.
pub(crate) fn act(world: &mut World, engine: &Engine) {
    let endpoints = world
        .oracle()
        .endpoints
        .values()
        .filter(|e| e.deleted_at.is_none())
        .count();
    match world.random.below(100) {
        _ if (endpoints as u64) < world.plan.fan_out => {
            for _ in 0..world.plan.fan_out.min(100) {
                create_endpoint(world, engine);
            }
        }
        0..60 if world.plan.large && world.random.one_in(20) => {
            for _ in 0..300 {
                send(world, engine, 250 << 10);
            }
        }
        0..60 => {
            let burst = if world.random.one_in(12) { 40 } else { 4 };
            for _ in 0..=world.random.below(burst) {
                send(world, engine, 200);
            }
        }
        60..66 => create_endpoint(world, engine),
        66..76 => change_endpoint(world, engine),
        76..77 => delete_endpoint(world, engine),
        77..79 => rotate(world, engine),
        79..86 => retry(world, engine),
        86..90 => cancel(world, engine),
        90..94 => replay(world, engine),
        94..97 => recover(world, engine),
        97..98 => ping(world, engine),
        _ => {}
    }
}

fn nth<T>(random: &mut Random, items: &mut dyn ExactSizeIterator<Item = T>) -> Option<T> {
    let at = random.below(items.len() as u64);
    items.nth(usize::try_from(at).unwrap())
}

fn some_endpoint(world: &mut World) -> Option<EndpointId> {
    let ids: Vec<_> = {
        let oracle = world.oracle();
        oracle.endpoints.values().map(|e| e.id).collect()
    };
    nth(&mut world.random, &mut ids.into_iter())
}

fn some_delivery(world: &mut World) -> Option<DeliveryId> {
    let oracle = Arc::clone(&world.oracle);
    let oracle = oracle.lock().unwrap_or_else(PoisonError::into_inner);
    nth(&mut world.random, &mut oracle.deliveries.keys().copied())
}

fn some_event(world: &mut World) -> Option<EventId> {
    let oracle = Arc::clone(&world.oracle);
    let oracle = oracle.lock().unwrap_or_else(PoisonError::into_inner);
    nth(&mut world.random, &mut oracle.events.keys().copied())
}

fn organization(world: &mut World) -> String {
    format!("org_{}", world.random.below(world.plan.organizations))
}

/// A caller makes its call. It waits for the answer unless it is one of those that go away.
fn calls(world: &mut World, call: impl Future<Output = ()> + Send + 'static) {
    let goes_away = world.random.one_in(GOES_AWAY);
    let after = Duration::from_millis(world.random.below(5));
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = call => {}
            () = sleep(after), if goes_away => {}
        }
    });
}

/// The answers of a process that has ended are lost.
fn told(oracle: &Mutex<Oracle>, tell: impl FnOnce(&mut Oracle)) {
    let mut oracle = oracle.lock().unwrap_or_else(PoisonError::into_inner);
    if !oracle.dead {
        tell(&mut oracle);
    }
}

/// An operator's call, and its result.
fn submit<T>(
    world: &mut World,
    named: &'static str,
    call: impl Future<Output = Result<T, CommandError>> + Send + 'static,
) {
    let oracle = Arc::clone(&world.oracle);
    world.oracle().note(format!("call {named}"));
    calls(world, async move {
        let done = call.await;
        told(&oracle, |oracle| {
            oracle.note(format!("{named}: {}", briefly(&done)));
        });
    });
}

fn briefly<T>(done: &Result<T, CommandError>) -> String {
    match done {
        Ok(_) => "done".to_owned(),
        Err(e) => format!("{e:?}"),
    }
}
