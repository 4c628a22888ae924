//! Records finished attempts. A successful first attempt is the cheapest path.

use super::{Batch, Decision, IndexedState, Storage, refused};
use crate::command::Refusal;
use crate::delivery::{AttemptOutcome, Delivery, Status};
use crate::endpoint::EndpointState;
use crate::error::StoreError;
use crate::ids::{Slot, UnixMs};
use crate::settle::{Disable, NextStep, Settle};
use crate::stats::ALL_ENDPOINTS;
use crate::stats::{Level, Window};

/// How and when an attempt ended.
struct AttemptEnd {
    at: UnixMs,
    next_step: NextStep,
}

/// How an attempt is counted.
struct Tally {
    success: bool,
    abandoned: bool,
    first: bool,
    latency_us: Option<u64>,
    duration_us: u64,
}

impl<S: Storage> Batch<'_, S> {
    pub(super) fn settle(&mut self, settle: &Settle) -> Decision<Box<Delivery>> {
        let id = settle.delivery;
        let Some(mut delivery) = self.delivery(id)? else {
            return refused(Refusal::NotFound);
        };
        let before = IndexedState::of(&delivery);
        let in_first_round = delivery.round == 1;
        let first = delivery
            .attempts
            .iter()
            .all(|a| a.outcome == AttemptOutcome::Interrupted);
        let ended = AttemptEnd {
            at: settle.ended_at.max(id.event.accepted_at()),
            next_step: settle.next_step,
        };
        let (attempt, at) = (settle.attempt.clone(), ended.at);
        match ended.next_step {
            NextStep::Success => delivery.attempt_succeeded(attempt, at),
            NextStep::Gone => delivery.attempt_gone(attempt, at),
            NextStep::RetryAt(next) => delivery.attempt_failed(attempt, at, Some(next)),
            NextStep::GiveUp => delivery.attempt_failed(attempt, at, None),
            NextStep::Interrupted => {
                // It is not counted.
                delivery.attempt_interrupted(attempt, at);
                self.put_delivery(Some(before), &mut delivery)?;
                return Ok(Ok(Box::new(delivery)));
            }
        }
        let success = ended.next_step == NextStep::Success;
        self.tally(
            id.slot,
            &Tally {
                success,
                abandoned: before.status.is_open() && delivery.status == Status::Abandoned,
                first,
                latency_us: (success && in_first_round)
                    .then(|| ended.at.since_ms(delivery.created_at).saturating_mul(1_000)),
                duration_us: settle.duration_us,
            },
        )?;
        self.put_delivery(Some(before), &mut delivery)?;
        let state = after_attempt(self.state(id.slot), &ended, self.paced);
        self.states.insert(id.slot, state);
        if let Some(disable) = &settle.disable
            && disable.when.holds(&state, self.paced)
        {
            self.disable(id.slot, disable)?;
        }
        Ok(Ok(Box::new(delivery)))
    }

    fn tally(&mut self, slot: Slot, tally: &Tally) -> Result<(), StoreError> {
        let counted = |counters: &mut crate::stats::Counters| {
            counters.success += u64::from(tally.success);
            counters.failure += u64::from(!tally.success);
            counters.abandoned += u64::from(tally.abandoned);
            counters.first_attempts += u64::from(tally.first);
            counters.first_successes += u64::from(tally.first && tally.success);
        };
        self.count(counted)?;
        let minute = Level::Minute.start_of(self.now);
        for of in [slot, ALL_ENDPOINTS] {
            let window: &mut Window = self.windows.entry((minute, of)).or_default();
            if of == slot {
                counted(&mut window.counters);
            }
            window.attempt_duration.record(tally.duration_us);
            if let Some(latency_us) = tally.latency_us {
                window.latency.record(latency_us);
                if tally.first {
                    window.first_attempt_latency.record(latency_us);
                }
            }
        }
        Ok(())
    }

    /// Disables an endpoint, and reports it to endpoints that subscribe to the event type by name.
    fn disable(&mut self, slot: Slot, disable: &Disable) -> Result<(), StoreError> {
        let Some(endpoint) = self.endpoint(slot).filter(|e| e.receives()) else {
            return Ok(());
        };
        let mut changed = (*endpoint).clone();
        changed.settings.active = false;
        changed.settings.disabled_reason = Some(disable.reason.clone());
        let changed = self.put_endpoint(changed)?;
        self.record_disabled(&endpoint, &changed);
        // Regardless of the limit of open deliveries: there is one such event for each disabled endpoint.
        let targets = self.subscribers(&disable.notice);
        self.store_event(&disable.notice, &targets, None)?;
        Ok(())
    }
}

/// Returns an endpoint's state after an attempt. The duration of its failures is measured in paced time.
fn after_attempt(mut state: EndpointState, ended: &AttemptEnd, paced: UnixMs) -> EndpointState {
    if ended.next_step == NextStep::Success {
        state.failure_count = 0;
        state.failing_since = None;
        state.last_success_at = Some(ended.at);
    } else {
        state.failure_count = state.failure_count.saturating_add(1);
        state.failing_since = state.failing_since.or(Some(paced));
    }
    state
}
