//! A stopped store, or a copy of one, as NDJSON: the shapes of the API's responses, each with an `object` member in
//! front. Secrets and the values of endpoints' headers are left out.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use stormhook_store::{Endpoint, EventFilter, Record};

use super::{one_line, unread};
use crate::failure::Failure;
use stormhook_daemon::http::EndpointView;
use stormhook_daemon::http::{DamagedView, DeliveryView, EventView};
use stormhook_engine::times::{maybe_at, parse_rfc3339};

/// Which records. `None` matches all.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filter {
    /// Records of this organization.
    pub(crate) organization: Option<String>,
    /// Events of this type.
    pub(crate) event_type: Option<String>,
    /// Accepted at or after this time, in RFC 3339.
    pub(crate) since: Option<String>,
    /// Accepted before this time, in RFC 3339.
    pub(crate) until: Option<String>,
}

/// How many lines there are of each kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Written {
    pub(crate) endpoints: u64,
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

/// Writes the records of this store: endpoints, then each event followed by its deliveries, oldest first, and finally
/// the counts. An export without that last line is incomplete. Damage has a line that names it, in the place of the
/// damaged record.
pub(crate) fn write_records(
    store: &Path,
    filter: &Filter,
    out: &mut dyn Write,
) -> Result<Written, Failure> {
    let reader = stormhook_store::read_file(store).map_err(|error| unread(&error))?;
    let mut writing = Writing {
        out,
        written: Written::default(),
        text: Vec::new(),
        line: Vec::new(),
    };
    for endpoint in reader.all_endpoints() {
        let theirs = filter.organization.as_ref();
        if theirs.is_none_or(|organization| *organization == endpoint.organization) {
            let state = reader.state(endpoint.slot);
            let view = EndpointView::stored(&endpoint, state);
            let endpoint: &Endpoint = &endpoint;
            writing.endpoint(view, endpoint.deleted_at).map_err(gone)?;
        }
    }
    let instant = |text: &Option<String>| text.as_deref().and_then(parse_rfc3339);
    let events = EventFilter {
        organization: filter.organization.clone(),
        event_type: filter.event_type.clone(),
        since: instant(&filter.since),
        until: instant(&filter.until),
        ..EventFilter::default()
    };
    let mut failed = None;
    let walked = reader.walk(&events, |record| match writing.record(record) {
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
    let written = writing.written;
    writing.line("end", written).map_err(gone)?;
    out.flush().map_err(gone)?;
    Ok(written)
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

impl Writing<'_> {
    fn line(&mut self, object: &str, shape: impl Serialize) -> io::Result<()> {
        self.text.clear();
        serde_json::to_writer(&mut self.text, &Line { object, shape })?;
        self.line.clear();
        one_line::write(&mut self.line, &self.text);
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    fn endpoint(
        &mut self,
        endpoint: EndpointView,
        deleted_at: Option<stormhook_store::UnixMs>,
    ) -> io::Result<()> {
        self.written.endpoints += 1;
        let shape = ExportedEndpoint {
            endpoint,
            deleted_at,
        };
        self.line("endpoint", shape)
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
