//! The current configuration. Only this module holds it: its users read it each time, and a reload is one change.

use super::Config;
use std::sync::Arc;
use tokio::sync::watch;

/// See the module. Clones are the same one.
#[derive(Clone, Debug)]
pub struct LiveConfig(watch::Sender<Arc<Config>>);

impl LiveConfig {
    /// What the daemon starts with.
    pub fn new(config: Arc<Config>) -> Self {
        Self(watch::channel(config).0)
    }

    /// The current one.
    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// Replaces it.
    pub fn set(&self, config: Arc<Config>) {
        self.0.send_replace(config);
    }
}
