//! Accepts events: idempotency, fan-out, ids and sequence numbers.

use super::{Batch, Decision, Storage, refused};
use crate::command::{AcceptEmitted, Accepted, Refusal};
use crate::delivery::{Delivery, Trigger};
use crate::error::StoreError;
use crate::event::{EmittedEvent, Event, NewEvent};
use crate::fingerprint::Fingerprint;
use crate::ids::{DeliveryId, EventId, Slot};
use std::sync::Arc;

impl<S: Storage> Batch<'_, S> {
    pub(super) fn accept(&mut self, new: &NewEvent) -> Decision<Accepted> {
        self.accept_as(new, None)
    }

    /// Accepts events of an outbox, up to the first that there is no room for.
    pub(super) fn accept_emitted(
        &mut self,
        emitted: &AcceptEmitted,
    ) -> Decision<Vec<Result<Accepted, Refusal>>> {
        let mut decided = Vec::with_capacity(emitted.events.len());
        let mut is_missing = false;
        for EmittedEvent { id, event } in &emitted.events {
            match self.accept_as(event, Some(*id)) {
                Ok(Err(Refusal::NotHeld | Refusal::Full)) if !decided.is_empty() => break,
                Ok(Err(refusal @ (Refusal::NotHeld | Refusal::Full))) => return refused(refusal),
                Ok(answer) => decided.push(answer),
                // The others are decided nevertheless, to learn what they need.
                Err(StoreError::NotFetched) => is_missing = true,
                // Those before it are stored. It comes first the next time.
                Err(StoreError::Damaged { .. }) if !decided.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        if is_missing {
            return Err(StoreError::NotFetched);
        }
        Ok(Ok(decided))
    }

    /// Accepts an event, which may have an id of an outbox.
    fn accept_as(&mut self, new: &NewEvent, emitted: Option<EventId>) -> Decision<Accepted> {
        if !self.storage.holds(&new.organization) {
            return refused(Refusal::NotHeld);
        }
        if let Some(id) = emitted
            && let Some(event) = self.stored_as(id)?
        {
            return Ok(Ok(Accepted {
                event,
                replayed: true,
            }));
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
        let event = self.store_event(new, &targets, emitted)?;
        if let Some(id) = emitted
            && id != event.id
        {
            self.keys.insert(Fingerprint::of_emitted(id), event.id);
        }
        if let Some(fingerprint) = fingerprint {
            self.keys.insert(fingerprint, event.id);
        }
        Ok(Ok(Accepted {
            event,
            replayed: false,
        }))
    }

    /// Returns the event of an outbox, if it was stored before.
    fn stored_as(&self, id: EventId) -> Result<Option<Arc<Event>>, StoreError> {
        if let Some(event) = self.known_under(Fingerprint::of_emitted(id))? {
            return Ok(Some(event));
        }
        // With its own id: this store takes any, or it was moved here from one that does.
        match self.event(id) {
            // Other events are stored there. This one is unlikely to be among them, and must not hold up those after it.
            Err(StoreError::Damaged { .. }) if !self.storage.takes_any_id() => Ok(None),
            found => found,
        }
    }

    /// Returns the event of a key that has not expired.
    fn known_under(&self, fingerprint: Fingerprint) -> Result<Option<Arc<Event>>, StoreError> {
        let Some(id) = self.key(fingerprint)? else {
            return Ok(None);
        };
        let event = self.event(id)?;
        // Of a removed event the id is left; else only the sweep removes events. Accepted again, this one would be sent
        // twice.
        if event.is_none()
            && id.accepted_at() >= self.storage.swept_before()
            && self.storage.event(id)?.is_none()
        {
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
        emitted: Option<EventId>,
    ) -> Result<Arc<Event>, StoreError> {
        // Everything that can fail on a damaged row comes before the first change.
        self.count(|c| c.accepted += 1)?;
        let random = self.next_random();
        let next = EventId::following(self.numbers.last_event, self.now, random);
        let id = emitted.filter(|id| self.may_be(*id)).unwrap_or(next);
        // An outbox whose clock is ahead must not take the store's clock along.
        if id.accepted_at() <= self.now || id == next {
            self.numbers.last_event = self.numbers.last_event.max(id);
        }
        let occurred = emitted.map_or(self.now, EventId::accepted_at);
        let event = Arc::new(Event {
            id,
            organization: new.organization.clone(),
            event_type: new.event_type.clone(),
            timestamp: new.timestamp.map_or(occurred.into(), |given| given.at),
            timestamp_text: new.timestamp.map(|given| given.text),
            idempotency_key: new.idempotency_key.clone(),
            deliveries: u32::try_from(targets.len()).unwrap_or(u32::MAX),
            data: Some(new.data.clone()),
        });
        let in_order = self.events.last().is_none_or(|last| last.id < id);
        let at = if in_order {
            self.events.len()
        } else {
            self.events.partition_point(|e| e.id < id)
        };
        self.events.insert(at, Arc::clone(&event));
        for slot in targets {
            self.create_delivery(id, *slot, Trigger::Schedule)?;
        }
        Ok(event)
    }

    /// Whether an event of an outbox may keep its id: then it must not be past its retention from the start.
    fn may_be(&self, id: EventId) -> bool {
        self.storage.takes_any_id() && id.accepted_at() >= self.storage.swept_before()
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
