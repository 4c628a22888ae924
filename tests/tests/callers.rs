//! Who may do what: scopes on every operation, the isolation of organizations on every operation, API keys, and the
//! audit log.

use crate::support::{Client, Daemon, Receiver, Reply, Setup, document, until};
use serde_json::{Value, json};

/// Creates a key, and returns a client that shows it over TCP, and the key's id.
async fn key(daemon: &Daemon, scopes: &[&str], organization: Option<&str>) -> (Client, String) {
    let body = json!({"name": "of a test", "scopes": scopes, "organizationId": organization});
    let made = daemon.client().post("/v1/keys", body).await.expect(201);
    let text = made["key"].as_str().unwrap().to_owned();
    let id = made["id"].as_str().unwrap().to_owned();
    (Client::tcp(daemon.address(), Some(text)), id)
}

/// Returns a path with its placeholder replaced by an id that doesn't exist.
fn filled(path: &str) -> String {
    path.replace("{id}", "nothing")
}

const OPEN: [&str; 2] = ["/healthz", "/readyz"];

#[tokio::test]
async fn every_operation_needs_the_scope_that_it_names_and_no_other() {
    let daemon = Daemon::start().await;
    let scopes = ["ingest", "read", "write", "admin"];
    let mut tried = 0;
    for scope in scopes {
        let (client, _) = key(&daemon, &[scope], None).await;
        for (method, path, operation) in document().operations() {
            if OPEN.contains(&path.as_str()) || path == "/v1/attempts/stream" {
                continue;
            }
            let needs = operation["security"][0]["bearer"][0].as_str();
            let needs = needs.unwrap_or_else(|| panic!("{method} {path} names no scope"));
            assert!(scopes.contains(&needs), "{method} {path}: {needs}");
            let answer = client.call(&method, &filled(&path)).send().await;
            let refused = answer.status == 403 && answer.json()["code"] == "scope_missing";
            let allowed = scope == needs || scope == "admin";
            assert_eq!(refused, !allowed, "{scope} on {method} {path}: {answer:?}");
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

#[tokio::test]
async fn the_socket_may_do_what_its_scopes_say_and_a_token_decides_instead() {
    let setup = Setup::new().set("socket_scopes", r#"["ingest"]"#);
    let daemon = setup.start().await;
    let api = daemon.client();
    api.get("/v1/stats").await.problem(403, "scope_missing");
    let event = json!({"organizationId": "org_1", "type": "a.b", "data": {}});
    api.post("/v1/events", event).await.expect(202);
    let admin = format!("Bearer {}", daemon.token());
    let call = api.call("GET", "/v1/stats").header("authorization", &admin);
    call.send().await.expect_ok();
    let call = api
        .call("POST", "/v1/events")
        .header("authorization", "Bearer wrong");
    call.send().await.problem(401, "token_invalid");
}

/// Two organizations with the same things, of which A's key sees its own.
struct Organizations {
    daemon: Daemon,
    _receiver: Receiver,
    a: Things,
    b: Things,
}

struct Things {
    name: &'static str,
    endpoint: String,
    event: String,
    delivery: String,
}

impl Organizations {
    async fn start() -> Self {
        // Nothing changes by itself once the first attempts have failed.
        let setup = Setup::new().set("retry.schedule", r#"["1h"]"#);
        let daemon = setup.start().await;
        let receiver = Receiver::answering(Reply::Status(500)).await;
        let a = Things::make(&daemon, &receiver, "org_a").await;
        let b = Things::make(&daemon, &receiver, "org_b").await;
        Self {
            daemon,
            _receiver: receiver,
            a,
            b,
        }
    }

    /// Everything that there is of B.
    async fn of_b(&self) -> Value {
        let api = self.daemon.client();
        let endpoint = api.get(&format!("/v1/endpoints/{}", self.b.endpoint)).await;
        let secret = api
            .get(&format!("/v1/endpoints/{}/secret", self.b.endpoint))
            .await;
        let delivery = api
            .get(&format!("/v1/deliveries/{}", self.b.delivery))
            .await;
        let events = api.get("/v1/events?organizationId=org_b").await;
        let endpoints = api.get("/v1/endpoints?organizationId=org_b").await;
        json!([
            endpoint.json(),
            secret.json(),
            delivery.json(),
            events.json(),
            endpoints.json()
        ])
    }
}

impl Things {
    async fn make(daemon: &Daemon, receiver: &Receiver, name: &'static str) -> Self {
        let api = daemon.client();
        let url = receiver.url("/hooks");
        let body = json!({"organizationId": name, "url": url, "eventTypes": ["*"]});
        let endpoint = api.post("/v1/endpoints", body).await.expect(201);
        let body = json!({"organizationId": name, "type": "order.created", "data": {"of": name}});
        let event = api.post("/v1/events", body).await.expect(202);
        let (endpoint, event) = (text(&endpoint, "id"), text(&event, "id"));
        let delivery = until("an attempt fails", async || {
            let list = api
                .get(&format!("/v1/deliveries?eventId={event}"))
                .await
                .json();
            let delivery = &list["data"][0];
            (delivery["status"] == "RETRYING").then(|| text(delivery, "id"))
        })
        .await;
        Self {
            name,
            endpoint,
            event,
            delivery,
        }
    }
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap().to_owned()
}

/// What a call about B by A's key gets.
enum Gets {
    /// The same as for an object that does not exist.
    NotFound,
    WrongOrganization,
    /// The route is about all organizations.
    ScopeMissing,
    /// A list with nothing of B.
    Nothing,
    /// A list, or statistics, of A alone.
    OwnAlone,
}

/// The calls about B that each operation allows, with their bodies.
fn attempts(method: &str, path: &str, a: &Things, b: &Things) -> Vec<(String, Value, Gets)> {
    let object = |id: &str| path.replace("{id}", id);
    let get = |path: String, gets: Gets| (path, Value::Null, gets);
    let of_object = |id: &str, body: Value| vec![(object(id), body, Gets::NotFound)];
    let event = json!({"organizationId": b.name, "type": "a.b", "data": {}});
    let url = "https://partner.example/hooks";
    let endpoint = json!({"organizationId": b.name, "url": url, "eventTypes": ["*"]});
    match (method, path) {
        ("POST", "/v1/events") => vec![(path.to_owned(), event, Gets::WrongOrganization)],
        ("POST", "/v1/endpoints") => vec![(path.to_owned(), endpoint, Gets::WrongOrganization)],
        ("GET", "/v1/events" | "/v1/endpoints") => vec![
            get(
                format!("{path}?organizationId={}", b.name),
                Gets::WrongOrganization,
            ),
            get(path.to_owned(), Gets::OwnAlone),
        ],
        ("GET", "/v1/deliveries") => vec![
            get(path.to_owned(), Gets::OwnAlone),
            get(format!("{path}?endpointId={}", b.endpoint), Gets::Nothing),
            get(format!("{path}?eventId={}", b.event), Gets::Nothing),
            get(format!("{path}?status=RETRYING"), Gets::OwnAlone),
            get(
                format!("{path}?eventId={}&endpointId={}", a.event, b.endpoint),
                Gets::Nothing,
            ),
            get(
                format!("{path}?eventId={}&endpointId={}", b.event, a.endpoint),
                Gets::Nothing,
            ),
        ],
        ("GET", "/v1/stats") => vec![
            get(
                format!("{path}?organizationId={}", b.name),
                Gets::WrongOrganization,
            ),
            get(format!("{path}?endpointId={}", b.endpoint), Gets::NotFound),
            get(
                format!("{path}?organizationId={}&endpointId={}", a.name, b.endpoint),
                Gets::NotFound,
            ),
            get(path.to_owned(), Gets::OwnAlone),
        ],
        ("GET", "/v1/attempts/stream") => {
            vec![get(
                format!("{path}?endpointId={}", b.endpoint),
                Gets::NotFound,
            )]
        }
        ("PATCH", "/v1/endpoints/{id}") => of_object(&b.endpoint, json!({"active": false})),
        ("POST", "/v1/events/{id}/replay") => vec![
            (
                object(&b.event),
                json!({"endpointId": b.endpoint}),
                Gets::NotFound,
            ),
            (
                object(&b.event),
                json!({"endpointId": a.endpoint}),
                Gets::NotFound,
            ),
            (
                object(&a.event),
                json!({"endpointId": b.endpoint}),
                Gets::NotFound,
            ),
        ],
        (_, path) if path.starts_with("/v1/endpoints/{id}") => of_object(&b.endpoint, Value::Null),
        (_, path) if path.starts_with("/v1/events/{id}") => of_object(&b.event, Value::Null),
        (_, path) if path.starts_with("/v1/deliveries/{id}") => of_object(&b.delivery, Value::Null),
        ("POST", "/v1/keys") => {
            let body = json!({"name": "x", "scopes": ["read"], "organizationId": b.name});
            vec![(path.to_owned(), body, Gets::ScopeMissing)]
        }
        ("POST", "/v1/events/purge") => {
            let body = json!({"organizationId": b.name, "eventIds": [b.event]});
            vec![(path.to_owned(), body, Gets::ScopeMissing)]
        }
        ("DELETE", "/v1/organizations/{id}") => vec![get(object(b.name), Gets::ScopeMissing)],
        ("DELETE", "/v1/keys/{id}") => {
            let id = "key_01JZ8M3Y6Q2V7K9D4T5B8C1N0A";
            vec![get(object(id), Gets::ScopeMissing)]
        }
        (
            _,
            "/v1/keys" | "/v1/audit" | "/metrics" | "/v1/cluster" | "/v1/backup" | "/v1/check"
            | "/v1/token/rotate" | "/v1/secrets" | "/v1/secrets/rekey",
        ) => vec![get(path.to_owned(), Gets::ScopeMissing)],
        // Tried by itself: it has a result for each line.
        ("POST", "/v1/events/batch") => Vec::new(),
        // The same for everyone.
        ("GET", "/healthz" | "/readyz" | "/v1/openapi.json") => Vec::new(),
        _ => panic!("{method} {path}: add what a key of one organization may not do with it"),
    }
}

/// Returns an unused id of the same kind.
fn unused(path: &str, b: &Things) -> String {
    let mut path = path.to_owned();
    for id in [&b.endpoint, &b.event, &b.delivery] {
        let (kept, last) = id.split_at(id.len() - 1);
        let other = if last == "0" { "1" } else { "0" };
        path = path.replace(id.as_str(), &format!("{kept}{other}"));
    }
    path
}

#[tokio::test]
async fn a_key_of_one_organization_reaches_nothing_of_another_by_any_operation() {
    let all = Organizations::start().await;
    let scopes = ["ingest", "read", "write"];
    let (client, _) = key(&all.daemon, &scopes, Some("org_a")).await;
    let before = all.of_b().await;
    let (mut tried, mut operations) = (0, 0);
    for (method, path, _) in document().operations() {
        operations += 1;
        for (path, body, gets) in attempts(&method, &path, &all.a, &all.b) {
            tried += 1;
            let call = |path: &str| {
                let call = client.call(&method, path);
                if body.is_null() {
                    call
                } else {
                    call.json(body.clone())
                }
            };
            let answer = call(&path).send().await;
            let what = format!("{method} {path}: {answer:?}");
            match gets {
                Gets::NotFound => {
                    let problem = answer.problem(404, "not_found");
                    // An object that there is not gets the same.
                    let other = call(&unused(&path, &all.b)).send().await;
                    assert_eq!(problem, other.problem(404, "not_found"), "{what}");
                }
                Gets::WrongOrganization => {
                    answer.problem(403, "wrong_organization");
                }
                Gets::ScopeMissing => {
                    answer.problem(403, "scope_missing");
                }
                Gets::Nothing => assert_eq!(answer.expect(200)["data"], json!([]), "{what}"),
                Gets::OwnAlone => {
                    let body = answer.expect(200).to_string();
                    assert!(!body.contains("org_b"), "{what}");
                    for id in [&all.b.endpoint, &all.b.event, &all.b.delivery] {
                        assert!(!body.contains(id.as_str()), "{what}");
                    }
                }
            }
        }
    }
    assert_eq!(all.of_b().await, before);
    eprintln!("{operations} operations, {tried} calls about another organization");
    assert!(operations >= 31 && tried >= 40, "{operations} {tried}");
    // Lists and statistics are those of A.
    let list = client.get("/v1/deliveries").await.expect(200);
    assert_eq!(list["data"][0]["id"], json!(all.a.delivery));
    let failures = |stats: &Value| stats["delivery.failure.count"].as_u64().unwrap();
    let whole = failures(&all.daemon.client().get("/v1/stats").await.expect(200));
    let own = failures(&client.get("/v1/stats").await.expect(200));
    assert!(own >= 1 && own < whole, "{own} of {whole}");
}

#[tokio::test]
async fn a_line_of_a_batch_that_names_another_organization_is_rejected_alone() {
    let daemon = Daemon::start().await;
    let (client, _) = key(&daemon, &["ingest"], Some("org_a")).await;
    let line = |of: &str| json!({"organizationId": of, "type": "a.b", "data": {}}).to_string();
    let lines = [line("org_a"), line("org_b"), line("org_a")].join("\n");
    let results = client.batch(&lines).await;
    let states: Vec<&Value> = results.iter().map(|r| &r["status"]).collect();
    assert_eq!(states, ["accepted", "rejected", "accepted"]);
    assert_eq!(results[1]["problem"]["code"], "wrong_organization");
    let stored = daemon.client().get("/v1/events?organizationId=org_b").await;
    assert_eq!(stored.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn a_live_stream_of_one_organization_has_its_attempts_alone() {
    let all = Organizations::start().await;
    let (client, _) = key(&all.daemon, &["read"], Some("org_a")).await;
    let mut stream = client.follow("/v1/attempts/stream").await;
    let api = all.daemon.client();
    // Both fail; B's first.
    for things in [&all.b, &all.a] {
        let path = format!("/v1/deliveries/{}/retry", things.delivery);
        // The attempt before may not have ended to the last.
        until("it is retried", async || {
            let answer = api.post(&path, json!({})).await;
            (answer.status == 200).then_some(())
        })
        .await;
        until("it has been tried again", async || {
            let path = format!("/v1/deliveries/{}", things.delivery);
            let delivery = api.get(&path).await.json();
            (delivery["attempts"].as_array()?.len() >= 2).then_some(())
        })
        .await;
    }
    let (name, attempt) = stream.next_sse().await;
    let attempt: Value = serde_json::from_str(&attempt).unwrap();
    let expected = ("attempt", &json!(all.a.delivery));
    assert_eq!((name.as_str(), &attempt["deliveryId"]), expected);
}

#[tokio::test]
async fn a_cursor_of_another_caller_is_invalid() {
    let all = Organizations::start().await;
    let api = all.daemon.client();
    let page = api.get("/v1/events?limit=1").await.expect(200);
    let cursor = page["nextCursor"].as_str().unwrap();
    let (client, _) = key(&all.daemon, &["read"], Some("org_a")).await;
    let path = format!("/v1/events?limit=1&cursor={cursor}");
    client.get(&path).await.problem(400, "invalid_cursor");
    api.get(&path).await.expect(200);
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_its_stream_ends() {
    let daemon = Daemon::start().await;
    let (client, id) = key(&daemon, &["read"], None).await;
    let mut stream = client.follow("/v1/attempts/stream").await;
    client.get("/v1/stats").await.expect_ok();
    let revoked = daemon
        .client()
        .delete(&format!("/v1/keys/{id}"))
        .await
        .expect(200);
    assert!(revoked["revokedAt"].is_string() && revoked.get("key").is_none());
    client.get("/v1/stats").await.problem(401, "token_invalid");
    while stream.next().await.is_some() {}
    // On the socket it is refused too.
    let socket = daemon.client();
    let bearer = format!("Bearer {}", client.token().unwrap());
    let call = socket
        .call("GET", "/v1/stats")
        .header("authorization", &bearer);
    call.send().await.problem(401, "token_invalid");
}

#[tokio::test]
async fn a_key_outlives_the_daemon_and_is_listed_without_itself() {
    let mut daemon = Daemon::start().await;
    let (client, id) = key(&daemon, &["read", "write"], Some("org_a")).await;
    client.get("/v1/stats").await.expect_ok();
    daemon.stop().await;
    daemon.start_again().await;
    let client = Client::tcp(daemon.address(), client.token());
    client.get("/v1/stats").await.expect_ok();
    let list = daemon.client().get("/v1/keys").await.expect(200);
    assert_eq!(list["data"][0]["id"], json!(id));
    assert_eq!(list["data"][0]["scopes"], json!(["read", "write"]));
    let token = client.token().unwrap();
    assert!(!list.to_string().contains(&token));
    let log = daemon.log();
    assert!(!log.contains(&token), "{log}");
}

#[tokio::test]
async fn a_key_that_can_t_be_is_refused_by_the_field() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    for (field, body) in [
        ("name", json!({"name": "", "scopes": ["read"]})),
        ("name", json!({"name": "a\u{1b}[2J", "scopes": ["read"]})),
        ("name", json!({"name": "x".repeat(129), "scopes": ["read"]})),
        ("scopes", json!({"name": "x", "scopes": []})),
        ("scopes", json!({"name": "x", "scopes": ["all"]})),
        (
            "scopes",
            json!({"name": "x", "scopes": ["admin"], "organizationId": "org_a"}),
        ),
        (
            "organizationId",
            json!({"name": "x", "scopes": ["read"], "organizationId": "a b"}),
        ),
        (
            "expiresAt",
            json!({"name": "x", "scopes": ["read"], "expiresAt": "2020-01-01T00:00:00Z"}),
        ),
        (
            "expiresAt",
            json!({"name": "x", "scopes": ["read"], "expiresAt": "soon"}),
        ),
    ] {
        api.post("/v1/keys", body)
            .await
            .problem_in(400, "invalid_field", field);
    }
    assert_eq!(api.get("/v1/keys").await.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn a_change_is_in_the_audit_log_with_who_why_and_its_request() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let url = "https://partner.example/hooks";
    let secret = "a-secret-of-the-partner";
    let body = json!({"organizationId": "org_a", "url": url, "eventTypes": ["*"], "secret": secret,
        "headers": {"x-key": "t0psecret"}});
    let endpoint = text(&api.post("/v1/endpoints", body).await.expect(201), "id");
    let (client, key_id) = key(&daemon, &["write"], Some("org_a")).await;
    let path = format!("/v1/endpoints/{endpoint}");
    let call = client.call("PATCH", &path).json(json!({"active": false}));
    let answer = call
        .header("x-stormhook-reason", "maintenance")
        .send()
        .await;
    answer.expect(200);
    let request = answer.header("x-request-id").unwrap().to_owned();
    api.get(&format!("{path}/secret")).await.expect(200);
    let list = api
        .get(&format!("/v1/audit?target={endpoint}"))
        .await
        .expect(200);
    let entries = list["data"].as_array().unwrap();
    let actions: Vec<&Value> = entries.iter().map(|e| &e["action"]).collect();
    assert_eq!(
        actions,
        [
            "endpoint.reveal_secret",
            "endpoint.update",
            "endpoint.create"
        ]
    );
    let update = &entries[1];
    let by = json!({"kind": "key", "id": key_id, "name": "of a test"});
    assert_eq!(update["principal"], by);
    assert_eq!(update["organizationId"], "org_a");
    assert_eq!(update["before"], json!({"active": true}));
    assert_eq!(update["after"], json!({"active": false}));
    assert_eq!(update["reason"], "maintenance");
    assert_eq!(update["requestId"], json!(request));
    assert_eq!(entries[2]["principal"]["kind"], "socket");
    assert_eq!(entries[2]["after"]["headers"], json!({"x-key": "***"}));
    let whole = api.get("/v1/audit").await.expect(200).to_string();
    assert!(whole.contains("key.create"), "{whole}");
    for kept in ["t0psecret", secret, &client.token().unwrap()] {
        assert!(!whole.contains(kept), "{kept} in {whole}");
    }
    let long = "x".repeat(257);
    let call = client.call("PATCH", &path).json(json!({"active": true}));
    let answer = call.header("x-stormhook-reason", &long).send().await;
    answer.problem_in(400, "invalid_field", "reason");
}

#[tokio::test]
async fn when_a_key_was_used_is_known_within_a_minute() {
    let daemon = Daemon::start().await;
    let (client, _) = key(&daemon, &["read"], None).await;
    client.get("/v1/stats").await.expect_ok();
    let used = until("its use is written", async || {
        let list = daemon.client().get("/v1/keys").await.json();
        list["data"][0]["lastUsedAt"].as_str().map(str::to_owned)
    });
    assert!(used.await.starts_with("20"));
}
