//! The store: opening the file, and one durable transaction per batch.
//!
//! `apply` is synchronous and single-handed: a writer thread around it makes group commits of whatever has queued. After a
//! commit that failed the file is reopened and asked whether the commit happened, since it may have.

use crate::batch::{Batch, Staged};
use crate::error::StoreError;
use crate::ids::UnixMs;
use crate::memory::{Memory, Options, Shared};
use crate::op::{Change, Done, Op, Waiting};
use crate::pack;
use crate::reader::Reader;
use crate::record;
use crate::rows::{self, Meta};
use crate::tables::{META, Tables, Views};
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend,
};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
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
    limbo: Option<Box<Staged>>,
    reopen: Reopen,
}

struct Compressor(zstd::bulk::Compressor<'static>);

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

/// How to get at the file again after a commit failed.
struct Reopen(Box<dyn Fn() -> Result<Database, StoreError> + Send>);

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
        let reopen = Reopen(Box::new(move || {
            let file = open_file(&path)?;
            // Takes the file's lock: a second process is told that it is open.
            let backend = FileBackend::new(file).map_err(|e| explain(e, &path))?;
            Builder::new()
                .set_cache_size(cache_bytes)
                .create_with_backend(backend)
                .map_err(|e| explain(e, &path))
        }));
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
        let reopen = Reopen(Box::new(move || {
            Builder::new()
                .set_cache_size(cache_bytes)
                .create_with_backend(make())
                .map_err(|e| explain(e, &path))
        }));
        Self::with(options, reopen)
    }

    fn with(options: Options, reopen: Reopen) -> Result<Self, StoreError> {
        let db = (reopen.0)()?;
        prepare(&db)?;
        let memory = Memory::load(&Views::open(&db.begin_read()?)?)?;
        Ok(Self {
            shared: Arc::new(Shared::new(options, db, memory)),
            zstd: Compressor(pack::compressor()?),
            limbo: None,
            reopen,
        })
    }

    /// A reader beside this writer.
    pub fn reader(&self) -> Reader {
        Reader {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Hands every open delivery to `each`, those due first first: what queues in memory are built from.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn open_deliveries(&self, mut each: impl FnMut(Waiting)) -> Result<(), StoreError> {
        self.shared.view(|views| {
            for row in views.due.iter()? {
                let (key, value) = row?;
                each(rows::read_due(key.value(), value.value())?);
            }
            Ok(())
        })
    }

    /// Does a batch in one durable transaction. `random` makes ids differ.
    ///
    /// # Errors
    /// [`StoreError::NotCommitted`]: nothing was stored. [`StoreError::Limbo`]: that is not known yet; call
    /// [`Store::recover`] until it says. Nothing else is accepted meanwhile.
    pub fn apply(
        &mut self,
        ops: Vec<Op>,
        now: UnixMs,
        random: u128,
    ) -> Result<Applied, StoreError> {
        if self.limbo.is_some() || self.shared.db().is_none() {
            return Err(StoreError::Limbo(
                "an earlier commit is not settled".to_owned(),
            ));
        }
        match self.attempt(ops, now, random) {
            Ok(staged) => Ok(self.merge(staged)),
            Err(Failure::Before(e)) => {
                let why = e.to_string();
                // The engine may refuse everything after a failed write until it is opened again.
                match self.recover() {
                    Ok(_) => Err(StoreError::NotCommitted(why)),
                    Err(_) => Err(StoreError::Limbo(why)),
                }
            }
            Err(Failure::Commit(staged, e)) => {
                self.limbo = Some(staged);
                match self.recover() {
                    Ok(Some(applied)) => Ok(applied),
                    Ok(None) => Err(StoreError::NotCommitted(e.to_string())),
                    Err(_) => Err(StoreError::Limbo(e.to_string())),
                }
            }
        }
    }

    /// Opens the file again after a failure and finds out whether the last commit happened. `Some`: it did, and this is
    /// what it came to. `None`: nothing of it was stored.
    ///
    /// # Errors
    /// The file can't be opened yet.
    pub fn recover(&mut self) -> Result<Option<Applied>, StoreError> {
        let found = {
            let mut db = self.shared.db_mut();
            // The old handle holds the file's lock.
            *db = None;
            let opened = (self.reopen.0)()?;
            let found = read_meta(&opened)?;
            *db = Some(opened);
            found
        };
        self.shared.packs().clear();
        let limbo = self.limbo.take();
        Ok(limbo
            .filter(|staged| staged.meta.commit == found.commit)
            .map(|staged| self.merge(staged)))
    }

    fn merge(&self, staged: Box<Staged>) -> Applied {
        let (commit, done, changes) = staged.merge(&self.shared);
        Applied {
            commit,
            done,
            changes,
        }
    }

    fn attempt(&mut self, ops: Vec<Op>, now: UnixMs, random: u128) -> Result<Box<Staged>, Failure> {
        let db = self.shared.db();
        let Some(db) = db.as_ref() else {
            return Err(Failure::Before(StoreError::Limbo(
                "it is not open".to_owned(),
            )));
        };
        let mut txn = db.begin_write().map_err(|e| Failure::Before(e.into()))?;
        txn.set_quick_repair(true);
        txn.set_durability(Durability::Immediate)
            .map_err(|e| Failure::Before(StoreError::Engine(e.into())))?;
        let staged = {
            let options = self.shared.options();
            let memory = self.shared.memory();
            let tables = Tables::open(&txn).map_err(Failure::Before)?;
            let mut batch = Batch::new(
                &self.shared,
                &options,
                &memory,
                tables,
                &mut self.zstd.0,
                (now, random),
            );
            ops.into_iter()
                .map(|op| batch.run(op))
                .collect::<Result<Vec<_>, _>>()
                .and_then(|done| batch.finish(done))
                .map_err(Failure::Before)?
        };
        match txn.commit() {
            Ok(()) => Ok(Box::new(staged)),
            Err(e) => Err(Failure::Commit(Box::new(staged), e.into())),
        }
    }
}

enum Failure {
    Before(StoreError),
    Commit(Box<Staged>, StoreError),
}

fn open_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::Io {
            doing: "opening",
            path: path.to_owned(),
            source,
        })
}

fn explain(error: DatabaseError, path: &Path) -> StoreError {
    let what = || path.display().to_string();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::AlreadyOpen {
            path: path.to_owned(),
        },
        DatabaseError::UpgradeRequired(found) => StoreError::Newer {
            what: what(),
            found: u32::from(found),
            known: 3,
        },
        DatabaseError::Storage(redb::StorageError::Corrupted(detail)) => {
            StoreError::damaged(what(), detail)
        }
        DatabaseError::Storage(redb::StorageError::Io(e))
            if matches!(
                e.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            StoreError::damaged(what(), e.to_string())
        }
        DatabaseError::RepairAborted => {
            StoreError::damaged(what(), "it needs a repair that was refused")
        }
        other => StoreError::Engine(other.into()),
    }
}

fn read_meta(db: &Database) -> Result<Meta, StoreError> {
    let txn = db.begin_read()?;
    let table = txn.open_table(META)?;
    match table.get(&[0])? {
        Some(row) => record::read_checked("meta", &[0], row.value()),
        None => Ok(Meta::default()),
    }
}

/// Makes the tables of a new file.
fn prepare(db: &Database) -> Result<(), StoreError> {
    let known = {
        let txn = db.begin_read()?;
        txn.open_table(META).is_ok()
    };
    if known {
        // Refuses a newer file before anything else of it is read.
        return read_meta(db).map(|_| ());
    }
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    {
        let mut tables = Tables::open(&txn)?;
        let row = record::checked("meta", &[0], &Meta::default())?;
        tables.meta.insert(&[0], row.as_slice())?;
    }
    txn.commit()?;
    Ok(())
}
