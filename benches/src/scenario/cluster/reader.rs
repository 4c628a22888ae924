//! Full load beside a transaction that stays open: PostgreSQL keeps every row that has died since it began.

use tokio_postgres::Client;

use super::daemons::Daemons;
use super::database::Database;
use crate::bench::Bench;
use crate::clock;
use crate::error::{Doing, Result};
use crate::load::Way;
use crate::report::{Row, Wanted, bytes_text};

const NAME: &str = "reader";
/// Events of one load, a few seconds long: loads follow each other until the time is over.
const EVENTS: usize = 40_000;

/// Loads that followed each other.
struct Phase {
    /// Events per second of each.
    rates: Vec<f64>,
    /// Events of all.
    events: u64,
    /// How long all took.
    seconds: f64,
}

impl Phase {
    fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    /// Returns the rates of the first, the middle and the last load as text.
    fn text(&self) -> String {
        let at = |index: usize| self.rates.get(index).copied().unwrap_or(0.0);
        let last = self.rates.len().saturating_sub(1);
        format!("{:.0}, {:.0}, {:.0}", at(0), at(last / 2), at(last))
    }
}

/// Runs the scenario: loads for this many seconds, without, with and without an open transaction.
pub(super) async fn run(bench: &mut Bench, database: &Database, seconds: u64) -> Result<()> {
    let mut daemons = Daemons::start(bench, database, NAME, 1).await?;
    let reader = database.connect(NAME).await?;
    let statistics = database.connect(NAME).await?;
    let warm_up = bench.size(EVENTS, EVENTS / 4);
    daemons.load(bench, Way::Stream, warm_up).await?;
    database.checkpoint().await?;

    let before = phase(bench, &mut daemons, seconds).await?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM stormhook.open";
    let begun = reader.batch_execute(begin).await;
    begun.doing("beginning a long transaction")?;
    let held = phase(bench, &mut daemons, seconds).await?;
    let sql = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'open'";
    let dead = statistics.query_one(sql, &[]).await;
    let dead: i64 = dead.doing("counting dead rows")?.get(0);
    reader
        .batch_execute("COMMIT")
        .await
        .doing("ending the long transaction")?;
    let after = phase(bench, &mut daemons, seconds).await?;

    let without = f64::midpoint(before.rate(), after.rate());
    let line = format!(
        "long reader: delivered beside a transaction held open for {:.0} s",
        held.seconds
    );
    let rate = held.rate();
    let row = Row::new("cluster", line, format!("{rate:.0} events/s"), rate);
    let row = row.against(format!("without it, {without:.0} events/s"), rate / without);
    bench.report.row(row.target(Wanted::AtLeast, 0.8, "≥ 0.8"));
    bench.report.note(format!(
        "cluster, long reader: {:.0} events/s before (first, middle, last load: {}), {rate:.0} with it ({}), {:.0} after it ({}); \
         the table `open` had {dead} dead rows at its end",
        before.rate(),
        before.text(),
        held.text(),
        after.rate(),
        after.text(),
    ));
    note_sizes(bench, &statistics).await?;
    daemons.end(bench).await?;
    drop((reader, statistics));
    database.drop(NAME).await
}

async fn phase(bench: &mut Bench, daemons: &mut Daemons, seconds: u64) -> Result<Phase> {
    let mut phase = Phase {
        rates: Vec::new(),
        events: 0,
        seconds: 0.0,
    };
    let started_ns = clock::monotonic_ns();
    while clock::seconds_since(started_ns) < seconds as f64 {
        let loaded = daemons.load(bench, Way::Stream, EVENTS).await?;
        phase.rates.push(loaded.events as f64 / loaded.delivered_s);
        phase.events += loaded.events;
        phase.seconds += loaded.delivered_s;
    }
    Ok(phase)
}

/// Notes what an event leaves behind, and how many are in a commit.
async fn note_sizes(bench: &mut Bench, client: &Client) -> Result<()> {
    let sql = "SELECT (SELECT count(*) FROM stormhook.events), (SELECT sum(commit_no)::int8 FROM stormhook.lanes), \
                 (SELECT sum(pg_total_relation_size(inhrelid))::int8 FROM pg_inherits WHERE inhparent = 'stormhook.events'::regclass), \
                 (SELECT sum(pg_total_relation_size(inhrelid))::int8 FROM pg_inherits WHERE inhparent = 'stormhook.done'::regclass), \
                 pg_total_relation_size('stormhook.open')";
    let row = client.query_one(sql, &[]).await;
    let row = row.doing("reading the sizes of tables")?;
    let number = |index| row.get::<_, i64>(index) as f64;
    let events = number(0).max(1.0);
    bench.report.note(format!(
        "cluster, long reader: {events:.0} events leave {:.0} bytes each in `events` and {:.0} in `done`, with indexes; \
         `open` is empty and has {}; {:.0} events in a commit",
        number(2) / events,
        number(3) / events,
        bytes_text(number(4)),
        events / number(1).max(1.0),
    ));
    Ok(())
}
