//! What is kept in memory of endpoints: their settings, their running state, the bulk changes in progress, and how many
//! deliveries are open. A batch decides with it, and it changes only when the batch is durable.

use crate::bulk::{Bulk, Bulks};
use crate::endpoint::{Endpoint, EndpointState};
use crate::ids::{EndpointId, Slot, UnixMs};
use crate::purge::Purges;
use crate::query::{Cursor, Filling, List, Page};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Endpoints by their number. Numbers only increase, and removed endpoints take no room.
pub type Slots = BTreeMap<Slot, Arc<Endpoint>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Directory {
    /// All endpoints, deleted ones too.
    pub endpoints: Arc<Slots>,
    /// Their numbers by id.
    pub by_id: HashMap<EndpointId, Slot>,
    /// Endpoints that were not deleted, in order of creation.
    pub by_organization: HashMap<String, Vec<Slot>>,
    /// Deleted endpoints that are still listed, by the time of deletion.
    pub deleted: BTreeSet<(UnixMs, Slot)>,
    /// The same by organization.
    pub deleted_of: HashMap<String, BTreeSet<Slot>>,
    /// Their running states.
    pub states: HashMap<Slot, EndpointState>,
    /// The bulk changes in progress.
    pub bulks: Arc<Bulks>,
    /// The purges in progress.
    pub purges: Arc<Purges>,
    /// The number of open deliveries.
    pub open: u64,
}

/// What a batch changed, except states.
#[derive(Clone, Debug)]
pub struct DirectoryChange {
    /// The endpoints that are new or changed.
    pub endpoints: Slots,
    /// Endpoints that were removed.
    pub forgotten: BTreeSet<Slot>,
    /// The number of open deliveries.
    pub open: u64,
    /// The bulk changes in progress.
    pub bulks: Arc<Bulks>,
    /// The purges in progress.
    pub purges: Arc<Purges>,
}

impl Directory {
    /// Returns an endpoint by its number.
    pub fn endpoint(&self, slot: Slot) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(&slot)
    }

    /// Returns the state of an endpoint.
    pub fn state(&self, slot: Slot) -> EndpointState {
        self.states.get(&slot).copied().unwrap_or_default()
    }

    /// Adds or replaces an endpoint.
    pub fn set_endpoint(&mut self, endpoint: Arc<Endpoint>) {
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
    pub fn forget(&mut self, slot: Slot) {
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

    /// Removes an endpoint that another process decides about now, with all that is known of it.
    pub fn remove(&mut self, slot: Slot) {
        let Some(endpoint) = self.endpoints.get(&slot).cloned() else {
            return;
        };
        remove_from(&mut self.by_organization, &endpoint.organization, |live| {
            live.retain(|s| *s != slot);
            live.is_empty()
        });
        if self.bulks.contains_key(&slot) {
            Arc::make_mut(&mut self.bulks).remove(&slot);
        }
        self.forget(slot);
    }

    /// Returns a page of endpoints that were not deleted, newest first.
    pub fn page(
        &self,
        organization: Option<&str>,
        active: Option<bool>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Page<Arc<Endpoint>> {
        let mut filling = Filling::new(limit);
        let below = after.map_or(u32::MAX, |c| u32::try_from(c.at).unwrap_or(u32::MAX));
        let mut last = None;
        for endpoint in self.endpoints.range(..Slot(below)).rev().map(|(_, e)| e) {
            let is_asked = endpoint.deleted_at.is_none()
                && organization.is_none_or(|o| o == endpoint.organization)
                && active.is_none_or(|a| a == endpoint.active);
            if !is_asked {
                continue;
            }
            if filling.go_on(last).is_break() {
                break;
            }
            last = Some(Cursor {
                list: List::Endpoints,
                at: u128::from(endpoint.slot.0),
                slot: Slot(0),
            });
            filling.page.items.push(Arc::clone(endpoint));
        }
        filling.page
    }

    /// Returns the endpoints with bulk changes in progress, and the last stamp of each.
    pub fn bulks_in_progress(&self) -> Vec<(Slot, u64)> {
        let last = |(slot, bulks): (&Slot, &Vec<Bulk>)| Some((*slot, bulks.last()?.stamp));
        self.bulks.iter().filter_map(last).collect()
    }

    /// Returns an endpoint's bulk changes in progress up to this stamp.
    pub fn bulks_upto(&self, slot: Slot, upto: u64) -> Vec<Bulk> {
        let all = self.bulks.get(&slot).into_iter().flatten();
        all.filter(|bulk| bulk.stamp <= upto).copied().collect()
    }

    /// Follows a commit.
    pub fn follow(&mut self, change: DirectoryChange) {
        self.open = change.open;
        self.bulks = change.bulks;
        self.purges = change.purges;
        for endpoint in change.endpoints.into_values() {
            self.set_endpoint(endpoint);
        }
        for slot in change.forgotten {
            self.forget(slot);
        }
    }

    /// Replaces the state of an endpoint.
    pub fn set_state(&mut self, slot: Slot, state: EndpointState) {
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
