//! Stopping the daemon: what it still does, what it refuses, and what it leaves behind.

use crate::support::{Daemon, Receiver, Reply, Setup, until};
use serde_json::json;
use std::time::{Duration, Instant};

const EVENT: &str = r#"{"organizationId":"org_1","type":"a.b","data":1}"#;

/// Returns a daemon with one attempt on the wire that the receiver hasn't answered yet.
async fn with_one_on_the_wire(setup: Setup) -> (Daemon, Receiver, String) {
    let receiver = Receiver::answering(Reply::held(200)).await;
    let daemon = setup.start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!(1)).await;
    receiver.wait_for(1).await;
    (daemon, receiver, event)
}

/// Asks it to stop, and again once it is stopping.
async fn stop_twice(daemon: &Daemon) {
    daemon.terminate();
    let api = daemon.client();
    until("it drains", async || {
        let ready = api.get("/readyz").await;
        (ready.status == 503).then_some(())
    })
    .await;
    daemon.terminate();
}

#[tokio::test]
async fn while_it_drains_questions_are_answered_and_nothing_is_taken() {
    let (mut daemon, receiver, event) = with_one_on_the_wire(Setup::new()).await;
    let api = daemon.client();
    let mut stream = api.upload("/v1/events/batch", "application/x-ndjson").await;
    stream.write(format!("{EVENT}\n")).await;
    let (_, mut lines) = stream.answer().await;
    assert_eq!(lines.next_json().await["status"], "accepted");
    daemon.terminate();
    // The stream ends with a message: every line that was read is answered.
    let cut = lines.next_json().await;
    assert_eq!((&cut["line"], &cut["status"]), (&json!(2), &json!("cut")));
    assert_eq!(lines.next().await, None);
    let ready = api.get("/readyz").await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert_eq!(ready.json()["status"], "stopping");
    api.get("/healthz").await.expect_ok();
    let answer = api.post("/v1/events", EVENT).await;
    answer.problem(503, "shutting_down");
    assert!(answer.header("retry-after").is_some());
    let body = json!({"organizationId": "org_1", "url": "https://a.example/", "eventTypes": ["*"]});
    api.post("/v1/endpoints", body)
        .await
        .problem(503, "shutting_down");
    assert_eq!(api.deliveries(&event).await.len(), 1);
    receiver.release(8);
    assert!(daemon.ended().await.success());
    assert!(!daemon.setup.socket().exists());
    receiver.answer(Reply::Status(200));
    daemon.start_again().await;
    daemon.client().delivery_when(&event, "SUCCESS").await;
}

#[tokio::test]
async fn who_follows_hears_of_the_attempt_that_was_cut() {
    let (mut daemon, _receiver, event) = with_one_on_the_wire(Setup::new()).await;
    let mut live = daemon.client().follow("/v1/attempts/stream").await;
    stop_twice(&daemon).await;
    let (name, data) = live.next_sse().await;
    assert_eq!(name, "attempt");
    assert!(
        data.contains("interrupted") && data.contains(&event),
        "{data}"
    );
    assert!(daemon.ended().await.success());
}

#[tokio::test]
async fn asked_twice_it_waits_for_nobody() {
    let setup = Setup::new().set("delivery.timeout", r#""60s""#);
    let (mut daemon, receiver, event) = with_one_on_the_wire(setup).await;
    let asked = Instant::now();
    stop_twice(&daemon).await;
    assert!(daemon.ended().await.success());
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );
    receiver.answer(Reply::Status(200));
    daemon.start_again().await;
    let delivery = daemon.client().delivery_when(&event, "SUCCESS").await;
    let delivery = daemon
        .client()
        .delivery(delivery["id"].as_str().unwrap())
        .await;
    let outcomes: Vec<_> = delivery["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["interrupted", "success"]);
}
