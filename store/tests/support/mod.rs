//! The store's tests on the file: a store with its own clock, and a simulated disk to put it on.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses a part of it"
)]

mod fixture;
pub(crate) mod history;
pub(crate) mod raw;

pub(crate) use fixture::*;
use std::sync::Arc;
use stormhook_store::{
    Applied, Found, Horizon, Op, Options, QueueEntry, StoreError, Sweeper, UnixMs,
};
pub(crate) use stormhook_store::{Reader, Store};
pub(crate) use stormhook_testkit::disk;
pub(crate) use stormhook_testkit::random::Random;
pub(crate) use stormhook_testkit::samples::*;
use tempfile::TempDir;

pub(crate) fn options(path: std::path::PathBuf) -> Options {
    Options {
        pending_limit: 1_000_000,
        endpoints_per_organization: 1_000,
        ..Options::new(path)
    }
}

/// A store with a clock that moves only when told to.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) options: Options,
    pub(crate) now: UnixMs,
    pub(crate) random: Random,
    store: Option<Store>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = options(dir.path().join("store.redb"));
        change(&mut options);
        let store = Store::open(options.clone()).expect("a new store");
        Self {
            dir,
            options,
            now: START,
            random: Random::seeded(7),
            store: Some(store),
        }
    }

    pub(crate) fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("it is open")
    }

    pub(crate) fn reader(&self) -> Reader {
        self.store.as_ref().expect("it is open").reader()
    }

    pub(crate) fn close(&mut self) {
        self.store = None;
    }

    pub(crate) fn reopen(&mut self) {
        self.store = None;
        self.store = Some(Store::open(self.options.clone()).expect("it opens again"));
    }

    /// Changes the last bit of a row without the store's knowledge, so that its checksum is wrong; doing it twice
    /// restores it.
    pub(crate) fn damage<const N: usize>(&mut self, table: &str, key: &[u8; N]) {
        self.change_row(table, key, |mut row| {
            *row.last_mut().expect("a row has bytes") ^= 1;
            Some(row)
        });
    }

    /// Removes a row without the store's knowledge.
    pub(crate) fn remove<const N: usize>(&mut self, table: &str, key: &[u8; N]) {
        self.change_row(table, key, |_| None);
    }

    fn change_row<const N: usize>(
        &mut self,
        table: &str,
        key: &[u8; N],
        change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>,
    ) {
        self.close();
        let db = redb::Database::open(&self.options.path).expect("it opens");
        let mut txn = db.begin_write().expect("a transaction");
        txn.set_quick_repair(true);
        {
            let table = redb::TableDefinition::<&[u8; N], &[u8]>::new(table);
            let mut table = txn.open_table(table).expect("the table");
            let row = table.remove(key).expect("it can be read");
            let row = row.expect("the row is there").value().to_vec();
            if let Some(row) = change(row) {
                table.insert(key, row.as_slice()).expect("it is written");
            }
        }
        txn.commit().expect("a commit");
        drop(db);
        self.reopen();
    }

    /// Commits a batch.
    pub(crate) fn commit(
        &mut self,
        ops: Vec<Op>,
        now: UnixMs,
        random: u128,
    ) -> Result<Applied, StoreError> {
        self.store().apply(ops, now, random)
    }

    /// Sweeps to the end at this horizon.
    pub(crate) fn sweep(&mut self, events_before: UnixMs, attempts_before: UnixMs) -> usize {
        let horizon = Horizon {
            events_before,
            attempts_before,
            ..Horizon::default()
        };
        let mut sweeper = self.reader().sweeper();
        self.sweep_by(&mut sweeper, horizon)
    }

    /// Runs one pass of the sweep, and returns how many commits it made.
    pub(crate) fn sweep_by(&mut self, sweeper: &mut Sweeper, horizon: Horizon) -> usize {
        let mut commits = 0;
        sweeper.begin(horizon, self.now);
        for _ in 0..100_000 {
            let sweep = match sweeper.step().expect("it can be read") {
                Found::Work(sweep) => sweep,
                Found::Nothing => continue,
                Found::End => return commits,
            };
            loop {
                commits += 1;
                if !self.run(sweep.clone()).more {
                    break;
                }
            }
        }
        panic!("the sweep does not end");
    }

    pub(crate) fn open(&mut self) -> Vec<QueueEntry> {
        open_of(self.store())
    }
}

pub(crate) fn open_of(store: &Store) -> Vec<QueueEntry> {
    let mut open = Vec::new();
    store
        .open_deliveries(|waiting| open.push(waiting))
        .expect("they can be read");
    open
}
