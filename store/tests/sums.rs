//! `check` finds a row that is missing or from an earlier commit: in every table, without any other sign of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use stormhook_store::maintenance::{FlushStats, Probe};
use stormhook_store::{NextStep, Op, Store, check_file};
use support::raw::{Edit, Rows, edit};
use support::{Fixture, activate, event, keyed, pair, pair_of};

const TABLES: [(&str, Edit); 14] = [
    ("endpoints", edit::<4>),
    ("states", edit::<4>),
    ("revisions", edit::<20>),
    ("packs", edit::<16>),
    ("deliveries", edit::<20>),
    ("due", edit::<28>),
    ("bad", edit::<20>),
    ("journal", edit::<8>),
    ("generations", edit::<8>),
    ("history", edit::<12>),
    ("keys", edit::<24>),
    ("counters", edit::<9>),
    ("windows", edit::<13>),
    ("bulk", edit::<12>),
];

fn rows(path: &Path, (name, edit): (&str, Edit)) -> Rows {
    let mut found = Rows::new();
    edit(path, name, &mut |rows| found.clone_from(rows));
    found
}

/// Returns a closed store with rows in every table.
fn filled() -> Fixture {
    let mut fixture = Fixture::with(|options| options.pending_limit = 8);
    let endpoint = fixture.endpoint("org", &["*"]);
    let second = fixture.endpoint("org", &["order.*"]);
    for _ in 0..3 {
        let order = fixture.order();
        fixture.settle(pair(&order, &endpoint), NextStep::GiveUp);
        fixture.settle(pair(&order, &second), NextStep::Success);
    }
    // More keys than the journal holds: the next commit folds them into a generation.
    let many = (0..32_768).map(|n| Op::Accept(keyed("nobody", &n.to_string())));
    fixture.apply(many.collect());
    for active in [false, true] {
        fixture.change(second.id, activate(active));
    }
    fixture.orders(4);
    fixture.one(Op::FlushStats(FlushStats));
    // There is no room for what it reopens.
    let recover = fixture.recover_of(endpoint.id, false);
    fixture.one(Op::Recover(recover));
    fixture.expect_whole();
    fixture.close();
    fixture
}

/// Returns some of a table's rows: the first, the last and some in between.
fn some(rows: usize) -> Vec<usize> {
    let mut some = vec![0, rows / 2, rows - 1];
    some.dedup();
    some
}

#[test]
fn a_row_that_is_missing_is_named_by_its_table_in_every_one() {
    let fixture = filled();
    let path = &fixture.options.path;
    for (name, edit) in TABLES {
        let whole = rows(path, (name, edit));
        assert!(!whole.is_empty(), "{name} has no rows to lose");
        let (left, written) = (whole.len() - 1, whole.len());
        for lost in some(whole.len()) {
            let key = whole.keys().nth(lost).unwrap();
            edit(path, name, &mut |rows| drop(rows.remove(key)));
            let damage = check_file(path).unwrap().damage;
            let named = format!("{name} holds {left} rows, but {written} were written to it");
            assert!(damage.contains(&named), "{name} {lost}: {damage:?}");
            edit(path, name, &mut |rows| rows.clone_from(&whole));
        }
    }
    assert_eq!(check_file(path).unwrap().damage, [""; 0]);

    edit::<1>(path, "meta", &mut Rows::clear);
    let refused = check_file(path).unwrap_err();
    assert!(refused.is_damage(), "{refused}");
    assert!(refused.to_string().contains("the row of meta"), "{refused}");
}

#[test]
fn a_row_that_is_missing_from_the_due_index_hides_no_delivery() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    fixture.orders(5);
    let ids = |fixture: &mut Fixture| fixture.open().iter().map(|w| w.id).collect::<BTreeSet<_>>();
    let expected = ids(&mut fixture);
    assert_eq!(expected.len(), 5);
    fixture.close();
    let path = fixture.options.path.clone();
    let whole = rows(&path, ("due", edit::<28>));
    for lost in 0..whole.len() {
        let key = whole.keys().nth(lost).unwrap();
        edit::<28>(&path, "due", &mut |rows| drop(rows.remove(key)));
        fixture.reopen();
        assert_eq!(ids(&mut fixture), expected, "row {lost}");
        fixture.close();
        edit::<28>(&path, "due", &mut |rows| rows.clone_from(&whole));
    }
    // A damaged key claims that the row is of an endpoint that never existed.
    let (key, value) = whole.iter().next().unwrap();
    let mut other = key.clone();
    other[24] ^= 0x80;
    edit::<28>(&path, "due", &mut |rows| {
        rows.remove(key);
        rows.insert(other.clone(), value.clone());
    });
    fixture.reopen();
    assert_eq!(ids(&mut fixture), expected);
}

#[test]
fn a_row_that_is_what_it_was_before_is_named_by_its_table() {
    let mut fixture = filled();
    let path = fixture.options.path.clone();
    let before: Vec<Rows> = TABLES.map(|table| rows(&path, table)).into();
    fixture.reopen();
    for waiting in fixture.open().into_iter().take(2) {
        fixture.settle(
            pair_of(waiting.id.event, waiting.id.slot),
            NextStep::RetryAt(fixture.now.plus_ms(60_000)),
        );
    }
    fixture.work_off();
    let endpoint = fixture.reader().all_endpoints()[0].id;
    fixture.change(endpoint, activate(false));
    fixture.one(Op::FlushStats(FlushStats));
    // Folded again: states and counters are overwritten.
    let many = (0..32_768).map(|n| Op::Accept(keyed("nobody", &format!("again {n}"))));
    fixture.apply(many.collect());
    fixture.one(Op::Probe(Probe));
    fixture.expect_whole();
    fixture.close();
    let mut seen = Vec::new();
    for ((name, edit), before) in TABLES.into_iter().zip(before) {
        let now = rows(&path, (name, edit));
        let stale = before
            .iter()
            .find(|(key, value)| now.get(*key).is_some_and(|now| now != *value));
        let Some((key, value)) = stale else {
            continue;
        };
        edit(&path, name, &mut |rows| {
            rows.insert(key.clone(), value.clone());
        });
        let damage = check_file(&path).unwrap().damage;
        let count = now.len();
        let named = format!("{name} holds {count} rows, but not those that were written to it");
        assert!(damage.contains(&named), "{name}: {damage:?}");
        edit(&path, name, &mut |rows| rows.clone_from(&now));
        seen.push(name);
    }
    let replaced = ["endpoints", "states", "deliveries", "counters", "windows"];
    assert_eq!(seen, replaced);
    assert_eq!(check_file(&path).unwrap().damage, [""; 0]);
}

/// Every operation that removes rows, and copies.
#[test]
fn sums_follow_what_is_swept_folded_and_copied() {
    let mut fixture = filled();
    fixture.reopen();
    fixture.options.pending_limit = 1_000;
    fixture.reopen();
    fixture.work_off();
    for waiting in fixture.open() {
        fixture.settle(waiting.id, NextStep::Success);
    }
    fixture.expect_whole();
    fixture.pass_ms(40 * support::DAY_MS);
    fixture.accept(event("org", "order.created"));
    fixture.one(Op::FlushStats(FlushStats));
    let now = fixture.now;
    fixture.sweep(now, now);
    fixture.expect_whole();
    let copy = fixture.dir.path().join("copy.redb");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&copy)
        .unwrap();
    fixture.reader().copy_into(file, || true).unwrap().unwrap();
    fixture.close();
    let path = fixture.options.path.clone();
    stormhook_store::compact_file(&path).unwrap();
    for path in [path, copy] {
        let left = rows(&path, ("generations", edit::<8>));
        assert!(left.is_empty(), "the generation was dropped");
        assert_eq!(check_file(&path).unwrap().damage, [""; 0]);
        let mut options = fixture.options.clone();
        options.path.clone_from(&path);
        let mut store = Store::open(options).unwrap();
        let order = Op::Accept(event("org", "order.created"));
        store.apply(vec![order], now, 1).unwrap();
        assert_eq!(store.reader().check().unwrap().damage, [""; 0]);
    }
}
