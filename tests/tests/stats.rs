//! Section 5 of the contract: the names, what is counted, and health.

use crate::support::{Daemon, Receiver, Reply, Setup, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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

/// The metric families that dashboards are built on, with their types.
const FAMILIES: [(&str, &str); 22] = [
    ("attempt_duration_seconds", "histogram"),
    ("build_info", "gauge"),
    ("delivery_abandoned_total", "counter"),
    ("delivery_failure_total", "counter"),
    ("delivery_first_attempt_latency_seconds", "histogram"),
    ("delivery_first_attempt_success_total", "counter"),
    ("delivery_first_attempt_total", "counter"),
    ("delivery_latency_seconds", "histogram"),
    ("delivery_success_total", "counter"),
    ("endpoints", "gauge"),
    ("idempotency_conflict_total", "counter"),
    ("idempotency_inflight", "gauge"),
    ("idempotency_replay_total", "counter"),
    ("ingest_accepted_total", "counter"),
    ("process_start_time_seconds", "gauge"),
    ("queue_held", "gauge"),
    ("queue_in_flight", "gauge"),
    ("queue_overdue_seconds", "gauge"),
    ("queue_pending", "gauge"),
    ("queue_retrying", "gauge"),
    ("ready", "gauge"),
    ("store_file_bytes", "gauge"),
];

/// Returns the samples of a page by name and labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            (name, value)
        })
        .collect()
}

#[tokio::test]
async fn metrics_are_the_prometheus_text_format() {
    let daemon = Daemon::start().await;
    let answer = daemon.client().get("/metrics").await;
    let kind = answer.header("content-type").unwrap();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text();
    let mut families = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        // Each family is its help, its type and its samples, in one block.
        let (name, help) = help
            .strip_prefix("# HELP ")
            .unwrap()
            .split_once(' ')
            .unwrap();
        assert!(help.ends_with('.') && help.len() > 20, "{name}: {help}");
        let kind = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
        let (of, kind) = kind.split_once(' ').unwrap();
        assert_eq!(of, name);
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let rest = sample.strip_prefix(name).unwrap();
            let suffixes = ["_bucket{", "_sum ", "_count "];
            let histogram = suffixes.iter().any(|suffix| rest.starts_with(suffix));
            assert_eq!(histogram, kind == "histogram", "{sample}");
            assert!(histogram || rest.starts_with([' ', '{']), "{sample}");
        }
        families.push((name.strip_prefix("stormhook_").unwrap(), kind));
    }
    families.sort_unstable();
    assert_eq!(families, FAMILIES);
    let samples = samples(&text);
    assert_eq!(samples["stormhook_ready"], 1.0);
    assert!(samples["stormhook_process_start_time_seconds"] > 1.7e9);
    let version = samples
        .keys()
        .find(|name| name.starts_with("stormhook_build_info{version=\""));
    assert_eq!(samples[*version.unwrap()], 1.0, "{text}");
}

#[tokio::test]
async fn metrics_count_what_the_stats_count() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    receiver.script([Reply::Status(500)]);
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    api.endpoint_with(&receiver.url("/"), &["*"], json!({"active": false}))
        .await;
    for n in 0..3 {
        let event = api.event("a.b", json!(n)).await;
        api.delivery_when(&event, "SUCCESS").await;
    }
    let text = until("the histograms are folded", async || {
        let text = api.get("/metrics").await.text();
        let counted = samples(&text)["stormhook_attempt_duration_seconds_count"];
        (counted == 4.0).then_some(text)
    })
    .await;
    let samples = samples(&text);
    let stats = api.stats("?window=all").await;
    for (metric, figure) in [
        ("delivery_success_total", "delivery.success.count"),
        ("delivery_failure_total", "delivery.failure.count"),
        ("delivery_abandoned_total", "delivery.abandoned.count"),
        ("ingest_accepted_total", "ingest.accepted.count"),
        ("idempotency_replay_total", "idempotency.replay.count"),
        ("idempotency_conflict_total", "idempotency.conflict.count"),
        ("queue_pending", "queue.pending"),
        ("queue_retrying", "queue.retrying"),
        ("queue_held", "queue.held"),
    ] {
        let name = format!("stormhook_{metric}");
        assert_eq!(json!(samples[&*name] as u64), stats[figure], "{name}");
    }
    assert_eq!(samples["stormhook_delivery_first_attempt_total"], 3.0);
    assert_eq!(
        samples["stormhook_delivery_first_attempt_success_total"],
        2.0
    );
    assert_eq!(samples["stormhook_endpoints{active=\"true\"}"], 1.0);
    assert_eq!(samples["stormhook_endpoints{active=\"false\"}"], 1.0);
    let length = std::fs::metadata(daemon.setup.data_dir().join("stormhook.redb")).unwrap();
    assert!(samples["stormhook_store_file_bytes"] >= length.len() as f64 / 2.0);
    for (family, count) in [
        ("delivery_latency_seconds", 3.0),
        ("delivery_first_attempt_latency_seconds", 2.0),
        ("attempt_duration_seconds", 4.0),
    ] {
        let bucket = format!("stormhook_{family}_bucket{{le=\"");
        let buckets = text.lines().filter_map(|line| {
            let (bound, within) = line.strip_prefix(&bucket)?.split_once("\"} ")?;
            Some((bound.to_owned(), within.parse::<f64>().unwrap()))
        });
        let (bounds, within): (Vec<String>, Vec<f64>) = buckets.unzip();
        assert_eq!(bounds.last().unwrap(), "+Inf");
        assert!(within.is_sorted(), "{family}: {within:?}");
        assert_eq!(*within.last().unwrap(), count, "{family}");
        assert_eq!(
            samples[&*format!("stormhook_{family}_count")],
            count,
            "{family}"
        );
        let sum = samples[&*format!("stormhook_{family}_sum")];
        assert!(sum > 0.0 && sum < 20.0 * count, "{family}: {sum}");
    }
}

#[tokio::test]
async fn the_daemon_is_healthy_and_ready_when_it_says_so() {
    let daemon = Setup::new().start().await;
    for api in [daemon.client(), daemon.tcp()] {
        api.get("/healthz").await.expect_ok();
        api.get("/readyz").await.expect_ok();
    }
}
