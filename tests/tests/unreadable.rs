//! The daemon's own failures with the real process: a store that can't be read never counts against a receiver, and no
//! attempt is recorded without a request.

use crate::broken_disk::{broken, can_trace, mended};
use crate::support::{Client, Receiver, Reply, Setup, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn store_of(setup: &Setup) -> PathBuf {
    setup.data_dir().join("stormhook.redb")
}

/// Returns the bytes of an event's id: 26 digits of Crockford's base 32.
fn id_bytes(event: &str) -> [u8; 16] {
    let digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let text = event.strip_prefix("evt_").unwrap();
    let value = text.chars().fold(0u128, |value, digit| {
        (value << 5) | digits.find(digit).unwrap() as u128
    });
    value.to_be_bytes()
}

/// Flips two bits in the pack of an event that had its own commit: its id, the unpacked length, a zstd frame.
fn flip_in_pack(bytes: &mut [u8], event: &str) -> usize {
    const FRAME: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
    let id = id_bytes(event);
    let mut flipped = 0;
    for at in 0..bytes.len() - 40 {
        if bytes[at..at + 16] == id && bytes[at + 20..at + 24] == FRAME {
            bytes[at + 30] ^= 3;
            flipped += 1;
        }
    }
    flipped
}

async fn failure_count(api: &Client, endpoint: &Value) -> u64 {
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    api.get(&path).await.expect(200)["failureCount"]
        .as_u64()
        .unwrap()
}

/// Returns the number of requests by path and event.
fn requests(receiver: &Receiver) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for request in receiver.requests() {
        *counts
            .entry((request.path.clone(), request.event()))
            .or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_damaged_event_ends_its_deliveries_as_damaged_and_all_others_go_on() {
    let setup = Setup::new()
        .set("retry.schedule", r#"["1s","1s"]"#)
        .set("retry.jitter", "0.0");
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let mut daemon = setup.start().await;
    let api = daemon.client();
    let fails = api.endpoint(&receiver.url("/fails"), &["*"]).await;
    let fifo = json!({"ordering": "fifo"});
    let line = api
        .endpoint_with(&receiver.url("/line"), &["*"], fifo)
        .await;
    let mut events = Vec::new();
    for n in 0..4 {
        events.push(api.event("a.b", json!(n)).await);
    }
    // Its first attempt has failed at both endpoints, so that both wait for a retry.
    let damaged = events[0].clone();
    let of_damaged = until("the first attempts are recorded", async || {
        let both = api.deliveries(&damaged).await;
        let open = both.iter().all(|d| d["status"] == "RETRYING");
        (both.len() == 2 && open).then_some(both)
    })
    .await;
    assert!(daemon.stop().await.success());
    let before = requests(&receiver);
    let setup = daemon.into_setup();
    let mut bytes = std::fs::read(store_of(&setup)).unwrap();
    assert!(flip_in_pack(&mut bytes, &damaged) > 0);
    std::fs::write(store_of(&setup), &bytes).unwrap();
    receiver.answer_by(|request| Reply::Status(if request.path == "/line" { 200 } else { 500 }));
    let failures_before: usize = before
        .iter()
        .filter(|((path, _), _)| path == "/fails")
        .map(|(_, count)| count)
        .sum();
    let mut daemon = setup.start().await;
    let api = daemon.client();
    for event in &events[1..] {
        until("the others end", async || {
            let both = api.deliveries(event).await;
            let status = |of: &Value| {
                let found = both.iter().find(|d| d["endpointId"] == of["id"]);
                found.map(|d| d["status"].clone())
            };
            let ended = (status(&fails), status(&line));
            (ended == (Some(json!("ABANDONED")), Some(json!("SUCCESS")))).then_some(())
        })
        .await;
    }
    // By then the daemon has done what it does about a damaged one.
    until("both of its deliveries have ended", async || {
        let said = daemon.log().matches("ended as damaged").count();
        (said == 2).then_some(())
    })
    .await;
    let after = requests(&receiver);
    for path in ["/fails", "/line"] {
        let key = (path.to_owned(), damaged.clone());
        assert_eq!(after.get(&key), before.get(&key), "it was sent to {path}");
    }
    for event in &events[1..] {
        assert_eq!(after[&("/fails".to_owned(), event.clone())], 3);
    }
    // Every counted failure was a request.
    let failed = after
        .iter()
        .filter(|((path, _), _)| path == "/fails")
        .map(|(_, count)| count)
        .sum::<usize>();
    assert!(failed > failures_before);
    assert_eq!(failure_count(&api, &fails).await, failed as u64);
    assert_eq!(failure_count(&api, &line).await, 0);
    for delivery in &of_damaged {
        let path = format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap());
        let shown = api.get(&path).await;
        if shown.status == 200 {
            let shown = shown.json();
            assert_eq!(
                (&shown["status"], &shown["reason"]),
                (&json!("FAILED"), &json!("damaged"))
            );
            assert_eq!(shown["attempts"].as_array().unwrap().len(), 1);
        } else {
            shown.problem(503, "store_failed");
        }
        let retried = api.post(&format!("{path}/retry"), json!({})).await;
        retried.problem(503, "store_failed");
    }
    // Nothing of it returns after a restart.
    assert!(daemon.stop().await.success());
    daemon.start_again().await;
    let api = daemon.client();
    let one = api.event("a.b", json!("later")).await;
    until("one that is new is delivered", async || {
        let both = api.deliveries(&one).await;
        both.iter().any(|d| d["status"] == "SUCCESS").then_some(())
    })
    .await;
    assert_eq!(daemon.log().matches("ended as damaged").count(), 2);
    let key = ("/line".to_owned(), damaged);
    assert_eq!(requests(&receiver).get(&key), before.get(&key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_that_are_due_while_the_disk_fails_are_made_later_and_none_is_recorded_without_a_request()
 {
    if !can_trace() {
        eprintln!("skipped: no strace here, or it may not trace");
        return;
    }
    let delays = [r#""1s""#; 10].join(",");
    let setup = Setup::new()
        .set("retry.schedule", &format!("[{delays}]"))
        .set("retry.jitter", "0.0");
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let mut daemon = setup.start().await;
    let api = daemon.client();
    let endpoint = api.endpoint(&receiver.url("/"), &["*"]).await;
    let mut events = Vec::new();
    for n in 0..30 {
        events.push(api.event("a.b", json!(n)).await);
    }
    receiver.wait_for(30).await;
    for _ in 0..2 {
        let faults = ["fdatasync:error=EIO", "pread64:error=EIO"];
        let Some(tracer) = broken(&daemon, &faults).await else {
            eprintln!("skipped: a running process may not be attached to here");
            return;
        };
        until("commits fail", async || {
            (api.get("/readyz").await.status == 503).then_some(())
        })
        .await;
        mended(tracer).await;
        until("they succeed again", async || {
            (api.get("/readyz").await.status == 200).then_some(())
        })
        .await;
    }
    let mut recorded = 0;
    for event in &events {
        let delivery = api.delivery_when(event, "ABANDONED").await;
        let attempts = delivery["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 11, "{delivery}");
        for attempt in attempts {
            assert_eq!(attempt["outcome"], "http_status", "{attempt}");
        }
        let sent = receiver.requests();
        let sent = sent.iter().filter(|request| request.event() == *event);
        assert_eq!(sent.count(), attempts.len(), "{event}");
        recorded += attempts.len();
    }
    assert_eq!(failure_count(&api, &endpoint).await, recorded as u64);
    assert!(daemon.stop().await.success());
}
