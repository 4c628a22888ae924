//! Section 2 of the contract, on idempotency keys: one event per key, however often and by whomever it is sent.

use crate::support::{Daemon, Receiver, Setup};
use serde_json::{Value, json};

fn order(key: Option<&str>, data: Value) -> Value {
    let mut body = json!({"organizationId": "org_1", "type": "order.created", "data": data});
    if let Some(key) = key {
        body["idempotencyKey"] = json!(key);
    }
    body
}

#[tokio::test]
async fn the_same_event_with_the_same_key_is_answered_alike_and_sent_once() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let first = api
        .post("/v1/events", order(Some("k"), json!({"a": 1})))
        .await;
    first.expect(202);
    assert_eq!(first.header("idempotency-replayed"), None);
    for _ in 0..3 {
        let again = api
            .post("/v1/events", order(Some("k"), json!({"a": 1})))
            .await;
        again.expect(200);
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
    // A new endpoint doesn't change the answer for an earlier event.
    api.endpoint(&receiver.url("/later"), &["*"]).await;
    let again = api
        .post("/v1/events", order(Some("k"), json!({"a": 1})))
        .await;
    assert_eq!(again.body, first.body);
    let last = api.event("last.one", json!(1)).await;
    let requests = receiver.wait_where(2, |r| r.event() == last).await;
    assert_eq!(requests.len(), 2);
    assert_eq!(receiver.count(), 3);
    assert_eq!(api.all("/v1/events").await.len(), 2);
}

#[tokio::test]
async fn the_same_key_with_another_event_is_a_conflict() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let event = |more: &str, data: &str| {
        format!(
            r#"{{"organizationId":"org_1","type":"a.b","idempotencyKey":"k"{more},"data":{data}}}"#
        )
    };
    api.post("/v1/events", event("", "[1,2]")).await.expect(202);
    for other in [
        event("", "[1, 2]"),
        event("", "[1,3]"),
        event("", "[1,2]").replace("a.b", "a.c"),
        event(r#","timestamp":"2026-01-02T03:04:05Z""#, "[1,2]"),
    ] {
        api.post("/v1/events", other)
            .await
            .problem(409, "idempotency_conflict");
    }
    let stamped = event(r#","timestamp":"2026-01-02T03:04:05Z""#, "1").replace("\"k\"", "\"k2\"");
    api.post("/v1/events", stamped.clone()).await.expect(202);
    api.post("/v1/events", stamped.clone()).await.expect(200);
    // The time as it was sent: the same time written differently is a different event too.
    for otherwise in ["06Z", "05.000Z", "05+00:00"] {
        let other = stamped.replace("05Z", otherwise);
        api.post("/v1/events", other)
            .await
            .problem(409, "idempotency_conflict");
    }
    assert_eq!(api.all("/v1/events").await.len(), 2);
}

#[tokio::test]
async fn a_key_belongs_to_its_organization() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let mut other = order(Some("k"), json!(1));
    other["organizationId"] = json!("org_2");
    let one = api
        .post("/v1/events", order(Some("k"), json!(1)))
        .await
        .expect(202);
    let two = api.post("/v1/events", other).await.expect(202);
    assert_ne!(one["id"], two["id"]);
}

#[tokio::test]
async fn the_key_may_stand_in_the_header_or_in_the_body_but_not_differ() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let send = async |header: &str, body: Value| {
        api.call("POST", "/v1/events")
            .header("idempotency-key", header)
            .json(body)
            .send()
            .await
    };
    let first = api.post("/v1/events", order(Some("k"), json!(1))).await;
    first.expect(202);
    let by_header = send("k", order(None, json!(1))).await;
    by_header.expect(200);
    assert_eq!(by_header.body, first.body);
    send("k", order(Some("k"), json!(1))).await.expect(200);
    let both = send("other", order(Some("k"), json!(1))).await;
    both.problem_in(400, "invalid_field", "idempotencyKey");
    for (second, status) in [("k", 200), ("k2", 400)] {
        let call = api.call("POST", "/v1/events");
        let call = call.header("idempotency-key", "k");
        let call = call.header("idempotency-key", second);
        let answer = call.json(order(None, json!(1))).send().await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let answer = send(&"k".repeat(256), order(None, json!(1))).await;
    answer.problem_in(400, "invalid_field", "idempotencyKey");
    send("with space", order(None, json!(1)))
        .await
        .problem(400, "invalid_field");
}

#[tokio::test]
async fn fifty_identical_requests_at_once_make_one_event() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { api.post("/v1/events", order(Some("k"), json!(1))).await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    let replayed = answers
        .iter()
        .filter(|a| a.status == 200 && a.header("idempotency-replayed") == Some("true"))
        .count();
    assert_eq!((accepted, replayed), (1, 49));
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(api.all("/v1/events").await.len(), 1);
    let last = api.event("last.one", json!(1)).await;
    receiver.wait_where(1, |r| r.event() == last).await;
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn a_key_survives_kill() {
    let mut daemon = Daemon::start().await;
    let first = daemon
        .client()
        .post("/v1/events", order(Some("k"), json!(1)))
        .await;
    first.expect(202);
    daemon.kill().await;
    daemon.start_again().await;
    let again = daemon
        .client()
        .post("/v1/events", order(Some("k"), json!(1)))
        .await;
    again.expect(200);
    assert_eq!(again.body, first.body);
    let other = daemon
        .client()
        .post("/v1/events", order(Some("k"), json!(2)))
        .await;
    other.problem(409, "idempotency_conflict");
}

#[tokio::test]
async fn replays_and_conflicts_are_counted() {
    let mut daemon = Daemon::start().await;
    let api = daemon.client();
    api.post("/v1/events", order(Some("k"), json!(1)))
        .await
        .expect(202);
    for _ in 0..3 {
        api.post("/v1/events", order(Some("k"), json!(1)))
            .await
            .expect(200);
    }
    for _ in 0..2 {
        api.post("/v1/events", order(Some("k"), json!(2)))
            .await
            .expect(409);
    }
    let check = |stats: &Value| {
        assert_eq!(stats["ingest.accepted.count"], 1, "{stats}");
        assert_eq!(stats["idempotency.replay.count"], 3, "{stats}");
        assert_eq!(stats["idempotency.conflict.count"], 2, "{stats}");
        assert_eq!(stats["idempotency.inflight.gauge"], 0, "{stats}");
    };
    check(&api.stats("").await);
    assert!(daemon.stop().await.success());
    daemon.start_again().await;
    check(&daemon.client().stats("").await);
}

#[tokio::test]
async fn a_time_to_live_out_of_bounds_is_refused_at_start() {
    for (key, value) in [
        ("idempotency.ttl", r#""4m""#),
        ("idempotency.ttl", r#""73h""#),
        ("retention.events", r#""1h""#),
    ] {
        let refused = Setup::new().set(key, value).try_start().await.err();
        let refused = refused.unwrap_or_else(|| panic!("started with {key} = {value}"));
        assert!(refused.log.contains("ttl"), "{}", refused.log);
    }
}
