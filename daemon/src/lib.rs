//! The verbs of stormhook: ingest, schedule, deliver, settle, and what operators ask of them.

pub mod breaker;
pub mod clock;
pub mod config;
pub mod headers;
pub mod outcome;
pub mod retry;
pub mod target;
pub mod writer;
