//! Endpoints of organizations that other daemons decide about: read from the database, for lists over all organizations.

use super::Reader;
use crate::convert::{column, int4, slot, uuid};
use crate::link::{Link, failed};
use crate::load::{read_bulk, read_state};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use stormhook_store::backend::{Bulks, as_read, read_endpoint, slot_key};
use stormhook_store::query::Filling;
use stormhook_store::{
    Cursor, Delivery, Endpoint, EndpointId, EndpointState, EventId, List, Named, Page, Slot,
    StoreError,
};
use tokio_postgres::types::Type;

/// Endpoints that were read for one page.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    endpoints: HashMap<Slot, Arc<Endpoint>>,
    bulks: Bulks,
    /// Those that there are none of.
    unknown: BTreeSet<Slot>,
}

impl Foreign {
    /// Reads those of these endpoints that are neither here nor in memory.
    pub(super) async fn learn(
        &mut self,
        reader: &Reader,
        link: &Link,
        slots: impl Iterator<Item = Slot>,
    ) -> Result<(), StoreError> {
        let wanted: BTreeSet<Slot> = {
            let directory = &reader.shared.memory().directory;
            slots
                .filter(|slot| directory.endpoint(*slot).is_none())
                .filter(|slot| !self.endpoints.contains_key(slot) && !self.unknown.contains(slot))
                .collect()
        };
        if wanted.is_empty() {
            return Ok(());
        }
        let asked: Vec<i32> = wanted.iter().map(|slot| int4(*slot)).collect();
        let sql = "SELECT slot, record FROM @.endpoints WHERE slot = ANY($1)";
        let endpoints = link.prepare(sql, &[Type::INT4_ARRAY]).await?;
        let sql =
            "SELECT slot, number, record FROM @.bulk WHERE slot = ANY($1) ORDER BY slot, number";
        let bulks = link.prepare(sql, &[Type::INT4_ARRAY]).await?;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&asked];
        let (endpoints, bulks) = futures_util::future::try_join(
            link.client.query(&endpoints, &parameters),
            link.client.query(&bulks, &parameters),
        )
        .await
        .map_err(|e| failed(&e))?;
        self.unknown.extend(wanted);
        for row in &endpoints {
            let slot = slot(column(row, 0)?);
            let read = read_endpoint(&slot_key(slot), column(row, 1)?, &link.keys)?;
            self.unknown.remove(&slot);
            self.endpoints.insert(slot, Arc::new(read.endpoint));
        }
        for row in &bulks {
            let (slot, bulk) = read_bulk(row)?;
            self.bulks.entry(slot).or_default().push(bulk);
        }
        Ok(())
    }

    /// Returns an endpoint and its delivery as readers see it; `None` if the endpoint is gone.
    pub(super) fn as_read(
        &self,
        reader: &Reader,
        delivery: Delivery,
    ) -> Option<(Arc<Endpoint>, Delivery)> {
        let slot = delivery.id.slot;
        if let Some(endpoint) = reader.endpoint_by_slot(slot) {
            return Some((endpoint, reader.as_read(delivery)));
        }
        let endpoint = self.endpoints.get(&slot)?;
        Some((Arc::clone(endpoint), as_read(delivery, &self.bulks)))
    }
}

impl Reader {
    /// Returns endpoints of all organizations that were not deleted, newest first, with the state of each.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn endpoints_of_all(
        &self,
        organization: Option<&str>,
        active: Option<bool>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<(Arc<Endpoint>, EndpointState)>, StoreError> {
        if self.holds(organization) {
            let page = self.endpoints(organization, active, after, limit);
            let with_state = |e: Arc<Endpoint>| {
                let state = self.state(e.slot);
                (e, state)
            };
            return Ok(Page {
                items: page.items.into_iter().map(with_state).collect(),
                next: page.next,
                damaged: page.damaged,
            });
        }
        let link = self.link().await?;
        let sql = "SELECT e.slot, e.record, coalesce(s.last_sequence, 0), coalesce(s.failure_count, 0), \
                     s.failing_since_ms, s.last_success_at_ms \
                   FROM @.endpoints e LEFT JOIN @.endpoint_states s ON s.slot = e.slot \
                   WHERE e.slot < $1 AND NOT e.deleted AND ($2::text IS NULL OR e.organization = $2) \
                     AND ($3::bool IS NULL OR e.active = $3) ORDER BY e.slot DESC LIMIT $4";
        let types = [Type::INT4, Type::TEXT, Type::BOOL, Type::INT8];
        let statement = link.prepare(sql, &types).await?;
        let below = after.map_or(i32::MAX, |c| i32::try_from(c.at).unwrap_or(i32::MAX));
        let most = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        let rows = link
            .client
            .query(&statement, &[&below, &organization, &active, &most])
            .await;
        let mut filling = Filling::new(limit);
        let mut last = None;
        for row in rows.map_err(|e| failed(&e))? {
            if filling.go_on(last).is_break() {
                break;
            }
            let slot = slot(column(&row, 0)?);
            last = Some(Cursor {
                list: List::Endpoints,
                at: u128::from(slot.0),
                slot: Slot(0),
            });
            let known = self.endpoint_by_slot(slot);
            filling.page.items.push(match known {
                Some(endpoint) => (endpoint, self.state(slot)),
                None => {
                    let read = read_endpoint(&slot_key(slot), column(&row, 1)?, &link.keys)?;
                    (Arc::new(read.endpoint), read_state(&row, 2)?)
                }
            });
        }
        Ok(filling.page)
    }

    /// Whether this daemon decides about the organization, or about all.
    fn holds(&self, organization: Option<&str>) -> bool {
        let memory = self.shared.memory();
        match organization {
            Some(organization) => memory.holds(organization),
            None => memory.shards.len() == crate::cluster::SHARDS,
        }
    }

    /// Whether any bulk change is in progress, of whatever daemon's endpoints.
    pub(super) async fn any_bulk_waits(&self, link: &Link) -> Result<bool, StoreError> {
        if self.bulk_waits() || self.holds(None) {
            return Ok(self.bulk_waits());
        }
        let statement = link
            .prepare("SELECT EXISTS (SELECT FROM @.bulk)", &[])
            .await?;
        let row = link.client.query_one(&statement, &[]).await;
        column(&row.map_err(|e| failed(&e))?, 0)
    }

    /// Returns the organization of an endpoint, an event or a delivery that this daemon knows nothing of.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn organization_of(&self, what: Named) -> Result<Option<String>, StoreError> {
        let known = match what {
            Named::Endpoint(id) => self.endpoint_or_mark(id).map(|e| e.organization.clone()),
            Named::Event(id) => {
                let event = self.shared.recent().find(id);
                event.map(|event| event.organization.clone())
            }
            Named::Slot(slot) => self.endpoint_by_slot(slot).map(|e| e.organization.clone()),
        };
        if known.is_some() {
            return Ok(known);
        }
        let link = self.link().await?;
        let client = &link.client;
        let row = match what {
            Named::Endpoint(EndpointId(id)) => {
                let sql = "SELECT organization FROM @.endpoints WHERE id = $1";
                let statement = link.prepare(sql, &[Type::UUID]).await?;
                client.query_opt(&statement, &[&uuid(id)]).await
            }
            Named::Event(EventId(id)) => {
                let sql = "SELECT organization FROM @.events WHERE id = $1";
                let statement = link.prepare(sql, &[Type::UUID]).await?;
                client.query_opt(&statement, &[&uuid(id)]).await
            }
            Named::Slot(slot) => {
                let sql = "SELECT organization FROM @.endpoints WHERE slot = $1";
                let statement = link.prepare(sql, &[Type::INT4]).await?;
                client.query_opt(&statement, &[&int4(slot)]).await
            }
        };
        let row = row.map_err(|e| failed(&e))?;
        row.map(|row| column(&row, 0)).transpose()
    }
}
