//! Overload: more events than receivers accept, receivers that never answer, callers that only hold connections. Each
//! gets a clear answer, affects nobody else, and ends without intervention. `scripts/overload` does the same at full
//! size.

use crate::support::{Daemon, Receiver, Reply, Setup, until, within};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The memory that the daemon may use in any of these, in a debug build.
const MEMORY_KIB: u64 = 192 << 10;

/// Returns the daemon's peak memory so far.
fn peak_kib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let figure = line.and_then(|line| line.split_whitespace().nth(1));
    figure.unwrap().parse().unwrap()
}

fn expect_bounded(daemon: &Daemon) {
    let peak = peak_kib(daemon);
    eprintln!("{peak} KiB at most");
    assert!(peak < MEMORY_KIB, "{peak} KiB");
}

#[tokio::test]
async fn events_beyond_the_bound_are_refused_as_busy_and_taken_again_when_partners_take_them() {
    const BOUND: usize = 3_000;
    let setup = Setup::new().set("limits.pending_deliveries", &BOUND.to_string());
    let mut daemon = setup.set("delivery.timeout", r#""60s""#).start().await;
    let receiver = Receiver::answering(Reply::held(200)).await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let line = |n: usize| {
        let data = "x".repeat(200);
        json!({"organizationId": "org_1", "type": "a", "data": data, "idempotencyKey": format!("k{n}")}).to_string() + "\n"
    };
    let lines: String = (0..BOUND + 500).map(line).collect();
    let answers = api.batch(&lines).await;
    let (accepted, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|a| a["status"] == "accepted");
    assert_eq!(accepted.len(), BOUND);
    assert!(
        refused.iter().all(|a| a["problem"]["code"] == "busy"),
        "{refused:?}"
    );
    let one = api.post("/v1/events", line(BOUND)).await;
    one.problem(503, "busy");
    assert!(one.header("retry-after").is_some(), "{one:?}");
    // Health checks pass, and refused events left no keys behind.
    api.get("/readyz").await.expect_ok();
    receiver.answer(Reply::Status(200));
    receiver.release(BOUND);
    until("events are accepted again", async || {
        let answer = api.post("/v1/events", line(BOUND)).await;
        assert!([202, 503].contains(&answer.status.as_u16()), "{answer:?}");
        (answer.status == 202).then_some(())
    })
    .await;
    let requests = receiver
        .wait_for_within(BOUND + 1, Duration::from_secs(60))
        .await;
    let ids: BTreeSet<_> = requests.iter().map(|r| r.event()).collect();
    assert!(
        accepted
            .iter()
            .all(|a| ids.contains(a["id"].as_str().unwrap()))
    );
    expect_bounded(&daemon);
    assert!(daemon.stop().await.success());
}

/// Returns the 95th percentile of the time from sending to receipt.
pub(crate) async fn p95(daemon: &Daemon, receiver: &Receiver, round: &str) -> Duration {
    const EVENTS: usize = 60;
    let api = daemon.client();
    let mut times = Vec::new();
    for n in 0..EVENTS {
        let begun = std::time::Instant::now();
        let body = json!({"organizationId": "org_2", "type": "a", "data": format!("{round} {n}")});
        let event = api.post("/v1/events", body).await.expect(202);
        let id = event["id"].as_str().unwrap().to_owned();
        let came = receiver
            .wait_where(1, |request| request.event() == id)
            .await;
        times.push(came[0].at.duration_since(begun));
    }
    times.sort();
    times[EVENTS * 95 / 100]
}

#[tokio::test]
async fn partners_that_never_answer_take_nothing_from_one_that_does() {
    const HANGING: usize = 300;
    let setup = Setup::new().set("delivery.max_in_flight", "64");
    let mut daemon = setup.set("delivery.timeout", r#""60s""#).start().await;
    let api = daemon.client();
    let (healthy, hanging) = (
        Receiver::start().await,
        Receiver::answering(Reply::Hang).await,
    );
    let body = json!({"organizationId": "org_2", "url": healthy.url("/"), "eventTypes": ["*"]});
    api.post("/v1/endpoints", body).await.expect(201);
    let calm = p95(&daemon, &healthy, "calm").await;
    for n in 0..HANGING {
        api.endpoint(&hanging.url(&format!("/{n}")), &["*"]).await;
    }
    for n in 0..5 {
        api.event("a", json!(n)).await;
    }
    // As many as there will ever be: from here on none of their slots is freed.
    hanging.wait_for(32).await;
    let beside = p95(&daemon, &healthy, "beside").await;
    eprintln!("{calm:?} calm, {beside:?} beside {HANGING} that hang");
    // Twice, with room for the effects of other tests on the machine: waiting for one slot would take 60 s.
    assert!(
        beside < calm * 2 + Duration::from_millis(150),
        "{calm:?} {beside:?}"
    );
    expect_bounded(&daemon);
    daemon.kill().await;
}

#[tokio::test]
async fn callers_that_only_hold_connections_are_cut_off_and_others_hear_that_it_is_busy() {
    const BOUND: usize = 400;
    let setup = Setup::new().set("limits.connections", &BOUND.to_string());
    let daemon = setup.set("limits.idle", r#""3s""#).start().await;
    let api = daemon.client();
    let mut held = Vec::new();
    for n in 0..BOUND {
        let mut connection = if n % 2 == 0 {
            api.open().await
        } else {
            daemon.tcp().open().await
        };
        let begin: &[u8] = if n % 4 < 2 { b"GET /v1/st" } else { b"" };
        connection.write_all(begin).await.unwrap();
        held.push(connection);
    }
    let refused = until("it is full", async || {
        let answer = api.call("GET", "/v1/stats").try_send().await.ok()?;
        (answer.status != 200).then_some(answer)
    })
    .await;
    refused.problem(503, "busy");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let more = (0..100).map(|_| async {
        let answer = api.call("GET", "/healthz").try_send().await;
        answer.expect("full is not unwell").expect_ok();
    });
    for one in more {
        one.await;
    }
    until("who held them is cut off, and there is room", async || {
        let answer = api.call("GET", "/v1/stats").try_send().await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    for connection in &mut held {
        let mut rest = Vec::new();
        let _ = within(
            "the connection is closed",
            connection.read_to_end(&mut rest),
        )
        .await;
    }
    expect_bounded(&daemon);
}
