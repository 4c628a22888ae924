//! What the engine asks of the machine beside storage and network, as a port: the wall clock and random numbers.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};
use stormhook_store::UnixMs;

/// See the module.
pub trait Environment: Debug + Send + Sync {
    /// The wall clock at this moment.
    fn wall(&self) -> UnixMs;

    /// Random bits for ids and for spreading retries. They need to differ, not to be secret.
    fn random_u128(&self) -> u128;
}

/// The machine itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Environment for System {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the module that the rule names"
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
            // Ids need to differ: a source that fails is no reason to stop.
            Err(_) => u128::from(self.wall().0),
        }
    }
}
