//! The engine of stormhook: everything between a command and its commit, and between a due delivery and its settled
//! attempt.
//!
//! It is started on ports: the store, the environment (wall clock, random numbers), the transport (which sends
//! attempts) and the source of settings. It knows no HTTP server, no configuration file and no command line.

pub mod breaker;
pub mod clock;
pub mod dispatch;
mod engine;
pub mod environment;
pub mod lifecycle;
mod maintenance;
pub mod outcome;
pub mod payload;
pub mod retention;
pub mod retry;
pub mod schedule;
pub mod settings;
pub mod store;
pub mod text;
pub mod times;
pub mod transport;
pub mod writer;

pub use dispatch::{CommandError, FinishedAttempt, Hold, PingError};
pub use engine::{Engine, Loaded, Ports};
pub use settings::{Settings, SettingsSource};
pub use store::{Reader, Store};
pub use writer::{Command, Pending, SubmitError};
