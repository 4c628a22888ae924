//! Section 7 of the contract, on reused connections: a receiver that closes them costs no attempt.

use crate::support::{Daemon, Receiver, Reply, Setup, until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BURST: u64 = 2_000;

/// Answers one request and closes the connection after this time, whatever arrived on it meanwhile.
async fn answer_and_close(mut stream: TcpStream, after: Duration) {
    let mut request = Vec::new();
    let whole = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.split("content-length: ").nth(1)?;
        let length: usize = length.split("\r\n").next()?.parse().ok()?;
        (body.len() >= length).then_some(())
    };
    while whole(&request).is_none() {
        if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let _ = stream.write_all(answer).await;
    tokio::time::sleep(after).await;
}

/// Starts a receiver whose connections end this many milliseconds after each response, between two bounds.
async fn closing(from_ms: u64, to_ms: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let n = count.fetch_add(1, Ordering::Relaxed);
            let after = from_ms + n * 37 % (to_ms - from_ms + 1);
            tokio::spawn(answer_and_close(stream, Duration::from_millis(after)));
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_to_a_partner_that_closes_after_each_answer_fails_no_attempt() {
    for (from_ms, to_ms) in [(0, 0), (20, 200)] {
        let daemon = Daemon::start().await;
        let address = closing(from_ms, to_ms).await;
        let api = daemon.client();
        api.endpoint(&format!("http://{address}/"), &["*"]).await;
        let line = |n: u64| {
            json!({"organizationId": "org_1", "type": "order.created", "data": n}).to_string()
                + "\n"
        };
        let text: String = (0..BURST).map(line).collect();
        assert_eq!(api.batch(&text).await.len() as u64, BURST);
        let stats = until("all of the burst was attempted", async || {
            let stats = api.stats("").await;
            let count = |name: &str| stats[name].as_u64().unwrap_or(0);
            let attempts = count("delivery.success.count") + count("delivery.failure.count");
            (attempts >= BURST).then_some(stats)
        })
        .await;
        assert_eq!(stats["delivery.failure.count"], 0, "{from_ms} ms: {stats}");
        assert_eq!(
            stats["delivery.success.count"], BURST,
            "{from_ms} ms: {stats}"
        );
    }
}

#[tokio::test]
async fn a_request_on_a_kept_connection_that_ends_is_sent_once_more_and_the_attempt_says_so() {
    let setup = Setup::new().set("retry.schedule", r#"["1h"]"#);
    let daemon = setup.start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let mut stream = api.follow("/v1/attempts/stream").await;
    for (reply, reconnected) in [
        (None, false),
        (Some(Reply::Reset), true),
        (Some(Reply::Close), true),
    ] {
        receiver.script(reply.clone());
        let before = receiver.count();
        let event = api.event("a.b", json!(1)).await;
        let delivery = api.delivery_when(&event, "SUCCESS").await;
        let delivery = api.delivery(delivery["id"].as_str().unwrap()).await;
        let attempts = delivery["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{reply:?}: {delivery}");
        assert_eq!(
            attempts[0]["reconnected"], reconnected,
            "{reply:?}: {delivery}"
        );
        let (_, told) = stream.next_sse().await;
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["reconnected"], reconnected, "{reply:?}: {told}");
        let requests = receiver.requests().split_off(before);
        assert_eq!(requests.len(), 1 + usize::from(reconnected), "{reply:?}");
        let same = |name: &str| {
            requests
                .iter()
                .all(|r| r.header(name) == requests[0].header(name))
        };
        assert!(same("webhook-id") && same("x-stormcom-attempt") && same("webhook-signature"));
    }
}

#[tokio::test]
async fn a_request_is_sent_once_more_and_not_twice() {
    let setup = Setup::new().set("retry.schedule", r#"["1h"]"#);
    let daemon = setup.start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!("warm")).await;
    api.delivery_when(&event, "SUCCESS").await;
    receiver.answer(Reply::Reset);
    let event = api.event("a.b", json!("reset")).await;
    let delivery = api.delivery_when(&event, "RETRYING").await;
    let delivery = api.delivery(delivery["id"].as_str().unwrap()).await;
    let attempt = &delivery["attempts"][0];
    assert_eq!(
        (&attempt["outcome"], &attempt["reconnected"]),
        (&json!("protocol"), &json!(true)),
        "{delivery}"
    );
    assert_eq!(receiver.count(), 3);
}
