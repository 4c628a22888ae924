//! The stable error codes of the API, each with its status.

use http::StatusCode;
use serde::{Serialize, Serializer};

/// An error code of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidRequest,
    InvalidJson,
    UnknownField,
    InvalidField,
    InvalidCursor,
    TokenMissing,
    TokenInvalid,
    OriginRefused,
    HostRefused,
    ScopeMissing,
    WrongOrganization,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    IdempotencyConflict,
    EndpointInactive,
    DeliveryInFlight,
    DeliveryEnded,
    EventTooLarge,
    UnsupportedMediaType,
    HeadersTooLarge,
    TargetRefused,
    TooManyAttempts,
    Internal,
    Busy,
    StorageFull,
    ShuttingDown,
    StoreFailed,
    NotSupported,
}

impl Code {
    /// The status and name of each code.
    const fn row(self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::InvalidJson => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::UnknownField => (StatusCode::BAD_REQUEST, "unknown_field"),
            Self::InvalidField => (StatusCode::BAD_REQUEST, "invalid_field"),
            Self::InvalidCursor => (StatusCode::BAD_REQUEST, "invalid_cursor"),
            Self::TokenMissing => (StatusCode::UNAUTHORIZED, "token_missing"),
            Self::TokenInvalid => (StatusCode::UNAUTHORIZED, "token_invalid"),
            Self::OriginRefused => (StatusCode::FORBIDDEN, "origin_refused"),
            Self::HostRefused => (StatusCode::FORBIDDEN, "host_refused"),
            Self::ScopeMissing => (StatusCode::FORBIDDEN, "scope_missing"),
            Self::WrongOrganization => (StatusCode::FORBIDDEN, "wrong_organization"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            Self::IdempotencyConflict => (StatusCode::CONFLICT, "idempotency_conflict"),
            Self::EndpointInactive => (StatusCode::CONFLICT, "endpoint_inactive"),
            Self::DeliveryInFlight => (StatusCode::CONFLICT, "delivery_in_flight"),
            Self::DeliveryEnded => (StatusCode::CONFLICT, "delivery_ended"),
            Self::EventTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "event_too_large"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::HeadersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
            ),
            Self::TargetRefused => (StatusCode::UNPROCESSABLE_ENTITY, "target_refused"),
            Self::TooManyAttempts => (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::StorageFull => (StatusCode::SERVICE_UNAVAILABLE, "storage_full"),
            Self::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
            Self::StoreFailed => (StatusCode::SERVICE_UNAVAILABLE, "store_failed"),
            Self::NotSupported => (StatusCode::NOT_IMPLEMENTED, "not_supported"),
        }
    }

    /// Returns the HTTP status of the code.
    pub(crate) const fn status(self) -> StatusCode {
        self.row().0
    }

    /// Returns the name of the code in the API.
    pub(crate) const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// Returns the seconds to wait before retrying, if retrying may help.
    pub(super) const fn retry_after_s(self) -> Option<&'static str> {
        match self {
            Self::Busy | Self::StoreFailed | Self::TooManyAttempts => Some("1"),
            Self::ShuttingDown => Some("5"),
            Self::StorageFull => Some("30"),
            _ => None,
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
