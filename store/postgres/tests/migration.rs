//! A database of an earlier version is changed step by step, and refused until it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]

use stormhook_postgres::{Options, Store, VERSION, migrate, pending};
use stormhook_test_postgres::Server;
use tokio_postgres::{Client, NoTls};

const FIRST: &str = include_str!("../src/schema/1.sql");

async fn connect(server: &Server) -> Client {
    let url = Server::url_of(server.folder());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn options(server: &Server) -> Options {
    Options::new(Server::url_of(server.folder()))
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_database_of_the_first_version_is_refused_until_it_is_migrated() {
    let server = Server::start();
    let client = connect(&server).await;
    let first = FIRST.replace('@', "stormhook");
    client.batch_execute(&first).await.unwrap();
    let rows = "INSERT INTO stormhook.endpoints (slot, id, organization, url, active, deleted, record)
                  VALUES (4, gen_random_uuid(), 'org_42', 'u', true, false, ''), (5, gen_random_uuid(), 'org_7', 'u', true, false, '');
                UPDATE stormhook.lanes SET next_slot = 6, states_upto = '00000000-0000-0000-0000-000000000009';
                INSERT INTO stormhook.windows (level, start_ms, slot, record) VALUES (0, 0, 4294967295, ''), (0, 0, 4, '')";
    client.batch_execute(rows).await.unwrap();
    let refused = Store::open(options(&server)).await.unwrap_err().to_string();
    assert!(refused.contains("run `stormhook migrate`"), "{refused}");
    let steps = usize::try_from(VERSION - 1).unwrap();
    assert_eq!(pending(&options(&server)).await.unwrap().len(), steps);

    assert_eq!(migrate(&options(&server)).await.unwrap().len(), steps);

    assert_eq!(
        pending(&options(&server)).await.unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(
        migrate(&options(&server)).await.unwrap(),
        Vec::<String>::new()
    );
    let version = "SELECT version::int8 FROM stormhook.meta";
    assert_eq!(number(&client, version).await, i64::from(VERSION));
    for (what, sql, expected) in [
        (
            "numbers go on",
            "SELECT next_slot::int8 FROM stormhook.meta",
            6,
        ),
        (
            "each endpoint is in its shard",
            "SELECT count(*) FROM stormhook.endpoints WHERE shard = stormhook.shard_of(organization)",
            2,
        ),
        (
            "all shards are free",
            "SELECT count(*) FROM stormhook.shards WHERE owner IS NULL",
            256,
        ),
        (
            "states are written as far as before",
            "SELECT count(*) FROM stormhook.shards WHERE states_upto = '00000000-0000-0000-0000-000000000009'",
            256,
        ),
        (
            "sums are of the first lane",
            "SELECT min(slot) FROM stormhook.windows",
            -1,
        ),
        (
            "the token is long",
            "SELECT length(cluster_token)::int8 FROM stormhook.meta",
            32,
        ),
    ] {
        assert_eq!(number(&client, sql).await, expected, "{what}");
    }
}

#[tokio::test]
async fn a_newer_database_is_refused_and_an_invalid_index_is_named() {
    let server = Server::start();
    migrate(&options(&server)).await.unwrap();
    let client = connect(&server).await;
    let broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'stormhook.open_event'::regclass";
    client.batch_execute(broken).await.unwrap();
    let named = pending(&options(&server)).await.unwrap();
    assert_eq!(named.len(), 1);
    assert!(
        named[0].contains("REINDEX INDEX CONCURRENTLY stormhook.open_event"),
        "{named:?}"
    );
    let newer = format!("UPDATE stormhook.meta SET version = {}", VERSION + 1);
    client.batch_execute(&newer).await.unwrap();
    for refused in [
        Store::open(options(&server)).await.map(drop),
        migrate(&options(&server)).await.map(drop),
        pending(&options(&server)).await.map(drop),
    ] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("newer version"), "{refused}");
    }
}

#[tokio::test]
async fn two_migrations_at_the_same_time_make_each_step_once() {
    let server = Server::start();
    let (first, second) = (options(&server), options(&server));
    let (first, second) = tokio::join!(migrate(&first), migrate(&second));
    let steps = first.unwrap().len() + second.unwrap().len();
    assert_eq!(i64::try_from(steps).unwrap(), i64::from(VERSION));
    Store::open(options(&server)).await.unwrap();
}
