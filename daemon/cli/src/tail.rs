//! `stormhook tail`: prints attempts as they finish, from the API's server-sent events.
//!
//! Parses the event stream format of the HTML Standard (section 9.2.6) as far as it is used here: `event`, `data`,
//! comments. An `attempt` is one flat object, a `missed` the number of skipped attempts; other events are ignored.

use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use serde::Deserialize;

use crate::Session;
use crate::client::{empty, path_with_query};
use crate::delivery;
use crate::failure::Failure;
use crate::lines::LineReader;
use crate::table::{Cell, Table, counted};
use crate::terminal::{Tone, paint};

/// An attempt with its escaped excerpt is far below this.
const LINE_BYTES: usize = 256 * 1024;

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Only this endpoint
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sse {
    /// Its type; empty if it has none.
    event: String,
    /// Its data lines, joined.
    data: String,
}

/// The shown fields of a finished attempt; `status` is the delivery's after it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finished {
    endpoint_id: String,
    event_id: String,
    event_type: String,
    status: String,
    attempt: u64,
    trigger: String,
    started_at: String,
    duration_ms: u64,
    outcome: String,
    response_code: Option<u16>,
    response_excerpt: Option<String>,
    error: Option<String>,
    /// Older daemons don't send it.
    #[serde(default)]
    reconnected: bool,
}

#[derive(Deserialize)]
struct Missed {
    missed: u64,
}

/// Reads one line; an empty line completes an event.
fn take_line(open: &mut Sse, line: &[u8]) -> Option<Sse> {
    if line.is_empty() {
        let done = std::mem::take(open);
        return (!done.data.is_empty()).then_some(done);
    }
    let text = String::from_utf8_lossy(line);
    let (field, value) = text.split_once(':').unwrap_or((text.as_ref(), ""));
    let value = value.strip_prefix(' ').unwrap_or(value);
    match field {
        "event" => value.clone_into(&mut open.event),
        "data" if open.data.len() + value.len() <= LINE_BYTES => {
            if !open.data.is_empty() {
                open.data.push('\n');
            }
            open.data.push_str(value);
        }
        _ => {}
    }
    None
}

pub(crate) async fn run(args: TailArgs, session: Session) -> Result<(), Failure> {
    let path = path_with_query(
        "/v1/attempts/stream",
        &[("endpointId", args.endpoint.as_deref())],
    );
    let mut body = session
        .client
        .open(Method::GET, &path, None, empty())
        .await?
        .into_body();
    if !session.screen.json {
        session
            .screen
            .remark("Following attempts. Press Ctrl-C to stop.");
    }
    let mut lines = LineReader::new(LINE_BYTES);
    let mut open = Sse::default();
    let mut table = table(session.screen.colour);
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame
            .map_err(|error| session.client.lost(&error))?
            .into_data()
        else {
            continue;
        };
        lines.feed(&chunk, |line| match take_line(&mut open, line) {
            Some(event) => show(&event, &mut table, &session),
            None => Ok(()),
        })?;
    }
    Err(Failure::Unreachable(
        "the daemon ended the stream: it is stopping, or has stopped".to_owned(),
    ))
}

fn show(event: &Sse, table: &mut Table, session: &Session) -> Result<(), Failure> {
    let Some(text) = told(event, table, session.screen.colour)? else {
        return Ok(());
    };
    if session.screen.json {
        return session.screen.answer(event.data.as_bytes());
    }
    session.screen.line(&text)
}

/// Widths are fixed from the start if the content's are, so that lines align from the first one on.
fn table(colour: bool) -> Table {
    Table::new(
        &[
            "STARTED                 ",
            "STATUS   ",
            "ATTEMPT",
            "EVENT TYPE        ",
            "EVENT                         ",
            "ENDPOINT                     ",
            "OUTCOME",
        ],
        colour,
    )
}

/// Words one event; `None` for an unknown type.
fn told(event: &Sse, table: &mut Table, colour: bool) -> Result<Option<String>, Failure> {
    match event.event.as_str() {
        "attempt" => {
            let finished: Finished = read(event)?;
            Ok(Some(table.part(&[row(&finished)])))
        }
        "missed" => {
            let Missed { missed } = read(event)?;
            let attempts = counted(missed, "attempt", "attempts");
            let text = format!("{attempts} not shown: the output was read too slowly");
            Ok(Some(paint(colour, Tone::Warn, &text)))
        }
        _ => Ok(None),
    }
}

fn read<'e, T: Deserialize<'e>>(event: &'e Sse) -> Result<T, Failure> {
    serde_json::from_str(&event.data).map_err(|error| {
        Failure::No(format!(
            "can't parse an event of the daemon ({error}): check that it has the same version"
        ))
    })
}

fn row(finished: &Finished) -> Vec<Cell> {
    let attempt = match finished.trigger.as_str() {
        "schedule" => finished.attempt.to_string(),
        trigger => format!("{} {trigger}", finished.attempt),
    };
    let said = finished
        .error
        .as_deref()
        .or(finished.response_excerpt.as_deref());
    let (tone, outcome) = delivery::outcome_in_words(
        &finished.outcome,
        finished.response_code,
        Some(finished.duration_ms),
        finished.reconnected,
        said,
    );
    vec![
        Cell::toned(Tone::Dim, &finished.started_at),
        Cell::toned(delivery::status_tone(&finished.status), &finished.status),
        Cell::text(&attempt),
        Cell::text(&finished.event_type),
        Cell::text(&finished.event_id),
        Cell::text(&finished.endpoint_id),
        Cell::toned(tone, &outcome),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTEMPT: &str = r#"{"deliveryId":"dlv_1","endpointId":"ep_1","eventId":"evt_1","eventType":"order.created","sequence":42,"status":"RETRYING","attempt":2,"round":1,"trigger":"schedule","startedAt":"2026-01-02T03:04:05.678Z","durationMs":41,"outcome":"http_status","responseCode":503,"responseExcerpt":"busy\u001b[2J","error":null}"#;

    fn event(name: &str, data: &str) -> Sse {
        Sse {
            event: name.into(),
            data: data.into(),
        }
    }

    /// Returns the line below the heads, split at two or more spaces.
    fn columns(data: &str) -> Vec<String> {
        let text = told(&event("attempt", data), &mut table(false), false)
            .unwrap()
            .unwrap();
        let line = text.lines().nth(1).unwrap();
        let parts = line.split("  ").map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn an_event_is_whole_at_the_empty_line_and_comments_are_none() {
        let mut open = Sse::default();
        for line in [
            ": keep-alive",
            "event: attempt",
            "id: 7",
            "data: {\"a\":",
            "data:1}",
        ] {
            assert_eq!(take_line(&mut open, line.as_bytes()), None);
        }
        assert_eq!(
            take_line(&mut open, b""),
            Some(event("attempt", "{\"a\":\n1}"))
        );
        assert_eq!(take_line(&mut open, b""), None);
    }

    #[test]
    fn an_attempt_names_its_event_endpoint_and_status() {
        assert_eq!(
            columns(ATTEMPT),
            [
                "2026-01-02T03:04:05.678Z",
                "RETRYING",
                "2",
                "order.created",
                "evt_1",
                "ep_1",
                "http_status 503 in 41 ms: busy\\u{1b}[2J"
            ]
        );
    }

    #[test]
    fn what_started_an_attempt_is_said_where_it_was_not_the_schedule() {
        let manual = ATTEMPT.replace("\"schedule\"", "\"manual\"");
        assert_eq!(columns(&manual).get(2).unwrap(), "2 manual");
    }

    #[test]
    fn a_slow_reader_sees_how_many_it_missed() {
        let missed = |data: &str| {
            told(&event("missed", data), &mut table(false), false)
                .unwrap()
                .unwrap()
        };
        assert!(missed("{\"missed\":12}").starts_with("12 attempts not shown"));
        assert!(missed("{\"missed\":1}").starts_with("1 attempt not shown"));
    }

    #[test]
    fn no_other_shape_is_taken_for_an_attempt() {
        let nested = r#"{"endpointId":"ep_1","attempt":{"attempt":1,"outcome":"success"}}"#;
        for data in [nested, "{}", "busy"] {
            let told = told(&event("attempt", data), &mut table(false), false);
            assert!(told.is_err(), "{data}");
        }
        let other = told(&event("later", "{}"), &mut table(false), false);
        assert!(other.unwrap().is_none());
    }
}
