//! Heavy load and a slow disk: the daemon keeps answering, and one organization's events don't block the others'.

use crate::broken_disk::{broken, can_trace, mended};
use crate::support::{Client, Daemon, Receiver, Setup, until, within};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Events of this size reach the queue's limit of bytes long before its limit of operations.
const LARGE_BYTES: usize = 1_000 << 10;

/// A stream of large events without end; `taken` counts what the daemon has read of it, to within a line or two.
fn stream(daemon: &Daemon, organization: &'static str, taken: &Arc<AtomicUsize>) -> JoinHandle<()> {
    let (api, taken) = (daemon.client(), Arc::clone(taken));
    tokio::spawn(async move {
        let mut upload = api.upload("/v1/events/batch", "application/x-ndjson").await;
        let data = "x".repeat(LARGE_BYTES);
        let line = json!({"organizationId": organization, "type": "large", "data": data});
        let line = line.to_string() + "\n";
        while upload.offer(line.clone()).await {
            taken.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// Waits until the daemon has read this many lines and reads no more: the queue is full.
async fn full(taken: &AtomicUsize, least: usize) {
    let (mut before, mut alike) = (0, 0);
    until("the queue is full", async || {
        let now = taken.load(Ordering::Relaxed);
        alike = if now == before { alike + 1 } else { 0 };
        before = now;
        (now >= least && alike >= 50).then_some(())
    })
    .await;
}

/// Returns the 50th and 99th percentiles.
fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_queue_is_full_by_bytes_behind_a_stalled_commit_answers() {
    if !can_trace() {
        eprintln!("skipped: no strace here, or it may not trace");
        return;
    }
    let setup = Setup::new().set("limits.event_bytes", r#""1MiB""#);
    let daemon = setup.start().await;
    let api = daemon.client();
    // No sync ends by itself.
    let stall = ["fdatasync:delay_enter=3600s"];
    let Some(tracer) = broken(&daemon, &stall).await else {
        eprintln!("skipped: a running process may not be attached to here");
        return;
    };
    let taken = Arc::new(AtomicUsize::new(0));
    let streams = ["org_1", "org_2", "org_3"].map(|of| stream(&daemon, of, &taken));
    full(&taken, 40).await;
    for _ in 0..50 {
        within("/healthz answers", api.get("/healthz"))
            .await
            .expect_ok();
    }
    for stream in streams {
        stream.abort();
    }
    mended(tracer).await;
    until("events are accepted again", async || {
        let body = json!({"organizationId": "org_4", "type": "a", "data": 1});
        let answer = api.post("/v1/events", body).await;
        (answer.status == 202).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure, of a release build: TESTED_BINARY=target/release/stormhook"]
async fn figure_of_healthz_beside_large_lines_on_a_slow_disk() {
    let setup = Setup::new().set("limits.event_bytes", r#""1MiB""#);
    let daemon = setup.start().await;
    let api = daemon.client();
    let slow = ["fdatasync:delay_enter=700ms"];
    let tracer = broken(&daemon, &slow).await.expect("strace may attach");
    let taken = Arc::new(AtomicUsize::new(0));
    let stream = stream(&daemon, "org_1", &taken);
    until("the queue was full", async || {
        (taken.load(Ordering::Relaxed) >= 80).then_some(())
    })
    .await;
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let begun = Instant::now();
        api.get("/healthz").await.expect_ok();
        times.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let worst = times.iter().max().copied();
    let (p50, p99) = quantiles(times);
    eprintln!("/healthz: p50 {p50:.1?}, p99 {p99:.1?}, worst {worst:.1?}");
    stream.abort();
    mended(tracer).await;
}

/// Returns the times of an organization's POSTs, one after another, until `ended`.
async fn posts(api: &Client, mut ended: impl FnMut() -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !ended() {
        let begun = Instant::now();
        let body = json!({"organizationId": "org_quiet", "type": "a", "data": 1});
        api.post("/v1/events", body).await.expect(202);
        times.push(begun.elapsed());
    }
    times
}

/// Creates an organization with this many endpoints, whose receiver accepts everything.
async fn fan_out(api: &Client, receiver: &Receiver, endpoints: usize) {
    for n in 0..endpoints {
        let body = json!({"organizationId": "org_loud", "url": receiver.url(&format!("/{n}")),
            "eventTypes": ["*"], "active": true});
        api.post("/v1/endpoints", body).await.expect(201);
    }
}

fn lines(events: usize) -> String {
    let line = json!({"organizationId": "org_loud", "type": "a", "data": 1}).to_string() + "\n";
    line.repeat(events)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure, of a release build: TESTED_BINARY=target/release/stormhook"]
async fn figure_of_posts_beside_the_fan_out_of_another_organization() {
    const ENDPOINTS: usize = 1_000;
    const EVENTS: usize = 1_000;
    let daemon = Setup::new().start().await;
    let api = daemon.client();
    let receiver = Receiver::answering(crate::support::Reply::Hang).await;
    fan_out(&api, &receiver, ENDPOINTS).await;
    let mut rounds = 100;
    let calm = posts(&api, || {
        rounds -= 1;
        rounds == 0
    })
    .await;
    let (p50, p99) = quantiles(calm);
    eprintln!("POST alone: p50 {p50:.1?}, p99 {p99:.1?}");
    let loud = daemon.client();
    let batch = tokio::spawn(async move {
        let begun = Instant::now();
        let mut upload = loud
            .upload("/v1/events/batch", "application/x-ndjson")
            .await;
        upload.write(lines(EVENTS)).await;
        upload.finish();
        let (_, mut answers) = upload.answer().await;
        let mut count = 0;
        while answers.next().await.is_some() {
            count += 1;
        }
        (count, begun.elapsed())
    });
    let beside = posts(&api, || batch.is_finished()).await;
    let (count, worst) = (beside.len(), beside.iter().max().copied());
    let (p50, p99) = quantiles(beside);
    let (answers, took) = batch.await.unwrap();
    assert_eq!(answers, EVENTS);
    eprintln!(
        "POST beside {EVENTS} events for {ENDPOINTS} endpoints, which took {took:.1?}: {count}, p50 {p50:.1?}, p99 {p99:.1?}, worst {worst:.1?}"
    );
}
