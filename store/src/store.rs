//! The store: opening the file, and one durable transaction per batch.
//!
//! `apply` is synchronous and single-handed: a writer thread around it makes group commits of whatever has queued. After a
//! commit that failed the file is reopened and asked whether the commit happened, since it may have.

use crate::batch::{Batch, Staged};
use crate::delivery::QueueEntry;
use crate::error::{StoreError, guarded};
use crate::file;
use crate::handle::Handle;
use crate::ids::Now;
use crate::memory::{Memory, Shared};
use crate::migrate::migrate;
use crate::op::{Change, Done, Op};
use crate::options::Options;
use crate::pack;
use crate::reader::Reader;
use crate::record;
use crate::rows::{self, Meta};
use crate::tables::{META, ReadTables, Sums, Tables};
use crate::verified::Tried;
use crate::waiting;
use redb::{Durability, StorageBackend, TableError, WriteTransaction};
use std::sync::Arc;

/// What a batch came to, once durable.
#[derive(Debug)]
pub struct Applied {
    /// The number of the commit.
    pub commit: u64,
    /// What each operation came to, in order.
    pub done: Vec<Done>,
    /// What changed for queues in memory, in order.
    pub changes: Vec<Change>,
}

/// The one writer of the file.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    zstd: Compressor,
    /// A commit that failed and may have happened.
    in_doubt: Option<Box<Staged>>,
    reopen: Reopen,
}

struct Compressor(zstd::bulk::Compressor<'static>);

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

/// How to get at the file again after a commit failed.
struct Reopen(Box<dyn Fn() -> Result<Handle, StoreError> + Send>);

impl std::fmt::Debug for Reopen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reopen")
    }
}

impl Store {
    /// Opens the file, or makes it, mode 0600.
    ///
    /// # Errors
    /// Another process has it open, a newer version wrote it, it is damaged, or the system refuses.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        let (path, cache_bytes) = (options.path.clone(), options.cache_bytes);
        let tried = Tried::default();
        let reopen = Reopen(Box::new(move || file::open(&path, cache_bytes, &tried)));
        Self::with(options, reopen)
    }

    /// Opens a store on storage that `make` gives, anew after each failed commit: for tests of what storage can do.
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
            file::open_on(make(), &path, cache_bytes, &tried)
        }));
        Self::with(options, reopen)
    }

    fn with(options: Options, reopen: Reopen) -> Result<Self, StoreError> {
        // On trial: see `Store::accept`.
        let handle = (reopen.0)()?;
        prepare(&handle)?;
        let loaded = guarded(|| Memory::load(&ReadTables::open(&handle.begin_read()?)?))?;
        Ok(Self {
            shared: Arc::new(Shared::new(options, handle, loaded)),
            zstd: Compressor(pack::compressor()?),
            in_doubt: None,
            reopen,
        })
    }

    /// Lets the file be written to: what opening it has changed, first. Until this call or the first batch the file stays as it was, byte
    /// for byte, so that whoever finds it damaged while reading what a start needs can still refuse it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn accept(&self) -> Result<(), StoreError> {
        match self.shared.handle().as_ref() {
            Some(handle) => handle.accept(),
            None => Ok(()),
        }
    }

    /// A reader beside this writer.
    pub fn reader(&self) -> Reader {
        Reader {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Hands every open delivery to `each`, those due first first: what queues in memory are built from. Those that a bulk change
    /// opened again are not among them: they are told of as [`Change::Waiting`] when their rows are written.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn open_deliveries(&self, mut each: impl FnMut(QueueEntry)) -> Result<(), StoreError> {
        self.shared
            .view(|views| waiting::each_open(views, &mut each))
    }

    /// Does a batch in one durable transaction. `random` makes ids differ.
    ///
    /// # Errors
    /// [`StoreError::NotCommitted`]: nothing was stored. [`StoreError::InDoubt`]: that is not known yet; call
    /// [`Store::resolve_in_doubt`] until it says. Nothing else is accepted meanwhile.
    pub fn apply(
        &mut self,
        ops: impl AsRef<[Op]>,
        now: impl Into<Now>,
        random: u128,
    ) -> Result<Applied, StoreError> {
        let now = now.into();
        if self.in_doubt.is_some() || self.shared.handle().is_none() {
            return Err(StoreError::InDoubt(
                "an earlier commit is not settled".to_owned(),
            ));
        }
        let ops = ops.as_ref();
        let Err(error) = self.try_commit(ops, now, random) else {
            *self.shared.uncommittable() = None;
            return self.merged().ok_or_else(|| {
                StoreError::InDoubt("the commit was made, but nothing was staged for it".to_owned())
            });
        };
        // Alone, so that nothing but pages that all events or all commits are written to can be damaged.
        if error.is_damage() && matches!(ops, [] | [Op::Probe(_) | Op::Accept(_)]) {
            *self.shared.uncommittable() = Some(error.to_string());
        }
        // The engine may refuse everything after a failed write until it is opened again.
        match self.resolve_in_doubt() {
            Ok(Some(applied)) => Ok(applied),
            Ok(None) => Err(StoreError::NotCommitted(Box::new(error))),
            Err(_) => Err(StoreError::InDoubt(error.to_string())),
        }
    }

    /// Opens the file again after a failure and finds out whether the last commit happened. `Some`: it did, and this is
    /// what it came to. `None`: nothing of it was stored.
    ///
    /// # Errors
    /// The file can't be opened yet.
    pub fn resolve_in_doubt(&mut self) -> Result<Option<Applied>, StoreError> {
        let found = {
            let mut handle = self.shared.handle_mut();
            // The old handle holds the file's lock, and what a failed transaction left in memory.
            if let Some(old) = handle.take() {
                old.give_up();
            }
            let opened = (self.reopen.0)()?;
            // A file that was never accepted is still what it was before this process opened it.
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

    /// The file must be at the last commit that was announced, or at the one that failed.
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

    /// Announces the commit that was staged last, if there is one.
    fn merged(&mut self) -> Option<Applied> {
        let (commit, done, changes) = self.in_doubt.take()?.merge(&self.shared);
        Some(Applied {
            commit,
            done,
            changes,
        })
    }

    /// Stages a batch and commits it. What was staged is in `in_doubt` from before the commit on: one that fails, or in which the engine
    /// panics, may be durable all the same.
    fn try_commit(&mut self, ops: &[Op], now: Now, random: u128) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let guard = shared.handle();
        let handle = guard.as_ref();
        let handle = handle.ok_or_else(|| StoreError::InDoubt("it is not open".to_owned()))?;
        handle.accept().inspect_err(|_| handle.give_up())?;
        let mut txn = guarded(|| handle.begin_write())?;
        match guarded(|| self.stage(&mut txn, ops, now, random)) {
            Ok(staged) => self.in_doubt = Some(Box::new(staged)),
            Err(e) => {
                // First: a transaction that is dropped undoes what it did, and where the engine panicked it does so from a broken state.
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
        let mut batch = Batch::new(
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
        batch.finish(done)
    }
}

fn read_meta(handle: &Handle) -> Result<Meta, StoreError> {
    guarded(|| {
        let table = handle.begin_read()?.open_table(META)?;
        match table.get(&[0])? {
            Some(row) => {
                let read = rows::read_meta(&[0], row.value());
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

/// Makes the tables of a new file, and a file of an earlier format one of the current format.
fn prepare(handle: &Handle) -> Result<(), StoreError> {
    let known = guarded(|| {
        let txn = handle.begin_read()?;
        match txn.open_table(META) {
            Ok(_) => Ok(true),
            // Only a file without any table is a new one.
            Err(TableError::TableDoesNotExist(_)) if txn.list_tables()?.next().is_none() => {
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    })?;
    if known {
        // Refuses a newer file before anything else of it is read.
        return migrate(handle, read_meta(handle)?);
    }
    let mut txn = handle.begin_write()?;
    txn.set_quick_repair(true);
    {
        let mut tables = Tables::open(&txn, &Sums::default())?;
        let row = record::write("meta", &[0], &Meta::default())?;
        tables.meta.insert(&[0], row.as_slice())?;
    }
    txn.commit()?;
    Ok(())
}
