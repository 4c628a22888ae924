//! What a recover is about: deliveries that ended badly, and events missed while switched off. The same search counts for a
//! reader and finds for the writer.

use crate::delivery::Delivery;
use crate::endpoint::{Endpoint, Revision, Why};
use crate::error::StoreError;
use crate::event::Event;
use crate::ids::{DeliveryId, EventId, Slot, UnixMs};
use crate::memory::{Shared, Snapshot};
use crate::op::Recover;
use crate::pack::Pack;
use crate::record;
use crate::rows::{self, Job, Jobs, Meta};
use crate::tables::{self, Tables};
use redb::ReadableTable;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// Rows that one step looks at, at most.
const ROWS_SEEN: usize = 50_000;

/// The tables that are searched, of a writer or of a reader.
pub(crate) trait Searched {
    fn due(&self) -> &impl ReadableTable<&'static [u8; 28], &'static [u8]>;
    fn bad(&self) -> &impl ReadableTable<&'static [u8; 20], &'static [u8]>;
    fn packs(&self) -> &impl ReadableTable<&'static [u8; 16], &'static [u8]>;
    fn deliveries(&self) -> &impl ReadableTable<&'static [u8; 20], &'static [u8]>;
    fn revisions(&self) -> &impl ReadableTable<&'static [u8; 20], &'static [u8]>;
}

macro_rules! searched {
    ($kind:ty, $($deref:tt)?) => {
        impl Searched for $kind {
            fn due(&self) -> &impl ReadableTable<&'static [u8; 28], &'static [u8]> {
                &$($deref)?self.due
            }
            fn bad(&self) -> &impl ReadableTable<&'static [u8; 20], &'static [u8]> {
                &$($deref)?self.bad
            }
            fn packs(&self) -> &impl ReadableTable<&'static [u8; 16], &'static [u8]> {
                &$($deref)?self.packs
            }
            fn deliveries(&self) -> &impl ReadableTable<&'static [u8; 20], &'static [u8]> {
                &$($deref)?self.deliveries
            }
            fn revisions(&self) -> &impl ReadableTable<&'static [u8; 20], &'static [u8]> {
                &$($deref)?self.revisions
            }
        }
    };
}

searched!(Tables<'_>, *);
searched!(Snapshot,);

/// What one step found.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) rounds: Vec<DeliveryId>,
    pub(crate) missed: Vec<EventId>,
    /// `None` when there is nothing left to look at.
    pub(crate) left: Option<Job>,
}

/// What a recover at `now` asks for, of what there is at this commit. Its rounds get the next stamp.
pub(crate) fn job(recover: &Recover, endpoint: &Endpoint, meta: &Meta, now: UnixMs) -> Job {
    // What is past retention has no data left to be sent.
    let since = recover.since.max(meta.swept_before);
    let before = EventId(EventId::first_of(since).0.saturating_sub(1));
    let after = |event, slot| DeliveryId { event, slot };
    Job {
        slot: endpoint.slot,
        since,
        until: recover.until,
        missed: recover.missed,
        at: now,
        stamp: meta.last_stamp.saturating_add(1),
        last_event: meta.last_event,
        after_due: (!endpoint.ended.is_empty()).then_some((UnixMs(0), after(EventId(0), Slot(0)))),
        after_bad: Some(after(before, Slot(u32::MAX))),
        after_event: before,
    }
}

/// Finds at most `most` of what is left of a job; what one of `others` recovers is no part of it. What is damaged is left out,
/// as it can't be sent.
pub(crate) fn step(
    shared: &Shared,
    tables: &impl Searched,
    endpoint: &Endpoint,
    others: &Jobs,
    mut job: Job,
    most: usize,
) -> Result<Step, StoreError> {
    let mut step = Step::default();
    let mut search = Search {
        shared,
        tables,
        endpoint,
        others,
        most,
        seen: 0,
    };
    // In this order: what is being written out meanwhile moves from `due` to `bad`.
    let ended = search.covered(&mut job, &mut step)?.is_continue()
        && search.bad(&mut job, &mut step)?.is_continue()
        && search.missed(&mut job, &mut step)?.is_continue();
    step.left = (!ended).then_some(job);
    Ok(step)
}

/// One step of looking through the tables.
struct Search<'a, T> {
    shared: &'a Shared,
    tables: &'a T,
    endpoint: &'a Endpoint,
    others: &'a Jobs,
    most: usize,
    seen: usize,
}

impl<T: Searched> Search<'_, T> {
    /// Whether another row may be looked at.
    fn go_on(&mut self, step: &Step) -> bool {
        self.seen += 1;
        step.rounds.len() + step.missed.len() < self.most && self.seen <= ROWS_SEEN
    }

    /// Open rows that a mark of the endpoint ended.
    fn covered(&mut self, job: &mut Job, step: &mut Step) -> Result<ControlFlow<()>, StoreError> {
        let Some(after) = job.after_due else {
            return Ok(ControlFlow::Continue(()));
        };
        let tables = self.tables;
        for row in tables.due().range::<&[u8; 28]>((
            Bound::Excluded(&tables::timed_key(after.0, after.1)),
            Bound::Unbounded,
        ))? {
            let (key, value) = row?;
            let (due, id) = tables::timed_of(key.value());
            if !self.go_on(step) {
                return Ok(ControlFlow::Break(()));
            }
            job.after_due = Some((due, id));
            let ended = id.slot == job.slot
                && rows::read_due(key.value(), value.value()).is_ok_and(|waiting| {
                    let mark = self.endpoint.mark_over(waiting.opened);
                    mark.is_some_and(|mark| mark.stamp < job.stamp)
                });
            if ended && self.wanted(job, id)? {
                step.rounds.push(id);
            }
        }
        job.after_due = None;
        Ok(ControlFlow::Continue(()))
    }

    /// What ended badly and is written out.
    fn bad(&mut self, job: &mut Job, step: &mut Step) -> Result<ControlFlow<()>, StoreError> {
        let Some(after) = job.after_bad else {
            return Ok(ControlFlow::Continue(()));
        };
        let tables = self.tables;
        let end = tables::delivery_key(DeliveryId {
            event: EventId::first_of(job.until),
            slot: Slot(0),
        })
        .max(tables::delivery_key(after));
        for row in tables.bad().range::<&[u8; 20]>((
            Bound::Excluded(&tables::delivery_key(after)),
            Bound::Included(&end),
        ))? {
            let (key, _) = row?;
            let id = tables::delivery_of(key.value());
            if !self.go_on(step) {
                return Ok(ControlFlow::Break(()));
            }
            if id.slot == job.slot && self.wanted(job, id)? {
                step.rounds.push(id);
            }
            job.after_bad = Some(id);
        }
        job.after_bad = None;
        Ok(ControlFlow::Continue(()))
    }

    /// Whether a delivery that ended is the job's to open again, and its event is still there to be sent.
    fn wanted(&self, job: &Job, id: DeliveryId) -> Result<bool, StoreError> {
        let key = tables::delivery_key(id);
        let Some(row) = self.tables.deliveries().get(&key)? else {
            return Ok(false);
        };
        let delivery = whole(rows::read_delivery(&key, row.value()))?;
        let is_ours =
            |d: Delivery| job.recovers(&d) && !self.others.values().any(|j| j.recovers(&d));
        if !delivery.is_some_and(is_ours) {
            return Ok(false);
        }
        let event = whole(self.shared.event(self.tables.packs(), id.event))?.flatten();
        Ok(event.is_some_and(|e| e.data.is_some()))
    }

    /// Events that the endpoint was subscribed to but inactive for, and has no delivery of.
    fn missed(&mut self, job: &mut Job, step: &mut Step) -> Result<ControlFlow<()>, StoreError> {
        if !job.missed {
            return Ok(ControlFlow::Continue(()));
        }
        let tables = self.tables;
        let end = EventId::first_of(job.until).min(EventId(job.last_event.0.saturating_add(1)));
        let from = EventId(job.after_event.0.saturating_add(1));
        let before = tables
            .packs()
            .range::<&[u8; 16]>(..=&tables::event_key(from))?
            .next_back()
            .transpose()?;
        let start = before.map_or(tables::event_key(from), |(key, _)| *key.value());
        let end_key = tables::event_key(end).max(start);
        for row in tables.packs().range::<&[u8; 16]>(&start..&end_key)? {
            let (key, value) = row?;
            let Some(pack) = whole(Pack::decode(key.value(), value.value()))? else {
                continue;
            };
            for event in pack.events.iter().filter(|e| e.id >= from && e.id < end) {
                if !self.go_on(step) {
                    return Ok(ControlFlow::Break(()));
                }
                job.after_event = event.id;
                if was_missed(tables, self.endpoint, event)? {
                    step.missed.push(event.id);
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What was read, or nothing where it is damaged.
fn whole<V>(read: Result<V, StoreError>) -> Result<Option<V>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Damaged { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

fn was_missed(
    tables: &impl Searched,
    endpoint: &Endpoint,
    event: &Arc<Event>,
) -> Result<bool, StoreError> {
    if event.organization != endpoint.organization || event.data.is_none() {
        return Ok(false);
    }
    let why = whole(why(tables, endpoint.slot, event))?;
    Ok(why == Some(Why::InactiveAtAcceptance))
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
        Some(row) => {
            let (key, value) = row?;
            Some(record::read("revisions", key.value(), value.value())?)
        }
        None => None,
    };
    Ok(Why::decide(revision.as_ref(), &event.event_type, delivered))
}
