//! Reading: each query is one short snapshot of the file and does a bounded amount of work.

mod callers;
mod lists;
mod purge;
pub(crate) mod scan;
mod secrets;
mod sums;
mod walk;
mod weigh;

pub use walk::Record;

use crate::delivery::Delivery;
use crate::endpoint::{Endpoint, EndpointState, Why};
use crate::error::StoreError;
use crate::event::Event;
use crate::file::guarded::guarded;
use crate::file::memory::{Shared, Snapshot};
use crate::file::missed;
use crate::file::tables::{self, ReadTables};
use crate::ids::{DeliveryId, EndpointId, EventId, Slot, UnixMs};
use crate::query::{
    CheckReport, Cursor, Damage, DeliveryFilter, DeliveryWithEvent, EventFilter, Page, Unreadable,
};
use crate::stats::{Span, Window};
use std::collections::BTreeSet;
use std::sync::Arc;

/// For how many deleted endpoints of an organization an event is explained, in addition to those that were sent it.
pub(crate) const EXPLAINED_DELETED: usize = 1_000;

/// Which endpoints the stats are of.
#[derive(Clone, Debug)]
pub enum StatsOf {
    /// All endpoints together.
    All,
    /// These, added up.
    Endpoints(Vec<Slot>),
}

/// Why an event was or wasn't sent to each endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explained {
    /// The reason for each endpoint.
    pub answers: Vec<(EndpointId, Why)>,
    /// Endpoints whose reason can't be read.
    pub damaged: Vec<Damage>,
}

/// The sizes of the parts of the file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileBytes {
    /// The length of the file.
    pub file: u64,
    /// Keys and values.
    pub stored: u64,
    /// The trees around them.
    pub metadata: u64,
    /// Unused space within pages.
    pub fragmented: u64,
}

/// Reads the store while its writer works. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
}

impl Reader {
    /// Returns the event, with its data unless that is past retention.
    ///
    /// # Errors
    /// The file can't be read, or a row is damaged. The same applies to every method here.
    pub fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, StoreError> {
        if let Some(event) = self.shared.packs().find(id) {
            return Ok(Some(event));
        }
        self.shared
            .view(|views| self.shared.event(&views.packs, id))
    }

    /// Returns events, newest first.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn events(
        &self,
        filter: &EventFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Arc<Event>>, StoreError> {
        self.shared.view_with(|views, memory| {
            lists::events(&self.shared, views, memory, filter, after, limit)
        })
    }

    /// Returns for each endpoint of the event's organization why it was or wasn't sent the event. Of deleted ones,
    /// those that were sent it and the 1,000 newest others. If an event is kept past its retention, an
    /// endpoint's subscription at its acceptance may no longer be known: then that endpoint is left out.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn explain(&self, id: EventId) -> Result<Option<Explained>, StoreError> {
        self.shared.view(|views| {
            let event = self.shared.event(&views.packs, id)?;
            let Some(event) = event.filter(|event| !event.is_removed()) else {
                return Ok(None);
            };
            let mut slots: BTreeSet<Slot> = {
                let memory = self.shared.memory();
                let live = memory.directory.by_organization.get(&event.organization);
                let deleted = memory.directory.deleted_of.get(&event.organization);
                let deleted = deleted.into_iter().flatten().rev().take(EXPLAINED_DELETED);
                live.into_iter().flatten().chain(deleted).copied().collect()
            };
            slots.extend(sent_to(views, id)?);
            let mut explained = Explained::default();
            for slot in slots {
                let Some(endpoint) = views.endpoint(slot) else {
                    continue;
                };
                match guarded(|| missed::why(views, slot, &event)) {
                    // Events kept past retention may be older than the revisions of endpoints.
                    Ok(Why::CreatedLater) if endpoint.created_at < id.accepted_at() => {}
                    Ok(why) => explained.answers.push((endpoint.id, why)),
                    Err(e) if e.is_damage() => explained.damaged.push(Damage {
                        what: Unreadable::Endpoint(endpoint.id),
                        detail: e.to_string(),
                    }),
                    Err(e) => return Err(e),
                }
            }
            Ok(Some(explained))
        })
    }

    /// Returns one delivery with its attempts.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryWithEvent>, StoreError> {
        self.shared.view(|views| self.view_of(views, id))
    }

    /// Returns deliveries with their attempts, newest first.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn deliveries(
        &self,
        filter: &DeliveryFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<DeliveryWithEvent>, StoreError> {
        self.shared
            .view_with(|views, memory| lists::deliveries(self, views, memory, filter, after, limit))
    }

    /// Returns a delivery alone, as readers see it.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn bare_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.shared.view(|views| views.delivery(id))
    }

    /// Returns an endpoint that was not deleted.
    pub fn endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        self.endpoint_or_mark(id).filter(|e| e.deleted_at.is_none())
    }

    /// Returns an endpoint, or the rest of a deleted one.
    pub fn endpoint_or_mark(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        let memory = self.shared.memory();
        memory
            .directory
            .endpoint(*memory.directory.by_id.get(&id)?)
            .cloned()
    }

    /// Returns an endpoint by its number, or the rest of a deleted one.
    pub fn endpoint_by_slot(&self, slot: Slot) -> Option<Arc<Endpoint>> {
        self.shared.memory().directory.endpoint(slot).cloned()
    }

    /// Returns the running state of an endpoint.
    pub fn state(&self, slot: Slot) -> EndpointState {
        self.shared.memory().directory.state(slot)
    }

    /// Returns how many generations have been folded so far, and how many of them are left.
    pub fn generations(&self) -> (u64, u64) {
        let memory = self.shared.memory();
        let left = u64::try_from(memory.generations.len()).unwrap_or(u64::MAX);
        (memory.meta.next_generation, left)
    }

    /// Returns endpoints that were not deleted, newest first.
    pub fn endpoints(
        &self,
        organization: Option<&str>,
        active: Option<bool>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Page<Arc<Endpoint>> {
        let memory = self.shared.memory();
        memory.directory.page(organization, active, after, limit)
    }

    /// Returns every endpoint, including the rest of deleted ones, in order of number.
    pub fn all_endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.shared
            .memory()
            .directory
            .endpoints
            .values()
            .cloned()
            .collect()
    }

    /// Returns the counts of a span of time that ends now. A damaged row counts as empty, as when it is next written.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn stats(&self, span: Span, now: UnixMs, of: &StatsOf) -> Result<Window, StoreError> {
        self.stats_and_damage(span, now, of).map(|(sum, _)| sum)
    }

    /// Returns the same, and how many rows of it are damaged.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn stats_and_damage(
        &self,
        span: Span,
        now: UnixMs,
        of: &StatsOf,
    ) -> Result<(Window, u64), StoreError> {
        self.shared
            .view_with(|views, memory| sums::stats(views, memory, span.windows(now), of))
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

    /// Whether stats in memory are waiting to be written.
    pub fn stats_wait(&self) -> bool {
        !self.shared.memory().windows.is_empty()
    }

    /// Returns the number of open deliveries.
    pub fn open_count(&self) -> u64 {
        self.shared.memory().directory.open
    }

    /// Returns a time that the store's time has certainly reached: the time of the last event, the last minute in which
    /// anything was counted, or the paced time of the last commit.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn last_at(&self) -> Result<UnixMs, StoreError> {
        let accepted = self.shared.memory().meta.last_event.accepted_at();
        let counted = self
            .shared
            .view_with(|views, memory| sums::last_counted(views, &memory))?;
        Ok(accepted.max(counted).max(self.paced_at()))
    }

    /// Returns the paced time of the last commit; 0 if unknown.
    pub fn paced_at(&self) -> UnixMs {
        self.shared.memory().meta.paced
    }

    /// Returns the number of the last commit.
    pub fn commit(&self) -> u64 {
        self.shared.memory().meta.commit
    }

    /// Returns up to when events were swept.
    pub fn swept_before(&self) -> UnixMs {
        self.shared.memory().meta.swept_before
    }

    /// Returns the length of the file. Costs almost nothing.
    ///
    /// # Errors
    /// The system reports an error.
    pub fn file_len(&self) -> Result<u64, StoreError> {
        let path = self.shared.options().path.clone();
        std::fs::metadata(&path)
            .map(|m| m.len())
            .map_err(|source| StoreError::Io {
                doing: "reading the length of",
                path,
                source,
            })
    }

    /// Returns the sizes of the parts of the file. Walks every tree, so the cost depends on the file's size: use it for
    /// `check` and the like, not every second; see [`Reader::file_len`].
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn file_bytes(&self) -> Result<FileBytes, StoreError> {
        let file = self.file_len()?;
        let mut sum = FileBytes {
            file,
            ..FileBytes::default()
        };
        for of in ReadTables::BYTES {
            let (stored, metadata, fragmented) = self.shared.long_view(|views| of(views))?;
            sum.stored += stored;
            sum.metadata += metadata;
            sum.fragmented += fragmented;
        }
        Ok(sum)
    }

    /// Verifies the file: every row's bytes, and that related rows match. Takes as long as reading all of it, but in
    /// many snapshots, none of which is held for longer than reading one table takes.
    ///
    /// # Errors
    /// The file can't be read. Damage is not an error but part of the report.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        match crate::file::check::check(&self.shared) {
            // If the way to the rows is damaged, nothing else can be reported.
            Err(e) if e.is_damage() => Ok(CheckReport {
                damage: vec![e.to_string()],
                ..CheckReport::default()
            }),
            checked => checked,
        }
    }

    fn view_of(
        &self,
        views: &Snapshot,
        id: DeliveryId,
    ) -> Result<Option<DeliveryWithEvent>, StoreError> {
        let Some(delivery) = views.delivery(id)? else {
            return Ok(None);
        };
        let (Some(endpoint), Some(event)) = (
            views.endpoint(id.slot),
            self.shared.event(&views.packs, id.event)?,
        ) else {
            return Err(StoreError::damaged(
                format!("{id}"),
                "its event or endpoint is missing",
            ));
        };
        Ok(Some(DeliveryWithEvent {
            delivery,
            endpoint: endpoint.id,
            event,
        }))
    }
}

/// Returns the endpoints that have a delivery of an event; none if the way to them is damaged, which is reported when
/// each is looked up.
fn sent_to(views: &Snapshot, event: EventId) -> Result<Vec<Slot>, StoreError> {
    let key = |slot| tables::delivery_key(DeliveryId { event, slot });
    let all = guarded(|| {
        let rows = views
            .deliveries
            .range::<&[u8; 20]>(&key(Slot(0))..=&key(Slot(u32::MAX)))?;
        rows.map(|row| Ok(tables::delivery_of(row?.0.value()).slot))
            .collect()
    });
    match all {
        Err(e) if e.is_damage() => Ok(Vec::new()),
        all => all,
    }
}
