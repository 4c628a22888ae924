//! Section 4 of the contract, on the order of deliveries: FIFO, rates, bounds and fairness.

use crate::support::{Daemon, Receiver, Reply, Setup, until};
use serde_json::{Value, json};
use std::time::Duration;

fn path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap())
}

fn sequences(requests: &[crate::support::Recorded]) -> Vec<u64> {
    requests
        .iter()
        .map(|r| r.json()["sequence"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn fifo_sends_the_next_only_when_the_one_before_has_ended() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    receiver.script([
        Reply::Status(500),
        Reply::Status(500),
        Reply::Status(200),
        Reply::Status(500),
    ]);
    let api = daemon.client();
    api.endpoint_with(&receiver.url("/"), &["*"], json!({"ordering": "fifo"}))
        .await;
    for n in 0..5 {
        api.event("a.b", json!(n)).await;
    }
    let requests = receiver.wait_for(8).await;
    assert_eq!(sequences(&requests), [1, 1, 1, 2, 2, 3, 4, 5]);
    let by_time = requests.windows(2).all(|two| two[0].at <= two[1].at);
    assert!(by_time);
}

#[tokio::test]
async fn a_fifo_successor_says_that_it_waits_for_the_one_before() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(Reply::held(200)).await;
    let api = daemon.client();
    api.endpoint_with(&receiver.url("/"), &["*"], json!({"ordering": "fifo"}))
        .await;
    let first = api.event("a.b", json!(1)).await;
    let second = api.event("a.b", json!(2)).await;
    receiver.wait_for(1).await;
    assert_eq!(api.delivery_of(&first).await["waitingFor"], "in_flight");
    assert_eq!(
        api.delivery_of(&second).await["waitingFor"],
        "fifo_predecessor"
    );
    receiver.release(2);
    api.delivery_when(&second, "SUCCESS").await;
    assert_eq!(sequences(&receiver.requests()), [1, 2]);
}

#[tokio::test]
async fn an_abandoned_or_cancelled_fifo_head_lets_the_next_go() {
    let setup = Setup::new().set("retry.schedule", r#"["20ms"]"#);
    let daemon = setup.start().await;
    let receiver = Receiver::start().await;
    receiver.script([Reply::Status(500), Reply::Status(500)]);
    let api = daemon.client();
    api.endpoint_with(&receiver.url("/"), &["*"], json!({"ordering": "fifo"}))
        .await;
    let first = api.event("a.b", json!(1)).await;
    let second = api.event("a.b", json!(2)).await;
    api.delivery_when(&second, "SUCCESS").await;
    assert_eq!(api.delivery_of(&first).await["status"], "ABANDONED");
    // A new round takes its old place in the order and blocks nothing.
    let id = api.delivery_of(&first).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    api.post(&format!("/v1/deliveries/{id}/retry"), json!({}))
        .await
        .expect(200);
    api.delivery_when(&first, "SUCCESS").await;
    assert_eq!(sequences(&receiver.requests()), [1, 1, 2, 1]);
}

#[tokio::test]
async fn fifo_holds_over_kill() {
    let mut daemon = Setup::new()
        .set("retry.schedule", r#"["100ms","100ms","100ms"]"#)
        .start()
        .await;
    let receiver = Receiver::answering(Reply::Status(500)).await;
    {
        let api = daemon.client();
        api.endpoint_with(&receiver.url("/"), &["*"], json!({"ordering": "fifo"}))
            .await;
        for n in 0..3 {
            api.event("a.b", json!(n)).await;
        }
    }
    receiver.wait_for(1).await;
    daemon.kill().await;
    let before = receiver.count();
    receiver.answer(Reply::Status(200));
    daemon.start_again().await;
    let requests = receiver.wait_for(before + 3).await;
    assert_eq!(sequences(&requests[before..]), [1, 2, 3]);
}

#[tokio::test]
async fn a_rate_limit_is_kept_with_a_burst_of_one_second() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint_with(&receiver.url("/"), &["*"], json!({"rateLimitPerSecond": 5}))
        .await;
    let mut last = String::new();
    for n in 0..15 {
        last = api.event("a.b", json!(n)).await;
    }
    until("the last one says that it waits for the rate", async || {
        let delivery = api.delivery_of(&last).await;
        (delivery["waitingFor"] == "rate_limit").then_some(())
    })
    .await;
    let requests = receiver.wait_for(15).await;
    let took = requests[14].at - requests[0].at;
    assert!(
        took >= Duration::from_millis(1900),
        "15 at 5 a second after a burst of 5: {took:?}"
    );
    assert!(took <= Duration::from_secs(8), "{took:?}");
}

#[tokio::test]
async fn no_endpoint_has_more_on_the_wire_than_its_bound() {
    let daemon = Setup::new()
        .set("delivery.max_in_flight_per_endpoint", "3")
        .start()
        .await;
    let receiver = Receiver::answering(Reply::held(200)).await;
    let other = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["a.*"]).await;
    api.endpoint(&other.url("/"), &["sentinel"]).await;
    let mut events = Vec::new();
    for n in 0..10 {
        events.push(api.event("a.b", json!(n)).await);
    }
    receiver.wait_for(3).await;
    api.event("sentinel", json!(1)).await;
    other.wait_for(1).await;
    assert_eq!(receiver.count(), 3);
    assert_eq!(
        api.delivery_of(&events[9]).await["waitingFor"],
        "concurrency"
    );
    assert_eq!(api.stats("").await["queue.in_flight"], 3);
    receiver.release(10);
    receiver.wait_for(10).await;
}

#[tokio::test]
async fn hanging_endpoints_do_not_delay_a_healthy_one() {
    let setup = Setup::new()
        .set("delivery.max_in_flight", "32")
        .set("delivery.max_in_flight_per_endpoint", "8")
        .set("delivery.timeout", r#""30s""#);
    let daemon = setup.start().await;
    let hanging = Receiver::answering(Reply::Hang).await;
    let healthy = Receiver::start().await;
    let api = daemon.client();
    for n in 0..20 {
        api.endpoint(&hanging.url(&format!("/{n}")), &["flood.*"])
            .await;
    }
    api.endpoint(&healthy.url("/"), &["quiet.*"]).await;
    // Known as fast, like an endpoint in use.
    api.event("quiet.a", json!(0)).await;
    healthy.wait_for(1).await;
    for n in 0..20 {
        api.event("flood.a", json!(n)).await;
    }
    hanging.wait_for(8).await;
    for n in 1..=20 {
        api.event("quiet.a", json!(n)).await;
        healthy.wait_for_within(n + 1, Duration::from_secs(5)).await;
    }
    assert!(
        hanging.count() < 32,
        "some room was left: {}",
        hanging.count()
    );
}

#[tokio::test]
async fn a_flooded_endpoint_does_not_stand_in_front_of_another() {
    let daemon = Daemon::start().await;
    let flooded = Receiver::answering(Reply::After(
        Duration::from_millis(100),
        Box::new(Reply::Status(200)),
    ))
    .await;
    let healthy = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&flooded.url("/"), &["flood.*"]).await;
    api.endpoint(&healthy.url("/"), &["quiet.*"]).await;
    let text: String = (0..3000)
        .map(|n| {
            json!({"organizationId": "org_1", "type": "flood.a", "data": n}).to_string() + "\n"
        })
        .collect();
    api.batch(&text).await;
    for n in 1..=5 {
        api.event("quiet.a", json!(n)).await;
        healthy.wait_for_within(n, Duration::from_secs(5)).await;
    }
    assert!(
        flooded.count() < 2500,
        "the flood was still waiting: {}",
        flooded.count()
    );
}

#[tokio::test]
async fn overdue_deliveries_come_first_when_an_endpoint_is_enabled_again() {
    let setup = Setup::new().set("retry.schedule", r#"["20ms","1h"]"#);
    let daemon = setup.start().await;
    let receiver = Receiver::answering(Reply::held(500)).await;
    let api = daemon.client();
    let made = api.endpoint(&receiver.url("/"), &["*"]).await;
    let mut events = Vec::new();
    for n in 0..4 {
        events.push(api.event("a.b", json!(n)).await);
    }
    receiver.wait_for(4).await;
    api.patch(&path(&made), json!({"active": false}))
        .await
        .expect(200);
    receiver.release(4);
    for event in &events {
        api.delivery_when(event, "RETRYING").await;
    }
    receiver.answer(Reply::Status(200));
    api.patch(&path(&made), json!({"active": true}))
        .await
        .expect(200);
    for event in &events {
        api.delivery_when(event, "SUCCESS").await;
    }
    assert_eq!(receiver.count(), 8);
}
