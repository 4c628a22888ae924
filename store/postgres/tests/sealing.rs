//! Secrets at rest in a database: steps that go on after a restart, who may begin them, and daemons of the version before.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]
#![allow(dead_code, reason = "the tests of faults use more of the fixture")]

mod proxy;
mod support;

use std::ops::ControlFlow;
use std::sync::Arc;
use stormhook_postgres::{Store, export, reseal, secrets_at_rest};
use stormhook_store::{AtRest, Form, Key, Keys, StoreError};
use support::*;

fn key(n: u8) -> Key {
    Key::new(&[n; 32])
}

fn keys(current: Option<u8>, previous: Option<u8>) -> Arc<Keys> {
    Arc::new(Keys::new(current.map(key), previous.map(key)))
}

fn encrypted(n: u8) -> Form {
    Form::Encrypted(key(n).id())
}

fn secrets(fixture: &Fixture) -> Vec<String> {
    let mut all = Vec::new();
    let exporting = export(&fixture.options, true, |item| {
        if let stormhook_store::Item::Endpoint(e) = item {
            let signs = e.secrets.iter().map(|live| live.secret.expose().to_owned());
            all.extend(signs);
        }
        ControlFlow::Continue(())
    });
    fixture.runtime.block_on(exporting).unwrap();
    all
}

fn at_rest(fixture: &Fixture) -> AtRest {
    let asked = secrets_at_rest(&fixture.options);
    fixture.runtime.block_on(asked).unwrap()
}

/// Opens the store with these keys in place of the one before.
fn reopen_with(fixture: &mut Fixture, keys: Arc<Keys>) {
    fixture.close();
    fixture.options.keys = keys;
    fixture.reopen();
}

fn refusal(fixture: &Fixture, keys: Arc<Keys>, daemon: u128) -> String {
    let options = stormhook_postgres::Options {
        keys,
        daemon: uuid::Uuid::from_u128(daemon),
        ..fixture.options.clone()
    };
    let opened = fixture.runtime.block_on(Store::open(options));
    opened.map(drop).unwrap_err().to_string()
}

/// Takes one step in the background of the daemon. Returns how many endpoints are left.
fn step(fixture: &mut Fixture) -> usize {
    let mut resealer = fixture.store().reader().resealer();
    let runtime = Arc::clone(&fixture.runtime);
    runtime.block_on(resealer.step(3)).unwrap().left
}

#[test]
fn the_rows_of_a_database_are_encrypted_in_steps_and_get_another_key() {
    let mut fixture = Fixture::new();
    // More than one step writes.
    let count = stormhook_store::maintenance::RESEALED_PER_STEP + 20;
    for _ in 0..count {
        fixture.endpoint("org", &["*"]);
    }
    let expected = secrets(&fixture);
    assert_eq!(expected.len(), count);
    let unfinished = AtRest {
        form: encrypted(1),
        before: Some(Form::Plain),
    };
    reopen_with(&mut fixture, keys(Some(1), None));
    assert_eq!(at_rest(&fixture), unfinished);
    assert_eq!(step(&mut fixture), 20);
    assert_eq!(at_rest(&fixture), unfinished);
    fixture.expect_whole();
    // It goes on after a restart, and what is created meanwhile has the new form.
    fixture.reopen();
    fixture.endpoint("org", &["*"]);
    assert_eq!(step(&mut fixture), 0);
    assert_eq!(at_rest(&fixture), AtRest::of(encrypted(1)));
    fixture.expect_whole();
    assert_eq!(secrets(&fixture)[..count], expected);

    reopen_with(&mut fixture, keys(Some(2), Some(1)));
    while step(&mut fixture) > 0 {}
    assert_eq!(at_rest(&fixture), AtRest::of(encrypted(2)));
    reopen_with(&mut fixture, keys(Some(2), None));
    assert_eq!(secrets(&fixture)[..count], expected);
    fixture.expect_whole();
}

#[test]
fn a_daemon_without_the_keys_of_the_database_gets_no_seat_and_none_is_taken_from_those_that_run() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    let while_others = refusal(&fixture, keys(Some(1), None), 1);
    assert!(
        while_others.contains("while no daemon with other keys uses it"),
        "{while_others}"
    );
    assert_eq!(at_rest(&fixture), AtRest::default());
    reopen_with(&mut fixture, keys(Some(1), None));
    for (other, expected) in [
        (keys(None, None), "no key is configured"),
        (keys(Some(2), None), "the configured key is"),
    ] {
        let refused = refusal(&fixture, other, 1);
        assert!(refused.contains(expected), "{refused}");
    }
    assert_eq!(step(&mut fixture), 0);
    // Nor may the key be changed under the feet of one that runs.
    let refused = refusal(&fixture, keys(Some(2), Some(1)), 1);
    assert!(
        refused.contains("while no daemon with other keys"),
        "{refused}"
    );
    let options = fixture.options.clone();
    let running = reseal(&options, Form::Plain, 3, |_| {});
    let running = fixture.runtime.block_on(running).unwrap_err();
    assert!(
        running.to_string().contains("stop all of its daemons"),
        "{running}"
    );
    fixture.other(1).expect_whole();
}

#[test]
fn without_the_key_a_database_is_exported_without_secrets_alone() {
    let mut fixture = Fixture::new();
    fixture.options.keys = keys(Some(1), None);
    fixture.reopen();
    fixture.endpoint("org", &["*"]);
    assert_eq!(step(&mut fixture), 0);
    fixture.options.keys = keys(None, None);
    let exported = |with_secrets| {
        let mut endpoints = 0;
        let exporting = export(&fixture.options, with_secrets, |item| {
            if let stormhook_store::Item::Endpoint(e) = item {
                assert!(e.sealed.is_some() && e.secrets.is_empty());
                endpoints += 1;
            }
            ControlFlow::Continue(())
        });
        fixture.runtime.block_on(exporting).map(|()| endpoints)
    };
    assert_eq!(exported(false).unwrap(), 1);
    let refused = exported(true);
    assert!(matches!(refused, Err(StoreError::KeyMissing { .. })));
}

#[test]
fn rows_have_the_layout_that_every_daemon_reads() {
    let mut fixture = Fixture::new();
    fixture.sql(
        "INSERT INTO stormhook.seats (seat, incarnation, daemon, version, schema, lease_until, fenced) \
         VALUES (9, 1, gen_random_uuid(), '0.0.9', 5, now() + interval '1 hour', false)",
    );
    fixture.reopen();
    fixture.endpoint("org", &["*"]);
    fixture.sql("SELECT 1 / (get_byte(record, 0) = 2)::int FROM stormhook.endpoints");
    fixture.expect_whole();
    fixture.sql("DELETE FROM stormhook.seats WHERE seat = 9");
    fixture.reopen();
    fixture.endpoint("org", &["*"]);
    fixture.sql("SELECT 1 / (get_byte(record, 0) = slot + 2)::int FROM stormhook.endpoints");
    fixture.expect_whole();
}
