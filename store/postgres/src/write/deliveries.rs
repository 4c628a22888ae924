//! Deliveries: open ones in one table, ended ones in another.

use super::{BOOLS, BYTES, INT4S, INT8S, Steps, UUIDS, parameters};
use crate::convert::{int4, int8, ms, uuid};
use crate::fresh::Place;
use crate::staged::Staged;
use stormhook_store::backend::write_delivery;
use stormhook_store::{Delivery, StoreError};
use uuid::Uuid;

/// Takes deliveries that have ended out of those that are open.
pub(crate) const DELETE_OPEN: &str = "DELETE FROM @.open o USING unnest($1::int4[], $2::int8[]) n(slot, sequence) \
    WHERE o.slot = n.slot AND o.sequence = n.sequence";

/// Takes deliveries out of those that have ended.
pub(crate) const DELETE_DONE: &str = "DELETE FROM @.done d USING unnest($1::int4[], $2::int8[], $3::uuid[]) n(slot, sequence, event) \
    WHERE d.slot = n.slot AND d.sequence = n.sequence AND d.event = n.event";

/// Writes open deliveries.
pub(crate) const PUT_OPEN: &str = "INSERT INTO @.open (sequence, due_ms, event, slot, record) \
    SELECT * FROM unnest($1::int8[], $2::int8[], $3::uuid[], $4::int4[], $5::bytea[]) \
    ON CONFLICT (slot, sequence) DO UPDATE SET due_ms = excluded.due_ms, record = excluded.record";

pub(super) async fn deliveries(steps: &mut Steps<'_>, staged: &Staged) -> Result<(), StoreError> {
    let all = &staged.deliveries;
    let leaves = |from: Place| {
        let gone = all.iter().filter(move |d| d.from == from && d.to != from);
        gone.map(|placed| {
            let id = placed.delivery.id;
            (int4(id.slot), int8(placed.sequence), uuid(id.event.0))
        })
    };
    let (slots, sequences, _): (Vec<i32>, Vec<i64>, Vec<Uuid>) = collect(leaves(Place::Open));
    if !slots.is_empty() {
        let parameters = parameters![slots, sequences];
        steps.add(DELETE_OPEN, &[INT4S, INT8S], parameters).await?;
    }
    let (slots, sequences, of): (Vec<i32>, Vec<i64>, Vec<Uuid>) = collect(leaves(Place::Done));
    if !slots.is_empty() {
        let parameters = parameters![slots, sequences, of];
        let types = [INT4S, INT8S, UUIDS];
        steps.add(DELETE_DONE, &types, parameters).await?;
    }
    let mut open = Columns::default();
    for placed in all.iter().filter(|d| d.to == Place::Open) {
        open.push(&placed.delivery)?;
    }
    put_open(steps, open).await?;
    for (from, sql) in [(false, INSERT_DONE), (true, UPDATE_DONE)] {
        let mut done = Columns::default();
        let ended = all.iter().filter(|d| d.to == Place::Done);
        for placed in ended.filter(|d| (d.from == Place::Done) == from) {
            done.push(&placed.delivery)?;
        }
        put_done(steps, sql, done).await?;
    }
    Ok(())
}

/// Inserts deliveries that are nowhere yet.
pub(crate) async fn new_deliveries(
    steps: &mut Steps<'_>,
    all: &[Delivery],
) -> Result<(), StoreError> {
    let (mut open, mut done) = (Columns::default(), Columns::default());
    for d in all {
        let place = if d.due.is_some() {
            &mut open
        } else {
            &mut done
        };
        place.push(d)?;
    }
    put_open(steps, open).await?;
    put_done(steps, INSERT_DONE, done).await
}

async fn put_open(steps: &mut Steps<'_>, open: Columns) -> Result<(), StoreError> {
    if !open.slots.is_empty() {
        let parameters = parameters![
            open.sequences,
            open.due,
            open.events,
            open.slots,
            open.records
        ];
        steps
            .add(PUT_OPEN, &[INT8S, INT8S, UUIDS, INT4S, BYTES], parameters)
            .await?;
    }
    Ok(())
}

async fn put_done(
    steps: &mut Steps<'_>,
    sql: &'static str,
    done: Columns,
) -> Result<(), StoreError> {
    if !done.slots.is_empty() {
        let parameters = parameters![
            done.sequences,
            done.events,
            done.slots,
            done.undelivered,
            done.records
        ];
        let types = [INT8S, UUIDS, INT4S, BOOLS, BYTES];
        steps.add(sql, &types, parameters).await?;
    }
    Ok(())
}

const INSERT_DONE: &str = "INSERT INTO @.done (sequence, event, slot, undelivered, record) \
    SELECT * FROM unnest($1::int8[], $2::uuid[], $3::int4[], $4::bool[], $5::bytea[])";
const UPDATE_DONE: &str = "UPDATE @.done d SET undelivered = n.undelivered, record = n.record \
    FROM unnest($1::int8[], $2::uuid[], $3::int4[], $4::bool[], $5::bytea[]) n(sequence, event, slot, undelivered, record) \
    WHERE d.slot = n.slot AND d.sequence = n.sequence AND d.event = n.event";

fn collect(of: impl Iterator<Item = (i32, i64, Uuid)>) -> (Vec<i32>, Vec<i64>, Vec<Uuid>) {
    let mut all = (Vec::new(), Vec::new(), Vec::new());
    for (slot, sequence, event) in of {
        all.0.push(slot);
        all.1.push(sequence);
        all.2.push(event);
    }
    all
}

/// Deliveries by column.
#[derive(Default)]
struct Columns {
    sequences: Vec<i64>,
    due: Vec<i64>,
    events: Vec<Uuid>,
    slots: Vec<i32>,
    undelivered: Vec<bool>,
    records: Vec<Vec<u8>>,
}

impl Columns {
    fn push(&mut self, d: &Delivery) -> Result<(), StoreError> {
        self.sequences.push(int8(d.sequence));
        self.due.push(d.due.map_or(0, ms));
        self.events.push(uuid(d.id.event.0));
        self.slots.push(int4(d.id.slot));
        self.undelivered.push(d.status.is_undelivered());
        self.records.push(write_delivery(d)?);
        Ok(())
    }
}
