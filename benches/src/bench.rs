//! What all scenarios share: the sink, the daemon's program, the report, and the run that most of them use:
//! send, wait until everything is settled, check that nothing is lost or duplicated.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::api::{Api, Stats};
use crate::clock;
use crate::daemon::{Daemon, Home};
use crate::error::{BenchError, Doing, Result};
use crate::load::Way;
use crate::proc;
use crate::process::{Latency, Load, Order, Received, Sent, Sink};
use crate::report::Report;
use crate::wire::Target;

/// Used in every scenario, so that the sink knows it: base64 of 32 bytes. It protects nothing.
pub(crate) const SECRET: &str = "whsec_c3Rvcm1ob29rLWJlbmNoLXNlY3JldC0zMi1ieXRlcyE=";

/// Callers that create endpoints.
const CALLERS: usize = 64;
/// Without progress for this long, missing deliveries count as lost.
const STALLED_S: f64 = 60.0;

/// The environment of a scenario.
pub(crate) struct Bench {
    /// The daemon's program.
    pub(crate) program: PathBuf,
    /// The directory of the data folders, on the disk to be measured.
    pub(crate) root: PathBuf,
    /// The receiving process.
    pub(crate) sink: Sink,
    /// Smaller counts, for a quick look.
    pub(crate) quick: bool,
    /// The results.
    pub(crate) report: Report,
}

/// One saturating run, accepted, delivered and settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Events per second, from the start of the first request until all were settled.
    pub(crate) rate: f64,
    /// The daemon's CPU time per event.
    pub(crate) cpu_us: f64,
    /// Bytes that the daemon wrote to the disk per event.
    pub(crate) written_bytes: f64,
    /// From a request to its answer.
    pub(crate) answer: Latency,
    /// Deliveries whose signatures were recomputed.
    pub(crate) verified: u64,
}

impl Bench {
    /// Returns `full`, or `quick` for a quick look.
    pub(crate) fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// Returns a URL at which the sink has this behaviour and writes to this ledger.
    pub(crate) fn url(&self, behaviour: &str, ledger: u32, endpoint: usize) -> String {
        format!(
            "http://{}/{behaviour}/{ledger}/{endpoint}",
            self.sink.address()
        )
    }

    /// Starts a daemon on a new store.
    pub(crate) async fn fresh(&self) -> Result<(Home, Daemon)> {
        let home = Home::new(&self.root)?;
        let daemon = Daemon::start(&self.program, &home).await?;
        Ok((home, daemon))
    }

    /// Creates a healthy endpoint with its own ledger for an organization.
    pub(crate) async fn add_receiver(
        &mut self,
        daemon: &mut Daemon,
        organization: &str,
        behaviour: &str,
    ) -> Result<u32> {
        let ledger = self.sink.ledger();
        let url = self.url(behaviour, ledger, 0);
        daemon.api.add_endpoint(organization, &url, SECRET).await?;
        Ok(ledger)
    }

    /// Creates endpoints, the same number for each of `org_0`, `org_1` and so on. `url` is that of the first one, and ends
    /// with the endpoint's number, 0.
    pub(crate) async fn add_endpoints(
        &self,
        home: &Home,
        url: &str,
        organizations: usize,
        each: usize,
    ) -> Result<()> {
        let mut callers = JoinSet::new();
        let base = url.trim_end_matches('0').to_owned();
        for caller in 0..CALLERS {
            let mut api = Api::new(Target::Unix(home.socket()));
            let base = base.clone();
            callers.spawn(async move {
                for endpoint in (caller..organizations * each).step_by(CALLERS) {
                    let organization = format!("org_{}", endpoint % organizations);
                    api.add_endpoint(&organization, &format!("{base}{endpoint}"), SECRET)
                        .await?;
                }
                Ok::<_, BenchError>(())
            });
        }
        while let Some(done) = callers.join_next().await {
            done.doing("making endpoints")??;
        }
        Ok(())
    }

    /// Returns the POSTs per second of a bare client to the bare sink: the ceiling.
    pub(crate) async fn ceiling(&mut self, events: usize) -> Result<f64> {
        let before = self.sink.bare_count().await?;
        let order = Order {
            to: format!("tcp:{}", self.sink.address()),
            connections: 64,
            ..Order::new(Way::Bare, std::path::Path::new(""), "org_bench", events)
        };
        let sent = Load::prepare(&order).await?.go().await?;
        let came = self.sink.bare_count().await? - before;
        if came != sent.accepted || came != events as u64 {
            let wrong = format!(
                "ceiling: {events} sent, {} answered, {came} arrived",
                sent.accepted
            );
            return Err(BenchError::wrong(wrong));
        }
        let seconds = clock::seconds_between(sent.started_ns, sent.ended_ns);
        Ok(events as f64 / seconds)
    }

    /// Sends `events` in one way to a new healthy endpoint of an organization of its own, and measures until
    /// all are settled.
    pub(crate) async fn saturate(
        &mut self,
        home: &Home,
        daemon: &mut Daemon,
        way: Way,
        events: usize,
    ) -> Result<Run> {
        let organization = format!("org_run{}", self.sink.ledger());
        let order = Order::new(way, &home.socket(), &organization, events);
        self.run(daemon, &order).await
    }

    /// The same for any order.
    pub(crate) async fn run(&mut self, daemon: &mut Daemon, order: &Order) -> Result<Run> {
        let ledger = self.add_receiver(daemon, &order.organization, "ok").await?;
        let load = Load::prepare(order).await?;
        let stats = daemon.api.stats().await?;
        let (cpu_us, written) = (
            proc::cpu_us(daemon.pid)?,
            proc::written_bytes(daemon.pid, &self.root)?,
        );
        let sent = load.go().await?;
        self.settled(daemon, ledger, &sent, stats).await?;
        let seconds = clock::seconds_since(sent.started_ns);
        let per_event = |bytes: u64| bytes as f64 / sent.accepted.max(1) as f64;
        let run = Run {
            rate: sent.accepted as f64 / seconds,
            cpu_us: per_event(proc::cpu_us(daemon.pid)?.saturating_sub(cpu_us)),
            written_bytes: per_event(
                proc::written_bytes(daemon.pid, &self.root)?.saturating_sub(written),
            ),
            answer: sent.answer,
            verified: self.checked(ledger, &sent, 1).await?.verified,
        };
        self.all_success(daemon, ledger).await?;
        if sent.busy > 0 {
            let way = order.way;
            self.report
                .note(format!("{way:?}: {} answers of 503, retried", sent.busy));
        }
        Ok(run)
    }

    /// Waits until a load's events have arrived and the daemon reports them as settled.
    async fn settled(
        &mut self,
        daemon: &mut Daemon,
        ledger: u32,
        sent: &Sent,
        before: Stats,
    ) -> Result<()> {
        self.arrived(ledger, sent.accepted).await?;
        let mut last = (before.succeeded, clock::monotonic_ns());
        loop {
            let now = daemon.api.stats().await?;
            let done = now.succeeded - before.succeeded;
            if done >= sent.accepted && now.pending == before.pending {
                if now.retrying == before.retrying && now.abandoned == before.abandoned {
                    return Ok(());
                }
                return Err(BenchError::wrong(format!(
                    "not all settled as SUCCESS: {now:?}"
                )));
            }
            if now.succeeded != last.0 {
                last = (now.succeeded, clock::monotonic_ns());
            } else if clock::seconds_since(last.1) > STALLED_S {
                let wrong = format!(
                    "{done} of {} deliveries settled, then no progress",
                    sent.accepted
                );
                return Err(BenchError::wrong(wrong));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until a ledger has `wanted` requests.
    pub(crate) async fn arrived(&mut self, ledger: u32, wanted: u64) -> Result<()> {
        let mut last = (0, clock::monotonic_ns());
        loop {
            let count = self.sink.count(ledger).await?;
            if count >= wanted {
                return Ok(());
            }
            if count != last.0 {
                last = (count, clock::monotonic_ns());
            } else if clock::seconds_since(last.1) > STALLED_S {
                let wrong = format!("{count} of {wanted} deliveries arrived, then no progress");
                return Err(BenchError::wrong(wrong));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Compares a ledger with the accepted events: every event must have arrived once at each of its
    /// `endpoints`, signed.
    pub(crate) async fn checked(
        &mut self,
        ledger: u32,
        sent: &Sent,
        endpoints: u64,
    ) -> Result<Received> {
        let got = self.sink.report(ledger).await?;
        let wanted = sent.accepted * endpoints;
        let sum = sent.id_sum.wrapping_mul(u128::from(endpoints));
        if got.bad > 0 {
            return Err(BenchError::wrong(format!(
                "{} bad deliveries: {}",
                got.bad, got.first_bad
            )));
        }
        if got.unique != wanted || got.received != wanted || got.id_sum != sum {
            return Err(BenchError::wrong(format!(
                "{wanted} deliveries expected, {} arrived, {} of them distinct{}",
                got.received,
                got.unique,
                if got.id_sum == sum {
                    ""
                } else {
                    ", and their ids aren't the accepted ones"
                }
            )));
        }
        if got.verified == 0 {
            return Err(BenchError::wrong("no delivery's signature was recomputed"));
        }
        Ok(got)
    }

    /// Checks the newest rows of the endpoint: all must be SUCCESS.
    async fn all_success(&mut self, daemon: &mut Daemon, ledger: u32) -> Result<()> {
        let page = daemon.api.get("/v1/deliveries?limit=250").await?;
        let rows = page
            .get("data")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let other = rows.iter().find(|row| {
            let status = row.get("status").and_then(Value::as_str);
            // In a store full of open deliveries the list includes those of other ledgers.
            !matches!(status, Some("SUCCESS" | "RETRYING"))
        });
        match other {
            Some(row) => Err(BenchError::wrong(format!(
                "ledger {ledger}: a settled row says {row}"
            ))),
            None => Ok(()),
        }
    }
}
