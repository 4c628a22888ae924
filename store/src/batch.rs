//! One batch: operations are decided one after the other, against the file and what the batch has staged so far.
//! Everything is written in one transaction.
//!
//! Nothing in shared memory changes here. The changes are returned as [`Staged`] and merged when the commit is durable,
//! so a failed commit leaves memory as it was.

mod accept;
mod bulk;
mod counters;
mod damaged;
mod endpoints;
mod fold;
mod rounds;
mod settle;
mod sweep;

use crate::bulk::{Bulks, apply};
use crate::command::Refusal;
use crate::delivery::{Delivery, Status};
use crate::endpoint::{Endpoint, EndpointState};
use crate::error::StoreError;
use crate::event::Event;
use crate::ids::{DeliveryId, EventId, Now, Slot, UnixMs};
use crate::journal::{Fingerprint, Generation, JournalRow};
use crate::maintenance::{FlushStats, Probe};
use crate::memory::{Memory, Shared};
use crate::op::{Change, Done, Op};
use crate::options::Options;
use crate::pack::{self, Pack};
use crate::record;
use crate::rows::{self, Meta};
use crate::stats::{Counters, Level, Window};
use crate::tables::{self, Tables};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The changes of a batch to memory, once it is durable.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) meta: Meta,
    pub(crate) journal: JournalRow,
    pub(crate) endpoints: BTreeMap<Slot, Arc<Endpoint>>,
    pub(crate) windows: HashMap<(UnixMs, Slot), Window>,
    pub(crate) windows_flushed: bool,
    pub(crate) packs: Vec<(EventId, Arc<Pack>)>,
    pub(crate) folded: Option<Arc<Generation>>,
    pub(crate) forgotten: BTreeSet<Slot>,
    pub(crate) generations_dropped: Vec<u64>,
    pub(crate) open: u64,
    pub(crate) bulks: Arc<Bulks>,
    pub(crate) done: Vec<Done>,
    pub(crate) changes: Vec<Change>,
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
        memory.open = self.open;
        memory.bulks = self.bulks;
        if let Some(generation) = self.folded {
            memory.tail = crate::journal::Tail::default();
            memory.generations.push(generation);
        }
        if !self.generations_dropped.is_empty() {
            memory
                .generations
                .retain(|g| !self.generations_dropped.contains(&g.number));
        }
        memory.add_journal(self.journal);
        for endpoint in self.endpoints.into_values() {
            memory.set_endpoint(endpoint);
        }
        if self.windows_flushed {
            // Not cleared but replaced: windows of many endpoints use capacity that is rarely needed.
            memory.windows = HashMap::new();
        }
        for slot in self.forgotten {
            memory.forget(slot);
        }
        for (key, window) in self.windows {
            memory.windows.entry(key).or_default().merge(&window);
        }
        (self.meta.commit, self.done, self.changes)
    }
}

/// See the module.
pub(crate) struct Batch<'a, 't> {
    shared: &'a Shared,
    options: &'a Options,
    memory: &'a Memory,
    tables: Tables<'t>,
    zstd: &'a mut zstd::bulk::Compressor<'static>,
    now: UnixMs,
    /// The time used for expiry.
    paced: UnixMs,
    /// The source of ids.
    random: ChaCha8Rng,
    meta: Meta,
    events: Vec<Arc<Event>>,
    keys: HashMap<Fingerprint, EventId>,
    created: Vec<(Slot, u64, EventId)>,
    states: HashMap<Slot, EndpointState>,
    counters: BTreeMap<(Level, UnixMs), Counters>,
    endpoints: BTreeMap<Slot, Arc<Endpoint>>,
    windows: HashMap<(UnixMs, Slot), Window>,
    windows_flushed: bool,
    generations_dropped: Vec<u64>,
    /// Endpoints that were removed.
    forgotten: BTreeSet<Slot>,
    open: u64,
    bulks: Arc<Bulks>,
    changes: Vec<Change>,
}

impl<'a, 't> Batch<'a, 't> {
    pub(crate) fn new(
        shared: &'a Shared,
        options: &'a Options,
        memory: &'a Memory,
        tables: Tables<'t>,
        zstd: &'a mut zstd::bulk::Compressor<'static>,
        (now, random): (Now, u128),
    ) -> Self {
        let paced = now.paced.max(memory.meta.paced);
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(&random.to_le_bytes());
        Self {
            shared,
            options,
            memory,
            tables,
            zstd,
            // The store's time never goes back, even if the clock does.
            now: now.at.max(memory.meta.last_event.accepted_at()),
            paced,
            random: ChaCha8Rng::from_seed(seed),
            meta: Meta {
                commit: memory.meta.commit + 1,
                paced,
                ..memory.meta
            },
            events: Vec::new(),
            keys: HashMap::new(),
            created: Vec::new(),
            states: HashMap::new(),
            counters: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            windows: HashMap::new(),
            windows_flushed: false,
            generations_dropped: Vec::new(),
            forgotten: BTreeSet::new(),
            open: memory.open,
            bulks: Arc::clone(&memory.bulks),
            changes: Vec::new(),
        }
    }

    /// Decides one operation. A damaged row fails this operation, not the batch.
    pub(crate) fn run(&mut self, op: &Op) -> Result<Done, StoreError> {
        let done = match op {
            Op::Accept(new) => self.accept(new).map(Done::Accept),
            Op::Settle(settle) => self.settle(settle).map(Done::Settle),
            Op::CreateEndpoint(create) => self.create_endpoint(create).map(Done::CreateEndpoint),
            Op::UpdateEndpoint(update) => self.update_endpoint(update).map(Done::UpdateEndpoint),
            Op::DeleteEndpoint(delete) => self.delete_endpoint(*delete).map(Done::DeleteEndpoint),
            Op::RotateSecret(rotate) => self.rotate_secret(rotate).map(Done::RotateSecret),
            Op::Retry(retry) => self.retry(*retry).map(Done::Retry),
            Op::Cancel(cancel) => self.cancel(*cancel).map(Done::Cancel),
            Op::Replay(replay) => self.replay(*replay).map(Done::Replay),
            Op::Recover(recover) => self.recover(recover).map(Done::Recover),
            Op::AdvanceBulk(advance) => self.advance_bulk(advance).map(Done::AdvanceBulk),
            Op::EndDamaged(end) => self.end_damaged(*end).map(Done::EndDamaged),
            Op::FlushStats(FlushStats) => self.flush_stats().map(Done::FlushStats),
            Op::Sweep(sweep) => self.sweep(sweep).map(Done::Sweep),
            Op::Probe(Probe) => Ok(Done::Probe(())),
        };
        match done {
            Err(
                e
                @ (StoreError::Damaged { .. } | StoreError::Newer { .. } | StoreError::Illegal(_)),
            ) => Ok(Done::Damaged(e.to_string())),
            other => other,
        }
    }

    /// Writes what was staged. Afterwards only the commit itself is missing.
    pub(crate) fn finish(mut self, done: Vec<Done>) -> Result<Staged, StoreError> {
        let folded = self.fold_if_wanted()?;
        let mut packs = Vec::new();
        for pack in pack::split(std::mem::take(&mut self.events)) {
            let Some(first) = pack.events.first().map(|e| e.id) else {
                continue;
            };
            let row = pack.encode(first, self.zstd)?;
            self.tables
                .packs
                .insert(&tables::event_key(first), row.as_slice())?;
            packs.push((first, Arc::new(pack)));
        }
        for endpoint in self.endpoints.values() {
            let row = rows::write_endpoint(endpoint)?;
            self.tables
                .endpoints
                .insert(&tables::slot_key(endpoint.slot), row.as_slice())?;
        }
        let journal = JournalRow {
            created: self.created,
            keys: self.keys.into_iter().collect(),
            states: self.states.into_iter().collect(),
            counters: self
                .counters
                .into_iter()
                .map(|((level, start), counters)| (level, start, counters))
                .collect(),
        };
        let key = tables::count_key(self.meta.commit);
        let row = record::write("journal", &key, &journal)?;
        self.tables.journal.insert(&key, row.as_slice())?;
        self.meta.sums = self.tables.sums();
        let row = record::write("meta", &[0], &self.meta)?;
        self.tables.meta.insert(&[0], row.as_slice())?;
        Ok(Staged {
            meta: self.meta,
            journal,
            endpoints: self.endpoints,
            windows: self.windows,
            windows_flushed: self.windows_flushed,
            packs,
            folded,
            generations_dropped: self.generations_dropped,
            forgotten: self.forgotten,
            open: self.open,
            bulks: self.bulks,
            done,
            changes: self.changes,
        })
    }

    fn endpoint(&self, slot: Slot) -> Option<Arc<Endpoint>> {
        let kept = || self.memory.endpoint(slot);
        let kept = || kept().filter(|_| !self.forgotten.contains(&slot));
        self.endpoints.get(&slot).or_else(kept).cloned()
    }

    fn state(&self, slot: Slot) -> EndpointState {
        self.states
            .get(&slot)
            .copied()
            .unwrap_or_else(|| self.memory.state(slot))
    }

    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, StoreError> {
        match self.events.binary_search_by_key(&id, |e| e.id) {
            Ok(at) => Ok(self.events.get(at).cloned()),
            // This batch may have swept it while it is still in the cache.
            Err(_) if id.accepted_at() < self.meta.swept_before => {
                let around = pack::around(&*self.tables.packs, id)?;
                Ok(around.and_then(|(_, pack)| pack.find(id)))
            }
            Err(_) => self.shared.event(&*self.tables.packs, id),
        }
    }

    /// Returns the delivery as its row has it.
    fn stored(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        rows::delivery_in(&*self.tables.deliveries, id)
    }

    /// Returns the delivery as readers see it, and updates its row to that.
    fn delivery(&mut self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let Some(mut delivery) = self.stored(id)? else {
            return Ok(None);
        };
        if let Some(bulks) = self.bulks.get(&id.slot) {
            let before = IndexedState::of(&delivery);
            if apply(&mut delivery, bulks) {
                self.put_delivery(Some(before), &mut delivery)?;
            }
        }
        Ok(Some(delivery))
    }

    /// Writes a delivery and everything that depends on its row: the due index, the dead-letter list, the change.
    /// `before` is the row that it replaces.
    fn put_delivery(
        &mut self,
        before: Option<IndexedState>,
        d: &mut Delivery,
    ) -> Result<(), StoreError> {
        not_before_acceptance(d);
        // Every bulk change so far has been applied to it.
        d.stamp = self.meta.last_stamp;
        if let Some(due) = before.and_then(|b| b.due) {
            self.tables.due.remove(&tables::timed_key(due, d.id))?;
            self.open = self.open.saturating_sub(1);
        }
        let key = tables::delivery_key(d.id);
        match (
            before.is_some_and(|b| b.status.is_undelivered()),
            d.status.is_undelivered(),
        ) {
            (true, false) => {
                self.tables.bad.remove(&key)?;
            }
            (false, true) => {
                let row = record::write("bad", &key, &())?;
                self.tables.bad.insert(&key, row.as_slice())?;
            }
            _ => {}
        }
        if let Some(waiting) = rows::waiting(d) {
            let key = tables::timed_key(waiting.due, d.id);
            let row = rows::write_due(&waiting, d.stamp)?;
            self.tables.due.insert(&key, row.as_slice())?;
            self.open += 1;
            self.changes.push(Change::Waiting(waiting));
        } else if before.is_some_and(|b| b.due.is_some()) {
            self.changes.push(Change::Ended(d.id));
        }
        let row = rows::write_delivery(d)?;
        self.tables.deliveries.insert(&key, row.as_slice())?;
        Ok(())
    }

    /// Returns a random number. None reveals another; all derive from the one that the commit was given.
    fn next_random(&mut self) -> u128 {
        let (high, low) = (self.random.next_u64(), self.random.next_u64());
        u128::from(high) << 64 | u128::from(low)
    }
}

/// The fields of a delivery's row that keys of other tables depend on.
#[derive(Clone, Copy, Debug)]
struct IndexedState {
    status: Status,
    due: Option<UnixMs>,
}

impl IndexedState {
    fn of(d: &Delivery) -> Self {
        Self {
            status: d.status,
            due: d.due,
        }
    }
}

/// Times in rows count from acceptance. After the clock went back, an attempt may seem to have ended earlier; then its
/// row and its keys in other tables would differ.
fn not_before_acceptance(d: &mut Delivery) {
    let base = d.id.event.accepted_at();
    for at in [&mut d.created_at, &mut d.updated_at] {
        *at = base.max(*at);
    }
    for at in [&mut d.next_attempt_at, &mut d.due] {
        *at = at.map(|at| base.max(at));
    }
    for attempt in d.attempts.iter_mut().rev().take(1) {
        attempt.started_at = base.max(attempt.started_at);
    }
}

/// The answer to a command, or its refusal; or the error that fails the whole batch.
type Decision<T> = Result<Result<T, Refusal>, StoreError>;

fn refused<T>(refusal: Refusal) -> Decision<T> {
    Ok(Err(refusal))
}
