//! The behaviour of a store, tested only through its public operations: another store with the same guarantees passes
//! the same suite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]

#[path = "conformance/accept.rs"]
mod accept;
#[path = "conformance/bulk.rs"]
mod bulk;
#[path = "conformance/callers.rs"]
mod callers;
#[path = "conformance/damage.rs"]
mod damage;
#[path = "conformance/damaged.rs"]
mod damaged;
#[path = "conformance/endpoints.rs"]
mod endpoints;
#[path = "conformance/failure.rs"]
mod failure;
#[path = "conformance/lists.rs"]
mod lists;
#[path = "conformance/opening.rs"]
mod opening;
#[path = "conformance/outbox.rs"]
mod outbox;
#[path = "conformance/purge.rs"]
mod purge;
#[path = "conformance/recovers.rs"]
mod recovers;
#[path = "conformance/retention.rs"]
mod retention;
#[path = "conformance/rounds.rs"]
mod rounds;
#[path = "conformance/settle.rs"]
mod settle;
#[path = "conformance/stats.rs"]
mod stats;
mod support;
#[path = "conformance/sweep.rs"]
mod sweep;
#[path = "conformance/weigh.rs"]
mod weigh;
