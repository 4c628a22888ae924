//! The outbox: what producers may write, and that everything they commit is read, once each, in their order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]

use std::collections::BTreeMap;
use stormhook_postgres::outbox::{Shards, Written};
use stormhook_postgres::{Options, Outbox, Store, install_outbox, migrate, pending_outbox};
use stormhook_store::{AcceptEmitted, Accepted, Done, EventId, Op, UnixMs};
use stormhook_test_postgres::Server;
use stormhook_testkit::random::Random;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

fn options(server: &Server) -> Options {
    Options::new(Server::url_of(server.folder()))
}

async fn connect(server: &Server) -> Client {
    let url = Server::url_of(server.folder());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Returns a server with an outbox, a producer's connection to it, and the outbox.
async fn installed() -> (Server, Client, Outbox) {
    let server = Server::start();
    install_outbox(&options(&server)).await.unwrap();
    let producer = connect(&server).await;
    let outbox = Outbox::new(options(&server));
    (server, producer, outbox)
}

async fn emit(producer: &Client, call: &str) -> Result<String, String> {
    let call = format!("SELECT stormhook.emit({call})");
    match producer.query_one(&call, &[]).await {
        Ok(row) => Ok(row.get(0)),
        Err(error) => {
            let said = error.as_db_error().unwrap();
            Err(format!("{} {}", said.code().code(), said.message()))
        }
    }
}

async fn all(outbox: &mut Outbox) -> Vec<Written> {
    outbox.read(&Shards::all()).await.unwrap()
}

#[tokio::test]
async fn what_a_producer_emits_is_read_as_it_was_written_under_the_id_that_it_got() {
    let (_server, producer, mut outbox) = installed().await;
    let json = r#"{ "b": 1.0e2,  "a":"\u00e9\ud800" , "a":1e400}"#;
    let calls = [
        (format!("'org_42', 'order.created', '{json}'"), None, None),
        (
            format!("'org_42', 'order.created', '{json}'::json, 'key-1'"),
            Some("key-1"),
            None,
        ),
        (
            format!(
                "'org_42', 'order.created', '  {json}\n'::text, NULL, '2026-01-02 04:04:05.678999+01'"
            ),
            None,
            Some(1_767_323_045_678),
        ),
        (
            format!(
                "organization => 'org_42', type => 'order.created', data => '{json}', \"timestamp\" => '0001-01-01 00:00Z'"
            ),
            None,
            Some(-62_135_596_800_000),
        ),
    ];
    let mut ids = Vec::new();
    for (call, _, _) in &calls {
        ids.push(emit(&producer, call).await.unwrap());
    }
    let written = all(&mut outbox).await;
    assert_eq!(written.len(), calls.len());
    for ((written, (call, key, at)), id) in written.iter().zip(&calls).zip(&ids) {
        let event = &written.emitted.event;
        assert_eq!(written.emitted.id.to_string(), *id, "{call}");
        assert_eq!(event.organization, "org_42", "{call}");
        assert_eq!(event.event_type, "order.created", "{call}");
        assert_eq!(event.idempotency_key.as_deref(), *key, "{call}");
        assert_eq!(event.timestamp.map(|given| given.at.0), *at, "{call}");
        assert_eq!(String::from_utf8_lossy(&event.data), json, "{call}");
    }
    assert!(ids.is_sorted(), "{ids:?}");
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8";
    let now: i64 = producer.query_one(now, &[]).await.unwrap().get(0);
    let first = EventId::parse(&ids[0]).unwrap().accepted_at();
    assert!(UnixMs(now.unsigned_abs()).since_ms(first) < 60_000);
}

#[tokio::test]
async fn a_bad_argument_is_refused_in_the_producers_transaction_and_named() {
    let (_server, producer, mut outbox) = installed().await;
    outbox.limit(1_000).await.unwrap();
    let large = format!("'o', 'a.b', '\"{}\"'", "x".repeat(999));
    let key = format!("'o', 'a.b', '1', '{}'", "k".repeat(256));
    let table = [
        ("NULL, 'a.b', '1'", "organization must be"),
        ("'', 'a.b', '1'", "organization must be"),
        ("'o o', 'a.b', '1'", "organization must be"),
        ("'ö', 'a.b', '1'", "organization must be"),
        ("repeat('o', 129), 'a.b', '1'", "organization must be"),
        ("'o', NULL, '1'", "type must be"),
        ("'o', '', '1'", "type must be"),
        ("'o', 'a..b', '1'", "type must be"),
        ("'o', '.a', '1'", "type must be"),
        ("'o', 'a.', '1'", "type must be"),
        ("'o', 'a b', '1'", "type must be"),
        ("'o', repeat('a', 129), '1'", "type must be"),
        (
            "'o', 'stormhook.x', '1'",
            "type must not start with stormhook.",
        ),
        ("'o', 'a.b', NULL::json", "data must be a JSON value"),
        ("'o', 'a.b', NULL::text", "data must be a JSON value"),
        ("'o', 'a.b', '{'", "data must be JSON"),
        ("'o', 'a.b', ''", "data must be JSON"),
        (
            large.as_str(),
            "data must be at most 1000 bytes (limits.event_bytes); this one has 1001",
        ),
        ("'o', 'a.b', '{}'::jsonb", "data must be json, not jsonb"),
        ("'o', 'a.b', '1', ''", "key must be"),
        ("'o', 'a.b', '1', 'a b'", "key must be"),
        ("'o', 'a.b', '1', 'ü'", "key must be"),
        (key.as_str(), "key must be"),
        (
            "'o', 'a.b', '1', NULL, 'infinity'",
            "timestamp must be in the years",
        ),
        (
            "'o', 'a.b', '1', NULL, '10000-01-01 00:00Z'",
            "timestamp must be in the years",
        ),
        (
            "'o', 'a.b', '1', NULL, '0001-01-01 00:00Z BC'",
            "timestamp must be in the years",
        ),
    ];
    for (call, expected) in table {
        let refused = emit(&producer, call).await.unwrap_err();
        let expected = format!("22023 {expected}");
        assert!(refused.starts_with(&expected), "{call}: {refused}");
    }
    assert_eq!(all(&mut outbox).await.len(), 0);
    for call in [
        "repeat('o', 128), repeat('a', 128), '1', repeat('k', 255)",
        "'o', 'stormhook_x.a-b', 'null', NULL, '9999-12-31 23:59:59.999Z'",
    ] {
        emit(&producer, call).await.unwrap();
    }
    assert_eq!(all(&mut outbox).await.len(), 2);
}

#[tokio::test]
async fn a_producer_needs_no_right_but_to_use_the_schema() {
    let (server, owner, mut outbox) = installed().await;
    let grants = "CREATE ROLE shop LOGIN; GRANT USAGE ON SCHEMA stormhook TO shop";
    owner.batch_execute(grants).await.unwrap();
    let url = Server::url_of(server.folder()).replace("user=postgres", "user=shop");
    let (producer, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    emit(&producer, "'o', 'a.b', '1'").await.unwrap();
    for table in ["outbox", "outbox_rejected", "outbox_settings"] {
        let read = format!("SELECT * FROM stormhook.{table}");
        let refused = producer.batch_execute(&read).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            "{table}"
        );
    }
    // Nor can it make the function use a table of its own.
    let own = "CREATE TEMP TABLE outbox_settings (event_bytes int8); SET search_path = pg_temp, stormhook";
    producer.batch_execute(own).await.unwrap();
    emit(&producer, "'o', 'a.b', '2'").await.unwrap();
    assert_eq!(all(&mut outbox).await.len(), 2);
}

#[tokio::test]
async fn an_order_that_is_rolled_back_leaves_no_event_and_one_that_commits_late_is_not_passed_over()
{
    let (server, first, mut outbox) = installed().await;
    let second = connect(&server).await;
    let third = connect(&server).await;
    for producer in [&first, &second] {
        producer.batch_execute("BEGIN").await.unwrap();
    }
    emit(&first, "'o', 'a.b', '\"late\"'").await.unwrap();
    emit(&second, "'o', 'a.b', '\"never\"'").await.unwrap();
    emit(&third, "'o', 'a.b', '\"early\"'").await.unwrap();
    let early = all(&mut outbox).await;
    let decided: Vec<_> = early.iter().map(|w| (w.place, None)).collect();
    outbox.take(&decided).await.unwrap();
    first.batch_execute("COMMIT").await.unwrap();
    second.batch_execute("ROLLBACK").await.unwrap();
    let late = all(&mut outbox).await;
    let data = |written: &[Written]| -> Vec<String> {
        let data = written.iter().map(|w| w.emitted.event.data.clone());
        data.map(|data| String::from_utf8(data).unwrap()).collect()
    };
    assert_eq!(data(&early), ["\"early\""]);
    assert_eq!(data(&late), ["\"late\""]);
}

#[tokio::test]
async fn a_shard_with_many_events_does_not_hold_up_the_others() {
    let (_server, producer, mut outbox) = installed().await;
    let many = "SELECT stormhook.emit('busy', 'a.b', n::text) FROM generate_series(1, 1000) n";
    producer.query(many, &[]).await.unwrap();
    emit(&producer, "'quiet', 'a.b', '1'").await.unwrap();
    let written = all(&mut outbox).await;
    let mut by_organization = BTreeMap::<_, Vec<_>>::new();
    for written in written {
        let of = by_organization.entry(written.emitted.event.organization);
        of.or_default().push(written.emitted.event.data);
    }
    assert_eq!(by_organization["quiet"].len(), 1);
    let first = (1..=32).map(|n: i32| n.to_string().into_bytes());
    assert_eq!(by_organization["busy"], first.collect::<Vec<_>>());
}

#[tokio::test]
async fn an_event_that_is_rejected_is_kept_with_the_reason() {
    let (_server, producer, mut outbox) = installed().await;
    let id = emit(&producer, "'o', 'a.b', '[1 ]', 'k'").await.unwrap();
    let written = all(&mut outbox).await;
    let decided = [(written[0].place, Some("why".to_owned()))];
    for _ in 0..2 {
        outbox.take(&decided).await.unwrap();
    }
    assert_eq!(all(&mut outbox).await.len(), 0);
    let sql =
        "SELECT reason, organization, type, key, data::text, id FROM stormhook.outbox_rejected";
    let row = producer.query_one(sql, &[]).await.unwrap();
    let texts: Vec<&str> = (0..5).map(|column| row.get(column)).collect();
    assert_eq!(texts, ["why", "o", "a.b", "k", "[1 ]"]);
    let kept: uuid::Uuid = row.get(5);
    assert_eq!(EventId(kept.as_u128()).to_string(), id);
}

#[tokio::test]
async fn an_outbox_is_installed_once_and_refused_until_then() {
    let server = Server::start();
    let options = options(&server);
    let mut outbox = Outbox::new(options.clone());
    let refused = outbox.read(&Shards::all()).await.unwrap_err().to_string();
    assert!(
        refused.contains("run `stormhook migrate --outbox-only`"),
        "{refused}"
    );
    assert_eq!(pending_outbox(&options).await.unwrap().len(), 1);
    assert_eq!(
        install_outbox(&options).await.unwrap(),
        ["outbox version 1"]
    );
    assert_eq!(
        install_outbox(&options).await.unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(
        pending_outbox(&options).await.unwrap(),
        Vec::<String>::new()
    );
    // The store can come to the same database later.
    let producer = connect(&server).await;
    emit(&producer, "'o', 'a.b', '1'").await.unwrap();
    migrate(&options).await.unwrap();
    assert_eq!(all(&mut outbox).await.len(), 1);
    Store::open(options).await.unwrap();
}

/// Accepts what is read, deletes only a part of it as a daemon that ends in between, and goes on.
#[tokio::test]
async fn of_many_producers_everything_is_accepted_once_and_in_the_order_of_each_whatever_ends_in_between()
 {
    const PRODUCERS: usize = 6;
    const EACH: usize = 150;
    let server = Server::start();
    migrate(&options(&server)).await.unwrap();
    let mut store = Store::open(options(&server)).await.unwrap();
    let mut outbox = Outbox::new(options(&server));
    let mut producers = Vec::new();
    for producer in 0..PRODUCERS {
        let client = connect(&server).await;
        producers.push(tokio::spawn(async move {
            let mut random = Random::seeded(u64::try_from(producer).unwrap());
            for n in 0..EACH {
                let rolls_back = random.next().is_multiple_of(5);
                client.batch_execute("BEGIN").await.unwrap();
                let what = if rolls_back { "never" } else { "order" };
                let call = format!(
                    "'org_{}', 'a.b', '[{producer}, {n}, \"{what}\"]'",
                    producer % 2
                );
                emit(&client, &call).await.unwrap();
                let end = if rolls_back { "ROLLBACK" } else { "COMMIT" };
                client.batch_execute(end).await.unwrap();
            }
        }));
    }
    let mut random = Random::seeded(99);
    let mut accepted = Vec::new();
    loop {
        let ended = producers.iter().all(tokio::task::JoinHandle::is_finished);
        let written = all(&mut outbox).await;
        if written.is_empty() && ended {
            break;
        }
        let mut groups = BTreeMap::<String, (Vec<_>, Vec<_>)>::new();
        for written in written {
            let organization = written.emitted.event.organization.clone();
            let (places, events) = groups.entry(organization).or_default();
            places.push((written.place, None));
            events.push(written.emitted);
        }
        for (organization, (places, events)) in groups {
            let op = Op::AcceptEmitted(AcceptEmitted {
                organization,
                events,
            });
            let at = UnixMs(1_900_000_000_000);
            let applied = store
                .apply([op], at, u128::from(random.next()))
                .await
                .unwrap();
            for done in applied.done {
                let Done::AcceptEmitted(Ok(decided)) = done else {
                    panic!("{done:?}");
                };
                for one in decided {
                    let Accepted { event, replayed } = one.unwrap();
                    if !replayed {
                        accepted.push(event);
                    }
                }
            }
            let kept = usize::try_from(random.next() % 3).unwrap();
            let taken = places.len().saturating_sub(kept);
            outbox.take(&places[..taken]).await.unwrap();
        }
    }
    for producer in producers {
        producer.await.unwrap();
    }
    let mut of_each = BTreeMap::<usize, Vec<usize>>::new();
    for event in accepted {
        let data = String::from_utf8(event.data.clone().unwrap()).unwrap();
        let (producer, n) = data[1..].split_once(", ").unwrap();
        let (n, what) = n.split_once(", ").unwrap();
        assert_eq!(what, "\"order\"]");
        let of = of_each.entry(producer.parse().unwrap()).or_default();
        of.push(n.parse().unwrap());
    }
    assert_eq!(of_each.len(), PRODUCERS);
    for (producer, numbers) in of_each {
        let mut random = Random::seeded(u64::try_from(producer).unwrap());
        let committed = (0..EACH).filter(|_| !random.next().is_multiple_of(5));
        assert_eq!(
            numbers,
            committed.collect::<Vec<_>>(),
            "producer {producer}"
        );
    }
}
