//! The configuration: built-in defaults, then `stormhook.toml`, then `STORMHOOK_…` variables, then flags, merged once
//! into a [`Config`] in which every value has been checked. It reads only the one file; the environment is an argument,
//! and nothing is created, bound or resolved here.

mod defaults;
mod error;
mod key;
mod live;
mod reference;
mod resolve;
mod rule;
mod source;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, Origin, Problem};
pub use live::LiveConfig;
pub use reference::reference;
pub use rule::without_password;
use source::RawConfig;
pub(crate) use source::service_links;
pub use stormhook_engine::retention::Retention;
pub use stormhook_engine::retry::Retry;
use stormhook_store::Scope;

use crate::target::{ProxyUrl, TargetPolicy};

/// The file that is read from the working directory if none is named and it exists.
pub const DEFAULT_FILE: &str = "stormhook.toml";

/// The room in a socket address without the closing NUL (`sockaddr_un`, unix(7)).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

const MAX_FILE_BYTES: u64 = 1 << 20;

/// The effective configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of the store and the admin token.
    pub data_dir: PathBuf,
    /// Path of the Unix socket; `None` if disabled.
    pub socket: Option<PathBuf>,
    /// Users that may use the socket; if empty, only the file's permissions apply.
    pub socket_allow_uids: Vec<u32>,
    /// What callers on the socket may do without a token.
    pub socket_scopes: Vec<Scope>,
    /// Address of the TCP listener; `None` if disabled.
    pub listen: Option<SocketAddr>,
    /// Whether a proxy in front terminates TLS and says who calls.
    pub behind_proxy: bool,
    /// Additional names allowed in `Host`, in lower case.
    pub host_names: Vec<String>,
    /// Whether the daemon confines itself.
    pub sandbox: bool,
    /// What it may read there beyond what the configuration names.
    pub sandbox_read: Vec<PathBuf>,
    /// How attempts are made.
    pub delivery: Delivery,
    /// How endpoints' names are resolved.
    pub dns: Dns,
    /// When failed attempts are repeated.
    pub retry: Retry,
    /// How long keys are remembered.
    pub idempotency: Idempotency,
    /// How long history is kept.
    pub retention: Retention,
    /// Bounds.
    pub limits: Limits,
    /// The store's settings.
    pub store: Store,
    /// Other daemons on the same database.
    pub cluster: Cluster,
    /// Where producers write events in their own transactions.
    pub outbox: Outbox,
    /// How secrets are kept in the store.
    pub secrets: Secrets,
    /// When an endpoint is disabled.
    pub breaker: Breaker,
    /// Where deliveries may go. The daemon adds its own listener once it is bound.
    pub target: TargetPolicy,
    /// The proxy that deliveries go through.
    pub proxy: Proxy,
    /// Certificates.
    pub tls: Tls,
    /// Logging.
    pub log: Log,
    /// The file that was read; `None` if none was.
    pub file: Option<PathBuf>,
    origins: BTreeMap<&'static str, Origin>,
}

/// `[delivery]`
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Limit for the whole attempt.
    pub timeout: Duration,
    /// Limit for look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Maximum attempts in flight.
    pub max_in_flight: usize,
    /// Maximum attempts in flight to one endpoint.
    pub max_in_flight_per_endpoint: usize,
    /// Whether what receivers answer is kept of failed attempts.
    pub excerpts: bool,
    /// In lower case.
    pub signature_header: String,
    /// How long idle connections are kept.
    pub pool_idle: Duration,
    /// Maximum age of a connection that is reused.
    pub pool_max_age: Duration,
}

/// `[dns]`
#[derive(Debug, Clone)]
pub struct Dns {
    /// Used instead of those in `resolv.conf`, unless empty.
    pub servers: Vec<SocketAddr>,
}

/// `[idempotency]`
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// 5 minutes to 72 hours, and at most `retention.events`.
    pub ttl: Duration,
}

/// `[limits]`
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum size of one event.
    pub event_bytes: usize,
    /// Maximum number of open deliveries.
    pub pending_deliveries: u64,
    /// Maximum number of endpoints of one organization.
    pub endpoints_per_organization: usize,
    /// Maximum number of connections from callers.
    pub connections: usize,
    /// Maximum silence of a caller.
    pub idle: Duration,
    /// How much of an endpoint's response is read.
    pub response_bytes: usize,
    /// How much of a failed attempt's response is kept.
    pub excerpt_bytes: usize,
    /// Free space below which new events are refused.
    pub disk_reserve: u64,
}

/// `[store]`
#[derive(Debug, Clone)]
pub struct Store {
    /// Page cache in bytes.
    pub cache: usize,
    /// The database that holds the store instead of the file.
    pub url: Option<String>,
    /// How long this daemon keeps its shards without a sign of life.
    pub lease: Duration,
}

/// `[cluster]`
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Where other daemons reach this one; `None` if disabled.
    pub listen: Option<SocketAddr>,
    /// The address that they use, if it is another.
    pub advertise: Option<String>,
}

/// `[outbox]`
#[derive(Debug, Clone)]
pub struct Outbox {
    /// A database with an outbox, beside that of the store.
    pub url: Option<String>,
    /// How often outboxes are looked at.
    pub poll: Duration,
}

/// `[secrets]`
#[derive(Debug, Clone)]
pub struct Secrets {
    /// The file of the key that they are encrypted with.
    pub key_file: Option<PathBuf>,
    /// The file of the key before.
    pub previous_key_file: Option<PathBuf>,
    /// The credential of systemd that is used without a file, if it exists.
    pub credential: Option<PathBuf>,
}

/// `[breaker]`
#[derive(Debug, Clone)]
pub struct Breaker {
    /// How long all attempts must have failed.
    pub disable_after: Duration,
}

/// `target.proxy` and what belongs to it.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    /// Where it is; `None` for none.
    pub url: Option<ProxyUrl>,
    /// A file with `user:password`.
    pub credentials_file: Option<PathBuf>,
}

/// `[tls]`
#[derive(Debug, Clone)]
pub struct Tls {
    /// Certificate of the TCP listener in PEM; set together with `key`.
    pub certificate: Option<PathBuf>,
    /// Its private key in PEM.
    pub key: Option<PathBuf>,
    /// PEM files.
    pub extra_roots: Vec<PathBuf>,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// Text or JSON lines.
    pub format: LogFormat,
    /// Least severe level that is logged.
    pub level: tracing::Level,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable text.
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Returns the databases with an outbox: that of the store, and that of `outbox.url`.
    #[cfg(feature = "postgres")]
    pub fn outboxes(&self) -> impl Iterator<Item = &String> {
        let own = self.store.url.as_ref();
        let other = self.outbox.url.as_ref().filter(|url| Some(*url) != own);
        own.into_iter().chain(other)
    }

    /// Reads the configuration. `file` is the argument of `--config`; without it [`DEFAULT_FILE`] is read if it exists.
    /// `environment` is the process's (`std::env::vars_os`); `flags` are dotted keys with their values.
    ///
    /// # Errors
    /// [`ConfigError`], with every problem found.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        match read_file(path) {
            Ok(text) => Self::from_sources(Some((path, &text)), environment, flags),
            Err(ConfigError::Unreadable { source, .. })
                if file.is_none() && source.kind() == std::io::ErrorKind::NotFound =>
            {
                Self::from_sources(None, environment, flags)
            }
            Err(error) => Err(error),
        }
    }

    /// The same without reading a file: `file` is its name and text.
    ///
    /// # Errors
    /// [`ConfigError`], with every problem found.
    pub fn from_sources(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let environment: Vec<_> = environment.into_iter().collect();
        let mut raw = RawConfig::default();
        if let Some((path, text)) = file {
            raw.add_file(path, text)?;
        }
        raw.add_environment(&environment);
        raw.add_flags(flags);
        let mut config = resolve::resolve(raw, &environment)?;
        config.file = file.map(|(path, _)| path.to_owned());
        Ok(config)
    }

    /// Returns every key that has a value, with that value as TOML and its origin, in the order of the reference.
    #[must_use]
    pub fn describe(&self) -> Vec<(&'static str, String, Origin)> {
        let shown = key::KEYS.iter().filter_map(|key| {
            let value = (key.show)(self)?;
            Some((key.name, value.to_string(), self.origin(key.name)))
        });
        shown.collect()
    }

    /// Returns where the value of `key` came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Returns this configuration after a reload: `new` for keys that can change while the daemon runs, and the names
    /// of the other keys that differ, which need a restart.
    #[must_use]
    pub fn reloadable_changes(&self, new: &Self) -> (Self, Vec<String>) {
        let mut next = self.clone();
        let mut ignored = Vec::new();
        for key in key::KEYS {
            if key.reload {
                (key.copy)(&mut next, new);
                match new.origins.get(key.name) {
                    Some(origin) => drop(next.origins.insert(key.name, origin.clone())),
                    None => drop(next.origins.remove(key.name)),
                }
            } else if (key.show)(self) != (key.show)(new) {
                ignored.push(key.name.to_owned());
            }
        }
        (next, ignored)
    }
}

/// The store's file name in the data directory.
pub const STORE_FILE: &str = "stormhook.redb";

/// The socket's file name in its directory.
pub const SOCKET_FILE: &str = "stormhook.sock";

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            limit_bytes: MAX_FILE_BYTES,
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
