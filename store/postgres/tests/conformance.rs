//! The behaviour of the store in a database: the same suite as for the file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]
#![allow(dead_code, reason = "the tests of faults use more of the fixture")]

#[path = "../../tests/conformance/accept.rs"]
mod accept;
#[path = "../../tests/conformance/bulk.rs"]
mod bulk;
#[path = "../../tests/conformance/callers.rs"]
mod callers;
#[path = "../../tests/conformance/endpoints.rs"]
mod endpoints;
#[path = "../../tests/conformance/lists.rs"]
mod lists;
#[path = "../../tests/conformance/outbox.rs"]
mod outbox;
mod proxy;
#[path = "../../tests/conformance/purge.rs"]
mod purge;
#[path = "../../tests/conformance/recovers.rs"]
mod recovers;
#[path = "../../tests/conformance/rounds.rs"]
mod rounds;
#[path = "../../tests/conformance/settle.rs"]
mod settle;
#[path = "../../tests/conformance/stats.rs"]
mod stats;
mod support;
#[path = "../../tests/conformance/weigh.rs"]
mod weigh;
