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
use stormhook_store::{Op, Store, Verdict, check_file};
use support::raw::{Edit, Rows, edit};
use support::{Bed, activate, event, keyed, pair, pair_of};

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
fn filled() -> Bed {
    let mut bed = Bed::with(|options| options.pending_limit = 8);
    let endpoint = bed.endpoint("org", &["*"]);
    let second = bed.endpoint("org", &["order.*"]);
    for _ in 0..3 {
        let order = bed.order();
        bed.settle(pair(&order, &endpoint), Verdict::GiveUp);
        bed.settle(pair(&order, &second), Verdict::Success);
    }
    // More keys than the journal holds: the next commit folds them into a generation.
    let many = (0..32_768).map(|n| Op::Accept(keyed("nobody", &n.to_string())));
    bed.apply(many.collect());
    for active in [false, true] {
        bed.change(second.id, activate(active));
    }
    bed.orders(4);
    bed.one(Op::FlushStats(FlushStats));
    // There is no room for what it reopens.
    let recover = bed.recover_of(endpoint.id, false);
    bed.one(Op::Recover(recover));
    bed.expect_whole();
    bed.close();
    bed
}

/// Returns some of a table's rows: the first, the last and some in between.
fn some(rows: usize) -> Vec<usize> {
    let mut some = vec![0, rows / 2, rows - 1];
    some.dedup();
    some
}

#[test]
fn a_row_that_is_missing_is_named_by_its_table_in_every_one() {
    let bed = filled();
    let path = &bed.options.path;
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
    let mut bed = Bed::new();
    bed.endpoint("org", &["*"]);
    bed.orders(5);
    let ids = |bed: &mut Bed| bed.open().iter().map(|w| w.id).collect::<BTreeSet<_>>();
    let expected = ids(&mut bed);
    assert_eq!(expected.len(), 5);
    bed.close();
    let path = bed.options.path.clone();
    let whole = rows(&path, ("due", edit::<28>));
    for lost in 0..whole.len() {
        let key = whole.keys().nth(lost).unwrap();
        edit::<28>(&path, "due", &mut |rows| drop(rows.remove(key)));
        bed.reopen();
        assert_eq!(ids(&mut bed), expected, "row {lost}");
        bed.close();
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
    bed.reopen();
    assert_eq!(ids(&mut bed), expected);
}

#[test]
fn a_row_that_is_what_it_was_before_is_named_by_its_table() {
    let mut bed = filled();
    let path = bed.options.path.clone();
    let before: Vec<Rows> = TABLES.map(|table| rows(&path, table)).into();
    bed.reopen();
    for waiting in bed.open().into_iter().take(2) {
        bed.settle(
            pair_of(waiting.id.event, waiting.id.slot),
            Verdict::RetryAt(bed.now.plus_ms(60_000)),
        );
    }
    bed.work_off();
    let endpoint = bed.reader().all_endpoints()[0].id;
    bed.change(endpoint, activate(false));
    bed.one(Op::FlushStats(FlushStats));
    // Folded again: states and counters are overwritten.
    let many = (0..32_768).map(|n| Op::Accept(keyed("nobody", &format!("again {n}"))));
    bed.apply(many.collect());
    bed.one(Op::Probe(Probe));
    bed.expect_whole();
    bed.close();
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
    let mut bed = filled();
    bed.reopen();
    bed.options.pending_limit = 1_000;
    bed.reopen();
    bed.work_off();
    for waiting in bed.open() {
        bed.settle(waiting.id, Verdict::Success);
    }
    bed.expect_whole();
    bed.pass_ms(40 * support::DAY_MS);
    bed.accept(event("org", "order.created"));
    bed.one(Op::FlushStats(FlushStats));
    let now = bed.now;
    bed.sweep(now, now);
    bed.expect_whole();
    let copy = bed.dir.path().join("copy.redb");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&copy)
        .unwrap();
    bed.reader().copy_into(file, || true).unwrap().unwrap();
    bed.close();
    let path = bed.options.path.clone();
    stormhook_store::compact_file(&path).unwrap();
    for path in [path, copy] {
        let left = rows(&path, ("generations", edit::<8>));
        assert!(left.is_empty(), "the generation was dropped");
        assert_eq!(check_file(&path).unwrap().damage, [""; 0]);
        let mut options = bed.options.clone();
        options.path.clone_from(&path);
        let mut store = Store::open(options).unwrap();
        let order = Op::Accept(event("org", "order.created"));
        store.apply(vec![order], now, 1).unwrap();
        assert_eq!(store.reader().check().unwrap().damage, [""; 0]);
    }
}
