//! File descriptors: as many as the system allows, and how they are divided. The store, the listeners and the attempts
//! come first. Callers and idle connections to receivers share the rest, so that idle connections can't prevent events
//! from being stored and delivered.

use crate::config::Config;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Connections of one listener that are being refused: they are beyond the limit, so they are few and short-lived.
pub(crate) const REFUSALS: usize = 64;
/// For the store, the listeners, the runtime, the log, look-ups and backups, and for connections of both listeners that
/// are being refused.
const RESERVE: u64 = 64 + 2 * REFUSALS as u64;
/// The minimum number of connections: fewer would serve nobody, whatever the limit is.
const CONNECTIONS_LEAST: u64 = 16;
/// Idle connections to receivers get one in this many of the rest.
const IDLE_PART: u64 = 4;

/// Raises the soft limit to the hard one, and logs a warning if that is not enough.
pub(crate) fn raise(config: &Config) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "can't raise the limit of open files");
        }
    }
    let needed = needed(config);
    let Some(open_files) = getrlimit(Resource::Nofile).current else {
        return;
    };
    if open_files < needed {
        tracing::warn!(
            open_files,
            needed,
            connections = connections(config),
            "the limit of open files is too low for limits.connections and delivery.max_in_flight: fewer connections are accepted. Raise it (LimitNOFILE=, ulimit -Hn) or lower the settings"
        );
    }
}

fn needed(config: &Config) -> u64 {
    // Keeps as many idle connections to receivers as there are concurrent attempts.
    count(config.limits.connections) + 2 * count(config.delivery.max_in_flight) + RESERVE
}

/// Returns how many connections from callers are accepted.
pub(crate) fn connections(config: &Config) -> usize {
    of_process(config).connections
}

/// Returns how many idle connections to receivers are kept.
pub(crate) fn idle_to_partners(config: &Config) -> usize {
    of_process(config).idle_to_partners
}

fn of_process(config: &Config) -> Shares {
    let open_files = getrlimit(Resource::Nofile).current;
    share(
        open_files,
        count(config.limits.connections),
        count(config.delivery.max_in_flight),
    )
}

#[derive(Debug, PartialEq, Eq)]
struct Shares {
    connections: usize,
    idle_to_partners: usize,
}

fn share(open_files: Option<u64>, connections: u64, in_flight: u64) -> Shares {
    let left = open_files.map_or(u64::MAX, |all| all.saturating_sub(RESERVE + in_flight));
    let idle = in_flight.min(left / IDLE_PART);
    let taken = connections.min((left - idle).max(CONNECTIONS_LEAST));
    let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Shares {
        connections: size(taken),
        idle_to_partners: size(idle),
    }
}

fn count(setting: usize) -> u64 {
    u64::try_from(setting).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_and_idle_connections_get_what_the_rest_leaves() {
        let shares = |open_files, connections, in_flight| {
            let shares = share(open_files, connections, in_flight);
            (shares.connections, shares.idle_to_partners)
        };
        assert_eq!(shares(None, 10_000, 512), (10_000, 512));
        assert_eq!(shares(Some(20_000), 10_000, 512), (10_000, 512));
        assert_eq!(shares(Some(1_024), 10_000, 512), (240, 80));
        assert_eq!(shares(Some(1_024), 8, 512), (8, 80));
        assert_eq!(shares(Some(256), 10_000, 512), (16, 0));
    }
}
