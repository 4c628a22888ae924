//! Daemons on one database, and the load that they get.

use std::time::Duration;

use serde_json::Value;
use stormhook_benches::bodies::Kind;
use tokio::task::JoinSet;

use super::database::Database;
use super::found::Found;
use crate::bench::Bench;
use crate::clock;
use crate::daemon::{Daemon, Home};
use crate::error::{BenchError, Doing, Result};
use crate::load::Way;
use crate::process::{Load, Order, Sent};

/// Organizations, each with one endpoint: so many that every shard has some.
pub(super) const ORGANIZATIONS: usize = 3_200;
/// Streams of events over all daemons.
pub(super) const STREAMS: usize = 4;
/// Requests in flight over all daemons, with one event each.
pub(super) const REQUESTS: usize = 256;
/// Lines that a stream sends in one piece: what it sends is a multiple of these.
const LINES: usize = 64;
/// Without progress for this long, deliveries count as lost, or a share as never given.
const STALLED_S: f64 = 60.0;
const POLL: Duration = Duration::from_millis(20);

/// Daemons on one database.
pub(super) struct Daemons {
    /// The folder of each.
    pub(super) homes: Vec<Home>,
    /// Those that run, in the order of `homes`.
    pub(super) running: Vec<Daemon>,
    /// Where all deliveries arrive.
    pub(super) ledger: u32,
    /// All loads together.
    sent: Sent,
}

/// One load, accepted and delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loaded {
    /// Accepted events.
    pub(super) events: u64,
    /// Seconds until the last answer.
    pub(super) accepted_s: f64,
    /// Seconds until the sink had all.
    pub(super) delivered_s: f64,
}

impl Daemons {
    /// Creates a database, starts daemons on it, and creates the endpoints.
    pub(super) async fn start(
        bench: &mut Bench,
        database: &Database,
        name: &str,
        count: usize,
    ) -> Result<Self> {
        database.create(name).await?;
        let config = format!(
            "[store]\nurl = {:?}\n[cluster]\nlisten = \"127.0.0.1:0\"\n",
            database.store_url(name)
        );
        let mut daemons = Self {
            homes: Vec::new(),
            running: Vec::new(),
            ledger: bench.sink.ledger(),
            sent: Sent::none(),
        };
        for _ in 0..count {
            let home = Home::with(&bench.root, &config)?;
            if daemons.homes.is_empty() {
                home.migrate(&bench.program).await?;
            }
            let daemon = Daemon::start(&bench.program, &home).await?;
            daemons.running.push(daemon);
            daemons.homes.push(home);
        }
        daemons.shared_out().await?;
        let url = bench.url("ok", daemons.ledger, 0);
        let home = daemons.home(0)?;
        bench.add_endpoints(home, &url, ORGANIZATIONS, 1).await?;
        Ok(daemons)
    }

    /// Returns the folder of a daemon.
    pub(super) fn home(&self, number: usize) -> Result<&Home> {
        let home = self.homes.get(number);
        home.ok_or_else(|| BenchError::wrong("no such daemon"))
    }

    /// Returns the process ids of those that run.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.running.iter().map(|daemon| daemon.pid).collect()
    }

    fn first(&mut self) -> Result<&mut Daemon> {
        let first = self.running.first_mut();
        first.ok_or_else(|| BenchError::wrong("no daemon runs"))
    }

    /// Waits until each running daemon has its share of the organizations.
    pub(super) async fn shared_out(&mut self) -> Result<()> {
        let count = self.running.len();
        let most = 256_u64.div_ceil(count.max(1) as u64);
        let started_ns = clock::monotonic_ns();
        loop {
            let view = self.first()?.api.get("/v1/cluster").await?;
            let daemons = view.get("daemons").and_then(Value::as_array);
            let shards = daemons.into_iter().flatten().map(|daemon| {
                let shards = daemon.get("shards").and_then(Value::as_u64);
                shards.unwrap_or(0)
            });
            let held: Vec<u64> = shards.filter(|shards| *shards > 0).collect();
            let is_whole = held.iter().sum::<u64>() == 256;
            if is_whole && held.len() == count && held.iter().all(|shards| *shards <= most) {
                return Ok(());
            }
            if clock::seconds_since(started_ns) > STALLED_S {
                let wrong = format!("the shards are not shared out: {view}");
                return Err(BenchError::wrong(wrong));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends events to all daemons, and waits until all are delivered and settled.
    pub(super) async fn load(
        &mut self,
        bench: &mut Bench,
        way: Way,
        events: usize,
    ) -> Result<Loaded> {
        let mut loads = Vec::new();
        let each = if way == Way::Stream { STREAMS } else { 1 };
        let each = each.div_ceil(self.homes.len()).max(1);
        let share = events.div_ceil(self.homes.len() * each);
        for home in &self.homes {
            for _ in 0..each {
                let mut order = Order::new(way, &home.socket(), "org_", share);
                order.events = share.next_multiple_of(LINES);
                order.kind = Kind::Short;
                order.organizations = ORGANIZATIONS;
                order.connections = REQUESTS.div_ceil(self.homes.len());
                loads.push(Load::prepare(&order).await?);
            }
        }
        let mut going = JoinSet::new();
        for load in loads {
            going.spawn(load.go());
        }
        let mut sent = Sent::none();
        while let Some(done) = going.join_next().await {
            sent.add(&done.doing("waiting for a load")??);
        }
        self.sent.add(&sent);
        bench.arrived(self.ledger, self.sent.accepted).await?;
        let delivered_s = clock::seconds_since(sent.started_ns);
        self.settled().await?;
        Ok(Loaded {
            events: sent.accepted,
            accepted_s: clock::seconds_between(sent.started_ns, sent.ended_ns),
            delivered_s,
        })
    }

    /// Waits until the counters of all daemons have all deliveries.
    pub(super) async fn settled(&mut self) -> Result<()> {
        let wanted = self.sent.accepted;
        let started_ns = clock::monotonic_ns();
        loop {
            let stats = self.first()?.api.stats().await?;
            if stats.succeeded >= wanted {
                return Ok(());
            }
            if clock::seconds_since(started_ns) > STALLED_S {
                let wrong = format!("{wanted} deliveries should be settled, found {stats:?}");
                return Err(BenchError::wrong(wrong));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until events have arrived that were accepted beside the loads.
    pub(super) async fn offered(
        &mut self,
        bench: &mut Bench,
        events: u64,
        id_sum: u128,
    ) -> Result<()> {
        self.sent.add(&Sent {
            accepted: events,
            id_sum,
            ..Sent::none()
        });
        bench.arrived(self.ledger, self.sent.accepted).await
    }

    /// Measures one load, after a warm-up.
    pub(super) async fn measured(
        &mut self,
        bench: &mut Bench,
        database: &Database,
        way: Way,
        events: usize,
    ) -> Result<Found> {
        self.load(bench, way, events / 10).await?;
        database.checkpoint().await?;
        let pids = self.pids();
        let before = database.used(&pids).await?;
        let loaded = self.load(bench, way, events).await?;
        let after = database.used(&pids).await?;
        let rate = |seconds: f64| loaded.events as f64 / seconds;
        Ok(Found {
            accepted: rate(loaded.accepted_s),
            delivered: rate(loaded.delivered_s),
            ..Found::of(loaded.events, before, after)
        })
    }

    /// Compares what arrived with what was accepted, and ends the daemons. Returns how many events there were.
    pub(super) async fn end(self, bench: &mut Bench) -> Result<u64> {
        bench.checked(self.ledger, &self.sent, 1).await?;
        for daemon in self.running {
            daemon.kill().await?;
        }
        Ok(self.sent.accepted)
    }
}

/// Measures daemons once on a database of their own.
pub(super) async fn measure(
    bench: &mut Bench,
    database: &Database,
    count: usize,
    way: Way,
    events: usize,
) -> Result<Found> {
    let name = "ours";
    let mut daemons = Daemons::start(bench, database, name, count).await?;
    let found = daemons.measured(bench, database, way, events).await?;
    let all = daemons.end(bench).await?;
    let dead = database.dead_rows(name).await?;
    database.drop(name).await?;
    Ok(found.with_dead(dead, all))
}
