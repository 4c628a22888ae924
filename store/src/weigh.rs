//! How many rows an operation writes. This bounds the work of a commit, beside the number of its operations.

use crate::directory::Directory;
use crate::endpoint::Endpoint;
use crate::event::NewEvent;
use crate::ids::UnixMs;
use crate::maintenance::RESEALED_PER_STEP;
use crate::op::Op;
use crate::settle::{DisableWhen, Settle};
use crate::swept;
use std::sync::Arc;

/// In an organization with at most this many endpoints, all count as subscribers: checking costs more than it saves.
const FEW_ENDPOINTS: usize = 16;
/// Checking this many endpoints that don't subscribe costs about as much as writing a row.
const LOOKS_PER_ROW: usize = 64;

/// The part of a store's memory that decides how many rows an operation writes.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// The endpoints.
    pub directory: &'a Directory,
    /// The number of windows in memory that are not written yet.
    pub windows: usize,
    /// The paced time of the last commit.
    pub paced: UnixMs,
}

impl Weights<'_> {
    /// Returns the most rows that the operation writes, not counting endpoints that the same batch creates or enables.
    /// Approximate where a few more rows make no difference.
    #[must_use]
    pub fn rows(self, op: &Op) -> usize {
        match op {
            Op::Accept(event) => 1 + self.fan_out(&event.organization, &event.event_type),
            Op::AcceptEmitted(emitted) => {
                let events = emitted.events.iter().map(|emitted| &emitted.event);
                let fan_out = |e: &NewEvent| 1 + self.fan_out(&e.organization, &e.event_type);
                events.map(fan_out).sum()
            }
            Op::Settle(settle) => 1 + self.notices(settle),
            Op::AdvanceBulk(advance) => 1 + advance.events.len() + advance.missed.len(),
            Op::DeleteOrganization(delete) => {
                // A row, a revision and a bulk change each.
                let live = self.directory.by_organization.get(&delete.organization);
                1 + 3 * live.map_or(0, Vec::len)
            }
            Op::AdvancePurge(advance) => {
                let rows = advance.events.iter().map(|(_, slots)| 1 + slots.len());
                1 + rows.sum::<usize>()
            }
            Op::Sweep(_) => swept::ROWS_PER_STEP,
            Op::Reseal(_) => 1 + RESEALED_PER_STEP,
            Op::FlushStats(_) => 1 + self.windows,
            _ => 1,
        }
    }

    /// Returns the number of endpoints that may receive an event.
    fn fan_out(self, organization: &str, event_type: &str) -> usize {
        let slots = self.directory.by_organization.get(organization);
        let slots = slots.map(Vec::as_slice).unwrap_or_default();
        if slots.len() <= FEW_ENDPOINTS {
            return slots.len();
        }
        let subscribed = |e: &&Arc<Endpoint>| e.receives() && e.subscribes_to(event_type);
        let found = slots
            .iter()
            .filter_map(|slot| self.directory.endpoint(*slot));
        found.filter(subscribed).count() + slots.len() / LOOKS_PER_ROW
    }

    /// Returns the number of deliveries of the event that reports a disabled endpoint, if this outcome may disable one.
    fn notices(self, settle: &Settle) -> usize {
        let Some(disable) = &settle.disable else {
            return 0;
        };
        let slot = settle.delivery.slot;
        let may_hold = match disable.when {
            DisableWhen::Now => true,
            DisableWhen::RunOf { lasting_ms, .. } => {
                let at = settle.ended_at.max(self.paced);
                let since = self.directory.state(slot).failing_since.unwrap_or(at);
                at.since_ms(since) >= lasting_ms
            }
        };
        let receives = self.directory.endpoint(slot).is_some_and(|e| e.receives());
        if may_hold && receives {
            self.fan_out(&disable.notice.organization, &disable.notice.event_type)
        } else {
            0
        }
    }
}
