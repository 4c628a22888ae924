//! The built-in value of every key. `docs/configuration.md` is generated from these.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::rule::SIGNATURE_HEADER;
use super::{
    Breaker, Cluster, Config, Delivery, Dns, Idempotency, Limits, Log, LogFormat, Outbox, Proxy,
    Retention, Retry, SOCKET_FILE, Secrets, Store, Tls,
};
use crate::target::{Pattern, TargetPolicy};
use stormhook_store::Scope;

/// The default of `target.allow` (docs/adr/0008-loopback-targets.md).
const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;

impl Config {
    /// Returns the built-in values for a data directory.
    pub(crate) fn builtin(data_dir: PathBuf) -> Self {
        let schedule_s = [
            MINUTE_S,
            5 * MINUTE_S,
            30 * MINUTE_S,
            2 * HOUR_S,
            24 * HOUR_S,
        ];
        Self {
            socket: Some(data_dir.join(SOCKET_FILE)),
            data_dir,
            socket_allow_uids: Vec::new(),
            socket_scopes: Scope::ALL.to_vec(),
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8650))),
            behind_proxy: false,
            host_names: Vec::new(),
            sandbox: true,
            sandbox_read: Vec::new(),
            delivery: delivery(),
            dns: Dns {
                servers: Vec::new(),
            },
            retry: Retry {
                schedule: schedule_s.map(Duration::from_secs).to_vec(),
                jitter: 0.1,
            },
            idempotency: Idempotency {
                ttl: Duration::from_secs(DAY_S),
            },
            retention: retention(),
            limits: limits(),
            store: Store {
                cache: 8 << 20,
                url: None,
                lease: Duration::from_secs(8),
            },
            cluster: Cluster {
                listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
                advertise: None,
            },
            outbox: Outbox {
                url: None,
                poll: Duration::from_millis(25),
            },
            secrets: Secrets {
                key_file: None,
                previous_key_file: None,
                credential: None,
            },
            breaker: Breaker {
                disable_after: Duration::from_secs(5 * DAY_S),
            },
            target: TargetPolicy {
                allow: vec![Pattern::Network(LOOPBACK.into())],
                ..TargetPolicy::default()
            },
            proxy: Proxy::default(),
            tls: Tls {
                certificate: None,
                key: None,
                extra_roots: Vec::new(),
            },
            log: Log {
                format: LogFormat::Text,
                level: tracing::Level::INFO,
            },
            file: None,
            origins: BTreeMap::new(),
        }
    }
}

fn retention() -> Retention {
    Retention {
        events: Duration::from_secs(30 * DAY_S),
        attempts: Duration::from_secs(30 * DAY_S),
        audit: Duration::from_secs(365 * DAY_S),
    }
}

fn delivery() -> Delivery {
    Delivery {
        timeout: Duration::from_secs(15),
        connect_timeout: Duration::from_secs(5),
        max_in_flight: 512,
        max_in_flight_per_endpoint: 32,
        excerpts: true,
        signature_header: SIGNATURE_HEADER.to_owned(),
        pool_idle: Duration::from_secs(4),
        pool_max_age: Duration::from_secs(300),
    }
}

fn limits() -> Limits {
    Limits {
        event_bytes: 256 << 10,
        pending_deliveries: 5_000_000,
        endpoints_per_organization: 1_000,
        connections: 10_000,
        idle: Duration::from_secs(60),
        response_bytes: 64 << 10,
        excerpt_bytes: 1 << 10,
        disk_reserve: 256 << 20,
    }
}
