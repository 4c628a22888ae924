//! Verifying a snapshot of the file: every row's bytes, and that what belongs together is there. Damage is named, never skipped.

use crate::endpoint::{EndpointState, Revision};
use crate::error::{StoreError, guarded};
use crate::ids::{EventId, Slot};
use crate::journal::{Fingerprint, Generation, JournalRow, Run};
use crate::pack::{self, Pack};
use crate::query::CheckReport;
use crate::record;
use crate::rows::{self, Job, Meta};
use crate::stats::{Counters, Window};
use crate::tables::{self, Views};
use redb::{ReadableTable, ReadableTableMetadata};
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How much damage is named; more is counted only.
const NAMED: usize = 1_000;

#[derive(Default)]
struct Checking {
    report: CheckReport,
    unnamed: u64,
    meta: Option<Meta>,
    slots: HashSet<Slot>,
    /// How many deliveries of each endpoint there are, and the greatest sequence number among them.
    present: HashMap<Slot, (u64, u64)>,
    /// The last sequence number given, as the states and the journal say.
    last_sequence: HashMap<Slot, u64>,
}

impl Checking {
    fn damage(&mut self, what: String) {
        if self.report.damage.len() < NAMED {
            self.report.damage.push(what);
        } else {
            self.unnamed += 1;
        }
    }

    /// Looks through one table. Pages that can't be read end it, and are damage.
    fn rows<const N: usize>(
        &mut self,
        name: &str,
        table: &tables::Reading<N>,
        mut each: impl FnMut(&mut Self, &[u8; N], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let walked = guarded(|| {
            let mut seen = 0u64;
            for row in table.iter()? {
                let (key, value) = row?;
                seen += 1;
                self.report.rows += 1;
                match each(self, key.value(), value.value()) {
                    Err(e @ StoreError::Damaged { .. }) => self.damage(e.to_string()),
                    other => other?,
                }
            }
            Ok((seen, table.len()?))
        });
        match walked {
            Ok((seen, expected)) if seen == expected => Ok(()),
            Ok((seen, expected)) => {
                self.damage(format!("{name} holds {seen} rows, but counts {expected}"));
                Ok(())
            }
            Err(e) if e.is_damage() => {
                self.damage(format!("{name}: {e}"));
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Looks through a table whose rows stand for themselves.
    fn plain<const N: usize, T: DeserializeOwned>(
        &mut self,
        name: &str,
        table: &tables::Reading<N>,
        mut each: impl FnMut(&mut Self, &[u8; N], T),
    ) -> Result<(), StoreError> {
        self.rows(name, table, |c, key, value| {
            each(c, key, record::read(name, key, value)?);
            Ok(())
        })
    }
}

pub(crate) fn check(views: &Views) -> Result<CheckReport, StoreError> {
    let mut c = Checking::default();
    c.plain::<1, Meta>("meta", &views.meta, |c, _, meta| c.meta = Some(meta))?;
    if c.meta.is_none() {
        c.damage("the row of meta is missing".to_owned());
    }
    c.rows("endpoints", &views.endpoints, |c, key, value| {
        c.slots.insert(tables::slot_of(key));
        rows::read_endpoint(key, value).map(drop)
    })?;
    packs(&mut c, views)?;
    deliveries(&mut c, views)?;
    indexes(&mut c, views)?;
    lazily_written(&mut c, views)?;
    sequences(&mut c);
    if c.unnamed > 0 {
        let more = c.unnamed;
        c.report.damage.push(format!("and {more} more"));
    }
    Ok(c.report)
}

fn packs(c: &mut Checking, views: &Views) -> Result<(), StoreError> {
    let mut last = EventId(0);
    c.rows("packs", &views.packs, |c, key, value| {
        for event in &Pack::decode(key, value)?.events {
            c.report.events += 1;
            if event.id <= last {
                c.damage(format!("{} lies after {last}, out of order", event.id));
            }
            last = event.id;
        }
        Ok(())
    })
}

fn deliveries(c: &mut Checking, views: &Views) -> Result<(), StoreError> {
    let mut around = Around::default();
    c.rows("deliveries", &views.deliveries, |c, key, value| {
        let id = tables::delivery_of(key);
        let (count, greatest) = c.present.entry(id.slot).or_default();
        *count += 1;
        let d = rows::read_delivery(key, value)?;
        *greatest = d.sequence.max(*greatest);
        c.report.deliveries += 1;
        if !around.has(views, id.event)? {
            c.damage(format!("{id} is of {}, which is in no pack", id.event));
        }
        if !c.slots.contains(&id.slot) {
            c.damage(format!("{id} is to an endpoint that is not there"));
        }
        if let Some(due) = d.due
            && views.due.get(&tables::timed_key(due, id))?.is_none()
        {
            c.damage(format!("{id} is open but missing from the due index"));
        }
        if d.status.is_bad() && views.bad.get(key)?.is_none() {
            c.damage(format!(
                "{id} ended badly but is missing from the list of those"
            ));
        }
        if d.status.is_open() != d.due.is_some() {
            let due = if d.due.is_some() { "due" } else { "never due" };
            c.damage(format!("{id} is {} but {due}", d.status.as_str()));
        }
        Ok(())
    })
}

/// The pack last looked into: deliveries lie in the order of their events, so the next one is mostly in it too.
#[derive(Default)]
struct Around {
    upto: EventId,
    /// `None` of a damaged one: it is named already, and its events are taken to be there.
    pack: Option<Arc<Pack>>,
    from: EventId,
}

impl Around {
    fn has(&mut self, views: &Views, id: EventId) -> Result<bool, StoreError> {
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

/// What else says of deliveries that they are open, or ended badly.
fn indexes(c: &mut Checking, views: &Views) -> Result<(), StoreError> {
    let delivery = |id| {
        let key = tables::delivery_key(id);
        let row = views.deliveries.get(&key)?;
        Ok::<_, StoreError>(row.map(|row| rows::read_delivery(&key, row.value())))
    };
    c.rows("due", &views.due, |c, key, value| {
        let waiting = rows::read_due(key, value)?;
        let id = waiting.id;
        match delivery(id)? {
            Some(Ok(d)) if rows::waiting(&d) == Some(waiting) => {}
            // Named where deliveries are looked through.
            Some(Err(_)) => {}
            _ => c.damage(format!("the due index has {id}, which does not wait so")),
        }
        Ok(())
    })?;
    c.rows("bad", &views.bad, |c, key, value| {
        record::read::<()>("bad", key, value)?;
        let id = tables::delivery_of(key);
        match delivery(id)? {
            Some(Ok(d)) if d.status.is_bad() => {}
            Some(Err(_)) => {}
            _ => c.damage(format!(
                "the list of what ended badly has {id}, which did not"
            )),
        }
        Ok(())
    })
}

fn lazily_written(c: &mut Checking, views: &Views) -> Result<(), StoreError> {
    // States first: the journal is newer.
    c.plain::<4, EndpointState>("states", &views.states, |c, key, state| {
        c.last_sequence
            .insert(tables::slot_of(key), state.last_sequence);
    })?;
    c.plain::<8, JournalRow>("journal", &views.journal, |c, _, row| {
        let given = row.states.iter().map(|(slot, s)| (*slot, s.last_sequence));
        c.last_sequence.extend(given);
    })?;
    c.plain::<8, Generation>("generations", &views.generations, |_, _, _| {})?;
    c.plain::<12, Run>("history", &views.history, |_, _, _| {})?;
    c.plain::<24, Vec<(Fingerprint, EventId)>>("keys", &views.keys, |c, key, block| {
        let sorted = block.is_sorted_by_key(|(fingerprint, _)| *fingerprint);
        let first = block.first().map(|(f, _)| f.0.to_be_bytes());
        if !sorted || first.as_ref().map(<[u8; 16]>::as_slice) != key.get(8..) {
            c.damage("a block of idempotency keys is out of order".to_owned());
        }
    })?;
    c.plain::<20, Revision>("revisions", &views.revisions, |_, _, _| {})?;
    c.plain::<9, Counters>("counters", &views.counters, |_, _, _| {})?;
    c.plain::<13, Window>("windows", &views.windows, |_, _, _| {})?;
    c.plain::<8, Job>("jobs", &views.jobs, |_, _, _| {})
}

/// Until the sweep has taken some away, an endpoint's numbers are all there.
fn sequences(c: &mut Checking) {
    let swept = c.meta.is_none_or(|m| m.deliveries_swept_before.0 > 0);
    for (slot, (count, greatest)) in std::mem::take(&mut c.present) {
        let last = c.last_sequence.get(&slot).copied().unwrap_or(0);
        if count > last || greatest > last || (!swept && count != last) {
            let number = slot.0;
            c.damage(format!(
                "endpoint number {number} has {count} deliveries up to sequence {greatest}, but {last} were numbered"
            ));
        }
    }
}
