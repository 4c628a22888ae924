//! Endpoints that other processes on the same database delivered to before, or will.

use super::{Dispatch, Inner};
use crate::clock;
use std::collections::BTreeSet;
use std::sync::Arc;
use stormhook_store::endpoint::Ordering;
use stormhook_store::{Endpoint, EndpointState, Gained, Slot, UnixMs};
use tokio::time::Instant;

impl Inner {
    /// Follows an endpoint. To one that is paused, nothing is sent.
    pub(super) fn follow(
        &mut self,
        endpoint: &Arc<Endpoint>,
        state: Option<&EndpointState>,
        now: UnixMs,
    ) {
        if !self.paused.contains(endpoint.slot) {
            return self.schedule.endpoint(endpoint, state, now);
        }
        let mut paused = Endpoint::clone(endpoint);
        paused.settings.active = false;
        self.schedule.endpoint(&paused, state, now);
    }
}

impl Dispatch {
    /// Delivers to these endpoints from now on. FIFO endpoints wait until what was on the wire has ended.
    pub(super) fn gain(self: &Arc<Self>, inner: &mut Inner, gained: Gained, now: UnixMs) {
        let until = clock::deadline(gained.on_wire_for);
        let mut resting = Vec::new();
        for (endpoint, state) in &gained.endpoints {
            if endpoint.ordering == Ordering::Fifo && !gained.on_wire_for.is_zero() {
                inner.paused.rest(endpoint.slot, until);
                resting.push(endpoint.slot);
            }
            inner.follow(endpoint, Some(state), now);
            inner.schedule.used_elsewhere(endpoint.slot, now);
        }
        for waiting in &gained.waiting {
            inner.schedule.restore(waiting);
        }
        inner.bulk.extend(gained.bulks);
        if resting.is_empty() {
            return;
        }
        let this = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::time::sleep_until(until).await;
            this.resume(&resting, until);
        });
    }

    /// Delivers to endpoints whose rest ends now, but not to those that have been given, or rest again, since it began.
    fn resume(self: &Arc<Self>, slots: &[Slot], until: Instant) {
        let now = self.clock.now();
        let mut inner = self.inner();
        for slot in slots {
            if !inner.paused.end_rest(*slot, until) {
                continue;
            }
            if let Some(endpoint) = self.reader.endpoint_by_slot(*slot) {
                inner.follow(&endpoint, None, now);
            }
        }
        self.pump(&mut inner);
    }

    /// Forgets these endpoints: another process delivers to them.
    pub(super) fn lose(&self, inner: &mut Inner, slots: &[Slot]) {
        for slot in slots {
            inner.schedule.forget(*slot);
            inner.bulk.remove(slot);
            inner.paused.forget(*slot);
            self.partners.forget(*slot);
        }
    }

    /// Starts no further attempts to these endpoints, and waits until none is on the wire.
    pub async fn release(&self, slots: Vec<Slot>) {
        let slots: BTreeSet<Slot> = slots.into_iter().collect();
        let now = self.clock.now();
        {
            let mut inner = self.inner();
            for slot in &slots {
                inner.paused.release(*slot);
                if let Some(endpoint) = self.reader.endpoint_by_slot(*slot) {
                    inner.follow(&endpoint, None, now);
                }
            }
        }
        loop {
            let settled = self.settled.notified();
            if !self.inner().schedule.has_claims(&slots) {
                return;
            }
            settled.await;
        }
    }
}
