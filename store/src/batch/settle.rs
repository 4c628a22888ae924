//! Recording finished attempts: the cheapest path is that of a first attempt that succeeded.

use super::{Batch, Was, end, refused};
use crate::delivery::{
    ATTEMPTS_KEPT, Attempt, AttemptOutcome, Delivery, EXCERPTS_KEPT, Reason, Status, Trigger,
};
use crate::endpoint::EndpointState;
use crate::error::StoreError;
use crate::ids::{Slot, UnixMs};
use crate::op::{Disable, Done, Refusal, Settle, Verdict};
use crate::stats::{Level, Window};
use crate::tables::ALL_ENDPOINTS;

/// How and when an attempt ended.
struct Ended {
    at: UnixMs,
    verdict: Verdict,
}

/// What an attempt counts as.
struct Tally {
    success: bool,
    abandoned: bool,
    first: bool,
    latency_us: Option<u64>,
    duration_us: u64,
}

impl Batch<'_, '_> {
    pub(super) fn settle(&mut self, settle: &Settle) -> Result<Done, StoreError> {
        let id = settle.delivery;
        let Some(mut now) = self.delivery(id)? else {
            return refused(Refusal::NotFound);
        };
        let before = Was::of(&now);
        let ended = Ended {
            at: settle.ended_at.max(id.event.accepted_at()),
            verdict: settle.verdict,
        };
        let first = now
            .attempts
            .iter()
            .all(|a| a.outcome == AttemptOutcome::Interrupted);
        add_attempt(&mut now, settle.attempt.clone(), ended.at);
        if ended.verdict == Verdict::Interrupted {
            // It takes up no place in the schedule and counts nowhere: due as it was.
            self.put_delivery(Some(before), &mut now)?;
            return Ok(Done::Settled {
                delivery: Box::new(now),
            });
        }
        let in_first_round = now.round == 1;
        if now.status.is_open() {
            advance(&mut now, &ended);
        } else {
            // It ended with this attempt on the wire, which was one of its round all the same.
            finish_one(&mut now);
        }
        let success = ended.verdict == Verdict::Success;
        self.tally(
            id.slot,
            &Tally {
                success,
                abandoned: before.status.is_open() && now.status == Status::Abandoned,
                first,
                latency_us: (success && in_first_round)
                    .then(|| ended.at.since_ms(now.created_at).saturating_mul(1_000)),
                duration_us: settle.duration_us,
            },
        )?;
        self.put_delivery(Some(before), &mut now)?;
        let state = after_attempt(self.state(id.slot), &ended, self.paced);
        self.states.insert(id.slot, state);
        if let Some(disable) = &settle.disable
            && disable.when.holds(&state, self.paced)
        {
            self.disable(id.slot, disable)?;
        }
        Ok(Done::Settled {
            delivery: Box::new(now),
        })
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

    /// Switches an endpoint off and says so to whoever named the event type.
    fn disable(&mut self, slot: Slot, disable: &Disable) -> Result<(), StoreError> {
        let Some(endpoint) = self.endpoint(slot).filter(|e| e.receives()) else {
            return Ok(());
        };
        let mut changed = (*endpoint).clone();
        changed.active = false;
        changed.disabled_reason = Some(disable.reason.clone());
        self.put_endpoint(changed)?;
        // Whatever waits already: there is one for an endpoint that was switched off.
        let targets = self.subscribers(&disable.notice);
        self.store_event(&disable.notice, &targets)?;
        Ok(())
    }
}

fn add_attempt(d: &mut Delivery, mut attempt: Attempt, ended_at: UnixMs) {
    d.attempts_total = d.attempts_total.saturating_add(1);
    attempt.number = d.attempts_total;
    attempt.round = d.round;
    d.attempts.push(attempt);
    if d.attempts.len() > ATTEMPTS_KEPT {
        d.attempts.remove(0);
    }
    // What a partner said long ago takes more room than all else of an attempt.
    if let Some(old) = d.attempts.len().checked_sub(EXCERPTS_KEPT + 1)
        && let Some(attempt) = d.attempts.get_mut(old)
    {
        attempt.response_excerpt = None;
    }
    // What ended keeps the time at which it ended.
    if d.status.is_open() {
        d.updated_at = ended_at;
    }
}

/// Where an open delivery stands after an attempt.
fn advance(d: &mut Delivery, ended: &Ended) {
    let at = ended.at;
    let extra = finish_one(d);
    d.next_trigger = Trigger::Schedule;
    match ended.verdict {
        Verdict::Success => end(d, Status::Success, None, at),
        Verdict::Gone => end(d, Status::Failed, Some(Reason::Gone), at),
        Verdict::GiveUp if !extra => end(d, Status::Abandoned, None, at),
        Verdict::RetryAt(next) if !extra => {
            d.status = Status::Retrying;
            d.next_attempt_at = Some(next);
            d.due = Some(next);
        }
        // An extra attempt that failed leaves the schedule as it was.
        Verdict::RetryAt(_) | Verdict::GiveUp | Verdict::Interrupted => {
            d.status = Status::Retrying;
            d.due = d.next_attempt_at;
        }
    }
}

/// Counts an attempt of the round that finished; true if it was an extra one, which takes up no place in the schedule.
fn finish_one(d: &mut Delivery) -> bool {
    let extra = std::mem::take(&mut d.extra);
    if !extra {
        d.attempts_finished = d.attempts_finished.saturating_add(1);
    }
    extra
}

/// How an endpoint does after an attempt. For how long it has failed is told by the paced time.
fn after_attempt(mut state: EndpointState, ended: &Ended, paced: UnixMs) -> EndpointState {
    if ended.verdict == Verdict::Success {
        state.failure_count = 0;
        state.failing_since = None;
        state.last_success_at = Some(ended.at);
    } else {
        state.failure_count = state.failure_count.saturating_add(1);
        state.failing_since = state.failing_since.or(Some(paced));
    }
    state
}
