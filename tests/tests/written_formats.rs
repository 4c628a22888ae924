//! Writes the store of the current format that `store/tests/formats.rs` reads from then on. Run once per format,
//! manually: `cargo nextest run -p stormhook-tests --run-ignored only writes_a_file_of_the_present_format`.

use crate::support::{Client, Receiver, Reply, Setup, until};
use serde_json::{Value, json};
use std::path::Path;

/// The version of the record of `meta`.
const FORMAT: u32 = 4;

async fn endpoint(api: &Client, url: &str, types: &[&str], more: Value) -> Value {
    let mut more = more;
    more["organizationId"] = json!("org_42");
    api.endpoint_with(url, types, more).await
}

async fn event(api: &Client, kind: &str, n: u32, more: Value) {
    // The exact bytes that `formats.rs` sends again with its key.
    let data = format!(r#"{{"n": {n}, "text": "\u00e9 x\u00e9 x\u00e9 x"}}"#);
    let mut fields = json!({"organizationId": "org_42", "type": kind});
    for (key, value) in more.as_object().unwrap() {
        fields[key] = value.clone();
    }
    let fields = fields.to_string();
    let body = format!(r#"{},"data":{data}}}"#, fields.strip_suffix('}').unwrap());
    api.post("/v1/events", body).await.expect(202);
}

/// Waits until this many deliveries are `SUCCESS`, `ABANDONED`, `FAILED` and `RETRYING`.
async fn stand(api: &Client, expected: [usize; 4]) {
    until("the deliveries stand as they should", async || {
        let all = api.all("/v1/deliveries").await;
        let of = |status: &str| all.iter().filter(|d| d["status"] == status).count();
        let found = ["SUCCESS", "ABANDONED", "FAILED", "RETRYING"].map(of);
        (found == expected).then_some(())
    })
    .await;
}

/// The steps are those of `store/tests/assets/README.md`.
#[tokio::test]
#[ignore = "writes a file that is kept as the program of its time wrote it"]
async fn writes_a_file_of_the_present_format() {
    let receiver = Receiver::start().await;
    receiver.answer_by(|request| {
        Reply::Status(match request.path.as_str() {
            "/poor" => 500,
            "/down" => 503,
            "/gone" => 410,
            _ => 200,
        })
    });
    let url = |path: &str| receiver.url(path);
    let setup = Setup::new().set("retry.schedule", r#"["100ms","100ms"]"#);
    let mut daemon = setup.start().await;
    let api = daemon.client();
    let secret = "whsec_c3Rvcm1ob29rLWZvcm1hdC1maWxlLXNlY3JldC0zMmI=";
    let more = json!({"headers": {"x-api-key": "k"}, "secret": secret});
    endpoint(&api, &url("/ok"), &["order.*"], more).await;
    let more = json!({"ordering": "fifo", "ed25519": true});
    endpoint(&api, &url("/poor"), &["invoice.sent"], more).await;
    endpoint(&api, &url("/gone"), &["bye"], json!({})).await;
    for n in 1..=5 {
        let key = json!({"idempotencyKey": format!("order-{n}")});
        event(&api, "order.created", n, key).await;
    }
    for n in 0..2 {
        event(&api, "invoice.sent", n, json!({})).await;
    }
    event(&api, "bye", 0, json!({})).await;
    stand(&api, [5, 2, 1, 0]).await;
    assert!(daemon.stop().await.success());

    daemon.change("retry.schedule", r#"["24h"]"#);
    daemon.start_again().await;
    let api = daemon.client();
    let more = json!({"rateLimitPerSecond": 50});
    let down = ["order.paid", "invoice.*"];
    endpoint(&api, &url("/down"), &down, more).await;
    let held = endpoint(&api, &url("/ok"), &["held.one"], json!({})).await;
    let rotate = format!(
        "/v1/endpoints/{}/rotate-secret",
        held["id"].as_str().unwrap()
    );
    api.post(&rotate, json!({})).await.expect(200);
    for n in 0..3 {
        let more = json!({
            "idempotencyKey": format!("paid-{n}"), "timestamp": "2026-01-02T03:04:05.678+01:00",
        });
        event(&api, "order.paid", n, more).await;
    }
    event(&api, "held.one", 0, json!({})).await;
    event(&api, "invoice.paid", 0, json!({})).await;
    stand(&api, [9, 2, 1, 4]).await;
    let waiting = api.all("/v1/deliveries?eventType=invoice.paid").await;
    let cancel = format!(
        "/v1/deliveries/{}/cancel",
        waiting[0]["id"].as_str().unwrap()
    );
    api.post(&cancel, json!({})).await.expect(200);
    stand(&api, [9, 2, 2, 3]).await;
    // Ends with the windows in the file.
    assert!(daemon.stop().await.success());

    let store = std::fs::read(daemon.setup.data_dir().join("stormhook.redb")).unwrap();
    let packed = zstd::bulk::compress(&store, 19).unwrap();
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/assets");
    let path = assets.join(format!("format-{FORMAT}.redb.zst"));
    std::fs::write(&path, packed).unwrap();
    eprintln!("wrote {}", path.display());
}
