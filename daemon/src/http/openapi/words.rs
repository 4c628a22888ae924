//! The words of a fixed set that requests and answers use, with what each means. A list here is that of the Rust enum: where
//! a variant is missing, or is one too many, it doesn't compile.

use crate::http::problem::Code;
use crate::schedule::WaitingFor as Wait;
use stormhook_store::endpoint::{Ordering as Order, Why};
use stormhook_store::stats::Span;
use stormhook_store::{AttemptOutcome as Outcome, Reason, Status, Trigger};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{RefOr, schema};
use utoipa::{PartialSchema, ToSchema};

/// The schema of a set of words: each with its meaning.
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

macro_rules! words {
    ($($(#[doc = $what:literal])+ $name:ident: $of:ident { $($variant:ident => $means:expr,)+ })+) => {$(
        $(#[doc = $what])+
        pub(in crate::http) struct $name;

        impl $name {
            /// Every value, with what it means.
            pub(in crate::http) fn all() -> Vec<($of, &'static str)> {
                // Not called: it says to the compiler that these are all.
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
    )+};
}

words! {
    /// Where a delivery stands.
    DeliveryStatus: Status {
        Pending => "stored, no attempt of this round finished",
        Retrying => "failed at least once, the next attempt is at `nextAttemptAt`",
        Success => "a 2xx came back",
        Abandoned => "the last attempt of the schedule failed",
        Failed => "ended early, for a `reason`",
    }

    /// Why a delivery ended early.
    FailureReason: Reason {
        Gone => "the partner answered 410",
        EndpointDeleted => "its endpoint was deleted",
        Cancelled => "an operator cancelled it",
        Discarded => "it was held for an inactive endpoint and discarded at its activation",
        Damaged => "what is stored of it is damaged and can't be sent: `stormhook check` names it",
    }

    /// What an open delivery waits for.
    WaitingFor: Wait {
        Schedule => "the time of its next attempt",
        InFlight => "the partner's answer",
        EndpointInactive => "its endpoint's activation",
        Concurrency => "a free place among the attempts under way",
        RateLimit => "its endpoint's rate limit",
        FifoPredecessor => "a delivery of its `fifo` endpoint that comes before it",
    }

    /// What set an attempt off.
    AttemptTrigger: Trigger {
        Schedule => "the schedule",
        Manual => "an operator's retry or test",
        Replay => "an operator's replay or recover",
    }

    /// How an attempt ended.
    AttemptOutcome: Outcome {
        Success => "a 2xx came back",
        HttpStatus => "another status came back",
        Timeout => "no answer within `delivery.timeout`",
        Connect => "no connection",
        Dns => "the host's name did not resolve",
        Tls => "the TLS handshake failed",
        TargetRefused => "policy forbids the address",
        Protocol => "what came back is not HTTP",
        Interrupted => "the daemon stopped while the attempt was on the wire: it counts in neither schedule nor stats",
    }

    /// In which order an endpoint receives.
    Ordering: Order {
        Parallel => "several at once, each on its own schedule",
        Fifo => "lowest sequence first, the next only when it ended",
    }

    /// Why an endpoint was or wasn't sent an event.
    ExplainReason: Why {
        Subscribed => "it was: there is a delivery",
        TypeNotSubscribed => "it had not asked for the event's type",
        InactiveAtAcceptance => "it had asked, but was inactive",
        CreatedLater => "it did not exist yet",
        Deleted => "it was deleted before",
    }

    /// The time that stats are about.
    StatsWindow: Span {
        FiveMinutes => "the minutes that hold the last five",
        Hour => "the minutes that hold the last hour",
        Day => "the hours that hold the last day",
        All => "since the store was made",
    }

    /// The stable name of a problem.
    ProblemCode: Code {
        InvalidRequest => "this is no HTTP/1.1 request that can be read: its first line, a header, or how its body is framed; the connection ends",
        InvalidJson => "the body is no JSON object, or has a key twice",
        UnknownField => "a field or query parameter that is not known here; `field` names it",
        InvalidField => "a field, header or query parameter is missing or is not what it must be; `field` names it",
        InvalidCursor => "`cursor` is no cursor of a page before",
        TokenMissing => "over TCP every route but `/healthz` and `/readyz` needs the bearer token",
        TokenInvalid => "this is not the token",
        OriginRefused => "a page of a foreign origin called",
        HostRefused => "the `Host` is not the listener's, nor one of `host_names`",
        NotFound => "there is no such thing, or not any more; a malformed id too",
        MethodNotAllowed => "the route doesn't have this method; `Allow` says which it has",
        RequestTimeout => "the body did not come within `limits.idle`; the connection ends",
        IdempotencyConflict => "the idempotency key was used for another event of the organization, or for another endpoint",
        EndpointInactive => "the endpoint is inactive: activate it first",
        DeliveryInFlight => "an attempt of the delivery is on the wire: wait until it has ended",
        DeliveryEnded => "the delivery has ended: there is nothing left to cancel",
        EventTooLarge => "the body is over `limits.event_bytes` (256 KiB); where it is no event, over 512 KiB",
        UnsupportedMediaType => "the `content-type` is not the one that this route reads, or the body is compressed",
        HeadersTooLarge => "over 100 headers, or over 16 KiB of them with the path",
        TargetRefused => "a URL, but one that policy forbids; `detail` names the rule",
        TooManyAttempts => "too many wrong tokens this second; a right one always passes",
        Internal => "a defect of the daemon's; its log says more. What became of the request is not known",
        Busy => "more is coming in, or waiting, than is taken, another backup or check is under way, or the daemon is starting: nothing was stored",
        StorageFull => "the disk's free space is below `limits.disk_reserve`: nothing was stored",
        ShuttingDown => "the daemon is stopping: nothing was stored",
        StoreFailed => "the store failed: whether something was stored is not known, send it again with the same idempotency key",
    }
}
