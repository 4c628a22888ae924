//! Endpoints: creation, change, deletion, secrets.
//!
//! Ending many deliveries is a bulk change: the rows are written later.

use super::{Batch, Decision, Storage, refused};
use crate::bulk::BulkEffect;
use crate::command::{
    CreateEndpoint, Created, DeleteEndpoint, EndpointKey, Refusal, RotateSecret, UpdateEndpoint,
};
use crate::delivery::Reason;
use crate::endpoint::{
    Endpoint, LIVE_SECRETS, LiveSecret, NewEndpoint, Revision, Seed, holds_from,
};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::ids::{EndpointId, EventId, Slot};
use crate::op::Change;
use std::sync::Arc;

impl<S: Storage> Batch<'_, S> {
    pub(super) fn create_endpoint(&mut self, create: &CreateEndpoint) -> Decision<Created> {
        let new = (*create.new).clone();
        if !self.storage.holds(&new.organization) {
            return refused(Refusal::NotHeld);
        }
        if let Some(key) = &create.key {
            return self.create_endpoint_once(new, key);
        }
        let created = self.new_endpoint(new)?;
        Ok(created.map(|endpoint| Created {
            endpoint,
            replayed: false,
        }))
    }

    /// Creates an endpoint, or returns the one that the same request created with this key.
    fn create_endpoint_once(&mut self, new: NewEndpoint, key: &EndpointKey) -> Decision<Created> {
        let of_key = Fingerprint::of_endpoint(&new.organization, &key.key);
        let of_request = Fingerprint::of_request(&new.organization, &key.key, &key.request);
        if let Some(id) = self.key(of_key)? {
            let same = self.key(of_request)? == Some(id);
            return match self.live_endpoint(EndpointId(id.0)) {
                Some(endpoint) if same => Ok(Ok(Created {
                    endpoint,
                    replayed: true,
                })),
                // The key's endpoint was deleted. A new one would have another id.
                _ => refused(Refusal::EndpointKeyConflict),
            };
        }
        Ok(self.new_endpoint(new)?.map(|endpoint| {
            // An endpoint's id has its time in the same place as an event's id.
            let id = EventId(endpoint.id.0);
            self.keys.insert(of_key, id);
            self.keys.insert(of_request, id);
            Created {
                endpoint,
                replayed: false,
            }
        }))
    }

    fn new_endpoint(&mut self, new: NewEndpoint) -> Decision<Arc<Endpoint>> {
        let live = self.live_endpoints_of(&new.organization).count();
        if live >= self.limits.endpoints_per_organization {
            return refused(Refusal::TooManyEndpoints);
        }
        let slot = Slot(self.numbers.next_slot);
        self.numbers.next_slot += 1;
        let endpoint = Endpoint {
            id: new.id,
            slot,
            organization: new.organization,
            settings: new.settings,
            secrets: vec![LiveSecret {
                secret: new.secret,
                seed: new.seed,
                until: None,
            }],
            sealed: None,
            created_at: self.now,
            updated_at: self.now,
            deleted_at: None,
        };
        self.put_endpoint(endpoint).map(Ok)
    }

    pub(super) fn update_endpoint(&mut self, update: &UpdateEndpoint) -> Decision<Arc<Endpoint>> {
        let Some(endpoint) = self.live_endpoint(update.id) else {
            return refused(Refusal::NotFound);
        };
        let mut change = (*update.change).clone();
        let mut e = (*endpoint).clone();
        let activates = change.active == Some(true) && !endpoint.active;
        let discards = change.discard_held && activates;
        if discards && !self.may_begin_bulk(e.slot) {
            return refused(Refusal::TooManyBulk);
        }
        if let Some(seed) = change.seed.take() {
            switch_ed25519(&mut e, seed);
        }
        change.apply_to(&mut e.settings);
        if activates {
            e.settings.disabled_reason = None;
            let mut state = self.state(e.slot);
            state.failure_count = 0;
            state.failing_since = None;
            self.states.insert(e.slot, state);
        }
        if e.has_settings_of(&endpoint) && !discards {
            return Ok(Ok(endpoint));
        }
        if discards {
            let reason = Reason::Discarded;
            self.begin_bulk(e.slot, BulkEffect::End { reason })?;
        }
        self.put_endpoint(e).map(Ok)
    }

    pub(super) fn delete_endpoint(&mut self, delete: DeleteEndpoint) -> Decision<Arc<Endpoint>> {
        let Some(endpoint) = self.live_endpoint(delete.id) else {
            return refused(Refusal::NotFound);
        };
        let mut e = (*endpoint).clone();
        e.settings.active = false;
        e.deleted_at = Some(self.now);
        // The record stays for readers of its deliveries; it keeps no secrets.
        e.secrets.clear();
        e.settings.headers.0.clear();
        e.settings.tls = None;
        let reason = Reason::EndpointDeleted;
        self.begin_bulk(e.slot, BulkEffect::End { reason })?;
        self.put_endpoint(e).map(Ok)
    }

    pub(super) fn rotate_secret(&mut self, rotate: &RotateSecret) -> Decision<Arc<Endpoint>> {
        let Some(endpoint) = self.live_endpoint(rotate.id) else {
            return refused(Refusal::NotFound);
        };
        let RotateSecret {
            secret,
            seed,
            overlap_ms,
            ..
        } = rotate;
        let mut e = (*endpoint).clone();
        let now = self.paced;
        let until = now.plus_ms(*overlap_ms);
        if e.live_secrets(now)
            .any(|live| live.secret.is_same_as(secret))
        {
            return refused(Refusal::SecretLive);
        }
        let mut secrets = vec![LiveSecret {
            secret: secret.clone(),
            seed: e.signs_with_ed25519().then(|| seed.clone()),
            until: None,
        }];
        if *overlap_ms > 0 {
            secrets.extend(e.live_secrets(now).map(|live| LiveSecret {
                secret: live.secret.clone(),
                seed: live.seed.clone(),
                until: Some(live.until.unwrap_or(until)),
            }));
        }
        secrets.truncate(LIVE_SECRETS);
        e.secrets = secrets;
        self.put_endpoint(e).map(Ok)
    }

    /// Returns the endpoints of an organization that are not deleted.
    pub(super) fn live_endpoints_of(
        &self,
        organization: &str,
    ) -> impl Iterator<Item = Arc<Endpoint>> {
        let known = self.directory.by_organization.get(organization);
        let known = known.into_iter().flatten();
        let known = known.filter_map(|slot| self.endpoint(*slot));
        let is_new = |e: &&Arc<Endpoint>| self.directory.endpoint(e.slot).is_none();
        let made = self.endpoints.values().filter(is_new).cloned();
        let all = known.chain(made);
        all.filter(move |e| e.organization == organization && e.deleted_at.is_none())
    }

    pub(super) fn live_endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        let slot = self.directory.by_id.get(&id).copied().or_else(|| {
            let made = self.endpoints.values().find(|e| e.id == id)?;
            Some(made.slot)
        })?;
        self.endpoint(slot).filter(|e| e.deleted_at.is_none())
    }

    /// Stages an endpoint's row and, if what it receives has changed, a revision from the next event on.
    pub(super) fn put_endpoint(&mut self, mut e: Endpoint) -> Result<Arc<Endpoint>, StoreError> {
        e.updated_at = self.now;
        let before = self.endpoint(e.slot);
        let same = before.is_some_and(|b| {
            b.active == e.active && b.event_types == e.event_types && b.deleted_at == e.deleted_at
        });
        if !same {
            let revision = Revision {
                active: e.active,
                deleted: e.deleted_at.is_some(),
                event_types: e.event_types.clone(),
            };
            let from = holds_from(self.numbers.last_event);
            self.storage.put_revision(e.slot, from, &revision)?;
        }
        let endpoint = Arc::new(e);
        self.endpoints.insert(endpoint.slot, Arc::clone(&endpoint));
        self.changes.push(Change::Endpoint(Arc::clone(&endpoint)));
        Ok(endpoint)
    }
}

/// Gives the current secret the seed, unless it already has one: the public key that partners know stays. `None`
/// removes all seeds.
fn switch_ed25519(e: &mut Endpoint, seed: Option<Seed>) {
    match seed {
        Some(seed) => {
            if let Some(current) = e.secrets.first_mut() {
                current.seed.get_or_insert(seed);
            }
        }
        None => e.secrets.iter_mut().for_each(|live| live.seed = None),
    }
}
