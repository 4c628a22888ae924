//! The helpers of the tests: the daemon as a process, a client, receivers that answer by script, and signatures
//! computed without any code of the project.

mod client;
mod daemon;
mod document;
pub(crate) mod load;
pub(crate) mod namespaces;
mod receiver;
mod signature;

pub(crate) use client::{Answer, Chunks, Client, encode};
pub(crate) use daemon::{Daemon, Setup, binary};
pub(crate) use document::document;
pub(crate) use receiver::{CERTIFICATE_FILE, Clients, KEY_FILE, Receiver, Recorded, Reply, Tls};
pub(crate) use signature::{verify, verify_with_keys};

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::future::Future;
use std::time::Duration;

/// How long an expected event may take before the test fails: long enough for a debug build on a busy machine. It is
/// never waited out if the event happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits `what`, or fails the test with its name.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Polls until the answer is there, for state that the interface only shows on request. The pause limits the polling;
/// it is not the time being waited for.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// A small generator; its users print the seed.
pub(crate) struct Draw(SplitMix64);

impl Draw {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// Good enough to vary moments and sizes, and reproducible.
    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
