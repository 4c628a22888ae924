//! What is in memory of the database: changed only after the commit that records the change, in commit order.

use crate::cluster::Shard;
use crate::cluster::clock::Clock;
use crate::cluster::seat::Lease;
use crate::cluster::view::Seat;
use crate::link::Link;
use crate::options::Options;
use crate::recent::Recent;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use stormhook_store::backend::{Directory, Limits, Numbers};
use stormhook_store::stats::{Counters, Level, Window};
use stormhook_store::{
    ApiKey, ApiKeyId, ApiKeys, AtRest, AuditId, Delivery, DeliveryId, EventId, Keys, Slot,
    StoreError, UnixMs,
};

/// The first version of the schema whose daemons read endpoints in a public and a private part.
pub(crate) const PARTS_KNOWN_SINCE: i32 = 6;

/// The first version of the schema whose daemons know purges.
pub(crate) const PURGES_KNOWN_SINCE: i32 = 7;

/// See the module.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) commit: u64,
    pub(crate) directory: Directory,
    pub(crate) numbers: Numbers,
    pub(crate) paced: UnixMs,
    pub(crate) swept_before: UnixMs,
    /// The counters of the current windows, one of each level.
    pub(crate) counters: BTreeMap<(Level, UnixMs), Counters>,
    /// Histograms and per-endpoint windows not yet in the database, by minute.
    pub(crate) windows: HashMap<(UnixMs, Slot), Window>,
    /// Endpoints whose states are newer than their rows.
    pub(crate) unwritten: BTreeSet<Slot>,
    /// The last event of which all sequence numbers are in `endpoint_states`.
    pub(crate) states_upto: EventId,
    /// When all states were last written.
    pub(crate) states_at: UnixMs,
    /// Ended deliveries of events accepted before this are gone.
    pub(crate) deliveries_swept_before: UnixMs,
    /// Deliveries that have no row yet.
    pub(crate) fresh: BTreeMap<DeliveryId, Delivery>,
    /// Whether all daemons know that there are such deliveries.
    pub(crate) all_know_fresh: bool,
    /// The shards that this daemon decides about.
    pub(crate) shards: BTreeSet<Shard>,
    /// Those of them whose owner's sequence numbers are not written yet.
    pub(crate) unadopted: BTreeSet<Shard>,
    /// Those that are being given to another daemon: nothing new begins there.
    pub(crate) giving: BTreeSet<Shard>,
    /// The API keys, as of this revision or later.
    pub(crate) api_keys: ApiKeys,
    pub(crate) api_keys_revision: i64,
    /// The last entry of the audit log that this daemon wrote.
    pub(crate) last_audit: AuditId,
    /// In which form secrets are kept. The form that is written stays as it is while a daemon runs.
    pub(crate) at_rest: AtRest,
    pub(crate) keys: Arc<Keys>,
    /// Whether all daemons can read endpoints in a public and a private part.
    pub(crate) all_know_parts: bool,
    /// Whether all daemons know purges.
    pub(crate) all_know_purges: bool,
}

impl Memory {
    /// Adds what a row or a commit says of an API key.
    pub(crate) fn merge_api_key(&mut self, mut key: ApiKey) {
        if let Some(known) = self.api_keys.get(key.id) {
            key.merge(known);
        }
        self.api_keys.set(key);
    }

    /// Takes over the keys that the database has at a revision. Only keys that have ended are ever removed from it: one
    /// that is not among them was created since.
    pub(crate) fn take_api_keys(&mut self, keys: Vec<ApiKey>, revision: i64) {
        let found: BTreeSet<ApiKeyId> = keys.iter().map(|key| key.id).collect();
        let ended = |key: &&Arc<ApiKey>| key.ended_at(self.paced).is_some();
        let gone: Vec<ApiKeyId> = self
            .api_keys
            .iter()
            .filter(ended)
            .map(|key| key.id)
            .filter(|id| !found.contains(id))
            .collect();
        for id in gone {
            self.api_keys.remove(id);
        }
        for key in keys {
            self.merge_api_key(key);
        }
        self.api_keys_revision = revision;
    }

    /// Returns the earliest time that a batch may have: windows are counted in order.
    pub(crate) fn not_before(&self) -> UnixMs {
        let starts = self.counters.keys().map(|(_, start)| *start);
        starts.max().unwrap_or_default()
    }

    /// Returns what all daemons know: deliveries without a row, endpoints in two parts, and purges.
    pub(crate) fn all_know(&self) -> [bool; 3] {
        [
            self.all_know_fresh,
            self.all_know_parts,
            self.all_know_purges,
        ]
    }

    /// Whether this daemon decides about the organization.
    pub(crate) fn holds(&self, organization: &str) -> bool {
        let shard = Shard::of(organization);
        self.shards.contains(&shard) && !self.giving.contains(&shard)
    }

    /// Another daemon decides about these shards now. Returns their endpoints.
    pub(crate) fn lose(&mut self, shards: &BTreeSet<Shard>, open: u64) -> Vec<Slot> {
        let slots = self.slots_of(shards);
        for slot in &slots {
            self.directory.remove(*slot);
            self.unwritten.remove(slot);
        }
        if !self.directory.purges.is_empty() {
            let purges = Arc::make_mut(&mut self.directory.purges);
            purges.retain(|organization| !shards.contains(&Shard::of(organization)));
        }
        let lost: BTreeSet<Slot> = slots.iter().copied().collect();
        self.fresh.retain(|id, _| !lost.contains(&id.slot));
        self.directory.open = self.directory.open.saturating_sub(open);
        self.shards.retain(|shard| !shards.contains(shard));
        self.giving.retain(|shard| !shards.contains(shard));
        self.unadopted.retain(|shard| !shards.contains(shard));
        slots
    }

    /// Returns how many deliveries of these shards have no row yet.
    pub(crate) fn fresh_of(&self, shards: &BTreeSet<Shard>) -> usize {
        let slots: BTreeSet<Slot> = self.slots_of(shards).into_iter().collect();
        let of = self.fresh.keys().filter(|id| slots.contains(&id.slot));
        of.count()
    }

    /// Returns the endpoints of these shards, deleted ones too.
    pub(crate) fn slots_of(&self, shards: &BTreeSet<Shard>) -> Vec<Slot> {
        let of = self
            .directory
            .endpoints
            .values()
            .filter(|e| shards.contains(&Shard::of(&e.organization)));
        of.map(|e| e.slot).collect()
    }
}

/// What the lane and the readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    /// Those of the options that can change.
    limits: RwLock<Limits>,
    memory: RwLock<Memory>,
    /// The connection for questions.
    link: RwLock<Arc<Link>>,
    recent: Mutex<Recent>,
    /// The number of the lane, which is that of the seat.
    pub(crate) lane: Seat,
    pub(crate) lease: Lease,
    pub(crate) clock: Clock,
}

impl Shared {
    pub(crate) fn new(
        options: Options,
        memory: Memory,
        link: Arc<Link>,
        lane: Seat,
        (lease, clock): (Lease, Clock),
    ) -> Arc<Self> {
        Arc::new(Self {
            limits: RwLock::new(Limits {
                pending: options.pending_limit,
                endpoints_per_organization: options.endpoints_per_organization,
            }),
            options,
            memory: RwLock::new(memory),
            link: RwLock::new(link),
            recent: Mutex::default(),
            lane,
            lease,
            clock,
        })
    }

    /// Returns the connection for questions. After a failure it is opened again.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, StoreError> {
        let known = self
            .link
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if !known.client.is_closed() {
            return Ok(known);
        }
        let fresh = Link::open(&self.options).await?;
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        Ok(fresh)
    }

    /// The events that were accepted last.
    pub(crate) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic elsewhere leaves no partial change behind these locks: each holder replaces values as a whole.
    pub(crate) fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn memory_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the limits, of which pending deliveries are for all daemons.
    pub(crate) fn limits(&self) -> Limits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }
}
