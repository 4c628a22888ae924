//! Operations of a batch: commands of callers, outcomes of attempts, and maintenance.
//!
//! A batch is one durable transaction. Each operation in it is decided on its own: one that is refused does not affect the others.

use crate::bulk::Bulk;
use crate::command::{
    Accepted, Cancel, CreateEndpoint, Created, DeleteEndpoint, Recover, Refusal, Replay, Retry,
    RotateSecret, UpdateEndpoint,
};
use crate::delivery::{Delivery, QueueEntry};
use crate::endpoint::Endpoint;
use crate::event::NewEvent;
use crate::ids::{DeliveryId, Slot};
use crate::maintenance::{AdvanceBulk, EndDamaged, FlushStats, Probe, Sweep, Swept};
use crate::settle::Settle;
use std::sync::Arc;

/// Something that a batch can do, with an answer of its own.
pub trait Operation: Into<Op> {
    /// The answer to it.
    type Answer: Send + 'static;

    /// Its answer, out of what a batch said to it.
    ///
    /// # Errors
    /// The text says which damage the operation met. Nothing of it was done then.
    fn answer(done: Done) -> Result<Self::Answer, String>;
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($operation:ty) => $answer:ty,)*) => {
        /// One operation.
        #[derive(Debug)]
        pub enum Op {
            $($(#[$doc])* $name($operation),)*
        }

        /// What a batch says to an operation: its answer has the operation's name.
        #[derive(Debug)]
        pub enum Done {
            $($(#[$doc])* $name($answer),)*
            /// Nothing of the operation was done: a row that it needs is damaged, as the text says.
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
                        // A batch answers each operation by its name, in its place.
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
    /// Records a finished attempt. Answers with the delivery after it.
    Settle(Box<Settle>) => Result<Box<Delivery>, Refusal>,
    /// Creates an endpoint.
    CreateEndpoint(CreateEndpoint) => Result<Created, Refusal>,
    /// Changes an endpoint. Answers with the endpoint after it.
    UpdateEndpoint(UpdateEndpoint) => Result<Arc<Endpoint>, Refusal>,
    /// Deletes an endpoint. Answers with what is kept of it.
    DeleteEndpoint(DeleteEndpoint) => Result<Arc<Endpoint>, Refusal>,
    /// Gives an endpoint another secret. Answers with the endpoint after it.
    RotateSecret(RotateSecret) => Result<Arc<Endpoint>, Refusal>,
    /// Retries a delivery. Answers with the delivery after it.
    Retry(Retry) => Result<Box<Delivery>, Refusal>,
    /// Cancels a delivery. Answers with the delivery after it.
    Cancel(Cancel) => Result<Box<Delivery>, Refusal>,
    /// Replays an event. Answers with the delivery after it.
    Replay(Replay) => Result<Box<Delivery>, Refusal>,
    /// Begins a recovery. Answers with what it is of.
    Recover(Recover) => Result<Recover, Refusal>,
    /// Writes some of what bulk changes did, as a [`crate::BulkWalk`] found it. Answers with what there was no room for.
    AdvanceBulk(AdvanceBulk) => AdvanceBulk,
    /// Ends a damaged delivery. Answers with the delivery, if its row could be read and it was open.
    EndDamaged(EndDamaged) => Option<Box<Delivery>>,
    /// Writes statistics.
    FlushStats(FlushStats) => (),
    /// Drops what a [`crate::Sweeper`] found: a bounded step of it.
    Sweep(Sweep) => Swept,
    /// Commits nothing.
    Probe(Probe) => (),
}

/// What changed for the queues in memory. Applied in commit order, after the commit.
#[derive(Debug, Clone)]
pub enum Change {
    /// A delivery waits, or waits differently: replaces what was known of it.
    Waiting(QueueEntry),
    /// A delivery ended.
    Ended(DeliveryId),
    /// An endpoint is new or changed.
    Endpoint(Arc<Endpoint>),
    /// All deliveries of an endpoint changed at once: what waits for it has ended, if the bulk change ends deliveries.
    Bulk(Slot, Bulk),
}
