//! `concurrency`: events per second, and the time of an answer, by the number of concurrent callers.

use crate::bench::Bench;
use crate::error::Result;
use crate::load::Way;
use crate::process::Order;
use crate::report::{Curve, Plot, Row};

/// The numbers of callers. Each has one request at a time.
const CALLERS: [usize; 6] = [1, 4, 16, 64, 256, 1_024];

/// Runs the scenario.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let most = bench.size(60_000, 5_000);
    let (home, mut daemon) = bench.fresh().await?;
    bench
        .saturate(&home, &mut daemon, Way::Post, most / 10)
        .await?;
    let (mut rates, mut answers) = (Vec::new(), Vec::new());
    for callers in CALLERS {
        // One caller sends a few thousand per second: enough events for a few seconds.
        let events = most.min(3_000 * callers + 3_000);
        let organization = format!("org_callers{callers}");
        let mut order = Order::new(Way::Post, &home.socket(), &organization, events);
        order.connections = callers;
        let run = bench.run(&mut daemon, &order).await?;
        let text = format!(
            "{:.0} events/s · {:.2} · {:.2} ms · {:.0} µs",
            run.rate,
            run.answer.p50_us as f64 / 1e3,
            run.answer.p99_us as f64 / 1e3,
            run.cpu_us
        );
        let line = format!("{callers} callers: rate · answer p50 · p99 · daemon CPU");
        bench
            .report
            .row(Row::new("concurrency", line, text, run.rate));
        rates.push((callers as f64, run.rate));
        answers.push((callers as f64, run.answer.p99_us as f64 / 1e3));
    }
    bench.report.plot(Plot {
        name: "throughput-by-concurrency",
        title: "Events accepted, delivered and settled, by concurrent callers".to_owned(),
        axes: ("callers, one request each", "events/s"),
        powers: (true, false),
        curves: vec![Curve {
            name: "events/s".to_owned(),
            points: rates,
        }],
    });
    bench.report.plot(Plot {
        name: "answer-by-concurrency",
        title: "Time of an answer at saturation, by concurrent callers".to_owned(),
        axes: ("callers, one request each", "p99, ms"),
        powers: (true, true),
        curves: vec![Curve {
            name: "p99".to_owned(),
            points: answers,
        }],
    });
    daemon.kill().await
}
