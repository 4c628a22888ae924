//! How many rows an operation writes. This bounds the work of a commit, beside the number of its operations.

use super::Reader;
use crate::endpoint::Endpoint;
use crate::file::memory::Memory;
use crate::op::Op;
use crate::settle::{DisableWhen, Settle};
use crate::swept;
use std::sync::{Arc, RwLockReadGuard};

/// In an organization with at most this many endpoints, all count as subscribers: checking costs more than it saves.
const FEW_ENDPOINTS: usize = 16;
/// Checking this many endpoints that don't subscribe costs about as much as writing a row.
const LOOKS_PER_ROW: usize = 64;

/// Weighs operations by the current state of memory. While it exists no commit can be announced, so keep it short, and
/// drop it before the next batch.
#[derive(Debug)]
pub struct Scales<'a>(RwLockReadGuard<'a, Memory>);

impl Reader {
    /// Returns scales to weigh the operations of the next batch.
    pub fn scales(&self) -> Scales<'_> {
        Scales(self.shared.memory())
    }
}

impl Scales<'_> {
    /// Returns the most rows that the operation writes, not counting endpoints that the same batch creates or enables.
    /// Approximate where a few more rows make no difference.
    pub fn rows(&self, op: &Op) -> usize {
        match op {
            Op::Accept(event) => 1 + self.fan_out(&event.organization, &event.event_type),
            Op::Settle(settle) => 1 + self.notices(settle),
            Op::AdvanceBulk(advance) => 1 + advance.events.len() + advance.missed.len(),
            Op::Sweep(_) => swept::ROWS_PER_STEP,
            Op::FlushStats(_) => 1 + self.0.windows.len(),
            _ => 1,
        }
    }

    /// Returns the number of endpoints that may receive an event.
    fn fan_out(&self, organization: &str, event_type: &str) -> usize {
        let slots = self.0.directory.by_organization.get(organization);
        let slots = slots.map(Vec::as_slice).unwrap_or_default();
        if slots.len() <= FEW_ENDPOINTS {
            return slots.len();
        }
        let subscribed = |e: &&Arc<Endpoint>| e.receives() && e.subscribes_to(event_type);
        let found = slots
            .iter()
            .filter_map(|slot| self.0.directory.endpoint(*slot));
        found.filter(subscribed).count() + slots.len() / LOOKS_PER_ROW
    }

    /// Returns the number of deliveries of the event that reports a disabled endpoint, if this outcome may disable one.
    fn notices(&self, settle: &Settle) -> usize {
        let Some(disable) = &settle.disable else {
            return 0;
        };
        let slot = settle.delivery.slot;
        let may_hold = match disable.when {
            DisableWhen::Now => true,
            DisableWhen::RunOf { lasting_ms, .. } => {
                let at = settle.ended_at.max(self.0.meta.paced);
                let since = self.0.directory.state(slot).failing_since.unwrap_or(at);
                at.since_ms(since) >= lasting_ms
            }
        };
        let receives = self
            .0
            .directory
            .endpoint(slot)
            .is_some_and(|e| e.receives());
        if may_hold && receives {
            self.fan_out(&disable.notice.organization, &disable.notice.event_type)
        } else {
            0
        }
    }
}
