//! Invalid requests and the daemon's responses: every one is a problem with a request id, sent as soon as the error is
//! known.

use crate::support::{Client, Daemon, Setup, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Returns the status, the head in lower case, and the problem of a raw response.
fn problem_of(answer: &[u8]) -> (u16, String, Value) {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{text}"));
    let status = head[9..12].parse().unwrap();
    let problem = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
    (status, head.to_ascii_lowercase(), problem)
}

fn check(answer: &[u8], status: u16, code: &str) {
    let (found, head, problem) = problem_of(answer);
    assert_eq!(
        (found, &problem["code"]),
        (status, &json!(code)),
        "{problem}"
    );
    assert_eq!(problem["status"], status);
    assert!(head.contains("\r\nx-request-id: req_"), "{head}");
    assert!(
        head.contains("\r\ncontent-type: application/problem+json"),
        "{head}"
    );
    assert!(!problem["detail"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_request_is_told_so_with_a_request_id() {
    let daemon = Daemon::start().await;
    let post = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let bad = [
        "nonsense\r\n\r\n".to_owned(),
        "GET /healthz\r\n\r\n".to_owned(),
        "GET /healthz HTTP/9.9\r\nhost: localhost\r\n\r\n".to_owned(),
        "G@T /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nno colon\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nspace : x\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: a\r\n folded\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: a\u{1}b\r\n\r\n".to_owned(),
        format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef"),
        format!("{post}content-length: five\r\n\r\nabcde"),
        format!("{post}content-length: -1\r\n\r\n"),
        format!("{post}transfer-encoding: chunked, gzip\r\n\r\n"),
        format!("{post}transfer-encoding: chunked\r\n\r\nzz\r\n"),
    ];
    for request in &bad {
        for client in [daemon.client(), daemon.tcp()] {
            let with_token = match client.is_tcp() {
                true => request.replace(
                    "host: localhost\r\n",
                    &format!(
                        "host: localhost\r\nauthorization: Bearer {}\r\n",
                        daemon.token()
                    ),
                ),
                false => request.clone(),
            };
            let answer = client.raw(with_token.as_bytes()).await;
            assert!(!answer.is_empty(), "no answer: {request:?}");
            check(&answer, 400, "invalid_request");
        }
    }
    let many = |count| {
        (0..count)
            .map(|n| format!("x-{n}: v\r\n"))
            .collect::<String>()
    };
    for large in [
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200_000)),
        format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(200_000)),
        format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", many(300)),
    ] {
        let answer = daemon.client().raw(large.as_bytes()).await;
        check(&answer, 431, "headers_too_large");
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_408() {
    let daemon = Setup::new().set("limits.idle", r#""300ms""#).start().await;
    for framing in [
        "content-length: 100\r\n\r\n{\"a\"",
        "transfer-encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n",
    ] {
        for path in ["/v1/events", "/v1/endpoints"] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{framing}"
            );
            let answer = daemon.client().raw(request.as_bytes()).await;
            check(&answer, 408, "request_timeout");
            let (_, head, _) = problem_of(&answer);
            assert!(head.contains("\r\nconnection: close"), "{head}");
        }
    }
}

#[tokio::test]
async fn a_body_that_its_length_forbids_is_refused_before_it_is_sent() {
    let daemon = Daemon::start().await;
    let head = |path: &str, more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n{more}\r\n"
        )
    };
    for path in ["/v1/events", "/v1/endpoints"] {
        for more in ["", "expect: 100-continue\r\n"] {
            // None of the body is sent, and the daemon didn't ask for it.
            let mut connection = daemon.client().open().await;
            connection
                .write_all(head(path, more).as_bytes())
                .await
                .unwrap();
            let mut answer = [0; 12];
            within("the answer", connection.read_exact(&mut answer))
                .await
                .unwrap();
            let answer = std::str::from_utf8(&answer).unwrap();
            assert_eq!(answer, "HTTP/1.1 413", "{path} {more}");
        }
    }
    // A body that fits is requested.
    let mut connection = daemon.client().open().await;
    let fits = head("/v1/events", "expect: 100-continue\r\n").replace("1000000", "1000");
    connection.write_all(fits.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within("the answer", connection.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
}

#[tokio::test]
async fn a_stream_that_the_daemon_ends_says_so_in_its_last_line() {
    let mut daemon = Setup::new().set("limits.idle", r#""300ms""#).start().await;
    let event = json!({"organizationId": "org_1", "type": "a.b", "data": 1});
    let api = daemon.client();
    let mut upload = api.upload("/v1/events/batch", "application/x-ndjson").await;
    upload.write(format!("{event}\n\n{event}\n")).await;
    let (_, mut answers) = upload.answer().await;
    for line in [1, 3] {
        let answer = answers.next_json().await;
        assert_eq!(
            (&answer["line"], &answer["status"]),
            (&json!(line), &json!("accepted"))
        );
    }
    let cut = answers.next_json().await;
    assert_eq!((&cut["line"], &cut["status"]), (&json!(4), &json!("cut")));
    assert_eq!(cut["problem"]["code"], "request_timeout");
    assert_eq!(answers.next().await, None);
    daemon.change("limits.idle", r#""60s""#);
    assert!(daemon.stop().await.success());
    daemon.start_again().await;
    let mut upload = api.upload("/v1/events/batch", "application/x-ndjson").await;
    upload.write(format!("{event}\n")).await;
    let (_, mut answers) = upload.answer().await;
    assert_eq!(answers.next_json().await["status"], "accepted");
    daemon.terminate();
    let cut = answers.next_json().await;
    assert_eq!((&cut["line"], &cut["status"]), (&json!(2), &json!("cut")));
    assert_eq!(cut["problem"]["code"], "shutting_down");
    assert_eq!(answers.next().await, None);
    drop(upload);
    assert!(daemon.ended().await.success());
}

#[tokio::test]
async fn a_batch_has_no_key_of_its_own() {
    let daemon = Daemon::start().await;
    let call = daemon
        .client()
        .call("POST", "/v1/events/batch")
        .header("content-type", "application/x-ndjson")
        .header("idempotency-key", "k")
        .body("{}\n")
        .send()
        .await;
    let problem = call.problem_in(400, "invalid_field", "idempotencyKey");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("each line"), "{detail}");
}

async fn create(api: &Client, key: &str, body: &str) -> crate::support::Answer {
    api.call("POST", "/v1/endpoints")
        .header("idempotency-key", key)
        .json(body)
        .send()
        .await
}

#[tokio::test]
async fn an_endpoint_is_made_once_a_key() {
    let mut daemon = Daemon::start().await;
    let api = daemon.client();
    let body = r#"{"organizationId":"org_1","url":"http://127.0.0.1:9443/","eventTypes":["a.b"]}"#;
    let made = create(&api, "k", body).await.expect(201);
    for again in 0..2 {
        // In another order and with other white space, it is the same request.
        let other =
            r#"{ "url":"http://127.0.0.1:9443/", "eventTypes":["a.b"], "organizationId":"org_1" }"#;
        for body in [body, other] {
            let replayed = create(&api, "k", body).await;
            assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
            assert_eq!(replayed.expect(200), made, "{again}");
        }
        let another = body.replace("a.b", "a.c");
        create(&api, "k", &another)
            .await
            .problem(409, "idempotency_conflict");
        // The key of another organization, or of an event, is a different key.
        if again == 0 {
            let theirs = body.replace("org_1", "org_2");
            assert_ne!(
                create(&api, "k", &theirs).await.expect(201)["id"],
                made["id"]
            );
            let event =
                json!({"organizationId": "org_1", "type": "x.y", "data": 1, "idempotencyKey": "k"});
            api.post("/v1/events", event).await.expect(202);
            daemon.kill().await;
            daemon.start_again().await;
        }
    }
    assert_eq!(api.all("/v1/endpoints?organizationId=org_1").await.len(), 1);
    // Without a key, each creates another one.
    api.post("/v1/endpoints", body).await.expect(201);
    assert_eq!(api.all("/v1/endpoints?organizationId=org_1").await.len(), 2);
    // Two concurrent requests create one.
    let (one, two) = tokio::join!(create(&api, "both", body), create(&api, "both", body));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);
    assert_eq!(one.json()["id"], two.json()["id"]);
    // A refused one left nothing behind, and a deleted one does not come back.
    create(&api, "l", &body.replace("[\"a.b\"]", "[]"))
        .await
        .problem(400, "invalid_field");
    create(&api, "l", body).await.expect(201);
    let id = made["id"].as_str().unwrap();
    let deleted = api.delete(&format!("/v1/endpoints/{id}")).await;
    assert_eq!(deleted.status, 204);
    create(&api, "k", body)
        .await
        .problem(409, "idempotency_conflict");
    for bad in ["a b", ""] {
        create(&api, bad, body)
            .await
            .problem_in(400, "invalid_field", "idempotencyKey");
    }
}

#[tokio::test]
async fn small_things_are_named() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let event = "\u{feff}{\"organizationId\":\"org_1\",\"type\":\"a.b\",\"data\":1}";
    let problem = api
        .post("/v1/events", event)
        .await
        .problem(400, "invalid_json");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("byte order mark"), "{detail}");
    let answers = api.batch(event).await;
    let detail = answers[0]["problem"]["detail"].as_str().unwrap();
    assert!(detail.contains("byte order mark"), "{detail}");
    for list in ["/v1/events", "/v1/deliveries", "/v1/endpoints"] {
        let answer = api.get(&format!("{list}?cursor=")).await;
        let problem = answer.problem_in(400, "invalid_cursor", "cursor");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("cursor is empty"), "{detail}");
    }
    for (list, filter) in [
        ("/v1/events", "type"),
        ("/v1/events", "idempotencyKey"),
        ("/v1/events", "organizationId"),
        ("/v1/events", "since"),
        ("/v1/events", "limit"),
        ("/v1/deliveries", "eventType"),
        ("/v1/deliveries", "endpointId"),
        ("/v1/deliveries", "status"),
        ("/v1/endpoints", "active"),
    ] {
        let answer = api.get(&format!("{list}?{filter}=")).await;
        answer.problem_in(400, "invalid_field", filter);
    }
    let turned = "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z";
    for list in ["/v1/events", "/v1/deliveries"] {
        let answer = api.get(&format!("{list}?{turned}")).await;
        answer.problem_in(400, "invalid_field", "until");
        let same = turned.replace("01-02", "01-01");
        api.get(&format!("{list}?{same}")).await.expect(200);
    }
    let endpoint = api.endpoint("http://127.0.0.1:9443/", &["*"]).await;
    let recover = format!("/v1/endpoints/{}/recover", endpoint["id"].as_str().unwrap());
    for (since, until) in [("2026-01-02", "2026-01-01"), ("2026-01-01", "2026-01-01")] {
        let body =
            json!({"since": format!("{since}T00:00:00Z"), "until": format!("{until}T00:00:00Z")});
        api.post(&recover, body)
            .await
            .problem_in(400, "invalid_field", "since");
    }
    for quoted in [
        "\"topsecret-topsecret-topsecret\"",
        "'topsecret-topsecret-topsecret'",
    ] {
        let body = json!({"organizationId": "org_1", "url": "http://127.0.0.1:9443/", "eventTypes": ["*"], "secret": quoted});
        let answer = api.post("/v1/endpoints", body).await;
        let problem = answer.problem_in(400, "invalid_field", "secret");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("quotes"), "{detail}");
        assert!(!detail.contains("topsecret"), "{detail}");
        let rotate = recover.replace("recover", "rotate-secret");
        let answer = api.post(&rotate, json!({"secret": quoted})).await;
        answer.problem_in(400, "invalid_field", "secret");
    }
}
