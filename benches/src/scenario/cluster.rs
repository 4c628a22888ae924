//! `cluster`: daemons that share one PostgreSQL, beside job queues on the same server; the time until a daemon's
//! organizations are delivered to again when it ends; and full load beside a long transaction.

mod daemons;
mod database;
mod found;
mod peers;
mod reader;
mod takeover;

use self::daemons::{ORGANIZATIONS, REQUESTS, STREAMS};
use self::database::Database;
use self::found::{Comparison, Found, Lane, around};
use self::peers::{PEERS, Tools};
use crate::bench::Bench;
use crate::error::Result;
use crate::load::Way;
use crate::report::Row;
use crate::rounds;

/// How long the long transaction is held open, in seconds.
const READER_S: usize = 120;

/// Our lanes beside the one of all rounds, which is one daemon with streams. The first is compared with the peers too.
const OURS: &[(usize, Way)] = &[(1, Way::Post), (2, Way::Stream), (4, Way::Stream)];

/// Runs the scenario. `reader_s` is how long the long transaction is held open, if that was asked for.
pub(crate) async fn run(bench: &mut Bench, reader_s: Option<u64>) -> Result<()> {
    let database = server(bench).await?;
    let tools = Tools::prepare()?;
    let versions = tools.versions().await?;
    bench.report.note(format!("cluster: peers: {versions}"));
    bench.report.note(format!(
        "cluster: orders of 480 bytes of {ORGANIZATIONS} organizations with an endpoint each. Ours: {STREAMS} NDJSON streams over all \
         daemons, or {REQUESTS} requests in flight with one event each; {}",
        peers::batching()
    ));
    rates(bench, &database, &tools).await?;
    takeover::run(bench, &database).await?;
    reader::run(bench, &database, reader_seconds(bench, reader_s)).await
}

fn reader_seconds(bench: &Bench, asked: Option<u64>) -> u64 {
    asked.unwrap_or(bench.size(READER_S, 5) as u64)
}

/// Starts a server for a part that needs no peers.
async fn server(bench: &mut Bench) -> Result<Database> {
    peers::install("postgresql").await?;
    let database = Database::start(&bench.root).await?;
    let settings = database.described().await?;
    bench.report.note(format!("cluster: {settings}"));
    Ok(database)
}

/// Runs the part about daemons that end alone.
pub(crate) async fn takeover(bench: &mut Bench) -> Result<()> {
    let database = server(bench).await?;
    takeover::run(bench, &database).await
}

/// Runs the part about a long transaction alone.
pub(crate) async fn reader(bench: &mut Bench, reader_s: Option<u64>) -> Result<()> {
    let database = server(bench).await?;
    reader::run(bench, &database, reader_seconds(bench, reader_s)).await
}

fn name_of((count, way): (usize, Way)) -> String {
    let daemons = if count == 1 { "daemon" } else { "daemons" };
    let way = if way == Way::Stream {
        "streams"
    } else {
        "one POST an event"
    };
    format!("{count} {daemons}, {way}")
}

/// Measures ours and the peers in turns.
async fn rates(bench: &mut Bench, database: &Database, tools: &Tools) -> Result<()> {
    let events = bench.size(100_000, 10_000);
    let jobs = bench.size(50_000, 3_000);
    let mut variants = Vec::new();
    for peer in PEERS {
        let best = peers::best_variant(bench, database, tools, peer).await?;
        let note = format!("cluster: {} measured with {best}", peer.name);
        bench.report.note(note);
        variants.push(best);
    }
    let one = (1, Way::Stream);
    let mut ceilings = Vec::new();
    let mut ones = vec![ours(bench, database, one, events).await?];
    let mut lanes: Vec<Lane> = OURS.iter().map(|ours| Lane::new(name_of(*ours))).collect();
    let mut others: Vec<Lane> = PEERS.iter().map(|peer| Lane::new(peer.name)).collect();
    for _ in 0..bench.size(3, 1) {
        for (ours_of, lane) in OURS.iter().zip(&mut lanes) {
            lane.rounds
                .push(ours(bench, database, *ours_of, events).await?);
        }
        for ((peer, variant), lane) in PEERS.iter().zip(&variants).zip(&mut others) {
            let found = peers::measure(bench, database, tools, (peer, variant), jobs).await?;
            lane.rounds.push(found);
        }
        ceilings.push(bench.ceiling(events).await?);
        ones.push(ours(bench, database, one, events).await?);
    }
    let delivered: Vec<f64> = ones.iter().map(|found| found.delivered).collect();
    let clean = rounds::clean(&delivered);
    if let Some(remark) = rounds::remark("cluster, one daemon", &clean) {
        bench.report.note(remark);
    }
    let lane = Lane {
        name: name_of(one),
        rounds: around(&ones),
    };
    tell(bench, &lane, &ceilings, &clean);
    for other in &lanes {
        let comparison = Comparison {
            lane: other,
            against: &lane,
            clean: &clean,
        };
        compare(bench, &comparison, None);
    }
    for (peer, other) in PEERS.iter().zip(&others) {
        let comparison = Comparison {
            lane: &lane,
            against: other,
            clean: &clean,
        };
        compare(bench, &comparison, Some(peer.target));
        for single in lanes.iter().take(1) {
            let comparison = Comparison {
                lane: single,
                ..comparison
            };
            bench.report.row(comparison.delivered(None));
        }
    }
    note_rounds(bench, [&lane].into_iter().chain(&lanes).chain(&others));
    Ok(())
}

async fn ours(
    bench: &mut Bench,
    database: &Database,
    (count, way): (usize, Way),
    events: usize,
) -> Result<Found> {
    daemons::measure(bench, database, count, way, events).await
}

/// Writes the lines of one daemon, its rate beside that of the bare client.
fn tell(bench: &mut Bench, lane: &Lane, ceilings: &[f64], clean: &[bool]) {
    let delivered: Vec<f64> = lane.rounds.iter().map(|found| found.delivered).collect();
    let pairs = delivered.iter().zip(ceilings);
    let ratios: Vec<f64> = pairs.map(|(rate, ceiling)| rate / ceiling).collect();
    let rate = rounds::median(&rounds::kept(&delivered, clean));
    let ceiling = rounds::median(&rounds::kept(ceilings, clean));
    let line = format!("{}: delivered", lane.name);
    let row = Row::new("cluster", line, format!("{rate:.0} events/s"), rate);
    let ratio = rounds::median(&rounds::kept(&ratios, clean));
    let against = format!("bare client to bare sink, {ceiling:.0} POST/s");
    bench.report.row(row.against(against, ratio));
    for row in found::of_one(lane, clean) {
        bench.report.row(row);
    }
}

fn compare(bench: &mut Bench, comparison: &Comparison<'_>, target: Option<(f64, &str)>) {
    bench.report.row(comparison.delivered(target));
    for row in comparison.others() {
        bench.report.row(row);
    }
}

fn note_rounds<'a>(bench: &mut Bench, lanes: impl Iterator<Item = &'a Lane>) {
    for lane in lanes {
        let rates = lane
            .rounds
            .iter()
            .map(|found| format!("{:.0} ({:.0})", found.delivered, found.accepted));
        let rates = rates.collect::<Vec<_>>().join(", ");
        bench.report.note(format!(
            "cluster, {}: delivered/s (accepted/s) {rates}",
            lane.name
        ));
    }
}
