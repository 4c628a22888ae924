//! How long the organizations of a daemon wait for the next delivery when it is killed, and when it stops in order.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::daemons::Daemons;
use super::database::Database;
use crate::api::Api;
use crate::bench::Bench;
use crate::clock;
use crate::daemon::Daemon;
use crate::error::{BenchError, Doing, Result};
use crate::report::{Row, Wanted};
use crate::wire::Target;

const NAME: &str = "takeover";
/// The lease as shipped, in seconds.
const LEASE_S: f64 = 8.0;
/// Callers that offer the events, and their pause after a refusal.
const CALLERS: usize = 64;
const PAUSE: Duration = Duration::from_millis(20);
/// The longest time that an event is offered.
const OFFERED_S: f64 = 60.0;

/// Runs the scenario.
pub(super) async fn run(bench: &mut Bench, database: &Database) -> Result<()> {
    let mut daemons = Daemons::start(bench, database, NAME, 2).await?;
    let client = database.connect(NAME).await?;

    let organizations = of_second(&mut daemons, &client).await?;
    let started_ns = clock::monotonic_ns();
    let undisturbed_s =
        delivered(bench, &mut daemons, &organizations, "before", started_ns).await?;
    // An attempt whose outcome is not recorded yet would be made again.
    daemons.settled().await?;

    let second = second(&mut daemons)?;
    let started_ns = clock::monotonic_ns();
    second.kill().await?;
    let killed_s = delivered(bench, &mut daemons, &organizations, "killed", started_ns).await?;
    let count = organizations.len();
    let line = format!(
        "takeover: a daemon of two is killed, until all its {count} organizations got an event"
    );
    let row = Row::new("cluster", line, format!("{killed_s:.2} s"), killed_s);
    let row = row.against(format!("lease, {LEASE_S:.0} s"), killed_s / LEASE_S);
    let row = row.target(Wanted::AtMost, 10.0 / LEASE_S, "≤ 10 s");
    bench.report.row(row);

    let again = Daemon::start(&bench.program, daemons.home(1)?).await?;
    daemons.running.push(again);
    daemons.shared_out().await?;
    let organizations = of_second(&mut daemons, &client).await?;
    let second = self::second(&mut daemons)?;
    let started_ns = clock::monotonic_ns();
    second.tell_to_stop()?;
    let stopped_s = delivered(bench, &mut daemons, &organizations, "stopped", started_ns).await?;
    second.ended().await?;
    let line = "  a daemon of two stops in order, until each of its organizations got an event";
    let row = Row::new("cluster", line, format!("{stopped_s:.2} s"), stopped_s);
    let against = format!("the same events before, {undisturbed_s:.2} s");
    let row = row.against(against, stopped_s / undisturbed_s);
    let row = row.target(Wanted::AtMost, 1.0 / undisturbed_s, "≤ 1 s");
    bench.report.row(row);

    daemons.end(bench).await?;
    drop(client);
    database.drop(NAME).await
}

/// Takes the second daemon out of those that run.
fn second(daemons: &mut Daemons) -> Result<Daemon> {
    let second = daemons.running.pop();
    second.ok_or_else(|| BenchError::wrong("no daemon runs"))
}

/// Returns the organizations that the second daemon decides about.
async fn of_second(daemons: &mut Daemons, client: &Client) -> Result<Vec<String>> {
    let second = daemons.running.last_mut();
    let second = second.ok_or_else(|| BenchError::wrong("no daemon runs"))?;
    let view = second.api.get("/v1/cluster").await?;
    let all = view.get("daemons").and_then(Value::as_array);
    let own = all
        .into_iter()
        .flatten()
        .find(|daemon| daemon.get("self") == Some(&Value::Bool(true)));
    let seat = own.and_then(|daemon| daemon.get("id")?.as_str()?.parse::<i16>().ok());
    let seat = seat.ok_or_else(|| BenchError::wrong(format!("no seat in {view}")))?;
    let sql = "SELECT e.organization FROM stormhook.endpoints e \
               JOIN stormhook.shards s ON s.shard = e.shard WHERE s.owner = $1";
    let rows = client.query(sql, &[&seat]).await;
    let rows = rows.doing("reading the organizations of a daemon")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Offers an event of each organization to the first daemon until it is accepted, and waits until all are delivered. Returns
/// the seconds since `started_ns`.
async fn delivered(
    bench: &mut Bench,
    daemons: &mut Daemons,
    organizations: &[String],
    phase: &'static str,
    started_ns: u64,
) -> Result<f64> {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let api = Api::new(Target::Unix(daemons.home(0)?.socket()));
        let own = organizations.iter().skip(caller).step_by(CALLERS);
        let own: Vec<String> = own.cloned().collect();
        callers.spawn(offer(api, own, phase));
    }
    let mut id_sum = 0_u128;
    while let Some(done) = callers.join_next().await {
        id_sum = id_sum.wrapping_add(done.doing("offering events")??);
    }
    let events = organizations.len() as u64;
    daemons.offered(bench, events, id_sum).await?;
    Ok(clock::seconds_since(started_ns))
}

/// Offers one event of each organization until it is accepted. Returns the sum of their ids.
async fn offer(mut api: Api, organizations: Vec<String>, phase: &'static str) -> Result<u128> {
    let mut id_sum = 0_u128;
    let started_ns = clock::monotonic_ns();
    for organization in organizations {
        loop {
            if let Some(id) = api.offer_event(&organization, phase).await? {
                id_sum = id_sum.wrapping_add(id);
                break;
            }
            if clock::seconds_since(started_ns) > OFFERED_S {
                let wrong = format!("no event of {organization} was accepted in {OFFERED_S} s");
                return Err(BenchError::wrong(wrong));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(id_sum)
}
