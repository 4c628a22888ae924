//! Callers: services that hand events over, and operators. Each call is a task of its own, and its answer is told to the oracle.

use crate::oracle::Oracle;
use crate::random::Random;
use crate::run::World;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stormhook::app::App;
use stormhook::dispatch::DispatchError;
use stormhook::writer::SubmitError;
use stormhook_store::endpoint::{EndpointChange, Ordering, Seed, Settings, TypePattern};
use stormhook_store::{
    DeliveryId, Done, EndpointId, EventId, NewEndpoint, NewEvent, Op, Recover, Refusal, UnixMs,
};
use stormhook_verifier::Secret;
use tokio::time::sleep;

const TYPES: [&str; 4] = ["order.created", "order.paid", "stock.low", "ping"];
const PATTERNS: [&str; 6] = [
    "*",
    "*",
    "order.*",
    "order.paid",
    "stock.low",
    "stormhook.endpoint.disabled",
];
/// Keys that callers of one organization use.
const KEYS: u64 = 24;
/// One caller in so many does not wait for its answer.
const GOES_AWAY: u64 = 16;

/// What callers remember.
#[derive(Default)]
pub(crate) struct Memory {
    numbered: u64,
    /// What was sent under each key last.
    sent: BTreeMap<(String, String), NewEvent>,
}

/// Somebody does something.
pub(crate) fn act(world: &mut World, app: &Arc<App>) {
    let endpoints = world
        .oracle()
        .endpoints
        .values()
        .filter(|e| e.deleted_at.is_none())
        .count();
    match world.random.below(100) {
        _ if (endpoints as u64) < world.plan.fan_out => {
            for _ in 0..world.plan.fan_out.min(100) {
                create_endpoint(world, app);
            }
        }
        0..60 if world.plan.large && world.random.one_in(20) => {
            for _ in 0..300 {
                send(world, app, 250 << 10);
            }
        }
        0..60 => {
            let burst = if world.random.one_in(12) { 40 } else { 4 };
            for _ in 0..=world.random.below(burst) {
                send(world, app, 200);
            }
        }
        60..66 => create_endpoint(world, app),
        66..76 => change_endpoint(world, app),
        76..77 => delete_endpoint(world, app),
        77..79 => rotate(world, app),
        79..86 => on_delivery(world, app, Asks::Round, |app, id| async move {
            app.retry(id).await
        }),
        86..90 => on_delivery(world, app, Asks::End, |app, id| async move {
            app.cancel(id).await
        }),
        90..94 => replay(world, app),
        94..97 => recover(world, app),
        97..98 => ping(world, app),
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

/// Mostly of less than so many bytes.
fn new_event(world: &mut World, bytes: u64) -> NewEvent {
    let organization = organization(world);
    let random = &mut world.random;
    let key = random
        .one_in(2)
        .then(|| format!("key-{}", random.below(KEYS)));
    if let Some(key) = &key
        && let Some(sent) = world.memory.sent.get(&(organization.clone(), key.clone()))
        && !random.one_in(5)
    {
        return sent.clone();
    }
    world.memory.numbered += 1;
    let filling = match random.below(20) {
        0 => random.below(20_000),
        _ if bytes > 20_000 => bytes - random.below(1_000),
        _ => random.below(bytes),
    };
    let filling = "x".repeat(usize::try_from(filling).unwrap());
    let event = NewEvent {
        organization: organization.clone(),
        event_type: TYPES[usize::try_from(random.below(4)).unwrap()].to_owned(),
        timestamp: None,
        idempotency_key: key.clone(),
        data: format!("{{\"n\":{},\"x\":\"{filling}\"}}", world.memory.numbered).into_bytes(),
    };
    if let Some(key) = key {
        world.memory.sent.insert((organization, key), event.clone());
    }
    event
}

/// A caller makes its call, and waits for the answer unless it is one of those that go away.
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

fn send(world: &mut World, app: &Arc<App>, bytes: u64) {
    let event = new_event(world, bytes);
    world.oracle().hands_over(&event);
    // A stream of events waits for room where there is none.
    let waits = world.random.one_in(3);
    let (app, oracle) = (Arc::clone(app), Arc::clone(&world.oracle));
    calls(world, async move {
        let op = Op::Accept(event.clone());
        let done = if waits {
            match app.enqueue(op).await {
                Ok(pending) => pending.await,
                Err(e) => Err(e),
            }
        } else {
            app.submit(op).await
        };
        told(&oracle, |oracle| oracle.acknowledged(&event, &done));
    });
}

/// Of a dead process's answers nothing is heard.
fn told(oracle: &Mutex<Oracle>, tell: impl FnOnce(&mut Oracle)) {
    let mut oracle = oracle.lock().unwrap_or_else(PoisonError::into_inner);
    if !oracle.dead {
        tell(&mut oracle);
    }
}

fn submit(world: &mut World, app: &Arc<App>, op: Op) {
    let (app, oracle) = (Arc::clone(app), Arc::clone(&world.oracle));
    let named = named(&op);
    world.oracle().note(format!("call {named}"));
    calls(world, async move {
        let done = app.submit(op).await;
        told(&oracle, |oracle| {
            oracle.note(format!("{named}: {}", briefly(&done)));
        });
    });
}

fn named(op: &Op) -> &'static str {
    match op {
        Op::CreateEndpoint(_) | Op::CreateEndpointOnce { .. } => "create",
        Op::UpdateEndpoint { .. } => "change",
        Op::DeleteEndpoint { .. } => "delete",
        Op::RotateSecret { .. } => "rotate",
        _ => "other",
    }
}

fn briefly(done: &Result<Done, SubmitError>) -> String {
    match done {
        Ok(Done::Refused(why)) => format!("refused, {why:?}"),
        Ok(Done::Damaged(what)) => format!("damaged, {what}"),
        Ok(_) => "done".to_owned(),
        Err(e) => format!("{e:?}"),
    }
}

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

fn create_endpoint(world: &mut World, app: &Arc<App>) {
    let organization = organization(world);
    let url = url(world);
    let random = &mut world.random;
    let (secret, seed) = secret(random);
    let new = NewEndpoint {
        id: app.new_endpoint_id(),
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
    submit(world, app, Op::CreateEndpoint(Box::new(new)));
}

fn change_endpoint(world: &mut World, app: &Arc<App>) {
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
    update(world, app, id, change);
    if world.random.one_in(3) {
        let change = EndpointChange {
            active: Some(true),
            discard_held: world.random.one_in(3),
            ..EndpointChange::default()
        };
        update(world, app, id, change);
    }
    // Somebody who discarded too much takes it back while some of it is on the wire.
    if world.random.one_in(4) {
        recover_of(world, app, id);
    }
}

/// Whatever is switched off is switched on, so that what is held goes.
pub(crate) fn switch_on_all(world: &mut World, app: &Arc<App>) {
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
        update(world, app, id, change);
    }
}

fn update(world: &mut World, app: &Arc<App>, id: EndpointId, change: EndpointChange) {
    let change = Box::new(change);
    submit(world, app, Op::UpdateEndpoint { id, change });
}

fn delete_endpoint(world: &mut World, app: &Arc<App>) {
    if let Some(id) = some_endpoint(world) {
        submit(world, app, Op::DeleteEndpoint { id });
    }
}

fn rotate(world: &mut World, app: &Arc<App>) {
    let Some(id) = some_endpoint(world) else {
        return;
    };
    let (secret, seed) = secret(&mut world.random);
    let overlap_ms = world.random.below(3) * 3_600_000;
    submit(
        world,
        app,
        Op::RotateSecret {
            id,
            secret,
            seed,
            overlap_ms,
        },
    );
}

type Changed = Result<Done, DispatchError>;

/// What an operator asks of one delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Round,
    End,
}

fn on_delivery<F: Future<Output = Changed> + Send + 'static>(
    world: &mut World,
    app: &Arc<App>,
    asks: Asks,
    change: impl FnOnce(Arc<App>, DeliveryId) -> F,
) {
    let Some(id) = some_delivery(world) else {
        return;
    };
    let oracle = Arc::clone(&world.oracle);
    let changed = change(Arc::clone(app), id);
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

/// After a commit that failed nobody knows yet whether it happened.
fn is_known(changed: &Changed) -> bool {
    !matches!(
        changed,
        Err(DispatchError::Submit(SubmitError::StoreFailed))
    )
}

fn changed_briefly(changed: &Changed) -> String {
    match changed {
        Ok(Done::Delivery(d)) => d.status.as_str().to_owned(),
        Ok(Done::Refused(why)) => format!("refused, {why:?}"),
        Ok(other) => format!("{other:?}"),
        Err(e) => format!("{e:?}"),
    }
}

fn replay(world: &mut World, app: &Arc<App>) {
    let (Some(event), Some(endpoint)) = (some_event(world), some_endpoint(world)) else {
        return;
    };
    let slot = app.reader().endpoint(endpoint).map(|found| found.slot);
    let pair = slot.map(|slot| DeliveryId { event, slot });
    if let Some(pair) = pair {
        world.oracle().asks_round(pair);
    }
    let (app, oracle) = (Arc::clone(app), Arc::clone(&world.oracle));
    calls(world, async move {
        let changed = app.replay(event, endpoint).await;
        told(&oracle, |oracle| {
            if let Some(pair) = pair.filter(|_| is_known(&changed)) {
                oracle.round_answered(pair);
            }
            oracle.note(format!("replayed {event}: {}", changed_briefly(&changed)));
        });
    });
}

fn recover(world: &mut World, app: &Arc<App>) {
    if let Some(endpoint) = some_endpoint(world) {
        recover_of(world, app, endpoint);
    }
}

fn recover_of(world: &mut World, app: &Arc<App>, endpoint: EndpointId) {
    let (since, until) = span(world);
    let mut recover = Recover {
        endpoint,
        since,
        until,
        missed: world.random.one_in(2),
        count: 0,
    };
    if let Ok(count) = app.read(|reader| reader.count_recoverable(&recover)) {
        recover.count = count;
        world.oracle().asks_recover(endpoint);
        world.oracle().note(format!("call recover of {count}"));
        let (app, oracle) = (Arc::clone(app), Arc::clone(&world.oracle));
        calls(world, async move {
            let done = app.submit(Op::Recover(recover)).await;
            told(&oracle, |oracle| {
                if !matches!(done, Err(SubmitError::StoreFailed)) {
                    oracle.recover_answered(endpoint);
                }
                oracle.note(format!("recover: {}", briefly(&done)));
            });
        });
    }
}

/// All time, or from one event on, or up to it.
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

fn ping(world: &mut World, app: &Arc<App>) {
    let Some(endpoint) = some_endpoint(world) else {
        return;
    };
    let app = Arc::clone(app);
    calls(world, async move {
        // Stored and counted nowhere: that it goes is seen by the partner.
        let _attempt = app.ping(endpoint).await;
    });
}

impl Oracle {
    /// A caller is told what became of its event.
    fn acknowledged(&mut self, event: &NewEvent, done: &Result<Done, SubmitError>) {
        self.note(format!("sent: {}", briefly(done)));
        let stored = match done {
            Ok(Done::Accepted(stored)) => {
                self.tally.acknowledged += 1;
                if !self.events.contains_key(&stored.id) {
                    self.violated(format!(
                        "{} is acknowledged and was not announced",
                        stored.id
                    ));
                }
                return;
            }
            Ok(Done::Replayed(stored)) => Some(stored),
            Ok(Done::Refused(Refusal::IdempotencyConflict | Refusal::Full)) => None,
            // Whether it is stored is not known.
            Err(SubmitError::StoreFailed) => return,
            Err(_) => None,
            // The row that says whether its key is known, perhaps.
            Ok(Done::Damaged(damage)) => {
                if let Err(why) = self.expect_named(damage) {
                    self.violated(why);
                }
                return;
            }
            Ok(other) => return self.violated(format!("sending an event came to {other:?}")),
        };
        if let Some(stored) = stored
            && stored.data.as_ref() != Some(&event.data)
        {
            self.violated(format!(
                "{} is another event than the one sent again",
                stored.id
            ));
        }
        self.not_stored(event);
    }
}
