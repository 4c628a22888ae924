//! A finished attempt as the engine hands it over, and what follows from it.

use crate::delivery::Attempt;
use crate::endpoint::EndpointState;
use crate::event::NewEvent;
use crate::ids::{DeliveryId, UnixMs};

/// A finished attempt and what follows from it.
#[derive(Debug, Clone)]
pub struct Settle {
    /// Whose attempt it was.
    pub delivery: DeliveryId,
    /// The attempt. Its number and round are given by the store.
    pub attempt: Attempt,
    /// The request alone, in microseconds.
    pub duration_us: u64,
    /// When it ended.
    pub ended_at: UnixMs,
    /// What follows.
    pub next_step: NextStep,
    /// When its endpoint is to be switched off, and how that is said.
    pub disable: Option<Disable>,
}

/// What follows from a finished attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// It succeeded.
    Success,
    /// It failed; the schedule's next attempt is at this time.
    RetryAt(UnixMs),
    /// It failed and was the last of its schedule.
    GiveUp,
    /// The partner wants no more: 410.
    Gone,
    /// The daemon stopped meanwhile: due again at once, counted nowhere.
    Interrupted,
}

/// Switching an endpoint off, and the event that says so.
#[derive(Debug, Clone)]
pub struct Disable {
    /// Whether, given how the endpoint is doing when the attempt is recorded: outcomes before it may not be recorded yet when
    /// it ends.
    pub when: DisableWhen,
    /// Shown as `disabledReason`.
    pub reason: String,
    /// Goes to the organization's endpoints that name its type.
    pub notice: NewEvent,
}

/// When a failed attempt switches its endpoint off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisableWhen {
    /// At once.
    Now,
    /// When the run of failures without one success, this one included, is both.
    RunOf {
        /// At least so many.
        failures: u32,
        /// Begun at least so long ago, in milliseconds.
        lasting_ms: u64,
    },
}

impl DisableWhen {
    /// Whether that is so of an endpoint in this state, at the paced time of its last failure.
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
