//! The only table of configuration keys. Reading, `stormhook config`, suggestions for misspelled keys, reloading and
//! `docs/configuration.md` all use it; a key that isn't here doesn't exist.

use stormhook_store::Scope;
use tracing::Level;

use super::Config;
use super::LogFormat;
use super::rule::{
    Address, Choice, Count, DatabaseUrl, FilePath, HostName, HostPort, List, NameServer, OrOff,
    Proxy, Raw, Rule, Share, SignatureHeader, Size, Switch, TargetPattern, Time, Unset,
};

/// One key: its name, its purpose, and how it is read from and written to a [`Config`].
pub(super) struct Key {
    /// Dotted, as in the file: `delivery.timeout`.
    pub(super) name: &'static str,
    /// Its purpose, for the reference page.
    pub(super) purpose: &'static str,
    /// Whether SIGHUP applies a new value.
    pub(super) reload: bool,
    /// What is allowed, as a phrase that follows "must be".
    pub(super) allowed: fn() -> String,
    pub(super) read: fn(&mut Config, &Raw) -> bool,
    pub(super) show: fn(&Config) -> Option<toml::Value>,
    pub(super) copy: fn(&mut Config, &Config),
}

impl Key {
    /// Returns the key's environment variable.
    pub(super) fn variable(&self) -> String {
        format!(
            "STORMHOOK_{}",
            self.name.replace('.', "__").to_ascii_uppercase()
        )
    }
}

/// Returns the key with this exact name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

const RESTART: bool = false;
const RELOAD: bool = true;

const FORMATS: Choice<LogFormat> = Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
const SCOPES: Choice<Scope> = Choice(&[
    ("ingest", Scope::Ingest),
    ("read", Scope::Read),
    ("write", Scope::Write),
    ("admin", Scope::Admin),
]);
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

/// Infers the value's type, which some rules leave open.
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
        "Directory of the store, the admin token and, if there is no runtime directory, the socket. Created with mode 0700."),
    key!("socket", socket, OrOff(FilePath), RESTART,
        "Path of the Unix socket, at most 107 bytes."),
    key!("socket_allow_uids", socket_allow_uids, list(Count(0, 4_294_967_294), 0, 256), RESTART,
        "User IDs that may use the socket. If empty, only the file's permissions apply."),
    key!("socket_scopes", socket_scopes, list(SCOPES, 0, 4), RELOAD,
        "What callers on the socket may do without a token: scopes as those of an API key."),
    key!("listen", listen, OrOff(Address), RESTART,
        "Address and port of the TCP listener. Port 0 picks a free one and logs it. An address other than loopback needs tls.certificate and tls.key, or behind_proxy."),
    key!("behind_proxy", behind_proxy, Switch, RESTART,
        "Whether a proxy in front terminates TLS. Allows a listener without TLS on any address: make it reachable for the proxy only. The caller's address is then the last entry of `x-forwarded-for`, which the proxy must set."),
    key!("host_names", host_names, list(HostName, 0, 100), RESTART,
        "Additional names allowed in the Host header of a TCP request: those of the certificate, or of a proxy in front."),
    key!("sandbox", sandbox, Switch, RESTART,
        "Whether the daemon confines itself when it starts: it can then write to its data directory only, read what it needs, start no program, and make no system call that it has no use for (docs/operations.md#the-sandbox). Needs Linux; an older kernel enforces less, which the log says."),
    key!("sandbox_read", sandbox_read, list(FilePath, 0, 100), RESTART,
        "Files and directories that the daemon may read in the sandbox, in addition to those that other keys name."),
    key!("delivery.timeout", delivery.timeout, Time("10ms", "10m"), RELOAD,
        "How long one attempt may take, from the start of the connection to the status line."),
    key!("delivery.connect_timeout", delivery.connect_timeout, Time("10ms", "10m"), RELOAD,
        "How long connecting may take: name look-up, TCP, a tunnel through target.proxy, and TLS."),
    key!("delivery.max_in_flight", delivery.max_in_flight, Count(1, 65_535), RELOAD,
        "Maximum number of attempts in flight."),
    key!("delivery.max_in_flight_per_endpoint", delivery.max_in_flight_per_endpoint, Count(1, 65_535), RELOAD,
        "Maximum number of attempts in flight to one endpoint."),
    key!("delivery.excerpts", delivery.excerpts, Switch, RELOAD,
        "Whether the beginning of what receivers answer is kept of failed attempts, up to limits.excerpt_bytes. It can hold personal data."),
    key!("delivery.signature_header", delivery.signature_header, SignatureHeader, RESTART,
        "Name of the header with the HMAC of the body: `sha256=` and hex. During a rotation it holds one value for each secret, separated by commas; a receiver accepts the delivery if any of them matches."),
    key!("delivery.pool_idle", delivery.pool_idle, Time("0s", "10m"), RESTART,
        "How long an idle connection to a receiver is kept for the next attempt. 0s keeps none."),
    key!("delivery.pool_max_age", delivery.pool_max_age, Time("1s", "24h"), RESTART,
        "Maximum age of a connection that is reused. If a receiver moves to another address, stormhook follows within this time."),
    key!("dns.servers", dns.servers, list(NameServer, 0, 3), RELOAD,
        "Name servers that resolve endpoints' host names. If empty, those of /etc/resolv.conf. Either way, search domains and options come from that file, and names from /etc/hosts."),
    key!("retry.schedule", retry.schedule, list(Time("1ms", "30d"), 0, 20), RELOAD,
        "Delay after each failed attempt. The number of attempts is one more than the number of entries."),
    key!("retry.jitter", retry.jitter, Share, RELOAD,
        "Maximum random addition to a delay, as a share of it, so that retries don't arrive in waves."),
    key!("idempotency.ttl", idempotency.ttl, Time("5m", "72h"), RESTART,
        "How long an idempotency key is remembered. At most retention.events."),
    key!("retention.events", retention.events, Time("5m", "3650d"), RESTART,
        "How long an event's data is kept after all its deliveries have ended."),
    key!("retention.audit", retention.audit, Time("5m", "3650d"), RESTART,
        "How long entries of the audit log are kept, and API keys after they were revoked or have expired."),
    key!("retention.attempts", retention.attempts, Time("5m", "3650d"), RESTART,
        "How long the attempts of an ended delivery are kept."),
    key!("limits.event_bytes", limits.event_bytes, Size("64", "16MiB"), RELOAD,
        "Maximum size of an event's body, or of one line of a batch."),
    key!("limits.pending_deliveries", limits.pending_deliveries, Count(1, 100_000_000), RELOAD,
        "Maximum number of open deliveries. Above it, new events are refused with `busy`."),
    key!("limits.endpoints_per_organization", limits.endpoints_per_organization, Count(1, 1_000_000), RELOAD,
        "Maximum number of endpoints of one organization."),
    key!("limits.connections", limits.connections, Count(1, 1_000_000), RESTART,
        "Maximum number of open connections from callers, over both listeners; one more is refused with `busy`. An eighth is reserved for the socket. Lower if the limit of open files is too low for this and delivery.max_in_flight."),
    key!("limits.idle", limits.idle, Time("100ms", "1h"), RESTART,
        "How long a caller may stay silent before its connection is closed."),
    key!("limits.response_bytes", limits.response_bytes, Size("0", "16MiB"), RELOAD,
        "How much of an endpoint's response is read."),
    key!("limits.excerpt_bytes", limits.excerpt_bytes, Size("0", "64KiB"), RELOAD,
        "How much of a failed attempt's response is kept."),
    key!("limits.disk_reserve", limits.disk_reserve, Size("0", "1073741824GiB"), RELOAD,
        "Free space below which new events are refused. Outcomes are still recorded."),
    key!("store.cache", store.cache, Size("1MiB", "1024GiB"), RESTART,
        "Memory for the store's page cache."),
    key!("store.url", store.url, Unset(DatabaseUrl), RESTART,
        "PostgreSQL database that holds the store instead of a file in the data directory. Prepare it with `stormhook migrate`. Any number of daemons may use one database. TLS is set in the URL, with sslmode and sslrootcert as in libpq."),
    key!("store.lease", store.lease, Time("1s", "5m"), RESTART,
        "With store.url: how long a daemon keeps its share of the work without renewing its lease. When it has ended, the other daemons take over."),
    key!("cluster.listen", cluster.listen, OrOff(Address), RESTART,
        "With store.url: address and port where the other daemons reach this one, over TLS with keys of their own. Port 0 picks a free one. If off, calls about organizations that this daemon holds are refused with `busy` by the others."),
    key!("cluster.advertise", cluster.advertise, Unset(HostPort), RESTART,
        "The address and port that the other daemons use, if cluster.listen is not reachable as it is written."),
    key!("outbox.url", outbox.url, Unset(DatabaseUrl), RESTART,
        "PostgreSQL database that producers write events to with `stormhook.emit`, in their own transactions. Prepare it with `stormhook migrate --outbox-only`. The database of store.url has an outbox too, which needs no setting. Only the daemons of one store may take from an outbox."),
    key!("outbox.poll", outbox.poll, Time("1ms", "1m"), RESTART,
        "How often an outbox that was empty is looked at."),
    key!("secrets.key_file", secrets.key_file, Unset(FilePath), RESTART,
        "File with the key that endpoints' secrets and header values are encrypted with in the store: 32 random bytes, raw or in base64. Secrets that are there are encrypted, or encrypted anew, when the daemon starts. If unset, the systemd credential `stormhook-key` is used if there is one."),
    key!("secrets.previous_key_file", secrets.previous_key_file, Unset(FilePath), RESTART,
        "File with the key before, while secrets are encrypted anew with that of secrets.key_file."),
    key!("breaker.disable_after", breaker.disable_after, Time("0s", "365d"), RELOAD,
        "An endpoint is disabled when all of its attempts, at least 6, have failed for this long."),
    key!("target.allow", target.allow, list(TargetPattern, 0, 1_000), RELOAD,
        "Private or local networks and host names that deliveries may go to."),
    key!("target.deny", target.deny, list(TargetPattern, 0, 1_000), RELOAD,
        "Networks and host names that deliveries may never go to. Takes precedence over target.allow."),
    key!("target.allow_http", target.allow_http, Switch, RELOAD,
        "Whether endpoints may use http instead of https."),
    key!("target.proxy", proxy.url, Unset(Proxy), RELOAD,
        "Forward proxy that all deliveries go through, by HTTP CONNECT. It resolves the receivers' names, so it must guard the private network: only the form of a URL, and an address in it, are checked here (docs/partner-tls.md)."),
    key!("target.proxy_credentials_file", proxy.credentials_file, Unset(FilePath), RELOAD,
        "File with `user:password` for the proxy, mode 0600. Read at start and on SIGHUP."),
    key!("tls.certificate", tls.certificate, Unset(FilePath), RESTART,
        "PEM file with the certificate of the TCP listener, followed by those of its issuers. With it and tls.key the listener speaks only TLS, on loopback too. SIGHUP reads both files again; open connections continue."),
    key!("tls.key", tls.key, Unset(FilePath), RESTART,
        "PEM file with the private key of that certificate, not encrypted. Other users must not be able to read it."),
    key!("tls.extra_roots", tls.extra_roots, list(FilePath, 0, 100), RESTART,
        "PEM files with additional certificate authorities to trust for endpoints' certificates."),
    key!("log.format", log.format, FORMATS, RESTART,
        "Format of the log lines on stderr."),
    key!("log.level", log.level, LEVELS, RELOAD,
        "Least severe level that is logged."),
];
