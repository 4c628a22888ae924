//! Reading: each question is one short snapshot of the file and does a bounded amount of work.

pub(crate) mod keys;
mod lists;
pub(crate) mod recoverable;

use crate::batch::as_read;
use crate::delivery::Delivery;
use crate::endpoint::{Endpoint, EndpointState, Why};
use crate::error::StoreError;
use crate::event::Event;
use crate::ids::{DeliveryId, EndpointId, EventId, Slot, UnixMs};
use crate::memory::Shared;
use crate::op::Recover;
use crate::query::{CheckReport, Cursor, DeliveryFilter, DeliveryView, EventFilter, Page};
use crate::record;
use crate::rows;
use crate::stats::{Level, Span, Window};
use crate::tables::{self, ALL_ENDPOINTS, Views};
use std::sync::Arc;

/// Whose stats.
#[derive(Clone, Debug)]
pub enum StatsOf {
    /// All endpoints together.
    All,
    /// These, added up.
    Endpoints(Vec<Slot>),
}

/// What the file takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileBytes {
    /// Its length.
    pub file: u64,
    /// Keys and values.
    pub stored: u64,
    /// What the tree around them takes.
    pub metadata: u64,
    /// Holes within pages.
    pub fragmented: u64,
}

/// Reads the store beside its writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
}

impl Reader {
    /// The event, with its data unless that is past retention.
    ///
    /// # Errors
    /// The file can't be read, or what was read is damaged; so for every method here.
    pub fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, StoreError> {
        if let Some(event) = self.shared.packs().find(id) {
            return Ok(Some(event));
        }
        self.shared
            .view(|views| self.shared.event(&views.packs, id))
    }

    /// Events, newest first.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn events(
        &self,
        filter: &EventFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Arc<Event>>, StoreError> {
        self.shared
            .view(|views| lists::events(&self.shared, views, filter, after, limit))
    }

    /// For each endpoint of the event's organization, why it was or wasn't sent the event.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn explain(&self, id: EventId) -> Result<Option<Vec<(EndpointId, Why)>>, StoreError> {
        self.shared.view(|views| {
            let Some(event) = self.shared.event(&views.packs, id)? else {
                return Ok(None);
            };
            let slots = self
                .shared
                .memory()
                .by_organization
                .get(&event.organization)
                .cloned()
                .unwrap_or_default();
            let mut answers = Vec::with_capacity(slots.len());
            for slot in slots {
                if let Some(endpoint) = self.endpoint_by_slot(slot) {
                    answers.push((endpoint.id, recoverable::why(views, slot, &event)?));
                }
            }
            Ok(Some(answers))
        })
    }

    /// One delivery with its attempts.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryView>, StoreError> {
        self.shared.view(|views| self.view_of(views, id))
    }

    /// Deliveries with their attempts, newest first.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn deliveries(
        &self,
        filter: &DeliveryFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<DeliveryView>, StoreError> {
        self.shared
            .view(|views| lists::deliveries(self, views, filter, after, limit))
    }

    /// A delivery alone, as readers see it.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn bare_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.shared.view(|views| self.delivery_of(views, id))
    }

    /// An endpoint that was not deleted.
    pub fn endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        self.endpoint_or_mark(id).filter(|e| e.deleted_at.is_none())
    }

    /// An endpoint, or what is left of a deleted one.
    pub fn endpoint_or_mark(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        let memory = self.shared.memory();
        memory.endpoint(*memory.by_id.get(&id)?).cloned()
    }

    /// An endpoint by its number, or what is left of a deleted one.
    pub fn endpoint_by_slot(&self, slot: Slot) -> Option<Arc<Endpoint>> {
        self.shared.memory().endpoint(slot).cloned()
    }

    /// How an endpoint is doing.
    pub fn state(&self, slot: Slot) -> EndpointState {
        self.shared.memory().state(slot)
    }

    /// Endpoints that were not deleted, newest first.
    pub fn endpoints(
        &self,
        organization: Option<&str>,
        active: Option<bool>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Page<Arc<Endpoint>> {
        lists::endpoints(&self.shared.memory(), organization, active, after, limit)
    }

    /// Every endpoint, what is left of deleted ones included, in order of number.
    pub fn all_endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.shared
            .memory()
            .endpoints
            .iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// How many rounds a recover would open.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn count_recoverable(&self, recover: &Recover) -> Result<u64, StoreError> {
        let Some(endpoint) = self.endpoint(recover.endpoint) else {
            return Ok(0);
        };
        let mut count = 0u64;
        // One short snapshot a step: a long one would pin pages.
        let mut left = Some(recoverable::job(
            recover,
            endpoint.slot,
            UnixMs(u64::MAX - 1),
        ));
        while let Some(job) = left {
            let step = self.shared.view(|views| {
                recoverable::step(
                    &self.shared,
                    views,
                    &endpoint,
                    job,
                    crate::batch::ROWS_PER_STEP,
                )
            })?;
            let found = step.rounds.len() + step.missed.len();
            count = count.saturating_add(u64::try_from(found).unwrap_or(u64::MAX));
            left = step.left;
        }
        Ok(count)
    }

    /// What was counted in a span of time that ends now.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn stats(&self, span: Span, now: UnixMs, of: &StatsOf) -> Result<Window, StoreError> {
        let (level, first, last) = span.windows(now);
        self.shared.view(|views| {
            let mut sum = match of {
                StatsOf::All => self.sum_windows(views, (level, first, last), ALL_ENDPOINTS)?,
                StatsOf::Endpoints(slots) => {
                    let mut sum = Window::default();
                    for slot in slots {
                        sum.merge(&self.sum_windows(views, (level, first, last), *slot)?);
                    }
                    sum
                }
            };
            if matches!(of, StatsOf::All) {
                let memory = self.shared.memory();
                let range = tables::counters_key(level, first)..=tables::counters_key(level, last);
                for row in views
                    .counters
                    .range::<&[u8; 9]>(range.start()..=range.end())?
                {
                    let (key, value) = row?;
                    let start = UnixMs(u64::from_be_bytes(
                        key.value()[1..].try_into().unwrap_or_default(),
                    ));
                    if !memory.tail.counters.contains_key(&(level, start)) {
                        sum.counters
                            .add(&record::read_plain("counters", value.value())?);
                    }
                }
                for (_, counters) in memory.tail.counters.range((level, first)..=(level, last)) {
                    sum.counters.add(counters);
                }
            }
            Ok(sum)
        })
    }

    fn sum_windows(
        &self,
        views: &Views,
        (level, first, last): (Level, UnixMs, UnixMs),
        slot: Slot,
    ) -> Result<Window, StoreError> {
        let step = match level {
            Level::Minute => crate::stats::MINUTE_MS,
            Level::Hour => crate::stats::HOUR_MS,
            Level::All => u64::MAX,
        };
        let mut sum = Window::default();
        let mut start = first;
        while start <= last {
            if let Some(row) = views.windows.get(&tables::window_key(level, start, slot))? {
                sum.merge(&record::read_plain("windows", row.value())?);
            }
            start = start.plus_ms(step);
            if start == UnixMs(u64::MAX) {
                break;
            }
        }
        for ((minute, of), window) in &self.shared.memory().windows {
            let at = level.start_of(*minute);
            if *of == slot && at >= first && at <= last {
                let mut window = window.clone();
                if slot == ALL_ENDPOINTS {
                    window.counters = crate::stats::Counters::default();
                }
                sum.merge(&window);
            }
        }
        Ok(sum)
    }

    /// Changes the bounds from the next batch on. The path and the cache stay.
    pub fn set_limits(&self, pending_limit: u64, endpoints_per_organization: usize) {
        let mut options = self
            .shared
            .options
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        options.pending_limit = pending_limit;
        options.endpoints_per_organization = endpoints_per_organization;
    }

    /// Whether stats in memory wait to be written.
    pub fn stats_wait(&self) -> bool {
        !self.shared.memory().windows.is_empty()
    }

    /// Whether a recover is still being worked off.
    pub fn jobs_wait(&self) -> bool {
        self.shared.memory().jobs > 0
    }

    /// Open deliveries.
    pub fn open_count(&self) -> u64 {
        self.shared.memory().open
    }

    /// The time of the last event: the store's time never lies before it.
    pub fn last_accepted_at(&self) -> UnixMs {
        self.shared.memory().meta.last_event.accepted_at()
    }

    /// Up to when events were swept.
    pub fn swept_before(&self) -> UnixMs {
        self.shared.memory().meta.swept_before
    }

    /// What the file takes. Walks the trees: costs follow the file's size.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn file_bytes(&self) -> Result<FileBytes, StoreError> {
        let path = self.shared.options().path.clone();
        let file = std::fs::metadata(&path)
            .map(|m| m.len())
            .map_err(|source| StoreError::Io {
                doing: "reading the length of",
                path,
                source,
            })?;
        let (stored, metadata, fragmented) = self.shared.view(|views| views.bytes())?;
        Ok(FileBytes {
            file,
            stored,
            metadata,
            fragmented,
        })
    }

    /// Verifies a snapshot of the file: every row's bytes, and that what belongs together is there.
    ///
    /// # Errors
    /// The file can't be read. Damage is not an error but part of the report.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        self.shared.view(crate::check::check)
    }

    fn delivery_of(&self, views: &Views, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let key = tables::delivery_key(id);
        let Some(row) = views.deliveries.get(&key)? else {
            return Ok(None);
        };
        let delivery = rows::read_delivery(&key, row.value())?;
        let endpoint = self.endpoint_by_slot(id.slot);
        Ok(Some(as_read(delivery, endpoint.as_deref())))
    }

    fn view_of(&self, views: &Views, id: DeliveryId) -> Result<Option<DeliveryView>, StoreError> {
        let Some(delivery) = self.delivery_of(views, id)? else {
            return Ok(None);
        };
        let (Some(endpoint), Some(event)) = (
            self.endpoint_by_slot(id.slot),
            self.shared.event(&views.packs, id.event)?,
        ) else {
            return Err(StoreError::damaged(
                format!("{id}"),
                "its event or endpoint is missing",
            ));
        };
        Ok(Some(DeliveryView {
            delivery,
            endpoint: endpoint.id,
            event,
        }))
    }
}
