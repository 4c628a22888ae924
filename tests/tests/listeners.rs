//! Section 1 of the contract: the two listeners, who may call, and the protocol itself.

use crate::support::{Client, Daemon, Setup, until, within};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const EVENT: &str = r#"{"organizationId":"org_1","type":"a.b","data":1}"#;

#[tokio::test]
async fn the_ready_line_names_socket_address_and_store() {
    let daemon = Daemon::start().await;
    let line = daemon.ready_line();
    assert!(
        line.contains(daemon.setup.socket().to_str().unwrap()),
        "{line}"
    );
    assert!(
        line.contains(daemon.setup.data_dir().to_str().unwrap()),
        "{line}"
    );
    assert_ne!(daemon.address().port(), 0);
}

#[tokio::test]
async fn files_are_made_for_their_owner_only() {
    let daemon = Daemon::start().await;
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&daemon.setup.data_dir()), 0o700);
    assert_eq!(mode(&daemon.setup.socket()), 0o660);
    for entry in std::fs::read_dir(daemon.setup.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_user_who_is_not_allowed_on_the_socket_gets_no_answer() {
    let own = std::fs::metadata(env!("CARGO_MANIFEST_DIR")).unwrap().uid();
    let allowed = Setup::new().set("socket_allow_uids", &format!("[{own}]"));
    let daemon = allowed.start().await;
    daemon.client().get("/v1/stats").await.expect_ok();

    let other = Setup::new().set("socket_allow_uids", &format!("[{}]", own + 1));
    let daemon = other.start().await;
    let mut socket = tokio::net::UnixStream::connect(daemon.setup.socket())
        .await
        .unwrap();
    // Whether the write still succeeds depends on when the daemon closes.
    let _closed = socket
        .write_all(b"GET /v1/stats HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    let mut answer = Vec::new();
    let _reset = within("the connection ends", socket.read_to_end(&mut answer)).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    daemon.tcp().get("/v1/stats").await.expect_ok();
    let refused = "the user is not in socket_allow_uids";
    until("the refusal is logged", async || {
        daemon.log().contains(refused).then_some(())
    })
    .await;
}

#[tokio::test]
async fn tcp_needs_the_token_but_for_health() {
    let daemon = Daemon::start().await;
    let bare = Client::tcp(daemon.address(), None);
    let wrong = Client::tcp(daemon.address(), Some("x".repeat(daemon.token().len())));
    for path in ["/healthz", "/readyz"] {
        bare.get(path).await.expect_ok();
    }
    for path in ["/v1/endpoints", "/v1/stats", "/metrics", "/v1/openapi.json"] {
        bare.get(path).await.problem(401, "token_missing");
        let answer = wrong.get(path).await;
        assert!([401, 403].contains(&answer.status.as_u16()), "{answer:?}");
        assert_eq!(answer.json()["code"], "token_invalid");
        daemon.tcp().get(path).await.expect_ok();
        daemon.client().get(path).await.expect_ok();
    }
    daemon.tcp().post("/v1/events", EVENT).await.expect(202);
    bare.post("/v1/events", EVENT)
        .await
        .problem(401, "token_missing");
    for header in ["Basic abc", "Bearer", "Bearer ", "bearer  x"] {
        let answer = bare
            .call("GET", "/v1/stats")
            .header("authorization", header)
            .send()
            .await;
        assert!(
            [401, 403].contains(&answer.status.as_u16()),
            "{header}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn many_failed_tokens_are_429_and_a_right_one_always_passes() {
    let daemon = Daemon::start().await;
    let wrong = Client::tcp(daemon.address(), Some("wrong".to_owned()));
    until("failed tokens are refused", async || {
        let answer = wrong.get("/v1/stats").await;
        (answer.status == 429).then(|| answer.problem(429, "too_many_attempts"))
    })
    .await;
    for _ in 0..20 {
        daemon.tcp().get("/v1/stats").await.expect(200);
    }
}

#[tokio::test]
async fn a_foreign_host_or_origin_is_refused() {
    let setup = Setup::new().set("host_names", r#"["hooks.example"]"#);
    let daemon = setup.start().await;
    let tcp = daemon.tcp();
    for (host, fine) in [
        ("127.0.0.1:1", true),
        ("localhost", true),
        ("localhost:8650", true),
        ("[::1]:80", true),
        ("hooks.example", true),
        ("HOOKS.example:99", true),
        ("evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("localhost.evil.example", false),
        ("10.0.0.1", false),
    ] {
        let answer = tcp
            .call("GET", "/v1/stats")
            .header("host", host)
            .send()
            .await;
        if fine {
            answer.expect(200);
        } else {
            answer.problem(403, "host_refused");
        }
    }
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
    ] {
        let answer = tcp
            .call("GET", "/v1/stats")
            .header("origin", origin)
            .send()
            .await;
        answer.problem(403, "origin_refused");
    }
}

#[tokio::test]
async fn an_unknown_route_is_404_and_a_wrong_method_405() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    for path in [
        "/",
        "/v1",
        "/v1/nothing",
        "/v1/events/",
        "/v2/events",
        "/v1//events",
    ] {
        api.get(path).await.problem(404, "not_found");
    }
    for (method, path) in [
        ("DELETE", "/v1/events"),
        ("PUT", "/v1/endpoints"),
        ("POST", "/v1/stats"),
        ("GET", "/v1/events/batch/"),
        ("PATCH", "/healthz"),
    ] {
        let answer = api.call(method, path).send().await;
        if path.ends_with("batch/") {
            answer.problem(404, "not_found");
        } else {
            answer.problem(405, "method_not_allowed");
            assert!(
                answer.header("allow").is_some(),
                "RFC 9110 15.5.6: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let daemon = Daemon::start().await;
    let long = format!(
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n",
        "x".repeat(17_000)
    );
    let many: String = (0..101).map(|n| format!("x-{n}: v\r\n")).collect();
    let many = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    for head in [long, many] {
        let answer = daemon.client().raw(head.as_bytes()).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 431"), "{text}");
        assert!(text.contains("headers_too_large") && text.contains("x-request-id: req_"));
    }
    // Far beyond that nothing more is read.
    let endless = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200_000));
    let answer = daemon.client().raw(endless.as_bytes()).await;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
}

#[tokio::test]
async fn a_connection_goes_on_after_a_request_that_was_refused_before_its_body_was_read() {
    let daemon = Daemon::start().await;
    let body = "x".repeat(100_000);
    let request = |head: &str, token: &str| {
        let length = body.len();
        format!("{head} HTTP/1.1\r\nhost: localhost\r\n{token}content-length: {length}\r\n")
    };
    let token = format!("authorization: Bearer {}\r\n", daemon.token());
    let json = "content-type: application/json\r\n";
    let cases = [
        (401, request("POST /v1/events", "") + json),
        (404, request("POST /v1/nothing", &token) + json),
        (405, request("PUT /v1/events", &token) + json),
        (415, request("POST /v1/events", &token)),
        (415, request("POST /v1/events/batch", &token)),
        (400, request("POST /v1/events?a=b", &token) + json),
        (
            413,
            request("POST /v1/events", &token).replace("100000", "600000") + json,
        ),
    ];
    for (status, head) in cases {
        let body = if status == 413 {
            "x".repeat(600_000)
        } else {
            body.clone()
        };
        let after = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let both = format!("{head}\r\n{body}{after}");
        for client in [daemon.tcp(), daemon.client()] {
            if status == 401 && !client.is_tcp() {
                continue;
            }
            let text = String::from_utf8(client.raw(both.as_bytes()).await).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
            assert!(text.contains("HTTP/1.1 200 OK"), "{head}: {text}");
        }
    }
}

#[tokio::test]
async fn a_body_is_taken_as_it_is() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    for (name, value) in [
        ("content-encoding", "gzip"),
        ("transfer-encoding", "gzip, chunked"),
    ] {
        let call = api.call("POST", "/v1/events").header(name, value);
        let answer = call.json(EVENT).send().await;
        answer.problem(415, "unsupported_media_type");
    }
}

#[tokio::test]
async fn a_request_never_has_two_ends() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let smuggled = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
        GET /v1/endpoints HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let answer = api.raw(smuggled.as_bytes()).await;
    let text = String::from_utf8_lossy(&answer);
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    let twice = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef";
    let answer = api.raw(twice.as_bytes()).await;
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn a_caller_that_sends_nothing_is_cut_off() {
    let daemon = Setup::new().set("limits.idle", r#""1s""#).start().await;
    for begin in [
        "",
        "GET /healthz HT",
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\n",
    ] {
        let answer = daemon.client().raw(begin.as_bytes()).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 4"),
            "{begin:?}: {text}"
        );
    }
}

#[tokio::test]
async fn the_number_of_connections_is_bounded_and_room_comes_back() {
    let daemon = Setup::new().set("limits.connections", "8").start().await;
    let api = daemon.client();
    let mut held = Vec::new();
    for n in 0..8 {
        let mut connection = if n % 2 == 0 {
            api.open().await
        } else {
            daemon.tcp().open().await
        };
        let ask = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
        connection.write_all(ask).await.unwrap();
        let mut answer = [0; 12];
        within("an answer", connection.read_exact(&mut answer))
            .await
            .unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(connection);
    }
    let mut one_more = api.open().await;
    let ask = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    one_more.write_all(ask).await.unwrap();
    held.pop();
    let mut answer = [0; 12];
    within(
        "the answer to the one that waited",
        one_more.read_exact(&mut answer),
    )
    .await
    .unwrap();
    // The slot of the answered one is in use again: the next connection is told that there is none.
    let refused = api.get("/v1/stats").await;
    refused.problem(503, "busy");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    daemon.tcp().get("/v1/stats").await.problem(503, "busy");
    api.post("/v1/events", "{}").await.problem(503, "busy");
    // Full doesn't mean unhealthy.
    api.get("/healthz").await.expect_ok();
    api.get("/readyz").await.expect_ok();
    held.clear();
    until("there is room again", async || {
        api.call("GET", "/v1/stats")
            .try_send()
            .await
            .ok()
            .filter(|a| a.status == 200)
    })
    .await;
}

#[tokio::test]
async fn the_openapi_document_lists_every_route() {
    let daemon = Daemon::start().await;
    let document = daemon.client().get("/v1/openapi.json").await.expect(200);
    assert!(
        document["openapi"].as_str().unwrap().starts_with('3'),
        "{}",
        document["openapi"]
    );
    for (path, method) in [
        ("/v1/events", "post"),
        ("/v1/events", "get"),
        ("/v1/events/batch", "post"),
        ("/v1/events/{id}", "get"),
        ("/v1/events/{id}/explain", "get"),
        ("/v1/events/{id}/replay", "post"),
        ("/v1/endpoints", "post"),
        ("/v1/endpoints", "get"),
        ("/v1/endpoints/{id}", "get"),
        ("/v1/endpoints/{id}", "patch"),
        ("/v1/endpoints/{id}", "delete"),
        ("/v1/endpoints/{id}/secret", "get"),
        ("/v1/endpoints/{id}/rotate-secret", "post"),
        ("/v1/endpoints/{id}/test", "post"),
        ("/v1/endpoints/{id}/recover", "post"),
        ("/v1/deliveries", "get"),
        ("/v1/deliveries/{id}", "get"),
        ("/v1/deliveries/{id}/retry", "post"),
        ("/v1/deliveries/{id}/cancel", "post"),
        ("/v1/attempts/stream", "get"),
        ("/v1/stats", "get"),
        ("/v1/backup", "post"),
        ("/v1/check", "post"),
        ("/v1/token/rotate", "post"),
        ("/v1/openapi.json", "get"),
        ("/metrics", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
    ] {
        assert!(
            document["paths"][path][method].is_object(),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_names_the_other() {
    let mut daemon = Daemon::start().await;
    let second = Setup::new();
    let socket = format!("{:?}", daemon.setup.socket());
    let refused = second
        .set("socket", &socket)
        .try_start()
        .await
        .err()
        .expect("a live socket");
    assert!(!refused.status.success());
    assert!(
        refused.log.contains(&daemon.pid().to_string()),
        "{}",
        refused.log
    );
    daemon.client().get("/healthz").await.expect_ok();
    daemon.kill().await;
    assert!(daemon.setup.socket().exists(), "left behind by kill -9");
    daemon.start_again().await;
    daemon.client().get("/healthz").await.expect_ok();
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn a_file_in_the_sockets_place_is_not_removed() {
    let setup = Setup::new();
    std::fs::write(setup.socket(), "precious").unwrap();
    let refused = setup.try_start().await.err().expect("a file stands there");
    assert_eq!(
        std::fs::read_to_string(refused.setup.socket()).unwrap(),
        "precious"
    );
}

#[tokio::test]
async fn a_socket_path_over_108_bytes_is_an_error_that_says_so() {
    let setup = Setup::new();
    let long = format!("{:?}", setup.folder().join("s".repeat(120)));
    let refused = setup
        .set("socket", &long)
        .try_start()
        .await
        .err()
        .expect("too long");
    assert!(
        refused.log.contains("10"),
        "names the limit: {}",
        refused.log
    );
    assert!(refused.log.contains("socket"), "{}", refused.log);
}

#[tokio::test]
async fn a_listener_open_to_others_is_refused_with_the_reason() {
    let setup = Setup::new().set("listen", r#""0.0.0.0:0""#);
    let refused = setup.try_start().await.err().expect("no TLS");
    assert!(
        refused.log.contains("TLS") || refused.log.contains("tls"),
        "{}",
        refused.log
    );
}

#[tokio::test]
async fn a_listener_can_be_off() {
    let daemon = Setup::new().set("listen", r#""off""#).start().await;
    daemon
        .client()
        .post(
            "/v1/events",
            json!({"organizationId": "o", "type": "a", "data": 1}),
        )
        .await
        .expect(202);
    let daemon = Setup::new().set("socket", r#""off""#).start().await;
    daemon.tcp().get("/v1/stats").await.expect(200);
}
