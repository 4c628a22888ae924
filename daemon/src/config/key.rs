//! The one table of configuration keys. Reading, `stormhook config`, suggestions for misspelt keys, reloading and
//! `docs/configuration.md` all follow from it; a key that isn't here doesn't exist.

use tracing::Level;

use super::Config;
use super::LogFormat;
use super::rule::{
    Address, Choice, Count, FilePath, HostName, List, NameServer, OrOff, Raw, Rule, Share,
    SignatureHeader, Size, Switch, TargetPattern, Time, Unset,
};

/// One key: its name, what it is for, and how it goes in and out of a [`Config`].
pub(super) struct Key {
    /// Dotted, as in the file: `delivery.timeout`.
    pub(super) name: &'static str,
    /// What it does, for people.
    pub(super) purpose: &'static str,
    /// Whether SIGHUP takes over a new value.
    pub(super) reload: bool,
    /// What is allowed, as a phrase that follows "must be".
    pub(super) allowed: fn() -> String,
    pub(super) read: fn(&mut Config, &Raw) -> bool,
    pub(super) show: fn(&Config) -> Option<toml::Value>,
    pub(super) copy: fn(&mut Config, &Config),
}

impl Key {
    /// The key's environment variable.
    pub(super) fn variable(&self) -> String {
        format!(
            "STORMHOOK_{}",
            self.name.replace('.', "__").to_ascii_uppercase()
        )
    }
}

/// The key of this exact name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

const RESTART: bool = false;
const RELOAD: bool = true;

const FORMATS: Choice<LogFormat> = Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
const LEVELS: Choice<Level> = Choice(&[
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
]);

const fn list<R>(of: R, min: usize, max: usize) -> List<R> {
    List { of, min, max }
}

/// Fixes the value's type, which some rules leave open.
fn phrase<T>(_: fn(&Config) -> &T, rule: &impl Rule<T>) -> String {
    rule.allowed()
}

macro_rules! key {
    ($name:literal, $($field:ident).+, $rule:expr, $reload:expr, $purpose:literal) => {
        Key {
            name: $name,
            purpose: $purpose,
            reload: $reload,
            allowed: || phrase(|config| &config.$($field).+, &$rule),
            read: |config, raw| match $rule.read(raw) {
                Some(value) => {
                    config.$($field).+ = value;
                    true
                }
                None => false,
            },
            show: |config| $rule.show(&config.$($field).+),
            copy: |to, from| to.$($field).+.clone_from(&from.$($field).+),
        }
    };
}

#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key!("data_dir", data_dir, FilePath, RESTART,
        "Folder of the store, the admin token and, without a runtime folder, the socket. Made with mode 0700."),
    key!("socket", socket, OrOff(FilePath), RESTART,
        "Path of the Unix socket, at most 107 bytes."),
    key!("socket_allow_uids", socket_allow_uids, list(Count(0, 4_294_967_294), 0, 256), RESTART,
        "Users that may use the socket, by the peer's user id. Empty: the file's permissions alone decide."),
    key!("listen", listen, OrOff(Address), RESTART,
        "Loopback address and port of the TCP listener. Port 0 picks a free one and logs it."),
    key!("host_names", host_names, list(HostName, 0, 100), RESTART,
        "Further names that the Host header of a TCP request may carry, for a proxy in front."),
    key!("delivery.timeout", delivery.timeout, Time("10ms", "10m"), RELOAD,
        "How long one attempt may take, from the start of the connection to the status line."),
    key!("delivery.connect_timeout", delivery.connect_timeout, Time("10ms", "10m"), RELOAD,
        "How long connecting may take: name look-up, TCP and TLS."),
    key!("delivery.max_in_flight", delivery.max_in_flight, Count(1, 65_535), RELOAD,
        "Attempts on the wire at once."),
    key!("delivery.max_in_flight_per_endpoint", delivery.max_in_flight_per_endpoint, Count(1, 65_535), RELOAD,
        "Attempts on the wire at once to one endpoint."),
    key!("delivery.signature_header", delivery.signature_header, SignatureHeader, RESTART,
        "Name of the header with the HMAC of the body: `sha256=` and hex. While a secret is being rotated there is one for each, separated by commas: split it there, and take any that fits."),
    key!("delivery.pool_idle", delivery.pool_idle, Time("0s", "10m"), RESTART,
        "How long an idle connection to a partner is kept for the next attempt. 0s keeps none."),
    key!("delivery.pool_max_age", delivery.pool_max_age, Time("1s", "24h"), RESTART,
        "How old a connection to a partner may be to be used again. A partner that moves to another address is followed after this at the latest."),
    key!("dns.servers", dns.servers, list(NameServer, 0, 3), RELOAD,
        "Name servers to ask for partners' names. Empty: those of /etc/resolv.conf. Search domains and options come from that file, and names from /etc/hosts, in either case."),
    key!("retry.schedule", retry.schedule, list(Time("1ms", "30d"), 0, 20), RELOAD,
        "Delays after each failed attempt; the number of attempts is one more than the number of entries."),
    key!("retry.jitter", retry.jitter, Share, RELOAD,
        "Part of the delay that is added at most, at random, so that retries don't come in waves."),
    key!("idempotency.ttl", idempotency.ttl, Time("5m", "72h"), RESTART,
        "How long an idempotency key is remembered; not longer than retention.events."),
    key!("retention.events", retention.events, Time("5m", "3650d"), RESTART,
        "How long an event's data is kept once all its deliveries have ended."),
    key!("retention.attempts", retention.attempts, Time("5m", "3650d"), RESTART,
        "How long the attempts of an ended delivery are kept."),
    key!("limits.event_bytes", limits.event_bytes, Size("64", "16MiB"), RELOAD,
        "Largest body of one event, or one line of a batch."),
    key!("limits.pending_deliveries", limits.pending_deliveries, Count(1, 100_000_000), RELOAD,
        "Open deliveries at once; events beyond it are answered with busy."),
    key!("limits.endpoints_per_organization", limits.endpoints_per_organization, Count(1, 1_000_000), RELOAD,
        "Endpoints that one organization may have."),
    key!("limits.connections", limits.connections, Count(1, 1_000_000), RESTART,
        "Open connections from callers, over both listeners; one more is answered with `busy`. An eighth is kept for the socket. Fewer where the limit of open files is too low for them and delivery.max_in_flight."),
    key!("limits.idle", limits.idle, Time("100ms", "1h"), RESTART,
        "How long a caller may stay silent before its connection is closed."),
    key!("limits.response_bytes", limits.response_bytes, Size("0", "16MiB"), RELOAD,
        "How much of a partner's answer is read."),
    key!("limits.excerpt_bytes", limits.excerpt_bytes, Size("0", "64KiB"), RELOAD,
        "How much of a failed attempt's answer is kept."),
    key!("limits.disk_reserve", limits.disk_reserve, Size("0", "1073741824GiB"), RELOAD,
        "Free space below which new events are refused while outcomes are still recorded."),
    key!("store.cache", store.cache, Size("1MiB", "1024GiB"), RESTART,
        "Memory for the store's page cache."),
    key!("breaker.disable_after", breaker.disable_after, Time("0s", "365d"), RELOAD,
        "An endpoint is switched off when its attempts have failed without one success for this long, at least 6 of them."),
    key!("target.allow", target.allow, list(TargetPattern, 0, 1_000), RELOAD,
        "Networks and host names that deliveries may go to although they are private or local."),
    key!("target.deny", target.deny, list(TargetPattern, 0, 1_000), RELOAD,
        "Networks and host names that deliveries may never go to; wins over target.allow."),
    key!("target.allow_http", target.allow_http, Switch, RELOAD,
        "Whether endpoints may use http instead of https."),
    key!("tls.certificate", tls.certificate, Unset(FilePath), RESTART,
        "Certificate of the TCP listener. TLS on the listener comes in a later version; until then it must not be set."),
    key!("tls.key", tls.key, Unset(FilePath), RESTART,
        "Key of that certificate. Must not be set either."),
    key!("tls.extra_roots", tls.extra_roots, list(FilePath, 0, 100), RESTART,
        "PEM files with further certificate authorities that partners' certificates may come from."),
    key!("log.format", log.format, FORMATS, RESTART,
        "How log lines on stderr look."),
    key!("log.level", log.level, LEVELS, RELOAD,
        "From which level on lines are logged."),
];
