//! The environment: wall clock and random numbers, as a port.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};
use stormhook_store::UnixMs;

/// See the module.
pub trait Environment: Debug + Send + Sync {
    /// Returns the current time of the wall clock.
    fn wall(&self) -> UnixMs;

    /// Returns random bits for ids and for the jitter of retries. They must differ, but need not be secret.
    fn random_u128(&self) -> u128;
}

/// The machine itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Environment for System {
    #[allow(
        clippy::disallowed_methods,
        reason = "this module is the rule's exception"
    )]
    fn wall(&self) -> UnixMs {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn random_u128(&self) -> u128 {
        let mut bytes = [0; 16];
        match getrandom::fill(&mut bytes) {
            Ok(()) => u128::from_ne_bytes(bytes),
            // Ids must only differ, so a failing source is no reason to stop.
            Err(_) => u128::from(self.wall().0),
        }
    }
}
