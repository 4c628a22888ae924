//! Privacy: purges of events, deleted organizations, the export of one organization, and answers that are not kept.

use crate::support::{Client, Daemon, Receiver, Reply, Setup, until};
use serde_json::{Value, json};
use std::path::Path;

const PERSONAL: &str = "jane.doe@partner.example";

/// A daemon whose receiver answers 500 and repeats what it was sent. Nothing changes by itself after the first attempts.
async fn started() -> (Daemon, Receiver) {
    let setup = Setup::new().set("retry.schedule", r#"["1h"]"#);
    let daemon = setup.start().await;
    let receiver = Receiver::start().await;
    receiver.answer_by(|sent| Reply::body(500, sent.text()));
    (daemon, receiver)
}

async fn endpoint(api: &Client, receiver: &Receiver, organization: &str) -> String {
    let body =
        json!({"organizationId": organization, "url": receiver.url("/"), "eventTypes": ["*"]});
    let made = api.post("/v1/endpoints", body).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

/// Sends an event, and returns it once its attempt has failed.
async fn failed(api: &Client, organization: &str) -> String {
    let body = json!({"organizationId": organization, "type": "a.b", "data": {"of": PERSONAL}});
    let event = api.post("/v1/events", body).await.expect(202);
    let event = event["id"].as_str().unwrap().to_owned();
    api.delivery_when(&event, "RETRYING").await;
    event
}

/// All that the API says of an event and its deliveries.
async fn said(api: &Client, event: &str, organization: &str) -> String {
    let mut all = String::new();
    for path in [
        format!("/v1/events/{event}"),
        format!("/v1/events?organizationId={organization}"),
        "/v1/events".to_owned(),
        format!("/v1/deliveries?eventId={event}"),
        "/v1/deliveries".to_owned(),
        format!("/v1/events/{event}/explain"),
        "/v1/audit".to_owned(),
    ] {
        all.push_str(&api.get(&path).await.text());
    }
    for delivery in api.deliveries(event).await {
        let id = delivery["id"].as_str().unwrap();
        all.push_str(&api.get(&format!("/v1/deliveries/{id}")).await.text());
    }
    all
}

async fn exported(setup: &Setup, arguments: &[&str]) -> String {
    let all: Vec<&str> = ["export"].iter().chain(arguments).copied().collect();
    let output = setup.run(&all).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether the bytes are in a store, in its packs too, which are compressed.
fn holds(store: &Path, personal: &str) -> bool {
    let file = std::fs::read(store).unwrap();
    let has = |bytes: &[u8]| {
        bytes
            .windows(personal.len())
            .any(|found| found == personal.as_bytes())
    };
    const FRAME: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let frames = file.windows(4).enumerate();
    let frames = frames
        .filter(|(_, found)| *found == FRAME)
        .map(|(at, _)| at);
    let packed = |at: usize| {
        let mut unpacked = Vec::new();
        // What follows the frame is not part of it.
        let decoder = zstd::stream::read::Decoder::new(&file[at..]).unwrap();
        let _end = std::io::copy(&mut decoder.single_frame(), &mut unpacked);
        unpacked
    };
    has(&file) || frames.into_iter().any(|at| has(&packed(at)))
}

#[tokio::test]
async fn what_was_purged_is_in_no_answer_at_once_and_in_no_file_afterwards() {
    let (mut daemon, receiver) = started().await;
    let api = daemon.client();
    endpoint(&api, &receiver, "org_1").await;
    let (event, other) = (failed(&api, "org_1").await, failed(&api, "org_1").await);
    assert!(said(&api, &event, "org_1").await.contains(PERSONAL));
    let body = json!({"organizationId": "org_1", "eventIds": [event, other]});
    let purge = api.post("/v1/events/purge", body).await.expect(202);
    let expected = json!({"organizationId": "org_1", "eventIds": [event, other], "before": null});
    assert_eq!(purge, expected);
    for event in [&event, &other] {
        let said = said(&api, event, "org_1").await;
        assert!(!said.contains(PERSONAL), "{said}");
        let shown = api.get(&format!("/v1/events/{event}")).await.expect(200);
        assert_eq!(shown["data"], Value::Null);
    }
    let delivery = api.delivery_when(&event, "FAILED").await;
    assert_eq!(delivery["reason"], "purged");
    let delivery = api.delivery(delivery["id"].as_str().unwrap()).await;
    assert_eq!(delivery["attempts"][0]["responseExcerpt"], Value::Null);
    let path = format!("/v1/deliveries/{}/retry", delivery["id"].as_str().unwrap());
    api.post(&path, json!({})).await.problem(404, "not_found");
    let audit = api.get("/v1/audit?limit=1").await.expect(200);
    assert_eq!(audit["data"][0]["action"], "event.purge");
    assert_eq!(audit["data"][0]["after"]["eventIds"], json!([event, other]));
    api.delivery_when(&other, "FAILED").await;
    until("the purge ends", async || {
        daemon
            .log()
            .contains("is removed; earlier bytes")
            .then_some(())
    })
    .await;
    assert_eq!(receiver.count(), 2);
    daemon.stop().await;
    let store = daemon.setup.data_dir().join("stormhook.redb");
    let data_dir = daemon.setup.data_dir().display().to_string();
    let lines = exported(&daemon.setup, &["--data-dir", &data_dir]).await;
    assert!(!lines.contains(PERSONAL), "{lines}");
    let compacted = daemon
        .setup
        .run(&["compact", "--data-dir", &data_dir])
        .await;
    assert!(compacted.status.success(), "{compacted:?}");
    assert!(!holds(&store, PERSONAL));
}

#[tokio::test]
async fn a_purged_event_is_not_sent_and_one_on_the_wire_is_finished() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    receiver.answer(Reply::held(200));
    let api = daemon.client();
    let fifo = json!({"ordering": "fifo"});
    api.endpoint_with(&receiver.url("/"), &["*"], fifo).await;
    let on_the_wire = api.event("a.b", json!({"n": 1})).await;
    receiver.wait_for(1).await;
    // They wait for the first one.
    let (waiting, kept) = (
        api.event("a.b", json!({"n": 2})).await,
        api.event("a.b", json!({"n": 3})).await,
    );
    let body = json!({"organizationId": "org_1", "eventIds": [on_the_wire, waiting]});
    api.post("/v1/events/purge", body).await.expect(202);
    let ended = api.delivery_when(&waiting, "FAILED").await;
    assert_eq!(ended["reason"], "purged");
    receiver.release(1);
    api.delivery_when(&on_the_wire, "SUCCESS").await;
    receiver.wait_for(2).await;
    receiver.release(1);
    api.delivery_when(&kept, "SUCCESS").await;
    let sent: Vec<String> = receiver.requests().iter().map(|r| r.event()).collect();
    assert_eq!(sent, [on_the_wire.as_str(), kept.as_str()]);
    let event = api.get(&format!("/v1/events/{on_the_wire}")).await;
    assert_eq!(event.expect(200)["data"], Value::Null);
}

#[tokio::test]
async fn personal_data_is_found_in_a_file_that_holds_it() {
    let (mut daemon, receiver) = started().await;
    let api = daemon.client();
    endpoint(&api, &receiver, "org_1").await;
    failed(&api, "org_1").await;
    daemon.stop().await;
    assert!(holds(
        &daemon.setup.data_dir().join("stormhook.redb"),
        PERSONAL
    ));
}

#[tokio::test]
async fn a_deleted_organization_is_in_no_answer_and_its_neighbour_stays() {
    let (daemon, receiver) = started().await;
    let api = daemon.client();
    let of_org = endpoint(&api, &receiver, "org_1").await;
    endpoint(&api, &receiver, "org_2").await;
    let (event, other) = (failed(&api, "org_1").await, failed(&api, "org_2").await);
    let key = json!({"name": "x", "organizationId": "org_1", "scopes": ["read"]});
    let key = api.post("/v1/keys", key).await.expect(201);
    let token = key["key"].as_str().unwrap().to_owned();
    let customer = Client::tcp(daemon.address(), Some(token));
    customer.get("/v1/events").await.expect(200);
    let socket = daemon.setup.socket().display().to_string();
    let delete = ["organization", "delete", "org_1", "--socket", &socket];
    let output = daemon.setup.run(&delete).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    api.get(&format!("/v1/events/{event}")).await.expect(200);
    let delete = delete.into_iter().chain(["--yes", "--json"]);
    let delete: Vec<&str> = delete.collect();
    let output = daemon.setup.run(&delete).await;
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!({"organizationId": "org_1", "endpoints": 1, "apiKeys": 1});
    assert_eq!(told, expected);
    customer
        .get("/v1/events")
        .await
        .problem(401, "token_invalid");
    for path in [
        format!("/v1/events/{event}"),
        format!("/v1/endpoints/{of_org}"),
        format!("/v1/events/{event}/explain"),
    ] {
        api.get(&path).await.problem(404, "not_found");
    }
    for list in ["events", "deliveries", "endpoints", "keys"] {
        let found = api.get(&format!("/v1/{list}")).await.expect(200);
        assert!(!found.to_string().contains("org_1"), "{list}: {found}");
        assert!(!found.to_string().contains(&event), "{list}: {found}");
    }
    let kept = api.get(&format!("/v1/events/{other}")).await.expect(200);
    assert_eq!(kept["data"], json!({"of": PERSONAL}));
    // Who deleted it is known.
    let audit = api.get("/v1/audit?organizationId=org_1").await.expect(200);
    assert_eq!(audit["data"][0]["action"], "organization.delete");
    assert_eq!(
        audit["data"][0]["before"],
        json!({"endpoints": 1, "apiKeys": 1})
    );
    let report = api.post("/v1/check", json!({})).await.expect(200);
    assert_eq!(report["damage"], json!([]));
}

#[tokio::test]
async fn an_export_of_one_organization_has_all_of_it_and_nothing_of_another() {
    let (daemon, receiver) = started().await;
    let api = daemon.client();
    for organization in ["org_1", "org_2"] {
        endpoint(&api, &receiver, organization).await;
        failed(&api, organization).await;
        let key = json!({"name": "x", "organizationId": organization, "scopes": ["read"]});
        api.post("/v1/keys", key).await.expect(201);
    }
    let socket = daemon.setup.socket().display().to_string();
    let arguments = ["--socket", &socket, "--organization", "org_1"];
    let lines = exported(&daemon.setup, &arguments).await;
    assert!(
        lines.contains(PERSONAL) && !lines.contains("org_2"),
        "{lines}"
    );
    let objects: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["object"].as_str().unwrap().to_owned())
        .collect();
    let expected = [
        "endpoint", "api_key", "audit", "audit", "event", "delivery", "end",
    ];
    assert_eq!(objects, expected, "{lines}");
}

#[tokio::test]
async fn a_purge_that_can_t_be_is_refused_by_the_field() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let event = "evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A";
    let post = async |body: Value| api.post("/v1/events/purge", body).await;
    for (field, body) in [
        ("eventIds", json!({"organizationId": "org_1"})),
        (
            "eventIds",
            json!({"organizationId": "org_1", "eventIds": []}),
        ),
        (
            "eventIds",
            json!({"organizationId": "org_1", "eventIds": vec![event; 101]}),
        ),
        (
            "eventIds",
            json!({"organizationId": "org_1", "eventIds": ["nothing"]}),
        ),
        (
            "before",
            json!({"organizationId": "org_1", "before": "today"}),
        ),
        ("organizationId", json!({"eventIds": [event]})),
        (
            "organizationId",
            json!({"organizationId": "a/b", "eventIds": [event]}),
        ),
    ] {
        post(body).await.problem_in(400, "invalid_field", field);
    }
    let both =
        json!({"organizationId": "org_1", "eventIds": [event], "before": "2026-01-01T00:00:00Z"});
    let both = post(both).await;
    both.problem_in(400, "invalid_field", "eventIds");
    api.post("/v1/events/purge", "[]")
        .await
        .problem(400, "invalid_json");
    let path = "/v1/organizations/a%2Fb";
    api.delete(path).await.problem(404, "not_found");
}

#[tokio::test]
async fn answers_of_receivers_are_not_kept_where_that_is_off() {
    let setup = Setup::new()
        .set("retry.schedule", r#"["1h"]"#)
        .set("delivery.excerpts", "false");
    let daemon = setup.start().await;
    let receiver = Receiver::answering(Reply::body(500, PERSONAL)).await;
    let api = daemon.client();
    endpoint(&api, &receiver, "org_1").await;
    let event = failed(&api, "org_1").await;
    let delivery = api.delivery_of(&event).await;
    let delivery = api.delivery(delivery["id"].as_str().unwrap()).await;
    assert_eq!(delivery["attempts"][0]["responseCode"], 500);
    assert_eq!(delivery["attempts"][0]["responseExcerpt"], Value::Null);
}
