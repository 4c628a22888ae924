//! Every event and delivery that a reader lists, page by page.

use std::collections::BTreeMap;
use std::sync::Arc;
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::{Delivery, DeliveryId, Event, EventId, Reader};

const PAGE: usize = 250;

pub(super) fn all_deliveries(reader: &Reader) -> Result<BTreeMap<DeliveryId, Delivery>, String> {
    let all = list(reader, &DeliveryFilter::default())?;
    Ok(all.into_iter().map(|d| (d.id, d)).collect())
}

pub(super) fn list(reader: &Reader, filter: &DeliveryFilter) -> Result<Vec<Delivery>, String> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = reader.deliveries(filter, after, PAGE);
        let page = page.map_err(|e| format!("deliveries can't be listed: {e}"))?;
        all.extend(page.items.into_iter().map(|view| view.delivery));
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

pub(super) fn all_events(reader: &Reader) -> Result<BTreeMap<EventId, Arc<Event>>, String> {
    let mut all = BTreeMap::new();
    let mut after = None;
    loop {
        let page = reader.events(&EventFilter::default(), after, PAGE);
        let page = page.map_err(|e| format!("events can't be listed: {e}"))?;
        all.extend(page.items.into_iter().map(|event| (event.id, event)));
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}
