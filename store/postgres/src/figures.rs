//! What a daemon shows of its part among the others, in numbers.

use crate::ownership::Cluster;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The daemons with a valid lease, this one included, as last seen.
    pub daemons: usize,
    /// The shards that this daemon decides about.
    pub held: usize,
    /// The shards without an owner, as last seen.
    pub free: usize,
    /// How long ago this daemon sent the last renewal of its lease that succeeded.
    pub lease_age: Duration,
    /// How many daemons this one has taken over from since it started.
    pub takeovers: u64,
    /// How many commits it made again that the database had lost in a failover.
    pub remade: u64,
}

impl Cluster {
    /// Returns the figures. Asks the database nothing.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let view = self.view();
        let alive = view.members.values().filter(|member| !member.is_expired());
        Figures {
            daemons: alive.count(),
            held: self.shared.memory().shards.len(),
            free: view.free(),
            lease_age: self.shared.lease.age(),
            takeovers: self.takeovers.load(Ordering::Relaxed),
            remade: self.remade.load(Ordering::Relaxed),
        }
    }
}
