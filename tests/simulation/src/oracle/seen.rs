//! What one commit did, collected before it is judged.

use std::collections::{BTreeMap, BTreeSet};
use stormhook_store::{Created, DeliveryId, Done, EventId, Recover, Slot};

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
    pub(super) bulk: bool,
    pub(super) swept: bool,
}

impl Seen {
    /// Notes the place of an operation among those of its commit.
    pub(super) fn note_place(&mut self, at: usize, done: &Done) {
        match done {
            Done::Settle(Ok(delivery))
            | Done::Retry(Ok(delivery))
            | Done::Cancel(Ok(delivery))
            | Done::Replay(Ok(delivery))
            | Done::EndDamaged(Some(delivery)) => {
                if !matches!(done, Done::Settle(_)) {
                    *self.operated.entry(delivery.id).or_default() += 1;
                }
                if !delivery.status.is_open() {
                    self.ends.entry(delivery.id).or_insert(at);
                }
            }
            Done::CreateEndpoint(Ok(Created {
                endpoint,
                replayed: false,
            }))
            | Done::UpdateEndpoint(Ok(endpoint))
            | Done::DeleteEndpoint(Ok(endpoint))
            | Done::RotateSecret(Ok(endpoint)) => {
                self.changed.entry(endpoint.slot).or_insert(at);
            }
            Done::Recover(Ok(recover)) => self.recovers.push((at, recover.clone())),
            _ => {}
        }
    }
}
