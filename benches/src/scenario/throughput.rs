//! `ceiling`, `single`, `keyed`, `stream`: interleaved rounds. Each way of sending is measured between two
//! measurements of the bare client's rate.

use crate::bench::{Bench, Run};
use crate::error::Result;
use crate::load::Way;
use crate::report::{Row, Wanted, bytes_text};
use crate::{proc, rounds};

/// The number of rounds, and how many more are tried if some are not clean.
const ROUNDS: usize = 3;
const EXTRA_ROUNDS: usize = 2;

/// A way of sending, and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    /// How the events are sent.
    pub(crate) way: Way,
    /// The scenario's name.
    pub(crate) name: &'static str,
}

/// All lanes, in the order of a round.
pub(crate) const LANES: &[Lane] = &[
    Lane {
        way: Way::Post,
        name: "single",
    },
    Lane {
        way: Way::Keyed,
        name: "keyed",
    },
    Lane {
        way: Way::Stream,
        name: "stream",
    },
];

/// The results of one lane, one value per round.
#[derive(Default)]
struct Found {
    runs: Vec<Run>,
    rss_bytes: Vec<f64>,
    pss_bytes: Vec<f64>,
}

/// Runs `lanes` in interleaved rounds.
pub(crate) async fn run(bench: &mut Bench, lanes: &[Lane]) -> Result<()> {
    let events = bench.size(100_000, 20_000);
    bench.ceiling(events / 4).await?;
    let mut ceilings = vec![bench.ceiling(events).await?];
    let mut found: Vec<Found> = lanes.iter().map(|_| Found::default()).collect();
    for round in 0..ROUNDS + EXTRA_ROUNDS {
        let clean = rounds::clean(&ceilings)
            .iter()
            .filter(|clean| **clean)
            .count();
        if round >= ROUNDS && clean >= ROUNDS {
            break;
        }
        for (lane, found) in lanes.iter().zip(&mut found) {
            one(bench, *lane, events, found).await?;
        }
        ceilings.push(bench.ceiling(events).await?);
    }
    let clean = rounds::clean(&ceilings);
    let per_round: Vec<f64> = ceilings
        .windows(2)
        .map(|pair| pair.iter().sum::<f64>() / 2.0)
        .collect();
    let ceiling = rounds::median(&rounds::kept(&per_round, &clean));
    let text = format!("{ceiling:.0} POST/s");
    bench.report.row(Row::new(
        "ceiling",
        "bare client to bare sink, 64 in flight",
        text,
        ceiling,
    ));
    if let Some(remark) = rounds::remark("throughput", &clean) {
        bench.report.note(remark);
    }
    for (lane, found) in lanes.iter().zip(&found) {
        write_rows(bench, *lane, found, &per_round, &clean);
    }
    Ok(())
}

/// Runs a lane once on a store of its own, after a warm-up.
async fn one(bench: &mut Bench, lane: Lane, events: usize, found: &mut Found) -> Result<()> {
    let (home, mut daemon) = bench.fresh().await?;
    bench
        .saturate(&home, &mut daemon, lane.way, events / 20)
        .await?;
    let run = bench.saturate(&home, &mut daemon, lane.way, events).await?;
    let memory = proc::memory(daemon.pid)?;
    found.runs.push(run);
    found.rss_bytes.push(memory.peak_bytes as f64);
    found.pss_bytes.push(memory.pss_bytes as f64);
    daemon.kill().await
}

fn write_rows(bench: &mut Bench, lane: Lane, found: &Found, ceilings: &[f64], clean: &[bool]) {
    let name = lane.name;
    let of = |read: fn(&Run) -> f64| {
        let values: Vec<f64> = found.runs.iter().map(read).collect();
        rounds::median(&rounds::kept(&values, clean))
    };
    let rates: Vec<f64> = found.runs.iter().map(|run| run.rate).collect();
    let ratios: Vec<f64> = rates
        .iter()
        .zip(ceilings)
        .map(|(rate, ceiling)| rate / ceiling)
        .collect();
    let ratio = rounds::median(&rounds::kept(&ratios, clean));
    let rate = of(|run| run.rate);
    let what = match lane.way {
        Way::Stream => "one NDJSON stream, settled",
        Way::Keyed => "one POST an event with a key, 256 in flight, settled",
        _ => "one POST an event, 256 in flight, settled",
    };
    let row = Row::new(name, what, format!("{rate:.0} events/s"), rate).against("ceiling", ratio);
    bench.report.row(match lane.way {
        Way::Post => row.target(Wanted::AtLeast, 0.35, "≥ 0.35 (promise 0.40)"),
        Way::Stream => row.target(Wanted::AtLeast, 0.55, "≥ 0.55 (promise 0.65)"),
        _ => row,
    });
    let cpu_us = of(|run| run.cpu_us);
    let row = Row::new(
        name,
        format!("  {name}: daemon CPU"),
        format!("{cpu_us:.1} µs/event"),
        cpu_us,
    );
    bench.report.row(match lane.way {
        Way::Post => row.target(Wanted::AtMost, 75.0, "promise ≤ 75 µs"),
        Way::Stream => row.target(Wanted::AtMost, 50.0, "promise ≤ 50 µs"),
        _ => row,
    });
    let written = of(|run| run.written_bytes);
    let text = format!("{}/event", bytes_text(written));
    let row = Row::new(name, format!("  {name}: written to disk"), text, written);
    bench
        .report
        .row(row.target(Wanted::AtMost, 2_048.0, "promise ≤ 2 KiB"));
    write_memory(bench, lane, found, clean);
    if lane.way != Way::Stream {
        let (p50, p99) = (
            of(|run| run.answer.p50_us as f64),
            of(|run| run.answer.p99_us as f64),
        );
        let text = format!("{:.1} · {:.1} ms", p50 / 1_000.0, p99 / 1_000.0);
        bench.report.row(Row::new(
            name,
            format!("  {name}: answer p50 · p99"),
            text,
            p50 / 1_000.0,
        ));
    }
    let verified: u64 = found.runs.iter().map(|run| run.verified).sum();
    let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
    let rates = rates.join(", ");
    bench.report.note(format!(
        "{name}: rounds {rates}; {verified} signatures recomputed"
    ));
}

fn write_memory(bench: &mut Bench, lane: Lane, found: &Found, clean: &[bool]) {
    let name = lane.name;
    let peak = rounds::median(&rounds::kept(&found.rss_bytes, clean));
    let pss = rounds::median(&rounds::kept(&found.pss_bytes, clean));
    let text = format!("{} · {}", bytes_text(peak), bytes_text(pss));
    bench.report.row(Row::new(
        name,
        format!("  {name}: peak RSS · PSS after"),
        text,
        peak,
    ));
}
