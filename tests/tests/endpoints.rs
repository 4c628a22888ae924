//! Section 3 of the contract: endpoints, their filters, secrets, and the effect of disabling one.

use crate::support::{Daemon, Receiver, Reply, Setup, until, verify};
use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

fn path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap())
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"organizationId": "org_1", "url": "https://partner.example/hooks",
        "eventTypes": ["*"]});
    body[field] = value;
    body
}

#[tokio::test]
async fn a_new_endpoint_is_shown_whole_with_its_secret_once() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let body = json!({"organizationId": "org_42", "url": "https://partner.example/hooks",
        "eventTypes": ["order.*"], "headers": {"x-api-key": "very secret"}});
    let mut made = api.post("/v1/endpoints", body).await.expect(201);
    let secret = made.as_object_mut().unwrap().remove("secret").unwrap();
    let encoded = secret.as_str().unwrap().strip_prefix("whsec_").unwrap();
    assert_eq!(Base64::decode_vec(encoded).unwrap().len(), 32);
    let expected = json!({"id": made["id"], "organizationId": "org_42",
        "url": "https://partner.example/hooks", "eventTypes": ["order.*"], "active": true,
        "disabledReason": null, "description": null, "headers": {"x-api-key": "***"},
        "rateLimitPerSecond": null, "ordering": "parallel", "failureCount": 0,
        "lastSuccessAt": null, "createdAt": made["createdAt"], "updatedAt": made["updatedAt"]});
    assert_eq!(made, expected);
    assert!(
        id(&made).starts_with("ep_") && id(&made).len() == 29,
        "{made}"
    );
    assert_eq!(api.get(&path(&made)).await.expect(200), expected);
    let list = api.get("/v1/endpoints").await;
    assert_eq!(
        list.expect(200),
        json!({"data": [expected], "nextCursor": null})
    );
    let shown = api
        .get(&format!("{}/secret", path(&made)))
        .await
        .expect(200);
    assert_eq!(shown, json!({"secret": secret, "previous": []}));
}

#[tokio::test]
async fn endpoints_are_listed_by_organization_and_activity() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let mut made = Vec::new();
    for (organization, active) in [("org_1", true), ("org_1", false), ("org_2", true)] {
        let mut body = with("active", json!(active));
        body["organizationId"] = json!(organization);
        made.push(id(&api.post("/v1/endpoints", body).await.expect(201)));
    }
    for (query, expected) in [
        ("", vec![2, 1, 0]),
        ("?organizationId=org_1", vec![1, 0]),
        ("?organizationId=org_1&active=true", vec![0]),
        ("?active=false", vec![1]),
        ("?active=true&limit=1", vec![2, 0]),
        ("?organizationId=org_3", vec![]),
    ] {
        let found: Vec<_> = api
            .all(&format!("/v1/endpoints{query}"))
            .await
            .iter()
            .map(id)
            .collect();
        let expected: Vec<_> = expected.into_iter().map(|n| made[n].clone()).collect();
        assert_eq!(found, expected, "{query}");
    }
    api.get("/v1/endpoints?active=maybe")
        .await
        .problem_in(400, "invalid_field", "active");
    api.get("/v1/endpoints?enabled=true")
        .await
        .problem_in(400, "unknown_field", "enabled");
}

#[tokio::test]
async fn a_bad_field_of_an_endpoint_is_named() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let many: Vec<String> = (0..65).map(|n| format!("a.b{n}")).collect();
    let headers: Value = (0..51).map(|n| (format!("x-{n}"), json!("v"))).collect();
    let table = [
        ("organizationId", json!("")),
        ("organizationId", json!("a b")),
        ("organizationId", json!(null)),
        ("url", json!(null)),
        ("url", json!(7)),
        ("url", json!("no url")),
        ("url", json!("/hooks")),
        ("eventTypes", json!([])),
        ("eventTypes", json!("order.*")),
        ("eventTypes", json!(null)),
        ("eventTypes", json!(many)),
        ("eventTypes", json!(["a.*.b"])),
        ("eventTypes", json!(["*.a"])),
        ("eventTypes", json!(["a*"])),
        ("eventTypes", json!(["a b"])),
        ("eventTypes", json!([""])),
        ("eventTypes", json!([".*"])),
        ("eventTypes", json!([1])),
        ("secret", json!("short")),
        ("secret", json!("x".repeat(257))),
        ("secret", json!("sixteen bytes and a space")),
        ("secret", json!("sixteen_bytes_with_ünicode")),
        ("secret", json!("whsec_not base64!")),
        (
            "secret",
            json!(format!("whsec_{}", Base64::encode_string(&[7; 23]))),
        ),
        (
            "secret",
            json!(format!("whsec_{}", Base64::encode_string(&[7; 65]))),
        ),
        ("secret", json!("whsec_")),
        ("active", json!("yes")),
        ("active", json!(null)),
        ("description", json!(1)),
        ("headers", json!([])),
        ("headers", headers),
        ("headers", json!({"x-a": 1})),
        ("headers", json!({"x-a": "x".repeat(4097)})),
        ("headers", json!({"": "v"})),
        ("headers", json!({"x a": "v"})),
        ("headers", json!({"x-a:": "v"})),
        ("headers", json!({"x-a\r\nx-b": "v"})),
        ("headers", json!({"x-ä": "v"})),
        ("headers", json!({"x-a": "v\r\nx-b: w"})),
        ("headers", json!({"x-a": "v\nw"})),
        ("headers", json!({"x-a": "v\u{0}w"})),
        ("rateLimitPerSecond", json!(0)),
        ("rateLimitPerSecond", json!(-1)),
        ("rateLimitPerSecond", json!("5")),
        ("ordering", json!("sorted")),
        ("ordering", json!(null)),
    ];
    for (field, value) in table {
        let body = with(field, value);
        eprintln!("{body}");
        api.post("/v1/endpoints", body)
            .await
            .problem_in(400, "invalid_field", field);
    }
    for field in ["organizationId", "url", "eventTypes"] {
        let mut body = with("active", json!(true));
        body.as_object_mut().unwrap().remove(field);
        api.post("/v1/endpoints", body)
            .await
            .problem_in(400, "invalid_field", field);
    }
    for field in ["id", "enabled", "createdAt", "disabledReason"] {
        let answer = api.post("/v1/endpoints", with(field, json!("x"))).await;
        answer.problem_in(400, "unknown_field", field);
    }
    api.post("/v1/endpoints", "{")
        .await
        .problem(400, "invalid_json");
    let twice = r#"{"organizationId":"o","url":"https://a.example/","url":"https://b.example/","eventTypes":["*"]}"#;
    api.post("/v1/endpoints", twice)
        .await
        .problem(400, "invalid_json");
    assert_eq!(api.all("/v1/endpoints").await.len(), 0);
}

#[tokio::test]
async fn headers_that_are_the_daemons_own_may_not_be_set() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    for name in [
        "host",
        "Content-Length",
        "content-type",
        "transfer-encoding",
        "connection",
        "User-Agent",
        "te",
        "upgrade",
        "webhook-id",
        "webhook-signature",
        "Webhook-Anything",
        "content-digest",
        "x-stormcom-signature",
        "X-Stormcom-New",
    ] {
        let answer = api
            .post("/v1/endpoints", with("headers", json!({name: "v"})))
            .await;
        answer.problem_in(400, "invalid_field", "headers");
    }
}

#[tokio::test]
async fn a_target_that_policy_forbids_is_422_with_the_rule() {
    let daemon = Setup::new().set("target.allow", "[]").start().await;
    let strict = Setup::new()
        .set("target.allow", "[]")
        .set("target.allow_http", "false")
        .start()
        .await;
    let api = daemon.client();
    let table = [
        ("ftp://partner.example/", "scheme"),
        ("https://user:pass@partner.example/", "userinfo"),
        ("https://user@partner.example/", "userinfo"),
        ("https://partner.example/#part", "fragment"),
        ("https://partner.example:0/", "port"),
        ("https://partner.example:22/", "port"),
        ("https://partner.example:6667/", "port"),
        ("https://localhost/", "local_name"),
        ("https://LOCALHOST./", "local_name"),
        ("https://a.localhost/", "local_name"),
        ("https://printer.local/", "local_name"),
        ("https://metadata.google.internal/", "local_name"),
        ("https://router.home.arpa/", "local_name"),
        ("https://intranet/", "local_name"),
        ("https://127.0.0.1/", "private_v4"),
        ("https://0x7f.1/", "private_v4"),
        ("https://2130706433/", "private_v4"),
        ("https://0177.0.0.1/", "private_v4"),
        ("https://127。0。0。1/", "private_v4"),
        ("https://１２７.0.0.1/", "private_v4"),
        ("https://10.0.0.1/", "private_v4"),
        ("https://169.254.169.254/latest/meta-data/", "private_v4"),
        ("https://192.168.1.1/", "private_v4"),
        ("https://100.64.0.1/", "private_v4"),
        ("https://0.0.0.0/", "private_v4"),
        ("https://255.255.255.255/", "private_v4"),
        ("https://[::1]/", "private_v6"),
        ("https://[::]/", "private_v6"),
        ("https://[fe80::1]/", "private_v6"),
        ("https://[fd00::1]/", "private_v6"),
        ("https://[2001:db8::1]/", "private_v6"),
        ("https://%6c%6fcalhost/", "host_form"),
        ("https://[fe80::1%25eth0]/", "host_form"),
    ];
    for (url, rule) in table {
        let answer = api.post("/v1/endpoints", with("url", json!(url))).await;
        eprintln!("{url}: {}", answer.text());
        let problem = answer.problem(422, "target_refused");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(rule), "{url} by {rule}: {detail}");
    }
    for url in [
        "https://[::ffff:127.0.0.1]/",
        "https://[::127.0.0.1]/",
        "https://[2002:7f00:1::]/",
        "https://[64:ff9b::7f00:1]/",
    ] {
        let answer = api.post("/v1/endpoints", with("url", json!(url))).await;
        answer.problem(422, "target_refused");
    }
    let strict = strict.client();
    let answer = strict.post(
        "/v1/endpoints",
        with("url", json!("http://partner.example/")),
    );
    let problem = answer.await.problem(422, "target_refused");
    assert!(problem["detail"].as_str().unwrap().contains("scheme"));
    let made = api
        .post(
            "/v1/endpoints",
            with("url", json!("https://partner.example/")),
        )
        .await
        .expect(201);
    let answer = api
        .patch(&path(&made), json!({"url": "https://127.0.0.1/"}))
        .await;
    answer.problem(422, "target_refused");
}

#[tokio::test]
async fn the_daemons_own_listener_is_no_target() {
    let daemon = Daemon::start().await;
    let url = format!("http://{}/v1/events", daemon.address());
    let answer = daemon
        .client()
        .post("/v1/endpoints", with("url", json!(url)))
        .await;
    let problem = answer.problem(422, "target_refused");
    assert!(
        problem["detail"].as_str().unwrap().contains("own_listener"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_deny_wins_over_an_allow() {
    let daemon = Setup::new()
        .set("target.deny", r#"["127.0.0.2/32", "*.evil.example"]"#)
        .start()
        .await;
    let api = daemon.client();
    for url in ["http://127.0.0.2:9000/", "https://a.evil.example/"] {
        let answer = api.post("/v1/endpoints", with("url", json!(url))).await;
        answer.problem(422, "target_refused");
    }
    api.post(
        "/v1/endpoints",
        with("url", json!("http://127.0.0.3:9000/")),
    )
    .await
    .expect(201);
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_null_clears() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let made = api
        .endpoint_with(
            "https://partner.example/hooks",
            &["*"],
            json!({"description": "d", "rateLimitPerSecond": 5, "headers": {"a": "1", "b": "2"}}),
        )
        .await;
    let path = path(&made);
    let patched = api
        .patch(&path, json!({"description": "e", "eventTypes": ["a.b"]}))
        .await
        .expect(200);
    assert_eq!(patched["description"], "e");
    assert_eq!(patched["eventTypes"], json!(["a.b"]));
    assert_eq!(patched["rateLimitPerSecond"], 5.0, "{patched}");
    assert_eq!(patched["headers"], json!({"a": "***", "b": "***"}));
    assert!(patched["updatedAt"].as_str() >= made["updatedAt"].as_str());
    let patched = api
        .patch(&path, json!({"headers": {"c": "3"}}))
        .await
        .expect(200);
    assert_eq!(
        patched["headers"],
        json!({"c": "***"}),
        "the whole map is replaced"
    );
    let cleared = json!({"description": null, "rateLimitPerSecond": null, "headers": null});
    let patched = api.patch(&path, cleared).await.expect(200);
    assert_eq!(patched["description"], Value::Null);
    assert_eq!(patched["rateLimitPerSecond"], Value::Null);
    assert_eq!(patched["headers"], json!({}));
    assert_eq!(
        api.patch(&path, json!({})).await.expect(200)["eventTypes"],
        json!(["a.b"])
    );
    for (body, code, field) in [
        (json!({"organizationId": "org_2"}), "", "organizationId"),
        (json!({"secret": "sixteen_bytes_and_more"}), "", "secret"),
        (json!({"colour": "red"}), "unknown_field", "colour"),
        (json!({"id": "ep_1"}), "unknown_field", "id"),
        (json!({"url": null}), "invalid_field", "url"),
        (json!({"eventTypes": null}), "invalid_field", "eventTypes"),
        (json!({"active": null}), "invalid_field", "active"),
        (json!({"ordering": "x"}), "invalid_field", "ordering"),
        (
            json!({"headers": {"host": "x"}}),
            "invalid_field",
            "headers",
        ),
    ] {
        let answer = api.patch(&path, body).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let problem = answer.json();
        assert_eq!(problem["field"], field, "{problem}");
        assert!(code.is_empty() || problem["code"] == code, "{problem}");
    }
}

#[tokio::test]
async fn types_are_matched_exactly_by_prefix_or_all() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    for (at, types) in [
        ("/exact", &["a.b"][..]),
        ("/prefix", &["a.*"]),
        ("/deep", &["a.b.*"]),
        ("/all", &["*"]),
        ("/two", &["x.y", "a.b"]),
        ("/doubled", &["a.*", "a.b", "*"]),
    ] {
        api.endpoint(&receiver.url(at), types).await;
    }
    let mut total = 0;
    for (kind, expected) in [
        ("a.b", vec!["/all", "/doubled", "/exact", "/prefix", "/two"]),
        ("a.b.c", vec!["/all", "/deep", "/doubled", "/prefix"]),
        ("a", vec!["/all", "/doubled"]),
        ("ab.c", vec!["/all", "/doubled"]),
        ("A.b", vec!["/all", "/doubled"]),
        ("x.y", vec!["/all", "/doubled", "/two"]),
    ] {
        let event = api.event(kind, json!(1)).await;
        total += expected.len();
        let mut paths: Vec<_> = receiver
            .wait_for(total)
            .await
            .into_iter()
            .filter(|r| r.event() == event)
            .map(|r| r.path)
            .collect();
        paths.sort();
        assert_eq!(paths, expected, "{kind}");
    }
}

#[tokio::test]
async fn events_go_only_to_their_own_organization() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/1"), &["*"]).await;
    let other = json!({"organizationId": "org_2", "url": receiver.url("/2"), "eventTypes": ["*"]});
    api.post("/v1/endpoints", other).await.expect(201);
    let event = json!({"organizationId": "org_2", "type": "a.b", "data": 1});
    assert_eq!(
        api.post("/v1/events", event).await.expect(202)["deliveries"],
        1
    );
    api.event("a.b", json!(1)).await;
    let requests = receiver.wait_for(2).await;
    assert!(
        requests
            .iter()
            .any(|r| r.path == "/1" && r.json()["organizationId"] == "org_1")
    );
    assert!(
        requests
            .iter()
            .any(|r| r.path == "/2" && r.json()["organizationId"] == "org_2")
    );
}

#[tokio::test]
async fn a_delivery_carries_the_named_headers_and_both_signatures() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let headers = json!({"X-Api-Key": "k \"1\"", "authorization": "Bearer t"});
    let made = api
        .endpoint_with(
            &receiver.url("/hooks?a=b"),
            &["*"],
            json!({"headers": headers}),
        )
        .await;
    let event = api.event("order.created", json!({"a": 1})).await;
    let request = receiver.wait_for(1).await.remove(0);
    verify(&request, &[made["secret"].as_str().unwrap()]);
    assert_eq!(request.method, "POST");
    assert_eq!(request.path, "/hooks?a=b");
    assert_eq!(request.header("x-api-key"), "k \"1\"");
    assert_eq!(request.header("authorization"), "Bearer t");
    assert_eq!(request.header("host"), receiver.address().to_string());
    assert_eq!(request.header("content-type"), "application/json");
    assert!(request.header("user-agent").starts_with("stormhook/"));
    assert_eq!(request.header("webhook-id"), event);
    let now = request
        .wall
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let stamp: u64 = request.header("webhook-timestamp").parse().unwrap();
    assert!(now.abs_diff(stamp) <= 5, "the attempt's own time");
    assert_eq!(request.header("x-stormcom-event"), "order.created");
    assert_eq!(request.header("x-stormcom-endpoint"), id(&made));
    assert_eq!(request.header("x-stormcom-attempt"), "1");
    assert_eq!(request.header("x-stormcom-sequence"), "1");
    let delivery = request.header("x-stormcom-delivery");
    assert_eq!(api.delivery_of(&event).await["id"], delivery);
    assert!(delivery.starts_with("dlv_"));
}

#[tokio::test]
async fn the_signature_header_has_the_configured_name() {
    let setup = Setup::new().set("delivery.signature_header", r#""x-acme-signature""#);
    let daemon = setup.start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    api.event("a.b", json!(1)).await;
    let request = receiver.wait_for(1).await.remove(0);
    assert!(request.header("x-acme-signature").starts_with("sha256="));
    assert_eq!(request.header_opt("x-stormcom-signature"), None);
}

#[tokio::test]
async fn a_secret_that_is_no_whsec_gets_no_standard_signature() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let secret = "a secret of our own?".replace(' ', "_");
    let made = api
        .endpoint_with(&receiver.url("/"), &["*"], json!({"secret": secret}))
        .await;
    assert_eq!(made["secret"], secret);
    api.event("a.b", json!(1)).await;
    let request = receiver.wait_for(1).await.remove(0);
    verify(&request, &[&secret]);
    assert_eq!(request.header_opt("webhook-signature"), None);
    request.header("webhook-timestamp");
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_earlier_ones_until_their_overlap_ends() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let made = api.endpoint(&receiver.url("/"), &["*"]).await;
    let first = made["secret"].as_str().unwrap().to_owned();
    let rotate = format!("{}/rotate-secret", path(&made));
    let rotated = api.post(&rotate, json!({})).await.expect(200);
    let second = rotated["secret"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(rotated["previous"][0]["secret"], first);
    assert!(rotated["previous"][0]["until"].is_string());
    assert_eq!(
        api.get(&format!("{}/secret", path(&made)))
            .await
            .expect(200),
        rotated
    );
    api.event("a.b", json!(1)).await;
    verify(&receiver.wait_for(1).await[0], &[&second, &first]);

    let own = "our_own_third_secret";
    let body = json!({"secret": own, "overlap": "1h"});
    let rotated = api.post(&rotate, body).await.expect(200);
    assert_eq!(rotated["secret"], own);
    assert_eq!(
        rotated["previous"].as_array().unwrap().len(),
        2,
        "{rotated}"
    );
    api.event("a.b", json!(2)).await;
    verify(&receiver.wait_for(2).await[1], &[own, &second, &first]);

    let rotated = api
        .post(&rotate, json!({"overlap": "0s"}))
        .await
        .expect(200);
    assert_eq!(rotated["previous"], json!([]), "0 ends all earlier ones");
    api.event("a.b", json!(3)).await;
    verify(
        &receiver.wait_for(3).await[2],
        &[rotated["secret"].as_str().unwrap()],
    );

    for overlap in [json!("8d"), json!("soon"), json!(-1), json!(null)] {
        let answer = api.post(&rotate, json!({"overlap": overlap})).await;
        answer.problem_in(400, "invalid_field", "overlap");
    }
    let answer = api.post(&rotate, json!({"secret": "short"})).await;
    answer.problem_in(400, "invalid_field", "secret");
    api.post(&rotate, json!({"overlaps": "1h"}))
        .await
        .problem_in(400, "unknown_field", "overlaps");
}

#[tokio::test]
async fn at_most_four_secrets_are_live() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let made = api.endpoint(&receiver.url("/"), &["*"]).await;
    for _ in 0..6 {
        let answer = api
            .post(&format!("{}/rotate-secret", path(&made)), json!({}))
            .await;
        assert!(
            [200, 400, 409].contains(&answer.status.as_u16()),
            "{answer:?}"
        );
    }
    api.event("a.b", json!(1)).await;
    let request = receiver.wait_for(1).await.remove(0);
    assert!(request.header("x-stormcom-signature").split(',').count() <= 4);
    assert!(request.header("webhook-signature").split(' ').count() <= 4);
}

#[tokio::test]
async fn secrets_and_header_values_are_in_no_answer_and_no_log() {
    let daemon = Setup::new().set("log.level", r#""trace""#).start().await;
    let receiver = Receiver::answering(Reply::body(500, "no")).await;
    let api = daemon.client();
    let headers = json!({"x-key": "hunter2-header-value"});
    let made = api
        .endpoint_with(&receiver.url("/"), &["*"], json!({"headers": headers}))
        .await;
    let secret = made["secret"].as_str().unwrap().to_owned();
    let event = api.event("a.b", json!({"card": "payload-4111"})).await;
    receiver.wait_for(6).await;
    api.delivery_when(&event, "ABANDONED").await;
    let mut texts = Vec::new();
    for at in [
        &path(&made)[..],
        "/v1/endpoints",
        "/v1/deliveries",
        "/metrics",
    ] {
        texts.push(api.get(at).await.text());
    }
    let bad = json!({"description": 1, "headers": {"x-key": "hunter2-header-value"}});
    texts.push(api.patch(&path(&made), bad).await.text());
    let injected = json!({"headers": {"x-key": "hunter2-header-value\r\nx: y"}});
    texts.push(api.patch(&path(&made), injected).await.text());
    texts.push(daemon.log());
    for text in texts {
        for hidden in [&secret[6..], "hunter2-header-value", "payload-4111"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
}

#[tokio::test]
async fn a_deactivated_endpoint_receives_nothing_and_resumes_with_what_it_held() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(Reply::Status(503)).await;
    let healthy = Receiver::start().await;
    let api = daemon.client();
    let made = api.endpoint(&receiver.url("/"), &["order.*"]).await;
    api.endpoint(&healthy.url("/"), &["sentinel"]).await;
    // The only request so far is on the wire while the endpoint is disabled.
    receiver.answer(Reply::held(503));
    let held = api.event("order.created", json!("held")).await;
    receiver.wait_for(1).await;
    let patched = api
        .patch(&path(&made), json!({"active": false}))
        .await
        .expect(200);
    assert_eq!(patched["active"], false);
    receiver.answer(Reply::Status(200));
    receiver.release(1);
    let delivery = api.delivery_when(&held, "RETRYING").await;
    assert_eq!(delivery["waitingFor"], "endpoint_inactive");
    assert_eq!(delivery["attempt"], 1);
    let missed = api.post(
        "/v1/events",
        json!({"organizationId": "org_1", "type": "order.created", "data": "missed"}),
    );
    assert_eq!(
        missed.await.expect(202)["deliveries"],
        0,
        "an inactive endpoint gets no delivery"
    );
    let stats = api.stats("").await;
    assert_eq!(
        (&stats["queue.held"], &stats["queue.retrying"]),
        (&json!(1), &json!(0)),
        "{stats}"
    );
    let retry = format!("/v1/deliveries/{}/retry", id(&delivery));
    api.post(&retry, json!({}))
        .await
        .problem(409, "endpoint_inactive");
    let recover = format!("{}/recover", path(&made));
    let since = json!({"since": "2020-01-01T00:00:00Z"});
    api.post(&recover, since)
        .await
        .problem(409, "endpoint_inactive");
    api.event("sentinel", json!(1)).await;
    healthy.wait_for(1).await;
    assert_eq!(receiver.count(), 1);

    let patched = api
        .patch(&path(&made), json!({"active": true}))
        .await
        .expect(200);
    assert_eq!(
        (&patched["active"], &patched["failureCount"]),
        (&json!(true), &json!(0))
    );
    let requests = receiver.wait_for(2).await;
    assert_eq!(requests[1].event(), held);
    api.delivery_when(&held, "SUCCESS").await;
    assert_eq!(
        receiver.count(),
        2,
        "what came while it was inactive is not sent"
    );
}

#[tokio::test]
async fn a_held_backlog_can_be_discarded_on_activation() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(Reply::held(503)).await;
    let api = daemon.client();
    let made = api.endpoint(&receiver.url("/"), &["*"]).await;
    let mut held = Vec::new();
    for n in 0..3 {
        held.push(api.event("a.b", json!(n)).await);
    }
    receiver.wait_for(3).await;
    api.patch(&path(&made), json!({"active": false}))
        .await
        .expect(200);
    receiver.release(3);
    receiver.answer(Reply::Status(200));
    for event in &held {
        api.delivery_when(event, "RETRYING").await;
    }
    let body = json!({"active": true, "discardHeld": true});
    api.patch(&path(&made), body).await.expect(200);
    for event in &held {
        let delivery = api.delivery_of(event).await;
        assert_eq!(delivery["status"], "FAILED", "{delivery}");
        assert_eq!(delivery["reason"], "discarded");
        assert_eq!(delivery["waitingFor"], Value::Null);
    }
    let next = api.event("a.b", json!("next")).await;
    let requests = receiver.wait_for(4).await;
    assert_eq!(requests[3].event(), next);
    assert_eq!(
        requests[3].header("x-stormcom-sequence"),
        "4",
        "discarding leaves no second number"
    );
}

#[tokio::test]
async fn a_deleted_endpoint_is_gone_and_its_open_deliveries_have_failed() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(Reply::held(503)).await;
    let api = daemon.client();
    let made = api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!(1)).await;
    receiver.wait_for(1).await;
    let answer = api.delete(&path(&made)).await;
    answer.expect(204);
    assert!(answer.body.is_empty());
    for at in [path(&made), format!("{}/secret", path(&made))] {
        api.get(&at).await.problem(404, "not_found");
    }
    api.patch(&path(&made), json!({}))
        .await
        .problem(404, "not_found");
    api.delete(&path(&made)).await.problem(404, "not_found");
    receiver.release(1);
    let delivery = api.delivery_when(&event, "FAILED").await;
    assert_eq!(delivery["reason"], "endpoint_deleted");
    let answer = api.post(
        "/v1/events",
        json!({"organizationId": "org_1", "type": "a.b", "data": 1}),
    );
    assert_eq!(answer.await.expect(202)["deliveries"], 0);
}

#[tokio::test]
async fn a_test_ping_is_sent_at_once_and_its_attempt_is_the_answer() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let made = api
        .endpoint_with(&receiver.url("/"), &["*"], json!({"active": false}))
        .await;
    let test = format!("{}/test", path(&made));
    let attempt = api.post(&test, json!({})).await.expect(200);
    assert_eq!(attempt["outcome"], "success", "{attempt}");
    assert_eq!(attempt["responseCode"], 200);
    let request = receiver.wait_for(1).await.remove(0);
    assert_eq!(request.json()["type"], "stormhook.ping");
    assert_eq!(request.header("x-stormcom-event"), "stormhook.ping");
    verify(&request, &[made["secret"].as_str().unwrap()]);
    receiver.answer(Reply::body(500, "broken"));
    let attempt = api.post(&test, json!({})).await.expect(200);
    assert_eq!(attempt["outcome"], "http_status", "{attempt}");
    assert_eq!(attempt["responseCode"], 500);
    assert_eq!(attempt["responseExcerpt"], "broken");
    let stats = api.stats("").await;
    assert_eq!(stats["delivery.success.count"], 0, "pings count nowhere");
    assert_eq!(stats["delivery.failure.count"], 0);
    assert_eq!(api.get(&path(&made)).await.expect(200)["failureCount"], 0);
    // Pings leave no gap in the endpoint's sequence numbers.
    api.patch(&path(&made), json!({"active": true}))
        .await
        .expect(200);
    receiver.answer(Reply::Status(200));
    api.event("a.b", json!(1)).await;
    assert_eq!(
        receiver.wait_for(3).await[2].header("x-stormcom-sequence"),
        "1"
    );
    let bare = api.call("POST", &test).send().await;
    assert_eq!(bare.status, 200, "a body is not needed: {bare:?}");
}

#[tokio::test]
async fn failures_are_counted_in_a_row_and_a_success_ends_the_run() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let api = daemon.client();
    let made = api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!(1)).await;
    api.delivery_when(&event, "ABANDONED").await;
    let shown = api.get(&path(&made)).await.expect(200);
    assert_eq!(shown["failureCount"], 6, "{shown}");
    assert_eq!(shown["lastSuccessAt"], Value::Null);
    assert_eq!(
        shown["active"], true,
        "a short run of failures disables nothing"
    );
    receiver.answer(Reply::Status(204));
    let event = api.event("a.b", json!(2)).await;
    api.delivery_when(&event, "SUCCESS").await;
    let shown = api.get(&path(&made)).await.expect(200);
    assert_eq!(shown["failureCount"], 0);
    assert!(shown["lastSuccessAt"].is_string());
}

#[tokio::test]
async fn gone_switches_the_endpoint_off_and_tells_those_who_asked() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(Reply::Status(410)).await;
    let watcher = Receiver::start().await;
    let api = daemon.client();
    let made = api.endpoint(&receiver.url("/"), &["order.*"]).await;
    api.endpoint(&watcher.url("/named"), &["stormhook.endpoint.disabled"])
        .await;
    api.endpoint(&watcher.url("/all"), &["*"]).await;
    let event = api.event("order.created", json!(1)).await;
    let delivery = until("the delivery to the gone endpoint ends", async || {
        let all = api.deliveries(&event).await;
        all.into_iter()
            .find(|d| d["endpointId"] == made["id"] && d["status"] == "FAILED")
    })
    .await;
    assert_eq!(delivery["reason"], "gone");
    assert_eq!(delivery["responseCode"], 410);
    let shown = api.get(&path(&made)).await.expect(200);
    assert_eq!(shown["active"], false);
    assert!(shown["disabledReason"].is_string(), "{shown}");
    let told = watcher
        .wait_where(1, |r| r.path == "/named")
        .await
        .remove(0);
    assert_eq!(told.json()["type"], "stormhook.endpoint.disabled");
    assert!(told.text().contains(&id(&made)), "{}", told.text());
    assert_eq!(receiver.count(), 1);
    let last = api.event("last.one", json!(1)).await;
    let to_all = watcher.wait_where(2, |r| r.path == "/all").await;
    assert_eq!(to_all.last().unwrap().event(), last, "`*` doesn't name it");
    let shown = api
        .patch(&path(&made), json!({"active": true}))
        .await
        .expect(200);
    assert_eq!(
        (&shown["disabledReason"], &shown["failureCount"]),
        (&Value::Null, &json!(0))
    );
}

#[tokio::test]
async fn a_recovery_opens_new_rounds_of_undelivered_deliveries() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let api = daemon.client();
    let made = api.endpoint(&receiver.url("/"), &["order.*"]).await;
    let mut events = Vec::new();
    for n in 0..3 {
        events.push(api.event("order.created", json!(n)).await);
    }
    for event in &events {
        api.delivery_when(event, "ABANDONED").await;
    }
    receiver.answer(Reply::Status(200));
    let fine = api.event("order.created", json!("fine")).await;
    api.delivery_when(&fine, "SUCCESS").await;
    api.patch(&path(&made), json!({"active": false}))
        .await
        .expect(200);
    let missed = api.event("order.created", json!("missed")).await;
    api.event("invoice.paid", json!("not subscribed")).await;
    api.patch(&path(&made), json!({"active": true}))
        .await
        .expect(200);
    let before = receiver.count();
    let recover = format!("{}/recover", path(&made));
    let since = "2020-01-01T00:00:00Z";
    let dry = json!({"since": since, "missed": true, "dryRun": true});
    assert_eq!(api.post(&recover, dry).await.expect(202)["recovered"], 4);
    assert_eq!(
        api.post(&recover, json!({"since": since, "dryRun": true}))
            .await
            .expect(202)["recovered"],
        3
    );
    let past = json!({"since": since, "until": "2020-01-02T00:00:00Z"});
    assert_eq!(api.post(&recover, past).await.expect(202)["recovered"], 0);
    assert_eq!(receiver.count(), before, "a dry run sends nothing");
    let answer = api
        .post(&recover, json!({"since": since, "missed": true}))
        .await;
    assert_eq!(answer.expect(202), json!({"recovered": 4}));
    let requests = receiver.wait_for(before + 4).await;
    let mut sent: Vec<_> = requests[before..].iter().map(|r| r.event()).collect();
    sent.sort();
    events.push(missed.clone());
    assert_eq!(sent, events);
    for event in &events {
        let delivery = api.delivery_when(event, "SUCCESS").await;
        let last = delivery["attempts"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone();
        assert_eq!(
            last["round"],
            if *event == missed { 1 } else { 2 },
            "{delivery}"
        );
    }
    assert_eq!(
        api.post(&recover, json!({"since": since, "missed": true}))
            .await
            .expect(202)["recovered"],
        0
    );
    api.post(&recover, json!({"since": "soon"}))
        .await
        .problem_in(400, "invalid_field", "since");
    api.post(&recover, json!({"form": 1}))
        .await
        .problem_in(400, "unknown_field", "form");
}

#[tokio::test]
async fn an_endpoint_id_that_is_unknown_or_malformed_is_not_found() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    for id in [
        "ep_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "ep_",
        "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "..",
        "%2e%2e",
    ] {
        let path = format!("/v1/endpoints/{id}");
        api.get(&path).await.problem(404, "not_found");
        api.get(&format!("{path}/secret"))
            .await
            .problem(404, "not_found");
        api.post(&format!("{path}/test"), json!({}))
            .await
            .problem(404, "not_found");
        api.post(&format!("{path}/rotate-secret"), json!({}))
            .await
            .problem(404, "not_found");
    }
}

#[tokio::test]
async fn the_number_of_endpoints_of_an_organization_is_bounded() {
    let daemon = Setup::new()
        .set("limits.endpoints_per_organization", "2")
        .start()
        .await;
    let api = daemon.client();
    for _ in 0..2 {
        api.post("/v1/endpoints", with("active", json!(true)))
            .await
            .expect(201);
    }
    let answer = api.post("/v1/endpoints", with("active", json!(true))).await;
    assert!((400..500).contains(&answer.status.as_u16()), "{answer:?}");
    let mut other = with("active", json!(true));
    other["organizationId"] = json!("org_2");
    api.post("/v1/endpoints", other).await.expect(201);
}

#[tokio::test]
async fn endpoints_survive_kill_with_their_secrets_and_headers() {
    let mut daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let made = daemon
        .client()
        .endpoint_with(&receiver.url("/"), &["*"], json!({"headers": {"x-k": "v"}}))
        .await;
    let rotate = format!("{}/rotate-secret", path(&made));
    let rotated = daemon.client().post(&rotate, json!({})).await.expect(200);
    daemon.kill().await;
    daemon.start_again().await;
    daemon.client().event("a.b", json!(1)).await;
    let request = receiver.wait_for(1).await.remove(0);
    verify(
        &request,
        &[
            rotated["secret"].as_str().unwrap(),
            made["secret"].as_str().unwrap(),
        ],
    );
    assert_eq!(request.header("x-k"), "v");
}

#[tokio::test]
async fn a_changed_url_holds_for_every_attempt_that_starts_after_the_answer() {
    let receiver = Receiver::answering(Reply::Status(503)).await;
    let schedule = vec!["\"1ms\""; 20].join(",");
    let daemon = Setup::new()
        .set("retry.schedule", &format!("[{schedule}]"))
        .start()
        .await;
    let api = daemon.client();
    let endpoint = api.endpoint(&receiver.url("/p0"), &["*"]).await;
    let mut changed = vec![(std::time::Instant::now(), "/p0".to_owned())];
    for n in 1..=10 {
        // Large ones take a while to prepare.
        for _ in 0..4 {
            api.event("order.created", json!("x".repeat(60_000))).await;
        }
        let seen = receiver.count();
        let to = format!("/p{n}");
        let url = json!({"url": receiver.url(&to)});
        api.patch(&path(&endpoint), url).await.expect(200);
        changed.push((std::time::Instant::now(), to));
        receiver.wait_for(seen + 40).await;
    }
    // An attempt on the wire may be read a little later.
    let slack = std::time::Duration::from_millis(50);
    for request in receiver.requests() {
        let at = changed.partition_point(|(when, _)| *when + slack < request.at);
        let allowed = &changed[at.saturating_sub(1)..];
        let known = allowed.iter().any(|(_, path)| *path == request.path);
        assert!(known, "{} came after {:?}", request.path, allowed.first());
    }
}

#[tokio::test]
async fn a_patch_that_changes_nothing_leaves_the_endpoint_as_it_was() {
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let daemon = Setup::new()
        .set("retry.schedule", r#"["1h"]"#)
        .start()
        .await;
    let api = daemon.client();
    let endpoint = api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!(1)).await;
    api.delivery_when(&event, "RETRYING").await;
    let before = api.get(&path(&endpoint)).await.expect(200);
    assert_eq!(before["failureCount"], 1);
    for same in [json!({}), json!({"active": true, "url": receiver.url("/")})] {
        let after = api.patch(&path(&endpoint), same).await.expect(200);
        assert_eq!(after, before);
    }
}

#[tokio::test]
async fn any_rate_over_0_is_a_rate_and_an_overlap_of_nothing_needs_no_unit() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let endpoint = api.endpoint("https://partner.example/", &["*"]).await;
    for rate in [1e-9, 0.5, 1e9] {
        let changed = json!({"rateLimitPerSecond": rate});
        let after = api.patch(&path(&endpoint), changed).await.expect(200);
        assert_eq!(after["rateLimitPerSecond"], rate);
    }
    let rotate = format!("{}/rotate-secret", path(&endpoint));
    for nothing in [json!(0), json!("0"), json!("0s")] {
        let now = api
            .post(&rotate, json!({"overlap": nothing}))
            .await
            .expect(200);
        assert_eq!(now["previous"], json!([]));
        let again = json!({"secret": now["secret"]});
        api.post(&rotate, again)
            .await
            .problem_in(400, "invalid_field", "secret");
    }
    for bad in [json!(5), json!("8d"), json!("-1s"), json!(null)] {
        api.post(&rotate, json!({"overlap": bad})).await.problem_in(
            400,
            "invalid_field",
            "overlap",
        );
    }
}
