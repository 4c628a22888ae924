//! The reader as the suite knows it: each question waits for its answer.

use std::sync::Arc;
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::stats::{Span, Window};
use stormhook_store::{
    ApiKey, AuditEntry, AuditFilter, BulkFound, CheckReport, Cursor, Delivery, DeliveryId,
    DeliveryWithEvent, Endpoint, EndpointId, Event, EventId, Explained, Page, Purge, PurgeFound,
    Recover, Slot, StatsOf, StoreError, UnixMs,
};
use tokio::runtime::Runtime;

type Found<T> = Result<T, StoreError>;

/// See the module.
pub(crate) struct Reader {
    reader: stormhook_postgres::Reader,
    runtime: Arc<Runtime>,
}

/// What is answered from memory is asked directly.
impl std::ops::Deref for Reader {
    type Target = stormhook_postgres::Reader;

    fn deref(&self) -> &stormhook_postgres::Reader {
        &self.reader
    }
}

/// A walk whose steps wait.
pub(crate) struct Walk {
    walk: stormhook_postgres::BulkWalk,
    runtime: Arc<Runtime>,
}

impl Walk {
    pub(crate) fn step(&mut self) -> Found<BulkFound> {
        self.runtime.block_on(self.walk.step())
    }

    pub(crate) fn end(&self, keep_ends: bool) -> stormhook_store::maintenance::AdvanceBulk {
        self.walk.end(keep_ends)
    }
}

impl Reader {
    pub(crate) fn new(reader: stormhook_postgres::Reader, runtime: Arc<Runtime>) -> Self {
        Self { reader, runtime }
    }

    pub(crate) fn event(&self, id: EventId) -> Found<Option<Arc<Event>>> {
        self.runtime.block_on(self.reader.event(id))
    }

    pub(crate) fn api_keys(&self, after: Option<Cursor>, limit: usize) -> Page<Arc<ApiKey>> {
        let page = self.runtime.block_on(self.reader.api_keys(after, limit));
        page.expect("a page")
    }

    pub(crate) fn audit(
        &self,
        filter: &AuditFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Found<Page<AuditEntry>> {
        self.runtime
            .block_on(self.reader.audit(filter, after, limit))
    }

    pub(crate) fn events(
        &self,
        filter: &EventFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Found<Page<Arc<Event>>> {
        self.runtime
            .block_on(self.reader.events(filter, after, limit))
    }

    pub(crate) fn purge_step(&self, purge: &Purge, after: EventId) -> Found<PurgeFound> {
        self.runtime.block_on(self.reader.purge_step(purge, after))
    }

    pub(crate) fn explain(&self, id: EventId) -> Found<Option<Explained>> {
        self.runtime.block_on(self.reader.explain(id))
    }

    pub(crate) fn bare_delivery(&self, id: DeliveryId) -> Found<Option<Delivery>> {
        self.runtime.block_on(self.reader.bare_delivery(id))
    }

    pub(crate) fn delivery(&self, id: DeliveryId) -> Found<Option<DeliveryWithEvent>> {
        self.runtime.block_on(self.reader.delivery(id))
    }

    pub(crate) fn deliveries(
        &self,
        filter: &DeliveryFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Found<Page<DeliveryWithEvent>> {
        self.runtime
            .block_on(self.reader.deliveries(filter, after, limit))
    }

    pub(crate) fn stats(&self, span: Span, now: UnixMs, of: &StatsOf) -> Found<Window> {
        self.runtime.block_on(self.reader.stats(span, now, of))
    }

    pub(crate) fn check(&self) -> Found<CheckReport> {
        self.runtime.block_on(self.reader.check())
    }

    pub(crate) fn count_recoverable(&self, recover: &Recover) -> Found<u64> {
        self.runtime
            .block_on(self.reader.count_recoverable(recover))
    }

    pub(crate) fn bulk_walk(&self, slot: Slot, upto: u64) -> Option<Walk> {
        let walk = self.reader.bulk_walk(slot, upto)?;
        let runtime = Arc::clone(&self.runtime);
        Some(Walk { walk, runtime })
    }

    /// The file reads this; here it is in memory.
    pub(crate) fn last_at(&self) -> Found<UnixMs> {
        self.reader.last_at()
    }
}
