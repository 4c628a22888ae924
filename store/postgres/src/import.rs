//! Fills an empty database with the items of another store. Until all of them are there, the database is marked as being
//! imported, and no daemon takes a seat.
//!
//! Items are written some thousand at a time, so memory is bounded. An import that did not end is not continued: the next
//! one begins anew, with empty tables.

use crate::cluster::marks::{self, Marks, WHAT};
use crate::cluster::view::Seat;
use crate::convert::{column, int4, int8, ms, targets, uuid};
use crate::link::{Link, failed};
use crate::load::COUNTERS_KEY;
use crate::options::Options;
use crate::partitions::Days;
use crate::schema;
use crate::write::{Steps, callers, deliveries, endpoints, events, purges, statistics};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stormhook_store::backend::{Fingerprint, write, write_endpoint};
use stormhook_store::endpoint::Revision;
use stormhook_store::stats::{Counters, Level, Window};
use stormhook_store::{
    ApiKey, AtRest, AuditEntry, Bulk, Delivery, Endpoint, EndpointState, Event, EventId, Form,
    Item, Position, Purge, Sealing, Slot, StoreError, UnixMs,
};

/// The key of the lock that keeps two imports apart. It lasts as long as the connection.
const LOCK: i64 = 0x7374_6F72_6D68_6B01;
/// The lane that goes on from where the other store was.
const LANE: Seat = 0;
/// Rows, and bytes of events, of one transaction.
const ROWS: usize = 4_000;
const BYTES: usize = 4 << 20;

/// Fills an empty database with the items that `next` returns, in the order of [`Item`], up to `None`. If this fails,
/// the database stays marked as being imported: no daemon starts on it until an import succeeds, or
/// [`crate::discard_import`] takes the rest of this one away. Secrets are encrypted if there is a key.
///
/// # Errors
/// What `next` returns. Also: the database has something in it, daemons use it, the items don't fit together, or the
/// database refuses.
pub async fn import<E: From<StoreError>>(
    options: &Options,
    random: u128,
    mut next: impl FnMut() -> Result<Option<Item>, E>,
) -> Result<(), E> {
    let link = Link::open_for_reading(options).await?;
    schema::expect(&link).await?;
    let form = begin(&link, options).await?;
    let mut importing = Importing {
        days: Days::load(&link, &options.schema).await?,
        link: &link,
        sealing: Sealing::new(Arc::clone(&options.keys), form, random),
        position: None,
        last_event: EventId(0),
        slots: BTreeSet::new(),
        counters: BTreeMap::new(),
        rows: Rows::default(),
        count: 0,
        bytes: 0,
    };
    while let Some(item) = next()? {
        importing.item(item).await?;
    }
    importing.finish().await?;
    Ok(())
}

/// Marks the database, unless something is in it or someone uses it. Returns the form that its secrets get.
async fn begin(link: &Link, options: &Options) -> Result<Form, StoreError> {
    let sql = format!("SELECT pg_try_advisory_lock({LOCK})");
    let row = link.client.query_one(&sql, &[]).await;
    let is_alone: bool = column(&row.map_err(|e| failed(&e))?, 0)?;
    if !is_alone {
        let what = "another import is running: wait until it has ended";
        return Err(StoreError::Database(what.to_owned()));
    }
    let form = options.keys.form();
    let beginning = async {
        let marks = Marks::lock(link).await?;
        marks::expect_idle(link, options).await?;
        if !marks.importing && (marks.moved_to.is_some() || is_occupied(link).await?) {
            let what = WHAT.to_owned();
            return Err(StoreError::Occupied { what });
        }
        // An empty store may be encrypted too.
        marks.at_rest()?.expect_keys(&options.keys, WHAT)?;
        marks::clear(link).await?;
        marks::set_at_rest(link, AtRest::of(form)).await?;
        marks::set_importing(link).await.map(Some)
    };
    link.in_transaction(beginning).await?;
    // The last commit waits for the disk, and with it all before it.
    let sql = "SET synchronous_commit = off";
    let set = link.client.batch_execute(sql).await;
    set.map_err(|e| failed(&e))?;
    Ok(form)
}

async fn is_occupied(link: &Link) -> Result<bool, StoreError> {
    let sql = link.sql(
        "SELECT next_slot > 0 OR EXISTS (SELECT FROM @.endpoints) OR EXISTS (SELECT FROM @.events) \
           OR EXISTS (SELECT FROM @.open) OR EXISTS (SELECT FROM @.keys) \
           OR EXISTS (SELECT FROM @.api_keys) FROM @.meta",
    );
    let row = link.client.query_one(&sql, &[]).await;
    column(&row.map_err(|e| failed(&e))?, 0)
}

/// The rows of the next transaction.
#[derive(Default)]
struct Rows {
    endpoints: Vec<Arc<Endpoint>>,
    states: Vec<(Slot, EndpointState)>,
    revisions: Vec<(Slot, EventId, Revision)>,
    bulks: Vec<(Slot, Bulk)>,
    purges: Vec<Purge>,
    api_keys: Vec<ApiKey>,
    audit: Vec<AuditEntry>,
    windows: BTreeMap<statistics::WindowKey, Window>,
    /// Each with the bytes of its deliveries.
    events: Vec<(Arc<Event>, Vec<u8>)>,
    deliveries: Vec<Delivery>,
    keys: BTreeMap<Fingerprint, EventId>,
}

struct Importing<'l> {
    link: &'l Link,
    sealing: Sealing,
    days: Days,
    position: Option<Position>,
    last_event: EventId,
    slots: BTreeSet<Slot>,
    counters: BTreeMap<(Level, UnixMs), Counters>,
    rows: Rows,
    count: usize,
    bytes: usize,
}

impl Importing<'_> {
    async fn item(&mut self, item: Item) -> Result<(), StoreError> {
        if self.position.is_some() == matches!(item, Item::Position(_)) {
            return Err(Item::misplaced(item.kind()));
        }
        // The deliveries of an event are written with it.
        let is_full = self.count >= ROWS || self.bytes >= BYTES;
        if is_full && !matches!(item, Item::Delivery(_)) {
            self.flush().await?;
        }
        self.count += 1;
        let rows = &mut self.rows;
        match item {
            Item::Position(position) => self.position = Some(position),
            Item::Endpoint(endpoint) => {
                self.slots.insert(endpoint.slot);
                rows.endpoints.push(endpoint);
            }
            Item::State(slot, state) => rows.states.push((slot, state)),
            Item::Revision(slot, from, revision) => rows.revisions.push((slot, from, revision)),
            Item::Bulk(slot, bulk) => rows.bulks.push((slot, bulk)),
            Item::Purge(purge) => rows.purges.push(*purge),
            Item::ApiKey(key) => rows.api_keys.push(*key),
            Item::Audit(entry) => rows.audit.push(*entry),
            Item::Counters(level, start, counters) => {
                self.counters.insert((level, start), counters);
            }
            Item::Window(level, start, slot, window) => {
                rows.windows.insert((level, start, slot), *window);
            }
            Item::Event(event) => {
                if event.id <= self.last_event {
                    return Err(Item::misplaced(&event.id.to_string()));
                }
                self.last_event = event.id;
                self.bytes += event.data.as_ref().map_or(0, Vec::len);
                rows.events.push((event, Vec::new()));
            }
            Item::Delivery(delivery) => {
                let id = delivery.id;
                let is_known = id.event == self.last_event && self.slots.contains(&id.slot);
                let Some((_, of)) = rows.events.last_mut().filter(|_| is_known) else {
                    return Err(Item::misplaced(&id.to_string()));
                };
                of.extend(targets([(id.slot, delivery.sequence)].into_iter()));
                rows.deliveries.push(*delivery);
            }
            Item::Key(fingerprint, id) => {
                rows.keys.insert(fingerprint, id);
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let rows = std::mem::take(&mut self.rows);
        (self.count, self.bytes) = (0, 0);
        let ids = rows.events.iter().map(|(event, _)| event.id);
        let ids = ids.chain(rows.keys.values().copied());
        self.days.ensure_of(self.link, ids).await?;
        let mut steps = Steps::new(self.link);
        for endpoint in &rows.endpoints {
            let record = write_endpoint(endpoint, self.sealing.seal()?)?;
            endpoints::endpoint(&mut steps, endpoint, record, self.sealing.form()).await?;
        }
        endpoints::states(&mut steps, &rows.states).await?;
        for (slot, from, revision) in &rows.revisions {
            endpoints::revision(&mut steps, (*slot, *from), revision).await?;
        }
        for (slot, bulk) in &rows.bulks {
            endpoints::new_bulk(&mut steps, *slot, bulk).await?;
        }
        for purge in &rows.purges {
            purges::new_purge(&mut steps, purge).await?;
        }
        callers::api_keys(&mut steps, rows.api_keys.iter()).await?;
        callers::audit(&mut steps, &rows.audit).await?;
        statistics::windows(&mut steps, LANE, rows.windows).await?;
        events::new_events(&mut steps, &rows.events).await?;
        deliveries::new_deliveries(&mut steps, &rows.deliveries).await?;
        let keys: Vec<_> = rows.keys.into_iter().collect();
        events::keys(&mut steps, &keys).await?;
        steps.commit().await
    }

    /// Writes the rest, and takes the mark away.
    async fn finish(mut self) -> Result<(), StoreError> {
        let Some(position) = self.position else {
            return Err(StoreError::damaged("the items", "there are none"));
        };
        self.flush().await?;
        // In order of time: the last of each level is the current one, which the lane has.
        let counters = std::mem::take(&mut self.counters);
        let newest: BTreeMap<Level, UnixMs> = counters.keys().copied().collect();
        let (current, past): (Vec<_>, Vec<_>) = counters
            .into_iter()
            .map(|((level, start), counters)| (level, start, counters))
            .partition(|(level, start, _)| newest.get(level) == Some(start));
        let mut steps = Steps::new(self.link);
        for (level, start, counters) in &past {
            statistics::counters(&mut steps, LANE, (*level, *start), counters).await?;
        }
        steps.commit().await?;
        let current = write("counters", COUNTERS_KEY, &current)?;
        let ending = self.end(position, &current);
        if self.link.in_transaction(ending).await?.is_none() {
            let what = "the import was given up meanwhile: run it again";
            return Err(StoreError::Database(what.to_owned()));
        }
        self.analyze().await
    }

    async fn end(&self, position: Position, current: &[u8]) -> Result<Option<()>, StoreError> {
        let client = &self.link.client;
        let sql = self.link.sql("SET LOCAL synchronous_commit = on");
        let set = client.batch_execute(&sql).await;
        set.map_err(|e| failed(&e))?;
        let last = uuid(position.last_event.max(self.last_event).0);
        let sql = self.link.sql(
            "UPDATE @.lanes SET last_event = $2, last_stamp = $3, next_bulk = $4, paced_ms = $5, swept_before_ms = $6, \
               deliveries_swept_before_ms = $7, states_upto = $2, counters = $8 WHERE lane = $1",
        );
        let lane = client
            .execute(
                &sql,
                &[
                    &LANE,
                    &last,
                    &int8(position.last_stamp),
                    &int8(position.next_bulk),
                    &ms(position.paced),
                    &ms(position.swept_before),
                    &ms(position.deliveries_swept_before),
                    &current,
                ],
            )
            .await;
        lane.map_err(|e| failed(&e))?;
        let sql = self
            .link
            .sql("UPDATE @.shards SET owner = NULL, adopted = false, states_upto = $1, rests_until = 'epoch'");
        let shards = client.execute(&sql, &[&last]).await;
        shards.map_err(|e| failed(&e))?;
        let sql = self
            .link
            .sql("UPDATE @.meta SET importing = false, next_slot = $1 WHERE importing");
        let next_slot = int4(Slot(position.next_slot));
        let ended = client.execute(&sql, &[&next_slot]).await;
        // Otherwise someone has given the import up meanwhile.
        Ok((ended.map_err(|e| failed(&e))? == 1).then_some(()))
    }

    /// Without statistics, the first plans of the daemons would be those for empty tables.
    async fn analyze(&self) -> Result<(), StoreError> {
        let sql = "ANALYZE @.endpoints, @.events, @.open, @.done, @.keys, @.windows";
        let analyzed = self.link.client.batch_execute(&self.link.sql(sql)).await;
        analyzed.map_err(|e| failed(&e))
    }
}
