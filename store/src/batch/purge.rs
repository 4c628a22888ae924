//! Begins purges and deletes organizations, and writes what they remove, a bounded number of rows at a time.

use super::{Batch, Decision, IndexedState, Storage, refused};
use crate::api_key::ApiKey;
use crate::command::{
    BeginPurge, DeleteEndpoint, DeleteOrganization, DeletedOrganization, Refusal,
};
use crate::error::StoreError;
use crate::ids::{ApiKeyId, DeliveryId, EndpointId, EventId, Slot};
use crate::maintenance::{AdvancePurge, PurgeAdvanced};
use crate::op::Change;
use crate::purge::{PURGES, Purge, PurgeEffect, PurgeScope};
use std::collections::BTreeSet;
use std::sync::Arc;

impl<S: Storage> Batch<'_, S> {
    pub(super) fn begin_purge(&mut self, begin: &BeginPurge) -> Decision<Purge> {
        if let Some(refusal) = self.refuses_purge(&begin.organization) {
            return refused(refusal);
        }
        let scope = match &begin.scope {
            PurgeScope::Before(until) => PurgeScope::Before((*until).min(self.next_event())),
            PurgeScope::Events(events) => {
                let events: BTreeSet<EventId> = events.iter().copied().collect();
                PurgeScope::Events(events.into_iter().collect())
            }
        };
        self.start_purge(&begin.organization, scope, PurgeEffect::Data)
            .map(Ok)
    }

    pub(super) fn delete_organization(
        &mut self,
        delete: &DeleteOrganization,
    ) -> Decision<DeletedOrganization> {
        let organization = delete.organization.as_str();
        if let Some(refusal) = self.refuses_purge(organization) {
            return refused(refusal);
        }
        let live = self.live_endpoints_of(organization);
        let endpoints: Vec<EndpointId> = live.map(|endpoint| endpoint.id).collect();
        for id in &endpoints {
            // It is live, so that it is not refused.
            let _deleted = self.delete_endpoint(DeleteEndpoint { id: *id })?;
        }
        let now = self.now;
        let keys = self.live_api_keys(organization);
        for key in &keys {
            let revoked = ApiKey {
                revoked_at: Some(now),
                ..key.clone()
            };
            self.api_keys.insert(key.id, revoked);
        }
        let scope = PurgeScope::Before(self.next_event());
        self.start_purge(organization, scope, PurgeEffect::All)?;
        Ok(Ok(DeletedOrganization {
            endpoints: endpoints.len(),
            api_keys: keys.len(),
        }))
    }

    fn refuses_purge(&self, organization: &str) -> Option<Refusal> {
        if !self.storage.holds(organization) {
            Some(Refusal::NotHeld)
        } else if !self.storage.may_purge() {
            Some(Refusal::NotByAll)
        } else if self.purges.len() >= PURGES {
            Some(Refusal::TooManyPurges)
        } else {
            None
        }
    }

    /// Returns the first id that no event has yet.
    fn next_event(&self) -> EventId {
        EventId(self.numbers.last_event.0.saturating_add(1))
    }

    /// Returns the API keys of an organization that were not revoked.
    fn live_api_keys(&self, organization: &str) -> Vec<ApiKey> {
        let is_of = |key: &&ApiKey| key.organization.as_deref() == Some(organization);
        let changed = self.api_keys.values().filter(is_of).cloned();
        let known = self.storage.api_keys_of(organization).into_iter();
        let known = known.filter(|key| !self.api_keys.contains_key(&key.id));
        let all = changed.chain(known);
        all.filter(|key| key.revoked_at.is_none()).collect()
    }

    fn start_purge(
        &mut self,
        organization: &str,
        scope: PurgeScope,
        effect: PurgeEffect,
    ) -> Result<Purge, StoreError> {
        let purge = Purge {
            organization: organization.to_owned(),
            scope,
            effect,
            at: self.now,
            number: self.numbers.next_bulk,
        };
        self.storage.put_purge(&purge)?;
        self.numbers.next_bulk += 1;
        Arc::make_mut(&mut self.purges).insert(purge.clone());
        self.changes.push(Change::Purge(Arc::new(purge.clone())));
        Ok(purge)
    }

    pub(super) fn advance_purge(
        &mut self,
        advance: &AdvancePurge,
    ) -> Result<PurgeAdvanced, StoreError> {
        let of = self.purges.of(&advance.organization).iter();
        let Some(purge) = of.clone().find(|purge| purge.number == advance.number) else {
            return Ok(PurgeAdvanced { finished: true });
        };
        let purge = purge.clone();
        for (event, slots) in &advance.events {
            for slot in slots {
                self.purge_delivery(
                    DeliveryId {
                        event: *event,
                        slot: *slot,
                    },
                    purge.effect,
                )?;
            }
        }
        let events: Vec<EventId> = advance.events.iter().map(|(event, _)| *event).collect();
        self.storage.purge_events(&events, purge.effect)?;
        let finished =
            advance.ends && (purge.effect == PurgeEffect::Data || self.forgets(&purge)?);
        if finished {
            self.storage.remove_purge(&purge)?;
            Arc::make_mut(&mut self.purges).remove(&purge.organization, purge.number);
        }
        Ok(PurgeAdvanced { finished })
    }

    /// A damaged delivery is left for `check`, so that it doesn't block the others.
    fn purge_delivery(&mut self, id: DeliveryId, effect: PurgeEffect) -> Result<(), StoreError> {
        let stored = match self.delivery(id) {
            Err(StoreError::Damaged { .. }) => None,
            stored => stored?,
        };
        let Some(mut delivery) = stored else {
            return Ok(());
        };
        let before = IndexedState::of(&delivery);
        match effect {
            PurgeEffect::Data => {
                let as_it_was = delivery.clone();
                delivery.purged(self.now);
                if delivery == as_it_was {
                    return Ok(());
                }
                self.put_delivery(Some(before), &mut delivery)
            }
            PurgeEffect::All => {
                self.storage.remove_delivery(before, &delivery)?;
                if before.due.is_some() {
                    self.open = self.open.saturating_sub(1);
                    self.changes.push(Change::Ended(id));
                }
                Ok(())
            }
        }
    }

    /// Removes what is left of an organization whose events are gone: endpoints and API keys that it had. Returns false
    /// if more is left.
    fn forgets(&mut self, purge: &Purge) -> Result<bool, StoreError> {
        let deleted = self.directory.deleted_of.get(&purge.organization);
        let deleted = deleted.into_iter().flatten().copied();
        let of_purge = |slot: &Slot| {
            let endpoint = self.endpoint(*slot);
            let deleted_at = endpoint.and_then(|endpoint| endpoint.deleted_at);
            deleted_at.is_some_and(|at| at <= purge.at)
        };
        let slots: Vec<Slot> = deleted.filter(of_purge).collect();
        let (busy, idle): (Vec<Slot>, Vec<Slot>) = slots
            .into_iter()
            .partition(|slot| self.bulks.contains_key(slot));
        if S::forget_endpoints(self, &idle)? || !busy.is_empty() {
            return Ok(false);
        }
        let revoked = |key: &ApiKey| key.revoked_at.is_some() && key.created_at <= purge.at;
        let keys = self.storage.api_keys_of(&purge.organization).into_iter();
        for key in keys.filter(revoked) {
            self.remove_api_key(key.id)?;
        }
        Ok(true)
    }

    pub(crate) fn remove_api_key(&mut self, id: ApiKeyId) -> Result<(), StoreError> {
        self.api_keys.remove(&id);
        self.storage.remove_api_key(id)
    }
}
