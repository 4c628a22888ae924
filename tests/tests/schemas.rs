//! The schemas of bodies are as strict as the daemon: a client that validates its requests is refused nothing else, and
//! nothing that it may send. `tests/schemathesis` does the same at random.

use crate::support::{Daemon, document};
use serde_json::{Value, json};

/// A body with these fields in addition to those that it needs.
fn with(body: Value, fields: &Value) -> Value {
    let mut body = body;
    let members = fields.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(members);
    body
}

/// Bodies that a schema can tell apart only with patterns and conditions, each with whether it is accepted.
fn bodies(endpoint: &str) -> Vec<(String, &'static str, Value, bool)> {
    let mut bodies = Vec::new();
    let rotate = format!("/v1/endpoints/{endpoint}/rotate-secret");
    let mut add = |call: &str, schema, body: &Value, accepted| {
        bodies.push((call.to_owned(), schema, body.clone(), accepted));
    };
    for (overlap, accepted) in overlaps() {
        add(&rotate, "Rotation", &json!({"overlap": overlap}), accepted);
    }
    for (secret, accepted) in secrets() {
        let body = json!({"secret": secret, "overlap": "0s"});
        add(&rotate, "Rotation", &body, accepted);
    }
    let made =
        json!({"organizationId": "org_1", "url": "https://partner.example", "eventTypes": ["*"]});
    for (url, accepted) in urls() {
        let body = with(made.clone(), &json!({"url": url}));
        add("/v1/endpoints", "NewEndpoint", &body, accepted);
    }
    for (fields, accepted) in [
        (json!({"description": "ü".repeat(1024)}), true),
        (json!({"description": "ü".repeat(1025)}), false),
        (json!({"tls": {"clientCertificate": "-----BEGIN"}}), false),
        (
            json!({"tls": {"clientKey": "-----BEGIN", "clientCertificate": null}}),
            false,
        ),
        (
            json!({"tls": {"clientKey": null, "clientCertificate": null}}),
            true,
        ),
    ] {
        add(
            "/v1/endpoints",
            "NewEndpoint",
            &with(made.clone(), &fields),
            accepted,
        );
    }
    let key = json!({"name": "orders", "scopes": ["read"]});
    for (fields, accepted) in [
        (json!({"name": "ü".repeat(128)}), true),
        (json!({"name": "ü".repeat(129)}), false),
        (json!({"name": "a\u{85}b"}), false),
        (json!({"organizationId": "org_1"}), true),
        (
            json!({"organizationId": null, "scopes": ["read", "admin"]}),
            true,
        ),
        (
            json!({"organizationId": "org_1", "scopes": ["read", "admin"]}),
            false,
        ),
    ] {
        add(
            "/v1/keys",
            "NewApiKey",
            &with(key.clone(), &fields),
            accepted,
        );
    }
    let event = json!({"organizationId": "org_1", "data": null});
    for (kind, accepted) in [
        ("stormhook", true),
        ("stormhook.ping", false),
        ("a.stormhook.b", true),
    ] {
        let body = with(event.clone(), &json!({"type": kind}));
        add("/v1/events", "NewEvent", &body, accepted);
    }
    bodies
}

fn overlaps() -> [(Value, bool); 15] {
    [
        (json!(0), true),
        (json!("0"), true),
        (json!("0ms"), true),
        (json!("007d"), true),
        (json!("8d"), false),
        (json!("168h"), true),
        (json!("169h"), false),
        (json!("10080m"), true),
        (json!("10081m"), false),
        (json!("604800s"), true),
        (json!("604801s"), false),
        (json!("604800000ms"), true),
        (json!("604800001ms"), false),
        (json!("99999999ms"), true),
        (json!("1w"), false),
    ]
}

fn secrets() -> [(String, bool); 14] {
    let base64 = |bytes: usize| {
        let groups = "QUJD".repeat(bytes / 3);
        format!("whsec_{groups}{}", ["", "QQ==", "QUI="][bytes % 3])
    };
    [
        (base64(23), false),
        (base64(24), true),
        (base64(25), true),
        (base64(63), true),
        (base64(64), true),
        (base64(65), false),
        // Bits of the last character that no byte has.
        (base64(25).replace("QQ==", "QR=="), false),
        (base64(25).replace("==", ""), false),
        ("a".repeat(15), false),
        ("b".repeat(16), true),
        ("c".repeat(256), true),
        ("d".repeat(257), false),
        ("'quoted-with-sixteen'".to_owned(), false),
        ("'quoted-on-one-side".to_owned(), true),
    ]
}

fn urls() -> [(String, bool); 10] {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    [
        (format!("https://{label}.example/"), true),
        (format!("https://a{label}.example/"), false),
        (format!("https://{longest}.:8443/a?b"), true),
        (format!("https://{longest}{}/", ".b".repeat(9)), false),
        ("HTTPS://Partner.Example".to_owned(), true),
        ("https://[2606:4700::1111]:8443?a".to_owned(), true),
        ("https://user@partner.example/".to_owned(), false),
        ("https://partner.example/#part".to_owned(), false),
        ("https:///hooks".to_owned(), false),
        ("ftp://partner.example/".to_owned(), false),
    ]
}

#[tokio::test]
async fn a_schema_allows_what_is_accepted_and_nothing_else() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let made = api.endpoint("https://partner.example", &["*"]).await;
    for (path, schema, body, accepted) in bodies(made["id"].as_str().unwrap()) {
        let reference = json!({"$ref": format!("#/components/schemas/{schema}")});
        assert_eq!(
            document().allows(&reference, &body),
            accepted,
            "{schema}: {body}"
        );
        let answer = api.post(&path, body.clone()).await;
        assert_eq!(
            answer.status.is_success(),
            accepted,
            "{path} {body}: {answer:?}"
        );
    }
    let change = json!({"$ref": "#/components/schemas/EndpointChange"});
    for (body, accepted) in [
        (json!({"discardHeld": true}), false),
        (json!({"discardHeld": true, "active": false}), false),
        (json!({"discardHeld": true, "active": true}), true),
        (json!({"discardHeld": false}), true),
    ] {
        assert_eq!(document().allows(&change, &body), accepted, "{body}");
        let answer = api
            .patch(
                &format!("/v1/endpoints/{}", made["id"].as_str().unwrap()),
                body.clone(),
            )
            .await;
        assert_eq!(answer.status.is_success(), accepted, "{body}: {answer:?}");
    }
}
