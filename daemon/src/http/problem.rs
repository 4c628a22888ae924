//! Error responses: problem details (RFC 9457) with a stable `code`. Every error response of both listeners is made
//! here. A detail says what to do and never holds a secret or a payload.

use std::borrow::Cow;

use crate::app::NoRandomness;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::{Serialize, Serializer};
use stormhook_store::Refusal;

pub(crate) use super::code::Code;
use stormhook_engine::dispatch::{CommandError, PingError};
use stormhook_engine::writer::SubmitError;

/// How much of a caller's input a detail repeats, in bytes.
pub(crate) const MAX_SHOWN_BYTES: usize = 150;

/// One error as its caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: Cow<'static, str>,
    pub(crate) field: Option<Cow<'static, str>>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            field: None,
        }
    }

    /// A field or query parameter with an invalid value.
    pub(crate) fn field(
        field: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code: Code::InvalidField,
            detail: detail.into(),
            field: Some(field.into()),
        }
    }

    /// An unknown field or query parameter.
    pub(crate) fn unknown(field: String, known: &[&str]) -> Self {
        let detail = if known.is_empty() {
            format!("Unknown field {field:?}; this request takes none. Remove it.")
        } else {
            let known = known.join(", ");
            format!("Unknown field {field:?}. Known fields: {known}.")
        };
        Self {
            code: Code::UnknownField,
            detail: detail.into(),
            field: Some(field.into()),
        }
    }

    /// The event, endpoint or delivery does not exist.
    pub(crate) fn not_found(what: &str) -> Self {
        let detail = format!("No such {what}; it may have been deleted. Check the id.");
        Self::new(Code::NotFound, detail)
    }

    /// The daemon has not started yet.
    pub(crate) fn starting() -> Self {
        Self::new(
            Code::Busy,
            "The daemon is starting; nothing was stored. Retry shortly.",
        )
    }

    /// A read that the store could not answer. Unlike a write, it leaves nothing in doubt.
    pub(crate) fn unreadable(error: SubmitError) -> Self {
        match error {
            SubmitError::StoreFailed => Self::new(
                Code::StoreFailed,
                "The store could not be read. Retry; if it fails again, run `stormhook check`.",
            ),
            other => other.into(),
        }
    }

    /// No daemon decides about the organization at the moment, or that which does can't be reached.
    #[cfg(feature = "postgres")]
    pub(crate) fn unheld() -> Self {
        Self::new(
            Code::Busy,
            "The daemon that holds this organization can't be reached; nothing was stored. Another one takes over within store.lease. Retry shortly.",
        )
    }

    /// Another daemon was asked, and gave no answer.
    #[cfg(feature = "postgres")]
    pub(crate) fn unanswered() -> Self {
        Self::new(
            Code::StoreFailed,
            "The daemon that holds this organization gave no answer; it is not known whether this was stored. Retry with the same idempotency key.",
        )
    }

    /// The problem as a JSON object.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Strings and numbers only: serializing can't fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let status = self.code.status();
        Details {
            kind: "about:blank",
            // RFC 9457, section 4.2.1: with `about:blank` the title is the status phrase.
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            field: self.field.as_deref(),
        }
        .serialize(serializer)
    }
}

/// Problem details (RFC 9457).
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem, examples(super::openapi::examples::problem))]
pub(crate) struct Details<'a> {
    /// Always `about:blank`; use `code`.
    #[serde(rename = "type")]
    kind: &'a str,
    /// The reason phrase of the status.
    title: &'a str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What went wrong and what to do.
    detail: &'a str,
    #[schema(value_type = super::openapi::enums::ProblemCode)]
    code: &'a str,
    /// The field or query parameter that is wrong, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<&'a str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.code.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if self.code == Code::RequestTimeout {
            // RFC 9110, section 15.5.9.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"stormhook\""),
            );
        }
        response
    }
}

impl From<NoRandomness> for Problem {
    fn from(error: NoRandomness) -> Self {
        tracing::error!(%error, "a secret could not be generated");
        unexpected()
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Busy => Self::new(
                Code::Busy,
                "The write queue is full; nothing was stored. Retry shortly.",
            ),
            SubmitError::Unreachable => Self::new(
                Code::Busy,
                "The database can't be reached; nothing was stored. Retry shortly.",
            ),
            SubmitError::StorageFull => Self::new(
                Code::StorageFull,
                "The disk of the store is full, or has less free space than limits.disk_reserve; nothing was stored. Free some space, then retry.",
            ),
            SubmitError::ShuttingDown => Self::new(
                Code::ShuttingDown,
                "The daemon is stopping; nothing was stored. Retry once it is back.",
            ),
            SubmitError::Damaged => damaged(),
            SubmitError::StoreFailed => Self::new(
                Code::StoreFailed,
                "The commit failed; it is not known whether this was stored. Retry with the same idempotency key.",
            ),
        }
    }
}

impl From<PingError> for Problem {
    fn from(error: PingError) -> Self {
        match error {
            PingError::NotFound => Self::not_found("endpoint"),
            PingError::ShuttingDown => SubmitError::ShuttingDown.into(),
            PingError::OurTrouble(what) => Self::new(
                Code::Busy,
                format!(
                    "The daemon ran out of a resource and sent nothing: {what}. Retry when it is available."
                ),
            ),
        }
    }
}

/// Why a command on `what` (an endpoint, event or delivery) was not carried out.
pub(crate) fn not_done(error: CommandError, what: &str) -> Problem {
    match error {
        CommandError::Refused(refusal) => refused(refusal, what),
        CommandError::InFlight => Problem::new(
            Code::DeliveryInFlight,
            "An attempt of this delivery is in progress. Retry when it has finished.",
        ),
        CommandError::Submit(error) => error.into(),
    }
}

/// Why a command on `what` (an endpoint, event or delivery) was refused.
pub(crate) fn refused(refusal: Refusal, what: &str) -> Problem {
    match refusal {
        Refusal::NotFound => Problem::not_found(what),
        Refusal::IdempotencyConflict => Problem::new(
            Code::IdempotencyConflict,
            "The organization used this idempotency key for a different event. Use a new key, or send that event unchanged.",
        ),
        Refusal::EndpointKeyConflict => Problem::new(
            Code::IdempotencyConflict,
            "The organization used this idempotency key for a different endpoint, or for one that has been deleted. Use a new key.",
        ),
        Refusal::NotHeld => Problem::new(
            Code::Busy,
            "The organization is moving to another daemon; nothing was stored. Retry shortly.",
        ),
        Refusal::Full => Problem::new(
            Code::Busy,
            "limits.pending_deliveries has been reached; nothing was stored. Retry once some have been delivered.",
        ),
        Refusal::TooManyBulk => Problem::new(
            Code::Busy,
            "Too many recoveries and discards of this endpoint are in progress; nothing was changed. Retry shortly.",
        ),
        Refusal::TooManyPurges => Problem::new(
            Code::Busy,
            "1,000 purges are in progress, which is the most; nothing was changed. Retry shortly.",
        ),
        Refusal::NotByAll => Problem::new(
            Code::Busy,
            "A daemon of an earlier version shares the database, and would show what is purged; nothing was changed. Upgrade all daemons first.",
        ),
        Refusal::TooManyEndpoints => Problem::field(
            "organizationId",
            "The organization has reached limits.endpoints_per_organization. Delete an endpoint, or raise the limit.",
        ),
        Refusal::TooManyApiKeys => Problem::new(
            Code::Busy,
            "There are 10,000 API keys, which is the most. Revoked and expired ones are removed after retention.audit.",
        ),
        Refusal::SecretLive => Problem::field(
            "secret",
            "This secret is already active for the endpoint. Supply another, or omit it to have one generated.",
        ),
        Refusal::EndpointInactive => Problem::new(
            Code::EndpointInactive,
            "The endpoint is inactive. Activate it first with PATCH {\"active\":true}; if it was deleted, use another one.",
        ),
        Refusal::DeliveryEnded => Problem::new(
            Code::DeliveryEnded,
            "The delivery has ended; there is nothing to cancel.",
        ),
        Refusal::DataGone => Problem::new(
            Code::NotFound,
            "The event's data is past retention.events or purged, and can no longer be sent. Send it as a new event.",
        ),
    }
}

/// What is stored of what was asked for is damaged.
fn damaged() -> Problem {
    Problem::new(
        Code::StoreFailed,
        "The stored record is damaged; nothing was changed. `stormhook check` names it.",
    )
}

/// The store returned an unexpected kind of answer: a bug in the daemon, not the caller's fault.
pub(crate) fn unexpected() -> Problem {
    Problem::new(
        Code::Internal,
        "Internal error; see the daemon's log. Check the outcome of the request before you retry it.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_code_status_and_field() {
        let json: serde_json::Value =
            serde_json::from_slice(&Problem::field("type", "must be a type").to_json()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"type":"about:blank","title":"Bad Request","status":400,
                "detail":"must be a type","code":"invalid_field","field":"type"})
        );
        let plain: serde_json::Value =
            serde_json::from_slice(&Problem::not_found("event").to_json()).unwrap();
        assert!(plain.get("field").is_none(), "{plain}");
    }

    #[test]
    fn what_may_be_sent_again_says_when() {
        for error in [
            SubmitError::Busy,
            SubmitError::StorageFull,
            SubmitError::ShuttingDown,
        ] {
            let response = Problem::from(error).into_response();
            assert_eq!(response.status(), 503);
            assert!(response.headers().contains_key(RETRY_AFTER));
        }
    }
}
