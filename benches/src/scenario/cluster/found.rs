//! What one measurement found, and its lines in the table.

use super::database::{DeadRows, Used};
use crate::report::{Row, Wanted, bytes_text};
use crate::rounds;

/// Rates, and costs per event.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Events per second from the first call until the last answer.
    pub(super) accepted: f64,
    /// Events per second from the first call until the sink had all.
    pub(super) delivered: f64,
    /// CPU time of the server.
    pub(super) server_us: f64,
    /// CPU time of the daemons, or of the peer's workers.
    pub(super) clients_us: f64,
    /// Write-ahead log.
    pub(super) wal_bytes: f64,
    /// Rows updated or deleted.
    pub(super) dead_made: f64,
    /// Of these, rows that were not removed yet at the end.
    pub(super) dead_left: f64,
}

impl Found {
    /// Returns the costs of `events` between two readings.
    pub(super) fn of(events: u64, before: Used, after: Used) -> Self {
        let each = |total: u64| total as f64 / events.max(1) as f64;
        let wal = after.wal_bytes.saturating_sub(before.wal_bytes);
        Self {
            server_us: each(after.server_us.saturating_sub(before.server_us)),
            clients_us: each(after.clients_us.saturating_sub(before.clients_us)),
            wal_bytes: each(u64::try_from(wal).unwrap_or(0)),
            ..Self::default()
        }
    }

    /// Adds the dead rows of all events of a database.
    pub(super) fn with_dead(mut self, rows: DeadRows, events: u64) -> Self {
        let each = |rows: i64| u64::try_from(rows).unwrap_or(0) as f64 / events.max(1) as f64;
        self.dead_made = each(rows.made);
        self.dead_left = each(rows.left);
        self
    }
}

/// All rounds of one way to do the work.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// Its name.
    pub(super) name: String,
    /// One for each round.
    pub(super) rounds: Vec<Found>,
}

impl Lane {
    /// Returns a lane without rounds.
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            rounds: Vec::new(),
        }
    }
}

/// A figure of a measurement.
#[derive(Clone, Copy)]
struct Figure {
    name: &'static str,
    of: fn(&Found) -> f64,
    text: fn(f64) -> String,
    /// The most that it should be for one daemon.
    most: Option<(f64, &'static str)>,
}

fn rate_text(rate: f64) -> String {
    format!("{rate:.0} events/s")
}

fn time_text(us: f64) -> String {
    format!("{us:.1} µs/event")
}

fn rows_text(rows: f64) -> String {
    format!("{rows:.3} per event")
}

const DELIVERED: Figure = Figure {
    name: "delivered",
    of: |found| found.delivered,
    text: rate_text,
    most: None,
};

/// The figures beside the rate of delivery.
const OTHERS: &[Figure] = &[
    Figure {
        name: "accepted",
        of: |found| found.accepted,
        text: rate_text,
        most: None,
    },
    Figure {
        name: "CPU of the server",
        of: |found| found.server_us,
        text: time_text,
        most: None,
    },
    Figure {
        name: "CPU of daemons or workers",
        of: |found| found.clients_us,
        text: time_text,
        most: None,
    },
    Figure {
        name: "write-ahead log",
        of: |found| found.wal_bytes,
        text: |bytes| format!("{}/event", bytes_text(bytes)),
        most: Some((1_126.4, "≤ 1.1 KiB")),
    },
    Figure {
        name: "rows updated or deleted",
        of: |found| found.dead_made,
        text: rows_text,
        most: Some((0.05, "≤ 0.05")),
    },
    Figure {
        name: "dead rows left at the end",
        of: |found| found.dead_left,
        text: rows_text,
        most: None,
    },
];

fn middle(rounds: &[Found], of: fn(&Found) -> f64, clean: &[bool]) -> f64 {
    let values: Vec<f64> = rounds.iter().map(of).collect();
    rounds::median(&rounds::kept(&values, clean))
}

/// Returns the lines of the figures of one daemon beside its rate of delivery.
pub(super) fn of_one(lane: &Lane, clean: &[bool]) -> impl Iterator<Item = Row> {
    OTHERS.iter().map(move |figure| {
        let shown = middle(&lane.rounds, figure.of, clean);
        let line = format!("  {}", figure.name);
        let row = Row::new("cluster", line, (figure.text)(shown), shown);
        match figure.most {
            Some((most, text)) => row.target(Wanted::AtMost, most, text),
            None => row,
        }
    })
}

/// Compares a lane with another of the same rounds.
#[derive(Clone, Copy)]
pub(super) struct Comparison<'a> {
    /// Whose figures are shown.
    pub(super) lane: &'a Lane,
    /// What they are divided by.
    pub(super) against: &'a Lane,
    /// Which rounds count.
    pub(super) clean: &'a [bool],
}

impl Comparison<'_> {
    fn row(&self, figure: Figure, line: String) -> Row {
        let shown = middle(&self.lane.rounds, figure.of, self.clean);
        let other = middle(&self.against.rounds, figure.of, self.clean);
        let pairs = self.lane.rounds.iter().zip(&self.against.rounds);
        let ratios: Vec<f64> = pairs
            .map(|(a, b)| (figure.of)(a) / (figure.of)(b).max(f64::MIN_POSITIVE))
            .collect();
        let ratio = rounds::median(&rounds::kept(&ratios, self.clean));
        let row = Row::new("cluster", line, (figure.text)(shown), shown);
        if other > 0.0 {
            let against = format!("{}, {}", self.against.name, (figure.text)(other));
            row.against(against, ratio)
        } else {
            row
        }
    }

    /// Returns the line of the deliveries per second.
    pub(super) fn delivered(&self, target: Option<(f64, &str)>) -> Row {
        let line = format!("{}: {}", self.lane.name, DELIVERED.name);
        let row = self.row(DELIVERED, line);
        match target {
            Some((bound, text)) => row.target(Wanted::AtLeast, bound, text),
            None => row,
        }
    }

    /// Returns the lines of the other figures.
    pub(super) fn others(&self) -> impl Iterator<Item = Row> {
        OTHERS
            .iter()
            .map(|figure| self.row(*figure, format!("  {}", figure.name)))
    }
}

/// Returns the mean of the measurements before and after each round.
pub(super) fn around(limits: &[Found]) -> Vec<Found> {
    let mean = |pair: &[Found]| {
        let of = |figure: fn(&Found) -> f64| {
            pair.iter().map(figure).sum::<f64>() / pair.len().max(1) as f64
        };
        Found {
            accepted: of(|found| found.accepted),
            delivered: of(|found| found.delivered),
            server_us: of(|found| found.server_us),
            clients_us: of(|found| found.clients_us),
            wal_bytes: of(|found| found.wal_bytes),
            dead_made: of(|found| found.dead_made),
            dead_left: of(|found| found.dead_left),
        }
    };
    limits.windows(2).map(mean).collect()
}
