//! Texts from outside are bounded: whatever a receiver or a caller sends, everything stored, streamed, logged or
//! returned of it is short.

use crate::support::{Client, Daemon, Receiver, Setup, Tls};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The maximum length of an attempt's error, and of any text except the excerpt that a receiver can influence.
const ERROR_BYTES: usize = 500;
const OTHER_BYTES: usize = 128;
/// `limits.excerpt_bytes`; a control character is shown as up to six characters, `\u{7f}`.
const EXCERPT_BYTES: usize = 1_024;
const LINE_BYTES: usize = 2_000;

/// Returns every text in a value, with its path.
fn texts(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::String(text) => vec![(String::new(), text.clone())],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| {
                let inner = texts(value).into_iter();
                inner.map(move |(way, text)| (format!("/{name}{way}"), text))
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn expect_bounded(what: &str, value: &Value) {
    for (way, text) in texts(value) {
        let most = match way.rsplit('/').next() {
            Some("error") => ERROR_BYTES,
            Some("responseExcerpt") => 6 * EXCERPT_BYTES,
            _ => OTHER_BYTES,
        };
        assert!(
            text.len() <= most,
            "{what}: {way} has {} bytes, at most {most} are right: {:.200}…",
            text.len(),
            text
        );
    }
}

/// Starts a receiver that answers each request with these bytes and closes.
async fn saying(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut taken = vec![0; 64 << 10];
                // The request is short and arrives in one piece.
                if stream.read(&mut taken).await.is_ok() {
                    let _gone = stream.write_all(&bytes).await;
                    // Closing a connection with unread input would reset it and lose the response.
                    let _gone = stream.shutdown().await;
                    while stream.read(&mut taken).await.is_ok_and(|read| read > 0) {}
                }
            });
        }
    });
    url
}

fn answers() -> Vec<(&'static str, Vec<u8>)> {
    let long = |bytes: usize| "x".repeat(bytes);
    let head = |rest: &str| format!("HTTP/1.1 {rest}\r\n\r\n").into_bytes();
    let body = |body: &[u8]| {
        let mut answer = head(&format!("500 No\r\ncontent-length: {}", body.len()));
        answer.extend_from_slice(body);
        answer
    };
    vec![
        ("a long reason", head(&format!("500 {}", long(60_000)))),
        (
            "a long reason and no HTTP after it",
            format!(
                "HTTP/1.1 500 {}\r\n\0: {}\r\n\r\n",
                long(30_000),
                long(20_000)
            )
            .into_bytes(),
        ),
        (
            "a long Retry-After",
            head(&format!(
                "503 No\r\ncontent-length: 0\r\nretry-after: {}",
                "9".repeat(60_000)
            )),
        ),
        (
            "a long header name",
            head(&format!("500 No\r\n{}: 1", long(60_000))),
        ),
        (
            "a long location",
            head(&format!(
                "302 No\r\ncontent-length: 0\r\nlocation: https://{}/",
                long(60_000)
            )),
        ),
        (
            "too many headers",
            head(&format!("500 No\r\n{}", "a: b\r\n".repeat(600))),
        ),
        ("a long body", body("x".repeat(1 << 20).as_bytes())),
        (
            "a long body of wide letters",
            body("é…".repeat(100_000).as_bytes()),
        ),
        ("a long body that is no text", body(&[0xFF; 100_000])),
        ("a long body of control characters", body(&[0x01; 100_000])),
        ("no HTTP at all", long(60_000).into_bytes()),
        (
            "a long line that ends",
            format!("{}\r\n\r\n", long(60_000)).into_bytes(),
        ),
    ]
}

/// A certificate for many long names, none of which is the receiver's.
async fn with_many_names() -> (Receiver, String) {
    let label = "n".repeat(50);
    let names: Vec<String> = (0..290)
        .map(|n| format!("a{n}.{label}.{label}.{label}.example"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tls = Tls::for_names(&names);
    (Receiver::tls(&tls, &["http/1.1"]).await, tls.root.clone())
}

#[tokio::test]
async fn what_a_partner_says_is_stored_streamed_and_logged_up_to_a_bound() {
    let (receiver, root) = with_many_names().await;
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), &root).unwrap();
    let setup = Setup::new()
        .set("tls.extra_roots", &format!("[{:?}]", roots.path()))
        .set("retry.schedule", r#"["20ms"]"#)
        .set("log.level", r#""debug""#);
    let mut daemon = setup.start().await;
    let api = daemon.client();
    let mut partners = vec![("a certificate of many names", receiver.url("/"))];
    for (what, bytes) in answers() {
        partners.push((what, saying(bytes).await));
    }
    let mut stream = api.follow("/v1/attempts/stream").await;
    for (n, (what, url)) in partners.iter().enumerate() {
        let kind = format!("kind.{n}");
        let made = api.endpoint(url, &[&kind]).await;
        let event = api.event(&kind, json!(1)).await;
        let ended = api.delivery_when(&event, "ABANDONED").await;
        assert_eq!(ended["attempts"].as_array().unwrap().len(), 2, "{what}");
        expect_bounded(what, &ended);
        for _ in 0..2 {
            let (_, attempt) = stream.next_sse().await;
            expect_bounded(what, &serde_json::from_str(&attempt).unwrap());
        }
        let test = format!("/v1/endpoints/{}/test", made["id"].as_str().unwrap());
        let attempt = api.post(&test, json!({})).await.expect(200);
        expect_bounded(what, &attempt);
        if n == 0 {
            let error = attempt["error"].as_str().unwrap();
            assert!(error.ends_with(" and 287 more, not 127.0.0.1"), "{error}");
        }
    }
    assert!(daemon.stop().await.success());
    for line in daemon.log().lines() {
        assert!(
            line.len() <= LINE_BYTES,
            "{} bytes: {line:.300}…",
            line.len()
        );
    }
}

/// Sends requests with the longest possible texts, each of which is refused.
async fn refusals(api: &Client) -> Vec<(String, crate::support::Answer)> {
    let long = "x".repeat(200_000);
    let event = |name: &str, value: &str| {
        let mut event = json!({"organizationId": "org_1", "type": "a", "data": 1});
        event[name] = json!(value);
        event
    };
    let endpoint = |name: &str, value: Value| {
        let url = "https://partner.example/";
        let mut endpoint = json!({"organizationId": "org_1", "url": url, "eventTypes": ["a"]});
        endpoint[name] = value;
        endpoint
    };
    let mut bodies = Vec::new();
    for name in [
        "organizationId",
        "type",
        "timestamp",
        "idempotencyKey",
        &*long,
    ] {
        bodies.push(("/v1/events", event(name, &long)));
    }
    let wide = format!("https://{}/", "é".repeat(3_900));
    for (name, value) in [
        ("organizationId", json!(long)),
        ("url", json!(long)),
        ("url", json!(format!("{}:x", &long[..7_000]))),
        ("url", json!(wide)),
        ("url", json!(format!("https://{}.example/", &long[..7_000]))),
        ("eventTypes", json!([long])),
        ("eventTypes", json!([long, "a"])),
        ("secret", json!(long)),
        ("description", json!(long)),
        ("headers", json!({ &*long: "1" })),
        ("headers", json!({ "a": long })),
        ("ordering", json!(long)),
        (&*long, json!(1)),
    ] {
        bodies.push(("/v1/endpoints", endpoint(name, value)));
    }
    let mut refused = Vec::new();
    for (path, body) in bodies {
        let what = format!("{path} {:.200}", body.to_string());
        refused.push((what, api.post(path, body).await));
    }
    let query = &long[..6_000];
    for path in [
        format!("/v1/events?{query}=1"),
        format!("/v1/events?type={query}"),
        format!("/v1/events?cursor={query}"),
        format!("/v1/events?since={query}"),
        format!("/v1/events?limit={query}"),
        format!("/v1/events?organizationId={query}"),
        format!("/v1/deliveries?status={query}"),
        format!("/v1/deliveries?endpointId={query}"),
        format!("/v1/stats?window={query}"),
        format!("/v1/events/{query}"),
        format!("/v1/{query}"),
    ] {
        refused.push((path.clone(), api.get(&path).await));
    }
    let call = api.call("POST", "/v1/events").body(b"{}".to_vec());
    let answer = call.header("content-type", query).send().await;
    refused.push(("content-type".to_owned(), answer));
    refused
}

#[tokio::test]
async fn what_a_caller_is_told_back_is_short() {
    let mut daemon = Daemon::start().await;
    for (what, answer) in refusals(&daemon.client()).await {
        assert!(
            answer.status.as_u16() >= 400 || answer.json()["data"] == json!([]),
            "{what:.200}: {answer:?}"
        );
        let body = answer.text();
        assert!(body.len() <= 1_000, "{what:.200}: {} bytes", body.len());
    }
    assert!(daemon.stop().await.success());
    for line in daemon.log().lines() {
        assert!(
            line.len() <= LINE_BYTES,
            "{} bytes: {line:.300}…",
            line.len()
        );
    }
}
