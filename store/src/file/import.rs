//! Makes a file of the items of another store. The file has another name until all of it is written and checked, so a
//! daemon never finds a part of it.
//!
//! One transaction writes everything. Memory holds one pack, one run of an endpoint's deliveries and one generation of
//! keys at a time.

mod history;

use crate::error::StoreError;
use crate::event::Event;
use crate::file::journal::{Bloom, Generation};
use crate::file::marks;
use crate::file::meta::Meta;
use crate::file::open::{self, io, sync_folder};
use crate::file::overlay::{self, Lock, Source, at_rest};
use crate::file::pack::{self, Pack};
use crate::file::record;
use crate::file::rows;
use crate::file::store::Store;
use crate::file::tables::{self, Sums, Tables};
use crate::file::transfer::{Item, Position};
use crate::fingerprint::Fingerprint;
use crate::ids::{DeliveryId, EventId};
use crate::options::Options;
use crate::sealing::{AtRest, Keys, Sealing};
use history::History;
use redb::WriteTransaction;
use redb::backends::FileBackend;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;
use std::sync::Arc;

/// Memory for pages.
const CACHE_BYTES: usize = 64 << 20;

/// Makes the store at `path` of the items that `next` returns, in the order of [`Item`], up to `None`. There must be no
/// store, or one in which nothing was ever stored. Secrets are written as `sealing` says. If this fails, the store is marked as being imported: no daemon
/// starts on it until an import succeeds, or [`discard_import`] takes the rest of this one away.
///
/// # Errors
/// What `next` returns. Also: there is a store with something in it, a daemon uses it, the items don't fit together, or
/// the system refuses.
pub fn import_file<E: From<StoreError>>(
    path: &Path,
    sealing: Sealing,
    mut next: impl FnMut() -> Result<Option<Item>, E>,
) -> Result<(), E> {
    let replaced = vacant(path, sealing.keys())?;
    let fresh = marks::importing(path);
    let file = begin(&fresh)?;
    let written = file.try_clone().map_err(io("writing", &fresh))?;
    // What an import before this one has left.
    file.set_len(0).map_err(io("writing", &fresh))?;
    let backend = FileBackend::new(file).map_err(StoreError::from)?;
    let db = open::engine_on(backend, &fresh, CACHE_BYTES)?;
    let mut txn = db.begin_write().map_err(StoreError::from)?;
    txn.set_quick_repair(true);
    write(&txn, sealing, &mut next)?;
    txn.commit().map_err(StoreError::from)?;
    drop(db);
    written.unlock().map_err(io("writing", &fresh))?;
    expect_whole(&fresh)?;
    put_in_place(path, &fresh, &written, replaced.as_ref())?;
    Ok(())
}

/// Takes away what an import left that has not ended. Returns whether there was anything.
///
/// # Errors
/// An import is running, or the system refuses.
pub fn discard_import(path: &Path) -> Result<bool, StoreError> {
    let fresh = marks::importing(path);
    if !fresh.try_exists().map_err(io("looking for", &fresh))? {
        return Ok(false);
    }
    let _held = begin(&fresh)?;
    std::fs::remove_file(&fresh).map_err(io("removing", &fresh))?;
    sync_folder(&fresh)?;
    Ok(true)
}

/// Refuses a store with something in it. Returns an empty one, locked: no daemon can open it meanwhile.
fn vacant(path: &Path, keys: &Keys) -> Result<Option<Source>, StoreError> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() == 0 => return Ok(None),
        _ => {}
    }
    let source = overlay::open(path, Lock::Exclusive)?;
    let backend = source.clone();
    let store = Store::open_on(at_rest(path), move || backend.backend())?;
    let shared = &store.reader().shared;
    let memory = shared.memory();
    let at_rest = memory.meta.at_rest;
    at_rest.expect_keys(keys, &path.display().to_string())?;
    let is_new = memory.meta.next_slot == 0 && memory.meta.last_event == EventId(0);
    let is_new = is_new && memory.api_keys.is_empty();
    if is_new && memory.directory.endpoints.is_empty() {
        Ok(Some(source))
    } else {
        Err(StoreError::Occupied {
            what: path.display().to_string(),
        })
    }
}

/// Opens the file that the import writes, and locks it: one import writes at a time. It belongs to the owner of its
/// directory.
fn begin(fresh: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(fresh)
        .map_err(io("making", fresh))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let path = fresh.to_owned();
            return Err(StoreError::AlreadyOpen { path });
        }
        Err(std::fs::TryLockError::Error(source)) => return Err(io("locking", fresh)(source)),
    }
    let made = file.metadata().map_err(io("looking at", fresh))?;
    let folder = fresh.parent().and_then(|folder| folder.metadata().ok());
    if let Some(folder) = folder.filter(|folder| folder.uid() != made.uid()) {
        // The daemon may run as another user. Without the right to do this, the file stays this user's.
        let _kept = fchown(&file, Some(folder.uid()), Some(folder.gid()));
    }
    Ok(file)
}

/// What was written must be a store that the daemon would accept.
fn expect_whole(fresh: &Path) -> Result<(), StoreError> {
    match overlay::check_file(fresh)?.damage.first() {
        None => Ok(()),
        Some(first) => Err(StoreError::damaged("what was imported", first.clone())),
    }
}

/// Gives the file its name, once it is on disk.
fn put_in_place(
    path: &Path,
    fresh: &Path,
    file: &File,
    replaced: Option<&Source>,
) -> Result<(), StoreError> {
    file.sync_all().map_err(io("writing", fresh))?;
    let is_empty = || std::fs::metadata(path).is_ok_and(|found| found.len() == 0);
    if replaced.is_some() || is_empty() {
        std::fs::rename(fresh, path).map_err(io("moving into place", fresh))?;
    } else {
        // A link doesn't replace a file that another process may have created meanwhile.
        std::fs::hard_link(fresh, path).map_err(io("moving into place", path))?;
        std::fs::remove_file(fresh).map_err(io("moving into place", fresh))?;
    }
    sync_folder(path)
}

fn write<E: From<StoreError>>(
    txn: &WriteTransaction,
    sealing: Sealing,
    next: &mut impl FnMut() -> Result<Option<Item>, E>,
) -> Result<(), E> {
    let mut tables = Tables::open(txn, &Sums::default())?;
    tables.make_rare()?;
    let mut importing = Importing {
        tables,
        history: History::begin(txn)?,
        zstd: pack::compressor()?,
        sealing,
        position: None,
        last_event: EventId(0),
        pack: (Vec::new(), 0),
        keys: None,
        next_generation: 0,
    };
    while let Some(item) = next()? {
        importing.item(item)?;
    }
    importing.finish()?;
    History::end(txn)?;
    Ok(())
}

/// An import in progress.
struct Importing<'t> {
    tables: Tables<'t>,
    history: History<'t>,
    zstd: zstd::bulk::Compressor<'static>,
    sealing: Sealing,
    position: Option<Position>,
    last_event: EventId,
    /// Events of the next pack, and their bytes.
    pack: (Vec<Arc<Event>>, usize),
    /// Keys of the next generation. Everything else was written before the first one.
    keys: Option<BTreeMap<Fingerprint, EventId>>,
    next_generation: u64,
}

impl Importing<'_> {
    fn item(&mut self, item: Item) -> Result<(), StoreError> {
        let is_late = match &item {
            Item::Position(_) => self.position.is_some(),
            Item::Key(..) => self.position.is_none(),
            _ => self.position.is_none() || self.keys.is_some(),
        };
        if is_late {
            return Err(Item::misplaced(item.kind()));
        }
        let tables = &mut self.tables;
        match item {
            Item::Position(position) => self.position = Some(position),
            Item::Endpoint(endpoint) => {
                let row = rows::write_endpoint(&endpoint, self.sealing.seal()?)?;
                let key = tables::slot_key(endpoint.slot);
                tables.endpoints.insert(&key, &row)?;
            }
            Item::State(slot, state) => {
                let key = tables::slot_key(slot);
                let row = record::write("states", &key, &state)?;
                tables.states.insert(&key, &row)?;
            }
            Item::Revision(slot, from, revision) => {
                let key = tables::revision_key(slot, from);
                let row = record::write("revisions", &key, &revision)?;
                tables.revisions.insert(&key, &row)?;
            }
            Item::Purge(purge) => {
                let key = tables::count_key(purge.number);
                let row = record::write("purges", &key, &purge)?;
                tables.purges.insert(&key, &row)?;
            }
            Item::Bulk(slot, bulk) => {
                let key = tables::bulk_key(slot, bulk.number);
                let row = record::write("bulk", &key, &bulk)?;
                tables.bulk.insert(&key, &row)?;
            }
            Item::ApiKey(api_key) => {
                let key = tables::api_key_key(api_key.id);
                let row = record::write("api_keys", &key, &api_key)?;
                tables.api_keys.insert(&key, &row)?;
            }
            Item::Audit(entry) => {
                let key = tables::audit_key(entry.id);
                let row = record::write("audit", &key, &entry)?;
                tables.audit.insert(&key, &row)?;
            }
            Item::Counters(level, start, counters) => {
                let key = tables::counters_key(level, start);
                let row = record::write("counters", &key, &counters)?;
                tables.counters.insert(&key, &row)?;
            }
            Item::Window(level, start, slot, window) => {
                let key = tables::window_key(level, start, slot);
                let row = record::write("windows", &key, &window)?;
                tables.windows.insert(&key, &row)?;
            }
            Item::Event(event) => self.event(event)?,
            Item::Delivery(delivery) => self.delivery(&delivery)?,
            Item::Key(fingerprint, id) => self.key(fingerprint, id)?,
        }
        Ok(())
    }

    fn event(&mut self, event: Arc<Event>) -> Result<(), StoreError> {
        if event.id <= self.last_event {
            return Err(Item::misplaced(&event.id.to_string()));
        }
        self.last_event = event.id;
        let bytes = pack::size_of(&event);
        if self.pack.1.saturating_add(bytes) > pack::PACK_BYTES {
            self.write_pack()?;
        }
        self.pack.1 += bytes;
        self.pack.0.push(event);
        Ok(())
    }

    fn write_pack(&mut self) -> Result<(), StoreError> {
        let (events, _) = std::mem::take(&mut self.pack);
        let Some(first) = events.first().map(|event| event.id) else {
            return Ok(());
        };
        let row = Pack::new(events).encode(first, &mut self.zstd)?;
        self.tables.packs.insert(&tables::event_key(first), &row)
    }

    fn delivery(&mut self, d: &crate::delivery::Delivery) -> Result<(), StoreError> {
        if d.id.event != self.last_event {
            return Err(Item::misplaced(&d.id.to_string()));
        }
        let key = tables::delivery_key(d.id);
        let row = rows::write_delivery(d)?;
        self.tables.deliveries.insert(&key, &row)?;
        if let Some(waiting) = d.queue_entry() {
            let row = rows::write_due(&waiting, d.stamp)?;
            let key = tables::timed_key(waiting.due, d.id);
            self.tables.due.insert(&key, &row)?;
        }
        if d.status.is_undelivered() {
            let row = record::write("bad", &key, &())?;
            self.tables.bad.insert(&key, &row)?;
        }
        let DeliveryId { event, slot } = d.id;
        self.history.add(slot, d.sequence, event)
    }

    fn key(&mut self, fingerprint: Fingerprint, id: EventId) -> Result<(), StoreError> {
        if self.keys.is_none() {
            self.write_pack()?;
            self.write_history()?;
        }
        let keys = self.keys.get_or_insert_default();
        keys.insert(fingerprint, id);
        if keys.len() >= Options::new("").fold_items {
            self.write_keys()?;
        }
        Ok(())
    }

    /// Writes the lists of the endpoints' deliveries.
    fn write_history(&mut self) -> Result<(), StoreError> {
        for generation in self.history.write(&mut self.tables.history)? {
            self.next_generation = generation.number + 1;
            self.write_generation(&generation)?;
        }
        Ok(())
    }

    /// Writes the keys so far, as a generation. It is kept until its last event is past retention.
    fn write_keys(&mut self) -> Result<(), StoreError> {
        let keys: Vec<(Fingerprint, EventId)> =
            self.keys.take().unwrap_or_default().into_iter().collect();
        self.keys = Some(BTreeMap::new());
        if keys.is_empty() {
            return Ok(());
        }
        let number = self.next_generation;
        self.next_generation += 1;
        for block in keys.chunks(Options::new("").keys_per_block) {
            if let Some((Fingerprint(first), _)) = block.first() {
                let key = tables::block_key(number, *first);
                let row = record::write("keys", &key, &block)?;
                self.tables.keys.insert(&key, &row)?;
            }
        }
        let position = self.position.unwrap_or_default();
        let latest = keys.iter().map(|(_, id)| *id);
        self.write_generation(&Generation {
            number,
            last_event: latest.fold(position.last_event, EventId::max),
            deliveries: 0,
            keys: u64::try_from(keys.len()).unwrap_or(u64::MAX),
            bloom: Bloom::of(keys.iter().map(|(key, _)| key)),
        })
    }

    fn write_generation(&mut self, generation: &Generation) -> Result<(), StoreError> {
        let key = tables::count_key(generation.number);
        let row = record::write("generations", &key, generation)?;
        self.tables.generations.insert(&key, &row)
    }

    fn finish(mut self) -> Result<(), StoreError> {
        let Some(position) = self.position else {
            return Err(StoreError::damaged("the items", "there are none"));
        };
        if self.keys.is_none() {
            self.write_pack()?;
            self.write_history()?;
        }
        self.write_keys()?;
        let meta = Meta {
            commit: 1,
            last_event: position.last_event.max(self.last_event),
            last_stamp: position.last_stamp,
            next_slot: position.next_slot,
            next_generation: self.next_generation,
            next_bulk: position.next_bulk,
            swept_before: position.swept_before,
            deliveries_swept_before: position.deliveries_swept_before,
            paced: position.paced,
            sums: self.tables.sums(),
            at_rest: AtRest::of(self.sealing.form()),
            ..Meta::default()
        };
        let row = meta.write()?;
        self.tables.meta.insert(&[0], row.as_slice())?;
        Ok(())
    }
}
