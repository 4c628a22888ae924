//! `steady`: the time from a producer's start to the sink's receipt, at a rate that leaves the machine mostly
//! idle, compared with the disk's own sync in the same minute.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use crate::bench::Bench;
use crate::clock;
use crate::error::{Doing, Result};
use crate::load::Way;
use crate::process::{Load, Order};
use crate::report::{Row, Wanted};

/// Events per second.
const RATE: usize = 500;
/// Syncs that are measured for the disk's median.
const SYNCS: usize = 200;

/// Median and 99th percentile of 4 KiB writes with fdatasync, in microseconds.
fn sync_us(folder: &Path) -> Result<(f64, f64)> {
    std::fs::create_dir_all(folder).doing("making the bench's folder")?;
    let mut file = tempfile::tempfile_in(folder).doing("making a file to sync")?;
    let block = [7_u8; 4_096];
    file.write_all(&block).doing("writing to sync")?;
    file.sync_all().doing("syncing")?;
    let mut times_us = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started_ns = clock::monotonic_ns();
        file.seek(SeekFrom::Start(0)).doing("seeking")?;
        file.write_all(&block).doing("writing to sync")?;
        file.sync_data().doing("syncing")?;
        times_us.push(clock::seconds_since(started_ns) * 1e6);
    }
    times_us.sort_by(f64::total_cmp);
    let at = |index: usize| times_us.get(index).copied().unwrap_or(0.0);
    Ok((at(SYNCS / 2), at(SYNCS * 99 / 100)))
}

/// Runs the scenario.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let seconds = bench.size(20, 5);
    let (home, mut daemon) = bench.fresh().await?;
    let organization = "org_steady";
    let mut order = Order::new(Way::Steady, &home.socket(), organization, RATE);
    order.rate = RATE as u64;
    order.connections = 64;
    let warm = bench.add_receiver(&mut daemon, "org_warm", "timed").await?;
    order.organization = "org_warm".to_owned();
    let sent = Load::prepare(&order).await?.go().await?;
    bench.arrived(warm, sent.accepted).await?;

    let (sync_p50_us, sync_p99_us) = sync_us(&bench.root)?;
    let ledger = bench
        .add_receiver(&mut daemon, organization, "timed")
        .await?;
    order.organization = organization.to_owned();
    order.events = RATE * seconds;
    let cpu_us = crate::proc::cpu_us(daemon.pid)?;
    let sent = Load::prepare(&order).await?.go().await?;
    bench.arrived(ledger, sent.accepted).await?;
    // Settling the last of them is part of their cost.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let cpu_us = crate::proc::cpu_us(daemon.pid)?.saturating_sub(cpu_us);
    let got = bench.checked(ledger, &sent, 1).await?;

    let (p50_ms, p99_ms) = (
        got.latency.p50_us as f64 / 1e3,
        got.latency.p99_us as f64 / 1e3,
    );
    let row = Row::new(
        "steady",
        "event to sink p50, 500/s",
        format!("{p50_ms:.2} ms"),
        p50_ms,
    );
    bench
        .report
        .row(row.target(Wanted::AtMost, 2.0, "≤ 2 ms (promise 1.5)"));
    let row = Row::new(
        "steady",
        "event to sink p99, 500/s",
        format!("{p99_ms:.2} ms"),
        p99_ms,
    );
    bench
        .report
        .row(row.target(Wanted::AtMost, 15.0, "≤ 15 ms (promise 10)"));
    let text = format!("{:.2} · {:.2} ms", sync_p50_us / 1e3, sync_p99_us / 1e3);
    bench.report.row(Row::new(
        "steady",
        "  fdatasync 4 KiB p50 · p99",
        text,
        sync_p50_us / 1e3,
    ));
    let per_event_us = cpu_us as f64 / sent.accepted.max(1) as f64;
    let text = format!("{per_event_us:.0} µs/event");
    bench.report.row(Row::new(
        "steady",
        "  steady: daemon CPU",
        text,
        per_event_us,
    ));
    let late_ms = sent.late.p99_us as f64 / 1e3;
    bench.report.note(format!(
        "steady: the load started its requests at most {late_ms:.1} ms late (p99)"
    ));
    daemon.kill().await
}
