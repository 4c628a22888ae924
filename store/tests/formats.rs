//! Files that earlier programs wrote, kept in `assets/`: what today's code makes of them. A change that fails here changes the format,
//! and must count its version up and read what was before.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on fails"
)]

mod support;

use redb::{ReadableDatabase, ReadableTableMetadata, TableDefinition, TableHandle};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::{
    Done, GivenTime, NewEvent, Op, Status, Store, StoreError, Timestamp, Verdict, check_file,
    read_file,
};
use support::disk::{self, Disk, Kept, survive};
use support::{Random, accepted, open_of, options, settle};
use tempfile::TempDir;

/// More than any of them is unpacked.
const ASSET_BYTES: usize = 4 << 20;

/// The file as it was written, in a folder of its own.
fn unpacked(name: &str) -> (TempDir, PathBuf, Vec<u8>) {
    let packed = format!(
        "{}/tests/assets/{name}.redb.zst",
        env!("CARGO_MANIFEST_DIR")
    );
    let bytes = zstd::bulk::decompress(&std::fs::read(packed).unwrap(), ASSET_BYTES).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stormhook.redb");
    std::fs::write(&path, &bytes).unwrap();
    (dir, path, bytes)
}

fn order(n: u32) -> NewEvent {
    NewEvent {
        organization: "org_42".to_owned(),
        event_type: "order.created".to_owned(),
        timestamp: None,
        idempotency_key: Some(format!("order-{n}")),
        data: format!(r#"{{"n": {n}, "text": "\u00e9 x\u00e9 x\u00e9 x"}}"#).into_bytes(),
    }
}

fn statuses(store: &Store) -> BTreeMap<&'static str, usize> {
    let page = store
        .reader()
        .deliveries(&DeliveryFilter::default(), None, 250)
        .unwrap();
    let mut counts = BTreeMap::new();
    for view in page.items {
        *counts.entry(view.delivery.status.as_str()).or_insert(0) += 1;
    }
    counts
}

/// What became of the deliveries in each of the files.
fn of_format_1() -> BTreeMap<&'static str, usize> {
    BTreeMap::from([
        ("ABANDONED", 2),
        ("FAILED", 2),
        ("RETRYING", 3),
        ("SUCCESS", 9),
    ])
}

/// The version of the row of `meta`, which is the format of the file.
fn format_of(path: &Path) -> u8 {
    let table: TableDefinition<'_, &[u8; 1], &[u8]> = TableDefinition::new("meta");
    let db = redb::Database::open(path).unwrap();
    let meta = db.begin_read().unwrap().open_table(table).unwrap();
    let row = meta.get(&[0]).unwrap().unwrap();
    row.value()[0]
}

#[test]
fn a_file_of_format_1_becomes_one_of_format_2_when_it_is_accepted_and_not_when_it_is_read() {
    let (_dir, path, bytes) = unpacked("format-1");
    assert_eq!(check_file(&path).unwrap().damage, [""; 0]);
    drop(read_file(&path).unwrap());
    assert!(std::fs::read(&path).unwrap() == bytes, "it was written to");
    assert_eq!(format_of(&path), 1);
    // The engine wrote while it was asked for the format.
    let bytes = std::fs::read(&path).unwrap();
    drop(Store::open(options(path.clone())).unwrap());
    assert!(std::fs::read(&path).unwrap() == bytes, "it was written to");
    Store::open(options(path.clone()))
        .unwrap()
        .accept()
        .unwrap();
    assert_eq!(format_of(&path), 2);
    assert_eq!(check_file(&path).unwrap().damage, [""; 0]);
    // From now on what is missing is missed.
    let bad: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("bad");
    let db = redb::Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    drop(txn.open_table(bad).unwrap().pop_first().unwrap().unwrap());
    txn.commit().unwrap();
    drop(db);
    let damage = check_file(&path).unwrap().damage;
    let named = "bad holds 3 rows, but 4 were written to it".to_owned();
    assert!(damage.contains(&named), "{damage:?}");
}

#[test]
fn whatever_a_crash_leaves_of_a_file_that_becomes_format_2_is_whole() {
    let (_dir, _, bytes) = unpacked("format-1");
    let open = |disk: &Disk| {
        let disk = disk.clone();
        Store::open_on(options("simulated".into()), move || disk.open())
    };
    let disk = Disk::of(bytes);
    let mut durable = disk.start_recording();
    open(&disk).unwrap().accept().unwrap();
    let mut random = Random::seeded(1);
    let (mut unsynced, mut images) = (Vec::new(), 0);
    for done in disk.take_record() {
        match done {
            disk::Done::Changed(change) => unsynced.push(change),
            disk::Done::Synced => {
                let all = std::mem::take(&mut unsynced);
                survive(&mut durable, &all, Kept::All, &mut random);
            }
        }
        for kept in [Kept::All, Kept::Nothing, Kept::Some(4), Kept::Torn(4)] {
            let mut image = durable.clone();
            survive(&mut image, &unsynced, kept, &mut random);
            let store = open(&Disk::of(image)).unwrap();
            assert_eq!(store.reader().check().unwrap().damage, [""; 0]);
            assert_eq!(statuses(&store), of_format_1());
            images += 1;
        }
    }
    assert!(images > 40, "{images} images");
}

#[test]
fn a_file_of_format_1_is_sound_and_gone_on_with() {
    is_sound_and_gone_on_with("format-1");
}

#[test]
fn a_file_of_format_2_is_sound_and_gone_on_with() {
    is_sound_and_gone_on_with("format-2");
}

#[test]
fn a_file_of_format_2_says_so() {
    let (_dir, path, bytes) = unpacked("format-2");
    drop(read_file(&path).unwrap());
    assert!(std::fs::read(&path).unwrap() == bytes, "it was written to");
    assert_eq!(format_of(&path), 2);
}

fn is_sound_and_gone_on_with(name: &str) {
    let (_dir, path, _) = unpacked(name);
    let report = check_file(&path).unwrap();
    assert_eq!(report.damage, [""; 0]);
    assert_eq!((report.events, report.deliveries), (14, 16));
    let mut options = options(path);
    options.idempotency_ttl_ms = u64::MAX;
    let mut store = Store::open(options.clone()).unwrap();
    assert_eq!(statuses(&store), of_format_1());
    let reader = store.reader();
    let events = reader
        .events(&EventFilter::default(), None, 250)
        .unwrap()
        .items;
    assert!(events.iter().all(|event| event.data.is_some()));
    let endpoints = reader.all_endpoints();
    let secrets: Vec<_> = endpoints
        .iter()
        .map(|endpoint| endpoint.secrets.len())
        .collect();
    assert_eq!(secrets, [1, 1, 1, 1, 2]);
    assert_eq!(endpoints[0].headers.0["x-api-key"], "k");
    assert!(endpoints[1].signs_with_ed25519());
    assert!(!endpoints[2].active, "it answered 410");

    // A key of then, and what waited since.
    let now = reader.last_at().unwrap().plus_ms(1_000);
    let mut random = Random::seeded(1);
    let mut apply = |store: &mut Store, op| {
        let random = u128::from(random.next()) << 40;
        store.apply(vec![op], now, random).unwrap().done.remove(0)
    };
    let again = apply(&mut store, Op::Accept(order(3)));
    assert!(
        matches!(&again, Done::Replayed(event) if event.deliveries == 1),
        "{again:?}"
    );
    let paid = NewEvent {
        event_type: "order.paid".to_owned(),
        timestamp: Some(GivenTime::new(
            Timestamp(1_767_319_445_678),
            "2026-01-02T03:04:05.678+01:00",
        )),
        idempotency_key: Some("paid-0".to_owned()),
        ..order(0)
    };
    let again = apply(&mut store, Op::Accept(paid));
    assert!(matches!(again, Done::Replayed(_)), "{again:?}");
    let waiting = open_of(&store);
    assert_eq!(waiting.len(), 3);
    for waiting in waiting {
        let done = apply(
            &mut store,
            Op::Settle(Box::new(settle(waiting.id, Verdict::Success, now))),
        );
        assert!(matches!(done, Done::Settled { delivery } if delivery.attempts.len() == 2));
    }
    let new = NewEvent {
        idempotency_key: None,
        ..order(6)
    };
    let new = accepted(apply(&mut store, Op::Accept(new)));
    drop((store, reader));
    let store = Store::open(options).unwrap();
    let deliveries = store.reader().deliveries(
        &DeliveryFilter {
            event: Some(new.id),
            ..DeliveryFilter::default()
        },
        None,
        9,
    );
    let deliveries = deliveries.unwrap().items;
    assert_eq!(deliveries[0].delivery.sequence, 9);
    assert_eq!(deliveries[0].delivery.status, Status::Pending);
    assert_eq!(store.reader().check().unwrap().damage, [""; 0]);
}

/// How many rows each table has.
fn rows(path: &Path) -> Vec<(String, u64)> {
    let db = redb::Database::open(path).unwrap();
    let txn = db.begin_read().unwrap();
    let tables: Vec<_> = txn.list_tables().unwrap().collect();
    let len = |table| txn.open_untyped_table(table).unwrap().len().unwrap();
    let mut rows: Vec<_> = tables
        .into_iter()
        .map(|t| (t.name().to_owned(), len(t)))
        .collect();
    rows.sort();
    rows
}

#[test]
fn a_file_from_before_format_1_is_refused_by_its_name_and_left_as_it_is() {
    let (_dir, path, bytes) = unpacked("draft");
    let checked = check_file(&path).err();
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "check only reads");
    let before = rows(&path);
    let opened = Store::open(options(path.clone())).err();
    for refused in [checked, opened] {
        let refused = refused.expect("it is refused");
        assert!(matches!(refused, StoreError::Draft { .. }), "{refused:?}");
        assert!(!refused.is_damage(), "nothing is damaged");
        assert!(
            refused.to_string().contains("predates version 1"),
            "{refused}"
        );
    }
    assert_eq!(rows(&path), before);
}
