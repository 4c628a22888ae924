//! The current configuration. Only this module holds it: its users read it every time, and a reload is one change.

use super::Config;
use std::sync::Arc;
use tokio::sync::watch;

/// See the module. Clones share the configuration.
#[derive(Clone, Debug)]
pub struct LiveConfig(watch::Sender<Arc<Config>>);

impl LiveConfig {
    /// Returns a holder of the configuration at startup.
    pub fn new(config: Arc<Config>) -> Self {
        Self(watch::channel(config).0)
    }

    /// Returns the current configuration.
    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// Replaces the configuration.
    pub fn set(&self, config: Arc<Config>) {
        self.0.send_replace(config);
    }
}
