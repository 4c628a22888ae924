//! `latency`: the time of an answer and the time of an event to its receiver, at a tenth, a half and nine
//! tenths of the machine's peak rate; and whether answers stall at half the peak.

use crate::bench::Bench;
use crate::daemon::{Daemon, Home};
use crate::error::Result;
use crate::load::Way;
use crate::process::{Latency, Load, Order, Sent};
use crate::report::{Curve, Plot, Row};
use crate::rounds;

/// Percent of the peak.
const SHARES: [u64; 5] = [10, 30, 50, 70, 90];
/// The percentages that the table shows.
const TOLD: [u64; 3] = [10, 50, 90];
/// The percentage whose slowest answers are plotted over time.
const WATCHED: u64 = 50;

/// Runs the scenario.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let (home, mut daemon) = bench.fresh().await?;
    let peak = peak(bench, &home, &mut daemon).await?;
    bench.report.row(Row::new(
        "latency",
        "peak: one POST an event, 256 in flight, settled",
        format!("{peak:.0} events/s"),
        peak,
    ));
    let mut curves = Curves::default();
    for share in SHARES {
        let rate = part_of(peak, share);
        let (sent, way) = at_rate(bench, &home, &mut daemon, rate).await?;
        if TOLD.contains(&share) {
            for (what, found) in [("answer", sent.answer), ("event to sink", way)] {
                let line = format!("  {share} % of it, {rate}/s: {what} p50 · p99 · p99.9");
                let row = Row::new("latency", line, text(found), found.p99_us as f64 / 1e3);
                bench.report.row(row);
            }
        }
        if share == WATCHED {
            stalls(bench, &sent, rate);
        }
        curves.add(rate as f64, sent.answer, way);
    }
    curves.draw(bench);
    daemon.kill().await
}

/// Returns this percentage of a rate, in whole events.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive and far below 2^53"
)]
fn part_of(peak: f64, percent: u64) -> u64 {
    ((peak * percent as f64 / 100.0) as u64).max(1)
}

fn text(latency: Latency) -> String {
    let [p50, p99, p999] =
        [latency.p50_us, latency.p99_us, latency.p999_us].map(|us| us as f64 / 1e3);
    format!("{p50:.2} · {p99:.2} · {p999:.2} ms")
}

async fn peak(bench: &mut Bench, home: &Home, daemon: &mut Daemon) -> Result<f64> {
    let events = bench.size(60_000, 5_000);
    bench.saturate(home, daemon, Way::Post, events / 10).await?;
    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(bench.saturate(home, daemon, Way::Post, events).await?.rate);
    }
    Ok(rounds::median(&rates))
}

/// Runs some seconds at a rate.
async fn at_rate(
    bench: &mut Bench,
    home: &Home,
    daemon: &mut Daemon,
    rate: u64,
) -> Result<(Sent, Latency)> {
    let seconds = bench.size(10, 2);
    let organization = format!("org_rate{rate}");
    let ledger = bench.add_receiver(daemon, &organization, "timed").await?;
    let events = usize::try_from(rate).unwrap_or(usize::MAX) * seconds;
    let mut order = Order::new(Way::Steady, &home.socket(), &organization, events);
    order.rate = rate;
    let sent = Load::prepare(&order).await?.go().await?;
    bench.arrived(ledger, sent.accepted).await?;
    let got = bench.checked(ledger, &sent, 1).await?;
    Ok((sent, got.latency))
}

fn stalls(bench: &mut Bench, sent: &Sent, rate: u64) {
    let slice_s = sent.slice_ms as f64 / 1e3;
    let points = sent.worst_us.iter().enumerate();
    bench.report.plot(Plot {
        name: "slowest-answers-over-time",
        title: format!(
            "The slowest answer of each {} ms at {rate} events/s",
            sent.slice_ms
        ),
        axes: ("s", "ms"),
        powers: (false, false),
        curves: vec![Curve {
            name: "slowest answer".to_owned(),
            points: points
                .map(|(at, us)| (at as f64 * slice_s, *us as f64 / 1e3))
                .collect(),
        }],
    });
}

/// Plots percentiles by rate.
#[derive(Default)]
struct Curves {
    answer: [Vec<(f64, f64)>; 3],
    way: [Vec<(f64, f64)>; 3],
}

impl Curves {
    fn add(&mut self, rate: f64, answer: Latency, way: Latency) {
        for (curves, found) in [(&mut self.answer, answer), (&mut self.way, way)] {
            let all = [found.p50_us, found.p99_us, found.p999_us];
            for (curve, us) in curves.iter_mut().zip(all) {
                curve.push((rate, us as f64 / 1e3));
            }
        }
    }

    fn draw(self, bench: &mut Bench) {
        let named = |curves: [Vec<(f64, f64)>; 3]| {
            let names = ["p50", "p99", "p99.9"].map(str::to_owned);
            let both = names.into_iter().zip(curves);
            both.map(|(name, points)| Curve { name, points }).collect()
        };
        for (name, title, curves) in [
            (
                "answer-by-rate",
                "Time until an event is durable and answered, by rate",
                self.answer,
            ),
            (
                "event-to-sink-by-rate",
                "Time from the producer's start to the receipt, by rate",
                self.way,
            ),
        ] {
            bench.report.plot(Plot {
                name,
                title: title.to_owned(),
                axes: ("events/s", "ms"),
                powers: (false, true),
                curves: named(curves),
            });
        }
    }
}
