//! `start`: from the process's start until `/readyz` returns 200, on an empty store.

use crate::bench::Bench;
use crate::error::Result;
use crate::report::{Row, Wanted};
use crate::rounds;

/// Runs the scenario.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let mut times_ms = Vec::new();
    for _ in 0..bench.size(7, 3) {
        let (_home, daemon) = bench.fresh().await?;
        times_ms.push(daemon.ready_s * 1_000.0);
        daemon.kill().await?;
    }
    let middle_ms = rounds::median(&times_ms);
    let text = format!("{middle_ms:.1} ms");
    let row = Row::new("start", "start to ready, empty store", text, middle_ms);
    bench
        .report
        .row(row.target(Wanted::AtMost, 50.0, "promise ≤ 50 ms"));
    Ok(())
}
