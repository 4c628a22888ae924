//! `stormhook tail`: the attempts as they end, from the API's server-sent events.
//!
//! Parses the event stream format of the HTML Standard (section 9.2.6) as far as it is used here: `event`, `data`, comments.

use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use serde_json::Value;

use super::Session;
use super::client::{empty, path_with_query};
use super::delivery;
use super::failure::Failure;
use super::lines::Lines;
use super::screen::{Tone, paint, plain};
use super::table::words;

/// An attempt with its excerpt, escaped, stays far below this.
const LINE_BYTES: usize = 256 * 1024;

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Only to this endpoint
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sse {
    /// Its type, empty for none.
    pub(crate) event: String,
    /// Its data lines, joined.
    pub(crate) data: String,
}

/// Takes one line; an event is whole at an empty line.
pub(crate) fn take_line(open: &mut Sse, line: &[u8]) -> Option<Sse> {
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
        session.screen.remark("Following attempts; Ctrl-C ends it.");
    }
    let mut lines = Lines::new(LINE_BYTES);
    let mut open = Sse::default();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame
            .map_err(|error| session.client.lost(&error))?
            .into_data()
        else {
            continue;
        };
        lines.feed(&chunk, |line| match take_line(&mut open, line) {
            Some(event) => show(&event, &session),
            None => Ok(()),
        })?;
    }
    Err(Failure::Unreachable(
        "the daemon ended the stream: it is stopping, or was stopped".to_owned(),
    ))
}

fn show(event: &Sse, session: &Session) -> Result<(), Failure> {
    if session.screen.json {
        return session.screen.answer(event.data.as_bytes());
    }
    session.screen.line(&line_of(event, session.screen.colour))
}

/// One event on one line.
fn line_of(event: &Sse, colour: bool) -> String {
    let Ok(value) = serde_json::from_str::<Value>(&event.data) else {
        return plain(&event.data);
    };
    // The attempt may stand by itself or beside what names its delivery.
    let attempt = value
        .get("attempt")
        .filter(|attempt| attempt.is_object())
        .unwrap_or(&value);
    if attempt.get("outcome").is_none() {
        return paint(
            colour,
            Tone::Warn,
            &plain(&format!("{}: {}", event.event, event.data)),
        );
    }
    let part = |key: &str| {
        value
            .get(key)
            .or_else(|| attempt.get(key))
            .map(words)
            .filter(|text| text != "-")
    };
    let started = part("startedAt").unwrap_or_default();
    let number = attempt
        .get("attempt")
        .filter(|number| number.is_number())
        .map(|number| format!("#{number}"))
        .unwrap_or_default();
    let mut line = paint(colour, Tone::Dim, &plain(&started));
    for text in [
        part("endpointId"),
        part("eventType"),
        part("eventId").or_else(|| part("deliveryId")),
        Some(number),
    ]
    .into_iter()
    .flatten()
    {
        if !text.is_empty() {
            line.push_str("  ");
            line.push_str(&plain(&text));
        }
    }
    format!("{line}  {}", delivery::attempt_line(attempt, colour))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let event = take_line(&mut open, b"").unwrap();
        assert_eq!(
            event,
            Sse {
                event: "attempt".into(),
                data: "{\"a\":\n1}".into()
            }
        );
        assert_eq!(take_line(&mut open, b""), None);
    }

    #[test]
    fn an_attempt_is_told_on_one_line_in_either_shape() {
        let flat = r#"{"deliveryId":"dlv_1","endpointId":"ep_1","eventId":"evt_1","eventType":"order.created","attempt":2,"startedAt":"t","durationMs":41,"outcome":"http_status","responseCode":503,"responseExcerpt":"busy\u001b[2J"}"#;
        let line = line_of(
            &Sse {
                event: "attempt".into(),
                data: flat.into(),
            },
            false,
        );
        assert_eq!(
            line,
            "t  ep_1  order.created  evt_1  #2  http_status 503 in 41 ms: busy\\u{1b}[2J"
        );
        let nested = r#"{"endpointId":"ep_1","eventType":"a","attempt":{"attempt":1,"startedAt":"t","durationMs":1,"outcome":"success","responseCode":200}}"#;
        let line = line_of(
            &Sse {
                event: "attempt".into(),
                data: nested.into(),
            },
            false,
        );
        assert_eq!(line, "t  ep_1  a  #1  success 200 in 1 ms");
    }

    #[test]
    fn a_slow_reader_sees_how_many_it_missed() {
        let line = line_of(
            &Sse {
                event: "missed".into(),
                data: "{\"missed\":12}".into(),
            },
            false,
        );
        assert_eq!(line, "missed: {\"missed\":12}");
    }
}
