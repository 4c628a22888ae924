//! The sink and the load generator as child processes of a benchmark.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use stormhook_benches::bodies::Kind;
use tokio::process::Command;

use crate::error::{BenchError, Doing, Result};
use crate::load::Way;
use crate::talker::{ANSWER_TIMEOUT, Talker};

/// The time limit of one run of a load.
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// Returns this program, to start its other roles.
fn own_program() -> Result<PathBuf> {
    std::env::current_exe().doing("finding this program")
}

/// The receiving process.
pub(crate) struct Sink {
    talker: Talker,
    address: String,
    next_ledger: u32,
}

/// What the sink received in one measurement.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Requests.
    pub(crate) received: u64,
    /// Distinct pairs of event and endpoint.
    pub(crate) unique: u64,
    /// The sum of the pairs' event ids, modulo 2^128.
    pub(crate) id_sum: u128,
    /// Deliveries whose signatures were recomputed.
    pub(crate) verified: u64,
    /// Deliveries that violated the contract.
    pub(crate) bad: u64,
    /// What was wrong with the first of these.
    pub(crate) first_bad: String,
    /// Time from the producer's start to the receipt, in microseconds.
    pub(crate) latency: Latency,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    /// The median.
    pub(crate) p50_us: u64,
    /// 95 of 100 were faster.
    pub(crate) p95_us: u64,
    /// 99 of 100 were faster.
    pub(crate) p99_us: u64,
    /// 999 of 1,000 were faster.
    pub(crate) p999_us: u64,
}

fn number(value: &Value, name: &str) -> Result<u64> {
    value
        .get(name)
        .and_then(Value::as_u64)
        .ok_or_else(|| BenchError::wrong(format!("expected a number {name:?} in {value}")))
}

fn sum(value: &Value) -> Result<u128> {
    let text = value.get("id_sum").and_then(Value::as_str).unwrap_or("");
    text.parse().doing(format!("reading id_sum in {value}"))
}

impl Latency {
    fn read(value: Option<&Value>) -> Result<Self> {
        let value = value.unwrap_or(&Value::Null);
        Ok(Self {
            p50_us: number(value, "p50_us")?,
            p95_us: number(value, "p95_us")?,
            p99_us: number(value, "p99_us")?,
            p999_us: number(value, "p999_us")?,
        })
    }
}

impl Sink {
    /// Starts it on a free port.
    pub(crate) async fn start(secret: &str, threads: usize) -> Result<Self> {
        let mut command = Command::new(own_program()?);
        command
            .args(["sink", "--threads", &threads.to_string()])
            .env("BENCH_SECRET", secret);
        let mut talker = Talker::start("sink", &mut command)?;
        let address = talker.hear(ANSWER_TIMEOUT).await?;
        Ok(Self {
            talker,
            address,
            next_ledger: 1,
        })
    }

    /// Returns its address, `127.0.0.1:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the number of a new ledger.
    pub(crate) fn ledger(&mut self) -> u32 {
        self.next_ledger += 1;
        self.next_ledger
    }

    /// Returns the requests that arrived for the ceiling.
    pub(crate) async fn bare_count(&mut self) -> Result<u64> {
        number(&self.talker.ask("bare", ANSWER_TIMEOUT).await?, "received")
    }

    /// Returns the number of requests in a ledger.
    pub(crate) async fn count(&mut self, ledger: u32) -> Result<u64> {
        number(
            &self
                .talker
                .ask(&format!("count {ledger}"), ANSWER_TIMEOUT)
                .await?,
            "received",
        )
    }

    /// Returns a whole ledger.
    pub(crate) async fn report(&mut self, ledger: u32) -> Result<Received> {
        let value = self
            .talker
            .ask(&format!("report {ledger}"), ANSWER_TIMEOUT)
            .await?;
        Ok(Received {
            received: number(&value, "received")?,
            unique: number(&value, "unique")?,
            id_sum: sum(&value)?,
            verified: number(&value, "verified")?,
            bad: number(&value, "bad")?,
            first_bad: value
                .get("first_bad")
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned(),
            latency: Latency::read(value.get("latency"))?,
        })
    }
}

/// What a load sends, and where to.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// How the events are sent.
    pub(crate) way: Way,
    /// `unix:PATH` or `tcp:ADDRESS`.
    pub(crate) to: String,
    /// How many events.
    pub(crate) events: usize,
    /// How many connections.
    pub(crate) connections: usize,
    /// The kind of an event's data.
    pub(crate) kind: Kind,
    /// The organization, or the prefix of its name.
    pub(crate) organization: String,
    /// How many organizations.
    pub(crate) organizations: usize,
    /// Events per second, for a steady load.
    pub(crate) rate: u64,
}

impl Order {
    /// Returns an order of `events` of 1 KiB over the daemon's socket to one organization.
    pub(crate) fn new(way: Way, socket: &Path, organization: &str, events: usize) -> Self {
        Self {
            way,
            to: format!("unix:{}", socket.display()),
            events,
            connections: 256,
            kind: Kind::Kib,
            organization: organization.to_owned(),
            organizations: 1,
            rate: 500,
        }
    }

    fn path(&self) -> &'static str {
        match self.way {
            Way::Bare => "/bare/0/0",
            Way::Stream => "/v1/events/batch",
            Way::Post | Way::Keyed | Way::Steady => "/v1/events",
        }
    }

    fn way_name(&self) -> &'static str {
        match self.way {
            Way::Post => "post",
            Way::Keyed => "keyed",
            Way::Bare => "bare",
            Way::Stream => "stream",
            Way::Steady => "steady",
        }
    }
}

/// The result of a load.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// When its first request began.
    pub(crate) started_ns: u64,
    /// When its last answer arrived.
    pub(crate) ended_ns: u64,
    /// Accepted events.
    pub(crate) accepted: u64,
    /// The sum of their ids, modulo 2^128.
    pub(crate) id_sum: u128,
    /// Answers of 503, each followed by a retry.
    pub(crate) busy: u64,
    /// Time from a request's start to its answer.
    pub(crate) answer: Latency,
    /// How late a steady load started its requests.
    pub(crate) late: Latency,
    /// The slowest answer of each slice of time that had any, in microseconds.
    pub(crate) worst_us: Vec<u64>,
    /// The length of a slice.
    pub(crate) slice_ms: u64,
}

impl Sent {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self {
            started_ns: u64::MAX,
            ended_ns: 0,
            accepted: 0,
            id_sum: 0,
            busy: 0,
            answer: Latency::default(),
            late: Latency::default(),
            worst_us: Vec::new(),
            slice_ms: 0,
        }
    }

    /// Reads what the producer of a peer sent.
    pub(crate) fn of_peer(value: &Value) -> Result<Self> {
        Ok(Self {
            started_ns: number(value, "started_ns")?,
            ended_ns: number(value, "ended_ns")?,
            accepted: number(value, "accepted")?,
            id_sum: sum(value)?,
            ..Self::none()
        })
    }

    /// Adds a load that ran beside this one or after it. Latencies are those of one load alone.
    pub(crate) fn add(&mut self, other: &Self) {
        self.started_ns = self.started_ns.min(other.started_ns);
        self.ended_ns = self.ended_ns.max(other.ended_ns);
        self.accepted += other.accepted;
        self.id_sum = self.id_sum.wrapping_add(other.id_sum);
        self.busy += other.busy;
    }
}

/// A load with open connections, ready to start.
pub(crate) struct Load {
    talker: Talker,
}

impl Load {
    /// Starts the process, and returns when it is ready to send.
    pub(crate) async fn prepare(order: &Order) -> Result<Self> {
        let kind = match order.kind {
            Kind::Kib => "kib",
            Kind::Order => "order",
            Kind::Short => "short",
        };
        let mut command = Command::new(own_program()?);
        command.args([
            "load",
            order.way_name(),
            "--to",
            &order.to,
            "--path",
            order.path(),
        ]);
        command.args(["--events", &order.events.to_string(), "--kind", kind]);
        command.args(["--connections", &order.connections.to_string()]);
        command.args(["--organization", &order.organization]);
        command.args(["--organizations", &order.organizations.to_string()]);
        command.args(["--rate", &order.rate.to_string()]);
        let mut talker = Talker::start("load", &mut command)?;
        match talker.hear(ANSWER_TIMEOUT).await?.as_str() {
            "ready" => Ok(Self { talker }),
            other => Err(BenchError::wrong(format!(
                "expected ready from the load, got {other:?}"
            ))),
        }
    }

    /// Runs it to its end.
    pub(crate) async fn go(mut self) -> Result<Sent> {
        let value = self.talker.ask("go", LOAD_TIMEOUT).await?;
        let worst = value.get("worst_us").and_then(Value::as_array);
        let worst = worst.map(Vec::as_slice).unwrap_or_default();
        self.talker.ended().await?;
        Ok(Sent {
            started_ns: number(&value, "started_ns")?,
            ended_ns: number(&value, "ended_ns")?,
            accepted: number(&value, "accepted")?,
            id_sum: sum(&value)?,
            busy: number(&value, "busy")?,
            answer: Latency::read(value.get("answer"))?,
            late: Latency::read(value.get("late"))?,
            worst_us: worst.iter().filter_map(Value::as_u64).collect(),
            slice_ms: number(&value, "slice_ms")?,
        })
    }
}
