//! `backlog`: a million deliveries waiting for their next attempt, over 10,000 endpoints: the effect on other
//! endpoints, the memory, and the time until a killed daemon is back.

use std::time::Duration;

use crate::bench::Bench;
use crate::clock;
use crate::daemon::{Daemon, Home};
use crate::error::{BenchError, Result};
use crate::load::Way;
use crate::proc;
use crate::process::{Load, Order};
use crate::report::{Row, Wanted, bytes_text};
use crate::rounds;

/// Organizations; each has the same number of endpoints.
pub(super) const ORGANIZATIONS: usize = 100;
const ENDPOINTS_EACH: usize = 100;
/// Without progress for this long, filling the store has failed.
const STALLED_S: f64 = 60.0;

/// Runs the scenario.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let (home, mut loaded) = bench.fresh().await?;
    let each = bench.size(ENDPOINTS_EACH, 10);
    let waiting = build(bench, &home, &mut loaded, each).await?;
    let memory = proc::memory(loaded.pid)?;
    let rss = memory.rss_bytes as f64;
    let endpoints = ORGANIZATIONS * each;
    let what = format!("memory with {waiting} waiting, {endpoints} endpoints, RSS");
    let row = Row::new("backlog", what, bytes_text(rss), rss);
    bench
        .report
        .row(row.target(Wanted::AtMost, 150e6, "≤ 150 MB"));
    let pss = memory.pss_bytes as f64;
    let text = format!(
        "{} · {}",
        bytes_text(pss),
        bytes_text(memory.peak_bytes as f64)
    );
    bench.report.row(Row::new(
        "backlog",
        "  backlog: PSS · peak RSS while filling",
        text,
        pss,
    ));

    rates(bench, &home, &mut loaded).await?;
    restart(bench, &home, loaded, waiting).await
}

/// Fills the store through its API: every delivery fails once and then waits for twelve hours.
async fn build(bench: &mut Bench, home: &Home, daemon: &mut Daemon, each: usize) -> Result<u64> {
    let ledger = bench.sink.ledger();
    let started_ns = clock::monotonic_ns();
    let url = bench.url("503", ledger, 0);
    bench.add_endpoints(home, &url, ORGANIZATIONS, each).await?;
    let made_s = clock::seconds_since(started_ns);
    let mut order = Order::new(
        Way::Stream,
        &home.socket(),
        "org_",
        bench.size(10_000, 10_000),
    );
    order.organizations = ORGANIZATIONS;
    let sent = Load::prepare(&order).await?.go().await?;
    let wanted = sent.accepted * each as u64;
    waiting(daemon, wanted).await?;
    bench.checked(ledger, &sent, each as u64).await?;
    let seconds = clock::seconds_since(started_ns);
    bench.report.note(format!(
        "backlog: {wanted} deliveries built in {seconds:.0} s (endpoints {made_s:.0} s), each \
         attempted once and answered 503"
    ));
    Ok(wanted)
}

pub(super) async fn waiting(daemon: &mut Daemon, wanted: u64) -> Result<()> {
    let mut last = (0, clock::monotonic_ns());
    loop {
        let now = daemon.api.stats().await?;
        if now.retrying == wanted && now.pending == 0 {
            return Ok(());
        }
        if now.failed != last.0 {
            last = (now.failed, clock::monotonic_ns());
        } else if clock::seconds_since(last.1) > STALLED_S {
            let wrong = format!("{wanted} deliveries should be open, the daemon reports {now:?}");
            return Err(BenchError::wrong(wrong));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Compares healthy endpoints beside the backlog with the same on an empty store, in turns.
async fn rates(bench: &mut Bench, home: &Home, loaded: &mut Daemon) -> Result<()> {
    let events = bench.size(50_000, 10_000);
    let (empty_home, mut empty) = bench.fresh().await?;
    bench
        .saturate(&empty_home, &mut empty, Way::Post, events / 10)
        .await?;
    bench.saturate(home, loaded, Way::Post, events / 10).await?;
    for (way, what) in [
        (Way::Post, "one POST an event"),
        (Way::Stream, "NDJSON stream"),
    ] {
        let (mut limits, mut with) = (Vec::new(), Vec::new());
        limits.push(
            bench
                .saturate(&empty_home, &mut empty, way, events)
                .await?
                .rate,
        );
        for _ in 0..3 {
            with.push(bench.saturate(home, loaded, way, events).await?.rate);
            limits.push(
                bench
                    .saturate(&empty_home, &mut empty, way, events)
                    .await?
                    .rate,
            );
        }
        let clean = rounds::clean(&limits);
        let per_round: Vec<f64> = limits
            .windows(2)
            .map(|pair| pair.iter().sum::<f64>() / 2.0)
            .collect();
        let ratios: Vec<f64> = with.iter().zip(&per_round).map(|(w, e)| w / e).collect();
        let rate = rounds::median(&rounds::kept(&with, &clean));
        let empty_rate = rounds::median(&rounds::kept(&per_round, &clean));
        let ratio = rounds::median(&rounds::kept(&ratios, &clean));
        let row = Row::new(
            "backlog",
            format!("  beside it: {what}"),
            format!("{rate:.0} events/s"),
            rate,
        );
        let row = row.against(format!("empty store, {empty_rate:.0}/s"), ratio);
        bench.report.row(row.target(Wanted::AtLeast, 0.8, "≥ 0.8"));
        if let Some(remark) = rounds::remark(&format!("backlog, {what}"), &clean) {
            bench.report.note(remark);
        }
    }
    empty.kill().await
}

/// Kills and restarts the daemon. The backlog must be complete.
async fn restart(bench: &mut Bench, home: &Home, daemon: Daemon, waiting: u64) -> Result<()> {
    daemon.kill().await?;
    let mut daemon = Daemon::start(&bench.program, home).await?;
    let ready_s = daemon.ready_s;
    let row = Row::new(
        "backlog",
        "kill -9 until ready",
        format!("{ready_s:.2} s"),
        ready_s,
    );
    bench
        .report
        .row(row.target(Wanted::AtMost, 3.0, "≤ 3 s (promise 2)"));
    let stats = daemon.api.stats().await?;
    if stats.retrying != waiting {
        let wrong = format!("{waiting} deliveries were open before kill -9, afterwards {stats:?}");
        return Err(BenchError::wrong(wrong));
    }
    let rss = proc::memory(daemon.pid)?.rss_bytes as f64;
    bench.report.row(Row::new(
        "backlog",
        "  backlog: RSS after the restart",
        bytes_text(rss),
        rss,
    ));
    bench
        .report
        .note("backlog: the restart finds the file in the page cache");
    daemon.kill().await
}
