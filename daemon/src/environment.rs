//! What the engine asks of the machine beside storage and network, as a port: the wall clock and random numbers.

use crate::clock;
use std::fmt::Debug;
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
    fn wall(&self) -> UnixMs {
        clock::wall()
    }

    fn random_u128(&self) -> u128 {
        let mut bytes = [0; 16];
        match getrandom::fill(&mut bytes) {
            Ok(()) => u128::from_ne_bytes(bytes),
            // Ids need to differ: a source that fails is no reason to stop.
            Err(_) => u128::from(clock::wall().0),
        }
    }
}
