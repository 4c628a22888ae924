//! Finds what is still to be written of bulk changes, a bounded number of rows at a time, as the walk of the file does.

use super::{Reader, id_in};
use crate::convert::{column, int4, int8, number, read_targets, uuid};
use crate::fetch::read_row;
use crate::link::{Link, failed};
use stormhook_store::backend::{apply, read, slot_key};
use stormhook_store::endpoint::{Revision, Why};
use stormhook_store::maintenance::AdvanceBulk;
use stormhook_store::{
    Bulk, BulkEffect, BulkFound, EventId, ROWS_PER_STEP, Recover, Reopen, Slot, StoreError, UnixMs,
};
use tokio_postgres::types::Type;

/// Finds what one endpoint's bulk changes still have to write.
#[derive(Debug)]
pub struct BulkWalk {
    reader: Reader,
    slot: Slot,
    bulks: Vec<Bulk>,
    /// Whether this only counts what a recovery would open. Then the changes in progress are applied first.
    counting: bool,
    /// The last sequence number that was read; `None` once all were.
    after: Option<u64>,
    /// Up to before this one.
    until: u64,
    /// After the deliveries: spans of events that are searched for missed ones.
    missed: Vec<(EventId, EventId)>,
}

impl Reader {
    /// Whether bulk changes are in progress.
    pub fn bulk_waits(&self) -> bool {
        !self.shared.memory().directory.bulks.is_empty()
    }

    /// Whether bulk changes of this endpoint are in progress.
    pub fn bulk_waits_for(&self, slot: Slot) -> bool {
        self.shared.memory().directory.bulks.contains_key(&slot)
    }

    /// Returns the endpoints with bulk changes in progress, and the last stamp of each.
    pub fn bulks(&self) -> Vec<(Slot, u64)> {
        self.shared.memory().directory.bulks_in_progress()
    }

    /// Returns a walk for the bulk changes of this endpoint up to this stamp; `None` if there are none.
    pub fn bulk_walk(&self, slot: Slot, upto: u64) -> Option<BulkWalk> {
        let bulks = self.shared.memory().directory.bulks_upto(slot, upto);
        (!bulks.is_empty()).then(|| BulkWalk::new(self, slot, bulks))
    }

    /// Returns how many rounds a recovery would open.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn count_recoverable(&self, recover: &Recover) -> Result<u64, StoreError> {
        let Some(endpoint) = self.endpoint(recover.endpoint) else {
            return Ok(0);
        };
        let reopen = {
            let memory = self.shared.memory();
            Reopen::of(recover, memory.numbers.last_event, memory.swept_before)
        };
        let asked = Bulk {
            stamp: u64::MAX,
            at: UnixMs(0),
            effect: BulkEffect::Reopen(reopen),
            number: 0,
        };
        let mut walk = BulkWalk::new(self, endpoint.slot, vec![asked]);
        walk.counting = true;
        let mut count = 0_u64;
        loop {
            match walk.step().await? {
                BulkFound::Work(found) => {
                    count = count.saturating_add(u64::try_from(found.len()).unwrap_or(u64::MAX));
                }
                BulkFound::Nothing => {}
                BulkFound::End => return Ok(count),
            }
        }
    }
}

/// Deliveries of an endpoint after a sequence number.
pub(crate) const DELIVERIES_AFTER: &str = "SELECT d.sequence, d.event, d.slot, d.record, e.has_data FROM ( \
    (SELECT sequence, event, slot, record FROM @.open WHERE slot = $1 AND sequence > $2 AND sequence < $3 \
     ORDER BY sequence LIMIT $4) \
    UNION ALL \
    (SELECT sequence, event, slot, record FROM @.done WHERE slot = $1 AND sequence > $2 AND sequence < $3 \
     ORDER BY sequence LIMIT $4) \
    ORDER BY sequence LIMIT $4) d \
    LEFT JOIN LATERAL (SELECT data IS NOT NULL AS has_data FROM @.events e WHERE e.id = d.event LIMIT 1) e ON true \
    ORDER BY d.sequence";

/// Events from one on, with type and deliveries if they are of an organization and have their data. All of them are
/// returned: the next one of the organization may be millions further on.
pub(crate) const MISSED: &str = "SELECT id, CASE WHEN is_asked THEN type END, CASE WHEN is_asked THEN targets END FROM ( \
    SELECT id, type, targets, organization = $3 AND data IS NOT NULL AS is_asked FROM @.events \
    WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $4) e ORDER BY id";

impl BulkWalk {
    fn new(reader: &Reader, slot: Slot, bulks: Vec<Bulk>) -> Self {
        let memory = reader.shared.memory();
        let is_there = memory
            .directory
            .endpoint(slot)
            .is_some_and(|e| e.deleted_at.is_none());
        let mut missed: Vec<_> = bulks
            .iter()
            .filter_map(|bulk| match bulk.effect {
                BulkEffect::Reopen(reopen) if reopen.missed && is_there => Some(reopen.span()),
                _ => None,
            })
            .collect();
        missed.reverse();
        Self {
            reader: reader.clone(),
            slot,
            bulks,
            counting: false,
            after: Some(0),
            until: memory.directory.state(slot).last_sequence.saturating_add(1),
            missed,
        }
    }

    /// Reads some more deliveries.
    ///
    /// # Errors
    /// The database refuses. Calling again reads the same ones.
    pub async fn step(&mut self) -> Result<BulkFound, StoreError> {
        let link = self.reader.link().await?;
        let mut found = AdvanceBulk::nothing(self.slot);
        if let Some(after) = self.after {
            self.after = self.deliveries(&link, after, &mut found).await?;
        } else if let Some((from, end)) = self.missed.last().copied() {
            match self.missed(&link, from, end, &mut found).await? {
                Some(next) => {
                    if let Some(span) = self.missed.last_mut() {
                        span.0 = next;
                    }
                }
                None => {
                    self.missed.pop();
                }
            }
        } else {
            return Ok(BulkFound::End);
        }
        Ok(if found.is_empty() {
            BulkFound::Nothing
        } else {
            BulkFound::Work(found)
        })
    }

    /// Ends the changes of this walk. With `keep_ends`, changes that end deliveries stay in the list: without them,
    /// deliveries that can't be written would be open again.
    pub fn end(&self, keep_ends: bool) -> AdvanceBulk {
        let done = self.bulks.iter().filter(|bulk| !(keep_ends && bulk.ends()));
        AdvanceBulk {
            done: done.map(|bulk| bulk.number).collect(),
            ..AdvanceBulk::nothing(self.slot)
        }
    }

    /// Adds the deliveries after a sequence number that the changes apply to. Returns the last number that was read;
    /// `None` at the end.
    async fn deliveries(
        &self,
        link: &Link,
        after: u64,
        found: &mut AdvanceBulk,
    ) -> Result<Option<u64>, StoreError> {
        let types = [Type::INT4, Type::INT8, Type::INT8, Type::INT8];
        let statement = link.prepare(DELIVERIES_AFTER, &types).await?;
        let most = i64::try_from(ROWS_PER_STEP).unwrap_or(i64::MAX);
        let (slot, after, until) = (int4(self.slot), int8(after), int8(self.until));
        let rows = link
            .client
            .query(&statement, &[&slot, &after, &until, &most])
            .await;
        let rows = rows.map_err(|e| failed(&e))?;
        let mut last = None;
        for row in &rows {
            last = Some(number(column(row, 0)?));
            let mut delivery = read_row(row, 1)?;
            let was_due = delivery.due.is_some() && !self.counting;
            if self.counting {
                delivery = self.reader.as_read(delivery);
            }
            if !apply(&mut delivery, &self.bulks) {
                continue;
            }
            let has_data: Option<bool> = column(row, 4)?;
            if was_due || !delivery.status.is_open() || has_data == Some(true) {
                found.events.push(delivery.id.event);
            }
        }
        Ok(last.filter(|_| rows.len() == ROWS_PER_STEP))
    }

    /// Adds the events of a span that the endpoint was subscribed to while it was disabled, and has no delivery of.
    /// Returns where to continue; `None` at the end.
    async fn missed(
        &self,
        link: &Link,
        from: EventId,
        end: EventId,
        found: &mut AdvanceBulk,
    ) -> Result<Option<EventId>, StoreError> {
        let Some(endpoint) = self.reader.endpoint_by_slot(self.slot) else {
            return Ok(None);
        };
        let revisions = self.revisions(link).await?;
        let types = [Type::UUID, Type::UUID, Type::TEXT, Type::INT8];
        let statement = link.prepare(MISSED, &types).await?;
        let most = i64::try_from(ROWS_PER_STEP).unwrap_or(i64::MAX);
        let (from, end) = (uuid(from.0), uuid(end.0));
        let rows = link
            .client
            .query(&statement, &[&from, &end, &endpoint.organization, &most])
            .await;
        let rows = rows.map_err(|e| failed(&e))?;
        let mut last = None;
        for row in &rows {
            let id = id_in(row, 0)?;
            last = Some(EventId(id.0.saturating_add(1)));
            let Some(event_type) = column::<Option<&str>>(row, 1)? else {
                continue;
            };
            let targets = read_targets(column(row, 2)?);
            let delivered = targets.iter().any(|(slot, _)| *slot == self.slot);
            let revision = revisions.iter().rfind(|(from, _)| *from <= id);
            let revision = revision.map(|(_, revision)| revision);
            if Why::decide(revision, event_type, delivered) == Why::InactiveAtAcceptance {
                found.missed.push(id);
            }
        }
        Ok(last.filter(|_| rows.len() == ROWS_PER_STEP))
    }

    async fn revisions(&self, link: &Link) -> Result<Vec<(EventId, Revision)>, StoreError> {
        let sql = "SELECT from_event, record FROM @.revisions WHERE slot = $1 ORDER BY from_event";
        let statement = link.prepare(sql, &[Type::INT4]).await?;
        let rows = link.client.query(&statement, &[&int4(self.slot)]).await;
        rows.map_err(|e| failed(&e))?
            .iter()
            .map(|row| {
                let revision = read("revisions", &slot_key(self.slot), column(row, 1)?)?;
                Ok((id_in(row, 0)?, revision))
            })
            .collect()
    }
}
