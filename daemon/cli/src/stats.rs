//! `stormhook stats`: the counts, percentiles, service levels and queue from the API, on one screen.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::Session;
use crate::client::path_with_query;
use crate::failure::Failure;
use crate::table::{Cell, Table, grouped, words};
use crate::terminal::{Tone, paint, plain};

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Window {
    #[value(name = "5m")]
    FiveMinutes,
    #[value(name = "1h")]
    Hour,
    #[value(name = "24h")]
    Day,
    #[value(name = "all")]
    All,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// The time window
    #[arg(long, value_enum, default_value = "1h")]
    window: Window,
    /// Only this endpoint
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Only this organization
    #[arg(long, value_name = "ORGANIZATION")]
    organization: Option<String>,
    /// Refresh every two seconds
    #[arg(long)]
    watch: bool,
}

const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Cursor home and clear to the end of the screen (ECMA-48): less flicker than clearing first.
const REDRAW: &str = "\u{1b}[H\u{1b}[J";

pub(crate) async fn run(args: StatsArgs, session: Session) -> Result<(), Failure> {
    let window = args
        .window
        .to_possible_value()
        .map(|value| value.get_name().to_owned());
    let parameters = [
        ("window", window.as_deref()),
        ("endpointId", args.endpoint.as_deref()),
        ("organizationId", args.organization.as_deref()),
    ];
    let path = path_with_query("/v1/stats", &parameters);
    loop {
        let answer = session.client.get(&path).await?;
        if session.screen.json {
            session.screen.answer(&answer.body)?;
        } else {
            let text = render(&answer.value()?, session.screen.colour);
            let redraw = if args.watch && session.screen.terminal {
                REDRAW
            } else {
                ""
            };
            session.screen.draw(redraw, &text, "")?;
        }
        if !args.watch {
            return Ok(());
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Returns the whole screen.
pub(crate) fn render(stats: &Value, colour: bool) -> String {
    let part = |key: &str| plain(&words(stats.get(key).unwrap_or(&Value::Null)));
    let head = |text: &str| paint(colour, Tone::Bold, text);
    let mut out = format!(
        "{} {}\n\n",
        head(&format!("stormhook, window {}", part("window"))),
        paint(
            colour,
            Tone::Dim,
            &format!("from {} to {}", beginning(&part("from")), part("to"))
        )
    );
    out.push_str(&counts(stats, colour));
    out.push_str("\n\n");
    out.push_str(&percentiles(stats, colour));
    out.push_str("\n\n");
    out.push_str(&queue(stats, colour));
    let levels = service_levels(stats, colour);
    if !levels.is_empty() {
        out.push_str("\n\n");
        out.push_str(&levels);
    }
    out
}

/// Words the start of a window; one without a start has the epoch's.
fn beginning(from: &str) -> &str {
    if from.starts_with("1970-01-01T00:00:00") {
        "the beginning"
    } else {
        from
    }
}

fn count(stats: &Value, key: &str) -> String {
    stats
        .get(key)
        .and_then(Value::as_u64)
        .map_or_else(|| "-".to_owned(), grouped)
}

/// Words milliseconds for people.
pub(crate) fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.2} s", ms / 1_000.0),
        ms if ms < 3_600_000.0 => format!("{:.1} min", ms / 60_000.0),
        ms => format!("{:.1} h", ms / 3_600_000.0),
    }
}

fn tone_if_any(stats: &Value, key: &str, tone: Tone) -> Tone {
    if stats.get(key).and_then(Value::as_u64).unwrap_or(0) > 0 {
        tone
    } else {
        Tone::Plain
    }
}

fn counts(stats: &Value, colour: bool) -> String {
    const ROWS: [(&str, &str, Tone); 7] = [
        ("events accepted", "ingest.accepted.count", Tone::Plain),
        ("  replayed by key", "idempotency.replay.count", Tone::Plain),
        ("  key conflicts", "idempotency.conflict.count", Tone::Warn),
        (
            "  keys in flight",
            "idempotency.inflight.gauge",
            Tone::Plain,
        ),
        ("attempts succeeded", "delivery.success.count", Tone::Good),
        ("attempts failed", "delivery.failure.count", Tone::Warn),
        (
            "deliveries abandoned",
            "delivery.abandoned.count",
            Tone::Bad,
        ),
    ];
    let rows: Vec<Vec<Cell>> = ROWS
        .iter()
        .map(|(name, key, tone)| {
            vec![
                Cell::text(name),
                Cell::number(&count(stats, key)).tone(tone_if_any(stats, key, *tone)),
            ]
        })
        .collect();
    Table::new(&["COUNTS                ", ""], colour).part(&rows)
}

fn percentiles(stats: &Value, colour: bool) -> String {
    const ROWS: [(&str, &str); 3] = [
        ("event to success", "delivery.latency"),
        ("event to first attempt", "delivery.first_attempt.latency"),
        ("request only", "attempt.duration"),
    ];
    const MARKS: [&str; 6] = ["p50", "p90", "p95", "p99", "max", "avg"];
    let rows: Vec<Vec<Cell>> = ROWS
        .iter()
        .map(|(name, key)| {
            let marks = MARKS.iter().map(|mark| {
                let value = stats.get(format!("{key}.{mark}")).and_then(Value::as_f64);
                Cell::number(&value.map_or_else(|| "-".to_owned(), millis))
            });
            std::iter::once(Cell::text(name)).chain(marks).collect()
        })
        .collect();
    Table::new(
        &[
            "LATENCY               ",
            "P50",
            "P90",
            "P95",
            "P99",
            "MAX",
            "AVG",
        ],
        colour,
    )
    .part(&rows)
}

fn queue(stats: &Value, colour: bool) -> String {
    const ROWS: [(&str, &str); 4] = [
        ("waiting, first attempt", "queue.pending"),
        ("waiting, retry", "queue.retrying"),
        ("held, endpoint inactive", "queue.held"),
        ("in flight", "queue.in_flight"),
    ];
    let mut rows: Vec<Vec<Cell>> = ROWS
        .iter()
        .map(|(name, key)| vec![Cell::text(name), Cell::number(&count(stats, key))])
        .collect();
    // If nothing is due, there is no age.
    let overdue = stats
        .get("queue.overdue.ms")
        .and_then(Value::as_f64)
        .filter(|ms| *ms > 0.0);
    rows.push(vec![
        Cell::text("oldest due since"),
        Cell::number(&overdue.map_or_else(|| "-".to_owned(), millis)),
    ]);
    Table::new(&["QUEUE NOW             ", ""], colour).part(&rows)
}

fn service_levels(stats: &Value, colour: bool) -> String {
    let levels = stats
        .get("slo")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if levels.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<Cell>> = levels
        .iter()
        .map(|level| {
            let name = words(level.get("name").unwrap_or(&Value::Null));
            let met = match level.get("met").and_then(Value::as_bool) {
                Some(true) => Cell::toned(Tone::Good, "met"),
                Some(false) => Cell::toned(Tone::Bad, "missed"),
                None => Cell::toned(Tone::Dim, "no data"),
            };
            vec![
                Cell::text(&name),
                level_value(&name, level.get("value")),
                level_value(&name, level.get("target")),
                met,
            ]
        })
        .collect();
    Table::new(&["SERVICE LEVEL", "VALUE", "TARGET", ""], colour).part(&rows)
}

fn level_value(name: &str, value: Option<&Value>) -> Cell {
    let value = value.unwrap_or(&Value::Null);
    match value.as_f64() {
        Some(number) if name.contains("rate") => Cell::number(&format!("{:.2} %", number * 100.0)),
        Some(number) if name.contains("latency") => Cell::number(&millis(number)),
        Some(number) => Cell::number(&number.to_string()),
        None => Cell::text(&words(value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "window": "1h", "from": "2026-01-02T02:00:00.000Z", "to": "2026-01-02T03:00:00.000Z",
            "delivery.success.count": 1_234_567, "delivery.failure.count": 12, "delivery.abandoned.count": 0,
            "delivery.latency.p50": 1.234, "delivery.latency.p99": 1534.0, "delivery.latency.max": 90_000.0,
            "attempt.duration.p50": 12.7,
            "ingest.accepted.count": 40, "queue.pending": 3, "queue.overdue.ms": null,
            "slo": [
                {"name": "delivery.first_attempt.latency.avg", "target": 2000, "value": 12.5, "met": true},
                {"name": "delivery.first_attempt.success.rate", "target": 0.95, "value": 0.9, "met": false},
                {"name": "delivery.first_attempt.success.rate", "target": 0.95, "value": null, "met": null}
            ]
        })
    }

    fn line<'t>(text: &'t str, start: &str) -> Vec<&'t str> {
        text.lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_default()
            .split_whitespace()
            .collect()
    }

    #[test]
    fn the_screen_shows_counts_percentiles_queue_and_levels() {
        let text = render(&sample(), false);
        assert_eq!(
            line(&text, "attempts succeeded"),
            ["attempts", "succeeded", "1,234,567"]
        );
        assert_eq!(
            line(&text, "event to success"),
            [
                "event", "to", "success", "1.23", "ms", "-", "-", "1.53", "s", "1.5", "min", "-"
            ]
        );
        assert_eq!(
            line(&text, "waiting, first"),
            ["waiting,", "first", "attempt", "3"]
        );
        assert_eq!(
            line(&text, "delivery.first_attempt.latency.avg"),
            [
                "delivery.first_attempt.latency.avg",
                "12",
                "ms",
                "2.00",
                "s",
                "met"
            ]
        );
        assert!(
            text.contains("90.00 %") && text.contains("missed") && text.contains("no data"),
            "{text}"
        );
    }

    #[test]
    fn nothing_known_is_a_dash_and_never_a_zero() {
        let text = render(&json!({}), false);
        assert_eq!(line(&text, "events accepted"), ["events", "accepted", "-"]);
        assert_eq!(
            line(&text, "oldest due since"),
            ["oldest", "due", "since", "-"]
        );
    }

    #[test]
    fn what_is_not_due_has_no_age_and_all_begins_at_the_beginning() {
        let stats = json!({"window": "all", "from": "1970-01-01T00:00:00.000Z", "to": "t", "queue.overdue.ms": 0.0});
        let text = render(&stats, false);
        assert_eq!(
            line(&text, "oldest due since"),
            ["oldest", "due", "since", "-"]
        );
        assert!(
            text.starts_with("stormhook, window all from the beginning to t\n"),
            "{text}"
        );
        let text = render(&json!({"queue.overdue.ms": 1_500.0}), false);
        assert!(text.contains("1.50 s"), "{text}");
    }

    #[test]
    fn milliseconds_become_what_people_read() {
        let shown: Vec<String> = [0.5, 42.0, 1_500.0, 120_000.0, 7_200_000.0]
            .into_iter()
            .map(millis)
            .collect();
        assert_eq!(shown, ["0.50 ms", "42 ms", "1.50 s", "2.0 min", "2.0 h"]);
    }
}
