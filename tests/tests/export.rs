//! `export`: everything as NDJSON in the forms of the API, the same from a running daemon, a backup and a stopped
//! store, and never a secret.

use crate::support::{Client, Daemon, Receiver, Reply, Setup, document};
use serde_json::{Value, json};

/// Runs `export` with these arguments and returns its lines.
async fn export(setup: &Setup, arguments: &[&str]) -> Vec<Value> {
    let all: Vec<&str> = ["export"].iter().chain(arguments).copied().collect();
    let output = setup.run(&all).await;
    assert!(output.status.success(), "{output:?}");
    lines(&output.stdout)
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of(lines: &[Value], object: &str) -> Vec<Value> {
    let mut found: Vec<Value> = lines
        .iter()
        .filter(|line| line["object"] == object)
        .cloned()
        .collect();
    for line in &mut found {
        line.as_object_mut().unwrap().remove("object");
    }
    found
}

/// Creates two organizations with an endpoint each, and settled deliveries, one of them after a failure.
async fn filled(api: &Client, receiver: &Receiver) -> Vec<String> {
    receiver.script([Reply::body(500, "broken")]);
    let more = json!({"headers": {"x-api-key": "topsecretvalue"}});
    api.endpoint_with(&receiver.url("/one"), &["*"], more).await;
    let other =
        json!({"organizationId": "org_2", "url": receiver.url("/two"), "eventTypes": ["a.*"]});
    api.post("/v1/endpoints", other).await.expect(201);
    let first = api.event("a.b", json!({"n": 1.50})).await;
    api.delivery_when(&first, "SUCCESS").await;
    let second =
        json!({"organizationId": "org_2", "type": "a.b", "data": null, "idempotencyKey": "k"});
    let second = api.post("/v1/events", second).await.expect(202);
    let second = second["id"].as_str().unwrap().to_owned();
    api.delivery_when(&second, "SUCCESS").await;
    vec![first, second]
}

#[tokio::test]
async fn an_export_is_the_same_from_a_daemon_a_backup_and_a_stopped_store() {
    let mut daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let events = filled(&api, &receiver).await;
    let socket = daemon.setup.socket().display().to_string();
    let online = export(&daemon.setup, &["--socket", &socket]).await;
    // The same as in the API, except for what only a running daemon knows.
    for (line, id) in of(&online, "event").iter().zip(&events) {
        let told = api.get(&format!("/v1/events/{id}")).await.expect(200);
        assert_eq!(*line, told);
    }
    for mut line in of(&online, "delivery") {
        let told = api.delivery(line["id"].as_str().unwrap()).await;
        assert!(line.get("waitingFor").is_none());
        line["waitingFor"] = told["waitingFor"].clone();
        assert_eq!(line, told);
    }
    for mut line in of(&online, "endpoint") {
        assert_eq!(
            line.as_object_mut().unwrap().remove("deletedAt"),
            Some(Value::Null)
        );
        document().fits(
            &json!({"$ref": "#/components/schemas/Endpoint"}),
            &line,
            "an endpoint",
        );
    }
    let kinds: Vec<_> = online
        .iter()
        .map(|line| line["object"].as_str().unwrap())
        .collect();
    let expected = [
        "endpoint", "endpoint", "audit", "audit", "event", "delivery", "event", "delivery", "end",
    ];
    assert_eq!(kinds, expected);
    let end = json!({"object": "end", "endpoints": 2, "apiKeys": 0, "auditEntries": 2, "events": 2, "deliveries": 2,
        "attempts": 3});
    assert_eq!(online.last(), Some(&end));
    let backup = daemon
        .setup
        .folder()
        .join("backup.redb")
        .display()
        .to_string();
    let made = daemon
        .setup
        .run(&["backup", &backup, "--socket", &socket])
        .await;
    assert!(made.status.success(), "{made:?}");
    assert!(daemon.stop().await.success());
    let folder = daemon.setup.data_dir().display().to_string();
    assert_eq!(export(&daemon.setup, &["--from", &backup]).await, online);
    let offline = export(&daemon.setup, &["--data-dir", &folder]).await;
    assert_eq!(offline, online);
}

#[tokio::test]
async fn no_secret_leaves_with_an_export_and_filters_choose_what_does() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let events = filled(&api, &receiver).await;
    let socket = daemon.setup.socket().display().to_string();
    let file = daemon.setup.folder().join("all.ndjson");
    let (path, name) = (file.clone(), file.display().to_string());
    let arguments = ["export", "--socket", &socket, "--output", &name];
    let made = daemon.setup.run(&arguments).await;
    assert!(made.status.success() && made.stdout.is_empty(), "{made:?}");
    let text = std::fs::read_to_string(&path).unwrap();
    for endpoint in api.all("/v1/endpoints").await {
        let secret = format!("/v1/endpoints/{}/secret", endpoint["id"].as_str().unwrap());
        let secret = api.get(&secret).await.expect(200);
        let shown = secret["secret"]
            .as_str()
            .unwrap()
            .trim_start_matches("whsec_");
        assert!(!text.contains(shown));
    }
    assert!(!text.contains("topsecretvalue") && text.contains("x-api-key"));
    let again = daemon.setup.run(&arguments).await;
    assert_eq!(again.status.code(), Some(2), "it exists already: {again:?}");
    let ids = async |more: &[&str]| {
        let arguments: Vec<&str> = ["--socket", &socket].iter().chain(more).copied().collect();
        let lines = export(&daemon.setup, &arguments).await;
        let endpoints = of(&lines, "endpoint").len();
        let deliveries = of(&lines, "delivery").len();
        let events = of(&lines, "event");
        let ids: Vec<String> = events
            .iter()
            .map(|e| e["id"].as_str().unwrap().to_owned())
            .collect();
        (endpoints, ids, deliveries)
    };
    let second = api
        .get(&format!("/v1/events/{}", events[1]))
        .await
        .expect(200);
    let at = second["acceptedAt"].as_str().unwrap();
    assert_eq!(
        ids(&["--organization", "org_2"]).await,
        (1, vec![events[1].clone()], 1)
    );
    assert_eq!(ids(&["--since", at]).await, (2, vec![events[1].clone()], 1));
    assert_eq!(ids(&["--until", at]).await, (2, vec![events[0].clone()], 1));
    assert_eq!(ids(&["--type", "a.c"]).await, (2, Vec::new(), 0));
    assert_eq!(ids(&["--since", "1h"]).await, (2, events, 2));
}

#[tokio::test]
async fn each_object_is_one_line_to_every_reader() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let data = "{\n  \"a\" : [ 1.0,\r\n 2 ],\n \"b\": \"\u{2028}\u{2029}\u{85} \\ud800\"\n}";
    let event = format!(r#"{{"organizationId":"org_1","type":"a.b","data":{data}}}"#);
    api.post("/v1/events", event).await.expect(202);
    let note = json!({"description": "one\u{2028}two\nthree"});
    api.endpoint_with("http://127.0.0.1:9443/", &["a.c"], note)
        .await;
    let socket = daemon.setup.socket().display().to_string();
    let output = daemon.setup.run(&["export", "--socket", &socket]).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // What Python's splitlines and Unicode treat as the end of a line.
    let ends = [
        '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}',
        '\u{2029}',
    ];
    let lines: Vec<&str> = text.strip_suffix('\n').unwrap().split(ends).collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(
        lines[0].contains(r#""description":"one\u2028two\nthree""#),
        "{text}"
    );
    assert!(
        lines[1].contains(r#""description":"one\u2028two\nthree""#),
        "{text}"
    );
    assert!(
        lines[2].contains(r#""data":{"a":[1.0,2],"b":"\u2028\u2029\u0085 \ud800"}"#),
        "{text}"
    );
    assert!(lines[3].contains(r#""object":"end""#), "{text}");
}
