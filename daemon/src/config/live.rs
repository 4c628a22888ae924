//! The configuration as it is now. It is held here alone: who goes by it asks each time, and a reload is one change.

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

    /// As it is now.
    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// Another one from now on.
    pub fn set(&self, config: Arc<Config>) {
        self.0.send_replace(config);
    }
}
