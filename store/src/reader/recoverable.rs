//! What a recover is about: deliveries that ended badly, and events missed while switched off. The same search counts for a
//! reader and finds for the writer.

use crate::endpoint::{Endpoint, Revision, Why};
use crate::error::StoreError;
use crate::event::Event;
use crate::ids::{DeliveryId, EventId, Slot, UnixMs};
use crate::memory::Shared;
use crate::op::Recover;
use crate::pack::Pack;
use crate::record;
use crate::rows::Job;
use crate::tables::{self, Tables, Views};
use redb::ReadableTable;
use std::sync::Arc;

/// Rows that one step looks at, at most.
const ROWS_SEEN: usize = 50_000;

/// The tables that are searched, of a writer or of a reader.
pub(crate) trait Searched {
    fn bad(&self) -> &impl ReadableTable<&'static [u8; 28], &'static [u8]>;
    fn packs(&self) -> &impl ReadableTable<&'static [u8; 16], &'static [u8]>;
    fn deliveries(&self) -> &impl ReadableTable<&'static [u8; 20], &'static [u8]>;
    fn revisions(&self) -> &impl ReadableTable<&'static [u8; 20], &'static [u8]>;
}

macro_rules! searched {
    ($($kind:ty),*) => {$(
        impl Searched for $kind {
            fn bad(&self) -> &impl ReadableTable<&'static [u8; 28], &'static [u8]> {
                &self.bad
            }
            fn packs(&self) -> &impl ReadableTable<&'static [u8; 16], &'static [u8]> {
                &self.packs
            }
            fn deliveries(&self) -> &impl ReadableTable<&'static [u8; 20], &'static [u8]> {
                &self.deliveries
            }
            fn revisions(&self) -> &impl ReadableTable<&'static [u8; 20], &'static [u8]> {
                &self.revisions
            }
        }
    )*};
}

searched!(Tables<'_>, Views);

/// What one step found.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) rounds: Vec<DeliveryId>,
    pub(crate) missed: Vec<EventId>,
    /// `None` when there is nothing left to look at.
    pub(crate) left: Option<Job>,
}

pub(crate) fn job(recover: &Recover, slot: Slot, now: UnixMs) -> Job {
    Job {
        slot,
        since: recover.since,
        until: recover.until,
        missed: recover.missed,
        asked_at: now,
        // A delivery can't have ended before it was accepted.
        after_bad: Some((
            recover.since,
            DeliveryId {
                event: EventId(0),
                slot: Slot(0),
            },
        )),
        after_event: EventId(EventId::first_of(recover.since).0.saturating_sub(1)),
    }
}

/// Finds at most `most` of what is left of a job.
pub(crate) fn step(
    shared: &Shared,
    tables: &impl Searched,
    endpoint: &Endpoint,
    mut job: Job,
    most: usize,
) -> Result<Step, StoreError> {
    let mut step = Step::default();
    let mut seen = 0;
    if let Some((at, id)) = job.after_bad {
        let from = tables::timed_key(at, id);
        let upto = tables::timed_key(
            job.asked_at.plus_ms(1),
            DeliveryId {
                event: EventId(0),
                slot: Slot(0),
            },
        );
        for row in tables.bad().range::<&[u8; 28]>(&from..&upto.max(from))? {
            let (key, _) = row?;
            let (ended, id) = tables::timed_of(key.value());
            if (ended, id) == (at, job.after_bad.map_or(id, |a| a.1)) {
                continue;
            }
            if step.rounds.len() >= most || seen >= ROWS_SEEN {
                step.left = Some(job);
                return Ok(step);
            }
            seen += 1;
            job.after_bad = Some((ended, id));
            let accepted = id.event.accepted_at();
            let within = accepted >= job.since && accepted < job.until;
            let has_data = || {
                Ok::<_, StoreError>(
                    shared
                        .event(tables.packs(), id.event)?
                        .is_some_and(|e| e.data.is_some()),
                )
            };
            if id.slot == job.slot && within && has_data()? {
                step.rounds.push(id);
            }
        }
        job.after_bad = None;
    }
    if job.missed {
        missed(tables, endpoint, &mut job, most, &mut step)?;
    }
    Ok(step)
}

/// Events that the endpoint was subscribed to but inactive for, and has no delivery of.
fn missed(
    tables: &impl Searched,
    endpoint: &Endpoint,
    job: &mut Job,
    most: usize,
    step: &mut Step,
) -> Result<(), StoreError> {
    let end = EventId::first_of(job.until.min(job.asked_at.plus_ms(1)));
    let from = EventId(job.after_event.0.saturating_add(1));
    let start = match tables
        .packs()
        .range::<&[u8; 16]>(..=&tables::event_key(from))?
        .next_back()
    {
        Some(row) => *row?.0.value(),
        None => tables::event_key(from),
    };
    let mut seen = 0;
    for row in tables
        .packs()
        .range::<&[u8; 16]>(&start..&tables::event_key(end).max(start))?
    {
        let (key, value) = row?;
        for event in &Pack::decode(key.value(), value.value())?.events {
            if event.id < from || event.id >= end {
                continue;
            }
            if step.rounds.len() + step.missed.len() >= most || seen >= ROWS_SEEN {
                step.left = Some(*job);
                return Ok(());
            }
            seen += 1;
            job.after_event = event.id;
            if was_missed(tables, endpoint, event)? {
                step.missed.push(event.id);
            }
        }
    }
    Ok(())
}

fn was_missed(
    tables: &impl Searched,
    endpoint: &Endpoint,
    event: &Arc<Event>,
) -> Result<bool, StoreError> {
    if event.organization != endpoint.organization || event.data.is_none() {
        return Ok(false);
    }
    let why = why(tables, endpoint.slot, event)?;
    Ok(why == Why::InactiveAtAcceptance)
}

/// Why an endpoint was or wasn't sent an event.
pub(crate) fn why(tables: &impl Searched, slot: Slot, event: &Event) -> Result<Why, StoreError> {
    let pair = DeliveryId {
        event: event.id,
        slot,
    };
    let delivered = tables
        .deliveries()
        .get(&tables::delivery_key(pair))?
        .is_some();
    let from = tables::revision_key(slot, EventId(0));
    let upto = tables::revision_key(slot, event.id);
    let revision: Option<Revision> = match tables
        .revisions()
        .range::<&[u8; 20]>(&from..=&upto)?
        .next_back()
    {
        Some(row) => Some(record::read_plain("revisions", row?.1.value())?),
        None => None,
    };
    Ok(Why::decide(revision.as_ref(), &event.event_type, delivered))
}
