//! Passes everything that the database holds, to be moved to another store: in one transaction, as of one moment.

use crate::callers;
use crate::cluster::marks::WHAT;
use crate::convert::{column, event_id, read_targets, slot};
use crate::fetch::{event_columns, read_event, read_row};
use crate::link::{Link, failed};
use crate::load::{self, Loaded, each, read_counters};
use crate::options::Options;
use crate::resealing::at_rest;
use crate::schema;
use crate::write::{read_window_key, window_key};
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use stormhook_store::backend::{Fingerprint, read, slot_key};
use stormhook_store::stats::{Counters, Level, Window};
use stormhook_store::{Delivery, DeliveryId, EventId, Item, Position, StoreError, UnixMs};
use tokio_postgres::{Row, Statement};

/// Events and deliveries that are fetched at a time: an event may have 256 KiB.
const EVENTS: usize = 100;
const DELIVERIES: usize = 1_000;

/// Passes everything that the database holds, in the order of [`Item`], until `pass` stops. Daemons may use it
/// meanwhile; what they have in memory alone is not in it: statistics of the last minute, and what endpoints' attempts
/// changed in the last seconds.
///
/// # Errors
/// The database refuses, or something in it is damaged.
pub async fn export(
    options: &Options,
    with_secrets: bool,
    mut pass: impl FnMut(Item) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let link = Link::open_for_reading(options).await?;
    schema::expect(&link).await?;
    // A statement may sort everything, which has no limit of time.
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0";
    execute(&link, begin).await?;
    let mut stopped = false;
    let mut pass = |item| -> Result<(), StoreError> {
        stopped = pass(item).is_break();
        if stopped {
            return Err(StoreError::Database("the export was stopped".to_owned()));
        }
        Ok(())
    };
    let passed = async {
        if with_secrets {
            let at_rest = at_rest(&link).await?;
            at_rest.expect_keys(&options.keys, WHAT)?;
        }
        everything(&link, &mut pass).await
    };
    let passed = passed.await;
    match passed {
        Err(_) if stopped => Ok(()),
        passed => {
            passed?;
            execute(&link, "COMMIT").await
        }
    }
}

type Pass<'p> = &'p mut dyn FnMut(Item) -> Result<(), StoreError>;

async fn execute(link: &Link, sql: &str) -> Result<(), StoreError> {
    let done = link.client.batch_execute(sql).await;
    done.map_err(|e| failed(&e))
}

async fn everything(link: &Link, pass: Pass<'_>) -> Result<(), StoreError> {
    let sql = link.sql("SELECT next_slot FROM @.meta");
    let meta = link.client.query_one(&sql, &[]).await;
    let next_slot = slot(column(&meta.map_err(|e| failed(&e))?, 0)?).0;
    let loaded = load::everything(link).await?;
    let position = Position {
        next_slot,
        ..loaded.position()
    };
    pass(Item::Position(position))?;
    for endpoint in &loaded.endpoints {
        pass(Item::Endpoint(endpoint.clone()))?;
    }
    let states: BTreeMap<_, _> = loaded.states.iter().collect();
    for (slot, state) in states {
        pass(Item::State(*slot, *state))?;
    }
    let sql = "SELECT slot, from_event, record FROM @.revisions ORDER BY slot, from_event";
    each(link, sql, &[], |row| {
        let slot = slot(column(row, 0)?);
        let revision = read("revisions", &slot_key(slot), column(row, 2)?)?;
        pass(Item::Revision(slot, event_id(column(row, 1)?), revision))
    })
    .await?;
    for (slot, bulks) in &loaded.bulks {
        for bulk in bulks {
            pass(Item::Bulk(*slot, *bulk))?;
        }
    }
    for purge in loaded.purges.iter() {
        pass(Item::Purge(Box::new(purge.clone())))?;
    }
    for key in callers::api_keys(link).await? {
        pass(Item::ApiKey(Box::new(key)))?;
    }
    callers::each_audit(link, |entry| pass(Item::Audit(Box::new(entry)))).await?;
    counters(link, pass).await?;
    windows(link, pass).await?;
    history(link, &loaded, pass).await?;
    // The newest last: it is the one that counts.
    let sql = "SELECT fingerprint, id FROM @.keys ORDER BY day, fingerprint";
    each(link, sql, &[], |row| {
        let fingerprint: uuid::Uuid = column(row, 0)?;
        let fingerprint = Fingerprint(fingerprint.as_u128());
        pass(Item::Key(fingerprint, event_id(column(row, 1)?)))
    })
    .await
}

/// Passes the counters, summed over the lanes.
async fn counters(link: &Link, pass: Pass<'_>) -> Result<(), StoreError> {
    let mut sums: BTreeMap<(Level, UnixMs), Counters> = BTreeMap::new();
    let sql = "SELECT level, start_ms, 4294967295::int8, record FROM @.counters";
    each(link, sql, &[], |row| {
        let key = read_window_key(row)?;
        let counted = read("counters", &window_key(key), column(row, 3)?)?;
        sums.entry((key.0, key.1)).or_default().add(&counted);
        Ok(())
    })
    .await?;
    each(link, "SELECT counters FROM @.lanes", &[], |row| {
        for (window, counted) in read_counters(column(row, 0)?)? {
            sums.entry(window).or_default().add(&counted);
        }
        Ok(())
    })
    .await?;
    for ((level, start), counters) in sums {
        pass(Item::Counters(level, start, counters))?;
    }
    Ok(())
}

/// Passes the windows. Those of all endpoints have a row for each lane, one after the other.
async fn windows(link: &Link, pass: Pass<'_>) -> Result<(), StoreError> {
    let mut last: Option<(_, Box<Window>)> = None;
    let sql = "SELECT level, start_ms, slot, record FROM @.windows ORDER BY level, start_ms, slot";
    each(link, sql, &[], |row| {
        let key = read_window_key(row)?;
        let window: Window = read("windows", &window_key(key), column(row, 3)?)?;
        match &mut last {
            Some((of, sum)) if *of == key => sum.merge(&window),
            _ => {
                if let Some(((level, start, slot), sum)) = last.replace((key, Box::new(window))) {
                    pass(Item::Window(level, start, slot, sum))?;
                }
            }
        }
        Ok(())
    })
    .await?;
    match last {
        Some(((level, start, slot), sum)) => pass(Item::Window(level, start, slot, sum)),
        None => Ok(()),
    }
}

/// Rows of a cursor, fetched some at a time.
struct Fetched {
    fetch: Statement,
    rows: VecDeque<Row>,
}

impl Fetched {
    /// Declares a cursor.
    async fn declare(
        link: &Link,
        name: &str,
        query: &str,
        rows: usize,
    ) -> Result<Self, StoreError> {
        let declare = format!("DECLARE {name} NO SCROLL CURSOR FOR {query}");
        execute(link, &link.sql(&declare)).await?;
        let fetch = format!("FETCH FORWARD {rows} FROM {name}");
        let fetch = link.client.prepare(&fetch).await;
        Ok(Self {
            fetch: fetch.map_err(|e| failed(&e))?,
            rows: VecDeque::new(),
        })
    }

    async fn next(&mut self, link: &Link) -> Result<Option<Row>, StoreError> {
        if self.rows.is_empty() {
            let rows = link.client.query(&self.fetch, &[]).await;
            self.rows = rows.map_err(|e| failed(&e))?.into();
        }
        Ok(self.rows.pop_front())
    }
}

/// Passes the events, each followed by its deliveries, those without a row too.
async fn history(link: &Link, loaded: &Loaded, pass: Pass<'_>) -> Result<(), StoreError> {
    let query = concat!(
        "SELECT ",
        event_columns!(),
        ", e.targets FROM @.events e ORDER BY e.id"
    );
    let mut events = Fetched::declare(link, "events_by_id", query, EVENTS).await?;
    let query = "SELECT event, slot, record FROM \
                   (SELECT event, slot, record FROM @.open UNION ALL SELECT event, slot, record FROM @.done) d \
                 ORDER BY event, slot";
    let mut rows = Fetched::declare(link, "deliveries_by_event", query, DELIVERIES).await?;
    let mut delivery = next_delivery(link, &mut rows).await?;
    while let Some(row) = events.next(link).await? {
        let event = read_event(&row, 0)?;
        let id: EventId = event.id;
        pass(Item::Event(event.into()))?;
        let named = read_targets(column(&row, 8)?).into_iter();
        let named = named.map(|(slot, sequence)| (DeliveryId { event: id, slot }, sequence));
        let named: Vec<_> = named.collect();
        let mut of_event = BTreeMap::new();
        while let Some(found) = delivery.take_if(|d| d.id.event <= id) {
            if found.id.event < id {
                return Err(Item::without_event(&found));
            }
            of_event.insert(found.id, found);
            delivery = next_delivery(link, &mut rows).await?;
        }
        let has_row = |id: &DeliveryId| of_event.contains_key(id);
        let fresh: Vec<Delivery> = loaded.without_row(&named, has_row).collect();
        of_event.extend(fresh.into_iter().map(|d| (d.id, d)));
        for delivery in of_event.into_values() {
            pass(Item::Delivery(Box::new(delivery)))?;
        }
    }
    match delivery {
        Some(left) => Err(Item::without_event(&left)),
        None => Ok(()),
    }
}

async fn next_delivery(link: &Link, rows: &mut Fetched) -> Result<Option<Delivery>, StoreError> {
    let row = rows.next(link).await?;
    row.map(|row| read_row(&row, 0)).transpose()
}
