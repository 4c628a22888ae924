//! The state in memory: changed only after the commit that records the change, in commit order, and rebuilt from the
//! file at startup.
//!
//! The writer reads it while it works and changes it when its commit is durable; readers look at it in between.

use crate::api_key::{ApiKey, ApiKeys};
use crate::bulk::{Bulk, Bulks, as_read};
use crate::delivery::Delivery;
use crate::directory::{Directory, Slots};
use crate::endpoint::Endpoint;
use crate::error::StoreError;
use crate::event::Event;
use crate::file::guarded::guarded;
use crate::file::handle::Handle;
use crate::file::journal::{Generation, JournalRow, Tail};
use crate::file::meta::Meta;
use crate::file::pack::{self, PackCache};
use crate::file::record;
use crate::file::rows::{self, EndpointRead};
use crate::file::tables::{self, ReadTables};
use crate::ids::{AuditId, DeliveryId, EventId, Slot, UnixMs};
use crate::options::Options;
use crate::purge::{Purge, Purges};
use crate::sealing::{AtRest, Form, Key, Keys};
use crate::stats::Window;
use redb::{ReadableTable, ReadableTableMetadata};
use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How often a reader waits for memory to catch up with a commit before it uses the current state.
const VIEW_TRIES: u32 = 100_000;

/// One snapshot of the file, with the state in memory as of the same commit.
pub(crate) struct Snapshot {
    views: ReadTables,
    endpoints: Arc<Slots>,
    bulks: Arc<Bulks>,
}

impl Deref for Snapshot {
    type Target = ReadTables;

    fn deref(&self) -> &ReadTables {
        &self.views
    }
}

impl Snapshot {
    pub(crate) fn endpoint(&self, slot: Slot) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(&slot)
    }

    /// Returns the delivery as its row is.
    pub(crate) fn stored(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        rows::delivery_in(&self.deliveries, id)
    }

    /// Returns the delivery as readers see it.
    pub(crate) fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let stored = self.stored(id)?;
        Ok(stored.map(|stored| as_read(stored, &self.bulks)))
    }

    pub(crate) fn all_bulks(&self) -> &Bulks {
        &self.bulks
    }

    /// Returns the bulk changes of an endpoint that are in progress.
    pub(crate) fn bulks(&self, slot: Slot) -> &[Bulk] {
        self.bulks.get(&slot).map_or(&[], Vec::as_slice)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) meta: Meta,
    pub(crate) directory: Directory,
    /// Endpoints whose private part still has the form before.
    pub(crate) to_reseal: BTreeSet<Slot>,
    pub(crate) tail: Tail,
    pub(crate) generations: Vec<Arc<Generation>>,
    /// Histograms and per-endpoint windows not yet in the file, by minute.
    pub(crate) windows: HashMap<(UnixMs, Slot), Window>,
    pub(crate) api_keys: ApiKeys,
    /// The last entry of the audit log.
    pub(crate) last_audit: AuditId,
}

impl Memory {
    /// Adds a journal row that is in the file.
    pub(crate) fn add_journal(&mut self, row: JournalRow) {
        for (slot, state) in &row.states {
            self.directory.set_state(*slot, *state);
        }
        self.tail.add(row);
    }

    /// Reads everything that is kept in memory. The cost depends on the endpoints and the journal, not on the backlog.
    pub(crate) fn load(views: &ReadTables, keys: &Keys) -> Result<Self, StoreError> {
        let mut memory = Self {
            meta: views.meta()?,
            ..Self::default()
        };
        for row in views.endpoints.iter()? {
            let (key, value) = row?;
            let read = rows::read_endpoint(key.value(), value.value(), keys)?;
            expect_form(memory.meta.at_rest, &read)?;
            if read.form != memory.meta.at_rest.form {
                memory.to_reseal.insert(read.endpoint.slot);
            }
            memory.directory.set_endpoint(Arc::new(read.endpoint));
        }
        for row in views.states.iter()? {
            let (key, value) = row?;
            memory.directory.set_state(
                tables::slot_of(key.value()),
                record::read("states", key.value(), value.value())?,
            );
        }
        for row in views.generations.iter()? {
            let (key, value) = row?;
            let mut generation: Generation =
                record::read("generations", key.value(), value.value())?;
            generation.number = tables::count_of(key.value());
            memory.generations.push(Arc::new(generation));
        }
        for row in views.journal.iter()? {
            let (key, value) = row?;
            memory.add_journal(record::read("journal", key.value(), value.value())?);
        }
        // The journal may still mention endpoints that are gone.
        let directory = &mut memory.directory;
        let endpoints = Arc::clone(&directory.endpoints);
        directory
            .states
            .retain(|slot, _| endpoints.contains_key(slot));
        directory.open = views.due.len()?;
        let mut bulks = Bulks::new();
        for row in views.bulk.iter()? {
            let (key, value) = row?;
            let (slot, number) = tables::bulk_of(key.value());
            let bulk: Bulk = record::read("bulk", key.value(), value.value())?;
            bulks.entry(slot).or_default().push(Bulk { number, ..bulk });
        }
        directory.bulks = Arc::new(bulks);
        directory.purges = Arc::new(purges(views)?);
        for row in views.api_keys.iter()? {
            let (key, value) = row?;
            let id = tables::api_key_of(key.value());
            let read: ApiKey = record::read("api_keys", key.value(), value.value())?;
            memory.api_keys.set(ApiKey { id, ..read });
        }
        if let Some((key, _)) = views.audit.last()? {
            memory.last_audit = tables::audit_of(key.value());
        }
        Ok(memory)
    }
}

/// Reads the purges in progress.
fn purges(views: &ReadTables) -> Result<Purges, StoreError> {
    let mut purges = Purges::default();
    for row in views.purges.iter()? {
        let (key, value) = row?;
        let purge: Purge = record::read("purges", key.value(), value.value())?;
        let number = tables::count_of(key.value());
        purges.insert(Purge { number, ..purge });
    }
    Ok(purges)
}

/// A private part in a form that the store does not have was put there by something else.
pub(crate) fn expect_form(at_rest: AtRest, read: &EndpointRead) -> Result<(), StoreError> {
    if at_rest.has(read.form) {
        return Ok(());
    }
    let form = |form| match form {
        Form::Plain => "not encrypted".to_owned(),
        Form::Encrypted(id) => format!("encrypted with key {id}"),
    };
    let (is, store) = (form(read.form), form(at_rest.form));
    let what = format!("the private part of {}", read.endpoint.id);
    let detail = format!("it is {is}, but the store is {store}");
    Err(StoreError::damaged(what, detail))
}

/// The file and the memory, shared by the writer and the readers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: RwLock<Options>,
    handle: RwLock<Option<Handle>>,
    memory: RwLock<Memory>,
    packs: Mutex<PackCache>,
    /// Why not even an empty commit can be made, if the file is damaged in this way.
    uncommittable: Mutex<Option<String>>,
}

impl Shared {
    pub(crate) fn new(options: Options, handle: Handle, memory: Memory) -> Self {
        let mut packs = PackCache::default();
        packs.keep_from(EventId::first_of(memory.meta.swept_before));
        Self {
            options: RwLock::new(options),
            handle: RwLock::new(Some(handle)),
            memory: RwLock::new(memory),
            packs: Mutex::new(packs),
            uncommittable: Mutex::default(),
        }
    }

    /// A panic elsewhere leaves no partial change behind these locks: each holder replaces values as a whole.
    pub(crate) fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn memory_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn packs(&self) -> MutexGuard<'_, PackCache> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the damaged file accepts no commit.
    pub(crate) fn uncommittable(&self) -> MutexGuard<'_, Option<String>> {
        self.uncommittable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn options(&self) -> RwLockReadGuard<'_, Options> {
        self.options.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key to those of the secrets.
    pub(crate) fn add_key(&self, key: Key) {
        let mut options = self.options.write().unwrap_or_else(PoisonError::into_inner);
        options.keys = Arc::new(options.keys.with(key));
    }

    pub(crate) fn handle(&self) -> RwLockReadGuard<'_, Option<Handle>> {
        self.handle.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn handle_mut(&self) -> RwLockWriteGuard<'_, Option<Handle>> {
        self.handle.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f` on one snapshot of the file. Keep it short: a snapshot pins pages.
    pub(crate) fn view<T>(
        &self,
        f: impl FnOnce(&Snapshot) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.view_with(|snapshot, memory| {
            drop(memory);
            f(snapshot)
        })
    }

    /// Runs `f` on one snapshot of the file and the memory that matches it. While `f` holds the memory, no commit is
    /// announced; and it must release it before it calls anything that looks at memory.
    pub(crate) fn view_with<T>(
        &self,
        f: impl FnOnce(&Snapshot, RwLockReadGuard<'_, Memory>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let handle = self.handle();
        let (snapshot, memory) = self.snapshot(&handle)?;
        guarded(|| f(&snapshot, memory))
    }

    /// Runs `f` on one snapshot for as long as it takes, without blocking others: the file can be reopened meanwhile,
    /// as after a failed commit, and then further reads are errors. The snapshot still pins pages.
    pub(crate) fn long_view<T>(
        &self,
        f: impl FnOnce(&Snapshot) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let snapshot = {
            let handle = self.handle();
            self.snapshot(&handle)?.0
        };
        guarded(|| f(&snapshot))
    }

    fn snapshot(
        &self,
        handle: &Option<Handle>,
    ) -> Result<(Snapshot, RwLockReadGuard<'_, Memory>), StoreError> {
        let handle = handle
            .as_ref()
            .ok_or_else(|| StoreError::InDoubt("it is being reopened".to_owned()))?;
        let mut tries = 0;
        loop {
            let memory = self.memory();
            let (views, commit) = guarded(|| {
                let views = ReadTables::open(&handle.begin_read()?)?;
                let commit = views.commit()?;
                Ok((views, commit))
            })?;
            // A commit is in the file a moment before it is in memory.
            tries += 1;
            if tries > VIEW_TRIES || commit == memory.meta.commit {
                let snapshot = Snapshot {
                    views,
                    endpoints: Arc::clone(&memory.directory.endpoints),
                    bulks: Arc::clone(&memory.directory.bulks),
                };
                return Ok((snapshot, memory));
            }
            drop(memory);
            std::thread::yield_now();
        }
    }

    /// Returns the event, from memory or from its pack in `packs`.
    pub(crate) fn event(
        &self,
        packs: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
        id: EventId,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        if let Some(event) = self.packs().find(id) {
            return Ok(Some(event));
        }
        let Some((first, pack)) = pack::around(packs, id)? else {
            return Ok(None);
        };
        let event = pack.find(id);
        self.packs().insert(first, pack);
        Ok(event)
    }
}
