//! The whole file: the contents of a copy, that making one blocks nothing, that a compaction replaces the store
//! completely or not at all, and that concurrent changes don't mislead a check.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]

mod support;

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use stormhook_store::maintenance::Probe;
use stormhook_store::query::{DeliveryFilter, EventFilter};
use stormhook_store::{
    Accepted, NextStep, Op, Options, Replay, Store, StoreError, UnixMs, check_file, compact_file,
    copy_file,
};
use support::disk::Disk;
use support::*;

fn make(path: &Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap()
}

/// Returns a store with open, settled and failed deliveries, keys, and a generation of the journal.
fn some_store() -> Fixture {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    for n in 0..20 {
        let event = fixture.accept(keyed("org", &format!("k{n}")));
        if n % 2 == 0 {
            let verdict = if n % 4 == 0 {
                NextStep::Success
            } else {
                NextStep::GiveUp
            };
            fixture.settle(pair(&event, &endpoint), verdict);
        }
    }
    fixture
}

/// Returns the same in another file.
fn bed_on(path: PathBuf) -> (Options, Store) {
    let options = options(path);
    (options.clone(), Store::open(options).unwrap())
}

fn contents(store: &Store) -> (Vec<String>, Vec<String>, usize) {
    let reader = store.reader();
    let events = pages(|after| reader.events(&EventFilter::default(), after, 50));
    let deliveries = pages(|after| reader.deliveries(&DeliveryFilter::default(), after, 50));
    (
        events.iter().map(|e| format!("{e:?}")).collect(),
        deliveries
            .iter()
            .map(|d| format!("{:?}", d.delivery))
            .collect(),
        open_of(store).len(),
    )
}

#[test]
fn a_copy_holds_what_was_there_when_it_began_and_nothing_later() {
    let mut fixture = some_store();
    let before = contents(fixture.store());
    let path = fixture.dir.path().join("copy.redb");
    let reader = fixture.reader();
    let commit = fixture.apply(vec![Op::Probe(Probe)]).commit;
    // Committed during the copy: by the time of the first question, it has begun.
    let mut later = Some(());
    let copied = reader
        .copy_into(make(&path), || {
            if later.take().is_some() {
                fixture.orders(5);
            }
            true
        })
        .unwrap()
        .unwrap();
    fixture.orders(5);
    assert_eq!(copied.commit, commit);
    assert_eq!(copied.file_bytes, path.metadata().unwrap().len());
    let report = check_file(&path).unwrap();
    assert_eq!(report.damage, [""; 0]);
    assert_eq!(report.rows, copied.rows);
    let (_, copy) = bed_on(path);
    assert_eq!(contents(&copy), before);
    assert!(before.2 > 0 && before.0.len() == 20);
}

#[test]
fn a_copy_goes_on_as_a_store_of_its_own() {
    let mut fixture = some_store();
    let path = fixture.dir.path().join("copy.redb");
    fixture.reader().copy_into(make(&path), || true).unwrap();
    let (_, mut copy) = bed_on(path.clone());
    let last = fixture.orders(1)[0].id;
    let applied = copy.apply(
        vec![
            Op::Accept(keyed("org", "k3")),
            Op::Accept(event("org", "a.b")),
        ],
        UnixMs(fixture.now.0),
        9,
    );
    let done = applied.unwrap().done;
    assert!(
        matches!(
            done[0],
            stormhook_store::Done::Accept(Ok(Accepted { replayed: true, .. }))
        ),
        "it knows the keys: {done:?}"
    );
    assert_eq!(
        copy.reader().check().unwrap().damage,
        [""; 0],
        "beside {last}"
    );
    drop(copy);
    assert_eq!(check_file(&path).unwrap().damage, [""; 0]);
}

#[test]
fn a_copy_that_is_told_to_stop_stops() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    for _ in 0..20 {
        fixture.orders(500);
    }
    let mut asked = 0;
    let path = fixture.dir.path().join("copy.redb");
    let stopped = fixture.reader().copy_into(make(&path), || {
        asked += 1;
        false
    });
    assert_eq!(stopped.unwrap(), None);
    assert_eq!(asked, 1);
    fixture.orders(1);
    fixture.expect_whole();
}

/// A commit fails and the writer reopens the file while a copy reads it.
#[test]
fn a_copy_stands_in_the_way_of_no_recovery() {
    let disk = Disk::default();
    let opened = disk.clone();
    let mut store = Store::open_on(options("simulated".into()), move || opened.open()).unwrap();
    let new = new_endpoint(stormhook_store::EndpointId(1), "org", &["*"]);
    let mut random = 1 << 20;
    let mut apply = move |store: &mut Store, ops| {
        random += 1 << 20;
        store.apply(ops, START, random)
    };
    apply(&mut store, vec![Op::CreateEndpoint(new.into())]).unwrap();
    for _ in 0..20 {
        let ops = (0..500).map(|_| Op::Accept(event("org", "a.b")));
        apply(&mut store, ops.collect()).unwrap();
    }
    let reader = store.reader();
    let folder = tempfile::tempdir().unwrap();
    let file = make(&folder.path().join("copy"));
    let (tell, told) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let copying = std::thread::spawn(move || {
        reader.copy_into(file, || {
            tell.send(()).unwrap();
            // Until the writer is done; a closed channel counts as a yes.
            let _ = wait.recv();
            true
        })
    });
    told.recv().unwrap();
    let (ended, end) = mpsc::channel();
    let failing = disk.clone();
    let writing = std::thread::spawn(move || {
        failing.fail_syncs(true);
        let _failed = apply(&mut store, vec![Op::Probe(Probe)]);
        failing.fail_syncs(false);
        // Whether or not the probe counted, the file has been reopened and works.
        let _known = store.resolve_in_doubt();
        let after = apply(&mut store, vec![Op::Probe(Probe)]);
        ended.send(after.is_ok()).unwrap();
    });
    let went_on = end.recv_timeout(Duration::from_secs(20));
    drop(go);
    assert_eq!(went_on, Ok(true), "the writer waits for the copy");
    writing.join().unwrap();
    // What was read through the closed handle is not a copy.
    assert!(copying.join().unwrap().is_err());
}

#[test]
fn a_store_at_rest_is_copied_without_being_written_to() {
    let mut fixture = some_store();
    let path = fixture.options.path.clone();
    let to = fixture.dir.path().join("copy.redb");
    let refused = copy_file(&path, make(&to), || true);
    assert!(matches!(refused, Err(StoreError::AlreadyOpen { .. })));
    let before = contents(fixture.store());
    fixture.close();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&to).unwrap();
    copy_file(&path, make(&to), || true).unwrap().unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes, "it was written to");
    assert_eq!(contents(&bed_on(to).1), before);
}

/// Returns a store whose file has free space: a sweep removed most rows.
fn swept() -> Fixture {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    for _ in 0..10 {
        let now = fixture.now;
        let settled = fixture.orders(300).into_iter().map(|event| {
            let id = pair(&event, &endpoint);
            Op::Settle(Box::new(settle(id, NextStep::Success, now)))
        });
        let settled: Vec<Op> = settled.collect();
        fixture.apply(settled);
    }
    fixture.pass_ms(40 * DAY_MS);
    fixture.orders(7);
    let now = fixture.now;
    fixture.sweep(now, now);
    fixture
}

#[test]
fn a_compaction_keeps_every_row_the_mode_and_nothing_beside() {
    let mut fixture = swept();
    let path = fixture.options.path.clone();
    let before = contents(fixture.store());
    assert!(matches!(
        compact_file(&path),
        Err(StoreError::AlreadyOpen { .. })
    ));
    fixture.close();
    let length = path.metadata().unwrap().len();
    let compacted = compact_file(&path).unwrap();
    assert_eq!(compacted.before_bytes, length);
    assert_eq!(compacted.after_bytes, path.metadata().unwrap().len());
    assert!(compacted.after_bytes * 5 < length * 4, "{compacted:?}");
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let names: Vec<_> = std::fs::read_dir(fixture.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, [path.file_name().unwrap()]);
    // Nothing more can be gained: it is the same file.
    let id = |path: &Path| path.metadata().unwrap().ino();
    let inode = id(&path);
    let again = compact_file(&path).unwrap();
    assert_eq!(again.after_bytes, again.before_bytes);
    assert_eq!(id(&path), inode);
    assert_eq!(std::fs::read_dir(fixture.dir.path()).unwrap().count(), 1);
    fixture.reopen();
    assert_eq!(contents(fixture.store()), before);
    fixture.expect_whole();
    fixture.orders(3);
    fixture.expect_whole();
}

#[test]
fn what_a_killed_compaction_left_is_not_the_store_and_goes_when_it_opens() {
    let mut fixture = some_store();
    let path = fixture.options.path.clone();
    let before = contents(fixture.store());
    fixture.close();
    let mut left = path.clone().into_os_string();
    left.push(".compacting");
    let left = PathBuf::from(left);
    std::fs::write(&left, b"half a file").unwrap();
    fixture.reopen();
    assert!(!left.exists());
    assert_eq!(contents(fixture.store()), before);
    fixture.close();
    std::fs::write(&left, b"half a file").unwrap();
    compact_file(&path).unwrap();
    assert!(!left.exists());
    fixture.reopen();
    assert_eq!(contents(fixture.store()), before);
}

#[test]
fn a_damaged_store_is_not_compacted() {
    let mut fixture = some_store();
    let path = fixture.options.path.clone();
    fixture.close();
    let mut bytes = std::fs::read(&path).unwrap();
    // The key of an event appears twice: in its row and in a pack, whose checksum shows the change.
    let at = bytes
        .windows(4)
        .position(|w| w == [0x28, 0xb5, 0x2f, 0xfd])
        .expect("a zstd frame");
    bytes[at + 12] ^= 3;
    std::fs::write(&path, &bytes).unwrap();
    let refused = compact_file(&path).unwrap_err();
    assert!(refused.is_damage(), "{refused}");
    assert!(refused.to_string().contains("nothing was changed"));
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert_eq!(std::fs::read_dir(fixture.dir.path()).unwrap().count(), 1);
}

#[test]
fn a_link_is_followed_and_the_file_behind_it_compacted() {
    let mut fixture = swept();
    let path = fixture.options.path.clone();
    fixture.close();
    let real = fixture.dir.path().join("elsewhere.redb");
    std::fs::rename(&path, &real).unwrap();
    std::os::unix::fs::symlink(&real, &path).unwrap();
    compact_file(&path).unwrap();
    assert!(path.is_symlink() && !real.is_symlink());
    fixture.reopen();
    fixture.expect_whole();
}

/// The check takes many snapshots: rows must be compared within the same one.
#[test]
fn a_check_beside_a_busy_writer_finds_nothing() {
    let mut fixture = Fixture::new();
    let mut late = fixture.endpoint("org", &["*"]);
    // Several parts of each table.
    for _ in 0..10 {
        fixture.orders(600);
    }
    let reader = fixture.reader();
    let (ended, end) = mpsc::channel::<()>();
    let checking = std::thread::spawn(move || {
        for _ in 0..3 {
            let report = reader.check().unwrap();
            assert_eq!(report.damage, [""; 0]);
            assert!(report.deliveries >= 6_000, "{report:?}");
        }
        drop(ended);
    });
    let mut commits = 0;
    while end.try_recv() == Err(mpsc::TryRecvError::Empty) {
        commits += 1;
        if commits < 50 {
            late = fixture.endpoint("org", &["a.b"]);
        }
        let waiting = fixture.open();
        let step = 1 + usize::try_from(fixture.random.below(100)).unwrap();
        let picked = (0..waiting.len()).step_by(step).take(40);
        let now = fixture.now;
        let ops = picked.flat_map(|at| {
            let id = waiting[at].id;
            let verdict = match at % 3 {
                0 => NextStep::Success,
                1 => NextStep::GiveUp,
                _ => NextStep::RetryAt(now.plus_ms(60_000)),
            };
            // A delivery with an old event's id, which the check may have passed already.
            let replay = Op::Replay(Replay {
                event: id.event,
                endpoint: late.id,
            });
            [
                Op::Settle(Box::new(settle(id, verdict, now))),
                replay,
                Op::Accept(event("org", "order.created")),
            ]
        });
        let ops = ops.collect();
        fixture.apply(ops);
        fixture.pass_ms(1);
    }
    checking.join().unwrap();
    assert!(commits > 3, "{commits} commits beside it");
    fixture.expect_whole();
}
