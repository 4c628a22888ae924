//! What a batch may ask of the store, and what it answers.
//!
//! A batch is one durable transaction. Each operation in it is decided on its own: one that is refused leaves the others be.

use crate::bulk::Bulk;
use crate::delivery::{Attempt, Delivery, Waiting};
use crate::endpoint::{Endpoint, EndpointChange, EndpointState, NewEndpoint, Seed};
use crate::event::{Event, NewEvent};
use crate::ids::{DeliveryId, EndpointId, EventId, Slot, UnixMs};
use crate::swept::Sweep;
use std::sync::Arc;
use stormhook_verifier::Secret;

/// One operation.
#[derive(Debug)]
pub enum Op {
    /// Take an event and open a delivery to each endpoint that subscribed. Answers [`Done::Accepted`] or [`Done::Replayed`].
    Accept(NewEvent),
    /// Record a finished attempt. Answers [`Done::Settled`].
    Settle(Box<Settle>),
    /// Answers [`Done::Endpoint`].
    CreateEndpoint(Box<NewEndpoint>),
    /// The same under an idempotency key. Answers [`Done::Endpoint`] or [`Done::EndpointReplayed`].
    CreateEndpointOnce {
        /// The endpoint.
        new: Box<NewEndpoint>,
        /// Under which key. The id is one made at about the time of the commit: the key is as old as that.
        key: EndpointKey,
    },
    /// Answers [`Done::Endpoint`].
    UpdateEndpoint {
        /// Which one.
        id: EndpointId,
        /// What changes.
        change: Box<EndpointChange>,
    },
    /// Ends its open deliveries as `endpoint_deleted`. Answers [`Done::Endpoint`].
    DeleteEndpoint {
        /// Which one.
        id: EndpointId,
    },
    /// Answers [`Done::Endpoint`].
    RotateSecret {
        /// Which one.
        id: EndpointId,
        /// The secret that signs first from now on.
        secret: Secret,
        /// The seed of the key beside it; left aside where the endpoint signs without ed25519.
        seed: Seed,
        /// How long the others go on signing, in milliseconds; 0 ends them.
        overlap_ms: u64,
    },
    /// An extra attempt of an open delivery, or a new round of an ended one. Answers [`Done::Delivery`].
    /// The caller sees to it that no attempt of the pair is on the wire.
    Retry(DeliveryId),
    /// End an open delivery. Answers [`Done::Delivery`]. As for `Retry`, none may be on the wire.
    Cancel(DeliveryId),
    /// A new round, or the first one where there was no delivery. Answers [`Done::Delivery`].
    Replay {
        /// What to send again.
        event: EventId,
        /// To whom.
        endpoint: EndpointId,
    },
    /// New rounds, as [`Recover`] says: a bulk change. Answers [`Done::Recovering`].
    Recover(Recover),
    /// Write some of what bulk changes have done, as a [`crate::BulkWalk`] found it. Answers [`Done::BulkAdvanced`].
    AdvanceBulk(AdvanceBulk),
    /// End an open delivery that can't be attempted, or whose outcome can't be recorded, because what is stored of it is damaged:
    /// as [`crate::Reason::Damaged`] where its row can be read, and no attempt is recorded. Answers [`Done::Delivery`]. Where the row
    /// is damaged too it is left as it is and waits no longer, or it ended otherwise: [`Done::Nothing`].
    EndDamaged {
        /// Which one. Nothing else may change it meanwhile.
        delivery: DeliveryId,
        /// When it is due, as in [`Waiting::due`].
        due: UnixMs,
    },
    /// Move histograms and per-endpoint windows from memory into the file. Answers [`Done::Nothing`].
    FlushStats,
    /// Drop what a [`crate::Sweeper`] found to be past its retention: a bounded step of it. Answers [`Done::Swept`].
    Sweep(Sweep),
    /// Commit nothing, to see whether commits succeed.
    Probe,
}

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
    pub verdict: Verdict,
    /// When its endpoint is to be switched off, and how that is said.
    pub disable: Option<Disable>,
}

/// What follows from a finished attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
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

/// What to send again to one endpoint.
#[derive(Debug, Clone)]
pub struct Recover {
    /// To whom.
    pub endpoint: EndpointId,
    /// Accepted at or after this.
    pub since: UnixMs,
    /// Accepted before this.
    pub until: UnixMs,
    /// Also events that it was subscribed to but inactive for.
    pub missed: bool,
}

/// Some of what an endpoint's bulk changes have done and what is still to be written.
#[derive(Debug, Clone)]
pub struct AdvanceBulk {
    /// Whose.
    pub slot: Slot,
    /// Events whose deliveries are to be written, in order of sequence.
    pub events: Vec<EventId>,
    /// Then events that have no delivery yet and get one.
    pub missed: Vec<EventId>,
    /// Then the bulk changes that are done, by number.
    pub(crate) done: Vec<u64>,
}

impl AdvanceBulk {
    /// Nothing of this endpoint's.
    pub fn nothing(slot: Slot) -> Self {
        Self {
            slot,
            events: Vec::new(),
            missed: Vec::new(),
            done: Vec::new(),
        }
    }

    /// How many things it does.
    pub fn len(&self) -> usize {
        self.events.len() + self.missed.len() + self.done.len()
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same in two parts: the first so many things, and the rest.
    #[must_use]
    pub fn split_at(mut self, first: usize) -> [Self; 2] {
        let events = first.min(self.events.len());
        let missed = (first - events).min(self.missed.len());
        let done = (first - events - missed).min(self.done.len());
        let rest = Self {
            slot: self.slot,
            events: self.events.split_off(events),
            missed: self.missed.split_off(missed),
            done: self.done.split_off(done),
        };
        [self, rest]
    }

    /// Adds what comes after it.
    pub fn append(&mut self, mut rest: Self) {
        self.events.append(&mut rest.events);
        self.missed.append(&mut rest.missed);
        self.done.append(&mut rest.done);
    }
}

/// The idempotency key of an endpoint's creation.
#[derive(Debug, Clone)]
pub struct EndpointKey {
    /// The key.
    pub key: String,
    /// A digest of what was asked for: the same request has the same.
    pub request: [u8; 32],
}

/// What an operation came to.
#[derive(Debug)]
pub enum Done {
    /// Stored.
    Accepted(Arc<Event>),
    /// IndexedState stored before, under the same key.
    Replayed(Arc<Event>),
    /// Recorded.
    Settled {
        /// The delivery as it is now.
        delivery: Box<Delivery>,
    },
    /// The endpoint as it is now.
    Endpoint(Arc<Endpoint>),
    /// The endpoint as it is now; it was created before, under the same key.
    EndpointReplayed(Arc<Endpoint>),
    /// The delivery as it is now.
    Delivery(Box<Delivery>),
    /// Under way: what was asked for.
    Recovering(Recover),
    /// All of it, or as much as there was room for.
    BulkAdvanced {
        /// What is left.
        left: AdvanceBulk,
    },
    /// Some of it swept.
    Swept {
        /// Whether more is left of the same operation.
        more: bool,
    },
    /// Nothing to say.
    Nothing,
    /// Nothing of this operation was done: a row that it needs is damaged, as the text says.
    Damaged(String),
    /// Nothing of this operation was done.
    Refused(Refusal),
}

/// Why an operation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such endpoint, event or delivery.
    #[error("there is no such thing")]
    NotFound,
    /// The key is another event's.
    #[error("the idempotency key belongs to another event")]
    IdempotencyConflict,
    /// The key is another endpoint's, or that of one that was deleted.
    #[error("the idempotency key belongs to another endpoint")]
    EndpointKeyConflict,
    /// Too many deliveries wait.
    #[error("too many deliveries are waiting")]
    Full,
    /// Too many bulk changes of the endpoint are in progress.
    #[error("too many bulk changes of the endpoint are in progress")]
    TooManyBulk,
    /// The organization has as many endpoints as it may.
    #[error("the organization has as many endpoints as it may have")]
    TooManyEndpoints,
    /// The secret is live already.
    #[error("the secret signs already")]
    SecretLive,
    /// The endpoint is switched off.
    #[error("the endpoint is inactive")]
    EndpointInactive,
    /// The delivery ended already.
    #[error("the delivery has ended")]
    DeliveryEnded,
    /// The event's data is past its retention.
    #[error("the event's data is past its retention")]
    DataGone,
}

/// What changed for whoever keeps the queues in memory. Applied in commit order, after the commit.
#[derive(Debug, Clone)]
pub enum Change {
    /// A delivery waits, or waits differently: replaces what was known of it.
    Waiting(Waiting),
    /// A delivery ended.
    Ended(DeliveryId),
    /// An endpoint is new or changed.
    Endpoint(Arc<Endpoint>),
    /// All deliveries of an endpoint changed at once: what waits for it has ended, if the bulk change ends deliveries.
    Bulk(Slot, Bulk),
}
