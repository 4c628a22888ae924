//! Accepts events: idempotency, fan-out, ids and sequence numbers.

use super::{Batch, Decision, Storage, refused};
use crate::command::{Accepted, Refusal};
use crate::delivery::{Delivery, Trigger};
use crate::error::StoreError;
use crate::event::{Event, NewEvent};
use crate::fingerprint::Fingerprint;
use crate::ids::{DeliveryId, EventId, Slot};
use std::sync::Arc;

impl<S: Storage> Batch<'_, S> {
    pub(super) fn accept(&mut self, new: &NewEvent) -> Decision<Accepted> {
        if !self.storage.holds(&new.organization) {
            return refused(Refusal::NotHeld);
        }
        let fingerprint = new
            .idempotency_key
            .as_deref()
            .map(|key| Fingerprint::of(&new.organization, key));
        if let Some(fingerprint) = fingerprint
            && let Some(event) = self.known_under(fingerprint)?
        {
            return if event.is_same_as(new) {
                self.count(|c| c.replays += 1)?;
                Ok(Ok(Accepted {
                    event,
                    replayed: true,
                }))
            } else {
                self.count(|c| c.conflicts += 1)?;
                refused(Refusal::IdempotencyConflict)
            };
        }
        let targets = self.subscribers(new);
        let fan_out = u64::try_from(targets.len()).unwrap_or(u64::MAX);
        if self.open.saturating_add(fan_out) > self.limits.pending {
            return refused(Refusal::Full);
        }
        let event = self.store_event(new, &targets)?;
        if let Some(fingerprint) = fingerprint {
            self.keys.insert(fingerprint, event.id);
        }
        Ok(Ok(Accepted {
            event,
            replayed: false,
        }))
    }

    /// Returns the event of a key that has not expired.
    fn known_under(&self, fingerprint: Fingerprint) -> Result<Option<Arc<Event>>, StoreError> {
        let Some(id) = self.key(fingerprint)? else {
            return Ok(None);
        };
        let event = self.event(id)?;
        // Only the sweep removes events. Accepted again, this one would be sent twice.
        if event.is_none() && id.accepted_at() >= self.storage.swept_before() {
            return Err(StoreError::damaged(
                format!("event {id}"),
                "its idempotency key is known, and it is missing",
            ));
        }
        Ok(event)
    }

    pub(super) fn subscribers(&self, new: &NewEvent) -> Vec<Slot> {
        let subscribed = |slot: &Slot| {
            self.endpoint(*slot).is_some_and(|e| {
                e.organization == new.organization
                    && e.receives()
                    && e.subscribes_to(&new.event_type)
            })
        };
        let known = self.directory.by_organization.get(&new.organization);
        let mut slots: Vec<Slot> = known
            .into_iter()
            .flatten()
            .copied()
            .filter(subscribed)
            .collect();
        if !self.endpoints.is_empty() {
            let fresh = |slot: &&Slot| self.directory.endpoint(**slot).is_none();
            let mut made: Vec<Slot> = self
                .endpoints
                .keys()
                .filter(fresh)
                .copied()
                .filter(subscribed)
                .collect();
            made.sort_unstable();
            slots.extend(made);
        }
        slots
    }

    pub(super) fn store_event(
        &mut self,
        new: &NewEvent,
        targets: &[Slot],
    ) -> Result<Arc<Event>, StoreError> {
        // Everything that can fail on a damaged row comes before the first change.
        self.count(|c| c.accepted += 1)?;
        let random = self.next_random();
        let id = EventId::following(self.numbers.last_event, self.now, random);
        self.numbers.last_event = id;
        let event = Arc::new(Event {
            id,
            organization: new.organization.clone(),
            event_type: new.event_type.clone(),
            timestamp: new.timestamp.map_or(self.now.into(), |given| given.at),
            timestamp_text: new.timestamp.map(|given| given.text),
            idempotency_key: new.idempotency_key.clone(),
            deliveries: u32::try_from(targets.len()).unwrap_or(u32::MAX),
            data: Some(new.data.clone()),
        });
        self.events.push(Arc::clone(&event));
        for slot in targets {
            self.create_delivery(id, *slot, Trigger::Schedule)?;
        }
        Ok(event)
    }

    /// Creates a delivery in its first round, with its endpoint's next sequence number.
    pub(super) fn create_delivery(
        &mut self,
        event: EventId,
        slot: Slot,
        trigger: Trigger,
    ) -> Result<Delivery, StoreError> {
        let mut state = self.state(slot);
        state.last_sequence += 1;
        self.states.insert(slot, state);
        self.created.push((slot, state.last_sequence, event));
        let id = DeliveryId { event, slot };
        let mut delivery = Delivery::created(id, state.last_sequence, trigger, self.now);
        self.put_delivery(None, &mut delivery)?;
        Ok(delivery)
    }
}
