//! `stormhook delivery …`: one event at one endpoint.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::Session;
use crate::client::Answer;
use crate::failure::Failure;
use crate::input::{self, Moment};
use crate::local;
use crate::pages::{self, Paging};
use crate::table::{Cell, Table, pairs, words};
use crate::terminal::Tone;

pub(crate) const EXAMPLES: &str = "\
Example, from a waiting delivery to another attempt:
  stormhook delivery list --status retrying
  stormhook delivery show dlv_01JZ8M3Y6Q2V7K9D4T5B8C1N0A
  stormhook delivery retry dlv_01JZ8M3Y6Q2V7K9D4T5B8C1N0A";

#[derive(Debug, Subcommand)]
pub(crate) enum DeliveryCommand {
    /// List deliveries, newest first
    #[command(after_help = "\
Example:
  stormhook delivery list --endpoint ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A \\
    --status retrying --since 2h")]
    List(ListArgs),
    /// Show a delivery and its attempts
    #[command(after_help = "Example:\n  stormhook delivery show dlv_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    Show(OneArgs),
    /// Try now: an extra attempt of an open delivery, a new round of an ended one
    #[command(after_help = "Example:\n  stormhook delivery retry dlv_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    Retry(OneArgs),
    /// End an open delivery
    #[command(after_help = "Example:\n  stormhook delivery cancel dlv_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    Cancel(OneArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum Status {
    Pending,
    Retrying,
    Success,
    Abandoned,
    Failed,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this endpoint
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Only this status
    #[arg(long, value_enum, ignore_case = true)]
    status: Option<Status>,
    /// Only this event type
    #[arg(long, value_name = "TYPE")]
    event_type: Option<String>,
    /// Only this event
    #[arg(long, value_name = "EVENT")]
    event: Option<String>,
    /// At or after this time: RFC 3339, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = input::moment)]
    since: Option<Moment>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = input::moment)]
    until: Option<Moment>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// The delivery
    #[arg(value_name = "DELIVERY", value_parser = input::id)]
    id: String,
}

pub(crate) async fn run(command: DeliveryCommand, session: Session) -> Result<(), Failure> {
    match command {
        DeliveryCommand::List(args) => list(&args, &session).await,
        DeliveryCommand::Show(args) => {
            let answer = session
                .client
                .get(&format!("/v1/deliveries/{}", args.id))
                .await?;
            show(&answer, &session)
        }
        DeliveryCommand::Retry(args) => {
            let answer = session
                .client
                .post(&format!("/v1/deliveries/{}/retry", args.id))
                .await?;
            show(&answer, &session)
        }
        DeliveryCommand::Cancel(args) => {
            let answer = session
                .client
                .post(&format!("/v1/deliveries/{}/cancel", args.id))
                .await?;
            show(&answer, &session)
        }
    }
}

async fn list(args: &ListArgs, session: &Session) -> Result<(), Failure> {
    let (since, until) = input::span(
        args.since.as_ref(),
        args.until.as_ref(),
        local::wall_clock(),
    )?;
    let status = args
        .status
        .and_then(|status| status.to_possible_value())
        .map(|value| value.get_name().to_owned());
    let filters = [
        ("endpointId", args.endpoint.as_deref()),
        ("status", status.as_deref()),
        ("eventType", args.event_type.as_deref()),
        ("eventId", args.event.as_deref()),
        ("since", since.as_deref()),
        ("until", until.as_deref()),
    ];
    let heads = [
        "DELIVERY",
        "STATUS",
        "ATTEMPT",
        "CODE",
        "EVENT TYPE",
        "ENDPOINT",
        "NEXT",
        "WAITING FOR",
    ];
    pages::list(
        session,
        "/v1/deliveries",
        &filters,
        &args.paging,
        &heads,
        |delivery| {
            vec![
                Cell::of(delivery, "id"),
                status_cell(delivery),
                Cell::of(delivery, "attempt"),
                Cell::of(delivery, "responseCode"),
                Cell::of(delivery, "eventType"),
                Cell::of(delivery, "endpointId"),
                Cell::of(delivery, "nextAttemptAt"),
                Cell::of(delivery, "waitingFor"),
            ]
        },
    )
    .await
}

/// Returns a delivery's status in its tone, with the reason if it ended early.
pub(crate) fn status_cell(delivery: &Value) -> Cell {
    let status = words(delivery.get("status").unwrap_or(&Value::Null));
    let text = match delivery.get("reason").and_then(Value::as_str) {
        Some(reason) => format!("{status} ({reason})"),
        None => status.clone(),
    };
    Cell::toned(status_tone(&status), &text)
}

/// Returns the tone of a status.
pub(crate) fn status_tone(status: &str) -> Tone {
    match status {
        "SUCCESS" => Tone::Good,
        "RETRYING" => Tone::Warn,
        "ABANDONED" | "FAILED" => Tone::Bad,
        _ => Tone::Plain,
    }
}

/// Prints a delivery as JSON or in words.
pub(crate) fn show(answer: &Answer, session: &Session) -> Result<(), Failure> {
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    session
        .screen
        .line(&describe(&answer.value()?, session.screen.colour))
}

/// Describes a delivery and its attempts.
fn describe(delivery: &Value, colour: bool) -> String {
    let rows = [
        ("delivery", Cell::of(delivery, "id").tone(Tone::Bold)),
        ("event", Cell::of(delivery, "eventId")),
        ("event type", Cell::of(delivery, "eventType")),
        ("endpoint", Cell::of(delivery, "endpointId")),
        ("sequence", Cell::of(delivery, "sequence")),
        ("status", status_cell(delivery)),
        ("attempt", Cell::of(delivery, "attempt")),
        ("response code", Cell::of(delivery, "responseCode")),
        ("next attempt", Cell::of(delivery, "nextAttemptAt")),
        ("waiting for", Cell::of(delivery, "waitingFor")),
        ("created", Cell::of(delivery, "createdAt")),
        ("updated", Cell::of(delivery, "updatedAt")),
    ];
    let mut text = pairs(&rows, colour);
    let attempts = delivery
        .get("attempts")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if attempts.is_empty() {
        return text;
    }
    let mut table = Table::new(
        &[
            "ATTEMPT", "ROUND", "TRIGGER", "STARTED", "MS", "OUTCOME", "CODE", "SAID",
        ],
        colour,
    );
    let rows: Vec<Vec<Cell>> = attempts
        .iter()
        .map(|attempt| {
            vec![
                Cell::of(attempt, "attempt"),
                Cell::of(attempt, "round"),
                Cell::of(attempt, "trigger"),
                Cell::of(attempt, "startedAt"),
                Cell::of(attempt, "durationMs"),
                outcome_cell(attempt),
                Cell::of(attempt, "responseCode"),
                Cell::text(said(attempt).unwrap_or("-")),
            ]
        })
        .collect();
    text.push_str("\n\n");
    text.push_str(&table.part(&rows));
    text
}

fn outcome_tone(outcome: &str) -> Tone {
    match outcome {
        "success" => Tone::Good,
        "interrupted" => Tone::Warn,
        _ => Tone::Bad,
    }
}

fn outcome_cell(attempt: &Value) -> Cell {
    let outcome = words(attempt.get("outcome").unwrap_or(&Value::Null));
    let tone = outcome_tone(&outcome);
    if is_reconnected(attempt) {
        return Cell::toned(tone, &format!("{outcome}, reconnected"));
    }
    Cell::toned(tone, &outcome)
}

/// Whether the request was sent once more within the attempt.
fn is_reconnected(attempt: &Value) -> bool {
    attempt.get("reconnected").and_then(Value::as_bool) == Some(true)
}

/// Returns the error, or the start of the receiver's response.
fn said(attempt: &Value) -> Option<&str> {
    let part = |key: &str| {
        attempt
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    part("error").or_else(|| part("responseExcerpt"))
}

/// Describes one attempt on one line (outcome, code, time, and error or response), with its tone.
pub(crate) fn outcome_in_words(
    outcome: &str,
    code: Option<u16>,
    duration_ms: Option<u64>,
    reconnected: bool,
    said: Option<&str>,
) -> (Tone, String) {
    let mut line = outcome.to_owned();
    if let Some(code) = code {
        line.push_str(&format!(" {code}"));
    }
    if let Some(duration_ms) = duration_ms {
        line.push_str(&format!(" in {duration_ms} ms"));
    }
    if reconnected {
        line.push_str(", reconnected");
    }
    if let Some(said) = said.filter(|said| !said.is_empty()) {
        line.push_str(&format!(": {said}"));
    }
    (outcome_tone(outcome), line)
}

/// The same for the API's JSON.
pub(crate) fn attempt_in_words(attempt: &Value) -> (Tone, String) {
    let code = attempt.get("responseCode").and_then(Value::as_u64);
    outcome_in_words(
        &words(attempt.get("outcome").unwrap_or(&Value::Null)),
        code.and_then(|code| u16::try_from(code).ok()),
        attempt.get("durationMs").and_then(Value::as_u64),
        is_reconnected(attempt),
        said(attempt),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_delivery_is_told_with_each_attempt_and_no_raw_escape_of_the_partner() {
        let text = describe(
            &json!({"id":"dlv_1","endpointId":"ep_1","eventId":"evt_1","eventType":"order.created","sequence":42,"status":"RETRYING","reason":null,
                "attempt":2,"responseCode":503,"nextAttemptAt":"2026-01-02T03:04:05.678Z","waitingFor":"schedule","createdAt":"c","updatedAt":"u",
                "attempts":[{"attempt":1,"round":1,"trigger":"schedule","startedAt":"s","durationMs":41,"outcome":"http_status",
                "responseCode":503,"responseExcerpt":"\u{1b}[2Jbusy","error":null}]}),
            false,
        );
        assert!(
            text.contains("RETRYING") && text.contains("http_status") && text.contains("schedule"),
            "{text}"
        );
        assert!(
            text.contains("\\u{1b}[2Jbusy") && !text.contains('\u{1b}'),
            "{text}"
        );
    }

    #[test]
    fn an_early_end_says_its_reason() {
        assert_eq!(
            status_cell(&json!({"status":"FAILED","reason":"gone"})),
            Cell::toned(Tone::Bad, "FAILED (gone)")
        );
    }

    #[test]
    fn an_attempt_fits_on_one_line() {
        let attempt = json!({"outcome":"connect","responseCode":null,"durationMs":3,"error":"connection refused"});
        assert_eq!(
            attempt_in_words(&attempt),
            (Tone::Bad, "connect in 3 ms: connection refused".to_owned())
        );
        let attempt = json!({"outcome":"success","responseCode":204,"durationMs":3});
        assert_eq!(
            attempt_in_words(&attempt),
            (Tone::Good, "success 204 in 3 ms".to_owned())
        );
    }
}
