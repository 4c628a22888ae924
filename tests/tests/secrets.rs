//! Secrets at rest: planted ones are nowhere to be found, a daemon starts with the right key alone, and the key can be
//! changed.

use crate::support::{Answer, Client, Daemon, Receiver, Reply, Setup, until, verify};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use stormhook_test_postgres::Server;

const HEADER: &str = "planted-header-value-7f3a";
const CHOSEN: &str = "planted-chosen-secret-51c0";
const ROTATED: &str = "planted-rotated-secret-88de";

/// The ids of keys that are one byte 32 times, as `sha256sum` shows them.
const KEY_1: &str = "72cd6e84";
const KEY_2: &str = "75877bb4";

/// Writes a key of this byte, and returns the file.
fn key_file(setup: &Setup, byte: u8) -> PathBuf {
    let path = setup.folder().join(format!("key-{byte}"));
    std::fs::write(&path, [byte; 32]).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path
}

fn quoted(path: &Path) -> String {
    format!("{path:?}")
}

fn with_key(setup: Setup, byte: u8) -> Setup {
    let path = key_file(&setup, byte);
    setup.set("secrets.key_file", &quoted(&path))
}

fn on(server: &Server, setup: Setup) -> Setup {
    setup
        .set("store.url", &format!("{:?}", server.store_url()))
        .set("store.lease", r#""2s""#)
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

async fn command(setup: &Setup, arguments: &[&str]) -> Output {
    let config = setup.write_config().display().to_string();
    let all = [arguments, &["--config", &config]].concat();
    setup.run(&all).await
}

async fn succeeds(setup: &Setup, arguments: &[&str]) -> String {
    let output = command(setup, arguments).await;
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout) + &text(&output.stderr)
}

/// Starts a daemon that refuses, and returns what it says.
async fn does_not_start(setup: Setup) -> (Setup, String) {
    match setup.try_start().await {
        Ok(_) => panic!("it started"),
        Err(refused) => {
            assert_eq!(refused.status.code(), Some(1), "{}", refused.log);
            (refused.setup, refused.log)
        }
    }
}

/// Makes endpoints with every kind of secret, has events delivered to them, and collects what must be nowhere.
async fn plant(api: &Client, receiver: &Receiver) -> (Vec<String>, Vec<Answer>) {
    receiver.answer_by(|request| Reply::Status(if request.path == "/down" { 500 } else { 200 }));
    let mut planted = vec![HEADER.to_owned(), CHOSEN.to_owned(), ROTATED.to_owned()];
    let mut answers = Vec::new();
    for (path, more) in [
        (
            "/up",
            json!({"headers": {"x-api-key": HEADER}, "secret": CHOSEN}),
        ),
        (
            "/down",
            json!({"headers": {"authorization": HEADER}, "ed25519": true}),
        ),
    ] {
        let made = api.endpoint_with(&receiver.url(path), &["*"], more).await;
        let id = made["id"].as_str().unwrap();
        planted.push(made["secret"].as_str().unwrap().to_owned());
        let secret = format!("/v1/endpoints/{id}/rotate-secret");
        if path == "/up" {
            let body = json!({"secret": ROTATED, "overlap": "1h"});
            api.post(&secret, body).await.expect(200);
        } else {
            let rotated = api.post(&secret, json!({})).await.expect(200);
            planted.push(rotated["secret"].as_str().unwrap().to_owned());
        }
        let event = api.event("order.created", json!({"n": 1})).await;
        until("it is delivered", async || {
            let all = api.deliveries(&event).await;
            let ended =
                |d: &&Value| ["SUCCESS", "ABANDONED"].contains(&d["status"].as_str().unwrap());
            (all.iter().filter(ended).count() == all.len()).then_some(())
        })
        .await;
        let delivery = api.deliveries(&event).await[0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        for asked in [
            format!("/v1/endpoints/{id}"),
            format!("/v1/events/{event}"),
            format!("/v1/events/{event}/explain"),
            format!("/v1/deliveries/{delivery}"),
            format!("/v1/stats?endpointId={id}"),
        ] {
            answers.push(api.get(&asked).await);
        }
        let change = json!({"description": "changed", "headers": {"x-other": HEADER}});
        answers.push(api.patch(&format!("/v1/endpoints/{id}"), change).await);
        answers.push(
            api.post(&format!("/v1/endpoints/{id}/test"), json!({}))
                .await,
        );
        answers.push(
            api.post(&format!("/v1/endpoints/{id}/recover"), json!({}))
                .await,
        );
        // Refused ones name what is wrong.
        let live = api
            .post(
                &secret,
                json!({"secret": if path == "/up" { ROTATED } else { CHOSEN }}),
            )
            .await;
        if path == "/up" {
            answers.push(live);
        }
        let bad = json!({"headers": {"x-a": format!("{HEADER}\n")}});
        answers.push(api.patch(&format!("/v1/endpoints/{id}"), bad).await);
    }
    for asked in [
        "/v1/endpoints",
        "/v1/events",
        "/v1/deliveries",
        "/v1/stats",
        "/metrics",
        "/v1/cluster",
        "/v1/secrets",
        "/v1/openapi.json",
        "/healthz",
        "/readyz",
    ] {
        answers.push(api.get(asked).await);
    }
    answers.push(api.post("/v1/check", json!({})).await);
    (planted, answers)
}

/// Asserts that none of these is in the bytes, as it is or in hex.
fn expect_none(planted: &[String], bytes: &[u8], place: &str) {
    for secret in planted {
        let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
        for form in [secret.as_bytes(), hex.as_bytes()] {
            let found = bytes.windows(form.len()).any(|part| part == form);
            assert!(!found, "{secret} is in {place}");
        }
    }
}

/// What a process shows of itself to others of its user.
fn expect_none_in_process(daemon: &Daemon, planted: &[String]) {
    for of in ["cmdline", "environ"] {
        let path = format!("/proc/{}/{of}", daemon.pid());
        expect_none(planted, &std::fs::read(&path).unwrap(), &path);
    }
}

fn expect_none_in_answers(answers: &[Answer], planted: &[String]) {
    for (n, answer) in answers.iter().enumerate() {
        expect_none(planted, &answer.body, &format!("answer {n}"));
    }
}

#[tokio::test]
async fn planted_secrets_are_in_no_file_no_backup_no_log_no_answer_and_not_in_the_process() {
    let receiver = Receiver::start().await;
    for is_encrypted in [true, false] {
        let setup = Setup::new().set("log.level", r#""trace""#);
        let setup = if is_encrypted {
            with_key(setup, 1)
        } else {
            setup
        };
        let mut daemon = setup.start().await;
        let (mut planted, answers) = plant(&daemon.tcp(), &receiver).await;
        let backup = daemon
            .setup
            .folder()
            .join("backup.redb")
            .display()
            .to_string();
        succeeds(&daemon.setup, &["backup", &backup]).await;
        let token = daemon.token();
        expect_none_in_process(
            &daemon,
            &[&planted[..], std::slice::from_ref(&token)].concat(),
        );
        assert!(daemon.stop().await.success());
        let store = std::fs::read(daemon.setup.data_dir().join("stormhook.redb")).unwrap();
        if !is_encrypted {
            // Otherwise the test would show nothing.
            let has = |text: &String| {
                store
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            };
            assert!(planted.iter().all(has));
            continue;
        }
        planted.push(token);
        // The key itself.
        planted.push("\u{1}".repeat(32));
        expect_none(&planted, &store, "the store");
        expect_none(&planted, &std::fs::read(&backup).unwrap(), "the backup");
        expect_none(&planted, daemon.log().as_bytes(), "the log");
        expect_none_in_answers(&answers, &planted);
    }
}

/// Prepares the database for the daemon of this setup.
async fn migrate(setup: &Setup) {
    succeeds(setup, &["migrate"]).await;
}

/// Returns every row of every table, as text.
fn dump(server: &Server) -> String {
    let sql = "SELECT string_agg(format('SELECT t::text FROM stormhook.%I t', tablename), ' UNION ALL ') \
               FROM pg_tables WHERE schemaname = 'stormhook'";
    server.sql(&server.sql(sql))
}

#[tokio::test]
async fn planted_secrets_are_in_no_table_of_a_database() {
    let receiver = Receiver::start().await;
    for is_encrypted in [true, false] {
        let server = Server::start();
        let setup = on(&server, Setup::new().set("log.level", r#""trace""#));
        let setup = if is_encrypted {
            with_key(setup, 1)
        } else {
            setup
        };
        migrate(&setup).await;
        let mut daemon = setup.start().await;
        let (planted, answers) = plant(&daemon.client(), &receiver).await;
        expect_none_in_process(&daemon, &planted);
        assert!(daemon.stop().await.success());
        let rows = dump(&server);
        if is_encrypted {
            expect_none(&planted, rows.as_bytes(), "the database");
            expect_none(&planted, daemon.log().as_bytes(), "the log");
            expect_none_in_answers(&answers, &planted);
        } else {
            let hex: String = CHOSEN.bytes().map(|b| format!("{b:02x}")).collect();
            assert!(rows.contains(&hex), "or the test shows nothing");
        }
    }
}

/// Waits until all secrets have this key.
async fn keyed(api: &Client, id: Option<&str>) {
    until("secrets are rewritten", async || {
        let told = api.get("/v1/secrets").await.expect(200);
        (told["finished"] == true && told["keyId"].as_str() == id).then_some(())
    })
    .await;
}

/// Sends an event, and verifies that this secret signs it.
async fn is_signed(api: &Client, receiver: &Receiver, secret: &str) {
    let before = receiver.requests().len();
    let event = api.event("order.created", json!({"n": 1})).await;
    api.delivery_when(&event, "SUCCESS").await;
    let requests = receiver.wait_for(before + 1).await;
    verify(&requests[before], &[secret]);
    assert_eq!(requests[before].header("x-api-key"), HEADER);
}

async fn endpoint(api: &Client, receiver: &Receiver) {
    let more = json!({"headers": {"x-api-key": HEADER}, "secret": CHOSEN});
    api.endpoint_with(&receiver.url("/"), &["*"], more).await;
}

#[tokio::test]
async fn a_store_is_encrypted_when_a_key_is_configured_and_opens_with_that_key_alone() {
    let receiver = Receiver::answering(Reply::Status(200)).await;
    let mut daemon = Daemon::start().await;
    endpoint(&daemon.client(), &receiver).await;
    keyed(&daemon.client(), None).await;
    assert!(daemon.stop().await.success());
    let mut daemon = with_key(daemon.into_setup(), 1).start().await;
    let api = daemon.client();
    keyed(&api, Some(KEY_1)).await;
    is_signed(&api, &receiver, CHOSEN).await;
    let checked = api.post("/v1/check", json!({})).await.expect(200);
    assert_eq!(checked["secretsKeyId"], KEY_1);
    let shown = succeeds(&daemon.setup, &["config"]).await;
    let said = format!("The store's secrets are encrypted with key {KEY_1}.");
    assert!(shown.contains(&said), "{shown}");
    assert!(daemon.stop().await.success());

    let setup = daemon.into_setup();
    let config = setup.write_config();
    let folder = setup.data_dir().display().to_string();
    for offline in [
        succeeds(&setup, &["config"]).await,
        succeeds(&setup, &["check"]).await,
        text(&setup.run(&["check", "--data-dir", &folder]).await.stdout),
    ] {
        assert!(offline.contains(KEY_1), "{offline}");
    }
    drop(config);
    let (setup, said) = does_not_start(setup.unset("secrets.key_file")).await;
    let names =
        format!("encrypted with key {KEY_1}, and no key is configured: set secrets.key_file");
    assert!(said.contains(&names), "{said}");
    let (setup, said) = does_not_start(with_key(setup, 2)).await;
    let names = format!("encrypted with key {KEY_1}, and the configured key is {KEY_2}");
    assert!(said.contains(&names), "{said}");
    // What needs no secret needs no key.
    let exported = succeeds(&setup.unset("secrets.key_file"), &["export"]).await;
    assert!(exported.contains(r#""headers":{"x-api-key":"***"}"#) && !exported.contains(HEADER));
}

#[tokio::test]
async fn a_key_file_of_another_length_is_refused_and_one_that_all_can_read_is_a_warning() {
    let setup = Setup::new();
    let path = setup.folder().join("key");
    std::fs::write(&path, "hunter2\n").unwrap();
    let setup = setup.set("secrets.key_file", &quoted(&path));
    let (setup, said) = does_not_start(setup).await;
    assert!(
        said.contains("it must be 32 random bytes, raw or in base64, and has 8 bytes"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    // 32 bytes of 1, in base64.
    std::fs::write(&path, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let mut daemon = setup.start().await;
    keyed(&daemon.client(), Some(KEY_1)).await;
    let log = daemon.log();
    assert!(log.contains("accessible to all users"), "{log}");
    assert!(daemon.stop().await.success());
    let (setup, said) = {
        let setup = daemon.into_setup();
        let missing = quoted(&setup.folder().join("none"));
        does_not_start(setup.set("secrets.key_file", &missing)).await
    };
    assert!(
        said.contains("reading the key") && said.contains("No such file"),
        "{said}"
    );
    drop(setup);
}

#[tokio::test]
async fn a_credential_of_systemd_is_the_key_without_a_setting() {
    let setup = Setup::new();
    let credentials = setup.folder().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("stormhook-key"), [1; 32]).unwrap();
    let mode = PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(credentials.join("stormhook-key"), mode).unwrap();
    let variable = credentials.display().to_string();
    let mut daemon = setup.env("CREDENTIALS_DIRECTORY", &variable).start().await;
    keyed(&daemon.client(), Some(KEY_1)).await;
    assert!(daemon.stop().await.success());
    std::fs::remove_file(credentials.join("stormhook-key")).unwrap();
    let (_, said) = does_not_start(daemon.into_setup()).await;
    assert!(said.contains("no key is configured"), "{said}");
}

#[tokio::test]
async fn a_running_daemon_changes_the_key_and_the_one_before_is_refused() {
    let receiver = Receiver::answering(Reply::Status(200)).await;
    let mut daemon = with_key(Setup::new(), 1).start().await;
    let api = daemon.client();
    endpoint(&api, &receiver).await;
    keyed(&api, Some(KEY_1)).await;
    for (body, field) in [
        (json!({"newKeyFile": "relative"}), "newKeyFile"),
        (json!({"newKeyFile": "/nowhere/key"}), "newKeyFile"),
    ] {
        let refused = api.post("/v1/secrets/rekey", body).await;
        assert_eq!(refused.problem(400, "invalid_field")["field"], field);
    }
    let new = key_file(&daemon.setup, 2);
    let socket = daemon.setup.socket().display().to_string();
    let file = new.display().to_string();
    let rekey = ["rekey", "--new-key-file", &file, "--socket", &socket];
    let said = succeeds(&daemon.setup, &rekey).await;
    let expected =
        format!("All secrets are encrypted with key {KEY_2}. Set secrets.key_file to {file}");
    assert!(said.contains(&expected), "{said}");
    keyed(&api, Some(KEY_2)).await;
    is_signed(&api, &receiver, CHOSEN).await;
    assert!(daemon.stop().await.success());
    let (setup, said) = does_not_start(daemon.into_setup()).await;
    assert!(said.contains(KEY_2), "{said}");
    let mut daemon = setup.set("secrets.key_file", &quoted(&new)).start().await;
    is_signed(&daemon.client(), &receiver, CHOSEN).await;
    // Killed as soon as it has begun to go back.
    let old = key_file(&daemon.setup, 1);
    let body = json!({"newKeyFile": old.display().to_string()});
    daemon
        .client()
        .post("/v1/secrets/rekey", body)
        .await
        .expect(202);
    daemon.kill().await;
    daemon.change("secrets.key_file", &quoted(&old));
    daemon.change("secrets.previous_key_file", &quoted(&new));
    daemon.start_again().await;
    keyed(&daemon.client(), Some(KEY_1)).await;
    is_signed(&daemon.client(), &receiver, CHOSEN).await;
    let said = succeeds(&daemon.setup, &["rekey", "--to-plain", "--socket", &socket]).await;
    assert!(said.contains("All secrets are decrypted"), "{said}");
    keyed(&daemon.client(), None).await;
    is_signed(&daemon.client(), &receiver, CHOSEN).await;
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn a_stopped_store_is_rekeyed_by_a_restart_or_decrypted_by_the_command() {
    let receiver = Receiver::answering(Reply::Status(200)).await;
    let mut daemon = with_key(Setup::new(), 1).start().await;
    endpoint(&daemon.client(), &receiver).await;
    assert!(daemon.stop().await.success());
    let (old, new) = (key_file(&daemon.setup, 1), key_file(&daemon.setup, 2));
    daemon.change("secrets.key_file", &quoted(&new));
    daemon.change("secrets.previous_key_file", &quoted(&old));
    daemon.start_again().await;
    keyed(&daemon.client(), Some(KEY_2)).await;
    is_signed(&daemon.client(), &receiver, CHOSEN).await;
    assert!(daemon.stop().await.success());
    let setup = daemon.into_setup().unset("secrets.previous_key_file");
    let said = succeeds(&setup, &["rekey", "--to-plain"]).await;
    assert!(
        said.contains("All secrets are decrypted. Remove secrets.key_file"),
        "{said}"
    );
    let mut daemon = setup.unset("secrets.key_file").start().await;
    keyed(&daemon.client(), None).await;
    is_signed(&daemon.client(), &receiver, CHOSEN).await;
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn a_move_needs_the_key_and_encrypts_with_that_of_the_other_store() {
    let receiver = Receiver::answering(Reply::Status(200)).await;
    let mut daemon = with_key(Setup::new(), 1).start().await;
    endpoint(&daemon.client(), &receiver).await;
    assert!(daemon.stop().await.success());
    let setup = daemon.into_setup();
    let file = setup.folder().join("move.ndjson").display().to_string();
    let export = ["export", "--with-secrets", "--output", &file];
    let setup = setup.unset("secrets.key_file");
    let refused = command(&setup, &export).await;
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains(KEY_1), "{refused:?}");
    let setup = with_key(setup, 1);
    let said = succeeds(&setup, &export).await;
    assert!(said.contains("holds every secret in plain text"), "{said}");
    let other = with_key(Setup::new(), 2);
    succeeds(&other, &["import", &file]).await;
    let store = std::fs::read(other.data_dir().join("stormhook.redb")).unwrap();
    expect_none(
        &[HEADER.to_owned(), CHOSEN.to_owned()],
        &store,
        "the other store",
    );
    let mut daemon = other.start().await;
    keyed(&daemon.client(), Some(KEY_2)).await;
    is_signed(&daemon.client(), &receiver, CHOSEN).await;
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_daemons_on_a_database_have_the_same_key() {
    let server = Server::start();
    let receiver = Receiver::answering(Reply::Status(200)).await;
    let plain = on(&server, Setup::new());
    migrate(&plain).await;
    let mut first = plain.start().await;
    endpoint(&first.client(), &receiver).await;
    // Secrets that another daemon reads are not encrypted under its feet.
    let (waiting, said) = does_not_start(with_key(on(&server, Setup::new()), 1)).await;
    assert!(
        said.contains("while no daemon with other keys uses it"),
        "{said}"
    );
    assert!(first.stop().await.success());
    let mut daemons = vec![waiting.start().await];
    keyed(&daemons[0].client(), Some(KEY_1)).await;
    daemons.push(with_key(on(&server, Setup::new()), 1).start().await);
    for (key, expected) in [(None, "no key is configured"), (Some(2), KEY_2)] {
        let setup = on(&server, Setup::new());
        let setup = match key {
            Some(key) => with_key(setup, key),
            None => setup,
        };
        let (_, said) = does_not_start(setup).await;
        assert!(said.contains(KEY_1) && said.contains(expected), "{said}");
    }
    for daemon in &daemons {
        is_signed(&daemon.client(), &receiver, CHOSEN).await;
    }
    let running = command(&daemons[0].setup, &["rekey", "--to-plain"]).await;
    assert!(
        text(&running.stderr).contains("stop all of its daemons"),
        "{running:?}"
    );
    for daemon in &mut daemons {
        assert!(daemon.stop().await.success());
    }
    let new = key_file(&daemons[0].setup, 2);
    let file = new.display().to_string();
    let said = succeeds(&daemons[0].setup, &["rekey", "--new-key-file", &file]).await;
    assert!(said.contains(KEY_2), "{said}");
    let forms = server.sql("SELECT DISTINCT secrets_form FROM stormhook.endpoints");
    assert_eq!(forms.trim(), KEY_2);
    let setup = daemons.remove(0).into_setup();
    let (setup, said) = does_not_start(setup).await;
    assert!(said.contains(KEY_2), "{said}");
    let mut daemon = setup.set("secrets.key_file", &quoted(&new)).start().await;
    is_signed(&daemon.client(), &receiver, CHOSEN).await;
    assert!(daemon.stop().await.success());
}
