//! TLS settings of endpoints: which are accepted, what is shown of them, and that deliveries use them.

use crate::support::{Client, Clients, Daemon, Receiver, Setup, Tls, within};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn setup() -> Setup {
    Setup::new().set("retry.schedule", r#"["1h"]"#)
}

fn path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap())
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// Returns the middle of a PEM, by which the whole is recognised.
fn inside(pem: &str) -> &str {
    pem.lines().nth(1).unwrap()
}

fn tls_of((certificate, key): &(String, String)) -> Value {
    json!({"clientCertificate": certificate, "clientKey": key})
}

#[track_caller]
fn codes(endpoint: &Value) -> Vec<&str> {
    let warnings = endpoint["warnings"].as_array();
    let all = warnings.into_iter().flatten();
    all.map(|warning| warning["code"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn certificates_are_described_and_the_key_is_shown_nowhere() {
    let daemon = setup().set("log.level", r#""trace""#).start().await;
    let api = daemon.client();
    let clients = Clients::new();
    let issued = clients.issue("stormhook");
    let url = "https://partner.example/hooks";
    let mut tls = tls_of(&issued);
    tls["clientCertificate"] = json!(format!("{}{}", issued.0, clients.root()));
    tls["caCertificate"] = json!(clients.root());
    let made = api.endpoint_with(url, &["*"], json!({"tls": tls})).await;
    let own = &made["tls"]["clientCertificate"];
    assert_eq!(own["subject"], "CN=stormhook");
    let authority = &made["tls"]["caCertificate"];
    assert_eq!(authority["issuer"], authority["subject"]);
    assert_eq!(own["issuer"], authority["subject"]);
    assert_eq!(own["chain"], json!([authority]));
    assert_eq!(own["sha256"].as_str().unwrap().len(), 64);
    assert!(own["notAfter"].as_str().unwrap().ends_with('Z'));
    assert_eq!(made.get("warnings"), None, "{made}");

    let shown = api.get(&path(&made)).await.expect(200);
    assert_eq!(shown["tls"], made["tls"]);
    let renamed = json!({"description": "renamed"});
    let changed = api.patch(&path(&made), renamed).await.expect(200);
    assert_eq!(changed["tls"], made["tls"], "it stays");
    let answers = [
        made.to_string(),
        shown.to_string(),
        api.get("/v1/endpoints").await.text(),
        api.get(&format!("{}/secret", path(&made))).await.text(),
        text(
            &daemon
                .setup
                .run(&[
                    "endpoint",
                    "show",
                    made["id"].as_str().unwrap(),
                    "--socket",
                    &daemon.setup.socket().display().to_string(),
                ])
                .await
                .stdout,
        ),
        daemon.log(),
    ];
    for answer in answers {
        assert!(!answer.contains(inside(&issued.1)), "{answer}");
        assert!(!answer.contains("PRIVATE KEY"), "{answer}");
    }
}

#[tokio::test]
async fn settings_are_replaced_as_a_whole_and_null_removes_them() {
    let daemon = setup().start().await;
    let api = daemon.client();
    let clients = Clients::new();
    let both = json!({"tls": tls_of(&clients.issue("one"))});
    let made = api
        .endpoint_with("https://partner.example/", &["*"], both)
        .await;
    let trusting = json!({"tls": {"caCertificate": clients.root(), "clientKey": null}});
    let changed = api.patch(&path(&made), trusting).await.expect(200);
    assert_eq!(changed["tls"]["clientCertificate"], Value::Null);
    assert!(changed["tls"]["caCertificate"].is_object());
    for none in [json!({"tls": null}), json!({"tls": {}})] {
        let again = json!({"tls": tls_of(&clients.issue("two"))});
        let changed = api.patch(&path(&made), again).await.expect(200);
        assert_eq!(changed["tls"]["clientCertificate"]["subject"], "CN=two");
        let cleared = api.patch(&path(&made), none).await.expect(200);
        assert_eq!(cleared.get("tls"), None);
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_by_its_field() {
    let daemon = setup().start().await;
    let api = daemon.client();
    let clients = Clients::new();
    let (certificate, key) = clients.issue("one");
    let (_, other) = clients.issue("two");
    let plain = api.endpoint("https://partner.example/", &["*"]).await;
    let eleven = clients.root().repeat(11);
    let long = format!("{}{certificate}", "x\n".repeat(40_000));
    for (tls, field) in [
        (json!({"clientCertificate": certificate}), "tls.clientKey"),
        (json!({"clientKey": key}), "tls.clientCertificate"),
        (
            json!({"clientCertificate": certificate, "clientKey": other}),
            "tls.clientKey",
        ),
        (
            json!({"clientCertificate": "nothing", "clientKey": key}),
            "tls.clientCertificate",
        ),
        (
            json!({"clientCertificate": certificate, "clientKey": "nothing"}),
            "tls.clientKey",
        ),
        (
            json!({"clientCertificate": key, "clientKey": key}),
            "tls.clientCertificate",
        ),
        (json!({"caCertificate": "nothing"}), "tls.caCertificate"),
        (json!({"caCertificate": key}), "tls.caCertificate"),
        (json!({"caCertificate": eleven}), "tls.caCertificate"),
        (json!({"caCertificate": long}), "tls.caCertificate"),
        (json!({"caCertificate": 1}), "tls.caCertificate"),
        (json!("nothing"), "tls"),
        (json!([]), "tls"),
    ] {
        let body = json!({"tls": tls});
        let answer = api.patch(&path(&plain), body.clone()).await;
        let problem = answer.problem_in(400, "invalid_field", field);
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            !detail.contains(inside(&key)) && detail.len() < 300,
            "{detail}"
        );
        let mut new = body;
        new["organizationId"] = json!("org_1");
        new["url"] = json!("https://partner.example/");
        new["eventTypes"] = json!(["*"]);
        let answer = api.post("/v1/endpoints", new).await;
        answer.problem_in(400, "invalid_field", field);
    }
    let unknown = json!({"tls": {"cert": certificate}});
    api.patch(&path(&plain), unknown)
        .await
        .problem_in(400, "unknown_field", "tls.cert");
    let unchanged = api.get(&path(&plain)).await.expect(200);
    assert_eq!(unchanged, plain_without_secret(&plain));
}

fn plain_without_secret(made: &Value) -> Value {
    let mut shown = made.clone();
    shown.as_object_mut().unwrap().remove("secret");
    shown
}

#[tokio::test]
async fn a_certificate_that_has_expired_or_soon_will_is_accepted_with_a_warning() {
    let daemon = setup().start().await;
    let api = daemon.client();
    let clients = Clients::new();
    let now = time::OffsetDateTime::now_utc();
    let until = |end: time::OffsetDateTime| {
        clients.issue_with("ours", |params| {
            params.not_before = now - time::Duration::days(400);
            params.not_after = end;
        })
    };
    let expired = json!({"tls": tls_of(&until(now - time::Duration::days(2)))});
    let made = api
        .endpoint_with("https://partner.example/", &["*"], expired)
        .await;
    assert_eq!(codes(&made), ["certificate_expired"]);
    let detail = made["warnings"][0]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("tls.clientCertificate (CN=ours) expired on "),
        "{detail}"
    );
    let soon = json!({"tls": tls_of(&until(now + time::Duration::days(29)))});
    let changed = api.patch(&path(&made), soon).await.expect(200);
    assert_eq!(codes(&changed), ["certificate_expires_soon"]);
    let shown = api.get(&path(&made)).await.expect(200);
    assert_eq!(codes(&shown), ["certificate_expires_soon"]);
    let later = json!({"tls": tls_of(&until(now + time::Duration::days(31)))});
    let changed = api.patch(&path(&made), later).await.expect(200);
    assert_eq!(codes(&changed), [""; 0]);
}

/// Sends an event, and returns what its first attempt was.
async fn first_attempt(api: &Client, kind: &str) -> Value {
    let event = api.event(kind, json!(1)).await;
    let delivery = crate::support::until("the first attempt ends", async || {
        let delivery = api.delivery_of(&event).await;
        (delivery["status"] != "PENDING").then_some(delivery)
    });
    delivery.await["attempts"][0].clone()
}

#[tokio::test]
async fn a_server_that_requires_a_client_certificate_gets_it_from_the_next_attempt_on() {
    for protocols in [&["http/1.1"][..], &["h2"]] {
        let clients = Clients::new();
        let server = Tls::for_names(&["127.0.0.1"]).requiring(&clients);
        let receiver = Receiver::tls(&server, protocols).await;
        let mut daemon = setup().start().await;
        let api = daemon.client();
        let trusting = json!({"tls": {"caCertificate": server.root}});
        let made = api
            .endpoint_with(&receiver.url("/"), &["*"], trusting)
            .await;
        let refused = first_attempt(&api, "a.b").await;
        assert_eq!(refused["outcome"], "tls", "{refused}");
        let error = refused["error"].as_str().unwrap();
        assert!(error.contains("requires a client certificate"), "{error}");

        let stranger = Clients::new().issue("stranger");
        let mut tls = tls_of(&stranger);
        tls["caCertificate"] = json!(server.root);
        api.patch(&path(&made), json!({"tls": tls}))
            .await
            .expect(200);
        let refused = first_attempt(&api, "a.b").await;
        let error = refused["error"].as_str().unwrap();
        assert!(error.contains("refused the client certificate"), "{error}");

        let mut tls = tls_of(&clients.issue("stormhook"));
        tls["caCertificate"] = json!(server.root);
        api.patch(&path(&made), json!({"tls": tls}))
            .await
            .expect(200);
        assert_eq!(first_attempt(&api, "a.b").await["outcome"], "success");
        assert!(daemon.stop().await.success());
        daemon.start_again().await;
        assert_eq!(first_attempt(&api, "a.b").await["outcome"], "success");
        assert_eq!(receiver.count(), 2);
    }
}

#[tokio::test]
async fn what_an_endpoint_trusts_holds_for_it_alone() {
    let server = Tls::for_names(&["127.0.0.1"]);
    let receiver = Receiver::tls(&server, &["h2", "http/1.1"]).await;
    let daemon = setup().start().await;
    let api = daemon.client();
    let trusting = json!({"tls": {"caCertificate": server.root}});
    api.endpoint_with(&receiver.url("/"), &["one.a"], trusting)
        .await;
    api.endpoint(&receiver.url("/"), &["two.a"]).await;
    assert_eq!(first_attempt(&api, "one.a").await["outcome"], "success");
    let refused = first_attempt(&api, "two.a").await;
    assert_eq!(refused["outcome"], "tls", "{refused}");
    let error = refused["error"].as_str().unwrap();
    let says = "certificate is not signed by a trusted authority";
    assert!(error.contains(says), "{error}");
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn certificates_of_servers_fail_in_plain_words() {
    let daemon = setup().start().await;
    let api = daemon.client();
    let server = Tls::for_names(&["other.example"]);
    let named = Receiver::tls(&server, &["http/1.1"]).await;
    let trusting = json!({"tls": {"caCertificate": server.root}});
    api.endpoint_with(&named.url("/"), &["named.a"], trusting)
        .await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let over_tls = format!("https://{}/", plain.local_addr().unwrap());
    api.endpoint(&over_tls, &["plain.a"]).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    for (kind, says) in [
        ("named.a", "certificate is for other.example, not 127.0.0.1"),
        ("plain.a", "server does not speak TLS"),
    ] {
        let failed = first_attempt(&api, kind).await;
        assert_eq!(failed["outcome"], "tls", "{failed}");
        let error = failed["error"].as_str().unwrap();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_servers_certificate_that_expires_soon_is_known_from_the_last_connection() {
    let server = Tls::for_names_until(
        &["127.0.0.1"],
        time::OffsetDateTime::now_utc() + time::Duration::days(2),
    );
    let receiver = Receiver::tls(&server, &["http/1.1"]).await;
    let daemon = setup().start().await;
    let api = daemon.client();
    let trusting = json!({"tls": {"caCertificate": server.root}});
    let made = api
        .endpoint_with(&receiver.url("/"), &["*"], trusting)
        .await;
    assert_eq!(codes(&made), [""; 0], "nothing was seen yet");
    assert_eq!(first_attempt(&api, "a.b").await["outcome"], "success");
    let shown = api.get(&path(&made)).await.expect(200);
    assert_eq!(codes(&shown), ["server_certificate_expires_soon"]);
}

async fn command(setup: &Setup, arguments: &[&str]) -> Output {
    let mut command = setup.command();
    command.args(arguments).stdin(Stdio::null());
    command.env("STORMHOOK_SOCKET", setup.socket());
    command.env("STORMHOOK_CONFIG", setup.config_path());
    within("the command ends", command.output()).await.unwrap()
}

#[tokio::test]
async fn an_export_with_secrets_moves_the_key_and_a_plain_one_does_not_hold_it() {
    let clients = Clients::new();
    let server = Tls::for_names(&["127.0.0.1"]).requiring(&clients);
    let receiver = Receiver::tls(&server, &["http/1.1"]).await;
    let mut daemon = setup().start().await;
    let issued = clients.issue("stormhook");
    let mut tls = tls_of(&issued);
    tls["caCertificate"] = json!(server.root);
    let api = daemon.client();
    api.endpoint_with(&receiver.url("/"), &["*"], json!({"tls": tls}))
        .await;
    assert!(daemon.stop().await.success());
    let from = daemon.into_setup();
    let config = from.config_path().display().to_string();
    let plain = command(&from, &["export", "--config", &config]).await;
    let plain = text(&plain.stdout);
    assert!(plain.contains("CN=stormhook"), "{plain}");
    assert!(!plain.contains(inside(&issued.1)), "{plain}");
    let file = from.folder().join("export.ndjson").display().to_string();
    let exported = [
        "export",
        "--with-secrets",
        "--output",
        &file,
        "--config",
        &config,
    ];
    let exported = command(&from, &exported).await;
    assert!(exported.status.success(), "{exported:?}");

    let to = setup();
    let config = to.write_config().display().to_string();
    let imported = command(&to, &["import", &file, "--config", &config]).await;
    assert!(imported.status.success(), "{imported:?}");
    let daemon = to.start().await;
    let attempt = first_attempt(&daemon.client(), "a.b").await;
    assert_eq!(attempt["outcome"], "success", "{attempt}");
}

#[tokio::test]
async fn the_command_line_reads_the_settings_from_files() {
    let daemon = setup().start().await;
    let setup = &daemon.setup;
    let clients = Clients::new();
    let (certificate, key) = clients.issue("stormhook");
    let file = |name: &str, text: &str| -> String {
        let path: PathBuf = setup.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (file("c.pem", &certificate), file("k.pem", &key));
    let authority = file("ca.pem", &clients.root());
    let add = [
        "endpoint",
        "add",
        "--organization",
        "org_1",
        "--url",
        "https://partner.example/",
        "--event-type",
        "*",
        "--json",
        "--client-certificate",
        &certificate,
        "--client-key",
        &key,
    ];
    let made = command(setup, &add).await;
    assert!(made.status.success(), "{made:?}");
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["tls"]["clientCertificate"]["subject"], "CN=stormhook");

    let shown = text(&command(setup, &["endpoint", "show", id]).await.stdout);
    assert!(shown.contains("client certificate"), "{shown}");
    assert!(shown.contains("CN=stormhook, until "), "{shown}");
    let update = ["endpoint", "update", id, "--ca-certificate", &authority];
    let updated = text(&command(setup, &update).await.stdout);
    assert!(updated.contains("also trusts"), "{updated}");
    assert!(!updated.contains("client certificate"), "{updated}");
    let both = [
        "endpoint",
        "update",
        id,
        "--clear",
        "tls",
        "--ca-certificate",
        &authority,
    ];
    let refused = command(setup, &both).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let cleared = command(
        setup,
        &["endpoint", "update", id, "--clear", "tls", "--json"],
    )
    .await;
    let cleared: Value = serde_json::from_slice(&cleared.stdout).unwrap();
    assert_eq!(cleared.get("tls"), None);

    let alone = [
        "endpoint",
        "update",
        id,
        "--client-certificate",
        &certificate,
    ];
    let refused = command(setup, &alone).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(
        text(&refused.stderr).contains("--client-key"),
        "{refused:?}"
    );
    let swapped = [
        "endpoint",
        "update",
        id,
        "--client-certificate",
        &key,
        "--client-key",
        &key,
    ];
    let refused = command(setup, &swapped).await;
    let said = text(&refused.stderr);
    assert!(
        said.contains("tls.clientCertificate contains no certificate"),
        "{said}"
    );
    assert!(said.contains("--client-certificate"), "{said}");
}

#[tokio::test]
async fn a_creation_that_is_repeated_answers_with_the_same_settings() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let (certificate, key) = Clients::new().issue("one");
    let body = json!({"organizationId": "org_1", "url": "https://partner.example/", "eventTypes": ["*"],
        "tls": {"clientCertificate": certificate, "clientKey": key}});
    let create = || {
        let call = api
            .call("POST", "/v1/endpoints")
            .header("idempotency-key", "k-1");
        call.json(body.clone()).send()
    };
    let made = create().await.expect(201);
    let again = create().await.expect(200);
    assert_eq!(made, again, "the same request, with the same settings");
}
