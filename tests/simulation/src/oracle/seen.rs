//! What one commit did, collected before it is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stormhook_store::{Created, Delivery, DeliveryId, Done, Endpoint, EventId, Recover, Slot};

/// What one commit did.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) touched: BTreeSet<DeliveryId>,
    pub(super) ended: BTreeSet<DeliveryId>,
    /// Attempts recorded for each delivery.
    pub(super) recorded: BTreeMap<DeliveryId, u32>,
    pub(super) marked: BTreeSet<Slot>,
    pub(super) configured: BTreeSet<Slot>,
    /// Endpoints that the daemon itself disabled, and why, in that order.
    pub(super) switched_off: Vec<(Slot, String)>,
    pub(super) accepted: BTreeSet<EventId>,
    /// Events that the daemon itself stored.
    pub(super) noticed: BTreeSet<EventId>,
    /// How many operations on one delivery there were.
    pub(super) operated: BTreeMap<DeliveryId, u32>,
    /// By place among the operations: the first that left a delivery ended, the first that changed an endpoint (which
    /// may have ended all its open deliveries), and the recoveries.
    pub(super) ends: BTreeMap<DeliveryId, usize>,
    pub(super) changed: BTreeMap<Slot, usize>,
    pub(super) recovers: Vec<(usize, Recover)>,
    /// Endpoints whose bulk changes were written in part.
    pub(super) advanced: BTreeSet<Slot>,
    pub(super) swept: bool,
}

impl Seen {
    /// Notes the place of an operation among those of its commit.
    pub(super) fn note_place(&mut self, at: usize, done: &Done) {
        if let Some(delivery) = commanded(done) {
            *self.operated.entry(delivery.id).or_default() += 1;
        }
        let settled = match done {
            Done::Settle(Ok(delivery)) => Some(&**delivery),
            _ => None,
        };
        if let Some(delivery) = commanded(done).or(settled)
            && !delivery.status.is_open()
        {
            self.ends.entry(delivery.id).or_insert(at);
        }
        if let Some(endpoint) = configured(done) {
            self.changed.entry(endpoint.slot).or_insert(at);
        }
        if let Done::Recover(Ok(recover)) = done {
            self.recovers.push((at, recover.clone()));
        }
    }
}

/// Returns the delivery that an operation changed, except by recording an attempt of it.
pub(super) fn commanded(done: &Done) -> Option<&Delivery> {
    match done {
        Done::Retry(Ok(delivery))
        | Done::Cancel(Ok(delivery))
        | Done::Replay(Ok(delivery))
        | Done::EndDamaged(Some(delivery)) => Some(delivery),
        _ => None,
    }
}

/// Returns the endpoint that an operation created or changed.
pub(super) fn configured(done: &Done) -> Option<&Arc<Endpoint>> {
    match done {
        Done::CreateEndpoint(Ok(Created {
            endpoint,
            replayed: false,
        }))
        | Done::UpdateEndpoint(Ok(endpoint))
        | Done::DeleteEndpoint(Ok(endpoint))
        | Done::RotateSecret(Ok(endpoint)) => Some(endpoint),
        _ => None,
    }
}
