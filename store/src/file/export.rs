//! Passes everything that a file holds, to be moved to another store. It reads one snapshot, and refuses damage: a move
//! must not leave anything behind unnoticed.

use crate::audit::AuditEntry;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::file::memory::{Memory, Shared, Snapshot};
use crate::file::pack::Pack;
use crate::file::reader::Reader;
use crate::file::record;
use crate::file::rows;
use crate::file::tables;
use crate::file::transfer::{Item, Position};
use crate::fingerprint::Fingerprint;
use crate::ids::EventId;
use crate::sealing::AtRest;
use crate::stats::{Level, Window};
use redb::ReadableTable;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Whether the caller wants more.
type Flow = Result<ControlFlow<()>, StoreError>;

/// Continues with the next statement, or returns.
macro_rules! go_on {
    ($flow:expr) => {
        if $flow.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    };
}

impl Reader {
    /// Passes everything that the store holds, in the order of [`Item`], until `each` stops. The store must be a stopped
    /// one or a copy: what a running one has in memory alone is not in the file.
    ///
    /// # Errors
    /// The file can't be read, something in it is damaged, or the key of its secrets is missing.
    pub fn items(&self, each: impl FnMut(Item) -> ControlFlow<()>) -> Result<(), StoreError> {
        self.shared
            .long_view(|views| {
                let memory = self.shared.memory();
                expect_keys(&self.shared, memory.meta.at_rest)?;
                let mut passing = Passing {
                    views,
                    memory: &memory,
                    each,
                };
                passing.all()
            })
            .map(drop)
    }
}

/// Without their key, secrets would be left behind.
fn expect_keys(shared: &Shared, at_rest: AtRest) -> Result<(), StoreError> {
    let options = shared.options();
    at_rest.expect_keys(&options.keys, &options.path.display().to_string())
}

struct Passing<'p, E> {
    views: &'p Snapshot,
    memory: &'p Memory,
    each: E,
}

impl<E: FnMut(Item) -> ControlFlow<()>> Passing<'_, E> {
    fn all(&mut self) -> Flow {
        go_on!(self.endpoints()?);
        go_on!(self.callers()?);
        go_on!(self.statistics()?);
        go_on!(self.events()?);
        self.keys()
    }

    fn endpoints(&mut self) -> Flow {
        let meta = self.views.meta()?;
        go_on!((self.each)(Item::Position(Position {
            last_event: meta.last_event,
            last_stamp: meta.last_stamp,
            next_slot: meta.next_slot,
            next_bulk: meta.next_bulk,
            swept_before: meta.swept_before,
            deliveries_swept_before: meta.deliveries_swept_before,
            paced: meta.paced,
        })));
        let directory = &self.memory.directory;
        for endpoint in directory.endpoints.values() {
            go_on!((self.each)(Item::Endpoint(endpoint.clone())));
        }
        let states: BTreeMap<_, _> = directory.states.iter().collect();
        for (slot, state) in states {
            go_on!((self.each)(Item::State(*slot, *state)));
        }
        for row in self.views.revisions.iter()? {
            let (key, value) = row?;
            let (slot, from) = tables::revision_of(key.value());
            let revision = record::read("revisions", key.value(), value.value())?;
            go_on!((self.each)(Item::Revision(slot, from, revision)));
        }
        for (slot, bulks) in directory.bulks.iter() {
            for bulk in bulks {
                go_on!((self.each)(Item::Bulk(*slot, *bulk)));
            }
        }
        for purge in directory.purges.iter() {
            go_on!((self.each)(Item::Purge(Box::new(purge.clone()))));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn callers(&mut self) -> Flow {
        for key in self.memory.api_keys.iter() {
            go_on!((self.each)(Item::ApiKey(Box::new((**key).clone()))));
        }
        for row in self.views.audit.iter()? {
            let (key, value) = row?;
            let id = tables::audit_of(key.value());
            let entry: AuditEntry = record::read("audit", key.value(), value.value())?;
            let entry = AuditEntry { id, ..entry };
            go_on!((self.each)(Item::Audit(Box::new(entry))));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn statistics(&mut self) -> Flow {
        // The journal is newer, and there are a few thousand at most.
        let mut counters = BTreeMap::new();
        for row in self.views.counters.iter()? {
            let (key, value) = row?;
            let level = level_of(key.value())?;
            let read = record::read("counters", key.value(), value.value())?;
            counters.insert((level, tables::counters_start(key.value())), read);
        }
        counters.extend(&self.memory.tail.counters);
        for ((level, start), counters) in counters {
            go_on!((self.each)(Item::Counters(level, start, counters)));
        }
        for row in self.views.windows.iter()? {
            let (key, value) = row?;
            let key = key.value();
            let window: Window = record::read("windows", key, value.value())?;
            let (start, slot) = tables::window_of(key);
            let window = Box::new(window);
            go_on!((self.each)(Item::Window(
                level_of(key)?,
                start,
                slot,
                window
            )));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn events(&mut self) -> Flow {
        let views = self.views;
        let mut deliveries = views.deliveries.iter()?;
        let mut next = || -> Result<Option<Delivery>, StoreError> {
            let Some(row) = deliveries.next() else {
                return Ok(None);
            };
            let (key, value) = row?;
            rows::read_delivery(key.value(), value.value()).map(Some)
        };
        let mut delivery = next()?;
        for row in views.packs.iter()? {
            let (key, value) = row?;
            for event in Pack::decode(key.value(), value.value())?.events {
                let id = event.id;
                go_on!((self.each)(Item::Event(event)));
                while let Some(found) = delivery.take_if(|d| d.id.event <= id) {
                    if found.id.event < id {
                        return Err(Item::without_event(&found));
                    }
                    go_on!((self.each)(Item::Delivery(Box::new(found))));
                    delivery = next()?;
                }
            }
        }
        match delivery {
            Some(left) => Err(Item::without_event(&left)),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    /// Passes the keys of the generations, then those of the journal: of the same key, the last one counts.
    fn keys(&mut self) -> Flow {
        for row in self.views.keys.iter()? {
            let (key, value) = row?;
            let block: Vec<(Fingerprint, EventId)> =
                record::read("keys", key.value(), value.value())?;
            for (fingerprint, id) in block {
                go_on!((self.each)(Item::Key(fingerprint, id)));
            }
        }
        let newest: BTreeMap<_, _> = self.memory.tail.keys.iter().collect();
        for (fingerprint, id) in newest {
            go_on!((self.each)(Item::Key(*fingerprint, *id)));
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn level_of(key: &[u8]) -> Result<Level, StoreError> {
    tables::level_of(key)
        .ok_or_else(|| StoreError::damaged("a row of statistics", "its key names no known level"))
}
