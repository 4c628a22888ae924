//! The state of endpoints, and when the daemon disables one: computed from receivers' answers, never taken from the
//! store.

use super::Oracle;
use super::rules::{self, Outcomes};
use super::seen::{Seen, configured};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stormhook_store::endpoint::EndpointState;
use stormhook_store::{
    Applied, Attempt, AttemptOutcome, Delivery, DeliveryId, Done, Endpoint, Reader, Slot,
};

/// How much faster than real time the paced time may go.
const MOST_PACE: u64 = 60;

type Endpoints = BTreeMap<Slot, Arc<Endpoint>>;

impl Oracle {
    pub(super) fn state_of(&self, slot: Slot) -> EndpointState {
        self.states.get(&slot).copied().unwrap_or_default()
    }

    /// The paced time never goes back, and follows a leap of the wall clock at most sixty times as fast as real time.
    pub(super) fn follow_pace(&mut self, reader: &Reader) -> Result<(), String> {
        let (found, now_ms) = (reader.paced_at(), self.now_ms());
        // A failed commit that did happen is announced late: it was made right after the one before it.
        let made_after_ms = std::mem::replace(&mut self.announced_ms, now_ms);
        let (known, since_ms) = std::mem::replace(&mut self.expiry, (found, made_after_ms));
        let most = known.plus_ms((now_ms - since_ms + 1) * MOST_PACE);
        if found < known || (known.0 > 0 && found > most) {
            return Err(format!(
                "the paced time went from {known:?} to {found:?} in {} ms",
                now_ms - since_ms
            ));
        }
        Ok(())
    }

    /// Returns when an attempt ended, in the store's time.
    fn ended_ms(&self, id: DeliveryId, number: u32) -> u64 {
        let told = self.told.get(&(id, number)).map_or(0, |t| t.store_ms);
        told.max(id.event.accepted_at().0)
    }

    /// Follows the effect of a commit on endpoints' states, operation by operation. The daemon must have disabled
    /// exactly the endpoints that were due.
    pub(super) fn follow_states(
        &mut self,
        applied: &Applied,
        before: &Endpoints,
        seen: &Seen,
    ) -> Result<(), String> {
        let mut receives: BTreeMap<Slot, bool> = before
            .iter()
            .map(|(slot, e)| (*slot, e.receives()))
            .collect();
        let mut due = Vec::new();
        for done in &applied.done {
            if let Done::Settle(Ok(delivery)) = done
                && let Some(attempt) = delivery.attempts.last()
                && let Some(reason) = self.follow_attempt(delivery, attempt)
            {
                let slot = delivery.id.slot;
                if std::mem::replace(receives.entry(slot).or_default(), false) {
                    due.push((slot, reason));
                }
            }
            if let Some(endpoint) = configured(done) {
                let slot = endpoint.slot;
                let received = receives.insert(slot, endpoint.receives());
                if endpoint.receives() && received == Some(false) {
                    let state = self.states.entry(slot).or_default();
                    *state = rules::switched_on(*state);
                }
            }
        }
        self.counters.accepted += due.len() as u64;
        let found = seen.switched_off.iter();
        let found: Vec<_> = found
            .map(|(slot, reason)| (*slot, reason.as_str()))
            .collect();
        if found == due {
            return Ok(());
        }
        Err(format!(
            "the daemon disabled {found:?}, but should have disabled {due:?}"
        ))
    }

    /// Follows one attempt. Returns why it disables its endpoint, if it does.
    fn follow_attempt(&mut self, d: &Delivery, attempt: &Attempt) -> Option<&'static str> {
        if attempt.outcome == AttemptOutcome::Interrupted {
            return None;
        }
        let success = attempt.outcome == AttemptOutcome::Success;
        self.count_attempt(d, success);
        let at_ms = self.ended_ms(d.id, attempt.number);
        let disable_after = self.plan.settings.disable_after;
        let (paced, _) = self.expiry;
        let state = self.states.entry(d.id.slot).or_default();
        *state = rules::run_after(*state, success, at_ms, paced);
        rules::switches_off(state, attempt.response_code, success, paced, disable_after)
    }

    pub(super) fn count_attempt(&mut self, d: &Delivery, success: bool) {
        let counted = |outcome| outcome != AttemptOutcome::Interrupted;
        let earlier = d.attempts.iter().rev().skip(1);
        let first = !earlier.clone().any(|a| counted(a.outcome));
        self.counters.success += u64::from(success);
        self.counters.failure += u64::from(!success);
        self.counters.first_attempts += u64::from(first);
        self.counters.first_successes += u64::from(first && success);
    }

    /// After a commit that was not announced, the order of its outcomes is unknown, so each endpoint's state must match
    /// one of the possible orders.
    pub(super) fn adopt_states(
        &mut self,
        reader: &Reader,
        before: &Endpoints,
        recorded: &BTreeMap<Slot, Vec<(DeliveryId, u32, bool)>>,
        unknown: &BTreeSet<Slot>,
    ) -> Result<(), String> {
        for (slot, endpoint) in self.endpoints.clone() {
            let found = reader.state(slot);
            let mut outcomes = Outcomes::default();
            for (id, number, success) in recorded.get(&slot).into_iter().flatten() {
                let at_ms = self.ended_ms(*id, *number);
                outcomes.add(*success, at_ms);
            }
            let known = self.state_of(slot);
            let shown = |e: &Endpoint| format!("{e:?}");
            let changed = before
                .get(&slot)
                .is_none_or(|b| shown(b) != shown(&endpoint));
            // The result of an attempt is unknown if its delivery was swept in the same commit.
            if !unknown.contains(&slot)
                && !outcomes.may_lead(&known, &found, changed, self.expiry.0)
            {
                return Err(format!(
                    "{} has the state {found:?} after {outcomes:?}, announced: {known:?}",
                    endpoint.id
                ));
            }
            self.states.insert(slot, found);
        }
        Ok(())
    }
}
