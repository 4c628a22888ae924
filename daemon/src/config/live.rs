//! The current configuration. Only this module holds it: its users read it every time, and a reload is one change.

use super::Config;
use http::HeaderName;
use std::sync::Arc;
use stormhook_engine::schedule::Limits;
use stormhook_engine::{Settings, SettingsSource};
use tokio::sync::watch;

/// See the module. Clones share the configuration.
#[derive(Clone, Debug)]
pub struct LiveConfig(watch::Sender<Current>);

/// A configuration, and the engine's part of it.
#[derive(Clone, Debug)]
struct Current {
    config: Arc<Config>,
    engine: Arc<Settings>,
}

impl Current {
    fn new(config: Arc<Config>) -> Self {
        let engine = Arc::new(settings(&config));
        Self { config, engine }
    }
}

impl LiveConfig {
    /// Returns a holder of the configuration at startup.
    pub fn new(config: Arc<Config>) -> Self {
        Self(watch::channel(Current::new(config)).0)
    }

    /// Returns the current configuration.
    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow().config)
    }

    /// Replaces the configuration.
    pub fn set(&self, config: Arc<Config>) {
        self.0.send_replace(Current::new(config));
    }
}

impl SettingsSource for LiveConfig {
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.0.borrow().engine)
    }
}

/// The engine's part of a configuration.
fn settings(config: &Config) -> Settings {
    let header = HeaderName::from_bytes(config.delivery.signature_header.as_bytes());
    Settings {
        in_flight: Limits {
            max_in_flight: config.delivery.max_in_flight,
            max_per_endpoint: config.delivery.max_in_flight_per_endpoint,
        },
        retry: config.retry.clone(),
        retention: config.retention,
        disable_after: config.breaker.disable_after,
        // The configuration has checked the name; the default stands in for what can't happen.
        signature_header: header.unwrap_or(HeaderName::from_static("x-stormcom-signature")),
        excerpt_bytes: if config.delivery.excerpts {
            config.limits.excerpt_bytes
        } else {
            0
        },
        pending_deliveries: config.limits.pending_deliveries,
        endpoints_per_organization: config.limits.endpoints_per_organization,
    }
}
