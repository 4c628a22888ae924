//! The settings of the engine, and the port that it reads them from.

use crate::retention::Retention;
use crate::retry::Retry;
use crate::schedule::Limits;
use http::HeaderName;
use std::sync::Arc;
use std::time::Duration;

/// The settings of the engine, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The limits of attempts in flight.
    pub in_flight: Limits,
    /// The schedule of retries.
    pub retry: Retry,
    /// How long history is kept.
    pub retention: Retention,
    /// An endpoint is disabled when all of its attempts have failed for this long.
    pub disable_after: Duration,
    /// The header that carries the StormCom signature.
    pub signature_header: HeaderName,
    /// How much of the body of a failed attempt's response is kept, in bytes.
    pub excerpt_bytes: usize,
    /// The most open deliveries.
    pub pending_deliveries: u64,
    /// The most endpoints of one organization.
    pub endpoints_per_organization: usize,
}

/// The source of the current settings. They are read each time they are needed, so a change takes effect as a whole.
pub trait SettingsSource: Send + Sync {
    /// Returns the current settings.
    fn settings(&self) -> Arc<Settings>;
}

/// Settings that never change.
impl SettingsSource for Arc<Settings> {
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(self)
    }
}
