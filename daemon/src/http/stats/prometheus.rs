//! `GET /metrics`: the stats since the store was created, in the Prometheus text format (version 0.0.4), in base units.
//!
//! Reads one row of the store and the state in memory, so it may be called often. Only `POST /v1/check` walks the file.

#[cfg(feature = "postgres")]
mod cluster;

use crate::app::App;
use crate::http::fields::query;
use crate::http::{Answer, Shared, ask_long};
use crate::process;
use axum::extract::State;
use axum::response::IntoResponse;
use http::Uri;
use http::header::CONTENT_TYPE;
use std::fmt::{Display, Write as _};
use std::time::Duration;
use stormhook_store::StatsOf;
use stormhook_store::stats::{Span, Times, Window};

/// How long a database may take to say what it has.
const DATABASE: Duration = Duration::from_secs(1);

/// The upper bounds of all histograms, in microseconds with their names in seconds: fine near the targets, coarse
/// across the schedule's delays.
const BOUNDS_US: [(u64, &str); 22] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_000_000, "2"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (15_000_000, "15"),
    (30_000_000, "30"),
    (60_000_000, "60"),
    (300_000_000, "300"),
    (900_000_000, "900"),
    (3_600_000_000, "3600"),
    (14_400_000_000, "14400"),
    (43_200_000_000, "43200"),
    (86_400_000_000, "86400"),
];

/// Shows metrics for Prometheus.
///
/// The text format, version 0.0.4. Counters and histograms count from the creation of the store, so a restart doesn't
/// reset them.
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "getMetrics",
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain",
        example = "# HELP stormhook_ready Whether events are accepted and delivered: 1, else 0.\n# TYPE stormhook_ready gauge\nstormhook_ready 1\n")))]
pub(in crate::http) async fn metrics(State(app): State<Shared>, uri: Uri) -> Answer {
    query::<()>(&uri)?;
    let now = app.now();
    let asked = ask_long(&app, move |reader| async move {
        let (sum, _) = reader
            .stats_and_damage(Span::All, now, &StatsOf::All)
            .await?;
        Ok((sum, reader.file_len()?))
    });
    let told = if app.config().store.url.is_some() {
        // What this daemon knows is shown even if the database doesn't answer: that is when it matters.
        let told = tokio::time::timeout(DATABASE, asked).await;
        told.ok().and_then(Result::ok)
    } else {
        Some(asked.await?)
    };
    let mut page = Page::default();
    page.process(&app);
    if let Some((sum, _)) = &told {
        page.counters(sum);
    }
    page.queue(&app);
    if let Some((_, Some(file_bytes))) = told {
        let help =
            "Size of the store's file, including preallocated space. Not shown of a database.";
        page.gauge("store_file_bytes", help, file_bytes);
    }
    #[cfg(feature = "postgres")]
    page.outbox(&app);
    if let Some((sum, _)) = &told {
        page.histograms(sum);
    }
    #[cfg(feature = "postgres")]
    if let Some(peers) = app.peers() {
        page.cluster(peers);
    }
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, page.text).into_response())
}

/// A page of metrics being written.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string can't fail, here and below.
        let _infallible = write!(
            self.text,
            "# HELP stormhook_{name} {help}\n# TYPE stormhook_{name} {kind}\n"
        );
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _infallible = writeln!(self.text, "stormhook_{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn process(&mut self, app: &App) {
        let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
        self.family(
            "build_info",
            "gauge",
            "Version of the daemon, as a label; the value is always 1.",
        );
        self.sample("build_info", version, 1);
        if let Some(started) = process::started() {
            let help = "When the daemon's process started, in seconds since 1970 (UTC).";
            self.gauge("process_start_time_seconds", help, started);
        }
        let help = "Whether events are accepted and delivered, as GET /readyz says: 1, else 0.";
        self.gauge("ready", help, u8::from(app.engine.readiness().is_ok()));
        let all = app.reader().all_endpoints();
        let there = || all.iter().filter(|e| e.deleted_at.is_none());
        let active = there().filter(|e| e.active).count();
        self.family(
            "endpoints",
            "gauge",
            "Endpoints of all organizations, by whether they are active.",
        );
        self.sample("endpoints", "{active=\"true\"}", active);
        self.sample("endpoints", "{active=\"false\"}", there().count() - active);
    }

    fn counters(&mut self, sum: &Window) {
        let c = &sum.counters;
        for (name, help, value) in [
            (
                "delivery_success_total",
                "Delivery attempts that succeeded.",
                c.success,
            ),
            (
                "delivery_failure_total",
                "Delivery attempts that failed.",
                c.failure,
            ),
            (
                "delivery_abandoned_total",
                "Deliveries abandoned after the last attempt of their schedule.",
                c.abandoned,
            ),
            (
                "delivery_first_attempt_total",
                "First attempts of deliveries that finished, successfully or not.",
                c.first_attempts,
            ),
            (
                "delivery_first_attempt_success_total",
                "First attempts of deliveries that succeeded.",
                c.first_successes,
            ),
            (
                "ingest_accepted_total",
                "Events accepted, each counted once even if it was sent again under its key.",
                c.accepted,
            ),
            (
                "idempotency_replay_total",
                "Events that were sent again under their idempotency key and got the same response.",
                c.replays,
            ),
            (
                "idempotency_conflict_total",
                "Events refused because their idempotency key was used for another event.",
                c.conflicts,
            ),
        ] {
            self.family(name, "counter", help);
            self.sample(name, "", value);
        }
    }

    fn queue(&mut self, app: &App) {
        let g = app.engine.dispatch().gauges();
        for (name, help, value) in [
            (
                "queue_pending",
                "Open deliveries of active endpoints without a finished attempt in their round, including those in flight.",
                g.pending,
            ),
            (
                "queue_retrying",
                "Open deliveries of active endpoints that have failed in their round, including those in flight.",
                g.retrying,
            ),
            (
                "queue_held",
                "Open deliveries of inactive endpoints.",
                g.held,
            ),
            (
                "queue_in_flight",
                "Delivery attempts on the wire.",
                g.in_flight,
            ),
        ] {
            self.gauge(name, help, value);
        }
        let help = "How long the oldest due delivery of an active endpoint has been waiting for its attempt, in seconds.";
        let overdue = seconds(g.overdue_ms.saturating_mul(1_000));
        self.gauge("queue_overdue_seconds", help, overdue);
        let help = "Requests with an idempotency key that wait for their commit.";
        self.gauge(
            "idempotency_inflight",
            help,
            app.engine.writer().keyed_in_flight(),
        );
    }

    #[cfg(feature = "postgres")]
    fn outbox(&mut self, app: &App) {
        use std::sync::atomic::Ordering::Relaxed;
        if app.config().outboxes().next().is_none() {
            return;
        }
        let taken = app.outbox();
        for (name, help, value) in [
            (
                "outbox_taken_total",
                "Events of outboxes that this process accepted, or that were accepted before.",
                &taken.accepted,
            ),
            (
                "outbox_rejected_total",
                "Events of outboxes that this process rejected: they are in the table outbox_rejected.",
                &taken.rejected,
            ),
        ] {
            self.family(name, "counter", help);
            self.sample(name, "", value.load(Relaxed));
        }
        let help = "Age of the oldest event of an outbox when it was last read, in seconds; 0 if it was empty.";
        let oldest_us = taken.oldest_ms.load(Relaxed).unsigned_abs() * 1_000;
        self.gauge("outbox_oldest_seconds", help, seconds(oldest_us));
    }

    fn histograms(&mut self, sum: &Window) {
        for (name, help, times) in [
            (
                "delivery_latency_seconds",
                "Time from an event's acceptance to the success of a delivery in its first round, in seconds.",
                &sum.latency,
            ),
            (
                "delivery_first_attempt_latency_seconds",
                "Time from an event's acceptance to the success of a delivery at its first attempt, in seconds.",
                &sum.first_attempt_latency,
            ),
            (
                "attempt_duration_seconds",
                "Time that the request of a delivery attempt took, successful or not, in seconds.",
                &sum.attempt_duration,
            ),
        ] {
            self.histogram(name, help, times);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, times: &Times) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (within, (_, bound)) in within_bounds(times).into_iter().zip(BOUNDS_US) {
            self.sample(&bucket, &format!("{{le=\"{bound}\"}}"), within);
        }
        self.sample(&bucket, "{le=\"+Inf\"}", times.count());
        self.sample(&format!("{name}_sum"), "", seconds(times.total_us()));
        self.sample(&format!("{name}_count"), "", times.count());
    }
}

/// Returns how many times are at or below each bound. A time is known to 1 %, so a time just above a bound may count as
/// at it.
fn within_bounds(times: &Times) -> [u64; BOUNDS_US.len()] {
    let mut within = [0; BOUNDS_US.len()];
    let Some(histogram) = times.histogram() else {
        return within;
    };
    for step in histogram.iter_recorded() {
        let lowest_us = histogram.lowest_equivalent(step.value_iterated_to());
        for (count, (bound_us, _)) in within.iter_mut().zip(BOUNDS_US) {
            if lowest_us <= bound_us {
                *count += step.count_at_value();
            }
        }
    }
    within
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_hold_what_lies_at_or_below_their_bound() {
        let mut times = Times::default();
        for us in [0, 400, 1_000, 1_200, 999_000, 1_000_000, 90_000_000_000] {
            times.record(us);
        }
        let within = within_bounds(&times);
        let at = |name: &str| {
            let place = BOUNDS_US.iter().position(|(_, bound)| *bound == name);
            within[place.unwrap()]
        };
        assert_eq!(
            (at("0.001"), at("0.0025"), at("0.5"), at("1")),
            (3, 4, 4, 6)
        );
        assert_eq!(at("86400"), 6, "times longer than a day are only in +Inf");
        assert!(within.is_sorted());
    }

    #[test]
    fn a_histogram_of_nothing_has_all_its_buckets() {
        let mut page = Page::default();
        page.histogram("attempt_duration_seconds", "How long.", &Times::default());
        assert!(page.text.starts_with(
            "# HELP stormhook_attempt_duration_seconds How long.\n# TYPE stormhook_attempt_duration_seconds histogram\n\
             stormhook_attempt_duration_seconds_bucket{le=\"0.001\"} 0\n"
        ));
        assert!(page.text.ends_with(
            "_bucket{le=\"+Inf\"} 0\nstormhook_attempt_duration_seconds_sum 0.000000\nstormhook_attempt_duration_seconds_count 0\n"
        ));
    }

    #[test]
    fn bounds_rise_and_are_named_in_seconds() {
        assert!(BOUNDS_US.is_sorted_by(|a, b| a.0 < b.0));
        for (us, name) in BOUNDS_US {
            let named: f64 = name.parse().unwrap();
            assert_eq!(format!("{:.0}", named * 1e6), us.to_string());
        }
    }
}
