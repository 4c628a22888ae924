//! Verifies the file: every row's bytes, and that related rows match. Damage is named, never skipped.
//!
//! A snapshot pins pages, and the file of a busy store grows while one is held. So a table is checked in parts, each
//! part in its own snapshot, in which everything that it is compared with is looked up too. Only the counts of a whole
//! table need one snapshot of the whole table, which does nothing else.

mod numbered;
#[cfg(test)]
mod tests;

use crate::api_key::ApiKey;
use crate::audit::AuditEntry;
use crate::bulk::Bulk;
use crate::endpoint::{EndpointState, Revision};
use crate::error::StoreError;
use crate::file::handle::Handle;
use crate::file::journal::{Generation, JournalRow, Run};
use crate::file::memory::{Shared, expect_form};
use crate::file::meta;
use crate::file::pack::{self, Pack};
use crate::file::record;
use crate::file::rows;
use crate::file::sums::Sum;
use crate::file::tables::{self, ReadTables, Reading};
use crate::fingerprint::Fingerprint;
use crate::ids::{EventId, Slot};
use crate::purge::Purge;
use crate::query::CheckReport;
use crate::stats::{Counters, Window};
use redb::{ReadableTable, ReadableTableMetadata};
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

/// How many findings are named; further ones are only counted.
const NAMED: usize = 1_000;
/// Size of one part in rows, and in bytes.
const PART_ROWS: usize = 2_048;
const PART_BYTES: usize = 1 << 20;

struct Checking<'s> {
    shared: &'s Shared,
    report: CheckReport,
    unnamed: u64,
    /// Slots of endpoints that are known to exist: none is removed before its deliveries are.
    slots: HashSet<Slot>,
}

/// Selects a table.
type Of<const N: usize> = fn(&ReadTables) -> &Reading<N>;

impl Checking<'_> {
    fn damage(&mut self, what: String) {
        if self.report.damage.len() < NAMED {
            self.report.damage.push(what);
        } else {
            self.unnamed += 1;
        }
    }

    /// Checks one table. A page that can't be read ends it, and is damage.
    fn rows<const N: usize>(
        &mut self,
        name: &str,
        of: Of<N>,
        mut each: impl FnMut(&mut Self, &ReadTables, &[u8; N], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let shared = self.shared;
        let mut after = None;
        loop {
            let part = shared.long_view(|views| self.part(views, of, after, &mut each));
            match part {
                Ok(None) => break,
                Ok(last) => after = last,
                Err(e) => return self.unreadable(name, e),
            }
        }
        // A missing row, and a page with fewer rows than it should have or that was skipped, show only in the whole
        // table.
        match shared.long_view(|views| whole(views, name, of(views))) {
            Ok(None) => {}
            Ok(Some(damage)) => self.damage(damage),
            Err(e) => self.unreadable(name, e)?,
        }
        Ok(())
    }

    /// Checks one part: the rows after this one. Returns the last of them, if there are more.
    fn part<const N: usize>(
        &mut self,
        views: &ReadTables,
        of: Of<N>,
        after: Option<[u8; N]>,
        each: &mut impl FnMut(&mut Self, &ReadTables, &[u8; N], &[u8]) -> Result<(), StoreError>,
    ) -> Result<Option<[u8; N]>, StoreError> {
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut seen, mut bytes) = (0, 0);
        for row in of(views).range::<&[u8; N]>((from, Bound::Unbounded))? {
            let (key, value) = row?;
            self.report.rows += 1;
            match each(self, views, key.value(), value.value()) {
                Err(e @ StoreError::Damaged { .. }) => self.damage(e.to_string()),
                other => other?,
            }
            seen += 1;
            bytes += value.value().len();
            if seen >= PART_ROWS || bytes >= PART_BYTES {
                return Ok(Some(*key.value()));
            }
        }
        Ok(None)
    }

    fn unreadable(&mut self, name: &str, error: StoreError) -> Result<(), StoreError> {
        if !error.is_damage() {
            return Err(error);
        }
        self.damage(format!("{name}: {error}"));
        Ok(())
    }

    /// Checks a table whose rows refer to no other rows.
    fn plain<const N: usize, T: DeserializeOwned>(
        &mut self,
        name: &str,
        of: Of<N>,
        mut each: impl FnMut(&mut Self, &[u8; N], T),
    ) -> Result<(), StoreError> {
        self.rows(name, of, |c, _, key, value| {
            each(c, key, record::read(name, key, value)?);
            Ok(())
        })
    }
}

/// Returns what is wrong with a table as a whole.
fn whole<const N: usize>(
    views: &ReadTables,
    name: &str,
    table: &Reading<N>,
) -> Result<Option<String>, StoreError> {
    let mut seen = Sum::default();
    for row in table.iter()? {
        let (key, value) = row?;
        seen.add(key.value(), value.value());
    }
    let (rows, counted) = (seen.rows, table.len()?);
    if rows != counted {
        return Ok(Some(format!(
            "{name} holds {rows} rows, but counts {counted}"
        )));
    }
    let written = match views.meta() {
        Ok(meta) => meta.sums.of(name),
        // Named when `meta` is checked.
        Err(StoreError::Damaged { .. }) => None,
        Err(e) => return Err(e),
    };
    Ok(match written {
        Some(written) if written.rows != rows => {
            let written = written.rows;
            Some(format!(
                "{name} holds {rows} rows, but {written} were written to it"
            ))
        }
        Some(written) if written != seen => Some(format!(
            "{name} holds {rows} rows, but not those that were written to it"
        )),
        _ => None,
    })
}

pub(crate) fn check(shared: &Shared) -> Result<CheckReport, StoreError> {
    let mut c = Checking {
        shared,
        report: CheckReport::default(),
        unnamed: 0,
        slots: HashSet::new(),
    };
    // If not even the tables are found, nothing else can be reported.
    shared.long_view(|_| Ok(()))?;
    let mut has_meta = false;
    let mut at_rest = None;
    c.rows(
        "meta",
        |v| &v.meta,
        |c, _, key, value| {
            match key {
                [0] => has_meta = true,
                _ => c.damage("meta holds more than its one row".to_owned()),
            }
            at_rest = Some(meta::read_meta(key, value)?.at_rest);
            Ok(())
        },
    )?;
    if !has_meta {
        c.damage("the row of meta is missing".to_owned());
    }
    c.report.secrets = at_rest.unwrap_or_default();
    let keys = Arc::clone(&shared.options().keys);
    c.rows(
        "endpoints",
        |v| &v.endpoints,
        |c, views, key, value| {
            c.slots.insert(tables::slot_of(key));
            let read = rows::read_endpoint(key, value, &keys)?;
            // As it is now: what is rewritten meanwhile has the new form.
            views
                .meta()
                .map_or(Ok(()), |meta| expect_form(meta.at_rest, &read))
        },
    )?;
    packs(&mut c)?;
    deliveries(&mut c)?;
    indexes(&mut c)?;
    lazily_written(&mut c)?;
    numbered::check(&mut c)?;
    let put_right = shared.handle().as_ref().map(Handle::put_right);
    for at in put_right.unwrap_or_default() {
        c.damage(format!(
            "the page of the file at byte {at} has one wrong bit, which is corrected when it is read: `stormhook compact` rewrites the file"
        ));
    }
    if let Some(why) = shared.uncommittable().clone() {
        c.damage(format!(
            "pages of the engine's own: no commit can be made ({why})"
        ));
    }
    if c.unnamed > 0 {
        let more = c.unnamed;
        c.report.damage.push(format!("and {more} more"));
    }
    Ok(c.report)
}

fn packs(c: &mut Checking<'_>) -> Result<(), StoreError> {
    let mut last = EventId(0);
    c.rows(
        "packs",
        |v| &v.packs,
        |c, _, key, value| {
            for event in &Pack::decode(key, value)?.events {
                c.report.events += 1;
                if event.id <= last {
                    c.damage(format!("{} comes after {last}, out of order", event.id));
                }
                last = event.id;
            }
            Ok(())
        },
    )
}

fn deliveries(c: &mut Checking<'_>) -> Result<(), StoreError> {
    let mut around = Around::default();
    c.rows(
        "deliveries",
        |v| &v.deliveries,
        |c, views, key, value| {
            let id = tables::delivery_of(key);
            let d = rows::read_delivery(key, value)?;
            c.report.deliveries += 1;
            if !around.has(views, id.event)? {
                c.damage(format!("{id} is of {}, which is in no pack", id.event));
            }
            if !c.slots.contains(&id.slot) {
                if views.endpoints.get(&tables::slot_key(id.slot))?.is_some() {
                    c.slots.insert(id.slot);
                } else {
                    c.damage(format!("{id} is to an endpoint that doesn't exist"));
                }
            }
            if let Some(due) = d.due
                && views.due.get(&tables::timed_key(due, id))?.is_none()
            {
                c.damage(format!("{id} is open but missing from the due index"));
            }
            if d.status.is_undelivered() && views.bad.get(key)?.is_none() {
                c.damage(format!(
                    "{id} is undelivered but missing from the dead-letter list"
                ));
            }
            if d.status.is_open() != d.due.is_some() {
                let due = if d.due.is_some() { "due" } else { "never due" };
                c.damage(format!("{id} is {} but {due}", d.status.as_str()));
            }
            Ok(())
        },
    )
}

/// The last pack looked into: deliveries are in the order of their events, so the next one is mostly in it too.
#[derive(Default)]
struct Around {
    upto: EventId,
    /// `None` for a damaged one: it has been named already, and its events count as present.
    pack: Option<Arc<Pack>>,
    from: EventId,
}

impl Around {
    fn has(&mut self, views: &ReadTables, id: EventId) -> Result<bool, StoreError> {
        if id < self.from || id > self.upto {
            match pack::around(&views.packs, id) {
                Ok(None) => return Ok(false),
                Ok(Some((from, pack))) => {
                    let upto = pack.events.last().map_or(from, |e| e.id);
                    *self = Self {
                        from,
                        upto,
                        pack: Some(pack),
                    };
                }
                Err(StoreError::Damaged { .. }) => {
                    *self = Self {
                        from: id,
                        upto: id,
                        pack: None,
                    };
                }
                Err(e) => return Err(e),
            }
        }
        Ok(self.pack.as_ref().is_none_or(|p| p.find(id).is_some()))
    }
}

/// Checks the indexes of open and of undelivered deliveries.
fn indexes(c: &mut Checking<'_>) -> Result<(), StoreError> {
    let delivery = |views: &ReadTables, id| {
        let key = tables::delivery_key(id);
        let row = views.deliveries.get(&key)?;
        Ok::<_, StoreError>(row.map(|row| rows::read_delivery(&key, row.value())))
    };
    c.rows(
        "due",
        |v| &v.due,
        |c, views, key, value| {
            let (waiting, stamp) = rows::read_due(key, value)?;
            let id = waiting.id;
            match delivery(views, id)? {
                Some(Ok(d)) if d.queue_entry() == Some(waiting) && d.stamp == stamp => {}
                // Named when deliveries are checked.
                Some(Err(_)) => {}
                _ => c.damage(format!(
                    "the due index entry of {id} does not match the delivery"
                )),
            }
            Ok(())
        },
    )?;
    c.rows(
        "bad",
        |v| &v.bad,
        |c, views, key, value| {
            record::read::<()>("bad", key, value)?;
            let id = tables::delivery_of(key);
            match delivery(views, id)? {
                Some(Ok(d)) if d.status.is_undelivered() => {}
                Some(Err(_)) => {}
                _ => c.damage(format!(
                    "the dead-letter list has {id}, which is not undelivered"
                )),
            }
            Ok(())
        },
    )
}

fn lazily_written(c: &mut Checking<'_>) -> Result<(), StoreError> {
    c.plain::<4, EndpointState>("states", |v| &v.states, |_, _, _| {})?;
    c.plain::<8, JournalRow>("journal", |v| &v.journal, |_, _, _| {})?;
    c.plain::<8, Generation>("generations", |v| &v.generations, |_, _, _| {})?;
    c.plain::<12, Run>("history", |v| &v.history, |_, _, _| {})?;
    c.plain::<24, Vec<(Fingerprint, EventId)>>(
        "keys",
        |v| &v.keys,
        |c, key, block| {
            let sorted = block.is_sorted_by_key(|(fingerprint, _)| *fingerprint);
            let first = block.first().map(|(f, _)| f.0.to_be_bytes());
            if !sorted || first.as_ref().map(<[u8; 16]>::as_slice) != key.get(8..) {
                c.damage("a block of idempotency keys is out of order".to_owned());
            }
        },
    )?;
    c.plain::<20, Revision>("revisions", |v| &v.revisions, |_, _, _| {})?;
    c.plain::<9, Counters>("counters", |v| &v.counters, |_, _, _| {})?;
    c.plain::<13, Window>("windows", |v| &v.windows, |_, _, _| {})?;
    c.plain::<12, Bulk>("bulk", |v| &v.bulk, |_, _, _| {})?;
    c.plain::<8, Purge>("purges", |v| &v.purges, |_, _, _| {})?;
    c.plain::<16, ApiKey>("api_keys", |v| &v.api_keys, |_, _, _| {})?;
    c.plain::<16, AuditEntry>("audit", |v| &v.audit, |_, _, _| {})
}
