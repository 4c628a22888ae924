//! Asymmetric signatures: which endpoints make them, with which keys, and that private keys are never shown.

use crate::support::{Client, Daemon, Receiver, Recorded, Setup, verify, verify_with_keys};
use base64ct::{Base64, Encoding};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap())
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {value}"))
}

async fn with_ed25519(api: &Client, receiver: &Receiver) -> Value {
    let on = json!({"ed25519": true});
    api.endpoint_with(&receiver.url("/"), &["*"], on).await
}

async fn secrets(api: &Client, endpoint: &Value) -> Value {
    api.get(&format!("{}/secret", path(endpoint)))
        .await
        .expect(200)
}

async fn rotate(api: &Client, endpoint: &Value, body: Value) -> Value {
    let rotate = format!("{}/rotate-secret", path(endpoint));
    api.post(&rotate, body).await.expect(200)
}

/// Sends an event and returns its delivery.
async fn delivered(api: &Client, receiver: &Receiver) -> Recorded {
    let before = receiver.count();
    api.event("a.b", json!({"n": 1.50})).await;
    receiver.wait_for(before + 1).await.remove(before)
}

#[tokio::test]
async fn a_delivery_verifies_under_the_public_key_that_the_secret_route_shows() {
    let daemon = Daemon::start().await;
    let (api, receiver) = (daemon.client(), Receiver::start().await);
    let made = with_ed25519(&api, &receiver).await;
    assert_eq!(made["ed25519"], true);
    let shown = secrets(&api, &made).await;
    let key = text(&shown, "publicKey");
    assert_eq!(text(&made, "publicKey"), key);
    let bytes = Base64::decode_vec(key.strip_prefix("whpk_").unwrap()).unwrap();
    assert_eq!(bytes.len(), 32);
    verify_with_keys(
        &delivered(&api, &receiver).await,
        &[text(&made, "secret")],
        &[key],
    );
    // The endpoint itself only shows that ed25519 is enabled.
    let endpoint = api.get(&path(&made)).await.expect(200);
    assert_eq!(endpoint["ed25519"], true);
    assert!(
        endpoint["publicKey"].is_null() && endpoint["secret"].is_null(),
        "{endpoint}"
    );
}

#[tokio::test]
async fn after_a_rotation_the_old_and_the_new_key_verify_the_same_delivery() {
    let mut daemon = Daemon::start().await;
    let (api, receiver) = (daemon.client(), Receiver::start().await);
    let made = with_ed25519(&api, &receiver).await;
    let rotated = rotate(&api, &made, json!({"overlap": "1h"})).await;
    let (old, new) = (text(&made, "publicKey"), text(&rotated, "publicKey"));
    assert_ne!(old, new);
    assert_eq!(text(&rotated["previous"][0], "publicKey"), old);
    assert_eq!(secrets(&api, &made).await, rotated);
    let both = [text(&rotated, "secret"), text(&made, "secret")];
    verify_with_keys(&delivered(&api, &receiver).await, &both, &[new, old]);
    daemon.kill().await;
    daemon.start_again().await;
    let api = daemon.client();
    verify_with_keys(&delivered(&api, &receiver).await, &both, &[new, old]);
    let last = rotate(&api, &made, json!({"overlap": "0s"})).await;
    let request = delivered(&api, &receiver).await;
    verify_with_keys(
        &request,
        &[text(&last, "secret")],
        &[text(&last, "publicKey")],
    );
}

#[tokio::test]
async fn disabled_it_signs_without_and_enabled_again_with_another_key() {
    let daemon = Daemon::start().await;
    let (api, receiver) = (daemon.client(), Receiver::start().await);
    let made = api.endpoint(&receiver.url("/"), &["*"]).await;
    assert!(
        made.get("ed25519").is_none() && made.get("publicKey").is_none(),
        "{made}"
    );
    let secret = text(&made, "secret");
    let mut keys = BTreeSet::new();
    for off in [json!({"ed25519": false}), json!({"ed25519": null})] {
        let on = api
            .patch(&path(&made), json!({"ed25519": true}))
            .await
            .expect(200);
        assert_eq!(on["ed25519"], true);
        let key = text(&secrets(&api, &made).await, "publicKey").to_owned();
        verify_with_keys(&delivered(&api, &receiver).await, &[secret], &[&key]);
        // Already enabled: nothing changes, in particular not the key that the receiver holds.
        assert_eq!(
            api.patch(&path(&made), json!({"ed25519": true}))
                .await
                .expect(200)["updatedAt"],
            on["updatedAt"]
        );
        assert_eq!(text(&secrets(&api, &made).await, "publicKey"), key);
        let after = api.patch(&path(&made), off).await.expect(200);
        assert!(after.get("ed25519").is_none(), "{after}");
        assert_eq!(
            secrets(&api, &made).await,
            json!({"secret": secret, "previous": []})
        );
        verify(&delivered(&api, &receiver).await, &[secret]);
        assert!(keys.insert(key), "each time another key");
    }
    for wrong in [json!("true"), json!(1), json!([])] {
        let answer = api.patch(&path(&made), json!({"ed25519": wrong})).await;
        answer.problem_in(400, "invalid_field", "ed25519");
    }
}

#[tokio::test]
async fn an_earlier_secret_without_a_key_gets_none_and_a_rotation_while_off_makes_none() {
    let daemon = Daemon::start().await;
    let (api, receiver) = (daemon.client(), Receiver::start().await);
    let made = api.endpoint(&receiver.url("/"), &["*"]).await;
    let rotated = rotate(&api, &made, json!({})).await;
    assert!(rotated.get("publicKey").is_none(), "{rotated}");
    api.patch(&path(&made), json!({"ed25519": true}))
        .await
        .expect(200);
    let shown = secrets(&api, &made).await;
    assert!(shown["previous"][0].get("publicKey").is_none(), "{shown}");
    let both = [text(&rotated, "secret"), text(&made, "secret")];
    let key = text(&shown, "publicKey");
    verify_with_keys(&delivered(&api, &receiver).await, &both, &[key]);
}

#[tokio::test]
async fn a_secret_that_is_no_whsec_leaves_the_ed25519_signature_alone_in_the_header() {
    let daemon = Daemon::start().await;
    let (api, receiver) = (daemon.client(), Receiver::start().await);
    let own = "a_secret_of_our_own";
    let more = json!({"ed25519": true, "secret": own});
    let first = api
        .endpoint_with(&receiver.url("/"), &["a.b"], more.clone())
        .await;
    let request = delivered(&api, &receiver).await;
    verify_with_keys(&request, &[own], &[text(&first, "publicKey")]);
    // The key is not derived from the secret: the same secret, another key.
    let second = api.endpoint_with(&receiver.url("/"), &["c.d"], more).await;
    assert_ne!(first["publicKey"], second["publicKey"]);
}

#[tokio::test]
async fn no_private_key_is_in_any_answer_or_log() {
    let daemon = Setup::new().set("log.level", r#""trace""#).start().await;
    let (api, receiver) = (daemon.client(), Receiver::start().await);
    let made = with_ed25519(&api, &receiver).await;
    let rotated = rotate(&api, &made, json!({})).await;
    delivered(&api, &receiver).await;
    let shown = secrets(&api, &made).await;
    let names = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let expected = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(
        names(&shown),
        expected(&["previous", "publicKey", "secret"])
    );
    let previous = names(&shown["previous"][0]);
    assert_eq!(previous, expected(&["publicKey", "secret", "until"]));
    let list = api.get("/v1/endpoints").await.text();
    for text in [
        made.to_string(),
        rotated.to_string(),
        shown.to_string(),
        list,
        daemon.log(),
    ] {
        assert!(!text.contains("whsk_") && !text.contains("seed"), "{text}");
    }
}

/// Runs a command against the daemon, which must succeed, and returns its output.
async fn stormhook(daemon: &Daemon, arguments: &[&str]) -> String {
    let socket = daemon.setup.socket();
    let all = [arguments, &["--socket", socket.to_str().unwrap()]].concat();
    let output = daemon.setup.run(&all).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_command_line_makes_such_an_endpoint_shows_its_key_and_verifies_with_it() {
    let daemon = Daemon::start().await;
    let (api, receiver) = (daemon.client(), Receiver::start().await);
    let url = receiver.url("/");
    let add = [
        "endpoint",
        "add",
        "--organization",
        "org_1",
        "--event-type",
        "*",
        "--url",
        &url,
    ];
    let told = stormhook(&daemon, &[&add[..], &["--ed25519"]].concat()).await;
    let made = api.all("/v1/endpoints").await.remove(0);
    let shown = secrets(&api, &made).await;
    let (secret, key) = (text(&shown, "secret"), text(&shown, "publicKey"));
    assert!(told.contains(key) && told.contains(secret), "{told}");
    let id = text(&made, "id");
    let told = stormhook(&daemon, &["endpoint", "show", id]).await;
    assert!(told.contains(key) && !told.contains(secret), "{told}");
    let told = stormhook(&daemon, &["endpoint", "rotate-secret", id]).await;
    let rotated = secrets(&api, &made).await;
    assert!(
        told.contains(text(&rotated, "publicKey")) && told.contains(key),
        "{told}"
    );

    let request = delivered(&api, &receiver).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key_file = file("key", format!("{key}\n").as_bytes());
    let headers: Vec<String> = request
        .headers
        .iter()
        .map(|(name, value)| format!("--header={name}: {value}"))
        .collect();
    let check = async |body: &[u8]| {
        let body = file("body", body);
        let mut arguments = vec!["verify", "--json", "--secret-file", &key_file, &body];
        arguments.extend(headers.iter().map(String::as_str));
        let output = daemon.setup.run(&arguments).await;
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["valid"], output.status.success(), "{report}");
        let by_header = |name: &str| {
            let all = report["signatures"].as_array().unwrap();
            let one = all.iter().find(|it| it["header"] == name);
            one.unwrap_or_else(|| panic!("no {name} in {report}"))
                .clone()
        };
        assert_eq!(by_header("x-stormcom-signature")["valid"], Value::Null);
        by_header("webhook-signature")
    };
    assert_eq!(check(&request.body).await["valid"], true);
    assert_eq!(check(b"{}").await["code"], "no_match");

    stormhook(&daemon, &["endpoint", "update", id, "--ed25519", "false"]).await;
    let told = stormhook(&daemon, &["endpoint", "show", id]).await;
    assert!(
        !told.contains("ed25519") && !told.contains("whpk_"),
        "{told}"
    );
    verify(
        &delivered(&api, &receiver).await,
        &[text(&rotated, "secret"), secret],
    );
}
