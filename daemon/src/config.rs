//! The configuration: built-in defaults, then `stormhook.toml`, then `STORMHOOK_…` variables, then flags, turned once
//! into a [`Config`] in which every value has been checked. It reads the one file it is told to and nothing else: the
//! environment is an argument, and nothing is created, bound or resolved here.

mod error;
mod key;
mod live;
mod reference;
mod rule;
mod source;

use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, Origin, Problem};
pub use live::LiveConfig;
pub use reference::reference;
use source::RawConfig;
pub(crate) use source::service_links;

use crate::target::{Pattern, TargetPolicy};
use crate::times::duration_text;

/// The file that is read from the working directory when none is named and it is there.
pub const DEFAULT_FILE: &str = "stormhook.toml";

/// What a socket address has room for, with the closing NUL left out (`sockaddr_un`, unix(7)).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

const MAX_FILE_BYTES: u64 = 1 << 20;

/// The effective configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the store and the admin token.
    pub data_dir: PathBuf,
    /// Path of the Unix socket; none if it is off.
    pub socket: Option<PathBuf>,
    /// Users that may use the socket; empty leaves it to the file's permissions.
    pub socket_allow_uids: Vec<u32>,
    /// Loopback address of the TCP listener; none if it is off.
    pub listen: Option<SocketAddr>,
    /// Further names allowed in `Host`, in lower case.
    pub host_names: Vec<String>,
    /// How attempts are made.
    pub delivery: Delivery,
    /// How partners' names are looked up.
    pub dns: Dns,
    /// When failed ones are made again.
    pub retry: Retry,
    /// How long keys are remembered.
    pub idempotency: Idempotency,
    /// How long history is kept.
    pub retention: Retention,
    /// Bounds.
    pub limits: Limits,
    /// The store.
    pub store: Store,
    /// When an endpoint is switched off.
    pub breaker: Breaker,
    /// Where deliveries may go; the daemon adds its own listener once it is bound.
    pub target: TargetPolicy,
    /// Certificates.
    pub tls: Tls,
    /// Logging.
    pub log: Log,
    origins: BTreeMap<&'static str, Origin>,
}

/// `[delivery]`
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The whole attempt.
    pub timeout: Duration,
    /// Look-up, TCP and TLS.
    pub connect_timeout: Duration,
    /// Attempts on the wire at once.
    pub max_in_flight: usize,
    /// The same for one endpoint.
    pub max_in_flight_per_endpoint: usize,
    /// Lower case.
    pub signature_header: String,
    /// How long idle connections are kept.
    pub pool_idle: Duration,
    /// How old a connection may be to be used again.
    pub pool_max_age: Duration,
}

/// `[dns]`
#[derive(Debug, Clone)]
pub struct Dns {
    /// Asked instead of those in `resolv.conf`, if any.
    pub servers: Vec<SocketAddr>,
}

/// `[retry]`
#[derive(Debug, Clone)]
pub struct Retry {
    /// Delay after the first, second, … failed attempt; 1 to 20.
    pub schedule: Vec<Duration>,
    /// Part of the delay that is added at most, 0 to 1.
    pub jitter: f64,
}

/// `[idempotency]`
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// 5 minutes to 72 hours, and not over `retention.events`.
    pub ttl: Duration,
}

/// `[retention]`
#[derive(Debug, Clone)]
pub struct Retention {
    /// Data of settled events.
    pub events: Duration,
    /// Attempts of ended deliveries.
    pub attempts: Duration,
}

/// `[limits]`
#[derive(Debug, Clone)]
pub struct Limits {
    /// One event.
    pub event_bytes: usize,
    /// Open deliveries.
    pub pending_deliveries: u64,
    /// Endpoints of one organization.
    pub endpoints_per_organization: usize,
    /// Callers' connections.
    pub connections: usize,
    /// Silence of a caller.
    pub idle: Duration,
    /// Read of a partner's answer.
    pub response_bytes: usize,
    /// Kept of a failure's answer.
    pub excerpt_bytes: usize,
    /// Free space kept back from ingest.
    pub disk_reserve: u64,
}

/// `[store]`
#[derive(Debug, Clone)]
pub struct Store {
    /// Page cache, bytes.
    pub cache: usize,
}

/// `[breaker]`
#[derive(Debug, Clone)]
pub struct Breaker {
    /// Length of a run of failures.
    pub disable_after: Duration,
}

/// `[tls]`
#[derive(Debug, Clone)]
pub struct Tls {
    /// Always none in this version.
    pub certificate: Option<PathBuf>,
    /// Always none in this version.
    pub key: Option<PathBuf>,
    /// PEM files.
    pub extra_roots: Vec<PathBuf>,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// Text or JSON lines.
    pub format: LogFormat,
    /// Least important level that is written.
    pub level: tracing::Level,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads the configuration. `file` is what `--config` named; without it [`DEFAULT_FILE`] is read if it is there.
    /// `environment` is the process's (`std::env::vars_os`), `flags` are dotted keys with their values.
    ///
    /// # Errors
    /// [`ConfigError`], with every problem that was found.
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

    /// The same without touching a file: `file` is its name and its text.
    ///
    /// # Errors
    /// [`ConfigError`], with every problem that was found.
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
        parse(raw, &environment)
    }

    /// Every key that has a value, with that value as TOML and where it came from, in the order of the reference.
    #[must_use]
    pub fn describe(&self) -> Vec<(&'static str, String, Origin)> {
        let shown = key::KEYS.iter().filter_map(|key| {
            let value = (key.show)(self)?;
            Some((key.name, value.to_string(), self.origin(key.name)))
        });
        shown.collect()
    }

    /// Where the value of `key` came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// What a reload makes of this configuration: `new` where a key can change while the daemon runs, and the names
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

    /// The built-in values around a data folder.
    fn builtin(data_dir: PathBuf) -> Self {
        const MINUTE_S: u64 = 60;
        const HOUR_S: u64 = 60 * MINUTE_S;
        const DAY_S: u64 = 24 * HOUR_S;
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
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8650))),
            host_names: Vec::new(),
            delivery: Delivery {
                timeout: Duration::from_secs(15),
                connect_timeout: Duration::from_secs(5),
                max_in_flight: 512,
                max_in_flight_per_endpoint: 32,
                signature_header: rule::SIGNATURE_HEADER.to_owned(),
                pool_idle: Duration::from_secs(4),
                pool_max_age: Duration::from_secs(5 * MINUTE_S),
            },
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
            retention: Retention {
                events: Duration::from_secs(30 * DAY_S),
                attempts: Duration::from_secs(30 * DAY_S),
            },
            limits: Limits {
                event_bytes: 256 << 10,
                pending_deliveries: 5_000_000,
                endpoints_per_organization: 1_000,
                connections: 10_000,
                idle: Duration::from_secs(60),
                response_bytes: 64 << 10,
                excerpt_bytes: 1 << 10,
                disk_reserve: 256 << 20,
            },
            store: Store { cache: 8 << 20 },
            breaker: Breaker {
                disable_after: Duration::from_secs(5 * DAY_S),
            },
            target: TargetPolicy {
                allow: vec![Pattern::Network(LOOPBACK.into())],
                ..TargetPolicy::default()
            },
            tls: Tls {
                certificate: None,
                key: None,
                extra_roots: Vec::new(),
            },
            log: Log {
                format: LogFormat::Text,
                level: tracing::Level::INFO,
            },
            origins: BTreeMap::new(),
        }
    }
}

/// What `target.allow` holds unless told otherwise (docs/adr/0008-loopback-targets.md).
const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
/// The socket's name in its folder.
pub(crate) const SOCKET_FILE: &str = "stormhook.sock";

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

fn parse(raw: RawConfig, environment: &[(OsString, OsString)]) -> Result<Config, ConfigError> {
    let RawConfig {
        values,
        mut problems,
    } = raw;
    let folder = if values.contains_key("data_dir") {
        None
    } else {
        state_folder(environment)
    };
    let no_folder = folder.is_none() && !values.contains_key("data_dir");
    let (folder, folder_origin) = folder.unwrap_or_default();
    let mut config = Config::builtin(folder);
    for key in key::KEYS {
        let Some((raw, origin)) = values.get(key.name) else {
            continue;
        };
        if (key.read)(&mut config, raw) {
            config.origins.insert(key.name, origin.clone());
        } else {
            let detail = format!(
                "{} must be {}; got {}",
                key.name,
                (key.allowed)(),
                raw.shown()
            );
            problems.push(Problem {
                key: key.name.to_owned(),
                origin: origin.clone(),
                detail,
            });
        }
    }
    if let Some(origin) = folder_origin {
        config.origins.insert("data_dir", origin);
    }
    if !values.contains_key("socket") {
        let runtime = folder_variable(environment, "RUNTIME_DIRECTORY");
        config.socket = Some(
            runtime
                .as_ref()
                .unwrap_or(&config.data_dir)
                .join(SOCKET_FILE),
        );
        if runtime.is_some() {
            config
                .origins
                .insert("socket", Origin::Variable("RUNTIME_DIRECTORY".to_owned()));
        }
    }
    let mut report = |key: &str, detail: String| {
        problems.push(Problem {
            key: key.to_owned(),
            origin: config.origin(key),
            detail,
        });
    };
    if no_folder {
        let detail = "no data directory: set data_dir, or one of $STATE_DIRECTORY, $XDG_STATE_HOME and $HOME to an absolute path";
        report("data_dir", detail.to_owned());
    } else {
        check_together(&config, &mut report);
    }
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Invalid(problems))
    }
}

/// What no key can decide by itself.
fn check_together(config: &Config, report: &mut impl FnMut(&str, String)) {
    if config.socket.is_none() && config.listen.is_none() {
        report("listen", "socket and listen are both \"off\": nobody could reach the daemon; switch one of them on".to_owned());
    }
    if let Some(path) = &config.socket {
        let bytes = path.as_os_str().len();
        if bytes > MAX_SOCKET_PATH_BYTES {
            let shown = path.display();
            report(
                "socket",
                format!(
                    "the socket path {shown} has {bytes} bytes, but a Unix socket's path may have at most {MAX_SOCKET_PATH_BYTES}; set socket to a shorter path"
                ),
            );
        }
    }
    if let Some(address) = config
        .listen
        .filter(|address| !address.ip().to_canonical().is_loopback())
    {
        report(
            "listen",
            format!(
                "listen is {address}, which is not a loopback address: that needs TLS on the listener, which this version doesn't offer; listen on 127.0.0.1 or [::1] and put a TLS proxy in front"
            ),
        );
    }
    for (name, value) in [
        ("tls.certificate", &config.tls.certificate),
        ("tls.key", &config.tls.key),
    ] {
        if value.is_some() {
            report(
                name,
                format!(
                    "{name} is set, but TLS on the listener comes in a later version; remove it"
                ),
            );
        }
    }
    if config.idempotency.ttl > config.retention.events {
        let ttl = duration_text(config.idempotency.ttl);
        let events = duration_text(config.retention.events);
        report(
            "idempotency.ttl",
            format!(
                "idempotency.ttl is {ttl}, longer than retention.events, {events}: a replay would find no event; shorten the one or lengthen the other"
            ),
        );
    }
}

/// The data folder when none is configured, and what said so.
fn state_folder(environment: &[(OsString, OsString)]) -> Option<(PathBuf, Option<Origin>)> {
    let places = [
        ("STATE_DIRECTORY", ""),
        ("XDG_STATE_HOME", "stormhook"),
        ("HOME", ".local/state/stormhook"),
    ];
    places.into_iter().find_map(|(name, below)| {
        let folder = folder_variable(environment, name)?;
        let folder = if below.is_empty() {
            folder
        } else {
            folder.join(below)
        };
        Some((folder, Some(Origin::Variable(name.to_owned()))))
    })
}

/// The first absolute path in a variable: systemd separates several folders by colons (systemd.exec(5)), and relative
/// ones are to be ignored (XDG Base Directory Specification).
fn folder_variable(environment: &[(OsString, OsString)], name: &str) -> Option<PathBuf> {
    let (_, value) = environment.iter().find(|(key, _)| key == name)?;
    let several = name.ends_with("_DIRECTORY");
    let first = if several {
        value.to_str()?.split(':').next()?
    } else {
        value.to_str()?
    };
    let path = PathBuf::from(first);
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests;
