//! Section 4 of the contract: attempts, their outcomes and the schedule, and operators' changes to a delivery.

use crate::support::{Client, Daemon, Receiver, Recorded, Reply, Setup, Tls, until, within};
use serde_json::{Value, json};
use std::time::Duration;

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

/// Returns the outcome and status of each attempt.
fn outcomes(delivery: &Value) -> Vec<(String, Value)> {
    let attempts = delivery["attempts"].as_array().unwrap();
    attempts
        .iter()
        .map(|a| {
            (
                a["outcome"].as_str().unwrap().to_owned(),
                a["responseCode"].clone(),
            )
        })
        .collect()
}

/// Returns the gaps between the requests, in milliseconds.
fn gaps(requests: &[Recorded]) -> Vec<u128> {
    requests
        .windows(2)
        .map(|two| (two[1].at - two[0].at).as_millis())
        .collect()
}

/// Sends one event and returns its delivery after the first attempt.
async fn after_first_attempt(api: &Client) -> Value {
    let event = api.event("a.b", json!(1)).await;
    until("the first attempt is recorded", async || {
        let delivery = api.delivery_of(&event).await;
        let done = !delivery["attempts"].as_array().unwrap().is_empty();
        (done && delivery["status"] != "PENDING").then_some(delivery)
    })
    .await
}

#[tokio::test]
async fn a_delivery_is_shown_with_its_attempts() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    receiver.script([Reply::body(503, "try later\u{7}")]);
    let api = daemon.client();
    let endpoint = api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("order.created", json!(1)).await;
    let delivery = api.delivery_when(&event, "SUCCESS").await;
    let mut keys: Vec<_> = delivery.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "attempt",
            "attempts",
            "createdAt",
            "endpointId",
            "eventId",
            "eventType",
            "id",
            "nextAttemptAt",
            "reason",
            "responseCode",
            "sequence",
            "status",
            "updatedAt",
            "waitingFor"
        ]
    );
    assert_eq!(delivery["endpointId"], endpoint["id"]);
    assert_eq!(delivery["eventId"], event);
    assert_eq!(delivery["eventType"], "order.created");
    assert_eq!(delivery["attempt"], 2);
    assert_eq!(delivery["responseCode"], 200);
    for null in ["nextAttemptAt", "waitingFor", "reason"] {
        assert_eq!(delivery[null], Value::Null, "{null}");
    }
    let first = &delivery["attempts"][0];
    let mut keys: Vec<_> = first.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "attempt",
            "durationMs",
            "error",
            "outcome",
            "reconnected",
            "responseCode",
            "responseExcerpt",
            "round",
            "startedAt",
            "trigger"
        ]
    );
    assert_eq!(first["attempt"], 1);
    assert_eq!(first["round"], 1);
    assert_eq!(first["trigger"], "schedule");
    assert_eq!(first["outcome"], "http_status");
    assert_eq!(first["reconnected"], false);
    assert_eq!(first["responseCode"], 503);
    let excerpt = first["responseExcerpt"].as_str().unwrap();
    assert!(
        excerpt.starts_with("try later") && !excerpt.contains('\u{7}'),
        "escaped: {excerpt:?}"
    );
    assert_eq!(
        delivery["attempts"][1]["responseExcerpt"],
        Value::Null,
        "of failures only"
    );
    let listed = api.deliveries(&event).await;
    assert!(listed[0].get("attempts").is_none(), "{listed:?}");
}

#[tokio::test]
async fn every_2xx_is_success_and_nothing_else_is() {
    let setup = Setup::new().set("retry.schedule", r#"["1h"]"#);
    let daemon = setup.start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    for status in [200, 201, 202, 204, 206, 299] {
        receiver.answer(Reply::Status(status));
        let delivery = after_first_attempt(&api).await;
        assert_eq!(delivery["status"], "SUCCESS", "{status}");
        assert_eq!(delivery["responseCode"], status);
    }
    for status in [
        300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503,
    ] {
        receiver.answer(Reply::with(status, "location", &receiver.url("/elsewhere")));
        let delivery = after_first_attempt(&api).await;
        assert_eq!(delivery["status"], "RETRYING", "{status}");
        assert_eq!(
            outcomes(&delivery),
            [("http_status".to_owned(), json!(status))]
        );
    }
    let strayed = receiver
        .requests()
        .into_iter()
        .filter(|r| r.path != "/")
        .count();
    assert_eq!(strayed, 0, "redirects are not followed");
}

#[tokio::test]
async fn each_way_of_failing_has_its_outcome() {
    let setup = Setup::new()
        .set("delivery.timeout", r#""1s""#)
        .set("retry.schedule", r#"["1h"]"#)
        .set("target.allow", r#"["127.0.0.0/8", "*.invalid"]"#);
    let daemon = setup.start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let endpoint = api.endpoint(&receiver.url("/"), &["*"]).await;
    let path = format!("/v1/endpoints/{}", id(&endpoint));
    for (reply, expected) in [
        (Reply::Hang, "timeout"),
        (Reply::Drip(Duration::from_millis(300)), "timeout"),
        (Reply::Raw(b"nonsense\r\n\r\n".to_vec()), "protocol"),
        (Reply::Raw(b"HTTP/1.1 99999 X\r\n\r\n".to_vec()), "protocol"),
        (Reply::Reset, ""),
        (Reply::Close, ""),
    ] {
        receiver.answer(reply.clone());
        let delivery = after_first_attempt(&api).await;
        assert_eq!(delivery["status"], "RETRYING", "{reply:?}");
        let attempt = &delivery["attempts"][0];
        let outcome = attempt["outcome"].as_str().unwrap();
        if expected.is_empty() {
            assert!(
                ["connect", "protocol"].contains(&outcome),
                "{reply:?}: {attempt}"
            );
        } else {
            assert_eq!(outcome, expected, "{reply:?}: {attempt}");
        }
        assert_eq!(attempt["responseCode"], Value::Null, "{attempt}");
        assert!(attempt["error"].is_string(), "{attempt}");
    }
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    for (url, expected) in [
        (closed.as_str(), "connect"),
        ("https://no-such-name.invalid/", "dns"),
    ] {
        api.patch(&path, json!({"url": url})).await.expect(200);
        let delivery = after_first_attempt(&api).await;
        assert_eq!(
            delivery["attempts"][0]["outcome"], expected,
            "{url}: {delivery}"
        );
    }
}

#[tokio::test]
async fn what_is_cut_endless_or_odd_after_a_2xx_is_still_success() {
    let daemon = Setup::new()
        .set("delivery.timeout", r#""2s""#)
        .start()
        .await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    for reply in [
        Reply::EndlessBody(200),
        Reply::EndlessHeaders,
        Reply::Raw(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec()),
        Reply::CutBody(202),
        Reply::Raw(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()),
        Reply::Raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec()),
        Reply::Full(200, vec![("content-encoding", "gzip".to_owned())], b"not gzip".to_vec()),
    ] {
        receiver.answer(reply.clone());
        let delivery = after_first_attempt(&api).await;
        assert_eq!(delivery["status"], "SUCCESS", "{reply:?}: {delivery}");
    }
}

#[tokio::test]
async fn of_a_failures_body_an_excerpt_is_kept() {
    let setup = Setup::new()
        .set("retry.schedule", r#"["1h"]"#)
        .set("limits.excerpt_bytes", r#""16B""#)
        .set("delivery.timeout", r#""2s""#);
    let setup = match setup.try_start().await {
        Ok(daemon) => daemon,
        // A size may need a larger unit.
        Err(refused) => {
            let setup = refused.setup;
            setup.set("limits.excerpt_bytes", r#""1KiB""#).start().await
        }
    };
    let receiver = Receiver::answering(Reply::body(500, &"e".repeat(100_000))).await;
    let api = setup.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let delivery = after_first_attempt(&api).await;
    let excerpt = delivery["attempts"][0]["responseExcerpt"].as_str().unwrap();
    assert!(
        excerpt.starts_with("eee") && excerpt.len() <= 1100,
        "{} bytes",
        excerpt.len()
    );
    receiver.answer(Reply::EndlessBody(500));
    let delivery = after_first_attempt(&api).await;
    assert_eq!(
        outcomes(&delivery),
        [("http_status".to_owned(), json!(500))]
    );
}

#[tokio::test]
async fn the_schedule_is_kept_and_the_last_failure_abandons() {
    let setup = Setup::new().set("retry.schedule", r#"["100ms","200ms","400ms"]"#);
    let daemon = setup.start().await;
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!({"n": 1.0})).await;
    let delivery = api.delivery_when(&event, "ABANDONED").await;
    assert_eq!(delivery["attempt"], 4);
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 4);
    assert_eq!(delivery["nextAttemptAt"], Value::Null);
    let requests = receiver.wait_for(4).await;
    assert_eq!(requests.len(), 4);
    for (gap, planned) in gaps(&requests).into_iter().zip([100, 200, 400]) {
        assert!(
            gap >= planned,
            "{gap} ms, planned {planned} after the end of the attempt before"
        );
    }
    for (n, request) in requests.iter().enumerate() {
        assert_eq!(
            request.body, requests[0].body,
            "the same bytes on every attempt"
        );
        assert_eq!(request.event(), event);
        assert_eq!(request.header("x-stormcom-attempt"), (n + 1).to_string());
        assert_eq!(request.header("x-stormcom-delivery"), id(&delivery));
    }
    let stats = api.stats("").await;
    assert_eq!(stats["delivery.abandoned.count"], 1);
    assert_eq!(stats["delivery.failure.count"], 4);
}

#[tokio::test]
async fn the_default_schedule_is_shown_by_the_next_attempt() {
    let daemon = Setup::new().unset("retry.schedule").start().await;
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let delivery = after_first_attempt(&api).await;
    assert_eq!(
        (&delivery["status"], &delivery["attempt"]),
        (&json!("RETRYING"), &json!(1))
    );
    assert_eq!(delivery["waitingFor"], "schedule");
    let wait = wait_ms(&delivery);
    assert!(
        (59_000..=61_000).contains(&wait),
        "one minute from the end: {wait} ms"
    );
}

/// Returns the time from the last change of a delivery to its next attempt, in milliseconds.
fn wait_ms(delivery: &Value) -> i128 {
    let at = |field: &str| {
        let text = delivery[field]
            .as_str()
            .unwrap_or_else(|| panic!("no {field}: {delivery}"));
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap()
    };
    (at("nextAttemptAt") - at("updatedAt")).whole_milliseconds()
}

#[tokio::test]
async fn retry_after_puts_the_next_attempt_off_but_never_forward() {
    let daemon = Setup::new()
        .set("retry.schedule", r#"["10m"]"#)
        .start()
        .await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let minutes = 60_000;
    for (status, value, expected) in [
        (503, "1800", 30 * minutes),
        (429, "1800", 30 * minutes),
        (503, "1", 10 * minutes),
        (503, "999999999", 24 * 60 * minutes),
        (503, "99999999999999999999999999", 24 * 60 * minutes),
        (500, "1800", 10 * minutes),
        (503, "soon", 10 * minutes),
        (503, "-5", 10 * minutes),
        (503, "Fri, 01 Jan 2010 00:00:00 GMT", 10 * minutes),
        (503, "Tue, 01 Jan 2199 00:00:00 GMT", 24 * 60 * minutes),
    ] {
        receiver.answer(Reply::with(status, "retry-after", value));
        let wait = wait_ms(&after_first_attempt(&api).await);
        // An absurd number of seconds may be rejected as a number: either reading is correct.
        let fine = wait.abs_diff(expected) < 3_000
            || (value.len() > 20 && wait.abs_diff(10 * minutes) < 3_000 && !value.contains(','));
        assert!(
            fine,
            "{status} Retry-After: {value}: {wait} ms, not {expected}"
        );
    }
}

#[tokio::test]
async fn jitter_only_ever_adds_up_to_its_share() {
    let setup = Setup::new()
        .set("retry.schedule", r#"["10m"]"#)
        .set("retry.jitter", "0.1");
    let daemon = setup.start().await;
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let mut waits = Vec::new();
    for _ in 0..20 {
        waits.push(wait_ms(&after_first_attempt(&api).await));
    }
    assert!(
        waits.iter().all(|wait| (599_000..=662_000).contains(wait)),
        "{waits:?}"
    );
    let spread = waits.iter().max().unwrap() - waits.iter().min().unwrap();
    assert!(spread > 5_000, "they differ: {waits:?}");
}

#[tokio::test]
async fn deliveries_are_listed_by_what_they_are() {
    let daemon = Setup::new()
        .set("retry.schedule", r#"["1h"]"#)
        .start()
        .await;
    let good = Receiver::start().await;
    let bad = Receiver::answering(Reply::Status(500)).await;
    let api = daemon.client();
    let good_id = id(&api.endpoint(&good.url("/"), &["*"]).await);
    let bad_id = id(&api.endpoint(&bad.url("/"), &["order.*"]).await);
    let order = api.event("order.created", json!(1)).await;
    let invoice = api.event("invoice.paid", json!(1)).await;
    until("all three attempts are done", async || {
        let all = api.all("/v1/deliveries").await;
        (all.len() == 3 && all.iter().all(|d| d["status"] != "PENDING")).then_some(())
    })
    .await;
    for (query, expected) in [
        (format!("endpointId={good_id}"), 2),
        (format!("endpointId={bad_id}"), 1),
        ("status=SUCCESS".to_owned(), 2),
        ("status=RETRYING".to_owned(), 1),
        ("status=ABANDONED".to_owned(), 0),
        ("eventType=order.created".to_owned(), 2),
        (format!("eventId={order}"), 2),
        (format!("eventId={invoice}&status=SUCCESS"), 1),
        (format!("endpointId={bad_id}&status=SUCCESS"), 0),
        ("until=2020-01-01T00:00:00Z".to_owned(), 0),
        ("since=2020-01-01T00:00:00Z".to_owned(), 3),
    ] {
        let all = api.all(&format!("/v1/deliveries?limit=1&{query}")).await;
        assert_eq!(all.len(), expected, "{query}: {all:?}");
    }
    api.get("/v1/deliveries?status=LOST")
        .await
        .problem_in(400, "invalid_field", "status");
    api.get("/v1/deliveries?state=x")
        .await
        .problem_in(400, "unknown_field", "state");
    for id in ["dlv_x", "dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV", "x"] {
        api.get(&format!("/v1/deliveries/{id}"))
            .await
            .problem(404, "not_found");
        let retry = api
            .post(&format!("/v1/deliveries/{id}/retry"), json!({}))
            .await;
        retry.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_manual_retry_of_an_open_delivery_leaves_its_schedule_as_it_was() {
    let daemon = Setup::new()
        .set("retry.schedule", r#"["1h","2h"]"#)
        .start()
        .await;
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let before = after_first_attempt(&api).await;
    let retry = format!("/v1/deliveries/{}/retry", id(&before));
    api.call("POST", &retry).send().await.expect(200);
    receiver.wait_for(2).await;
    let after = until("the extra attempt is recorded", async || {
        let delivery = api.delivery(&id(&before)).await;
        (delivery["attempts"].as_array().unwrap().len() == 2).then_some(delivery)
    })
    .await;
    assert_eq!(after["attempts"][1]["trigger"], "manual");
    assert_eq!(after["attempts"][1]["round"], 1);
    assert_eq!(after["attempt"], before["attempt"]);
    assert_eq!(after["nextAttemptAt"], before["nextAttemptAt"]);
    receiver.answer(Reply::Status(200));
    api.post(&retry, json!({})).await.expect(200);
    let done = api
        .delivery_when(before["eventId"].as_str().unwrap(), "SUCCESS")
        .await;
    assert_eq!(done["attempts"].as_array().unwrap().len(), 3);
    assert_eq!(
        receiver.wait_for(3).await[2].header("x-stormcom-attempt"),
        "3"
    );
}

#[tokio::test]
async fn a_retry_of_an_ended_delivery_is_a_new_round_of_the_whole_schedule() {
    let daemon = Setup::new()
        .set("retry.schedule", r#"["20ms"]"#)
        .start()
        .await;
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!(1)).await;
    let ended = api.delivery_when(&event, "ABANDONED").await;
    api.post(&format!("/v1/deliveries/{}/retry", id(&ended)), json!({}))
        .await
        .expect(200);
    receiver.wait_for(4).await;
    let again = until("the second round ends", async || {
        let delivery = api.delivery_of(&event).await;
        let all = delivery["attempts"].as_array().unwrap().len() == 4;
        (all && delivery["status"] == "ABANDONED").then_some(delivery)
    })
    .await;
    let rounds: Vec<_> = again["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["round"].clone())
        .collect();
    assert_eq!(rounds, [json!(1), json!(1), json!(2), json!(2)]);
    assert_eq!(again["attempt"], 2, "of the current round");
    assert_eq!(again["sequence"], ended["sequence"]);
}

#[tokio::test]
async fn an_attempt_on_the_wire_can_be_neither_doubled_nor_hidden() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(Reply::held(200)).await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!(1)).await;
    receiver.wait_for(1).await;
    let delivery = api.delivery_of(&event).await;
    assert_eq!(delivery["status"], "PENDING");
    assert_eq!(delivery["attempt"], 1);
    assert_eq!(delivery["waitingFor"], "in_flight");
    let path = format!("/v1/deliveries/{}", id(&delivery));
    api.post(&format!("{path}/retry"), json!({}))
        .await
        .problem(409, "delivery_in_flight");
    assert_eq!(api.stats("").await["queue.in_flight"], 1);
    receiver.release(1);
    let ended = api.delivery_when(&event, "SUCCESS").await;
    assert_eq!(ended["waitingFor"], Value::Null);
    api.post(&format!("{path}/cancel"), json!({}))
        .await
        .problem(409, "delivery_ended");
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn a_cancelled_delivery_is_not_attempted_again() {
    let daemon = Setup::new()
        .set("retry.schedule", r#"["200ms"]"#)
        .start()
        .await;
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let open = after_first_attempt(&api).await;
    let path = format!("/v1/deliveries/{}/cancel", id(&open));
    let cancelled = api.call("POST", &path).send().await.expect(200);
    assert_eq!(
        (&cancelled["status"], &cancelled["reason"]),
        (&json!("FAILED"), &json!("cancelled"))
    );
    api.post(&path, json!({}))
        .await
        .problem(409, "delivery_ended");
    // A later event's own retry comes after the time when the cancelled one was due.
    let later = api.event("a.b", json!(2)).await;
    api.delivery_when(&later, "ABANDONED").await;
    let again = receiver
        .requests()
        .into_iter()
        .filter(|r| open["eventId"] == r.event())
        .count();
    assert_eq!(again, 1);
}

#[tokio::test]
async fn attempts_are_streamed_as_they_finish() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    receiver.script([Reply::Status(500)]);
    let api = daemon.client();
    let one = api.endpoint(&receiver.url("/one"), &["one.*"]).await;
    api.endpoint(&receiver.url("/two"), &["two.*"]).await;
    let mut all = api.follow("/v1/attempts/stream").await;
    let path = format!("/v1/attempts/stream?endpointId={}", id(&one));
    let mut of_one = api.follow(&path).await;
    let first = api.event("one.a", json!(1)).await;
    for outcome in ["http_status", "success"] {
        for stream in [&mut all, &mut of_one] {
            let (_, data) = stream.next_sse().await;
            assert!(data.contains(&first) && data.contains(outcome), "{data}");
        }
    }
    let second = api.event("two.a", json!(1)).await;
    assert!(all.next_sse().await.1.contains(&second));
    let third = api.event("one.a", json!(1)).await;
    assert!(
        of_one.next_sse().await.1.contains(&third),
        "of the other endpoint nothing came"
    );
}

#[tokio::test]
async fn a_partner_behind_tls_is_reached_over_http1_and_http2() {
    let tls = Tls::for_names(&["127.0.0.1"]);
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), &tls.root).unwrap();
    let setup = Setup::new().set("tls.extra_roots", &format!("{:?}", roots.path()));
    let daemon = match setup.try_start().await {
        Ok(daemon) => daemon,
        // It may be a list of files.
        Err(refused) => {
            let list = format!("[{:?}]", roots.path());
            refused.setup.set("tls.extra_roots", &list).start().await
        }
    };
    let api = daemon.client();
    for protocols in [&["http/1.1"][..], &["h2", "http/1.1"]] {
        let receiver = Receiver::tls(&tls, protocols).await;
        let made = api
            .endpoint(&receiver.url("/"), &[&format!("p.{}", protocols.len())])
            .await;
        for n in 0..3 {
            let event = api.event(&format!("p.{}", protocols.len()), json!(n)).await;
            api.delivery_when(&event, "SUCCESS").await;
        }
        let requests = receiver.wait_for(3).await;
        assert!(
            requests.iter().all(|r| r.http2 == (protocols.len() == 2)),
            "{requests:?}"
        );
        assert_eq!(receiver.connections(), 1, "the connection is kept");
        crate::support::verify(&requests[2], &[made["secret"].as_str().unwrap()]);
    }
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_or_for_another_name_is_refused() {
    let trusted = Tls::for_names(&["partner.example"]);
    let stranger = Tls::for_names(&["127.0.0.1"]);
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), &trusted.root).unwrap();
    let setup = Setup::new()
        .set("tls.extra_roots", &format!("{:?}", roots.path()))
        .set("retry.schedule", r#"["1h"]"#);
    let daemon = match setup.try_start().await {
        Ok(daemon) => daemon,
        Err(refused) => {
            let list = format!("[{:?}]", roots.path());
            refused.setup.set("tls.extra_roots", &list).start().await
        }
    };
    let api = daemon.client();
    for (n, tls) in [trusted, stranger].iter().enumerate() {
        let receiver = Receiver::tls(tls, &["h2", "http/1.1"]).await;
        let kind = format!("kind.{n}");
        api.endpoint(&receiver.url("/"), &[&kind]).await;
        let event = api.event(&kind, json!(1)).await;
        let delivery = api.delivery_when(&event, "RETRYING").await;
        assert_eq!(delivery["attempts"][0]["outcome"], "tls", "{delivery}");
        assert_eq!(receiver.count(), 0, "nothing of the event was sent");
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_delivery_and_not_longer_than_its_keep_alive() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    for n in 0..5 {
        let event = api.event("a.b", json!(n)).await;
        api.delivery_when(&event, "SUCCESS").await;
    }
    assert_eq!(receiver.connections(), 1);
    receiver.answer(Reply::with(200, "connection", "close"));
    for n in 0..2 {
        let event = api.event("a.b", json!(n)).await;
        api.delivery_when(&event, "SUCCESS").await;
    }
    assert_eq!(
        receiver.connections(),
        2,
        "a connection that the receiver closes is not reused"
    );
}

#[tokio::test]
async fn sigterm_drains_records_what_it_cut_and_exits_0() {
    let mut daemon = Setup::new()
        .set("delivery.timeout", r#""60s""#)
        .start()
        .await;
    let receiver = Receiver::answering(Reply::Hang).await;
    let api = daemon.client();
    let endpoint = api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!(1)).await;
    receiver.wait_for(1).await;
    let status = tokio::time::timeout(Duration::from_secs(15), daemon.stop()).await;
    assert!(status.expect("within 10 s and some grace").success());
    receiver.answer(Reply::Status(200));
    daemon.start_again().await;
    let api = daemon.client();
    let delivery = api.delivery_when(&event, "SUCCESS").await;
    let outcomes: Vec<_> = outcomes(&delivery)
        .into_iter()
        .map(|(outcome, _)| outcome)
        .collect();
    assert_eq!(outcomes, ["interrupted", "success"]);
    assert_eq!(
        delivery["attempt"], 1,
        "it uses up no place in the schedule"
    );
    assert_eq!(receiver.count(), 2);
    let stats = api.stats("?window=all").await;
    assert_eq!(stats["delivery.failure.count"], 0, "it is no failure");
    let shown = api
        .get(&format!("/v1/endpoints/{}", id(&endpoint)))
        .await
        .expect(200);
    assert_eq!(shown["failureCount"], 0);
}

#[tokio::test]
async fn sigterm_lets_an_attempt_finish_that_can() {
    let mut daemon = Daemon::start().await;
    let receiver = Receiver::answering(Reply::held(200)).await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!(1)).await;
    receiver.wait_for(1).await;
    daemon.terminate();
    until("the daemon no longer takes events", async || {
        let body = json!({"organizationId": "org_1", "type": "a.b", "data": 2});
        match api.call("POST", "/v1/events").json(body).try_send().await {
            Ok(answer) if answer.status == 202 => None,
            Ok(answer) => {
                answer.problem(503, "shutting_down");
                Some(())
            }
            Err(_) => Some(()),
        }
    })
    .await;
    receiver.release(10);
    assert!(daemon.ended().await.success());
    daemon.start_again().await;
    let delivery = daemon.client().delivery_of(&event).await;
    assert_eq!(delivery["status"], "SUCCESS", "{delivery}");
}

#[tokio::test]
async fn retries_that_were_due_go_on_after_kill() {
    let mut daemon = Setup::new()
        .set("retry.schedule", r#"["300ms","300ms"]"#)
        .start()
        .await;
    let receiver = Receiver::answering(Reply::Status(500)).await;
    let event = {
        let api = daemon.client();
        api.endpoint(&receiver.url("/"), &["*"]).await;
        let event = api.event("a.b", json!({"x": 1.50})).await;
        api.delivery_when(&event, "RETRYING").await;
        event
    };
    daemon.kill().await;
    receiver.answer(Reply::Status(200));
    daemon.start_again().await;
    let delivery = daemon.client().delivery_when(&event, "SUCCESS").await;
    assert_eq!(delivery["attempt"], 2);
    let requests = receiver.requests();
    assert_eq!(requests[0].body, requests[1].body);
}

#[tokio::test]
async fn an_endless_stream_of_slow_readers_is_told_what_it_missed() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let slow = api.follow("/v1/attempts/stream").await;
    let text: String = (0..3000)
        .map(|n| json!({"organizationId": "org_1", "type": "a.b", "data": n}).to_string() + "\n")
        .collect();
    api.batch(&text).await;
    receiver.wait_for(3000).await;
    // The lag was bounded: the daemon works, and so does a new follower.
    let mut fresh = api.follow("/v1/attempts/stream").await;
    let event = api.event("a.b", json!("fresh")).await;
    within("a fresh reader sees it", async {
        while !fresh.next_sse().await.1.contains(&event) {}
    })
    .await;
    drop(slow);
}

/// A recovery that waits for room doesn't affect what ends meanwhile.
#[tokio::test]
async fn a_delivery_cancelled_while_a_recovery_waits_for_room_is_not_sent_again() {
    let setup = Setup::new()
        .set("retry.schedule", r#"["1h"]"#)
        .set("limits.pending_deliveries", "7");
    let daemon = setup.start().await;
    let (partner, other) = (Receiver::start().await, Receiver::start().await);
    let api = daemon.client();
    let endpoint = api.endpoint(&partner.url("/"), &["a.*"]).await;
    let others = api.endpoint(&other.url("/"), &["b.*"]).await;
    partner.answer(Reply::Status(503));
    other.answer(Reply::Status(503));
    let cancel = async |delivery: &Value| {
        let path = format!("/v1/deliveries/{}/cancel", id(delivery));
        api.post(&path, "").await.expect(200)
    };
    let mut ended = Vec::new();
    for n in 0..3 {
        let event = api.event("a.b", json!(n)).await;
        let delivery = api.delivery_when(&event, "RETRYING").await;
        assert_eq!(cancel(&delivery).await["status"], "FAILED");
        ended.push(event);
    }
    for n in 0..3 {
        let event = api.event("b.b", json!(n)).await;
        api.delivery_when(&event, "RETRYING").await;
    }
    let mut open = Vec::new();
    for n in 0..4 {
        let event = api.event("a.c", json!(n)).await;
        open.push(api.delivery_when(&event, "RETRYING").await);
    }
    let recover = format!("/v1/endpoints/{}/recover", id(&endpoint));
    let asked = json!({"since": "2020-01-01T00:00:00Z"});
    assert_eq!(api.post(&recover, asked).await.expect(202)["recovered"], 3);
    // After each of these there is room for one round of the recovery.
    partner.answer(Reply::Status(200));
    for delivery in &open {
        let told = cancel(delivery).await;
        assert_eq!(
            (&told["status"], &told["reason"]),
            (&json!("FAILED"), &json!("cancelled"))
        );
    }
    api.delete(&format!("/v1/endpoints/{}", id(&others)))
        .await
        .expect(204);
    for event in &ended {
        let delivery = api.delivery_when(event, "SUCCESS").await;
        assert_eq!(delivery["attempts"][1]["trigger"], "replay");
    }
    for delivery in &open {
        let delivery = api.delivery(&id(delivery)).await;
        assert_eq!(delivery["status"], "FAILED");
        assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1);
    }
    assert_eq!(partner.count(), 3 + 4 + 3);
}
