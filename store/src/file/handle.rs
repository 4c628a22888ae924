//! The engine's handle on the file, and the gate between them that decides what the engine may write.
//!
//! The engine writes on its own: it repairs a file when it opens it, and trims it when it closes it, both from its
//! state in memory. So a handle starts on trial: its writes stay in memory until the file is accepted, and a refused
//! file stays unchanged, byte for byte. A handle that is given up after a failed commit writes nothing any more: the
//! engine's state in memory is then that of a failed transaction, and an ordinary close would write it over an intact
//! file.

use crate::error::StoreError;
use crate::file::guarded::DamagedPage;
use crate::file::guarded::guarded;
use crate::file::layer::Layer;
use crate::file::verified::{Tried, Verified};
use redb::{
    BackendError, Database, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction,
};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Writes are kept in memory.
const TRIAL: u8 = 0;
/// Reads and writes go to the storage.
const ACCEPTED: u8 = 1;
/// Every call fails.
const GIVEN_UP: u8 = 2;

/// What the engine did while it was on trial.
#[derive(Debug)]
enum Held {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

#[derive(Debug, Default)]
struct Trial {
    /// `None` until the first write.
    layer: Option<Layer>,
    held: Vec<Held>,
}

impl Trial {
    fn layer(&mut self, storage: &dyn StorageBackend) -> io::Result<&mut Layer> {
        let layer = match self.layer.take() {
            Some(layer) => layer,
            None => Layer::over(storage.len()?),
        };
        Ok(self.layer.insert(layer))
    }
}

#[derive(Debug)]
struct Gate {
    storage: Box<dyn StorageBackend>,
    mode: AtomicU8,
    trial: Mutex<Trial>,
    verified: Verified,
}

impl Gate {
    fn trial(&self) -> MutexGuard<'_, Trial> {
        self.trial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the storage to read and write, or `None` while the handle is on trial.
    fn accepted(&self) -> io::Result<Option<&dyn StorageBackend>> {
        match self.mode.load(Ordering::Acquire) {
            ACCEPTED => Ok(Some(self.storage.as_ref())),
            TRIAL => Ok(None),
            // The engine latches this error and writes nothing when it closes.
            _ => Err(io::Error::other(
                "the file was given up after a failed commit",
            )),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if let Some(storage) = self.accepted()? {
            return storage.read(offset, out);
        }
        let storage = self.storage.as_ref();
        match &self.trial().layer {
            Some(layer) => layer.read(storage, offset, out),
            None => storage.read(offset, out),
        }
    }

    /// Makes the held writes, in order and with their syncs. From now on writes go to the storage.
    fn accept(&self) -> io::Result<()> {
        let mut trial = self.trial();
        if self.mode.load(Ordering::Acquire) != TRIAL {
            return Ok(());
        }
        for held in std::mem::take(&mut trial.held) {
            match held {
                Held::Write(offset, data) => self.storage.write(offset, &data)?,
                Held::Length(bytes) => self.storage.set_len(bytes)?,
                Held::Sync => self.storage.sync_data()?,
            }
        }
        trial.layer = None;
        self.mode.store(ACCEPTED, Ordering::Release);
        Ok(())
    }
}

/// The gate as the engine's storage.
#[derive(Debug)]
pub(crate) struct Gated(Arc<Gate>);

impl StorageBackend for Gated {
    fn len(&self) -> io::Result<u64> {
        match (self.0.accepted()?, &self.0.trial().layer) {
            (None, Some(layer)) => Ok(layer.len()),
            _ => self.0.storage.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.0.read(offset, out) {
            Ok(()) => self.0.verified.read(offset, out),
            // The page that points to it is damaged, or the file was truncated.
            Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidInput) => {
                Err(DamagedPage::refuse(offset, "it would be outside the file"))
            }
            Err(e) => Err(e),
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.verified.set_len(bytes);
        if let Some(storage) = self.0.accepted()? {
            return storage.set_len(bytes);
        }
        let mut trial = self.0.trial();
        trial.layer(self.0.storage.as_ref())?.set_len(bytes);
        trial.held.push(Held::Length(bytes));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Some(storage) = self.0.accepted()? {
            return storage.sync_data();
        }
        self.0.trial().held.push(Held::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.verified.write(offset, data);
        if let Some(storage) = self.0.accepted()? {
            return storage.write(offset, data);
        }
        let mut trial = self.0.trial();
        let storage = self.0.storage.as_ref();
        trial.layer(storage)?.write(storage, offset, data)?;
        trial.held.push(Held::Write(offset, data.to_vec()));
        Ok(())
    }

    /// Releases the file's lock, whether or not writes are allowed.
    fn close(&self) -> io::Result<()> {
        self.0.storage.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.storage.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.storage.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.storage.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.storage.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.storage.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.storage.query_lock_range(start, end)
    }
}

/// An open file. Dropping the handle closes the file; a handle on trial, or given up, leaves it unchanged.
#[derive(Debug)]
pub(crate) struct Handle {
    /// `None` only while it is dropped.
    db: Option<Database>,
    gate: Arc<Gate>,
}

impl Handle {
    /// Opens the storage with `open`. The handle is on trial until [`Handle::accept`].
    pub(crate) fn open(
        storage: impl StorageBackend,
        tried: &Tried,
        open: impl FnOnce(Gated) -> Result<Database, StoreError>,
    ) -> Result<Self, StoreError> {
        let verified =
            Verified::of(&storage, tried).map_err(|e| StoreError::Engine(redb::Error::Io(e)))?;
        let gate = Arc::new(Gate {
            storage: Box::new(storage),
            mode: AtomicU8::new(TRIAL),
            trial: Mutex::default(),
            verified,
        });
        let db = open(Gated(Arc::clone(&gate)))?;
        Ok(Self { db: Some(db), gate })
    }

    /// Allows writes to reach the file, the held ones first. Only the writer calls this, and nobody writes meanwhile.
    pub(crate) fn accept(&self) -> Result<(), StoreError> {
        self.gate
            .accept()
            .map_err(|e| StoreError::Engine(redb::Error::Io(e)))
    }

    /// Stops all reads and writes of the file.
    pub(crate) fn give_up(&self) {
        self.gate.mode.store(GIVEN_UP, Ordering::Release);
    }

    /// Returns the offsets of pages that had a wrong bit and were corrected when they were read.
    pub(crate) fn put_right(&self) -> Vec<u64> {
        self.gate.verified.put_right()
    }

    fn db(&self) -> Result<&Database, StoreError> {
        let closed = || StoreError::InDoubt("the file is closed".to_owned());
        self.db.as_ref().ok_or_else(closed)
    }

    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        Ok(self.db()?.begin_read()?)
    }

    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        Ok(self.db()?.begin_write()?)
    }
}

/// The engine may panic on a damaged page while it closes: that must not end the thread, which continues with the
/// reopened file.
impl Drop for Handle {
    fn drop(&mut self) {
        let db = self.db.take();
        let _gave_up = guarded(|| {
            drop(db);
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;
    use redb::{Builder, TableDefinition};

    const ROWS: TableDefinition<'_, u64, u64> = TableDefinition::new("rows");

    /// Storage that can be inspected from outside.
    #[derive(Clone, Debug)]
    struct Shared(Arc<InMemoryBackend>);

    impl Shared {
        fn bytes(&self) -> Vec<u8> {
            let mut bytes = vec![0; usize::try_from(self.0.len().unwrap()).unwrap()];
            self.0.read(0, &mut bytes).unwrap();
            bytes
        }
    }

    impl StorageBackend for Shared {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, bytes: u64) -> io::Result<()> {
            self.0.set_len(bytes)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
    }

    fn open(storage: &Shared) -> Handle {
        Handle::open(storage.clone(), &Tried::default(), |gated| {
            Ok(Builder::new().create_with_backend(gated)?)
        })
        .unwrap()
    }

    fn insert(handle: &Handle, key: u64) {
        let txn = handle.begin_write().unwrap();
        txn.open_table(ROWS).unwrap().insert(key, key).unwrap();
        txn.commit().unwrap();
    }

    fn holds(handle: &Handle, key: u64) -> bool {
        let table = handle.begin_read().unwrap().open_table(ROWS).unwrap();
        redb::ReadableTable::get(&table, key).unwrap().is_some()
    }

    #[test]
    fn nothing_is_written_on_trial_and_all_of_it_once_accepted() {
        let storage = Shared(Arc::new(InMemoryBackend::new()));
        let handle = open(&storage);
        insert(&handle, 1);
        assert!(holds(&handle, 1), "what is held can be read");
        assert_eq!(storage.bytes(), b"");
        handle.accept().unwrap();
        insert(&handle, 2);
        drop(handle);
        let again = open(&storage);
        assert!(holds(&again, 1) && holds(&again, 2));
    }

    /// Storage that can't be read any more, for this reason.
    #[derive(Debug)]
    struct Failing(Shared, Arc<Mutex<Option<ErrorKind>>>);

    impl StorageBackend for Failing {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            match *self.1.lock().unwrap() {
                Some(kind) => Err(kind.into()),
                None => self.0.read(offset, out),
            }
        }
        fn set_len(&self, bytes: u64) -> io::Result<()> {
            self.0.set_len(bytes)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
    }

    #[test]
    fn a_page_that_is_looked_for_outside_the_file_is_damage_and_a_disk_that_fails_is_not() {
        for (kind, is_damage) in [
            (ErrorKind::UnexpectedEof, true),
            (ErrorKind::InvalidInput, true),
            (ErrorKind::Other, false),
            (ErrorKind::StorageFull, false),
            (ErrorKind::Interrupted, false),
        ] {
            let storage = Shared(Arc::new(InMemoryBackend::new()));
            let fails = Arc::new(Mutex::new(None));
            let failing = Failing(storage, Arc::clone(&fails));
            let engine = |gated| {
                Ok(Builder::new()
                    .set_cache_size(0)
                    .create_with_backend(gated)?)
            };
            let handle = Handle::open(failing, &Tried::default(), engine).unwrap();
            handle.accept().unwrap();
            // More than a page, so that not all of it is kept with the table.
            (0..600).for_each(|key| insert(&handle, key));
            let table = handle.begin_read().unwrap().open_table(ROWS).unwrap();
            *fails.lock().unwrap() = Some(kind);
            let read = guarded(|| Ok(redb::ReadableTable::get(&table, 1)?.map(drop)));
            let error = read.unwrap_err();
            assert_eq!(error.is_damage(), is_damage, "{kind}: {error}");
            let failed = StoreError::NotCommitted(Box::new(error));
            assert_eq!(failed.is_damage(), is_damage, "{kind}");
        }
    }

    #[test]
    fn a_handle_dropped_on_trial_leaves_the_file_as_it_was() {
        let storage = Shared(Arc::new(InMemoryBackend::new()));
        let handle = open(&storage);
        handle.accept().unwrap();
        insert(&handle, 1);
        drop(handle);
        let before = storage.bytes();
        let handle = open(&storage);
        insert(&handle, 2);
        drop(handle);
        assert!(storage.bytes() == before);
    }

    #[test]
    fn a_handle_given_up_in_a_transaction_leaves_the_last_commit() {
        let storage = Shared(Arc::new(InMemoryBackend::new()));
        let handle = open(&storage);
        handle.accept().unwrap();
        insert(&handle, 1);
        let before = storage.bytes();
        let txn = handle.begin_write().unwrap();
        txn.open_table(ROWS).unwrap().insert(2, 2).unwrap();
        handle.give_up();
        drop(txn);
        assert!(storage.bytes() == before);
        let again = open(&storage);
        assert!(holds(&again, 1) && !holds(&again, 2));
    }
}
