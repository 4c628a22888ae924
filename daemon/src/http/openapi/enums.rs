//! The fixed sets of words in requests and responses, each word with its meaning. Each list follows a Rust enum: if a
//! variant is missing, or there is one too many, it doesn't compile.

use crate::http::code::Code;
use serde::de::{Deserialize, Deserializer, Error, Unexpected};
use std::borrow::Cow;
use stormhook_engine::schedule::WaitingFor as Wait;
use stormhook_store::endpoint::{Ordering as Order, Why};
use stormhook_store::stats::Span;
use stormhook_store::{
    Action, AttemptOutcome as Outcome, PrincipalKind, Reason, Scope, Status, Trigger,
};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{RefOr, schema};
use utoipa::{PartialSchema, ToSchema};

/// Returns the schema of a set of words, each with its meaning.
fn one_of(what: &str, words: &[(&'static str, &str)]) -> RefOr<Schema> {
    let meanings: String = words
        .iter()
        .map(|(word, means)| format!("\n- `{word}`: {means}"))
        .collect();
    ObjectBuilder::new()
        .schema_type(schema::SchemaType::Type(Type::String))
        .description(Some(format!("{what}\n{meanings}")))
        .enum_values(Some(words.iter().map(|(word, _)| *word)))
        .into()
}

/// Returns words as a choice: `a, b or c`.
fn any_of(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

macro_rules! words {
    ($($(#[doc = $what:literal])+ $name:ident: $of:ident { $($variant:ident => $means:expr,)+ })+) => {$(
        $(#[doc = $what])+
        #[allow(dead_code, reason = "some appear only in responses and are only described")]
        pub(in crate::http) struct $name(pub(in crate::http) $of);

        impl $name {
            /// Returns every value with its meaning.
            pub(in crate::http) fn all() -> Vec<($of, &'static str)> {
                // Never called: it makes the compiler check that these are all values.
                let _all = |value: $of| match value { $($of::$variant => (),)+ };
                vec![$(($of::$variant, $means)),+]
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let words: Vec<_> = Self::all().into_iter().map(|(value, means)| (value.as_str(), means)).collect();
                one_of(concat!($($what),+).trim(), &words)
            }
        }

        impl ToSchema for $name {}

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text: Cow<'_, str> = Deserialize::deserialize(from)?;
                let meant = Self::all().into_iter().find(|(value, _)| value.as_str() == text);
                meant.map(|(value, _)| Self(value)).ok_or_else(|| {
                    let words: Vec<_> = Self::all().into_iter().map(|(value, _)| value.as_str()).collect();
                    D::Error::invalid_value(Unexpected::Str(&text), &any_of(&words).as_str())
                })
            }
        }
    )+};
}

words! {
    /// What an API key allows.
    ScopeName: Scope {
        Ingest => "send events",
        Read => "read everything but secrets, API keys and the audit log",
        Write => "change endpoints, deliveries and recoveries; read the secrets of endpoints",
        Admin => "everything; only without an organization",
    }
    /// The kind of a caller.
    PrincipalName: PrincipalKind {
        Socket => "on the Unix socket, without a token",
        Admin => "with the admin token",
        Key => "with an API key",
        Daemon => "the daemon itself",
        Session => "with a dashboard login",
        Portal => "with a portal link",
    }
    /// What was done.
    ActionName: Action {
        EndpointCreate => "an endpoint was created",
        EndpointUpdate => "an endpoint was changed",
        EndpointDelete => "an endpoint was deleted",
        EndpointRotateSecret => "an endpoint got another secret",
        EndpointRevealSecret => "the secrets of an endpoint were shown",
        EndpointRecover => "a recovery of an endpoint began",
        EndpointDisable => "the daemon disabled an endpoint",
        DeliveryRetry => "a delivery was retried",
        DeliveryCancel => "a delivery was cancelled",
        EventReplay => "an event was sent to an endpoint again",
        EventPurge => "the data of events was removed",
        RecoveryCancel => "a recovery was cancelled",
        OrganizationDelete => "an organization was deleted",
        KeyCreate => "an API key was created",
        KeyRevoke => "an API key was revoked",
        TokenRotate => "the admin token was replaced",
        LoginLinkCreate => "a login link was made",
        PortalLinkCreate => "a portal link was made",
        SecretsRekey => "secrets were encrypted with another key",
        ConfigurationReload => "the configuration was read again",
    }
}

words! {
    /// The state of a delivery.
    DeliveryStatus: Status {
        Pending => "stored; no attempt of this round has finished",
        Retrying => "failed at least once; the next attempt is at `nextAttemptAt`",
        Success => "the endpoint answered 2xx",
        Abandoned => "the last attempt of the schedule failed",
        Failed => "ended early, for a `reason`",
    }

    /// Why a delivery ended early.
    FailureReason: Reason {
        Gone => "the endpoint answered 410",
        EndpointDeleted => "its endpoint was deleted",
        Cancelled => "an operator cancelled it",
        Discarded => "it was held for an inactive endpoint and discarded when the endpoint was activated",
        Damaged => "its stored record is damaged and can't be sent; `stormhook check` identifies it",
        Purged => "the event's data was purged, so that it can't be sent",
    }

    /// What an open delivery waits for.
    WaitingFor: Wait {
        Schedule => "the time of its next attempt",
        InFlight => "the endpoint's answer",
        EndpointInactive => "its endpoint's activation",
        Concurrency => "a free slot among the attempts in progress",
        RateLimit => "its endpoint's rate limit",
        FifoPredecessor => "an earlier delivery of its `fifo` endpoint",
    }

    /// What triggered an attempt.
    AttemptTrigger: Trigger {
        Schedule => "the schedule",
        Manual => "an operator's retry or test",
        Replay => "an operator's replay or recovery",
    }

    /// How an attempt ended.
    AttemptOutcome: Outcome {
        Success => "the endpoint answered 2xx",
        HttpStatus => "the endpoint answered with another status",
        Timeout => "no answer within `delivery.timeout`",
        Connect => "no connection",
        Dns => "the host's name did not resolve",
        Tls => "the TLS handshake failed",
        TargetRefused => "policy forbids the address",
        Protocol => "the answer is not valid HTTP",
        Interrupted => "the daemon stopped during the attempt, which counts neither in the schedule nor in the statistics",
    }

    /// The order in which an endpoint receives deliveries.
    Ordering: Order {
        Parallel => "in parallel, each on its own schedule",
        Fifo => "one at a time, lowest sequence first",
    }

    /// Why an endpoint was or wasn't sent an event.
    ExplainReason: Why {
        Subscribed => "it was: there is a delivery",
        TypeNotSubscribed => "it was not subscribed to the event's type",
        InactiveAtAcceptance => "it was subscribed, but inactive",
        CreatedLater => "it did not exist yet",
        Deleted => "it was already deleted",
    }

    /// The span of time of the stats.
    StatsWindow: Span {
        FiveMinutes => "the minutes that hold the last five",
        Hour => "the minutes that hold the last hour",
        Day => "the hours that hold the last day",
        All => "since the store was created",
    }

    /// The stable name of a problem.
    ProblemCode: Code {
        InvalidRequest => "the HTTP/1.1 request is malformed: its first line, a header, or the framing of its body; the connection is closed",
        InvalidJson => "the body is not a JSON object, or has a key twice",
        UnknownField => "an unknown field or query parameter; `field` names it",
        InvalidField => "a field, header or query parameter is missing or invalid; `field` names it",
        InvalidCursor => "`cursor` is not the `nextCursor` of an earlier page",
        TokenMissing => "over TCP every route but `/healthz` and `/readyz` needs a bearer token",
        TokenInvalid => "the token is neither the admin token nor an API key that is valid",
        OriginRefused => "the request comes from a page of another origin",
        HostRefused => "the `Host` is not the listener's, nor one of `host_names`",
        ScopeMissing => "the caller lacks the scope that the route needs, or is bound to an organization while the route is about all",
        WrongOrganization => "the caller is bound to another organization than the one that is named",
        NotFound => "no such object; it may have been deleted, or the id is malformed",
        MethodNotAllowed => "the route does not support this method; `Allow` lists those that it does",
        RequestTimeout => "the body did not arrive within `limits.idle`; the connection is closed",
        IdempotencyConflict => "the idempotency key was used for another event of the organization, or for another endpoint",
        EndpointInactive => "the endpoint is inactive: activate it first",
        DeliveryInFlight => "an attempt of the delivery is in progress: retry when it has finished",
        DeliveryEnded => "the delivery has ended; there is nothing to cancel",
        EventTooLarge => "the body exceeds `limits.event_bytes` (256 KiB), or 512 KiB where it is not an event",
        UnsupportedMediaType => "the route does not read this `content-type`, or the body is compressed",
        HeadersTooLarge => "more than 100 headers, or more than 16 KiB of headers and path",
        TargetRefused => "policy forbids the URL; `detail` names the rule",
        TooManyAttempts => "too many invalid tokens this second; a valid one always passes",
        Internal => "a bug in the daemon; see its log. The outcome of the request is not known",
        Busy => "a queue or `limits.pending_deliveries` is full, another backup or check is running, or the daemon is starting; nothing was stored",
        StorageFull => "the disk of the store is full, or has less free space than `limits.disk_reserve`; nothing was stored",
        ShuttingDown => "the daemon is stopping; nothing was stored",
        NotSupported => "this store can't do that",
        StoreFailed => "the store failed; it is not known whether anything was stored. Retry with the same idempotency key",
    }
}
