//! `filesize`: the size of a settled event in the file.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use stormhook_benches::bodies::Kind;

use crate::bench::Bench;
use crate::daemon::Daemon;
use crate::error::Result;
use crate::load::Way;
use crate::process::Order;
use crate::report::{Row, Wanted, bytes_text};

/// The parts of the file that hold data or can't hold anything else, as `POST /v1/check` names them.
const PARTS: [&str; 3] = ["storedBytes", "metadataBytes", "fragmentedBytes"];
/// Histograms and endpoint history, which are written lazily, have been written by then.
const LAZY_WRITES: Duration = Duration::from_secs(12);

async fn used_bytes(daemon: &mut Daemon) -> Result<Option<f64>> {
    let report = daemon
        .api
        .post("/v1/check", &json!({}), StatusCode::OK)
        .await?;
    let parts = PARTS.map(|name| report.get(name).and_then(Value::as_f64));
    Ok(parts.into_iter().sum())
}

/// Runs the scenario.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let events = bench.size(200_000, 40_000);
    let (home, mut daemon) = bench.fresh().await?;
    let mut order = Order::new(Way::Post, &home.socket(), "org_orders", events);
    order.kind = Kind::Order;
    bench.run(&mut daemon, &order).await?;
    tokio::time::sleep(LAZY_WRITES).await;
    let raw = home.file_bytes()? as f64 / events as f64;
    match used_bytes(&mut daemon).await? {
        Some(used) => {
            let used = used / events as f64;
            let row = Row::new(
                "filesize",
                "used in the file per settled order",
                bytes_text(used),
                used,
            );
            bench
                .report
                .row(row.target(Wanted::AtMost, 512.0, "≤ 0.5 KiB"));
        }
        None => bench.report.note(format!(
            "filesize: POST /v1/check lacks one of {}; only the file's length is known",
            PARTS.join(", ")
        )),
    }
    bench.report.row(Row::new(
        "filesize",
        "  the files' lengths per order",
        bytes_text(raw),
        raw,
    ));
    bench.report.note(format!(
        "filesize: {events} orders, data of 735 bytes on average, one POST each, 256 in flight"
    ));
    daemon.kill().await
}
