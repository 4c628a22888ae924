//! Operations of a batch: commands of callers, outcomes of attempts, and maintenance.
//!
//! A batch is one durable transaction. Each operation in it is decided on its own: a refused one doesn't affect the
//! others.

use crate::api_key::ApiKey;
use crate::audit::Attribution;
use crate::bulk::Bulk;
use crate::command::{
    AcceptEmitted, Accepted, Attributed, BeginPurge, Cancel, CreateApiKey, CreateEndpoint, Created,
    DeleteEndpoint, DeleteOrganization, DeletedOrganization, RecordAudit, Recover, Refusal, Replay,
    Retry, RevokeApiKey, RotateSecret, UpdateEndpoint,
};
use crate::delivery::{Delivery, QueueEntry};
use crate::endpoint::{Endpoint, EndpointState};
use crate::event::NewEvent;
use crate::ids::{DeliveryId, Slot};
use crate::maintenance::{
    AdvanceBulk, AdvancePurge, EndDamaged, FlushStats, Probe, PurgeAdvanced, Reseal, Resealed,
    Sweep, Swept, TouchApiKeys,
};
use crate::purge::Purge;
use crate::settle::Settle;
use std::sync::Arc;
use std::time::Duration;

/// Something that a batch can do, with an answer of its own.
pub trait Operation: Into<Op> {
    /// The answer to the operation.
    type Answer: Send + 'static;

    /// Returns this operation's answer from a batch's answer.
    ///
    /// # Errors
    /// The damage that the operation met, as text. Nothing of it was done.
    fn answer(done: Done) -> Result<Self::Answer, String>;
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($operation:ty) => $answer:ty,)*) => {
        /// One operation.
        #[derive(Debug)]
        pub enum Op {
            $($(#[$doc])* $name($operation),)*
            /// An operation that is recorded in the audit log.
            Attributed(Box<AttributedOp>),
        }

        /// A batch's answer to an operation, with the operation's name.
        #[derive(Debug)]
        pub enum Done {
            $($(#[$doc])* $name($answer),)*
            /// Nothing of the operation was done: a row that it needs is damaged. The text names it.
            Damaged(String),
        }

        $(
            impl From<$operation> for Op {
                fn from(operation: $operation) -> Self {
                    Self::$name(operation)
                }
            }

            impl Operation for $operation {
                type Answer = $answer;

                fn answer(done: Done) -> Result<$answer, String> {
                    match done {
                        Done::$name(answer) => Ok(answer),
                        Done::Damaged(damage) => Err(damage),
                        // A batch answers each operation in its place and by its name.
                        other => Err(format!("{} was answered by {other:?}", stringify!($name))),
                    }
                }
            }
        )*
    };
}

operations! {
    /// Stores an event and creates a delivery for each endpoint that subscribes to it.
    Accept(NewEvent) => Result<Accepted, Refusal>,
    /// Stores events that producers wrote to an outbox.
    AcceptEmitted(AcceptEmitted) => Result<Vec<Result<Accepted, Refusal>>, Refusal>,
    /// Records a finished attempt. Returns the delivery after it.
    Settle(Box<Settle>) => Result<Box<Delivery>, Refusal>,
    /// Creates an endpoint.
    CreateEndpoint(CreateEndpoint) => Result<Created, Refusal>,
    /// Changes an endpoint. Returns the endpoint after it.
    UpdateEndpoint(UpdateEndpoint) => Result<Arc<Endpoint>, Refusal>,
    /// Deletes an endpoint. Returns the record that is kept.
    DeleteEndpoint(DeleteEndpoint) => Result<Arc<Endpoint>, Refusal>,
    /// Gives an endpoint another secret. Returns the endpoint after it.
    RotateSecret(RotateSecret) => Result<Arc<Endpoint>, Refusal>,
    /// Retries a delivery. Returns the delivery after it.
    Retry(Retry) => Result<Box<Delivery>, Refusal>,
    /// Cancels a delivery. Returns the delivery after it.
    Cancel(Cancel) => Result<Box<Delivery>, Refusal>,
    /// Replays an event. Returns the delivery after it.
    Replay(Replay) => Result<Box<Delivery>, Refusal>,
    /// Begins a recovery. Returns its scope.
    Recover(Recover) => Result<Recover, Refusal>,
    /// Begins a purge. Returns it.
    BeginPurge(BeginPurge) => Result<Purge, Refusal>,
    /// Deletes an organization.
    DeleteOrganization(DeleteOrganization) => Result<DeletedOrganization, Refusal>,
    /// Writes part of what a purge removes.
    AdvancePurge(AdvancePurge) => PurgeAdvanced,
    /// Creates an API key. Returns it as it is stored.
    CreateApiKey(CreateApiKey) => Result<Box<ApiKey>, Refusal>,
    /// Revokes an API key. Returns the key after it.
    RevokeApiKey(RevokeApiKey) => Result<Box<ApiKey>, Refusal>,
    /// Writes when API keys were last used.
    TouchApiKeys(TouchApiKeys) => (),
    /// Writes an entry of the audit log.
    RecordAudit(RecordAudit) => Result<(), Refusal>,
    /// Writes part of what bulk changes did, as a [`crate::BulkWalk`] found it. Returns what there was no room for.
    AdvanceBulk(AdvanceBulk) => AdvanceBulk,
    /// Ends a damaged delivery. Returns the delivery, if its row could be read and it was open.
    EndDamaged(EndDamaged) => Option<Box<Delivery>>,
    /// Writes statistics.
    FlushStats(FlushStats) => (),
    /// Removes what a [`crate::Sweeper`] found, in bounded steps.
    Sweep(Sweep) => Swept,
    /// Encrypts, decrypts or re-encrypts private parts of endpoints, in bounded steps.
    Reseal(Reseal) => Resealed,
    /// Commits nothing.
    Probe(Probe) => (),
}

/// An operation, and whom it is attributed to.
#[derive(Debug)]
pub struct AttributedOp {
    /// The operation.
    pub op: Op,
    /// Who asked for it.
    pub by: Attribution,
}

impl Op {
    /// Returns the operation itself, whoever asked for it.
    pub fn bare(&self) -> &Self {
        match self {
            Self::Attributed(attributed) => attributed.op.bare(),
            op => op,
        }
    }
}

impl<C: Operation> From<Attributed<C>> for Op {
    fn from(Attributed { command, by }: Attributed<C>) -> Self {
        let op = command.into();
        match by {
            Some(by) => Self::Attributed(Box::new(AttributedOp { op, by: *by })),
            None => op,
        }
    }
}

impl<C: Operation> Operation for Attributed<C> {
    type Answer = C::Answer;

    fn answer(done: Done) -> Result<Self::Answer, String> {
        C::answer(done)
    }
}

/// A change to the queues in memory. Applied in commit order, after the commit.
#[derive(Debug, Clone)]
pub enum Change {
    /// A delivery is open, or its due time changed. Replaces what was known of it.
    Waiting(QueueEntry),
    /// A delivery ended.
    Ended(DeliveryId),
    /// An endpoint is new or changed.
    Endpoint(Arc<Endpoint>),
    /// A bulk change of an endpoint's deliveries. If it ends deliveries, all of the endpoint's open ones have ended.
    Bulk(Slot, Bulk),
    /// A purge began.
    Purge(Arc<Purge>),
    /// This process decides about more organizations from now on.
    Gained(Box<Gained>),
    /// It no longer decides about these endpoints.
    Lost(Vec<Slot>),
}

/// What a process needs to deliver for organizations that another one delivered for before.
#[derive(Debug, Clone)]
pub struct Gained {
    /// Their endpoints, with the state of each.
    pub endpoints: Vec<(Arc<Endpoint>, EndpointState)>,
    /// Their open deliveries, in order of due time.
    pub waiting: Vec<QueueEntry>,
    /// The endpoints with bulk changes in progress, and the last stamp of each.
    pub bulks: Vec<(Slot, u64)>,
    /// For how long attempts of the process before may still be on the wire, from now on.
    pub on_wire_for: Duration,
}
