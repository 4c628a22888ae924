//! `GET /v1/openapi.json`: the document is valid, and the daemon accepts and returns what it describes. Every other
//! response in these tests is checked against it where it arrives.

use crate::support::{Client, Daemon, Receiver, Reply, document};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

/// Returns a path with its placeholders replaced by ids that don't exist.
fn filled(path: &str) -> String {
    path.replace("{id}", "nothing")
}

/// Returns the names that a refusal of an unknown one lists as known.
fn known(problem: &Value) -> BTreeSet<String> {
    let detail = problem["detail"].as_str().unwrap();
    let list = detail
        .split_once("Known fields: ")
        .and_then(|(_, rest)| rest.split_once('.'));
    match list {
        Some((names, _)) => names.split(", ").map(str::to_owned).collect(),
        None => {
            assert!(detail.contains("takes none"), "{detail}");
            BTreeSet::new()
        }
    }
}

#[tokio::test]
async fn every_schema_is_one_and_its_examples_fit_it() {
    let _daemon = Daemon::start().await;
    let document = document();
    assert_eq!(document.json()["openapi"], "3.1.0");
    let schemas = document.json()["components"]["schemas"]
        .as_object()
        .unwrap();
    let mut examples = 0;
    for (name, schema) in schemas {
        assert!(jsonschema::meta::is_valid(schema), "{name}");
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        for example in schema["examples"].as_array().into_iter().flatten() {
            document.fits(&reference, example, name);
            examples += 1;
        }
    }
    assert!(examples > 15, "{examples}");
}

#[tokio::test]
async fn a_body_has_the_fields_that_are_described_and_no_others() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let mut bodies = 0;
    for (method, path, operation) in document().operations() {
        let content = &operation["requestBody"]["content"]["application/json"];
        if content.is_null() {
            continue;
        }
        bodies += 1;
        let schema = document().resolved(&content["schema"]);
        let properties = schema["properties"].as_object().into_iter().flatten();
        let described: BTreeSet<String> = properties.map(|(name, _)| name.clone()).collect();
        let call = api.call(&method, &filled(&path));
        let answer = call.json(json!({"nobodyKnowsThis": 1})).send().await;
        let problem = answer.problem_in(400, "unknown_field", "nobodyKnowsThis");
        assert_eq!(known(&problem), described, "{method} {path}");
        // A required field that is missing is refused by name; a missing optional one is not.
        for required in schema["required"].as_array().into_iter().flatten() {
            let mut example = schema["examples"][0].clone();
            example
                .as_object_mut()
                .unwrap()
                .remove(required.as_str().unwrap());
            let call = api.call(&method, &filled(&path));
            call.json(example).send().await.problem_in(
                400,
                "invalid_field",
                required.as_str().unwrap(),
            );
        }
        // Whether there may be none at all.
        let bare = api.call(&method, &filled(&path)).send().await;
        let required = operation["requestBody"]["required"] == true;
        assert_eq!(bare.status == 415, required, "{method} {path}: {bare:?}");
    }
    assert_eq!(bodies, 15);
    let events = "{\"nobodyKnowsThis\":1}\n";
    let line = api.batch(events).await.remove(0);
    let event = &document().json()["components"]["schemas"]["NewEvent"]["properties"];
    let described = event.as_object().unwrap().keys().cloned().collect();
    assert_eq!(known(&line["problem"]), described, "a line of a batch");
}

#[tokio::test]
async fn a_query_has_the_parameters_that_are_described_and_no_others() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    for (method, path, operation) in document().operations() {
        let parameters = operation["parameters"].as_array();
        let described: BTreeSet<String> = parameters
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        let asked = format!("{}?nobodyKnowsThis=1", filled(&path));
        let call = api
            .call(&method, &asked)
            .header("content-type", "application/json");
        let problem = call
            .send()
            .await
            .problem_in(400, "unknown_field", "nobodyKnowsThis");
        assert_eq!(known(&problem), described, "{method} {path}");
    }
}

#[tokio::test]
async fn the_methods_of_a_route_are_those_that_it_allows() {
    let daemon = Daemon::start().await;
    let mut described = std::collections::BTreeMap::<String, BTreeSet<String>>::new();
    for (method, path, _) in document().operations() {
        let methods = described.entry(path).or_default();
        if method == "GET" {
            methods.insert("HEAD".to_owned());
        }
        methods.insert(method);
    }
    for (path, methods) in described {
        let answer = daemon.client().call("PUT", &filled(&path)).send().await;
        answer.problem(405, "method_not_allowed");
        let allowed = answer.header("allow").unwrap();
        let allowed: BTreeSet<_> = allowed.split(',').map(|m| m.trim().to_owned()).collect();
        assert_eq!(allowed, methods, "{path}");
    }
}

/// The bounds in a description are the real ones.
#[tokio::test]
async fn a_limit_is_what_is_described() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    for (method, path, operation) in document().operations() {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            let schema = document().resolved(&parameter["schema"]);
            let ask = async |value: &str| {
                let target = format!("{path}?{name}={value}");
                api.call(&method, &target).send().await
            };
            if let (Some(least), Some(most)) =
                (schema["minimum"].as_u64(), schema["maximum"].as_u64())
            {
                for right in [least, most] {
                    ask(&right.to_string()).await.expect_ok();
                }
                for wrong in [least - 1, most + 1] {
                    ask(&wrong.to_string())
                        .await
                        .problem_in(400, "invalid_field", name);
                }
            }
            for word in schema["enum"].as_array().into_iter().flatten() {
                ask(word.as_str().unwrap()).await.expect_ok();
            }
            if schema["enum"].is_array() || schema["type"] == "boolean" {
                ask("nonsense").await.problem_in(400, "invalid_field", name);
            }
        }
    }
}

#[tokio::test]
async fn every_operation_answers_as_it_is_described() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let receiver = Receiver::start().await;
    receiver.script([Reply::body(500, "broken")]);
    let mut stream = api.follow("/v1/attempts/stream").await;
    let made = endpoints(&api, &receiver.url("/")).await;
    let (event, delivery) = deliveries(&api, &made, &receiver).await;
    let (name, data) = stream.next_sse().await;
    assert_eq!(name, "attempt");
    let told: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(told["deliveryId"], delivery["id"], "{told}");
    assert_eq!(
        (&told["eventId"], &told["status"]),
        (&json!(event), &json!("RETRYING"))
    );
    assert_eq!(
        (&told["attempt"], &told["sequence"]),
        (&json!(1), &delivery["sequence"])
    );
    assert_eq!(
        (&told["outcome"], &told["responseExcerpt"]),
        (&json!("http_status"), &json!("broken"))
    );
    let endpoint = format!("?endpointId={}", id(&made));
    for query in ["", "?window=all", &endpoint, "?organizationId=org_1"] {
        api.stats(query).await;
    }
    let report = api.post("/v1/check", json!({})).await.expect(200);
    assert!(report["storedBytes"].as_u64().unwrap() > 0, "{report}");
    api.call("POST", "/v1/backup").send().await.expect_ok();
    api.post("/v1/token/rotate", json!({})).await.expect_ok();
    for path in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/v1/openapi.json",
        "/v1/cluster",
        "/v1/secrets",
    ] {
        api.get(path).await.expect_ok();
    }
    // They are not encrypted.
    let plain = json!({"newKeyFile": null});
    api.post("/v1/secrets/rekey", plain).await.expect(202);
    received(&receiver);
    let purge = json!({"organizationId": "org_1", "eventIds": [event]});
    api.post("/v1/events/purge", purge).await.expect(202);
    api.delete("/v1/organizations/org_3").await.expect(202);
    let body = json!({"name": "orders", "scopes": ["ingest"]});
    let key = api.post("/v1/keys", body).await.expect(201);
    api.delete(&format!("/v1/keys/{}", id(&key)))
        .await
        .expect(200);
    for list in ["/v1/keys", "/v1/audit"] {
        api.get(list).await.expect(200);
    }
    let body = json!({"organizationId": "org_2", "url": receiver.url("/"), "eventTypes": ["*"]});
    for status in [201, 200] {
        let call = api
            .call("POST", "/v1/endpoints")
            .header("idempotency-key", "k");
        call.json(body.clone()).send().await.expect(status);
    }
    api.delete(&format!("/v1/endpoints/{}", id(&made)))
        .await
        .expect(204);
    let seen = document().seen();
    for (_, _, operation) in document().operations() {
        let name = operation["operationId"].as_str().unwrap();
        let told = operation["responses"].as_object().unwrap().keys();
        for status in told.filter(|status| status.starts_with('2')) {
            let answered = seen.contains(&format!("{name} {status}"));
            assert!(
                answered || name == "streamAttempts",
                "{name} {status} was never answered"
            );
        }
    }
}

/// The requests that a receiver got are as described.
fn received(receiver: &Receiver) {
    let webhook = &document().json()["webhooks"]["delivery"]["post"];
    let schema = &webhook["requestBody"]["content"]["application/json"]["schema"];
    let headers = webhook["parameters"].as_array().unwrap();
    let names: Vec<_> = headers
        .iter()
        .map(|header| header["name"].as_str().unwrap())
        .collect();
    for request in receiver.requests() {
        document().fits(schema, &request.json(), "a delivery");
        for name in &names {
            assert!(!request.header(name).is_empty(), "{name}");
        }
    }
}

async fn endpoints(api: &Client, url: &str) -> Value {
    let more = json!({"description": "x", "headers": {"x-api-key": "k"}, "rateLimitPerSecond": 1000.5, "ordering": "fifo"});
    let made = api.endpoint_with(url, &["order.*", "a.b"], more).await;
    let path = format!("/v1/endpoints/{}", id(&made));
    api.get(&path).await.expect(200);
    api.get("/v1/endpoints?organizationId=org_1&active=true&limit=1")
        .await
        .expect(200);
    let cleared = json!({"description": null, "headers": null, "rateLimitPerSecond": null, "ordering": "parallel"});
    api.patch(&path, cleared).await.expect(200);
    api.post(&format!("{path}/rotate-secret"), json!({"overlap": "1h"}))
        .await
        .expect(200);
    let secrets = api.get(&format!("{path}/secret")).await.expect(200);
    assert_eq!(
        secrets["previous"].as_array().unwrap().len(),
        1,
        "{secrets}"
    );
    made
}

/// Sends an event that fails once and then succeeds, and runs every query on it. Returns its id and its delivery.
async fn deliveries(api: &Client, made: &Value, receiver: &Receiver) -> (String, Value) {
    let body = json!({"organizationId": "org_1", "type": "order.created", "data": {"n": 1.50},
        "timestamp": "2026-01-02T04:04:05.6789+01:00", "idempotencyKey": "k"});
    let event = id(&api.post("/v1/events", body.clone()).await.expect(202));
    api.post("/v1/events", body).await.expect(200);
    let delivery = api.delivery_when(&event, "SUCCESS").await;
    assert_eq!(
        delivery["attempts"].as_array().unwrap().len(),
        2,
        "{delivery}"
    );
    let line =
        json!({"organizationId": "org_1", "type": "b.c", "data": null, "idempotencyKey": "l"});
    let answers = api.batch(&format!("{line}\n{line}\n[]\n")).await;
    let became: Vec<_> = answers.iter().map(|answer| &answer["status"]).collect();
    assert_eq!(became, ["accepted", "replayed", "rejected"]);
    api.get(&format!("/v1/events/{event}")).await.expect(200);
    api.get("/v1/events?organizationId=org_1&limit=1")
        .await
        .expect(200);
    api.get(&format!("/v1/events/{event}/explain"))
        .await
        .expect(200);
    api.get(&format!(
        "/v1/deliveries?endpointId={}&status=SUCCESS",
        id(made)
    ))
    .await
    .expect(200);
    let replay = json!({"endpointId": made["id"]});
    api.post(&format!("/v1/events/{event}/replay"), replay)
        .await
        .expect(200);
    api.delivery_when(&event, "SUCCESS").await;
    let one = format!("/v1/deliveries/{}", id(&delivery));
    api.post(&format!("{one}/retry"), json!({}))
        .await
        .expect(200);
    api.delivery_when(&event, "SUCCESS").await;
    let path = format!("/v1/endpoints/{}", id(made));
    api.post(&format!("{path}/test"), json!({}))
        .await
        .expect(200);
    api.post(
        &format!("{path}/recover"),
        json!({"missed": true, "dryRun": true}),
    )
    .await
    .expect(202);
    cancelled(api, &path, receiver).await;
    (event, delivery)
}

/// Cancels a waiting delivery: its endpoint was disabled while a failing attempt was on the wire.
async fn cancelled(api: &Client, endpoint: &str, receiver: &Receiver) {
    receiver.answer(Reply::held(503));
    let before = receiver.count();
    let event = api.event("a.b", json!(1)).await;
    receiver.wait_for(before + 1).await;
    api.patch(endpoint, json!({"active": false}))
        .await
        .expect(200);
    receiver.release(1);
    let delivery = api.delivery_when(&event, "RETRYING").await;
    let cancel = format!("/v1/deliveries/{}/cancel", id(&delivery));
    let cancelled = api.post(&cancel, json!({})).await.expect(200);
    assert_eq!(cancelled["reason"], "cancelled", "{cancelled}");
}
