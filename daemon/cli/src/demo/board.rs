//! The demo's screen: the live table of deliveries, and the summary at the end. Pure: ledgers in, text out.

use super::ledger::{Balance, Row};
use crate::stats::millis;
use crate::table::{Cell, Table};
use crate::terminal::{Tone, paint};

/// Rows of the live table.
pub(crate) const LIVE_ROWS: usize = 14;

/// Returns the state of a delivery as a word and a tone.
fn state(row: &Row) -> (Tone, &'static str) {
    match (row.entry.successes, row.entry.requests) {
        (0, 0) => (Tone::Dim, "on its way"),
        (0, _) => (Tone::Warn, "retrying"),
        _ => (Tone::Good, "delivered"),
    }
}

fn cells(row: &Row, receivers: &[&str]) -> Vec<Cell> {
    let (tone, word) = state(row);
    let code = if row.entry.last_status == 0 {
        "-".to_owned()
    } else {
        row.entry.last_status.to_string()
    };
    let latency = row.latency.map_or_else(
        || "-".to_owned(),
        |latency| millis(latency.as_secs_f64() * 1_000.0),
    );
    vec![
        Cell::text(receivers.get(row.place).copied().unwrap_or("-")),
        Cell::text(&row.event_type),
        Cell::text(&row.event),
        Cell::number(&row.entry.requests.to_string()),
        Cell::number(&code),
        Cell::toned(tone, word),
        Cell::number(&latency),
    ]
}

/// Returns the live table: the newest deliveries, the newest at the bottom.
pub(crate) fn live(rows: &[Row], receivers: &[&str], colour: bool) -> String {
    let heads = [
        "RECEIVER",
        "EVENT TYPE       ",
        "EVENT                         ",
        "ATTEMPTS",
        "CODE",
        "STATUS    ",
        "LATENCY",
    ];
    let cells: Vec<Vec<Cell>> = rows.iter().map(|row| cells(row, receivers)).collect();
    Table::new(&heads, colour).part(&cells)
}

/// Returns one delivery as a line, for output without a terminal to redraw.
pub(crate) fn line(row: &Row, receivers: &[&str], colour: bool) -> String {
    let (tone, word) = state(row);
    let latency = row.latency.map_or_else(String::new, |latency| {
        format!(" after {}", millis(latency.as_secs_f64() * 1_000.0))
    });
    format!(
        "{:<9} {:<17} {}  attempt {}  {}  {}{latency}",
        receivers.get(row.place).copied().unwrap_or("-"),
        row.event_type,
        row.event,
        row.entry.requests,
        row.entry.last_status,
        paint(colour, tone, word),
    )
}

/// Returns the summary: one row per receiver.
pub(crate) fn summary(balances: &[Balance], receivers: &[&str], colour: bool) -> String {
    let heads = [
        "RECEIVER",
        "EXPECTED",
        "DELIVERED",
        "REQUESTS",
        "REFUSED ON PURPOSE",
        "MISSING",
        "DOUBLED",
        "BADLY SIGNED",
        "UNEXPECTED",
    ];
    let wrong = |number: u64| {
        let tone = if number > 0 { Tone::Bad } else { Tone::Plain };
        Cell::number(&number.to_string()).tone(tone)
    };
    let rows: Vec<Vec<Cell>> = balances
        .iter()
        .zip(receivers)
        .map(|(balance, name)| {
            vec![
                Cell::text(name),
                Cell::number(&balance.expected.to_string()),
                Cell::number(&balance.delivered.to_string()),
                Cell::number(&balance.requests.to_string()),
                Cell::number(&balance.refused.to_string()),
                wrong(balance.missing()),
                wrong(balance.doubled),
                wrong(balance.badly_signed),
                wrong(balance.unexpected),
            ]
        })
        .collect();
    Table::new(&heads, colour).part(&rows)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::ledger::Entry;
    use super::*;

    fn row(requests: u32, successes: u32, last_status: u16) -> Row {
        Row {
            event: "evt_1".into(),
            event_type: "order.created".into(),
            place: 1,
            entry: Entry::of(requests, successes, last_status),
            latency: (successes > 0).then_some(Duration::from_millis(1_042)),
        }
    }

    #[test]
    fn a_delivery_goes_from_on_its_way_over_retrying_to_delivered() {
        let receivers = ["warehouse", "billing"];
        let text = live(
            &[row(0, 0, 0), row(1, 0, 503), row(2, 1, 200)],
            &receivers,
            false,
        );
        let words: Vec<&str> = text
            .lines()
            .skip(1)
            .map(|line| {
                if line.contains("on its way") {
                    "way"
                } else if line.contains("retrying") {
                    "retry"
                } else {
                    "done"
                }
            })
            .collect();
        assert_eq!(words, ["way", "retry", "done"]);
        assert!(
            text.contains("1.04 s") && text.contains("billing"),
            "{text}"
        );
        assert!(line(&row(1, 0, 503), &receivers, false).ends_with("attempt 1  503  retrying"));
    }

    #[test]
    fn the_summary_counts_what_is_wrong() {
        let balance = Balance {
            expected: 3,
            delivered: 2,
            doubled: 1,
            ..Balance::default()
        };
        let text = summary(&[balance], &["warehouse"], false);
        let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["warehouse", "3", "2", "0", "0", "1", "1", "0", "0"]);
    }
}
