//! Reads the deliveries of shards: the sequence numbers that were given last, and what waits.

use super::{Loaded, each};
use crate::cluster::Shard;
use crate::convert::{column, event_id, number, read_targets, uuid};
use crate::fetch::{read_row, with_row};
use crate::link::Link;
use std::collections::{BTreeMap, BTreeSet};
use stormhook_store::backend::{Bulks, as_read};
use stormhook_store::{Delivery, DeliveryId, EventId, QueueEntry, Slot, StoreError};

/// How many deliveries are looked up at a time.
const CHUNK: usize = 10_000;

/// Events after one, with their deliveries.
pub(crate) const NUMBERS_SINCE: &str = "SELECT id, targets FROM @.events WHERE id > $1";

/// Reads the sequence numbers given since the states were written. Returns the deliveries that they were given to.
pub(super) async fn numbers_since(
    link: &Link,
    upto: EventId,
    loaded: &mut Loaded,
) -> Result<Vec<(DeliveryId, u64)>, StoreError> {
    let known: BTreeSet<Slot> = loaded.endpoints.iter().map(|e| e.slot).collect();
    let mut named = Vec::new();
    each(link, NUMBERS_SINCE, &[&uuid(upto.0)], |row| {
        let event = event_id(column(row, 0)?);
        for (slot, sequence) in read_targets(column(row, 1)?) {
            if !known.contains(&slot) {
                continue;
            }
            named.push((DeliveryId { event, slot }, sequence));
            let state = loaded.states.entry(slot).or_default();
            if state.last_sequence < sequence {
                state.last_sequence = sequence;
                loaded.unwritten.insert(slot);
            }
        }
        Ok(())
    })
    .await?;
    Ok(named)
}

/// Finds those of these deliveries that have no row.
pub(super) async fn fresh_of(
    link: &Link,
    named: &[(DeliveryId, u64)],
    loaded: &mut Loaded,
) -> Result<(), StoreError> {
    for named in named.chunks(CHUNK) {
        let with_row = with_row(link, named).await?;
        let fresh = loaded.without_row(named, |id| with_row.contains(id));
        let fresh: Vec<Delivery> = fresh.collect();
        loaded.fresh.extend(fresh.into_iter().map(|d| (d.id, d)));
    }
    Ok(())
}

/// The rows of open deliveries of shards, in order of due time.
pub(crate) const WAITING: &str = "SELECT o.event, o.slot, o.record FROM @.open o JOIN @.endpoints e ON e.slot = o.slot \
    WHERE e.shard = ANY($1) ORDER BY o.due_ms, o.event, o.slot";

/// Passes every open delivery of these shards to `pass`, in order of due time, without those that a bulk change has ended
/// or reopened. `fresh` are those without a row.
pub(crate) async fn waiting(
    link: &Link,
    shards: &BTreeSet<Shard>,
    bulks: &Bulks,
    fresh: &BTreeMap<DeliveryId, Delivery>,
    mut pass: impl FnMut(QueueEntry),
) -> Result<(), StoreError> {
    // They are due when they were accepted.
    let entries = fresh.values().filter_map(Delivery::queue_entry);
    let mut entries = entries.peekable();
    let shards: Vec<i16> = shards.iter().map(|shard| shard.number()).collect();
    each(link, WAITING, &[&shards], |row| {
        let stored = read_row(row, 0)?;
        let (due, id) = (stored.due, stored.id);
        while let Some(entry) = entries.next_if(|e| (Some(e.due), e.id) < (due, id)) {
            pass(entry);
        }
        let entry = as_read(stored, bulks).queue_entry();
        let is_new = |entry: &QueueEntry| !fresh.contains_key(&entry.id);
        if let Some(entry) = entry.filter(|entry| Some(entry.due) == due && is_new(entry)) {
            pass(entry);
        }
        Ok(())
    })
    .await?;
    entries.for_each(pass);
    Ok(())
}

/// How many there are.
pub(crate) const OPEN_COUNT: &str =
    "SELECT count(*) FROM @.open o JOIN @.endpoints e ON e.slot = o.slot WHERE e.shard = ANY($1)";

/// Returns how many deliveries of these shards have a row as open ones.
pub(crate) async fn open_of(link: &Link, shards: &BTreeSet<Shard>) -> Result<u64, StoreError> {
    let shards: Vec<i16> = shards.iter().map(|shard| shard.number()).collect();
    let mut open = 0;
    each(link, OPEN_COUNT, &[&shards], |row| {
        open = number(column(row, 0)?);
        Ok(())
    })
    .await?;
    Ok(open)
}
