//! A decided batch: what is to be written, and how memory changes when it is durable.

use crate::cluster::Shard;
use crate::convert::targets;
use crate::fresh::{Place, Placed, Rule};
use crate::memory::Memory;
use crate::rows::{BulkChange, Fetched, Needs, Purged, Rows, Written};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use stormhook_store::backend::{
    Batch, DirectoryChange, Fingerprint, Limits, Numbers, write_endpoint,
};
use stormhook_store::endpoint::Revision;
use stormhook_store::stats::{Counters, Level, Window};
use stormhook_store::{
    ApiKey, ApiKeyId, AuditEntry, Change, DeliveryId, Done, EndpointState, Event, EventId, Form,
    Horizon, Now, Op, Seal, Slot, StoreError, UnixMs,
};

/// How long changes of states may be in memory alone that events and deliveries also show, in milliseconds.
const STATES_EVERY_MS: u64 = 5_000;

/// About the memory of a row, beside the data of an event.
const ROW_BYTES: usize = 256;

/// Counters by window.
type Windows = BTreeMap<(Level, UnixMs), Counters>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) commit: u64,
    pub(crate) numbers: Numbers,
    pub(crate) paced: UnixMs,
    pub(crate) events: Vec<(Arc<Event>, Vec<u8>)>,
    /// New deliveries of earlier events.
    pub(crate) targets: Vec<(EventId, Vec<u8>)>,
    pub(crate) deliveries: Vec<Placed>,
    pub(crate) keys: Vec<(Fingerprint, EventId)>,
    pub(crate) directory: DirectoryChange,
    /// The records of endpoints that are new or changed, and the form of their private parts. Made once: what is written
    /// again after a failover has the same nonce.
    pub(crate) endpoint_records: BTreeMap<Slot, (Vec<u8>, Form)>,
    pub(crate) revisions: BTreeMap<(Slot, EventId), Revision>,
    pub(crate) bulk_changes: BTreeMap<(Slot, u64), BulkChange>,
    /// The states to write.
    pub(crate) states: Vec<(Slot, EndpointState)>,
    pub(crate) states_upto: EventId,
    all_states: HashMap<Slot, EndpointState>,
    writes_all_states: bool,
    /// The counters of windows that are past.
    pub(crate) past: Windows,
    /// Those of the current windows.
    pub(crate) current: Windows,
    /// Windows to add to their rows.
    pub(crate) flushed: HashMap<(UnixMs, Slot), Window>,
    windows: HashMap<(UnixMs, Slot), Window>,
    /// Shards whose sequence numbers are in their states from now on.
    pub(crate) adopted: BTreeSet<Shard>,
    /// Shards that another daemon may have from now on.
    pub(crate) given: BTreeSet<Shard>,
    /// The open deliveries of those.
    lost_open: u64,
    pub(crate) horizon: Option<Horizon>,
    pub(crate) api_keys: BTreeMap<ApiKeyId, ApiKey>,
    /// Whether other daemons are to see that keys were created or revoked.
    pub(crate) tells_api_keys: bool,
    pub(crate) audit: Vec<AuditEntry>,
    pub(crate) purged: Purged,
    done: Vec<Done>,
    changes: Vec<Change>,
}

/// The shards that a commit moves.
#[derive(Debug, Default)]
pub(crate) struct Moving {
    pub(crate) adopted: BTreeSet<Shard>,
    pub(crate) given: BTreeSet<Shard>,
    /// The open deliveries of those.
    pub(crate) lost_open: u64,
}

/// Decides a batch. Returns the rows that it needs if some are missing.
pub(crate) fn decide(
    memory: &Memory,
    limits: Limits,
    idempotency_ttl_ms: u64,
    (ops, now, random): (&[Op], Now, u128),
    fetched: &Fetched,
    moves: &Moving,
) -> Result<Result<Staged, Needs>, StoreError> {
    let now = Now {
        at: now.at.max(memory.not_before()),
        paced: now.paced.max(memory.paced),
    };
    let rows = Rows {
        fetched,
        memory,
        idempotency_ttl_ms,
        needs: RefCell::default(),
        written: Written::default(),
    };
    let mut numbers = memory.numbers;
    numbers.next_slot = fetched.next_slot;
    let mut batch = Batch::new(rows, &memory.directory, limits, numbers, now, random);
    let mut done = Vec::with_capacity(ops.len());
    for op in ops {
        match batch.run(op) {
            Ok(answer) => done.push(answer),
            // The others are run nevertheless, to learn what they need.
            Err(StoreError::NotFetched) => {}
            Err(error) => return Err(error),
        }
    }
    let needs = batch.storage.needs.take();
    if !needs.is_empty() {
        return Ok(Err(needs));
    }
    let records = records_of(memory, &mut batch)?;
    let staged = stage(memory, batch, fetched, now, done, moves);
    Ok(Ok(Staged {
        endpoint_records: records,
        ..staged
    }))
}

/// Returns the records of the endpoints that a batch changed.
fn records_of(
    memory: &Memory,
    batch: &mut Batch<'_, Rows<'_>>,
) -> Result<BTreeMap<Slot, (Vec<u8>, Form)>, StoreError> {
    let form = memory.at_rest.form;
    let endpoints: Vec<_> = batch.endpoints.values().cloned().collect();
    let records = endpoints.into_iter().map(|endpoint| {
        let seal = match memory.keys.seal(form, || batch.nonce())? {
            Seal::Plain if !memory.all_know_parts => Seal::PlainV2,
            seal => seal,
        };
        Ok((endpoint.slot, (write_endpoint(&endpoint, seal)?, form)))
    });
    records.collect()
}

fn stage(
    memory: &Memory,
    batch: Batch<'_, Rows<'_>>,
    fetched: &Fetched,
    now: Now,
    done: Vec<Done>,
    moves: &Moving,
) -> Staged {
    let written = batch.storage.written;
    let (events, created) = with_targets(batch.events, &batch.created);
    let late = late(memory, &batch.created, &created);
    let targets = created
        .into_iter()
        .map(|(event, of)| (event, targets(of.into_iter())))
        .collect();
    // Whoever has a given shard next reads everything from its rows.
    let is_flush = written.flush || !moves.given.is_empty();
    let writes_all_states = is_flush
        || !moves.adopted.is_empty()
        || now.paced.since_ms(memory.states_at) >= STATES_EVERY_MS;
    let states = states_to_write(memory, &batch.states, &late, writes_all_states);
    let states_upto = states_upto(memory, writes_all_states);
    let rule = Rule {
        memory,
        states_upto,
        bulk_begins: &begun(&written.bulks),
        opens_all: writes_all_states,
    };
    let row = |id: &DeliveryId| fetched.deliveries.get(id).and_then(Option::as_ref);
    let deliveries = rule.placed(written.deliveries, row);
    let (current, past) = counters_to_write(memory, &batch.counters);
    Staged {
        commit: memory.commit + 1,
        numbers: batch.numbers,
        paced: now.paced,
        events,
        targets,
        deliveries,
        keys: batch.keys.into_iter().collect(),
        directory: DirectoryChange {
            endpoints: batch.endpoints,
            forgotten: batch.forgotten,
            open: batch.open,
            bulks: batch.bulks,
            purges: batch.purges,
        },
        endpoint_records: BTreeMap::new(),
        revisions: written.revisions,
        bulk_changes: written.bulks,
        states,
        states_upto,
        all_states: batch.states,
        writes_all_states,
        past,
        current,
        flushed: to_flush(memory, is_flush),
        lost_open: moves.lost_open,
        windows: batch.windows,
        adopted: moves.adopted.clone(),
        given: moves.given.clone(),
        horizon: written.horizon,
        tells_api_keys: tells(memory, &batch.api_keys),
        api_keys: batch.api_keys,
        audit: batch.audit,
        purged: written.purged,
        done,
        changes: batch.changes,
    }
}

/// Deliveries of events, with their sequence numbers.
type Created = BTreeMap<EventId, Vec<(Slot, u64)>>;

/// Events with the bytes of their deliveries.
type WithTargets = Vec<(Arc<Event>, Vec<u8>)>;

/// Returns the events with the deliveries of each, and those of earlier events.
fn with_targets(events: Vec<Arc<Event>>, all: &[(Slot, u64, EventId)]) -> (WithTargets, Created) {
    let mut created = Created::new();
    for (slot, sequence, event) in all {
        created.entry(*event).or_default().push((*slot, *sequence));
    }
    let events = events.into_iter().map(|event| {
        let of = created.remove(&event.id).unwrap_or_default();
        (event, targets(of.into_iter()))
    });
    (events.collect(), created)
}

/// Returns the endpoints with sequence numbers that are in no event after `states_upto`.
fn late(memory: &Memory, all: &[(Slot, u64, EventId)], of_earlier: &Created) -> HashSet<Slot> {
    let late = all.iter();
    let late = late.filter(|(_, _, event)| *event <= memory.states_upto);
    late.map(|(slot, _, _)| *slot)
        .chain(of_earlier.values().flatten().map(|(slot, _)| *slot))
        .collect()
}

/// Returns up to which event the states have all sequence numbers, and all deliveries have rows. Those of the batch's own
/// events may stay without one.
fn states_upto(memory: &Memory, writes_all_states: bool) -> EventId {
    if writes_all_states {
        memory.numbers.last_event
    } else {
        memory.states_upto
    }
}

/// Returns the windows to add to their rows.
fn to_flush(memory: &Memory, is_flush: bool) -> HashMap<(UnixMs, Slot), Window> {
    if is_flush {
        memory.windows.clone()
    } else {
        HashMap::new()
    }
}

/// Whether a key is new or revoked, not only used.
fn tells(memory: &Memory, keys: &BTreeMap<ApiKeyId, ApiKey>) -> bool {
    keys.values().any(|key| {
        let known = memory.api_keys.get(key.id);
        known.is_none_or(|known| known.revoked_at != key.revoked_at)
    })
}

/// Returns the endpoints of which a bulk change begins.
fn begun(changes: &BTreeMap<(Slot, u64), BulkChange>) -> BTreeSet<Slot> {
    let begins = |change: &BulkChange| matches!(change, BulkChange::Begins(_));
    let begun = changes.iter().filter(|(_, change)| begins(change));
    begun.map(|((slot, _), _)| *slot).collect()
}

/// Returns the counters of the current windows, and those of windows that are past.
fn counters_to_write(memory: &Memory, counted: &Windows) -> (Windows, Windows) {
    // What was counted in this batch replaces what was known.
    let mut all = memory.counters.clone();
    all.extend(counted);
    // In order of time: the last of each level stays.
    let newest: BTreeMap<Level, UnixMs> = all.keys().copied().collect();
    all.into_iter()
        .partition(|((level, start), _)| newest.get(level) == Some(start))
}

/// Returns the states to write: all that are not written yet; otherwise those that nothing else shows, which are runs of
/// failures, and sequence numbers of deliveries that earlier events got.
fn states_to_write(
    memory: &Memory,
    changed: &HashMap<Slot, EndpointState>,
    late: &HashSet<Slot>,
    writes_all_states: bool,
) -> Vec<(Slot, EndpointState)> {
    let failures = |slot: &Slot, state: &EndpointState| {
        let before = memory.directory.state(*slot);
        before.failure_count != state.failure_count || before.failing_since != state.failing_since
    };
    let unwritten = memory.unwritten.iter().filter(|_| writes_all_states);
    let mut states: BTreeMap<Slot, EndpointState> = unwritten
        .map(|slot| (*slot, memory.directory.state(*slot)))
        .collect();
    states.extend(changed.iter().filter_map(|(slot, state)| {
        let writes = writes_all_states || late.contains(slot) || failures(slot, state);
        writes.then_some((*slot, *state))
    }));
    states.into_iter().collect()
}

impl Staged {
    /// Returns the ids of the rows that go to partitions of days.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EventId> + '_ {
        let events = self.events.iter().map(|(event, _)| event.id);
        events.chain(self.keys.iter().map(|(_, id)| *id))
    }

    /// Returns about how much memory it uses.
    pub(crate) fn bytes(&self) -> usize {
        let data = |(event, _): &(Arc<Event>, Vec<u8>)| event.data.as_ref().map_or(0, Vec::len);
        let rows = self.events.len() + self.deliveries.len() + self.states.len() + self.keys.len();
        self.events.iter().map(data).sum::<usize>()
            + (rows + self.flushed.len() + self.audit.len()) * ROW_BYTES
    }

    /// Makes memory match the database.
    pub(crate) fn merge(&mut self, memory: &mut Memory) -> (Vec<Done>, Vec<Change>) {
        memory.commit = self.commit;
        memory.numbers = self.numbers;
        memory.paced = self.paced;
        memory.counters = self.current.clone();
        if self.writes_all_states {
            memory.unwritten.clear();
            memory.states_at = self.paced;
            memory.states_upto = self.states_upto;
        } else {
            let of_batch = self.all_states.keys().copied();
            let states: BTreeSet<Slot> = self.states.iter().map(|(slot, _)| *slot).collect();
            memory
                .unwritten
                .extend(of_batch.filter(|slot| !states.contains(slot)));
        }
        let directory = &mut memory.directory;
        for (slot, state) in std::mem::take(&mut self.all_states) {
            directory.set_state(slot, state);
        }
        directory.follow(self.directory.clone());
        if !self.flushed.is_empty() {
            memory.windows = HashMap::new();
        }
        for (key, window) in std::mem::take(&mut self.windows) {
            memory.windows.entry(key).or_default().merge(&window);
        }
        if let Some(horizon) = self.horizon {
            memory.swept_before = memory.swept_before.max(horizon.events_before);
            memory.deliveries_swept_before =
                memory.deliveries_swept_before.max(horizon.attempts_before);
        }
        for placed in &self.deliveries {
            let delivery = &placed.delivery;
            if placed.to == Place::Nowhere {
                memory.fresh.insert(delivery.id, delivery.clone());
            } else {
                memory.fresh.remove(&delivery.id);
            }
        }
        for id in self.purged.deliveries.keys() {
            memory.fresh.remove(id);
        }
        for key in self.api_keys.values() {
            memory.merge_api_key(key.clone());
        }
        for id in &self.purged.api_keys {
            memory.api_keys.remove(*id);
        }
        if let Some(entry) = self.audit.last() {
            memory.last_audit = entry.id;
        }
        for shard in &self.adopted {
            memory.unadopted.remove(shard);
        }
        let mut changes = std::mem::take(&mut self.changes);
        if !self.given.is_empty() {
            let slots = memory.lose(&self.given, self.lost_open);
            changes.push(Change::Lost(slots));
        }
        (std::mem::take(&mut self.done), changes)
    }
}
