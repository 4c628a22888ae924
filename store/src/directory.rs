//! What is kept in memory of endpoints: their settings, their running state, the bulk changes in progress, and how many
//! deliveries are open. A batch decides with it, and it changes only when the batch is durable.

use crate::bulk::Bulks;
use crate::endpoint::{Endpoint, EndpointState};
use crate::ids::{EndpointId, Slot, UnixMs};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Endpoints by their number. Numbers only increase, and removed endpoints take no room.
pub(crate) type Slots = BTreeMap<Slot, Arc<Endpoint>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) endpoints: Arc<Slots>,
    pub(crate) by_id: HashMap<EndpointId, Slot>,
    /// Endpoints that were not deleted, in order of creation.
    pub(crate) by_organization: HashMap<String, Vec<Slot>>,
    /// Deleted endpoints that are still listed, by the time of deletion.
    pub(crate) deleted: BTreeSet<(UnixMs, Slot)>,
    pub(crate) deleted_of: HashMap<String, BTreeSet<Slot>>,
    pub(crate) states: HashMap<Slot, EndpointState>,
    pub(crate) bulks: Arc<Bulks>,
    /// The number of open deliveries.
    pub(crate) open: u64,
}

impl Directory {
    pub(crate) fn endpoint(&self, slot: Slot) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(&slot)
    }

    pub(crate) fn state(&self, slot: Slot) -> EndpointState {
        self.states.get(&slot).copied().unwrap_or_default()
    }

    pub(crate) fn set_endpoint(&mut self, endpoint: Arc<Endpoint>) {
        let (slot, organization) = (endpoint.slot, endpoint.organization.clone());
        self.by_id.insert(endpoint.id, slot);
        let deleted_at = endpoint.deleted_at;
        // Copied only if a snapshot still uses it.
        let before = Arc::make_mut(&mut self.endpoints).insert(slot, endpoint);
        let was_live = before.is_some_and(|e| e.deleted_at.is_none());
        match deleted_at {
            None if !was_live => self
                .by_organization
                .entry(organization)
                .or_default()
                .push(slot),
            None => {}
            Some(at) => {
                if was_live {
                    remove_from(&mut self.by_organization, &organization, |live| {
                        live.retain(|s| *s != slot);
                        live.is_empty()
                    });
                }
                self.deleted.insert((at, slot));
                self.deleted_of
                    .entry(organization)
                    .or_default()
                    .insert(slot);
            }
        }
    }

    /// Removes a deleted endpoint.
    pub(crate) fn forget(&mut self, slot: Slot) {
        let Some(endpoint) = Arc::make_mut(&mut self.endpoints).remove(&slot) else {
            return;
        };
        self.by_id.remove(&endpoint.id);
        self.states.remove(&slot);
        if let Some(at) = endpoint.deleted_at {
            self.deleted.remove(&(at, slot));
        }
        remove_from(&mut self.deleted_of, &endpoint.organization, |deleted| {
            deleted.remove(&slot);
            deleted.is_empty()
        });
    }

    pub(crate) fn set_state(&mut self, slot: Slot, state: EndpointState) {
        self.states.insert(slot, state);
    }
}

/// Removes an item of an organization, and the organization if nothing is left.
fn remove_from<T>(
    of: &mut HashMap<String, T>,
    organization: &str,
    remove: impl FnOnce(&mut T) -> bool,
) {
    if of.get_mut(organization).is_some_and(remove) {
        of.remove(organization);
    }
}
