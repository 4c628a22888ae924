//! What operators request of deliveries: retry, cancel, replay, recovery; and a ping, which is not a delivery.

use super::{briefly, calls, some_delivery, some_endpoint, some_event, told};
use crate::run::World;
use std::sync::Arc;
use stormhook_engine::Engine;
use stormhook_engine::dispatch::CommandError;
use stormhook_engine::writer::SubmitError;
use stormhook_store::{Delivery, DeliveryId, EndpointId, Recover, Replay, UnixMs};

type Changed = Result<Box<Delivery>, CommandError>;

/// What an operator requests of one delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Round,
    End,
}

pub(super) fn retry(world: &mut World, engine: &Engine) {
    on_delivery(world, engine, Asks::Round, |engine, id| async move {
        engine.hold(id)?.retry().await
    });
}

pub(super) fn cancel(world: &mut World, engine: &Engine) {
    on_delivery(world, engine, Asks::End, |engine, id| async move {
        engine.hold(id)?.cancel().await
    });
}

fn on_delivery<F: Future<Output = Changed> + Send + 'static>(
    world: &mut World,
    engine: &Engine,
    asks: Asks,
    change: impl FnOnce(Engine, DeliveryId) -> F,
) {
    let Some(id) = some_delivery(world) else {
        return;
    };
    let oracle = Arc::clone(&world.oracle);
    let changed = change(engine.clone(), id);
    if asks == Asks::Round {
        world.oracle().asks_round(id);
    }
    calls(world, async move {
        let changed = changed.await;
        told(&oracle, |oracle| {
            if asks == Asks::Round && is_known(&changed) {
                oracle.round_answered(id);
            }
            oracle.note(format!("changed {id}: {}", changed_briefly(&changed)));
        });
    });
}

/// After a failed commit nobody knows yet whether it happened.
fn is_known(changed: &Changed) -> bool {
    !matches!(changed, Err(CommandError::Submit(SubmitError::StoreFailed)))
}

fn changed_briefly(changed: &Changed) -> String {
    match changed {
        Ok(d) => d.status.as_str().to_owned(),
        Err(e) => format!("{e:?}"),
    }
}

pub(super) fn replay(world: &mut World, engine: &Engine) {
    let (Some(event), Some(endpoint)) = (some_event(world), some_endpoint(world)) else {
        return;
    };
    let slot = engine.reader().endpoint(endpoint).map(|found| found.slot);
    let pair = slot.map(|slot| DeliveryId { event, slot });
    if let Some(pair) = pair {
        world.oracle().asks_round(pair);
    }
    let (engine, oracle) = (engine.clone(), Arc::clone(&world.oracle));
    calls(world, async move {
        let changed = engine.replay(Replay { event, endpoint }).await;
        told(&oracle, |oracle| {
            if let Some(pair) = pair.filter(|_| is_known(&changed)) {
                oracle.round_answered(pair);
            }
            oracle.note(format!("replayed {event}: {}", changed_briefly(&changed)));
        });
    });
}

pub(super) fn recover(world: &mut World, engine: &Engine) {
    if let Some(endpoint) = some_endpoint(world) {
        recover_of(world, engine, endpoint);
    }
}

pub(super) fn recover_of(world: &mut World, engine: &Engine, endpoint: EndpointId) {
    let (since, until) = span(world);
    let recover = Recover {
        endpoint,
        since,
        until,
        missed: world.random.one_in(2),
    };
    let file = engine.reader().file();
    if let Some(Ok(count)) = file.map(|reader| reader.count_recoverable(&recover)) {
        world.oracle().asks_recover(endpoint);
        world.oracle().note(format!("call recovery of {count}"));
        let (engine, oracle) = (engine.clone(), Arc::clone(&world.oracle));
        calls(world, async move {
            let done = engine.recover(recover).await;
            told(&oracle, |oracle| {
                if !matches!(done, Err(CommandError::Submit(SubmitError::StoreFailed))) {
                    oracle.recover_answered(endpoint);
                }
                oracle.note(format!("recovery: {}", briefly(&done)));
            });
        });
    }
}

/// Returns all time, or from one event on, or up to it.
fn span(world: &mut World) -> (UnixMs, UnixMs) {
    let all = (UnixMs(0), UnixMs(u64::MAX));
    let Some(event) = some_event(world) else {
        return all;
    };
    match world.random.below(4) {
        0 => (event.accepted_at(), all.1),
        1 => (all.0, event.accepted_at()),
        _ => all,
    }
}

pub(super) fn ping(world: &mut World, engine: &Engine) {
    let Some(endpoint) = some_endpoint(world) else {
        return;
    };
    let engine = engine.clone();
    calls(world, async move {
        // Neither stored nor counted: only its receiver sees it.
        let _attempt = engine.ping(endpoint).await;
    });
}
