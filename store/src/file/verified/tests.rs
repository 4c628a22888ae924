//! Pages with wrong bits: which are corrected, which are refused, and that nothing is skipped.

use super::Tried;
use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::handle::{Gated, Handle};
use redb::backends::InMemoryBackend;
use redb::{Builder, ReadableTable, StorageBackend, TableDefinition};
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

const TABLES: [TableDefinition<'_, &[u8; 8], &[u8]>; 2] =
    [TableDefinition::new("many"), TableDefinition::new("large")];

/// Storage that can be changed from outside, and records what was read.
#[derive(Clone, Debug, Default)]
struct Watched {
    bytes: Arc<InMemoryBackend>,
    read: Arc<Mutex<BTreeSet<u64>>>,
}

impl Watched {
    fn of(bytes: &[u8]) -> Self {
        let watched = Self::default();
        watched
            .bytes
            .set_len(u64::try_from(bytes.len()).unwrap())
            .unwrap();
        watched.bytes.write(0, bytes).unwrap();
        watched
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.bytes.len().unwrap()).unwrap()];
        self.bytes.read(0, &mut bytes).unwrap();
        bytes
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read.lock().unwrap().insert(offset);
        self.bytes.read(offset, out)
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.bytes.set_len(bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.bytes.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes.write(offset, data)
    }
}

/// Keeps no page in memory.
fn open(storage: &Watched) -> Result<Handle, StoreError> {
    let engine = |gated: Gated| {
        guarded(|| {
            let builder = &mut Builder::new();
            Ok(builder.set_cache_size(0).create_with_backend(gated)?)
        })
    };
    Handle::open(storage.clone(), &Tried::default(), engine)
}

fn insert(handle: &Handle, from: u64, rows: u64, bytes: usize) {
    let mut txn = handle.begin_write().unwrap();
    txn.set_quick_repair(true);
    for table in TABLES {
        let mut table = txn.open_table(table).unwrap();
        for row in from..from + rows {
            let value = vec![u8::try_from(row % 251).unwrap(); bytes];
            table.insert(&row.to_be_bytes(), value.as_slice()).unwrap();
        }
    }
    txn.commit().unwrap();
}

type Rows = Vec<([u8; 8], Vec<u8>)>;

fn rows(handle: &Handle) -> Result<Rows, StoreError> {
    guarded(|| {
        let txn = handle.begin_read()?;
        let mut all = Vec::new();
        for table in TABLES {
            for row in txn.open_table(table)?.iter()? {
                let (key, value) = row?;
                all.push((*key.value(), value.value().to_vec()));
            }
        }
        Ok(all)
    })
}

/// Returns a file whose trees have branches of branches, values larger than a page, and freed pages.
fn made() -> Watched {
    let storage = Watched::default();
    let handle = open(&storage).unwrap();
    handle.accept().unwrap();
    for n in 0..40 {
        insert(&handle, n * 200, 200, 60);
    }
    insert(&handle, 1_000, 3, 20_000);
    drop(handle);
    storage
}

fn flipped(sound: &[u8], at: u64, bits: u8) -> Watched {
    let mut bytes = sound.to_vec();
    // Within the content of a page of any kind.
    bytes[usize::try_from(at).unwrap() + 9] ^= bits;
    Watched::of(&bytes)
}

#[test]
fn a_wrong_bit_of_any_page_that_is_read_is_put_right_and_told() {
    let storage = made();
    let sound = storage.bytes();
    storage.read.lock().unwrap().clear();
    let handle = open(&storage).unwrap();
    let all = rows(&handle).unwrap();
    assert_eq!(all.len(), 16_000);
    assert!(handle.put_right().is_empty());
    let mut read = storage.read.lock().unwrap().clone();
    assert!(read.remove(&0), "the header");
    assert!(read.len() > 200, "{} pages", read.len());
    for at in read {
        let page = sound[usize::try_from(at).unwrap()..][..20].to_vec();
        let storage = flipped(&sound, at, 1);
        let handle = open(&storage).unwrap_or_else(|e| panic!("{at} {page:?}: {e}"));
        let found = rows(&handle);
        // A page of one large value is not corrected: its leaf is read as it is.
        if handle.put_right().is_empty() {
            let is_large = found.as_ref().is_ok_and(|rows| rows != &all);
            assert!(is_large || found.is_err(), "{at} {page:?}: it is not known");
            continue;
        }
        assert_eq!(handle.put_right(), [at]);
        assert!(found.unwrap() == all, "{at} {page:?}");
    }
}

#[test]
fn more_than_a_bit_of_a_branch_is_refused_and_no_other_page() {
    let sound = made().bytes();
    let branches = (4_096..u64::try_from(sound.len()).unwrap())
        .step_by(4_096)
        .filter(|at| sound[usize::try_from(*at).unwrap()] == 2);
    let mut refused = 0;
    for at in branches {
        let Ok(handle) = open(&flipped(&sound, at, 3)) else {
            continue;
        };
        if let Err(e) = rows(&handle) {
            assert!(e.is_damage(), "{e}");
            assert!(e.to_string().contains(&format!("at byte {at} ")), "{e}");
            refused += 1;
        }
        // The engine is called as if nothing had happened.
        let txn = handle.begin_read().unwrap();
        assert!(txn.list_tables().unwrap().count() == 2);
    }
    assert!(refused > 2, "{refused} branches");
}

#[test]
fn what_was_written_is_known_before_anybody_reads_it() {
    let storage = Watched::default();
    let handle = open(&storage).unwrap();
    handle.accept().unwrap();
    for n in 0..10 {
        insert(&handle, n * 200, 200, 60);
    }
    let all = rows(&handle).unwrap();
    let sound = storage.bytes();
    let mut put_right = 0;
    for at in (4_096..u64::try_from(sound.len()).unwrap()).step_by(4_096) {
        let byte = sound[usize::try_from(at).unwrap() + 9];
        storage.bytes.write(at + 9, &[byte ^ 4]).unwrap();
        assert!(rows(&handle).unwrap() == all, "{at}");
        storage.bytes.write(at + 9, &[byte]).unwrap();
        put_right = handle.put_right().len();
    }
    assert!(put_right > 50, "{put_right} pages");
}

#[test]
fn a_page_that_was_tried_is_not_tried_again_and_no_bit_is_changed_that_does_not_put_it_right() {
    let tried = Tried::default();
    let calls = std::cell::Cell::new(0);
    let mend = |page: &mut [u8], whole: &[u8]| {
        calls.set(0);
        let is_whole = |page: &[u8]| {
            calls.set(calls.get() + 1);
            page == whole
        };
        (tried.mend(page, (1, 2), is_whole), calls.get())
    };
    let mut page = [0; 64];
    page[10] = 4;
    let wrong = page;
    assert_eq!(mend(&mut page, &[0; 64]), (Some(82), 83));
    assert_eq!(page, [0; 64]);
    page = wrong;
    assert_eq!(mend(&mut page, &[0; 64]), (Some(82), 1));
    assert_eq!(page, [0; 64]);
    // Another page with the same two checksums.
    let mut page = [0; 64];
    page[3] = 1;
    assert_eq!(mend(&mut page, &[0; 64]), (Some(24), 26));
    assert_eq!(page, [0; 64]);
    // Two bits.
    let mut page = wrong;
    page[3] = 1;
    let both = page;
    assert_eq!(mend(&mut page, &[0; 64]).0, None);
    assert_eq!(mend(&mut page, &[0; 64]), (None, 0));
    assert_eq!(page, both);
}
