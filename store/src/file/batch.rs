//! A batch on the file: everything that it decides is written in one transaction. The changes are returned as
//! [`Staged`], and merged into memory when the commit is durable.

mod fold;
mod sweep;

use super::storage::FileStorage;
use crate::api_key::ApiKey;
use crate::audit::AuditEntry;
use crate::batch::{Batch, Limits};
use crate::directory::DirectoryChange;
use crate::error::StoreError;
use crate::file::journal::{Generation, JournalRow, Tail};
use crate::file::memory::{Memory, Shared};
use crate::file::meta::Meta;
use crate::file::pack::{self, Pack};
use crate::file::record;
use crate::file::rows;
use crate::file::tables::{self, Tables};
use crate::ids::{ApiKeyId, AuditId, EventId, Now, Slot, UnixMs};
use crate::op::{Change, Done};
use crate::options::Options;
use crate::stats::Window;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The changes of a batch to memory, once it is durable.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) meta: Meta,
    journal: JournalRow,
    directory: DirectoryChange,
    windows: HashMap<(UnixMs, Slot), Window>,
    windows_flushed: bool,
    packs: Vec<(EventId, Arc<Pack>)>,
    folded: Option<Arc<Generation>>,
    generations_dropped: Vec<u64>,
    api_keys: BTreeMap<ApiKeyId, ApiKey>,
    api_keys_dropped: Vec<ApiKeyId>,
    last_audit: Option<AuditId>,
    resealing: Option<BTreeSet<Slot>>,
    done: Vec<Done>,
    changes: Vec<Change>,
}

impl Staged {
    /// Makes memory match the file.
    pub(crate) fn merge(self, shared: &Shared) -> (u64, Vec<Done>, Vec<Change>) {
        {
            let mut packs = shared.packs();
            packs.keep_from(EventId::first_of(self.meta.swept_before));
            for (first, pack) in self.packs {
                packs.insert(first, pack);
            }
        }
        let memory = &mut *shared.memory_mut();
        memory.meta = self.meta;
        if let Some(resealing) = self.resealing {
            memory.to_reseal = resealing;
        }
        if !memory.to_reseal.is_empty() {
            let written = self.directory.endpoints.keys();
            for slot in written.chain(&self.directory.forgotten) {
                memory.to_reseal.remove(slot);
            }
        }
        if let Some(generation) = self.folded {
            memory.tail = Tail::default();
            memory.generations.push(generation);
        }
        if !self.generations_dropped.is_empty() {
            memory
                .generations
                .retain(|g| !self.generations_dropped.contains(&g.number));
        }
        for key in self.api_keys.into_values() {
            memory.api_keys.set(key);
        }
        for id in self.api_keys_dropped {
            memory.api_keys.remove(id);
        }
        memory.last_audit = self.last_audit.unwrap_or(memory.last_audit);
        memory.add_journal(self.journal);
        memory.directory.follow(self.directory);
        if self.windows_flushed {
            // Not cleared but replaced: windows of many endpoints use capacity that is rarely needed.
            memory.windows = HashMap::new();
        }
        for (key, window) in self.windows {
            memory.windows.entry(key).or_default().merge(&window);
        }
        (self.meta.commit, self.done, self.changes)
    }
}

/// A batch on the file.
pub(crate) type FileBatch<'a, 't> = Batch<'a, FileStorage<'a, 't>>;

/// Begins a batch.
pub(crate) fn begin<'a, 't>(
    shared: &'a Shared,
    options: &'a Options,
    memory: &'a Memory,
    tables: Tables<'t>,
    zstd: &'a mut zstd::bulk::Compressor<'static>,
    (now, random): (Now, u128),
) -> FileBatch<'a, 't> {
    let before = &memory.meta;
    let now = Now {
        at: now.at,
        paced: now.paced.max(before.paced),
    };
    let storage = FileStorage {
        shared,
        options,
        memory,
        tables,
        zstd,
        meta: Meta {
            commit: before.commit + 1,
            paced: now.paced,
            ..*before
        },
        windows_flushed: false,
        generations_dropped: Vec::new(),
        api_keys_dropped: Vec::new(),
        rewritten: BTreeMap::new(),
        resealing: None,
    };
    let limits = Limits {
        pending: options.pending_limit,
        endpoints_per_organization: options.endpoints_per_organization,
    };
    Batch::new(
        storage,
        &memory.directory,
        limits,
        before.numbers(),
        now,
        random,
    )
}

/// Writes what was staged. Afterwards only the commit itself is missing.
pub(crate) fn finish(mut batch: FileBatch<'_, '_>, done: Vec<Done>) -> Result<Staged, StoreError> {
    let folded = batch.fold_if_wanted()?;
    write_endpoints(&mut batch)?;
    let FileStorage {
        mut tables,
        zstd,
        mut meta,
        windows_flushed,
        generations_dropped,
        api_keys_dropped,
        rewritten,
        resealing,
        ..
    } = batch.storage;
    let mut packs: Vec<(EventId, Arc<Pack>)> = rewritten.into_iter().collect();
    for pack in pack::split(batch.events) {
        let Some(first) = pack.events.first().map(|e| e.id) else {
            continue;
        };
        let row = pack.encode(first, zstd)?;
        let key = tables::event_key(first);
        tables.packs.insert(&key, row.as_slice())?;
        packs.push((first, Arc::new(pack)));
    }
    write_callers(&mut tables, batch.api_keys.values(), &batch.audit)?;
    let journal = JournalRow {
        created: batch.created,
        keys: batch.keys.into_iter().collect(),
        states: batch.states.into_iter().collect(),
        counters: batch
            .counters
            .into_iter()
            .map(|((level, start), counters)| (level, start, counters))
            .collect(),
    };
    let key = tables::count_key(meta.commit);
    let row = record::write("journal", &key, &journal)?;
    tables.journal.insert(&key, row.as_slice())?;
    meta.set_numbers(batch.numbers);
    meta.sums = tables.sums();
    let row = meta.write()?;
    tables.meta.insert(&[0], row.as_slice())?;
    Ok(Staged {
        meta,
        journal,
        directory: DirectoryChange {
            endpoints: batch.endpoints,
            forgotten: batch.forgotten,
            open: batch.open,
            bulks: batch.bulks,
            purges: batch.purges,
        },
        windows: batch.windows,
        windows_flushed,
        packs,
        folded,
        generations_dropped,
        api_keys: batch.api_keys,
        api_keys_dropped,
        last_audit: batch.audit.last().map(|entry| entry.id),
        resealing,
        done,
        changes: batch.changes,
    })
}

/// Writes API keys, and entries of the audit log.
fn write_callers<'k>(
    tables: &mut Tables<'_>,
    keys: impl Iterator<Item = &'k ApiKey>,
    entries: &[AuditEntry],
) -> Result<(), StoreError> {
    for key in keys {
        let at = tables::api_key_key(key.id);
        let row = record::write("api_keys", &at, key)?;
        tables.api_keys.insert(&at, row.as_slice())?;
    }
    for entry in entries {
        let at = tables::audit_key(entry.id);
        let row = record::write("audit", &at, entry)?;
        tables.audit.insert(&at, row.as_slice())?;
    }
    Ok(())
}

fn write_endpoints(batch: &mut FileBatch<'_, '_>) -> Result<(), StoreError> {
    let endpoints: Vec<_> = batch.endpoints.values().cloned().collect();
    let (form, options) = (batch.storage.meta.at_rest.form, batch.storage.options);
    for endpoint in endpoints {
        let seal = options.keys.seal(form, || batch.nonce())?;
        let row = rows::write_endpoint(&endpoint, seal)?;
        let key = tables::slot_key(endpoint.slot);
        batch
            .storage
            .tables
            .endpoints
            .insert(&key, row.as_slice())?;
    }
    Ok(())
}
