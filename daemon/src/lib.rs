//! The daemon around the engine: HTTP on both listeners, HTTP as the transport of attempts, the target guard, the configuration, and
//! `serve`, which starts it all.

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
