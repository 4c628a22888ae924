//! The verbs of stormhook: ingest, schedule, deliver, settle, and what operators ask of them.

pub mod config;
pub mod headers;
pub mod target;
