//! The stormhook daemon: ingest, schedule, deliver, settle, and the API and command line for operators.

mod api_keys_used;
pub mod app;
mod certificates;
pub mod config;
pub mod deliver;
mod descriptors;
mod environment;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod headers;
pub mod http;
#[cfg(feature = "postgres")]
mod identity;
mod log;
#[cfg(feature = "postgres")]
mod outbox;
#[cfg(feature = "postgres")]
mod peers;
mod process;
mod sandbox;
pub mod secrets;
pub mod serve;
mod space;
pub mod target;
mod token;
