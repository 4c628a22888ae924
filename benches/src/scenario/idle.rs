//! `idle`: a daemon that has worked and has nothing due must sleep.

use std::time::Duration;

use crate::bench::Bench;
use crate::error::{Doing, Result};
use crate::load::Way;
use crate::proc;
use crate::report::{Row, Wanted, bytes_text};

/// Before the measurement, pools close their connections (4 s) and histograms are written (10 s).
const CALM: Duration = Duration::from_secs(16);
/// The duration of the measurement.
const WATCHED: Duration = Duration::from_secs(10);
/// Events sent before: enough to have used every part once.
const EVENTS: usize = 200;

/// Runs the scenario.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let (home, mut daemon) = bench.fresh().await?;
    bench
        .saturate(&home, &mut daemon, Way::Post, EVENTS)
        .await?;
    let ledger = bench.add_receiver(&mut daemon, "org_retry", "503").await?;
    daemon.api.send_event("org_retry").await?;
    bench.arrived(ledger, 1).await?;
    daemon.api.hang_up();
    tokio::time::sleep(CALM).await;

    let (switches, cpu_us) = (proc::switches(daemon.pid)?, proc::cpu_us(daemon.pid)?);
    tokio::time::sleep(WATCHED).await;
    let switches = proc::switches(daemon.pid)?.saturating_sub(switches);
    let cpu_us = proc::cpu_us(daemon.pid)?.saturating_sub(cpu_us);
    let memory = proc::memory(daemon.pid)?;

    let row = Row::new(
        "idle",
        "wake-ups in 10 s, nothing due",
        switches.to_string(),
        switches as f64,
    );
    bench
        .report
        .row(row.target(Wanted::AtMost, 0.0, "0 (none periodic)"));
    let text = format!("{} ms", cpu_us / 1_000);
    bench
        .report
        .row(Row::new("idle", "  idle: CPU in 10 s", text, cpu_us as f64));
    let rss = memory.rss_bytes as f64;
    let row = Row::new("idle", "memory idle, RSS", bytes_text(rss), rss);
    bench
        .report
        .row(row.target(Wanted::AtMost, 25e6, "≤ 25 MB"));
    let pss = memory.pss_bytes as f64;
    bench
        .report
        .row(Row::new("idle", "  idle: PSS", bytes_text(pss), pss));
    let threads = proc::threads(daemon.pid)?;
    let row = Row::new(
        "idle",
        "  idle: threads",
        threads.to_string(),
        threads as f64,
    );
    bench.report.row(row);
    let program = std::fs::metadata(&bench.program).doing("looking at the daemon's program")?;
    let bytes = program.len() as f64;
    let row = Row::new("idle", "the program", bytes_text(bytes), bytes);
    bench.report.row(row);
    daemon.kill().await
}
