//! The settings of the engine, and where it reads them: a port.

use crate::retention::Retention;
use crate::retry::Retry;
use crate::schedule::Limits;
use http::HeaderName;
use std::sync::Arc;
use std::time::Duration;

/// The settings of the engine, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many attempts may be in flight.
    pub in_flight: Limits,
    /// When failed attempts are made again.
    pub retry: Retry,
    /// How long history is kept.
    pub retention: Retention,
    /// An endpoint is disabled when all of its attempts have failed for this long.
    pub disable_after: Duration,
    /// The header that carries the StormCom signature.
    pub signature_header: HeaderName,
    /// How much is kept of the body of a failed attempt's response.
    pub excerpt_bytes: usize,
    /// The most open deliveries.
    pub pending_deliveries: u64,
    /// The most endpoints of one organization.
    pub endpoints_per_organization: usize,
}

/// The current settings. Read each time they are needed, so that a change is one change.
pub trait SettingsSource: Send + Sync {
    /// The settings as they are now.
    fn settings(&self) -> Arc<Settings>;
}

/// Settings that never change.
impl SettingsSource for Arc<Settings> {
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(self)
    }
}
