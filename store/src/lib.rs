//! The nouns of stormhook and the one file that holds them.
//!
//! This crate is the only one that names redb or bincode. It never decides *whether* to retry, never asks what time it
//! is, and knows nothing of HTTP: a batch of [`Op`]s and a `now` go in, a durable commit and its results come out.

pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod ids;
pub mod op;
pub mod query;
mod record;
pub mod stats;

pub use delivery::{Attempt, AttemptOutcome, Delivery, Reason, Status, Trigger};
pub use endpoint::{Endpoint, EndpointState, NewEndpoint};
pub use event::{Event, NewEvent};
pub use ids::{DeliveryId, EndpointId, EventId, Slot, UnixMs};
pub use op::{Change, Done, Op, Refusal, Settle, Verdict, Waiting};
