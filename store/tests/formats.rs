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

use redb::{ReadableDatabase, ReadableTableMetadata, TableHandle};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::{
    Done, GivenTime, NewEvent, Op, Status, Store, StoreError, Timestamp, Verdict, check_file,
};
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

#[test]
fn a_file_of_format_1_is_sound_and_gone_on_with() {
    let (_dir, path, _) = unpacked("format-1");
    let report = check_file(&path).unwrap();
    assert_eq!(report.damage, [""; 0]);
    assert_eq!((report.events, report.deliveries), (14, 16));
    let mut options = options(path);
    options.idempotency_ttl_ms = u64::MAX;
    let mut store = Store::open(options.clone()).unwrap();
    let before = BTreeMap::from([
        ("ABANDONED", 2),
        ("FAILED", 2),
        ("RETRYING", 3),
        ("SUCCESS", 9),
    ]);
    assert_eq!(statuses(&store), before);
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
            refused.to_string().contains("before version 1"),
            "{refused}"
        );
    }
    assert_eq!(rows(&path), before);
}
