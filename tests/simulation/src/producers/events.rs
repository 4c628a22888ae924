//! Producers: the events that they send, those that they repeat with the same key, and what each answer must mean.

use super::{briefly, calls, organization, told};
use crate::oracle::Oracle;
use crate::run::World;
use std::collections::BTreeMap;
use std::sync::Arc;
use stormhook_engine::Engine;
use stormhook_engine::dispatch::CommandError;
use stormhook_engine::writer::SubmitError;
use stormhook_store::{Accepted, NewEvent, Refusal};

const TYPES: [&str; 4] = ["order.created", "order.paid", "stock.low", "ping"];
/// Keys that the callers of one organization use.
const KEYS: u64 = 24;

/// What callers remember.
#[derive(Default)]
pub(crate) struct Memory {
    numbered: u64,
    /// What was last sent with each key.
    sent: BTreeMap<(String, String), NewEvent>,
}

/// Usually less than this many bytes.
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

pub(super) fn send(world: &mut World, engine: &Engine, bytes: u64) {
    let event = new_event(world, bytes);
    world.oracle().hands_over(&event);
    // A stream of events waits when there is no room.
    let waits = world.random.one_in(3);
    let (engine, oracle) = (engine.clone(), Arc::clone(&world.oracle));
    calls(world, async move {
        let done = if waits {
            match engine.enqueue(event.clone()).await {
                Ok(pending) => pending
                    .await
                    .map_or_else(|e| Err(e.into()), |done| Ok(done?)),
                Err(e) => Err(e.into()),
            }
        } else {
            engine.submit(event.clone()).await
        };
        told(&oracle, |oracle| oracle.acknowledged(&event, &done));
    });
}

impl Oracle {
    /// A caller gets the answer for its event.
    fn acknowledged(&mut self, event: &NewEvent, done: &Result<Accepted, CommandError>) {
        self.note(format!("sent: {}", briefly(done)));
        let stored = match done {
            Ok(Accepted {
                event: stored,
                replayed: false,
            }) => {
                self.tally.acknowledged += 1;
                if !self.events.contains_key(&stored.id) {
                    self.violated(format!(
                        "{} is acknowledged but was not announced",
                        stored.id
                    ));
                }
                return;
            }
            Ok(Accepted {
                event: stored,
                replayed: true,
            }) => Some(stored),
            Err(CommandError::Submit(SubmitError::StoreFailed | SubmitError::Damaged)) => {
                // Whether it is stored is not known; or the row of its key is damaged, which the commit reported.
                return;
            }
            Err(CommandError::Submit(_))
            | Err(CommandError::Refused(Refusal::IdempotencyConflict | Refusal::Full)) => None,
            Err(other) => return self.violated(format!("an event was answered with {other:?}")),
        };
        if let Some(stored) = stored
            && stored.data.as_ref() != Some(&event.data)
        {
            self.violated(format!(
                "{} is not the event that was sent before",
                stored.id
            ));
        }
        self.not_stored(event);
    }
}
