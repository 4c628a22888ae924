//! The store: opening the file, and one durable transaction per batch.
//!
//! `apply` is synchronous and single-handed: a writer thread around it makes group commits of whatever has queued. After a
//! commit that failed the file is reopened and asked whether the commit happened, since it may have.

use crate::batch::{Batch, Staged};
use crate::error::{StoreError, guarded};
use crate::file;
use crate::ids::UnixMs;
use crate::memory::{self, Memory, Options, Shared};
use crate::op::{Change, Done, Op, Waiting};
use crate::pack;
use crate::reader::Reader;
use crate::record;
use crate::rows::{self, Meta};
use crate::sums;
use crate::tables::{self, META, Sums, Tables, Views};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableError};
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
        let reopen = Reopen(Box::new(move || file::open(&path, cache_bytes)));
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
        let reopen = Reopen(Box::new(move || file::open_on(make(), &path, cache_bytes)));
        Self::with(options, reopen)
    }

    fn with(options: Options, reopen: Reopen) -> Result<Self, StoreError> {
        let db = (reopen.0)()?;
        let loaded = prepare(&db)
            .and_then(|()| guarded(|| Memory::load(&Views::open(&db.begin_read()?)?)))
            .and_then(|memory| guarded(|| sums::migrate(&db, memory)));
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(e) => {
                memory::let_go(&mut Some(db));
                return Err(e);
            }
        };
        Ok(Self {
            shared: Arc::new(Shared::new(options, db, loaded)),
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

    /// Hands every open delivery to `each`, those due first first: what queues in memory are built from. Those that a mark of
    /// their endpoint covers ([`crate::Endpoint::mark_over`]) are among them: they wait for [`Op::EndCovered`].
    ///
    /// # Errors
    /// The file can't be read.
    pub fn open_deliveries(&self, mut each: impl FnMut(Waiting)) -> Result<(), StoreError> {
        self.shared.view(|views| {
            for row in views.due.iter()? {
                let (key, value) = row?;
                // The index can be derived again: a damaged row of it hides no delivery.
                let waiting = match rows::read_due(key.value(), value.value()) {
                    Err(StoreError::Damaged { .. }) => {
                        let id = tables::timed_of(key.value()).1;
                        let key = tables::delivery_key(id);
                        let delivery = views
                            .deliveries
                            .get(&key)?
                            .map(|row| rows::read_delivery(&key, row.value()))
                            .transpose()?;
                        delivery.as_ref().and_then(rows::waiting)
                    }
                    read => Some(read?),
                };
                if let Some(waiting) = waiting {
                    each(waiting);
                }
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
        match guarded_attempt(|| self.attempt(ops, now, random)) {
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
            memory::let_go(&mut db);
            let opened = (self.reopen.0)()?;
            let read = read_meta(&opened)
                .and_then(|found| self.expect_commit(found.commit).map(|()| found));
            match read {
                Ok(found) => {
                    *db = Some(opened);
                    found
                }
                Err(e) => {
                    memory::let_go(&mut Some(opened));
                    return Err(e);
                }
            }
        };
        self.shared.packs().clear();
        let limbo = self.limbo.take();
        Ok(limbo
            .filter(|staged| staged.meta.commit == found.commit)
            .map(|staged| self.merge(staged)))
    }

    /// The file must be at the last commit that was announced, or at the one that failed.
    fn expect_commit(&self, found: u64) -> Result<(), StoreError> {
        let announced = self.shared.memory().meta.commit;
        let failed = self.limbo.as_ref().map(|staged| staged.meta.commit);
        if found == announced || Some(found) == failed {
            return Ok(());
        }
        Err(StoreError::damaged(
            "the file",
            format!("it is at commit {found}, but commit {announced} was announced"),
        ))
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
            let tables = Tables::open(&txn, &memory.meta.sums).map_err(Failure::Before)?;
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

fn guarded_attempt(
    attempt: impl FnOnce() -> Result<Box<Staged>, Failure>,
) -> Result<Box<Staged>, Failure> {
    // A panic before the commit leaves it undone, one within it leaves it open: the number in the file tells, but what was
    // staged is lost, so the second reads as `Before` and is caught by the comparison of numbers in `recover`.
    guarded(|| Ok(attempt())).unwrap_or_else(|e| Err(Failure::Before(e)))
}

enum Failure {
    Before(StoreError),
    Commit(Box<Staged>, StoreError),
}

fn read_meta(db: &Database) -> Result<Meta, StoreError> {
    guarded(|| {
        let table = db.begin_read()?.open_table(META)?;
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

/// Makes the tables of a new file.
fn prepare(db: &Database) -> Result<(), StoreError> {
    let known = guarded(|| {
        let txn = db.begin_read()?;
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
        return read_meta(db).map(|_| ());
    }
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    {
        let mut tables = Tables::open(&txn, &Sums::default())?;
        let row = record::write("meta", &[0], &Meta::default())?;
        tables.meta.insert(&[0], row.as_slice())?;
    }
    txn.commit()?;
    Ok(())
}
