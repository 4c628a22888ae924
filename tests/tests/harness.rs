//! Tests of the test helpers: a receiver that records wrongly, or a check that can't fail, would make every other test
//! worthless.

use crate::support::{Client, Receiver, Reply, Tls, verify};

const REQUEST: &str = "POST /hooks?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nconnection: close\r\n\
    x-stormcom-signature: sha256=2948f9c4fc56ff2c2ae5e44c2e5dbbb4b0e8b0e3a4b8e5f1b6c7d8e9fa0b1c2d\r\n\
    webhook-id: evt_1\r\nwebhook-timestamp: 1\r\n\r\n{}";

#[tokio::test]
async fn a_receiver_records_what_came_and_answers_by_script() {
    let receiver = Receiver::start().await;
    let client = Client::tcp(receiver.address(), None);
    receiver.script([
        Reply::Raw(b"HTTP/1.1 299 First\r\n\r\n".to_vec()),
        Reply::Close,
        Reply::Reset,
    ]);
    assert_eq!(
        client.raw(REQUEST.as_bytes()).await,
        b"HTTP/1.1 299 First\r\n\r\n"
    );
    assert_eq!(client.raw(REQUEST.as_bytes()).await, b"");
    assert_eq!(client.raw(REQUEST.as_bytes()).await, b"");
    let requests = receiver.wait_for(3).await;
    assert_eq!(requests[0].method, "POST");
    assert_eq!(requests[0].path, "/hooks?a=b");
    assert_eq!(requests[0].header("host"), "x");
    assert_eq!(requests[0].body, b"{}");
    assert_eq!(receiver.connections(), 3);
    receiver.answer(Reply::CutBody(200));
    let cut = client.raw(REQUEST.as_bytes()).await;
    assert!(
        cut.ends_with(b"only this"),
        "{}",
        String::from_utf8_lossy(&cut)
    );
}

#[tokio::test]
#[should_panic(expected = "x-stormcom-signature of the body")]
async fn a_wrong_signature_fails_the_check() {
    let receiver = Receiver::answering(Reply::Close).await;
    Client::tcp(receiver.address(), None)
        .raw(REQUEST.as_bytes())
        .await;
    verify(&receiver.wait_for(1).await[0], &["a_secret_of_16_b"]);
}

#[tokio::test]
#[should_panic(expected = "1 of 2 requests came")]
async fn what_never_comes_fails_the_wait() {
    let receiver = Receiver::answering(Reply::Close).await;
    Client::tcp(receiver.address(), None)
        .raw(REQUEST.as_bytes())
        .await;
    receiver
        .wait_for_within(2, std::time::Duration::from_millis(50))
        .await;
}

#[tokio::test]
async fn a_receivers_certificate_is_made_for_its_names() {
    let tls = Tls::for_names(&["127.0.0.1", "partner.example"]);
    assert!(tls.root.starts_with("-----BEGIN CERTIFICATE-----"));
    let receiver = Receiver::tls(&tls, &["h2"]).await;
    assert!(receiver.url("/a").starts_with("https://127.0.0.1:"));
}
