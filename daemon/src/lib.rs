//! The stormhook daemon: ingest, schedule, deliver, settle, and the API and command line for operators.

pub mod app;
pub mod config;
pub mod deliver;
mod descriptors;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod headers;
pub mod http;
mod log;
pub mod serve;
mod space;
pub mod target;
