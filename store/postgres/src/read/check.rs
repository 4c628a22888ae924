//! Verifies the database: every record can be read, and related rows match.

use super::{Reader, id_in};
use crate::cluster::Shard;
use crate::convert::{column, int8, number, read_targets, slot, uuid};
use crate::fetch::read_row;
use crate::link::{Link, failed};
use crate::load::{each, open_of, states_upto};
use crate::resealing::at_rest;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stormhook_store::backend::{read_endpoint, slot_key};
use stormhook_store::{CheckReport, DeliveryId, EventId, Slot, StoreError, UnixMs};
use tokio_postgres::types::{ToSql, Type};

/// Events that one step compares with their deliveries.
const STEP: i64 = 1_000;
/// How often a moment without a commit is looked for.
const QUIET_TRIES: usize = 20;
/// How long after its commit a batch is known in memory at the latest.
const ANNOUNCED: Duration = Duration::from_millis(50);

impl Reader {
    /// Verifies the database. Takes as long as reading all of it, a bounded number of rows at a time.
    ///
    /// # Errors
    /// The database refuses. Damage is not an error but part of the report.
    pub async fn check(&self) -> Result<CheckReport, StoreError> {
        let link = Link::open_for_reading(&self.shared.options).await?;
        let mut report = CheckReport::default();
        let mut after = EventId(0);
        // Ended deliveries of events before this may be gone.
        let kept_from = self.shared.memory().deliveries_swept_before;
        loop {
            // What is compared is of one moment: other daemons commit meanwhile.
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
            let begun = link.client.batch_execute(begin).await;
            begun.map_err(|e| failed(&e))?;
            let last = events(&link, after, kept_from, &mut report).await?;
            let ended = link.client.batch_execute("COMMIT").await;
            ended.map_err(|e| failed(&e))?;
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        without_event(&link, &mut report).await?;
        report.secrets = at_rest(&link).await?;
        endpoints(&link, &mut report).await?;
        self.open_count_of(&link, &mut report).await?;
        Ok(report)
    }

    /// Compares the number of open deliveries of this daemon's shards with what memory knows, at a moment without a
    /// commit.
    async fn open_count_of(&self, link: &Link, report: &mut CheckReport) -> Result<(), StoreError> {
        for _ in 0..QUIET_TRIES {
            let (commit, known, shards) = self.known_open();
            let found = open_of(link, &shards).await?;
            if self.known_open().0 != commit {
                continue;
            }
            // A commit whose announcement comes later may be in the count.
            tokio::time::sleep(ANNOUNCED).await;
            if self.known_open().0 == commit {
                if found != known {
                    let damage = format!("{found} deliveries are open, {known} are known");
                    report.damage.push(damage);
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns the number of the last commit, of the rows of open deliveries as of it, and the shards that they are of.
    fn known_open(&self) -> (u64, u64, BTreeSet<Shard>) {
        let memory = self.shared.memory();
        let shards = memory.shards.clone();
        let fresh = u64::try_from(memory.fresh.len()).unwrap_or(u64::MAX);
        let rows = memory.directory.open.saturating_sub(fresh);
        (memory.commit, rows, shards)
    }
}

/// Reads all endpoints. A private part must have the form that its row says, which is one that the store has.
async fn endpoints(link: &Link, report: &mut CheckReport) -> Result<(), StoreError> {
    let sql =
        "SELECT slot, record, secrets_form FROM @.endpoints WHERE slot > $1 ORDER BY slot LIMIT $2";
    let statement = link.prepare(sql, &[Type::INT4, Type::INT8]).await?;
    let mut after = -1;
    loop {
        let rows = link.client.query(&statement, &[&after, &STEP]).await;
        let rows = rows.map_err(|e| failed(&e))?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            after = column(row, 0)?;
            report.rows += 1;
            let form: &str = column(row, 2)?;
            match read_endpoint(&slot_key(slot(after)), column(row, 1)?, &link.keys) {
                Ok(read) if read.form.to_string() == form && report.secrets.has(read.form) => {}
                Ok(read) => report.damage.push(format!(
                    "the private part of {} is {}, its row says {form}, and the store has {}",
                    read.endpoint.id, read.form, report.secrets.form
                )),
                Err(e) if e.is_damage() => report.damage.push(e.to_string()),
                Err(e) => return Err(e),
            }
        }
    }
}

/// Compares some events after this one with their deliveries: each has one row, open or ended, or none yet. Returns the last of them;
/// `None` at the end.
async fn events(
    link: &Link,
    after: EventId,
    kept_from: UnixMs,
    report: &mut CheckReport,
) -> Result<Option<EventId>, StoreError> {
    let with_rows = positions(link).await?;
    let sql = "SELECT id, targets, organization FROM @.events WHERE id > $1 ORDER BY id LIMIT $2";
    let statement = link.prepare(sql, &[Type::UUID, Type::INT8]).await?;
    let parameters: [&(dyn ToSql + Sync); 2] = [&uuid(after.0), &STEP];
    let rows = link.client.query(&statement, &parameters).await;
    let mut expected: BTreeMap<DeliveryId, u64> = BTreeMap::new();
    let mut fresh: BTreeSet<EventId> = BTreeSet::new();
    let (mut first, mut last) = (None, None);
    for row in rows.map_err(|e| failed(&e))? {
        let event = id_in(&row, 0)?;
        first = first.or(Some(event));
        last = Some(event);
        report.events += 1;
        report.rows += 1;
        let upto = with_rows.get(&Shard::of(column(&row, 2)?));
        if upto.is_none_or(|upto| event > *upto) {
            fresh.insert(event);
        }
        for (slot, sequence) in read_targets(column(&row, 1)?) {
            let id = DeliveryId { event, slot };
            if expected.insert(id, sequence).is_some() {
                report
                    .damage
                    .push(format!("{id} is named twice by its event"));
            }
        }
    }
    let (Some(first), Some(last)) = (first, last) else {
        return Ok(None);
    };
    let found = rows_of(link, first, last, &expected, report).await?;
    let without_row = expected.keys().filter(|id| !found.contains(id));
    for id in without_row.filter(|id| id.event.accepted_at() >= kept_from) {
        if fresh.contains(&id.event) {
            report.deliveries += 1;
        } else {
            report.damage.push(format!("{id} is missing"));
        }
    }
    Ok(Some(last))
}

/// Compares the rows of deliveries of these events with what the events name. Returns those that there are.
async fn rows_of(
    link: &Link,
    first: EventId,
    last: EventId,
    expected: &BTreeMap<DeliveryId, u64>,
    report: &mut CheckReport,
) -> Result<BTreeSet<DeliveryId>, StoreError> {
    let sql = "SELECT event, slot, record, sequence, due_ms FROM @.open WHERE event >= $1 AND event <= $2 \
               UNION ALL SELECT event, slot, record, sequence, NULL FROM @.done WHERE event >= $1 AND event <= $2";
    let mut found = BTreeSet::new();
    each(link, sql, &[&uuid(first.0), &uuid(last.0)], |row| {
        report.rows += 1;
        report.deliveries += 1;
        let id = DeliveryId {
            event: id_in(row, 0)?,
            slot: slot(column(row, 1)?),
        };
        let sequence = number(column(row, 3)?);
        let due: Option<i64> = column(row, 4)?;
        let is_whole = match read_row(row, 0) {
            Ok(d) => d.sequence == sequence && d.due.map(|at| int8(at.0)) == due,
            Err(_) => false,
        };
        if !is_whole {
            report
                .damage
                .push(format!("the row of {id} does not match its record"));
        }
        if expected.get(&id) != Some(&sequence) {
            report
                .damage
                .push(format!("{id} is not named by its event"));
        }
        if !found.insert(id) {
            report.damage.push(format!("{id} has two rows"));
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

/// Returns up to which event each shard's deliveries have rows.
async fn positions(link: &Link) -> Result<BTreeMap<Shard, EventId>, StoreError> {
    let sql = concat!(
        "SELECT s.shard, ",
        states_upto!(),
        " FROM @.shards s LEFT JOIN @.lanes l ON l.lane = s.owner"
    );
    let mut positions = BTreeMap::new();
    each(link, sql, &[], |row| {
        let upto = id_in(row, 1)?;
        positions.extend(Shard::numbered(column(row, 0)?).map(|shard| (shard, upto)));
        Ok(())
    })
    .await?;
    Ok(positions)
}

/// Names open deliveries without an event.
async fn without_event(link: &Link, report: &mut CheckReport) -> Result<(), StoreError> {
    let sql = "SELECT o.event, o.slot FROM @.open o LEFT JOIN @.events e ON e.id = o.event WHERE e.id IS NULL";
    each(link, sql, &[], |row| {
        let event = id_in(row, 0)?;
        let slot: Slot = slot(column(row, 1)?);
        let id = DeliveryId { event, slot };
        report.damage.push(format!("{id} has no event"));
        Ok(())
    })
    .await
}
