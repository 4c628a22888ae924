//! Which state may follow which: written from the contract, independently of the daemon's code.

use super::Told;
use std::time::Duration;
use stormhook_engine::Settings;
use stormhook_engine::retry::Retry;
use stormhook_store::{
    Attempt, AttemptOutcome, Delivery, Endpoint, EndpointState, Event, Reason, Status, UnixMs,
};

/// The most that a receiver's `Retry-After` counts for.
const MOST_RETRY_AFTER_S: u64 = 86_400;

/// What a commit recorded of a delivery.
pub(super) struct Recorded {
    /// Attempts; `None` if not known because the process died with the commit.
    pub(super) attempts: Option<u32>,
    /// Whether a bulk change ended its endpoint's deliveries.
    pub(super) marked: bool,
}

/// Returns the number in a simulated event's data.
pub(super) fn number_of(event: &Event) -> Option<u64> {
    number_in(event.data.as_deref()?)
}

/// Returns the number in the data itself.
pub(super) fn number_in(data: &[u8]) -> Option<u64> {
    let data = std::str::from_utf8(data).ok()?;
    let rest = data.strip_prefix("{\"n\":")?;
    rest.split([',', '}']).next()?.parse().ok()
}

fn is_same_attempt(a: &Attempt, b: &Attempt) -> bool {
    let of = |a: &Attempt| {
        (
            a.number,
            a.round,
            a.started_at,
            a.duration_ms,
            a.outcome,
            a.response_code,
        )
    };
    of(a) == of(b)
}

/// The most bytes of an attempt's error that are kept.
const MOST_ERROR_BYTES: usize = 500;

/// Text from a receiver takes no more room than allowed.
pub(super) fn is_bounded(attempt: &Attempt, settings: &Settings) -> Result<(), String> {
    let error = attempt.error.as_ref().map_or(0, String::len);
    let excerpt = attempt.response_excerpt.as_ref().map_or(0, Vec::len);
    if error > MOST_ERROR_BYTES || excerpt > settings.excerpt_bytes {
        let number = attempt.number;
        return Err(format!(
            "attempt {number} keeps an error of {error} bytes and an excerpt of {excerpt}"
        ));
    }
    Ok(())
}

/// Whether a delivery may have changed like this in one commit.
pub(super) fn may_follow(
    before: &Delivery,
    after: &Delivery,
    recorded: &Recorded,
) -> Result<(), String> {
    let fixed = |d: &Delivery| (d.id, d.sequence, d.created_at);
    if fixed(before) != fixed(after) {
        return Err("its sequence or the time of its creation changed".into());
    }
    let new = after.attempts_total.checked_sub(before.attempts_total);
    let Some(new) = new else {
        return Err("attempts of it are missing".into());
    };
    let expected = recorded.attempts.unwrap_or(new.min(1));
    if new != expected {
        return Err(format!("{new} attempts are new, {expected} were recorded"));
    }
    let kept = before.attempts.iter().zip(&after.attempts);
    if after.attempts.len() < 1_000 && !kept.clone().all(|(a, b)| is_same_attempt(a, b)) {
        return Err("an attempt of it changed".into());
    }
    if after.status.is_open() != after.due.is_some() {
        return Err(format!(
            "it is {} and due at {:?}",
            after.status.as_str(),
            after.due
        ));
    }
    if after.round < before.round {
        return Err("it went back to an earlier round".into());
    }
    if after.round == before.round {
        let ended = !before.status.is_open();
        if ended && (before.status, before.reason) != (after.status, after.reason) {
            let (from, to) = (before.status.as_str(), after.status.as_str());
            return Err(format!("it had ended as {from} and became {to}"));
        }
        if !before.status.may_become(after.status) {
            return Err(format!(
                "{} became {}",
                before.status.as_str(),
                after.status.as_str()
            ));
        }
        if new == 0 && before.status.is_open() && after.status == Status::Abandoned {
            return Err("it was given up without an attempt".into());
        }
        if new == 0 && after.status == Status::Success && before.status != after.status {
            return Err("it succeeded without an attempt".into());
        }
        if new == 0 && after.attempts_finished != before.attempts_finished {
            return Err("it used a place in the schedule without an attempt".into());
        }
    }
    Ok(())
}

/// Whether an attempt with this answer may have changed the delivery like this, and how long it now waits, by the
/// schedule.
pub(super) fn settled(
    before: &Delivery,
    after: &Delivery,
    told: &Told,
    retry: &Retry,
    recorded: &Recorded,
) -> Result<Option<u64>, String> {
    if !before.status.is_open() {
        return Ok(None);
    }
    let ended_at_once = recorded.marked
        && after.status == Status::Failed
        && matches!(
            after.reason,
            Some(Reason::Discarded | Reason::EndpointDeleted)
        );
    if ended_at_once {
        return Ok(None);
    }
    let expect = |status: Status, reason: Option<Reason>| {
        if (after.status, after.reason) == (status, reason) {
            return Ok(None);
        }
        let (is, due) = (after.status.as_str(), status.as_str());
        Err(format!(
            "after {told:?} it is {is} {:?} and not {due} {reason:?}",
            after.reason
        ))
    };
    if told.outcome == AttemptOutcome::Success {
        return expect(Status::Success, None);
    }
    if told.code == Some(410) {
        return expect(Status::Failed, Some(Reason::Gone));
    }
    if before.extra {
        expect(Status::Retrying, None)?;
        if after.next_attempt_at != before.next_attempt_at || after.due != before.next_attempt_at {
            return Err("an extra attempt that failed changed the schedule".into());
        }
        return Ok(None);
    }
    let finished = before.attempts_finished + 1;
    if after.attempts_finished != finished {
        return Err(format!(
            "{} attempts of the round are finished, not {finished}",
            after.attempts_finished
        ));
    }
    let Some(delay) = retry.schedule.get(finished as usize - 1) else {
        return expect(Status::Abandoned, None);
    };
    expect(Status::Retrying, None)?;
    let delay_ms = u64::try_from(delay.as_millis()).unwrap();
    let ended = UnixMs(told.store_ms).max(after.id.event.accepted_at());
    let due = after.due.unwrap_or_default();
    let asked = told
        .retry_after_s
        .filter(|_| matches!(told.code, Some(429 | 503)));
    let asked_ms = asked.map_or(0, |s| s.min(MOST_RETRY_AFTER_S) * 1_000);
    let least = UnixMs(told.store_ms).plus_ms(delay_ms.max(asked_ms));
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a day of milliseconds"
    )]
    let jitter_ms = (delay_ms as f64 * retry.jitter).ceil() as u64;
    let most = ended.plus_ms((delay_ms + jitter_ms).max(asked_ms));
    if due < least || due > most {
        return Err(format!(
            "attempt {finished} ended at {ended:?}, the next is due at {due:?} and not from {least:?} to {most:?}"
        ));
    }
    if after.next_attempt_at != after.due {
        return Err("the next attempt is not when it is due".into());
    }
    Ok(Some(delay_ms.max(asked_ms)))
}

/// An endpoint is enabled: its failures are reset, its last success is kept.
pub(super) fn switched_on(mut state: EndpointState) -> EndpointState {
    state.failure_count = 0;
    state.failing_since = None;
    state
}

/// Failures in a row before an endpoint is disabled, however long they took.
const FAILURES_TO_SWITCH_OFF: u32 = 6;

/// Returns why an attempt, the last that counts in `state`, disables its endpoint, if it does.
pub(super) fn switches_off(
    state: &EndpointState,
    code: Option<u16>,
    success: bool,
    paced: UnixMs,
    disable_after: Duration,
) -> Option<&'static str> {
    let since = state.failing_since?;
    let lasted = Duration::from_millis(paced.since_ms(since));
    match code {
        _ if success => None,
        Some(410) => Some("gone"),
        _ if state.failure_count < FAILURES_TO_SWITCH_OFF || lasted < disable_after => None,
        _ => Some("failing"),
    }
}

/// The results of attempts to one endpoint, in unknown order.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    successes_ms: Vec<u64>,
    failures: u32,
}

impl Outcomes {
    pub(super) fn add(&mut self, success: bool, at_ms: u64) {
        if success {
            self.successes_ms.push(at_ms);
        } else {
            self.failures += 1;
        }
    }

    /// Whether some order of them leads from one state to the other. `switched`: the endpoint may have been enabled in
    /// between.
    pub(super) fn may_lead(
        &self,
        from: &EndpointState,
        to: &EndpointState,
        switched: bool,
        paced: UnixMs,
    ) -> bool {
        let last_success = match to.last_success_at {
            at if self.successes_ms.is_empty() => at == from.last_success_at,
            at => at.is_some_and(|at| self.successes_ms.contains(&at.0)),
        };
        let failures = self.failures;
        let began_here = |since: UnixMs| failures > 0 && since == paced;
        // Without a success or a switch in between, the run of failures continues.
        let goes_on = self.successes_ms.is_empty()
            && to.failure_count == from.failure_count + failures
            && match (from.failing_since, to.failing_since) {
                (None, Some(since)) => began_here(since),
                (before, after) => before == after && (after.is_some() || failures == 0),
            };
        let may_begin = switched || !self.successes_ms.is_empty();
        let begins = may_begin
            && to.failure_count <= failures
            && match to.failing_since {
                None => to.failure_count == 0,
                Some(since) => to.failure_count > 0 && began_here(since),
            };
        last_success && (goes_on || begins)
    }
}

/// A replaced secret signs no longer than was announced when it was replaced.
pub(super) fn secrets_may_follow(before: &Endpoint, after: &Endpoint) -> Result<(), String> {
    for live in &after.secrets {
        let known = before.secrets.iter();
        let mut known = known.filter(|known| known.secret.is_same_as(&live.secret));
        // An expired one may return as a new one: secrets are drawn from few.
        let bound = known.find_map(|known| known.until);
        if let Some(until) = bound.filter(|until| *until > after.updated_at)
            && live.until.is_none_or(|now| now > until)
        {
            return Err(format!(
                "a secret of {} that expires at {until:?} signs until {:?}",
                after.id, live.until
            ));
        }
    }
    Ok(())
}

/// Returns an endpoint's state after an attempt.
pub(super) fn run_after(
    mut state: EndpointState,
    success: bool,
    at_ms: u64,
    paced: UnixMs,
) -> EndpointState {
    if success {
        state.failure_count = 0;
        state.failing_since = None;
        state.last_success_at = Some(UnixMs(at_ms));
    } else {
        state.failure_count += 1;
        state.failing_since = state.failing_since.or(Some(paced));
    }
    state
}
