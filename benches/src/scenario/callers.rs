//! `callers`: what it costs to know who calls. The same request is made on the socket, with the admin token and with an
//! API key, in turns, and the daemon's CPU time is compared. The check is the same for every request, one that sends an
//! event included; this one asks for an endpoint that there is not, so that little else is done.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::error::{BenchError, Result};
use crate::proc;
use crate::report::{Row, Wanted};

const PATH: &str = "/v1/endpoints/ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A";
/// Requests of one turn; a tick of the CPU clock is then half a microsecond of each, and there are many turns.
const REQUESTS: usize = 20_000;
const TURNS: usize = 12;

/// Runs the scenario.
pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let (home, mut daemon) = bench.fresh().await?;
    let key = json!({"name": "bench", "scopes": ["read"]});
    let made = daemon
        .api
        .post("/v1/keys", &key, StatusCode::CREATED)
        .await?;
    let key = made.get("key").and_then(Value::as_str);
    let key = key.ok_or_else(|| BenchError::wrong("the daemon made no key"))?;
    let key = format!("Bearer {key}");
    let token = format!("Bearer {}", home.token()?);
    let callers = [None, Some(token.as_str()), Some(key.as_str())];
    let (requests, turns) = if bench.quick {
        (2_000, 3)
    } else {
        (REQUESTS, TURNS)
    };
    let mut spent_us = [0_u64; 3];
    // The first turn warms up.
    for turn in 0..=turns {
        for (caller, spent_us) in callers.iter().zip(&mut spent_us) {
            let before_us = proc::cpu_us(daemon.pid)?;
            for _ in 0..requests {
                daemon
                    .api
                    .get_as(PATH, *caller, StatusCode::NOT_FOUND)
                    .await?;
            }
            if turn > 0 {
                *spent_us += proc::cpu_us(daemon.pid)?.saturating_sub(before_us);
            }
        }
    }
    let each = |spent_us: u64| spent_us as f64 / (requests * turns) as f64;
    let [socket, token, key] = spent_us.map(each);
    let row = |line: &str, us: f64| Row::new("callers", line, format!("{us:.2} µs"), us);
    bench
        .report
        .row(row("a request on the socket, CPU of the daemon", socket));
    let limit = format!("{socket:.2} µs");
    for (line, us) in [
        ("  the same with the admin token", token),
        ("  the same with an API key", key),
    ] {
        let row = row(line, us).against(limit.clone(), us / socket.max(f64::MIN_POSITIVE));
        bench.report.row(row);
    }
    for (line, us) in [
        ("an admin token more than the socket", token - socket),
        ("an API key more than the socket", key - socket),
    ] {
        let row = row(line, us);
        bench.report.row(row.target(Wanted::AtMost, 3.0, "≤ 3 µs"));
    }
    daemon.kill().await
}
