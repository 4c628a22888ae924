//! Section 5 of the contract: the names, what counts, and health.

use crate::support::{Daemon, Receiver, Reply, Setup, until};
use serde_json::{Value, json};

const PERCENTILES: [&str; 6] = ["p50", "p90", "p95", "p99", "max", "avg"];

fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "window",
        "from",
        "to",
        "slo",
        "delivery.success.count",
        "delivery.failure.count",
        "delivery.abandoned.count",
        "delivery.first_attempt.success.rate",
        "ingest.accepted.count",
        "idempotency.replay.count",
        "idempotency.conflict.count",
        "idempotency.inflight.gauge",
        "queue.pending",
        "queue.retrying",
        "queue.held",
        "queue.overdue.ms",
        "queue.in_flight",
    ]
    .map(str::to_owned)
    .to_vec();
    for family in [
        "delivery.latency",
        "delivery.first_attempt.latency",
        "attempt.duration",
    ] {
        names.extend(PERCENTILES.map(|p| format!("{family}.{p}")));
    }
    names.sort();
    names
}

#[tokio::test]
async fn the_answer_has_exactly_the_names_of_the_contract() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    for query in [
        "",
        "?window=5m",
        "?window=24h",
        "?window=all",
        "?organizationId=org_1",
    ] {
        let stats = api.stats(query).await;
        let mut have: Vec<_> = stats.as_object().unwrap().keys().cloned().collect();
        have.sort();
        assert_eq!(have, names(), "{query}");
        assert_eq!(
            stats["delivery.latency.p99"],
            Value::Null,
            "percentiles of nothing"
        );
    }
    assert_eq!(api.stats("").await["window"], "1h");
    for bad in ["window=2h", "window=", "window=1H"] {
        api.get(&format!("/v1/stats?{bad}"))
            .await
            .problem_in(400, "invalid_field", "window");
    }
    api.get("/v1/stats?widow=1h")
        .await
        .problem_in(400, "unknown_field", "widow");
}

#[tokio::test]
async fn attempts_are_counted_by_endpoint_and_organization() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    receiver.script([Reply::Status(500)]);
    let api = daemon.client();
    let made = api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!(1)).await;
    api.delivery_when(&event, "SUCCESS").await;
    let event = api.event("a.b", json!(2)).await;
    api.delivery_when(&event, "SUCCESS").await;
    let endpoint = format!("?endpointId={}", made["id"].as_str().unwrap());
    for query in ["", "?organizationId=org_1", &endpoint] {
        let stats = until("the windows are folded", async || {
            let stats = api.stats(query).await;
            (stats["delivery.success.count"] == 2).then_some(stats)
        })
        .await;
        assert_eq!(stats["delivery.failure.count"], 1, "{query}: {stats}");
        assert_eq!(stats["queue.pending"], 0, "{query}: {stats}");
    }
    let stats = until("the histograms are folded", async || {
        let stats = api.stats("").await;
        (stats["delivery.latency.max"].is_number()).then_some(stats)
    })
    .await;
    assert_eq!(stats["delivery.first_attempt.success.rate"], 0.5, "{stats}");
    let value = |name: &str| {
        stats[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name}: {stats}"))
    };
    assert!(value("delivery.latency.p50") <= value("delivery.latency.max"));
    assert!(value("attempt.duration.max") < 20_000.0);
    let slo = stats["slo"].as_array().unwrap();
    assert_eq!(slo.len(), 2, "{stats}");
    for line in slo {
        assert!(
            line["name"].is_string() && line["met"].is_boolean(),
            "{line}"
        );
    }
    assert_eq!(
        api.stats("?organizationId=org_2").await["delivery.success.count"],
        0
    );
}

#[tokio::test]
async fn counters_are_exact_after_kill() {
    let mut daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    {
        let api = daemon.client();
        api.endpoint(&receiver.url("/"), &["*"]).await;
        for n in 0..20 {
            let event = api.event("a.b", json!(n)).await;
            api.delivery_when(&event, "SUCCESS").await;
        }
    }
    daemon.kill().await;
    daemon.start_again().await;
    let stats = daemon.client().stats("?window=all").await;
    assert_eq!(stats["ingest.accepted.count"], 20, "{stats}");
    assert_eq!(stats["delivery.success.count"], 20, "{stats}");
}

#[tokio::test]
async fn metrics_are_the_prometheus_text_format() {
    let daemon = Daemon::start().await;
    daemon.client().event("a.b", json!(1)).await;
    let answer = daemon.client().get("/metrics").await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/plain"),
        "{answer:?}"
    );
    let text = answer.text();
    let mut samples = 0;
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            assert!(
                comment.starts_with("HELP stormhook_")
                    || comment.starts_with("TYPE stormhook_")
                    || comment == "EOF",
                "{line}"
            );
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("stormhook_"), "{line}");
        assert!(
            value.parse::<f64>().is_ok() || ["+Inf", "NaN"].contains(&value),
            "{line}"
        );
        samples += 1;
    }
    assert!(samples > 5, "{text}");
    assert!(
        text.contains("_total") && text.contains("_seconds"),
        "base units: {text}"
    );
}

#[tokio::test]
async fn the_daemon_is_healthy_and_ready_when_it_says_so() {
    let daemon = Setup::new().start().await;
    for api in [daemon.client(), daemon.tcp()] {
        api.get("/healthz").await.expect_ok();
        api.get("/readyz").await.expect_ok();
    }
}
