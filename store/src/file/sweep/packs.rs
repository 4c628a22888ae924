//! Finds events and deliveries that are past their retention.

use super::{Looked, Part, Sweeper};
use crate::bulk::reads_as_open;
use crate::error::StoreError;
use crate::event::Event;
use crate::file::memory::Snapshot;
use crate::file::pack::{self, Pack};
use crate::file::rows;
use crate::file::tables;
use crate::ids::{DeliveryId, EventId, Slot, UnixMs};
use crate::swept::{Horizon, Past, Work};
use std::ops::ControlFlow;

/// How many packs one operation rewrites or drops.
const PACKS_FOUND: usize = 16;

/// A range of events to look at, with both ends exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    after: EventId,
    until: EventId,
}

impl Span {
    /// Returns what crossed a horizon, including the last millisecond again: of several packs in it, some may not have
    /// been swept.
    pub(super) fn fresh(walked: Horizon, to: Horizon) -> Vec<Self> {
        let span = |from: UnixMs, until: UnixMs| Self {
            after: EventId(
                EventId::first_of(UnixMs(from.0.saturating_sub(1)))
                    .0
                    .saturating_sub(1),
            ),
            until: EventId::first_of(until),
        };
        let mut spans = Vec::new();
        if to.events_before > walked.events_before {
            spans.push(span(walked.events_before, to.events_before));
        }
        if to.attempts_before > walked.attempts_before {
            spans.push(span(walked.attempts_before, to.attempts_before));
        }
        spans.sort_unstable_by_key(|span| span.after);
        if let [first, second] = spans[..]
            && second.after <= first.until
        {
            let until = first.until.max(second.until);
            return vec![Self { until, ..first }];
        }
        spans
    }

    /// Returns everything before a horizon, from `after` around to `after`.
    pub(super) fn again(after: EventId, to: Horizon) -> Vec<Self> {
        let until = EventId::first_of(to.events_before.max(to.attempts_before));
        if after.0 == 0 || after >= until {
            let after = EventId(0);
            return vec![Self { after, until }];
        }
        let first = Self {
            after: EventId(0),
            until: EventId(after.0.saturating_add(1)),
        };
        vec![Self { after, until }, first]
    }

    fn holds(self, id: EventId) -> bool {
        id > self.after && id < self.until
    }
}

impl Sweeper {
    pub(super) fn packs(&mut self, views: &Snapshot) -> Result<Looked, StoreError> {
        let Some(mut span) = self.spans.first().copied() else {
            return Ok(Looked {
                ended: true,
                ..Looked::default()
            });
        };
        let mut looked = Looked::default();
        let mut found = Vec::new();
        if self
            .look_at_span(views, &mut span, &mut looked, &mut found)?
            .is_break()
        {
            if let Some(first) = self.spans.first_mut() {
                *first = span;
            }
        } else {
            self.spans.remove(0);
            span.after = EventId(0);
        }
        if self.part == Part::Again {
            self.again_after = span.after;
        }
        looked.ended = self.spans.is_empty();
        looked.work = (!found.is_empty()).then_some(Work::Packs(found));
        Ok(looked)
    }

    /// Looks at the rest of a range; stops if that is more than a step.
    fn look_at_span(
        &self,
        views: &Snapshot,
        span: &mut Span,
        looked: &mut Looked,
        found: &mut Vec<EventId>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let from = EventId(span.after.0.saturating_add(1));
        let start = pack::first_key(&views.packs, from)?;
        let end = tables::event_key(span.until).max(start);
        for row in views.packs.range::<&[u8; 16]>(&start..&end)? {
            if looked.is_full() || found.len() >= PACKS_FOUND {
                return Ok(ControlFlow::Break(()));
            }
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            looked.rows += 1;
            if Pack::last_of(key, value).is_ok_and(|last| last < from) {
                continue;
            }
            looked.bytes += value.len();
            // A damaged pack stays for `check` to name; the others are still swept.
            let Ok(pack) = Pack::decode(key, value) else {
                span.after = span.after.max(tables::event_of(key));
                continue;
            };
            for event in &pack.events {
                if !span.holds(event.id) {
                    continue;
                }
                if self.is_past(views, event, looked)? {
                    found.push(tables::event_of(key));
                    break;
                }
                span.after = event.id;
                if looked.is_full() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            span.after = span.after.max(pack.last());
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether a part of an event must be dropped.
    fn is_past(
        &self,
        views: &Snapshot,
        event: &Event,
        looked: &mut Looked,
    ) -> Result<bool, StoreError> {
        let past = Past::of(event, self.horizon);
        let drops_event = past.all() || past.data && event.data.is_some();
        if !past.deliveries && !drops_event {
            return Ok(false);
        }
        let key = |slot| {
            let event = event.id;
            tables::delivery_key(DeliveryId { event, slot })
        };
        let mut any = false;
        for row in views
            .deliveries
            .range::<&[u8; 20]>(&key(Slot(0))..=&key(Slot(u32::MAX)))?
        {
            let (key, value) = row?;
            looked.rows += 1;
            looked.bytes += value.value().len();
            any = true;
            let delivery = match rows::read_delivery(key.value(), value.value()) {
                // A damaged delivery keeps its event, for `check` to name.
                Err(StoreError::Damaged { .. }) => return Ok(false),
                read => read?,
            };
            if reads_as_open(&delivery, views.all_bulks()) {
                return Ok(false);
            }
        }
        Ok(drops_event || past.deliveries && any)
    }
}
