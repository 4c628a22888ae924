//! Files in which each row and each sum is valid, but rows contradict each other.

use crate::endpoint::{NewEndpoint, Settings, TypePattern};
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::file::journal::JournalRow;
use crate::file::overlay::{at_rest, check_file};
use crate::file::record;
use crate::file::rows;
use crate::file::store::Store;
use crate::file::tables::{self, ReadTables, Tables};
use crate::ids::{EndpointId, Slot, UnixMs};
use crate::op::Op;
use crate::options::Options;
use crate::swept::Horizon;
use redb::{Database, ReadableDatabase, ReadableTable};
use std::path::{Path, PathBuf};
use stormhook_verifier::Secret;
use tempfile::TempDir;

const START: UnixMs = UnixMs(1_767_323_045_000);
const DAY_MS: u64 = 86_400_000;

fn store(folder: &TempDir) -> (Store, PathBuf) {
    let path = folder.path().join("store.redb");
    let options = Options {
        idempotency_ttl_ms: DAY_MS,
        ..at_rest(&path)
    };
    let mut store = Store::open(options).unwrap();
    let new = NewEndpoint {
        id: EndpointId::new(START, 1),
        organization: "org".to_owned(),
        settings: Settings {
            url: "https://example.com".to_owned(),
            event_types: vec![TypePattern::parse("*").unwrap()],
            active: true,
            ..Settings::default()
        },
        secret: Secret::from_random(&[7; 32]),
        seed: None,
    };
    apply(&mut store, START, vec![Op::CreateEndpoint(new.into())]);
    (store, path)
}

fn apply(store: &mut Store, now: UnixMs, ops: Vec<Op>) {
    store.apply(ops, now, 99).unwrap();
}

fn event(organization: &str, key: Option<String>) -> Op {
    Op::Accept(NewEvent {
        organization: organization.to_owned(),
        event_type: "order.created".to_owned(),
        timestamp: None,
        idempotency_key: key,
        data: b"1".to_vec(),
    })
}

fn orders(count: usize) -> Vec<Op> {
    (0..count).map(|_| event("org", None)).collect()
}

/// Changes rows without the store's knowledge, including the sums.
fn edit(path: &Path, change: impl FnOnce(&mut Tables<'_>) -> Result<(), StoreError>) {
    let db = Database::open(path).unwrap();
    let mut meta = ReadTables::open(&db.begin_read().unwrap())
        .unwrap()
        .meta()
        .unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut tables = Tables::open(&txn, &meta.sums).unwrap();
        change(&mut tables).unwrap();
        meta.sums = tables.sums();
        let row = meta.write().unwrap();
        tables.meta.insert(&[0], row.as_slice()).unwrap();
    }
    txn.commit().unwrap();
}

/// Gives the delivery with one sequence number another one.
fn renumber(path: &Path, from: u64, to: u64) {
    edit(path, |tables| {
        let mut found = None;
        for row in tables.deliveries.iter()? {
            let (key, value) = row?;
            let delivery = rows::read_delivery(key.value(), value.value())?;
            if delivery.sequence == from {
                found = Some(delivery);
            }
        }
        let mut delivery = found.expect("there is one with that number");
        delivery.sequence = to;
        let row = rows::write_delivery(&delivery)?;
        tables
            .deliveries
            .insert(&tables::delivery_key(delivery.id), &row)?;
        if let Some(waiting) = delivery.queue_entry() {
            let row = rows::write_due(&waiting, delivery.stamp)?;
            let key = tables::timed_key(waiting.due, waiting.id);
            tables.due.insert(&key, &row)?;
        }
        Ok(())
    });
}

const NOT_THOSE: &str = "endpoint number 0 has 4 listed deliveries, but not with the sequence numbers of the 4 in its list";

#[test]
fn a_sequence_number_that_is_given_twice_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, path) = store(&folder);
    apply(&mut store, START, orders(4));
    drop(store);
    assert_eq!(check_file(&path).unwrap().damage, [""; 0]);
    renumber(&path, 3, 2);
    assert_eq!(check_file(&path).unwrap().damage, [NOT_THOSE]);
}

#[test]
fn a_sequence_number_that_is_given_twice_is_named_after_a_sweep_too() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, path) = store(&folder);
    apply(&mut store, START, orders(4));
    // None of them is removed, since they are open; from now on some may be missing.
    let now = START.plus_ms(90 * DAY_MS);
    let horizon = Horizon {
        events_before: now,
        attempts_before: now,
        ..Horizon::default()
    };
    let mut sweeper = store.reader().sweeper();
    sweeper.begin(horizon, now);
    while let Some(sweep) = sweeper.find().unwrap() {
        apply(&mut store, now, vec![sweep.into()]);
    }
    drop(sweeper);
    drop(store);
    assert_eq!(check_file(&path).unwrap().damage, [""; 0]);
    renumber(&path, 3, 2);
    // As far as the list shows, the one listed with 3 may have been swept.
    let named = NOT_THOSE.replace("of the 4", "of the 3");
    assert_eq!(check_file(&path).unwrap().damage, [named]);
}

#[test]
fn an_open_delivery_that_no_list_has_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, path) = store(&folder);
    apply(&mut store, START, orders(4));
    drop(store);
    edit(&path, |tables| {
        let (key, mut journal) = {
            let (key, value) = tables.journal.last()?.expect("a row");
            let key = *key.value();
            let row: JournalRow = record::read("journal", &key, value.value())?;
            (key, row)
        };
        journal.created.retain(|(_, sequence, _)| *sequence != 2);
        let row = record::write("journal", &key, &journal)?;
        tables.journal.insert(&key, &row)
    });
    let named = "endpoint number 0 has 1 open deliveries that are in no list of its deliveries";
    assert_eq!(check_file(&path).unwrap().damage, [named]);
}

#[test]
fn a_generation_that_is_not_what_was_folded_into_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, path) = store(&folder);
    apply(&mut store, START, orders(4));
    let many = (0..32_768).map(|n| event("nobody", Some(n.to_string())));
    apply(&mut store, START, many.collect());
    apply(&mut store, START, orders(1));
    drop(store);
    assert_eq!(check_file(&path).unwrap().damage, [""; 0]);
    let whole = std::fs::read(&path).unwrap();

    edit(&path, |tables| {
        let key = *tables.keys.first()?.expect("a block").0.value();
        tables.keys.remove(&key).map(drop)
    });
    let named = "generation 0 holds 32640 idempotency keys, but 32768 were folded into it";
    assert_eq!(check_file(&path).unwrap().damage, [named]);

    std::fs::write(&path, &whole).unwrap();
    edit(&path, |tables| {
        tables
            .history
            .remove(&tables::history_key(0, Slot(0)))
            .map(drop)
    });
    let named = [
        "generation 0 holds 0 deliveries, but 4 were folded into it",
        "endpoint number 0 has 4 open deliveries that are in no list of its deliveries",
    ];
    assert_eq!(check_file(&path).unwrap().damage, named);

    std::fs::write(&path, &whole).unwrap();
    edit(&path, |tables| {
        tables.generations.remove(&tables::count_key(0)).map(drop)
    });
    let named = "generation 0 has rows in history or keys, but doesn't exist";
    assert_eq!(check_file(&path).unwrap().damage, [named]);
}
