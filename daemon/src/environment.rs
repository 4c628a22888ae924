//! The environment of the daemon. On a database, times are by the database's clock.

use std::sync::Arc;
use stormhook_engine::Store;
use stormhook_engine::environment::{Environment, System};
#[cfg(feature = "postgres")]
use stormhook_postgres::Cluster;
#[cfg(feature = "postgres")]
use stormhook_store::UnixMs;

/// How far the machine's clock may be off without a word, in milliseconds.
#[cfg(feature = "postgres")]
const OFF_MS: u64 = 5_000;

/// Returns the environment of a daemon with this store. Warns of a clock that is off.
#[cfg_attr(
    not(feature = "postgres"),
    allow(unused_variables, reason = "a file has no clock")
)]
pub(crate) fn of(store: &Store) -> Arc<dyn Environment> {
    #[cfg(feature = "postgres")]
    if let Some(cluster) = store.cluster() {
        let ahead_ms = ahead_ms(&cluster);
        if ahead_ms.unsigned_abs() > OFF_MS {
            tracing::warn!(
                database_ahead_ms = ahead_ms,
                "this machine's clock differs from the database's, by which all daemons count; set it right"
            );
        }
        return Arc::new(OfDatabase(cluster));
    }
    Arc::new(System)
}

/// The machine, but for its clock.
#[cfg(feature = "postgres")]
#[derive(Debug)]
struct OfDatabase(Cluster);

#[cfg(feature = "postgres")]
impl Environment for OfDatabase {
    fn wall(&self) -> UnixMs {
        self.0.time()
    }

    fn random_u128(&self) -> u128 {
        System.random_u128()
    }
}

/// Returns how far the clock of the database is ahead of this machine's, in milliseconds.
#[cfg(feature = "postgres")]
pub(crate) fn ahead_ms(cluster: &Cluster) -> i64 {
    let signed = |at: UnixMs| i64::try_from(at.0).unwrap_or(i64::MAX);
    signed(cluster.time()).saturating_sub(signed(System.wall()))
}
