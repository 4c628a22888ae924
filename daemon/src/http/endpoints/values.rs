//! The values of endpoint settings that need more than a JSON type: how each is read and described.

use crate::headers::{MAX_HEADERS, MAX_NAME_BYTES, MAX_VALUE_BYTES};
use crate::http::fields::Pairs;
use crate::http::openapi::{conditions, patterns};
use crate::http::problem::MAX_SHOWN_BYTES;
use crate::target::MAX_URL_BYTES;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use std::fmt;
use stormhook_engine::text;
use stormhook_store::endpoint::TypePattern;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};

const MAX_EVENT_TYPES: usize = 64;
const MAX_DESCRIPTION_CHARS: usize = 1_024;

/// The event types that an endpoint subscribes to.
pub(super) struct EventTypes(pub(super) Vec<TypePattern>);

impl<'de> Deserialize<'de> for EventTypes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = EventTypes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "a list of 1 to {MAX_EVENT_TYPES} event types: a.b, a.* or *"
                )
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<EventTypes, A::Error> {
                let mut types = Vec::new();
                let no_text = |_| A::Error::custom("Each of eventTypes must be a string.");
                while let Some(text) = list.next_element::<String>().map_err(no_text)? {
                    let read = TypePattern::parse(&text).ok_or_else(|| no_type(text));
                    types.push(read.map_err(A::Error::custom)?);
                }
                if !(1..=MAX_EVENT_TYPES).contains(&types.len()) {
                    return Err(A::Error::custom(format!(
                        "eventTypes must be 1 to {MAX_EVENT_TYPES} event types, not {}.",
                        types.len()
                    )));
                }
                Ok(EventTypes(types))
            }
        }
        from.deserialize_seq(Reading)
    }
}

fn no_type(text: String) -> String {
    let shown = text::cut(text, MAX_SHOWN_BYTES);
    format!(
        "{shown:?} is not an event type. Use a.b, a.* or *, where each part consists of A-Z, a-z, 0-9, _ and -."
    )
}

/// A note for people.
pub(super) struct Description(pub(super) String);

impl<'de> Deserialize<'de> for Description {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let chars = text.chars().count();
        if chars > MAX_DESCRIPTION_CHARS {
            return Err(D::Error::custom(format!(
                "description must be at most {MAX_DESCRIPTION_CHARS} characters, not {chars}."
            )));
        }
        Ok(Self(text))
    }
}

/// Attempts per second.
pub(super) struct Rate(pub(super) f64);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        f64::deserialize(from)
            .ok()
            .filter(|rate| *rate > 0.0 && rate.is_finite())
            .map(Self)
            .ok_or_else(|| {
                D::Error::custom(
                    "rateLimitPerSecond must be a number above 0, or null for no limit.",
                )
            })
    }
}

/// Headers in order, with any duplicates; the header rules check those.
pub(super) struct Headers(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let pairs = Pairs::deserialize(from)
            .map_err(|_| D::Error::custom("headers must be an object whose values are strings."))?;
        Ok(Self(pairs.0))
    }
}

pub(super) fn url() -> RefOr<Schema> {
    let mut url = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .format(Some(utoipa::openapi::SchemaFormat::Custom("uri".to_owned())))
        .description(Some(
            "The URL to deliver to: `https`, or `http` if `target.allow_http` is set. A URL that policy forbids is refused with 422.",
        ))
        .max_length(Some(MAX_URL_BYTES))
        .pattern(Some(patterns::URL))
        .build();
    let short_host = json!([{"pattern": patterns::SHORT_HOST}]);
    conditions::with(&mut url, "allOf", short_host);
    url.into()
}

pub(super) fn event_types() -> RefOr<Schema> {
    let one = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .max_length(Some(130))
        .pattern(Some(r"^(\*|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(\.\*)?)$"));
    ArrayBuilder::new()
        .items(one)
        .min_items(Some(1))
        .max_items(Some(64))
        .description(Some(
            "The event types to subscribe to: exact types (`a.b`), prefixes (`a.*` matches `a.b` and `a.b.c`, not `a`), or `*` for all except \
             `stormhook.…`, which must be named explicitly.",
        ))
        .into()
}

pub(super) fn headers() -> RefOr<Schema> {
    let value = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .max_length(Some(MAX_VALUE_BYTES))
        .pattern(Some("^([!-~]([\\t -~]*[!-~])?)?$"));
    let name = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .max_length(Some(MAX_NAME_BYTES))
        .pattern(Some("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))
        .build();
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some(
            "Headers to send with each attempt, at most 50; null for none. Responses show their values as `***`. Names that the daemon or \
             the connection uses are refused.",
        ))
        .additional_properties(Some(value))
        .property_names(Some(name))
        .max_properties(Some(MAX_HEADERS))
        .into()
}
