//! The store: opens the file, and makes one durable transaction per batch.
//!
//! `apply` is synchronous and single-threaded: a writer thread around it commits queued operations as a group. After a
//! failed commit the file is reopened to find out whether the commit happened, since it may have.

use crate::delivery::QueueEntry;
use crate::error::StoreError;
use crate::file::batch::{self, Staged};
use crate::file::guarded::guarded;
use crate::file::handle::Handle;
use crate::file::marks;
use crate::file::memory::{Memory, Shared};
use crate::file::meta::{self, Meta};
use crate::file::migrate::migrate;
use crate::file::open;
use crate::file::pack;
use crate::file::reader::Reader;
use crate::file::record;
use crate::file::tables::{META, ReadTables, Sums, Tables};
use crate::file::verified::Tried;
use crate::file::waiting;
use crate::ids::Now;
use crate::op::{Change, Done, Op};
use crate::options::Options;
use redb::{Durability, StorageBackend, TableError, WriteTransaction};
use std::sync::Arc;

/// The result of a batch, once durable.
#[derive(Debug)]
pub struct Applied {
    /// The number of the commit.
    pub commit: u64,
    /// The answer to each operation, in order.
    pub done: Vec<Done>,
    /// The changes to the queues in memory, in order.
    pub changes: Vec<Change>,
}

/// The one writer of the file.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    zstd: Compressor,
    /// A failed commit that may have happened.
    in_doubt: Option<Box<Staged>>,
    reopen: Reopen,
}

struct Compressor(zstd::bulk::Compressor<'static>);

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

/// Reopens the file after a failed commit.
struct Reopen(Box<dyn Fn() -> Result<Handle, StoreError> + Send>);

impl std::fmt::Debug for Reopen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reopen")
    }
}

impl Store {
    /// Opens the file, or creates it with mode 0600.
    ///
    /// # Errors
    /// Another process has it open, a newer version wrote it, it is damaged, it was moved or is being imported, or the
    /// system returned an error.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        let (path, cache_bytes) = (options.path.clone(), options.cache_bytes);
        let tried = Tried::default();
        marks::expect_usable(&path)?;
        let place = path.clone();
        let reopen = Reopen(Box::new(move || open::open(&path, cache_bytes, &tried)));
        let store = Self::with(options, reopen)?;
        // Again: until the file was locked, it may have been marked.
        marks::expect_usable(&place)?;
        Ok(store)
    }

    /// Opens a store on the storage that `make` returns, reopened after each failed commit: for tests of storage
    /// faults.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on<B: StorageBackend>(
        options: Options,
        make: impl Fn() -> B + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (path, cache_bytes) = (options.path.clone(), options.cache_bytes);
        let tried = Tried::default();
        let reopen = Reopen(Box::new(move || {
            open::open_on(make(), &path, cache_bytes, &tried)
        }));
        Self::with(options, reopen)
    }

    fn with(options: Options, reopen: Reopen) -> Result<Self, StoreError> {
        // Not accepted yet: see [`Store::accept`].
        let handle = (reopen.0)()?;
        prepare(&handle)?;
        if !options.opens_sealed {
            let at_rest = read_meta(&handle)?.at_rest;
            at_rest.expect_keys(&options.keys, &options.path.display().to_string())?;
        }
        let loaded = guarded(|| {
            let views = ReadTables::open(&handle.begin_read()?)?;
            Memory::load(&views, &options.keys)
        })?;
        Ok(Self {
            shared: Arc::new(Shared::new(options, handle, loaded)),
            zstd: Compressor(pack::compressor()?),
            in_doubt: None,
            reopen,
        })
    }

    /// Allows writes to the file, first those of opening it. Until this call or the first batch the file stays as it
    /// was, byte for byte, so that a caller that finds damage while reading can still refuse it.
    ///
    /// # Errors
    /// The system returned an error.
    pub fn accept(&self) -> Result<(), StoreError> {
        match self.shared.handle().as_ref() {
            Some(handle) => handle.accept(),
            None => Ok(()),
        }
    }

    /// Returns a reader beside this writer.
    pub fn reader(&self) -> Reader {
        Reader {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Passes every open delivery to `each`, in order of due time, to build the queues in memory. Deliveries that a
    /// bulk change has reopened are not among them: they are announced as [`Change::Waiting`] when their rows are
    /// written.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn open_deliveries(&self, mut each: impl FnMut(QueueEntry)) -> Result<(), StoreError> {
        self.shared
            .view(|views| waiting::each_open(views, &mut each))
    }

    /// Runs a batch in one durable transaction. `random` makes ids differ.
    ///
    /// # Errors
    /// [`StoreError::NotCommitted`]: nothing was stored. [`StoreError::InDoubt`]: not known yet; call
    /// [`Store::resolve_in_doubt`] until it succeeds. Until then every batch fails.
    pub fn apply(
        &mut self,
        ops: impl AsRef<[Op]>,
        now: impl Into<Now>,
        random: u128,
    ) -> Result<Applied, StoreError> {
        let now = now.into();
        if self.in_doubt.is_some() || self.shared.handle().is_none() {
            return Err(StoreError::InDoubt(
                "an earlier commit is in doubt".to_owned(),
            ));
        }
        let ops = ops.as_ref();
        let Err(error) = self.try_commit(ops, now, random) else {
            *self.shared.uncommittable() = None;
            return self.merged().ok_or_else(|| {
                StoreError::InDoubt("the commit was made, but nothing was staged for it".to_owned())
            });
        };
        // A batch of one such operation: only pages that every event or every commit writes can be damaged.
        if error.is_damage()
            && matches!(
                ops,
                [] | [Op::Probe(_) | Op::Accept(_) | Op::AcceptEmitted(_)]
            )
        {
            *self.shared.uncommittable() = Some(error.to_string());
        }
        // After a failed write redb may refuse everything until the file is reopened.
        match self.resolve_in_doubt() {
            Ok(Some(applied)) => Ok(applied),
            Ok(None) => Err(StoreError::NotCommitted(Box::new(error))),
            Err(_) => Err(StoreError::InDoubt(error.to_string())),
        }
    }

    /// Reopens the file after a failure and finds out whether the last commit happened. `Some`: it did, with this
    /// result. `None`: nothing of it was stored.
    ///
    /// # Errors
    /// The file can't be opened yet.
    pub fn resolve_in_doubt(&mut self) -> Result<Option<Applied>, StoreError> {
        let found = {
            let mut handle = self.shared.handle_mut();
            // The old handle has the file's lock, and in memory what a failed transaction left.
            if let Some(old) = handle.take() {
                old.give_up();
            }
            let opened = (self.reopen.0)()?;
            // A file that was never accepted is still as it was before this process opened it.
            prepare(&opened)?;
            let found = read_meta(&opened)?;
            self.expect_commit(found.commit)?;
            opened.accept()?;
            *handle = Some(opened);
            found
        };
        self.shared.packs().clear();
        if self.in_doubt.as_ref().map(|staged| staged.meta.commit) != Some(found.commit) {
            self.in_doubt = None;
        }
        Ok(self.merged())
    }

    /// Checks that the file is at the last announced commit, or at the failed one.
    fn expect_commit(&self, found: u64) -> Result<(), StoreError> {
        let announced = self.shared.memory().meta.commit;
        let failed = self.in_doubt.as_ref().map(|staged| staged.meta.commit);
        if found == announced || Some(found) == failed {
            return Ok(());
        }
        Err(StoreError::damaged(
            "the file",
            format!("it is at commit {found}, but commit {announced} was announced"),
        ))
    }

    /// Announces the last staged commit, if there is one.
    fn merged(&mut self) -> Option<Applied> {
        let (commit, done, changes) = self.in_doubt.take()?.merge(&self.shared);
        Some(Applied {
            commit,
            done,
            changes,
        })
    }

    /// Stages a batch and commits it. `in_doubt` has what was staged from before the commit: one that fails, or in
    /// which redb panics, may still be durable.
    fn try_commit(&mut self, ops: &[Op], now: Now, random: u128) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let guard = shared.handle();
        let handle = guard.as_ref();
        let handle =
            handle.ok_or_else(|| StoreError::InDoubt("the file is not open".to_owned()))?;
        handle.accept().inspect_err(|_| handle.give_up())?;
        let mut txn = guarded(|| handle.begin_write())?;
        match guarded(|| self.stage(&mut txn, ops, now, random)) {
            Ok(staged) => self.in_doubt = Some(Box::new(staged)),
            Err(e) => {
                // First: a dropped transaction undoes its changes, and after a panic in redb it does so from an
                // inconsistent state.
                handle.give_up();
                let _gave_up = guarded(|| {
                    drop(txn);
                    Ok(())
                });
                return Err(e);
            }
        }
        guarded(|| Ok(txn.commit()?)).inspect_err(|_| handle.give_up())
    }

    fn stage(
        &mut self,
        txn: &mut WriteTransaction,
        ops: &[Op],
        now: Now,
        random: u128,
    ) -> Result<Staged, StoreError> {
        txn.set_quick_repair(true);
        txn.set_durability(Durability::Immediate)
            .map_err(|e| StoreError::Engine(e.into()))?;
        let options = self.shared.options();
        let memory = self.shared.memory();
        let tables = Tables::open(txn, &memory.meta.sums)?;
        let mut batch = batch::begin(
            &self.shared,
            &options,
            &memory,
            tables,
            &mut self.zstd.0,
            (now, random),
        );
        let done = ops
            .iter()
            .map(|op| batch.run(op))
            .collect::<Result<Vec<_>, _>>()?;
        batch::finish(batch, done)
    }
}

fn read_meta(handle: &Handle) -> Result<Meta, StoreError> {
    guarded(|| {
        let table = handle.begin_read()?.open_table(META)?;
        match table.get(&[0])? {
            Some(row) => {
                let read = meta::read_meta(&[0], row.value());
                match read {
                    Err(StoreError::Damaged { .. }) if record::is_draft(row.value()) => {
                        Err(StoreError::Draft {
                            what: "the file".to_owned(),
                        })
                    }
                    read => read,
                }
            }
            None => Err(StoreError::damaged("the row of meta", "it is missing")),
        }
    })
}

/// Creates the tables of a new file, or migrates a file of an earlier format to the current one.
fn prepare(handle: &Handle) -> Result<(), StoreError> {
    let known = guarded(|| {
        let txn = handle.begin_read()?;
        match txn.open_table(META) {
            Ok(_) => Ok(true),
            // Only a file without tables is new.
            Err(TableError::TableDoesNotExist(_)) if txn.list_tables()?.next().is_none() => {
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    })?;
    if known {
        // Refuses a newer file before anything else in it is read.
        return migrate(handle, read_meta(handle)?);
    }
    let mut txn = handle.begin_write()?;
    txn.set_quick_repair(true);
    {
        let mut tables = Tables::open(&txn, &Sums::default())?;
        tables.make_rare()?;
        let row = Meta::default().write()?;
        tables.meta.insert(&[0], row.as_slice())?;
    }
    txn.commit()?;
    Ok(())
}
