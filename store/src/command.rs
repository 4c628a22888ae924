//! The commands of the product: what callers ask for, and why they are refused. Each has an answer of its own
//! ([`crate::op::Operation`]).

use crate::endpoint::{Endpoint, EndpointChange, NewEndpoint, Seed};
use crate::event::Event;
use crate::ids::{DeliveryId, EndpointId, EventId, UnixMs};
use std::sync::Arc;
use stormhook_verifier::Secret;

/// An event that is stored. The command is [`crate::NewEvent`].
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The event.
    pub event: Arc<Event>,
    /// Whether an earlier request with the same idempotency key stored it.
    pub replayed: bool,
}

/// Creates an endpoint.
#[derive(Debug)]
pub struct CreateEndpoint {
    /// The endpoint.
    pub new: Box<NewEndpoint>,
    /// The same request with the same key creates no second one. The id must be made at about the time of the commit: the key is as
    /// old as that.
    pub key: Option<EndpointKey>,
}

impl From<NewEndpoint> for CreateEndpoint {
    fn from(new: NewEndpoint) -> Self {
        Self {
            new: Box::new(new),
            key: None,
        }
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

/// An endpoint that is stored.
#[derive(Debug, Clone)]
pub struct Created {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Whether an earlier request with the same idempotency key created it.
    pub replayed: bool,
}

/// Changes settings of an endpoint.
#[derive(Debug)]
pub struct UpdateEndpoint {
    /// The endpoint.
    pub id: EndpointId,
    /// The settings that change.
    pub change: Box<EndpointChange>,
}

/// Deletes an endpoint. Its open deliveries end as `endpoint_deleted`.
#[derive(Debug, Clone, Copy)]
pub struct DeleteEndpoint {
    /// The endpoint.
    pub id: EndpointId,
}

/// Gives an endpoint another secret.
#[derive(Debug)]
pub struct RotateSecret {
    /// The endpoint.
    pub id: EndpointId,
    /// The secret that signs first from now on.
    pub secret: Secret,
    /// The seed of its ed25519 key. Ignored if the endpoint does not sign with ed25519.
    pub seed: Seed,
    /// How long the earlier secrets still sign, in milliseconds. 0 ends them.
    pub overlap_ms: u64,
}

/// An extra attempt of an open delivery, or a new round of an ended one. No attempt of it may be on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Retry(pub DeliveryId);

/// Ends an open delivery. No attempt of it may be on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Cancel(pub DeliveryId);

/// A new round of a delivery, or the first one of a pair that has no delivery. No attempt of it may be on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Replay {
    /// The event to send again.
    pub event: EventId,
    /// The endpoint to send it to.
    pub endpoint: EndpointId,
}

/// New rounds for the failed deliveries of one endpoint: a bulk change.
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

/// Why a command was refused. Nothing of it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such endpoint, event or delivery.
    #[error("not found")]
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
