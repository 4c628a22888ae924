//! One integration binary that drives the real `stormhook` process over its socket and its TCP port, with receivers
//! that answer by script. It links none of the daemon's code.
//!
//! The binary is found through `TESTED_BINARY`, else in the workspace's target directory, where `cargo build -p
//! stormhook` puts it; the tests never build it themselves.

// Helpers outside of `#[test]` functions fail a test by panicking, and a black-box test uses wall-clock time: the rules
// for the daemon's own code don't apply here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation
)]

mod support;
mod written_formats;

mod backup;
mod batch;
mod bounds;
mod broken_disk;
mod callers;
mod clock;
mod cluster;
mod compact;
mod congestion;
mod connections;
mod damage;
mod damaged_lists;
mod deliveries;
mod ed25519;
mod edges;
mod endpoints;
mod events;
mod export;
mod faults;
mod floods;
mod harness;
mod hostile_text;
mod idempotency;
mod kill;
mod listeners;
mod moves;
mod names;
mod openapi;
mod order;
mod outbox;
mod overload;
mod partner_tls;
mod proxied;
mod purges;
mod remote;
mod restarts;
mod sandbox;
mod schemas;
mod secrets;
mod sending;
mod stats;
mod stopping;
mod surroundings;
mod tidy;
mod tls;
mod unreadable;
