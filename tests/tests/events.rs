//! Section 2 of the contract: valid events, the responses, and what a receiver gets.

use crate::support::{Client, Daemon, Receiver, Setup};
use serde_json::{Value, json};

fn event(data: &str) -> String {
    format!(r#"{{"organizationId":"org_1","type":"order.created","data":{data}}}"#)
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

/// Returns an event with one field set to a value, or removed.
fn event_with(field: &str, value: Option<Value>) -> Value {
    let mut event = json!({"organizationId": "org_1", "type": "order.created", "data": {}});
    match value {
        Some(value) => event[field] = value,
        None => {
            event.as_object_mut().unwrap().remove(field);
        }
    }
    event
}

#[tokio::test]
async fn an_event_is_answered_with_its_id_and_how_many_endpoints_it_goes_to() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let answer = api.post("/v1/events", event("{}")).await.expect(202);
    assert_eq!(answer["deliveries"], 0);
    api.endpoint(&receiver.url("/a"), &["order.*"]).await;
    api.endpoint(&receiver.url("/b"), &["order.created"]).await;
    api.endpoint(&receiver.url("/c"), &["invoice.*"]).await;
    let answer = api.post("/v1/events", event("{}")).await.expect(202);
    let mut keys: Vec<_> = answer.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(
        keys,
        ["deliveries", "id", "organizationId", "timestamp", "type"]
    );
    assert_eq!(answer["deliveries"], 2);
    assert_eq!(answer["organizationId"], "org_1");
    assert_eq!(answer["type"], "order.created");
    let id = answer["id"].as_str().unwrap();
    assert!(
        id.starts_with("evt_") && id.len() == 30,
        "a prefix and a ULID: {id}"
    );
    receiver.wait_for(2).await;
}

#[tokio::test]
async fn a_partner_gets_the_keys_in_order_and_the_data_byte_for_byte() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let cases = [
        "null",
        "true",
        "0",
        "-0",
        "1.0",
        "1e400",
        "-1E-400",
        "0.1000000000000000055511151231257827",
        "123456789012345678901234567890",
        "18446744073709551616",
        r#""""#,
        r#""plain""#,
        r#""\u00e9\u0041\/\"\\\n""#,
        r#""\ud83d\ude00""#,
        r#""\ud800""#,
        "\"é😀\"",
        "[ ]",
        "{ }",
        "[1 ,  2,\t3]",
        r#"{ "b" : 1, "a" : [ {} , null ] }"#,
        r#"{"a":1,"a":2}"#,
        r#"{"":""}"#,
        "{\"a\":\n\r 1}",
        "\"\u{7f}\u{2028}\"",
    ];
    for (n, data) in cases.iter().enumerate() {
        let answer = api.post("/v1/events", event(data)).await.expect(202);
        let requests = receiver.wait_for(n + 1).await;
        let body = format!(
            r#"{{"id":{},"type":"order.created","timestamp":{},"organizationId":"org_1","sequence":{},"data":{data}}}"#,
            answer["id"],
            answer["timestamp"],
            n + 1,
        );
        assert_eq!(requests[n].text(), body);
        let shown = api
            .get(&format!("/v1/events/{}", answer["id"].as_str().unwrap()))
            .await;
        assert!(
            shown.text().contains(&format!(r#""data":{data}"#)),
            "{shown:?}"
        );
    }
}

#[tokio::test]
async fn space_around_the_data_is_not_part_of_it() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let body =
        "\n{ \"data\" :\t [ 1.0 ] \n, \"type\":\"a.b\" , \"organizationId\" : \"org_1\" }\r\n";
    api.post("/v1/events", body).await.expect(202);
    assert_eq!(receiver.wait_for(1).await[0].data(), "[ 1.0 ]");
}

#[tokio::test]
async fn a_bad_field_is_named_with_its_code() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let long = |length: usize| json!("a".repeat(length));
    let table: Vec<(&str, Option<Value>)> = vec![
        ("organizationId", None),
        ("organizationId", Some(json!(null))),
        ("organizationId", Some(json!(42))),
        ("organizationId", Some(json!(""))),
        ("organizationId", Some(long(129))),
        ("organizationId", Some(json!("org 1"))),
        ("organizationId", Some(json!("org.1"))),
        ("organizationId", Some(json!("org\r\nx-evil: 1"))),
        ("organizationId", Some(json!("örg"))),
        ("type", None),
        ("type", Some(json!(null))),
        ("type", Some(json!(["a"]))),
        ("type", Some(json!(""))),
        ("type", Some(json!("."))),
        ("type", Some(json!("a."))),
        ("type", Some(json!(".a"))),
        ("type", Some(json!("a..b"))),
        ("type", Some(json!("a.*"))),
        ("type", Some(json!("a b"))),
        ("type", Some(json!("a\r\nx-evil: 1"))),
        ("type", Some(long(129))),
        ("type", Some(json!("stormhook.ping"))),
        ("type", Some(json!("stormhook.anything.else"))),
        ("data", None),
        ("timestamp", Some(json!(null))),
        ("timestamp", Some(json!(1_767_323_045))),
        ("timestamp", Some(json!("yesterday"))),
        ("timestamp", Some(json!("2026-01-02"))),
        ("timestamp", Some(json!("2026-01-02T03:04:05"))),
        ("timestamp", Some(json!("2026-13-02T03:04:05Z"))),
        ("timestamp", Some(json!("2026-02-30T03:04:05Z"))),
        ("timestamp", Some(json!("0000-01-01T00:00:00+23:59"))),
        ("timestamp", Some(json!("9999-12-31T23:59:59-23:59"))),
        ("idempotencyKey", Some(json!(null))),
        ("idempotencyKey", Some(json!(7))),
        ("idempotencyKey", Some(json!(""))),
        ("idempotencyKey", Some(long(256))),
        ("idempotencyKey", Some(json!("a b"))),
        ("idempotencyKey", Some(json!("a\nb"))),
        ("idempotencyKey", Some(json!("schlüssel"))),
    ];
    for (field, value) in table {
        let body = event_with(field, value);
        let answer = api.post("/v1/events", body.clone()).await;
        eprintln!("{body}");
        answer.problem_in(400, "invalid_field", field);
    }
    let answer = api
        .post("/v1/events", event_with("organisationId", Some(json!("x"))))
        .await;
    answer.problem_in(400, "unknown_field", "organisationId");
    let listed = api.get("/v1/events").await.expect(200);
    assert_eq!(listed["data"], json!([]), "nothing of that was stored");
}

#[tokio::test]
async fn the_longest_allowed_values_are_accepted() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let table = [
        ("organizationId", json!("o".repeat(128))),
        ("organizationId", json!("A-z_0")),
        ("type", json!("t".repeat(128))),
        ("type", json!("A-z_0.b")),
        ("type", json!("stormhooks.own")),
        ("type", json!("stormhook")),
        ("idempotencyKey", json!("k".repeat(255))),
        ("idempotencyKey", json!("!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~")),
    ];
    for (field, value) in table {
        let body = event_with(field, Some(value));
        let answer = api.post("/v1/events", body.clone()).await;
        assert_eq!(answer.status, 202, "{body}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_no_json_is_refused_as_that() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let texts: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b" ".to_vec(),
        b"{".to_vec(),
        b"nonsense".to_vec(),
        event("tru").into_bytes(),
        event("01").into_bytes(),
        event("1.").into_bytes(),
        event("NaN").into_bytes(),
        event("'a'").into_bytes(),
        event("[1,]").into_bytes(),
        event(r#""\x""#).into_bytes(),
        event("\"a\nb\"").into_bytes(),
        event("\"\0\"").into_bytes(),
        format!("{} x", event("1")).into_bytes(),
        format!("{}{}", event("1"), event("1")).into_bytes(),
        [&b"\xef\xbb\xbf"[..], event("1").as_bytes()].concat(),
        [
            &event("1").as_bytes()[..10],
            b"\xff\xfe",
            &event("1").as_bytes()[10..],
        ]
        .concat(),
        event("1").replace("}", r#","data":2}"#).into_bytes(),
        event("1")
            .replace("}", r#","type":"order.created"}"#)
            .into_bytes(),
        event("1")
            .replace("}", r#","\u0074ype":"order.created"}"#)
            .into_bytes(),
        event("\"\u{fffd}\"")
            .bytes()
            .flat_map(|b| if b == 0xef { vec![0xed, 0xa0] } else { vec![b] })
            .collect(),
    ];
    for text in texts {
        eprintln!("{}", String::from_utf8_lossy(&text));
        api.post("/v1/events", text)
            .await
            .problem(400, "invalid_json");
    }
    for text in ["[]", "null", "1", "\"text\""] {
        let answer = api.post("/v1/events", text).await;
        assert_eq!(answer.status, 400, "{text}: {answer:?}");
    }
}

#[tokio::test]
async fn data_may_be_nested_128_deep_and_no_deeper() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    api.post("/v1/events", event(&nested(128)))
        .await
        .expect(202);
    assert_eq!(receiver.wait_for(1).await[0].data(), nested(128));
    let answer = api.post("/v1/events", event(&nested(129))).await;
    answer.problem_in(400, "invalid_field", "data");
    for text in [
        event(&nested(100_000)),
        event(&"[".repeat(100_000)),
        "[".repeat(200_000),
    ] {
        let answer = api.post("/v1/events", text).await;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    let objects = format!("{}1{}", r#"{"a":"#.repeat(30_000), "}".repeat(30_000));
    let answer = api.post("/v1/events", event(&objects)).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    api.get("/healthz").await.expect_ok();
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_one_at_the_limit_passes() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let limit = 256 * 1024;
    let frame = event("\"\"").len();
    let at_limit = event(&format!("\"{}\"", "x".repeat(limit - frame)));
    assert_eq!(at_limit.len(), limit);
    api.post("/v1/events", at_limit).await.expect(202);
    let over = event(&format!("\"{}\"", "x".repeat(limit - frame + 1)));
    api.post("/v1/events", over.clone())
        .await
        .problem(413, "event_too_large");
    daemon
        .tcp()
        .post("/v1/events", over)
        .await
        .problem(413, "event_too_large");
    let huge = event(&format!("\"{}\"", "x".repeat(10_000_000)));
    api.post("/v1/events", huge.clone())
        .await
        .problem(413, "event_too_large");
    daemon
        .tcp()
        .post("/v1/events", huge)
        .await
        .problem(413, "event_too_large");
}

#[tokio::test]
async fn a_body_without_a_stated_length_is_held_to_the_same_limit() {
    let daemon = Daemon::start().await;
    let mut upload = daemon
        .client()
        .upload("/v1/events", "application/json")
        .await;
    upload
        .write(event("\"").trim_end_matches('}').to_owned())
        .await;
    let chunk = "x".repeat(64 * 1024);
    for _ in 0..160 {
        if !upload.offer(chunk.clone()).await {
            break;
        }
    }
    let (status, _) = upload.answer().await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn the_timestamp_is_cut_to_milliseconds_utc() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let table = [
        ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678Z"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02T03:04:05.6789999Z", "2026-01-02T03:04:05.678Z"),
        ("2026-01-02T03:04:05.1+02:00", "2026-01-02T01:04:05.100Z"),
        ("2026-01-02T23:30:00-05:45", "2026-01-03T05:15:00.000Z"),
        ("2026-01-02T03:04:05-00:00", "2026-01-02T03:04:05.000Z"),
        ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
    ];
    for (n, (given, kept)) in table.into_iter().enumerate() {
        let answer = api
            .post("/v1/events", event_with("timestamp", Some(json!(given))))
            .await;
        assert_eq!(answer.expect(202)["timestamp"], kept, "{given}");
        assert_eq!(receiver.wait_for(n + 1).await[n].json()["timestamp"], kept);
    }
    let answer = api.post("/v1/events", event("1")).await.expect(202);
    let now = answer["timestamp"].as_str().unwrap();
    assert!(
        now.len() == 24 && now.ends_with('Z'),
        "acceptance, in milliseconds: {now}"
    );
}

#[tokio::test]
async fn an_accepted_event_can_be_looked_up_and_listed_without_its_data() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["order.*"]).await;
    let body = json!({"organizationId": "org_1", "type": "order.created", "data": {"a": 1},
        "timestamp": "2026-01-02T03:04:05Z", "idempotencyKey": "k-1"});
    let id = api.post("/v1/events", body).await.expect(202)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = api.get(&format!("/v1/events/{id}")).await.expect(200);
    let accepted = shown["acceptedAt"].clone();
    assert_eq!(
        shown,
        json!({"id": id, "organizationId": "org_1", "type": "order.created",
            "timestamp": "2026-01-02T03:04:05.000Z", "acceptedAt": accepted, "idempotencyKey": "k-1",
            "deliveries": 1, "data": {"a": 1}})
    );
    let other = api.event("invoice.paid", json!(2)).await;
    let shown = api.get(&format!("/v1/events/{other}")).await.expect(200);
    assert_eq!(shown["idempotencyKey"], Value::Null);
    api.post(
        "/v1/events",
        json!({"organizationId": "org_2", "type": "order.created", "data": 3}),
    )
    .await
    .expect(202);
    let listed = api.all("/v1/events").await;
    assert_eq!(listed.len(), 3);
    assert!(
        listed.iter().all(|event| event.get("data").is_none()),
        "{listed:?}"
    );
    assert_eq!(listed[1]["id"], other, "newest first");
    for (query, ids) in [
        ("?organizationId=org_1", vec![other.clone(), id.clone()]),
        ("?organizationId=org_1&type=order.created", vec![id.clone()]),
        ("?organizationId=org_1&idempotencyKey=k-1", vec![id.clone()]),
        ("?organizationId=org_1&idempotencyKey=k-2", vec![]),
        ("?organizationId=org_9", vec![]),
    ] {
        let found = api.all(&format!("/v1/events{query}")).await;
        let found: Vec<_> = found
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(found, ids, "{query}");
    }
    let at = accepted.as_str().unwrap();
    let since = api.all(&format!("/v1/events?since={at}")).await;
    assert!(
        since.iter().any(|event| event["id"] == id),
        "since is inclusive"
    );
    let before = api.all(&format!("/v1/events?until={at}")).await;
    assert!(
        before.iter().all(|event| event["id"] != id),
        "until is exclusive"
    );
}

#[tokio::test]
async fn lists_come_in_pages_that_are_complete_and_without_repeats() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let mut ids = Vec::new();
    for n in 0..23 {
        ids.insert(0, api.event("a.b", json!(n)).await);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api
            .get(&format!("/v1/events?limit=5{cursor}"))
            .await
            .expect(200);
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 5);
        seen.extend(
            data.iter()
                .map(|event| event["id"].as_str().unwrap().to_owned()),
        );
        // An event that arrives in between belongs before the first page.
        api.event("a.b", json!("later")).await;
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    for bad in ["limit=0", "limit=251", "limit=-1", "limit=x", "limit="] {
        api.get(&format!("/v1/events?{bad}"))
            .await
            .problem_in(400, "invalid_field", "limit");
    }
    api.get("/v1/events?limit=250").await.expect(200);
    api.get("/v1/events?cursor=nonsense")
        .await
        .problem(400, "invalid_cursor");
    for n in 0..3 {
        api.endpoint(&format!("https://p{n}.example/"), &["*"])
            .await;
    }
    let page = api.get("/v1/endpoints?limit=1").await.expect(200);
    let of_another_list = page["nextCursor"].as_str().unwrap();
    api.get(&format!("/v1/events?cursor={of_another_list}"))
        .await
        .problem(400, "invalid_cursor");
    api.get("/v1/events?since=yesterday")
        .await
        .problem_in(400, "invalid_field", "since");
    api.get("/v1/events?colour=red")
        .await
        .problem_in(400, "unknown_field", "colour");
}

#[tokio::test]
async fn explain_says_for_each_endpoint_why_it_was_or_was_not_sent_the_event() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let id = |endpoint: Value| endpoint["id"].as_str().unwrap().to_owned();
    let subscribed = id(api.endpoint(&receiver.url("/1"), &["order.*"]).await);
    let other_type = id(api.endpoint(&receiver.url("/2"), &["invoice.*"]).await);
    let inactive = id(api
        .endpoint_with(&receiver.url("/3"), &["*"], json!({"active": false}))
        .await);
    let deleted = id(api.endpoint(&receiver.url("/4"), &["invoice.*"]).await);
    api.delete(&format!("/v1/endpoints/{deleted}"))
        .await
        .expect(204);
    let event = api.event("order.created", json!(1)).await;
    receiver.wait_for(1).await;
    let later = id(api.endpoint(&receiver.url("/5"), &["*"]).await);
    // Later changes don't affect earlier explanations.
    api.patch(
        &format!("/v1/endpoints/{other_type}"),
        json!({"eventTypes": ["*"]}),
    )
    .await
    .expect(200);
    api.patch(
        &format!("/v1/endpoints/{inactive}"),
        json!({"active": true}),
    )
    .await
    .expect(200);
    api.patch(
        &format!("/v1/endpoints/{subscribed}"),
        json!({"active": false}),
    )
    .await
    .expect(200);
    let answer = api
        .get(&format!("/v1/events/{event}/explain"))
        .await
        .expect(200);
    let text = answer.to_string();
    let entries = find_entries(&answer).unwrap_or_else(|| panic!("no list of endpoints: {text}"));
    let reason = |id: &str| {
        let entry = entries.iter().find(|entry| entry["endpointId"] == id);
        entry.map(|entry| entry["reason"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(reason(&subscribed).as_deref(), Some("subscribed"), "{text}");
    assert_eq!(
        reason(&other_type).as_deref(),
        Some("type_not_subscribed"),
        "{text}"
    );
    assert_eq!(
        reason(&inactive).as_deref(),
        Some("inactive_at_acceptance"),
        "{text}"
    );
    assert_eq!(reason(&later).as_deref(), Some("created_later"), "{text}");
    assert_eq!(reason(&deleted).as_deref(), Some("deleted"), "{text}");
}

/// Returns the list in a response: the response itself or its `data`.
fn find_entries(answer: &Value) -> Option<Vec<Value>> {
    answer
        .as_array()
        .or_else(|| answer["data"].as_array())
        .cloned()
}

#[tokio::test]
async fn an_unknown_or_malformed_event_id_is_not_found() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    for id in [
        "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "evt_x",
        "ep_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "x",
        "%00",
        "%ff",
    ] {
        api.get(&format!("/v1/events/{id}"))
            .await
            .problem(404, "not_found");
        api.get(&format!("/v1/events/{id}/explain"))
            .await
            .problem(404, "not_found");
    }
}

#[tokio::test]
async fn replay_sends_the_event_again_as_a_new_round_or_for_the_first_time() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let first = api.endpoint(&receiver.url("/first"), &["order.*"]).await;
    let event = api.event("order.created", json!({"n": 1.5})).await;
    api.delivery_when(&event, "SUCCESS").await;
    let path = format!("/v1/events/{event}/replay");
    let delivery = api
        .post(&path, json!({"endpointId": first["id"]}))
        .await
        .expect(200);
    assert_eq!(delivery["eventId"], event);
    assert_eq!(delivery["sequence"], 1, "a new round keeps its place");
    let requests = receiver.wait_for(2).await;
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[0].event(), requests[1].event());
    assert_eq!(requests[1].header("x-stormcom-attempt"), "2");
    let delivery = api.delivery_when(&event, "SUCCESS").await;
    assert_eq!(delivery["attempts"][1]["round"], 2, "{delivery}");
    assert_eq!(delivery["attempts"][1]["trigger"], "replay", "{delivery}");

    let second = api.endpoint(&receiver.url("/second"), &["invoice.*"]).await;
    let delivery = api
        .post(&path, json!({"endpointId": second["id"]}))
        .await
        .expect(200);
    assert_eq!(delivery["sequence"], 1);
    let requests = receiver.wait_for(3).await;
    assert_eq!(requests[2].path, "/second");
    assert_eq!(requests[2].json()["sequence"], 1);

    api.post(&path, json!({}))
        .await
        .problem_in(400, "invalid_field", "endpointId");
    let gone = json!({"endpointId": "ep_01ARZ3NDEKTSV4RRFFQ69G5FAV"});
    let answer = api.post(&path, gone).await;
    assert!([400, 404].contains(&answer.status.as_u16()), "{answer:?}");
    let id = second["id"].as_str().unwrap();
    api.patch(&format!("/v1/endpoints/{id}"), json!({"active": false}))
        .await
        .expect(200);
    api.post(&path, json!({"endpointId": id}))
        .await
        .problem(409, "endpoint_inactive");
}

#[tokio::test]
async fn a_full_disk_reserve_refuses_events_and_says_so() {
    let daemon = Setup::new()
        .set("limits.disk_reserve", r#""900000000MiB""#)
        .start()
        .await;
    let api = daemon.client();
    let answer = api.post("/v1/events", event("1")).await;
    answer.problem(503, "storage_full");
    let wait: u64 = answer
        .header("retry-after")
        .expect("Retry-After")
        .parse()
        .unwrap();
    assert!(wait > 0);
    let lines = api.batch(&event("1")).await;
    assert_eq!(lines[0]["status"], "rejected");
    assert_eq!(lines[0]["problem"]["code"], "storage_full");
    api.get("/v1/events").await.expect(200);
}

#[tokio::test]
async fn a_full_queue_answers_busy_and_takes_events_again_when_it_has_room() {
    let daemon = Setup::new()
        .set("limits.pending_deliveries", "3")
        .start()
        .await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let endpoint = api.endpoint(&receiver.url("/"), &["*"]).await;
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    receiver.answer(crate::support::Reply::held(200));
    for n in 0..3 {
        api.event("a.b", json!(n)).await;
    }
    let answer = api.post("/v1/events", event("4")).await;
    answer.problem(503, "busy");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    receiver.release(1000);
    receiver.wait_for(3).await;
    crate::support::until("there is room again", async || {
        let answer = api.post("/v1/events", event("5")).await;
        (answer.status == 202).then_some(())
    })
    .await;
    api.delete(&path).await.expect(204);
}

#[tokio::test]
async fn replayed_stored_bytes_are_the_same_after_kill() {
    let mut daemon = Daemon::start().await;
    let data = r#"{ "n" : 1.0, "big": 123456789012345678901234567890, "e":"\u00e9" }"#;
    let id = {
        let answer = daemon
            .client()
            .post("/v1/events", event(data))
            .await
            .expect(202);
        answer["id"].as_str().unwrap().to_owned()
    };
    daemon.kill().await;
    daemon.start_again().await;
    let shown = daemon.client().get(&format!("/v1/events/{id}")).await;
    assert!(shown.text().contains(data), "{shown:?}");
}

#[tokio::test]
async fn event_ids_grow_over_restarts() {
    let mut daemon = Daemon::start().await;
    let mut last = String::new();
    for _ in 0..3 {
        let api: Client = daemon.client();
        for n in 0..5 {
            let id = api.event("a.b", json!(n)).await;
            assert!(id > last, "{id} after {last}");
            last = id;
        }
        daemon.kill().await;
        daemon.start_again().await;
    }
}
