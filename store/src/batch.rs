//! One batch: operations are decided one after the other, on a [`Directory`] in memory, on a [`Storage`], and on what
//! the batch has staged so far.
//!
//! Nothing in shared memory changes here. The store writes what is staged, and makes its memory match when the commit
//! is durable; so a failed commit leaves memory as it was, and a batch can be decided again.

mod accept;
mod api_keys;
mod audit;
mod bulk;
mod counters;
mod damaged;
mod endpoints;
mod purge;
mod rounds;
mod settle;
mod storage;

pub use storage::Storage;

use crate::api_key::ApiKey;
use crate::audit::AuditEntry;
use crate::bulk::{Bulks, apply};
use crate::command::Refusal;
use crate::delivery::{Delivery, Status};
use crate::directory::Directory;
use crate::endpoint::{Endpoint, EndpointState};
use crate::error::StoreError;
use crate::event::Event;
use crate::fingerprint::Fingerprint;
use crate::ids::{ApiKeyId, DeliveryId, EventId, Now, Slot, UnixMs};
use crate::maintenance::{FlushStats, Probe};
use crate::op::{Change, Done, Op};
use crate::purge::Purges;
use crate::sealing::Nonce;
use crate::stats::{Counters, Level, Window};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The last number given of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// The last event.
    pub last_event: EventId,
    /// The last stamp of a bulk change.
    pub last_stamp: u64,
    /// The number of the next endpoint.
    pub next_slot: u32,
    /// The number of the next bulk change.
    pub next_bulk: u64,
}

/// The limits that a batch enforces.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open deliveries.
    pub pending: u64,
    /// Endpoints of one organization, without deleted ones.
    pub endpoints_per_organization: usize,
}

/// See the module. The fields are what the store writes, and what changes in its memory after the commit.
pub struct Batch<'a, S> {
    /// The rows.
    pub storage: S,
    /// The directory as of the last commit.
    pub directory: &'a Directory,
    limits: Limits,
    now: UnixMs,
    /// The time used for expiry.
    pub paced: UnixMs,
    /// The source of ids.
    random: ChaCha8Rng,
    /// The numbers after the batch.
    pub numbers: Numbers,
    /// The events, in order of their ids.
    pub events: Vec<Arc<Event>>,
    /// The new idempotency keys.
    pub keys: HashMap<Fingerprint, EventId>,
    /// The new deliveries, in order of sequence within each endpoint.
    pub created: Vec<(Slot, u64, EventId)>,
    /// The states that changed.
    pub states: HashMap<Slot, EndpointState>,
    /// The counters of all endpoints that changed, as they are now.
    pub counters: BTreeMap<(Level, UnixMs), Counters>,
    /// The endpoints that are new or changed.
    pub endpoints: BTreeMap<Slot, Arc<Endpoint>>,
    /// Additions to the windows of this minute.
    pub windows: HashMap<(UnixMs, Slot), Window>,
    /// Endpoints that were removed.
    pub forgotten: BTreeSet<Slot>,
    /// The number of open deliveries.
    pub open: u64,
    /// The bulk changes in progress.
    pub bulks: Arc<Bulks>,
    /// The purges in progress.
    pub purges: Arc<Purges>,
    /// The API keys that are new or changed.
    pub api_keys: BTreeMap<ApiKeyId, ApiKey>,
    /// The entries of the audit log.
    pub audit: Vec<AuditEntry>,
    /// The changes to the queues.
    pub changes: Vec<Change>,
}

impl<'a, S: Storage> Batch<'a, S> {
    /// Begins a batch. `now` is not before the last event and the last commit.
    pub fn new(
        storage: S,
        directory: &'a Directory,
        limits: Limits,
        numbers: Numbers,
        now: Now,
        random: u128,
    ) -> Self {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(&random.to_le_bytes());
        Self {
            storage,
            directory,
            limits,
            // The store's time never goes back, even if the clock does.
            now: now.at.max(numbers.last_event.accepted_at()),
            paced: now.paced,
            random: ChaCha8Rng::from_seed(seed),
            numbers,
            events: Vec::new(),
            keys: HashMap::new(),
            created: Vec::new(),
            states: HashMap::new(),
            counters: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            windows: HashMap::new(),
            forgotten: BTreeSet::new(),
            open: directory.open,
            bulks: Arc::clone(&directory.bulks),
            purges: Arc::clone(&directory.purges),
            api_keys: BTreeMap::new(),
            audit: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Decides one operation. A damaged row fails this operation, not the batch.
    pub fn run(&mut self, op: &Op) -> Result<Done, StoreError> {
        let done = match op {
            Op::Accept(new) => self.accept(new).map(Done::Accept),
            Op::AcceptEmitted(emitted) => self.accept_emitted(emitted).map(Done::AcceptEmitted),
            Op::Settle(settle) => self.settle(settle).map(Done::Settle),
            Op::CreateEndpoint(create) => self.create_endpoint(create).map(Done::CreateEndpoint),
            Op::UpdateEndpoint(update) => self.update_endpoint(update).map(Done::UpdateEndpoint),
            Op::DeleteEndpoint(delete) => self.delete_endpoint(*delete).map(Done::DeleteEndpoint),
            Op::RotateSecret(rotate) => self.rotate_secret(rotate).map(Done::RotateSecret),
            Op::Retry(retry) => self.retry(*retry).map(Done::Retry),
            Op::Cancel(cancel) => self.cancel(*cancel).map(Done::Cancel),
            Op::Replay(replay) => self.replay(*replay).map(Done::Replay),
            Op::Recover(recover) => self.recover(recover).map(Done::Recover),
            Op::BeginPurge(begin) => self.begin_purge(begin).map(Done::BeginPurge),
            Op::DeleteOrganization(delete) => self
                .delete_organization(delete)
                .map(Done::DeleteOrganization),
            Op::AdvancePurge(advance) => self.advance_purge(advance).map(Done::AdvancePurge),
            Op::CreateApiKey(create) => self.create_api_key(create).map(Done::CreateApiKey),
            Op::RevokeApiKey(revoke) => self.revoke_api_key(*revoke).map(Done::RevokeApiKey),
            Op::TouchApiKeys(touch) => self.touch_api_keys(touch).map(Done::TouchApiKeys),
            // Without an attribution nobody is known to have done it.
            Op::RecordAudit(_) => Ok(Done::RecordAudit(Ok(()))),
            Op::Attributed(attributed) => self.attributed(attributed),
            Op::AdvanceBulk(advance) => self.advance_bulk(advance).map(Done::AdvanceBulk),
            Op::EndDamaged(end) => self.end_damaged(*end).map(Done::EndDamaged),
            Op::FlushStats(FlushStats) => S::flush_stats(self).map(Done::FlushStats),
            Op::Sweep(sweep) => S::sweep(self, sweep).map(Done::Sweep),
            Op::Reseal(reseal) => S::reseal(self, reseal).map(Done::Reseal),
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

    /// Returns an endpoint as the batch has left it so far.
    pub fn endpoint(&self, slot: Slot) -> Option<Arc<Endpoint>> {
        let kept = || self.directory.endpoint(slot);
        let kept = || kept().filter(|_| !self.forgotten.contains(&slot));
        self.endpoints.get(&slot).or_else(kept).cloned()
    }

    fn state(&self, slot: Slot) -> EndpointState {
        self.states
            .get(&slot)
            .copied()
            .unwrap_or_else(|| self.directory.state(slot))
    }

    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, StoreError> {
        match self.events.binary_search_by_key(&id, |e| e.id) {
            Ok(at) => Ok(self.events.get(at).cloned()),
            Err(_) => {
                let stored = self.storage.event(id)?;
                Ok(stored.and_then(|event| self.purges.shown(event)))
            }
        }
    }

    /// Returns what a key that has not expired refers to: an event, or an endpoint's id as one.
    fn key(&self, fingerprint: Fingerprint) -> Result<Option<EventId>, StoreError> {
        match self.keys.get(&fingerprint) {
            Some(id) => Ok(Some(*id)),
            None => self.storage.key(fingerprint, self.paced),
        }
    }

    /// Returns the delivery as readers see it, and updates its row to that.
    fn delivery(&mut self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let Some(mut delivery) = self.storage.delivery(id)? else {
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

    /// Writes a delivery, and announces the change. `before` is the row that it replaces.
    fn put_delivery(
        &mut self,
        before: Option<IndexedState>,
        d: &mut Delivery,
    ) -> Result<(), StoreError> {
        not_before_acceptance(d);
        // Every bulk change so far has been applied to it.
        d.stamp = self.numbers.last_stamp;
        self.storage.put_delivery(before, d)?;
        let was_open = before.is_some_and(|b| b.due.is_some());
        if was_open {
            self.open = self.open.saturating_sub(1);
        }
        if let Some(waiting) = d.queue_entry() {
            self.open += 1;
            self.changes.push(Change::Waiting(waiting));
        } else if was_open {
            self.changes.push(Change::Ended(d.id));
        }
        Ok(())
    }

    /// Returns a random number. None reveals another; all derive from the one that the commit was given.
    fn next_random(&mut self) -> u128 {
        let (high, low) = (self.random.next_u64(), self.random.next_u64());
        u128::from(high) << 64 | u128::from(low)
    }

    /// Returns a nonce for one private part.
    pub fn nonce(&mut self) -> Nonce {
        let mut nonce = Nonce::default();
        self.random.fill_bytes(&mut nonce);
        nonce
    }
}

/// The fields of a delivery that its places in indexes depend on.
#[derive(Clone, Copy, Debug)]
pub struct IndexedState {
    /// Its status.
    pub status: Status,
    /// When it is due, if it is open.
    pub due: Option<UnixMs>,
}

impl IndexedState {
    pub(crate) fn of(d: &Delivery) -> Self {
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
