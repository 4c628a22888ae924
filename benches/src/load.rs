//! The producing process: sends prebuilt events in one of several ways and reports which were accepted. It
//! prints `ready` once its connections are open, starts at `go` on stdin, and ends with one line of JSON.
//! `--events` bounds everything it sends.

mod stream;
mod tally;

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use serde_json::json;
use stormhook_benches::bodies::{self, Kind, POOL_EVENTS};
use tokio::sync::mpsc;

use crate::clock;
use crate::error::{BenchError, Doing, Result};
use crate::ledger::percentiles;
use crate::wire::{self, Target};
use stream::stream;
use tally::{SLICE_NS, Tally};

/// How often an event is sent again after `503` before the run is aborted.
const BUSY_RETRIES: u32 = 200;

/// How the events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// One POST per event; each connection has one request at a time.
    Post,
    /// One POST per event with an idempotency key of its own.
    Keyed,
    /// Bare POSTs to the sink.
    Bare,
    /// One NDJSON stream.
    Stream,
    /// One POST per event at a fixed rate, stamped with its start.
    Steady,
}

/// The settings of a run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// How the events are sent.
    #[arg(value_enum)]
    pub(crate) way: Way,
    /// `unix:PATH` or `tcp:ADDRESS`.
    #[arg(long)]
    pub(crate) to: String,
    /// The request's path.
    #[arg(long)]
    pub(crate) path: String,
    /// How many events.
    #[arg(long)]
    pub(crate) events: usize,
    /// How many connections, each with one request at a time.
    #[arg(long, default_value_t = 256)]
    pub(crate) connections: usize,
    /// The kind of an event's data.
    #[arg(long, value_enum, default_value = "kib")]
    pub(crate) kind: Kind,
    /// The organization, or the prefix of its name if there are several.
    #[arg(long, default_value = "org_bench")]
    pub(crate) organization: String,
    /// How many organizations.
    #[arg(long, default_value_t = 1)]
    pub(crate) organizations: usize,
    /// Events per second, for `steady`.
    #[arg(long, default_value_t = 500)]
    pub(crate) rate: u64,
}

/// What all requests of a run share.
struct Plan {
    uri: Uri,
    way: Way,
    bodies: Vec<Bytes>,
    events: usize,
}

impl Plan {
    fn request<B>(&self, body: B, content_type: &'static str) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        request
    }

    fn post(&self, index: usize, body: Bytes) -> Result<Request<Full<Bytes>>> {
        let mut request = self.request(Full::new(body), "application/json");
        if self.way == Way::Keyed {
            let key = HeaderValue::from_str(&format!("bench-{}-{index}", clock::monotonic_ns()));
            request
                .headers_mut()
                .insert("idempotency-key", key.doing("making a key")?);
        }
        Ok(request)
    }

    fn body(&self, index: usize) -> Bytes {
        self.bodies
            .get(index % POOL_EVENTS)
            .cloned()
            .unwrap_or_default()
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// Sends one event until it is accepted.
async fn send(plan: &Plan, sender: &mut Sender, index: usize, tally: &mut Tally) -> Result<()> {
    for _ in 0..BUSY_RETRIES {
        sender.ready().await.doing("waiting for a connection")?;
        let started_ns = clock::monotonic_ns();
        let body = match plan.way {
            Way::Steady => bodies::stamped(&plan.body(index), started_ns),
            _ => plan.body(index),
        };
        let request = plan.post(index, body)?;
        let response = sender
            .send_request(request)
            .await
            .doing("sending an event")?;
        let code = response.status();
        let answer = response
            .into_body()
            .collect()
            .await
            .doing("reading an answer")?
            .to_bytes();
        match (plan.way, code) {
            (Way::Bare, StatusCode::OK) => tally.accepted += 1,
            (_, StatusCode::ACCEPTED) => tally.accept(&answer)?,
            (_, StatusCode::SERVICE_UNAVAILABLE) => {
                tally.busy += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            _ => {
                let text = String::from_utf8_lossy(&answer);
                return Err(BenchError::wrong(format!(
                    "expected 202, got {code}: {text}"
                )));
            }
        }
        tally.answered(started_ns, clock::monotonic_ns());
        return Ok(());
    }
    Err(BenchError::wrong(
        "the daemon kept answering 503 for ten seconds",
    ))
}

/// Sends all events over `senders`, each with one request at a time.
async fn posts(plan: Arc<Plan>, senders: Vec<Sender>) -> Result<Tally> {
    let mut workers = tokio::task::JoinSet::new();
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for mut sender in senders {
        let (plan, next) = (Arc::clone(&plan), Arc::clone(&next));
        workers.spawn(async move {
            let mut tally = Tally::new()?;
            loop {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if index >= plan.events {
                    return Ok::<_, BenchError>(tally);
                }
                send(&plan, &mut sender, index, &mut tally).await?;
            }
        });
    }
    let mut total = Tally::new()?;
    while let Some(tally) = workers.join_next().await {
        total.add(&tally.doing("running a connection")??);
    }
    Ok(total)
}

/// Sends events at a fixed rate, whatever the answers: a slow answer delays no later event as long as a
/// connection is idle.
async fn steady(plan: Arc<Plan>, senders: Vec<Sender>, rate: u64) -> Result<Tally> {
    let (idle_in, mut idle) = mpsc::channel(senders.len());
    for sender in senders {
        idle_in.try_send(sender).doing("filling the pool")?;
    }
    let gap = Duration::from_nanos(1_000_000_000 / rate.max(1));
    let mut ticks = tokio::time::interval(gap);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut workers = tokio::task::JoinSet::new();
    let mut total = Tally::new()?;
    let started_ns = clock::monotonic_ns();
    for index in 0..plan.events {
        ticks.tick().await;
        let mut sender: Sender = idle
            .recv()
            .await
            .ok_or_else(|| BenchError::wrong("every connection of the steady load ended"))?;
        let due_ns = started_ns + u64::try_from(gap.as_nanos()).unwrap_or(0) * index as u64;
        total
            .late_us
            .saturating_record(clock::monotonic_ns().saturating_sub(due_ns) / 1_000);
        let (plan, idle_in) = (Arc::clone(&plan), idle_in.clone());
        workers.spawn(async move {
            let mut tally = Tally::new()?;
            send(&plan, &mut sender, index, &mut tally).await?;
            // The receiver is dropped only when the run has ended.
            drop(idle_in.send(sender).await);
            Ok::<_, BenchError>(tally)
        });
        while let Some(done) = workers.try_join_next() {
            total.add(&done.doing("running an event")??);
        }
    }
    while let Some(done) = workers.join_next().await {
        total.add(&done.doing("running an event")??);
    }
    Ok(total)
}

async fn opened(args: &LoadArgs, target: &Target) -> Result<Vec<Sender>> {
    let mut senders = Vec::new();
    if args.way != Way::Stream {
        for _ in 0..args.connections {
            senders.push(wire::connect(target).await?);
        }
    }
    Ok(senders)
}

async fn run_load(args: &LoadArgs) -> Result<()> {
    let target: Target = args.to.parse()?;
    let plan = Arc::new(Plan {
        uri: args.path.parse().doing("reading --path")?,
        way: args.way,
        bodies: bodies::pool(args.kind, &args.organization, args.organizations),
        events: args.events,
    });
    let senders = opened(args, &target).await?;
    println!("ready");
    let mut go = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut go)
        .doing("waiting for go")?;
    if go.trim() != "go" {
        return Ok(());
    }
    let started_ns = clock::monotonic_ns();
    let tally = match args.way {
        Way::Stream => stream(&plan, &target).await?,
        Way::Steady => steady(plan, senders, args.rate).await?,
        Way::Post | Way::Keyed | Way::Bare => posts(plan, senders).await?,
    };
    println!(
        "{}",
        json!({
            "started_ns": started_ns,
            "ended_ns": clock::monotonic_ns(),
            "accepted": tally.accepted,
            "id_sum": tally.id_sum.to_string(),
            "busy": tally.busy,
            "answer": percentiles(&tally.answer_us),
            "late": percentiles(&tally.late_us),
            "slice_ms": SLICE_NS / 1_000_000,
            "worst_us": tally.worst_us.values().collect::<Vec<_>>(),
        })
    );
    Ok(())
}

/// Runs one load on one thread.
pub(crate) fn run(args: &LoadArgs) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .doing("starting the load's runtime")?
        .block_on(run_load(args))
}
