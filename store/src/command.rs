//! The commands of callers, and why they are refused. Each has an answer of its own ([`crate::op::Operation`]).

use crate::api_key::ApiKey;
use crate::audit::{Attribution, Audited};
use crate::endpoint::{Endpoint, EndpointChange, NewEndpoint, Seed};
use crate::event::{EmittedEvent, Event};
use crate::ids::{ApiKeyId, DeliveryId, EndpointId, EventId, UnixMs};
use crate::purge::PurgeScope;
use std::sync::Arc;
use stormhook_verifier::Secret;

/// A stored event. The command is [`crate::NewEvent`].
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The event.
    pub event: Arc<Event>,
    /// Whether an earlier request with the same idempotency key stored it.
    pub replayed: bool,
}

/// Stores events of an outbox, in their order. The answer has one result for each event that was decided: there may be
/// no room for the last ones. An event that was stored before is not stored again.
#[derive(Debug)]
pub struct AcceptEmitted {
    /// The organization of all of them.
    pub organization: String,
    /// The events.
    pub events: Vec<EmittedEvent>,
}

/// Creates an endpoint.
#[derive(Debug)]
pub struct CreateEndpoint {
    /// The endpoint.
    pub new: Box<NewEndpoint>,
    /// With a key, the same request creates no second endpoint. The id must be made at about the time of the commit,
    /// because the key's age is taken from it.
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
    /// A digest of the request: equal requests have equal digests.
    pub request: [u8; 32],
}

/// A stored endpoint.
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
    /// How long the earlier secrets still sign, in milliseconds. 0 ends them immediately.
    pub overlap_ms: u64,
}

/// Requests an extra attempt of an open delivery, or a new round of an ended one. No attempt of it may be on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Retry(pub DeliveryId);

/// Ends an open delivery. No attempt of it may be on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Cancel(pub DeliveryId);

/// Opens a new round of a delivery, or the first one if there is no delivery yet. No attempt of it may be on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Replay {
    /// The event to send again.
    pub event: EventId,
    /// The endpoint to send it to.
    pub endpoint: EndpointId,
}

/// Opens new rounds of the failed deliveries of one endpoint: a bulk change.
#[derive(Debug, Clone)]
pub struct Recover {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Includes events accepted at or after this time.
    pub since: UnixMs,
    /// Includes events accepted before this time.
    pub until: UnixMs,
    /// Whether to include events that the endpoint was subscribed to while it was disabled.
    pub missed: bool,
}

/// Removes what events of an organization hold: a purge.
#[derive(Debug, Clone)]
pub struct BeginPurge {
    /// The organization.
    pub organization: String,
    /// Which events. Events that are accepted later are never among them.
    pub scope: PurgeScope,
}

/// Deletes the endpoints of an organization, revokes its API keys, and begins to remove these, its events and its
/// deliveries.
#[derive(Debug, Clone)]
pub struct DeleteOrganization {
    /// The organization.
    pub organization: String,
}

/// What an organization had that was not deleted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedOrganization {
    /// The number of its endpoints.
    pub endpoints: usize,
    /// The number of its API keys that were not revoked.
    pub api_keys: usize,
}

/// Creates an API key. The answer has its time of creation.
#[derive(Debug, Clone)]
pub struct CreateApiKey(pub Box<ApiKey>);

/// Revokes an API key. One that was revoked before stays as it is.
#[derive(Debug, Clone, Copy)]
pub struct RevokeApiKey(pub ApiKeyId);

/// Records in the audit log what changes nothing in the store.
#[derive(Debug, Clone)]
pub struct RecordAudit(pub Audited);

/// A command with whom it is attributed to. Without an attribution it is not recorded in the audit log.
#[derive(Debug, Clone)]
pub struct Attributed<C> {
    /// The command.
    pub command: C,
    /// Who asked for it.
    pub by: Option<Box<Attribution>>,
}

impl<C> Attributed<C> {
    /// Attributes a command.
    pub fn to(by: Attribution, command: C) -> Self {
        let by = Some(Box::new(by));
        Self { command, by }
    }
}

impl<C> From<C> for Attributed<C> {
    fn from(command: C) -> Self {
        Self { command, by: None }
    }
}

/// Why a command was refused. Nothing of it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such endpoint, event or delivery.
    #[error("not found")]
    NotFound,
    /// The idempotency key belongs to another event.
    #[error("the idempotency key belongs to another event")]
    IdempotencyConflict,
    /// The idempotency key belongs to another endpoint, or to one that was deleted.
    #[error("the idempotency key belongs to another endpoint")]
    EndpointKeyConflict,
    /// Another process decides about this organization.
    #[error("another daemon holds this organization")]
    NotHeld,
    /// There are too many open deliveries.
    #[error("there are too many open deliveries")]
    Full,
    /// Too many bulk changes of the endpoint are in progress.
    #[error("too many bulk changes of the endpoint are in progress")]
    TooManyBulk,
    /// Too many purges are in progress.
    #[error("too many purges are in progress")]
    TooManyPurges,
    /// A process that shares the store does not know purges.
    #[error("a daemon of an earlier version shares the store")]
    NotByAll,
    /// The organization has reached its limit of endpoints.
    #[error("the organization has reached its limit of endpoints")]
    TooManyEndpoints,
    /// There are as many API keys as there may be.
    #[error("there are too many API keys")]
    TooManyApiKeys,
    /// The secret is already active.
    #[error("the secret is already active")]
    SecretLive,
    /// The endpoint is disabled.
    #[error("the endpoint is disabled")]
    EndpointInactive,
    /// The delivery has already ended.
    #[error("the delivery has ended")]
    DeliveryEnded,
    /// The event's data is past its retention.
    #[error("the event's data is past its retention")]
    DataGone,
}
