//! Verifying a snapshot of the file: every row's bytes, and that what belongs together is there. Damage is named, never skipped.

use crate::error::StoreError;
use crate::ids::{EventId, Slot};
use crate::journal::{Fingerprint, Generation, JournalRow, Run};
use crate::pack::Pack;
use crate::query::CheckReport;
use crate::record;
use crate::rows::{self, Job, Meta};
use crate::stats::{Counters, Window};
use crate::tables::{self, Views};
use redb::ReadableTable;
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};

/// How much damage is named; more is counted only.
const NAMED: usize = 1_000;

struct Checking {
    report: CheckReport,
    unnamed: u64,
}

impl Checking {
    fn damage(&mut self, what: String) {
        if self.report.damage.len() < NAMED {
            self.report.damage.push(what);
        } else {
            self.unnamed += 1;
        }
    }

    fn keep<T>(&mut self, read: Result<T, StoreError>) -> Option<T> {
        self.report.rows += 1;
        read.map_err(|e| self.damage(e.to_string())).ok()
    }

    /// Reads every row of a table that can be derived again.
    fn plain<const N: usize, T: DeserializeOwned>(
        &mut self,
        name: &str,
        table: &tables::Reading<N>,
        mut each: impl FnMut(&mut Self, &[u8; N], T),
    ) -> Result<(), StoreError> {
        for row in table.iter()? {
            let (key, value) = row?;
            if let Some(read) = self.keep(record::read_plain(name, value.value())) {
                each(self, key.value(), read);
            }
        }
        Ok(())
    }
}

pub(crate) fn check(views: &Views) -> Result<CheckReport, StoreError> {
    let mut c = Checking {
        report: CheckReport::default(),
        unnamed: 0,
    };
    if let Some(row) = views.meta.get(&[0])? {
        c.keep(record::read_checked::<Meta>("meta", &[0], row.value()));
    } else {
        c.damage("the row of meta is missing".to_owned());
    }
    let mut slots = HashSet::new();
    for row in views.endpoints.iter()? {
        let (key, value) = row?;
        if let Some(endpoint) = c.keep(rows::read_endpoint(key.value(), value.value())) {
            slots.insert(endpoint.slot);
        }
    }
    packs(&mut c, views)?;
    deliveries(&mut c, views, &slots)?;
    for row in views.due.iter()? {
        let (key, value) = row?;
        let Some(waiting) = c.keep(rows::read_due(key.value(), value.value())) else {
            continue;
        };
        let key = tables::delivery_key(waiting.id);
        let open = match views.deliveries.get(&key)? {
            Some(row) => {
                rows::read_delivery(&key, row.value()).is_ok_and(|d| d.due == Some(waiting.due))
            }
            None => false,
        };
        if !open {
            c.damage(format!(
                "the due index has {}, which is not due then",
                waiting.id
            ));
        }
    }
    lazily_written(&mut c, views)?;
    if c.unnamed > 0 {
        let more = c.unnamed;
        c.report.damage.push(format!("and {more} more"));
    }
    Ok(c.report)
}

fn packs(c: &mut Checking, views: &Views) -> Result<(), StoreError> {
    let mut last = EventId(0);
    for row in views.packs.iter()? {
        let (key, value) = row?;
        let Some(pack) = c.keep(Pack::decode(key.value(), value.value())) else {
            continue;
        };
        for event in &pack.events {
            c.report.events += 1;
            if event.id <= last {
                c.damage(format!("{} lies after {last}, out of order", event.id));
            }
            last = event.id;
        }
    }
    Ok(())
}

fn deliveries(c: &mut Checking, views: &Views, slots: &HashSet<Slot>) -> Result<(), StoreError> {
    let mut present: HashMap<Slot, (u64, u64)> = HashMap::new();
    let mut event_there = (EventId(0), false);
    for row in views.deliveries.iter()? {
        let (key, value) = row?;
        let Some(d) = c.keep(rows::read_delivery(key.value(), value.value())) else {
            continue;
        };
        c.report.deliveries += 1;
        if d.id.event != event_there.0 {
            event_there = (d.id.event, has_event(views, d.id.event)?);
        }
        if !event_there.1 {
            c.damage(format!(
                "{} is of {}, which is in no pack",
                d.id, d.id.event
            ));
        }
        if !slots.contains(&d.id.slot) {
            c.damage(format!("{} is to an endpoint that is not there", d.id));
        }
        if let Some(due) = d.due
            && views.due.get(&tables::timed_key(due, d.id))?.is_none()
        {
            c.damage(format!("{} is open but missing from the due index", d.id));
        }
        if d.status.is_open() != d.due.is_some() {
            c.damage(format!(
                "{} is {} but {}",
                d.id,
                d.status.as_str(),
                if d.due.is_some() { "due" } else { "never due" }
            ));
        }
        let (count, greatest) = present.entry(d.id.slot).or_default();
        *count += 1;
        *greatest = d.sequence.max(*greatest);
    }
    sequences(c, views, &present)
}

/// Until the sweep has taken some away, an endpoint's numbers are all there.
fn sequences(
    c: &mut Checking,
    views: &Views,
    present: &HashMap<Slot, (u64, u64)>,
) -> Result<(), StoreError> {
    let swept = match views.meta.get(&[0])? {
        Some(row) => record::read_checked::<Meta>("meta", &[0], row.value())
            .is_ok_and(|m| m.swept_before.0 > 0),
        None => false,
    };
    for (slot, (count, greatest)) in present {
        if count > greatest || (!swept && count != greatest) {
            c.damage(format!(
                "endpoint number {} has {count} deliveries up to sequence {greatest}",
                slot.0
            ));
        }
    }
    Ok(())
}

/// Whether a pack holds the event; a damaged pack is named already, and its events are taken to be there.
fn has_event(views: &Views, id: EventId) -> Result<bool, StoreError> {
    let Some(row) = views
        .packs
        .range::<&[u8; 16]>(..=&tables::event_key(id))?
        .next_back()
    else {
        return Ok(false);
    };
    let (key, value) = row?;
    Ok(Pack::decode(key.value(), value.value()).map_or(true, |pack| pack.find(id).is_some()))
}

fn lazily_written(c: &mut Checking, views: &Views) -> Result<(), StoreError> {
    c.plain::<8, JournalRow>("journal", &views.journal, |_, _, _| {})?;
    c.plain::<8, Generation>("generations", &views.generations, |_, _, _| {})?;
    c.plain::<12, Run>("history", &views.history, |_, _, _| {})?;
    c.plain::<24, Vec<(Fingerprint, EventId)>>("keys", &views.keys, |c, key, block| {
        let sorted = block.is_sorted_by_key(|(fingerprint, _)| *fingerprint);
        let first = block.first().map(|(f, _)| f.0.to_be_bytes());
        if !sorted || first.as_ref().map(<[u8; 16]>::as_slice) != key.get(8..) {
            c.damage("a block of idempotency keys is out of order".to_owned());
        }
    })?;
    c.plain::<4, crate::endpoint::EndpointState>("states", &views.states, |_, _, _| {})?;
    c.plain::<20, crate::endpoint::Revision>("revisions", &views.revisions, |_, _, _| {})?;
    c.plain::<9, Counters>("counters", &views.counters, |_, _, _| {})?;
    c.plain::<13, Window>("windows", &views.windows, |_, _, _| {})?;
    c.plain::<8, Job>("jobs", &views.jobs, |_, _, _| {})
}
