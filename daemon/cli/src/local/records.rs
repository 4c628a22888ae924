//! A stopped store, a copy of one, or a database, as NDJSON: the shapes of the API's responses, each with an `object` member in
//! front. Secrets and the values of endpoints' headers are left out.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use stormhook_store::backend::{Bulks, as_read};
use stormhook_store::{
    ApiKey, AuditEntry, AuditFilter, Endpoint, EndpointState, Event, EventFilter, Item, Purges,
    Record, Slot,
};

use super::filter::Filter;
use super::{one_line, unread};
use crate::failure::Failure;
use stormhook_daemon::http::{
    ApiKeyView, AuditEntryView, DamagedView, DeliveryView, EndpointView, EventView,
};
use stormhook_engine::times::maybe_at;

/// How many entries of the audit log are read at a time.
const AUDIT_PAGE: usize = 1_000;

/// How many lines there are of each kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Written {
    pub(crate) endpoints: u64,
    pub(crate) api_keys: u64,
    pub(crate) audit_entries: u64,
    pub(crate) events: u64,
    pub(crate) deliveries: u64,
    pub(crate) attempts: u64,
    /// Places that can't be read. Each has a line.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) damaged: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

#[derive(Serialize)]
struct Line<'a, T> {
    object: &'a str,
    #[serde(flatten)]
    shape: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportedEndpoint {
    #[serde(flatten)]
    endpoint: EndpointView,
    /// When it was deleted; null if it was not.
    #[serde(serialize_with = "maybe_at")]
    deleted_at: Option<stormhook_store::UnixMs>,
}

/// Writes the records of this store: endpoints, API keys, entries of the audit log, then each event followed by its
/// deliveries, oldest first, and finally the counts. An export without that last line is incomplete. Damage has a line
/// that names it, in the place of the damaged record.
pub(super) fn write_records(
    store: &Path,
    filter: &Filter,
    out: &mut dyn Write,
) -> Result<Written, Failure> {
    let reader = stormhook_store::read_file(store).map_err(|error| unread(&error))?;
    let mut writing = Writing::to(out);
    for endpoint in reader.all_endpoints() {
        if filter.has_organization(&endpoint.organization) {
            let state = reader.state(endpoint.slot);
            writing.endpoint(&endpoint, state).map_err(gone)?;
        }
    }
    for key in reader.with_api_keys(|keys| keys.iter().cloned().collect::<Vec<_>>()) {
        if filter.has(key.organization.as_deref()) {
            writing.api_key(&key).map_err(gone)?;
        }
    }
    write_audit(&reader, filter, &mut writing)?;
    let purges = reader.purges();
    let events = filter.of_events();
    let mut failed = None;
    let walked = reader.walk(&events, |record| match writing.purged(&purges, record) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    });
    walked.map_err(|error| unread(&error))?;
    if let Some(error) = failed {
        return Err(gone(error));
    }
    writing.end().map_err(gone)
}

/// Writes entries of the audit log, newest first.
fn write_audit(
    reader: &stormhook_store::Reader,
    filter: &Filter,
    writing: &mut Writing<'_>,
) -> Result<(), Failure> {
    let asked = filter.of_audit();
    let mut after = None;
    loop {
        let page = reader.audit(&asked, after, AUDIT_PAGE);
        let page = page.map_err(|error| unread(&error))?;
        for entry in page.items {
            writing.audit(entry).map_err(gone)?;
        }
        for damage in &page.damaged {
            writing.record(Record::Damaged(damage)).map_err(gone)?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Writes the records of the items of a store, which come in their order.
pub(super) struct FromItems<'o> {
    organizations: Filter,
    filter: EventFilter,
    audit: AuditFilter,
    writing: Writing<'o>,
    /// By number; written before the first event.
    endpoints: BTreeMap<Slot, Arc<Endpoint>>,
    states: HashMap<Slot, EndpointState>,
    bulks: Bulks,
    purges: Purges,
    has_endpoints: bool,
    /// The last event, if the filter matches it.
    event: Option<Arc<Event>>,
    failed: Option<io::Error>,
}

impl<'o> FromItems<'o> {
    pub(super) fn new(filter: &Filter, out: &'o mut dyn Write) -> Self {
        Self {
            organizations: filter.clone(),
            filter: filter.of_events(),
            audit: filter.of_audit(),
            writing: Writing::to(out),
            endpoints: BTreeMap::new(),
            states: HashMap::new(),
            bulks: Bulks::new(),
            purges: Purges::default(),
            has_endpoints: false,
            event: None,
            failed: None,
        }
    }

    /// Takes the next item.
    pub(super) fn item(&mut self, item: Item) -> ControlFlow<()> {
        match self.write(item) {
            Ok(flow) => flow,
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn write(&mut self, item: Item) -> io::Result<ControlFlow<()>> {
        match item {
            Item::Endpoint(endpoint) => {
                self.endpoints.insert(endpoint.slot, endpoint);
            }
            Item::State(slot, state) => {
                self.states.insert(slot, state);
            }
            Item::Bulk(slot, bulk) => self.bulks.entry(slot).or_default().push(bulk),
            Item::Purge(purge) => self.purges.insert(*purge),
            Item::ApiKey(key) => {
                self.write_endpoints()?;
                if self.organizations.has(key.organization.as_deref()) {
                    self.writing.api_key(&key)?;
                }
            }
            Item::Audit(entry) => {
                self.write_endpoints()?;
                let (from, until) = self.audit.ids();
                if (from..until).contains(&entry.id) && self.audit.matches(&entry.what) {
                    self.writing.audit(*entry)?;
                }
            }
            Item::Event(event) => {
                self.write_endpoints()?;
                let accepted = event.id.accepted_at();
                let is_asked = self.filter.since.is_none_or(|since| accepted >= since)
                    && self.filter.until.is_none_or(|until| accepted < until)
                    && self.filter.matches(&event);
                if is_asked {
                    self.writing.purged(&self.purges, Record::Event(&event))?;
                }
                self.event = is_asked.then_some(event);
            }
            Item::Delivery(delivery) => {
                if let Some(event) = &self.event {
                    let endpoint = self.endpoints.get(&delivery.id.slot);
                    let endpoint = endpoint.ok_or_else(|| {
                        let what = format!("the endpoint of {} is missing", delivery.id);
                        io::Error::other(what)
                    })?;
                    let record = Record::Delivery {
                        delivery: &as_read(*delivery, &self.bulks),
                        endpoint: endpoint.id,
                        event,
                    };
                    self.writing.purged(&self.purges, record)?;
                }
            }
            // Nothing follows that has a record.
            Item::Key(..) => return Ok(ControlFlow::Break(())),
            Item::Position(_) | Item::Revision(..) | Item::Counters(..) | Item::Window(..) => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn write_endpoints(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.has_endpoints, true) {
            return Ok(());
        }
        for (slot, endpoint) in &self.endpoints {
            if self.organizations.has_organization(&endpoint.organization) {
                let state = self.states.get(slot).copied().unwrap_or_default();
                self.writing.endpoint(endpoint, state)?;
            }
        }
        Ok(())
    }

    /// Writes the last line.
    pub(super) fn end(mut self) -> Result<Written, Failure> {
        if let Some(error) = self.failed {
            return Err(gone(error));
        }
        self.write_endpoints().map_err(gone)?;
        self.writing.end().map_err(gone)
    }
}

fn gone(error: io::Error) -> Failure {
    Failure::output(&error)
}

struct Writing<'o> {
    out: &'o mut dyn Write,
    written: Written,
    text: Vec<u8>,
    line: Vec<u8>,
}

impl<'o> Writing<'o> {
    fn to(out: &'o mut dyn Write) -> Self {
        Self {
            out,
            written: Written::default(),
            text: Vec::new(),
            line: Vec::new(),
        }
    }

    fn end(&mut self) -> io::Result<Written> {
        let written = self.written;
        self.line("end", written)?;
        self.out.flush()?;
        Ok(written)
    }

    fn line(&mut self, object: &str, shape: impl Serialize) -> io::Result<()> {
        self.text.clear();
        serde_json::to_writer(&mut self.text, &Line { object, shape })?;
        self.line.clear();
        one_line::write(&mut self.line, &self.text);
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    fn endpoint(&mut self, endpoint: &Endpoint, state: EndpointState) -> io::Result<()> {
        self.written.endpoints += 1;
        let shape = ExportedEndpoint {
            endpoint: EndpointView::stored(endpoint, state),
            deleted_at: endpoint.deleted_at,
        };
        self.line("endpoint", shape)
    }

    fn api_key(&mut self, key: &ApiKey) -> io::Result<()> {
        self.written.api_keys += 1;
        self.line("api_key", ApiKeyView::from(key))
    }

    fn audit(&mut self, entry: AuditEntry) -> io::Result<()> {
        self.written.audit_entries += 1;
        self.line("audit", AuditEntryView::from(entry))
    }

    /// Writes a record without what purges in progress remove of it.
    fn purged(&mut self, purges: &Purges, record: Record<'_>) -> io::Result<()> {
        let (Record::Event(event) | Record::Delivery { event, .. }) = record else {
            return self.record(record);
        };
        let Some(effect) = purges.effect_on(&event.organization, event.id) else {
            return self.record(record);
        };
        let Some(event) = effect.shows(event) else {
            return Ok(());
        };
        match record {
            Record::Delivery {
                delivery, endpoint, ..
            } => {
                let mut delivery = delivery.clone();
                delivery.forget_excerpts();
                self.record(Record::Delivery {
                    delivery: &delivery,
                    endpoint,
                    event: &event,
                })
            }
            _ => self.record(Record::Event(&event)),
        }
    }

    fn record(&mut self, record: Record<'_>) -> io::Result<()> {
        match record {
            Record::Event(event) => {
                self.written.events += 1;
                self.line("event", EventView::whole(event))
            }
            Record::Delivery {
                delivery,
                endpoint,
                event,
            } => {
                self.written.deliveries += 1;
                self.written.attempts += u64::try_from(delivery.attempts.len()).unwrap_or(0);
                let stored = DeliveryView::stored(delivery, endpoint, &event.event_type);
                self.line("delivery", stored.with_attempts(delivery))
            }
            Record::Damaged(damage) => {
                self.written.damaged += 1;
                self.line("damage", DamagedView::from(damage.clone()))
            }
        }
    }
}
