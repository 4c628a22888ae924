//! Events that producers emit in their own transactions: delivered once, in their order, whatever ends in between. With
//! the store in the same database, and with the store in a file.

use crate::support::{Daemon, Draw, Receiver, Setup, load, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stormhook_test_postgres::Server;
use tokio_postgres::{Client, NoTls};

/// Producers of one run, and the transactions of each.
const PRODUCERS: usize = 4;
const EACH: usize = 120;
/// How often the daemon is killed meanwhile.
const KILLS: usize = 6;

/// Where the daemon's store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    File,
    Database,
}

/// Returns a daemon that takes events from the server's outbox.
async fn start(server: &Server, store: Store) -> Daemon {
    let (key, migrate) = match store {
        Store::File => ("outbox.url", ["migrate", "--outbox-only"].as_slice()),
        Store::Database => ("store.url", ["migrate"].as_slice()),
    };
    let setup = Setup::new().set(key, &format!("{:?}", server.store_url()));
    setup.write_config();
    let config = setup.config_path();
    let config = ["--config", config.to_str().unwrap()];
    let migrated = setup.run(&[migrate, &config].concat()).await;
    assert!(migrated.status.success(), "{migrated:?}");
    let check = [migrate, &["--check"], &config].concat();
    assert!(setup.run(&check).await.status.success());
    setup.start().await
}

async fn producer(server: &Server) -> Client {
    let url = Server::url_of(server.folder());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn emit(producer: &Client, call: &str) -> String {
    let call = format!("SELECT stormhook.emit({call})");
    producer.query_one(&call, &[]).await.unwrap().get(0)
}

/// Waits until nothing is left in the outbox.
async fn taken(producer: &Client) {
    until("the outbox is empty", async || {
        let sql = "SELECT count(*) FROM stormhook.outbox";
        let left: i64 = producer.query_one(sql, &[]).await.unwrap().get(0);
        (left == 0).then_some(())
    })
    .await;
}

async fn an_order_and_its_event(store: Store) {
    let server = Server::start();
    let daemon = start(&server, store).await;
    let api = daemon.client();
    let receiver = Receiver::start().await;
    api.endpoint(&receiver.url("/"), &["order.*"]).await;
    let producer = producer(&server).await;
    let table = "CREATE TABLE orders (id int8 PRIMARY KEY)";
    producer.batch_execute(table).await.unwrap();
    let emits = "'org_1', 'order.created', '{\"orderId\": 1001, \"total\": 1.50}', 'order-1001', '2026-01-02T03:04:05.678Z'";
    for end in ["ROLLBACK", "COMMIT"] {
        let order = "BEGIN; INSERT INTO orders VALUES (1001)";
        producer.batch_execute(order).await.unwrap();
        emit(&producer, emits).await;
        producer.batch_execute(end).await.unwrap();
    }
    let received = receiver.wait_for(1).await;
    assert_eq!(received[0].data(), r#"{"orderId": 1001, "total": 1.50}"#);
    assert_eq!(received[0].json()["timestamp"], "2026-01-02T03:04:05.678Z");
    // The same event by the API is known, and the other way round.
    let again =
        json!({"organizationId": "org_1", "type": "order.created", "idempotencyKey": "order-1001",
        "timestamp": "2026-01-02T03:04:05.678Z"})
        .to_string()
        .replace('}', r#","data":{"orderId": 1001, "total": 1.50}}"#);
    let known = api
        .call("POST", "/v1/events")
        .json(again.clone())
        .send()
        .await;
    assert_eq!(known.status, 200, "{known:?}");
    let by_api = again.replace("1001", "1002");
    let new = api.call("POST", "/v1/events").json(by_api).send().await;
    assert_eq!(new.status, 202, "{new:?}");
    emit(&producer, &emits.replace("1001", "1002")).await;
    taken(&producer).await;
    receiver.wait_for(2).await;
    if store == Store::Database {
        let id = emit(&producer, "'org_1', 'order.paid', '[]'").await;
        let received = receiver.wait_for(3).await;
        assert_eq!(received[2].header("webhook-id"), id);
        assert_eq!(api.get(&format!("/v1/events/{id}")).await.status, 200);
    }
    let events = 2 + usize::from(store == Store::Database);
    assert_eq!(api.all("/v1/events").await.len(), events);
    assert_eq!(receiver.count(), events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_and_its_event_commit_together_with_the_store_in_a_file() {
    an_order_and_its_event(Store::File).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_and_its_event_commit_together_with_the_store_in_the_same_database() {
    an_order_and_its_event(Store::Database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_can_not_be_accepted_is_kept_with_the_reason_and_holds_up_no_other() {
    let server = Server::start();
    let daemon = start(&server, Store::File).await;
    let producer = producer(&server).await;
    emit(&producer, "'org_1', 'a.b', '1', 'k'").await;
    emit(&producer, "'org_1', 'a.b', '2', 'k'").await;
    emit(
        &producer,
        "'org_1', 'a.b', repeat('[', 200) || repeat(']', 200)",
    )
    .await;
    let written = "INSERT INTO stormhook.outbox (n, id, shard, organization, type, data)
        SELECT nextval('stormhook.outbox_n'), gen_random_uuid(), stormhook.shard_of('o o'), 'o o', 'a.b', '1'";
    producer.batch_execute(written).await.unwrap();
    emit(&producer, "'org_1', 'a.b', '3'").await;
    taken(&producer).await;
    let sql = "SELECT data::text, reason FROM stormhook.outbox_rejected ORDER BY length(data::text), data::text";
    let rejected = producer.query(sql, &[]).await.unwrap();
    let rejected: Vec<(String, String)> = rejected.iter().map(|r| (r.get(0), r.get(1))).collect();
    let reasons: Vec<&str> = rejected.iter().map(|(_, reason)| reason.as_str()).collect();
    assert!(
        reasons[0].starts_with("organizationId must be"),
        "{reasons:?}"
    );
    assert_eq!(reasons[1], "the idempotency key belongs to another event");
    assert!(
        reasons[2].starts_with("data is nested more than 128"),
        "{reasons:?}"
    );
    assert_eq!(rejected.len(), 3);
    assert_eq!(daemon.client().all("/v1/events").await.len(), 2);
    let metrics = daemon.client().get("/metrics").await.text();
    for line in [
        "stormhook_outbox_taken_total 2",
        "stormhook_outbox_rejected_total 3",
        "stormhook_outbox_oldest_seconds 0.000000",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
    // The daemon's limit holds in the function.
    let setting = "SELECT event_bytes FROM stormhook.outbox_settings";
    let limit: i64 = producer.query_one(setting, &[]).await.unwrap().get(0);
    assert_eq!(limit, 256 << 10);
}

/// Emits orders in transactions of which some roll back. Returns the numbers of those that committed.
async fn produce(producer: Client, which: usize, seed: u64) -> BTreeSet<String> {
    let mut draw = Draw::seeded(seed);
    let mut committed = BTreeSet::new();
    for n in 0..EACH {
        let order = format!("\"{which}-{n}\"");
        producer.batch_execute("BEGIN").await.unwrap();
        // With a key, without one, and twice under one key.
        let call = format!("'org_{}', 'order.created', '{order}'", which % 2);
        match draw.below(3) {
            0 => drop(emit(&producer, &call).await),
            1 => drop(emit(&producer, &format!("{call}, 'k-{which}-{n}'")).await),
            _ => {
                emit(&producer, &format!("{call}, 'k-{which}-{n}'")).await;
                emit(&producer, &format!("{call}, 'k-{which}-{n}'")).await;
            }
        }
        if draw.below(6) == 0 {
            producer.batch_execute("ROLLBACK").await.unwrap();
        } else {
            producer.batch_execute("COMMIT").await.unwrap();
            committed.insert(order);
        }
        tokio::time::sleep(Duration::from_micros(draw.below(20_000))).await;
    }
    committed
}

async fn kills(store: Store) {
    let server = Server::start();
    let mut daemon = start(&server, store).await;
    let receiver = Receiver::start().await;
    for organization in ["org_0", "org_1"] {
        let endpoint =
            json!({"organizationId": organization, "url": receiver.url("/"), "eventTypes": ["*"]});
        daemon
            .client()
            .post("/v1/endpoints", endpoint)
            .await
            .expect(201);
    }
    let seed = load::seed();
    let mut draw = Draw::seeded(seed);
    let mut producers = Vec::new();
    for which in 0..PRODUCERS {
        let client = producer(&server).await;
        producers.push(tokio::spawn(produce(client, which, draw.next())));
    }
    for _ in 0..KILLS {
        // The moment matters here; nothing is waited for.
        tokio::time::sleep(Duration::from_micros(draw.below(300_000))).await;
        daemon.kill().await;
        daemon.start_again().await;
    }
    let mut committed = BTreeSet::new();
    for producer in producers {
        committed.extend(producer.await.unwrap());
    }
    taken(&producer(&server).await).await;
    let api = daemon.client();
    until("all deliveries have ended", async || {
        let open = ["PENDING", "RETRYING"];
        for status in open {
            let path = format!("/v1/deliveries?status={status}&limit=1");
            if api.get(&path).await.json()["data"] != json!([]) {
                return None;
            }
        }
        Some(())
    })
    .await;
    // Each order is one event, and no other is.
    let mut events = BTreeMap::<String, Vec<String>>::new();
    for event in api.all("/v1/events").await {
        let event = api
            .get(&format!("/v1/events/{}", event["id"].as_str().unwrap()))
            .await
            .json();
        let of = events.entry(event["data"].to_string()).or_default();
        of.push(event["id"].as_str().unwrap().to_owned());
    }
    let once: BTreeSet<String> = events.keys().cloned().collect();
    assert_eq!(once, committed, "seed {seed}");
    for (order, ids) in &events {
        assert_eq!(ids.len(), 1, "{order}, seed {seed}");
    }
    // The receiver has seen each, in the order of each producer by its sequence numbers, which have no gap.
    let mut sequences = BTreeMap::<String, BTreeMap<u64, String>>::new();
    for request in receiver.requests() {
        let body = request.json();
        let of = sequences.entry(body["organizationId"].as_str().unwrap().to_owned());
        let before = of
            .or_default()
            .insert(body["sequence"].as_u64().unwrap(), body["data"].to_string());
        let order = body["data"].to_string();
        assert!(before.is_none_or(|before| before == order));
    }
    let received: usize = sequences.values().map(BTreeMap::len).sum();
    assert_eq!(received, committed.len(), "seed {seed}");
    for (organization, numbered) in sequences {
        assert!(
            numbered.keys().copied().eq(1..=numbered.len() as u64),
            "{organization}"
        );
        let mut last = BTreeMap::new();
        for order in numbered.values() {
            let order: Value = serde_json::from_str(order).unwrap();
            let (which, n) = order.as_str().unwrap().split_once('-').unwrap();
            let n: usize = n.parse().unwrap();
            let before = last.insert(which.to_owned(), n);
            assert!(
                before.is_none_or(|before| before < n),
                "{order}, seed {seed}"
            );
        }
    }
    eprintln!(
        "{} orders, {} requests, seed {seed}",
        committed.len(),
        receiver.count()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_emitted_is_lost_or_doubled_over_kills_with_the_store_in_a_file() {
    kills(Store::File).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_emitted_is_lost_or_doubled_over_kills_with_the_store_in_the_same_database() {
    kills(Store::Database).await;
}
