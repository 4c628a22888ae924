//! The metrics of a daemon among others on a database.

use super::Page;
use crate::environment;
use crate::peers::Peers;

impl Page {
    /// Writes them.
    pub(super) fn cluster(&mut self, peers: &Peers) {
        let figures = peers.cluster.figures();
        for (name, help, value) in [
            (
                "cluster_daemons",
                "Daemons on the database whose leases are valid, including this one.",
                figures.daemons,
            ),
            (
                "cluster_shards_held",
                "Shards that this daemon decides about, of 256.",
                figures.held,
            ),
            (
                "cluster_shards_unowned",
                "Shards that no daemon owns. Their events are refused until one takes them.",
                figures.free,
            ),
        ] {
            self.gauge(name, help, value);
        }
        let help = "Time since this daemon sent the last renewal of its lease that succeeded, in seconds. It starts no attempt from three quarters of store.lease on.";
        let age = format!("{:.3}", figures.lease_age.as_secs_f64());
        self.gauge("cluster_lease_age_seconds", help, age);
        let name = "cluster_takeovers_total";
        let help = "Daemons that this one has taken over from since it started, because their leases ended.";
        self.family(name, "counter", help);
        self.sample(name, "", figures.takeovers);
        let name = "cluster_commits_remade_total";
        let help =
            "Commits that the database had lost in a failover and that this daemon has made again.";
        self.family(name, "counter", help);
        self.sample(name, "", figures.remade);
        let ahead_ms = environment::ahead_ms(&peers.cluster);
        let help = "How far the clock of the database is ahead of this daemon's, in seconds; negative if it is behind. Stored times are by the database's.";
        let sign = if ahead_ms < 0 { "-" } else { "" };
        let ahead = super::seconds(ahead_ms.unsigned_abs().saturating_mul(1_000));
        self.gauge(
            "database_clock_ahead_seconds",
            help,
            format!("{sign}{ahead}"),
        );
    }
}
