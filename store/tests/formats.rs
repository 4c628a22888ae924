//! Files that earlier programs wrote, kept in `assets/`, and what the current code does with them. A change that fails
//! here changes the format, so it must increment the version and read earlier files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]

mod support;

use redb::{ReadableDatabase, ReadableTableMetadata, TableDefinition, TableHandle};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::{
    Accepted, Done, GivenTime, NewEvent, NextStep, Op, Status, Store, StoreError, Timestamp,
    check_file, read_file,
};
use support::disk::{self, Disk, Kept, survive};
use support::{Random, accepted, open_of, options, settle};
use tempfile::TempDir;

/// Larger than any of them unpacked.
const ASSET_BYTES: usize = 4 << 20;

/// Unpacks the file as it was written, into its own directory.
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

/// The current format.
const CURRENT: u8 = 5;

/// Returns the states of the deliveries in each of the files.
fn of_format_1() -> BTreeMap<&'static str, usize> {
    BTreeMap::from([
        ("ABANDONED", 2),
        ("FAILED", 2),
        ("RETRYING", 3),
        ("SUCCESS", 9),
    ])
}

/// Returns the version of the row of `meta`, which is the format of the file.
fn format_of(path: &Path) -> u8 {
    let table: TableDefinition<'_, &[u8; 1], &[u8]> = TableDefinition::new("meta");
    let db = redb::Database::open(path).unwrap();
    let meta = db.begin_read().unwrap().open_table(table).unwrap();
    let row = meta.get(&[0]).unwrap().unwrap();
    row.value()[0]
}

#[test]
fn a_file_of_format_1_becomes_one_of_the_current_format_when_it_is_accepted_and_not_when_it_is_read()
 {
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
    assert_eq!(format_of(&path), CURRENT);
    assert_eq!(check_file(&path).unwrap().damage, [""; 0]);
    // From now on a missing row is noticed.
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

/// At every moment of the first opening of a file of an earlier format, a crash leaves an intact file, of that format
/// or of the current one.
fn expect_whole_after_a_crash(name: &str, seen: &impl Fn(&Store) -> Vec<String>) {
    let (_dir, _, bytes) = unpacked(name);
    let open = |disk: &Disk| {
        let disk = disk.clone();
        Store::open_on(options("simulated".into()), move || disk.open())
    };
    let expected = seen(&open(&Disk::of(bytes.clone())).unwrap());
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
            assert_eq!(seen(&store), expected);
            images += 1;
        }
    }
    assert!(images > 40, "{images} images");
}

#[test]
fn whatever_a_crash_leaves_of_a_file_that_is_migrated_is_whole() {
    let counted = |store: &Store| vec![format!("{:?}", statuses(store))];
    expect_whole_after_a_crash("format-1", &counted);
    expect_whole_after_a_crash("format-2", &counted);
    expect_whole_after_a_crash("format-2-bulk", &lines);
    expect_whole_after_a_crash("format-3", &counted);
}

/// Returns what readers see of each delivery: endpoint, sequence, status, round, reason, last change, attempts.
fn lines(store: &Store) -> Vec<String> {
    let page = store
        .reader()
        .deliveries(&DeliveryFilter::default(), None, 250);
    let mut lines: Vec<_> = page
        .unwrap()
        .items
        .into_iter()
        .map(|view| {
            let d = view.delivery;
            let reason = d.reason.map_or("-", |reason| reason.as_str());
            let changed_ms = d.updated_at.0 - support::START.0;
            let attempts = d.attempts.len();
            format!(
                "{} {} {} {} {reason} {changed_ms} {attempts}",
                d.id.slot.0,
                d.sequence,
                d.status.as_str(),
                d.round
            )
        })
        .collect();
    lines.sort();
    lines
}

/// As the program that wrote the file read it: discards, a deletion and recoveries of five endpoints, none of them
/// written except one in part.
const IN_PROGRESS: &str = "\
0 1 FAILED 2 discarded 2080 1
0 10 PENDING 1 - 2100 0
0 2 FAILED 2 discarded 2080 1
0 3 FAILED 2 discarded 2080 1
0 4 FAILED 2 discarded 2080 1
0 5 FAILED 2 discarded 2080 1
0 6 FAILED 1 discarded 2080 0
0 7 FAILED 1 discarded 2080 0
0 8 FAILED 1 discarded 2080 0
0 9 PENDING 1 - 2090 0
1 1 ABANDONED 2 - 5140 1
1 2 FAILED 2 discarded 6140 0
1 3 FAILED 2 discarded 6140 0
1 4 FAILED 2 discarded 6140 0
2 1 SUCCESS 1 - 6180 1
2 2 FAILED 1 endpoint_deleted 7180 0
2 3 FAILED 1 endpoint_deleted 7180 0
2 4 FAILED 1 endpoint_deleted 7180 0
3 1 PENDING 2 - 8230 1
3 2 PENDING 2 - 8230 1
4 1 ABANDONED 2 - 10260 2
4 2 PENDING 2 - 9260 1
4 3 PENDING 2 - 9260 1";

#[test]
fn bulk_changes_that_were_in_progress_in_a_file_of_format_2_go_on() {
    let (_dir, path, bytes) = unpacked("format-2-bulk");
    assert_eq!(format_of(&path), 2);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(check_file(&path).unwrap().damage, [""; 0]);
    let mut store = Store::open(options(path.clone())).unwrap();
    assert_eq!(lines(&store).join("\n"), IN_PROGRESS);
    // Those of endpoint 0: a recovery, and a discard after it; of endpoint 1 a discard, a recovery, a discard.
    let bulks = store.reader().bulks();
    let slots: Vec<_> = bulks.iter().map(|(slot, _)| slot.0).collect();
    assert_eq!(slots, [0, 1, 2, 3, 4]);
    // A discarded delivery waits in no queue, and neither does one that is still to be reopened.
    let waiting: Vec<_> = open_of(&store)
        .iter()
        .map(|w| (w.id.slot.0, w.sequence))
        .collect();
    assert_eq!(waiting, [(0, 9), (0, 10)]);

    let now = store.reader().last_at().unwrap().plus_ms(1_000);
    let reader = store.reader();
    support::advance(&reader, usize::MAX, |op| {
        store.apply(vec![op], now, 1 << 40).unwrap().done.remove(0)
    });
    drop(reader);
    assert_eq!(store.reader().bulks(), []);
    let missed = [3, 4, 5]
        .map(|sequence| format!("3 {sequence} PENDING 1 - {} 0", now.0 - support::START.0));
    let mut expected: Vec<_> = IN_PROGRESS
        .lines()
        .map(str::to_owned)
        .chain(missed)
        .collect();
    expected.sort();
    assert_eq!(lines(&store), expected);
    let open = expected
        .iter()
        .filter(|line| line.contains("PENDING"))
        .count();
    assert_eq!(open_of(&store).len(), open);
    assert_eq!(store.reader().open_count(), open as u64);
    assert_eq!(store.reader().check().unwrap().damage, [""; 0]);
    drop(store);
    assert_eq!(format_of(&path), CURRENT);
    let store = Store::open(options(path)).unwrap();
    assert_eq!(lines(&store), expected);
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
fn a_file_of_format_3_is_sound_and_gone_on_with() {
    is_sound_and_gone_on_with("format-3");
}

#[test]
fn a_file_of_format_4_is_sound_and_gone_on_with() {
    is_sound_and_gone_on_with("format-4");
}

#[test]
fn a_file_of_format_5_is_sound_and_gone_on_with() {
    is_sound_and_gone_on_with("format-5");
}

#[test]
fn a_kept_file_is_of_the_format_that_it_is_named_after_and_is_only_read() {
    for format in 1..=CURRENT {
        let (_dir, path, bytes) = unpacked(&format!("format-{format}"));
        drop(read_file(&path).unwrap());
        assert!(std::fs::read(&path).unwrap() == bytes, "it was written to");
        assert_eq!(format_of(&path), format);
    }
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

    // A key of that time, and what has been waiting since.
    let now = reader.last_at().unwrap().plus_ms(1_000);
    let mut random = Random::seeded(1);
    let mut apply = |store: &mut Store, op| {
        let random = u128::from(random.next()) << 40;
        store.apply(vec![op], now, random).unwrap().done.remove(0)
    };
    let again = apply(&mut store, Op::Accept(order(3)));
    assert!(
        matches!(&again, Done::Accept(Ok(Accepted { event, replayed: true })) if event.deliveries == 1),
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
    assert!(
        matches!(again, Done::Accept(Ok(Accepted { replayed: true, .. }))),
        "{again:?}"
    );
    let waiting = open_of(&store);
    assert_eq!(waiting.len(), 3);
    for waiting in waiting {
        let done = apply(
            &mut store,
            Op::Settle(Box::new(settle(waiting.id, NextStep::Success, now))),
        );
        assert!(matches!(done, Done::Settle(Ok(delivery)) if delivery.attempts.len() == 2));
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

/// Returns how many rows each table has.
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
