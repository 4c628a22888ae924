//! `stormhook event …`: sends events and shows where they went.

mod purge;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Session;
use crate::batch;
use crate::client::{Answer, CALL_TIMEOUT};
use crate::failure::Failure;
use crate::input::{self, Moment};
use crate::local;
use crate::pages::{self, Paging};
use crate::table::{Cell, Table, pairs};
use crate::terminal::Tone;

/// How much of a file is read to tell one event from one event per line.
const LOOK_BYTES: usize = 64 * 1024;
/// The maximum size of one event in a file: far above `limits.event_bytes`, so that the daemon is the one that answers
/// 413.
const EVENT_FILE_BYTES: u64 = 16 * 1024 * 1024;

pub(crate) const EXAMPLES: &str = "\
Example, from an event to its deliveries:
  stormhook event send \\
    '{\"organizationId\":\"org_42\",\"type\":\"order.created\",\"data\":{\"orderId\":1001}}'
  stormhook event explain evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A
  stormhook delivery list --event evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A";

#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Send one event, or many as NDJSON
    #[command(after_help = "\
Examples:
  stormhook event send \\
    '{\"organizationId\":\"org_42\",\"type\":\"order.created\",\"data\":{\"orderId\":1001}}'
  stormhook event send --file event.json
  stormhook event send --file events.ndjson
  producer | stormhook event send -

The daemon answers only after the event and its deliveries are on disk. With
NDJSON, status 1 means that at least one line was rejected. Sending continues in
a new stream after a pause or a restart of the daemon; a line without an
idempotencyKey gets one, so that none is stored twice. If sending fails, the
first unanswered line is named.")]
    Send(SendArgs),
    /// Show an event with its data
    #[command(after_help = "Example:\n  stormhook event show evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    Show(OneArgs),
    /// List events, newest first
    #[command(after_help = "\
Example:
  stormhook event list --organization org_42 --type order.created --since 2h")]
    List(ListArgs),
    /// Explain for each endpoint why it was or wasn't sent this event
    #[command(after_help = "Example:\n  stormhook event explain evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    Explain(OneArgs),
    /// Send an event again to one endpoint
    #[command(after_help = "\
Example:
  stormhook event replay evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A \\
    --endpoint ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    Replay(ReplayArgs),
    /// Remove what events hold: their data, and what receivers answered
    #[command(after_help = purge::EXAMPLES)]
    Purge(purge::PurgeArgs),
}

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct SendArgs {
    /// One event as JSON, or - for NDJSON on stdin
    #[arg(
        value_name = "JSON",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    json_text: Option<String>,
    /// A file with one event, or with one event per line
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// With NDJSON: how long to retry without progress while the daemon is unreachable or full
    #[arg(long, value_name = "DURATION", value_parser = input::duration, default_value = "60s")]
    retry_for: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// The event
    #[arg(value_name = "EVENT", value_parser = input::id)]
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this organization
    #[arg(long, value_name = "ORGANIZATION")]
    organization: Option<String>,
    /// Only this type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only with this idempotency key
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Accepted at or after this time: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = input::moment)]
    since: Option<Moment>,
    /// Accepted before this time
    #[arg(long, value_name = "TIME", value_parser = input::moment)]
    until: Option<Moment>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The endpoint
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: String,
}

pub(crate) async fn run(command: EventCommand, session: Session) -> Result<(), Failure> {
    match command {
        EventCommand::Send(args) => send(args, &session).await,
        EventCommand::Show(args) => show(&args, &session).await,
        EventCommand::List(args) => list(&args, &session).await,
        EventCommand::Explain(args) => explain(&args, &session).await,
        EventCommand::Replay(args) => {
            let body = json!({"endpointId": args.endpoint});
            let answer = session
                .client
                .send(
                    Method::POST,
                    &format!("/v1/events/{}/replay", args.one.id),
                    &body,
                )
                .await
                .map_err(|failure| failure.about(&args.endpoint))?;
            crate::delivery::show(&answer, &session)
        }
        EventCommand::Purge(args) => purge::run(&args, &session).await,
    }
}

async fn send(args: SendArgs, session: &Session) -> Result<(), Failure> {
    match (args.json_text, args.file) {
        (Some(text), _) if text == "-" => {
            batch::send(Box::new(io::stdin()), None, args.retry_for, session).await
        }
        (Some(text), _) => send_one(Bytes::from(text), session).await,
        (None, Some(file)) if file == Path::new("-") => {
            batch::send(Box::new(io::stdin()), None, args.retry_for, session).await
        }
        (None, Some(file)) => send_file(&file, args.retry_for, session).await,
        (None, None) => Err(Failure::Usage(
            "pass an event as JSON, --file FILE, or - for NDJSON on stdin".to_owned(),
        )),
    }
}

/// Reads a file once from start to end: it may be a pipe.
async fn send_file(path: &Path, retry_for: Duration, session: &Session) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::local(&format!("read {}", path.display()), &error);
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let size = metadata.is_file().then_some(metadata.len());
    let (head, whole) = look(&mut file, size.is_none()).map_err(failed)?;
    let named_lines = path
        .extension()
        .is_some_and(|extension| extension == "ndjson" || extension == "jsonl");
    let has_lines = named_lines || holds_lines(&head, whole);
    let all = io::Cursor::new(head).chain(file);
    if has_lines {
        return batch::send(Box::new(all), size, retry_for, session).await;
    }
    let mut event = Vec::new();
    let read = all.take(EVENT_FILE_BYTES + 1).read_to_end(&mut event);
    if u64::try_from(read.map_err(failed)?).is_ok_and(|read| read > EVENT_FILE_BYTES) {
        return Err(Failure::Usage(format!(
            "{} is over {EVENT_FILE_BYTES} bytes, the largest possible event",
            path.display()
        )));
    }
    send_one(Bytes::from(event), session).await
}

/// Returns the start of a file, and whether that is all of it. From a pipe it waits only for the first line: the writer
/// may be slow.
fn look(file: &mut impl Read, is_pipe: bool) -> io::Result<(Vec<u8>, bool)> {
    let mut head = vec![0; LOOK_BYTES];
    let mut read = 0;
    while let Some(room) = head.get_mut(read..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => {
                head.truncate(read);
                return Ok((head, true));
            }
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if is_pipe && holds_lines(head.get(..read).unwrap_or_default(), false) {
            break;
        }
    }
    head.truncate(read);
    Ok((head, false))
}

/// Whether a file that starts like this has one event per line: its first line is a complete JSON value, and more
/// follows.
fn holds_lines(head: &[u8], whole: bool) -> bool {
    let start = head
        .iter()
        .position(|byte| !byte.is_ascii_whitespace())
        .unwrap_or(head.len());
    let head = head.get(start..).unwrap_or_default();
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return false;
    };
    let (first, rest) = head.split_at(end);
    let more = !whole || rest.iter().any(|byte| !byte.is_ascii_whitespace());
    more && serde_json::from_slice::<IgnoredAny>(first).is_ok()
}

async fn send_one(event: Bytes, session: &Session) -> Result<(), Failure> {
    let answer = session
        .client
        .call(Method::POST, "/v1/events", Some(event), CALL_TIMEOUT)
        .await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    let replayed = answer.headers.contains_key("idempotency-replayed");
    let value = answer.value()?;
    let word = if replayed {
        Cell::toned(Tone::Warn, "replayed: it was accepted earlier")
    } else {
        Cell::toned(Tone::Good, "accepted")
    };
    let rows = [
        ("event", Cell::of(&value, "id").tone(Tone::Bold)),
        ("status", word),
        ("type", Cell::of(&value, "type")),
        ("timestamp", Cell::of(&value, "timestamp")),
        ("deliveries", Cell::of(&value, "deliveries")),
    ];
    session.screen.line(&pairs(&rows, session.screen.colour))
}

async fn show(args: &OneArgs, session: &Session) -> Result<(), Failure> {
    let answer = session
        .client
        .get(&format!("/v1/events/{}", args.id))
        .await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    let (event, data) = shown(&answer)?;
    let rows = [
        ("event", Cell::of(&event, "id").tone(Tone::Bold)),
        ("organization", Cell::of(&event, "organizationId")),
        ("type", Cell::of(&event, "type")),
        ("timestamp", Cell::of(&event, "timestamp")),
        ("accepted", Cell::of(&event, "acceptedAt")),
        ("idempotency key", Cell::of(&event, "idempotencyKey")),
        ("deliveries", Cell::of(&event, "deliveries")),
        ("data", Cell::text(&data)),
    ];
    session.screen.line(&pairs(&rows, session.screen.colour))
}

/// Splits an event into the event without its data, and the data verbatim: floats and big integers must not change on
/// the way to the screen, and not all valid JSON (`"\ud800"`, `1e400`) fits a `Value`.
fn shown(answer: &Answer) -> Result<(Value, String), Failure> {
    let mut members: BTreeMap<String, Box<RawValue>> = answer.read()?;
    let data = members.remove("data");
    let members = members.into_iter().map(|(name, raw)| {
        let value = serde_json::from_str(raw.get()).unwrap_or(Value::Null);
        (name, value)
    });
    let data = data.map_or_else(|| "-".to_owned(), |raw| raw.get().to_owned());
    Ok((Value::Object(members.collect()), data))
}

async fn list(args: &ListArgs, session: &Session) -> Result<(), Failure> {
    let (since, until) = input::span(
        args.since.as_ref(),
        args.until.as_ref(),
        local::wall_clock(),
    )?;
    let filters = [
        ("organizationId", args.organization.as_deref()),
        ("type", args.event_type.as_deref()),
        ("idempotencyKey", args.idempotency_key.as_deref()),
        ("since", since.as_deref()),
        ("until", until.as_deref()),
    ];
    let heads = [
        "EVENT",
        "TYPE",
        "ORGANIZATION",
        "ACCEPTED",
        "DELIVERIES",
        "IDEMPOTENCY KEY",
    ];
    pages::list(
        session,
        "/v1/events",
        &filters,
        &args.paging,
        &heads,
        |event| {
            vec![
                Cell::of(event, "id"),
                Cell::of(event, "type"),
                Cell::of(event, "organizationId"),
                Cell::of(event, "acceptedAt"),
                Cell::of(event, "deliveries"),
                Cell::of(event, "idempotencyKey"),
            ]
        },
    )
    .await
}

async fn explain(args: &OneArgs, session: &Session) -> Result<(), Failure> {
    let answer = session
        .client
        .get(&format!("/v1/events/{}/explain", args.id))
        .await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    session
        .screen
        .line(&explanation(&answer.value()?, session.screen.colour))
}

/// Returns the explanation as a table; the reason is a member of each row, in addition to others.
fn explanation(value: &Value, colour: bool) -> String {
    const REASONS: [(&str, Tone); 5] = [
        ("subscribed", Tone::Good),
        ("type_not_subscribed", Tone::Warn),
        ("inactive_at_acceptance", Tone::Warn),
        ("created_later", Tone::Dim),
        ("deleted", Tone::Dim),
    ];
    let rows = value
        .get("data")
        .or_else(|| value.get("endpoints"))
        .unwrap_or(value)
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if rows.is_empty() {
        return "The organization has no endpoint.".to_owned();
    }
    let cells: Vec<Vec<Cell>> = rows
        .iter()
        .map(|row| {
            let reason = row
                .as_object()
                .into_iter()
                .flatten()
                .find_map(|(_, value)| {
                    REASONS
                        .iter()
                        .find(|(name, _)| value.as_str() == Some(name))
                        .map(|(name, tone)| Cell::toned(*tone, name))
                });
            vec![
                Cell::of(row, "endpointId"),
                reason.unwrap_or_else(|| Cell::text("-")),
            ]
        })
        .collect();
    Table::new(&["ENDPOINT", "WHY"], colour).part(&cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_lines_is_told_from_a_file_with_one_event() {
        let cases: [(&str, bool); 7] = [
            ("{\"a\":1}\n{\"a\":2}\n", true),
            ("\n{\"a\":1}\nnot json\n", true),
            ("{\"a\":1}\n\n", false),
            ("{\"a\":1}", false),
            ("{\n \"a\": 1\n}\n", false),
            ("", false),
            ("not json\n{\"a\":1}\n", false),
        ];
        for (text, lines) in cases {
            assert_eq!(holds_lines(text.as_bytes(), true), lines, "{text:?}");
        }
    }

    #[test]
    fn data_is_shown_byte_for_byte() {
        let digits = "9".repeat(5_000);
        let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
        for data in [
            r#"{"n":123456789012345678901234567890.10, "x":"\u00e9"}"#,
            "null",
            r#""\ud800""#,
            r#"{"\ud800":1}"#,
            "1e400",
            "-1e400",
            r#"{"a":1,"a":2}"#,
            &digits,
            &deep,
        ] {
            let answer = Answer {
                headers: http::HeaderMap::new(),
                body: format!(r#"{{"id":"evt_1","deliveries":2,"data":{data}}}"#).into(),
            };
            let (event, shown) = shown(&answer).unwrap();
            assert_eq!(shown, data);
            assert_eq!(event, json!({"id": "evt_1", "deliveries": 2}));
        }
    }

    /// A pipe whose writer pauses after what it has written so far.
    struct Paused(&'static [&'static str]);

    impl Read for Paused {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (first, rest) = self.0.split_first().expect("more is read than was written");
            self.0 = rest;
            buffer[..first.len()].copy_from_slice(first.as_bytes());
            Ok(first.len())
        }
    }

    #[test]
    fn of_a_pipe_no_more_is_waited_for_than_the_first_line() {
        let (head, whole) = look(&mut Paused(&["{\"a\"", ":1}\n"]), true).unwrap();
        assert_eq!((head.as_slice(), whole), (b"{\"a\":1}\n".as_slice(), false));
        let (head, whole) = look(&mut Paused(&["{\n", "\"a\":1}", ""]), true).unwrap();
        assert_eq!((head.as_slice(), whole), (b"{\n\"a\":1}".as_slice(), true));
    }

    #[test]
    fn an_explanation_has_one_line_for_each_endpoint() {
        let text = explanation(
            &json!({"data":[{"endpointId":"ep_1","reason":"subscribed"},{"endpointId":"ep_2","reason":"type_not_subscribed"}]}),
            false,
        );
        assert_eq!(
            text,
            "ENDPOINT  WHY\nep_1      subscribed\nep_2      type_not_subscribed"
        );
        assert_eq!(
            explanation(&json!({"data":[]}), false),
            "The organization has no endpoint."
        );
    }
}
