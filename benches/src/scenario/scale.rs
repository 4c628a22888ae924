//! `scale`: the same work with ten thousand, a hundred thousand, a million and ten million open deliveries
//! over 10,000 endpoints: the cost of an event in time, bytes written, memory and file size, and the time
//! until a killed daemon is back. Only memory, the file and the start, which reads the backlog once, may grow
//! with it.

use std::time::Duration;

use super::backlog;
use crate::bench::{Bench, Run};
use crate::clock;
use crate::daemon::{Daemon, Home};
use crate::error::{BenchError, Result};
use crate::load::Way;
use crate::proc;
use crate::process::{Load, Order};
use crate::report::{Curve, Plot, Row, Wanted, bytes_text};

/// Endpoints of each organization.
const ENDPOINTS_EACH: u64 = 100;
/// So that the default limit of 5 million open deliveries is not what is measured.
const MORE: &str = "[limits]\npending_deliveries = 20000000\n";
/// How long the daemon rests before its memory is measured again: histograms are written within ten seconds.
const REST: Duration = Duration::from_secs(15);
/// How often memory is measured while the store fills.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The results of one size.
struct Step {
    waiting: f64,
    single: Run,
    stream: Run,
    busy_rss_bytes: f64,
    rest_rss_bytes: f64,
    file_bytes: f64,
    ready_s: f64,
}

/// Runs the scenario, up to `most` deliveries.
pub(crate) async fn run(bench: &mut Bench, most: u64) -> Result<()> {
    let home = Home::with(&bench.root, MORE)?;
    let mut daemon = Daemon::start(&bench.program, &home).await?;
    let ledger = bench.sink.ledger();
    let each = usize::try_from(ENDPOINTS_EACH).unwrap_or(usize::MAX);
    let url = bench.url("503", ledger, 0);
    let organizations = backlog::ORGANIZATIONS;
    bench
        .add_endpoints(&home, &url, organizations, each)
        .await?;
    let (mut steps, mut memory) = (Vec::new(), Vec::new());
    let started_ns = clock::monotonic_ns();
    let mut waiting = 0;
    for size in [10_000, 100_000, 1_000_000, 10_000_000] {
        if size > most {
            break;
        }
        waiting += fill(
            bench,
            &home,
            &mut daemon,
            size - waiting,
            waiting,
            started_ns,
            &mut memory,
        )
        .await?;
        let (step, next) = measure(bench, &home, daemon, waiting).await?;
        daemon = next;
        tell(bench, &step);
        steps.push(step);
    }
    draw(bench, &steps, memory);
    daemon.kill().await
}

/// Adds about `more` deliveries that fail once and then wait for twelve hours.
async fn fill(
    bench: &mut Bench,
    home: &Home,
    daemon: &mut Daemon,
    more: u64,
    before: u64,
    started_ns: u64,
    memory: &mut Vec<(f64, f64)>,
) -> Result<u64> {
    let filling_ns = clock::monotonic_ns();
    let cpu_us = proc::cpu_us(daemon.pid)?;
    let mut added = 0;
    while added < more {
        // A million at a time, so that unattempted deliveries don't pile up.
        let events = ((more - added) / ENDPOINTS_EACH).clamp(64, 10_000);
        let events = usize::try_from(events).unwrap_or(usize::MAX);
        let mut order = Order::new(Way::Stream, &home.socket(), "org_", events);
        order.organizations = backlog::ORGANIZATIONS;
        let sent = Load::prepare(&order).await?.go().await?;
        added += sent.accepted * ENDPOINTS_EACH;
        let pid = daemon.pid;
        let wanted = before + added;
        let mut waited = std::pin::pin!(backlog::waiting(daemon, wanted));
        loop {
            memory.push((
                clock::seconds_since(started_ns),
                proc::memory(pid)?.rss_bytes as f64 / 1_048_576.0,
            ));
            if let Ok(done) = tokio::time::timeout(LOOK_EVERY, &mut waited).await {
                done?;
                break;
            }
        }
    }
    let seconds = clock::seconds_since(filling_ns);
    let cpu_us = proc::cpu_us(daemon.pid)?.saturating_sub(cpu_us) as f64 / added as f64;
    bench.report.note(format!(
        "scale: {before} to {} waiting in {seconds:.0} s: {:.0} deliveries/s created, attempted and answered 503, {cpu_us:.0} µs of daemon CPU each",
        before + added,
        added as f64 / seconds
    ));
    Ok(added)
}

/// Measures all costs at this backlog. Ends with a kill -9 and a restart.
async fn measure(
    bench: &mut Bench,
    home: &Home,
    mut daemon: Daemon,
    waiting: u64,
) -> Result<(Step, Daemon)> {
    let events = bench.size(40_000, 5_000);
    bench
        .saturate(home, &mut daemon, Way::Post, events / 10)
        .await?;
    let single = bench.saturate(home, &mut daemon, Way::Post, events).await?;
    let stream = bench
        .saturate(home, &mut daemon, Way::Stream, events)
        .await?;
    let busy_rss_bytes = proc::memory(daemon.pid)?.rss_bytes as f64;
    tokio::time::sleep(REST).await;
    let rest_rss_bytes = proc::memory(daemon.pid)?.rss_bytes as f64;
    daemon.kill().await?;
    let file_bytes = home.file_bytes()? as f64;
    let mut daemon = Daemon::start(&bench.program, home).await?;
    let stats = daemon.api.stats().await?;
    if stats.retrying != waiting {
        let wrong = format!("{waiting} deliveries were open before kill -9, afterwards {stats:?}");
        return Err(BenchError::wrong(wrong));
    }
    let step = Step {
        waiting: waiting as f64,
        single,
        stream,
        busy_rss_bytes,
        rest_rss_bytes,
        file_bytes,
        ready_s: daemon.ready_s,
    };
    Ok((step, daemon))
}

fn tell(bench: &mut Bench, step: &Step) {
    let waiting = step.waiting;
    let at = |what: &str| format!("{waiting:.0} waiting: {what}");
    let rows = [
        (
            at("single · stream, settled"),
            format!("{:.0} · {:.0} events/s", step.single.rate, step.stream.rate),
            step.single.rate,
        ),
        (
            "  daemon CPU, single · stream".to_owned(),
            format!(
                "{:.1} · {:.1} µs/event",
                step.single.cpu_us, step.stream.cpu_us
            ),
            step.single.cpu_us,
        ),
        (
            "  written to disk, single · stream".to_owned(),
            format!(
                "{} · {}",
                bytes_text(step.single.written_bytes),
                bytes_text(step.stream.written_bytes)
            ),
            step.single.written_bytes,
        ),
        (
            "  file · per waiting delivery".to_owned(),
            format!(
                "{} · {}",
                bytes_text(step.file_bytes),
                bytes_text(step.file_bytes / waiting)
            ),
            step.file_bytes,
        ),
        (
            "  kill -9 until ready".to_owned(),
            format!("{:.2} s", step.ready_s),
            step.ready_s,
        ),
    ];
    for (line, text, value) in rows {
        bench.report.row(Row::new("scale", line, text, value));
    }
    let bound_mb = match waiting {
        _ if waiting < 500_000.0 => None,
        _ if waiting < 5e6 => Some((150e6, "≤ 150 MB")),
        _ => Some((600e6, "≤ 600 MB")),
    };
    let row = Row::new(
        "scale",
        "  memory, RSS: as the load ends · 15 s later",
        format!(
            "{} · {}",
            bytes_text(step.busy_rss_bytes),
            bytes_text(step.rest_rss_bytes)
        ),
        step.rest_rss_bytes,
    );
    bench.report.row(match bound_mb {
        Some((bytes, text)) => row.target(Wanted::AtMost, bytes, text),
        None => row,
    });
}

fn draw(bench: &mut Bench, steps: &[Step], memory: Vec<(f64, f64)>) {
    let mut by_waiting = |name, title: &str, y, read: fn(&Run) -> f64| {
        let curve = |name: &str, of: fn(&Step) -> &Run| Curve {
            name: name.to_owned(),
            points: steps
                .iter()
                .map(|step| (step.waiting, read(of(step))))
                .collect(),
        };
        bench.report.plot(Plot {
            name,
            title: title.to_owned(),
            axes: ("deliveries waiting", y),
            powers: (true, false),
            curves: vec![
                curve("one POST an event", |step| &step.single),
                curve("NDJSON stream", |step| &step.stream),
            ],
        });
    };
    by_waiting(
        "cpu-by-backlog",
        "Daemon CPU per event, by open deliveries",
        "µs of CPU per event",
        |run| run.cpu_us,
    );
    by_waiting(
        "rate-by-backlog",
        "Events accepted, delivered and settled, by open deliveries",
        "events/s",
        |run| run.rate,
    );
    by_waiting(
        "written-by-backlog",
        "Written to disk per event, by open deliveries",
        "KiB per event",
        |run| run.written_bytes / 1_024.0,
    );
    bench.report.plot(Plot {
        name: "memory-over-time",
        title: "Memory while open deliveries accumulate".to_owned(),
        axes: ("s", "MiB resident"),
        powers: (false, false),
        curves: vec![Curve {
            name: "RSS".to_owned(),
            points: memory,
        }],
    });
}
