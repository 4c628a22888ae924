//! Job queues on the same server: their producer and worker are processes of Node, with the adapters of `benches/peers`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use stormhook_benches::bodies::{self, Kind};
use tempfile::TempDir;
use tokio::process::Command;

use super::daemons::ORGANIZATIONS;
use super::database::Database;
use super::found::Found;
use crate::bench::{Bench, SECRET};
use crate::clock;
use crate::error::{BenchError, Doing, Result};
use crate::process::Sent;
use crate::talker::{ANSWER_TIMEOUT, Talker};

/// Jobs that a producer adds with one call, and its calls in flight.
const BATCH: usize = 500;
const CALLS: usize = 4;
/// The time limit of a load, and for the queue to be empty behind it.
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);
const SETTLE_TIMEOUT_S: f64 = 60.0;
/// Jobs with which a variant is tried.
const TRIED: usize = 3_000;

/// A job queue, with the variants of its settings that are tried.
pub(super) struct Peer {
    /// Its package.
    pub(super) name: &'static str,
    variants: &'static [&'static str],
    /// How many times its deliveries per second ours should be.
    pub(super) target: (f64, &'static str),
}

/// All peers, each with settings of its own documentation for throughput.
pub(super) const PEERS: &[Peer] = &[
    Peer {
        name: "graphile-worker",
        variants: &[
            r#"{"concurrentJobs": 64, "localQueue": 500, "batchMs": 0, "pool": 16}"#,
            r#"{"concurrentJobs": 24, "localQueue": 500, "batchMs": 0, "pool": 16}"#,
            r#"{"concurrentJobs": 64, "localQueue": 2000, "batchMs": 250, "pool": 16}"#,
        ],
        target: (10.0, "≥ 10×"),
    },
    Peer {
        name: "pg-boss",
        variants: &[
            r#"{"batchSize": 500, "workers": 2, "pool": 16}"#,
            r#"{"batchSize": 100, "workers": 4, "pool": 16}"#,
            r#"{"batchSize": 500, "workers": 4, "pool": 16}"#,
        ],
        target: (4.0, "≥ 4×"),
    },
];

fn folder_of_peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Installs what is missing of the packages of Node and of a Debian package.
pub(super) async fn install(package: &str) -> Result<()> {
    let install = folder_of_peers().join("install.sh");
    let ran = Command::new(&install).arg(package).status().await;
    let ran = ran.doing(format!("running {}", install.display()))?;
    match ran.success() {
        true => Ok(()),
        false => Err(BenchError::wrong(
            "something that the benchmark needs is missing: see above",
        )),
    }
}

/// What all peers need.
pub(super) struct Tools {
    sources: PathBuf,
    folder: TempDir,
}

impl Tools {
    /// Writes the events for the producers.
    pub(super) fn prepare() -> Result<Self> {
        let folder = tempfile::tempdir().doing("making a folder for the events")?;
        let tools = Self {
            sources: folder_of_peers().join("src"),
            folder,
        };
        let pool = bodies::pool(Kind::Short, "org_", ORGANIZATIONS);
        let bodies: Vec<_> = pool.iter().map(|b| String::from_utf8_lossy(b)).collect();
        let text = json!(bodies).to_string();
        std::fs::write(tools.events(), text).doing("writing the events")?;
        Ok(tools)
    }

    fn events(&self) -> PathBuf {
        self.folder.path().join("events.json")
    }

    /// Returns the versions of the packages and of Node as text.
    pub(super) async fn versions(&self) -> Result<String> {
        let manifest = self.sources.join("../package.json");
        let text = std::fs::read_to_string(manifest).doing("reading package.json")?;
        let manifest: Value = serde_json::from_str(&text).doing("reading package.json")?;
        let node = Command::new("node").arg("--version").output().await;
        let node = node.doing("asking Node for its version")?.stdout;
        let version = |name: &str| {
            let version = manifest.get("dependencies").and_then(|all| all.get(name));
            let version = version.and_then(Value::as_str).unwrap_or("?");
            format!("{name} {version}")
        };
        let packages = PEERS.iter().map(|peer| version(peer.name));
        let packages = packages.chain([version("pg"), version("undici")]);
        let packages = packages.collect::<Vec<_>>().join(", ");
        let node = String::from_utf8_lossy(&node);
        Ok(format!("{packages}, Node {}", node.trim()))
    }

    fn command(&self, program: &str, config: &Value) -> Command {
        let mut command = Command::new("node");
        command.arg(self.sources.join(program));
        command
            .arg(config.to_string())
            .env("NODE_ENV", "production");
        command
    }
}

/// A peer that runs.
struct Running {
    worker: Talker,
    producer: Talker,
    ledger: u32,
    sent: Sent,
}

impl Running {
    async fn start(
        bench: &mut Bench,
        database: &Database,
        tools: &Tools,
        peer: &Peer,
        variant: &Value,
    ) -> Result<Self> {
        let config = json!({
            "adapter": peer.name,
            "variant": variant,
            "origin": format!("http://{}", bench.sink.address()),
            "secret": SECRET,
            "events": tools.events(),
            "socket": database.folder(),
            "database": DATABASE,
            "user": "postgres",
        });
        let mut prepared = tools.command("prepare.js", &config);
        let prepared = prepared.output().await.doing("starting node")?;
        if !prepared.status.success() {
            let said = String::from_utf8_lossy(&prepared.stderr);
            return Err(BenchError::wrong(format!(
                "preparing {}: {said}",
                peer.name
            )));
        }
        let mut worker = Talker::start("worker", &mut tools.command("worker.js", &config))?;
        let mut producer = Talker::start("producer", &mut tools.command("producer.js", &config))?;
        worker.hear(ANSWER_TIMEOUT).await?;
        producer.hear(ANSWER_TIMEOUT).await?;
        Ok(Self {
            worker,
            producer,
            ledger: bench.sink.ledger(),
            sent: Sent::none(),
        })
    }

    async fn ask(&mut self, command: &Value) -> Result<Value> {
        let answer = self
            .producer
            .ask(&command.to_string(), LOAD_TIMEOUT)
            .await?;
        match answer.get("error") {
            Some(error) => Err(BenchError::wrong(format!("a peer's producer: {error}"))),
            None => Ok(answer),
        }
    }

    /// Adds jobs, and waits until all are delivered and marked done. Returns the seconds until the last was added, and
    /// until the sink had all.
    async fn load(&mut self, bench: &mut Bench, jobs: usize) -> Result<(f64, f64)> {
        let path = format!("/ok/{}", self.ledger);
        let command = json!({"do": "batches", "count": jobs, "batch": BATCH, "inFlight": CALLS, "path": path});
        let answer = self.ask(&command).await?;
        let sent = Sent::of_peer(&answer)?;
        self.sent.add(&sent);
        bench.arrived(self.ledger, self.sent.accepted).await?;
        let delivered_s = clock::seconds_since(sent.started_ns);
        let started_ns = clock::monotonic_ns();
        while self.waiting().await? > 0 {
            if clock::seconds_since(started_ns) > SETTLE_TIMEOUT_S {
                return Err(BenchError::wrong("jobs are delivered, but not marked done"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let accepted_s = clock::seconds_between(sent.started_ns, sent.ended_ns);
        Ok((accepted_s, delivered_s))
    }

    async fn waiting(&mut self) -> Result<u64> {
        let answer = self.ask(&json!({"do": "waiting"})).await?;
        let waiting = answer.get("waiting").and_then(Value::as_u64);
        waiting.ok_or_else(|| BenchError::wrong(format!("expected a number, got {answer}")))
    }
}

/// The database of a peer.
const DATABASE: &str = "peer";

/// Measures a peer once on a database of its own.
pub(super) async fn measure(
    bench: &mut Bench,
    database: &Database,
    tools: &Tools,
    (peer, variant): (&Peer, &Value),
    jobs: usize,
) -> Result<Found> {
    database.create(DATABASE).await?;
    let mut running = Running::start(bench, database, tools, peer, variant).await?;
    running.load(bench, jobs / 10).await?;
    database.checkpoint().await?;
    let pids = [running.worker.pid];
    let before = database.used(&pids).await?;
    let (accepted_s, delivered_s) = running.load(bench, jobs).await?;
    let after = database.used(&pids).await?;
    bench.checked(running.ledger, &running.sent, 1).await?;
    running.worker.kill().await?;
    running.producer.kill().await?;
    let dead = database.dead_rows(DATABASE).await?;
    database.drop(DATABASE).await?;
    let found = Found {
        accepted: jobs as f64 / accepted_s,
        delivered: jobs as f64 / delivered_s,
        ..Found::of(jobs as u64, before, after)
    };
    Ok(found.with_dead(dead, running.sent.accepted))
}

/// Tries the variants of a peer, and returns the one with the most deliveries per second. A quick look takes the first.
pub(super) async fn best_variant(
    bench: &mut Bench,
    database: &Database,
    tools: &Tools,
    peer: &Peer,
) -> Result<Value> {
    let tried = bench.size(peer.variants.len(), 1);
    let mut best = (0.0, Value::Null);
    for text in peer.variants.iter().take(tried) {
        let variant: Value = serde_json::from_str(text).doing("reading a variant")?;
        if tried == 1 {
            return Ok(variant);
        }
        let found = measure(bench, database, tools, (peer, &variant), TRIED).await?;
        let rate = found.delivered;
        bench.report.note(format!(
            "cluster: {} tried with {variant}: {rate:.0} delivered/s",
            peer.name
        ));
        if rate > best.0 {
            best = (rate, variant);
        }
    }
    Ok(best.1)
}

/// Returns how the producers of peers batch, as text.
pub(super) fn batching() -> String {
    format!("peers: one producer with {CALLS} calls in flight, each of which adds {BATCH} jobs")
}
