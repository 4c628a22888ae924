//! What the tests stand on: the daemon as a process, a client, receivers that answer by script,
//! and signatures computed here with no code of the project's.

mod client;
mod daemon;
mod document;
pub(crate) mod load;
mod receiver;
mod signature;

pub(crate) use client::{Answer, Client};
pub(crate) use daemon::{Daemon, Setup, binary};
pub(crate) use document::document;
pub(crate) use receiver::{Receiver, Recorded, Reply, Tls};
pub(crate) use signature::{verify, verify_with_keys};

use std::future::Future;
use std::time::Duration;

/// How long anything that is expected to happen may take before the test fails: long enough for a
/// debug build on a busy machine, and never waited out where the thing happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits `what`, or fails the test by its name.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Asks until the answer is there. For state that the interface only shows on asking; the pause
/// bounds the load of asking, it is not what is waited for.
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

/// A draw of a small generator whose seed is printed by those who use it.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): enough to vary moments and sizes, and replayable.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
