//! A finished attempt as the engine submits it, and what follows from it.

use crate::delivery::Attempt;
use crate::endpoint::EndpointState;
use crate::event::NewEvent;
use crate::ids::{DeliveryId, UnixMs};

/// A finished attempt and what follows from it.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The delivery that was attempted.
    pub delivery: DeliveryId,
    /// The attempt. The store assigns its number and round.
    pub attempt: Attempt,
    /// The duration of the request alone, in microseconds.
    pub duration_us: u64,
    /// When it ended.
    pub ended_at: UnixMs,
    /// What follows for the delivery.
    pub next_step: NextStep,
    /// When its endpoint is to be disabled, and the event that reports it.
    pub disable: Option<Disable>,
}

/// What follows from a finished attempt for its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// It succeeded.
    Success,
    /// It failed; the schedule's next attempt is at this time.
    RetryAt(UnixMs),
    /// It failed and was the last attempt of its schedule.
    GiveUp,
    /// The receiver answered 410: no further attempts.
    Gone,
    /// The daemon stopped meanwhile: due again immediately, not counted.
    Interrupted,
}

/// Disables an endpoint, and reports it with an event.
#[derive(Debug, Clone)]
pub struct Disable {
    /// The condition, checked against the endpoint's state when the attempt is recorded: when it ends, earlier outcomes
    /// may not be recorded yet.
    pub when: DisableWhen,
    /// Shown as `disabledReason`.
    pub reason: String,
    /// The event. Sent to the organization's endpoints that subscribe to its type by name.
    pub notice: NewEvent,
}

/// When a failed attempt disables its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisableWhen {
    /// Immediately.
    Now,
    /// When the run of failures without a success, including this one, meets both conditions.
    RunOf {
        /// It has at least this many failures.
        failures: u32,
        /// It began at least this long ago, in milliseconds.
        lasting_ms: u64,
    },
}

impl DisableWhen {
    /// Whether the condition holds for an endpoint in this state, at the paced time of its last failure.
    pub fn holds(self, state: &EndpointState, at: UnixMs) -> bool {
        match self {
            Self::Now => true,
            Self::RunOf {
                failures,
                lasting_ms,
            } => {
                state.failure_count >= failures
                    && at.since_ms(state.failing_since.unwrap_or(at)) >= lasting_ms
            }
        }
    }
}
