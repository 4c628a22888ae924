//! The stormhook daemon: ingest, schedule, deliver, settle, and the API and command line for operators.

pub mod app;
pub mod body;
pub mod breaker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deliver;
mod descriptors;
pub mod dispatch;
pub mod engine;
pub mod environment;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod headers;
pub mod http;
pub mod life;
mod log;
pub mod outcome;
pub mod retry;
pub mod schedule;
pub mod serve;
pub mod target;
pub mod text;
pub mod times;
pub mod transport;
pub mod writer;
