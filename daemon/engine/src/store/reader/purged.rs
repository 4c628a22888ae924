//! Events and deliveries, as the purges in progress leave them.

use super::Reader;
use std::sync::Arc;
use stormhook_store::{
    Cursor, Delivery, DeliveryFilter, DeliveryId, DeliveryWithEvent, Event, EventFilter, EventId,
    Explained, Page, Purge, PurgeEffect, PurgeFound, Purges, StoreError,
};

impl Reader {
    /// Returns the event, with its data unless that is past retention or purged.
    ///
    /// # Errors
    /// As [`crate::store::Store::open_deliveries`].
    pub async fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, StoreError> {
        // Before the event is read: one that ends meanwhile has rewritten what is read.
        let purges = self.purges();
        let found = ask!(self, event(id))?;
        Ok(found.and_then(|event| purges.shown(event)))
    }

    /// Returns events, newest first.
    ///
    /// # Errors
    /// As [`crate::store::Store::open_deliveries`].
    pub async fn events(
        &self,
        filter: &EventFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Arc<Event>>, StoreError> {
        let purges = self.purges_of_all().await?;
        let mut page = ask!(self, events(filter, after, limit))?;
        let events = std::mem::take(&mut page.items).into_iter();
        page.items = events.filter_map(|event| purges.shown(event)).collect();
        Ok(page)
    }

    /// Returns for each endpoint of the event's organization why it was or wasn't sent the event.
    ///
    /// # Errors
    /// As [`crate::store::Store::open_deliveries`].
    pub async fn explain(&self, id: EventId) -> Result<Option<Explained>, StoreError> {
        if !self.purges().is_empty() && self.event(id).await?.is_none() {
            return Ok(None);
        }
        ask!(self, explain(id))
    }

    /// Returns one delivery with its attempts.
    ///
    /// # Errors
    /// As [`crate::store::Store::open_deliveries`].
    pub async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryWithEvent>, StoreError> {
        let purges = self.purges();
        let found = ask!(self, delivery(id))?;
        Ok(found.and_then(|found| shown(&purges, found)))
    }

    /// Returns deliveries with their attempts, newest first.
    ///
    /// # Errors
    /// As [`crate::store::Store::open_deliveries`].
    pub async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<DeliveryWithEvent>, StoreError> {
        let purges = self.purges_of_all().await?;
        let mut page = ask!(self, deliveries(filter, after, limit))?;
        if !purges.is_empty() {
            let deliveries = std::mem::take(&mut page.items).into_iter();
            page.items = deliveries.filter_map(|of| shown(&purges, of)).collect();
        }
        Ok(page)
    }

    /// Returns a delivery alone, as readers see it.
    ///
    /// # Errors
    /// As [`crate::store::Store::open_deliveries`].
    pub async fn bare_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let purges = self.purges();
        let found = ask!(self, bare_delivery(id))?;
        if purges.is_empty() {
            return Ok(found);
        }
        let endpoint = self.endpoint_by_slot(id.slot);
        let effect = endpoint.and_then(|e| purges.effect_on(&e.organization, id.event));
        Ok(found.filter(|_| effect != Some(PurgeEffect::All)))
    }

    /// Returns the purges in progress of the organizations that this process decides about.
    pub fn purges(&self) -> Arc<Purges> {
        know!(self, purges())
    }

    /// Returns the purges in progress of all organizations.
    pub(super) async fn purges_of_all(&self) -> Result<Arc<Purges>, StoreError> {
        match self {
            Self::File(reader) => Ok(reader.purges()),
            #[cfg(feature = "postgres")]
            Self::Postgres(reader) => reader.purges_of_all().await,
        }
    }

    /// Finds events of a purge after this one that it may not have removed yet.
    ///
    /// # Errors
    /// As [`crate::store::Store::open_deliveries`].
    pub(crate) async fn purge_step(
        &self,
        purge: &Purge,
        after: EventId,
    ) -> Result<PurgeFound, StoreError> {
        ask!(self, purge_step(purge, after))
    }
}

/// Returns a delivery as readers see it; `None` if it is removed with its event.
fn shown(purges: &Purges, mut found: DeliveryWithEvent) -> Option<DeliveryWithEvent> {
    let event = &found.event;
    match purges.effect_on(&event.organization, event.id) {
        None => Some(found),
        Some(PurgeEffect::All) => None,
        Some(PurgeEffect::Data) => {
            found.delivery.forget_excerpts();
            found.event = purges.shown(found.event)?;
            Some(found)
        }
    }
}
