//! Ids in paths and parameters: of an event, an endpoint, a delivery.

use super::ingest::check_organization;
use super::problem::Problem;
use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use serde::de::{DeserializeOwned, Error, Unexpected};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use stormhook_store::{ApiKeyId, DeliveryId, EndpointId, EventId, Named};
use utoipa::IntoParams;

/// The event that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfEvent {
    /// The event, `evt_…`.
    #[param(example = "evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    id: String,
}

impl OfEvent {
    pub(super) fn id(&self) -> Result<EventId, Problem> {
        named(&self.id)
    }
}

/// The endpoint that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfEndpoint {
    /// The endpoint, `ep_…`.
    #[param(example = "ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    id: String,
}

impl OfEndpoint {
    pub(super) fn id(&self) -> Result<EndpointId, Problem> {
        named(&self.id)
    }
}

/// The delivery that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfDelivery {
    /// The delivery, `dlv_…`.
    #[param(example = "dlv_06H1H290P3SHB4X9J2M7K5T8V1C0D000")]
    id: String,
}

impl OfDelivery {
    pub(super) fn id(&self) -> Result<DeliveryId, Problem> {
        named(&self.id)
    }
}

/// The API key that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfApiKey {
    /// The API key, `key_…`.
    #[param(example = "key_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    id: String,
}

impl OfApiKey {
    pub(super) fn id(&self) -> Result<ApiKeyId, Problem> {
        named(&self.id)
    }
}

/// The organization that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfOrganization {
    /// The organization, 1 to 128 characters of A-Z, a-z, 0-9, _ and -.
    #[param(
        example = "org_42",
        min_length = 1,
        max_length = 128,
        pattern = "^[A-Za-z0-9_-]+$"
    )]
    id: String,
}

impl OfOrganization {
    pub(super) fn id(self) -> Result<String, Problem> {
        check_organization(&self.id).map_err(|_| Problem::not_found("organization"))?;
        Ok(self.id)
    }
}

/// The id in a path. Invalid text is treated like any malformed id: it names nothing.
pub(super) struct At<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(said)) => Ok(Self(said)),
            Err(_) => Err(Problem::not_found("thing")),
        }
    }
}

/// An id of one kind.
pub(super) trait Id: Sized {
    /// The prefix and form of such an id.
    const OF: &'static str;

    fn of(text: &str) -> Option<Self>;
}

impl Id for EventId {
    const OF: &'static str = "event";

    fn of(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl Id for EndpointId {
    const OF: &'static str = "endpoint";

    fn of(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl Id for DeliveryId {
    const OF: &'static str = "delivery";

    fn of(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl Id for ApiKeyId {
    const OF: &'static str = "API key";

    fn of(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

/// Returns the kind of object that a path names, and the object unless its id is malformed.
pub(super) fn object_in(path: &str) -> Option<(&'static str, Option<Named>)> {
    let mut parts = path.strip_prefix("/v1/")?.split('/');
    Some(match (parts.next()?, parts.next()?) {
        // A route of all events.
        ("events", "batch" | "purge") => return None,
        ("endpoints", id) => (EndpointId::OF, EndpointId::of(id).map(Named::Endpoint)),
        ("events", id) => (EventId::OF, EventId::of(id).map(Named::Event)),
        ("deliveries", id) => {
            let delivery = DeliveryId::of(id);
            (DeliveryId::OF, delivery.map(|id| Named::Slot(id.slot)))
        }
        _ => return None,
    })
}

/// Parses an id in a path. A malformed one is not found.
pub(super) fn named<T: Id>(text: &str) -> Result<T, Problem> {
    T::of(text).ok_or_else(|| Problem::not_found(T::OF))
}

/// An id in a query, where a malformed one is an error.
pub(super) struct Given<T>(pub(super) T);

impl<'de, T: Id> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text: Cow<'_, str> = Deserialize::deserialize(from)?;
        T::of(&text).map(Self).ok_or_else(|| {
            let expected = format!("an id of the kind {}", T::OF);
            D::Error::invalid_value(Unexpected::Str(&text), &expected.as_str())
        })
    }
}
