//! Questions. Those about endpoints are answered from memory; all others ask the database, with a bound.

mod bulk;
mod callers;
mod check;
mod foreign;
mod lists;
mod purges;
mod stats;

pub use bulk::BulkWalk;
pub(crate) use bulk::{DELIVERIES_AFTER, MISSED};
pub(crate) use lists::{EVENTS_BEFORE, NEWEST_BY_KEY, OF_ENDPOINT, UNDELIVERED};
pub(crate) use purges::{BETWEEN, NAMED};

use crate::convert::{column, event_id, int4, read_targets, slot, uuid};
use crate::fetch::{delivery, event_columns, read_event};
use crate::link::{Link, failed};
use crate::memory::Shared;
use crate::resealing::Resealer;
use std::collections::BTreeSet;
use std::sync::Arc;
use stormhook_store::backend::{Limits, Weights, as_read, read, slot_key};
use stormhook_store::endpoint::{Revision, Why};
use stormhook_store::{
    AtRest, Delivery, DeliveryId, DeliveryWithEvent, Endpoint, EndpointId, EndpointState, Event,
    EventId, Explained, Form, Slot, StoreError, UnixMs,
};
use tokio_postgres::types::Type;

/// For how many deleted endpoints of an organization an event is explained, in addition to those that were sent it.
const EXPLAINED_DELETED: usize = 1_000;

/// Reads the store while its lane works. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns in which form secrets are kept.
    pub fn at_rest(&self) -> AtRest {
        self.shared.memory().at_rest
    }

    /// Returns the form that secrets are to be brought to. It was begun when this daemon or another one took its seat.
    pub fn form_wanted(&self) -> Option<Form> {
        let at_rest = self.at_rest();
        at_rest.before.map(|_| at_rest.form)
    }

    /// Returns what brings secrets to the form that the store is to have.
    pub fn resealer(&self) -> Resealer {
        Resealer::new(Arc::clone(&self.shared))
    }

    async fn link(&self) -> Result<Arc<Link>, StoreError> {
        self.shared.link().await
    }

    /// Returns the event, with its data unless that is past retention.
    ///
    /// # Errors
    /// The database refuses or can't be reached. The same applies to every method here.
    pub async fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, StoreError> {
        let kept = id.accepted_at() >= self.swept_before();
        if let Some(event) = self.shared.recent().find(id).filter(|_| kept) {
            return Ok(Some(event));
        }
        let found = event_row(&*self.link().await?, id).await?;
        Ok(found.map(|(event, _)| Arc::new(event)))
    }

    /// Returns a delivery alone, as readers see it.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn bare_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let kept_from = self.shared.memory().deliveries_swept_before;
        let found = delivery(&*self.link().await?, id, kept_from).await?;
        Ok(found.map(|delivery| self.as_read(delivery)))
    }

    /// Returns one delivery with its attempts.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryWithEvent>, StoreError> {
        let Some(delivery) = self.bare_delivery(id).await? else {
            return Ok(None);
        };
        let (Some(event), Some(endpoint)) =
            (self.event(id.event).await?, self.endpoint_by_slot(id.slot))
        else {
            let what = "its event or endpoint is missing";
            return Err(StoreError::damaged(id.to_string(), what));
        };
        Ok(Some(DeliveryWithEvent {
            delivery,
            endpoint: endpoint.id,
            event,
        }))
    }

    fn as_read(&self, delivery: Delivery) -> Delivery {
        as_read(delivery, &self.shared.memory().directory.bulks)
    }

    /// Returns for each endpoint of the event's organization why it was or wasn't sent the event. Of deleted ones,
    /// those that were sent it and the newest others.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn explain(&self, id: EventId) -> Result<Option<Explained>, StoreError> {
        let link = self.link().await?;
        let found = event_row(&link, id).await?;
        let Some((event, targets)) = found.filter(|(event, _)| !event.is_removed()) else {
            return Ok(None);
        };
        let sent: BTreeSet<Slot> = targets.into_iter().map(|(slot, _)| slot).collect();
        let endpoints: Vec<Arc<Endpoint>> = {
            let directory = &self.shared.memory().directory;
            let live = directory.by_organization.get(&event.organization);
            let deleted = directory.deleted_of.get(&event.organization);
            let deleted = deleted.into_iter().flatten().rev().take(EXPLAINED_DELETED);
            let asked = live.into_iter().flatten().chain(deleted).chain(&sent);
            let slots: BTreeSet<Slot> = asked.copied().collect();
            slots
                .iter()
                .filter_map(|slot| directory.endpoint(*slot).cloned())
                .collect()
        };
        let sql = "SELECT DISTINCT ON (slot) slot, record FROM @.revisions \
                   WHERE slot = ANY($1) AND from_event <= $2 ORDER BY slot, from_event DESC";
        let statement = link.prepare(sql, &[Type::INT4_ARRAY, Type::UUID]).await?;
        let slots: Vec<i32> = endpoints.iter().map(|e| int4(e.slot)).collect();
        let rows = link.client.query(&statement, &[&slots, &uuid(id.0)]).await;
        let mut revisions = std::collections::HashMap::new();
        for row in rows.map_err(|e| failed(&e))? {
            let slot = slot(column(&row, 0)?);
            let revision: Revision = read("revisions", &slot_key(slot), column(&row, 1)?)?;
            revisions.insert(slot, revision);
        }
        let mut explained = Explained::default();
        for endpoint in endpoints {
            let delivered = sent.contains(&endpoint.slot);
            let revision = revisions.get(&endpoint.slot);
            let why = Why::decide(revision, &event.event_type, delivered);
            // An event kept past retention may be older than the revisions of endpoints.
            if why != Why::CreatedLater || endpoint.created_at >= id.accepted_at() {
                explained.answers.push((endpoint.id, why));
            }
        }
        Ok(Some(explained))
    }

    /// Whether attempts may start: others don't take over yet.
    pub fn may_start(&self) -> bool {
        self.shared.lease.is_valid()
    }

    /// Returns an endpoint that was not deleted.
    pub fn endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        self.endpoint_or_mark(id).filter(|e| e.deleted_at.is_none())
    }

    /// Returns an endpoint, or the rest of a deleted one.
    pub fn endpoint_or_mark(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        let directory = &self.shared.memory().directory;
        directory.endpoint(*directory.by_id.get(&id)?).cloned()
    }

    /// Returns an endpoint by its number, or the rest of a deleted one.
    pub fn endpoint_by_slot(&self, slot: Slot) -> Option<Arc<Endpoint>> {
        self.shared.memory().directory.endpoint(slot).cloned()
    }

    /// Returns the running state of an endpoint.
    pub fn state(&self, slot: Slot) -> EndpointState {
        self.shared.memory().directory.state(slot)
    }

    /// Returns every endpoint, including the rest of deleted ones, in order of number.
    pub fn all_endpoints(&self) -> Vec<Arc<Endpoint>> {
        let directory = &self.shared.memory().directory;
        directory.endpoints.values().cloned().collect()
    }

    /// Changes the limits from the next batch on.
    pub fn set_limits(&self, pending_limit: u64, endpoints_per_organization: usize) {
        self.shared.set_limits(Limits {
            pending: pending_limit,
            endpoints_per_organization,
        });
    }

    /// Whether stats in memory are waiting to be written.
    pub fn stats_wait(&self) -> bool {
        !self.shared.memory().windows.is_empty()
    }

    /// Returns the number of open deliveries.
    pub fn open_count(&self) -> u64 {
        self.shared.memory().directory.open
    }

    /// Returns a time that the store's time has certainly reached.
    ///
    /// # Errors
    /// None: memory has it.
    pub fn last_at(&self) -> Result<UnixMs, StoreError> {
        let memory = self.shared.memory();
        let accepted = memory.numbers.last_event.accepted_at();
        Ok(accepted.max(memory.paced).max(memory.not_before()))
    }

    /// Passes what weighs the operations of the next batch. No commit can be announced meanwhile, so keep it short.
    pub fn weigh<T>(&self, weigh: impl FnOnce(Weights<'_>) -> T) -> T {
        let memory = self.shared.memory();
        weigh(Weights {
            directory: &memory.directory,
            windows: memory.windows.len(),
            paced: memory.paced,
        })
    }

    /// Returns the paced time of the last commit; 0 if unknown.
    pub fn paced_at(&self) -> UnixMs {
        self.shared.memory().paced
    }

    /// Returns the number of the last commit.
    pub fn commit(&self) -> u64 {
        self.shared.memory().commit
    }

    /// Returns up to when events were swept.
    pub fn swept_before(&self) -> UnixMs {
        self.shared.memory().swept_before
    }
}

/// An event and its deliveries, by id.
pub(crate) const EVENT: &str = concat!(
    "SELECT ",
    event_columns!(),
    ", e.targets FROM @.events e WHERE e.id = $1"
);

/// Returns an event and its deliveries.
async fn event_row(
    link: &Link,
    id: EventId,
) -> Result<Option<(Event, Vec<(Slot, u64)>)>, StoreError> {
    let statement = link.prepare(EVENT, &[Type::UUID]).await?;
    let row = link.client.query_opt(&statement, &[&uuid(id.0)]).await;
    let row = row.map_err(|e| failed(&e))?;
    let read = |row: tokio_postgres::Row| {
        let targets: &[u8] = column(&row, 8)?;
        Ok((read_event(&row, 0)?, read_targets(targets)))
    };
    row.map(read).transpose()
}

/// Reads the id of an event in a column.
fn id_in(row: &tokio_postgres::Row, index: usize) -> Result<EventId, StoreError> {
    Ok(event_id(column(row, index)?))
}
