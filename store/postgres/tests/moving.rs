//! A store that is moved between a file and a database answers as it did, both ways.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]
#![allow(dead_code, reason = "other tests use more of the fixtures")]
#![allow(
    clippy::duplicate_mod,
    reason = "the same questions are asked of both stores"
)]

#[path = "../../tests/support/mod.rs"]
mod file;
mod proxy;
mod support;

use std::ops::ControlFlow;
use std::path::Path;
use stormhook_postgres::Store;
use stormhook_store::command::AcceptEmitted;
use stormhook_store::{
    Accepted, Done, EmittedEvent, Encoded, EventId, Horizon, Item, Options, Sealing, StoreError,
    UnixMs, import_file, read_file,
};
use support::history::{answers, encoded, expect_same, fill, go_on};
use support::{DAY_MS, Fixture, Random};

/// Items as they are once they have been written to an export.
fn exported(items: &[Item]) -> impl FnMut() -> Result<Option<Item>, StoreError> + '_ {
    let mut all = items.iter().map(|item| {
        let Encoded { kind, key, record } = item.encode()?;
        Item::decode(kind, &key, &record)
    });
    move || all.next().transpose()
}

fn of_file(path: &Path) -> Vec<Item> {
    let mut items = Vec::new();
    let all = read_file(path).unwrap().items(|item| {
        items.push(item);
        ControlFlow::Continue(())
    });
    all.unwrap();
    items
}

fn of_database(fixture: &Fixture) -> Vec<Item> {
    let mut items = Vec::new();
    let all = stormhook_postgres::export(&fixture.options, true, |item| {
        items.push(item);
        ControlFlow::Continue(())
    });
    fixture.runtime.block_on(all).unwrap();
    items
}

fn into_database(fixture: &Fixture, items: &[Item]) -> Result<(), StoreError> {
    let import = stormhook_postgres::import(&fixture.options, 1, exported(items));
    fixture.runtime.block_on(import)
}

/// An empty database, with the clock of the store before.
fn database(now: UnixMs) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.now = now;
    fixture.stop_daemon();
    fixture
}

/// Windows of all endpoints come first in a database, and last in a file.
fn sorted(items: &[Item]) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let all = encoded(items).into_iter();
    let mut all: Vec<_> = all.map(|e| (e.kind, e.key, e.record)).collect();
    all.sort_unstable();
    all
}

fn file_at(path: &Path, now: UnixMs) -> file::Fixture {
    let mut fixture = file::Fixture::new();
    fixture.close();
    fixture.now = now;
    fixture.options = Options {
        path: path.to_owned(),
        ..fixture.options.clone()
    };
    fixture.reopen();
    fixture
}

fn refused<T: std::fmt::Debug>(of: Result<T, StoreError>, why: &str) {
    let refused = of.unwrap_err().to_string();
    assert!(refused.contains(why), "{refused}");
}

/// The daemon ended after it had accepted the event, and before it had deleted it from the outbox.
#[test]
fn an_event_of_an_outbox_is_known_after_a_move() {
    let mut first = Fixture::new();
    let endpoint = first.endpoint("org", &["*"]);
    let id = EventId(EventId::first_of(first.now).0 + 7);
    let emitted = || AcceptEmitted {
        organization: "org".to_owned(),
        events: vec![EmittedEvent {
            id,
            event: support::event("org", "order.created"),
        }],
    };
    first.one(emitted());
    first.stop_daemon();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("moved.redb");
    import_file(&path, Sealing::plain(), exported(&of_database(&first))).unwrap();
    let mut second = file_at(&path, first.now.plus_ms(1_000));
    let Done::AcceptEmitted(Ok(decided)) = second.one(emitted()) else {
        panic!("it was refused");
    };
    let Ok(Accepted { event, replayed }) = &decided[0] else {
        panic!("{decided:?}");
    };
    assert_eq!((event.id, *replayed), (id, true));
    assert_eq!(second.reader().state(endpoint.slot).last_sequence, 1);
}

#[test]
fn a_history_from_a_seed_is_the_same_in_a_database_and_back_in_a_file() {
    for seed in [1, 2] {
        let mut first = file::Fixture::with(|options| options.fold_items = 24);
        file::history::fill(&mut first, seed, 300);
        if seed == 2 {
            let horizon = UnixMs(first.now.0 - 3_600_000);
            first.sweep(horizon, horizon);
        }
        first.reopen();
        let expected = file::history::answers(&mut first);
        first.close();
        let before = of_file(&first.options.path);

        let mut second = database(first.now);
        into_database(&second, &before).unwrap();
        assert_eq!(sorted(&of_database(&second)), sorted(&before));
        second.reopen();
        expect_same(&answers(&mut second), &expected);
        second.expect_whole();
        second.stop_daemon();
        let between = of_database(&second);

        let path = first.dir.path().join("back.redb");
        import_file(&path, Sealing::plain(), exported(&between)).unwrap();
        let mut third = file_at(&path, first.now);
        first.reopen();
        expect_same(&file::history::answers(&mut third), &expected);
        third.expect_whole();
        (first.random, third.random) = (Random::seeded(seed), Random::seeded(seed));
        let expected = file::history::go_on(&mut first);
        expect_same(&file::history::go_on(&mut third), &expected);
        third.expect_whole();
    }
}

#[test]
fn a_database_that_daemons_worked_on_moves_to_another_one_and_goes_on() {
    let mut first = Fixture::new();
    fill(&mut first, 7, 300);
    first.pass_ms(3 * DAY_MS);
    fill(&mut first, 8, 60);
    let horizon = UnixMs(first.now.0 - DAY_MS);
    first.sweep(Horizon {
        events_before: horizon,
        attempts_before: horizon,
        ..Horizon::default()
    });
    let expected = answers(&mut first);
    first.stop_daemon();
    let before = of_database(&first);

    let mut second = database(first.now);
    into_database(&second, &before).unwrap();
    assert_eq!(encoded(&of_database(&second)), encoded(&before));
    second.reopen();
    expect_same(&answers(&mut second), &expected);
    second.expect_whole();
    first.reopen();
    (first.random, second.random) = (Random::seeded(9), Random::seeded(9));
    expect_same(&go_on(&mut second), &go_on(&mut first));
    second.expect_whole();
}

#[test]
fn an_import_that_did_not_end_keeps_daemons_away_until_it_is_repeated_or_given_up() {
    let mut first = file::Fixture::new();
    file::history::fill(&mut first, 3, 200);
    first.close();
    let all = of_file(&first.options.path);
    let mut second = database(first.now);
    let options = second.options.clone();
    let runtime = second.runtime.clone();
    for count in [0, 30, all.len()] {
        let mut rest = exported(&all);
        let mut left = count;
        let stops = || {
            left = left
                .checked_sub(1)
                .ok_or_else(|| StoreError::damaged("the export", "it ends here"))?;
            rest()
        };
        let import = stormhook_postgres::import(&options, 1, stops);
        refused(runtime.block_on(import), "it ends here");
        let opened = runtime.block_on(Store::open(options.clone()));
        refused(opened, "run `stormhook import` again");
        let moved = stormhook_postgres::mark_moved(&options, "elsewhere");
        refused(runtime.block_on(moved), "run `stormhook import` again");
    }
    let discard = || runtime.block_on(stormhook_postgres::discard_import(&options));
    assert!(discard().unwrap());
    assert!(!discard().unwrap());
    assert_eq!(of_database(&second).len(), 1, "only its position");

    let mut some = exported(&all[..30]);
    let damaged = || match some() {
        Ok(None) => Err(StoreError::damaged("the export", "it ends here")),
        item => item,
    };
    let import = stormhook_postgres::import(&options, 1, damaged);
    refused(runtime.block_on(import), "it ends here");
    into_database(&second, &all).unwrap();
    second.reopen();
    let expected = {
        first.reopen();
        file::history::answers(&mut first)
    };
    expect_same(&answers(&mut second), &expected);
}

#[test]
fn only_an_empty_database_without_daemons_is_imported_into() {
    let mut first = file::Fixture::new();
    first.endpoint("org", &["*"]);
    first.close();
    let all = of_file(&first.options.path);
    let mut second = Fixture::new();
    refused(into_database(&second, &all), "stop all of its daemons");
    second.endpoint("org", &["*"]);
    second.stop_daemon();
    refused(into_database(&second, &all), "is not empty");
    second.reopen();
    assert_eq!(second.reader().all_endpoints().len(), 1);
}

#[test]
fn a_daemon_that_was_killed_is_taken_over_from_once_its_lease_has_ended() {
    let mut first = Fixture::new();
    let endpoint = first.endpoint("org", &["*"]);
    let order = first.order();
    // Its lease has ended by the clock of the database, and it does not know.
    let options = first.options.clone();
    let runtime = first.runtime.clone();
    let moved = || runtime.block_on(stormhook_postgres::mark_moved(&options, "the file"));
    refused(moved(), "stop all of its daemons");
    first.sql("UPDATE stormhook.seats SET lease_until = now() - interval '1 second'");
    moved().unwrap();
    let late = first.try_apply(vec![stormhook_store::Op::Accept(support::event(
        "org", "a.b",
    ))]);
    assert!(late.unwrap_err().is_taken_over());
    let opened = runtime.block_on(Store::open(options.clone()));
    refused(opened, "was moved to the file");
    refused(moved(), "was moved to the file");
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("store.redb");
    import_file(&path, Sealing::plain(), exported(&of_database(&first))).unwrap();
    let mut second = file_at(&path, first.now);
    assert_eq!(
        second.delivery(support::pair(&order, &endpoint)).sequence,
        1
    );
    let next = second.order();
    assert_eq!(second.delivery(support::pair(&next, &endpoint)).sequence, 2);

    let reopen = || {
        runtime
            .block_on(stormhook_postgres::reopen(&options))
            .unwrap()
    };
    assert_eq!(reopen().as_deref(), Some("the file"));
    assert_eq!(reopen(), None);
    first.reopen();
}
