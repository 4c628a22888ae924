//! Finds what purges in progress still have to write, a bounded number of rows at a time, beside the writer.

use super::Reader;
use super::scan::{Next, Rows, Way};
use super::sent_to;
use crate::error::StoreError;
use crate::file::memory::Snapshot;
use crate::file::pack::{self, Pack};
use crate::file::tables;
use crate::ids::EventId;
use crate::maintenance::PURGED_PER_STEP;
use crate::purge::{Purge, PurgeFound, PurgeScope, Purges};
use std::sync::Arc;

/// How many packs one step reads.
const PACKS_PER_STEP: usize = 64;

impl Reader {
    /// Returns the purges in progress.
    pub fn purges(&self) -> Arc<Purges> {
        Arc::clone(&self.shared.memory().directory.purges)
    }

    /// Finds events of a purge after this one that it has not removed yet.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn purge_step(&self, purge: &Purge, after: EventId) -> Result<PurgeFound, StoreError> {
        self.shared.view(|views| step(views, purge, after))
    }
}

fn step(views: &Snapshot, purge: &Purge, after: EventId) -> Result<PurgeFound, StoreError> {
    match &purge.scope {
        PurgeScope::Events(events) => named(views, purge, events),
        PurgeScope::Before(until) => before(views, purge, after, *until),
    }
}

/// Finds events by their ids: there are few, so that one step has all of them.
fn named(views: &Snapshot, purge: &Purge, events: &[EventId]) -> Result<PurgeFound, StoreError> {
    let mut found = PurgeFound::default();
    for id in events {
        let around = match pack::around(&views.packs, *id) {
            Err(e) if e.is_damage() => None,
            around => around?,
        };
        let event = around.and_then(|(_, pack)| pack.find(*id));
        if event.is_some_and(|event| event.organization == purge.organization) {
            found.events.push((*id, sent_to(views, *id)?));
        }
    }
    Ok(found)
}

fn before(
    views: &Snapshot,
    purge: &Purge,
    after: EventId,
    until: EventId,
) -> Result<PurgeFound, StoreError> {
    let from = EventId(after.0.saturating_add(1));
    let start = pack::first_key(&views.packs, from)?;
    let end = tables::event_key(until).max(start);
    let mut rows = Rows::new(&views.packs, Way::Up, start, end);
    let mut found = PurgeFound::default();
    let mut deliveries = 0;
    for _ in 0..PACKS_PER_STEP {
        let pack = match rows.next(Pack::decode)? {
            Next::End => {
                return Ok(PurgeFound {
                    next: None,
                    ..found
                });
            }
            // Damaged ones stay, for `check` to name.
            Next::Gap(_, end, _) => {
                found.next = Some(EventId(end.0.saturating_sub(1)));
                continue;
            }
            Next::Row(key, Err(_)) => {
                found.next = Some(tables::event_of(&key));
                continue;
            }
            Next::Row(_, Ok(pack)) => pack,
        };
        for event in pack.events.iter().filter(|event| event.id >= from) {
            if event.organization == purge.organization && event.id < until {
                let slots = sent_to(views, event.id)?;
                deliveries += 1 + slots.len();
                found.events.push((event.id, slots));
            }
            found.next = Some(event.id);
            if deliveries >= PURGED_PER_STEP {
                return Ok(found);
            }
        }
    }
    Ok(found)
}
