//! `fairness`: the effect on a healthy endpoint of 1,000 that hang, and of one that has 100,000 deliveries
//! overdue.

use std::time::Duration;

use crate::bench::{Bench, SECRET};
use crate::daemon::{Daemon, Home};
use crate::error::Result;
use crate::load::Way;
use crate::process::{Load, Order};
use crate::report::{Row, Wanted};
use crate::rounds;

/// Events per second to the healthy endpoint.
const RATE: usize = 100;
/// The sink's behaviour for the flooded endpoint: it answers after 50 ms.
const SLOW_ANSWER: &str = "slow50";

/// The endpoints beside the healthy one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    Hanging(usize),
    Overdue(usize),
}

/// Runs the scenario.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let hanging = Beside::Hanging(bench.size(1_000, 200));
    let overdue = Beside::Overdue(bench.size(100_000, 20_000));
    let (mut alone_ms, mut hang_ms, mut flood_ms) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.size(3, 1) {
        alone_ms.push(p95_ms(bench, Beside::Nobody).await?);
        hang_ms.push(p95_ms(bench, hanging).await?);
        flood_ms.push(p95_ms(bench, overdue).await?);
    }
    let alone = rounds::median(&alone_ms);
    let text = |ms: f64| format!("{ms:.2} ms");
    bench.report.row(Row::new(
        "fairness",
        "healthy endpoint's p95 alone, 100/s",
        text(alone),
        alone,
    ));
    for (what, values) in [
        (
            format!("  beside {} hanging endpoints", bench.size(1_000, 200)),
            &hang_ms,
        ),
        (
            format!("  beside one with {} overdue", bench.size(100_000, 20_000)),
            &flood_ms,
        ),
    ] {
        let middle = rounds::median(values);
        let ratios: Vec<f64> = values.iter().zip(&alone_ms).map(|(v, a)| v / a).collect();
        let row = Row::new("fairness", what, text(middle), middle);
        let row = row.against("alone", rounds::median(&ratios));
        bench.report.row(row.target(Wanted::AtMost, 2.0, "≤ 2×"));
    }
    Ok(())
}

/// Returns the healthy endpoint's 95th percentile from a producer's start to the receipt.
async fn p95_ms(bench: &mut Bench, beside: Beside) -> Result<f64> {
    let (home, mut daemon) = bench.fresh().await?;
    let seconds = bench.size(15, 5);
    let ledger = bench
        .add_receiver(&mut daemon, "org_healthy", "timed")
        .await?;
    warm(bench, &home, &mut daemon).await?;
    let mut order = Order::new(Way::Steady, &home.socket(), "org_healthy", RATE * seconds);
    order.rate = RATE as u64;
    order.connections = 32;
    if let Beside::Hanging(count) = beside {
        add_hanging(bench, &mut daemon, count).await?;
    }
    let load = Load::prepare(&order).await?;
    if let Beside::Overdue(count) = beside {
        flood(bench, &home, &mut daemon, count).await?;
    }
    let sent = if let Beside::Hanging(_) = beside {
        let load = load.go();
        tokio::pin!(load);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                sent = &mut load => break sent?,
                // Each event goes to every hanging endpoint; the first is sent immediately.
                _ = ticks.tick() => daemon.api.send_event("org_hanging").await?,
            }
        }
    } else {
        load.go().await?
    };
    bench.arrived(ledger, sent.accepted).await?;
    let got = bench.checked(ledger, &sent, 1).await?;
    if beside != Beside::Nobody {
        let left = daemon.api.stats().await?;
        let open = left.pending + left.retrying;
        let who = if matches!(beside, Beside::Hanging(_)) {
            "hanging"
        } else {
            "overdue"
        };
        bench.report.note(format!(
            "fairness: {open} deliveries of the {who} still open at the end"
        ));
    }
    daemon.kill().await?;
    Ok(got.latency.p95_us as f64 / 1e3)
}

/// Uses every part once, so that `alone` isn't measured cold.
async fn warm(bench: &mut Bench, home: &Home, daemon: &mut Daemon) -> Result<()> {
    bench
        .saturate(home, daemon, Way::Post, 2_000)
        .await
        .map(drop)
}

async fn add_hanging(bench: &mut Bench, daemon: &mut Daemon, count: usize) -> Result<()> {
    let ledger = bench.sink.ledger();
    for endpoint in 0..count {
        let url = bench.url("hang", ledger, endpoint);
        daemon.api.add_endpoint("org_hanging", &url, SECRET).await?;
    }
    Ok(())
}

/// Gives one endpoint more than its receiver can take within the measurement.
async fn flood(bench: &mut Bench, home: &Home, daemon: &mut Daemon, count: usize) -> Result<()> {
    bench
        .add_receiver(daemon, "org_flooded", SLOW_ANSWER)
        .await?;
    let order = Order::new(Way::Stream, &home.socket(), "org_flooded", count);
    Load::prepare(&order).await?.go().await.map(drop)
}
